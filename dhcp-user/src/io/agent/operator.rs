//! What operators ask and order, and reloads, however they were asked for.

use tokio::sync::oneshot;
use tracing::info;

use crate::{
    control::{
        listener::Asked,
        message::{Answer, Command},
    },
    engine::port::{Input, Reloaded, Verbs as _},
    io::{clock, fastpath::Mode, fastpath_start::parse_mac, snapshot},
};

use super::{Agent, Parts};

impl Agent {
    pub(super) fn reload(&mut self, asker: Option<oneshot::Sender<Answer>>) {
        let Parts { reloader, server, .. } = &mut self.parts;
        reloader.ask(server.config(), asker);
    }

    pub(super) fn on_reloaded(&mut self, reloaded: Reloaded) {
        if matches!(reloaded, Reloaded::Applied(_)) {
            // Other subnets may mean other interfaces.
            self.relist_at.get_or_insert(clock::boot_time());
        }
        if self.parts.reloader.finish(reloaded) {
            self.reload(None);
        }
    }

    pub(super) fn answer(&mut self, asked: Asked) {
        let now = clock::now();
        let answer = match asked.command {
            Command::Reload => return self.reload(Some(asked.answer)),
            Command::FastPathTrace { mac } => match parse_mac(&mac) {
                // It is answered when the client has come, or has not.
                Some(mac) => return self.watch.trace(mac, asked.answer, &*self.fast_path, now.boot),
                None => Answer::Error(format!("{mac}: no hardware address")),
            },
            Command::FastPath => snapshot::fast_path(&mut self.parts, &*self.fast_path, &self.watch, now),
            Command::FastPathSwitch { on } => self.switch(on),
            Command::FastPathDetach => {
                self.fast_path.detach();
                Answer::Done("the program is off all interfaces; the next start attaches it again".to_owned())
            }
            Command::Status => snapshot::status(&mut self.parts, self.intake.shed(), &*self.fast_path, now),
            Command::Failover => {
                // With a million leases that takes a fraction of a second, in pieces.
                self.parts.server.handle(Input::Survey, now);
                return self.curious.push(asked.answer);
            }
            Command::FailoverOrder { peer, order } => {
                snapshot::order(&mut self.parts.server, peer.as_deref(), order, now)
            }
            Command::Leases { from, limit } => snapshot::leases(&self.parts.server, &*self.fast_path, from, limit, now),
            Command::Compact => snapshot::compact(&self.parts.journal),
            // The listener has answered it.
            Command::Follow { .. } => Answer::Error("not a question for the event loop".to_owned()),
        };
        // The operator may have gone away.
        let _ = asked.answer.send(answer);
    }

    /// An operator lets the kernel answer, or nothing any more.
    fn switch(&mut self, is_on: bool) -> Answer {
        if self.fast_path.attachments().iter().all(|attachment| attachment.mode == Mode::Off) {
            return Answer::Error("the fast path is attached to no interface".to_owned());
        }
        if is_on {
            self.watch.forgive();
        }
        self.fast_path.switch(is_on);
        info!("the fast path is switched {} by an operator", if is_on { "on" } else { "off" });
        Answer::Done(if is_on { "the kernel answers" } else { "the kernel answers nothing any more" }.to_owned())
    }
}
