//! Asking for inference.
//!
//! Every request waits for this before it is sent, so those that queue up are begun as a set: read what they are judged
//! by, judge one after the other in memory, where each sees what those before it did, and write what is to be kept.

use std::collections::{BTreeMap, HashMap, HashSet};

use lloom_receipts::{ChannelId, InferenceRequest, RequestHash, RequestNonce, Signed, Verified, Voucher};

use crate::{
    BuyError, Ledger, LedgerError, OwnRequest,
    account::{Standing, find_standings, pack_account, plus, upsert_accounts},
    budget::Spending,
    column::{Put as _, sql},
    document::{NewRequest, insert_requests, insert_vouchers, pack_voucher, requests_with_nonces},
    group::{Answers, Grouped},
    packed::{Packed, packed_rows},
    purchase::{as_buying, maximum_of, sign},
    session::Session,
};

impl Ledger {
    /// Records a request and its voucher, before they are sent, if the budget has room for the most it can cost.
    ///
    /// # Errors
    /// [`BuyError`] says which rule is broken; then nothing may be sent.
    pub async fn begin_request(&self, request: OwnRequest) -> Result<(), BuyError> {
        let hash = request.request.document().hash();
        self.submit_grouped(BeginRequest { hash, request }).await
    }
}

struct BeginRequest {
    hash: RequestHash,
    request: OwnRequest,
}

impl BeginRequest {
    fn document(&self) -> &InferenceRequest {
        self.request.request.document()
    }
}

impl Grouped for BeginRequest {
    const NAME: &'static str = "begin a request";
    type Output = ();
    type Error = BuyError;

    async fn run(operations: &[Self], session: &mut Session) -> Answers<Self> {
        let known = requests_with_nonces(session, operations.iter().map(Self::document)).await?;
        let channels = operations.iter().map(|operation| operation.document().channel);
        let mut book = Book {
            standings: find_standings(session, channels).await?,
            taken: HashSet::new(),
            spending: BTreeMap::new(),
            news: News::default(),
        };
        let mut answers = Vec::with_capacity(operations.len());
        for (operation, known) in operations.iter().zip(known) {
            match operation.decide(session, &mut book, known.is_some()).await {
                Err(BuyError::Ledger(error)) if !matches!(error, LedgerError::OtherSide { .. }) => return Err(error),
                answer => answers.push(answer),
            }
        }
        book.store(session).await?;
        Ok(answers)
    }
}

/// What requests are judged by: as stored, and what the requests before have changed.
struct Book<'a> {
    standings: HashMap<ChannelId, Standing>,
    /// Nonces just used.
    taken: HashSet<(ChannelId, RequestNonce)>,
    /// By token.
    spending: BTreeMap<alloy::primitives::Address, Spending>,
    news: News<'a>,
}

/// What is to be stored.
#[derive(Default)]
struct News<'a> {
    requests: Vec<&'a BeginRequest>,
    vouchers: Vec<&'a Signed<Voucher, Verified>>,
    changed: HashSet<ChannelId>,
}

impl BeginRequest {
    /// Records the request in the book, or refuses it and changes nothing.
    async fn decide<'a>(
        &'a self,
        session: &mut Session,
        book: &mut Book<'a>,
        nonce_used: bool,
    ) -> Result<(), BuyError> {
        let document = self.document();
        let channel = document.channel;
        let standing = book.standings.get_mut(&channel).ok_or(BuyError::UnknownChannel)?;
        as_buying(standing)?;
        if nonce_used || book.taken.contains(&(channel, document.nonce)) {
            return Err(BuyError::NonceUsed);
        }
        let maximum = maximum_of(document)?;
        if self.request.authorized > maximum {
            return Err(BuyError::OverMaximum { maximum });
        }
        let token = standing.channel.parameters.token;
        let spending = match book.spending.entry(token) {
            std::collections::btree_map::Entry::Occupied(read) => read.into_mut(),
            std::collections::btree_map::Entry::Vacant(unread) => {
                unread.insert(Spending::read(session, token, self.request.now).await?)
            }
        };
        spending.check(&self.request.budget, document.operator, maximum, self.request.now)?;
        let spent = plus(standing.account.spent, self.request.authorized)?;
        let voucher = match &self.request.voucher {
            Some(voucher) => sign(standing, voucher)?,
            None => None,
        };

        standing.account.spent = spent;
        spending.add(document.operator, self.request.now, maximum)?;
        book.taken.insert((channel, document.nonce));
        book.news.vouchers.extend(voucher);
        book.news.requests.push(self);
        book.news.changed.insert(channel);
        Ok(())
    }
}

impl Book<'_> {
    async fn store(self, session: &mut Session) -> Result<(), LedgerError> {
        if self.news.requests.is_empty() {
            return Ok(());
        }
        let (mut accounts, mut vouchers, mut requests) = (Packed::default(), Packed::default(), Packed::default());
        for standing in self
            .news
            .changed
            .iter()
            .filter_map(|channel| self.standings.get(channel))
        {
            pack_account(standing, &mut accounts);
        }
        for voucher in self.news.vouchers {
            pack_voucher(voucher, &mut vouchers);
        }
        for BeginRequest { hash, request } in self.news.requests {
            let request = NewRequest {
                hash: *hash,
                request: &request.request,
                content_salt: request.content_salt,
                reserved: request.authorized,
                begun_at: request.now,
            };
            request.pack(&mut requests);
        }
        let statement = sql(concat!(
            upsert_accounts!("?3", "buying"),
            insert_vouchers!("?2"),
            insert_requests!("?1")
        ));
        session
            .write(
                statement
                    .put(requests.into_bytes())
                    .put(vouchers.into_bytes())
                    .put(accounts.into_bytes()),
            )
            .await?;
        for spending in self.spending.into_values() {
            spending.store(session).await?;
        }
        Ok(())
    }
}
