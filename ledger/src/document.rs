//! Signed documents as rows, and back. What is read back was stored as `Verified`.

use lloom_receipts::{
    ChannelId, ContentSalt, InferenceRequest, Prices, Receipt, ReceiptHash, RequestHash, Signed, TokenAmount,
    UnixSeconds, Usage, UsageBill, UsageReceipt, Verified, Voucher,
};

use crate::{
    LedgerError, Progress,
    account::account_of,
    column::{Put as _, Read as _, Row, sql},
    dialect::by_dialect,
    packed::{Packed, packed_rows},
    session::Session,
};

/// The columns [`read_request`] needs, of the tables `requests` and `bills` under the names `r` and `b`.
macro_rules! request_columns {
    () => {
        "r.hash, r.channel, r.nonce, r.operator, r.model, r.prompt_hash, r.max_input, r.max_output, r.input_price,
         r.output_price, r.deadline, r.signature, r.content_salt, r.begun_at, r.reserved, r.received_input,
         r.received_output, r.received_hash, r.dropped, b.amount AS bill_amount"
    };
}
pub(crate) use request_columns;

/// A request as an operation finds it.
#[derive(Debug)]
pub(crate) struct StoredRequest {
    pub(crate) request: Signed<InferenceRequest, Verified>,
    pub(crate) content_salt: ContentSalt,
    pub(crate) begun_at: UnixSeconds,
    pub(crate) reserved: TokenAmount,
    pub(crate) received: Option<Progress>,
    pub(crate) dropped: Option<String>,
    /// What its bill asks, if it has one.
    pub(crate) billed: Option<TokenAmount>,
}

impl StoredRequest {
    pub(crate) fn channel(&self) -> ChannelId {
        self.request.document().channel
    }
}

pub(crate) fn read_request(row: &Row) -> Result<StoredRequest, LedgerError> {
    let hash = row.read("hash")?;
    let request = InferenceRequest {
        channel: row.read("channel")?,
        operator: row.read("operator")?,
        nonce: row.read("nonce")?,
        model: row.read("model")?,
        prompt_hash: row.read("prompt_hash")?,
        max_input: row.read("max_input")?,
        max_output: row.read("max_output")?,
        prices: Prices {
            input: row.read("input_price")?,
            output: row.read("output_price")?,
        },
        deadline: row.read("deadline")?,
    };
    let received = match row.read_optional("received_hash")? {
        None => None,
        Some(response_hash) => Some(Progress {
            request: hash,
            usage: Usage {
                input: row.read("received_input")?,
                output: row.read("received_output")?,
            },
            response_hash,
        }),
    };
    Ok(StoredRequest {
        request: Signed::recall(request, row.read("signature")?),
        content_salt: row.read("content_salt")?,
        begun_at: row.read("begun_at")?,
        reserved: row.read("reserved")?,
        received,
        dropped: row.read_optional("dropped")?,
        billed: row.read_optional("bill_amount")?,
    })
}

pub(crate) async fn find_request(
    session: &mut Session,
    hash: RequestHash,
) -> Result<Option<StoredRequest>, LedgerError> {
    let statement = sql(concat!(
        "SELECT ",
        request_columns!(),
        " FROM requests r LEFT JOIN bills b ON b.request = r.hash WHERE r.hash = $1"
    ))
    .put(hash);
    session.row(statement).await?.as_ref().map(read_request).transpose()
}

/// The requests that already use the nonces of `documents`, where one does, in order.
pub(crate) async fn requests_with_nonces(
    session: &mut Session,
    documents: impl Iterator<Item = &InferenceRequest>,
) -> Result<Vec<Option<RequestHash>>, LedgerError> {
    let mut asked = Packed::default();
    for document in documents {
        asked.push(document.channel).push(document.nonce);
    }
    let statement = sql(concat!(
        packed_rows!("$1", "64"),
        "SELECT (SELECT hash FROM requests
                 WHERE channel = substr($1, at, 32) AND nonce = substr($1, at + 32, 32)) AS hash
         FROM packed ORDER BY at"
    ))
    .put(asked.into_bytes());
    let rows = session.rows(statement).await?;
    rows.iter().map(|row| row.read_optional("hash")).collect()
}

/// A voucher as [`insert_vouchers!`] takes it.
pub(crate) fn pack_voucher(voucher: &Signed<Voucher, Verified>, rows: &mut Packed) {
    rows.push(voucher.document().channel)
        .push(voucher.document().amount)
        .push(*voucher.signature());
}

/// A statement that stores packed vouchers, `insert_vouchers!(sqlite, "$2")`, and lets go of those whose place they take.
/// Their channels' accounts are stored before.
///
/// A voucher allows whatever a lesser one allows. So of each channel the best four that are usable are kept, to fall back on
/// should the best turn out not to be, and payers can't fill a store with them. Of a channel that has kept all it ever got,
/// no more go at once than a commit bears.
macro_rules! insert_vouchers {
    ($dialect:ident, $vouchers:literal) => {
        concat!(
            packed_rows!($vouchers, "113"),
            "INSERT INTO vouchers (account, amount, signature) SELECT ",
            account_of!(concat!("substr(", $vouchers, ", at, 32)")),
            ", substr(",
            $vouchers,
            ", at + 32, 16), substr(",
            $vouchers,
            ", at + 48, 65) FROM packed; ",
            packed_rows!($vouchers, "113"),
            delete_superseded!($dialect, concat!("substr(", $vouchers, ", at, 32)"))
        )
    };
}
pub(crate) use insert_vouchers;

/// Below which amount a voucher of the account `a` is not kept, if it has more than are.
macro_rules! least_kept {
    () => {
        "(SELECT w.amount FROM vouchers w WHERE w.account = a.id AND w.unusable IS NULL
          ORDER BY w.amount DESC LIMIT 1 OFFSET 3)"
    };
}
pub(crate) use least_kept;

/// The rest of [`insert_vouchers!`], for the channels that `$channel` names in `packed`.
macro_rules! delete_superseded {
    (sqlite, $channel:expr) => {
        concat!(
            "DELETE FROM vouchers WHERE id IN (
                 SELECT v.id FROM packed JOIN accounts a ON a.channel = ",
            $channel,
            " JOIN vouchers v ON v.account = a.id WHERE v.amount < ",
            least_kept!(),
            " LIMIT 2048)"
        )
    };
    // PostgreSQL would read all vouchers for the one `IN`, and again for the other `JOIN`.
    (postgres, $channel:expr) => {
        concat!(
            "DELETE FROM vouchers WHERE id = ANY (ARRAY(
                 SELECT v.id FROM packed JOIN accounts a ON a.channel = ",
            $channel,
            ", LATERAL (SELECT l.id FROM vouchers l WHERE l.account = a.id AND l.amount < ",
            least_kept!(),
            " ORDER BY l.amount DESC LIMIT 2048) v LIMIT 2048))"
        )
    };
}
pub(crate) use delete_superseded;

/// The columns [`read_bill`] needs but for the channel, of the table `bills` under the name `b`.
macro_rules! bill_fields {
    () => {
        "b.request, b.response_hash, b.input AS bill_input, b.output AS bill_output, b.amount AS bill_amount,
         b.completed_at"
    };
}
pub(crate) use bill_fields;

/// The columns [`read_bill`] needs, of the table `bills` under the name `b`.
macro_rules! bill_columns {
    () => {
        concat!(
            "(SELECT channel FROM accounts WHERE id = b.account) AS channel, ",
            bill_fields!()
        )
    };
}
pub(crate) use bill_columns;

pub(crate) fn read_bill(row: &Row) -> Result<UsageBill, LedgerError> {
    Ok(UsageBill {
        channel: row.read("channel")?,
        request: row.read("request")?,
        response_hash: row.read("response_hash")?,
        usage: Usage {
            input: row.read("bill_input")?,
            output: row.read("bill_output")?,
        },
        amount: row.read("bill_amount")?,
        completed_at: row.read("completed_at")?,
    })
}

/// Stores a bill: its request is not open any more. Its channel's account is stored before.
pub(crate) async fn insert_bill(session: &mut Session, bill: &UsageBill) -> Result<(), LedgerError> {
    session
        .write(
            sql(concat!(
                "INSERT INTO bills (account, request, hash, response_hash, input, output, amount, completed_at)
                 VALUES (",
                account_of!("$1"),
                ", $2, $3, $4, $5, $6, $7, $8); DELETE FROM open_requests WHERE request = $2"
            ))
            .put(bill.channel)
            .put(bill.request)
            .put(bill.hash())
            .put(bill.response_hash)
            .put(bill.usage.input)
            .put(bill.usage.output)
            .put(bill.amount)
            .put(bill.completed_at),
        )
        .await?;
    Ok(())
}

/// Lists an own request that waits for its bill.
pub(crate) async fn list_unbilled(session: &mut Session, request: RequestHash) -> Result<(), LedgerError> {
    let statement = sql("INSERT INTO unbilled_requests (request) VALUES ($1)").put(request);
    session.write(statement).await.map(drop)
}

/// Takes an own request off the list of those that wait for their bills.
pub(crate) async fn unlist_unbilled(session: &mut Session, request: RequestHash) -> Result<(), LedgerError> {
    let statement = sql("DELETE FROM unbilled_requests WHERE request = $1").put(request);
    session.write(statement).await.map(drop)
}

/// The columns of the table `receipts` that [`read_receipt`] needs beside those of its bill, under the name `p`.
macro_rules! receipt_fields {
    () => {
        "p.sequence, p.previous, p.cumulative_input, p.cumulative_output, p.cumulative_amount, p.payer_signature,
         p.bill_signature"
    };
}
pub(crate) use receipt_fields;

/// The columns [`read_receipt`] needs, of the tables `receipts` and `bills` under the names `p` and `b`.
macro_rules! receipt_columns {
    () => {
        concat!(receipt_fields!(), ", ", bill_columns!())
    };
}
pub(crate) use receipt_columns;

pub(crate) fn read_receipt(row: &Row) -> Result<Receipt<Verified>, LedgerError> {
    let bill = read_bill(row)?;
    let receipt = UsageReceipt {
        channel: bill.channel,
        sequence: row.read("sequence")?,
        cumulative_input: row.read("cumulative_input")?,
        cumulative_output: row.read("cumulative_output")?,
        cumulative_amount: row.read("cumulative_amount")?,
        previous: row.read("previous")?,
        bill,
    };
    Ok(Receipt::recall(
        receipt,
        row.read("payer_signature")?,
        row.read("bill_signature")?,
    ))
}

pub(crate) async fn newest_receipt(
    session: &mut Session,
    channel: ChannelId,
) -> Result<Option<Receipt<Verified>>, LedgerError> {
    let statement = sql(concat!(
        "SELECT ",
        receipt_columns!(),
        " FROM receipts p JOIN bills b ON b.id = p.bill WHERE p.account = ",
        account_of!("$1"),
        " ORDER BY p.sequence DESC LIMIT 1"
    ))
    .put(channel);
    session.row(statement).await?.as_ref().map(read_receipt).transpose()
}

/// Stores a receipt, makes it its account's head, and stores the voucher that is new with it: in one round trip. The
/// bill and the account are stored before.
pub(crate) async fn append_receipt(
    session: &mut Session,
    receipt: &Receipt<Verified>,
    hash: ReceiptHash,
    authorized: TokenAmount,
    voucher: Option<&Signed<Voucher, Verified>>,
) -> Result<(), LedgerError> {
    macro_rules! append {
        () => {
            concat!(
                "INSERT INTO receipts (bill, account, sequence, hash, cumulative_input, cumulative_output,
                     cumulative_amount, previous, payer_signature, bill_signature)
                 VALUES ((SELECT id FROM bills WHERE request = $9), ",
                account_of!("$1"),
                ", $2, $3, $4, $5, $6, $8, $10, $11);
             UPDATE accounts SET head_sequence = $2, head_hash = $3, head_input = $4, head_output = $5,
                 head_amount = $6, authorized = $7 WHERE channel = $1"
            )
        };
    }
    macro_rules! append_both {
        ($dialect:ident) => {
            concat!(append!(), "; ", insert_vouchers!($dialect, "$12"))
        };
    }
    let statement = match voucher {
        None => sql(append!()),
        Some(_) => by_dialect!(append_both),
    };
    let mut vouchers = Packed::default();
    if let Some(voucher) = voucher {
        pack_voucher(voucher, &mut vouchers);
    }
    let document = receipt.receipt();
    session
        .write(
            statement
                .put(document.channel)
                .put(document.sequence)
                .put(hash)
                .put(document.cumulative_input)
                .put(document.cumulative_output)
                .put(document.cumulative_amount)
                .put(authorized)
                .put(document.previous)
                .put(document.bill.request)
                .put(*receipt.payer_signature())
                .put(*receipt.bill_signature())
                .put(vouchers.into_bytes()),
        )
        .await?;
    Ok(())
}

/// Stores a voucher in the place of lesser ones. Its channel's account is stored before.
pub(crate) async fn insert_voucher(
    session: &mut Session,
    voucher: &Signed<Voucher, Verified>,
) -> Result<(), LedgerError> {
    let mut rows = Packed::default();
    pack_voucher(voucher, &mut rows);
    let statement = by_dialect!(insert_vouchers, "$1").put(rows.into_bytes());
    session.write(statement).await.map(drop)
}
