//! Balances, tokens and operators.

use alloy::{
    primitives::{Address, U256, keccak256},
    sol_types::{SolStruct, SolValue},
};

use super::draw::Draw;
use crate::{
    abi::{
        IChannelEscrow::{
            depositCall, depositForCall, depositWithAuthorizationCall, depositWithPermitCall, withdrawBalanceCall,
        },
        IDevToken::{approveCall, mintCall, transferCall},
        IExecutorRegistry::{addOperatorCall, removeOperatorCall},
    },
    action::Action,
    typed_data::{Permit, token_domain},
    world::CHAIN_ID,
};

impl Draw<'_> {
    pub fn deposit(&mut self) -> Action {
        let (caller, token, amount) = (self.account(), self.token(), self.token_amount());
        self.escrow_call(caller, depositCall { token, amount })
    }

    pub fn deposit_for(&mut self) -> Action {
        let (agreeable, escrow) = (self.model.world.agreeable, self.model.world.escrow);
        let account = match self.below(100) {
            0..70 => self.account(),
            70..86 => agreeable,
            86..93 => escrow,
            _ => Address::ZERO,
        };
        let call = depositForCall {
            account,
            token: self.token(),
            amount: self.token_amount(),
        };
        let caller = self.account();
        self.escrow_call(caller, call)
    }

    pub fn deposit_with_permit(&mut self) -> Action {
        let (owner, token, amount) = (self.account(), self.token(), self.token_amount());
        let nonce = self
            .model
            .tokens
            .get(&token)
            .map(|token| token.permit_nonce(owner))
            .unwrap_or_default();
        let deadline = U256::from(self.deadline());
        let permit = Permit {
            owner,
            spender: self.model.world.escrow,
            value: amount,
            nonce,
            deadline,
        };
        let parts = self.parts(owner, permit.eip712_signing_hash(&token_domain(CHAIN_ID, token)));
        let call = depositWithPermitCall {
            token,
            amount,
            deadline,
            v: parts.v,
            r: parts.r,
            s: parts.s,
        };
        let caller = self.caller(owner);
        self.escrow_call(caller, call)
    }

    pub fn deposit_with_authorization(&mut self) -> Action {
        let (agreeable, escrow) = (self.model.world.agreeable, self.model.world.escrow);
        let from = match self.below(100) {
            0..92 => self.account(),
            92..94 => agreeable,
            94..97 => escrow,
            _ => Address::ZERO,
        };
        let (token, amount) = (self.token(), self.token_amount());
        let salt = U256::from(self.below(20)).into();
        let nonce = self.derived(keccak256((from, token, salt).abi_encode()));
        let authorization = self.authorization(token, from, amount, nonce);
        let call = depositWithAuthorizationCall {
            token,
            amount,
            from,
            depositSalt: salt,
            validAfter: authorization.valid_after,
            validBefore: authorization.valid_before,
            nonce,
            signature: authorization.signature,
        };
        let caller = self.account();
        self.escrow_call(caller, call)
    }

    pub fn withdraw_balance(&mut self) -> Action {
        let (account, token) = self.rich();
        let escrow = self.model.world.escrow;
        let to = match self.below(100) {
            0..90 => self.account(),
            90..95 => escrow,
            _ => Address::ZERO,
        };
        let amount = U256::from(self.amount_of_balance(account, token));
        let caller = self.caller(account);
        self.escrow_call(caller, withdrawBalanceCall { token, amount, to })
    }

    pub fn mint(&mut self) -> Action {
        let (caller, to, amount) = (self.account(), self.account(), U256::from(self.below(5000)));
        let token = self.pick(&self.model.world.tokens());
        super::call(caller, token, mintCall { to, amount })
    }

    pub fn approve(&mut self) -> Action {
        let value = self.pick(&[U256::ZERO, U256::from(500), U256::from(5000), U256::MAX]);
        let (caller, token) = (self.account(), self.pick(&self.model.world.tokens()));
        super::call(
            caller,
            token,
            approveCall {
                spender: self.model.world.escrow,
                value,
            },
        )
    }

    /// Tokens are sent to the escrow, which has no use for them.
    pub fn transfer(&mut self) -> Action {
        let (caller, value) = (self.account(), U256::from(self.below(100)));
        let token = self.pick(&self.model.world.tokens());
        super::call(
            caller,
            token,
            transferCall {
                to: self.model.world.escrow,
                value,
            },
        )
    }

    pub fn add_operator(&mut self) -> Action {
        let payee = self.payee();
        let operator = if self.chance(6) { Address::ZERO } else { self.operator() };
        let caller = self.caller(payee);
        super::call(caller, self.model.world.registry, addOperatorCall { operator })
    }

    pub fn remove_operator(&mut self) -> Action {
        let operators: Vec<_> = self.model.operators.keys().copied().collect();
        let (payee, operator) = if !operators.is_empty() && self.chance(50) {
            self.pick(&operators)
        } else {
            (self.payee(), self.operator())
        };
        let caller = self.caller(payee);
        super::call(caller, self.model.world.registry, removeOperatorCall { operator })
    }

    fn operator(&mut self) -> Address {
        let oscar = self.model.world.keys[4].address();
        if self.chance(60) { oscar } else { self.account() }
    }

    /// Somebody with money inside the escrow, and in which token; anybody when nobody has any.
    pub fn rich(&mut self) -> (Address, Address) {
        let balances = self.model.balances.iter().filter(|(_, amount)| !amount.is_zero());
        let rich: Vec<_> = balances.map(|(&key, _)| key).collect();
        if !rich.is_empty() && self.chance(85) {
            return self.pick(&rich);
        }
        (self.account(), self.token())
    }

    /// The same, but for a token now and then in which nobody has any.
    pub fn rich_or_lost(&mut self) -> (Address, Address) {
        let (account, token) = self.rich();
        (account, if self.chance(6) { self.token() } else { token })
    }

    fn token_amount(&mut self) -> U256 {
        match self.below(100) {
            0..80 => U256::from(1 + self.below(3000)),
            80..86 => U256::ZERO,
            86..90 => U256::ONE,
            90..94 => U256::from(20_000),
            94..97 => U256::from(u128::MAX) + U256::from(1),
            _ => U256::MAX,
        }
    }
}
