//! What anybody submits that somebody signed.

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    sol_types::{SolStruct, SolValue},
};

use super::draw::Draw;
use crate::{
    abi::IChannelEscrow::{
        self, closeWithAuthorizationCall, invalidateNonceCall, openWithAuthorizationCall, openWithGrantCall,
        openWithPermit2Call, requestCloseWithAuthorizationCall, settleWithAuthorizationCall,
        topUpWithAuthorizationCall, topUpWithGrantCall, topUpWithPermit2Call,
    },
    action::Action,
    typed_data::{
        ChannelGrant, CloseAuthorization, ReceiveWithAuthorization, RequestCloseAuthorization, SettleAuthorization,
        TopUpGrant, Voucher, token_domain,
    },
    world::CHAIN_ID,
};

/// What an EIP-3009 authorization adds to a call.
pub(super) struct Authorization {
    pub valid_after: U256,
    pub valid_before: U256,
    pub signature: Bytes,
}

impl Draw<'_> {
    pub fn open_with_authorization(&mut self) -> Action {
        let (payer, token) = (self.account(), self.token());
        let mut terms = self.new_terms(payer, token);
        if self.chance(3) {
            terms.payer = Address::ZERO;
        }
        let deposit = self.deposit_amount();
        let nonce = (
            terms.payer,
            terms.payee,
            terms.token,
            terms.salt,
            terms.authorized_signer,
        );
        let nonce = self.derived(keccak256(nonce.abi_encode()));
        let authorization = self.authorization(terms.token, terms.payer, U256::from(deposit), nonce);
        let call = openWithAuthorizationCall {
            payee: terms.payee,
            token: terms.token,
            deposit,
            salt: terms.salt,
            authorizedSigner: terms.authorized_signer,
            from: terms.payer,
            validAfter: authorization.valid_after,
            validBefore: authorization.valid_before,
            nonce,
            signature: authorization.signature,
        };
        let caller = self.account();
        self.escrow_call(caller, call)
    }

    pub fn top_up_with_authorization(&mut self) -> Action {
        let closing = self.chance(50);
        let (id, channel) = self.channel_where(|channel| !closing || channel.close_requested_at != 0);
        let from = if self.chance(30) {
            self.account()
        } else {
            self.caller(channel.terms.payer)
        };
        let salt: B256 = U256::from(self.below(2)).into();
        let additional = if self.chance(40) { 7 } else { self.deposit_amount() };
        let nonce = self.derived(keccak256((id, additional, from, salt).abi_encode()));
        let authorization = self.authorization(channel.terms.token, from, U256::from(additional), nonce);
        let call = topUpWithAuthorizationCall {
            channelId: id,
            additionalDeposit: additional,
            from,
            topUpSalt: salt,
            validAfter: authorization.valid_after,
            validBefore: authorization.valid_before,
            nonce,
            signature: authorization.signature,
        };
        let caller = self.account();
        self.escrow_call(caller, call)
    }

    pub fn open_with_permit2(&mut self) -> Action {
        let (payer, token) = (self.account(), self.token());
        let mut terms = self.new_terms(payer, token);
        if self.chance(10) {
            terms.payer = Address::ZERO;
        }
        let call = openWithPermit2Call {
            payee: terms.payee,
            token: terms.token,
            deposit: self.deposit_amount(),
            salt: terms.salt,
            authorizedSigner: terms.authorized_signer,
            from: terms.payer,
            nonce: self.nonce(),
            deadline: U256::from(self.deadline()),
            signature: Bytes::from_static(&[0; 65]),
        };
        let caller = self.account();
        self.escrow_call(caller, call)
    }

    pub fn top_up_with_permit2(&mut self) -> Action {
        let (id, channel) = self.channel();
        let call = topUpWithPermit2Call {
            channelId: id,
            additionalDeposit: self.deposit_amount(),
            from: channel.terms.payer,
            nonce: self.nonce(),
            deadline: U256::from(self.deadline()),
            signature: Bytes::from_static(&[0; 65]),
        };
        let caller = self.account();
        self.escrow_call(caller, call)
    }

    pub fn open_with_grant(&mut self) -> Action {
        let (payer, token) = self.rich_or_lost();
        let terms = self.new_terms(payer, token);
        let (deposit, deadline) = (self.amount_of_balance(payer, token), self.deadline());
        let message = ChannelGrant {
            payer: terms.payer,
            payee: terms.payee,
            token: terms.token,
            deposit,
            salt: terms.salt,
            authorizedSigner: terms.authorized_signer,
            deadline,
        };
        let grant = IChannelEscrow::ChannelGrant {
            payer: terms.payer,
            payee: terms.payee,
            token: terms.token,
            deposit,
            salt: terms.salt,
            authorizedSigner: terms.authorized_signer,
            deadline,
        };
        let call = openWithGrantCall {
            grant,
            signature: self.escrow_signature(terms.payer, &message),
        };
        let caller = self.account();
        self.escrow_call(caller, call)
    }

    pub fn top_up_with_grant(&mut self) -> Action {
        let (id, channel) = self.channel();
        let additional = self.amount_of_balance(channel.terms.payer, channel.terms.token);
        let deposit = match self.below(100) {
            0..80 => channel.deposit.saturating_add(additional),
            80..90 => channel.deposit,
            _ => additional,
        };
        let deadline = self.deadline();
        let message = TopUpGrant {
            channelId: id,
            deposit,
            deadline,
        };
        let grant = IChannelEscrow::TopUpGrant {
            channelId: id,
            deposit,
            deadline,
        };
        let call = topUpWithGrantCall {
            grant,
            signature: self.escrow_signature(channel.terms.payer, &message),
        };
        let caller = self.account();
        self.escrow_call(caller, call)
    }

    pub fn settle_with_authorization(&mut self) -> Action {
        let (id, channel) = self.channel();
        let (amount, deadline) = (self.cumulative_amount(&channel), U256::from(self.deadline()));
        let nonce = self.nonce_for(channel.terms.payee, id);
        let authorization = SettleAuthorization {
            channelId: id,
            cumulativeAmount: amount,
            nonce,
            deadline,
        };
        let voucher = Voucher {
            channelId: id,
            cumulativeAmount: amount,
        };
        let call = settleWithAuthorizationCall {
            channelId: id,
            cumulativeAmount: amount,
            nonce,
            deadline,
            payeeSignature: self.escrow_signature(channel.terms.payee, &authorization),
            voucherSignature: self.escrow_signature(channel.terms.signer(), &voucher),
        };
        let caller = self.account();
        self.escrow_call(caller, call)
    }

    pub fn close_with_authorization(&mut self) -> Action {
        let (id, channel) = self.channel();
        let (amount, deadline) = (self.cumulative_amount(&channel), U256::from(self.deadline()));
        let nonce = self.nonce_for(channel.terms.payee, id);
        let authorization = CloseAuthorization {
            channelId: id,
            cumulativeAmount: amount,
            nonce,
            deadline,
        };
        let voucher = Voucher {
            channelId: id,
            cumulativeAmount: amount,
        };
        let call = closeWithAuthorizationCall {
            channelId: id,
            cumulativeAmount: amount,
            nonce,
            deadline,
            payeeSignature: self.escrow_signature(channel.terms.payee, &authorization),
            voucherSignature: self.escrow_signature(channel.terms.signer(), &voucher),
        };
        let caller = self.account();
        self.escrow_call(caller, call)
    }

    pub fn request_close_with_authorization(&mut self) -> Action {
        let (id, channel) = self.channel();
        let (nonce, deadline) = (self.nonce_for(channel.terms.payer, id), U256::from(self.deadline()));
        let message = RequestCloseAuthorization {
            channelId: id,
            nonce,
            deadline,
        };
        let call = requestCloseWithAuthorizationCall {
            channelId: id,
            nonce,
            deadline,
            signature: self.escrow_signature(channel.terms.payer, &message),
        };
        let caller = self.account();
        self.escrow_call(caller, call)
    }

    pub fn invalidate_nonce(&mut self) -> Action {
        let (id, channel) = self.channel();
        let right = if self.chance(50) {
            channel.terms.payer
        } else {
            channel.terms.payee
        };
        let caller = self.caller(right);
        let call = invalidateNonceCall {
            channelId: id,
            nonce: self.nonce_for(caller, id),
        };
        self.escrow_call(caller, call)
    }

    // --- Parts ---

    /// A nonce as it has to be, or another.
    pub fn derived(&mut self, nonce: B256) -> B256 {
        if self.chance(5) { keccak256(nonce) } else { nonce }
    }

    /// `from`'s authorization for the escrow to receive.
    pub fn authorization(&mut self, token: Address, from: Address, value: U256, nonce: B256) -> Authorization {
        let (valid_after, valid_before) = self.validity();
        let message = ReceiveWithAuthorization {
            from,
            to: self.model.world.escrow,
            value,
            validAfter: valid_after,
            validBefore: valid_before,
            nonce,
        };
        let signature = self.signature(from, message.eip712_signing_hash(&token_domain(CHAIN_ID, token)));
        Authorization {
            valid_after,
            valid_before,
            signature,
        }
    }

    /// A nonce that an account has not used for a channel, or has.
    fn nonce_for(&mut self, account: Address, id: B256) -> U256 {
        let used = self
            .model
            .nonces
            .iter()
            .filter(|(by, of, _)| *by == account && *of == id);
        let used: Vec<_> = used.map(|(_, _, nonce)| *nonce).collect();
        if !used.is_empty() && self.chance(20) {
            self.pick(&used)
        } else {
            self.nonce()
        }
    }
}
