//! The model: what the contracts ought to do, written from their interfaces' documentation.
//!
//! It is made to be read beside `contracts/interfaces`: one method a function, its checks in the order in which the
//! function's errors are documented, no packing, no caches, no gas.

mod balances;
mod channels;
mod claims;
mod relayed;
mod signatures;
mod token;
mod usage;

use std::collections::{BTreeMap, BTreeSet};

use alloy::{
    primitives::{Address, B256, Bytes, Log, U256, keccak256},
    sol_types::{SolCall, SolEvent, SolValue},
};

use crate::{
    abi::{IChannelEscrow, IDevToken, IExecutorRegistry},
    action::{Action, Call},
    flaw::Flaw,
    outcome::{Outcome, Revert},
    world::{CHAIN_ID, START, World},
};
pub use token::Token;

/// Seconds between `requestClose` and `withdraw`.
pub const CLOSE_GRACE_PERIOD: u64 = 3600;

/// What a function of the model does: something, or nothing at all and an error.
type Effect<T = ()> = Result<T, Revert>;

/// A channel: the parameters that its id is made of, and what became of it.
#[derive(Clone, Debug)]
pub struct Channel {
    /// What the id is made of.
    pub terms: Terms,
    /// Base units, total ever deposited.
    pub deposit: u128,
    /// Base units, cumulative.
    pub settled: u128,
    /// Unix seconds, 0: not requested.
    pub close_requested_at: u64,
    /// Sticky.
    pub finalized: bool,
    /// What remains returns to the payer's balance, not to its wallet.
    pub refunds_to_balance: bool,
}

/// What a channel's id is made of, besides the escrow and the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Who deposits.
    pub payer: Address,
    /// Who is paid.
    pub payee: Address,
    /// In what.
    pub token: Address,
    /// Any value that makes the id new.
    pub salt: B256,
    /// Who signs vouchers; zero: the payer.
    pub authorized_signer: Address,
}

impl Terms {
    /// The channel's id.
    pub fn id(&self, escrow: Address) -> B256 {
        let preimage = (
            self.payer,
            self.payee,
            self.token,
            self.salt,
            self.authorized_signer,
            escrow,
            U256::from(CHAIN_ID),
        );
        keccak256(preimage.abi_encode())
    }

    /// Who has to have signed a voucher.
    pub fn signer(&self) -> Address {
        if self.authorized_signer.is_zero() {
            self.payer
        } else {
            self.authorized_signer
        }
    }
}

/// What an operator is to a payee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorStatus {
    /// May sign bills, claim and close.
    Active = 1,
    /// Its signatures stay claimable; it may do nothing new.
    Retired = 2,
}

/// The state of all contracts.
#[derive(Clone)]
pub struct Model {
    /// Who takes part.
    pub world: std::sync::Arc<World>,
    /// Unix seconds.
    pub now: u64,
    /// The tokens, by address.
    pub tokens: BTreeMap<Address, Token>,
    /// The channels, by id.
    pub channels: BTreeMap<B256, Channel>,
    /// Balances inside the escrow, by account and token.
    pub balances: BTreeMap<(Address, Address), U256>,
    /// Nonces that an account has used for a channel.
    pub nonces: BTreeSet<(Address, B256, U256)>,
    /// What operators are to payees, by payee and operator.
    pub operators: BTreeMap<(Address, Address), OperatorStatus>,
    flaw: Option<Flaw>,
    events: Vec<Log>,
}

impl Model {
    /// The contracts as they are deployed, broken as `flaw` says.
    pub fn new(world: std::sync::Arc<World>, flaw: Option<Flaw>) -> Self {
        let tokens = BTreeMap::from([
            (world.token, Token::new(world.token, None)),
            (
                world.blocking_token,
                Token::new(world.blocking_token, Some(World::blocked())),
            ),
        ]);
        Self {
            world,
            now: START,
            tokens,
            channels: BTreeMap::new(),
            balances: BTreeMap::new(),
            nonces: BTreeSet::new(),
            operators: BTreeMap::new(),
            flaw,
            events: Vec::new(),
        }
    }

    /// Does a step, and says what came of it. A step that reverts leaves nothing behind.
    pub fn apply(&mut self, action: &Action) -> Option<Outcome> {
        let (caller, to, call) = match action {
            Action::Wait(seconds) => {
                self.now += seconds;
                return None;
            }
            Action::Call { caller, to, call } => (*caller, *to, call),
        };
        let before = self.clone();
        let result = self.call(caller, to, call);
        let events = std::mem::take(&mut self.events);
        if result.is_err() {
            *self = before;
            return Some(Outcome {
                result,
                events: Vec::new(),
            });
        }
        Some(Outcome { result, events })
    }

    /// What the escrow holds of an account's money.
    pub fn balance_of(&self, account: Address, token: Address) -> U256 {
        self.balances.get(&(account, token)).copied().unwrap_or_default()
    }

    /// A channel as `getChannel` gives it.
    pub fn view(&self, id: B256) -> IChannelEscrow::Channel {
        let Some(channel) = self.channels.get(&id) else {
            return IChannelEscrow::Channel {
                payer: Address::ZERO,
                payee: Address::ZERO,
                token: Address::ZERO,
                authorizedSigner: Address::ZERO,
                deposit: 0,
                settled: 0,
                closeRequestedAt: 0,
                finalized: false,
                refundsToBalance: false,
            };
        };
        IChannelEscrow::Channel {
            payer: channel.terms.payer,
            payee: channel.terms.payee,
            token: channel.terms.token,
            authorizedSigner: channel.terms.authorized_signer,
            deposit: channel.deposit,
            settled: channel.settled,
            closeRequestedAt: channel.close_requested_at,
            finalized: channel.finalized,
            refundsToBalance: channel.refunds_to_balance,
        }
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn emit(&mut self, contract: Address, event: impl SolEvent) {
        self.events.push(Log {
            address: contract,
            data: event.encode_log_data(),
        });
    }

    fn emit_from_escrow(&mut self, event: impl SolEvent) {
        self.emit(self.world.escrow, event);
    }

    fn call(&mut self, caller: Address, to: Address, call: &Call) -> Effect<Bytes> {
        let nothing = |()| Bytes::new();
        let word = |word: B256| Bytes::from(word.abi_encode());
        let number = |number: U256| Bytes::from(number.abi_encode());
        match call {
            Call::Open(call) => self.open(caller, call).map(word),
            Call::OpenFromBalance(call) => self.open_from_balance(caller, call).map(word),
            Call::OpenWithAuthorization(call) => self.open_with_authorization(call).map(word),
            Call::OpenWithPermit2(call) => self.open_with_permit2(call).map(word),
            Call::OpenWithGrant(call) => self.open_with_grant(call).map(word),
            Call::TopUp(call) => self.top_up(caller, call).map(nothing),
            Call::TopUpFromBalance(call) => self.top_up_from_balance(caller, call).map(nothing),
            Call::TopUpWithAuthorization(call) => self.top_up_with_authorization(call).map(nothing),
            Call::TopUpWithPermit2(call) => self.top_up_with_permit2(call).map(nothing),
            Call::TopUpWithGrant(call) => self.top_up_with_grant(call).map(nothing),
            Call::Deposit(call) => self.deposit(caller, call).map(nothing),
            Call::DepositFor(call) => self.deposit_for(caller, call).map(nothing),
            Call::DepositWithPermit(call) => self.deposit_with_permit(caller, call).map(nothing),
            Call::DepositWithAuthorization(call) => self.deposit_with_authorization(caller, call).map(nothing),
            Call::WithdrawBalance(call) => self.withdraw_balance(caller, call).map(nothing),
            Call::Settle(call) => self.settle(caller, call).map(nothing),
            Call::SettleWithAuthorization(call) => self.settle_with_authorization(call).map(nothing),
            Call::Close(call) => self.close(caller, call).map(nothing),
            Call::CloseWithAuthorization(call) => self.close_with_authorization(call).map(nothing),
            Call::RequestClose(call) => self.request_close(caller, call).map(nothing),
            Call::RequestCloseWithAuthorization(call) => self.request_close_with_authorization(call).map(nothing),
            Call::Withdraw(call) => self.withdraw(caller, call).map(nothing),
            Call::WithdrawFor(call) => self.withdraw_for(call).map(nothing),
            Call::InvalidateNonce(call) => self.use_nonce(caller, call.channelId, call.nonce).map(nothing),
            Call::ClaimVouchers(call) => self.claim_vouchers(call).map(number),
            Call::ClaimContractVouchers(call) => self.claim_contract_vouchers(call).map(number),
            Call::AdvanceChannels(_) | Call::CloseChannel(_) => Err(IChannelEscrow::NotSettlement {}.into()),
            Call::ClaimReceipts(call) => self.claim_receipts(caller, call).map(nothing),
            Call::CloseWithReceipt(call) => self.close_with_receipt(caller, call).map(nothing),
            Call::CloseWithVoucher(call) => self.close_with_voucher(caller, call).map(nothing),
            Call::AddOperator(call) => self.add_operator(caller, call.operator).map(nothing),
            Call::RemoveOperator(call) => self.remove_operator(caller, call.operator).map(nothing),
            Call::Mint(call) => {
                self.mint(to, call.to, call.amount);
                Ok(Bytes::new())
            }
            Call::Approve(call) => {
                self.approve(to, caller, call.spender, call.value);
                Ok(IDevToken::approveCall::abi_encode_returns(&true).into())
            }
            Call::Transfer(call) => {
                self.transfer(to, caller, call.to, call.value)?;
                Ok(IDevToken::transferCall::abi_encode_returns(&true).into())
            }
        }
    }

    fn add_operator(&mut self, payee: Address, operator: Address) -> Effect {
        check(!operator.is_zero(), IExecutorRegistry::InvalidOperator {})?;
        check(
            !self.is_active(payee, operator),
            IExecutorRegistry::OperatorAlreadyActive {},
        )?;
        self.operators.insert((payee, operator), OperatorStatus::Active);
        self.emit(
            self.world.registry,
            IExecutorRegistry::OperatorAdded { payee, operator },
        );
        Ok(())
    }

    fn remove_operator(&mut self, payee: Address, operator: Address) -> Effect {
        check(self.is_active(payee, operator), IExecutorRegistry::OperatorNotActive {})?;
        self.operators.insert((payee, operator), OperatorStatus::Retired);
        self.emit(
            self.world.registry,
            IExecutorRegistry::OperatorRetired { payee, operator },
        );
        Ok(())
    }

    fn is_active(&self, payee: Address, operator: Address) -> bool {
        self.operators.get(&(payee, operator)) == Some(&OperatorStatus::Active)
    }
}

/// Raises `error` unless `rule` holds.
fn check(rule: bool, error: impl Into<Revert>) -> Effect {
    if rule { Ok(()) } else { Err(error.into()) }
}
