//! Time arithmetic of lazy updates (failover-12 5.2.1, dhcpd 4.4.3's formulas).

use crate::lease::time::WallTime;

/// `want` of a client that is given its lease for ever.
pub const WANT_FOREVER: u32 = u32::MAX;

/// What to tell the client and the partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grant {
    /// Lease time for the client, seconds; [`WANT_FOREVER`] is for ever.
    pub secs: u32,
    /// Potential expiry for the partner.
    #[doc(alias = "tstp")]
    pub told_partner: WallTime,
}

/// The lease time for a client that wants `want` seconds: never further than MCLT beyond what the partner knows.
#[must_use]
pub const fn granted_secs(want: u32, from_partner: WallTime, mclt_secs: u32, now: WallTime) -> u32 {
    if want <= mclt_secs || from_partner.secs() >= WallTime::NEVER.secs() {
        return want;
    }
    if from_partner.secs() <= now.secs() {
        return mclt_secs;
    }
    let agreed = from_partner.since(now).saturating_add(mclt_secs);
    if want > agreed { agreed } else { want }
}

/// The potential expiry that goes with a grant: the lease the client will want at its renewal, and a half.
///
/// Unlike dhcpd, a potential expiry is never lowered while the lease lives: a partner that has not heard of the
/// lower one could still promise up to the higher, and one that has could already stop honouring it (I1).
#[must_use]
pub fn potential_expiry(want: u32, granted: u32, from_partner: WallTime, now: WallTime) -> WallTime {
    let computed = if want == WANT_FOREVER {
        WallTime::NEVER
    } else {
        let end = u64::from(now.secs()) + u64::from(want) + u64::from(granted / 2);
        WallTime::from_secs(end.min(u64::from(WallTime::NEVER.secs() - 1)))
    };
    computed.max(from_partner)
}

/// The latest instant that a client may be told without asking the partner again (I7).
#[must_use]
pub fn horizon(from_partner: WallTime, mclt_secs: u32, now: WallTime) -> WallTime {
    from_partner.max(now).after(mclt_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime::from_secs(1_795_336_788);

    #[test]
    fn a_first_lease_is_mclt_and_the_next_one_is_whole() {
        let first = granted_secs(300, WallTime::NONE, 40, NOW);
        assert_eq!(first, 40);
        let potential = potential_expiry(300, first, WallTime::NONE, NOW);
        assert_eq!(potential, NOW.after(320), "measured: now + 300 + 20");
        let later = NOW.after(23);
        let second = granted_secs(300, potential, 40, later);
        assert_eq!(second, 300);
        assert_eq!(potential_expiry(300, second, potential, later), later.after(450), "measured");
    }

    #[test]
    fn a_grant_table() {
        for (want, tsfp, expected) in [
            (40, WallTime::NONE, 40),
            (39, WallTime::NONE, 39),
            (300, NOW, 40),
            (300, NOW.after(1), 41),
            (300, NOW.after(259), 299),
            (300, NOW.after(260), 300),
            (300, NOW.after(500), 300),
            (WANT_FOREVER, NOW.after(500), 540),
            (WANT_FOREVER, WallTime::NEVER, WANT_FOREVER),
        ] {
            assert_eq!(granted_secs(want, tsfp, 40, NOW), expected, "want {want} tsfp {tsfp:?}");
        }
    }

    #[test]
    fn a_potential_expiry_is_never_lowered_and_never_wraps() {
        assert_eq!(potential_expiry(10, 10, NOW.after(1000), NOW), NOW.after(1000));
        assert_eq!(potential_expiry(WANT_FOREVER, 40, WallTime::NONE, NOW), WallTime::NEVER);
        assert_eq!(potential_expiry(WANT_FOREVER - 1, 40, WallTime::NONE, NOW).secs(), 0x7fff_fffe);
    }

    #[test]
    fn no_grant_goes_beyond_the_horizon() {
        for want in [1, 39, 40, 41, 300, 100_000] {
            for tsfp in [WallTime::NONE, NOW, NOW.after(10), NOW.after(5000)] {
                let granted = granted_secs(want, tsfp, 40, NOW);
                assert!(NOW.after(granted) <= horizon(tsfp, 40, NOW));
            }
        }
    }
}
