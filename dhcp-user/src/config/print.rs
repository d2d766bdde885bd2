//! Statements and expressions back to text.

use super::Config;
use super::comments::Comments;
use super::domain;
use super::evaluate::LogPriority;
use super::options::{Elem, OptionRef, OptionType, Repeat};
use super::param::{Param, ParamKind};
use super::statement::{Arith, Case, Expr, Function, Mode, Pattern, Statement, StatementKind, Target};

/// Indentation of one level, in spaces.
const STEP: usize = 2;

/// The body of a hook, as it stands in a lease record: dhcpd indents it by four spaces.
pub(super) fn hook_text(body: &[Statement], config: &Config) -> String {
    let (mut comments, mut out) = (Comments::default(), String::new());
    for statement in body {
        write_statement(statement, config, 4, &mut comments, &mut out);
    }
    out
}

fn line(indent: usize, text: &str, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
    out.push_str(text);
    out.push('\n');
}

/// Writes a statement with its end of line, and the comments that belong to it.
pub(super) fn write_statement(
    statement: &Statement,
    config: &Config,
    indent: usize,
    comments: &mut Comments,
    out: &mut String,
) {
    comments.before(statement.span, indent, out);
    write_bare(statement, config, indent, comments, out);
    comments.beside(statement.span, out);
}

fn write_bare(statement: &Statement, config: &Config, indent: usize, comments: &mut Comments, out: &mut String) {
    let inner = indent.saturating_add(STEP);
    let block = |body: &[Statement], number: usize, comments: &mut Comments, out: &mut String| {
        for statement in body {
            write_statement(statement, config, inner, comments, out);
        }
        comments.end(statement.span, number, inner, out);
    };
    match &statement.kind {
        StatementKind::Assign { mode, target, value, is_literal } => {
            line(indent, &assignment(*mode, *target, value, *is_literal, config), out);
        }
        StatementKind::If { arms, otherwise } => {
            for (place, (condition, body)) in arms.iter().enumerate() {
                let head = if place == 0 { "if" } else { "} elsif" };
                line(indent, &format!("{head} {} {{", condition_text(condition, config)), out);
                block(body, place, comments, out);
            }
            if let Some(body) = otherwise {
                line(indent, "} else {", out);
                block(body, arms.len(), comments, out);
            }
            line(indent, "}", out);
        }
        StatementKind::Switch { on, cases, body } => {
            line(indent, &format!("switch ({}) {{", expression(on, config)), out);
            let mut cases = &**cases;
            for (place, statement) in body.iter().enumerate() {
                cases = write_labels(cases, place, config, indent, out);
                write_statement(statement, config, inner, comments, out);
            }
            write_labels(cases, body.len(), config, indent, out);
            comments.end(statement.span, 0, inner, out);
            line(indent, "}", out);
        }
        StatementKind::Set(name, value) => line(indent, &format!("set {name} = {};", expression(value, config)), out),
        StatementKind::Unset(name) => line(indent, &format!("unset {name};"), out),
        StatementKind::Define(name, function) => {
            let Function { parameters, body } = &**function;
            line(indent, &format!("define {name}({}) {{", parameters.join(", ")), out);
            block(body, 0, comments, out);
            line(indent, "}", out);
        }
        StatementKind::Eval(value) => line(indent, &format!("eval {};", expression(value, config)), out),
        StatementKind::Return(None) => line(indent, "return;", out),
        StatementKind::Return(Some(value)) => line(indent, &format!("return {};", expression(value, config)), out),
        StatementKind::Break => line(indent, "break;", out),
        StatementKind::Log(priority, value) => {
            let priority = match priority {
                LogPriority::Fatal => "fatal",
                LogPriority::Error => "error",
                LogPriority::Info => "info",
                LogPriority::Debug => "debug",
            };
            line(indent, &format!("log({priority}, {});", expression(value, config)), out);
        }
        StatementKind::Execute(program, arguments) => {
            let mut text = format!("execute({}", quote(program.as_bytes()));
            for argument in arguments {
                text.push_str(", ");
                text.push_str(&expression(argument, config));
            }
            line(indent, &format!("{text});"), out);
        }
        StatementKind::On(events, hook) => {
            let mut words = Vec::new();
            for (is_set, word) in [(events.commit, "commit"), (events.expiry, "expiry"), (events.release, "release")] {
                if is_set {
                    words.push(word);
                }
            }
            line(indent, &format!("on {} {{", words.join(" or ")), out);
            block(&hook.body, 0, comments, out);
            line(indent, "}", out);
        }
        StatementKind::Add(class) => {
            line(indent, &format!("add {};", quote(config.class_name(*class).as_bytes())), out);
        }
        StatementKind::ParseVendorOption => line(indent, "parse-vendor-option;", out),
    }
}

/// Writes the labels at one place; they are in the order of their places. Returns the others.
fn write_labels<'c>(cases: &'c [Case], place: usize, config: &Config, indent: usize, out: &mut String) -> &'c [Case] {
    let mut rest = cases;
    while let [case, others @ ..] = rest
        && case.first <= place
    {
        match &case.value {
            Some(value) => line(indent, &format!("case {}:", expression(value, config)), out),
            None => line(indent, "default:", out),
        }
        rest = others;
    }
    rest
}

fn assignment(mode: Mode, target: Target, value: &Expr, is_literal: bool, config: &Config) -> String {
    let option_head = |option: OptionRef| {
        let name = config.spaces.option_name(option);
        match mode {
            Mode::Supersede => format!("option {name}"),
            Mode::Default => format!("default {name}"),
            Mode::Append => format!("append {name}"),
            Mode::Prepend => format!("prepend {name}"),
        }
    };
    let (head, literal) = match target {
        Target::Option(option) => {
            let ty = config.spaces.type_of(option);
            (option_head(option), literal_option(&ty, value, config))
        }
        Target::Param(param) => {
            let literal = literal_param(param, value, config);
            (param.name().to_owned(), literal)
        }
    };
    match literal.filter(|_| is_literal) {
        // `allow` and `deny` have no other spelling for these.
        Some(literal) if matches!(target, Target::Param(Param::DynamicBootp)) => {
            let verb = match &*literal {
                "on" => "allow",
                "off" => "deny",
                _ => "ignore",
            };
            format!("{verb} dynamic-bootp;")
        }
        Some(literal) if literal.is_empty() => format!("{head};"),
        Some(literal) => format!("{head} {literal};"),
        None => format!("{head} = {};", expression(value, config)),
    }
}

/// A value as its type writes it; `None` when the bytes do not have this type.
fn literal_option(ty: &OptionType, value: &Expr, config: &Config) -> Option<String> {
    match value {
        Expr::Const(bytes) => typed_text(ty, bytes),
        Expr::Resolved { name, .. } => Some(config.names.get(*name)?.0.clone()),
        Expr::Concat(parts) if ty.elems == [Elem::Ip] => {
            let texts: Option<Vec<String>> = parts.iter().map(|part| literal_option(ty, part, config)).collect();
            Some(texts?.join(", "))
        }
        _ => None,
    }
}

/// The bytes of a parameter as the configuration writes them.
pub(super) fn param_text(param: Param, bytes: &[u8], config: &Config) -> String {
    literal_param(param, &Expr::bytes(bytes), config).unwrap_or_else(|| bytes_text(bytes))
}

fn literal_param(param: Param, value: &Expr, config: &Config) -> Option<String> {
    if let Expr::Resolved { name, .. } = value {
        return Some(config.names.get(*name)?.0.clone());
    }
    let Expr::Const(bytes) = value else { return None };
    Some(match param.info().kind {
        ParamKind::Secs | ParamKind::Date => match u32::from_be_bytes(bytes.as_ref().try_into().ok()?) {
            u32::MAX => "infinite".to_owned(),
            secs => secs.to_string(),
        },
        ParamKind::U32 => u32::from_be_bytes(bytes.as_ref().try_into().ok()?).to_string(),
        ParamKind::U16 => u16::from_be_bytes(bytes.as_ref().try_into().ok()?).to_string(),
        ParamKind::U8 => <[u8; 1]>::try_from(&**bytes).ok()?.first()?.to_string(),
        ParamKind::Flag => flag_text(*bytes.first()?)?.to_owned(),
        ParamKind::Ip => typed_text(&OptionType::simple(Elem::Ip), bytes)?,
        ParamKind::Text => quote(bytes),
        ParamKind::Space if param == Param::SiteOptionSpace => quote(bytes),
        ParamKind::Space => String::from_utf8_lossy(bytes).into_owned(),
        ParamKind::Word(words) => (*words.get(usize::from(*bytes.first()?))?).to_owned(),
        ParamKind::Curve => {
            let mut texts = Vec::new();
            for step in bytes.chunks(5) {
                let (percent, secs) = step.split_first()?;
                let secs = match u32::from_be_bytes(secs.try_into().ok()?) {
                    u32::MAX => "infinite".to_owned(),
                    secs => secs.to_string(),
                };
                texts.push(if texts.is_empty() { secs } else { format!("{percent} {secs}") });
            }
            texts.join(", ")
        }
    })
}

const fn flag_text(byte: u8) -> Option<&'static str> {
    match byte {
        0 => Some("off"),
        1 => Some("on"),
        2 => Some("ignore"),
        _ => None,
    }
}

/// The bytes of an option as a statement of its type writes them; `None` when they do not fit the type.
pub(super) fn typed_text(ty: &OptionType, bytes: &[u8]) -> Option<String> {
    let mut records: Vec<String> = Vec::new();
    let mut rest = bytes;
    loop {
        let mut words: Vec<String> = Vec::new();
        let last = ty.elems.len().saturating_sub(1);
        for (place, elem) in ty.elems.iter().enumerate() {
            if ty.optional_last && place == last && rest.is_empty() {
                break;
            }
            words.push(elem_text(*elem, &mut rest)?);
            while place == last && ty.repeat == Repeat::Last && !rest.is_empty() {
                let more = elem_text(*elem, &mut rest)?;
                let word = words.last_mut()?;
                word.push_str(", ");
                word.push_str(&more);
            }
        }
        records.push(words.join(" "));
        if ty.repeat != Repeat::All || rest.is_empty() {
            break;
        }
    }
    rest.is_empty().then(|| records.join(", "))
}

fn elem_text(elem: Elem, rest: &mut &[u8]) -> Option<String> {
    let all = rest.len();
    let mut take = |count: usize| {
        let (head, tail) = rest.split_at_checked(count)?;
        *rest = tail;
        Some(head)
    };
    let number = |bytes: &[u8]| bytes.iter().fold(0_u32, |value, byte| value << 8 | u32::from(*byte));
    Some(match elem {
        Elem::Ip => std::net::Ipv4Addr::from(*take(4)?.first_chunk()?).to_string(),
        Elem::Ip6 => std::net::Ipv6Addr::from(*take(16)?.first_chunk()?).to_string(),
        Elem::Flag => flag_text(*take(1)?.first()?)?.to_owned(),
        Elem::Unsigned(width) => number(take(usize::from(width))?).to_string(),
        Elem::Signed(1) => i8::from_be_bytes(*take(1)?.first_chunk()?).to_string(),
        Elem::Signed(2) => i16::from_be_bytes(*take(2)?.first_chunk()?).to_string(),
        Elem::Signed(_) => i32::from_be_bytes(*take(4)?.first_chunk()?).to_string(),
        Elem::Text => quote(take(all)?),
        Elem::Bytes => {
            let bytes = take(all)?;
            if bytes.is_empty() { "\"\"".to_owned() } else { bytes_text(bytes) }
        }
        Elem::Domain => {
            let names = domain::decode(take(all)?)?;
            let [name] = <[String; 1]>::try_from(names).ok()?;
            // dhcpd refuses quotes here; without them a name is made of words and numbers.
            let is_word = |label: &str| {
                label.starts_with(|first: char| first.is_ascii_alphanumeric())
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            };
            if name.split('.').all(is_word) { name } else { quote(name.as_bytes()) }
        }
        Elem::Domains(compressed) => {
            let bytes = take(all)?;
            let names = domain::decode(bytes)?;
            // Only what would be encoded in the same way again.
            if domain::encode(names.iter().map(String::as_str), compressed).as_deref() != Some(bytes) {
                return None;
            }
            names.iter().map(|name| quote(name.as_bytes())).collect::<Vec<_>>().join(", ")
        }
        Elem::Zero => String::new(),
    })
}

/// Bytes as quoted text when they are printable, else as octets.
pub(super) fn bytes_text(bytes: &[u8]) -> String {
    let is_text = !bytes.is_empty() && bytes.iter().all(|byte| matches!(byte, 0x20..=0x7e));
    if is_text || bytes.is_empty() {
        return quote(bytes);
    }
    let octets: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    octets.join(":")
}

/// Quoted text; what is not printable as three octal digits.
pub(super) fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().saturating_add(2));
    out.push('"');
    for byte in bytes {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(char::from(*byte));
            }
            0x20..=0x7e => out.push(char::from(*byte)),
            _ => out.push_str(&format!("\\{byte:03o}")),
        }
    }
    out.push('"');
    out
}

/// The condition of an `if`: within parentheses when it would begin with one.
fn condition_text(condition: &Expr, config: &Config) -> String {
    let text = expression(condition, config);
    if text.starts_with('(') { format!("({text})") } else { text }
}

/// An operand: in parentheses when it has operators of its own.
fn operand(expr: &Expr, config: &Config) -> String {
    let text = expression(expr, config);
    let is_compound = matches!(
        expr,
        Expr::And(_)
            | Expr::Or(_)
            | Expr::Equal(_)
            | Expr::NotEqual(_)
            | Expr::Match { .. }
            | Expr::Arith(..)
            | Expr::Not(_)
    );
    if is_compound { format!("({text})") } else { text }
}

fn list(all: &[Expr], config: &Config) -> String {
    all.iter().map(|one| expression(one, config)).collect::<Vec<_>>().join(", ")
}

/// An expression as text.
pub(super) fn expression(expr: &Expr, config: &Config) -> String {
    let pair = |two: &[Expr; 2], operator: &str| {
        let [left, right] = two;
        format!("{} {operator} {}", operand(left, config), operand(right, config))
    };
    match expr {
        Expr::Const(bytes) => bytes_text(bytes),
        Expr::Null => "null".to_owned(),
        Expr::Option(option) => format!("option {}", config.spaces.option_name(*option)),
        Expr::ConfigOption(option) => format!("config-option {}", config.spaces.option_name(*option)),
        Expr::Hardware => "hardware".to_owned(),
        Expr::LeasedAddress => "leased-address".to_owned(),
        Expr::HostDeclName => "host-decl-name".to_owned(),
        Expr::ClientState => "client-state".to_owned(),
        Expr::Filename => "filename".to_owned(),
        Expr::ServerName => "server-name".to_owned(),
        Expr::MachineName => "gethostname()".to_owned(),
        Expr::Resolved { name, .. } => {
            let name = config.names.get(*name).map_or("", |(name, _)| name);
            format!("gethostbyname({})", quote(name.as_bytes()))
        }
        Expr::Packet(two) => format!("packet({})", list(&**two, config)),
        Expr::Substring(three) => format!("substring({})", list(&**three, config)),
        Expr::Suffix(two) => format!("suffix({})", list(&**two, config)),
        Expr::Lcase(one) => format!("lcase({})", expression(one, config)),
        Expr::Ucase(one) => format!("ucase({})", expression(one, config)),
        Expr::Concat(all) => format!("concat({})", list(all, config)),
        Expr::Reverse(two) => format!("reverse({})", list(&**two, config)),
        Expr::BinaryToAscii(four) => format!("binary-to-ascii({})", list(&**four, config)),
        Expr::EncodeInt(one, bits) => format!("encode-int({}, {bits})", expression(one, config)),
        Expr::ExtractInt(one, bits) => format!("extract-int({}, {bits})", expression(one, config)),
        Expr::Pick(all) => format!("pick-first-value({})", list(all, config)),
        Expr::Variable(name) => name.to_string(),
        Expr::Call(name, all) => format!("{name}({})", list(all, config)),
        Expr::Number(value) => value.to_string(),
        Expr::LeaseTime => "lease-time".to_owned(),
        Expr::Arith(operator, two) => {
            let sign = match operator {
                Arith::Add => "+",
                Arith::Subtract => "-",
                Arith::Multiply => "*",
                Arith::Divide => "/",
                Arith::Remainder => "%",
                Arith::And => "&",
                Arith::Or => "|",
                Arith::Xor => "^",
            };
            pair(two, sign)
        }
        Expr::Equal(two) => pair(two, "="),
        Expr::NotEqual(two) => pair(two, "!="),
        Expr::Match { data, pattern, ignore_case } => {
            let operator = if *ignore_case { "~~" } else { "~=" };
            let pattern = match pattern {
                Pattern::Fixed(bytes, _) => bytes_text(bytes),
                Pattern::Computed(expr) => operand(expr, config),
            };
            format!("{} {operator} {pattern}", operand(data, config))
        }
        Expr::And(two) => pair(two, "and"),
        Expr::Or(two) => pair(two, "or"),
        Expr::Not(one) => format!("not {}", operand(one, config)),
        Expr::Exists(option) => format!("exists {}", config.spaces.option_name(*option)),
        Expr::Known => "known".to_owned(),
        Expr::Static => "static".to_owned(),
        Expr::Check(class) => format!("check {}", quote(config.class_name(*class).as_bytes())),
        Expr::Defined(name) => format!("defined({name})"),
    }
}
