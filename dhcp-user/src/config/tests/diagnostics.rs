use super::load_text;

fn rendered(text: &str) -> String {
    load_text(text).diagnostics.render(false)
}

#[test]
fn a_finding_shows_place_line_caret_and_suggestion() {
    assert_eq!(
        rendered("defualt-lease-time 600;\n"),
        "\
error: dhcpd.conf:1:1: unknown statement `defualt-lease-time`
  |
1 | defualt-lease-time 600;
  | ^^^^^^^^^^^^^^^^^^ inside the top level
  |
  = note: did you mean `default-lease-time`?
"
    );
}

#[test]
fn what_is_missing_at_the_end_of_a_line_is_shown_there() {
    assert_eq!(
        rendered("max-lease-time 7200\ndefault-lease-time 600;\n"),
        "\
error: dhcpd.conf:1:20: expected `;`
  |
1 | max-lease-time 7200
  |                    ^
"
    );
}

#[test]
fn the_first_of_two_declarations_is_named() {
    assert_eq!(
        rendered("host a { }\nhost b { }\nhost a { }\n"),
        "\
error: dhcpd.conf:3:6: host `a` is declared twice
  |
3 | host a { }
  |      ^ names of hosts are global
  |
  = note: first declared here: dhcpd.conf:1:1
"
    );
}

#[test]
fn bytes_that_are_no_text_do_not_hurt() {
    let loaded = super::super::load("x.conf", &mut |_| Ok(b"option domain-name \"\xff\xfe\" \xe9;\n".to_vec()));
    let text = loaded.diagnostics.render(false);
    assert!(text.starts_with("error: x.conf:1:25: expected `;`\n"), "{text}");
}

#[test]
fn columns_count_characters() {
    let text = rendered("# \u{e9}\u{e9}\noption domain-name \"\u{e9}\u{e9}\" x;\n");
    assert!(text.starts_with("error: dhcpd.conf:2:25: expected `;`\n"), "{text}");
}

#[test]
fn near_misses_are_suggested() {
    for (text, want) in [
        ("option domain-nam \"x\";", "did you mean `domain-name`?"),
        ("option domain_name_servers 1.1.1.1;", "did you mean `domain-name-servers`?"),
        ("domain-name \"x\";", "an option is set with `option domain-name ...;`"),
        (
            "class \"Phones\" { } subnet 10.0.0.0 netmask 255.255.255.0 { pool { range 10.0.0.1; allow members of \"Phone\"; } }",
            "did you mean `Phones`?",
        ),
        ("log-facility loca7;", "did you mean `local7`?"),
        ("option ip-forwarding yes;", "write `on`"),
        ("elseif known { }", "it is spelled `elsif`"),
        ("if not \"a\" = \"b\" { }", "put the comparison in parentheses"),
    ] {
        let found = rendered(text);
        assert!(found.contains(want), "{text}\n{found}");
    }
}

#[test]
fn every_finding_begins_with_its_place() {
    let text = "foo;\nhost a { }\nhost a { }\nrange 1.2.3.4;\nsubnet 10.0.0.0 netmask 255.255.255.0 { range 10.0.0.9 10.0.0.1; }\n";
    let loaded = load_text(text);
    let rendered = loaded.diagnostics.render(false);
    for one in loaded.diagnostics.iter() {
        let place = loaded.diagnostics.locate(one.span).to_string();
        assert!(rendered.lines().any(|line| line.contains(&place) && line.contains(": dhcpd.conf:")), "{rendered}");
    }
    assert!(loaded.diagnostics.render(true).contains("\u{1b}["));
}
