//! Requests that are to be stored, with the vouchers that came with them and what became of their channels' accounts.

use std::collections::{HashMap, HashSet};

use lloom_receipts::{
    ChannelId, ContentSalt, InferenceRequest, RequestHash, Signed, TokenAmount, UnixSeconds, Verified, Voucher,
};

use crate::{
    LedgerError,
    account::{Side, Standing, account_of},
    column::Put as _,
    dialect::{by_dialect, count_at},
    document::{delete_superseded, insert_vouchers, least_kept, pack_voucher},
    packed::{Packed, packed_rows},
    session::Session,
};

/// A request to be stored.
pub(crate) struct NewRequest<'a> {
    pub(crate) hash: RequestHash,
    pub(crate) request: &'a Signed<InferenceRequest, Verified>,
    pub(crate) content_salt: ContentSalt,
    pub(crate) reserved: TokenAmount,
    pub(crate) begun_at: UnixSeconds,
}

impl NewRequest<'_> {
    /// Appends it to the rows that [`insert_requests!`] takes.
    fn pack(&self, rows: &mut Packed) {
        let document = self.request.document();
        rows.push(self.hash)
            .push(document.channel)
            .push(document.nonce)
            .push(document.operator)
            .push(document.model)
            .push(document.prompt_hash)
            .push_count(document.max_input)
            .push_count(document.max_output)
            .push(document.prices.input)
            .push(document.prices.output)
            .push(document.deadline)
            .push(*self.request.signature())
            .push(self.content_salt)
            .push(self.begun_at)
            .push(self.reserved);
    }
}

/// A statement that stores the packed requests in `$1`. Their channels' accounts are stored before.
macro_rules! insert_requests {
    ($dialect:ident) => {
        concat!(
            packed_rows!("$1", "361"),
            "INSERT INTO requests (hash, channel, nonce, operator, model, prompt_hash, max_input, max_output,
                 input_price, output_price, deadline, signature, content_salt, begun_at, reserved)
             SELECT substr($1, at, 32), substr($1, at + 32, 32), substr($1, at + 64, 32), substr($1, at + 96, 20),
                 substr($1, at + 116, 32), substr($1, at + 148, 32), ",
            count_at!($dialect, "$1", "at + 180"),
            ", ",
            count_at!($dialect, "$1", "at + 190"),
            ", substr($1, at + 200, 16), substr($1, at + 216, 16), substr($1, at + 232, 8),
                 substr($1, at + 240, 65), substr($1, at + 305, 32), substr($1, at + 337, 8),
                 substr($1, at + 345, 16)
             FROM packed; "
        )
    };
}

/// A statement that lists the packed requests in `$1` as without a bill in a side's table of those: they are stored.
macro_rules! list_requests {
    ($table:literal) => {
        concat!(
            packed_rows!("$1", "361"),
            "INSERT INTO ",
            $table,
            " (request) SELECT substr($1, at, 32) FROM packed; "
        )
    };
}

/// What an account becomes with new requests, as [`upsert_accounts!`] takes it: at first use, all of it.
fn pack_account(standing: &Standing, rows: &mut Packed) {
    rows.push(standing.channel.id)
        .push(standing.account.authorized)
        .push(standing.account.spent)
        .push(standing.account.billed)
        .push(standing.head.sequence)
        .push(standing.head.input)
        .push(standing.head.output)
        .push(standing.head.amount)
        .push(standing.head.hash)
        .push(standing.confirmed_sequence);
}

/// A statement that stores what the packed accounts in `$3` have authorized and spent, and the side at first use.
macro_rules! upsert_accounts {
    ($side:literal) => {
        concat!(
            packed_rows!("$3", "160"),
            "INSERT INTO accounts (channel, side, authorized, spent, billed, head_sequence, head_input, head_output,
                                   head_amount, head_hash, confirmed_sequence)
             SELECT substr($3, at, 32), '",
            $side,
            "', substr($3, at + 32, 16), substr($3, at + 48, 16), substr($3, at + 64, 16),
                    substr($3, at + 80, 8), substr($3, at + 88, 8), substr($3, at + 96, 8), substr($3, at + 104, 16),
                    substr($3, at + 120, 32), substr($3, at + 152, 8)
             FROM packed WHERE true
             ON CONFLICT (channel) DO UPDATE SET authorized = excluded.authorized, spent = excluded.spent; "
        )
    };
}

macro_rules! store_all {
    ($dialect:ident, "serving") => {
        concat!(
            upsert_accounts!("serving"),
            insert_vouchers!($dialect, "$2"),
            "; ",
            insert_requests!($dialect),
            list_requests!("open_requests")
        )
    };
    ($dialect:ident, "buying") => {
        concat!(
            upsert_accounts!("buying"),
            insert_vouchers!($dialect, "$2"),
            "; ",
            insert_requests!($dialect),
            list_requests!("unbilled_requests")
        )
    };
}

/// What is to be stored of requests that were judged, beside each other and after each other.
#[derive(Default)]
pub(crate) struct NewRequests<'a> {
    requests: Vec<NewRequest<'a>>,
    vouchers: Vec<&'a Signed<Voucher, Verified>>,
    channels: HashSet<ChannelId>,
}

impl<'a> NewRequests<'a> {
    /// A request, and the voucher that came with it, if it is new.
    pub(crate) fn push(&mut self, request: NewRequest<'a>, voucher: Option<&'a Signed<Voucher, Verified>>) {
        self.channels.insert(request.request.document().channel);
        self.vouchers.extend(voucher);
        self.requests.push(request);
    }

    /// Stores all of it in one round trip, with the accounts as `standings` has them.
    pub(crate) async fn store(
        self,
        session: &mut Session,
        side: Side,
        standings: &HashMap<ChannelId, Standing>,
    ) -> Result<(), LedgerError> {
        if self.requests.is_empty() {
            return Ok(());
        }
        let (mut accounts, mut vouchers, mut requests) = (Packed::default(), Packed::default(), Packed::default());
        for standing in self.channels.iter().filter_map(|channel| standings.get(channel)) {
            pack_account(standing, &mut accounts);
        }
        for voucher in self.vouchers {
            pack_voucher(voucher, &mut vouchers);
        }
        for request in &self.requests {
            request.pack(&mut requests);
        }
        let statement = match side {
            Side::Serving => by_dialect!(store_all, "serving"),
            Side::Buying => by_dialect!(store_all, "buying"),
        };
        session
            .write(
                statement
                    .put(requests.into_bytes())
                    .put(vouchers.into_bytes())
                    .put(accounts.into_bytes()),
            )
            .await?;
        Ok(())
    }
}
