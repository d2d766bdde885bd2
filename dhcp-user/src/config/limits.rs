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
/// Deepest nesting of calls of functions made with `define`, at evaluation: recursion ends here with a null value.
pub const CALL_DEPTH_MAX: usize = 16;
/// Most statements one evaluation runs: a chain of functions that call each other many times ends here.
pub const STEPS_MAX: u32 = 100_000;
/// Most classes: every packet is tested against each.
pub const CLASS_COUNT_MAX: usize = 10_000;
/// Most option spaces.
pub const SPACE_COUNT_MAX: usize = 1_000;
/// Longest value of an expression, in bytes: more than any message holds.
pub const VALUE_LEN_MAX: usize = 65_535;
/// Most findings kept: the rest is only counted.
pub const DIAGNOSTICS_MAX: usize = 1_000;
/// Longest configuration file, in bytes: offsets are 32 bits.
pub const FILE_LEN_MAX: usize = 1 << 30;
