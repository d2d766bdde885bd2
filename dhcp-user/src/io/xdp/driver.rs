//! Asks an interface for the name of its driver (`ethtool -i`), and what its hardware does with VLAN tags.
#![expect(unsafe_code, reason = "an ioctl")]

use std::io;

/// `ETHTOOL_GDRVINFO` (linux/ethtool.h).
const GET_DRIVER_INFO: u32 = 3;
/// `ETHTOOL_GFLAGS`, which the kernel answers from the features of the device.
const GET_FLAGS: u32 = 0x25;
/// `ETH_FLAG_RXVLAN`.
const FLAG_RX_VLAN: u32 = 1 << 8;
/// `SIOCETHTOOL` (linux/sockios.h).
const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// `struct ethtool_drvinfo` up to what we read.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    value: u32,
}

/// Name of the driver of `interface`, for instance `veth` or `ixgbe`.
///
/// # Errors
///
/// What the system says, for instance for an interface without a driver.
pub(super) fn name_of(interface: &str) -> io::Result<String> {
    let mut info = DriverInfo { command: GET_DRIVER_INFO, driver: [0; 32], rest: [0; 160] };
    ask(interface, &mut info)?;
    let len = info.driver.iter().position(|byte| *byte == 0).unwrap_or(info.driver.len());
    Ok(String::from_utf8_lossy(info.driver.get(..len).unwrap_or_default()).into_owned())
}

/// Whether the hardware takes VLAN tags off before the driver's XDP sees the frame (`ethtool -k`: rx-vlan-offload).
///
/// # Errors
///
/// What the system says, for instance for an interface without a driver.
pub fn strips_tags(interface: &str) -> io::Result<bool> {
    let mut flags = Value { command: GET_FLAGS, value: 0 };
    ask(interface, &mut flags)?;
    Ok(flags.value & FLAG_RX_VLAN != 0)
}

/// Asks an interface; `question` begins with a command and has room for what that writes.
fn ask<T>(interface: &str, question: &mut T) -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(question).cast();
    // SAFETY: the request names the interface and points at a structure of the size that its command writes.
    let outcome = unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&socket), SIOCETHTOOL, &mut request) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const _: () = assert!(size_of::<DriverInfo>() == 196);
