use std::marker::PhantomData;

use alloy::{
    primitives::{Address, B256},
    sol_types::SolValue,
};
use lloom_bindings::eip712;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    ChannelId, Document, Domain, ReceiptHash, Signature, Signed, TokenAmount, TokenTotal, Unverified, UsageBill,
    Verified, Verifier, VerifyError, signed::digest, struct_hash::TypeHash,
};

/// A bill linked to the receipt before it. Signed by the payer side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageReceipt {
    /// The channel that pays.
    pub channel: ChannelId,
    /// 1 for a channel's first receipt.
    pub sequence: u64,
    /// Prompt tokens of the channel up to and with this bill.
    pub cumulative_input: TokenTotal,
    /// Completion tokens, likewise.
    pub cumulative_output: TokenTotal,
    /// Base units, likewise: the amount the chain settles.
    pub cumulative_amount: TokenAmount,
    /// The receipt before, or [`ReceiptHash::NONE`].
    pub previous: ReceiptHash,
    /// What is added to it.
    pub bill: UsageBill,
}

impl UsageReceipt {
    /// The struct hash that the next receipt names.
    pub fn hash(&self) -> ReceiptHash {
        ReceiptHash::new(self.struct_hash())
    }
}

impl Document for UsageReceipt {
    fn struct_hash(&self) -> B256 {
        self.struct_hash_with(self.bill.struct_hash())
    }

    fn separator(domain: &Domain) -> B256 {
        domain.settlement_separator()
    }
}

impl UsageReceipt {
    /// The struct hash, when that of the bill is known.
    fn struct_hash_with(&self, bill: B256) -> B256 {
        static TYPE: TypeHash = TypeHash::new();
        // A struct inside a struct is encoded as its hash.
        let data = (
            self.channel.hash(),
            self.sequence,
            self.cumulative_input.get(),
            self.cumulative_output.get(),
            self.cumulative_amount.base_units(),
            self.previous.hash(),
            bill,
        )
            .abi_encode();
        TYPE.hash_encoded::<eip712::UsageReceipt>(&data)
    }
}

/// A usage receipt with both signatures: the payer side's over the receipt, the executor side's over its bill.
///
/// Only `Receipt<Unverified>` deserializes.
#[derive(Debug, PartialEq, Eq)]
pub struct Receipt<S = Unverified> {
    receipt: UsageReceipt,
    payer_signature: Signature,
    bill_signature: Signature,
    state: PhantomData<S>,
}

impl<S> Clone for Receipt<S> {
    fn clone(&self) -> Self {
        Self {
            receipt: self.receipt,
            payer_signature: self.payer_signature,
            bill_signature: self.bill_signature,
            state: PhantomData,
        }
    }
}

impl<S> Receipt<S> {
    /// What both signed.
    pub const fn receipt(&self) -> &UsageReceipt {
        &self.receipt
    }

    /// The payer side's signature over the receipt.
    pub const fn payer_signature(&self) -> &Signature {
        &self.payer_signature
    }

    /// The executor side's signature over the bill.
    pub const fn bill_signature(&self) -> &Signature {
        &self.bill_signature
    }

    /// Forgets what is known of the signatures.
    pub fn into_unverified(self) -> Receipt<Unverified> {
        Receipt {
            receipt: self.receipt,
            payer_signature: self.payer_signature,
            bill_signature: self.bill_signature,
            state: PhantomData,
        }
    }
}

impl Receipt<Unverified> {
    /// A receipt as it came from somewhere.
    pub const fn new(receipt: UsageReceipt, payer_signature: Signature, bill_signature: Signature) -> Self {
        Self {
            receipt,
            payer_signature,
            bill_signature,
            state: PhantomData,
        }
    }

    /// Checks both signatures. `is_executor_side` says whether an address may sign bills for the channel's payee.
    ///
    /// # Errors
    /// [`ReceiptError`] says whose signature is wrong.
    pub fn verify(
        self,
        domain: &Domain,
        verifier: &Verifier,
        payer_side: Address,
        is_executor_side: impl FnOnce(Address) -> bool,
    ) -> Result<Receipt<Verified>, ReceiptError> {
        let digests = self.digests(domain);
        verifier
            .check(digests.receipt, &self.payer_signature, payer_side)
            .map_err(ReceiptError::Payer)?;
        let biller = verifier
            .recover(digests.bill, &self.bill_signature)
            .map_err(ReceiptError::Executor)?;
        if !is_executor_side(biller) {
            return Err(ReceiptError::NotExecutorSide { biller });
        }
        self.into_verified()
    }

    /// What the two signatures are over; the bill is hashed once for both.
    pub(crate) fn digests(&self, domain: &Domain) -> Digests {
        let separator = UsageReceipt::separator(domain);
        let bill = self.receipt.bill.struct_hash();
        Digests {
            receipt: digest(separator, self.receipt.struct_hash_with(bill)),
            bill: digest(UsageBill::separator(domain), bill),
        }
    }

    /// The receipt once both signatures are known to be right: what is left to say is that they speak of one channel.
    pub(crate) fn into_verified(self) -> Result<Receipt<Verified>, ReceiptError> {
        if self.receipt.bill.channel != self.receipt.channel {
            return Err(ReceiptError::OtherChannel {
                bill: self.receipt.bill.channel,
            });
        }
        Ok(Receipt {
            receipt: self.receipt,
            payer_signature: self.payer_signature,
            bill_signature: self.bill_signature,
            state: PhantomData,
        })
    }
}

/// What the signatures of a receipt are over.
pub(crate) struct Digests {
    pub(crate) receipt: B256,
    pub(crate) bill: B256,
}

impl Receipt<Verified> {
    /// Joins the payer side's own signed receipt with the verified bill inside it.
    ///
    /// # Errors
    /// [`ReceiptError::OtherBill`] when the receipt holds another bill.
    pub fn join(
        receipt: Signed<UsageReceipt, Verified>,
        bill: &Signed<UsageBill, Verified>,
    ) -> Result<Self, ReceiptError> {
        let (receipt, payer_signature) = receipt.into_parts();
        if receipt.bill != *bill.document() {
            return Err(ReceiptError::OtherBill);
        }
        Ok(Self {
            receipt,
            payer_signature,
            bill_signature: *bill.signature(),
            state: PhantomData,
        })
    }

    /// Takes back what a store was given as `Verified`. For `lloom-ledger` only, as [`Signed::recall`].
    pub const fn recall(receipt: UsageReceipt, payer_signature: Signature, bill_signature: Signature) -> Self {
        Self {
            receipt,
            payer_signature,
            bill_signature,
            state: PhantomData,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Wire {
    receipt: UsageReceipt,
    payer_signature: Signature,
    bill_signature: Signature,
}

impl<S> Serialize for Receipt<S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        Wire {
            receipt: self.receipt,
            payer_signature: self.payer_signature,
            bill_signature: self.bill_signature,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Receipt<Unverified> {
    fn deserialize<Z: Deserializer<'de>>(deserializer: Z) -> Result<Self, Z::Error> {
        let wire = Wire::deserialize(deserializer)?;
        Ok(Self::new(wire.receipt, wire.payer_signature, wire.bill_signature))
    }
}

/// Why a receipt is not dual-signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The payer side's signature is wrong.
    #[error("the receipt's payer signature is wrong: {0}")]
    Payer(VerifyError),
    /// The executor side's signature is wrong.
    #[error("the bill's signature is wrong: {0}")]
    Executor(VerifyError),
    /// Somebody signed the bill who may not.
    #[error("the bill is signed by {biller}, who is no operator of the payee")]
    NotExecutorSide {
        /// Who signed it.
        biller: Address,
    },
    /// The bill is of another channel.
    #[error("the receipt holds a bill of the channel {bill}")]
    OtherChannel {
        /// The bill's.
        bill: ChannelId,
    },
    /// The receipt holds another bill than the one it is joined with.
    #[error("the receipt holds another bill")]
    OtherBill,
}

#[cfg(test)]
mod tests {
    use alloy::sol_types::SolStruct as _;

    use super::*;
    use crate::{ContentHash, Keypair, ReceiptHead, RequestHash, TokenCount, UnixSeconds, Usage};

    struct Parties {
        domain: Domain,
        payer: Keypair,
        operator: Keypair,
    }

    fn parties() -> Parties {
        Parties {
            domain: Domain::new(31337, Address::repeat_byte(1), Address::repeat_byte(2)),
            payer: Keypair::from_secret([7; 32]).unwrap(),
            operator: Keypair::from_secret([8; 32]).unwrap(),
        }
    }

    fn bill(channel: u8) -> UsageBill {
        UsageBill {
            channel: ChannelId::new(B256::repeat_byte(channel)),
            request: RequestHash::new(B256::repeat_byte(4)),
            response_hash: ContentHash::new(B256::repeat_byte(5)),
            usage: Usage {
                input: TokenCount::new(10),
                output: TokenCount::new(20),
            },
            amount: TokenAmount::new(30),
            completed_at: UnixSeconds::new(1_700_000_000),
        }
    }

    fn dual_signed(parties: &Parties) -> Receipt<Verified> {
        let bill = parties.operator.sign(&parties.domain, bill(3));
        let head = ReceiptHead::empty(bill.document().channel);
        let receipt = parties
            .payer
            .sign(&parties.domain, head.link(*bill.document()).unwrap());
        Receipt::join(receipt, &bill).unwrap()
    }

    #[test]
    fn hashes_the_bill_as_a_struct_in_the_receipt() {
        let receipt = *dual_signed(&parties()).receipt();
        let expected = eip712::UsageReceipt {
            channelId: receipt.channel.hash(),
            sequence: receipt.sequence,
            cumulativeInputTokens: receipt.cumulative_input.get(),
            cumulativeOutputTokens: receipt.cumulative_output.get(),
            cumulativeAmount: receipt.cumulative_amount.base_units(),
            previousReceipt: receipt.previous.hash(),
            bill: receipt.bill.to_sol(),
        };
        assert_eq!(receipt.struct_hash(), expected.eip712_hash_struct());
        // The second time, the type's hash is remembered.
        assert_eq!(receipt.struct_hash(), expected.eip712_hash_struct());
    }

    #[test]
    fn needs_both_signatures() {
        let parties = parties();
        let verifier = Verifier::default();
        let verify = |receipt: Receipt<Unverified>| {
            receipt.verify(&parties.domain, &verifier, parties.payer.address(), |signer| {
                signer == parties.operator.address()
            })
        };
        let good = dual_signed(&parties);
        assert_eq!(verify(good.clone().into_unverified()).unwrap(), good);

        let body = *good.receipt();
        let swapped = Receipt::new(body, *good.bill_signature(), *good.payer_signature());
        assert!(matches!(verify(swapped), Err(ReceiptError::Payer(_))));
        let payer_only = Receipt::new(body, *good.payer_signature(), *good.payer_signature());
        assert!(matches!(verify(payer_only), Err(ReceiptError::NotExecutorSide { .. })));
        let raised = UsageReceipt {
            cumulative_amount: TokenAmount::new(31),
            ..body
        };
        assert!(matches!(
            verify(Receipt::new(raised, *good.payer_signature(), *good.bill_signature())),
            Err(ReceiptError::Payer(_))
        ));
    }

    #[test]
    fn a_bill_of_another_channel_is_no_part_of_it() {
        let parties = parties();
        let other = parties.operator.sign(&parties.domain, bill(9));
        let receipt = UsageReceipt {
            bill: *other.document(),
            ..*dual_signed(&parties).receipt()
        };
        let signed = Receipt::join(parties.payer.sign(&parties.domain, receipt), &other).unwrap();
        let result =
            signed
                .into_unverified()
                .verify(&parties.domain, &Verifier::default(), parties.payer.address(), |_| true);
        assert!(matches!(result, Err(ReceiptError::OtherChannel { .. })));
    }

    #[test]
    fn survives_the_wire_unverified() {
        let good = dual_signed(&parties());
        let text = serde_json::to_string(&good).unwrap();
        let back: Receipt<Unverified> = serde_json::from_str(&text).unwrap();
        assert_eq!(back, good.into_unverified());
    }
}
