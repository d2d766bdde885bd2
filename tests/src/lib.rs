//! The proving ground: what the suites share.
//!
//! ```text
//!   frames   Ethernet/VLAN/IPv4/UDP/DHCP frames, written from the RFCs, not by the code under test
//!   client   a model client over packet sockets or over frames in memory; reads replies with dhcproto
//!   crowd    clients that go on whatever is killed, and a ledger of what they were promised
//!   lab      network namespaces, veth, bridges, processes, all gone when the value is dropped
//!   agent    xdhcpd as a process, and its control socket
//!   exposition a strict reader of what `xdhcpd metrics` prints
//!   failover what the failover suites keep leases in, the pair's settings, real sessions
//!   fastpath fixtures of the XDP program, for the kernel suite and the benchmark
//!   dice     seeded choices
//!   dhcpd    the real ISC dhcpd as an oracle
//!   duo      two servers of one service, each xdhcpd or dhcpd
//!   peers    real clients: udhcpc, dhclient, dhcpcd
//!   oracle   cases that dhcpd and xdhcpd play, and how what they say and write is compared
//!   load     a herd of clients that keeps a server busy, for the benchmarks
//!   fuzz     entry points for bytes of strangers, shared by a bounded suite and libFuzzer
//!   judge    whether what two servers say rests on their disks and on what they agreed
//!   leases   reads a leases file as a person does
//!   skip     how a test says that it could not run
//!   tcp      TCP between two machines on a virtual clock, and what happens later
//! ```
//!
//! The model client and the checkers know the RFCs, not our code. Nothing here touches the machine's own
//! network: whatever needs an interface makes a namespace first.

pub mod agent;
pub mod client;
pub mod crowd;
pub mod dhcpd;
pub mod dice;
pub mod duo;
pub mod exposition;
pub mod failover;
pub mod fastpath;
pub mod frames;
pub mod fuzz;
pub mod judge;
pub mod lab;
pub mod leases;
pub mod load;
pub mod oracle;
pub mod pcap;
pub mod peers;
pub mod pump;
pub mod skip;
pub mod tcp;
