//! What a client has promised on one channel, and what the executor is known to hold of it.
//!
//! A channel has one counter for all its streams: the linked amount, plus what each request without a linked bill may
//! use. The newest voucher is over their sum.

use std::collections::HashMap;

use lloom_receipts::{ChainError, ChannelId, ReceiptHead, RequestHash, TokenAmount, UsageBill, UsageReceipt, Voucher};

#[derive(Debug)]
pub(super) struct Purse {
    channel: ChannelId,
    /// What may be promised at most, where the chain has said it.
    deposit: Option<TokenAmount>,
    head: ReceiptHead,
    promised: HashMap<RequestHash, TokenAmount>,
    /// The highest voucher ever signed.
    signed: TokenAmount,
    /// The highest voucher the executor is known to hold.
    held: TokenAmount,
}

impl Purse {
    pub(super) fn new(
        channel: ChannelId,
        deposit: Option<TokenAmount>,
        head: ReceiptHead,
        signed: TokenAmount,
        promised: impl IntoIterator<Item = (RequestHash, TokenAmount)>,
    ) -> Self {
        Self {
            channel,
            deposit,
            head,
            promised: promised.into_iter().collect(),
            signed,
            held: TokenAmount::ZERO,
        }
    }

    /// The channel grew.
    pub(super) fn set_deposit(&mut self, deposit: Option<TokenAmount>) {
        self.deposit = deposit;
    }

    /// Lets `request` use up to `amount` of the channel in all. Says what it could use before, if anything.
    ///
    /// # Errors
    /// [`Exhausted`] when the deposit doesn't hold that much; nothing is promised then.
    pub(super) fn promise(
        &mut self,
        request: RequestHash,
        amount: TokenAmount,
    ) -> Result<Option<TokenAmount>, Exhausted> {
        let before = self.promised.get(&request).copied();
        self.promised.insert(request, before.unwrap_or_default().max(amount));
        let needed = self.needed();
        match self.deposit {
            // What was signed before is promised anyway.
            Some(deposit) if needed > deposit && needed > self.signed => {
                self.take_back(request, before);
                Err(Exhausted { needed, deposit })
            }
            _ => Ok(before),
        }
    }

    /// The request may use what it could use `before`, and no more: its promise was not signed.
    pub(super) fn take_back(&mut self, request: RequestHash, before: Option<TokenAmount>) {
        match before {
            Some(before) => self.promised.insert(request, before),
            None => self.promised.remove(&request),
        };
    }

    /// The request uses nothing, or nothing more.
    pub(super) fn forget(&mut self, request: RequestHash) {
        self.promised.remove(&request);
    }

    /// The voucher that covers everything promised. It never falls.
    pub(super) fn voucher(&self) -> Voucher {
        Voucher {
            channel: self.channel,
            amount: self.signed.max(self.needed()),
        }
    }

    /// A voucher was signed and is durable.
    pub(super) fn set_signed(&mut self, amount: TokenAmount) {
        self.signed = self.signed.max(amount);
    }

    /// The executor holds a voucher over `amount`, or says so: what was never signed it can't hold.
    pub(super) fn set_held(&mut self, amount: TokenAmount) {
        self.held = self.held.max(amount.min(self.signed));
    }

    /// Whether the executor may lack the newest voucher.
    pub(super) fn has_news(&self) -> bool {
        self.signed > self.held
    }

    /// The receipt that links `bill`.
    ///
    /// # Errors
    /// [`ChainError`] when the bill is of another channel or a total overflows.
    pub(super) fn link(&self, bill: UsageBill) -> Result<UsageReceipt, ChainError> {
        self.head.link(bill)
    }

    /// The voucher that covers `receipt` and everything else promised.
    pub(super) fn voucher_with(&self, receipt: &UsageReceipt) -> Voucher {
        let others = self.needed_without(receipt.bill.request);
        let needed = receipt
            .cumulative_amount
            .saturating_add(others.saturating_sub(self.head.amount));
        let affordable = self.deposit.map_or(needed, |deposit| needed.min(deposit));
        Voucher {
            channel: self.channel,
            amount: self.signed.max(affordable),
        }
    }

    /// `receipt` is durable: it is the head, and its request uses nothing more.
    pub(super) fn set_head(&mut self, receipt: &UsageReceipt) {
        self.head = ReceiptHead::at(receipt);
        self.forget(receipt.bill.request);
    }

    fn needed(&self) -> TokenAmount {
        self.promised
            .values()
            .fold(self.head.amount, |sum, amount| sum.saturating_add(*amount))
    }

    fn needed_without(&self, request: RequestHash) -> TokenAmount {
        let own = self.promised.get(&request).copied().unwrap_or_default();
        self.needed().saturating_sub(own)
    }
}

/// The channel's deposit does not cover what is to be promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the channel holds {deposit}, and {needed} would be promised")]
pub struct Exhausted {
    /// What all promises would come to, base units.
    pub needed: TokenAmount,
    /// What the channel holds, base units.
    pub deposit: TokenAmount,
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use lloom_receipts::{ContentHash, TokenCount, UnixSeconds, Usage};

    use super::*;

    const CHANNEL: ChannelId = ChannelId::new(B256::ZERO);

    fn amount(base_units: u128) -> TokenAmount {
        TokenAmount::new(base_units)
    }

    fn request(byte: u8) -> RequestHash {
        RequestHash::new(B256::repeat_byte(byte))
    }

    fn purse() -> Purse {
        Purse::new(
            CHANNEL,
            Some(amount(100)),
            ReceiptHead::empty(CHANNEL),
            TokenAmount::ZERO,
            [],
        )
    }

    fn bill(byte: u8, cost: u128) -> UsageBill {
        UsageBill {
            channel: CHANNEL,
            request: request(byte),
            response_hash: ContentHash::new(B256::ZERO),
            usage: Usage {
                input: TokenCount::new(1),
                output: TokenCount::new(1),
            },
            amount: amount(cost),
            completed_at: UnixSeconds::new(1),
        }
    }

    #[test]
    fn one_voucher_covers_all_requests() {
        let mut purse = purse();
        purse.promise(request(1), amount(10)).unwrap();
        purse.promise(request(2), amount(20)).unwrap();
        assert_eq!(purse.voucher().amount, amount(30));
        purse.promise(request(1), amount(15)).unwrap();
        // A promise never shrinks.
        purse.promise(request(1), amount(5)).unwrap();
        assert_eq!(purse.voucher().amount, amount(35));
    }

    #[test]
    fn linking_turns_a_promise_into_a_debt() {
        let mut purse = purse();
        purse.promise(request(1), amount(10)).unwrap();
        purse.promise(request(2), amount(20)).unwrap();
        purse.set_signed(purse.voucher().amount);
        let receipt = purse.link(bill(1, 4)).unwrap();
        assert_eq!(purse.voucher_with(&receipt).amount, amount(30), "a voucher never falls");
        purse.set_head(&receipt);
        assert_eq!(purse.needed(), amount(24));
        // A bill above what was promised for it still gets a voucher that covers it.
        let receipt = purse.link(bill(2, 40)).unwrap();
        assert_eq!(purse.voucher_with(&receipt).amount, amount(44));
        purse.set_head(&receipt);
        assert_eq!(purse.needed(), amount(44));
    }

    #[test]
    fn promises_nothing_beyond_the_deposit() {
        let mut purse = purse();
        purse.promise(request(1), amount(90)).unwrap();
        assert_eq!(
            purse.promise(request(2), amount(11)),
            Err(Exhausted {
                needed: amount(101),
                deposit: amount(100)
            })
        );
        assert!(purse.promise(request(1), amount(101)).is_err());
        assert_eq!(purse.voucher().amount, amount(90));
        purse.set_deposit(Some(amount(200)));
        purse.promise(request(2), amount(11)).unwrap();
        purse.forget(request(1));
        assert_eq!(purse.voucher().amount, amount(11));
    }

    #[test]
    fn knows_when_the_executor_lacks_the_newest_voucher() {
        let mut purse = purse();
        assert!(!purse.has_news());
        purse.set_signed(amount(10));
        assert!(purse.has_news());
        purse.set_held(amount(1_000));
        assert!(!purse.has_news());
        purse.set_signed(amount(11));
        assert!(purse.has_news(), "what was never signed was never held");
    }
}
