//! Interfaces come, go and change their addresses.

use std::time::Duration;

use tracing::{info, warn};

use crate::{
    engine::port::{Input, Interface, Verbs as _},
    io::interfaces,
    lease::time::Now,
};

use super::{Agent, open_error};

impl Agent {
    pub(super) fn relist(&mut self, now: Now) {
        let found = match interfaces::list() {
            Ok(found) => found,
            Err(error) => return warn!(%error, "the interfaces cannot be listed; those served stay as they are"),
        };
        // A named interface that is gone may come back: until then the others are served.
        let is_present = |name: &String| found.iter().any(|one| one.interface.name == *name);
        let present: Vec<String> = self.parts.named.iter().filter(|name| is_present(name)).cloned().collect();
        let selection = if present.is_empty() && !self.parts.named.is_empty() {
            interfaces::Selection::default()
        } else {
            interfaces::select(&found, &present, self.parts.server.config()).unwrap_or_default()
        };
        let served = selection.served;
        let before: Vec<Interface> = self.parts.network.interfaces().cloned().collect();
        // Addresses of interfaces that are not served are ours as well: always told to the sockets.
        let outcome = self.parts.network.serve(&served, &found);
        if let Err((name, error)) = outcome {
            warn!("{}", open_error(&name, &error));
            self.relist_at = Some(now.boot.after(Duration::from_secs(5)));
        }
        if served == before {
            return;
        }
        for text in selection.warnings {
            warn!("{text}");
        }
        let names: Vec<&str> = served.iter().map(|interface| interface.name.as_str()).collect();
        info!(
            "interfaces have changed; serving {}",
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        );
        self.fast_path.serve(&served);
        self.probes.retain(&served);
        self.parts.server.handle(Input::Interfaces(served), now);
    }
}
