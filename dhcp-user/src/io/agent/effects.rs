//! What the engine says, done.

use crate::{
    engine::port::{Effect, Input, Verbs as _},
    io::clock,
};

use super::Agent;

impl Agent {
    /// Does what the engine says, until it says nothing more. Replies leave together.
    pub(super) fn run_effects(&mut self) {
        loop {
            while let Some(effect) = self.parts.server.poll_effect() {
                self.run_effect(effect);
            }
            // All that a turn appends is one commit, and a lone record waits for nobody.
            self.parts.journal.commit();
            self.parts.network.flush();
            let mut is_quiet = true;
            while let Some((token, revoked)) = self.fast_path.poll_revoked() {
                self.parts.server.handle(Input::Revoked(token, revoked), clock::now());
                is_quiet = false;
            }
            let returned = self.fast_path.poll_returned();
            if !returned.is_empty() {
                // The next part comes in another turn.
                self.parts.server.handle(Input::Returned(returned), clock::now());
            }
            if is_quiet {
                break;
            }
        }
    }

    fn run_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Append(seq, record) => self.parts.journal.queue(seq, &record),
            Effect::Send(datagram) => {
                self.watch.sent(&datagram, &mut *self.fast_path, clock::now());
                self.parts.network.send(datagram);
            }
            Effect::Arm(arms) => self.fast_path.arm(&arms),
            Effect::Extend(horizons) => self.fast_path.extend(&horizons),
            Effect::Revoke(token, addresses) => self.fast_path.revoke(token, &addresses),
            Effect::Serving(peer, is_serving) => self.fast_path.serving(peer, is_serving),
            Effect::Balance(peer, buckets) => self.fast_path.balance(peer, &buckets),
            Effect::NewGeneration { token, generation, ranges } => {
                self.fast_path.new_generation(token, generation, &ranges);
            }
            Effect::Reloaded(reloaded) => self.on_reloaded(*reloaded),
            Effect::Probe { token, address, interface, until } => {
                let interface = self.parts.network.interfaces().find(|one| Some(one.index) == interface);
                self.probes.start(token, address, interface, until);
            }
            Effect::PeerSend(link, bytes) => self.parts.peers.send(link, bytes),
            Effect::PeerDial { peer } => self.parts.peers.dial(peer),
            Effect::PeerClose(link) => self.parts.peers.close(link),
            Effect::Execute { program, arguments } => self.programs.run(&program, &arguments),
            Effect::Log(level, text) => self.parts.log.line(level, &text),
        }
    }
}
