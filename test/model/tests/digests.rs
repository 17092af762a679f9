//! What the contracts hash is what the model hashes: ids, domains and digests.

use alloy::{
    primitives::{Address, B256, U256, address, keccak256},
    sol_types::{SolCall, SolStruct, SolValue},
};
use lloom_model::{
    CLOSE_GRACE_PERIOD, Chain, Terms,
    abi::{
        IChannelEscrow,
        IUsageSettlement::{self, ReceiptRow},
    },
    typed_data::{self, Voucher},
};

/// The same on every chain that has it.
const PERMIT2: Address = address!("0x000000000022D473030F116dDEE9F6B43aC78BA3");

fn ask<C: SolCall>(chain: &mut Chain, to: Address, call: &C) -> Vec<u8> {
    chain.ask([(to, call.abi_encode().into())]).remove(0).to_vec()
}

#[test]
fn channel_ids_and_vouchers_hash_as_documented() {
    let mut chain = Chain::deploy();
    let world = chain.world.clone();
    let terms = Terms {
        payer: world.keys[0].address(),
        payee: world.keys[2].address(),
        token: world.token,
        salt: keccak256("salt"),
        authorized_signer: world.keys[1].address(),
    };
    let call = IChannelEscrow::computeChannelIdCall {
        payer: terms.payer,
        payee: terms.payee,
        token: terms.token,
        salt: terms.salt,
        authorizedSigner: terms.authorized_signer,
    };
    let id = terms.id(world.escrow);
    assert_eq!(ask(&mut chain, world.escrow, &call), id.abi_encode());

    let voucher = Voucher {
        channelId: id,
        cumulativeAmount: u128::MAX,
    };
    let call = IChannelEscrow::getVoucherDigestCall {
        channelId: id,
        cumulativeAmount: u128::MAX,
    };
    let digest = voucher.eip712_signing_hash(&world.escrow_domain);
    assert_eq!(ask(&mut chain, world.escrow, &call), digest.abi_encode());
}

#[test]
fn bills_and_receipts_hash_as_documented() {
    let mut chain = Chain::deploy();
    let world = chain.world.clone();
    let (channel_id, bill_hash) = (keccak256("channel"), keccak256("bill"));
    let row = ReceiptRow {
        payer: Address::ZERO,
        authorizedSigner: Address::ZERO,
        salt: B256::ZERO,
        sequence: 1,
        cumulativeInputTokens: 2,
        cumulativeOutputTokens: 3,
        cumulativeAmount: 4,
        previousReceipt: keccak256("previous"),
        billHash: bill_hash,
        payerR: B256::ZERO,
        payerVs: B256::ZERO,
        operatorR: B256::ZERO,
        operatorVs: B256::ZERO,
    };
    let call = IUsageSettlement::getReceiptDigestCall {
        channelId: channel_id,
        sequence: 1,
        cumulativeInputTokens: 2,
        cumulativeOutputTokens: 3,
        cumulativeAmount: 4,
        previousReceipt: row.previousReceipt,
        billHash: bill_hash,
    };
    let digest = typed_data::digest(&world.settlement_domain, typed_data::receipt_hash(channel_id, &row));
    assert_eq!(ask(&mut chain, world.settlement, &call), digest.abi_encode());

    let call = IUsageSettlement::getBillDigestCall { billHash: bill_hash };
    let digest = typed_data::digest(&world.settlement_domain, bill_hash);
    assert_eq!(ask(&mut chain, world.settlement, &call), digest.abi_encode());
}

#[test]
fn domains_and_constants_are_as_documented() {
    let mut chain = Chain::deploy();
    let world = chain.world.clone();
    let escrow = world.escrow;
    let domain = ask(&mut chain, escrow, &IChannelEscrow::domainSeparatorCall {});
    assert_eq!(domain, world.escrow_domain.hash_struct().abi_encode());
    let domain = ask(&mut chain, world.settlement, &IUsageSettlement::domainSeparatorCall {});
    assert_eq!(domain, world.settlement_domain.hash_struct().abi_encode());
    let grace = ask(&mut chain, escrow, &IChannelEscrow::CLOSE_GRACE_PERIODCall {});
    assert_eq!(grace, U256::from(CLOSE_GRACE_PERIOD).abi_encode());
    assert_eq!(
        ask(&mut chain, escrow, &IChannelEscrow::SETTLEMENTCall {}),
        world.settlement.abi_encode()
    );
    assert_eq!(
        ask(&mut chain, escrow, &IChannelEscrow::PERMIT2Call {}),
        PERMIT2.abi_encode()
    );
}
