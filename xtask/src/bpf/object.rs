//! What is done to the linked ELF file, and what is told about it.

use anyhow::{Context as _, Result, bail};
use object::build::elf::{Builder, SectionData};
use object::{Object as _, ObjectSection as _, SectionFlags, elf};

use crate::shed;

/// Bytes of one BPF instruction.
const INSTRUCTION_LEN: u64 = 8;

/// Removes `.debug_*` sections, their relocations, and what only they referred to.
pub(super) fn strip(file: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read64(file).context("the linked object cannot be read")?;
    for section in builder.sections.iter_mut() {
        let name = section.name.as_slice();
        if [&b".debug_"[..], b".rel.debug_", b".rela.debug_"].iter().any(|prefix| name.starts_with(prefix)) {
            section.delete = true;
        }
    }
    builder.delete_orphans();
    // A compiler-made symbol holds a hash that knows where the library sources lie: a number does as well.
    for (number, symbol) in builder.symbols.iter_mut().enumerate() {
        if is_mangled(symbol.name.as_slice()) {
            symbol.name = format!("local_{number}").into_bytes().into();
        }
    }
    // LLVM keeps the names of symbols and sections in one table; the writer wants two.
    if !builder.sections.iter().any(|section| matches!(section.data, SectionData::SectionString)) {
        let names = builder.sections.add();
        names.name = b".shstrtab"[..].into();
        names.sh_type = elf::SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    let mut bytes = Vec::new();
    builder.write(&mut bytes).context("the stripped object cannot be written")?;
    for kept in [".BTF", ".BTF.ext", "license"] {
        if object::File::parse(bytes.as_slice())?.section_by_name(kept).is_none() {
            bail!("the object has no section {kept}");
        }
    }
    Ok(bytes)
}

/// Whether the compiler made this name (v0 or legacy mangling).
fn is_mangled(name: &[u8]) -> bool {
    name.starts_with(b"_R") || name.starts_with(b"_ZN")
}

/// Says in a few words where two objects differ.
pub(super) fn difference(old: &[u8], new: &[u8]) -> String {
    let sizes = format!("{} bytes committed, {} built", old.len(), new.len());
    let (Ok(old), Ok(new)) = (object::File::parse(old), object::File::parse(new)) else {
        return format!("{sizes}; one of them is no ELF file");
    };
    let sections: Vec<String> = new
        .sections()
        .filter(|section| {
            let before = section.name().ok().and_then(|name| old.section_by_name(name));
            before.is_none_or(|before| before.data().ok() != section.data().ok())
        })
        .filter_map(|section| section.name().ok().map(str::to_owned))
        .collect();
    format!("{sizes}; sections that differ: {}", sections.join(" "))
}

/// Prints instruction counts and section sizes, and what the verifier says where it may be asked.
pub(super) fn describe(bytes: &[u8]) -> Result<()> {
    let file = object::File::parse(bytes)?;
    for section in file.sections() {
        let name = section.name().unwrap_or("?");
        let executable =
            matches!(section.flags(), SectionFlags::Elf { sh_flags } if sh_flags & u64::from(elf::SHF_EXECINSTR) != 0);
        if executable && section.size() > 0 {
            let count = section.size() / INSTRUCTION_LEN;
            shed::print(&format!("  {name:<14} {:>7} bytes  {count} instructions", section.size()));
        } else if section.size() > 0 {
            shed::print(&format!("  {name:<14} {:>7} bytes", section.size()));
        }
    }
    if shed::is_root() {
        match verify(bytes) {
            Ok(lines) => lines.iter().for_each(|line| shed::print(line)),
            Err(error) => bail!("the kernel does not take the object: {error:#}"),
        }
    } else {
        shed::print("  verifier: not asked (needs root)");
    }
    Ok(())
}

/// Loads every program of the object, lets it go again, and says what the verifier said.
fn verify(bytes: &[u8]) -> Result<Vec<String>> {
    let mut loaded = aya::Ebpf::load(bytes)?;
    let mut lines = Vec::new();
    for (name, program) in loaded.programs_mut() {
        let xdp: &mut aya::programs::Xdp = program.try_into()?;
        xdp.load()?;
        let info = xdp.info()?;
        let count = info.verified_instruction_count().map_or_else(|| String::from("?"), |count| count.to_string());
        let translated = info.size_translated().unwrap_or(0) / 8;
        let jitted = info.size_jitted();
        lines.push(format!(
            "  verifier: {name}: {count} instructions walked, {translated} after rewriting, {jitted} bytes of machine code"
        ));
    }
    Ok(lines)
}
