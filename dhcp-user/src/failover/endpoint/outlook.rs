//! What this server can do without its partner. All leases have to be looked at for that, so it is done in slices, and
//! what was found last is kept: no client waits for an operator's question.

use super::{Endpoint, Level};
use crate::failover::binding::{BindingState, Leases};
use crate::failover::limits::{SURVEY_PAUSE, SURVEY_SLICE_LEN};
use crate::failover::times;
use crate::lease::time::{BootTime, Now, WallTime};

/// What happens if the partner dies now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartnerLoss {
    /// Addresses that new clients can be given at once.
    pub own_addresses: u32,
    /// When every address of the partner's may be used, if partner-down is entered now; in partner-down: when they may.
    pub takeover_complete: WallTime,
    /// Until when every active client can be renewed without the partner; `None` without active leases, never's end in
    /// partner-down.
    pub renewals_covered_until: Option<WallTime>,
}

/// What bounds the leases that run (I7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeaseBounds {
    /// Active leases.
    pub active: u32,
    /// Those of which the partner has acknowledged more than this moment: MCLT counts from there. For the others it
    /// counts from now.
    pub acknowledged: u32,
    /// Until when each of them can be extended without the partner; `None` without active leases.
    pub soonest: Option<WallTime>,
    /// Until when one of them can.
    pub latest: Option<WallTime>,
    /// The partner is down: leases are whole, whatever it has acknowledged.
    pub is_unlimited: bool,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// When the look began: instants count from here.
    pub at: WallTime,
    /// If the partner dies now.
    pub loss: PartnerLoss,
    /// What bounds the leases that run.
    pub bounds: LeaseBounds,
}

impl Outlook {
    const fn begun(at: WallTime) -> Self {
        Self {
            at,
            loss: PartnerLoss { own_addresses: 0, takeover_complete: at, renewals_covered_until: None },
            bounds: LeaseBounds { active: 0, acknowledged: 0, soonest: None, latest: None, is_unlimited: false },
        }
    }
}

/// A look that is under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Survey {
    /// So far.
    outlook: Outlook,
    /// Pool and position of the first lease that was not looked at yet.
    next: (usize, u32),
    /// When the next slice may be.
    due: BootTime,
    /// What the line in the log begins with; `None` = an operator has asked.
    occasion: Option<&'static str>,
}

impl Endpoint {
    /// Whether a look at all leases is under way.
    #[must_use]
    pub const fn is_surveying(&self) -> bool {
        self.survey.is_some()
    }

    /// When the next slice of it is due.
    pub(super) fn survey_due(&self) -> Option<BootTime> {
        self.survey.map(|survey| survey.due)
    }

    /// Begins to look, unless that is under way; the first slice, which in a small network is all, is looked at now.
    pub(super) fn begin_survey(&mut self, occasion: Option<&'static str>, leases: &dyn Leases, now: Now) {
        match &mut self.survey {
            Some(survey) => survey.occasion = occasion.or(survey.occasion),
            None => {
                let outlook = Outlook::begun(now.wall);
                self.survey = Some(Survey { outlook, next: (0, 0), due: now.boot, occasion });
                self.poll_survey(leases, now);
            }
        }
    }

    /// The state (which has an occasion of its own, or none) or the pools have changed: what was seen so far may count for
    /// nothing.
    pub(super) const fn restart_survey(&mut self, is_another_state: bool, now: Now) {
        if let Some(survey) = &mut self.survey {
            (survey.outlook, survey.next) = (Outlook::begun(now.wall), (0, 0));
            if is_another_state {
                survey.occasion = None;
            }
        }
    }

    /// One slice, when it is due.
    pub(super) fn poll_survey(&mut self, leases: &dyn Leases, now: Now) {
        let Some(mut survey) = self.survey.take_if(|survey| survey.due <= now.boot) else { return };
        let mut left = SURVEY_SLICE_LEN;
        while left > 0 {
            let (pool, from) = survey.next;
            if pool >= leases.pool_count() {
                return self.end_survey(survey, now);
            }
            let alone = self.alone().unwrap_or_else(|| self.alone_since(survey.outlook.at));
            let Outlook { at, loss, bounds } = &mut survey.outlook;
            let mut count = 0_u32;
            let next = leases.visit_some(pool, from, left, &mut |binding| {
                count = count.saturating_add(1);
                if binding.state == self.settings.role.own_state() {
                    loss.own_addresses = loss.own_addresses.saturating_add(1);
                } else if binding.state == self.settings.role.partner_state() {
                    loss.takeover_complete = loss.takeover_complete.max(alone.partner_promise(binding));
                } else if binding.state == BindingState::Active {
                    let until = times::horizon(binding.from_partner, self.mclt_secs, *at);
                    bounds.active = bounds.active.saturating_add(1);
                    bounds.acknowledged = bounds.acknowledged.saturating_add(u32::from(binding.from_partner > *at));
                    bounds.soonest = Some(bounds.soonest.map_or(until, |soonest| soonest.min(until)));
                    bounds.latest = Some(bounds.latest.map_or(until, |latest| latest.max(until)));
                }
            });
            left = left.saturating_sub(count.max(1));
            survey.next = next.map_or((pool.saturating_add(1), 0), |from| (pool, from));
        }
        survey.due = now.boot.after(SURVEY_PAUSE);
        self.survey = Some(survey);
    }

    fn end_survey(&mut self, survey: Survey, now: Now) {
        let mut outlook = survey.outlook;
        outlook.bounds.is_unlimited = self.is_unlimited();
        let unlimited = outlook.bounds.is_unlimited.then_some(WallTime::NEVER);
        outlook.loss.renewals_covered_until = outlook.bounds.soonest.map(|soonest| unlimited.unwrap_or(soonest));
        self.outlook = Some(outlook);
        if let Some(occasion) = survey.occasion {
            self.log_outlook(occasion, &outlook, now);
        }
    }

    /// Says in the log what this server can do without its partner: when both have met, and when they have lost each
    /// other.
    fn log_outlook(&mut self, occasion: &str, outlook: &Outlook, now: Now) {
        let Outlook { loss, bounds, .. } = outlook;
        let secs = |until: WallTime| until.since(now.wall);
        let renewals = loss.renewals_covered_until.map_or_else(
            || "nobody has a lease".to_owned(),
            |until| format!("renewals of {} leases covered for {} s at least", bounds.active, secs(until)),
        );
        let text = format!(
            "failover peer {}: {occasion}: {renewals}, new clients from {} own addresses, takeover complete in {} s \
             (xdhcpd failover partner-down)",
            self.settings.name,
            loss.own_addresses,
            secs(loss.takeover_complete)
        );
        self.log(Level::Info, text);
    }
}
