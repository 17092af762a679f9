//! Taking requests on.
//!
//! Every answer waits for this before its first token, so requests that queue up are taken on as a set: read what they
//! are judged by, judge one after the other in memory, where each sees what those before it did, and write what is to be
//! kept.

use std::collections::HashMap;

use lloom_receipts::{
    ChannelId, InferenceRequest, MAX_DEADLINE_AHEAD, RequestHash, RequestNonce, TokenAmount, UnixSeconds,
};

use crate::{
    AcceptRequest, Ledger, LedgerError, Outcome, ServeError,
    acceptance::{Admission, HeldVouchers, check_serving, cover, judge},
    account::{Side, Standing, find_standings},
    column::{Put as _, Read as _, sql},
    document::requests_with_nonces,
    group::{Answers, Grouped},
    new_requests::{NewRequest, NewRequests},
    packed::{Packed, packed_rows},
    restored::find_restored_at,
    session::Session,
    transaction::PendingCloses,
};

impl Ledger {
    /// Takes a request on: records it with its voucher and sets `reserve` aside, or refuses and records nothing.
    ///
    /// [`Outcome::AlreadyKnown`] means that this very request was taken on before: it must not be served again. A
    /// voucher that adds nothing is passed over where the request is covered without it, because the vouchers of
    /// concurrent requests overtake each other.
    ///
    /// The caller has checked everything that can be told without the store: signer, operator, prices, deadline.
    ///
    /// # Errors
    /// [`ServeError`] says which rule is broken.
    pub async fn accept_request(&self, request: AcceptRequest) -> Result<Outcome, ServeError> {
        let hash = request.request.document().hash();
        self.submit_grouped(Accept { hash, request }).await
    }
}

struct Accept {
    hash: RequestHash,
    request: AcceptRequest,
}

impl Accept {
    fn document(&self) -> &InferenceRequest {
        self.request.request.document()
    }
}

impl Grouped for Accept {
    const NAME: &'static str = "accept a request";
    type Output = Outcome;
    type Error = ServeError;

    async fn run(operations: &[Self], session: &mut Session) -> Answers<Self> {
        let known = requests_with_nonces(session, operations.iter().map(Self::document)).await?;
        let vouchers = find_vouchers(session, operations).await?;
        let mut book = Book {
            restored_at: find_restored_at(session).await?,
            closing: PendingCloses::read(session).await?,
            standings: find_standings(session, operations.iter().map(|operation| operation.document().channel)).await?,
            taken: HashMap::new(),
            raised: HashMap::new(),
            news: NewRequests::default(),
        };
        let mut answers = Vec::with_capacity(operations.len());
        for ((operation, known), held) in operations.iter().zip(known).zip(vouchers) {
            match operation.decide(session, &mut book, known, held).await {
                Err(ServeError::Ledger(error)) if !matches!(error, LedgerError::OtherSide { .. }) => return Err(error),
                answer => answers.push(answer),
            }
        }
        book.store(session).await?;
        Ok(answers)
    }
}

/// What requests are judged by: as stored, and what the requests before have changed.
struct Book<'a> {
    restored_at: Option<UnixSeconds>,
    /// Channels that a transaction of this side closes: what is billed on them after that is forfeited.
    closing: PendingCloses,
    standings: HashMap<ChannelId, Standing>,
    /// Nonces just used.
    taken: HashMap<(ChannelId, RequestNonce), RequestHash>,
    /// Vouchers just taken, each above those before.
    raised: HashMap<ChannelId, Vec<TokenAmount>>,
    news: NewRequests<'a>,
}

impl Accept {
    /// Takes the request on, or refuses it and changes nothing.
    async fn decide<'a>(
        &'a self,
        session: &mut Session,
        book: &mut Book<'a>,
        known: Option<RequestHash>,
        held: HeldVouchers,
    ) -> Result<Outcome, ServeError> {
        let document = self.document();
        let channel = document.channel;
        match known.or(book.taken.get(&(channel, document.nonce)).copied()) {
            Some(known) if known == self.hash => return Ok(Outcome::AlreadyKnown),
            Some(_) => return Err(ServeError::NonceUsed),
            None => {}
        }
        if let Some(until) = book.restored_at.map(|at| at.plus(MAX_DEADLINE_AHEAD))
            && document.deadline <= until
        {
            return Err(ServeError::RestoredTooRecently { until });
        }
        let standing = book.standings.get(&channel).ok_or(ServeError::UnknownChannel)?;
        standing.check_side(Side::Serving)?;
        check_serving(&standing.channel)?;
        if book.closing.contains(channel) {
            return Err(ServeError::ChannelClosing);
        }

        let raised = book.raised.get(&channel).map_or(&[][..], Vec::as_slice);
        let mut account = standing.account;
        let (mut voucher, mut stale) = (None, None);
        if let Some(brought) = &self.request.voucher {
            let amount = brought.document().amount;
            let held = HeldVouchers {
                known: held.known.or(raised.contains(&amount).then_some(true)),
                best: held.best.max(raised.last().copied()),
            };
            match judge(
                channel,
                standing.channel.confirmed.map(|state| state.deposit),
                brought,
                held,
            )? {
                Admission::New => {
                    account.authorized = account.authorized.max(amount);
                    voucher = Some(brought);
                }
                Admission::Known => {}
                Admission::Stale { best } => stale = Some(best),
            }
        }
        // Prices are the payer's to sign: what no channel can hold is not covered, whatever else it is.
        account.spent = account.spent.saturating_add(self.request.reserve);
        if account.spent > account.authorized {
            // What is on trust is counted over all of the payer's channels, as they are stored.
            book.store(session).await?;
        }
        let standing = book.standings.get_mut(&channel).ok_or(ServeError::UnknownChannel)?;
        let before = std::mem::replace(&mut standing.account, account);
        if let Err(error) = cover(session, standing, self.request.exposure).await {
            standing.account = before;
            return Err(match (error, stale) {
                (ServeError::Uncovered { .. }, Some(best)) => ServeError::VoucherNotIncreasing { best },
                (error, _) => error,
            });
        }

        if let Some(voucher) = voucher {
            book.raised.entry(channel).or_default().push(voucher.document().amount);
        }
        book.taken.insert((channel, document.nonce), self.hash);
        let request = NewRequest {
            hash: self.hash,
            request: &self.request.request,
            content_salt: self.request.content_salt,
            reserved: self.request.reserve,
            begun_at: self.request.now,
        };
        book.news.push(request, voucher);
        Ok(Outcome::Recorded)
    }
}

impl Book<'_> {
    /// Stores what is new since the last time.
    async fn store(&mut self, session: &mut Session) -> Result<(), LedgerError> {
        let news = std::mem::take(&mut self.news);
        news.store(session, Side::Serving, &self.standings).await
    }
}

/// What is held beside the voucher of each of `operations`, in order.
async fn find_vouchers(session: &mut Session, operations: &[Accept]) -> Result<Vec<HeldVouchers>, LedgerError> {
    let mut asked = Packed::default();
    for operation in operations {
        // Without a voucher, what is said of one is passed over.
        let voucher = operation
            .request
            .voucher
            .as_ref()
            .map(|voucher| voucher.document().amount);
        asked
            .push(operation.document().channel)
            .push(voucher.unwrap_or(TokenAmount::ZERO));
    }
    let statement = sql(concat!(
        packed_rows!("$1", "48"),
        ", asked AS (SELECT at, substr($1, at, 32) AS channel, substr($1, at + 32, 16) AS voucher FROM packed)
         SELECT
             (SELECT unusable IS NULL FROM vouchers WHERE account = a.id AND amount = q.voucher) AS known,
             (SELECT amount FROM vouchers WHERE account = a.id AND unusable IS NULL
              ORDER BY amount DESC LIMIT 1) AS best
         FROM asked q LEFT JOIN accounts a ON a.channel = q.channel
         ORDER BY q.at"
    ))
    .put(asked.into_bytes());
    let rows = session.rows(statement).await?;
    rows.iter()
        .map(|row| {
            Ok(HeldVouchers {
                known: row.read_optional("known")?,
                best: row.read_optional("best")?,
            })
        })
        .collect()
}
