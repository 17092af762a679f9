use std::io::{self, Write};

use alloy::primitives::Address;
use clap::Args;
use lloom_ledger::Quality;
use lloom_receipts::{ModelHash, TokenAmount};
use serde::Serialize;

use crate::{
    failure::{Kind, OrFail as _, Result},
    output::{Align, Report, Table, shortened},
    peers::{self, ExecutorName},
    progress::Progress,
    session::Session,
};

/// Show what executors offer, and at which prices
#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// Only this model
    #[arg(long, value_name = "ID")]
    pub model: Option<String>,
    /// Only this executor: its multiaddress, peer id, or operator's address
    #[arg(long, value_name = "EXECUTOR")]
    pub executor: Option<ExecutorName>,
}

#[derive(Serialize)]
struct Models {
    models: Vec<Line>,
    #[serde(skip)]
    symbol: String,
    /// What to say where there are none.
    #[serde(skip)]
    nobody: String,
}

#[derive(Serialize)]
struct Line {
    model: String,
    executor: Address,
    peer_id: String,
    payee: Address,
    /// Base units for a million tokens.
    input_price: TokenAmount,
    input_price_display: String,
    output_price: TokenAmount,
    output_price_display: String,
    max_input_tokens: u32,
    max_output_tokens: u32,
    min_deposit: TokenAmount,
    observations: u32,
    success_rate: Option<f64>,
    time_to_first_token_ms: Option<u64>,
    tokens_per_second: Option<f64>,
}

impl Report for Models {
    fn write_human(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.models.is_empty() {
            return writeln!(out, "{}", self.nobody);
        }
        let mut table = Table::new(&[
            ("MODEL", Align::Left),
            ("EXECUTOR", Align::Left),
            ("INPUT", Align::Right),
            ("OUTPUT", Align::Right),
            ("CONTEXT", Align::Right),
            ("ANSWER", Align::Right),
            ("SUCCESS", Align::Right),
            ("FIRST TOKEN", Align::Right),
            ("TOKENS/S", Align::Right),
        ]);
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        for line in &self.models {
            table.row([
                line.model.clone(),
                shortened(&line.executor.to_string()),
                line.input_price_display.clone(),
                line.output_price_display.clone(),
                line.max_input_tokens.to_string(),
                line.max_output_tokens.to_string(),
                or_dash(line.success_rate.map(|rate| format!("{:.0} %", rate * 100.0))),
                or_dash(
                    line.time_to_first_token_ms
                        .map(|milliseconds| format!("{milliseconds} ms")),
                ),
                or_dash(line.tokens_per_second.map(|speed| format!("{speed:.0}"))),
            ]);
        }
        table.write(out)?;
        writeln!(
            out,
            "\nPrices in {} for a million tokens; success and speed as measured from here.",
            self.symbol
        )
    }
}

/// Shows them.
///
/// # Errors
/// When nobody can be found.
pub async fn run(session: &Session, arguments: ModelsArgs) -> Result {
    session.config()?;
    let key = session.unlock()?;
    let known: Vec<_> = arguments.executor.iter().cloned().collect();
    let network = peers::join(session, &key, &known).await?;
    let wanted = arguments.model.as_deref().map(ModelHash::of_id);
    let progress = Progress::spinner(session.output, "Looking for executors");
    let found = match &arguments.executor {
        Some(name) => peers::find(session, &network, name).await.map(|one| vec![one]),
        None => peers::executors(session, &network, wanted).await,
    };
    network.shutdown().await;
    drop(progress);
    let found = found?;
    let ledger = session.read_store().await?;
    let token = &session.network.token;
    let mut models = Vec::new();
    for (peer, offer) in &found {
        let quality = match &ledger {
            Some(ledger) => ledger
                .quality(offer.operator)
                .await
                .or_fail(Kind::Store, || "cannot read what was observed".to_owned())?,
            None => Quality::default(),
        };
        for model in &offer.models {
            if wanted.is_some_and(|wanted| wanted != model.hash) {
                continue;
            }
            models.push(Line {
                model: model.id.clone(),
                executor: offer.operator,
                peer_id: peer.to_string(),
                payee: offer.payee,
                input_price: model.prices.input.amount(),
                input_price_display: token.show_price(model.prices.input),
                output_price: model.prices.output.amount(),
                output_price_display: token.show_price(model.prices.output),
                max_input_tokens: model.max_input.get(),
                max_output_tokens: model.max_output.get(),
                min_deposit: offer.min_deposit,
                observations: quality.observations,
                success_rate: (quality.observations > 0).then_some(quality.success_rate),
                time_to_first_token_ms: quality
                    .time_to_first_token
                    .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
                tokens_per_second: quality.tokens_per_second,
            });
        }
    }
    if let Some(ledger) = ledger {
        ledger.close().await;
    }
    models.sort_by(|one, other| {
        (&one.model, one.output_price, one.input_price, one.executor).cmp(&(
            &other.model,
            other.output_price,
            other.input_price,
            other.executor,
        ))
    });
    session.output.print(&Models {
        models,
        symbol: token.symbol.clone(),
        nobody: nobody(session, &arguments),
    })
}

fn nobody(session: &Session, arguments: &ModelsArgs) -> String {
    match (&arguments.executor, &arguments.model) {
        (Some(executor), Some(model)) => {
            format!("The executor {executor} doesn't offer '{model}'.\nHint: without --model this shows what it offers")
        }
        (Some(executor), None) => format!("The executor {executor} offers nothing."),
        (None, Some(model)) => format!(
            "No executor found that offers '{model}'.\nHint: without --model this shows all there is; {}",
            peers::nobody_hint(&session.network)
        ),
        (None, None) => format!("No executors found.\nHint: {}", peers::nobody_hint(&session.network)),
    }
}
