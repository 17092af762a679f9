use alloy::primitives::{Address, B256};
use lloom_receipts::{BlockNumber, ChannelId, ChannelParameters};

use crate::{
    ChainEventKind, ChannelState, Ledger, LedgerError, PublishedUsage,
    column::{Put as _, Read as _, Row, from_json, sql},
    session::Session,
};

/// A channel: what is known of it, and its state on the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRecord {
    /// Its id.
    pub id: ChannelId,
    /// What its id commits to.
    pub parameters: ChannelParameters,
    /// The block that opened it; `None` for one that this client is about to open.
    pub opened_in: Option<BlockNumber>,
    /// Whether what remains returns to the payer's balance in the escrow.
    pub refunds_to_balance: bool,
    /// Its state at the newest confirmed block: what deposits count by.
    pub confirmed: Option<ChannelState>,
    /// Its state at the newest block: what a requested close counts by.
    pub latest: Option<ChannelState>,
    /// The operator it is committed to, where this client opened it.
    pub operator: Option<Address>,
    /// The random part of its commitment, where this client opened it.
    pub client_random: Option<B256>,
}

impl ChannelRecord {
    /// Whether it exists on the chain and is not over.
    pub fn is_open(&self) -> bool {
        self.latest.is_some_and(|state| !state.finalized)
    }
}

/// Which channels to list. What is `None` matches all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelFilter {
    /// Of this payer.
    pub payer: Option<Address>,
    /// Of this payee.
    pub payee: Option<Address>,
    /// Committed to this operator by this client.
    pub operator: Option<Address>,
    /// Only those that exist on the chain and are not over.
    pub open_only: bool,
}

/// The columns [`read_channel`] needs, of the table `channels` under the name `c`.
macro_rules! channel_columns {
    () => {
        "c.id, c.payer, c.payee, c.token, c.salt, c.authorized_signer, c.opened_in, c.refunds_to_balance, c.operator,
         c.client_random, c.confirmed_deposit, c.confirmed_settled, c.confirmed_close_requested_at,
         c.confirmed_finalized, c.latest_deposit, c.latest_settled, c.latest_close_requested_at, c.latest_finalized"
    };
}
pub(crate) use channel_columns;

pub(crate) fn read_channel(row: &Row) -> Result<ChannelRecord, LedgerError> {
    let state = |deposit, settled, close_requested_at, finalized| -> Result<Option<ChannelState>, LedgerError> {
        let Some(deposit) = row.read_optional(deposit)? else {
            return Ok(None);
        };
        Ok(Some(ChannelState {
            deposit,
            settled: row.read(settled)?,
            close_requested_at: row.read_optional(close_requested_at)?,
            finalized: row.read(finalized)?,
        }))
    };
    Ok(ChannelRecord {
        id: row.read("id")?,
        parameters: ChannelParameters {
            payer: row.read("payer")?,
            payee: row.read("payee")?,
            token: row.read("token")?,
            salt: row.read("salt")?,
            authorized_signer: row.read("authorized_signer")?,
        },
        opened_in: row.read_optional("opened_in")?,
        refunds_to_balance: row.read("refunds_to_balance")?,
        confirmed: state(
            "confirmed_deposit",
            "confirmed_settled",
            "confirmed_close_requested_at",
            "confirmed_finalized",
        )?,
        latest: state(
            "latest_deposit",
            "latest_settled",
            "latest_close_requested_at",
            "latest_finalized",
        )?,
        operator: row.read_optional("operator")?,
        client_random: row.read_optional("client_random")?,
    })
}

pub(crate) async fn find_channel(
    session: &mut Session,
    channel: ChannelId,
) -> Result<Option<ChannelRecord>, LedgerError> {
    let statement = sql(concat!(
        "SELECT ",
        channel_columns!(),
        " FROM channels c WHERE c.id = $1"
    ))
    .put(channel);
    session.row(statement).await?.as_ref().map(read_channel).transpose()
}

impl Ledger {
    /// The channel with this id, if anything is known of it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn channel(&self, channel: ChannelId) -> Result<Option<ChannelRecord>, LedgerError> {
        find_channel(&mut self.reader("read a channel").await?, channel).await
    }

    /// The channels that `filter` matches, in the order they were opened.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn channels(&self, filter: ChannelFilter) -> Result<Vec<ChannelRecord>, LedgerError> {
        let statement = sql(concat!(
            "SELECT ",
            channel_columns!(),
            " FROM channels c
              WHERE ($1 IS NULL OR c.payer = $1) AND ($2 IS NULL OR c.payee = $2)
                AND ($3 IS NULL OR c.operator = $3)
                AND (NOT $4 OR NOT c.latest_finalized)
              ORDER BY c.opened_in IS NULL, c.opened_in, c.id"
        ))
        .put_optional(filter.payer)
        .put_optional(filter.payee)
        .put_optional(filter.operator)
        .put(filter.open_only);
        let rows = self.reader("list channels").await?.rows(statement).await?;
        rows.iter().map(read_channel).collect()
    }

    /// The operators `payee` ever named, and whether each still is one.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn operators(&self, payee: Address) -> Result<Vec<(Address, bool)>, LedgerError> {
        find_operators(&mut self.reader("list operators").await?, payee).await
    }

    /// What the channel published last on the chain (`UsageSettled`), at the newest block.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn published_usage(&self, channel: ChannelId) -> Result<Option<PublishedUsage>, LedgerError> {
        let statement = sql("SELECT data FROM events WHERE channel = $1 AND name = 'usage_settled'
             ORDER BY block DESC, position DESC LIMIT 1")
        .put(channel);
        let row = self.reader("read published usage").await?.row(statement).await?;
        Ok(match row.as_ref().map(read_event_kind).transpose()? {
            Some(ChainEventKind::UsageSettled {
                sequence,
                input,
                output,
                amount,
                ..
            }) => Some(PublishedUsage {
                sequence,
                input,
                output,
                amount,
            }),
            _ => None,
        })
    }
}

/// The operators `payee` ever named, and whether each still is one.
pub(crate) async fn find_operators(session: &mut Session, payee: Address) -> Result<Vec<(Address, bool)>, LedgerError> {
    let statement = sql(
        "SELECT data FROM events WHERE account = $1 AND name IN ('operator_added', 'operator_retired')
         ORDER BY block, position",
    )
    .put(payee);
    let rows = session.rows(statement).await?;
    let mut operators: Vec<(Address, bool)> = Vec::new();
    for row in &rows {
        let (operator, active) = match read_event_kind(row)? {
            ChainEventKind::OperatorAdded { operator, .. } => (operator, true),
            ChainEventKind::OperatorRetired { operator, .. } => (operator, false),
            _ => continue,
        };
        match operators.iter_mut().find(|(known, _)| *known == operator) {
            Some(known) => known.1 = active,
            None => operators.push((operator, active)),
        }
    }
    Ok(operators)
}

/// Reads the column `data` of an event.
pub(crate) fn read_event_kind(row: &Row) -> Result<ChainEventKind, LedgerError> {
    let data: String = row.read("data")?;
    from_json("data", &data)
}
