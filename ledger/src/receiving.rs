//! Taking in the receipts that clients signed.
//!
//! What executors do most, so receipts that queue up are taken in as a set: read what they are judged by, judge one
//! after the other in memory, where each sees what those before it did, and write what is to be kept.

use std::collections::{HashMap, HashSet};

use lloom_receipts::{
    BillHash, ChannelId, Receipt, ReceiptHash, ReceiptHead, RequestHash, Signed, TokenAmount, Verified, Voucher,
};

use crate::{
    Ledger, LedgerError, Outcome, ServeError,
    acceptance::{Admission, HeldVouchers, judge},
    account::{Side, Standing, find_standings},
    column::{Put as _, Read as _, sql},
    document::newest_receipt,
    group::{Answers, Grouped},
    packed::{Packed, packed_rows},
    session::Session,
};

impl Ledger {
    /// Records a receipt that goes on from the head and links a bill committed here, and its voucher. The very receipt
    /// again is [`Outcome::AlreadyKnown`]; a voucher that adds nothing is passed over.
    ///
    /// # Errors
    /// [`ServeError::DoesNotExtend`] carries the head, so that the client can go on from it.
    pub async fn accept_receipt(
        &self,
        receipt: Receipt<Verified>,
        voucher: Option<Signed<Voucher, Verified>>,
    ) -> Result<Outcome, ServeError> {
        // Hashed here, where callers run side by side, and not by the one writer.
        let hash = receipt.receipt().hash();
        let bill_hash = receipt.receipt().bill.hash();
        self.submit_grouped(AcceptReceipt {
            receipt,
            voucher,
            hash,
            bill_hash,
        })
        .await
    }
}

struct AcceptReceipt {
    receipt: Receipt<Verified>,
    voucher: Option<Signed<Voucher, Verified>>,
    hash: ReceiptHash,
    bill_hash: BillHash,
}

impl Grouped for AcceptReceipt {
    const NAME: &'static str = "accept a receipt";
    type Output = Outcome;
    type Error = ServeError;

    async fn run(operations: &[Self], session: &mut Session) -> Answers<Self> {
        let mut pages = find_pages(session, operations).await?;
        let found = find_stored(session, operations).await?;
        let mut news = News::default();
        let mut answers = Vec::with_capacity(operations.len());
        for (operation, stored) in operations.iter().zip(found) {
            let answer = match pages.get_mut(&operation.receipt.receipt().channel) {
                Some(page) => operation.decide(session, page, stored, &mut news).await,
                None => Err(ServeError::UnknownChannel),
            };
            match answer {
                Err(ServeError::Ledger(error)) if !matches!(error, LedgerError::OtherSide { .. }) => return Err(error),
                answer => answers.push(answer),
            }
        }
        let changed = pages.into_values().filter(|page| page.changed);
        news.store(session, changed.map(|page| page.standing)).await?;
        Ok(answers)
    }
}

/// A channel as its receipts are judged by it: as stored, and what the receipts before have changed.
struct Page<'a> {
    standing: Standing,
    changed: bool,
    /// Receipts to be stored.
    receipts: HashMap<u64, &'a AcceptReceipt>,
    /// The requests they are for.
    linked: HashSet<RequestHash>,
    /// Vouchers to be stored, each above those before.
    vouchers: Vec<TokenAmount>,
}

/// What is stored that a receipt and its voucher are judged by, beside the channel's [`Standing`].
struct Stored {
    same_sequence: Option<ReceiptHash>,
    bill: Option<BillHash>,
    linked: bool,
    held: HeldVouchers,
}

/// What is to be stored, beside the accounts.
#[derive(Default)]
struct News<'a> {
    receipts: Vec<&'a AcceptReceipt>,
    vouchers: Vec<&'a Signed<Voucher, Verified>>,
}

impl AcceptReceipt {
    /// Records the receipt on its channel's page, or refuses it and changes nothing.
    async fn decide<'a>(
        &'a self,
        session: &mut Session,
        page: &mut Page<'a>,
        stored: Stored,
        news: &mut News<'a>,
    ) -> Result<Outcome, ServeError> {
        page.standing.check_side(Side::Serving)?;
        let receipt = self.receipt.receipt();
        let just_taken = page.receipts.get(&receipt.sequence).map(|taken| taken.hash);
        let known = stored.same_sequence.or(just_taken) == Some(self.hash);
        if !known {
            if page.standing.head.check_extends(receipt).is_err() {
                let head = match page.receipts.get(&page.standing.head.sequence) {
                    Some(taken) => Some(taken.receipt.clone()),
                    None => newest_receipt(session, receipt.channel).await?,
                };
                return Err(ServeError::DoesNotExtend {
                    head: head.map(Box::new),
                });
            }
            if stored.bill != Some(self.bill_hash) {
                return Err(ServeError::BillNotCommitted);
            }
            if stored.linked || page.linked.contains(&receipt.bill.request) {
                return Err(ServeError::BillAlreadyLinked);
            }
        }
        if let Some(voucher) = &self.voucher {
            let amount = voucher.document().amount;
            let held = HeldVouchers {
                known: stored.held.known.or(page.vouchers.contains(&amount).then_some(true)),
                best: stored.held.best.max(page.vouchers.last().copied()),
            };
            // The last thing that can be refused: from here on the page changes.
            if matches!(judge(&mut page.standing, voucher, held)?, Admission::New) {
                page.vouchers.push(amount);
                page.changed = true;
                news.vouchers.push(voucher);
            }
        }
        if known {
            return Ok(Outcome::AlreadyKnown);
        }
        let standing = &mut page.standing;
        if receipt.cumulative_amount <= standing.deposit() {
            standing.account.authorized = standing.account.authorized.max(receipt.cumulative_amount);
        }
        standing.head = ReceiptHead::at(receipt);
        page.receipts.insert(receipt.sequence, self);
        page.linked.insert(receipt.bill.request);
        page.changed = true;
        news.receipts.push(self);
        Ok(Outcome::Recorded)
    }
}

async fn find_pages<'a>(
    session: &mut Session,
    operations: &[AcceptReceipt],
) -> Result<HashMap<ChannelId, Page<'a>>, LedgerError> {
    let channels: HashSet<ChannelId> = operations
        .iter()
        .map(|operation| operation.receipt.receipt().channel)
        .collect();
    let standings = find_standings(session, channels).await?;
    let pages = standings.into_iter().map(|standing| {
        let page = Page {
            standing,
            changed: false,
            receipts: HashMap::new(),
            linked: HashSet::new(),
            vouchers: Vec::new(),
        };
        (page.standing.channel.id, page)
    });
    Ok(pages.collect())
}

/// What is stored for each of `operations`, in order.
async fn find_stored(session: &mut Session, operations: &[AcceptReceipt]) -> Result<Vec<Stored>, LedgerError> {
    let mut asked = Packed::default();
    for operation in operations {
        let receipt = operation.receipt.receipt();
        // Without a voucher, what is said of one is passed over.
        let voucher = operation.voucher.as_ref().map(|voucher| voucher.document().amount);
        asked
            .push(receipt.channel)
            .push(receipt.sequence)
            .push(receipt.bill.request)
            .push(voucher.unwrap_or(TokenAmount::ZERO));
    }
    let statement = sql(concat!(
        packed_rows!("?1", "88"),
        ", asked AS (SELECT at, substr(?1, at, 32) AS channel, substr(?1, at + 32, 8) AS sequence,
                            substr(?1, at + 40, 32) AS request, substr(?1, at + 72, 16) AS voucher FROM packed)
         SELECT
             (SELECT hash FROM receipts WHERE channel = q.channel AND sequence = q.sequence) AS same_sequence,
             (SELECT hash FROM bills WHERE channel = q.channel AND request = q.request) AS bill,
             EXISTS (SELECT 1 FROM receipts WHERE channel = q.channel AND request = q.request) AS linked,
             (SELECT unusable IS NULL FROM vouchers WHERE channel = q.channel AND amount = q.voucher) AS known_voucher,
             (SELECT amount FROM vouchers
              WHERE channel = q.channel AND unusable IS NULL
                AND amount <= (SELECT confirmed_deposit FROM channels WHERE id = q.channel)
              ORDER BY amount DESC LIMIT 1) AS best_voucher
         FROM asked q ORDER BY q.at"
    ))
    .put(asked.into_bytes());
    let rows = session.rows(statement).await?;
    if rows.len() != operations.len() {
        return Err(LedgerError::Inconsistent {
            what: "it answers for other receipts than it was asked for",
        });
    }
    rows.iter()
        .map(|row| {
            Ok(Stored {
                same_sequence: row.read_optional("same_sequence")?,
                bill: row.read_optional("bill")?,
                linked: row.read("linked")?,
                held: HeldVouchers {
                    known: row.read_optional("known_voucher")?,
                    best: row.read_optional("best_voucher")?,
                },
            })
        })
        .collect()
}

impl News<'_> {
    /// Stores all of it, in one round trip, and what became of the accounts.
    async fn store(
        self,
        session: &mut Session,
        standings: impl Iterator<Item = Standing> + Send,
    ) -> Result<(), LedgerError> {
        if self.receipts.is_empty() && self.vouchers.is_empty() {
            return Ok(());
        }
        let (mut accounts, mut vouchers, mut receipts) = (Packed::default(), Packed::default(), Packed::default());
        for standing in standings {
            accounts
                .push(standing.channel.id)
                .push(standing.account.authorized)
                .push(standing.head.sequence)
                .push(standing.head.input)
                .push(standing.head.output)
                .push(standing.head.amount)
                .push(standing.head.hash);
        }
        for voucher in self.vouchers {
            vouchers
                .push(voucher.document().channel)
                .push(voucher.document().amount)
                .push(*voucher.signature());
        }
        for AcceptReceipt { receipt, hash, .. } in self.receipts {
            let document = receipt.receipt();
            receipts
                .push(document.channel)
                .push(document.sequence)
                .push(*hash)
                .push(document.previous)
                .push(document.cumulative_input)
                .push(document.cumulative_output)
                .push(document.cumulative_amount)
                .push(document.bill.request)
                .push(*receipt.payer_signature())
                .push(*receipt.bill_signature());
        }
        let statement = sql(concat!(
            packed_rows!("?3", "298"),
            "INSERT INTO receipts (channel, sequence, hash, previous, cumulative_input, cumulative_output,
                                   cumulative_amount, request, payer_signature, bill_signature)
             SELECT substr(?3, at, 32), substr(?3, at + 32, 8), substr(?3, at + 40, 32), substr(?3, at + 72, 32),
                    substr(?3, at + 104, 8), substr(?3, at + 112, 8), substr(?3, at + 120, 16),
                    substr(?3, at + 136, 32), substr(?3, at + 168, 65), substr(?3, at + 233, 65) FROM packed; ",
            packed_rows!("?2", "113"),
            "INSERT INTO vouchers (channel, amount, signature)
             SELECT substr(?2, at, 32), substr(?2, at + 32, 16), substr(?2, at + 48, 65) FROM packed; ",
            packed_rows!("?1", "120"),
            "UPDATE accounts SET authorized = substr(?1, at + 32, 16), head_sequence = substr(?1, at + 48, 8),
                 head_input = substr(?1, at + 56, 8), head_output = substr(?1, at + 64, 8),
                 head_amount = substr(?1, at + 72, 16), head_hash = substr(?1, at + 88, 32)
             FROM packed WHERE accounts.channel = substr(?1, at, 32)"
        ));
        let statement = statement
            .put(accounts.into_bytes())
            .put(vouchers.into_bytes())
            .put(receipts.into_bytes());
        session.write(statement).await?;
        Ok(())
    }
}
