//! Attaching: in which mode, over what an earlier agent left, and never over somebody else's program.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    programs::{ProgramError, XdpMode, xdp::XdpLinkId},
};
use tracing::{info, warn};

use super::opening::program;
use super::{Kernel, Place, Wanted, driver, pins};
use crate::{
    engine::port::{Interface, InterfaceIndex},
    io::fastpath::{Attachment, Mode},
};

/// What to try on an interface, and why.
struct Choice {
    first: XdpMode,
    second: Option<XdpMode>,
    /// Why it is not better than `first`.
    why: String,
    driver: String,
}

impl Kernel {
    /// Attaches to these interfaces and to no others.
    pub(super) fn attach_to_all(&mut self, interfaces: &[Interface]) {
        let wanted: BTreeSet<InterfaceIndex> = interfaces.iter().map(|interface| interface.index).collect();
        let gone: Vec<InterfaceIndex> = self.links.keys().copied().filter(|index| !wanted.contains(index)).collect();
        for interface in gone {
            self.detach_from(interface);
        }
        self.attachments.retain(|attachment| wanted.contains(&attachment.interface));
        for interface in interfaces {
            if self.attachments.iter().any(|attachment| attachment.interface == interface.index) {
                continue;
            }
            let attachment = self.attach(interface.index, &interface.name).unwrap_or_else(|error| {
                warn!(interface = %interface.name, "fast path off: {error:#}");
                Attachment {
                    interface: interface.index,
                    mode: Mode::Off,
                    why: format!("{error:#}"),
                    note: String::new(),
                }
            });
            info!(interface = %interface.name, mode = %attachment.mode, why = %attachment.why, "fast path");
            self.attachments.push(attachment);
        }
        for standing in std::mem::take(&mut self.left) {
            info!(interface = standing.interface.0, "an earlier agent served this interface, this one does not");
            self.unpin(standing.interface);
        }
    }

    /// Attaches to one interface, in the best mode that the operator allows.
    ///
    /// # Errors
    ///
    /// Why it cannot be attached, and what to do.
    pub fn attach(&mut self, interface: InterfaceIndex, name: &str) -> Result<Attachment> {
        let Choice { first, second, mut why, driver } = self.choose(name);
        if let Some(standing) = self.take_left(interface) {
            let is_wanted = |mode: XdpMode| mode_of(mode) == standing.mode;
            if is_wanted(first) || second.is_some_and(is_wanted) {
                let program = program(&mut self.ebpf)?;
                let link = Place::take_over(program, &standing)
                    .with_context(|| format!("cannot take over the program of an earlier agent on {name}"))?;
                self.links.insert(interface, link);
                if !is_wanted(first) {
                    why = format!("the driver {driver} has no native XDP (an earlier agent tried)");
                }
                return Ok(Attachment { interface, mode: standing.mode, why, note: note(&driver, name) });
            }
            self.unpin(interface);
        }
        let mut mode = first;
        let mut outcome = attach_in(&mut self.ebpf, interface, first);
        if let (Err(Refusal::Unsupported(error)), Some(second)) = (&outcome, second) {
            let advice = unsupported(error, name);
            why = format!("the driver {driver} has no native XDP here ({error}){advice}");
            mode = second;
            outcome = attach_in(&mut self.ebpf, interface, second);
        }
        let link = match outcome {
            Ok(link) => link,
            Err(Refusal::Busy) => bail!(
                "another XDP program is attached to {name}; xdhcpd does not replace it: detach it (ip link set dev \
                 {name} xdp off), or run with --fast-path off"
            ),
            Err(Refusal::Unsupported(error)) => {
                let advice = unsupported(&error, name);
                bail!("{name} refuses native XDP ({error}){advice}; run with --fast-path auto or generic")
            }
            Err(Refusal::Other(error)) => return Err(error).with_context(|| format!("cannot attach XDP to {name}")),
        };
        let mode = mode_of(mode);
        let link = match &self.place {
            Some(place) => place.keep_link(program(&mut self.ebpf)?, link, interface, mode)?,
            None => link,
        };
        self.links.insert(interface, link);
        Ok(Attachment { interface, mode, why, note: note(&driver, name) })
    }

    fn choose(&self, name: &str) -> Choice {
        let driver = driver::name_of(name).unwrap_or_default();
        let (first, second) = match self.wanted {
            Wanted::Native => (XdpMode::Driver, None),
            Wanted::Generic => (XdpMode::Skb, None),
            // A reply that a veth transmits from its driver is lost unless the other end runs XDP as well, which
            // cannot be seen from here.
            Wanted::Auto if driver == "veth" => (XdpMode::Skb, None),
            Wanted::Auto => (XdpMode::Driver, Some(XdpMode::Skb)),
        };
        let why = match (self.wanted, driver.as_str()) {
            (Wanted::Auto, "veth") => "a veth drops native XDP replies unless its other end runs XDP too".to_owned(),
            (Wanted::Generic, _) => "--fast-path generic".to_owned(),
            _ => String::new(),
        };
        Choice { first, second, why, driver }
    }

    fn take_left(&mut self, interface: InterfaceIndex) -> Option<pins::Standing> {
        let at = self.left.iter().position(|standing| standing.interface == interface)?;
        Some(self.left.swap_remove(at))
    }

    fn unpin(&self, interface: InterfaceIndex) {
        if let Some(place) = &self.place
            && let Err(error) = place.detach(interface)
        {
            warn!(interface = interface.0, %error, "the fast path cannot be detached");
        }
    }

    /// Takes the program off one interface.
    pub(super) fn detach_from(&mut self, interface: InterfaceIndex) {
        let Some(link) = self.links.remove(&interface) else {
            return;
        };
        self.unpin(interface);
        let outcome = program(&mut self.ebpf).and_then(|program| Ok(program.detach(link)?));
        if let Err(error) = outcome {
            // The interface is gone, and the link with it.
            info!(interface = interface.0, %error, "the fast path was detached already");
        }
    }
}

/// What keeps clients from the fast path before the program sees their frames.
fn note(driver: &str, name: &str) -> String {
    match driver {
        // Whatever this end says about rxvlan.
        "veth" => {
            "a veth hands VLAN tags over beside the frame, so tagged clients stay with the agent, unless its other \
                   end puts them in (`ethtool -K INTERFACE txvlan off` there)"
                .to_owned()
        }
        // A driver that cannot tell has no such hardware.
        _ if driver::strips_tags(name).unwrap_or(false) => format!(
            "VLAN tags are taken off before XDP sees a frame, so tagged clients stay with the agent; `ethtool -K {name} rxvlan \
             off` changes that"
        ),
        _ => String::new(),
    }
}

/// Why a driver with XDP may refuse it.
fn unsupported(error: &std::io::Error, name: &str) -> String {
    match error.raw_os_error() {
        Some(libc::ERANGE | libc::EINVAL) => {
            format!(", mostly because frames of its MTU do not fit into one page (ip link set dev {name} mtu 1500)")
        }
        _ => String::new(),
    }
}

const fn mode_of(mode: XdpMode) -> Mode {
    match mode {
        XdpMode::Driver => Mode::Native,
        _ => Mode::Generic,
    }
}

/// Why an interface does not take the program.
enum Refusal {
    /// Somebody else's program is there.
    Busy,
    /// Not in this mode.
    Unsupported(std::io::Error),
    /// Anything else.
    Other(anyhow::Error),
}

fn attach_in(ebpf: &mut Ebpf, interface: InterfaceIndex, mode: XdpMode) -> Result<XdpLinkId, Refusal> {
    let program = program(ebpf).map_err(Refusal::Other)?;
    program.attach_to_if_index(interface.0, mode).map_err(|error| {
        let code = match &error {
            ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
            _ => None,
        };
        match code {
            Some(libc::EBUSY | libc::EEXIST) => Refusal::Busy,
            Some(code @ (libc::EOPNOTSUPP | libc::EINVAL | libc::ERANGE)) if mode == XdpMode::Driver => {
                Refusal::Unsupported(std::io::Error::from_raw_os_error(code))
            }
            _ => Refusal::Other(error.into()),
        }
    })
}
