//! Signed transactions as bytes.

use alloy::{
    consensus::{SignableTransaction as _, Signed, TxEip1559, TxEnvelope},
    eips::eip2718::{Decodable2718 as _, Encodable2718 as _},
    primitives::{B256, Bytes, Signature, TxKind},
};
use lloom_receipts::Keypair;

use crate::{chain::Call, fees::Fees};

/// What is signed beside the call itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) chain_id: u64,
    pub(crate) nonce: u64,
    pub(crate) gas_limit: u64,
    pub(crate) fees: Fees,
}

/// A transaction ready to be broadcast.
#[derive(Clone, Debug)]
pub(crate) struct SignedTransaction {
    pub(crate) hash: B256,
    pub(crate) raw: Bytes,
}

/// The stored bytes are no transaction that this crate signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored transaction can't be read")]
pub struct UnreadableTransaction;

pub(crate) fn sign(key: &Keypair, call: &Call, envelope: Envelope) -> SignedTransaction {
    let transaction = TxEip1559 {
        chain_id: envelope.chain_id,
        nonce: envelope.nonce,
        gas_limit: envelope.gas_limit,
        max_fee_per_gas: envelope.fees.max_fee,
        max_priority_fee_per_gas: envelope.fees.priority_fee,
        to: TxKind::Call(call.to),
        value: call.value,
        access_list: Default::default(),
        input: call.data.clone(),
    };
    let bytes = key.sign_digest(transaction.signature_hash()).to_bytes();
    let signature = Signature::from_bytes_and_parity(&bytes[..64], bytes[64] == 28);
    let signed: Signed<TxEip1559> = transaction.into_signed(signature);
    SignedTransaction {
        hash: *signed.hash(),
        raw: TxEnvelope::from(signed).encoded_2718().into(),
    }
}

/// The call inside stored bytes.
pub(crate) fn call_of(raw: &Bytes) -> Result<Call, UnreadableTransaction> {
    let envelope = TxEnvelope::decode_2718(&mut raw.as_ref()).map_err(|_| UnreadableTransaction)?;
    let transaction = envelope.as_eip1559().ok_or(UnreadableTransaction)?.tx();
    Ok(Call {
        to: *transaction.to.to().ok_or(UnreadableTransaction)?,
        data: transaction.input.clone(),
        value: transaction.value,
    })
}

#[cfg(test)]
mod tests {
    use alloy::{
        consensus::transaction::SignerRecoverable as _,
        primitives::{Address, U256},
    };

    use super::*;

    #[test]
    fn signs_what_the_chain_takes_for_the_keys() {
        let key = Keypair::from_secret([7; 32]).unwrap();
        let call = Call {
            to: Address::repeat_byte(0x11),
            data: Bytes::from_static(b"calldata"),
            value: U256::from(3),
        };
        let envelope = Envelope {
            chain_id: 31_337,
            nonce: 9,
            gas_limit: 50_000,
            fees: Fees {
                max_fee: 30,
                priority_fee: 2,
            },
        };
        let signed = sign(&key, &call, envelope);
        let read = TxEnvelope::decode_2718(&mut signed.raw.as_ref()).unwrap();
        assert_eq!(read.recover_signer().unwrap(), key.address());
        assert_eq!(*read.tx_hash(), signed.hash);
        assert_eq!(call_of(&signed.raw), Ok(call.clone()));
        // The same intent gives the same bytes: signing again after a crash is no second transaction.
        assert_eq!(sign(&key, &call, envelope).hash, signed.hash);
    }

    #[test]
    fn refuses_bytes_that_are_no_transaction() {
        assert_eq!(call_of(&Bytes::from_static(b"\x02\xc0")), Err(UnreadableTransaction));
        assert_eq!(call_of(&Bytes::new()), Err(UnreadableTransaction));
    }
}
