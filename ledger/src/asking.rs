//! Asking for inference.
//!
//! Every request waits for this before it is sent, so those that queue up are begun as a set: read what they are judged
//! by, judge one after the other in memory, where each sees what those before it did, and write what is to be kept.

use std::collections::{BTreeMap, HashMap, HashSet, btree_map::Entry};

use alloy::primitives::Address;
use lloom_receipts::{ChannelId, InferenceRequest, RequestHash, RequestNonce};

use crate::{
    Budget, BuyError, Ledger, LedgerError, OwnRequest,
    account::{Side, Standing, find_standings, plus},
    budget::Spending,
    document::requests_with_nonces,
    group::{Answers, Grouped},
    new_requests::{NewRequest, NewRequests},
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
        let is_limited = operations
            .iter()
            .any(|operation| operation.request.budget != Budget::UNLIMITED);
        let mut book = Book {
            standings: find_standings(session, channels).await?,
            is_limited,
            taken: HashSet::new(),
            spending: BTreeMap::new(),
            news: NewRequests::default(),
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
    /// Whether any of the requests has a budget: else nobody asks what others may still cost.
    is_limited: bool,
    /// By token.
    spending: BTreeMap<Address, Spending>,
    news: NewRequests<'a>,
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
            Entry::Occupied(read) => read.into_mut(),
            Entry::Vacant(unread) => {
                let now = self.request.now;
                let mut spending = Spending::read(session, token, now).await?;
                if book.is_limited {
                    spending.read_commitments(session, now).await?;
                }
                unread.insert(spending)
            }
        };
        let admitted = spending.admit(&self.request, standing)?;
        let spent = plus(standing.account.spent, self.request.authorized)?;
        let voucher = match &self.request.voucher {
            Some(voucher) => sign(standing, voucher)?,
            None => None,
        };

        standing.account.spent = spent;
        spending.record(&admitted, self.request.now)?;
        book.taken.insert((channel, document.nonce));
        let request = NewRequest {
            hash: self.hash,
            request: &self.request.request,
            content_salt: self.request.content_salt,
            reserved: self.request.authorized,
            begun_at: self.request.now,
        };
        book.news.push(request, voucher);
        Ok(())
    }
}

impl Book<'_> {
    async fn store(self, session: &mut Session) -> Result<(), LedgerError> {
        self.news.store(session, Side::Buying, &self.standings).await?;
        for spending in self.spending.into_values() {
            spending.store(session).await?;
        }
        Ok(())
    }
}
