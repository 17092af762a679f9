use alloy::{
    primitives::{Address, B256, U256, keccak256},
    sol_types::SolValue,
};

use super::{Effect, Model, Terms, channels::Source, check, token::Authorization};
use crate::{
    abi::IChannelEscrow::{
        AmountExceedsDeposit, AmountNotIncreasing, AuthorizationExpired, InvalidPayer, InvalidSignature,
        NonceAlreadyUsed, NonceMismatch, Permit2NotDeployed, RowSkipped, SkipReason, ZeroDeposit,
        closeWithAuthorizationCall, openWithAuthorizationCall, openWithGrantCall, openWithPermit2Call,
        requestCloseWithAuthorizationCall, settleWithAuthorizationCall, topUpWithAuthorizationCall, topUpWithGrantCall,
        topUpWithPermit2Call, withdrawForCall,
    },
    flaw::Flaw,
    typed_data::{ChannelGrant, CloseAuthorization, RequestCloseAuthorization, SettleAuthorization, TopUpGrant},
};

impl Model {
    // --- Funded by the payer ---

    pub(super) fn open_with_authorization(&mut self, call: &openWithAuthorizationCall) -> Effect<B256> {
        let terms = Terms {
            payer: call.from,
            payee: call.payee,
            token: call.token,
            salt: call.salt,
            authorized_signer: call.authorizedSigner,
        };
        self.check_new(&terms)?;
        let nonce = (call.from, call.payee, call.token, call.salt, call.authorizedSigner);
        check(call.nonce == keccak256(nonce.abi_encode()), NonceMismatch {})?;
        self.check_payer_and_terms(&terms, call.deposit)?;
        let id = self.add_channel(terms, call.deposit, Source::Wallet);
        let authorization = Authorization {
            from: call.from,
            valid_after: call.validAfter,
            valid_before: call.validBefore,
            nonce: call.nonce,
            signature: &call.signature,
        };
        self.pull_authorized(call.token, U256::from(call.deposit), &authorization)?;
        Ok(id)
    }

    pub(super) fn top_up_with_authorization(&mut self, call: &topUpWithAuthorizationCall) -> Effect {
        let terms = self.open_channel(call.channelId)?.terms;
        let nonce = (call.channelId, call.additionalDeposit, call.from, call.topUpSalt);
        check(call.nonce == keccak256(nonce.abi_encode()), NonceMismatch {})?;
        self.check_top_up(call.channelId, call.additionalDeposit)?;
        self.raise_deposit(call.channelId, call.additionalDeposit, call.from == terms.payer);
        let authorization = Authorization {
            from: call.from,
            valid_after: call.validAfter,
            valid_before: call.validBefore,
            nonce: call.nonce,
            signature: &call.signature,
        };
        self.pull_authorized(terms.token, U256::from(call.additionalDeposit), &authorization)
    }

    /// There is no Permit2 on this chain.
    pub(super) fn open_with_permit2(&mut self, call: &openWithPermit2Call) -> Effect<B256> {
        let terms = Terms {
            payer: call.from,
            payee: call.payee,
            token: call.token,
            salt: call.salt,
            authorized_signer: call.authorizedSigner,
        };
        self.check_new(&terms)?;
        self.check_payer_and_terms(&terms, call.deposit)?;
        Err(Permit2NotDeployed {}.into())
    }

    /// There is no Permit2 on this chain.
    pub(super) fn top_up_with_permit2(&mut self, call: &topUpWithPermit2Call) -> Effect {
        self.open_channel(call.channelId)?;
        self.check_top_up(call.channelId, call.additionalDeposit)?;
        Err(Permit2NotDeployed {}.into())
    }

    pub(super) fn open_with_grant(&mut self, call: &openWithGrantCall) -> Effect<B256> {
        let grant = &call.grant;
        let terms = Terms {
            payer: grant.payer,
            payee: grant.payee,
            token: grant.token,
            salt: grant.salt,
            authorized_signer: grant.authorizedSigner,
        };
        self.check_new(&terms)?;
        let digest = self.escrow_digest(&ChannelGrant {
            payer: grant.payer,
            payee: grant.payee,
            token: grant.token,
            deposit: grant.deposit,
            salt: grant.salt,
            authorizedSigner: grant.authorizedSigner,
            deadline: grant.deadline,
        });
        check(
            self.has_signed(grant.payer, digest, &call.signature),
            InvalidSignature {},
        )?;
        self.check_deadline(U256::from(grant.deadline))?;
        self.check_terms(&terms, grant.deposit)?;
        self.debit(grant.payer, grant.token, U256::from(grant.deposit))?;
        Ok(self.add_channel(terms, grant.deposit, Source::Balance))
    }

    pub(super) fn top_up_with_grant(&mut self, call: &topUpWithGrantCall) -> Effect {
        let grant = &call.grant;
        let channel = self.open_channel(grant.channelId)?.clone();
        let digest = self.escrow_digest(&TopUpGrant {
            channelId: grant.channelId,
            deposit: grant.deposit,
            deadline: grant.deadline,
        });
        check(
            self.has_signed(channel.terms.payer, digest, &call.signature),
            InvalidSignature {},
        )?;
        self.check_deadline(U256::from(grant.deadline))?;
        let reached = if self.has(Flaw::GrantsAddUp) {
            0
        } else {
            channel.deposit
        };
        check(grant.deposit > reached, ZeroDeposit {})?;
        let additional = grant.deposit - reached;
        self.debit(channel.terms.payer, channel.terms.token, U256::from(additional))?;
        self.raise_deposit(grant.channelId, additional, true);
        Ok(())
    }

    // --- On the payee's signature ---

    pub(super) fn settle_with_authorization(&mut self, call: &settleWithAuthorizationCall) -> Effect {
        let channel = self.open_channel(call.channelId)?.clone();
        check(call.cumulativeAmount > channel.settled, AmountNotIncreasing {})?;
        check(call.cumulativeAmount <= channel.deposit, AmountExceedsDeposit {})?;
        let digest = self.escrow_digest(&SettleAuthorization {
            channelId: call.channelId,
            cumulativeAmount: call.cumulativeAmount,
            nonce: call.nonce,
            deadline: call.deadline,
        });
        check(
            self.has_signed(channel.terms.payee, digest, &call.payeeSignature),
            InvalidSignature {},
        )?;
        let signed = self.has_signed_voucher(
            &channel.terms,
            call.channelId,
            call.cumulativeAmount,
            &call.voucherSignature,
        );
        check(signed, InvalidSignature {})?;
        self.use_nonce(channel.terms.payee, call.channelId, call.nonce)?;
        self.check_deadline(call.deadline)?;
        self.pay_settlement(call.channelId, call.cumulativeAmount)
    }

    pub(super) fn close_with_authorization(&mut self, call: &closeWithAuthorizationCall) -> Effect {
        let channel = self.open_channel(call.channelId)?.clone();
        check(call.cumulativeAmount <= channel.deposit, AmountExceedsDeposit {})?;
        let digest = self.escrow_digest(&CloseAuthorization {
            channelId: call.channelId,
            cumulativeAmount: call.cumulativeAmount,
            nonce: call.nonce,
            deadline: call.deadline,
        });
        check(
            self.has_signed(channel.terms.payee, digest, &call.payeeSignature),
            InvalidSignature {},
        )?;
        let forfeits = call.cumulativeAmount <= channel.settled && !self.has(Flaw::ForfeitNeedsVoucher);
        let signed = || {
            self.has_signed_voucher(
                &channel.terms,
                call.channelId,
                call.cumulativeAmount,
                &call.voucherSignature,
            )
        };
        check(forfeits || signed(), InvalidSignature {})?;
        let own_kind = U256::from(self.has(Flaw::NoncesAreOfOneKind));
        self.use_nonce(channel.terms.payee, call.channelId, call.nonce ^ (own_kind << 255))?;
        self.check_deadline(call.deadline)?;
        self.finalize(call.channelId, call.cumulativeAmount)
    }

    // --- The payer's way out ---

    pub(super) fn request_close_with_authorization(&mut self, call: &requestCloseWithAuthorizationCall) -> Effect {
        let payer = self.open_channel(call.channelId)?.terms.payer;
        let digest = self.escrow_digest(&RequestCloseAuthorization {
            channelId: call.channelId,
            nonce: call.nonce,
            deadline: call.deadline,
        });
        check(self.has_signed(payer, digest, &call.signature), InvalidSignature {})?;
        self.use_nonce(payer, call.channelId, call.nonce)?;
        self.check_deadline(call.deadline)?;
        self.start_grace(call.channelId);
        Ok(())
    }

    pub(super) fn withdraw_for(&mut self, call: &withdrawForCall) -> Effect {
        for (index, &id) in call.channelIds.iter().enumerate() {
            match self.reason_not_to_withdraw(id) {
                None => self.finalize(id, 0)?,
                Some(reason) => {
                    self.emit_from_escrow(RowSkipped {
                        channelId: id,
                        index: U256::from(index),
                        reason,
                    });
                }
            }
        }
        Ok(())
    }

    // --- Parts ---

    fn reason_not_to_withdraw(&self, id: B256) -> Option<SkipReason> {
        match self.channels.get(&id) {
            None => Some(SkipReason::ChannelNotFound),
            Some(channel) if channel.finalized => Some(SkipReason::ChannelFinalized),
            Some(_) if !self.may_withdraw(id) => Some(SkipReason::CloseNotReady),
            Some(_) => None,
        }
    }

    fn check_payer_and_terms(&self, terms: &Terms, deposit: u128) -> Effect {
        check(deposit > 0, ZeroDeposit {})?;
        check(!terms.payer.is_zero(), InvalidPayer {})?;
        self.check_payee(terms.payee)?;
        self.check_token(terms.token)
    }

    fn check_deadline(&self, deadline: U256) -> Effect {
        let now = U256::from(self.now + u64::from(self.has(Flaw::DeadlinesAreExclusive)));
        check(now <= deadline, AuthorizationExpired {})
    }

    pub(super) fn use_nonce(&mut self, account: Address, id: B256, nonce: U256) -> Effect {
        let is_new = self.nonces.insert((account, id, nonce));
        check(is_new || self.has(Flaw::NoncesAreForgotten), NonceAlreadyUsed {})
    }
}
