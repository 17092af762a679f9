use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use alloy::primitives::Address;
use clap::Args;
use lloom_ledger::ArchivedReceipt;
use lloom_receipts::{ChannelId, Domain, ReceiptHead, TokenAmount, Verifier};
use serde::Serialize;

use crate::{
    failure::{Failure, Kind, OrFail as _, Result},
    onchain::OperatorStatus,
    output::{Align, Report, Table, shortened},
    session::Session,
};

/// Check exported receipts: both signatures, and the links between them
///
/// Nothing is believed but the signatures: that the payer's side signed each receipt, that the executor's side signed
/// the bill inside, that the amounts add up, and that each receipt follows the one before. The chain is only asked
/// when a bill's signer is neither the payee nor the node the channel is committed to.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// What `receipts export` or `ledger compact` wrote, or - for standard input
    pub file: PathBuf,
}

#[derive(Serialize)]
struct Checked {
    receipts: u64,
    /// Operators whom the payer asked, and of whom the chain, which could not be reached, knows whether the payee has
    /// named them.
    unproven_operators: BTreeSet<Address>,
    channels: Vec<CheckedChannel>,
}

#[derive(Serialize)]
struct CheckedChannel {
    channel: ChannelId,
    payer: Address,
    payee: Address,
    /// The first and last receipt of the file. Those between are all there.
    first_sequence: u64,
    last_sequence: u64,
    input_tokens: u64,
    output_tokens: u64,
    amount: TokenAmount,
    amount_display: String,
    /// What the first receipt says came before it. Zero where the file begins at receipt 1; otherwise it is that
    /// receipt's word alone.
    amount_before: TokenAmount,
    amount_before_display: String,
}

impl Report for Checked {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut table = Table::new(&[
            ("CHANNEL", Align::Left),
            ("PAYER", Align::Left),
            ("PAYEE", Align::Left),
            ("RECEIPTS", Align::Left),
            ("INPUT", Align::Right),
            ("OUTPUT", Align::Right),
            ("AMOUNT", Align::Right),
        ]);
        for channel in &self.channels {
            table.row([
                shortened(&channel.channel.to_string()),
                shortened(&channel.payer.to_string()),
                shortened(&channel.payee.to_string()),
                format!("{}-{}", channel.first_sequence, channel.last_sequence),
                channel.input_tokens.to_string(),
                channel.output_tokens.to_string(),
                channel.amount_display.clone(),
            ]);
        }
        table.write(out)?;
        if self.receipts == 1 {
            writeln!(out, "\nThe receipt is signed by both sides.")?;
        } else {
            writeln!(
                out,
                "\nAll {} receipts are signed by both sides and follow each other.",
                self.receipts
            )?;
        }
        for operator in &self.unproven_operators {
            writeln!(
                out,
                "Bills are signed by {operator}, as the payer asked. Whether the payee has named it, the chain was not there to say."
            )?;
        }
        for channel in self.channels.iter().filter(|channel| channel.first_sequence != 1) {
            writeln!(
                out,
                "The receipts of {} begin at {}, not at 1: the {} before it are taken on its word.",
                shortened(&channel.channel.to_string()),
                channel.first_sequence,
                channel.amount_before_display
            )?;
        }
        Ok(())
    }
}

struct Chain {
    payer: Address,
    payee: Address,
    first: u64,
    before: TokenAmount,
    head: ReceiptHead,
}

/// Advice for a file that isn't one of ours.
const WHAT_IT_TAKES: &str =
    "give a file that `lloomctl receipts export` wrote, or one of the archive, or - for standard input";
/// Advice for a receipt that was tampered with, or never was one.
const DO_NOT_RELY: &str = "don't rely on this file: ask for another export of the channel";
/// Advice for receipts that don't fit together.
const EXPORT_AGAIN: &str =
    "receipts are missing, repeated or out of order: verify the whole of one `lloomctl receipts export`";

/// Checks them.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub async fn run(session: &Session, arguments: VerifyArgs) -> Result {
    let verifier = Verifier::default();
    let mut chains: BTreeMap<ChannelId, Chain> = BTreeMap::new();
    let mut asked: HashMap<(Address, Address), bool> = HashMap::new();
    let mut unproven = BTreeSet::new();
    let mut receipts = 0;
    for (number, line) in open(&arguments.file)?.lines().enumerate() {
        let place = || format!("line {} of {}", number + 1, arguments.file.display());
        let line = line
            .or_fail(Kind::Failed, || format!("cannot read {}", place()))
            .map_err(|failure| failure.hint(WHAT_IT_TAKES))?;
        if line.trim().is_empty() {
            continue;
        }
        let exported: ArchivedReceipt = serde_json::from_str(&line)
            .or_fail(Kind::Failed, || format!("{} is no exported receipt", place()))
            .map_err(|failure| failure.hint(WHAT_IT_TAKES))?;
        let head = check(session, &verifier, &exported, &mut asked, &mut unproven)
            .await
            .map_err(|failure| failure.while_(format!("{} is not a good receipt", place())))?;
        let receipt = exported.receipt.receipt();
        match chains.entry(head.channel) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                // An export may begin anywhere; what comes first can only be held against its own numbers.
                if receipt.sequence == 1 {
                    ReceiptHead::empty(head.channel)
                        .check_extends(receipt)
                        .or_fail(Kind::Failed, || format!("{} is not a good receipt", place()))
                        .map_err(|failure| failure.hint(DO_NOT_RELY))?;
                }
                entry.insert(Chain {
                    payer: exported.channel.payer,
                    payee: exported.channel.payee,
                    first: receipt.sequence,
                    before: receipt.cumulative_amount.saturating_sub(receipt.bill.amount),
                    head,
                });
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let chain = entry.get_mut();
                chain
                    .head
                    .check_extends(receipt)
                    .or_fail(Kind::Failed, || {
                        format!("{} does not follow the receipt before", place())
                    })
                    .map_err(|failure| failure.hint(EXPORT_AGAIN))?;
                chain.head = head;
            }
        }
        receipts += 1;
    }
    if receipts == 0 {
        return Err(Failure::new(
            Kind::Failed,
            format!("{} holds no receipts: nothing was checked", arguments.file.display()),
        )
        .hint(WHAT_IT_TAKES));
    }
    session.output.print(&Checked {
        receipts,
        unproven_operators: unproven,
        channels: chains
            .into_iter()
            .map(|(channel, chain)| CheckedChannel {
                channel,
                payer: chain.payer,
                payee: chain.payee,
                first_sequence: chain.first,
                last_sequence: chain.head.sequence,
                input_tokens: chain.head.input.get(),
                output_tokens: chain.head.output.get(),
                amount: chain.head.amount,
                amount_display: session.network.token.show(chain.head.amount),
                amount_before: chain.before,
                amount_before_display: session.network.token.show(chain.before),
            })
            .collect(),
    })
}

fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let file = File::open(path)
        .or_fail(Kind::Failed, || format!("cannot read {}", path.display()))
        .map_err(|failure| failure.hint(WHAT_IT_TAKES))?;
    Ok(Box::new(BufReader::new(file)))
}

async fn check(
    session: &Session,
    verifier: &Verifier,
    exported: &ArchivedReceipt,
    asked: &mut HashMap<(Address, Address), bool>,
    unproven: &mut BTreeSet<Address>,
) -> Result<ReceiptHead> {
    let domain = exported.domain();
    let channel = exported.channel;
    let id = channel.id(&domain);
    let receipt = exported.receipt.receipt();
    if receipt.channel != id {
        return Err(Failure::new(
            Kind::Failed,
            format!(
                "it belongs to the channel {}, and the parties named make the channel {id}",
                receipt.channel
            ),
        )
        .hint(DO_NOT_RELY));
    }
    let committed = exported.committed_operator();
    let mut stranger = None;
    exported
        .receipt
        .clone()
        .verify(&domain, verifier, channel.payer_side(), |biller| {
            if biller != channel.payee && Some(biller) != committed {
                stranger = Some(biller);
            }
            true
        })
        .or_fail(Kind::Failed, || "a signature is wrong".to_owned())
        .map_err(|failure| failure.hint(DO_NOT_RELY))?;
    if let Some(biller) = stranger {
        let key = (channel.payee, biller);
        let named = match asked.get(&key) {
            Some(named) => *named,
            None => {
                // The chain's word is the best; without it there may be the payer's.
                let by_payer = exported
                    .request
                    .as_ref()
                    .map(|request| request.signed.document().operator);
                let named = match is_operator(session, &domain, channel.payee, biller).await {
                    Err(failure) if failure.kind() == Kind::Chain && by_payer == Some(biller) => {
                        unproven.insert(biller);
                        true
                    }
                    answer => answer?,
                };
                asked.insert(key, named);
                named
            }
        };
        if !named {
            return Err(Failure::new(
                Kind::Failed,
                format!(
                    "the bill is signed by {biller}, whom the payee {} never named",
                    channel.payee
                ),
            )
            .hint(DO_NOT_RELY));
        }
    }
    check_request(&domain, verifier, exported)?;
    Ok(ReceiptHead::at(receipt))
}

/// What a file of the archive holds beside the receipt: the request that it bills, and vouchers.
fn check_request(domain: &Domain, verifier: &Verifier, exported: &ArchivedReceipt) -> Result {
    let payer_side = exported.channel.payer_side();
    let bill = exported.receipt.receipt().bill;
    if let Some(request) = exported.request.as_ref().map(|request| &request.signed) {
        bill.check(request.document())
            .or_fail(Kind::Failed, || "its request is another one".to_owned())
            .map_err(|failure| failure.hint(DO_NOT_RELY))?;
        request
            .clone()
            .verify(domain, verifier, payer_side)
            .or_fail(Kind::Failed, || "its request's signature is wrong".to_owned())
            .map_err(|failure| failure.hint(DO_NOT_RELY))?;
    }
    for voucher in &exported.vouchers {
        let signed = voucher
            .clone()
            .verify(domain, verifier, payer_side)
            .or_fail(Kind::Failed, || "a voucher's signature is wrong".to_owned());
        let voucher = signed.map_err(|failure| failure.hint(DO_NOT_RELY))?;
        if voucher.document().channel != bill.channel {
            return Err(Failure::new(Kind::Failed, "a voucher is of another channel").hint(DO_NOT_RELY));
        }
    }
    Ok(())
}

async fn is_operator(session: &Session, domain: &Domain, payee: Address, operator: Address) -> Result<bool> {
    if session.network.domain() != *domain {
        return Err(Failure::new(
            Kind::Configuration,
            format!(
                "whether {operator} may sign for {payee} is known beside the contract {} on chain {} alone",
                domain.settlement(),
                domain.chain_id()
            ),
        )
        .hint("choose the network that the receipts were made on with --network"));
    }
    let status = session.on_chain().await?.operator_status(payee, operator).await?;
    Ok(status != OperatorStatus::Unknown)
}
