//! Exchanges that clients have taken to another server, for as long as a late DISCOVER of theirs may still come.
//!
//! Messages are read in the order of their urgency, so the REQUEST that names another server can be looked at before the
//! DISCOVER it belongs to: an offer made then would keep an address from everybody for two minutes, for a client that has
//! one already.

use std::collections::VecDeque;

use dhcp_ebpf::wire::dhcp::HwAddr;

use crate::lease::time::BootTime;

use super::limits::{ELSEWHERE_COUNT_MAX, ELSEWHERE_TIME};

/// One exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exchange {
    xid: [u8; 4],
    hw: HwAddr,
}

/// Exchanges that are over here, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere {
    exchanges: VecDeque<(Exchange, BootTime)>,
}

impl Elsewhere {
    /// A client took another server's offer before its DISCOVER was looked at here.
    pub(crate) fn note(&mut self, xid: [u8; 4], hw: HwAddr, now: BootTime) {
        if self.exchanges.len() >= ELSEWHERE_COUNT_MAX {
            self.exchanges.pop_front();
        }
        self.exchanges.push_back((Exchange { xid, hw }, now.after(ELSEWHERE_TIME)));
    }

    /// Whether this is the DISCOVER of such an exchange.
    pub(crate) fn knows(&mut self, xid: [u8; 4], hw: HwAddr, now: BootTime) -> bool {
        while self.exchanges.front().is_some_and(|(_, until)| *until <= now) {
            self.exchanges.pop_front();
        }
        self.exchanges.iter().any(|(exchange, _)| *exchange == Exchange { xid, hw })
    }
}
