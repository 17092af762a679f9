//! Whether a channel's documents are signed and linked, and its totals are their sums.

use std::collections::BTreeSet;

use alloy::primitives::Address;
use lloom_receipts::{
    BillHash, ReceiptError, ReceiptHash, ReceiptHead, RequestHash, RequestNonce, TokenAmount, Usage, UsageBill,
};

use super::{Check, PAGE, count};
use crate::{
    ChannelRecord, Ledger, LedgerError,
    account::{Side, Standing, account_of, find_standing},
    column::{Put as _, Read as _, Row, sql},
    document::{
        bill_columns, bill_fields, read_bill, read_receipt, read_request, receipt_columns, receipt_fields,
        request_columns,
    },
    session::Session,
};

/// What a channel's rows came to.
#[derive(Default)]
struct Sums {
    /// The bills in the store.
    billed: TokenAmount,
    /// Those of them that no receipt links.
    unlinked: TokenAmount,
    /// What is held for requests without a bill.
    reserved: TokenAmount,
    vouchers: Best,
    receipts: Best,
}

#[derive(Default)]
struct Best {
    /// The most that one is over.
    any: TokenAmount,
    /// The most of the confirmed deposit that one allows.
    allowed: TokenAmount,
}

impl Best {
    fn count(&mut self, amount: TokenAmount, allowed: TokenAmount) {
        self.any = self.any.max(amount);
        self.allowed = self.allowed.max(allowed);
    }
}

impl Check<'_> {
    /// Everything recorded of a channel, as it is at one moment.
    pub(super) async fn look_at_channel(&mut self, ledger: &Ledger, record: ChannelRecord) -> Result<(), LedgerError> {
        self.checked.channels += 1;
        let id = record.id;
        if record.parameters.id(&self.domain) != id {
            self.find(id, "its id is not the hash of its parameters");
        }
        let mut session = ledger.snapshot("check a channel").await?;
        let standing = find_standing(&mut session, id).await;
        let Some(Some(standing)) = self.read(id, standing)? else {
            return Ok(());
        };
        self.look_at_states(&mut session, &standing).await?;
        let Some(side) = standing.side else {
            return Ok(());
        };
        let looked = self.look_at_documents(&mut session, &standing).await;
        if let Some(sums) = self.read(id, looked)? {
            self.compare(side, &standing, &sums);
        }
        self.look_at_withdrawn(ledger, &standing).await
    }

    async fn look_at_documents(&mut self, session: &mut Session, standing: &Standing) -> Result<Sums, LedgerError> {
        let mut sums = Sums::default();
        self.look_at_receipts(session, standing, &mut sums).await?;
        self.look_at_bills(session, standing, &mut sums).await?;
        self.look_at_requests(session, standing, &mut sums).await?;
        self.look_at_vouchers(session, standing, &mut sums).await?;
        Ok(sums)
    }

    /// The chain of receipts, from the first to the head. Of an archived channel only some are here, for their amounts.
    async fn look_at_receipts(
        &mut self,
        session: &mut Session,
        standing: &Standing,
        sums: &mut Sums,
    ) -> Result<(), LedgerError> {
        let channel = &standing.channel;
        let (payer_side, deposit) = (channel.parameters.payer_side(), standing.deposit());
        let mut head = ReceiptHead::empty(channel.id);
        loop {
            let statement = sql(concat!(
                "SELECT ",
                receipt_columns!(),
                ", p.hash AS receipt_hash, p.unusable, (SELECT operator FROM requests WHERE hash = b.request) AS asked
                  FROM receipts p JOIN bills b ON b.id = p.bill WHERE p.account = ",
                account_of!("$1"),
                " AND p.sequence > $2 ORDER BY p.sequence LIMIT $3"
            ));
            let statement = statement.put(channel.id).put(head.sequence).put(i64::from(PAGE));
            let rows = session.rows(statement).await?;
            if rows.is_empty() {
                break;
            }
            let mut signed = Vec::with_capacity(rows.len());
            for row in &rows {
                let receipt = read_receipt(row)?;
                let document = *receipt.receipt();
                let next = ReceiptHead::at(&document);
                let sequence = document.sequence;
                if standing.archive.is_none() && head.check_extends(&document).is_err() {
                    self.find(
                        channel.id,
                        format!("receipt {sequence} does not go on from receipt {}", head.sequence),
                    );
                }
                if row.read::<ReceiptHash>("receipt_hash")? != next.hash {
                    self.find(channel.id, format!("receipt {sequence} is stored under another hash"));
                }
                let usable = row.read_optional::<String>("unusable")?.is_none();
                let amount = document.cumulative_amount;
                let is_allowed = usable && amount <= deposit;
                sums.receipts
                    .count(amount, if is_allowed { amount } else { TokenAmount::ZERO });
                head = next;
                let asked: Option<Address> = row.read_optional("asked")?;
                let expected = asked.unwrap_or(channel.parameters.payee);
                signed.push(receipt.into_unverified().by(payer_side, expected));
            }
            self.checked.receipts += rows.len() as u64;
            self.checked.signatures += 2 * rows.len() as u64;
            let verdicts = self.verifier.verify_all(&self.domain, signed);
            for (row, verdict) in rows.iter().zip(verdicts) {
                let sequence: u64 = row.read("sequence")?;
                match verdict {
                    Ok(_) => {}
                    Err(ReceiptError::NotExecutorSide { biller }) if self.may_bill(channel, biller) => {}
                    Err(error) => self.find(channel.id, format!("receipt {sequence}: {error}")),
                }
            }
        }
        if head != standing.head {
            let (kept, found) = (standing.head.sequence, head.sequence);
            let what = if kept == found {
                format!("its head is receipt {kept}, and not as the account says")
            } else {
                format!("its account ends with receipt {kept}, its receipts with {found}")
            };
            self.find(channel.id, what);
        }
        Ok(())
    }

    /// Whether `biller` may sign the channel's bills: its payee, an operator that the payee has named, or the one that the
    /// channel is committed to.
    fn may_bill(&self, channel: &ChannelRecord, biller: Address) -> bool {
        channel.operator == Some(biller) || self.is_named(channel.parameters.payee, biller)
    }

    async fn look_at_bills(
        &mut self,
        session: &mut Session,
        standing: &Standing,
        sums: &mut Sums,
    ) -> Result<(), LedgerError> {
        let channel = standing.channel.id;
        let mut after = 0i64;
        loop {
            let statement = sql(concat!(
                "SELECT ",
                bill_columns!(),
                ", b.id, b.hash, EXISTS (SELECT 1 FROM receipts p WHERE p.bill = b.id) AS linked
                  FROM bills b WHERE b.account = ",
                account_of!("$1"),
                " AND b.id > $2 ORDER BY b.id LIMIT $3"
            ));
            let rows = session
                .rows(statement.put(channel).put(after).put(i64::from(PAGE)))
                .await?;
            let Some(last) = rows.last() else { break };
            after = last.read("id")?;
            self.checked.bills += rows.len() as u64;
            for row in &rows {
                let bill = read_bill(row)?;
                if row.read::<BillHash>("hash")? != bill.hash() {
                    self.find(
                        channel,
                        format!("the bill of the request {} is stored under another hash", bill.request),
                    );
                }
                sums.billed = sums.billed.saturating_add(bill.amount);
                if !row.read::<bool>("linked")? {
                    sums.unlinked = sums.unlinked.saturating_add(bill.amount);
                }
            }
        }
        Ok(())
    }

    /// Requests, and whether their bills charge no more than they allow.
    async fn look_at_requests(
        &mut self,
        session: &mut Session,
        standing: &Standing,
        sums: &mut Sums,
    ) -> Result<(), LedgerError> {
        let channel = standing.channel.id;
        let payer_side = standing.channel.parameters.payer_side();
        let mut after: Option<RequestNonce> = None;
        loop {
            let statement = sql(concat!(
                "SELECT ",
                request_columns!(),
                ", b.response_hash, b.input AS bill_input, b.output AS bill_output, b.completed_at,
                  EXISTS (SELECT 1 FROM open_requests o WHERE o.request = r.hash) AS open,
                  EXISTS (SELECT 1 FROM unbilled_requests u WHERE u.request = r.hash) AS unbilled
                  FROM requests r LEFT JOIN bills b ON b.request = r.hash
                  WHERE r.channel = $1 AND ($2 IS NULL OR r.nonce > $2) ORDER BY r.nonce LIMIT $3"
            ));
            let rows = session
                .rows(statement.put(channel).put_optional(after).put(i64::from(PAGE)))
                .await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.read("nonce")?);
            let mut signed = Vec::with_capacity(rows.len());
            for row in &rows {
                let stored = read_request(row)?;
                let hash: RequestHash = row.read("hash")?;
                let document = *stored.request.document();
                if document.hash() != hash {
                    self.find(channel, format!("the request {hash} is stored under another hash"));
                }
                let open = stored.billed.is_none() && stored.dropped.is_none();
                for (side, list) in [(Side::Serving, "open"), (Side::Buying, "unbilled")] {
                    let is_on_it = open && standing.side == Some(side);
                    if row.read::<bool>(list)? != is_on_it {
                        let what = if is_on_it {
                            format!("{list}, and not listed")
                        } else {
                            format!("listed as {list}, and is not")
                        };
                        self.find(channel, format!("the request {hash} is {what}"));
                    }
                }
                match stored.billed {
                    None => sums.reserved = sums.reserved.saturating_add(stored.reserved),
                    Some(amount) => {
                        let bill = bill_of(row, standing, hash, amount)?;
                        if let Err(error) = bill.check(&document) {
                            self.find(channel, format!("the request {hash}: {error}"));
                        }
                    }
                }
                signed.push(stored.request.into_unverified().by(payer_side));
            }
            self.checked.requests += rows.len() as u64;
            self.checked.signatures += rows.len() as u64;
            let verdicts = self.verifier.verify_all(&self.domain, signed);
            for (row, verdict) in rows.iter().zip(verdicts) {
                if let Err(error) = verdict {
                    let hash: RequestHash = row.read("hash")?;
                    self.find(channel, format!("the request {hash}: {error}"));
                }
            }
        }
        Ok(())
    }

    async fn look_at_vouchers(
        &mut self,
        session: &mut Session,
        standing: &Standing,
        sums: &mut Sums,
    ) -> Result<(), LedgerError> {
        let channel = &standing.channel;
        let (payer_side, deposit) = (channel.parameters.payer_side(), standing.deposit());
        let mut after: Option<TokenAmount> = None;
        loop {
            let statement = sql(concat!(
                "SELECT amount, signature, unusable FROM vouchers WHERE account = ",
                account_of!("$1"),
                " AND ($2 IS NULL OR amount > $2) ORDER BY amount LIMIT $3"
            ));
            let rows = session
                .rows(statement.put(channel.id).put_optional(after).put(i64::from(PAGE)))
                .await?;
            let mut signed = Vec::with_capacity(rows.len());
            let mut amounts = Vec::with_capacity(rows.len());
            for row in &rows {
                let amount: TokenAmount = row.read("amount")?;
                let usable = row.read_optional::<String>("unusable")?.is_none();
                let allowed = if usable { amount.min(deposit) } else { TokenAmount::ZERO };
                sums.vouchers.count(amount, allowed);
                let voucher = lloom_receipts::Voucher {
                    channel: channel.id,
                    amount,
                };
                signed.push(lloom_receipts::Signed::new(voucher, row.read("signature")?).by(payer_side));
                amounts.push(amount);
            }
            let Some(last) = amounts.last() else { break };
            after = Some(*last);
            self.checked.vouchers += amounts.len() as u64;
            self.checked.signatures += amounts.len() as u64;
            let verdicts = self.verifier.verify_all(&self.domain, signed);
            for (amount, verdict) in amounts.iter().zip(verdicts) {
                if let Err(error) = verdict {
                    self.find(channel.id, format!("the voucher over {amount}: {error}"));
                }
            }
        }
        Ok(())
    }

    /// The account against what its rows came to.
    fn compare(&mut self, side: Side, standing: &Standing, sums: &Sums) {
        let id = standing.channel.id;
        let account = &standing.account;
        // What is archived is linked, and ends with the head.
        let billed = match standing.archive {
            None => sums.billed,
            Some(_) => standing.head.amount.saturating_add(sums.unlinked),
        };
        let differs = |what: &str, kept: TokenAmount, found: TokenAmount| {
            (kept != found).then(|| format!("its account says that {kept} are {what}, its rows {found}"))
        };
        let authorized = match side {
            Side::Serving => {
                let found = sums.vouchers.allowed.max(sums.receipts.allowed);
                differs("authorized", account.authorized, found)
            }
            // What was signed stays signed, receipts that were taken back included.
            Side::Buying => {
                let least = sums.vouchers.any.max(sums.receipts.any);
                (account.authorized < least).then(|| {
                    format!(
                        "its account says that {} are authorized, and {least} were signed",
                        account.authorized
                    )
                })
            }
        };
        let spent = billed.saturating_add(sums.reserved);
        let found = [
            differs("billed", account.billed, billed),
            differs("spent", account.spent, spent),
            authorized,
        ];
        for what in found.into_iter().flatten() {
            self.find(id, what);
        }
        if standing.confirmed_sequence > standing.head.sequence {
            self.find(id, "more receipts are confirmed than there are");
        }
    }

    /// Receipts that were taken back, which both signatures still stand under.
    async fn look_at_withdrawn(&mut self, ledger: &Ledger, standing: &Standing) -> Result<(), LedgerError> {
        let channel = &standing.channel;
        let withdrawn = ledger.withdrawn_receipts(channel.id).await;
        let Some(withdrawn) = self.read(channel.id, withdrawn)? else {
            return Ok(());
        };
        let payer_side = channel.parameters.payer_side();
        let mut strangers = BTreeSet::new();
        for receipt in withdrawn {
            self.checked.signatures += 2;
            let sequence = receipt.receipt.receipt().sequence;
            let verdict =
                receipt
                    .receipt
                    .into_unverified()
                    .verify(&self.domain, &self.verifier, payer_side, |biller| {
                        if !self.may_bill(channel, biller) {
                            strangers.insert(biller);
                        }
                        true
                    });
            if let Err(error) = verdict {
                self.find(channel.id, format!("the withdrawn receipt {sequence}: {error}"));
            }
        }
        if !strangers.is_empty() {
            let bills = count(strangers.len() as u64, "signer");
            self.find(
                channel.id,
                format!("withdrawn receipts hold bills of {bills} that the payee never named"),
            );
        }
        Ok(())
    }
}

/// The bill that a row of a request joined with it holds.
fn bill_of(
    row: &Row,
    standing: &Standing,
    request: RequestHash,
    amount: TokenAmount,
) -> Result<UsageBill, LedgerError> {
    Ok(UsageBill {
        channel: standing.channel.id,
        request,
        response_hash: row.read("response_hash")?,
        usage: Usage {
            input: row.read("bill_input")?,
            output: row.read("bill_output")?,
        },
        amount,
        completed_at: row.read("completed_at")?,
    })
}
