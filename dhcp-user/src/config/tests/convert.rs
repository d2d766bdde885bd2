use std::path::Path;

use super::{Client, config};
use crate::config::convert::convert;
use crate::config::{Config, HostId, Param};

/// What a client is told at every subnet and by every host: the meaning of a configuration.
fn meaning(config: &Config) -> Vec<String> {
    let mut all = Vec::new();
    let mut tell = |config: &Config, client: &Client, address: [u8; 4]| {
        let evaluation = client.at(config, address);
        let options: Vec<_> =
            evaluation.codes().map(|code| format!("{code}={:02x?}", evaluation.option(code).unwrap())).collect();
        let params: Vec<_> = crate::config::param::PARAMS
            .iter()
            .filter_map(|info| evaluation.param(info.param).map(|bytes| format!("{}={bytes:02x?}", info.name)))
            .collect();
        let hooks: Vec<_> = [&evaluation.on_commit, &evaluation.on_expiry, &evaluation.on_release]
            .into_iter()
            .map(|hook| hook.as_ref().map(|hook| hook.text().to_owned()))
            .collect();
        all.push(format!("{options:?} {params:?} {hooks:?} {:?} {:?}", evaluation.logs, evaluation.variables));
    };
    for sent in [
        &[][..],
        &[(12, &b"host"[..]), (60, b"PXEClient:Arch:00007"), (77, b"iPXE"), (93, &[0, 7])],
        &[(60, b"Juniper-ex3300-48p"), (61, b"\0cisco"), (77, b"exr-config"), (82, &[1, 2, b'p', b'1'])],
    ] {
        let mut client = Client::new(sent);
        for subnet in &config.subnets {
            for range in config.pools.iter().flat_map(|pool| &pool.ranges) {
                tell(config, &client, range.last.octets());
            }
            tell(config, &client, subnet.net.octets());
        }
        for host in 0..config.hosts.len() {
            client.host = Some(HostId(host));
            tell(config, &client, config.subnets[0].net.octets());
        }
    }
    let pools: Vec<_> = config
        .pools
        .iter()
        .map(|pool| {
            let kinds = |permits: &[crate::config::Permit]| permits.iter().map(|one| one.kind).collect::<Vec<_>>();
            let ranges: Vec<_> = pool.ranges.iter().map(|range| (range.first, range.last)).collect();
            format!("{ranges:?} {:?} {:?} {:?}", kinds(&pool.allow), kinds(&pool.deny), pool.failover)
        })
        .collect();
    let hosts: Vec<_> = config
        .hosts
        .iter()
        .map(|host| format!("{} {:?} {:?}", config.declared_name(host.name), host.hw, host.client_id))
        .collect();
    let flags: Vec<_> = config.subnets.iter().map(|subnet| (subnet.net, subnet.authoritative)).collect();
    all.push(format!("{pools:?} {hosts:?} {flags:?} {:?}", config.process));
    all
}

fn comes_back(text: &str, name: &str) {
    let first = config(text);
    let printed = convert(&first);
    let second = config(&printed);
    assert_eq!(convert(&second), printed, "{name}");
    assert_eq!(meaning(&first), meaning(&second), "{name}\n{printed}");
}

#[test]
fn every_accepted_file_means_the_same_when_it_is_printed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for folder in [root.join("../tests/captures/dhcpd-conf"), root.join("examples")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("rejected") || path.extension().is_none_or(|extension| extension != "conf") {
                continue;
            }
            comes_back(&std::fs::read_to_string(&path).unwrap(), &name);
            count += 1;
        }
    }
    assert!(count >= 15);
}

#[test]
fn everything_has_a_spelling() {
    comes_back(
        r#"
        authoritative; db-time-format local; lease-id-format hex; deny bootp; ignore booting; allow leasequery;
        ddns-update-style none; log-facility local3; next-server boot.example.org; filename "a\"b\\c\001";
        option space w code width 2 length width 2; option w.a code 300 = array of { integer 8, ip-address };
        option rec code 200 = { unsigned integer 8, array of ip-address }; option rec 1 10.0.0.1, 10.0.0.2;
        option search code 201 = domain-list compressed; option search "a.b", "c.b"; option w.a 1 10.0.0.1, 2 10.0.0.2;
        option blob code 202 = string; option blob 00:01:ff; option neg code 203 = signed integer 16; option neg -5;
        option domain-name-servers ns1.example.org, 10.0.0.1; option z code 204 = zerolength; option z;
        define twice(x) { return concat(x, x); }
        set v = twice("q"); unset v; eval twice("z"); log(error, binary-to-ascii(16, 8, ":", hardware));
        if not (known) and (option host-name ~= "^h" or exists agent.circuit-id) { default root-path "r"; }
        elsif extract-int(substring(hardware, 1, 1), 8) & 2 = 2 { append root-path = lcase("X"); } else { execute("/x", "y"); }
        switch (option host-name) { case "a": set sw = "1"; break; case "host": set sw = "2"; default: set dw = "3"; }
        on commit { set c = encode-int(lease-time, 32); } on expiry or release { log("x"); }
        class "sp" { spawn with option agent.circuit-id; lease limit 2; }
        class "m" { match if exists host-name; match hardware; option nis-domain "m"; }
        subclass "m" 1:02:00:00:00:00:01 { option nis-domain "sub"; lease limit 7; } subclass "m" "x";
        class "late" { match if check "m"; }
        failover peer "p" { primary; address 10.0.0.1; peer address 10.0.0.2; mclt 60; load balance max seconds 3;
          hba ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:ff:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00; }
        failover peer "p" state { my state partner-down at 0 2026/11/22 08:43:58; partner state normal; }
        group "g" { option domain-name "g"; not authoritative;
          host in-group { hardware ethernet 2:0:0:0:0:9; fixed-address 10.0.0.200, pc.example.org; uid 01:02; } }
        shared-network "two nets" {
          subnet 10.0.0.0 netmask 255.255.255.0 { interface "eth0.1"; range 10.0.0.50 10.0.0.60;
            pool { failover peer "p"; range 10.0.0.1 10.0.0.9; deny members of "m"; allow after epoch 1000; option domain-name "pool"; } }
          subnet 10.0.1.0 netmask 255.255.255.0 { range 10.0.1.50; range dynamic-bootp 10.0.1.60; authoritative; }
          pool { range 10.0.1.1 10.0.1.9; deny dynamic bootp clients; min-lease-time infinite; }
        }
        subnet 10.0.2.0 netmask 255.255.255.0 { pool { range 10.0.2.1; allow unknown-clients; } }
        "#,
        "everything",
    );
}

/// The comments of a text, as a reader of it would collect them: no test file has `#` inside of quotes.
fn comments(text: &str) -> Vec<&str> {
    let mut all: Vec<_> = text.lines().filter_map(|line| line.get(line.find('#')?..)).map(str::trim_end).collect();
    all.retain(|comment| !comment.starts_with("#: ") && *comment != "# Written by xdhcpd convert.");
    all.sort_unstable();
    all
}

#[test]
fn no_comment_of_an_accepted_file_is_lost() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for folder in [root.join("../tests/captures/dhcpd-conf"), root.join("examples")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("rejected") || path.extension().is_none_or(|extension| extension != "conf") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let printed = convert(&config(&text));
            assert_eq!(comments(&printed), comments(&text), "{name}\n{printed}");
            count += comments(&text).len();
        }
    }
    assert!(count >= 40, "only {count} comments in all files");
}

#[test]
fn comments_stay_with_what_they_speak_of() {
    let text = r#"# the whole file

# what it is
option pcode-of code 200 = text; # a number
authoritative; # for all
default-lease-time 600;   # ten minutes
# who comes first
class "a" {
  # why
  match if exists host-name; # so
  # at the end of a
} # behind a
key old { algorithm hmac-md5; secret abc; # of a key
}
if exists host-name { # for named ones
  log(info, "x"); # say so
  # end of the first
} # before elsif
elsif known {
  # only this
} else {
  set v = "1";
  # end of the last
}
# old:
# subnet 10.1.0.0 { }

# a network
subnet 10.0.0.0 netmask 255.255.255.0 {
  # reserved below
  range 10.0.0.5 10.0.0.9; # five
  # a pool
  pool {
    # of two
    range 10.0.0.20 10.0.0.21;
    deny dynamic bootp clients; # never
    dynamic-bootp-lease-length 5; # nobody knows
  } # that was it
}
host a {
  # her card
  hardware ethernet 02:00:00:00:00:01; # built in
  fixed-address 10.0.0.4;
  # no more
}
# the end
"#;
    let want = r#"# Written by xdhcpd convert.
# the whole file

# what it is
option pcode-of code 200 = text; # a number

authoritative; # for all
default-lease-time 600; # ten minutes
# before elsif
if exists host-name {
  # for named ones
  log(info, "x"); # say so
  # end of the first
} elsif known {
  # only this
} else {
  set v = "1";
  # end of the last
}

# who comes first
class "a" {
  # why
  match if exists host-name; # so
  # at the end of a
} # behind a

# old:
# subnet 10.1.0.0 { }

# a network
subnet 10.0.0.0 netmask 255.255.255.0 {
  # reserved below
  range 10.0.0.5 10.0.0.9; # five

  # a pool
  pool {
    #: 2 addresses
    # of two
    range 10.0.0.20 10.0.0.21;
    deny dynamic bootp clients; # never
    #: accepted, but does nothing here
    dynamic-bootp-lease-length 5; # nobody knows
  } # that was it
}

host a {
  # her card
  hardware ethernet 02:00:00:00:00:01; # built in
  fixed-address 10.0.0.4;
  # no more
}
# of a key
# the end
"#;
    assert_eq!(convert(&config(text)), want);
    comes_back(text, "comments");
}

#[test]
fn comments_of_included_files_come_along() {
    let files = [
        ("dhcpd.conf", "# top\n\n# of the include\ninclude \"a\"; # too\n# b\nhost b { }\n# end\n"),
        ("a", "# of a\nhost a { # in a\n}\n# end of a\n"),
    ];
    let loaded = crate::config::load("dhcpd.conf", &mut |name| {
        let found = files.iter().find(|(file, _)| *file == name).ok_or("no such file")?;
        Ok(found.1.into())
    });
    let want = "# Written by xdhcpd convert.\n# top\n\n# of the include\n# of a\nhost a {\n  # in a\n}\n\n\
        # end of a\n# too\n# b\nhost b {\n}\n# end\n";
    assert_eq!(convert(&loaded.config.unwrap()), want);
}

#[test]
fn values_survive() {
    let text = "max-lease-time infinite; min-secs 3;\nsubnet 10.0.0.0 netmask 255.255.255.0 { range 10.0.0.1; }";
    let config = config(&convert(&config(text)));
    let evaluation = Client::new(&[]).at(&config, [10, 0, 0, 1]);
    assert_eq!(evaluation.secs(Param::MaxLeaseTime), Some(u32::MAX));
    assert_eq!(evaluation.secs(Param::MinSecs), Some(3));
}
