//! Options: spaces, names, codes and the types that turn text into bytes.

/// An option space, by order of creation; 0 is `dhcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceId(pub u16);

impl SpaceId {
    /// The options of the message itself.
    pub const DHCP: Self = Self(0);
}

/// An option by space and code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OptionRef {
    /// The space.
    pub space: SpaceId,
    /// The code within it.
    pub code: u32,
}
