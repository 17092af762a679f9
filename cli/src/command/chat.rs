use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use futures::{StreamExt as _, stream};
use lloom_node::wire::Ending;
use lloom_receipts::TokenCount;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    answer::printable,
    buying::{Bought, Buyer, Job},
    command::devnet::interrupted,
    failure::{Failure, Kind, OrFail as _, Result},
    money::Token,
    output::finish,
    peers::ExecutorName,
    progress::Progress,
    session::Session,
};

/// Buy an answer, or a batch of them
///
/// Finds executors, takes the best by price and measured quality, opens a channel from your balance where there is
/// none (and says so), and streams the answer to standard output.
///
/// With --input, each line of the file is a request: {"id": …, "prompt": …} or {"id": …, "messages": […]}, and where
/// wanted "model", "executor" and "max_tokens". With --json, each answer is one line: id, executor, model, channel,
/// request_hash, input_tokens, output_tokens, amount, sequence, text, time_to_first_token_ms and more.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  lloomctl chat \"Why is the sky blue?\"
  git diff | lloomctl chat --model llama3.2:3b --system \"Review this patch.\" -
  lloomctl chat --input prompts.jsonl --concurrency 8 --json")]
pub struct ChatArgs {
    /// What to ask; - reads it from standard input
    #[arg(required_unless_present = "input", conflicts_with = "input")]
    pub prompt: Option<String>,
    /// Which model [default: the cheapest good one of those on offer]
    #[arg(long, value_name = "ID")]
    pub model: Option<String>,
    /// Which executor: its multiaddress, peer id, or operator's address
    #[arg(long, value_name = "EXECUTOR")]
    pub executor: Option<ExecutorName>,
    /// Instructions that come before the prompt
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// The longest answer to pay for [default: config.toml's client.max_output_tokens]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_output_tokens: Option<u32>,
    /// Read requests from a file, one JSON object a line; - is standard input
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// How many requests of a batch run at a time
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,
}

/// A line of a batch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchLine {
    #[serde(default)]
    id: Option<Value>,
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    messages: Option<Vec<Value>>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    executor: Option<String>,
    #[serde(default)]
    max_tokens: Option<u32>,
}

/// Buys.
///
/// # Errors
/// When an answer can't be had, or breaks off.
pub async fn run(session: &Session, arguments: ChatArgs) -> Result {
    let config = session.config()?;
    let defaults = Defaults {
        model: arguments.model.clone(),
        executor: arguments.executor.clone(),
        system: arguments.system.clone(),
        max_output: arguments.max_output_tokens.unwrap_or(config.client.max_output_tokens),
    };
    let (jobs, batch) = match (&arguments.input, &arguments.prompt) {
        (Some(path), _) => (read_batch(path, &defaults)?, true),
        (None, prompt) => {
            let prompt = match prompt.as_deref() {
                Some("-") | None => read_stdin()?,
                Some(prompt) => prompt.to_owned(),
            };
            (
                vec![defaults.job("chat".to_owned(), None, Some(prompt), None, None, None)?],
                false,
            )
        }
    };
    let mut known: Vec<ExecutorName> = jobs.iter().filter_map(|job| job.executor.clone()).collect();
    known.sort_by_key(ToString::to_string);
    known.dedup();

    let stop = interrupted();
    tokio::pin!(stop);
    let stopped = || Failure::new(Kind::Interrupted, "interrupted").hint("what came is paid, the rest isn't");
    let progress = Progress::spinner(session.output, "Joining the network");
    let buyer = tokio::select! {
        buyer = Box::pin(Buyer::new(session, &known)) => buyer?,
        () = &mut stop => return Err(stopped()),
    };
    drop(progress);
    let result = tokio::select! {
        result = Box::pin(buy_all(session, &buyer, &jobs, batch, usize::from(arguments.concurrency))) => result,
        () = &mut stop => Err(stopped()),
    };
    buyer.close().await;
    result
}

struct Defaults {
    model: Option<String>,
    executor: Option<ExecutorName>,
    system: Option<String>,
    max_output: u32,
}

impl Defaults {
    fn job(
        &self,
        id: String,
        messages: Option<Vec<Value>>,
        prompt: Option<String>,
        model: Option<String>,
        executor: Option<String>,
        max_tokens: Option<u32>,
    ) -> Result<Job> {
        let mut all = Vec::new();
        if let Some(system) = &self.system {
            all.push(json!({ "role": "system", "content": system }));
        }
        match (messages, prompt) {
            (Some(messages), None) => all.extend(messages),
            (None, Some(prompt)) if prompt.trim().is_empty() => {
                return Err(Failure::new(Kind::Usage, "the prompt is empty")
                    .hint("say what to ask; - reads it from standard input"));
            }
            (None, Some(prompt)) => all.push(json!({ "role": "user", "content": prompt })),
            _ => {
                return Err(Failure::new(
                    Kind::Usage,
                    "a request has either \"prompt\" or \"messages\"",
                ));
            }
        }
        let executor = match executor {
            Some(text) => Some(text.parse().map_err(|error: String| {
                Failure::new(Kind::Usage, error).while_(format!("'{text}' names no executor"))
            })?),
            None => self.executor.clone(),
        };
        Ok(Job {
            id,
            messages: Value::Array(all),
            model: model.or_else(|| self.model.clone()),
            executor,
            max_output: TokenCount::new(max_tokens.unwrap_or(self.max_output)),
        })
    }
}

fn read_stdin() -> Result<String> {
    let mut text = String::new();
    io::stdin()
        .lock()
        .read_to_string(&mut text)
        .or_fail(Kind::Failed, || "cannot read the prompt from standard input".to_owned())?;
    Ok(text)
}

fn read_batch(path: &Path, defaults: &Defaults) -> Result<Vec<Job>> {
    let operation = || format!("cannot read {}", path.display());
    let reader: Box<dyn io::BufRead> = if path == Path::new("-") {
        Box::new(BufReader::new(io::stdin()))
    } else {
        Box::new(BufReader::new(File::open(path).or_fail(Kind::Failed, operation)?))
    };
    let mut jobs = Vec::new();
    for (index, line) in reader.lines().enumerate() {
        let line = line.or_fail(Kind::Failed, operation)?;
        if line.trim().is_empty() {
            continue;
        }
        let number = index + 1;
        let place = || format!("line {number} of {} is no request", path.display());
        let parsed: BatchLine = serde_json::from_str(&line).or_fail(Kind::Usage, place)?;
        let id = match parsed.id {
            None | Some(Value::Null) => number.to_string(),
            Some(Value::String(id)) => id,
            Some(other) => other.to_string(),
        };
        let job = defaults.job(
            id,
            parsed.messages,
            parsed.prompt,
            parsed.model,
            parsed.executor,
            parsed.max_tokens,
        );
        jobs.push(job.map_err(|failure| failure.while_(place()))?);
    }
    if jobs.is_empty() {
        return Err(Failure::new(
            Kind::Usage,
            format!("{} holds no requests", path.display()),
        ));
    }
    Ok(jobs)
}

async fn buy_all(session: &Session, buyer: &Buyer<'_>, jobs: &[Job], batch: bool, concurrency: usize) -> Result {
    if !batch {
        let mut result = Ok(());
        for job in jobs {
            result = buy_one(session, buyer, job).await;
        }
        return result;
    }
    let progress = Progress::counter(session.output, jobs.len() as u64, "answers");
    let mut answers = stream::iter(jobs.iter())
        .map(|job| async move { (job, Box::pin(buyer.buy(job, |_| {})).await) })
        .buffer_unordered(concurrency);
    let mut failures = 0;
    let mut last = None;
    while let Some((job, answer)) = answers.next().await {
        progress.advance();
        let answer = answer.and_then(|bought| match broke_off(&bought) {
            Some(failure) => {
                progress.suspend(|| print(session, job, &bought))?;
                Err(failure)
            }
            None => progress.suspend(|| print(session, job, &bought)),
        });
        if let Err(failure) = answer {
            failures += 1;
            progress.suspend(|| print_failure(session, job, &failure))?;
            last = Some(failure);
        }
    }
    drop(progress);
    match last {
        None => Ok(()),
        Some(last) => Err(Failure::new(last.kind(), last.one_line())
            .while_(format!("{failures} of {} requests failed; the last one", jobs.len()))),
    }
}

async fn buy_one(session: &Session, buyer: &Buyer<'_>, job: &Job) -> Result {
    let mut waiting = Some(Progress::spinner(session.output, "Waiting for the answer"));
    let mut written = Ok(());
    let json = session.output.is_json();
    let answer = buyer
        .buy(job, |text| {
            waiting = None;
            if !json && written.is_ok() {
                let mut out = io::stdout().lock();
                written = out.write_all(printable(text).as_bytes()).and_then(|()| out.flush());
            }
        })
        .await;
    drop(waiting);
    let bought = answer?;
    if json {
        print(session, job, &bought)?;
    } else {
        finish(written)?;
        finish(writeln!(io::stdout()))?;
        session
            .output
            .note(format!("\n{}", summary(&session.network.token, &bought)));
    }
    broke_off(&bought).map_or(Ok(()), Err)
}

/// What a person reads below an answer.
fn summary(token: &Token, bought: &Bought) -> String {
    let usage = bought.completion.usage();
    let mut text = format!(
        "{} from {}: {} input and {} output tokens for {}, receipt {} of channel {}",
        bought.model,
        bought.operator,
        usage.input,
        usage.output,
        token.show(bought.completion.amount()),
        bought.completion.receipt.receipt().sequence,
        crate::output::shortened(&bought.channel.to_string()),
    );
    if !bought.completion.recorded {
        text.push_str(" (which the executor has not confirmed yet)");
    }
    text
}

/// An answer that isn't whole. What came is paid, and nothing else.
fn broke_off(bought: &Bought) -> Option<Failure> {
    match &bought.completion.ending {
        Ending::Complete | Ending::LimitReached => None,
        ending => Some(
            Failure::new(Kind::Network, ending.to_string())
                .while_("the answer broke off")
                .hint("what came is paid, the rest isn't"),
        ),
    }
}

fn print(session: &Session, job: &Job, bought: &Bought) -> Result {
    let token = &session.network.token;
    let mut out = io::stdout().lock();
    let written = if session.output.is_json() {
        writeln!(out, "{}", to_json(token, job, bought))
    } else {
        writeln!(
            out,
            "== {}\n{}\n-- {}\n",
            printable(&job.id),
            printable(&bought.text),
            summary(token, bought)
        )
    };
    finish(written.and_then(|()| out.flush()))
}

fn print_failure(session: &Session, job: &Job, failure: &Failure) -> Result {
    if !session.output.is_json() {
        session
            .output
            .note(format!("== {}\nError: {}", printable(&job.id), failure.one_line()));
        return Ok(());
    }
    let line = json!({ "id": job.id, "error": {
        "kind": failure.kind().name(),
        "exit_code": failure.kind().exit_code(),
        "message": failure.one_line(),
        "hints": failure.hints(),
    }});
    let mut out = io::stdout().lock();
    finish(writeln!(out, "{line}").and_then(|()| out.flush()))
}

fn to_json(token: &Token, job: &Job, bought: &Bought) -> Value {
    let receipt = bought.completion.receipt.receipt();
    let usage = bought.completion.usage();
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    json!({
        "id": job.id,
        "executor": bought.operator,
        "model": bought.model,
        "channel": bought.channel,
        "request_hash": bought.request,
        "receipt_hash": receipt.hash(),
        "sequence": receipt.sequence,
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "amount": bought.completion.amount(),
        "amount_display": token.show(bought.completion.amount()),
        "ending": ending_name(&bought.completion.ending),
        "recorded": bought.completion.recorded,
        "text": bought.text,
        "time_to_first_token_ms": bought.completion.time_to_first_token.map(milliseconds),
        "total_ms": milliseconds(bought.took),
    })
}

const fn ending_name(ending: &Ending) -> &'static str {
    match ending {
        Ending::Complete => "complete",
        Ending::LimitReached => "limit_reached",
        Ending::BackendFailed { .. } => "backend_failed",
        Ending::Cancelled => "cancelled",
        Ending::Unpaid => "unpaid",
        Ending::ChannelClosing => "channel_closing",
        Ending::ShuttingDown => "shutting_down",
        Ending::ExecutorFailed => "executor_failed",
    }
}
