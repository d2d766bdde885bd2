//! The table of the language for people: every declaration, statement, expression, type and option, and what becomes
//! of it. Nothing here is claimed: each row has an example, which is read by the parser when the table is written.

use std::fmt::Write as _;

use super::diagnostic::Severity;
use super::load;
use super::options::{OptionRef, SpaceId, Spaces};
use super::param::{LDAP_PREFIX, PARAMS, ParamKind, REFUSED, Status, refused};

/// A word of the language, and a text that uses it.
struct Row {
    word: &'static str,
    example: &'static str,
}

const fn row(word: &'static str, example: &'static str) -> Row {
    Row { word, example }
}

/// What stands around an example, at the place that is marked `@`.
const IN_POOL: &str = "class \"c\" { } failover peer \"p\" { primary; address 10.0.0.1; peer address 10.0.0.2; mclt 600; \
     split 128; load balance max seconds 3; } subnet 10.0.0.0 netmask 255.255.255.0 { pool { failover peer \"p\"; \
     range 10.0.0.9; } pool { range 10.0.0.10; @ } }";
const IN_PEER: &str = "failover peer \"p\" { address 10.0.0.1; peer address 10.0.0.2; @ } \
     subnet 10.0.0.0 netmask 255.255.255.0 { pool { failover peer \"p\"; range 10.0.0.9; } }";
const PRIMARY: &str = "primary; mclt 600; split 128; load balance max seconds 3; ";

/// Heading, what stands around the examples, rows.
type Section = (&'static str, &'static str, &'static [Row]);

const SECTIONS: &[Section] = &[
    (
        "Declarations",
        "@",
        &[
            row("include", "include \"empty.conf\";"),
            row("shared-network", "shared-network n { subnet 10.0.0.0 netmask 255.255.255.0 { } }"),
            row("subnet", "subnet 10.0.0.0 netmask 255.255.255.0 { }"),
            row("pool", "subnet 10.0.0.0 netmask 255.255.255.0 { pool { range 10.0.0.10 10.0.0.20; } }"),
            row("range", "subnet 10.0.0.0 netmask 255.255.255.0 { range 10.0.0.10 10.0.0.20; }"),
            row("range dynamic-bootp", "subnet 10.0.0.0 netmask 255.255.255.0 { range dynamic-bootp 10.0.0.10; }"),
            row("interface", "subnet 10.0.0.0 netmask 255.255.255.0 { interface eth0; }"),
            row("group", "group { }"),
            row("host", "host h { }"),
            row("hardware", "host h { hardware ethernet 02:00:00:00:00:01; }"),
            row("fixed-address", "host h { fixed-address 10.0.0.5; }"),
            row("uid", "host h { uid \"x\"; }"),
            row("host-identifier", "host h { host-identifier option host-name \"x\"; }"),
            row("dynamic", "host h { dynamic; }"),
            row("deleted", "host h { deleted; }"),
            row("class", "class \"c\" { }"),
            row("match if", "class \"c\" { match if known; }"),
            row("match", "class \"c\" { match hardware; }"),
            row("spawn with", "class \"c\" { spawn with option agent.circuit-id; }"),
            row("lease limit", "class \"c\" { spawn with hardware; lease limit 4; }"),
            row("subclass", "class \"c\" { match hardware; } subclass \"c\" 1:02:00:00:00:00:01;"),
            row("vendor-class", "vendor-class \"v\" { }"),
            row("user-class", "user-class \"u\" { }"),
            row("authoritative", "authoritative;"),
            row("not authoritative", "not authoritative;"),
            row("key", "key k { algorithm hmac-md5; secret \"c2VjcmV0\"; }"),
            row("zone", "zone example.org. { primary 10.0.0.1; }"),
            row("option space", "option space s code width 2 length width 2 hash size 7;"),
            row("option ... code", "option x code 200 = text;"),
            row("db-time-format", "db-time-format local;"),
            row("lease-id-format", "lease-id-format hex;"),
            row("server-duid", "server-duid \"x\";"),
            row("% (notes of the migration assistant)", "% note;"),
        ],
    ),
    (
        "Permits of a pool",
        IN_POOL,
        &[
            row("allow known-clients", "allow known-clients;"),
            row("allow unknown-clients", "allow unknown-clients;"),
            row("allow known clients", "allow known clients;"),
            row("allow unknown clients", "allow unknown clients;"),
            row("allow members of", "allow members of \"c\";"),
            row("allow dynamic bootp clients", "allow dynamic bootp clients;"),
            row("allow all clients", "allow all clients;"),
            row("allow authenticated clients", "allow authenticated clients;"),
            row("allow unauthenticated clients", "allow unauthenticated clients;"),
            row("allow after", "allow after 4 2030/01/02 10:00:00;"),
            row("deny (each of these)", "deny members of \"c\";"),
            row("failover peer (reference)", "failover peer \"p\";"),
            row("no failover peer", "no failover peer;"),
        ],
    ),
    (
        "Settings of a failover peer",
        IN_PEER,
        &[
            row("primary", "primary; mclt 600; split 128; load balance max seconds 3;"),
            row("secondary", "secondary; load balance max seconds 3;"),
            row("address", "+address 10.0.0.1;"),
            row("peer address", "+peer address 10.0.0.2;"),
            row("port", "+port 647;"),
            row("peer port", "+peer port 847;"),
            row("max-response-delay", "+max-response-delay 60;"),
            row("max-unacked-updates", "+max-unacked-updates 10;"),
            row("mclt", "primary; mclt 600; split 128; load balance max seconds 3;"),
            row("split", "primary; mclt 600; split 128; load balance max seconds 3;"),
            row(
                "hba",
                "primary; mclt 600; load balance max seconds 3; hba ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:\
                 00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00;",
            ),
            row("load balance max seconds", "primary; mclt 600; split 128; load balance max seconds 3;"),
            row("auto-partner-down", "+auto-partner-down 600;"),
            row("max-lease-misbalance", "+max-lease-misbalance 15;"),
            row("max-lease-ownership", "+max-lease-ownership 10;"),
            row("min-balance", "+min-balance 60;"),
            row("max-balance", "+max-balance 3600;"),
            row("xdhcpd-link-key-file", "+xdhcpd-link-key-file \"/etc/dhcp/failover.key\";"),
        ],
    ),
    (
        "`allow`, `deny`, `ignore` outside of pools",
        "@",
        &[
            row("allow, deny, ignore (without a log line)", "ignore booting;"),
            row("unknown-clients", "deny unknown-clients;"),
            row("booting", "deny booting;"),
            row("bootp", "ignore bootp;"),
            row("declines", "deny declines;"),
            row("duplicates", "deny duplicates;"),
            row("client-updates", "deny client-updates;"),
            row("leasequery", "allow leasequery;"),
            row("dynamic-bootp", "deny dynamic-bootp;"),
        ],
    ),
    (
        "Statements",
        "@",
        &[
            row("option", "option domain-name \"x\";"),
            row("option NAME = EXPRESSION", "option domain-name = option host-name;"),
            row("option server.NAME", "option server.max-lease-time 600;"),
            row("server-identifier", "server-identifier 10.0.0.1;"),
            row("supersede", "supersede domain-name \"x\";"),
            row("default", "default domain-name \"x\";"),
            row("append", "append domain-name \"x\";"),
            row("prepend", "prepend domain-name \"x\";"),
            row("send", "send domain-name \"x\";"),
            row("PARAMETER = EXPRESSION", "max-lease-time = encode-int(600, 32);"),
            row("if", "if known { }"),
            row("elsif", "if known { } elsif static { }"),
            row("else if", "if known { } else if static { }"),
            row("else", "if known { } else { }"),
            row("switch", "switch (option host-name) { case \"a\": break; default: log(info, \"x\"); }"),
            row("case", "switch (lease-time) { case 3: break; }"),
            row("set", "set v = option host-name;"),
            row("unset", "unset v;"),
            row("define", "define f(a) { return a; }"),
            row("log", "log(info, \"x\");"),
            row("execute", "execute(\"/bin/true\", \"x\");"),
            row("on commit", "on commit { log(info, \"x\"); }"),
            row("on expiry or release", "on expiry or release { log(info, \"x\"); }"),
            row("add", "class \"c\" { } add \"c\";"),
            row("eval", "eval lease-time;"),
            row("return", "return;"),
            row("break", "break;"),
            row("parse-vendor-option", "parse-vendor-option;"),
        ],
    ),
    (
        "Expressions",
        "if @ { }",
        &[
            row("A = B, A != B", "option host-name = \"a\" and option host-name != \"b\""),
            row("A ~= REGEX", "option host-name ~= \"^a\""),
            row("A ~~ REGEX", "option host-name ~~ \"^a\""),
            row("and", "known and static"),
            row("or", "known or static"),
            row("not", "not known"),
            row("exists", "exists host-name"),
            row("known", "known"),
            row("static", "static"),
            row("check", "check \"c\""),
            row("defined", "defined(v)"),
            row("VARIABLE", "v"),
            row("FUNCTION(...)", "f(1)"),
            row("option", "option host-name = \"a\""),
            row("config-option", "config-option domain-name = \"a\""),
            row("hardware", "hardware = 1:2:0:0:0:0:1"),
            row("packet", "packet(0, 1) = 1"),
            row("substring", "substring(hardware, 1, 3) = 2:0:0"),
            row("suffix", "suffix(hardware, 1) = 1"),
            row("lcase", "lcase(option host-name) = \"a\""),
            row("ucase", "ucase(option host-name) = \"A\""),
            row("concat", "concat(option host-name, \"a\") = \"aa\""),
            row("reverse", "reverse(1, hardware) = 1"),
            row("binary-to-ascii", "binary-to-ascii(16, 8, \":\", hardware) = \"1\""),
            row("encode-int", "encode-int(1, 8) = 1"),
            row("extract-int", "extract-int(hardware, 8) = 1"),
            row("pick-first-value", "pick-first-value(option host-name, \"a\") = \"a\""),
            row("pick", "pick(option host-name, \"a\") = \"a\""),
            row("leased-address", "leased-address = 10:0:0:1"),
            row("host-decl-name", "host-decl-name = \"h\""),
            row("lease-time", "lease-time = 600"),
            row("client-state", "client-state = \"x\""),
            row("filename", "filename = \"x\""),
            row("server-name", "server-name = \"x\""),
            row("gethostname", "gethostname() = \"x\""),
            row("gethostbyname", "gethostbyname(\"a.example.org\") = 10:0:0:1"),
            row("null", "option host-name = null"),
            row("+ - * / % & | ^", "lease-time + 1 - 2 * 3 / 4 % 5 & 6 | 7 ^ 8 = 9"),
            row("ns-update", "ns-update()"),
            row("updated-dns-rr", "updated-dns-rr"),
            row("v6relay", "v6relay(1, option host-name) = \"x\""),
        ],
    ),
    (
        "Types of options",
        "option space s; option x code 200 = @;",
        &[
            row("boolean", "boolean"),
            row("integer 8, 16, 32", "integer 8"),
            row("signed integer", "signed integer 16"),
            row("unsigned integer", "unsigned integer 32"),
            row("ip-address", "ip-address"),
            row("ip6-address", "ip6-address"),
            row("text", "text"),
            row("string", "string"),
            row("domain-name", "domain-name"),
            row("domain-list", "domain-list"),
            row("domain-list compressed", "domain-list compressed"),
            row("zerolength", "zerolength"),
            row("encapsulate", "encapsulate s"),
            row("array of", "array of ip-address"),
            row("{ record }", "{ ip-address, integer 8 }"),
            row("array of { record }", "array of { ip-address, integer 8 }"),
            row("{ record, array of }", "{ ip-address, array of integer 8 }"),
        ],
    ),
];

/// The whole table, in Markdown.
#[must_use]
pub fn markdown() -> String {
    let mut out = String::from(
        "# What is understood of dhcpd.conf\n\n\
         Written by `XDHCPD_BLESS=1 cargo test -p tests --test config statements`; a test compares it with what the \
         parser does, so change the code and write it again. Where there is an example its verdict is the parser's: \
         **obeyed** (read without a word, and acted on), **warned** (read, and the warning says what is not done), \
         **refused** (with the error).\n\n",
    );
    for (heading, around, rows) in SECTIONS {
        let _ = write!(out, "## {heading}\n\n| word | example | |\n| --- | --- | --- |\n");
        for row in *rows {
            let example = row.example.strip_prefix('+').unwrap_or(row.example);
            let _ = writeln!(out, "| `{}` | `{}` | {} |", cell(row.word), cell(example), cell(&verdict(around, row)));
        }
        out.push('\n');
    }
    parameters(&mut out);
    options(&mut out);
    out
}

/// What the parser says of an example.
fn verdict(around: &str, row: &Row) -> String {
    let example = match row.example.strip_prefix('+') {
        Some(rest) => format!("{PRIMARY}{rest}"),
        None => row.example.to_owned(),
    };
    // What the examples of expressions speak of, and two words that mean nothing outside of functions and lists.
    let before = if row.word == "break" || row.word == "return" { "" } else { "class \"c\" { match hardware; } " };
    let before =
        if around.contains("if @") { "class \"c\" { match hardware; } define f(a) { return a; } " } else { before };
    let before = if row.example.contains("class \"c\"") || around.contains("class \"c\"") { "" } else { before };
    let text = format!("{before}{}", around.replace('@', &example));
    let loaded = load("dhcpd.conf", &mut |name| match name {
        "dhcpd.conf" => Ok(text.clone().into_bytes()),
        _ => Ok(Vec::new()),
    });
    let worst = loaded.diagnostics.iter().min_by_key(|one| one.severity != Severity::Error);
    match worst {
        None => "obeyed".to_owned(),
        Some(one) => {
            let label = if one.label.is_empty() { String::new() } else { format!(" ({})", one.label) };
            let word = if one.severity == Severity::Error { "refused" } else { "warned" };
            format!("{word}: {}{label}", one.message)
        }
    }
}

fn parameters(out: &mut String) {
    out.push_str("## Parameters\n\n| name | value | default | |\n| --- | --- | --- | --- |\n");
    for info in PARAMS {
        let kind = match info.kind {
            ParamKind::Secs => "seconds, or `infinite`".to_owned(),
            ParamKind::Flag => "`on`, `off`, `true`, `false`".to_owned(),
            ParamKind::U8 => "0 to 255".to_owned(),
            ParamKind::U16 => "0 to 65535".to_owned(),
            ParamKind::U32 => "32 bits".to_owned(),
            ParamKind::Ip => "address or host name".to_owned(),
            ParamKind::Text => "text".to_owned(),
            ParamKind::Space => "name of an option space".to_owned(),
            ParamKind::Word(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
            ParamKind::Date => "date".to_owned(),
            ParamKind::Curve => "`SECONDS, PERCENT SECONDS, ...`".to_owned(),
        };
        let default = match (info.kind, info.default) {
            (ParamKind::Flag, Some(value)) => if value == 0 { "off" } else { "on" }.to_owned(),
            (ParamKind::Word(words), Some(value)) => words.get(value as usize).copied().unwrap_or_default().to_owned(),
            (_, Some(value)) => value.to_string(),
            (_, None) => String::new(),
        };
        let status = match info.status {
            Status::Acts if info.process_wide => "obeyed, at the top level; warned inside of blocks",
            Status::Acts => "obeyed",
            Status::Later => "warned: accepted but does nothing here",
            Status::Ddns => "read; warned when `ddns-update-style` is not `none`: dynamic DNS updates are not done",
        };
        let own = if info.param.is_extension() { "; known to this server only" } else { "" };
        let _ = writeln!(out, "| `{}` | {kind} | {default} | {status}{own} |", info.name);
    }
    out.push_str("\n## Refused\n\n| name | |\n| --- | --- |\n");
    for (name, why) in REFUSED {
        let _ = writeln!(out, "| `{name}` | refused: {why} |");
    }
    let why = refused(LDAP_PREFIX).unwrap_or_default();
    let _ = writeln!(out, "| `{LDAP_PREFIX}...` | refused: {why} |");
}

fn options(out: &mut String) {
    let spaces = Spaces::new();
    out.push_str(
        "\n## Options\n\nAny other code N of a space has the name `unknown-N` and the type `string`. All are obeyed; \
         values for the spaces `agent` and `fqdn` are read with a warning, since they are never sent.\n\n\
         | space | code | name | type |\n| --- | --- | --- | --- |\n",
    );
    for (id, space) in spaces.iter() {
        for code in 0..=u32::from(u8::MAX) {
            let option = OptionRef { space: id, code };
            if let Some(definition) = spaces.definition(option) {
                let name = if id == SpaceId::DHCP { definition.name.to_string() } else { spaces.option_name(option) };
                let _ = writeln!(out, "| {} | {code} | `{name}` | {} |", space.name, definition.ty.text(&spaces));
            }
        }
    }
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn every_word_that_the_parser_knows_has_a_row() {
        let rows: Vec<&str> = SECTIONS.iter().flat_map(|(_, _, rows)| rows.iter().map(|row| row.word)).collect();
        for word in parse::words() {
            assert!(
                rows.iter().any(|row| row.split([' ', ',']).any(|part| part == word)),
                "`{word}` has no row in SECTIONS; give it one with an example"
            );
        }
    }
}
