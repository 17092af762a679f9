//! Telling the processes that share a store of channels that close.
//!
//! Whoever applies blocks says so with `NOTIFY`, in the same transaction; the others listen, and their streams on the
//! channel stop. That is for speed: what a stream delivers it reserves first, and reserving reads the store. A
//! notification that is lost with a connection is made up for by asking, once the connection is there again.

use std::time::Duration;

use lloom_receipts::ChannelId;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions},
};
use tokio::{sync::broadcast, task::AbortHandle};

use crate::{
    LedgerError,
    column::{Column as _, Put as _, sql},
    lock::WriterId,
    packed::{Packed, packed_rows},
    session::Session,
};

/// What PostgreSQL calls the channel of these notifications: another one for each schema, which may hold a store each.
macro_rules! topic {
    () => {
        "'lloom_' || md5(current_schema())"
    };
}
/// The pause between two tries to listen again.
const PAUSE: Duration = Duration::from_secs(1);

/// Tells the other processes, once the transaction is committed. Nobody is told where one process has the store.
pub(crate) async fn tell(session: &mut Session, channels: impl Iterator<Item = ChannelId>) -> Result<(), LedgerError> {
    let Some(writer) = session.writer_id() else {
        return Ok(());
    };
    let mut told = Packed::default();
    for channel in channels {
        told.push(channel);
    }
    if told.is_empty() {
        return Ok(());
    }
    let statement = sql(concat!(
        packed_rows!("$1", "32"),
        "SELECT pg_notify(",
        topic!(),
        ", $2 || ' ' || encode(substr($1, at, 32), 'hex')) FROM packed"
    ));
    session
        .rows(statement.put(told.into_bytes()).put(writer.to_hex()))
        .await?;
    Ok(())
}

/// Hears what others tell, until the task is aborted.
pub(crate) async fn listen(
    options: PgConnectOptions,
    own: WriterId,
    closing: broadcast::Sender<ChannelId>,
) -> Result<AbortHandle, sqlx::Error> {
    // One connection to listen on, one to ask what was missed.
    let pool = PgPoolOptions::new()
        .max_connections(2)
        .max_lifetime(None)
        .idle_timeout(Some(Duration::from_secs(60)))
        .connect_with(options)
        .await?;
    let mut listener = attend(&pool).await?;
    let own = own.to_hex();
    let task = tokio::spawn(async move {
        loop {
            match listener.try_recv().await {
                Ok(Some(notification)) => {
                    if let Some(channel) = channel_of(&notification, &own) {
                        // Nobody has to be listening.
                        let _ = closing.send(channel);
                    }
                }
                Ok(None) => tell_missed(&pool, &closing).await,
                Err(error) => {
                    tracing::debug!(%error, "the store can't be listened to; trying again");
                    tokio::time::sleep(PAUSE).await;
                    listener = match attend(&pool).await {
                        Ok(listener) => listener,
                        Err(_) => continue,
                    };
                    tell_missed(&pool, &closing).await;
                }
            }
        }
    });
    Ok(task.abort_handle())
}

async fn attend(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
    let topic: String = sqlx::query_scalar(concat!("SELECT ", topic!())).fetch_one(pool).await?;
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(&topic).await?;
    Ok(listener)
}

/// The channel that somebody else tells of.
fn channel_of(notification: &PgNotification, own: &str) -> Option<ChannelId> {
    let (writer, channel) = notification.payload().split_once(' ')?;
    if writer == own {
        return None;
    }
    channel.parse().ok().map(ChannelId::new)
}

/// Tells of every channel that is closing while something is served on it: some of that may not have been heard.
async fn tell_missed(pool: &PgPool, closing: &broadcast::Sender<ChannelId>) {
    let asked = sqlx::query_scalar::<_, Vec<u8>>(
        "SELECT c.id FROM channels c JOIN accounts a ON a.channel = c.id
         WHERE a.side = 'serving' AND a.spent > a.billed
           AND (c.latest_finalized OR c.latest_close_requested_at IS NOT NULL)",
    );
    match asked.fetch_all(pool).await {
        Ok(channels) => {
            for channel in channels.into_iter().filter_map(ChannelId::load) {
                let _ = closing.send(channel);
            }
        }
        Err(error) => tracing::warn!(%error, "what closed while the store was out of reach can't be told"),
    }
}
