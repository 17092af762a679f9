//! Orders to close a channel.

use lloom_ledger::{Claimable, LedgerError, SettleError, TransactionId};
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};

use super::{RoundError, Rounds};
use crate::{
    books::candidate,
    chain::Chain,
    close::CloseStep,
    handle::{CloseError, CloseReport, HandleError, Reply},
    order::{CloseOrder, ended},
    planner::{Plan, PlannedClaim, PlannedRow, WhyNow},
    sender::SendError,
};

/// Transactions of one order at most: one claim and one close, and as many again for a state that changed meanwhile.
const MAX_ATTEMPTS: u32 = 4;

/// Where an order is.
enum Progress {
    /// It waits for a transaction, or for the next round.
    Waits,
    /// It is answered.
    Ended(Result<CloseReport, HandleError>),
}

impl<C: Chain> Rounds<C> {
    pub(super) async fn begin_close(
        &mut self,
        channel: ChannelId,
        reply: Reply<CloseReport>,
        now: UnixSeconds,
    ) -> Result<(), RoundError> {
        let order = CloseOrder {
            channel,
            under_way: None,
            closing: false,
            claimed_first: None,
            attempts: 0,
            forfeited: TokenAmount::ZERO,
            reply,
        };
        self.go_on_with(order, now).await
    }

    /// Goes on with all orders. One that fails for now is kept, and so are those behind it.
    pub(super) async fn continue_closes(&mut self, now: UnixSeconds) -> Result<(), RoundError> {
        let mut waiting = std::mem::take(&mut self.closes).into_iter();
        let mut went_on = Ok(());
        for order in waiting.by_ref() {
            went_on = self.go_on_with(order, now).await;
            if went_on.is_err() {
                break;
            }
        }
        self.closes.extend(waiting);
        went_on
    }

    async fn go_on_with(&mut self, mut order: CloseOrder, now: UnixSeconds) -> Result<(), RoundError> {
        match self.go_on(&mut order, now).await {
            Ok(Progress::Ended(answer)) => {
                drop(order.reply.send(answer));
                Ok(())
            }
            Ok(Progress::Waits) => {
                self.closes.push(order);
                Ok(())
            }
            Err(error) => {
                self.closes.push(order);
                Err(error)
            }
        }
    }

    async fn go_on(&mut self, order: &mut CloseOrder, now: UnixSeconds) -> Result<Progress, RoundError> {
        let Some(id) = order.under_way else {
            return self.next_step(order, now).await;
        };
        let Some(ended) = ended(&self.settler.ledger, id).await? else {
            return Ok(Progress::Waits);
        };
        if let Some(mined) = ended.mined.filter(|mined| mined.succeeded) {
            if order.closing {
                return Ok(Progress::Ended(Ok(CloseReport {
                    channel: order.channel,
                    transaction: ended.hash,
                    mined,
                    claimed_first: order.claimed_first,
                    settled: self.settled(order.channel).await?,
                    forfeited: order.forfeited,
                })));
            }
            order.claimed_first = Some(ended.hash);
        }
        order.under_way = None;
        self.next_step(order, now).await
    }

    async fn next_step(&mut self, order: &mut CloseOrder, now: UnixSeconds) -> Result<Progress, RoundError> {
        if order.attempts >= MAX_ATTEMPTS {
            let error = CloseError::StillOpen {
                channel: order.channel,
                attempts: order.attempts,
            };
            return Ok(Progress::Ended(Err(error.into())));
        }
        let claimable = match self.closable(order.channel).await? {
            Ok(claimable) => claimable,
            Err(error) => return Ok(Progress::Ended(Err(error.into()))),
        };
        order.attempts += 1;
        let channel = candidate(&claimable, self.grace);
        let step = CloseStep::next(&channel, self.config.planner.publish);
        order.forfeited = channel.billed.saturating_sub(claimable.amount().max(channel.settled));
        let sent = match step {
            CloseStep::ClaimFirst { amount } => self.claim_first(&claimable, amount, now).await,
            CloseStep::WithReceipt { .. } | CloseStep::WithVoucher { .. } => self
                .settler
                .close(&claimable, step, channel.deadline, now)
                .await
                .map(|sent| sent.id),
        };
        Ok(match sent {
            Ok(id) => {
                order.closing = !matches!(step, CloseStep::ClaimFirst { .. });
                order.under_way = Some(id);
                Progress::Waits
            }
            // Accepted since the check above: the ledger has the last word.
            Err(SendError::Settle(SettleError::BeingServed { channel })) => {
                Progress::Ended(Err(CloseError::Busy { channel }.into()))
            }
            // More was billed since: the next round decides anew.
            Err(SendError::Settle(SettleError::Forfeits { .. })) => Progress::Waits,
            Err(error) => Progress::Ended(Err(HandleError::Send(error))),
        })
    }

    /// Settles by voucher what a close by receipt would forfeit.
    async fn claim_first(
        &mut self,
        claimable: &Claimable,
        amount: TokenAmount,
        now: UnixSeconds,
    ) -> Result<TransactionId, SendError> {
        let books = self.books(now).await?;
        let channel = candidate(claimable, self.grace);
        let value = amount.saturating_sub(channel.settled);
        let claim = PlannedClaim {
            payee: channel.payee,
            token: channel.token,
            by: lloom_ledger::ClaimBy::Vouchers,
            rows: vec![PlannedRow {
                channel: channel.channel,
                amount,
                value,
                why: WhyNow::Ordered,
                deadline: channel.deadline,
            }],
            value,
            fee: None,
            deadline: channel.deadline,
        };
        let plan = Plan {
            claims: vec![claim],
            ..Plan::default()
        };
        let claimed = self.settler.claim(&plan, &books, now).await;
        if let Some(sent) = claimed.sent.first() {
            return Ok(sent.sent.id);
        }
        Err(claimed.failure.unwrap_or_else(|| SendError::Reverted {
            revert: crate::chain::Revert {
                message: claimed
                    .refused
                    .first()
                    .map_or_else(|| String::from("the claim is empty"), |row| row.reason.clone()),
                data: Default::default(),
            },
        }))
    }

    /// The channel, if this watcher may close it without forfeiting what is still being earned.
    async fn closable(&self, channel: ChannelId) -> Result<Result<Claimable, CloseError>, LedgerError> {
        let ledger = &self.settler.ledger;
        let Some(record) = ledger.channel(channel).await? else {
            return Ok(Err(CloseError::Unknown { channel }));
        };
        let payee = record.parameters.payee;
        if !self.payees.may_close_for(payee) {
            return Ok(Err(CloseError::NotOurs { channel, payee }));
        }
        if !record.is_open() {
            return Ok(Err(CloseError::NotOpen { channel }));
        }
        let account = ledger.account(channel).await?;
        if account.spent > account.billed {
            return Ok(Err(CloseError::Busy { channel }));
        }
        Ok(Ok(match ledger.claimable_channel(channel).await? {
            Some(claimable) => claimable,
            // Never served on: nothing is billed, all of it goes back.
            None => Claimable {
                channel: record,
                billed: TokenAmount::ZERO,
                voucher: None,
                receipt: None,
                linked: TokenAmount::ZERO,
            },
        }))
    }

    async fn settled(&self, channel: ChannelId) -> Result<TokenAmount, LedgerError> {
        let state = self
            .settler
            .ledger
            .channel(channel)
            .await?
            .and_then(|record| record.latest);
        Ok(state.map_or(TokenAmount::ZERO, |state| state.settled))
    }
}
