//! Orders that are under way: sent, and not final yet.

use alloy::primitives::B256;
use lloom_ledger::{Finish, Ledger, LedgerError, Purpose, TransactionId};
use lloom_receipts::{ChannelId, TokenAmount};

use crate::{
    handle::{ClaimReport, ClaimTransaction, ClaimedRow, CloseReport, HandleError, MinedClaim, Reply},
    settler::{Claimed, SentClaim},
};

/// A transaction that finished, or the one that replaced it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) hash: B256,
    /// How many channels it claims, if it is a claim.
    pub(crate) rows: Option<usize>,
    pub(crate) mined: Option<MinedClaim>,
}

/// How `id` ended; `None` while that is unknown.
pub(crate) async fn ended(ledger: &Ledger, mut id: TransactionId) -> Result<Option<Ended>, LedgerError> {
    loop {
        let Some(record) = ledger.transaction(id).await? else {
            return Ok(None);
        };
        let mined = match record.finish {
            None => return Ok(None),
            Some(Finish::Replaced { by }) => {
                id = by;
                continue;
            }
            Some(Finish::Dropped) => None,
            // What was ordered was not done by it: somebody else did, or it would not have been cancelled.
            Some(Finish::Mined { .. }) if record.purpose == Purpose::Cancellation => None,
            Some(Finish::Mined {
                block,
                succeeded,
                gas_used,
                gas_price,
            }) => Some(MinedClaim {
                block,
                succeeded,
                gas_used,
                gas_price,
            }),
        };
        let rows = match &record.purpose {
            Purpose::Claim { rows, .. } => Some(rows.len()),
            Purpose::Close { .. } | Purpose::Cancellation | Purpose::Other => None,
        };
        return Ok(Some(Ended {
            hash: record.hash,
            rows,
            mined,
        }));
    }
}

/// An order to claim, waiting for its transactions.
pub(crate) struct ClaimOrder {
    claims: Vec<SentClaim>,
    report: ClaimReport,
    reply: Reply<ClaimReport>,
}

impl ClaimOrder {
    pub(crate) fn new(claimed: Claimed, reply: Reply<ClaimReport>) -> Self {
        Self {
            claims: claimed.sent,
            report: ClaimReport {
                refused: claimed.refused,
                failure: claimed.failure.map(|error| error.to_string()),
                ..ClaimReport::default()
            },
            reply,
        }
    }

    /// Answers if everything is final; otherwise gives the order back.
    pub(crate) async fn answer(mut self, ledger: &Ledger) -> Result<Option<Self>, LedgerError> {
        let mut transactions = Vec::new();
        for claim in &self.claims {
            let Some(ended) = ended(ledger, claim.sent.id).await? else {
                return Ok(Some(self));
            };
            transactions.push(ClaimTransaction {
                hash: ended.hash,
                by: claim.by,
                rows: ended.rows.unwrap_or(claim.rows.len()),
                mined: ended.mined,
            });
        }
        for (channel, target) in self.claims.iter().flat_map(|claim| &claim.rows) {
            let state = ledger.channel(*channel).await?.and_then(|record| record.latest);
            self.report.rows.push(ClaimedRow {
                channel: *channel,
                target: *target,
                settled: state.map_or(TokenAmount::ZERO, |state| state.settled),
            });
        }
        self.report.transactions = transactions;
        drop(self.reply.send(Ok(self.report)));
        Ok(None)
    }

    /// Another watcher looks after what was sent.
    pub(crate) fn hand_over(self) {
        // Nobody may wait for it any more.
        drop(self.reply.send(Err(HandleError::HandedOver)));
    }
}

/// An order to close a channel, waiting for one of its transactions.
pub(crate) struct CloseOrder {
    pub(crate) channel: ChannelId,
    pub(crate) under_way: Option<TransactionId>,
    /// Whether what is under way closes the channel, or claims first.
    pub(crate) closing: bool,
    pub(crate) claimed_first: Option<B256>,
    pub(crate) attempts: u32,
    /// What no authorization covers, base units.
    pub(crate) forfeited: TokenAmount,
    pub(crate) reply: Reply<CloseReport>,
}
