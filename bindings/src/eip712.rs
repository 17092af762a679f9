//! The signed types, as EIP-712 hashes them.
//!
//! Vouchers, authorizations and grants belong to the escrow's domain, requests, bills, receipts and appointments to
//! the settlement's. `Voucher` (draft-evm-session-00, "Voucher Signing Format"), `SettleAuthorization` and
//! `CloseAuthorization` (its "Payee-initiated functions") are the draft's. Field names and order are part of the type hash and can't change;
//! `test/vectors` fixes them for every implementation.

use std::borrow::Cow;

use alloy::{
    primitives::{Address, U256},
    sol_types::Eip712Domain,
};

alloy::sol! {
    /// The payer side's signature over a channel's cumulative amount.
    #[derive(Debug, PartialEq, Eq)]
    struct Voucher {
        bytes32 channelId;
        uint128 cumulativeAmount;
    }

    /// Lets anyone submit a settlement for the payee, beside the voucher that it settles. Signed by the payee.
    #[derive(Debug, PartialEq, Eq)]
    struct SettleAuthorization {
        bytes32 channelId;
        uint128 cumulativeAmount;
        /// Unordered, and used once in the channel: by this, or by a `CloseAuthorization`.
        uint256 nonce;
        /// Unix seconds, the last at which the chain accepts it.
        uint256 deadline;
    }

    /// Lets anyone close a channel for the payee, beside the voucher that settles it. Signed by the payee.
    ///
    /// With a `cumulativeAmount` that is settled already no voucher is needed, and what is unclaimed is forfeited.
    #[derive(Debug, PartialEq, Eq)]
    struct CloseAuthorization {
        bytes32 channelId;
        uint128 cumulativeAmount;
        /// Unordered, and used once in the channel: by this, or by a `SettleAuthorization`.
        uint256 nonce;
        /// Unix seconds, the last at which the chain accepts it.
        uint256 deadline;
    }

    /// Lets anyone request a channel's close for the payer. Signed by the payer.
    #[derive(Debug, PartialEq, Eq)]
    struct RequestCloseAuthorization {
        bytes32 channelId;
        /// Unordered, and used once.
        uint256 nonce;
        /// Unix seconds, the last at which the chain accepts it.
        uint256 deadline;
    }

    /// Lets anyone open a channel from the payer's balance in the escrow. Signed by the payer.
    #[derive(Debug, PartialEq, Eq)]
    struct ChannelGrant {
        address payer;
        address payee;
        address token;
        uint128 deposit;
        bytes32 salt;
        /// Zero: the payer itself.
        address authorizedSigner;
        /// Unix seconds, the last at which the chain accepts it.
        uint64 deadline;
    }

    /// Lets anyone top a channel up from the payer's balance in the escrow. Signed by the payer.
    #[derive(Debug, PartialEq, Eq)]
    struct TopUpGrant {
        bytes32 channelId;
        /// The channel's new total, not what is added to it: submitted twice, it adds once.
        uint128 deposit;
        /// Unix seconds, the last at which the chain accepts it.
        uint64 deadline;
    }

    /// What is asked of which operator, at which prices and limits. Signed by the payer side.
    #[derive(Debug, PartialEq, Eq)]
    struct InferenceRequest {
        bytes32 channelId;
        address operator;
        uint256 nonce;
        bytes32 model;
        bytes32 promptHash;
        uint32 maxInputTokens;
        uint32 maxOutputTokens;
        uint128 inputPrice;
        uint128 outputPrice;
        uint64 deadline;
    }

    /// What one inference used and costs. Signed by the executor side, once.
    #[derive(Debug, PartialEq, Eq)]
    struct UsageBill {
        bytes32 channelId;
        bytes32 requestHash;
        bytes32 responseHash;
        uint32 inputTokens;
        uint32 outputTokens;
        uint128 amount;
        uint64 completedAt;
    }

    /// A bill linked to the receipt before it. Signed by the payer side.
    #[derive(Debug, PartialEq, Eq)]
    struct UsageReceipt {
        bytes32 channelId;
        uint64 sequence;
        uint64 cumulativeInputTokens;
        uint64 cumulativeOutputTokens;
        uint128 cumulativeAmount;
        bytes32 previousReceipt;
        UsageBill bill;
    }

    /// What a tower took on for an executor. Signed by the tower; no contract reads it.
    #[derive(Debug, PartialEq, Eq)]
    struct TowerAppointment {
        bytes32 channelId;
        address tower;
        /// Whom the tower took it on for: an operator of the channel's payee, or the payee.
        address operator;
        /// What the voucher signs.
        uint128 cumulativeAmount;
        /// What the tower claims of it.
        uint128 claimAmount;
        /// The least that such a claim has to bring.
        uint128 minimumValue;
        /// The most that the tower offers for gas, wei.
        uint128 maxFeePerGas;
        /// Unix seconds.
        uint64 takenAt;
        /// Unix seconds: closes that are requested later are not defended.
        uint64 expiresAt;
    }

    /// The preimage of a channel's id: `keccak256(abi.encode(…))`.
    #[derive(Debug, PartialEq, Eq)]
    struct ChannelPreimage {
        address payer;
        address payee;
        address token;
        bytes32 salt;
        address authorizedSigner;
        address escrow;
        uint256 chainId;
    }

    /// The preimage of a salt that commits a channel to one operator.
    #[derive(Debug, PartialEq, Eq)]
    struct CommitmentPreimage {
        address operator;
        bytes32 clientRandom;
    }
}

/// The escrow's domain, which vouchers, authorizations and grants are signed in.
pub fn escrow_domain(chain_id: u64, escrow: Address) -> Eip712Domain {
    domain("EVM Payment Channel", chain_id, escrow)
}

/// The settlement's domain, which requests, bills, receipts and appointments are signed in.
pub fn settlement_domain(chain_id: u64, settlement: Address) -> Eip712Domain {
    domain("Lloom", chain_id, settlement)
}

fn domain(name: &'static str, chain_id: u64, verifying_contract: Address) -> Eip712Domain {
    Eip712Domain {
        name: Some(Cow::Borrowed(name)),
        version: Some(Cow::Borrowed("1")),
        chain_id: Some(U256::from(chain_id)),
        verifying_contract: Some(verifying_contract),
        salt: None,
    }
}
