//! What to pay for gas, and when to pay more. Pure.

use std::time::Duration;

use lloom_receipts::UnixSeconds;

use crate::chain::FeeQuote;

/// Pools take a replacement only when both fees rise by a tenth (geth's `txpool.pricebump`).
const REPLACEMENT_RULE_PER_MILLE: u128 = 100;
/// An eighth passes every known pool.
const REPLACEMENT_STEP_PER_MILLE: u128 = 125;
/// The step while a deadline is near.
const URGENT_STEP_PER_MILLE: u128 = 500;
/// Room for the base fee to rise before a transaction stops being valid: six full blocks double it.
const BASE_FEE_ROOM: u128 = 2;
/// The same when a deadline has come: twenty full blocks in a row. What is not needed of it is not paid.
const BASE_FEE_ROOM_AT_DEADLINE: u128 = 10;
/// What is offered to blocks' makers when a deadline has come, as a multiple of what they were paid lately. This is paid.
const PRIORITY_AT_DEADLINE: u128 = 10;
/// A deadline's remaining time has room for this many replacements.
pub(crate) const REPLACEMENTS_BEFORE_DEADLINE: u32 = 10;

const _: () = assert!(REPLACEMENT_STEP_PER_MILLE > REPLACEMENT_RULE_PER_MILLE);
const _: () = assert!(URGENT_STEP_PER_MILLE > REPLACEMENT_RULE_PER_MILLE);

/// The limits of what is paid for gas, wei per gas.
///
/// A bid is the next block's base fee with room to rise, and what makers of blocks were paid lately. In the last
/// `urgent_within` before a deadline both grow in proportion to the time that is used up, from twice the base fee to ten
/// times, and from one usual tip to ten; the limit is `urgent_max_fee` from the beginning of that time, because whoever
/// waits for a cheaper block there may get none. A bid that leaves no room for one more replacement goes to the limit itself:
/// between the two nothing could be done about it any more, and what a block does not ask for is not paid. At the limit a
/// transaction is sent again as it is, until blocks take it.
#[derive(Clone, Debug)]
pub struct FeePolicy {
    /// The most that is paid while nothing presses.
    pub max_fee: u128,
    /// The most that is paid when a deadline is near: money that is lost otherwise is worth more gas. Never more.
    pub urgent_max_fee: u128,
    /// How long before a deadline `urgent_max_fee` counts, bids grow and steps are larger.
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
        Ok(self.market(quote, limit, self.pressure(deadline, now)))
    }

    /// What a replacement of a transaction that offers `previous` offers, unless the limit leaves no room for what pools
    /// ask of one.
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
        let market = self.market(quote, limit, self.pressure(deadline, now));
        let max_fee = with_room(raised(previous.max_fee, step).max(market.max_fee), limit);
        let priority_fee = raised(previous.priority_fee, step)
            .max(market.priority_fee)
            .min(max_fee);
        let fees = Fees { max_fee, priority_fee };
        replaces(fees, previous).then_some(fees)
    }

    /// What a replacement of a transaction that offers `previous` offers while no block is made that could have taken it:
    /// what a new one would, if pools take that in its place. Nobody is outbid meanwhile, and what a bid grows by is paid
    /// once blocks come again.
    pub fn catch_up(
        &self,
        previous: Fees,
        quote: FeeQuote,
        deadline: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Option<Fees> {
        let market = self.market(quote, self.limit(deadline, now), self.pressure(deadline, now));
        replaces(market, previous).then_some(market)
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
        let least = quote.base_fee.saturating_add(self.usual_priority(quote));
        (self.is_urgent(deadline, now) && affordable >= least).then_some(Fees {
            max_fee: affordable,
            priority_fee: fees.priority_fee.min(affordable.saturating_sub(quote.base_fee)),
        })
    }

    /// [`lower`](Self::lower) for what is to replace a transaction that offers `previous`: `None`, too, when pools wouldn't
    /// take it in that one's place.
    pub fn lower_replacement(
        &self,
        previous: Fees,
        fees: Fees,
        affordable: u128,
        quote: FeeQuote,
        deadline: Option<UnixSeconds>,
        now: UnixSeconds,
    ) -> Option<Fees> {
        let lowered = self.lower(fees, affordable, quote, deadline, now);
        lowered.filter(|lowered| replaces(*lowered, previous))
    }

    /// Whether the next block may take what offers `fees`.
    pub fn suffices(&self, fees: Fees, quote: FeeQuote) -> bool {
        let room = fees.max_fee.checked_sub(quote.base_fee);
        room.is_some_and(|room| room.min(fees.priority_fee) >= self.usual_priority(quote))
    }

    /// How long a transaction may wait for a block before it is replaced.
    pub fn patience(&self, deadline: Option<UnixSeconds>, now: UnixSeconds) -> Duration {
        match deadline {
            Some(deadline) => self.patience.min(deadline.since(now) / REPLACEMENTS_BEFORE_DEADLINE),
            None => self.patience,
        }
    }

    fn usual_priority(&self, quote: FeeQuote) -> u128 {
        quote.priority_fee.max(self.min_priority_fee)
    }

    fn market(&self, quote: FeeQuote, limit: u128, pressure: u128) -> Fees {
        // From `relaxed` times to `pressed` times, as the pressure grows.
        let grown = |fee: u128, relaxed: u128, pressed: u128| {
            let per_mille = relaxed * 1_000 + (pressed - relaxed) * pressure;
            fee.saturating_mul(per_mille) / 1_000
        };
        let priority_fee = grown(self.usual_priority(quote), 1, PRIORITY_AT_DEADLINE);
        let wanted = grown(quote.base_fee, BASE_FEE_ROOM, BASE_FEE_ROOM_AT_DEADLINE).saturating_add(priority_fee);
        let max_fee = with_room(wanted, limit);
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

    /// How much of the urgent time before a deadline is used up, in thousandths: 0 before it begins, 1,000 at the deadline
    /// and after it, when the payer may not have withdrawn yet.
    fn pressure(&self, deadline: Option<UnixSeconds>, now: UnixSeconds) -> u128 {
        let Some(deadline) = deadline else {
            return 0;
        };
        let whole = self.urgent_within.as_millis().max(1);
        1_000 - deadline.since(now).as_millis().min(whole) * 1_000 / whole
    }

    pub(crate) fn is_urgent(&self, deadline: Option<UnixSeconds>, now: UnixSeconds) -> bool {
        deadline.is_some_and(|deadline| deadline.since(now) <= self.urgent_within)
    }
}

/// `fee` and `step` thousandths of it, and one more for what is rounded.
fn raised(fee: u128, step: u128) -> u128 {
    fee.saturating_add(fee.saturating_mul(step).div_ceil(1_000))
        .saturating_add(1)
}

/// `max_fee`, or the limit where it leaves no room for a replacement below that.
fn with_room(max_fee: u128, limit: u128) -> u128 {
    if raised(max_fee, REPLACEMENT_RULE_PER_MILLE) > limit {
        limit
    } else {
        max_fee
    }
}

/// Whether pools take `fees` in the place of `previous`.
fn replaces(fees: Fees, previous: Fees) -> bool {
    let is_enough = |fee: u128, previous: u128| fee >= raised(previous, REPLACEMENT_RULE_PER_MILLE);
    is_enough(fees.max_fee, previous.max_fee) && is_enough(fees.priority_fee, previous.priority_fee)
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
        // What was added for the hurry goes first.
        let hasty = Fees {
            max_fee: 320,
            priority_fee: 20,
        };
        let lowered = policy().lower(hasty, 35, quote(30), in_seconds(0), NOW);
        assert_eq!(
            lowered,
            Some(Fees {
                max_fee: 35,
                priority_fee: 5
            })
        );
    }

    #[test]
    fn a_bid_grows_with_the_time_that_is_used_up_and_never_beyond_the_limit() {
        let bid = |seconds| policy().offer(quote(20), in_seconds(seconds), NOW).unwrap();
        let bids: Vec<(u128, u128)> = [3_600, 600, 300, 60, 0]
            .map(|seconds| (bid(seconds).max_fee, bid(seconds).priority_fee))
            .to_vec();
        assert_eq!(bids, [(42, 2), (42, 2), (131, 11), (202, 18), (220, 20)]);
        let late = policy().offer(quote(400), in_seconds(0), NOW).unwrap();
        assert_eq!(late.max_fee, 1_000);

        // The same of replacements: whatever the time, no less than pools ask for, and no more than the limit.
        let mut fees = bid(600);
        for seconds in (0..=590).rev().step_by(10) {
            let Some(next) = policy().escalate(fees, quote(20), in_seconds(seconds), NOW) else {
                assert!(fees.max_fee * 11 / 10 >= 1_000, "it gave up at {fees:?}");
                continue;
            };
            assert!(next.max_fee * 10 >= fees.max_fee * 11 && next.priority_fee * 10 >= fees.priority_fee * 11);
            assert!(next.max_fee <= 1_000 && next.priority_fee <= next.max_fee);
            assert!(next.max_fee >= bid(seconds).max_fee);
            fees = next;
        }
    }

    #[test]
    fn the_last_step_goes_to_the_limit_if_pools_take_it() {
        let escalate = |max_fee| {
            let previous = Fees {
                max_fee,
                priority_fee: 5,
            };
            policy()
                .escalate(previous, quote(1), None, NOW)
                .map(|fees| fees.max_fee)
        };
        // An eighth more would be 101.
        assert_eq!(escalate(89), Some(100));
        // A tenth more is beyond it.
        assert_eq!(escalate(91), None);
    }

    #[test]
    fn no_bid_stands_where_it_could_be_neither_raised_nor_mined() {
        // Twice the base fee would be 96, which nothing below the limit can replace.
        let offer = policy().offer(quote(47), None, NOW).unwrap();
        assert_eq!(offer.max_fee, 100);
        // A tenth above 84 is 93.4, which is still a bid; an eighth above it would be stuck.
        let previous = Fees {
            max_fee: 84,
            priority_fee: 2,
        };
        assert_eq!(policy().escalate(previous, quote(1), None, NOW).unwrap().max_fee, 100);
        for base_fee in 1..=100 {
            let bid = policy().offer(quote(base_fee), None, NOW).unwrap();
            let next = policy().escalate(bid, quote(base_fee), None, NOW);
            assert!(bid.max_fee == 100 || next.is_some(), "stuck at {bid:?}");
        }
    }

    #[test]
    fn a_replacement_is_lowered_to_what_pools_and_the_next_block_still_take() {
        let (previous, quote) = (
            Fees {
                max_fee: 94,
                priority_fee: 4,
            },
            quote(114),
        );
        let raised = policy().escalate(previous, quote, in_seconds(0), NOW).unwrap();
        assert_eq!(raised.max_fee, 1_000);
        let lower =
            |affordable, deadline| policy().lower_replacement(previous, raised, affordable, quote, deadline, NOW);
        assert_eq!(lower(342, in_seconds(0)).unwrap().max_fee, 342);
        assert_eq!(lower(120, in_seconds(0)).map(|fees| fees.max_fee), Some(120));
        // The tip that is left is no tenth more.
        assert_eq!(lower(118, in_seconds(0)), None);
        assert_eq!(lower(342, None), None);
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
    fn while_no_block_is_made_a_bid_follows_the_market_and_no_more() {
        let at = |seconds, max_fee, priority_fee| {
            let previous = Fees { max_fee, priority_fee };
            policy().catch_up(previous, quote(20), in_seconds(seconds), NOW)
        };
        assert_eq!(at(600, 42, 2), None, "it is what a new one would offer");
        assert_eq!(
            at(600, 30, 0).map(|fees| fees.max_fee),
            Some(42),
            "the market has moved"
        );
        assert_eq!(
            at(0, 42, 2).map(|fees| (fees.max_fee, fees.priority_fee)),
            Some((220, 20))
        );
        assert_eq!(at(0, 220, 20), None, "and that is all, however long it takes");
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
