use std::collections::{BTreeMap, BTreeSet};

use alloy::{
    primitives::{Address, B256, U256},
    sol_types::{Eip712Domain, SolStruct},
};

use super::{Effect, Model, check};
use crate::{
    abi::{
        IChannelEscrow::{TransferFailed, UnexpectedDepositAmount},
        IDevToken::{
            Approval, AuthorizationUsed, ECDSAInvalidSignature, ECDSAInvalidSignatureS, ERC20InsufficientBalance,
            ERC3009InvalidAuthorizationTime, ERC3009InvalidSignature, ERC3009UsedAuthorization, Transfer,
        },
    },
    signer::Parts,
    typed_data::{Permit, ReceiveWithAuthorization, token_domain},
    world::CHAIN_ID,
};

/// A development token.
#[derive(Clone, Debug)]
pub struct Token {
    /// What its permits and authorizations are signed in.
    pub domain: Eip712Domain,
    /// Base units by account.
    pub balances: BTreeMap<Address, U256>,
    /// Base units by owner and spender.
    pub allowances: BTreeMap<(Address, Address), U256>,
    /// The next EIP-2612 nonce of an account.
    pub permit_nonces: BTreeMap<Address, U256>,
    /// EIP-3009 nonces that were used.
    pub authorizations: BTreeSet<(Address, B256)>,
    /// Whom it refuses to transfer to.
    blocked: Option<Address>,
}

/// An EIP-3009 authorization for the escrow to receive.
pub(super) struct Authorization<'a> {
    pub from: Address,
    pub valid_after: U256,
    pub valid_before: U256,
    pub nonce: B256,
    pub signature: &'a [u8],
}

impl Token {
    pub(super) fn new(address: Address, blocked: Option<Address>) -> Self {
        Self {
            domain: token_domain(CHAIN_ID, address),
            balances: BTreeMap::new(),
            allowances: BTreeMap::new(),
            permit_nonces: BTreeMap::new(),
            authorizations: BTreeSet::new(),
            blocked,
        }
    }

    /// What an account has.
    pub fn balance_of(&self, account: Address) -> U256 {
        self.balances.get(&account).copied().unwrap_or_default()
    }

    /// What a spender may take from an owner.
    pub fn allowance(&self, owner: Address, spender: Address) -> U256 {
        self.allowances.get(&(owner, spender)).copied().unwrap_or_default()
    }

    /// The next EIP-2612 nonce of an account.
    pub fn permit_nonce(&self, owner: Address) -> U256 {
        self.permit_nonces.get(&owner).copied().unwrap_or_default()
    }
}

impl Model {
    pub(super) fn mint(&mut self, token: Address, to: Address, amount: U256) {
        *self.token(token).balances.entry(to).or_default() += amount;
        self.emit(
            token,
            Transfer {
                from: Address::ZERO,
                to,
                value: amount,
            },
        );
    }

    pub(super) fn approve(&mut self, token: Address, owner: Address, spender: Address, value: U256) {
        self.token(token).allowances.insert((owner, spender), value);
        self.emit(token, Approval { owner, spender, value });
    }

    /// EIP-2612's `permit` for the escrow. Its failures are nobody's business: the allowance decides.
    pub(super) fn permit(&mut self, token: Address, owner: Address, value: U256, deadline: U256, signature: Parts) {
        let (spender, now) = (self.world.escrow, U256::from(self.now));
        let Some(state) = self.tokens.get_mut(&token) else {
            return;
        };
        let nonce = state.permit_nonce(owner);
        let digest = Permit {
            owner,
            spender,
            value,
            nonce,
            deadline,
        }
        .eip712_signing_hash(&state.domain);
        if now > deadline || !signature.is_low() || signature.recover(digest) != Some(owner) {
            return;
        }
        state.permit_nonces.insert(owner, nonce + U256::ONE);
        self.approve(token, owner, spender, value);
    }

    /// Takes tokens by allowance.
    pub(super) fn pull(&mut self, token: Address, from: Address, amount: U256) -> Effect {
        let escrow = self.world.escrow;
        let state = self.tokens.get_mut(&token).ok_or(TransferFailed {})?;
        let allowance = state.allowance(from, escrow);
        check(allowance >= amount, TransferFailed {})?;
        if allowance != U256::MAX {
            state.allowances.insert((from, escrow), allowance - amount);
        }
        self.transfer(token, from, escrow, amount)
            .map_err(|_| TransferFailed {}.into())
    }

    /// Takes tokens by an EIP-3009 authorization. When the token refuses, its own error is raised.
    pub(super) fn pull_authorized(&mut self, token: Address, amount: U256, by: &Authorization<'_>) -> Effect {
        let (to, now) = (self.world.escrow, U256::from(self.now));
        let state = self.tokens.get_mut(&token).ok_or(UnexpectedDepositAmount {
            expected: amount,
            received: U256::ZERO,
        })?;
        let &Authorization {
            from,
            valid_after,
            valid_before,
            nonce,
            signature,
        } = by;
        let message = ReceiveWithAuthorization {
            from,
            to,
            value: amount,
            validAfter: valid_after,
            validBefore: valid_before,
            nonce,
        };
        let signature = Parts::from_bytes(signature).ok_or(ECDSAInvalidSignature {})?;
        check(signature.is_low(), ECDSAInvalidSignatureS { s: signature.s })?;
        let signer = signature
            .recover(message.eip712_signing_hash(&state.domain))
            .ok_or(ECDSAInvalidSignature {})?;
        check(signer == from, ERC3009InvalidSignature {})?;
        let out_of_time = ERC3009InvalidAuthorizationTime {
            validAfter: valid_after,
            validBefore: valid_before,
        };
        check(valid_after < now && now < valid_before, out_of_time)?;
        let new = state.authorizations.insert((from, nonce));
        check(
            new,
            ERC3009UsedAuthorization {
                authorizer: from,
                nonce,
            },
        )?;
        self.emit(
            token,
            AuthorizationUsed {
                authorizer: from,
                nonce,
            },
        );
        self.transfer(token, from, to, amount)
    }

    /// Pays out of the escrow's holdings; says whether the token did it.
    pub(super) fn push(&mut self, token: Address, to: Address, amount: U256) -> bool {
        let Some(state) = self.tokens.get(&token) else {
            return false;
        };
        state.blocked != Some(to) && self.transfer(token, self.world.escrow, to, amount).is_ok()
    }

    pub(super) fn transfer(&mut self, token: Address, from: Address, to: Address, value: U256) -> Effect {
        let state = self.token(token);
        let balance = state.balance_of(from);
        check(
            balance >= value,
            ERC20InsufficientBalance {
                sender: from,
                balance,
                needed: value,
            },
        )?;
        state.balances.insert(from, balance - value);
        *state.balances.entry(to).or_default() += value;
        self.emit(token, Transfer { from, to, value });
        Ok(())
    }

    fn token(&mut self, token: Address) -> &mut Token {
        self.tokens
            .get_mut(&token)
            .unwrap_or_else(|| panic!("{token} is no token of this world"))
    }
}
