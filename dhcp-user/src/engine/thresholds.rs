//! Says when a pool fills up (dhcpd: `log-threshold-high`, `log-threshold-low`).

use std::net::Ipv4Addr;

use crate::config::{Config, Evaluation, Param, PoolId};

use super::{Server, port::Level};

impl Server {
    /// Looks at the fill of a pool after an ACK of `address`: one line when the high mark is reached, one when it is back
    /// at the low one; with the low mark above the high one a line for every ACK.
    pub(super) fn watch_fill(&mut self, config: &Config, evaluation: &Evaluation, pool: PoolId, address: Ipv4Addr) {
        let high = u64::from(evaluation.secs_or_default(Param::LogThresholdHigh));
        if high == 0 || high > 100 {
            return;
        }
        let low = u64::from(evaluation.secs_or_default(Param::LogThresholdLow));
        let (used, total) = self.fill(pool);
        let Some(is_said) = self.thresholds.get(pool.0).copied() else { return };
        let network = &config.shared_network(config.pool(pool).shared_network).name;
        let (what, mark, percent, says) = if is_said {
            ("reset", "low", low, used <= total * low / 100)
        } else {
            ("exceeded", "high", high, used >= total * high / 100)
        };
        if !says {
            return;
        }
        self.log(
            Level::Error,
            format!(
                "Pool threshold {what} - shared subnet: {network}; address: {address}; {mark} threshold {percent}% \
                 {used}/{total}."
            ),
        );
        if let Some(flag) = self.thresholds.get_mut(pool.0) {
            *flag = !is_said && low < high;
        }
    }
}
