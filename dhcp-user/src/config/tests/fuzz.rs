use std::path::Path;

use proptest::prelude::*;

use super::Client;
use crate::config::load;

/// The corpus and some lines with everything.
fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/captures/dhcpd-conf");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut seeds: Vec<Vec<u8>> = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .map(|path| std::fs::read(path).unwrap())
        .collect();
    seeds.push(
        b"failover peer \"p\" { primary; address 10.0.0.1; peer address 10.0.0.2; mclt 60; split 128; }
          failover peer \"p\" state { my state normal at 0 2026/11/22 08:43:58; }
          option x code 200 = array of { integer 8, ip-address }; option x 1 10.0.0.1, 2 10.0.0.2;
          switch (lease-time) { case 3: set a = \"x\"; break; default: unset a; }
          define f(a, b) { return concat(a, b, binary-to-ascii(16, 8, \":\", hardware)); }
          class \"s\" { spawn with option agent.circuit-id; lease limit 3; } on commit or expiry { log(info, f(\"\\x41\", 1:2)); }
          subnet 10.0.0.0 netmask 255.255.255.0 { pool { failover peer \"p\"; allow after 4 2030/01/02 10:00:00; range 10.0.0.9 10.0.0.5; } }"
            .to_vec(),
    );
    seeds
}

/// One change of a text.
#[derive(Debug, Clone)]
enum Mutation {
    Replace(usize, u8),
    Remove(usize, usize),
    Copy(usize, usize, usize),
    Insert(usize, &'static str),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let bits = [
        "{",
        "}",
        ";",
        "\"",
        "(",
        ")",
        "option ",
        "include \"x\";",
        "0x",
        "-",
        "=",
        "\\",
        ":",
        "#",
        "1:2",
        "infinite",
        "not ",
    ];
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        (any::<usize>(), 1..40_usize).prop_map(|(at, len)| Mutation::Remove(at, len)),
        (any::<usize>(), 1..60_usize, any::<usize>()).prop_map(|(at, len, to)| Mutation::Copy(at, len, to)),
        (any::<usize>(), proptest::sample::select(bits.to_vec())).prop_map(|(at, text)| Mutation::Insert(at, text)),
    ]
}

fn mutate(text: &mut Vec<u8>, mutation: &Mutation) {
    let len = text.len().max(1);
    match *mutation {
        Mutation::Replace(at, byte) => text.iter_mut().skip(at % len).take(1).for_each(|slot| *slot = byte),
        Mutation::Remove(at, count) => {
            let at = at % len;
            text.drain(at..(at + count).min(text.len()));
        }
        Mutation::Copy(at, count, to) => {
            let at = at % len;
            let piece = text[at..(at + count).min(text.len())].to_vec();
            let to = to % len;
            text.splice(to..to, piece);
        }
        Mutation::Insert(at, piece) => {
            let at = at % len;
            text.splice(at..at, piece.bytes());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_room_panic(seed in any::<usize>(), mutations in proptest::collection::vec(mutation(), 1..12)) {
        let seeds = seeds();
        let mut text = seeds[seed % seeds.len()].clone();
        for mutation in &mutations {
            mutate(&mut text, mutation);
        }
        let loaded = load("dhcpd.conf", &mut |name| {
            if name == "dhcpd.conf" { Ok(text.clone()) } else { Err("no such file".to_owned()) }
        });
        prop_assert!(loaded.diagnostics.render(false).len() >= loaded.diagnostics.errors_count());
        prop_assert_eq!(loaded.config.is_none(), loaded.diagnostics.errors_count() > 0);
        if let Some(config) = loaded.config {
            let client = Client::new(&[(12, b"host"), (60, b"PXEClient"), (82, &[1, 2, b'p', b'1'])]);
            for subnet in &config.subnets {
                client.at(&config, subnet.net.octets());
            }
        }
    }
}
