use alloy::{
    primitives::{Address, U256, keccak256},
    sol_types::{Panic, PanicKind, SolValue},
};

use super::{Effect, Model, check, token::Authorization};
use crate::{
    abi::IChannelEscrow::{
        BalanceWithdrawn, Deposited, InsufficientBalance, InvalidRecipient, NonceMismatch, TransferFailed, ZeroDeposit,
        depositCall, depositForCall, depositWithAuthorizationCall, depositWithPermitCall, withdrawBalanceCall,
    },
    flaw::Flaw,
    signer::Parts,
};

impl Model {
    pub(super) fn deposit(&mut self, caller: Address, call: &depositCall) -> Effect {
        check(!call.amount.is_zero(), ZeroDeposit {})?;
        self.check_token(call.token)?;
        self.add_deposit(caller, call.token, caller, call.amount)?;
        self.pull(call.token, caller, call.amount)
    }

    pub(super) fn deposit_for(&mut self, caller: Address, call: &depositForCall) -> Effect {
        check(!call.amount.is_zero(), ZeroDeposit {})?;
        self.check_recipient(call.account)?;
        self.check_token(call.token)?;
        self.add_deposit(call.account, call.token, caller, call.amount)?;
        self.pull(call.token, caller, call.amount)
    }

    pub(super) fn deposit_with_permit(&mut self, caller: Address, call: &depositWithPermitCall) -> Effect {
        check(!call.amount.is_zero(), ZeroDeposit {})?;
        self.check_recipient(caller)?;
        self.check_token(call.token)?;
        self.permit(
            call.token,
            caller,
            call.amount,
            call.deadline,
            Parts {
                r: call.r,
                s: call.s,
                v: call.v,
            },
        );
        self.add_deposit(caller, call.token, caller, call.amount)?;
        self.pull(call.token, caller, call.amount)
    }

    pub(super) fn deposit_with_authorization(
        &mut self,
        caller: Address,
        call: &depositWithAuthorizationCall,
    ) -> Effect {
        let nonce = keccak256((call.from, call.token, call.depositSalt).abi_encode());
        check(call.nonce == nonce, NonceMismatch {})?;
        check(!call.amount.is_zero(), ZeroDeposit {})?;
        self.check_recipient(call.from)?;
        self.check_token(call.token)?;
        let account = if self.has(Flaw::SubmitterGetsDeposit) {
            caller
        } else {
            call.from
        };
        self.add_deposit(account, call.token, call.from, call.amount)?;
        let authorization = Authorization {
            from: call.from,
            valid_after: call.validAfter,
            valid_before: call.validBefore,
            nonce,
            signature: &call.signature,
        };
        self.pull_authorized(call.token, call.amount, &authorization)
    }

    pub(super) fn withdraw_balance(&mut self, caller: Address, call: &withdrawBalanceCall) -> Effect {
        self.check_recipient(call.to)?;
        self.debit(caller, call.token, call.amount)?;
        self.emit_from_escrow(BalanceWithdrawn {
            account: caller,
            token: call.token,
            to: call.to,
            amount: call.amount,
        });
        check(self.push(call.token, call.to, call.amount), TransferFailed {})
    }

    pub(super) fn credit(&mut self, account: Address, token: Address, amount: U256) {
        *self.balances.entry((account, token)).or_default() += amount;
    }

    pub(super) fn debit(&mut self, account: Address, token: Address, amount: U256) -> Effect {
        let available = self.balance_of(account, token);
        check(
            available >= amount,
            InsufficientBalance {
                available,
                required: amount,
            },
        )?;
        self.balances.insert((account, token), available - amount);
        Ok(())
    }

    fn check_recipient(&self, account: Address) -> Effect {
        check(!account.is_zero() && account != self.world.escrow, InvalidRecipient {})
    }

    fn add_deposit(&mut self, account: Address, token: Address, from: Address, amount: U256) -> Effect {
        let fits = self.balance_of(account, token).checked_add(amount).is_some();
        check(fits, Panic::from(PanicKind::UnderOverflow))?;
        self.credit(account, token, amount);
        self.emit_from_escrow(Deposited {
            account,
            token,
            from,
            amount,
        });
        Ok(())
    }
}
