use std::{
    io::{self, Write},
    time::SystemTime,
};

use lloom_receipts::UnixSeconds;
use serde::Serialize;

use super::{ChannelArg, list::ChannelLine, request_close::wait};
use crate::{
    failure::{Kind, OrFail as _, Result},
    onchain::parse_channel,
    output::{Report, write_pairs},
    session::{Session, unknown_channel},
};

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    line: ChannelLine,
    receipts: u64,
    input_tokens: u64,
    output_tokens: u64,
    published_sequence: Option<u64>,
    published_input_tokens: Option<u64>,
    published_output_tokens: Option<u64>,
    withdraw_from: Option<UnixSeconds>,
    #[serde(skip)]
    now: UnixSeconds,
}

impl Report for Shown {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut pairs = self.line.pairs();
        pairs.push((
            "Receipts",
            format!(
                "{}, over {} input and {} output tokens",
                self.receipts, self.input_tokens, self.output_tokens
            ),
        ));
        if let Some(sequence) = self.published_sequence {
            pairs.push(("Published on chain", format!("up to receipt {sequence}")));
        }
        if let Some(until) = self.withdraw_from {
            pairs.push(("Payer may withdraw", wait(until, self.now).to_lowercase()));
        }
        write_pairs(out, &pairs)
    }
}

/// Shows one.
///
/// # Errors
/// When it is unknown here, or the chain doesn't answer.
pub async fn run(session: &Session, arguments: ChannelArg) -> Result {
    let id = parse_channel(&arguments.channel)?;
    let unknown = || unknown_channel(id);
    let ledger = session.read_store().await?.ok_or_else(unknown)?;
    let failed = || format!("cannot read the channel {id}");
    let record = ledger
        .channel(id)
        .await
        .or_fail(Kind::Store, failed)?
        .ok_or_else(unknown)?;
    let head = ledger.head(id).await.or_fail(Kind::Store, failed)?;
    let published = ledger.published_usage(id).await.or_fail(Kind::Store, failed)?;
    let on_chain = session.on_chain().await?;
    let state = on_chain.channel(id).await?;
    let line = ChannelLine::read(session, &ledger, &record, state.as_ref()).await?;
    let closing = state
        .filter(|state| !state.finalized)
        .and_then(|state| state.close_requested_at);
    let withdraw_from = match closing {
        Some(requested_at) => Some(requested_at.plus(on_chain.grace_period().await?)),
        None => None,
    };
    ledger.close().await;
    session.output.print(&Shown {
        line,
        receipts: head.sequence,
        input_tokens: head.input.get(),
        output_tokens: head.output.get(),
        published_sequence: published.map(|usage| usage.sequence),
        published_input_tokens: published.map(|usage| usage.input.get()),
        published_output_tokens: published.map(|usage| usage.output.get()),
        withdraw_from,
        now: SystemTime::now().into(),
    })
}
