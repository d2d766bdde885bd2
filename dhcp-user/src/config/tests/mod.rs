//! The room seen from its door: text in, diagnostics, model and evaluations out.

mod classes;
mod convert;
mod corpus;
mod diagnostics;
mod expressions;
mod extensions;
mod language;
mod lint;
mod network;
mod options;
mod scopes;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcp_ebpf::wire::dhcp::{COOKIE, HwAddr};

use super::{Chain, Config, Context, Evaluation, HostId, Loaded, Membership, ReceivedOptions, Variables, load};

/// A subnet that every small configuration may stand beside.
pub(super) const SUBNET: &str = "\nsubnet 10.0.0.0 netmask 255.255.255.0 { range 10.0.0.10 10.0.0.20; }\n";

/// Loads a text as `dhcpd.conf`.
pub(super) fn load_text(text: &str) -> Loaded {
    load_files(&[("dhcpd.conf", text)])
}

/// Loads the first of several files; the others can be included.
pub(super) fn load_files(files: &[(&str, &str)]) -> Loaded {
    let files: BTreeMap<&str, &str> = files.iter().copied().collect();
    load("dhcpd.conf", &mut |name| {
        files.get(name).map(|text| text.as_bytes().to_vec()).ok_or_else(|| "no such file".to_owned())
    })
}

/// Loads a text that has no error.
pub(super) fn config(text: &str) -> Config {
    let loaded = load_text(text);
    assert_eq!(loaded.diagnostics.errors_count(), 0, "{text}\n{}", loaded.diagnostics.render(false));
    loaded.config.unwrap()
}

/// First lines of all errors of a text.
pub(super) fn errors(text: &str) -> Vec<String> {
    let loaded = load_text(text);
    assert_eq!(loaded.config.is_none(), loaded.diagnostics.errors_count() > 0);
    loaded
        .diagnostics
        .iter()
        .filter(|one| one.severity == super::Severity::Error)
        .map(|one| format!("{}: {}", loaded.diagnostics.locate(one.span), one.message))
        .collect()
}

/// First lines of all warnings of a text without errors.
pub(super) fn warnings(text: &str) -> Vec<String> {
    let loaded = load_text(text);
    assert_eq!(loaded.diagnostics.errors_count(), 0, "{text}\n{}", loaded.diagnostics.render(false));
    loaded.diagnostics.iter().map(|one| format!("{}: {}", loaded.diagnostics.locate(one.span), one.message)).collect()
}

/// A client with what it sends.
pub(super) struct Client {
    message: Vec<u8>,
    options: ReceivedOptions,
    hw: HwAddr,
    variables: Variables,
    pub(super) known: bool,
    pub(super) host: Option<HostId>,
}

impl Client {
    /// A client with hardware address 02:00:00:00:00:01 and these options.
    pub(super) fn new(options: &[(u8, &[u8])]) -> Self {
        let mut message = vec![0_u8; 236];
        message[0] = 1;
        message[1] = 1;
        message[2] = 6;
        message[28..34].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        message.extend_from_slice(&COOKIE);
        for (code, data) in options {
            message.push(*code);
            message.push(u8::try_from(data.len()).unwrap());
            message.extend_from_slice(data);
        }
        message.push(255);
        let options = ReceivedOptions::parse(&message).unwrap();
        let hw = HwAddr::ethernet([2, 0, 0, 0, 0, 1]);
        Self { message, options, hw, variables: Variables::new(), known: false, host: None }
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context {
            message: &self.message,
            options: &self.options,
            hw: self.hw,
            known: self.known,
            is_static: false,
            leased_address: Some(Ipv4Addr::new(10, 0, 0, 10)),
            host_decl_name: None,
            lease_time: Some(300),
            variables: &self.variables,
            now: 1_800_000_000,
            explains: false,
        }
    }

    /// What the configuration says to this client at an address.
    pub(super) fn at(&self, config: &Config, address: [u8; 4]) -> Evaluation {
        let context = self.context();
        let membership = config.classify(&context);
        self.with(config, address, &membership)
    }

    pub(super) fn with(&self, config: &Config, address: [u8; 4], membership: &Membership) -> Evaluation {
        let address = Ipv4Addr::from(address);
        let subnet = config.subnet_of(address);
        let chain = Chain {
            network: subnet.map(|id| config.subnet(id).shared_network),
            subnet,
            pool: config.pool_of(address),
            membership,
            host: self.host,
        };
        config.evaluate(&chain, &self.context())
    }
}

/// What a plain client gets at 10.0.0.10.
pub(super) fn plain(text: &str) -> Evaluation {
    Client::new(&[]).at(&config(&format!("{text}{SUBNET}")), [10, 0, 0, 10])
}
