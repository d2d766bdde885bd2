use super::{Client, SUBNET, config, errors, plain, warnings};
use crate::config::{Config, Evaluation, LogPriority, VariableValue};

/// Option values of the client of these tests.
const SENT: &[(u8, &[u8])] =
    &[(12, b"Host"), (60, b"PXEClient:Arch:00007"), (82, &[1, 4, b'p', b'1', b'/', b'3', 2, 2, 0xaa, 0xbb, 9, 1, 7])];

fn evaluate(text: &str) -> Evaluation {
    Client::new(SENT).at(&config(&format!("{text}{SUBNET}")), [10, 0, 0, 10])
}

fn holds(condition: &str) -> bool {
    let evaluation =
        evaluate(&format!("if {condition} {{ option domain-name \"yes\"; }} else {{ option domain-name \"no\"; }}"));
    evaluation.option(15) == Some(b"yes")
}

#[test]
fn null_is_equal_to_null_only_and_spoils_and() {
    for (condition, want) in [
        ("option root-path = null", true),
        ("option root-path = option nis-domain", true),
        ("option root-path = \"a\"", false),
        ("option root-path != \"a\"", true),
        ("option root-path != null", false),
        ("\"a\" = \"a\" and option host-name = \"Host\"", true),
        ("\"a\" = \"b\" and \"a\" = \"a\"", false),
        ("not (\"a\" = \"b\" and \"a\" = \"a\")", false),
        ("not (\"a\" = \"b\")", true),
        ("\"a\" = \"a\" or \"a\" = \"b\"", true),
        ("option root-path ~= \"x\" or \"a\" = \"b\"", false),
        ("not (option root-path ~= \"x\")", false),
        ("foo = \"a\"", false),
        ("foo", false),
    ] {
        assert_eq!(holds(condition), want, "{condition}");
    }
}

#[test]
fn and_and_or_are_read_from_the_right() {
    // Observed with dhcpd 4.4.3-P1.
    assert!(!holds("\"a\" = \"b\" and \"b\" = \"b\" or \"d\" = \"d\""));
    assert!(holds("\"a\" = \"a\" or \"b\" = \"c\" and \"d\" = \"e\""));
    let text = format!("if known and static or known {{ }}{SUBNET}");
    assert_eq!(warnings(&text), ["dhcpd.conf:1:21: `and` and `or` are mixed without parentheses"]);
    assert_eq!(warnings(&format!("if (known and (static or known)) {{ }}{SUBNET}")), Vec::<String>::new());
}

#[test]
fn operators_on_numbers_bind_as_in_dhcpd() {
    // Observed with dhcpd 4.4.3-P1: `& | ^` before `+ -` before `* / %`, each to the left.
    for (expression, want) in [
        ("2 + 3 * 4", 20),
        ("2 * 3 + 4", 14),
        ("100 / 5 / 2", 10),
        ("12 & 10 | 1", 9),
        ("1 | 12 & 10", 8),
        ("1 + 12 & 10", 9),
        ("12 & 10 + 1", 9),
        ("3 ^ 1 & 1", 0),
        ("7 % 4", 3),
        ("(2 + 3) * (4 - 1)", 15),
        ("0x10 + 010", 24),
    ] {
        let evaluation = evaluate(&format!("option dhcp-renewal-time = encode-int({expression}, 32);"));
        assert_eq!(evaluation.option(58), Some(&u32::to_be_bytes(want)[..]), "{expression}");
    }
    assert_eq!(evaluate("option dhcp-renewal-time = encode-int(1 / 0, 32);").option(58), None);
}

#[test]
fn comparisons_see_what_the_client_sent() {
    for (condition, want) in [
        ("option host-name = \"Host\"", true),
        ("lcase(option host-name) = \"host\"", true),
        ("substring(option vendor-class-identifier, 0, 9) = \"PXEClient\"", true),
        ("substring (option vendor-class-identifier, 15, 5) = \"00007\"", true),
        ("suffix(option vendor-class-identifier, 2) = \"07\"", true),
        ("option vendor-class-identifier ~= \"^PXE.*7$\"", true),
        ("option vendor-class-identifier ~~ \"^pxe\"", true),
        ("option vendor-class-identifier ~= \"^pxe\"", false),
        ("option agent.circuit-id = \"p1/3\"", true),
        ("option agent.remote-id = aa:bb", true),
        ("option agent.unknown-9 = 07", true),
        ("exists agent.circuit-id and not exists agent.link-selection", true),
        ("hardware = 1:2:0:0:0:0:1", true),
        ("substring(hardware, 1, 3) = 02:00:00", true),
        ("binary-to-ascii(16, 8, \":\", substring(hardware, 1, 6)) = \"2:0:0:0:0:1\"", true),
        ("packet(28, 2) = 02:00", true),
        ("extract-int(option agent.remote-id, 16) = 43707", true),
        ("extract-int(\"a\", 8) & 2 = 2", false),
        ("leased-address = 0a:00:00:0a", true),
        ("lease-time = 300", true),
        ("known", false),
        ("not known", true),
        ("substring(option host-name, 9, 2) = \"\"", true),
        ("concat(option host-name, option root-path) = null", true),
        ("pick-first-value(option root-path, option host-name) = \"Host\"", true),
        ("reverse(1, \"abc\") = \"cba\"", true),
        ("reverse(2, \"abcd\") = \"cdab\"", true),
        ("ucase(\"a1\") = \"A1\"", true),
        ("gethostbyname(\"nowhere\") = null", true),
    ] {
        assert_eq!(holds(condition), want, "{condition}");
    }
}

#[test]
fn the_test_for_a_random_mac_compiles_in_a_class() {
    let text = format!(
        "class \"random\" {{ match if (extract-int(substring(hardware, 1, 1), 8) & 2) = 2; option domain-name \"random\"; }}{SUBNET}"
    );
    assert_eq!(Client::new(&[]).at(&config(&text), [10, 0, 0, 10]).option(15), Some(&b"random"[..]));
}

#[test]
fn what_dhcpd_does_not_take_is_an_error_here_too() {
    for (statement, want) in [
        ("if not \"a\" = \"b\" { }", "1:8: expected a boolean expression after `not`"),
        ("if (extract-int(\"a\", 8) & 2) = 2 { }", "1:5: expected a boolean expression"),
        ("if (known) and known { }", "1:12: expected `{`"),
        ("if \"a\" { }", "1:4: expected a boolean expression"),
        ("if \"a\" = \"a\" = \"a\" { }", "1:14: comparisons cannot be chained"),
        ("if known = static { }", "1:4: expected data or a number before the comparison"),
        ("if \"a\" ! \"b\" { }", "1:10: expected `=` after `!`"),
        ("if check \"none\" { }", "1:10: no class named \"none\""),
        ("if option nothing = \"a\" { }", "1:11: unknown option `nothing`"),
        ("elseif known { }", "1:1: `elseif` without an `if` before it"),
        ("option domain-name = concat(\"a\");", "1:22: `concat` wants at least two values"),
        ("if \"a\" ~= \"(\" { }", "1:11: this regular expression cannot be used"),
        ("if 1 & 2 { }", "1:4: expected a numeric expression"),
    ] {
        let found = errors(&format!("{statement}{SUBNET}"));
        assert_eq!(found.first().map(String::as_str), Some(&*format!("dhcpd.conf:{want}")), "{statement}: {found:?}");
    }
}

#[test]
fn a_bare_number_is_an_octet_where_data_is_wanted() {
    let evaluation = evaluate("set n = 31;");
    assert_eq!(evaluation.variables.get("n"), Some(&VariableValue::Data(b"1"[..].into())));
    assert_eq!(evaluate("set n = encode-int(31, 8);").variables.get("n"), Some(&VariableValue::Data([31][..].into())));
    assert!(holds("2 = 2"));
    let found = warnings(&format!("default-lease-time = 60;{SUBNET}"));
    assert_eq!(found, ["dhcpd.conf:1:1: `default-lease-time` gets 1 bytes where 4 are wanted"]);
}

#[test]
fn variables_and_functions_work() {
    let evaluation = evaluate(
        "define twice(x) { return concat(x, x); }
         set va = twice(option host-name); set vb = \"b\"; unset vb; set vc = extract-int(\"a\", 8);
         option domain-name = va; set vd = defined(va); set ve = lease-time;",
    );
    assert_eq!(evaluation.option(15), Some(&b"HostHost"[..]));
    assert_eq!(evaluation.variables.get("vb"), None);
    assert_eq!(evaluation.variables.get("vc"), Some(&VariableValue::Number(97)));
    assert_eq!(evaluation.variables.get("vd"), Some(&VariableValue::Boolean(true)));
    let names: Vec<_> = evaluation.variables.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["ve", "vd", "vc", "va"]);
    assert!(evaluation.variables_changed);
    assert!(!evaluate("option domain-name \"x\";").variables_changed);
}

#[test]
fn options_are_evaluated_when_all_scopes_have_run() {
    // dhcpd keeps the expression; a variable set later is seen.
    let evaluation =
        evaluate("option domain-name = late; set late = \"x\"; option nis-domain = config-option domain-name;");
    assert_eq!(evaluation.option(15), Some(&b"x"[..]));
    assert_eq!(evaluation.option(40), Some(&b"x"[..]));
    let evaluation = evaluate("option domain-name \"a\"; if known { } else { option domain-name = option root-path; }");
    assert_eq!(evaluation.option(15), None);
}

#[test]
fn functions_that_call_themselves_end() {
    let evaluation = evaluate("define f(x) { return f(concat(x, x)); } option domain-name = f(\"a\");");
    assert_eq!(evaluation.option(15), None);
    let evaluation = evaluate("option domain-name = config-option domain-name;");
    assert_eq!(evaluation.option(15), None);
}

#[test]
fn a_switch_falls_through_until_a_break() {
    let text = |value: &str| {
        format!(
            "switch ({value}) {{ case \"a\": option domain-name \"1\"; break;
             case \"b\": option root-path \"2\"; default: option nis-domain \"3\"; }}"
        )
    };
    let codes = |value: &str| evaluate(&text(value)).codes().collect::<Vec<_>>();
    assert_eq!(codes("\"a\""), [15]);
    assert_eq!(codes("\"b\""), [17, 40]);
    assert_eq!(codes("\"c\""), [40]);
    assert_eq!(codes("option root-path"), [40]);
    // dhcpd: a break inside an `if` ends only that.
    let evaluation = evaluate("switch (\"a\") { case \"a\": if known { } else { break; } option domain-name \"x\"; }");
    assert_eq!(evaluation.option(15), Some(&b"x"[..]));
    let evaluation = evaluate("switch (lease-time) { case 300: option domain-name \"n\"; }");
    assert_eq!(evaluation.option(15), Some(&b"n"[..]));
}

#[test]
fn elsif_and_else_if_are_the_same() {
    for word in ["elsif", "else if"] {
        let text = format!(
            "if known {{ option domain-name \"1\"; }} {word} option host-name = \"Host\" {{ option domain-name \"2\"; }} else {{ option domain-name \"3\"; }}"
        );
        assert_eq!(evaluate(&text).option(15), Some(&b"2"[..]), "{word}");
    }
}

#[test]
fn log_and_execute_come_out_as_values() {
    let evaluation = evaluate(
        "log(info, concat(\"host \", option host-name)); log(\"plain\"); log(error, option root-path);
         execute(\"/bin/hook\", \"commit\", option host-name); execute(\"/bin/none\", option root-path);",
    );
    let lines: Vec<_> = evaluation.logs.iter().map(|line| (line.priority, &*line.text)).collect();
    assert_eq!(lines, [(LogPriority::Info, &b"host Host"[..]), (LogPriority::Debug, &b"plain"[..])]);
    assert_eq!(evaluation.executions.len(), 1);
    assert_eq!(&*evaluation.executions[0].program, "/bin/hook");
    assert_eq!(*evaluation.executions[0].arguments, [b"commit"[..].into(), b"Host"[..].into()]);
    assert!(evaluation.depends.hooks && evaluation.depends.logs);
}

#[test]
fn a_hook_runs_when_it_is_asked_to_and_reads_back_from_its_text() {
    let text = format!(
        "on commit {{ set mac = binary-to-ascii(16, 8, \":\", substring(hardware, 1, 6)); option root-path \"hook\";
           if option host-name = \"Host\" {{ execute(\"/bin/x\", mac); }} }}
         on expiry or release {{ log(info, \"gone\"); }}{SUBNET}"
    );
    let config: Config = config(&text);
    let client = Client::new(SENT);
    let mut evaluation = client.at(&config, [10, 0, 0, 10]);
    assert!(evaluation.depends.hooks && evaluation.executions.is_empty() && evaluation.option(17).is_none());
    let hook = evaluation.on_commit.clone().unwrap();
    config.run_hook(&hook, &client.context(), &mut evaluation);
    assert_eq!(evaluation.option(17), Some(&b"hook"[..]));
    assert_eq!(*evaluation.executions[0].arguments, [b"2:0:0:0:0:1"[..].into()]);
    assert_eq!(evaluation.on_expiry, evaluation.on_release);
    let expiry = evaluation.on_expiry.unwrap();
    assert_eq!(expiry.text(), "    log(info, \"gone\");\n");
    assert_eq!(config.parse_hook(expiry.text()).unwrap().text(), expiry.text());
    assert_eq!(config.parse_hook(hook.text()).unwrap().text(), hook.text());
    assert!(config.parse_hook("no such thing;").is_err());
}

#[test]
fn what_an_answer_depends_on_is_reported() {
    let depends = |text: &str| evaluate(text).depends;
    assert!(!depends("option domain-name = concat(option host-name, \".example\");").is_anything());
    assert!(depends("option domain-name = packet(0, 1);").message);
    assert!(depends("if filename = \"x\" { }").message);
    assert!(depends("option domain-name = seen-before;").lease);
    assert!(!depends("set va = \"x\"; option domain-name = va;").is_anything());
    assert!(depends("if lease-time = 3 { }").lease);
    assert!(depends("next-server boot.example.org;").names);
    assert!(!depends("on expiry { log(\"x\"); }").is_anything());
    assert!(depends("log(\"x\");").logs);
}

#[test]
fn names_are_brought_in_from_outside() {
    let mut config =
        config(&format!("option domain-name-servers ns1.example.org, 10.0.0.1; next-server boot;{SUBNET}"));
    assert_eq!(config.host_names().collect::<Vec<_>>(), ["ns1.example.org", "boot"]);
    let client = Client::new(&[]);
    assert_eq!(client.at(&config, [10, 0, 0, 10]).option(6), None);
    config.resolve("ns1.example.org", &[[10, 1, 1, 1].into(), [10, 1, 1, 2].into()]);
    config.resolve("boot", &[[10, 2, 2, 2].into(), [10, 2, 2, 3].into()]);
    let evaluation = client.at(&config, [10, 0, 0, 10]);
    assert_eq!(evaluation.option(6), Some(&[10, 1, 1, 1, 10, 1, 1, 2, 10, 0, 0, 1][..]));
    assert_eq!(evaluation.param(crate::config::Param::NextServer), Some(&[10, 2, 2, 2][..]));
}

#[test]
fn plain_has_no_request_options() {
    assert_eq!(plain("if exists host-name { option domain-name \"x\"; }").option(15), None);
}
