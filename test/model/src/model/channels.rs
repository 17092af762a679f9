use alloy::primitives::{Address, B256, U256};

use super::{CLOSE_GRACE_PERIOD, Channel, Effect, Model, Terms, check};
use crate::{
    abi::IChannelEscrow::{
        AmountExceedsDeposit, AmountNotIncreasing, ChannelAlreadyExists, ChannelClosed, ChannelFinalized,
        ChannelNotFound, ChannelOpened, ChannelSettled, ChannelToppedUp, CloseNotReady, CloseRequested,
        DepositOverflow, InvalidPayee, InvalidSignature, InvalidToken, NotPayee, NotPayer, PayoutCredited,
        TransferFailed, ZeroDeposit, closeCall, openCall, openFromBalanceCall, requestCloseCall, settleCall, topUpCall,
        topUpFromBalanceCall, withdrawCall,
    },
    flaw::Flaw,
};

/// Where a channel's money came from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Wallet,
    Balance,
}

impl Model {
    pub(super) fn open(&mut self, caller: Address, call: &openCall) -> Effect<B256> {
        let terms = Terms {
            payer: caller,
            payee: call.payee,
            token: call.token,
            salt: call.salt,
            authorized_signer: call.authorizedSigner,
        };
        self.check_new(&terms)?;
        self.check_terms(&terms, call.deposit)?;
        let id = self.add_channel(terms, call.deposit, Source::Wallet);
        self.pull(call.token, caller, U256::from(call.deposit))?;
        Ok(id)
    }

    pub(super) fn open_from_balance(&mut self, caller: Address, call: &openFromBalanceCall) -> Effect<B256> {
        let terms = Terms {
            payer: caller,
            payee: call.payee,
            token: call.token,
            salt: call.salt,
            authorized_signer: call.authorizedSigner,
        };
        self.check_new(&terms)?;
        self.check_terms(&terms, call.amount)?;
        self.debit(caller, call.token, U256::from(call.amount))?;
        Ok(self.add_channel(terms, call.amount, Source::Balance))
    }

    pub(super) fn settle(&mut self, caller: Address, call: &settleCall) -> Effect {
        let channel = self.open_channel(call.channelId)?.clone();
        check(
            caller == channel.terms.payee || self.has(Flaw::AnyoneSettles),
            NotPayee {},
        )?;
        check(call.cumulativeAmount > channel.settled, AmountNotIncreasing {})?;
        check(call.cumulativeAmount <= channel.deposit, AmountExceedsDeposit {})?;
        let signed = self.has_signed_voucher(&channel.terms, call.channelId, call.cumulativeAmount, &call.signature);
        check(signed, InvalidSignature {})?;
        self.pay_settlement(call.channelId, call.cumulativeAmount)
    }

    /// Settles up to `amount`, and pays the payee or fails.
    pub(super) fn pay_settlement(&mut self, id: B256, amount: u128) -> Effect {
        let (terms, owed) = self.advance(id, amount);
        self.emit_from_escrow(ChannelSettled {
            channelId: id,
            settled: amount,
        });
        check(self.push(terms.token, terms.payee, owed), TransferFailed {})
    }

    pub(super) fn top_up(&mut self, caller: Address, call: &topUpCall) -> Effect {
        let terms = self.open_channel(call.channelId)?.terms;
        check(caller == terms.payer, NotPayer {})?;
        self.check_top_up(call.channelId, call.additionalDeposit)?;
        self.raise_deposit(call.channelId, call.additionalDeposit, true);
        self.pull(terms.token, caller, U256::from(call.additionalDeposit))
    }

    pub(super) fn top_up_from_balance(&mut self, caller: Address, call: &topUpFromBalanceCall) -> Effect {
        let terms = self.open_channel(call.channelId)?.terms;
        check(caller == terms.payer, NotPayer {})?;
        self.check_top_up(call.channelId, call.additionalDeposit)?;
        self.debit(caller, terms.token, U256::from(call.additionalDeposit))?;
        self.raise_deposit(call.channelId, call.additionalDeposit, true);
        Ok(())
    }

    pub(super) fn close(&mut self, caller: Address, call: &closeCall) -> Effect {
        let channel = self.open_channel(call.channelId)?.clone();
        check(caller == channel.terms.payee, NotPayee {})?;
        check(call.cumulativeAmount <= channel.deposit, AmountExceedsDeposit {})?;
        let forfeits = call.cumulativeAmount <= channel.settled && !self.has(Flaw::ForfeitNeedsVoucher);
        let signed = || self.has_signed_voucher(&channel.terms, call.channelId, call.cumulativeAmount, &call.signature);
        check(forfeits || signed(), InvalidSignature {})?;
        self.finalize(call.channelId, call.cumulativeAmount)
    }

    pub(super) fn request_close(&mut self, caller: Address, call: &requestCloseCall) -> Effect {
        let terms = self.open_channel(call.channelId)?.terms;
        check(caller == terms.payer, NotPayer {})?;
        self.start_grace(call.channelId);
        Ok(())
    }

    pub(super) fn withdraw(&mut self, caller: Address, call: &withdrawCall) -> Effect {
        let terms = self.open_channel(call.channelId)?.terms;
        check(caller == terms.payer, NotPayer {})?;
        check(self.may_withdraw(call.channelId), CloseNotReady {})?;
        self.finalize(call.channelId, 0)
    }

    // --- Parts ---

    /// The channel, if it exists and is not final.
    pub(super) fn open_channel(&self, id: B256) -> Effect<&Channel> {
        let channel = self.channels.get(&id).ok_or(ChannelNotFound {})?;
        check(!channel.finalized, ChannelFinalized {})?;
        Ok(channel)
    }

    pub(super) fn check_new(&self, terms: &Terms) -> Effect {
        let known = self.channels.get(&terms.id(self.world.escrow));
        let taken = known.is_some_and(|channel| !(channel.finalized && self.has(Flaw::FinalizedIdsReopen)));
        check(!taken, ChannelAlreadyExists {})
    }

    pub(super) fn check_terms(&self, terms: &Terms, deposit: u128) -> Effect {
        check(deposit > 0, ZeroDeposit {})?;
        self.check_payee(terms.payee)?;
        self.check_token(terms.token)
    }

    pub(super) fn check_payee(&self, payee: Address) -> Effect {
        check(!payee.is_zero() && payee != self.world.escrow, InvalidPayee {})
    }

    pub(super) fn check_token(&self, token: Address) -> Effect {
        check(self.world.has_code(token), InvalidToken {})
    }

    pub(super) fn add_channel(&mut self, terms: Terms, deposit: u128, source: Source) -> B256 {
        let id = terms.id(self.world.escrow);
        let refunds_to_balance = source == Source::Balance;
        let channel = Channel {
            terms,
            deposit,
            settled: 0,
            close_requested_at: 0,
            finalized: false,
            refunds_to_balance,
        };
        self.channels.insert(id, channel);
        self.emit_from_escrow(ChannelOpened {
            channelId: id,
            payer: terms.payer,
            payee: terms.payee,
            token: terms.token,
            authorizedSigner: terms.authorized_signer,
            salt: terms.salt,
            deposit,
            refundsToBalance: refunds_to_balance,
        });
        id
    }

    pub(super) fn check_top_up(&self, id: B256, additional: u128) -> Effect {
        check(additional > 0, ZeroDeposit {})?;
        check(
            self.channels[&id].deposit.checked_add(additional).is_some(),
            DepositOverflow {},
        )
    }

    /// Raises the deposit; a pending close is cancelled when the payer itself pays for it.
    pub(super) fn raise_deposit(&mut self, id: B256, additional: u128, by_payer: bool) {
        let cancels = by_payer && !self.has(Flaw::TopUpKeepsClose) || self.has(Flaw::AnyonesTopUpCancelsClose);
        let channel = self.channel(id);
        channel.deposit += additional;
        let deposit = channel.deposit;
        let close_cancelled = cancels && channel.close_requested_at != 0;
        if close_cancelled {
            channel.close_requested_at = 0;
        }
        self.emit_from_escrow(ChannelToppedUp {
            channelId: id,
            deposit,
            closeCancelled: close_cancelled,
        });
    }

    pub(super) fn start_grace(&mut self, id: B256) {
        let (now, restarts) = (self.now, self.has(Flaw::AskingAgainRestartsGrace));
        let channel = self.channel(id);
        if channel.close_requested_at == 0 || restarts {
            channel.close_requested_at = now;
            self.emit_from_escrow(CloseRequested {
                channelId: id,
                requestedAt: now,
            });
        }
    }

    pub(super) fn may_withdraw(&self, id: B256) -> bool {
        let requested_at = self.channels[&id].close_requested_at;
        let mut ready_at = requested_at + CLOSE_GRACE_PERIOD;
        if self.has(Flaw::GraceEndsASecondEarly) {
            ready_at -= 1;
        }
        if self.has(Flaw::GraceEndsASecondLate) {
            ready_at += 1;
        }
        requested_at != 0 && self.now >= ready_at
    }

    /// Settles up to `amount`; gives the terms and what is owed to the payee for it.
    pub(super) fn advance(&mut self, id: B256, amount: u128) -> (Terms, U256) {
        let channel = self.channel(id);
        let owed = amount - channel.settled;
        channel.settled = amount;
        (channel.terms, U256::from(owed))
    }

    /// Settles up to `amount`, if that is above what is settled, pays both sides and ends the channel.
    pub(super) fn finalize(&mut self, id: B256, amount: u128) -> Effect {
        let settled = amount.max(self.channels[&id].settled);
        let (terms, owed) = self.advance(id, settled);
        let channel = self.channel(id);
        channel.finalized = true;
        let refunded = channel.deposit - channel.settled;
        let to_balance = channel.refunds_to_balance && !self.has(Flaw::RefundsGoToWallet);
        self.emit_from_escrow(ChannelClosed {
            channelId: id,
            settled,
            refunded,
        });
        self.pay_or_credit(terms.payee, terms.token, owed)?;
        if to_balance {
            self.credit(terms.payer, terms.token, U256::from(refunded));
            return Ok(());
        }
        self.pay_or_credit(terms.payer, terms.token, U256::from(refunded))
    }

    /// Pays an account, or credits its balance when the token refuses.
    pub(super) fn pay_or_credit(&mut self, account: Address, token: Address, amount: U256) -> Effect {
        if amount.is_zero() || self.push(token, account, amount) {
            return Ok(());
        }
        check(!self.has(Flaw::FailedPayoutReverts), TransferFailed {})?;
        self.credit(account, token, amount);
        self.emit_from_escrow(PayoutCredited { account, token, amount });
        Ok(())
    }

    pub(super) fn channel(&mut self, id: B256) -> &mut Channel {
        self.channels
            .get_mut(&id)
            .unwrap_or_else(|| panic!("there is no channel {id}"))
    }
}
