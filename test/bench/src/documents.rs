//! Signed documents in quantity, as a client and an executor would have made them.

use alloy::primitives::{Address, B256, U256, keccak256};
use eyre::{Result, WrapErr};
use lloom_ledger::{Block, ChainEvent, ChainEventKind, EventPosition, Ledger, ObligationPolicy};
use lloom_receipts::{
    BlockNumber, ChannelId, ChannelParameters, ContentHash, ContentSalt, Domain, InferenceRequest, Keypair, ModelHash,
    PricePerMillion, Prices, Receipt, ReceiptHead, RequestNonce, Signed, TokenAmount, TokenCount, UnixSeconds, Usage,
    UsageBill, Verified, Voucher, commitment_salt,
};

/// When all documents are dated: a moment in 2026.
pub const NOW: UnixSeconds = UnixSeconds::new(1_790_000_000);

/// A payer's channel with the executor, who is the same in all of them, and both keys.
#[derive(Debug)]
pub struct Books {
    /// What the signatures are for.
    pub domain: Domain,
    /// The payer side.
    pub payer: Keypair,
    /// The executor side; its own payee.
    pub operator: Keypair,
    /// The channel.
    pub parameters: ChannelParameters,
}

impl Books {
    /// The `number`th payer with the executor.
    ///
    /// # Errors
    /// Never in practice: a hash would have to be no key.
    pub fn new(number: u32) -> Result<Self> {
        let domain = Domain::new(31_337, Address::repeat_byte(0xe5), Address::repeat_byte(0x5e));
        Self::on(domain, Address::repeat_byte(0x70), number)
    }

    /// The same on another deployment, paid in `token`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn on(domain: Domain, token: Address, number: u32) -> Result<Self> {
        let payer = Keypair::from_secret(keccak256(format!("payer {number}")).0).wrap_err("a key from a hash")?;
        let operator = Keypair::from_secret(operator_secret()).wrap_err("a key from a hash")?;
        let parameters = ChannelParameters {
            payer: payer.address(),
            payee: operator.address(),
            token,
            salt: commitment_salt(operator.address(), B256::with_last_byte(1)),
            authorized_signer: Address::ZERO,
        };
        Ok(Self {
            domain,
            payer,
            operator,
            parameters,
        })
    }

    /// The `number`th request of the channel.
    pub fn request(&self, number: u64) -> Signed<InferenceRequest, Verified> {
        let price = |base_units| PricePerMillion::new(TokenAmount::new(base_units));
        let request = InferenceRequest {
            channel: self.channel(),
            operator: self.operator.address(),
            nonce: RequestNonce::new(U256::from(number)),
            model: ModelHash::of_id("bench"),
            prompt_hash: ContentHash::of(ContentSalt::new(B256::ZERO), &number.to_be_bytes()),
            max_input: TokenCount::new(1_000),
            max_output: TokenCount::new(1_000),
            prices: Prices {
                input: price(150_000),
                output: price(600_000),
            },
            deadline: NOW,
        };
        self.payer.sign(&self.domain, request)
    }

    /// The channel's id.
    pub fn channel(&self) -> ChannelId {
        self.parameters.id(&self.domain)
    }

    /// The voucher over `amount`.
    pub fn voucher(&self, amount: TokenAmount) -> Signed<Voucher, Verified> {
        let channel = self.channel();
        self.payer.sign(&self.domain, Voucher { channel, amount })
    }

    /// The bill for `request`, of a few hundred tokens.
    ///
    /// # Errors
    /// Never in practice: the usage is within the request's limits.
    pub fn bill(&self, request: &InferenceRequest) -> Result<UsageBill> {
        let usage = Usage {
            input: TokenCount::new(100),
            output: TokenCount::new(300),
        };
        Ok(UsageBill::for_request(request, usage, request.prompt_hash, NOW)?)
    }

    /// The receipt that links `bill` to `head`.
    ///
    /// # Errors
    /// Never in practice: the bill is of the head's channel.
    pub fn receipt(&self, head: &ReceiptHead, bill: UsageBill) -> Result<Receipt<Verified>> {
        let receipt = self.payer.sign(&self.domain, head.link(bill)?);
        Ok(Receipt::join(receipt, &self.operator.sign(&self.domain, bill))?)
    }

    /// The channel's first `count` receipts.
    ///
    /// # Errors
    /// As [`receipt`](Self::receipt).
    pub fn receipts(&self, count: u64) -> Result<Vec<Receipt<Verified>>> {
        let mut head = ReceiptHead::empty(self.channel());
        (0..count)
            .map(|number| {
                let receipt = self.receipt(&head, self.bill(self.request(number).document())?)?;
                head = ReceiptHead::at(receipt.receipt());
                Ok(receipt)
            })
            .collect()
    }
}

/// The executor's key, the same everywhere here.
pub fn operator_secret() -> [u8; 32] {
    keccak256("operator").0
}

/// What every channel here has on deposit, base units.
pub const DEPOSIT: TokenAmount = TokenAmount::new(1_000_000_000_000);

/// Tells the store of `channels` as a follower would that saw them opened, confirmed, in one block.
///
/// # Errors
/// When the store fails.
pub async fn open_channels(store: &Ledger, channels: &[(ChannelId, ChannelParameters)]) -> Result<()> {
    let block = Block {
        number: BlockNumber::new(1),
        hash: B256::repeat_byte(0xb1),
        parent: B256::repeat_byte(0xb0),
        timestamp: NOW,
    };
    open_channels_in(store, block, channels).await
}

/// The same, in `block`.
///
/// # Errors
/// When the store fails.
pub async fn open_channels_in(store: &Ledger, block: Block, channels: &[(ChannelId, ChannelParameters)]) -> Result<()> {
    let opened = channels
        .iter()
        .zip(0..)
        .map(|(&(channel, parameters), log)| ChainEvent {
            block: block.number,
            block_hash: block.hash,
            position: EventPosition::of_log(log),
            transaction: B256::repeat_byte(0x77),
            kind: ChainEventKind::ChannelOpened {
                channel,
                parameters,
                deposit: DEPOSIT,
                refunds_to_balance: true,
            },
        });
    let policy = ObligationPolicy::default();
    store
        .apply_blocks(vec![block], opened.collect(), block.number, policy)
        .await?;
    Ok(())
}
