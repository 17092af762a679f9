//! The contracts' calls that settle and close channels.

use alloy::{
    primitives::{Address, B256, U256},
    sol_types::SolCall as _,
};
use lloom_bindings::{
    ChannelEscrow, UsageSettlement, channel_escrow,
    usage_settlement::{self, IUsageSettlement},
};
use lloom_ledger::ClaimBy;
use lloom_receipts::{ChannelParameters, Domain, Receipt, Signed, TokenAmount, Verified, Voucher};

use crate::chain::Call;

/// A row of `claimVouchers`.
#[derive(Clone, Debug)]
pub(crate) struct VoucherRow {
    pub(crate) parameters: ChannelParameters,
    pub(crate) voucher: Signed<Voucher, Verified>,
    pub(crate) amount: TokenAmount,
}

/// A row of `claimReceipts`.
#[derive(Clone, Debug)]
pub(crate) struct ReceiptRow {
    pub(crate) parameters: ChannelParameters,
    pub(crate) receipt: Receipt<Verified>,
}

pub(crate) fn claim_vouchers(domain: &Domain, payee: Address, token: Address, rows: &[VoucherRow]) -> Call {
    let rows = rows
        .iter()
        .map(|row| {
            let (r, vs) = row.voucher.signature().to_compact();
            channel_escrow::IChannelEscrow::VoucherRow {
                payer: row.parameters.payer,
                salt: row.parameters.salt,
                authorizedSigner: row.parameters.authorized_signer,
                r,
                vs,
                amounts: voucher_amounts(row.voucher.document().amount, row.amount),
            }
        })
        .collect();
    Call::contract(
        domain.escrow(),
        &ChannelEscrow::claimVouchersCall { payee, token, rows },
    )
}

pub(crate) fn claim_receipts(domain: &Domain, payee: Address, token: Address, rows: &[ReceiptRow]) -> Call {
    let rows = rows.iter().map(receipt_row).collect();
    Call::contract(
        domain.settlement(),
        &UsageSettlement::claimReceiptsCall { payee, token, rows },
    )
}

/// A claim with those of its rows, by their places, that `keeps` names. `None` where it is no claim.
pub(crate) fn part_of(claim: &Call, by: ClaimBy, keeps: impl Fn(usize) -> bool) -> Option<Call> {
    let mut places = 0..;
    let mut keeps = || places.next().is_some_and(&keeps);
    Some(match by {
        ClaimBy::Vouchers => {
            let mut call = ChannelEscrow::claimVouchersCall::abi_decode(&claim.data).ok()?;
            call.rows.retain(|_| keeps());
            Call::contract(claim.to, &call)
        }
        ClaimBy::Receipts => {
            let mut call = UsageSettlement::claimReceiptsCall::abi_decode(&claim.data).ok()?;
            call.rows.retain(|_| keeps());
            Call::contract(claim.to, &call)
        }
    })
}

pub(crate) fn close_with_receipt(domain: &Domain, row: &ReceiptRow) -> Call {
    Call::contract(
        domain.settlement(),
        &UsageSettlement::closeWithReceiptCall {
            payee: row.parameters.payee,
            token: row.parameters.token,
            row: receipt_row(row),
        },
    )
}

/// Without a voucher nothing new is settled, and no signature is looked at.
pub(crate) fn close_with_voucher(
    domain: &Domain,
    parameters: &ChannelParameters,
    voucher: Option<&Signed<Voucher, Verified>>,
    amount: TokenAmount,
) -> Call {
    let (r, vs) = voucher.map_or((B256::ZERO, B256::ZERO), |voucher| voucher.signature().to_compact());
    let ceiling = voucher.map_or(TokenAmount::ZERO, |voucher| voucher.document().amount);
    Call::contract(
        domain.settlement(),
        &UsageSettlement::closeWithVoucherCall {
            payee: parameters.payee,
            token: parameters.token,
            row: usage_settlement::IChannelEscrow::VoucherRow {
                payer: parameters.payer,
                salt: parameters.salt,
                authorizedSigner: parameters.authorized_signer,
                r,
                vs,
                amounts: voucher_amounts(ceiling, amount),
            },
        },
    )
}

/// The contracts' `VoucherAmounts`: what the voucher signs above what is to be settled, in one word.
fn voucher_amounts(ceiling: TokenAmount, amount: TokenAmount) -> U256 {
    (U256::from(ceiling.base_units()) << 128) | U256::from(amount.base_units())
}

/// What the voucher of a row signs.
pub(crate) fn ceiling(voucher_amounts: U256) -> TokenAmount {
    TokenAmount::new((voucher_amounts >> 128u32).to::<u128>())
}

fn receipt_row(row: &ReceiptRow) -> IUsageSettlement::ReceiptRow {
    let receipt = row.receipt.receipt();
    let (payer_r, payer_vs) = row.receipt.payer_signature().to_compact();
    let (operator_r, operator_vs) = row.receipt.bill_signature().to_compact();
    IUsageSettlement::ReceiptRow {
        payer: row.parameters.payer,
        authorizedSigner: row.parameters.authorized_signer,
        salt: row.parameters.salt,
        sequence: receipt.sequence,
        cumulativeInputTokens: receipt.cumulative_input.get(),
        cumulativeOutputTokens: receipt.cumulative_output.get(),
        cumulativeAmount: receipt.cumulative_amount.base_units(),
        previousReceipt: receipt.previous.hash(),
        billHash: receipt.bill.hash().hash(),
        payerR: payer_r,
        payerVs: payer_vs,
        operatorR: operator_r,
        operatorVs: operator_vs,
    }
}
