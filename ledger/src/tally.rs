//! What decides which channels are claimed, of all of them at once.

use alloy::primitives::Address;
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};

use crate::{
    Ledger, LedgerError,
    account::{Side, best_usable},
    column::{Fixed, Put as _, sql},
    gathered::{self, Fields},
    session::Session,
};

/// A channel's amounts, as far as they decide whether it is claimed; the authorizations themselves are in its
/// [`Claimable`](crate::Claimable). Base units, totals of the channel's life; of the chain's, those at the newest block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The channel.
    pub channel: ChannelId,
    /// Who is paid.
    pub payee: Address,
    /// In which token it pays.
    pub token: Address,
    /// What it holds in all.
    pub deposit: TokenAmount,
    /// What the chain paid.
    pub settled: TokenAmount,
    /// When the payer asked for the rest, if it did.
    pub close_requested_at: Option<UnixSeconds>,
    /// The sum of all bills.
    pub billed: TokenAmount,
    /// What of the confirmed deposit the best usable voucher allows, if anything.
    pub voucher: Option<TokenAmount>,
    /// The cumulative amount of the newest usable receipt within the confirmed deposit, if that is anything.
    pub receipt: Option<TokenAmount>,
}

/// What is read of a channel.
struct OnChain {
    channel: ChannelId,
    token: Address,
    deposit: TokenAmount,
    settled: TokenAmount,
    close_requested_at: Option<UnixSeconds>,
    confirmed_deposit: TokenAmount,
}

const ON_CHAIN_WIDTH: usize = ChannelId::WIDTH + Address::WIDTH + 3 * TokenAmount::WIDTH + UnixSeconds::WIDTH;

pub(crate) const SELECT_ON_CHAIN: &str = "
SELECT string_agg(
    c.id || c.token || c.latest_deposit || c.latest_settled || coalesce(c.latest_close_requested_at, $4)
    || coalesce(c.confirmed_deposit, $5), $6) AS gathered
FROM channels c WHERE c.id >= $1 AND c.id <= $2 AND c.payee = $3 AND NOT c.latest_finalized";

/// What is read of an account.
struct Served {
    channel: ChannelId,
    billed: TokenAmount,
    /// The newest receipt's, usable or not.
    receipt: TokenAmount,
    /// The best voucher's, usable or not.
    voucher: TokenAmount,
    /// Whether any of its authorizations is not.
    is_some_unusable: bool,
}

/// Parts in which accounts are kept until they are joined.
const PARTS: usize = 16;

const SERVED_WIDTH: usize = ChannelId::WIDTH + 3 * TokenAmount::WIDTH + <bool as Fixed>::WIDTH;

pub(crate) const SELECT_SERVED: &str = "
SELECT string_agg(
    a.channel || a.billed || a.head_amount
    || coalesce((SELECT v.amount FROM vouchers v WHERE v.account = a.id ORDER BY v.amount DESC LIMIT 1), $4)
    || CASE WHEN a.id IN (SELECT account FROM vouchers WHERE unusable IS NOT NULL
                          UNION ALL SELECT account FROM receipts WHERE unusable IS NOT NULL)
        THEN $5 ELSE $6 END, $7) AS gathered
FROM accounts a WHERE a.id > $1 AND a.id <= $2 AND a.side = $3";

impl Ledger {
    /// The tallies of the payee's channels that are open and served here, in the order of their ids: also of those with
    /// nothing new to claim.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tallies(&self, payee: Address) -> Result<Vec<Tally>, LedgerError> {
        let mut session = self.snapshot("tally what is claimable").await?;
        // Each in the order of its own index, and joined here: to look up one by the other takes longer than all the rest.
        let mut parts = read_served(&mut session).await?;
        for part in &mut parts {
            part.sort_unstable_by_key(|served| served.channel);
        }
        let count = parts.iter().map(Vec::len).sum();
        let mut tallies = Vec::with_capacity(count);
        let ranges = gathered::ranges(count);
        // A part goes as soon as it is joined: all of this and all of the tallies would be a third more memory.
        let mut served = parts.into_iter().flatten().peekable();
        for range in ranges {
            let mut on_chain = read_on_chain(&mut session, payee, range).await?;
            on_chain.sort_unstable_by_key(|channel| channel.channel);
            for channel in on_chain {
                while served.next_if(|served| served.channel < channel.channel).is_some() {}
                if let Some(served) = served.next_if(|served| served.channel == channel.channel) {
                    tallies.push(tally(&mut session, payee, &channel, &served).await?);
                }
            }
        }
        Ok(tallies)
    }
}

async fn tally(
    session: &mut Session,
    payee: Address,
    channel: &OnChain,
    served: &Served,
) -> Result<Tally, LedgerError> {
    // The rule is that the best authorization of each kind is usable and within the deposit. Where it isn't, the best that
    // is has to be looked for.
    let best = served.voucher.max(served.receipt);
    let (voucher, receipt) = if served.is_some_unusable || best > channel.confirmed_deposit {
        best_usable(session, channel.channel, channel.confirmed_deposit).await?
    } else {
        (Some(served.voucher), Some(served.receipt))
    };
    Ok(Tally {
        channel: channel.channel,
        payee,
        token: channel.token,
        deposit: channel.deposit,
        settled: channel.settled,
        close_requested_at: channel.close_requested_at,
        billed: served.billed,
        voucher: voucher.filter(|amount| !amount.is_zero()),
        receipt: receipt.filter(|amount| !amount.is_zero()),
    })
}

async fn read_on_chain(
    session: &mut Session,
    payee: Address,
    (from, to): (ChannelId, ChannelId),
) -> Result<Vec<OnChain>, LedgerError> {
    let statement = sql(SELECT_ON_CHAIN)
        .put(from)
        .put(to)
        .put(payee)
        .put(UnixSeconds::default())
        .put(TokenAmount::ZERO)
        .put(Vec::new());
    let mut found = Vec::new();
    let read = |fields: &mut Fields<'_>| {
        found.push(OnChain {
            channel: fields.take()?,
            token: fields.take()?,
            deposit: fields.take()?,
            settled: fields.take()?,
            // Nobody asks in the year 1970.
            close_requested_at: Some(fields.take()?).filter(|at: &UnixSeconds| at.get() > 0),
            confirmed_deposit: fields.take()?,
        });
        Ok(())
    };
    gathered::run(session, statement, ON_CHAIN_WIDTH, read).await?;
    Ok(found)
}

/// In parts, by what their ids begin with, in the order of that.
async fn read_served(session: &mut Session) -> Result<[Vec<Served>; PARTS], LedgerError> {
    let statement = |after, to| {
        sql(SELECT_SERVED)
            .put(after)
            .put(to)
            .put(Side::Serving)
            .put(TokenAmount::ZERO)
            .put(Vec::from([u8::from(true)]))
            .put(Vec::from([u8::from(false)]))
            .put(Vec::new())
    };
    let mut found: [Vec<Served>; PARTS] = Default::default();
    let read = |fields: &mut Fields<'_>| {
        let served = Served {
            channel: fields.take()?,
            billed: fields.take()?,
            receipt: fields.take()?,
            voucher: fields.take()?,
            is_some_unusable: fields.take()?,
        };
        found[usize::from(served.channel.hash()[0]) * PARTS / 256].push(served);
        Ok(())
    };
    gathered::of_accounts(session, statement, SERVED_WIDTH, read).await?;
    Ok(found)
}
