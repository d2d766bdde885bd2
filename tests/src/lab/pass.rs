//! An XDP program that passes everything: two instructions, made here, so that nothing of the code under test
//! is needed to receive what it transmits.
//!
//! A veth drops what its peer sends by XDP_TX unless it runs an XDP program itself.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::programs::Xdp;
use aya::programs::xdp::XdpMode;
use object::write::{Object, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope};

/// Name of the program.
const NAME: &str = "pass";
/// `mov r0, XDP_PASS; exit`.
const CODE: [u8; 16] = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];

/// The program, attached until this value is dropped.
#[derive(Debug)]
pub struct PassProgram {
    _loaded: Ebpf,
}

impl PassProgram {
    /// Attaches it natively to an interface of the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel refuses BPF, or the driver XDP.
    pub(super) fn attach(interface: &str) -> Result<Self> {
        let mut loaded = Self::load()?;
        let program: &mut Xdp = loaded.program_mut(NAME).context("the pass program is missing")?.try_into()?;
        program.attach(interface, XdpMode::Driver).with_context(|| format!("{interface} has no native XDP"))?;
        Ok(Self { _loaded: loaded })
    }

    /// Loads it and attaches it to nothing: whether BPF is to be had at all.
    ///
    /// # Errors
    /// When the kernel refuses BPF.
    pub(super) fn load() -> Result<Ebpf> {
        let mut loaded = Ebpf::load(&object_file()?).context("the kernel refuses bpf(2)")?;
        let program: &mut Xdp = loaded.program_mut(NAME).context("the pass program is missing")?.try_into()?;
        program.load().context("the kernel refuses BPF programs")?;
        Ok(loaded)
    }
}

/// The program as a loader wants it: an ELF file with one function and a licence.
fn object_file() -> Result<Vec<u8>> {
    let mut file = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let section = file.add_section(Vec::new(), b"xdp".to_vec(), SectionKind::Text);
    file.append_section_data(section, &CODE, 8);
    file.add_symbol(Symbol {
        name: NAME.as_bytes().to_vec(),
        value: 0,
        size: CODE.len() as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    });
    let license = file.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    file.append_section_data(license, b"Dual MIT/GPL\0", 1);
    file.write().context("the pass program cannot be written")
}

#[cfg(test)]
mod tests {
    use crate::client::{Client, Wire as _};
    use crate::lab::{Lan, available, is_root};
    use crate::need;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    #[test]
    fn a_frame_crosses_the_switch_with_the_pass_program_attached() {
        if !is_root() {
            return crate::skip::skip("lab::pass", "needs root to make network namespaces");
        }
        need!("lab::pass", available());
        let lan = Lan::new(Ipv4Addr::new(192, 168, 150, 1), 1).unwrap();
        assert_eq!(lan.native_refused, None);
        let mut at_server = lan.server.packet_socket(Lan::SERVER).unwrap();
        let mut at_client = lan.clients[0].packet_socket("c0").unwrap();
        let frame = Client::new([2, 0, 0, 0, 0, 9]).discover();
        at_client.send(&frame).unwrap();
        let arrived = loop {
            let got = at_server.receive(Duration::from_secs(2)).unwrap().expect("the frame does not arrive");
            if got == frame {
                break got;
            }
        };
        assert_eq!(arrived.len(), frame.len());
        at_server.send(&frame).unwrap();
        let is_back =
            (0..20).any(|_| at_client.receive(Duration::from_secs(2)).unwrap().is_some_and(|got| got == frame));
        assert!(is_back);
    }
}
