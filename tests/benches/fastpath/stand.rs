//! Our server with its fast path in the driver, and a herd whose clients all have leases.

use anyhow::Result;
use tests::{
    lab::PassProgram,
    load::{
        Herd, Stage,
        server::{self, Running, Server, Setting},
    },
};

use crate::{peers::lease, take_last_processor};

/// What is measured, and who measures; the server goes first.
pub(crate) struct Stand {
    pub(crate) running: Running,
    pub(crate) herd: Herd,
    _pass: PassProgram,
    _stage: Stage,
}

impl Stand {
    /// The server on the first processor, this thread and so many clients on the last one.
    pub(crate) fn new(setting: &Setting<'_>, clients: usize) -> Result<Self> {
        take_last_processor()?;
        let stage = Stage::new()?;
        let mut herd = stage.herd(1)?;
        let pass = stage.clients.attach_pass(Stage::CLIENTS)?;
        let running = server::start(&stage, Server::Xdhcpd, setting, &mut herd)?;
        lease(&mut herd, clients)?;
        Ok(Self { running, herd, _pass: pass, _stage: stage })
    }

    /// Our server as it is measured.
    pub(crate) fn setting() -> Setting<'static> {
        Setting { fast_path: "native", ..Setting::default() }
    }
}
