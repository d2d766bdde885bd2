//! SIGHUP and `xdhcpd reload`: the configuration is read, checked and compared beside the loop; the engine lets it take
//! over. On any error the running configuration stays, and whoever asked is told why.
//!
//! ```text
//!   asked --thread--> read, check, resolve names, compare --channel--> Input::Reload --engine--> Effect::Reloaded
//!     what was asked meanwhile waits, and is asked once when this is over: the file may have changed again
//! ```

use std::{net::Ipv4Addr, path::Path, sync::Arc, thread};

use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::{
    config::{
        Config, Loaded,
        difference::{Difference, difference},
    },
    control::message::{Answer, Reload as Report},
    engine::port::{Applied, Reload, Reloaded},
    io::{
        check,
        command::Serve,
        plan::{Plan, chosen},
        start,
    },
};

/// Whoever asked for a reload over the control socket.
type Asker = oneshot::Sender<Answer>;

/// A configuration that is ready to take over.
#[derive(Debug)]
pub(crate) struct Prepared {
    reload: Reload,
    about: About,
}

/// What is said about a configuration that takes over.
#[derive(Debug)]
struct About {
    difference: Difference,
    /// What does not change before a restart.
    notes: Vec<String>,
    /// The findings of the reader, for people.
    warnings: Vec<String>,
}

/// Reads and checks configurations beside the loop, one at a time.
#[derive(Debug)]
pub struct Reloader {
    serve: Serve,
    plan: Plan,
    sender: mpsc::UnboundedSender<Result<Box<Prepared>, String>>,
    receiver: mpsc::UnboundedReceiver<Result<Box<Prepared>, String>>,
    is_busy: bool,
    /// Those who wait for the reload under way.
    askers: Vec<Asker>,
    /// What the configuration that the engine is taking over is like.
    about: Option<About>,
    /// A reload was asked for while one was under way, and by whom.
    again: Option<Vec<Asker>>,
}

impl Reloader {
    /// Nothing is asked yet.
    #[must_use]
    pub(super) fn new(serve: Serve, plan: Plan) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { serve, plan, sender, receiver, is_busy: false, askers: Vec::new(), about: None, again: None }
    }

    /// A reload is asked for: by a signal, or by somebody who wants an answer.
    pub(super) fn ask(&mut self, running: &Arc<Config>, asker: Option<Asker>) {
        if self.is_busy {
            self.again.get_or_insert_default().extend(asker);
            return;
        }
        self.is_busy = true;
        self.askers.extend(asker);
        let (serve, plan, running) = (self.serve.clone(), self.plan.clone(), Arc::clone(running));
        let sender = self.sender.clone();
        let spawned = thread::Builder::new().name("reload".to_owned()).spawn(move || {
            // The loop may be gone already: then nobody needs to know.
            let _ = sender.send(prepare(&serve, &plan, &running).map(Box::new));
        });
        if let Err(error) = spawned {
            // The loop finds it in the channel, as it would find any other reason.
            let _ = self.sender.send(Err(format!("no thread for it: {error}")));
        }
    }

    /// Waits for a configuration that is ready, or for the reason why there is none. Cancel safe.
    pub(super) async fn ready(&mut self) -> Result<Box<Prepared>, String> {
        match self.receiver.recv().await {
            Some(prepared) => prepared,
            // Not while this holds a sender.
            None => std::future::pending().await,
        }
    }

    /// The engine gets it; what is said about it waits for the engine's word.
    pub(super) fn begin(&mut self, prepared: Prepared) -> Box<Reload> {
        self.about = Some(prepared.about);
        Box::new(prepared.reload)
    }

    /// The running configuration stays: says why. Whether a reload was asked for meanwhile.
    pub(super) fn refuse(&mut self, why: &str) -> bool {
        for line in why.lines() {
            warn!("{line}");
        }
        warn!("{}: the running configuration stays", self.plan.config.display());
        let text = format!("{why}\nThe running configuration stays.");
        self.end(&Answer::Error(text))
    }

    /// The engine has spoken: says what changed. Whether a reload was asked for meanwhile.
    pub(super) fn finish(&mut self, reloaded: Reloaded) -> bool {
        let about = self.about.take();
        let applied = match reloaded {
            Reloaded::Applied(applied) => applied,
            Reloaded::Refused(why) => return self.refuse(&why),
        };
        let About { difference, notes, warnings } =
            about.unwrap_or(About { difference: Difference::default(), notes: Vec::new(), warnings: Vec::new() });
        let report = report(&applied, difference, notes, warnings);
        for line in report.lines() {
            info!("reload: {line}");
        }
        // Freeing the memory of a large configuration takes its time.
        drop(thread::Builder::new().name("drop".to_owned()).spawn(move || drop(applied)));
        self.end(&Answer::Reload(Box::new(report)))
    }

    fn end(&mut self, answer: &Answer) -> bool {
        self.is_busy = false;
        for asker in self.askers.drain(..) {
            // The operator may have gone away.
            let _ = asker.send(answer.clone());
        }
        match self.again.take() {
            Some(askers) => {
                self.askers = askers;
                true
            }
            None => false,
        }
    }
}

fn report(applied: &Applied, difference: Difference, notes: Vec<String>, warnings: Vec<String>) -> Report {
    Report {
        generation: applied.generation,
        summary: difference.summary,
        changes: difference.lines,
        notes,
        warnings,
        rearming: applied.rearming as u64,
        orphans: applied.leases.orphans as u64,
        orphans_active: applied.leases.running_count as u64,
        orphan_addresses: applied.leases.running.clone(),
        returned: applied.leases.returned as u64,
    }
}

/// Reads and checks the configuration, and compares it with the running one.
fn prepare(serve: &Serve, plan: &Plan, running: &Config) -> Result<Prepared, String> {
    let Loaded { config, diagnostics } = check::read(&plan.config);
    let errors = diagnostics.errors_count();
    let findings = diagnostics.render(false);
    let Some(mut config) = config.filter(|_| errors == 0) else {
        let count = check::count(errors, "error");
        return Err(format!("{}\n{}: {count} in the configuration", findings.trim_end(), plan.config.display()));
    };
    let file = chosen(Some(&plan.config), "PATH_DHCPD_CONF").unwrap_or_else(|| plan.config.clone());
    let new = Plan::new(serve, file, &mut config)?;
    if let Some(why) = crate::engine::reload::obstacle(running, &config) {
        return Err(why);
    }
    let _ = start::resolve(&mut config);
    let notes = settled(plan, &new, running, &mut config);
    let about = About {
        difference: difference(running, &config),
        notes,
        warnings: findings.lines().map(str::to_owned).collect(),
    };
    Ok(Prepared { reload: Reload { config, format: new.format }, about })
}

/// What does not change before a restart, in sentences; `config` gets what the running server has.
fn settled(plan: &Plan, new: &Plan, running: &Config, config: &mut Config) -> Vec<String> {
    let mut notes = Vec::new();
    let mut settle = |what: &str, is: String, would_be: String| {
        if is != would_be {
            notes.push(format!("{what} stays {is} until a restart; the configuration says {would_be}"));
        }
    };
    let path = |path: &Path| path.display().to_string();
    let pid = |plan: &Plan| plan.pid.as_deref().map_or_else(|| "unused".to_owned(), path);
    settle("the leases file", path(&plan.leases), path(&new.leases));
    settle("the pid file", pid(plan), pid(new));
    settle("the port", plan.port.to_string(), new.port.to_string());
    settle("the syslog facility", plan.facility.to_string(), new.facility.to_string());
    let (is, would_be) = (&running.process, &mut config.process);
    let address = |address: Option<Ipv4Addr>| address.unwrap_or(Ipv4Addr::UNSPECIFIED).to_string();
    settle("local-address", address(is.local_address), address(would_be.local_address));
    settle("delayed-ack", is.delayed_ack.to_string(), would_be.delayed_ack.to_string());
    settle("max-ack-delay", is.max_ack_delay_us.to_string(), would_be.max_ack_delay_us.to_string());
    settle("dont-use-fsync", is.dont_use_fsync.to_string(), would_be.dont_use_fsync.to_string());
    if plan.port != new.port {
        would_be.remote_port = is.remote_port;
    }
    would_be.local_port = is.local_port;
    let peers = |config: &Config| -> Vec<String> {
        let of = |peer: &crate::config::FailoverPeer| {
            let address =
                |address: &Option<crate::config::Address>| address.as_ref().and_then(|one| config.address(one));
            let plain = crate::config::FailoverPeer {
                address: None,
                peer_address: None,
                bootstrap: None,
                span: crate::config::Span::default(),
                ..peer.clone()
            };
            format!("{:?} {:?} {plain:?}", address(&peer.address), address(&peer.peer_address))
        };
        config.failover_peers.iter().map(of).collect()
    };
    let changed = peers(running).iter().zip(&peers(config)).position(|(is, would_be)| is != would_be);
    if let Some(peer) = changed.and_then(|place| config.failover_peers.get(place)) {
        notes.push(format!(
            "the settings of failover peer \"{}\" stay as they are until a restart, when the partner hears of them",
            peer.name
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config,
        io::command::{self, Cli},
    };
    use clap::Parser as _;
    use std::{ffi::OsString, fs, path::PathBuf};

    const SUBNET: &str = "subnet 10.0.0.0 netmask 255.255.255.0 { range 10.0.0.10 10.0.0.20; }\n";

    struct Files(PathBuf);

    impl Files {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("xdhcpd-reload-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        /// The running server of one text, and what it makes of another one.
        fn prepare(&self, running: &str, text: &str) -> Result<Prepared, String> {
            let file = self.0.join("dhcpd.conf");
            let loaded = config::load("dhcpd.conf", &mut |_| Ok(running.as_bytes().to_vec()));
            let mut running = loaded.config.unwrap();
            let line = ["xdhcpd", "-lf", "/l", "--no-pid", "eth0"].map(OsString::from);
            let serve = Cli::try_parse_from(command::translate(line).unwrap()).unwrap().serve;
            let plan = Plan::new(&serve, file.clone(), &mut running).unwrap();
            fs::write(&file, text).unwrap();
            prepare(&serve, &plan, &running)
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_good_configuration_comes_with_its_difference_and_what_has_to_wait() {
        let files = Files::new("good");
        let text = format!("local-port 1067; lease-file-name \"/other\"; option domain-name \"b\";\n{SUBNET}");
        let prepared = files.prepare(SUBNET, &text).unwrap();
        assert_eq!(prepared.about.difference.summary, "options: 1 added; parameters: 2 added");
        let notes = prepared.about.notes.join("\n");
        assert!(notes.contains("the port stays 67 until a restart; the configuration says 1067"), "{notes}");
        assert!(notes.contains("the leases file stays /l until a restart; the configuration says /other"), "{notes}");
        let process = &prepared.reload.config.process;
        assert_eq!((process.local_port, process.remote_port), (Some(67), Some(68)));
    }

    #[test]
    fn a_bad_configuration_is_refused_with_all_its_errors() {
        let files = Files::new("bad");
        let error = files.prepare(SUBNET, "rang 1;\nsubnet 10.0.0.0 {\n}\n").unwrap_err();
        for word in ["dhcpd.conf:1:", "dhcpd.conf:2:", "2 errors in the configuration"] {
            assert!(error.contains(word), "{word} in: {error}");
        }
        fs::remove_file(files.0.join("dhcpd.conf")).unwrap();
        let peer = "failover peer \"x\" { primary; address 10.0.0.1; peer address 10.0.0.2; mclt 60; split 128; }\n";
        let shared = SUBNET.replace("range", "pool { failover peer \"x\"; range").replace("; }", "; } }");
        let error = files.prepare(SUBNET, &format!("{peer}{shared}")).unwrap_err();
        assert!(error.contains("restart"), "{error}");
        let other = peer.replace("mclt 60", "mclt 90");
        let prepared = files.prepare(&format!("{peer}{shared}"), &format!("{other}{shared}")).unwrap();
        assert!(prepared.about.notes[0].contains("failover peer \"x\" stay"), "{:?}", prepared.about.notes);
    }

    #[test]
    fn whoever_asks_while_a_reload_runs_waits_for_the_next_one() {
        let files = Files::new("again");
        let file = files.0.join("dhcpd.conf");
        fs::write(&file, SUBNET).unwrap();
        let mut running = config::load("x", &mut |_| Ok(SUBNET.as_bytes().to_vec())).config.unwrap();
        let serve = Cli::try_parse_from(["xdhcpd", "eth0"]).unwrap().serve;
        let plan = Plan::new(&serve, file, &mut running).unwrap();
        let (mut reloader, running) = (Reloader::new(serve, plan), Arc::new(running));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (first, mut first_answer) = oneshot::channel();
        let (second, mut second_answer) = oneshot::channel();
        reloader.ask(&running, Some(first));
        reloader.ask(&running, Some(second));
        let prepared = runtime.block_on(reloader.ready()).unwrap();
        let _ = reloader.begin(*prepared);
        assert!(reloader.finish(Reloaded::Refused("no".to_owned())), "somebody asked meanwhile");
        assert!(matches!(first_answer.try_recv(), Ok(Answer::Error(text)) if text.starts_with("no\n")));
        assert!(second_answer.try_recv().is_err());
        reloader.ask(&running, None);
        let prepared = runtime.block_on(reloader.ready()).unwrap();
        let _ = reloader.begin(*prepared);
        assert!(!reloader.finish(Reloaded::Refused("still no".to_owned())));
        assert!(matches!(second_answer.try_recv(), Ok(Answer::Error(_))));
    }
}
