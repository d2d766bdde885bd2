//! The shield's settings: what the operator asked for, as words of the control map.

use dhcp_ebpf::abi::{ACCESS_PORT_COUNT, Shield, ShieldMode};

use crate::engine::port::Interface;

/// What the operator asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// What is done about hostile frames.
    pub mode: ShieldMode,
    /// DISCOVERs per second that one source may send for long.
    pub discover_rate: u16,
    /// DISCOVERs that one source may send at once.
    pub discover_burst: u16,
    /// Names of interfaces behind which there is no server and no relay.
    pub access_ports: Vec<String>,
}

impl Guard {
    /// DISCOVERs per second of one source, unless the operator says otherwise: a client sends its first ones seconds
    /// apart (RFC 2131 4.1), so this is a bridge that lends its address to dozens of clients, all starting at once.
    pub const DISCOVER_RATE: u16 = 10;
    /// DISCOVERs of one source at once, unless the operator says otherwise.
    pub const DISCOVER_BURST: u16 = 100;

    /// The words, with the access ports among the interfaces that are served.
    pub(super) fn words(&self, served: &[Interface]) -> Shield {
        let mut access_ports = [0; ACCESS_PORT_COUNT];
        let indexes = served
            .iter()
            .filter(|interface| self.access_ports.contains(&interface.name))
            .map(|interface| interface.index.0);
        for (place, index) in access_ports.iter_mut().zip(indexes) {
            *place = index;
        }
        Shield {
            mode: self.mode as u32,
            discover_rate: self.discover_rate,
            discover_burst: self.discover_burst,
            _pad: 0,
            access_ports,
        }
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            mode: ShieldMode::default(),
            discover_rate: Self::DISCOVER_RATE,
            discover_burst: Self::DISCOVER_BURST,
            access_ports: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::port::InterfaceIndex;

    #[test]
    fn access_ports_are_those_that_are_served() {
        let interface = |name: &str, index| Interface {
            index: InterfaceIndex(index),
            name: name.to_owned(),
            mac: [2; 6],
            is_up: true,
            addresses: Vec::new(),
        };
        let guard = Guard { access_ports: vec!["lan1".to_owned(), "gone".to_owned()], ..Guard::default() };
        let words = guard.words(&[interface("lan0", 4), interface("lan1", 7)]);
        assert_eq!(words.access_ports[..2], [7, 0]);
        assert_eq!(words.mode(), ShieldMode::Monitor, "nothing is dropped unless somebody asks for it");
    }
}
