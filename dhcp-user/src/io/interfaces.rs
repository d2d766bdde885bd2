//! Network interfaces: what the kernel has, which of them to serve, and when they change.

use std::{
    collections::BTreeMap,
    ffi::CStr,
    io, mem,
    net::Ipv4Addr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

use crate::{
    config::Config,
    engine::port::{Interface, InterfaceIndex},
};

/// An interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What the engine sees of it.
    pub interface: Interface,
    /// Whether it can carry broadcasts (IFF_BROADCAST) and is neither a loopback nor a point-to-point link.
    pub is_broadcast: bool,
    /// Whether its frames are Ethernet frames.
    pub is_ethernet: bool,
}

/// All interfaces of this network namespace, in the order of their indexes.
///
/// # Errors
/// The kernel's refusal to list them.
pub fn list() -> io::Result<Vec<Found>> {
    let mut head: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: `head` is a valid place for the pointer that the call writes.
    if unsafe { libc::getifaddrs(&raw mut head) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found: BTreeMap<u32, Found> = BTreeMap::new();
    let mut indexes: BTreeMap<String, u32> = BTreeMap::new();
    let mut addresses: Vec<(String, Ipv4Addr, u8)> = Vec::new();
    let mut next = head;
    // SAFETY: the list was made by getifaddrs and is freed after the loop; each node is valid until then.
    while let Some(node) = unsafe { next.as_ref() } {
        next = node.ifa_next;
        // SAFETY: `ifa_name` of a node is a C string that lives as long as the list.
        let name = unsafe { CStr::from_ptr(node.ifa_name) }.to_string_lossy().into_owned();
        // SAFETY: `ifa_addr` is null or points to an address whose family tells its type.
        let Some(family) = (unsafe { node.ifa_addr.as_ref() }).map(|address| i32::from(address.sa_family)) else {
            continue;
        };
        if family == libc::AF_PACKET {
            // SAFETY: an address of this family is a sockaddr_ll; the read does not ask for alignment.
            let link = unsafe { ptr::read_unaligned(node.ifa_addr.cast::<libc::sockaddr_ll>()) };
            let flags = node.ifa_flags as i32;
            let index = u32::try_from(link.sll_ifindex).unwrap_or(0);
            let mac = link.sll_addr.first_chunk().copied().unwrap_or_default();
            let is_up = flags & libc::IFF_UP != 0;
            let is_broadcast =
                flags & libc::IFF_BROADCAST != 0 && flags & (libc::IFF_LOOPBACK | libc::IFF_POINTOPOINT) == 0;
            indexes.insert(name.clone(), index);
            found.insert(
                index,
                Found {
                    interface: Interface { index: InterfaceIndex(index), name, mac, addresses: Vec::new(), is_up },
                    is_broadcast,
                    is_ethernet: link.sll_hatype == libc::ARPHRD_ETHER && link.sll_halen == 6,
                },
            );
        } else if family == libc::AF_INET {
            // SAFETY: addresses of this family are sockaddr_in, netmasks too; a missing netmask is null.
            let (address, mask) = unsafe {
                let address = ptr::read_unaligned(node.ifa_addr.cast::<libc::sockaddr_in>());
                let mask = node
                    .ifa_netmask
                    .as_ref()
                    .map(|mask| ptr::read_unaligned(ptr::from_ref(mask).cast::<libc::sockaddr_in>()));
                (address, mask)
            };
            let address = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
            let prefix = mask.map_or(32, |mask| mask.sin_addr.s_addr.count_ones() as u8);
            addresses.push((name, address, prefix));
        }
    }
    // SAFETY: the list came from getifaddrs, and no reference into it is left.
    unsafe { libc::freeifaddrs(head) };
    for (name, address, prefix) in addresses {
        // An alias (`eth0:1`) is another name of the same interface.
        let base = name.split(':').next().unwrap_or(&name);
        if let Some(one) = indexes.get(base).and_then(|index| found.get_mut(index)) {
            one.interface.addresses.push((address, prefix));
        }
    }
    Ok(found.into_values().collect())
}

/// Which interfaces are served, and what people should hear about the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// The interfaces to serve.
    pub served: Vec<Interface>,
    /// Lines for the log, in dhcpd's words where it has any.
    pub warnings: Vec<String>,
}

/// Why there is nothing to serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// A name from the command line that the kernel does not know.
    #[error("{name}: no such network interface; this machine has {known}")]
    Unknown {
        /// The name.
        name: String,
        /// What there is.
        known: String,
    },
    /// A named interface that cannot carry DHCP.
    #[error("{name}: {reason}")]
    Unfit {
        /// The name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// No interface has a subnet declaration.
    #[error(
        "Not configured to listen on any interfaces!\n\
         No interface has an address in a declared subnet. Declare a subnet for the network of {candidates}, \
         or name an interface on the command line that has an address in one."
    )]
    None {
        /// What there is.
        candidates: String,
    },
}

/// Chooses the interfaces to serve (dhcpd: the named ones, or every broadcast interface with a declared subnet).
///
/// # Errors
/// A name that does not exist or does not fit, or nothing left.
pub fn select(found: &[Found], named: &[String], config: &Config) -> Result<Selection, SelectError> {
    let network_of =
        |interface: &Interface| config.shared_network_of_interface(&interface.name, &interface.addresses).is_some();
    select_by(found, named, &network_of)
}

fn select_by(
    found: &[Found],
    named: &[String],
    has_network: &dyn Fn(&Interface) -> bool,
) -> Result<Selection, SelectError> {
    let names = |found: &mut dyn Iterator<Item = &Found>| {
        let names: Vec<&str> = found.map(|one| one.interface.name.as_str()).collect();
        if names.is_empty() { "no interface at all".to_owned() } else { names.join(", ") }
    };
    let mut candidates = Vec::new();
    for name in named {
        let Some(one) = found.iter().find(|one| one.interface.name == *name) else {
            return Err(SelectError::Unknown { name: name.clone(), known: names(&mut found.iter()) });
        };
        let reason = match () {
            () if !one.is_ethernet => "not an Ethernet interface",
            () if !one.is_broadcast => "the interface cannot broadcast",
            () => {
                if !candidates.contains(&one) {
                    candidates.push(one);
                }
                continue;
            }
        };
        return Err(SelectError::Unfit { name: name.clone(), reason });
    }
    if named.is_empty() {
        candidates = found
            .iter()
            .filter(|one| one.is_broadcast && one.is_ethernet && one.interface.is_up)
            .filter(|one| !one.interface.addresses.is_empty())
            .collect();
    }
    let mut selection = Selection::default();
    for one in &candidates {
        let interface = &one.interface;
        if has_network(interface) {
            selection.served.push(interface.clone());
            continue;
        }
        let name = &interface.name;
        let address =
            interface.addresses.first().map_or("no IPv4 addresses".to_owned(), |(first, _)| first.to_string());
        selection.warnings.push(format!("No subnet declaration for {name} ({address})."));
        selection.warnings.push(format!(
            "** Ignoring requests on {name}.  If this is not what you want, please write a subnet declaration in \
             your dhcpd.conf file for the network segment to which interface {name} is attached. **"
        ));
    }
    if selection.served.is_empty() {
        let candidates = if candidates.is_empty() {
            names(&mut found.iter().filter(|one| one.is_broadcast))
        } else {
            names(&mut candidates.into_iter())
        };
        return Err(SelectError::None { candidates });
    }
    Ok(selection)
}

/// Opens a netlink socket that becomes readable when links or IPv4 addresses change.
///
/// # Errors
/// The kernel's refusal.
pub fn watch() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: sockaddr_nl is plain integers; all zeroes is a value.
    let mut address: libc::sockaddr_nl = unsafe { mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as u16;
    address.nl_groups = (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR) as u32;
    // SAFETY: `address` is a sockaddr_nl of the length given, and outlives the call.
    let status = unsafe {
        libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_nl>() as libc::socklen_t)
    };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
}

/// Reads and forgets what the netlink socket has: that something changed is all that matters, the interfaces are
/// listed afresh. Lost messages (a full buffer) are a change too.
///
/// # Errors
/// `WouldBlock` when nothing is left, which is how a drain ends.
pub fn drain(watch: &OwnedFd) -> io::Result<()> {
    let mut buffer = [0_u8; 8192];
    loop {
        // SAFETY: the buffer outlives the call and is passed with its length.
        let len =
            unsafe { libc::recv(watch.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
        if len < 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::ENOBUFS) {
                return Err(error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(index: u32, name: &str, address: [u8; 4]) -> Found {
        Found {
            interface: Interface {
                index: InterfaceIndex(index),
                name: name.to_owned(),
                mac: [2, 0, 0, 0, 0, index as u8],
                addresses: vec![(address.into(), 24)],
                is_up: true,
            },
            is_broadcast: true,
            is_ethernet: true,
        }
    }

    fn loopback() -> Found {
        Found { is_broadcast: false, is_ethernet: false, ..found(1, "lo", [127, 0, 0, 1]) }
    }

    fn in_150(interface: &Interface) -> bool {
        interface.addresses.iter().any(|(address, _)| address.octets()[..3] == [192, 168, 150])
    }

    #[test]
    fn without_names_every_broadcast_interface_with_a_subnet_is_served() {
        let all = [loopback(), found(2, "eth0", [192, 168, 150, 1]), found(3, "eth1", [10, 0, 0, 1])];
        let selection = select_by(&all, &[], &in_150).unwrap();
        assert_eq!(selection.served, [all[1].interface.clone()]);
        assert_eq!(selection.warnings.len(), 2);
        assert_eq!(selection.warnings[0], "No subnet declaration for eth1 (10.0.0.1).");
        assert!(selection.warnings[1].starts_with("** Ignoring requests on eth1."));
    }

    #[test]
    fn an_interface_that_is_down_is_served_only_by_name() {
        let mut down = found(2, "eth0", [192, 168, 150, 1]);
        down.interface.is_up = false;
        let all = [down];
        assert!(select_by(&all, &[], &in_150).is_err());
        assert_eq!(select_by(&all, &["eth0".to_owned()], &in_150).unwrap().served.len(), 1);
    }

    #[test]
    fn a_name_nobody_has_is_refused_with_the_names_there_are() {
        let all = [loopback(), found(2, "eth0", [192, 168, 150, 1])];
        let error = select_by(&all, &["eth7".to_owned()], &in_150).unwrap_err().to_string();
        assert!(error.starts_with("eth7: no such network interface"), "{error}");
        assert!(error.contains("lo, eth0"), "{error}");
        assert!(matches!(select_by(&all, &["lo".to_owned()], &in_150), Err(SelectError::Unfit { .. })));
    }

    #[test]
    fn nothing_to_serve_is_an_error_in_dhcpds_words() {
        let all = [loopback(), found(3, "eth1", [10, 0, 0, 1])];
        for named in [&[][..], &["eth1".to_owned()]] {
            let error = select_by(&all, named, &in_150).unwrap_err().to_string();
            assert!(error.starts_with("Not configured to listen on any interfaces!"), "{error}");
            assert!(error.contains("eth1"), "{error}");
        }
    }

    #[test]
    fn a_name_given_twice_is_served_once() {
        let all = [found(2, "eth0", [192, 168, 150, 1])];
        let named = ["eth0".to_owned(), "eth0".to_owned()];
        assert_eq!(select_by(&all, &named, &in_150).unwrap().served.len(), 1);
    }

    #[test]
    fn the_loopback_of_this_machine_is_found_with_its_address() {
        let all = list().unwrap();
        let lo = all.iter().find(|one| one.interface.name == "lo").unwrap();
        assert!(!lo.is_broadcast);
        if lo.interface.is_up {
            assert!(lo.interface.addresses.contains(&(Ipv4Addr::LOCALHOST, 8)));
        }
    }
}
