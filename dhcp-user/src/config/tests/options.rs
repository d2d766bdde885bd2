use super::{Client, SUBNET, config, errors, plain, warnings};
use crate::config::{Malformed, ReceivedOptions};

fn custom(definition: &str, value: &str) -> Option<Vec<u8>> {
    plain(&format!("option x code 200 = {definition}; option x {value};")).option(200).map(<[u8]>::to_vec)
}

#[test]
// RFC 2132 3.5 #lengths-of-lists
fn every_type_is_encoded_as_it_is_written() {
    for (definition, value, want) in [
        ("boolean", "on", &[1][..]),
        ("boolean", "false", &[0]),
        ("integer 8", "-1", &[255]),
        ("unsigned integer 8", "255", &[255]),
        ("signed integer 16", "-2", &[255, 254]),
        ("unsigned integer 16", "0x1234", &[0x12, 0x34]),
        ("integer 32", "-18000", &[255, 255, 185, 176]),
        ("unsigned integer 32", "4294967295", &[255; 4]),
        ("ip-address", "10.1.2.3", &[10, 1, 2, 3]),
        ("array of ip-address", "10.1.2.3, 10.1.2.4", &[10, 1, 2, 3, 10, 1, 2, 4]),
        ("text", "\"a b\"", b"a b"),
        ("text", "word", b"word"),
        ("string", "\"ab\"", b"ab"),
        ("string", "0:1a:ff", &[0, 0x1a, 0xff]),
        ("domain-name", "a.b", b"\x01a\x01b\0"),
        ("domain-list", "\"a.b\", \"b\"", b"\x01a\x01b\0\x01b\0"),
        ("domain-list compressed", "\"a.b\", \"b\"", b"\x01a\x01b\0\xc0\x02"),
        ("array of integer 8", "24, 10,0,0, 10,0,0,1", &[24, 10, 0, 0, 10, 0, 0, 1]),
        ("{ unsigned integer 16, unsigned integer 8, ip-address }", "15 1 10.0.0.20", &[0, 15, 1, 10, 0, 0, 20]),
        ("{ unsigned integer 8, text }", "0 \"Tpm\"", b"\0Tpm"),
        ("array of { integer 8, ip-address }", "1 10.0.0.1, 2 10.0.0.2", &[1, 10, 0, 0, 1, 2, 10, 0, 0, 2]),
        ("{ integer 8, array of ip-address }", "9 10.0.0.1, 10.0.0.2", &[9, 10, 0, 0, 1, 10, 0, 0, 2]),
        ("ip6-address", "2001:db8::1", &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        ("zerolength", "", &[]),
    ] {
        assert_eq!(custom(definition, value).as_deref(), Some(want), "{definition}: {value}");
    }
}

#[test]
fn standard_options_have_their_types() {
    for (statement, code, want) in [
        (
            "option static-routes 10.0.0.0 10.0.0.1, 10.1.0.0 10.0.0.2;",
            33,
            &[10, 0, 0, 0, 10, 0, 0, 1, 10, 1, 0, 0, 10, 0, 0, 2][..],
        ),
        ("option slp-directory-agent true 1.2.3.4, 5.6.7.8;", 78, &[1, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("option slp-service-scope true;", 79, &[1]),
        ("option slp-service-scope true \"x\";", 79, &[1, b'x']),
        ("option time-offset -18000;", 2, &[255, 255, 185, 176]),
        ("option interface-mtu 1400;", 26, &[5, 0x78]),
        ("option dhcp-parameter-request-list 1,6,15;", 55, &[1, 6, 15]),
        ("option domain-search \"a.b\", \"c.b\";", 119, b"\x01a\x01b\0\x01c\xc0\x02"),
        ("option v6-only-preferred 300;", 108, &[0, 0, 1, 44]),
        ("option unknown-252 \"x\";", 252, b"x"),
        ("server-identifier 10.9.9.9;", 54, &[10, 9, 9, 9]),
        ("OPTION Domain-Name \"x\";", 15, b"x"),
        ("option default-url \"https://p/\";", 114, b"https://p/"),
        ("option pxe-client-id 0 00:11;", 97, &[0, 0, 0x11]),
        ("option rdnss-selection 1 10.0.0.1 10.0.0.2 \"a\";", 146, &[1, 10, 0, 0, 1, 10, 0, 0, 2, 1, b'a', 0]),
        (
            "option option-6rd 14 32 2001:db8:: 192.0.2.1;",
            212,
            &[14, 32, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1],
        ),
    ] {
        assert_eq!(plain(statement).option(code), Some(want), "{statement}");
    }
}

#[test]
// RFC 2132 3.5 #lengths-of-lists
fn values_of_the_wrong_kind_are_refused() {
    for (statement, want) in [
        ("option user-class 61:62;", "1:19: expected text"),
        ("option vendor-class-identifier foo;", "1:32: expected quoted text or hexadecimal octets"),
        ("option default-ip-ttl 300;", "1:23: 300 is out of range"),
        ("option subnet-mask 255.255.255;", "1:20: expected an IPv4 address"),
        ("option ip-forwarding yes;", "1:22: expected a flag"),
        ("option routers \"10.0.0.1\";", "1:16: expected an IPv4 address or a host name"),
        ("option host-name;", "1:17: expected text"),
        ("option dhcp-lease-time infinite;", "1:24: expected a number"),
        ("option domain-search a.b;", "1:22: expected a domain name in quotes"),
        ("option x code 200 = array of text;", "1:21: this cannot be an array"),
        ("option x code 200 = { text, integer 8 };", "1:21: text must be the last member of a record"),
        ("option x code 200 = integer 24;", "1:29: this width is not possible"),
        ("option x code 200 = txt;", "1:21: unknown type `txt`"),
        ("option x code 200 = encapsulate none;", "1:33: no option space named `none`"),
        ("option none.x 1;", "1:8: no option space named `none`"),
        ("vendor-option-space none;", "1:21: no option space named `none`"),
        ("default-lease-time 600s;", "1:20: `600s` is not a number"),
    ] {
        let found = errors(&format!("{statement}{SUBNET}"));
        let found = found.first().map(String::as_str);
        // A token that is no number at all reads a little differently.
        let alternative = format!("dhcpd.conf:{}", want.replace("`600s` is not a number", "expected a time"));
        assert!(
            found == Some(&format!("dhcpd.conf:{want}")) || found == Some(&alternative),
            "{statement}: {found:?} instead of {want}"
        );
    }
}

#[test]
fn definitions_stand_at_the_top_level_and_before_use() {
    assert_eq!(
        errors("subnet 10.0.0.0 netmask 255.255.255.0 { option x code 200 = text; }"),
        ["dhcpd.conf:1:41: options are defined at the top level only"]
    );
    assert_eq!(
        errors(&format!("option x 1; option x code 200 = text;{SUBNET}"))[0],
        "dhcpd.conf:1:8: unknown option `x`"
    );
}

#[test]
fn a_vendor_space_fills_option_43() {
    let space = "option space uni; option uni.a code 1 = ip-address; option uni.b code 2 = text;
                 option uni.b \"hi\"; option uni.a 10.0.0.1;";
    let want = [1, 4, 10, 0, 0, 1, 2, 2, b'h', b'i'];
    assert_eq!(plain(space).option(43), None);
    assert_eq!(plain(&format!("{space} vendor-option-space uni;")).option(43), Some(&want[..]));
    let direct = plain(&format!("{space} vendor-option-space uni; option vendor-encapsulated-options 3:1:7;"));
    assert_eq!(direct.option(43), Some(&[3, 1, 7][..]));
    let named = plain(&format!("{space} option uni-enc code 43 = encapsulate uni;"));
    assert_eq!(named.option(43), Some(&want[..]));
    let other = plain(&format!("{space} option uni-enc code 220 = encapsulate uni;"));
    assert_eq!((other.option(43), other.option(220)), (None, Some(&want[..])));
}

#[test]
fn wide_spaces_and_spaces_within_spaces_are_encoded() {
    let wide = "option space w code width 2 length width 2; option w.a code 300 = text; option w.a \"y\";
                option w-enc code 221 = encapsulate w;";
    assert_eq!(plain(wide).option(221), Some(&[1, 44, 0, 1, b'y'][..]));
    let nested = "option space inner; option inner.a code 7 = text; option space outer;
                  option outer.i code 3 = encapsulate inner; option o code 222 = encapsulate outer; option inner.a \"z\";";
    assert_eq!(plain(nested).option(222), Some(&[3, 3, 7, 1, b'z'][..]));
}

#[test]
fn a_vendor_space_is_read_from_the_request_too() {
    let text = format!(
        "option space V; option V.serial code 5 = text; option V-enc code 43 = encapsulate V;
         if option V.serial = \"S1\" {{ option domain-name \"found\"; }}{SUBNET}"
    );
    let client = Client::new(&[(43, &[5, 2, b'S', b'1'])]);
    assert_eq!(client.at(&config(&text), [10, 0, 0, 10]).option(15), Some(&b"found"[..]));
}

#[test]
fn the_site_space_stands_in_for_the_high_codes() {
    let text =
        "option space site; option site.magic code 208 = string; option site.magic f1:00; site-option-space \"site\";";
    assert_eq!(plain(text).option(208), Some(&[0xf1, 0][..]));
}

#[test]
fn an_option_set_twice_in_a_block_is_noticed() {
    assert_eq!(
        warnings(&format!("option domain-name \"a\";\noption domain-name \"b\";{SUBNET}")),
        ["dhcpd.conf:2:1: `option domain-name` is set twice in the same block"]
    );
}

#[test]
// RFC 2131 4.1 #overload-order
fn received_options_are_joined_and_overload_is_followed() {
    let mut message = vec![0_u8; 236];
    message[44..48].copy_from_slice(&[60, 1, b'S', 255]);
    message[108..112].copy_from_slice(&[12, 1, b'F', 255]);
    message.extend_from_slice(&[99, 130, 83, 99, 12, 1, b'a', 52, 1, 3, 12, 1, b'b', 255]);
    let options = ReceivedOptions::parse(&message).unwrap();
    assert_eq!(options.get(12), Some(&b"abF"[..]));
    assert_eq!(options.get(60), Some(&b"S"[..]));
    assert!(options.has_overload());
    assert_eq!(options.codes().collect::<Vec<_>>(), [12, 52, 60]);
    assert_eq!(ReceivedOptions::parse(&message[..238]), Err(Malformed::Short));
    for (tail, want) in [
        (&[0, 0, 0, 0][..], Malformed::Cookie),
        (&[99, 130, 83, 99, 12], Malformed::LengthMissing),
        (&[99, 130, 83, 99, 12, 5, 1], Malformed::PastTheEnd),
    ] {
        let mut cut = message[..236].to_vec();
        cut.extend_from_slice(tail);
        assert_eq!(ReceivedOptions::parse(&cut), Err(want));
    }
}
