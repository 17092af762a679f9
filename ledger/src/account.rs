//! A channel's totals as one side keeps count.

use std::collections::{HashMap, HashSet};

use lloom_receipts::{ChannelId, ReceiptHead, TokenAmount};

use crate::{
    Account, ChannelRecord, LedgerError,
    channel::{channel_columns, read_channel},
    column::{Column, Fixed, Put as _, Read as _, Row, sql},
    packed::{Packed, packed_rows},
    session::Session,
};

/// Which side of a channel this process is. A channel is kept for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Serving,
    Buying,
}

impl Column for Side {
    type Form = String;

    fn store(self) -> String {
        match self {
            Self::Serving => "serving",
            Self::Buying => "buying",
        }
        .to_owned()
    }

    fn load(form: String) -> Option<Self> {
        match form.as_str() {
            "serving" => Some(Self::Serving),
            "buying" => Some(Self::Buying),
            _ => None,
        }
    }
}

/// As one of rows that are [gathered](crate::gathered).
impl Fixed for Side {
    const WIDTH: usize = 1;

    fn from_slice(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(Self::Serving),
            [1] => Some(Self::Buying),
            _ => None,
        }
    }
}

/// A channel and its account, as an operation finds them.
pub(crate) struct Standing {
    pub(crate) channel: ChannelRecord,
    pub(crate) planned_deposit: Option<TokenAmount>,
    /// `None` before the channel's first use.
    pub(crate) side: Option<Side>,
    pub(crate) account: Account,
    pub(crate) head: ReceiptHead,
    pub(crate) confirmed_sequence: u64,
    /// The highest voucher, usable or not.
    pub(crate) voucher: TokenAmount,
    /// The file of the archive that holds its receipts, once it does. Nothing is recorded on the channel any more.
    pub(crate) archive: Option<String>,
}

/// The number of a channel's account, which the rows of the channel bear: `account_of!("$1")`. A scalar, so that each store
/// reads such rows in the order of their index.
macro_rules! account_of {
    ($channel:expr) => {
        concat!("(SELECT id FROM accounts WHERE channel = ", $channel, ")")
    };
}
pub(crate) use account_of;

/// The columns [`read_standing`] needs, of the tables `channels` and `accounts` under the names `c` and `a`.
macro_rules! standing_columns {
    () => {
        concat!(
            channel_columns!(),
            ", c.planned_deposit, a.side, a.authorized, a.spent, a.billed, a.head_sequence, a.head_input,
             a.head_output, a.head_amount, a.head_hash, a.confirmed_sequence, a.archive,
             (SELECT amount FROM vouchers WHERE account = a.id ORDER BY amount DESC LIMIT 1) AS voucher"
        )
    };
}
pub(crate) use standing_columns;

pub(crate) fn read_standing(row: &Row) -> Result<Standing, LedgerError> {
    let channel = read_channel(row)?;
    let side: Option<Side> = row.read_optional("side")?;
    let (account, head, confirmed_sequence) = if side.is_some() {
        let head = read_head(row, channel.id)?;
        let account = Account {
            authorized: row.read("authorized")?,
            spent: row.read("spent")?,
            billed: row.read("billed")?,
            linked: head.amount,
        };
        (account, head, row.read("confirmed_sequence")?)
    } else {
        (Account::default(), ReceiptHead::empty(channel.id), 0)
    };
    Ok(Standing {
        planned_deposit: row.read_optional("planned_deposit")?,
        channel,
        side,
        account,
        head,
        confirmed_sequence,
        voucher: row.read_optional("voucher")?.unwrap_or(TokenAmount::ZERO),
        archive: row.read_optional("archive")?,
    })
}

/// The head of `channel`, of the table `accounts`.
pub(crate) fn read_head(row: &Row, channel: ChannelId) -> Result<ReceiptHead, LedgerError> {
    Ok(ReceiptHead {
        channel,
        sequence: row.read("head_sequence")?,
        input: row.read("head_input")?,
        output: row.read("head_output")?,
        amount: row.read("head_amount")?,
        hash: row.read("head_hash")?,
    })
}

impl Standing {
    /// What is deposited and confirmed.
    pub(crate) fn deposit(&self) -> TokenAmount {
        self.channel.confirmed.map_or(TokenAmount::ZERO, |state| state.deposit)
    }

    /// Refuses a channel that is kept for the other side, and one that is archived: what it would be judged by is not
    /// here any more.
    pub(crate) fn check_side(&self, side: Side) -> Result<(), LedgerError> {
        if self.archive.is_some() {
            return Err(LedgerError::Archived {
                channel: self.channel.id,
            });
        }
        match self.side {
            Some(kept) if kept != side => Err(LedgerError::OtherSide {
                channel: self.channel.id,
            }),
            _ => Ok(()),
        }
    }

    /// Writes the totals, and the side at first use.
    pub(crate) async fn store(&self, session: &mut Session, side: Side) -> Result<(), LedgerError> {
        session
            .write(
                sql(
                    "INSERT INTO accounts (channel, side, authorized, spent, billed, head_sequence, head_input,
                                           head_output, head_amount, head_hash, confirmed_sequence)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
                     ON CONFLICT (channel) DO UPDATE SET
                         authorized = $3, spent = $4, billed = $5, head_sequence = $6, head_input = $7,
                         head_output = $8, head_amount = $9, head_hash = $10, confirmed_sequence = $11",
                )
                .put(self.channel.id)
                .put(side)
                .put(self.account.authorized)
                .put(self.account.spent)
                .put(self.account.billed)
                .put(self.head.sequence)
                .put(self.head.input)
                .put(self.head.output)
                .put(self.head.amount)
                .put(self.head.hash)
                .put(self.confirmed_sequence),
            )
            .await?;
        Ok(())
    }
}

pub(crate) async fn find_standing(session: &mut Session, channel: ChannelId) -> Result<Option<Standing>, LedgerError> {
    let statement = sql(concat!(
        "SELECT ",
        standing_columns!(),
        " FROM channels c LEFT JOIN accounts a ON a.channel = c.id WHERE c.id = $1"
    ))
    .put(channel);
    session.row(statement).await?.as_ref().map(read_standing).transpose()
}

/// The standings of several channels; those of which nothing is known are missing, and those that are archived.
pub(crate) async fn find_standings(
    session: &mut Session,
    channels: impl IntoIterator<Item = ChannelId>,
) -> Result<HashMap<ChannelId, Standing>, LedgerError> {
    let mut asked = Packed::default();
    for channel in channels.into_iter().collect::<HashSet<_>>() {
        asked.push(channel);
    }
    let statement = sql(concat!(
        packed_rows!("$1", "32"),
        "SELECT ",
        standing_columns!(),
        " FROM packed JOIN channels c ON c.id = substr($1, at, 32) LEFT JOIN accounts a ON a.channel = c.id"
    ))
    .put(asked.into_bytes());
    let rows = session.rows(statement).await?;
    let standings = rows
        .iter()
        .map(|row| read_standing(row).map(|standing| (standing.channel.id, standing)))
        .filter(|found| !matches!(found, Ok((_, standing)) if standing.archive.is_some()));
    standings.collect()
}

/// `total + more`, or an error where a sound store can't come to.
pub(crate) fn plus(total: TokenAmount, more: TokenAmount) -> Result<TokenAmount, LedgerError> {
    total.checked_add(more).ok_or(LedgerError::Inconsistent {
        what: "a total leaves uint128",
    })
}

/// `total - less`, or an error where a sound store can't come to.
pub(crate) fn minus(total: TokenAmount, less: TokenAmount) -> Result<TokenAmount, LedgerError> {
    total.checked_sub(less).ok_or(LedgerError::Inconsistent {
        what: "a total is less than one of its parts",
    })
}

/// The most of `deposit` that a usable voucher or receipt of a channel allows.
pub(crate) async fn best_authorized(
    session: &mut Session,
    channel: ChannelId,
    deposit: TokenAmount,
) -> Result<TokenAmount, LedgerError> {
    let (voucher, receipt) = best_usable(session, channel, deposit).await?;
    Ok(voucher.max(receipt).unwrap_or(TokenAmount::ZERO))
}

/// What of `deposit` a channel's best usable voucher allows, and the amount of its newest usable receipt within it. A voucher
/// over more, of a deposit that a reorganization took back, allows all of it; a receipt is claimed to its amount or not.
pub(crate) async fn best_usable(
    session: &mut Session,
    channel: ChannelId,
    deposit: TokenAmount,
) -> Result<(Option<TokenAmount>, Option<TokenAmount>), LedgerError> {
    let row = session
        .row(
            sql(concat!(
                "SELECT
                     (SELECT amount FROM vouchers
                      WHERE account = ",
                account_of!("$1"),
                " AND unusable IS NULL ORDER BY amount DESC LIMIT 1) AS voucher,
                     (SELECT cumulative_amount FROM receipts
                      WHERE account = ",
                account_of!("$1"),
                " AND unusable IS NULL AND cumulative_amount <= $2
                      ORDER BY sequence DESC LIMIT 1) AS receipt"
            ))
            .put(channel)
            .put(deposit),
        )
        .await?;
    let Some(row) = row else {
        return Ok((None, None));
    };
    let voucher: Option<TokenAmount> = row.read_optional("voucher")?;
    Ok((voucher.map(|amount| amount.min(deposit)), row.read_optional("receipt")?))
}

/// Derives the authorized amount anew, after the deposit or the usability of an authorization changed.
pub(crate) async fn refresh_authorized(session: &mut Session, channel: ChannelId) -> Result<(), LedgerError> {
    let Some(standing) = find_standing(session, channel).await? else {
        return Ok(());
    };
    if standing.side != Some(Side::Serving) {
        return Ok(());
    }
    let authorized = best_authorized(session, channel, standing.deposit()).await?;
    session
        .write(
            sql("UPDATE accounts SET authorized = $2 WHERE channel = $1")
                .put(channel)
                .put(authorized),
        )
        .await?;
    Ok(())
}
