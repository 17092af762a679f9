//! What really happened, read from the executors' stores and from the chain, and checked anew.

use std::collections::HashSet;

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use eyre::{Result, WrapErr, ensure, eyre};
use lloom_e2e::{Chain, Published, Settling, SettlingCall};
use lloom_receipts::{ChannelId, Decimals, ReceiptHead, TokenAmount, Verifier};

use crate::{
    backend::Backend,
    market::{Answer, Market},
};

/// The development token's decimals.
const DECIMALS: Decimals = Decimals::new(6);

/// Everything that was found.
#[derive(Debug)]
pub struct Audit {
    /// Answers.
    pub requests: usize,
    /// The channels.
    pub channels: Vec<AuditedChannel>,
    /// Transactions that settled.
    pub transactions: Vec<Settling>,
    answers: Vec<Answer>,
}

/// One channel.
#[derive(Debug)]
pub struct AuditedChannel {
    id: ChannelId,
    client: usize,
    executor: usize,
    /// Dual-signed receipts, every signature and link checked.
    pub receipts: usize,
    /// The newest receipt's total.
    pub input_tokens: u64,
    /// The newest receipt's total.
    pub output_tokens: u64,
    charged: TokenAmount,
    settled: TokenAmount,
    published: Option<Published>,
}

impl Audit {
    /// Reads stores and chain. Every receipt's signatures and links are verified here once more, as a stranger would.
    ///
    /// # Errors
    /// When a receipt isn't dual-signed or linked, an answer has no receipt, or something can't be read.
    pub async fn of(chain: &Chain, market: &Market, answers: &[Answer]) -> Result<Self> {
        let published = chain.money.published().await?;
        let verifier = Verifier::default();
        let domain = chain.money.domain();
        let mut channels = Vec::new();
        let mut receipted = HashSet::new();
        for (executor, seller) in market.sellers.iter().enumerate() {
            let store = seller.home.store().await?;
            for id in seller.channels().await? {
                let on_chain = chain.money.channel(id).await?;
                let client = market
                    .buyers
                    .iter()
                    .position(|buyer| buyer.home.address() == on_chain.payer);
                let client = client.ok_or_else(|| eyre!("the channel {id} has a stranger for a payer"))?;
                let mut head = ReceiptHead::empty(id);
                for receipt in store.receipts(id, 1, u32::MAX).await? {
                    let receipt = receipt.into_unverified();
                    let operator = seller.operator();
                    let verified = receipt.verify(&domain, &verifier, on_chain.payer, |biller| biller == operator);
                    let verified = verified.wrap_err_with(|| format!("a receipt of the channel {id}"))?;
                    head.check_extends(verified.receipt())?;
                    head = ReceiptHead::at(verified.receipt());
                    receipted.insert(verified.receipt().bill.request.to_string());
                }
                channels.push(AuditedChannel {
                    id,
                    client,
                    executor,
                    receipts: usize::try_from(head.sequence)?,
                    input_tokens: head.input.get(),
                    output_tokens: head.output.get(),
                    charged: head.amount,
                    settled: TokenAmount::new(on_chain.settled),
                    published: published.get(&id.hash()).copied(),
                });
            }
        }
        for answer in answers {
            let hash = answer.said["request_hash"].as_str().unwrap_or_default();
            ensure!(
                receipted.contains(hash),
                "the answer to {} has no receipt: {}",
                answer.prompt.id,
                answer.said
            );
        }
        Ok(Self {
            requests: answers.len(),
            channels,
            transactions: chain.money.settling_transactions().await?,
            answers: answers.to_vec(),
        })
    }

    /// What the newest receipts say in all.
    pub fn charged(&self) -> TokenAmount {
        sum(self.channels.iter().map(|channel| channel.charged))
    }

    /// What the chain settled in all.
    pub fn settled(&self) -> TokenAmount {
        sum(self.channels.iter().map(|channel| channel.settled))
    }

    /// Checks the rest of the demo's promises: six channels, a claim by receipts and one by vouchers, usage published on
    /// chain as the stores have it, and token counts that are true where the truth is known.
    ///
    /// # Errors
    /// When one is broken.
    pub fn check(&self, backend: &Backend) -> Result<()> {
        ensure!(
            self.channels.len() == 6,
            "there are {} channels, not 6",
            self.channels.len()
        );
        for call in [SettlingCall::ClaimReceipts, SettlingCall::ClaimVouchers] {
            let batched = self
                .transactions
                .iter()
                .any(|done| done.call == call && done.channels.len() > 1);
            ensure!(batched, "no {call:?} carried several channels");
        }
        for channel in &self.channels {
            let ledger = Published {
                sequence: channel.receipts as u64,
                input_tokens: channel.input_tokens,
                output_tokens: channel.output_tokens,
                amount: channel.charged,
            };
            ensure!(
                channel.published == Some(ledger),
                "the chain publishes {:?} of the channel {}, and the store has {ledger:?}",
                channel.published,
                channel.id
            );
        }
        for answer in &self.answers {
            let Some(true_usage) = backend.true_usage(&answer.prompt) else {
                continue;
            };
            let billed = (
                answer.said["input_tokens"].as_u64(),
                answer.said["output_tokens"].as_u64(),
            );
            ensure!(
                billed == (Some(true_usage.0), Some(true_usage.1)),
                "the answer to {} was billed as {billed:?} tokens, and is {true_usage:?}",
                answer.prompt.id
            );
        }
        Ok(())
    }

    /// Prints who paid what to whom, and what it took on chain.
    pub fn print(&self) {
        println!("\n{}\n\n{}\n", self.payments(), self.claims());
        let gas: u64 = self.transactions.iter().map(|transaction| transaction.gas).sum();
        println!(
            "Settling and closing took {gas} gas: {} a channel, {} an inference.\n",
            gas / self.channels.len().max(1) as u64,
            gas / self.requests.max(1) as u64
        );
    }

    fn payments(&self) -> Table {
        let mut table = table(&["from", "to", "receipts", "input", "output", "charged", "settled", "gas"]);
        for channel in &self.channels {
            let shares = self
                .transactions
                .iter()
                .filter(|done| done.channels.contains(&channel.id));
            let gas: u64 = shares.map(|done| done.gas / done.channels.len() as u64).sum();
            table.add_row([
                Cell::new(format!("client {}", channel.client + 1)),
                Cell::new(format!("executor {}", channel.executor + 1)),
                number(channel.receipts),
                number(channel.input_tokens),
                number(channel.output_tokens),
                number(channel.charged.display(DECIMALS)),
                number(channel.settled.display(DECIMALS)),
                number(gas),
            ]);
        }
        table
    }

    fn claims(&self) -> Table {
        let mut table = table(&["transaction", "call", "channels", "gas", "gas a channel"]);
        for done in &self.transactions {
            table.add_row([
                Cell::new(done.hash),
                Cell::new(match done.call {
                    SettlingCall::ClaimVouchers => "claimVouchers",
                    SettlingCall::ClaimReceipts => "claimReceipts",
                    SettlingCall::CloseWithVoucher => "closeWithVoucher",
                    SettlingCall::CloseWithReceipt => "closeWithReceipt",
                }),
                number(done.channels.len()),
                number(done.gas),
                number(done.gas / done.channels.len().max(1) as u64),
            ]);
        }
        table
    }
}

fn sum(amounts: impl Iterator<Item = TokenAmount>) -> TokenAmount {
    amounts.fold(TokenAmount::ZERO, TokenAmount::saturating_add)
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_header(header);
    table
}

fn number(value: impl ToString) -> Cell {
    Cell::new(value.to_string()).set_alignment(CellAlignment::Right)
}
