//! What to pay for gas, and when to pay more. Pure.

use std::time::Duration;

use lloom_receipts::UnixSeconds;

use crate::chain::FeeQuote;

/// Pools take a replacement only when both fees rise by a tenth; an eighth passes every known one.
const REPLACEMENT_STEP_PER_MILLE: u128 = 125;
/// The step while a deadline is near.
const URGENT_STEP_PER_MILLE: u128 = 500;
/// Room for the base fee to rise before a transaction stops being valid: six full blocks double it.
const BASE_FEE_ROOM: u128 = 2;
/// A deadline's remaining time has room for this many replacements.
const REPLACEMENTS_BEFORE_DEADLINE: u32 = 10;

/// The limits of what is paid for gas, wei per gas.
#[derive(Clone, Debug)]
pub struct FeePolicy {
    /// The most that is paid while nothing presses.
    pub max_fee: u128,
    /// The most that is paid when a deadline is near: money that is lost otherwise is worth more gas.
    pub urgent_max_fee: u128,
    /// How long before a deadline `urgent_max_fee` and larger steps count.
    pub urgent_within: Duration,
    /// The least priority fee: some chains quote none and take none.
    pub min_priority_fee: u128,
    /// How long a transaction may wait for a block before it is replaced by a dearer one.
    pub patience: Duration,
    /// How long after a broadcast the same bytes are sent again: pools forget.
    pub rebroadcast: Duration,
}

impl Default for FeePolicy {
    fn default() -> Self {
        const GWEI: u128 = 1_000_000_000;
        Self {
            max_fee: 200 * GWEI,
            urgent_max_fee: 2_000 * GWEI,
            urgent_within: Duration::from_secs(30 * 60),
            min_priority_fee: 1_000_000,
            patience: Duration::from_secs(90),
            rebroadcast: Duration::from_secs(30),
        }
    }
}

/// What one transaction offers, wei per gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// At most, base fee included.
    pub max_fee: u128,
    /// To the block's maker.
    pub priority_fee: u128,
}

/// Gas costs more than the policy pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gas costs {base_fee} wei, more than the {limit} that the fee policy pays")]
pub struct FeesTooHigh {
    /// The next block's base fee.
    pub base_fee: u128,
    /// The policy's limit.
    pub limit: u128,
}

impl FeePolicy {
    /// What a new transaction offers.
    ///
    /// # Errors
    /// [`FeesTooHigh`] when the base fee alone is above the limit: the transaction would only wait.
    pub fn offer(&self, quote: FeeQuote, deadline: Option<UnixSeconds>, now: UnixSeconds) -> Result<Fees, FeesTooHigh> {
        let limit = self.limit(deadline, now);
        if quote.base_fee > limit {
            return Err(FeesTooHigh {
                base_fee: quote.base_fee,
                limit,
            });
        }
        Ok(self.market(quote, limit))
    }

    /// What a replacement of a transaction that offers `previous` offers, unless the limit is reached.
    pub fn escalate(
        &self,
        previous: Fees,
        quote: FeeQuote,
        deadline: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Option<Fees> {
        let limit = self.limit(deadline, now);
        let step = if self.is_urgent(deadline, now) {
            URGENT_STEP_PER_MILLE
        } else {
            REPLACEMENT_STEP_PER_MILLE
        };
        let raised = |fee: u128| {
            fee.saturating_add(fee.saturating_mul(step).div_ceil(1_000))
                .saturating_add(1)
        };
        let market = self.market(quote, limit);
        let fees = Fees {
            max_fee: raised(previous.max_fee).max(market.max_fee),
            priority_fee: raised(previous.priority_fee).max(market.priority_fee),
        };
        (fees.max_fee <= limit).then_some(fees)
    }

    /// `fees` lowered to `affordable` wei per gas, if they are above it: near a deadline a claim that the next block
    /// takes is better than none. `None` when it has to be refused, for it would only wait, or nothing presses.
    pub fn lower(
        &self,
        fees: Fees,
        affordable: u128,
        quote: FeeQuote,
        deadline: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Option<Fees> {
        if fees.max_fee <= affordable {
            return Some(fees);
        }
        let least = quote.base_fee.saturating_add(fees.priority_fee);
        (self.is_urgent(deadline, now) && affordable >= least).then_some(Fees {
            max_fee: affordable,
            ..fees
        })
    }

    /// How long a transaction may wait for a block before it is replaced.
    pub fn patience(&self, deadline: Option<UnixSeconds>, now: UnixSeconds) -> Duration {
        match deadline {
            Some(deadline) => self.patience.min(deadline.since(now) / REPLACEMENTS_BEFORE_DEADLINE),
            None => self.patience,
        }
    }

    fn market(&self, quote: FeeQuote, limit: u128) -> Fees {
        let priority_fee = quote.priority_fee.max(self.min_priority_fee);
        let max_fee = quote
            .base_fee
            .saturating_mul(BASE_FEE_ROOM)
            .saturating_add(priority_fee)
            .min(limit);
        Fees {
            max_fee,
            priority_fee: priority_fee.min(max_fee),
        }
    }

    fn limit(&self, deadline: Option<UnixSeconds>, now: UnixSeconds) -> u128 {
        if self.is_urgent(deadline, now) {
            self.urgent_max_fee.max(self.max_fee)
        } else {
            self.max_fee
        }
    }

    fn is_urgent(&self, deadline: Option<UnixSeconds>, now: UnixSeconds) -> bool {
        deadline.is_some_and(|deadline| deadline.since(now) <= self.urgent_within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds::new(1_000_000);

    fn policy() -> FeePolicy {
        FeePolicy {
            max_fee: 100,
            urgent_max_fee: 1_000,
            urgent_within: Duration::from_secs(600),
            min_priority_fee: 2,
            patience: Duration::from_secs(60),
            rebroadcast: Duration::from_secs(30),
        }
    }

    const fn quote(base_fee: u128) -> FeeQuote {
        FeeQuote {
            base_fee,
            priority_fee: 1,
        }
    }

    fn in_seconds(seconds: u64) -> Option<UnixSeconds> {
        Some(NOW.plus(Duration::from_secs(seconds)))
    }

    #[test]
    fn offers_room_for_the_base_fee_to_double_within_the_limit() {
        let offer = |base_fee| policy().offer(quote(base_fee), None, NOW);
        assert_eq!(
            offer(10),
            Ok(Fees {
                max_fee: 22,
                priority_fee: 2
            })
        );
        assert_eq!(
            offer(80),
            Ok(Fees {
                max_fee: 100,
                priority_fee: 2
            })
        );
        assert_eq!(
            offer(101),
            Err(FeesTooHigh {
                base_fee: 101,
                limit: 100
            })
        );
    }

    #[test]
    fn a_near_deadline_pays_more() {
        assert!(policy().offer(quote(300), in_seconds(601), NOW).is_err());
        assert_eq!(
            policy().offer(quote(300), in_seconds(600), NOW),
            Ok(Fees {
                max_fee: 602,
                priority_fee: 2
            })
        );
        // A deadline that has passed is as urgent as can be: the payer may not have withdrawn yet.
        assert!(
            policy()
                .offer(quote(300), Some(NOW.minus(Duration::from_secs(5))), NOW)
                .is_ok()
        );
    }

    #[test]
    fn near_a_deadline_what_the_balance_affords_is_enough_if_the_next_block_takes_it() {
        let fees = Fees {
            max_fee: 62,
            priority_fee: 2,
        };
        let lower = |affordable, deadline| policy().lower(fees, affordable, quote(30), deadline, NOW);
        assert_eq!(lower(62, None), Some(fees));
        assert_eq!(lower(61, in_seconds(601)), None);
        assert_eq!(lower(61, in_seconds(600)), Some(Fees { max_fee: 61, ..fees }));
        assert_eq!(lower(32, in_seconds(600)), Some(Fees { max_fee: 32, ..fees }));
        assert_eq!(lower(31, in_seconds(600)), None);
    }

    #[test]
    fn a_replacement_raises_both_fees_by_what_pools_ask_for() {
        let previous = Fees {
            max_fee: 40,
            priority_fee: 8,
        };
        let next = policy().escalate(previous, quote(1), None, NOW).unwrap();
        assert!(next.max_fee * 1_000 >= previous.max_fee * 1_125);
        assert!(next.priority_fee * 1_000 >= previous.priority_fee * 1_125);
        let urgent = policy().escalate(previous, quote(1), in_seconds(60), NOW).unwrap();
        assert!(urgent.max_fee > next.max_fee);
        // The market has moved further than the step.
        assert_eq!(policy().escalate(previous, quote(49), None, NOW).unwrap().max_fee, 100);
    }

    #[test]
    fn escalation_ends_at_the_limit_and_goes_on_when_the_deadline_nears() {
        let previous = Fees {
            max_fee: 95,
            priority_fee: 5,
        };
        assert_eq!(policy().escalate(previous, quote(1), None, NOW), None);
        assert!(policy().escalate(previous, quote(1), in_seconds(60), NOW).is_some());
    }

    #[test]
    fn patience_shrinks_with_the_time_left() {
        let patience = |deadline| policy().patience(deadline, NOW).as_secs();
        assert_eq!(patience(None), 60);
        assert_eq!(patience(in_seconds(3_600)), 60);
        assert_eq!(patience(in_seconds(100)), 10);
        assert_eq!(patience(in_seconds(0)), 0);
    }
}
