//! What decides which channels are claimed, of all of them at once.

use alloy::primitives::Address;
use lloom_receipts::{ChannelId, TokenAmount, UnixSeconds};

use crate::{
    Ledger, LedgerError,
    column::{Fixed as _, Put as _},
    gathered::{self, Fields},
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
    /// The signed amount of the best usable voucher within the confirmed deposit.
    pub voucher: Option<TokenAmount>,
    /// The cumulative amount of the newest usable receipt within the confirmed deposit.
    pub receipt: Option<TokenAmount>,
}

/// Columns of [`Tally`].
const WIDTH: usize = ChannelId::WIDTH + Address::WIDTH + 5 * TokenAmount::WIDTH + UnixSeconds::WIDTH;

/// In the order of accounts, in which their vouchers and receipts are indexed: of the rows themselves only those of
/// channels are looked up. An unusable authorization is a rarity, so the rule is that the best is usable: then the account
/// has the receipt's amount, and the index the voucher's.
const SELECT: &str = "
SELECT string_agg(
    c.id || c.token || c.latest_deposit || c.latest_settled || a.billed
    || coalesce(
        CASE WHEN a.id IN (SELECT account FROM vouchers WHERE unusable IS NOT NULL)
            THEN (SELECT v.amount FROM vouchers v
                  WHERE v.account = a.id AND v.unusable IS NULL AND v.amount <= c.confirmed_deposit
                  ORDER BY v.amount DESC LIMIT 1)
            ELSE (SELECT v.amount FROM vouchers v WHERE v.account = a.id AND v.amount <= c.confirmed_deposit
                  ORDER BY v.amount DESC LIMIT 1)
        END, $4)
    || coalesce(
        CASE WHEN a.head_amount <= c.confirmed_deposit
                  AND a.id NOT IN (SELECT account FROM receipts WHERE unusable IS NOT NULL)
            THEN a.head_amount
            ELSE (SELECT p.cumulative_amount FROM receipts p
                  WHERE p.account = a.id AND p.unusable IS NULL AND p.cumulative_amount <= c.confirmed_deposit
                  ORDER BY p.sequence DESC LIMIT 1)
        END, $4)
    || coalesce(c.latest_close_requested_at, $5), $6) AS gathered
FROM accounts a CROSS JOIN channels c
WHERE a.id > $1 AND a.id <= $2 AND a.side = 'serving' AND c.id = a.channel AND c.payee = $3 AND NOT c.latest_finalized";

impl Ledger {
    /// The tallies of the payee's channels that are open, in no order: also of those with nothing new to claim.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tallies(&self, payee: Address) -> Result<Vec<Tally>, LedgerError> {
        let mut session = self.snapshot("tally what is claimable").await?;
        gathered::of_all_accounts(
            &mut session,
            |statement| {
                statement
                    .put(payee)
                    .put(TokenAmount::ZERO)
                    .put(UnixSeconds::default())
                    .put(Vec::new())
            },
            SELECT,
            WIDTH,
            |fields| read_tally(fields, payee),
        )
        .await
    }
}

fn read_tally(fields: &mut Fields<'_>, payee: Address) -> Result<Tally, LedgerError> {
    // No voucher and no receipt is over nothing, and nobody asks in the year 1970.
    let some_amount = |amount: TokenAmount| (!amount.is_zero()).then_some(amount);
    Ok(Tally {
        channel: fields.take()?,
        payee,
        token: fields.take()?,
        deposit: fields.take()?,
        settled: fields.take()?,
        billed: fields.take()?,
        voucher: some_amount(fields.take()?),
        receipt: some_amount(fields.take()?),
        close_requested_at: Some(fields.take()?).filter(|at: &UnixSeconds| at.get() > 0),
    })
}
