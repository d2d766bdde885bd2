//! Bounds on what a configuration may ask of us: each names its unit and says why it is there.

/// Longest token, in bytes (dhcpd: its token buffer).
pub const TOKEN_LEN_MAX: usize = 1500;
/// Deepest nesting of blocks: keeps the recursive descent well inside a thread's stack.
pub const NESTING_MAX: usize = 64;
/// Deepest nesting of `include`: a file that includes itself through others is found before, by name.
pub const INCLUDE_DEPTH_MAX: usize = 32;
/// Most files one configuration may open.
pub const INCLUDE_COUNT_MAX: usize = 10_000;
/// Deepest nesting of parentheses and operators in one expression, and of function calls when it is evaluated.
pub const EXPRESSION_DEPTH_MAX: usize = 64;
/// Most operators in one expression: each `and`, `or`, `+` and their like makes it one deeper when it is evaluated.
pub const EXPRESSION_OPERATORS_MAX: usize = 1024;
/// Most parameters of one function.
pub const FUNCTION_PARAMETERS_MAX: usize = 64;
/// Most variables that one configuration may set: they are looked up by name, and each may go into every lease.
pub const VARIABLE_COUNT_MAX: usize = 1_000;
/// Deepest nesting of calls of functions made with `define`, at evaluation: recursion ends here with a null value.
pub const CALL_DEPTH_MAX: usize = 16;
/// Most statements one evaluation runs, and most parts it joins: a chain of functions that call each other many times
/// ends here.
pub const STEPS_MAX: u32 = 100_000;
/// Most classes: every packet is tested against each.
pub const CLASS_COUNT_MAX: usize = 10_000;
/// Most option spaces.
pub const SPACE_COUNT_MAX: usize = 1_000;
/// Most failover peers.
pub const PEER_COUNT_MAX: usize = 1_000;
/// Most different netmasks: an address is looked up under each; without holes there are 33.
pub const NETMASK_COUNT_MAX: usize = 64;
/// Most different options that identify hosts: each is looked up for every packet.
pub const IDENTIFIER_COUNT_MAX: usize = 64;
/// Longest value of an expression, in bytes: more than any message holds.
pub const VALUE_LEN_MAX: usize = 65_535;
/// Most findings kept: the rest is only counted.
pub const DIAGNOSTICS_MAX: usize = 1_000;
/// Most known words that a misspelled one is compared with.
pub const SUGGESTIONS_MAX: usize = 1_000;
/// Longest piece of a line that is shown with a finding, in bytes, on either side of its place.
pub const EXCERPT_LEN_MAX: usize = 200;
/// Longest configuration, in bytes of all its files: offsets are 32 bits, and the model takes a few times as much.
pub const TEXT_LEN_MAX: usize = 1 << 28;
