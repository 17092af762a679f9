//! Where the money is, asked of the chain itself: nothing here believes `lloomctl`.

use std::collections::BTreeMap;

use alloy::{
    consensus::Transaction as _,
    network::TransactionResponse as _,
    primitives::{Address, B256, U256},
    providers::{DynProvider, Provider},
    rpc::types::{Filter, Log},
    sol_types::{SolCall, SolEvent},
};
use eyre::{Result, WrapErr, bail, eyre};
use lloom_bindings::{
    ChannelEscrow, Contracts, DevToken, UsageSettlement, channel_escrow::IChannelEscrow, dev_token_address,
};
use lloom_receipts::{ChannelId, Domain, TokenAmount};

use crate::Anvil;

/// The contracts on a chain.
#[derive(Clone, Debug)]
pub struct Money {
    contracts: Contracts,
    token: Address,
    provider: DynProvider,
}

/// A transaction that settled channels or tried to.
#[derive(Clone, Debug)]
pub struct Settling {
    /// Its hash.
    pub hash: B256,
    /// Who sent it.
    pub from: Address,
    /// What it called.
    pub call: SettlingCall,
    /// The channels that it settled or closed.
    pub channels: Vec<ChannelId>,
    /// The gas it used.
    pub gas: u64,
}

/// The calls that settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SettlingCall {
    /// `ChannelEscrow.claimVouchers`.
    ClaimVouchers,
    /// `UsageSettlement.claimReceipts`.
    ClaimReceipts,
    /// `UsageSettlement.closeWithVoucher`.
    CloseWithVoucher,
    /// `UsageSettlement.closeWithReceipt`.
    CloseWithReceipt,
}

impl SettlingCall {
    /// Whether it carries many channels and leaves them open.
    pub const fn is_claim(self) -> bool {
        matches!(self, Self::ClaimVouchers | Self::ClaimReceipts)
    }

    fn of(input: &[u8]) -> Option<Self> {
        match *input.first_chunk::<4>()? {
            ChannelEscrow::claimVouchersCall::SELECTOR => Some(Self::ClaimVouchers),
            UsageSettlement::claimReceiptsCall::SELECTOR => Some(Self::ClaimReceipts),
            UsageSettlement::closeWithVoucherCall::SELECTOR => Some(Self::CloseWithVoucher),
            UsageSettlement::closeWithReceiptCall::SELECTOR => Some(Self::CloseWithReceipt),
            _ => None,
        }
    }
}

/// Usage as the chain published it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The newest receipt's sequence.
    pub sequence: u64,
    /// All prompt tokens of the channel up to it.
    pub input_tokens: u64,
    /// All completion tokens.
    pub output_tokens: u64,
    /// What they cost.
    pub amount: TokenAmount,
}

impl Money {
    /// This version's contracts on `anvil`.
    pub fn on(anvil: &Anvil) -> Self {
        Self {
            contracts: Contracts::of_this_version(),
            token: dev_token_address(),
            provider: anvil.provider().clone(),
        }
    }

    /// What documents are signed for.
    pub fn domain(&self) -> Domain {
        Domain::new(Anvil::CHAIN_ID, self.contracts.escrow, self.contracts.settlement)
    }

    /// The token.
    pub const fn token(&self) -> Address {
        self.token
    }

    /// What `account` holds: in its wallet and free in the escrow.
    ///
    /// # Errors
    /// When the chain doesn't answer.
    pub async fn held_by(&self, account: Address) -> Result<TokenAmount> {
        let token = DevToken::new(self.token, &self.provider);
        let wallet = token.balanceOf(account).call().await.wrap_err("asking for a wallet")?;
        let escrow = ChannelEscrow::new(self.contracts.escrow, &self.provider);
        let balance = escrow
            .balanceOf(account, self.token)
            .call()
            .await
            .wrap_err("asking for a balance")?;
        amount(wallet + balance)
    }

    /// The sum of what `accounts` hold.
    ///
    /// # Errors
    /// As [`held_by`](Self::held_by).
    pub async fn held_by_all(&self, accounts: impl IntoIterator<Item = Address>) -> Result<TokenAmount> {
        let mut sum = TokenAmount::ZERO;
        for account in accounts {
            sum = sum
                .checked_add(self.held_by(account).await?)
                .ok_or_else(|| eyre!("more money than can be"))?;
        }
        Ok(sum)
    }

    /// A channel as the escrow has it.
    ///
    /// # Errors
    /// When the chain doesn't answer or there is no such channel.
    pub async fn channel(&self, channel: ChannelId) -> Result<IChannelEscrow::Channel> {
        let escrow = ChannelEscrow::new(self.contracts.escrow, &self.provider);
        let found = escrow.getChannel(channel.hash()).call().await?;
        if found.payer.is_zero() {
            bail!("the chain has no channel {channel}");
        }
        Ok(found)
    }

    /// What a channel has settled.
    ///
    /// # Errors
    /// As [`channel`](Self::channel).
    pub async fn settled(&self, channel: ChannelId) -> Result<TokenAmount> {
        Ok(TokenAmount::new(self.channel(channel).await?.settled))
    }

    /// The newest usage published of each channel.
    ///
    /// # Errors
    /// When the chain doesn't answer.
    pub async fn published(&self) -> Result<BTreeMap<B256, Published>> {
        let filter = Filter::new().address(self.contracts.settlement).from_block(0);
        let mut published = BTreeMap::new();
        for log in self.provider.get_logs(&filter).await? {
            published.extend(published_in(&log)?);
        }
        Ok(published)
    }

    /// The totals that settling brought the channel to, in order: what was settled twice would stand here twice.
    ///
    /// # Errors
    /// When the chain doesn't answer.
    pub async fn settlements(&self, channel: ChannelId) -> Result<Vec<TokenAmount>> {
        let filter = Filter::new()
            .address(vec![self.contracts.escrow, self.contracts.settlement])
            .from_block(0);
        let logs = self.provider.get_logs(&filter).await?;
        // The escrow itself says what closing settles; the receipt published with it may be an older one.
        let closed = logs
            .iter()
            .find(|log| closed_in(log) == Some(channel))
            .and_then(|log| log.transaction_hash);
        let mut totals = Vec::new();
        for log in &logs {
            let by_receipt = log.address() == self.contracts.settlement;
            if by_receipt && log.transaction_hash == closed {
                continue;
            }
            if closed_in(log) == Some(channel) {
                let settled = TokenAmount::new(ChannelEscrow::ChannelClosed::decode_log(&log.inner)?.settled);
                totals.extend((totals.last() != Some(&settled) && !settled.is_zero()).then_some(settled));
            }
            let entries = settled_in(log)?.into_iter();
            totals.extend(entries.filter(|(id, _)| *id == channel).map(|(_, settled)| settled));
        }
        Ok(totals)
    }

    /// All mined transactions that settle or close, in their order.
    ///
    /// # Errors
    /// When the chain doesn't answer.
    pub async fn settling_transactions(&self) -> Result<Vec<Settling>> {
        let mut all = Vec::new();
        for number in 0..=self.provider.get_block_number().await? {
            let block = self.provider.get_block_by_number(number.into()).full().await?;
            let block = block.ok_or_else(|| eyre!("the chain has no block {number}"))?;
            for transaction in block.transactions.into_transactions() {
                let Some(call) = SettlingCall::of(transaction.input()) else {
                    continue;
                };
                let hash = transaction.tx_hash();
                let receipt = self.provider.get_transaction_receipt(hash).await?;
                let receipt = receipt.ok_or_else(|| eyre!("no receipt of {hash}"))?;
                let mut channels = Vec::new();
                for log in receipt.logs() {
                    channels.extend(settled_in(log)?.into_iter().map(|(channel, _)| channel));
                    channels.extend(closed_in(log));
                }
                channels.dedup();
                all.push(Settling {
                    hash,
                    from: transaction.from(),
                    call,
                    channels,
                    gas: receipt.gas_used,
                });
            }
        }
        Ok(all)
    }
}

/// What a log says channels have settled.
fn settled_in(log: &Log) -> Result<Vec<(ChannelId, TokenAmount)>> {
    let entry = |channel, settled| (ChannelId::new(channel), TokenAmount::new(settled));
    Ok(match log.topic0() {
        Some(&ChannelEscrow::ChannelSettled::SIGNATURE_HASH) => {
            let event = ChannelEscrow::ChannelSettled::decode_log(&log.inner)?;
            vec![entry(event.channelId, event.settled)]
        }
        Some(&ChannelEscrow::ChannelsSettled::SIGNATURE_HASH) => {
            let event = ChannelEscrow::ChannelsSettled::decode_log(&log.inner)?;
            let channels = event.channels.iter();
            channels
                .map(|settled| entry(settled.channelId, settled.settled))
                .collect()
        }
        _ => {
            let published = published_in(log)?.into_iter();
            published
                .map(|(channel, usage)| (ChannelId::new(channel), usage.amount))
                .collect()
        }
    })
}

/// The usage that a log publishes.
fn published_in(log: &Log) -> Result<Vec<(B256, Published)>> {
    Ok(match log.topic0() {
        Some(&UsageSettlement::UsageSettled::SIGNATURE_HASH) => {
            let event = UsageSettlement::UsageSettled::decode_log(&log.inner)?;
            let usage = Published {
                sequence: event.sequence,
                input_tokens: event.cumulativeInputTokens,
                output_tokens: event.cumulativeOutputTokens,
                amount: TokenAmount::new(event.cumulativeAmount),
            };
            vec![(event.channelId, usage)]
        }
        Some(&UsageSettlement::UsagesSettled::SIGNATURE_HASH) => {
            let event = UsageSettlement::UsagesSettled::decode_log(&log.inner)?;
            let usages = event.usages.iter().map(|usage| {
                let published = Published {
                    sequence: usage.sequence,
                    input_tokens: usage.cumulativeInputTokens,
                    output_tokens: usage.cumulativeOutputTokens,
                    amount: TokenAmount::new(usage.cumulativeAmount),
                };
                (usage.channelId, published)
            });
            usages.collect()
        }
        _ => Vec::new(),
    })
}

fn closed_in(log: &Log) -> Option<ChannelId> {
    let closed = log.topic0() == Some(&ChannelEscrow::ChannelClosed::SIGNATURE_HASH);
    let channel = log.topics().get(1).copied()?;
    closed.then(|| ChannelId::new(channel))
}

fn amount(units: U256) -> Result<TokenAmount> {
    u128::try_from(units)
        .map(TokenAmount::new)
        .map_err(|_| eyre!("{units} is no amount"))
}
