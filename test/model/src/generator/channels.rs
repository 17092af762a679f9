//! The draft's mandatory core, and time.

use alloy::primitives::{Address, B256, U256};

use super::draw::Draw;
use crate::{
    abi::IChannelEscrow::{
        closeCall, openCall, openFromBalanceCall, requestCloseCall, settleCall, topUpCall, topUpFromBalanceCall,
        withdrawCall, withdrawForCall,
    },
    action::Action,
    model::{CLOSE_GRACE_PERIOD, Channel},
    typed_data::Voucher,
};

impl Draw<'_> {
    /// Time passes; often until just before or just after some payer may withdraw.
    pub fn wait(&mut self) -> Action {
        let now = self.model.now;
        let channels = self.model.channels.values().filter(|channel| !channel.finalized);
        let ready_at: Vec<u64> = channels
            .filter(|channel| channel.close_requested_at != 0)
            .map(|channel| channel.close_requested_at + CLOSE_GRACE_PERIOD)
            .filter(|&ready_at| ready_at > now + 1)
            .collect();
        if !ready_at.is_empty() && self.chance(70) {
            let ready_at = self.pick(&ready_at);
            return Action::Wait(ready_at - now + u64::from(self.below(3)) - 1);
        }
        Action::Wait(self.pick(&[1, 1, 60, 600, CLOSE_GRACE_PERIOD]))
    }

    /// Something that was done before, by whoever it was or by another.
    pub fn again(&mut self) -> Action {
        let calls: Vec<_> = self
            .past
            .iter()
            .filter(|action| matches!(action, Action::Call { .. }))
            .collect();
        if calls.is_empty() {
            return Action::Wait(1);
        }
        let mut action = self.pick(&calls).clone();
        if let Action::Call { caller, .. } = &mut action {
            *caller = self.caller(*caller);
        }
        action
    }

    pub fn open(&mut self) -> Action {
        let (payer, token) = (self.account(), self.token());
        let terms = self.new_terms(payer, token);
        let call = openCall {
            payee: terms.payee,
            token: terms.token,
            deposit: self.deposit_amount(),
            salt: terms.salt,
            authorizedSigner: terms.authorized_signer,
        };
        let caller = self.caller(terms.payer);
        self.escrow_call(caller, call)
    }

    pub fn open_from_balance(&mut self) -> Action {
        let (payer, token) = self.rich_or_lost();
        let terms = self.new_terms(payer, token);
        let call = openFromBalanceCall {
            payee: terms.payee,
            token: terms.token,
            amount: self.amount_of_balance(payer, token),
            salt: terms.salt,
            authorizedSigner: terms.authorized_signer,
        };
        let caller = self.caller(terms.payer);
        self.escrow_call(caller, call)
    }

    pub fn top_up(&mut self) -> Action {
        let (id, channel) = self.channel();
        let call = topUpCall {
            channelId: id,
            additionalDeposit: self.deposit_amount(),
        };
        let caller = self.caller(channel.terms.payer);
        self.escrow_call(caller, call)
    }

    pub fn top_up_from_balance(&mut self) -> Action {
        let (id, channel) = self.channel();
        let amount = self.amount_of_balance(channel.terms.payer, channel.terms.token);
        let call = topUpFromBalanceCall {
            channelId: id,
            additionalDeposit: amount,
        };
        let caller = self.caller(channel.terms.payer);
        self.escrow_call(caller, call)
    }

    pub fn settle(&mut self) -> Action {
        let (id, channel) = self.channel();
        let amount = self.cumulative_amount(&channel);
        let call = settleCall {
            channelId: id,
            cumulativeAmount: amount,
            signature: self.escrow_signature(
                channel.terms.signer(),
                &Voucher {
                    channelId: id,
                    cumulativeAmount: amount,
                },
            ),
        };
        let caller = self.caller(channel.terms.payee);
        self.escrow_call(caller, call)
    }

    pub fn close(&mut self) -> Action {
        let (id, channel) = self.channel();
        let amount = self.cumulative_amount(&channel);
        let call = closeCall {
            channelId: id,
            cumulativeAmount: amount,
            signature: self.escrow_signature(
                channel.terms.signer(),
                &Voucher {
                    channelId: id,
                    cumulativeAmount: amount,
                },
            ),
        };
        let caller = self.caller(channel.terms.payee);
        self.escrow_call(caller, call)
    }

    pub fn request_close(&mut self) -> Action {
        let (id, channel) = self.channel();
        let caller = self.caller(channel.terms.payer);
        self.escrow_call(caller, requestCloseCall { channelId: id })
    }

    pub fn withdraw(&mut self) -> Action {
        let (id, channel) = self.closing_channel();
        let caller = self.caller(channel.terms.payer);
        self.escrow_call(caller, withdrawCall { channelId: id })
    }

    pub fn withdraw_for(&mut self) -> Action {
        let count = 1 + self.below(3);
        let ids = (0..count).map(|_| self.closing_channel().0).collect();
        let caller = self.account();
        self.escrow_call(caller, withdrawForCall { channelIds: ids })
    }

    /// A channel whose payer may withdraw by now, or nearly.
    fn closing_channel(&mut self) -> (B256, Channel) {
        let almost = self.model.now + 1;
        self.channel_where(|channel| {
            let requested_at = channel.close_requested_at;
            requested_at != 0 && requested_at + CLOSE_GRACE_PERIOD <= almost
        })
    }

    /// An amount around what an account has inside the escrow.
    pub fn amount_of_balance(&mut self, account: Address, token: Address) -> u128 {
        let balance: u128 = self.model.balance_of(account, token).min(U256::from(u128::MAX)).to();
        match self.below(100) {
            0..70 => balance.min(1 + u128::from(self.below(800))),
            70..76 => balance,
            76..82 => balance.saturating_add(1),
            82..86 => u128::MAX,
            _ => self.deposit_amount(),
        }
    }
}
