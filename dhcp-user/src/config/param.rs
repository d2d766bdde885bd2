//! Server parameters: every statement of reference section 4 that sets a value, by name, kind, status.

/// A server parameter. The names are dhcpd's with `-` left out.
#[allow(missing_docs, reason = "the names are dhcpd's own; the table below says what each is")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Param {
    DefaultLeaseTime,
    MaxLeaseTime,
    MinLeaseTime,
    AdaptiveLeaseTimeThreshold,
    OneLeasePerClient,
    DhcpCacheThreshold,
    AbandonLeaseTime,
    InfiniteIsReserved,
    PingCheck,
    PingTimeout,
    PingTimeoutMs,
    PingClttSecs,
    GetLeaseHostnames,
    IgnoreClientUids,
    EchoClientId,
    StashAgentOptions,
    MinSecs,
    BootUnknownClients,
    DynamicBootp,
    DynamicBootpLeaseLength,
    DynamicBootpLeaseCutoff,
    AlwaysBroadcast,
    AlwaysReplyRfc1048,
    UseHostDeclNames,
    UseLeaseAddrForDefaultRoute,
    LogThresholdHigh,
    LogThresholdLow,
    NextServer,
    Filename,
    ServerName,
    ServerIdCheck,
    CheckSecsByteOrder,
    VendorOptionSpace,
    SiteOptionSpace,
    LimitedBroadcastAddress,
    LocalPort,
    RemotePort,
    LocalAddress,
    LeaseFileName,
    PidFileName,
    LogFacility,
    DelayedAck,
    MaxAckDelay,
    DontUseFsync,
    OmapiPort,
    OmapiKey,
    DdnsUpdateStyle,
    DdnsUpdates,
    DdnsHostname,
    DdnsDomainname,
    DdnsRevDomainname,
    DdnsTtl,
    DdnsLocalAddress4,
    DoForwardUpdates,
    DoReverseUpdates,
    UpdateOptimization,
    UpdateStaticLeases,
    UpdateConflictDetection,
    DdnsGuardIdMustMatch,
    DdnsOtherGuardIsDynamic,
    DdnsDualStackMixedMode,
    FqdnReply,
    AllowBooting,
    AllowBootp,
    Declines,
    Duplicates,
    ClientUpdates,
    Leasequery,
    XdhcpdGuard,
    XdhcpdClientRate,
    XdhcpdCircuitLeases,
    XdhcpdPortLeases,
    XdhcpdNewClients,
    XdhcpdHerdJitter,
    XdhcpdRandomMacLease,
    XdhcpdReclaimThreshold,
    XdhcpdIpv6Only,
}

/// Kind of value a parameter takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamKind {
    /// Seconds, or `infinite`; four bytes.
    Secs,
    /// `on off true false`, or `ignore`; one byte.
    Flag,
    /// 0-255.
    U8,
    /// 0-65535.
    U16,
    /// 32 bits.
    U32,
    /// An address, or a name for one; four bytes each.
    Ip,
    /// Text.
    Text,
    /// Name of an option space.
    Space,
    /// One of a list of words, stored as its place.
    Word(&'static [&'static str]),
    /// A date; four bytes, seconds since 1970.
    Date,
    /// `SECS, PERCENT SECS, ...`: what applies from so many percent on; five bytes each.
    Curve,
}

/// What we do with a statement (reference: MUST and SHOULD act, LATER is taken with a warning, NO is refused).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It acts.
    Acts,
    /// It is read, and a warning says that it does nothing.
    Later,
    /// Like [`Self::Later`], but silent as long as `ddns-update-style` is `none`.
    Ddns,
}

/// What is known of a parameter.
#[derive(Debug, Clone, Copy)]
pub struct ParamInfo {
    /// The parameter.
    pub param: Param,
    /// Its name in dhcpd.conf.
    pub name: &'static str,
    /// Kind of value.
    pub kind: ParamKind,
    /// What we do with it.
    pub status: Status,
    /// Whether only the root scope counts (reference section 3).
    pub process_wide: bool,
    /// dhcpd's default, for numbers and flags.
    pub default: Option<u32>,
}

/// Values of `ddns-update-style`; the place is the stored number.
pub const DDNS_STYLES: &[&str] = &["none", "ad-hoc", "interim", "standard"];

/// Values of `log-facility`; the place is the stored number.
pub const FACILITIES: &[&str] = &[
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "local0",
    "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// Values of `xdhcpd-guard`; the place is the stored number.
pub const GUARD_MODES: &[&str] = &["monitor", "enforce", "off"];

/// How the names of statements begin that only this server knows: dhcpd stops at the word, which says why.
pub const EXTENSION_PREFIX: &str = "xdhcpd-";
/// The extension that is no parameter, but a setting of a failover peer.
pub const LINK_KEY_FILE: &str = "xdhcpd-link-key-file";

const fn info(
    param: Param,
    name: &'static str,
    kind: ParamKind,
    status: Status,
    process_wide: bool,
    default: Option<u32>,
) -> ParamInfo {
    ParamInfo { param, name, kind, status, process_wide, default }
}

/// All parameters, in the order of [`Param`].
pub const PARAMS: &[ParamInfo] = {
    use Param as P;
    use ParamKind::{Curve, Date, Flag, Ip, Secs, Space, Text, U8, U16, U32, Word};
    use Status::{Acts, Ddns, Later};
    &[
        info(P::DefaultLeaseTime, "default-lease-time", Secs, Acts, false, Some(43_200)),
        info(P::MaxLeaseTime, "max-lease-time", Secs, Acts, false, Some(86_400)),
        info(P::MinLeaseTime, "min-lease-time", Secs, Acts, false, Some(300)),
        info(P::AdaptiveLeaseTimeThreshold, "adaptive-lease-time-threshold", U8, Acts, false, None),
        info(P::OneLeasePerClient, "one-lease-per-client", Flag, Acts, false, Some(0)),
        info(P::DhcpCacheThreshold, "dhcp-cache-threshold", U8, Acts, false, Some(25)),
        info(P::AbandonLeaseTime, "abandon-lease-time", Secs, Acts, true, Some(86_400)),
        info(P::InfiniteIsReserved, "infinite-is-reserved", Flag, Later, false, Some(0)),
        info(P::PingCheck, "ping-check", Flag, Acts, false, Some(1)),
        info(P::PingTimeout, "ping-timeout", Secs, Acts, false, Some(1)),
        info(P::PingTimeoutMs, "ping-timeout-ms", Secs, Acts, false, Some(0)),
        info(P::PingClttSecs, "ping-cltt-secs", Secs, Acts, false, Some(60)),
        info(P::GetLeaseHostnames, "get-lease-hostnames", Flag, Later, false, Some(0)),
        info(P::IgnoreClientUids, "ignore-client-uids", Flag, Acts, false, Some(0)),
        info(P::EchoClientId, "echo-client-id", Flag, Acts, false, Some(0)),
        info(P::StashAgentOptions, "stash-agent-options", Flag, Acts, false, Some(1)),
        info(P::MinSecs, "min-secs", U8, Acts, false, Some(0)),
        info(P::BootUnknownClients, "boot-unknown-clients", Flag, Acts, false, Some(1)),
        info(P::DynamicBootp, "dynamic-bootp", Flag, Later, false, None),
        info(P::DynamicBootpLeaseLength, "dynamic-bootp-lease-length", U32, Later, false, None),
        info(P::DynamicBootpLeaseCutoff, "dynamic-bootp-lease-cutoff", Date, Later, false, None),
        info(P::AlwaysBroadcast, "always-broadcast", Flag, Acts, false, Some(0)),
        info(P::AlwaysReplyRfc1048, "always-reply-rfc1048", Flag, Later, false, Some(0)),
        info(P::UseHostDeclNames, "use-host-decl-names", Flag, Acts, false, Some(0)),
        info(P::UseLeaseAddrForDefaultRoute, "use-lease-addr-for-default-route", Flag, Later, false, Some(0)),
        info(P::LogThresholdHigh, "log-threshold-high", U8, Acts, false, Some(0)),
        info(P::LogThresholdLow, "log-threshold-low", U8, Acts, false, Some(0)),
        info(P::NextServer, "next-server", Ip, Acts, false, None),
        info(P::Filename, "filename", Text, Acts, false, None),
        info(P::ServerName, "server-name", Text, Acts, false, None),
        info(P::ServerIdCheck, "server-id-check", Flag, Acts, true, Some(0)),
        info(P::CheckSecsByteOrder, "check-secs-byte-order", Flag, Acts, false, Some(0)),
        info(P::VendorOptionSpace, "vendor-option-space", Space, Acts, false, None),
        info(P::SiteOptionSpace, "site-option-space", Space, Later, false, None),
        info(P::LimitedBroadcastAddress, "limited-broadcast-address", Ip, Later, true, None),
        info(P::LocalPort, "local-port", U16, Acts, true, None),
        info(P::RemotePort, "remote-port", U16, Acts, true, None),
        info(P::LocalAddress, "local-address", Ip, Later, true, None),
        info(P::LeaseFileName, "lease-file-name", Text, Acts, true, None),
        info(P::PidFileName, "pid-file-name", Text, Acts, true, None),
        info(P::LogFacility, "log-facility", Word(FACILITIES), Acts, true, None),
        info(P::DelayedAck, "delayed-ack", U16, Acts, true, Some(0)),
        info(P::MaxAckDelay, "max-ack-delay", U32, Acts, true, Some(250_000)),
        info(P::DontUseFsync, "dont-use-fsync", Flag, Acts, true, Some(0)),
        info(P::OmapiPort, "omapi-port", U16, Later, true, None),
        info(P::OmapiKey, "omapi-key", Text, Later, true, None),
        info(P::DdnsUpdateStyle, "ddns-update-style", Word(DDNS_STYLES), Acts, true, Some(0)),
        info(P::DdnsUpdates, "ddns-updates", Flag, Ddns, false, None),
        info(P::DdnsHostname, "ddns-hostname", Text, Ddns, false, None),
        info(P::DdnsDomainname, "ddns-domainname", Text, Ddns, false, None),
        info(P::DdnsRevDomainname, "ddns-rev-domainname", Text, Ddns, false, None),
        info(P::DdnsTtl, "ddns-ttl", Secs, Ddns, false, None),
        info(P::DdnsLocalAddress4, "ddns-local-address4", Ip, Ddns, true, None),
        info(P::DoForwardUpdates, "do-forward-updates", Flag, Ddns, false, None),
        info(P::DoReverseUpdates, "do-reverse-updates", Flag, Ddns, false, None),
        info(P::UpdateOptimization, "update-optimization", Flag, Ddns, false, None),
        info(P::UpdateStaticLeases, "update-static-leases", Flag, Ddns, false, None),
        info(P::UpdateConflictDetection, "update-conflict-detection", Flag, Ddns, false, None),
        info(P::DdnsGuardIdMustMatch, "ddns-guard-id-must-match", Flag, Ddns, false, None),
        info(P::DdnsOtherGuardIsDynamic, "ddns-other-guard-is-dynamic", Flag, Ddns, false, None),
        info(P::DdnsDualStackMixedMode, "ddns-dual-stack-mixed-mode", Flag, Ddns, false, None),
        info(P::FqdnReply, "fqdn-reply", Flag, Ddns, false, None),
        info(P::AllowBooting, "allow-booting", Flag, Acts, false, Some(1)),
        info(P::AllowBootp, "allow-bootp", Flag, Acts, false, Some(1)),
        info(P::Declines, "declines", Flag, Acts, false, Some(1)),
        info(P::Duplicates, "duplicates", Flag, Acts, false, Some(1)),
        info(P::ClientUpdates, "client-updates", Flag, Ddns, false, None),
        info(P::Leasequery, "leasequery", Flag, Acts, false, Some(0)),
        info(P::XdhcpdGuard, "xdhcpd-guard", Word(GUARD_MODES), Acts, true, Some(0)),
        info(P::XdhcpdClientRate, "xdhcpd-client-rate", U32, Acts, true, Some(300)),
        info(P::XdhcpdCircuitLeases, "xdhcpd-circuit-leases", U32, Acts, false, Some(1024)),
        info(P::XdhcpdPortLeases, "xdhcpd-port-leases", U32, Acts, false, Some(4096)),
        info(P::XdhcpdNewClients, "xdhcpd-new-clients", U32, Acts, false, None),
        info(P::XdhcpdHerdJitter, "xdhcpd-herd-jitter", U8, Acts, false, Some(25)),
        info(P::XdhcpdRandomMacLease, "xdhcpd-random-mac-lease", Curve, Acts, false, None),
        info(P::XdhcpdReclaimThreshold, "xdhcpd-reclaim-threshold", U8, Acts, false, None),
        info(P::XdhcpdIpv6Only, "xdhcpd-ipv6-only", Flag, Acts, false, Some(0)),
    ]
};

/// Number of parameters.
pub const PARAM_COUNT: usize = PARAMS.len();

/// Why what begins with [`LDAP_PREFIX`] is refused.
const LDAP: &str = "configuration from LDAP is not supported; write the declarations into a file";
/// What all statements of a build with LDAP begin with.
pub const LDAP_PREFIX: &str = "ldap-";

/// Why a statement is refused by its name, in lower case (reference: NO).
#[must_use]
pub fn refused(name: &str) -> Option<&'static str> {
    let known = REFUSED.iter().find(|(known, _)| *known == name).map(|(_, why)| *why);
    known.or_else(|| name.starts_with(LDAP_PREFIX).then_some(LDAP))
}

/// Statements that belong to DHCPv6, each with the sentence that refuses it (reference: NO).
pub const REFUSED: &[(&str, &str)] = &[
    ("subnet6", "this server speaks DHCPv4 only"),
    ("pool6", "this server speaks DHCPv4 only"),
    ("range6", "this server speaks DHCPv4 only"),
    ("prefix6", "this server speaks DHCPv4 only"),
    ("fixed-address6", "this server speaks DHCPv4 only"),
    ("fixed-prefix6", "this server speaks DHCPv4 only"),
    ("preferred-lifetime", "it belongs to DHCPv6, and this server speaks DHCPv4 only"),
    ("dhcpv6-lease-file-name", "it belongs to DHCPv6, and this server speaks DHCPv4 only"),
    ("dhcpv6-pid-file-name", "it belongs to DHCPv6, and this server speaks DHCPv4 only"),
    ("dhcpv6-set-tee-times", "it belongs to DHCPv6, and this server speaks DHCPv4 only"),
    ("ddns-local-address6", "it belongs to DHCPv6, and this server speaks DHCPv4 only"),
    ("local-address6", "it belongs to DHCPv6, and this server speaks DHCPv4 only"),
    ("bind-local-address6", "it belongs to DHCPv6, and this server speaks DHCPv4 only"),
    ("release-on-roam", "it belongs to DHCPv6, and this server speaks DHCPv4 only"),
    ("prefix-length-mode", "it belongs to DHCPv6, and this server speaks DHCPv4 only"),
    ("limit-addrs-per-ia", "it belongs to DHCPv6, and this server speaks DHCPv4 only"),
    ("limit-prefs-per-ia", "it belongs to DHCPv6, and this server speaks DHCPv4 only"),
    ("use-eui-64", "it belongs to DHCPv6, and this server speaks DHCPv4 only"),
    ("persist-eui-64-leases", "it belongs to DHCPv6, and this server speaks DHCPv4 only"),
];

impl Param {
    /// Place in tables.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// What is known of it.
    #[must_use]
    pub fn info(self) -> &'static ParamInfo {
        &PARAMS[self.index()]
    }

    /// Its name in dhcpd.conf.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// Whether only this server knows the statement.
    #[must_use]
    pub fn is_extension(self) -> bool {
        self.name().starts_with(EXTENSION_PREFIX)
    }

    /// The parameter of this name, in any case of letters.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        PARAMS.iter().find(|info| info.name.eq_ignore_ascii_case(name)).map(|info| info.param)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum_and_names_are_unique() {
        for (place, info) in PARAMS.iter().enumerate() {
            assert_eq!(info.param.index(), place, "{}", info.name);
            assert_eq!(Param::by_name(&info.name.to_uppercase()), Some(info.param));
        }
        assert_eq!(Param::XdhcpdIpv6Only.index() + 1, PARAM_COUNT);
    }
}
