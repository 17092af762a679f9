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
        self.next_step(order, now).await
    }

    /// Goes on with an order whose transaction is final, and keeps the others.
    pub(super) async fn continue_close(&mut self, mut order: CloseOrder, now: UnixSeconds) -> Result<(), RoundError> {
        let Some(id) = order.under_way else {
            return self.next_step(order, now).await;
        };
        let Some(ended) = ended(&self.settler.ledger, id).await? else {
            self.closes.push(order);
            return Ok(());
        };
        order.under_way = None;
        match ended.mined {
            Some(mined) if mined.succeeded && order.closing => {
                let settled = self.settled(order.channel).await?;
                drop(order.reply.send(Ok(CloseReport {
                    channel: order.channel,
                    transaction: ended.hash,
                    mined,
                    claimed_first: order.claimed_first,
                    settled,
                    forfeited: order.forfeited,
                })));
                Ok(())
            }
            Some(mined) if mined.succeeded => {
                order.claimed_first = Some(ended.hash);
                self.next_step(order, now).await
            }
            _ => self.next_step(order, now).await,
        }
    }

    async fn next_step(&mut self, mut order: CloseOrder, now: UnixSeconds) -> Result<(), RoundError> {
        if order.attempts >= MAX_ATTEMPTS {
            let error = CloseError::StillOpen {
                channel: order.channel,
                attempts: order.attempts,
            };
            drop(order.reply.send(Err(error.into())));
            return Ok(());
        }
        order.attempts += 1;
        let claimable = match self.closable(order.channel).await? {
            Ok(claimable) => claimable,
            Err(error) => {
                drop(order.reply.send(Err(error.into())));
                return Ok(());
            }
        };
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
        match sent {
            Ok(id) => {
                order.closing = !matches!(step, CloseStep::ClaimFirst { .. });
                order.under_way = Some(id);
                self.closes.push(order);
            }
            // Accepted since the check above: the ledger has the last word.
            Err(SendError::Settle(SettleError::BeingServed { channel })) => {
                drop(order.reply.send(Err(CloseError::Busy { channel }.into())));
            }
            // More was billed since: the next round decides anew.
            Err(SendError::Settle(SettleError::Forfeits { .. })) => self.closes.push(order),
            Err(error) => drop(order.reply.send(Err(HandleError::Send(error)))),
        }
        Ok(())
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
        if !self.config.payees.iter().any(|(ours, _)| *ours == payee) {
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
