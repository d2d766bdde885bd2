//! Expressions of one packet (reference section 9).

use std::borrow::Cow;

use dhcp_ebpf::wire::option::code;

use super::{Bytes, Machine};
use crate::config::context::{Context, VariableValue};
use crate::config::limits::{CALL_DEPTH_MAX, VALUE_LEN_MAX};
use crate::config::options::{OptionRef, SpaceId};
use crate::config::pattern;
use crate::config::received;
use crate::config::statement::{Arith, Expr, ExprKind, Function, Pattern, Target};

/// Options that say who a client is, or where.
const NAMING: [u32; 5] = [
    code::HOST_NAME as u32,
    code::REQUESTED_ADDRESS as u32,
    code::CLIENT_IDENTIFIER as u32,
    code::FQDN as u32,
    code::RELAY_AGENT as u32,
];

impl<'c> Machine<'c> {
    /// The value of any expression; `None` is null.
    pub(super) fn value(&mut self, expr: &'c Expr) -> Option<VariableValue> {
        match expr {
            Expr::Variable(name) => self.variable(name),
            Expr::Call(name, arguments) => self.call(name, arguments),
            _ => match expr.kind() {
                ExprKind::Data | ExprKind::Any => self.data(expr).map(|bytes| VariableValue::Data(bytes.into())),
                ExprKind::Number => self.number(expr).map(VariableValue::Number),
                ExprKind::Boolean => self.boolean(expr).map(VariableValue::Boolean),
            },
        }
    }

    fn variable(&mut self, name: &str) -> Option<VariableValue> {
        if let Some((_, value)) = self.locals.iter().rev().find(|(local, _)| *local == name) {
            return value.clone();
        }
        if !self.assigned.contains(name) {
            self.out.depends.lease = true;
        }
        let variables = if self.out.has_variables { &self.out.variables } else { self.context.variables };
        variables.get(name).cloned()
    }

    fn call(&mut self, name: &str, arguments: &'c [Expr]) -> Option<VariableValue> {
        if self.calls >= CALL_DEPTH_MAX {
            return None;
        }
        let known = self.functions.get(name).copied();
        let function: &'c Function = match known {
            Some(function) => function,
            None => self.config.global_functions.get(name)?,
        };
        let values: Vec<Option<VariableValue>> = arguments.iter().map(|argument| self.value(argument)).collect();
        let before = self.locals.len();
        let mut values = values.into_iter();
        for parameter in &function.parameters {
            self.locals.push((parameter, values.next().flatten()));
        }
        self.calls = self.calls.saturating_add(1);
        let outer = self.returned.take();
        self.list(&function.body);
        let result = std::mem::replace(&mut self.returned, outer);
        self.calls = self.calls.saturating_sub(1);
        self.locals.truncate(before);
        result
    }

    /// The value of a boolean expression; `None` is null.
    pub(in crate::config) fn boolean(&mut self, expr: &'c Expr) -> Option<bool> {
        match expr {
            Expr::Equal(sides) => {
                let [left, right] = &**sides;
                self.equal(left, right)
            }
            Expr::NotEqual(sides) => {
                let [left, right] = &**sides;
                self.equal(left, right).map(|equal| !equal)
            }
            Expr::Match { data, pattern, ignore_case } => {
                let data = self.data(data)?;
                match pattern {
                    Pattern::Fixed(_, regex) => Some(regex.is_match(&data)),
                    Pattern::Computed(pattern) => {
                        let pattern = self.data(pattern)?;
                        pattern::compile(&pattern, *ignore_case).ok().map(|regex| regex.is_match(&data))
                    }
                }
            }
            // dhcpd: the right side stays open when the left is not true, and then so does the whole.
            Expr::And(sides) => {
                let [left, right] = &**sides;
                if self.boolean(left) == Some(true) { self.boolean(right) } else { None }
            }
            Expr::Or(sides) => {
                let [left, right] = &**sides;
                let left = self.boolean(left);
                if left == Some(true) {
                    return left;
                }
                self.boolean(right).or(left)
            }
            Expr::Not(operand) => self.boolean(operand).map(|value| !value),
            Expr::Exists(option) => Some(self.received(*option).is_some()),
            Expr::Known => {
                self.out.depends.client = true;
                Some(self.context.known)
            }
            Expr::Static => {
                self.out.depends.client = true;
                Some(self.context.is_static)
            }
            Expr::Check(class) => {
                let (depends, steps) = (&mut self.out.depends, &mut self.steps);
                Some(self.config.is_member(*class, self.context, depends, self.checks, steps))
            }
            Expr::Defined(name) => Some(self.variable(name).is_some()),
            Expr::Variable(_) | Expr::Call(..) => match self.value(expr)? {
                VariableValue::Boolean(value) => Some(value),
                VariableValue::Number(value) => Some(value != 0),
                VariableValue::Data(_) => None,
            },
            _ => None,
        }
    }

    fn equal(&mut self, left: &'c Expr, right: &'c Expr) -> Option<bool> {
        if left.kind() == ExprKind::Data && right.kind() == ExprKind::Data {
            let left = self.data(left);
            return Some(left == self.data(right));
        }
        let left = self.value(left);
        Some(left == self.value(right))
    }

    /// The value of a numeric expression; `None` is null.
    pub(in crate::config) fn number(&mut self, expr: &'c Expr) -> Option<u64> {
        match expr {
            Expr::Number(value) => Some(*value),
            Expr::LeaseTime => {
                self.out.depends.lease = true;
                self.context.lease_time.map(u64::from)
            }
            Expr::ExtractInt(data, bits) => {
                let data = self.data(data)?;
                Some(match bits {
                    8 => u64::from(*data.first()?),
                    16 => u64::from(u16::from_be_bytes(*data.first_chunk()?)),
                    _ => u64::from(u32::from_be_bytes(*data.first_chunk()?)),
                })
            }
            Expr::Arith(operator, sides) => {
                let [left, right] = &**sides;
                let (left, right) = (self.number(left)?, self.number(right)?);
                match operator {
                    Arith::Add => Some(left.wrapping_add(right)),
                    Arith::Subtract => Some(left.wrapping_sub(right)),
                    Arith::Multiply => Some(left.wrapping_mul(right)),
                    Arith::Divide => left.checked_div(right),
                    Arith::Remainder => left.checked_rem(right),
                    Arith::And => Some(left & right),
                    Arith::Or => Some(left | right),
                    Arith::Xor => Some(left ^ right),
                }
            }
            Expr::Variable(_) | Expr::Call(..) => match self.value(expr)? {
                VariableValue::Number(value) => Some(value),
                VariableValue::Data(_) | VariableValue::Boolean(_) => None,
            },
            _ => None,
        }
    }

    fn length(&mut self, expr: &'c Expr) -> Option<usize> {
        self.number(expr).map(|value| usize::try_from(value).unwrap_or(usize::MAX))
    }

    /// The value of a data expression; `None` is null.
    pub(in crate::config) fn data(&mut self, expr: &'c Expr) -> Option<Bytes<'c>> {
        match expr {
            Expr::Const(bytes) => Some(Cow::Borrowed(bytes)),
            Expr::Null | Expr::ClientState => None,
            Expr::Option(option) => self.received(*option),
            Expr::ConfigOption(option) => {
                let place = self.out.place(Target::Option(*option))?;
                self.slot(place).map(|bytes| Cow::Owned(bytes.to_vec()))
            }
            Expr::Hardware => {
                self.out.depends.client = true;
                let mut bytes = vec![self.context.hw.htype()];
                bytes.extend_from_slice(self.context.hw.bytes());
                Some(Cow::Owned(bytes))
            }
            Expr::LeasedAddress => {
                self.out.depends.client = true;
                self.context.leased_address.map(|address| Cow::Owned(address.octets().to_vec()))
            }
            Expr::HostDeclName => {
                self.out.depends.client = true;
                self.context.host_decl_name.map(|name| Cow::Borrowed(name.as_bytes()))
            }
            Expr::Filename => {
                self.out.depends.message = true;
                received::c_string(self.context.message.get(108..236)?).map(Cow::Borrowed)
            }
            Expr::ServerName => {
                self.out.depends.message = true;
                received::c_string(self.context.message.get(44..108)?).map(Cow::Borrowed)
            }
            Expr::MachineName => self.config.machine_name.as_deref().map(|name| Cow::Borrowed(name.as_bytes())),
            Expr::Resolved { name, all } => {
                self.out.depends.names = true;
                let addresses = &self.config.names.get(*name)?.1;
                let wanted = if *all { addresses.len() } else { 1 };
                let bytes: Vec<u8> = addresses.iter().take(wanted).flat_map(|address| address.octets()).collect();
                (!bytes.is_empty()).then_some(Cow::Owned(bytes))
            }
            Expr::Packet(two) => {
                self.out.depends.message = true;
                let [offset, len] = &**two;
                let (offset, len) = (self.length(offset)?, self.length(len)?);
                let message = self.context.message;
                (offset < message.len()).then(|| Cow::Borrowed(window(message, offset, len)))
            }
            Expr::Substring(three) => {
                let [data, offset, len] = &**three;
                let data = self.data(data)?;
                let (offset, len) = (self.length(offset)?, self.length(len)?);
                Some(match data {
                    Cow::Borrowed(data) => Cow::Borrowed(window(data, offset, len)),
                    Cow::Owned(data) => Cow::Owned(window(&data, offset, len).to_vec()),
                })
            }
            Expr::Suffix(two) => {
                let [data, len] = &**two;
                let data = self.data(data)?;
                let offset = data.len().saturating_sub(self.length(len)?);
                Some(Cow::Owned(data.get(offset..).unwrap_or_default().to_vec()))
            }
            Expr::Lcase(data) => self.data(data).map(|data| Cow::Owned(data.to_ascii_lowercase())),
            Expr::Ucase(data) => self.data(data).map(|data| Cow::Owned(data.to_ascii_uppercase())),
            Expr::Concat(parts) => {
                let mut out = Vec::new();
                for part in parts {
                    out.extend_from_slice(&self.data(part)?);
                    if out.len() > VALUE_LEN_MAX {
                        return None;
                    }
                }
                Some(Cow::Owned(out))
            }
            Expr::Reverse(two) => {
                let [width, data] = &**two;
                let width = self.length(width)?;
                let data = self.data(data)?;
                if width == 0 || data.len().checked_rem(width) != Some(0) {
                    return None;
                }
                Some(Cow::Owned(data.chunks(width).rev().flatten().copied().collect()))
            }
            Expr::BinaryToAscii(four) => {
                let [base, bits, separator, data] = &**four;
                let (base, bits) = (self.number(base)?, self.number(bits)?);
                let separator = self.data(separator)?;
                let data = self.data(data)?;
                binary_to_ascii(base, bits, &separator, &data).map(Cow::Owned)
            }
            Expr::EncodeInt(value, bits) => {
                let bytes = self.number(value)?.to_be_bytes();
                let skip = 8_usize.saturating_sub(usize::from(*bits / 8));
                bytes.get(skip..).map(|bytes| Cow::Owned(bytes.to_vec()))
            }
            Expr::Pick(values) => values.iter().find_map(|value| self.data(value)),
            Expr::Variable(_) | Expr::Call(..) => match self.value(expr)? {
                VariableValue::Data(bytes) => Some(Cow::Owned(bytes.to_vec())),
                VariableValue::Number(_) | VariableValue::Boolean(_) => None,
            },
            _ => None,
        }
    }

    /// An option of the request, of any space.
    pub(super) fn received(&mut self, option: OptionRef) -> Option<Bytes<'c>> {
        let context: &'c Context<'c> = self.context;
        // Suboptions are taken for options that name somebody: of most spaces they are option 82's.
        self.out.depends.client |= option.space != SpaceId::DHCP || NAMING.contains(&option.code);
        if option.space == SpaceId::DHCP {
            return context.options.get(u8::try_from(option.code).ok()?).map(Cow::Borrowed);
        }
        received::suboption(self.config, context.options, option)
    }
}

/// Up to `len` bytes from `offset`; empty past the end.
fn window(data: &[u8], offset: usize, len: usize) -> &[u8] {
    let rest = data.get(offset..).unwrap_or_default();
    rest.get(..len).unwrap_or(rest)
}

/// Numbers of `bits` bits each in `base`, joined; no leading zeros.
fn binary_to_ascii(base: u64, bits: u64, separator: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    let width = match bits {
        8 => 1,
        16 => 2,
        32 => 4,
        _ => return None,
    };
    if !(2..=16).contains(&base) || data.len().checked_rem(width) != Some(0) {
        return None;
    }
    let mut out = Vec::new();
    for (place, chunk) in data.chunks(width).enumerate() {
        if place > 0 {
            out.extend_from_slice(separator);
        }
        let mut value = chunk.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let mut digits = Vec::new();
        loop {
            let digit = value.checked_rem(base).and_then(|digit| u32::try_from(digit).ok()).unwrap_or(0);
            digits.push(char::from_digit(digit, 16).map_or(b'0', |digit| u8::try_from(digit).unwrap_or(b'0')));
            value = value.checked_div(base).unwrap_or(0);
            if value == 0 {
                break;
            }
        }
        digits.reverse();
        out.extend_from_slice(&digits);
        if out.len() > VALUE_LEN_MAX {
            return None;
        }
    }
    Some(out)
}
