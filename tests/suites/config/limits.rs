//! Limits of a configuration: each is crossed once, and no text of several megabytes takes more than its share of time.

#![expect(clippy::disallowed_methods, reason = "that nothing is quadratic is seen on a clock")]

use std::time::{Duration, Instant};

use dhcp_user::config::convert::convert;
use dhcp_user::config::limits::{
    CALL_DEPTH_MAX, CLASS_COUNT_MAX, DIAGNOSTICS_MAX, EXPRESSION_DEPTH_MAX, EXPRESSION_OPERATORS_MAX,
    FUNCTION_PARAMETERS_MAX, IDENTIFIER_COUNT_MAX, INCLUDE_COUNT_MAX, INCLUDE_DEPTH_MAX, NESTING_MAX,
    NETMASK_COUNT_MAX, PEER_COUNT_MAX, SPACE_COUNT_MAX, STEPS_MAX, TEXT_LEN_MAX, TOKEN_LEN_MAX, VALUE_LEN_MAX,
    VARIABLE_COUNT_MAX,
};
use dhcp_user::config::{Chain, Context, Loaded, ReceivedOptions, Severity, Variables, load};

/// A subnet, so that what else is in the text can be served.
const SUBNET: &str = "subnet 10.0.0.0 netmask 255.255.255.0 { range 10.0.0.10 10.0.0.20; }\n";

fn load_text(text: &str) -> Loaded {
    load("dhcpd.conf", &mut |name| if name == "dhcpd.conf" { Ok(text.into()) } else { Err("no such file".into()) })
}

/// First lines of the errors.
fn errors(loaded: &Loaded) -> Vec<String> {
    let errors = loaded.diagnostics.iter().filter(|one| one.severity == Severity::Error);
    errors.map(|one| one.message.clone()).collect()
}

/// `count` pieces of text, each made from its number.
fn many(count: usize, piece: impl Fn(usize) -> String) -> String {
    (0..count).map(piece).collect()
}

/// A limit: just below nothing is said of it, just above there is this one error.
#[track_caller]
fn crossed(message: &str, below: &str, above: &str) {
    let loaded = load_text(below);
    assert!(loaded.config.is_some(), "{message}: below the limit\n{}", loaded.diagnostics.render(false));
    let loaded = load_text(above);
    assert!(loaded.config.is_none(), "{message}: above the limit");
    assert_eq!(errors(&loaded), [message]);
    assert_eq!(loaded.diagnostics.errors_count(), 1);
}

#[test]
fn blocks_are_nested_up_to_the_limit() {
    let nested = |depth: usize| "group {".repeat(depth) + &"}".repeat(depth);
    crossed("blocks are nested too deep", &nested(NESTING_MAX), &nested(NESTING_MAX + 1));
    let nested = |depth: usize| "if known {".repeat(depth) + &"}".repeat(depth);
    crossed("blocks are nested too deep", &nested(NESTING_MAX), &nested(NESTING_MAX + 1));
    let nested = |depth: usize| "switch (lease-time) { case 1:".repeat(depth) + &"}".repeat(depth);
    crossed("blocks are nested too deep", &nested(NESTING_MAX), &nested(NESTING_MAX + 1));
}

#[test]
fn files_include_files_up_to_the_limit() {
    let chain = |depth: usize| {
        load("0", &mut |name| {
            let number: usize = name.parse().unwrap();
            Ok(if number < depth { format!("include \"{}\";", number + 1).into() } else { Vec::new() })
        })
    };
    assert!(chain(INCLUDE_DEPTH_MAX - 1).config.is_some());
    assert_eq!(errors(&chain(INCLUDE_DEPTH_MAX)), ["too many includes"]);
    let flat = |count: usize| {
        let text = many(count, |number| format!("include \"{number}\";"));
        load("main", &mut |name| Ok(if name == "main" { text.clone().into() } else { Vec::new() }))
    };
    assert!(flat(INCLUDE_COUNT_MAX - 1).config.is_some());
    assert_eq!(errors(&flat(INCLUDE_COUNT_MAX)), ["too many includes"]);
}

#[test]
fn a_text_that_has_no_end_is_refused_before_it_is_read() {
    let endless = |len: usize| {
        load("main", &mut |name| Ok(if name == "main" { b"include \"zero\";".to_vec() } else { vec![b'\n'; len] }))
    };
    assert_eq!(errors(&endless(TEXT_LEN_MAX)), ["`zero` is too long"]);
    // The same as the program: a device that never ends.
    let output = tests::agent::verdict(None, &["check".as_ref(), "/dev/zero".as_ref()]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("`/dev/zero` is too long"), "{said}");
}

#[test]
fn tokens_expressions_and_functions_have_limits() {
    let word = |len: usize| format!("group {} {{ }}", "a".repeat(len));
    crossed("token too long", &word(TOKEN_LEN_MAX), &word(TOKEN_LEN_MAX + 1));
    let quoted = |len: usize| format!("option domain-name \"{}\";", "a".repeat(len - 2));
    crossed("token too long", &quoted(TOKEN_LEN_MAX), &quoted(TOKEN_LEN_MAX + 1));
    let deep = |depth: usize| format!("option domain-name = {}hardware{};", "lcase(".repeat(depth), ")".repeat(depth));
    // A function and its argument are two levels each.
    crossed("expression is nested too deep", &deep(EXPRESSION_DEPTH_MAX / 2 - 1), &deep(EXPRESSION_DEPTH_MAX / 2));
    let long = |operators: usize| format!("if known{} {{ }}", " or known".repeat(operators));
    crossed("expression is too long", &long(EXPRESSION_OPERATORS_MAX), &long(EXPRESSION_OPERATORS_MAX + 1));
    let long = |operators: usize| format!("set a = lease-time{};", " + 1".repeat(operators));
    crossed("expression is too long", &long(EXPRESSION_OPERATORS_MAX), &long(EXPRESSION_OPERATORS_MAX + 1));
    let function =
        |count: usize| format!("define f({}) {{ return 1; }}", many(count, |number| format!("p{number},")) + "last");
    crossed(
        "a function with too many parameters",
        &function(FUNCTION_PARAMETERS_MAX - 1),
        &function(FUNCTION_PARAMETERS_MAX),
    );
}

#[test]
fn what_every_packet_is_tested_against_has_limits() {
    let classes = |count: usize| many(count, |number| format!("class \"{number}\" {{ match hardware; }}\n"));
    crossed("too many classes", &classes(CLASS_COUNT_MAX), &classes(CLASS_COUNT_MAX + 1));
    let masks = |count: usize| many(count, |number| format!("subnet 10.0.0.0 netmask 255.0.0.{number} {{ }}\n"));
    crossed("too many different netmasks", &masks(NETMASK_COUNT_MAX), &masks(NETMASK_COUNT_MAX + 1));
    let hosts = |count: usize| {
        let one = |number| format!("host h{number} {{ host-identifier option s.unknown-{number} \"x\"; }}\n");
        String::from("option space s;\n") + &many(count, one)
    };
    crossed(
        "too many different options identify hosts",
        &hosts(IDENTIFIER_COUNT_MAX),
        &hosts(IDENTIFIER_COUNT_MAX + 1),
    );
    let variables = |count: usize| many(count, |number| format!("set v{number} = \"x\";\n"));
    crossed("too many variables", &variables(VARIABLE_COUNT_MAX), &variables(VARIABLE_COUNT_MAX + 1));
    // Six spaces are there already.
    let spaces = |count: usize| many(count, |number| format!("option space s{number};\n"));
    crossed("too many option spaces", &spaces(SPACE_COUNT_MAX - 6), &spaces(SPACE_COUNT_MAX - 5));
}

#[test]
fn failover_peers_have_a_limit() {
    let peers = |count: usize| {
        many(count, |number| {
            format!(
                "failover peer \"p{number}\" {{ primary; address 10.0.0.1; peer address 10.0.0.2; mclt 600; split 128; \
                 load balance max seconds 3; }}\n"
            )
        })
    };
    // Below the limit they are peers that no pool refers to.
    let below = errors(&load_text(&peers(PEER_COUNT_MAX)));
    assert!(below.iter().all(|message| message.starts_with("no pool refers to failover peer")), "{below:?}");
    assert_eq!(errors(&load_text(&peers(PEER_COUNT_MAX + 1))), ["too many failover peers"]);
}

/// What a client at 10.0.0.10 is told.
fn evaluate(loaded: &Loaded) -> dhcp_user::config::Evaluation {
    let config = loaded.config.as_ref().expect("no errors");
    let mut message = vec![0; 240];
    message[236..240].copy_from_slice(&[99, 130, 83, 99]);
    message.push(255);
    let options = ReceivedOptions::parse(&message).unwrap();
    let variables = Variables::new();
    let context = Context {
        message: &message,
        options: &options,
        hw: dhcp_ebpf::wire::dhcp::HwAddr::ethernet([2, 0, 0, 0, 0, 1]),
        known: false,
        is_static: false,
        leased_address: Some([10, 0, 0, 10].into()),
        host_decl_name: None,
        lease_time: Some(600),
        variables: &variables,
        now: 1_800_000_000,
        explains: false,
    };
    let membership = config.classify(&context);
    let subnet = config.subnet_of([10, 0, 0, 10].into());
    let chain = Chain {
        network: subnet.map(|id| config.subnet(id).shared_network),
        subnet,
        pool: config.pool_of([10, 0, 0, 10].into()),
        membership: &membership,
        host: None,
    };
    config.evaluate(&chain, &context)
}

#[test]
fn a_value_has_a_limit_and_what_is_added_without_end_costs_no_stack() {
    let adds = |word: &str, count: usize| {
        load_text(&(SUBNET.to_owned() + &format!("{word} domain-name \"{}\";\n", "x".repeat(1000)).repeat(count)))
    };
    let most = VALUE_LEN_MAX / 1000;
    assert_eq!(evaluate(&adds("append", most)).option(15).map(<[u8]>::len), Some(most * 1000));
    assert_eq!(evaluate(&adds("append", most + 2)).option(15), None);
    for word in ["append", "prepend"] {
        let loaded = load_text(&(SUBNET.to_owned() + &format!("{word} domain-name \"x\";\n").repeat(90_000)));
        assert_eq!(evaluate(&loaded).option(15), None);
    }
}

#[test]
fn functions_call_each_other_up_to_the_limit() {
    let chain = |depth: usize| {
        let calls = many(depth - 1, |number| format!("define fn{}(x) {{ return fn{number}(x); }}\n", number + 1));
        // `a` would be an octet, as in dhcpd.
        let text = format!("define fn0(x) {{ return x; }}\n{calls}option domain-name = fn{}(\"end\");\n", depth - 1);
        evaluate(&load_text(&(text + SUBNET))).option(15).map(<[u8]>::to_vec)
    };
    assert_eq!(chain(CALL_DEPTH_MAX).as_deref(), Some(&b"end"[..]));
    assert_eq!(chain(CALL_DEPTH_MAX + 1), None);
    // One that calls itself twice would be run 2^16 times: this ends by the number of steps.
    let twice = "define fn(x) { eval fn(x); eval fn(x); }\neval fn(1);\noption domain-name \"end\";\n";
    assert_eq!(evaluate(&load_text(&(twice.to_owned() + SUBNET))).option(15), None);
    // Options and classes that ask for each other in a circle.
    let circle = "option domain-name = config-option nis-domain;\noption nis-domain = config-option domain-name;\n";
    assert_eq!(evaluate(&load_text(&(circle.to_owned() + SUBNET))).option(15), None);
    let circle = "class \"a\" { }\nclass \"b\" { match if check \"a\"; }\nclass \"a\" { match if check \"b\"; }\n\
                  option domain-name \"end\";\n";
    assert_eq!(evaluate(&load_text(&(circle.to_owned() + SUBNET))).option(15), Some(&b"end"[..]));
}

#[test]
fn an_evaluation_runs_so_many_statements() {
    // The last of them sets the option; a call is one statement, with those of the function behind it.
    let runs = |count: usize| {
        let (calls, rest) = ((count - 1) / 1000, (count - 1) % 1000);
        let text = format!(
            "define fn() {{ {} }}\n{}{}option domain-name \"end\";\n",
            "unset a; ".repeat(999),
            "eval fn();\n".repeat(calls),
            "unset a;\n".repeat(rest)
        );
        // The definition is a statement, too.
        evaluate(&load_text(&(text + SUBNET))).option(15).is_some()
    };
    let most = usize::try_from(STEPS_MAX).unwrap() - 1;
    assert!(runs(most));
    assert!(!runs(most + 1));
}

#[test]
fn spaces_within_each_other_end() {
    let mut text = String::from("option space a;\noption space b;\noption outer code 200 = encapsulate a;\n");
    text += &many(60, |number| {
        format!(
            "option a.x{number} code {} = encapsulate b;\noption b.y{number} code {} = encapsulate a;\n",
            number + 1,
            number + 1
        )
    });
    text += "option a.z code 100 = text;\noption a.z \"end\";\n";
    let loaded = load_text(&(text + SUBNET));
    assert_eq!(evaluate(&loaded).option(200), Some(&b"\x64\x03end"[..]));
}

/// Texts that invite quadratic work, about two to four megabytes each.
fn hostile() -> Vec<(&'static str, String)> {
    let subnet = |number: usize, inside: &str| {
        format!("subnet 10.{}.{}.0 netmask 255.255.255.0 {{ {inside} }}\n", number >> 8 & 255, number & 255)
    };
    let address = |number: usize| format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255);
    vec![
        ("hosts", many(40_000, |n| format!("host h{n} {{ hardware ethernet 2:0:0:{:x}:{:x}:1; }}\n", n >> 8, n & 255))),
        ("the same host again and again", "host a { hardware ethernet 2:0:0:0:0:1; }\n".repeat(50_000)),
        ("hosts with one address", many(40_000, |n| format!("host h{n} {{ hardware ethernet 2:0:0:0:0:1; }}\n"))),
        ("networks", many(30_000, |n| format!("shared-network n{n} {{ {} }}\n", subnet(n, "")))),
        ("subnets of one network", format!("shared-network n {{ {} }}\n", many(40_000, |n| subnet(n, "")))),
        ("pools of one network", {
            let subnets = many(256, |n| subnet(n, ""));
            let pools = many(40_000, |n| format!("pool {{ allow members of \"c\"; range {}; }}\n", address(n)));
            format!("class \"c\" {{ }}\nshared-network n {{ {subnets} {pools} }}\n")
        }),
        ("pools that are not the same", {
            let pools = many(40_000, |n| format!("pool {{ max-lease-time {n}; range {}; }}\n", address(n)));
            format!("subnet 10.0.0.0 netmask 255.0.0.0 {{ {pools} }}\n")
        }),
        ("ranges", {
            let ranges = many(100_000, |n| format!("range {};\n", address(n)));
            format!("subnet 10.0.0.0 netmask 255.0.0.0 {{ {ranges} }}\n")
        }),
        ("ranges that overlap", {
            format!("subnet 10.0.0.0 netmask 255.0.0.0 {{ {} }}\n", "range 10.0.0.1 10.9.9.9;\n".repeat(80_000))
        }),
        ("ranges for BOOTP in pools with a partner", {
            let pools =
                many(20_000, |n| format!("pool {{ failover peer \"p\"; range dynamic-bootp {}; }}\n", address(n)));
            format!(
                "failover peer \"p\" {{ primary; address 1.1.1.1; peer address 2.2.2.2; mclt 9; split 1; }}\n\
                 subnet 10.0.0.0 netmask 255.0.0.0 {{ {pools} }}\n"
            )
        }),
        ("options of a space", {
            let options = many(40_000, |n| format!("option a.o{n} code {n} = text;\noption a.o{n} \"x\";\n"));
            format!("option space a code width 4;\n{options}{SUBNET}")
        }),
        ("options of a space that are not known", {
            let options = many(40_000, |n| format!("option a.known-option-{n} code {n} = text;\n"));
            format!("option space a code width 4;\n{options}{}", "option a.known-opsion-1 \"x\";\n".repeat(30_000))
        }),
        ("options that encapsulate", {
            let options = many(40_000, |n| format!("option a.o{n} code {n} = encapsulate a;\n"));
            format!(
                "option space a code width 4;\noption x code 200 = encapsulate a;\n{options}{SUBNET}option a.unknown-70000 1;\n"
            )
        }),
        ("one option again and again", "option domain-name \"x\";\n".repeat(80_000) + SUBNET),
        ("what is not known", "defualt-lease-time 600;\n".repeat(100_000)),
        ("single letters", "a;".repeat(1_000_000)),
        ("closing braces", "}".repeat(2_000_000)),
        ("opening braces", "{".repeat(2_000_000)),
        ("one long line with errors", "max-lease-time x; ".repeat(150_000)),
        ("strings without an end", "\"a;\n".repeat(500_000) + "\""),
        ("bad escapes", format!("log(\"{}\");", "\\xzz".repeat(500_000))),
        ("a long comment behind every word", format!("max-lease-time #{}\n 5;\n", "#".repeat(1_000)).repeat(2_000)),
        ("a comment at every statement", {
            let options = many(20_000, |n| format!("# before\noption a.o{n} code {n} = text; # beside\n"));
            let hosts =
                many(20_000, |n| format!("# a host\nhost h{n} {{ # here\n uid \"{n}\"; # so\n # end\n}} # behind\n"));
            format!("option space a code width 4;\n{options}{hosts}{SUBNET}")
        }),
        ("blanks", " ".repeat(4_000_000)),
        (
            "classes",
            many(9_000, |n| {
                format!("class \"c{n}\" {{ match if concat({} \"{n}\") = \"x\"; }}\n", "lcase(hardware), ".repeat(12))
            }),
        ),
        ("subclasses", {
            let subclasses =
                many(80_000, |n| format!("subclass \"c\" 1:2:0:{:x}:{:x}:{:x};\n", n >> 16, n >> 8 & 255, n & 255));
            format!("class \"c\" {{ match hardware; }}\n{subclasses}")
        }),
        ("functions", many(40_000, |n| format!("define f{n}(a) {{ return a; }}\neval f{n}(1);\n")) + SUBNET),
        ("calls of functions that are not there", many(60_000, |n| format!("eval f{n}(1);\n")) + SUBNET),
        ("arms", format!("if known {{ }} {}", "elsif known { }\n".repeat(150_000)) + SUBNET),
        ("cases", {
            format!("switch (lease-time) {{ {} }}\n", many(100_000, |n| format!("case {n}: log(info, \"x\");\n")))
                + SUBNET
        }),
        ("hooks in hooks", {
            let inner = "log(info, \"something to say\");\n".repeat(20_000);
            format!("{}{inner}{}", "on commit { ".repeat(NESTING_MAX), "}".repeat(NESTING_MAX)) + SUBNET
        }),
        ("values", format!("option domain-name-servers {} 10.0.0.1;\n", "10.0.0.1, ".repeat(200_000)) + SUBNET),
        ("names of hosts", many(60_000, |n| format!("set a = gethostbyname(\"h{n}.example.org\");\n")) + SUBNET),
        (
            "peers",
            many(20_000, |n| {
                format!(
                    "failover peer \"p{n}\" {{ primary; address 1.1.1.1; peer address 2.2.2.2; mclt 9; split 1; }}\n"
                )
            }),
        ),
        (
            "config-option",
            format!(
                "{}{}",
                "append domain-name \"x\";\n".repeat(40_000),
                "if config-option domain-name = \"y\" { }\n".repeat(40_000)
            ) + SUBNET,
        ),
    ]
}

#[test]
fn no_text_of_several_megabytes_takes_more_than_its_share_of_time() {
    // Quadratic work would take minutes on these; the bound is for a loaded machine.
    let most = Duration::from_secs(20);
    for (name, text) in hostile() {
        let start = Instant::now();
        let loaded = load_text(&text);
        let said = loaded.diagnostics.render(false);
        assert!(loaded.diagnostics.iter().count() <= DIAGNOSTICS_MAX, "{name}");
        assert!(said.len() < 3_000_000, "{name}: {} bytes of findings", said.len());
        if loaded.config.is_some() {
            let _ = evaluate(&loaded);
            let converted = loaded.config.as_ref().map(convert).unwrap_or_default();
            assert!(converted.len() < 80 * text.len() + 1_000_000, "{name}: {} bytes converted", converted.len());
        }
        let took = start.elapsed();
        println!("{name}: {} kB, {} ms", text.len() / 1000, took.as_millis());
        assert!(took < most, "{name}: {} kB took {took:?}", text.len() / 1000);
    }
}
