//! Options: spaces, names, codes, and the types that turn text into bytes (reference sections 6 and 7).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::option_table::STANDARD;

/// An option space, by order of creation; 0 is `dhcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId(pub u16);

impl SpaceId {
    /// The options of the message itself.
    pub const DHCP: Self = Self(0);
    /// Sub-options of option 82.
    pub const AGENT: Self = Self(1);
    /// The virtual view of option 81.
    pub const FQDN: Self = Self(2);
    /// Sub-options of option 63.
    pub const NWIP: Self = Self(3);
    /// Vendor classes of option 124, by enterprise number.
    pub const VENDOR_CLASS: Self = Self(4);
    /// Vendor options of option 125, by enterprise number.
    pub const VENDOR: Self = Self(5);
}

/// An option by space and code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OptionRef {
    /// The space.
    pub space: SpaceId,
    /// The code within it.
    pub code: u32,
}

/// One element of an option's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Elem {
    /// IPv4 address, or a name for one.
    Ip,
    /// IPv6 address.
    Ip6,
    /// `on` / `off`.
    Flag,
    /// Unsigned number of this many bytes.
    Unsigned(u8),
    /// Signed number of this many bytes.
    Signed(u8),
    /// Quoted text or a bare word.
    Text,
    /// Quoted text or hexadecimal octets.
    Bytes,
    /// One domain name, encoded as in RFC 1035.
    Domain,
    /// Domain names, encoded as in RFC 1035, compressed when `true`.
    Domains(bool),
    /// Nothing.
    Zero,
}

/// How often the elements come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Repeat {
    /// Once.
    Once,
    /// The whole list of elements, any number of times, with commas.
    All,
    /// The last element, any number of times, with commas.
    Last,
}

/// The type of an option.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OptionType {
    /// Elements of one record.
    pub elems: Vec<Elem>,
    /// How often.
    pub repeat: Repeat,
    /// Whether the last element may be absent.
    pub optional_last: bool,
    /// The space whose options it encapsulates.
    pub encapsulates: Option<SpaceId>,
}

impl OptionType {
    /// One element, once.
    #[must_use]
    pub fn simple(elem: Elem) -> Self {
        Self { elems: vec![elem], repeat: Repeat::Once, optional_last: false, encapsulates: None }
    }

    /// The type as a definition writes it.
    #[must_use]
    pub fn text(&self, spaces: &Spaces) -> String {
        let word = |elem: &Elem| match elem {
            Elem::Ip => "ip-address",
            Elem::Ip6 => "ip6-address",
            Elem::Flag => "boolean",
            Elem::Unsigned(1) => "unsigned integer 8",
            Elem::Unsigned(2) => "unsigned integer 16",
            Elem::Unsigned(_) => "unsigned integer 32",
            Elem::Signed(1) => "signed integer 8",
            Elem::Signed(2) => "signed integer 16",
            Elem::Signed(_) => "signed integer 32",
            Elem::Text => "text",
            Elem::Bytes => "string",
            Elem::Domain => "domain-name",
            Elem::Domains(false) => "domain-list",
            Elem::Domains(true) => "domain-list compressed",
            Elem::Zero => "zerolength",
        };
        let mut words: Vec<String> = self.elems.iter().map(|elem| word(elem).to_owned()).collect();
        if self.repeat == Repeat::Last
            && let Some(last) = words.last_mut()
        {
            *last = format!("array of {last}");
        }
        if let Some(space) = self.encapsulates {
            if self.elems == [Elem::Bytes] {
                words.clear();
            }
            words.push(format!("encapsulate {}", spaces.name(space)));
        }
        let record = match &*words {
            [one] => one.clone(),
            many => format!("{{ {} }}", many.join(", ")),
        };
        if self.repeat == Repeat::All { format!("array of {record}") } else { record }
    }
}

/// A defined option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionDef {
    /// Name.
    pub name: Arc<str>,
    /// Type.
    pub ty: Arc<OptionType>,
    /// Whether the configuration defined it.
    pub is_custom: bool,
}

/// One space: names to codes and codes to definitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// Name.
    pub name: Arc<str>,
    /// Bytes of a code.
    pub code_width: u8,
    /// Bytes of a length.
    pub length_width: u8,
    /// Whether the configuration made it.
    pub is_custom: bool,
    names: HashMap<Box<str>, u32>,
    defs: BTreeMap<u32, OptionDef>,
}

/// All spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spaces {
    list: Vec<Space>,
}

impl Default for Spaces {
    fn default() -> Self {
        Self::new()
    }
}

impl Spaces {
    /// The standard spaces with the standard options.
    #[must_use]
    pub fn new() -> Self {
        let mut spaces = Self { list: Vec::new() };
        for (name, code_width, length_width) in
            [("dhcp", 1, 1), ("agent", 1, 1), ("fqdn", 1, 1), ("nwip", 1, 1), ("vendor-class", 4, 1), ("vendor", 4, 1)]
        {
            spaces.push(name, code_width, length_width, false);
        }
        for (space, code, name, signature) in STANDARD {
            let ty = Arc::new(parse_signature(signature));
            if let Some(space) = spaces.list.get_mut(usize::from(space.0)) {
                space.names.insert(name.to_ascii_lowercase().into(), *code);
                space.defs.insert(*code, OptionDef { name: (*name).into(), ty, is_custom: false });
            }
        }
        spaces
    }

    fn push(&mut self, name: &str, code_width: u8, length_width: u8, is_custom: bool) -> SpaceId {
        let id = SpaceId(u16::try_from(self.list.len()).unwrap_or(u16::MAX));
        self.list.push(Space {
            name: name.into(),
            code_width,
            length_width,
            is_custom,
            names: HashMap::new(),
            defs: BTreeMap::new(),
        });
        id
    }

    /// Makes a space, or changes the widths of the one with this name.
    pub fn define_space(&mut self, name: &str, code_width: u8, length_width: u8) -> SpaceId {
        if let Some(id) = self.space_by_name(name) {
            if let Some(space) = self.list.get_mut(usize::from(id.0)) {
                space.code_width = code_width;
                space.length_width = length_width;
            }
            return id;
        }
        self.push(name, code_width, length_width, true)
    }

    /// Number of spaces.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// A space by number.
    #[must_use]
    pub fn space(&self, id: SpaceId) -> Option<&Space> {
        self.list.get(usize::from(id.0))
    }

    /// Name of a space.
    #[must_use]
    pub fn name(&self, id: SpaceId) -> &str {
        self.space(id).map_or("", |space| &space.name)
    }

    /// A space by name, in any case of letters.
    #[must_use]
    pub fn space_by_name(&self, name: &str) -> Option<SpaceId> {
        let place = self.list.iter().position(|space| space.name.eq_ignore_ascii_case(name))?;
        u16::try_from(place).ok().map(SpaceId)
    }

    /// Names of all spaces.
    pub fn space_names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|space| &*space.name)
    }

    /// Spaces with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (SpaceId, &Space)> {
        self.list.iter().enumerate().map(|(place, space)| (SpaceId(u16::try_from(place).unwrap_or(u16::MAX)), space))
    }

    /// An option by name; `unknown-N` always exists.
    #[must_use]
    pub fn option_by_name(&self, space: SpaceId, name: &str) -> Option<OptionRef> {
        let lower = name.to_ascii_lowercase();
        let definition = self.space(space)?;
        if let Some(code) = definition.names.get(&*lower) {
            return Some(OptionRef { space, code: *code });
        }
        let code: u32 = lower.strip_prefix("unknown-")?.parse().ok()?;
        let max = match definition.code_width {
            1 => 255,
            2 => 65_535,
            _ => u32::MAX,
        };
        (code <= max).then_some(OptionRef { space, code })
    }

    /// A definition; `None` for a code without one.
    #[must_use]
    pub fn definition(&self, option: OptionRef) -> Option<&OptionDef> {
        self.space(option.space)?.defs.get(&option.code)
    }

    /// The type of an option; `string` for a code without definition.
    #[must_use]
    pub fn type_of(&self, option: OptionRef) -> Arc<OptionType> {
        self.definition(option).map_or_else(|| Arc::new(OptionType::simple(Elem::Bytes)), |def| Arc::clone(&def.ty))
    }

    /// Name of an option with its space, as a statement writes it.
    #[must_use]
    pub fn option_name(&self, option: OptionRef) -> String {
        let name =
            self.definition(option).map_or_else(|| format!("unknown-{}", option.code), |def| def.name.to_string());
        if option.space == SpaceId::DHCP { name } else { format!("{}.{name}", self.name(option.space)) }
    }

    /// Defines an option, replacing whatever had its name or its code.
    pub fn define(&mut self, space: SpaceId, name: &str, code: u32, ty: OptionType) -> Option<OptionRef> {
        let target = self.list.get_mut(usize::from(space.0))?;
        let lower: Box<str> = name.to_ascii_lowercase().into();
        if let Some(old) = target.names.insert(lower, code)
            && old != code
            && target.defs.get(&old).is_some_and(|def| def.name.eq_ignore_ascii_case(name))
        {
            target.defs.remove(&old);
        }
        let def = OptionDef { name: name.into(), ty: Arc::new(ty), is_custom: true };
        target.defs.insert(code, def);
        Some(OptionRef { space, code })
    }

    /// Names of the options of a space, for suggestions.
    pub fn option_names(&self, space: SpaceId) -> impl Iterator<Item = &str> {
        self.space(space).into_iter().flat_map(|space| space.defs.values().map(|def| &*def.name))
    }

    /// Options of a space that the configuration defined, by code.
    pub fn custom_options(&self, space: SpaceId) -> impl Iterator<Item = (u32, &OptionDef)> {
        self.space(space)
            .into_iter()
            .flat_map(|space| space.defs.iter().filter(|(_, def)| def.is_custom).map(|(code, def)| (*code, def)))
    }

    /// Options that encapsulate a space, with that space; by space and code.
    pub fn encapsulations(&self) -> impl Iterator<Item = (OptionRef, SpaceId)> {
        self.iter().flat_map(|(space, definition)| {
            definition
                .defs
                .iter()
                .filter_map(move |(code, def)| Some((OptionRef { space, code: *code }, def.ty.encapsulates?)))
        })
    }

    /// No spaces at all.
    pub(super) const fn none() -> Self {
        Self { list: Vec::new() }
    }
}

/// Reads the short form of a type from the table of standard options.
fn parse_signature(signature: &str) -> OptionType {
    let mut ty = OptionType { elems: Vec::new(), repeat: Repeat::Once, optional_last: false, encapsulates: None };
    for letter in signature.chars() {
        match letter {
            'I' => ty.elems.push(Elem::Ip),
            '6' => ty.elems.push(Elem::Ip6),
            'f' => ty.elems.push(Elem::Flag),
            'B' => ty.elems.push(Elem::Unsigned(1)),
            'S' => ty.elems.push(Elem::Unsigned(2)),
            'L' => ty.elems.push(Elem::Unsigned(4)),
            'l' => ty.elems.push(Elem::Signed(4)),
            't' => ty.elems.push(Elem::Text),
            'd' => ty.elems.push(Elem::Domain),
            'D' => ty.elems.push(Elem::Domains(false)),
            'c' => {
                ty.elems.pop();
                ty.elems.push(Elem::Domains(true));
            }
            'Z' => ty.elems.push(Elem::Zero),
            'o' => ty.optional_last = true,
            'A' => ty.repeat = Repeat::All,
            'a' => ty.repeat = Repeat::Last,
            '1' | '2' | '3' | '4' | '5' => {
                ty.elems.push(Elem::Bytes);
                ty.encapsulates = letter.to_digit(10).and_then(|id| u16::try_from(id).ok()).map(SpaceId);
            }
            _ => ty.elems.push(Elem::Bytes),
        }
    }
    ty
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_options_are_found_by_name_in_any_case() {
        let spaces = Spaces::new();
        for (name, code) in [("routers", 3), ("Domain-Name", 15), ("loader-configfile", 209), ("unknown-252", 252)] {
            assert_eq!(spaces.option_by_name(SpaceId::DHCP, name).map(|option| option.code), Some(code), "{name}");
        }
        for name in ["wpad", "unknown-256", "unknown-x", "classless-routes"] {
            assert_eq!(spaces.option_by_name(SpaceId::DHCP, name), None, "{name}");
        }
        let circuit = spaces.option_by_name(SpaceId::AGENT, "circuit-id");
        assert_eq!(circuit, Some(OptionRef { space: SpaceId::AGENT, code: 1 }));
        assert_eq!(spaces.option_name(circuit.unwrap()), "agent.circuit-id");
    }

    #[test]
    fn a_new_definition_replaces_the_name_and_the_code() {
        let mut spaces = Spaces::new();
        let arch = spaces.define(SpaceId::DHCP, "arch", 93, OptionType::simple(Elem::Unsigned(2))).unwrap();
        assert_eq!(spaces.type_of(arch).repeat, Repeat::Once);
        assert_eq!(spaces.option_name(arch), "arch");
        spaces.define(SpaceId::DHCP, "arch", 250, OptionType::simple(Elem::Text));
        assert_eq!(spaces.option_by_name(SpaceId::DHCP, "arch").unwrap().code, 250);
    }
}
