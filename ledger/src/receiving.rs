//! Taking in the receipts that clients signed.
//!
//! What executors do most, so receipts that queue up are taken in as a set: read what they are judged by, judge one
//! after the other in memory, where each sees what those before it did, and write what is to be kept.

use std::collections::{HashMap, HashSet};

use lloom_receipts::{
    BillHash, ChannelId, Receipt, ReceiptHash, ReceiptHead, RequestHash, Signed, TokenAmount, TokenTotal, Verified,
    Voucher,
};

use crate::{
    Ledger, LedgerError, Outcome, ServeError,
    acceptance::{Admission, HeldVouchers, judge},
    account::{Side, account_of},
    column::{Fixed, Put as _, sql},
    dialect::by_dialect,
    document::{delete_superseded, insert_vouchers, least_kept, newest_receipt, pack_voucher},
    gathered::{self, Fields, NO, YES, missing, optional},
    group::{Answers, Grouped},
    packed::{Packed, packed_rows},
    session::Session,
    transaction::PendingCloses,
};

impl Ledger {
    /// Records a receipt that goes on from the head and links a bill of this executor, and its voucher. A bill that this
    /// store lost, because it was restored from a copy, comes back with it: the executor side has signed it. The very receipt
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
        let head = ReceiptHead::at(receipt.receipt());
        let bill_hash = receipt.receipt().bill.hash();
        let bill = receipt.receipt().bill;
        let accept = AcceptReceipt {
            receipt,
            voucher,
            head,
            bill_hash,
        };
        match self.submit_grouped(accept.clone()).await {
            Err(ServeError::BillNotCommitted) => {
                self.take_back_bill(bill).await?;
                self.submit_grouped(accept).await
            }
            other => other,
        }
    }
}

#[derive(Clone)]
struct AcceptReceipt {
    receipt: Receipt<Verified>,
    voucher: Option<Signed<Voucher, Verified>>,
    /// The channel's head once the receipt is taken in.
    head: ReceiptHead,
    bill_hash: BillHash,
}

impl Grouped for AcceptReceipt {
    const NAME: &'static str = "accept a receipt";
    type Output = Outcome;
    type Error = ServeError;

    async fn run(operations: &[Self], session: &mut Session) -> Answers<Self> {
        let mut pages = HashMap::new();
        let mut found = Vec::with_capacity(operations.len());
        for (page, stored) in find(session, operations).await? {
            if let Some(page) = page {
                pages.entry(page.head.channel).or_insert(page);
            }
            found.push(stored);
        }
        let closes = PendingCloses::read(session).await?;
        let mut news = News::default();
        let mut answers = Vec::with_capacity(operations.len());
        for (operation, stored) in operations.iter().zip(found) {
            let answer = match pages.get_mut(&operation.receipt.receipt().channel) {
                Some(page) => operation.decide(session, page, stored, &closes, &mut news).await,
                None => Err(ServeError::UnknownChannel),
            };
            match answer {
                Err(ServeError::Ledger(error)) if !is_of_one(&error) => return Err(error),
                answer => answers.push(answer),
            }
        }
        let changed = pages.into_values().filter(|page| page.changed);
        news.store(session, changed).await?;
        Ok(answers)
    }
}

/// Whether an error is about one receipt's channel, and keeps none of the others from an answer.
const fn is_of_one(error: &LedgerError) -> bool {
    matches!(error, LedgerError::OtherSide { .. } | LedgerError::Archived { .. })
}

/// A channel as its receipts are judged by it: as stored, and what the receipts before have changed.
struct Page<'a> {
    side: Option<Side>,
    /// Whether the channel is over and its receipts are in the archive: what one would be judged by is not here any more.
    is_archived: bool,
    /// What is deposited and confirmed.
    deposit: Option<TokenAmount>,
    authorized: TokenAmount,
    head: ReceiptHead,
    changed: bool,
    /// Receipts to be stored.
    receipts: HashMap<u64, &'a AcceptReceipt>,
    /// The requests they are for.
    linked: HashSet<RequestHash>,
    /// Vouchers to be stored, each above those before.
    vouchers: Vec<TokenAmount>,
}

/// What is stored that a receipt and its voucher are judged by, beside the channel's [`Page`].
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
        closes: &PendingCloses,
        news: &mut News<'a>,
    ) -> Result<Outcome, ServeError> {
        let receipt = self.receipt.receipt();
        let channel = receipt.channel;
        if page.side.is_some_and(|side| side != Side::Serving) {
            return Err(LedgerError::OtherSide { channel }.into());
        }
        let just_taken = page.receipts.get(&receipt.sequence).map(|taken| taken.head.hash);
        let known = stored.same_sequence.or(just_taken) == Some(self.head.hash);
        if !known {
            if page.head.check_extends(receipt).is_err() {
                let head = match page.receipts.get(&page.head.sequence) {
                    Some(taken) => Some(taken.receipt.clone()),
                    None => newest_receipt(session, channel).await?,
                };
                return Err(ServeError::DoesNotExtend {
                    head: head.map(Box::new),
                });
            }
            if page.is_archived {
                return Err(LedgerError::Archived { channel }.into());
            }
            if stored.bill != Some(self.bill_hash) {
                return Err(ServeError::BillNotCommitted);
            }
            if stored.linked || page.linked.contains(&receipt.bill.request) {
                return Err(ServeError::BillAlreadyLinked);
            }
            closes.check(channel, receipt.cumulative_amount)?;
        }
        if let Some(voucher) = &self.voucher {
            let amount = voucher.document().amount;
            let held = HeldVouchers {
                known: stored.held.known.or(page.vouchers.contains(&amount).then_some(true)),
                best: stored.held.best.max(page.vouchers.last().copied()),
            };
            // Beyond what a close pays it is worth nothing, which is no reason to refuse the receipt.
            let is_new = matches!(judge(channel, page.deposit, voucher, held)?, Admission::New);
            if is_new && closes.check(channel, amount).is_ok() {
                if page.is_archived {
                    return Err(LedgerError::Archived { channel }.into());
                }
                // Nothing is refused any more: from here on the page changes.
                page.authorized = page.authorized.max(amount);
                page.vouchers.push(amount);
                page.changed = true;
                news.vouchers.push(voucher);
            }
        }
        if known {
            return Ok(Outcome::AlreadyKnown);
        }
        if receipt.cumulative_amount <= page.deposit.unwrap_or_default() {
            page.authorized = page.authorized.max(receipt.cumulative_amount);
        }
        page.head = self.head;
        page.receipts.insert(receipt.sequence, self);
        page.linked.insert(receipt.bill.request);
        page.changed = true;
        news.receipts.push(self);
        Ok(Outcome::Recorded)
    }
}

/// A row of [`SELECT_FACTS`], in bytes.
const FACTS_WIDTH: usize = <bool as Fixed>::WIDTH
    + optional::<TokenAmount>()
    + optional::<Side>()
    + <bool as Fixed>::WIDTH
    + ACCOUNT_WIDTH
    + optional::<ReceiptHash>()
    + optional::<BillHash>()
    + <bool as Fixed>::WIDTH
    + optional::<bool>()
    + optional::<TokenAmount>();
/// What is read of an account, but for its side.
const ACCOUNT_WIDTH: usize = 2 * TokenAmount::WIDTH + u64::WIDTH + 2 * TokenTotal::WIDTH + ReceiptHash::WIDTH;

/// As of an account that nothing was done with: the head of no receipts is all zeros.
const NOTHING_USED: [u8; ACCOUNT_WIDTH] = [0; ACCOUNT_WIDTH];

/// What receipts are judged by: a row each, in order.
const SELECT_FACTS: &str = concat!(
    packed_rows!("$1", "88"),
    ", asked AS (SELECT at, substr($1, at, 32) AS channel, substr($1, at + 32, 8) AS sequence,
                        substr($1, at + 40, 32) AS request, substr($1, at + 72, 16) AS voucher FROM packed)
     SELECT string_agg(
         CASE WHEN c.id IS NULL THEN $2 ELSE $3 END
         || coalesce($3 || c.confirmed_deposit, $4)
         || coalesce($3 || CASE WHEN a.side = $5 THEN $2 WHEN a.side IS NOT NULL THEN $3 END, $6)
         || CASE WHEN a.archive IS NULL THEN $2 ELSE $3 END
         || coalesce(a.authorized || a.head_sequence || a.head_input || a.head_output || a.head_amount || a.head_hash,
                     $7)
         || coalesce($3 || (SELECT hash FROM receipts WHERE account = a.id AND sequence = q.sequence), $8)
         || coalesce($3 || b.hash, $8)
         || CASE WHEN EXISTS (SELECT 1 FROM receipts WHERE bill = b.id) THEN $3 ELSE $2 END
         || coalesce($3 || (SELECT CASE WHEN unusable IS NULL THEN $3 ELSE $2 END FROM vouchers
                            WHERE account = a.id AND amount = q.voucher), $6)
         || coalesce($3 || (SELECT amount FROM vouchers
                            WHERE account = a.id AND unusable IS NULL
                            ORDER BY amount DESC LIMIT 1), $4),
         $9 ORDER BY q.at) AS gathered
     FROM asked q LEFT JOIN channels c ON c.id = q.channel LEFT JOIN accounts a ON a.channel = q.channel
         LEFT JOIN bills b ON b.request = q.request AND b.account = a.id"
);

/// What each of `operations` is judged by, in order: its channel's page, if anything is known of the channel, and what is
/// stored. One read for all, and one value.
async fn find<'a>(
    session: &mut Session,
    operations: &[AcceptReceipt],
) -> Result<Vec<(Option<Page<'a>>, Stored)>, LedgerError> {
    const OTHERS: LedgerError = LedgerError::Inconsistent {
        what: "it answers for other receipts than it was asked for",
    };
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
    let statement = sql(SELECT_FACTS)
        .put(asked.into_bytes())
        .put(NO.to_vec())
        .put(YES.to_vec())
        .put(missing::<TokenAmount>())
        .put(Side::Serving)
        .put(missing::<bool>())
        .put(NOTHING_USED.to_vec())
        .put(missing::<ReceiptHash>())
        .put(Vec::new());
    let mut found = Vec::with_capacity(operations.len());
    let each = |fields: &mut Fields<'_>| {
        let channel = operations.get(found.len()).ok_or(OTHERS)?.receipt.receipt().channel;
        found.push((take_page(fields, channel)?, take_stored(fields)?));
        Ok(())
    };
    gathered::run(session, statement, FACTS_WIDTH, each).await?;
    if found.len() == operations.len() {
        Ok(found)
    } else {
        Err(OTHERS)
    }
}

fn take_page<'a>(fields: &mut Fields<'_>, channel: ChannelId) -> Result<Option<Page<'a>>, LedgerError> {
    let known: bool = fields.take()?;
    let page = Page {
        deposit: fields.take_optional()?,
        side: fields.take_optional()?,
        is_archived: fields.take()?,
        authorized: fields.take()?,
        head: ReceiptHead {
            channel,
            sequence: fields.take()?,
            input: fields.take()?,
            output: fields.take()?,
            amount: fields.take()?,
            hash: fields.take()?,
        },
        changed: false,
        receipts: HashMap::new(),
        linked: HashSet::new(),
        vouchers: Vec::new(),
    };
    Ok(known.then_some(page))
}

fn take_stored(fields: &mut Fields<'_>) -> Result<Stored, LedgerError> {
    Ok(Stored {
        same_sequence: fields.take_optional()?,
        bill: fields.take_optional()?,
        linked: fields.take()?,
        held: HeldVouchers {
            known: fields.take_optional()?,
            best: fields.take_optional()?,
        },
    })
}

/// A statement that stores the packed receipts in `$3`, the vouchers in `$2`, and what became of the accounts in `$1`.
macro_rules! store_all {
    ($dialect:ident) => {
        concat!(
            packed_rows!("$3", "298"),
            "INSERT INTO receipts (bill, account, sequence, hash, previous, cumulative_input, cumulative_output,
                                   cumulative_amount, payer_signature, bill_signature)
             SELECT (SELECT id FROM bills WHERE request = substr($3, at + 136, 32)), ",
            account_of!("substr($3, at, 32)"),
            ", substr($3, at + 32, 8), substr($3, at + 40, 32), substr($3, at + 72, 32), substr($3, at + 104, 8),
                    substr($3, at + 112, 8), substr($3, at + 120, 16), substr($3, at + 168, 65),
                    substr($3, at + 233, 65) FROM packed; ",
            insert_vouchers!($dialect, "$2"),
            "; ",
            packed_rows!("$1", "120"),
            "UPDATE accounts SET authorized = substr($1, at + 32, 16), head_sequence = substr($1, at + 48, 8),
                 head_input = substr($1, at + 56, 8), head_output = substr($1, at + 64, 8),
                 head_amount = substr($1, at + 72, 16), head_hash = substr($1, at + 88, 32)
             FROM packed WHERE accounts.channel = substr($1, at, 32)"
        )
    };
}

impl News<'_> {
    /// Stores all of it, in one round trip, and what became of the accounts.
    async fn store(
        self,
        session: &mut Session,
        pages: impl Iterator<Item = Page<'_>> + Send,
    ) -> Result<(), LedgerError> {
        if self.receipts.is_empty() && self.vouchers.is_empty() {
            return Ok(());
        }
        let (mut accounts, mut vouchers, mut receipts) = (Packed::default(), Packed::default(), Packed::default());
        for Page { authorized, head, .. } in pages {
            accounts
                .push(head.channel)
                .push(authorized)
                .push(head.sequence)
                .push(head.input)
                .push(head.output)
                .push(head.amount)
                .push(head.hash);
        }
        for voucher in self.vouchers {
            pack_voucher(voucher, &mut vouchers);
        }
        for AcceptReceipt { receipt, head, .. } in self.receipts {
            let document = receipt.receipt();
            receipts
                .push(document.channel)
                .push(document.sequence)
                .push(head.hash)
                .push(document.previous)
                .push(document.cumulative_input)
                .push(document.cumulative_output)
                .push(document.cumulative_amount)
                .push(document.bill.request)
                .push(*receipt.payer_signature())
                .push(*receipt.bill_signature());
        }
        let statement = by_dialect!(store_all);
        let statement = statement
            .put(accounts.into_bytes())
            .put(vouchers.into_bytes())
            .put(receipts.into_bytes());
        session.write(statement).await?;
        Ok(())
    }
}
