//! What is signed, as EIP-712 hashes it: written from the type strings of the interfaces and of the two EIPs.

use std::borrow::Cow;

use alloy::{
    primitives::{Address, B256, U256, keccak256},
    sol_types::{Eip712Domain, SolStruct, SolValue},
};

use crate::abi::IUsageSettlement::ReceiptRow;

mod types {
    #![allow(missing_docs, reason = "the Solidity interfaces are the manual")]

    alloy::sol! {
        struct Voucher { bytes32 channelId; uint128 cumulativeAmount; }
        struct SettleAuthorization { bytes32 channelId; uint128 cumulativeAmount; uint256 nonce; uint256 deadline; }
        struct CloseAuthorization { bytes32 channelId; uint128 cumulativeAmount; uint256 nonce; uint256 deadline; }
        struct RequestCloseAuthorization { bytes32 channelId; uint256 nonce; uint256 deadline; }
        struct ChannelGrant {
            address payer; address payee; address token; uint128 deposit; bytes32 salt; address authorizedSigner;
            uint64 deadline;
        }
        struct TopUpGrant { bytes32 channelId; uint128 deposit; uint64 deadline; }

        struct UsageBill {
            bytes32 channelId; bytes32 requestHash; bytes32 responseHash; uint32 inputTokens; uint32 outputTokens;
            uint128 amount; uint64 completedAt;
        }
        struct UsageReceipt {
            bytes32 channelId; uint64 sequence; uint64 cumulativeInputTokens; uint64 cumulativeOutputTokens;
            uint128 cumulativeAmount; bytes32 previousReceipt; UsageBill bill;
        }

        struct Permit { address owner; address spender; uint256 value; uint256 nonce; uint256 deadline; }
        struct ReceiveWithAuthorization {
            address from; address to; uint256 value; uint256 validAfter; uint256 validBefore; bytes32 nonce;
        }
    }
}

pub use types::*;

/// The domain of the escrow, of vouchers and of everything else that is signed for it.
pub fn escrow_domain(chain_id: u64, escrow: Address) -> Eip712Domain {
    domain("EVM Payment Channel", chain_id, escrow)
}

/// The domain of the settlement, of bills and receipts.
pub fn settlement_domain(chain_id: u64, settlement: Address) -> Eip712Domain {
    domain("Lloom", chain_id, settlement)
}

/// The domain of a development token, of permits and EIP-3009 authorizations.
pub fn token_domain(chain_id: u64, token: Address) -> Eip712Domain {
    domain("Lloom Dev Token", chain_id, token)
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

/// What is signed of a struct whose hash alone is known.
pub fn digest(domain: &Eip712Domain, struct_hash: B256) -> B256 {
    keccak256([b"\x19\x01", domain.hash_struct().as_slice(), struct_hash.as_slice()].concat())
}

/// The struct hash of the receipt in a row, which names its bill by hash.
pub fn receipt_hash(channel_id: B256, row: &ReceiptRow) -> B256 {
    let members = (
        keccak256(UsageReceipt::eip712_encode_type().as_bytes()),
        channel_id,
        row.sequence,
        row.cumulativeInputTokens,
        row.cumulativeOutputTokens,
        row.cumulativeAmount,
        row.previousReceipt,
        row.billHash,
    );
    keccak256(members.abi_encode())
}
