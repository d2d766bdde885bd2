use super::{Client, SUBNET, config, errors};
use crate::config::{Membership, Via};

fn members(text: &str, options: &[(u8, &[u8])]) -> (crate::config::Config, Membership) {
    let config = config(&format!("{text}{SUBNET}"));
    let client = Client::new(options);
    let membership = config.classify(&client.context());
    (config, membership)
}

#[test]
// RFC 2131 4.3.1 #class-by-exact-match
fn match_if_match_and_both_together() {
    let text = r#"
class "a" { match if option host-name = "h"; }
class "b" { match option host-name; }
subclass "b" "h";
subclass "b" "x" { option domain-name "x"; }
class "c" { match if exists root-path; match option host-name; }
subclass "c" "h";
class "d" { match if exists host-name; match hardware; }
subclass "d" 1:02:00:00:00:00:01;
class "none" { option domain-name "never"; }"#;
    let (config, membership) = members(text, &[(12, b"h")]);
    let names: Vec<&str> = membership.members.iter().map(|member| config.class_name(member.class)).collect();
    assert_eq!(names, ["a", "b", "d"]);
    assert!(matches!(membership.members[1].via, Via::Subclass(_)));
    assert_eq!(*membership.members[2].value, [1, 2, 0, 0, 0, 0, 1]);
    let (_, nobody) = members(text, &[(12, b"other")]);
    assert_eq!(nobody.members.len(), 1);
    let (_, nobody) = members(text, &[]);
    assert_eq!(nobody.members, []);
}

#[test]
fn classes_that_compare_the_same_value_are_told_apart() {
    let text: String = (0..50)
        .map(|n| format!("class \"v{n}\" {{ match if substring(option vendor-class-identifier, 0, 3) = \"v{n:02}\"; }}\n"))
        .chain(["class \"null\" { match if option root-path = null; }\nclass \"empty\" { match if option root-path = \"\"; }".to_owned()])
        .collect();
    let (config, membership) = members(&text, &[(60, b"v07-switch")]);
    let names: Vec<&str> = membership.members.iter().map(|member| config.class_name(member.class)).collect();
    assert_eq!(names, ["v7", "null"]);
}

#[test]
fn a_subclass_runs_after_its_class() {
    let text = format!(
        r#"class "b" {{ match option host-name; option domain-name "class"; option root-path "class"; }}
           subclass "b" "h" {{ option domain-name "sub"; }}{SUBNET}"#
    );
    let evaluation = Client::new(&[(12, b"h")]).at(&config(&text), [10, 0, 0, 10]);
    assert_eq!(evaluation.option(15), Some(&b"sub"[..]));
    assert_eq!(evaluation.option(17), Some(&b"class"[..]));
}

#[test]
fn spawning_makes_a_member_of_every_value_that_is_not_empty() {
    let text = r#"class "port" { spawn with option agent.circuit-id; lease limit 4; option domain-name "spawned"; }"#;
    let (_, membership) = members(text, &[(82, &[1, 2, b'p', b'1'])]);
    assert_eq!(membership.members.len(), 1);
    assert_eq!((&membership.members[0].via, membership.members[0].lease_limit), (&Via::Spawned, Some(4)));
    assert_eq!(*membership.members[0].value, *b"p1");
    assert!(membership.depends.billing);
    let (_, without) = members(text, &[]);
    assert_eq!(without.members, []);
    assert!(!without.depends.is_anything());
}

#[test]
fn a_subclass_has_the_limit_of_its_class_or_its_own() {
    let text = r#"class "l" { match option host-name; lease limit 2; }
subclass "l" "h"; subclass "l" "own" { lease limit 9; }"#;
    assert_eq!(members(text, &[(12, b"h")]).1.members[0].lease_limit, Some(2));
    assert_eq!(members(text, &[(12, b"own")]).1.members[0].lease_limit, Some(9));
}

#[test]
fn a_class_that_exists_is_extended() {
    let text = r#"class "a" { option domain-name "x"; } class "a" { match if exists host-name; }"#;
    let (config, membership) = members(text, &[(12, b"h")]);
    assert_eq!((config.classes.len(), membership.members.len()), (1, 1));
}

#[test]
fn classes_that_ask_for_each_other_end() {
    let text = r#"class "a" { } class "b" { match if check "a"; } class "a" { match if check "b" or check "a"; }"#;
    assert_eq!(members(text, &[]).1.members, []);
    let often = vec!["check \"a\""; 30].join(" or ");
    let text = format!("class \"a\" {{ }} class \"a\" {{ match if {often}; }}");
    assert_eq!(members(&text, &[]).1.members, []);
}

#[test]
fn more_than_five_classes_are_kept() {
    let text: String = (0..8).map(|n| format!("class \"c{n}\" {{ match if exists host-name; }}\n")).collect();
    assert_eq!(members(&text, &[(12, b"h")]).1.members.len(), 8);
}

#[test]
fn mistakes_in_classes_are_found() {
    for (text, want) in [
        ("class x { }", "1:7: expected the name of a class in quotes"),
        ("subclass \"nox\" 1;", "1:10: no class named \"nox\""),
        ("class \"x\" { match if known; match if static; }", "1:29: a class has one `match if` only"),
        (
            "class \"x\" { match hardware; spawn with option host-name; }",
            "1:29: a class has one `match` or `spawn with` only",
        ),
        ("class \"x\" { subclass \"x\" 1; }", "1:13: `subclass` is not allowed in a class"),
        ("class \"x\" { host a { } }", "1:13: `host` is not allowed in a class"),
        ("match if known;", "1:1: `match` is not allowed in the top level"),
    ] {
        assert_eq!(errors(&format!("{text}{SUBNET}")), [format!("dhcpd.conf:{want}")], "{text}");
    }
}
