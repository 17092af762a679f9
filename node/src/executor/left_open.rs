//! Requests that other operators of this store have left open.
//!
//! A node bills at its start what its last run left open ([`Executor::recover`]). One that is gone for good never starts
//! again, and neither does one whose home has another key since: what their clients acknowledged could never be claimed, and
//! their channels never be closed. To commit a bill takes no signature, so any other node of the store does it in the end.
//! Who holds the key may sign it later; the payer's vouchers pay for it without.
//!
//! When an answer is over can't be seen from here, only waited for. Whatever happens, a request has one bill: if its node
//! was answering after all, the ledger lets no further increment of it leave, and the bill that was committed here is the only
//! one which that node signs.

use std::time::Duration;

use lloom_ledger::{ChannelState, ServeError};
use lloom_receipts::{InferenceRequest, UnixSeconds};
use tokio::time::{MissedTickBehavior, interval};

use super::Executor;
use crate::backend::LONGEST_ANSWER;

/// How long after its deadline, the last moment at which it may have been begun, a request is under way at most: as long as
/// a backend answers; and ten minutes in which the last voucher comes, or doesn't, the client reads the end, or doesn't, and
/// the bill is late, by clocks that may differ.
const UNDER_WAY: Duration = LONGEST_ANSWER.saturating_add(Duration::from_secs(600));

/// The same after its payer has asked for the channel's close. Nothing but the increment that was reserved before leaves
/// any more, so what is billed too early is less than that; what is billed after the grace period, which is an hour, is lost.
const WINDING_UP: Duration = Duration::from_secs(600);

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(60);

impl Executor {
    /// Bills what clients of other operators on this store have acknowledged, of requests that can't be under way any more
    /// (see [`recover`](Self::recover), which comes first). Says how many bills that were.
    ///
    /// # Errors
    /// The ledger's. Calling it again goes on where it stopped.
    pub async fn bill_left_open(&self) -> Result<usize, ServeError> {
        let ledger = &self.shared.ledger;
        let mut interrupted = ledger.interrupted_requests().await?;
        interrupted.retain(|interrupted| interrupted.request.document().operator != self.shared.operator());
        let mut bills = 0;
        for interrupted in interrupted {
            let request = interrupted.request.document();
            let channel = ledger.channel(request.channel).await?;
            let state = channel.and_then(|channel| channel.latest);
            if !is_over(request, state, ledger.now()) {
                continue;
            }
            match self.shared.bill_acknowledged(&interrupted).await {
                Ok(bill) => {
                    bills += 1;
                    tracing::warn!(channel = %request.channel, request = %request.hash(), operator = %request.operator, amount = %bill.bill().amount, "billed what was acknowledged to another operator of this store, which left it open");
                }
                // Its own node was faster, or the store turned out to be an old copy.
                Err(ServeError::UnknownRequest | ServeError::Waived { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bills)
    }

    /// [Bills what others left open](Self::bill_left_open), now and whenever there is more of it. Runs until it is dropped.
    pub async fn look_after_left_open(&self) {
        let mut looks = interval(INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if let Err(error) = self.bill_left_open().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot bill what another operator of this store left open; trying again"
                );
            }
        }
    }
}

/// Whether nobody can be answering `request` any more, whose channel stands like `channel`.
fn is_over(request: &InferenceRequest, channel: Option<ChannelState>, now: UnixSeconds) -> bool {
    let close_requested_at = channel.and_then(|state| state.close_requested_at);
    let winding_up = close_requested_at.map(|at| at.max(request.deadline).plus(WINDING_UP));
    let over_at = request.deadline.plus(UNDER_WAY);
    now > winding_up.map_or(over_at, |at| at.min(over_at))
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256, U256};
    use lloom_receipts::{
        ChannelId, ContentHash, ModelHash, PricePerMillion, Prices, RequestNonce, TokenAmount, TokenCount,
    };

    use super::*;

    const DEADLINE: UnixSeconds = UnixSeconds::new(10_000);

    fn over_at(seconds: Duration, close_requested_at: Option<u64>) -> bool {
        let free = PricePerMillion::new(TokenAmount::ZERO);
        let request = InferenceRequest {
            channel: ChannelId::new(B256::ZERO),
            operator: Address::ZERO,
            nonce: RequestNonce::new(U256::ONE),
            model: ModelHash::of_id("model"),
            prompt_hash: ContentHash::new(B256::ZERO),
            max_input: TokenCount::new(1),
            max_output: TokenCount::new(1),
            prices: Prices {
                input: free,
                output: free,
            },
            deadline: DEADLINE,
        };
        let state = ChannelState {
            deposit: TokenAmount::ZERO,
            settled: TokenAmount::ZERO,
            close_requested_at: close_requested_at.map(UnixSeconds::new),
            finalized: false,
        };
        is_over(&request, Some(state), DEADLINE.plus(seconds))
    }

    #[test]
    fn an_answer_is_over_when_it_could_not_have_lasted_longer() {
        let second = Duration::from_secs(1);
        assert!(!over_at(UNDER_WAY, None));
        assert!(over_at(UNDER_WAY + second, None));
    }

    #[test]
    fn a_leaving_payers_answers_are_over_in_time_to_be_claimed() {
        let second = Duration::from_secs(1);
        assert!(!over_at(WINDING_UP, Some(9_000)), "it may have been begun since");
        assert!(over_at(WINDING_UP + second, Some(9_000)));
        assert!(!over_at(WINDING_UP + second, Some(10_500)), "it has just been asked");
        assert!(over_at(WINDING_UP + second * 501, Some(10_500)));
        assert!(over_at(UNDER_WAY + second, Some(99_999)), "nothing lasts longer");
    }
}
