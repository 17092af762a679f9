use alloy::primitives::Address;

use crate::{
    Document, Domain, Receipt, ReceiptError, SignatureCheck, Signed, Unverified, Verified, Verifier, VerifyError,
};

/// What [`Verifier::verify_all`] verifies together with others: documents with those who have to have signed them, and
/// pairs and options of such.
pub trait Verifiable: sealed::Verify {}

impl<T: sealed::Verify> Verifiable for T {}

mod sealed {
    use super::{Domain, SignatureCheck, VerifyError};

    /// Only this crate may turn verdicts on signatures into documents that are `Verified`.
    pub trait Verify {
        /// What comes of it.
        type Verdict;

        /// Appends the checks of its signatures.
        fn push_checks(&self, domain: &Domain, checks: &mut Vec<SignatureCheck>);

        /// Takes the verdicts on them, in that order.
        fn conclude(self, verdicts: &mut std::vec::IntoIter<Result<(), VerifyError>>) -> Self::Verdict;
    }
}

impl Verifier {
    /// Verifies `items` with as few operations as possible; verdicts are in their order, and each is what verifying the
    /// item alone would say.
    pub fn verify_all<T: Verifiable>(&self, domain: &Domain, items: Vec<T>) -> Vec<T::Verdict> {
        let mut checks = Vec::new();
        for item in &items {
            item.push_checks(domain, &mut checks);
        }
        let mut verdicts = self.check_all(&checks).into_iter();
        items.into_iter().map(|item| item.conclude(&mut verdicts)).collect()
    }
}

/// A document and who has to have signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedBy<D> {
    signed: Signed<D, Unverified>,
    signer: Address,
}

impl<D> Signed<D, Unverified> {
    /// Names who has to have signed it.
    pub const fn by(self, signer: Address) -> SignedBy<D> {
        SignedBy { signed: self, signer }
    }
}

impl<D: Document> sealed::Verify for SignedBy<D> {
    type Verdict = Result<Signed<D, Verified>, VerifyError>;

    fn push_checks(&self, domain: &Domain, checks: &mut Vec<SignatureCheck>) {
        checks.push(SignatureCheck {
            digest: self.signed.document().digest(domain),
            signature: *self.signed.signature(),
            signer: self.signer,
        });
    }

    fn conclude(self, verdicts: &mut std::vec::IntoIter<Result<(), VerifyError>>) -> Self::Verdict {
        next(verdicts)?;
        Ok(self.signed.into_verified())
    }
}

/// A receipt and who has to have signed it: one on each side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptBy {
    receipt: Receipt<Unverified>,
    payer_side: Address,
    executor_side: Address,
}

impl Receipt<Unverified> {
    /// Names the payer side's signer, and the executor side's, as [`verify`](Self::verify) does.
    pub const fn by(self, payer_side: Address, executor_side: Address) -> ReceiptBy {
        ReceiptBy {
            receipt: self,
            payer_side,
            executor_side,
        }
    }
}

impl sealed::Verify for ReceiptBy {
    type Verdict = Result<Receipt<Verified>, ReceiptError>;

    fn push_checks(&self, domain: &Domain, checks: &mut Vec<SignatureCheck>) {
        let digests = self.receipt.digests(domain);
        checks.extend([
            SignatureCheck {
                digest: digests.receipt,
                signature: *self.receipt.payer_signature(),
                signer: self.payer_side,
            },
            SignatureCheck {
                digest: digests.bill,
                signature: *self.receipt.bill_signature(),
                signer: self.executor_side,
            },
        ]);
    }

    fn conclude(self, verdicts: &mut std::vec::IntoIter<Result<(), VerifyError>>) -> Self::Verdict {
        let (payer, executor) = (next(verdicts), next(verdicts));
        payer.map_err(ReceiptError::Payer)?;
        executor.map_err(|error| match error {
            VerifyError::WrongSigner { recovered, .. } => ReceiptError::NotExecutorSide { biller: recovered },
            error @ VerifyError::Unrecoverable => ReceiptError::Executor(error),
        })?;
        self.receipt.into_verified()
    }
}

impl<T: sealed::Verify> sealed::Verify for Option<T> {
    type Verdict = Option<T::Verdict>;

    fn push_checks(&self, domain: &Domain, checks: &mut Vec<SignatureCheck>) {
        if let Some(item) = self {
            item.push_checks(domain, checks);
        }
    }

    fn conclude(self, verdicts: &mut std::vec::IntoIter<Result<(), VerifyError>>) -> Self::Verdict {
        self.map(|item| item.conclude(verdicts))
    }
}

impl<A: sealed::Verify, B: sealed::Verify> sealed::Verify for (A, B) {
    type Verdict = (A::Verdict, B::Verdict);

    fn push_checks(&self, domain: &Domain, checks: &mut Vec<SignatureCheck>) {
        self.0.push_checks(domain, checks);
        self.1.push_checks(domain, checks);
    }

    fn conclude(self, verdicts: &mut std::vec::IntoIter<Result<(), VerifyError>>) -> Self::Verdict {
        let first = self.0.conclude(verdicts);
        (first, self.1.conclude(verdicts))
    }
}

/// A check without a verdict has not passed.
fn next(verdicts: &mut std::vec::IntoIter<Result<(), VerifyError>>) -> Result<(), VerifyError> {
    verdicts.next().unwrap_or(Err(VerifyError::Unrecoverable))
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;

    use super::*;
    use crate::{
        ChannelId, ContentHash, Keypair, ReceiptHead, RequestHash, TokenAmount, TokenCount, UnixSeconds, Usage,
        UsageBill, Voucher,
    };

    struct Parties {
        domain: Domain,
        payer: Keypair,
        operator: Keypair,
    }

    impl Parties {
        fn bill(&self, channel: u8, number: u8) -> Signed<UsageBill, Verified> {
            let bill = UsageBill {
                channel: ChannelId::new(B256::repeat_byte(channel)),
                request: RequestHash::new(B256::repeat_byte(number)),
                response_hash: ContentHash::new(B256::repeat_byte(5)),
                usage: Usage {
                    input: TokenCount::new(10),
                    output: TokenCount::new(20),
                },
                amount: TokenAmount::new(30),
                completed_at: UnixSeconds::new(1_700_000_000),
            };
            self.operator.sign(&self.domain, bill)
        }

        /// Receipts, one after the other, with their vouchers; every third comes without.
        fn deliveries(&self, count: u8) -> Vec<(Receipt<Unverified>, Option<Signed<Voucher>>)> {
            let mut head = ReceiptHead::empty(ChannelId::new(B256::repeat_byte(3)));
            (0..count)
                .map(|number| {
                    let bill = self.bill(3, number);
                    let receipt = self.payer.sign(&self.domain, head.link(*bill.document()).unwrap());
                    head = ReceiptHead::at(receipt.document());
                    let voucher = Voucher {
                        channel: head.channel,
                        amount: head.amount,
                    };
                    let voucher = self.payer.sign(&self.domain, voucher).into_unverified();
                    let receipt = Receipt::join(receipt, &bill).unwrap().into_unverified();
                    (receipt, (number % 3 != 0).then_some(voucher))
                })
                .collect()
        }
    }

    #[test]
    fn documents_are_verified_together_as_they_are_alone() {
        let parties = Parties {
            domain: Domain::new(31337, Address::repeat_byte(1), Address::repeat_byte(2)),
            payer: Keypair::from_secret([7; 32]).unwrap(),
            operator: Keypair::from_secret([8; 32]).unwrap(),
        };
        let (payer, operator) = (parties.payer.address(), parties.operator.address());
        let mut deliveries = parties.deliveries(30);
        let bill_of_another = parties.bill(9, 1);
        let resigned = |receipt: &Receipt<Unverified>, bill: &Signed<UsageBill, Verified>| {
            let mut document = *receipt.receipt();
            document.bill = *bill.document();
            Receipt::join(parties.payer.sign(&parties.domain, document), bill)
                .unwrap()
                .into_unverified()
        };
        let swapped = |receipt: &Receipt<Unverified>, payer: bool| {
            let (left, right) = (*receipt.payer_signature(), *receipt.bill_signature());
            Receipt::new(
                *receipt.receipt(),
                if payer { right } else { left },
                if payer { right } else { left },
            )
        };
        deliveries[4].0 = swapped(&deliveries[4].0, true);
        deliveries[5].0 = swapped(&deliveries[5].0, false);
        deliveries[6].0 = resigned(&deliveries[6].0, &bill_of_another);
        deliveries[7].1 = deliveries[8]
            .1
            .clone()
            .map(|other| Signed::new(*deliveries[7].1.as_ref().unwrap().document(), *other.signature()));
        let verifier = Verifier::default();
        // Strangers the first time, known the second.
        for _ in 0..2 {
            let items = deliveries
                .iter()
                .cloned()
                .map(|(receipt, voucher)| (receipt.by(payer, operator), voucher.map(|voucher| voucher.by(payer))))
                .collect();
            let verdicts = verifier.verify_all(&parties.domain, items);
            assert_eq!(verdicts.len(), deliveries.len());
            for ((receipt, voucher), (of_receipt, of_voucher)) in deliveries.iter().cloned().zip(verdicts) {
                let alone = Verifier::default();
                let expected = receipt.verify(&parties.domain, &alone, payer, |biller| biller == operator);
                assert_eq!(of_receipt, expected);
                let expected = voucher.map(|voucher| voucher.verify(&parties.domain, &alone, payer));
                assert_eq!(of_voucher, expected);
            }
        }
    }

    #[test]
    fn each_fault_of_a_receipt_has_its_error() {
        let parties = Parties {
            domain: Domain::new(31337, Address::repeat_byte(1), Address::repeat_byte(2)),
            payer: Keypair::from_secret([7; 32]).unwrap(),
            operator: Keypair::from_secret([8; 32]).unwrap(),
        };
        let (payer, operator) = (parties.payer.address(), parties.operator.address());
        let receipt = parties.deliveries(1).remove(0).0;
        let verify = |item| Verifier::default().verify_all(&parties.domain, vec![item]).remove(0);
        assert!(verify(receipt.clone().by(payer, operator)).is_ok());
        assert!(matches!(
            verify(receipt.clone().by(operator, operator)),
            Err(ReceiptError::Payer(VerifyError::WrongSigner { .. }))
        ));
        assert_eq!(
            verify(receipt.by(payer, payer)),
            Err(ReceiptError::NotExecutorSide { biller: operator })
        );
    }
}
