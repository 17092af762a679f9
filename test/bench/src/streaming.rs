mod direct;
mod paid;

use std::time::{Duration, Instant};

use eyre::{Result, WrapErr, bail, ensure};
use futures::future::try_join_all;
use lloom_e2e::{Process, beside_this_program, interruption};
use serde_json::{Map, Value, json};

use self::{direct::Direct, paid::Paid};
use crate::figure::{Figure, RUNS, Target, median};

/// The backend's model.
const MODEL: &str = "bench";
/// Tokens of every answer.
const ANSWER: u32 = 256;
/// The backend's time between two tokens of a stream: 100 tokens/s, what a well-fed GPU gives each of its streams.
const PACE: Duration = Duration::from_millis(10);
/// Streams at a time.
const STREAMS: [usize; 2] = [1, 50];

/// How one answer came.
#[derive(Clone, Copy, Debug)]
struct Streamed {
    first_token: Duration,
    tokens: u32,
    /// How often the executor refused it before.
    refusals: u32,
}

/// What a run of several streams at once showed.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The median of its streams.
    first_token: f64,
    tokens_per_second: f64,
    refusals: u32,
}

/// Added time to the first token and lost throughput of paid streaming against the same backend called directly.
pub fn measure() -> Result<Vec<Figure>> {
    let runtime = tokio::runtime::Runtime::new().wrap_err("starting a runtime")?;
    let measuring = async {
        let mut figures = Box::pin(compare(Some(PACE))).await?;
        figures.extend(Box::pin(compare(None)).await?);
        Ok(figures)
    };
    runtime.block_on(async {
        tokio::select! {
            figures = Box::pin(measuring) => figures,
            interrupted = interruption() => interrupted.and_then(|()| bail!("interrupted")),
        }
    })
}

async fn compare(pace: Option<Duration>) -> Result<Vec<Figure>> {
    let (backend, base_url) = backend(pace).await?;
    let direct = Direct::new(&base_url);
    let paid = Paid::start(&base_url, STREAMS.into_iter().max().unwrap_or(1)).await?;
    let mut figures = Vec::new();
    for streams in STREAMS {
        // The first answers open connections and channels, on both sides.
        run(streams, || direct.stream()).await?;
        let first = run(streams, || paid.stream()).await?;
        let mut measured = Measured::default();
        measured.refusals.push(f64::from(first.refusals));
        for _ in 0..RUNS {
            // In turn, so that both meet the same machine.
            let without = run(streams, || direct.stream()).await?;
            let with = run(streams, || paid.stream()).await?;
            measured.added.push((with.first_token - without.first_token) * 1_000.0);
            measured
                .lost
                .push((1.0 - with.tokens_per_second / without.tokens_per_second) * 100.0);
            measured.rates.push(with.tokens_per_second);
            measured.refusals.push(f64::from(with.refusals));
        }
        figures.extend(figures_of(pace, streams, measured));
    }
    paid.stop().await;
    drop(backend);
    Ok(figures)
}

/// A value a run.
#[derive(Default)]
struct Measured {
    added: Vec<f64>,
    lost: Vec<f64>,
    rates: Vec<f64>,
    refusals: Vec<f64>,
}

fn figures_of(pace: Option<Duration>, streams: usize, measured: Measured) -> Vec<Figure> {
    let plural = if streams == 1 { "stream" } else { "streams" };
    let speed = match pace {
        Some(pace) => format!("a token every {} ms", pace.as_millis()),
        None => "tokens without a pause".to_owned(),
    };
    let method = format!(
        "Backend: a stub process that writes {speed}, {ANSWER} a stream. Directly: HTTP to it. Paid: executor and client \
         node in one process over real libp2p (TCP, Noise, Yamux, loopback), each with its store on disk \
         (synchronous=FULL), one channel, an increment of {} tokens, until the receipt is recorded. Client, executor and \
         backend share this machine's {} cores. Median of {RUNS} runs in turn with direct ones.",
        paid::INCREMENT,
        std::thread::available_parallelism().map_or(1, usize::from),
    );
    let figure = |what: &str, values, unit| {
        Figure::new(
            format!("{what}, {streams} {plural}, {speed}"),
            median(values),
            unit,
            method.clone(),
        )
    };
    let first_token = figure("added to the first token", measured.added, "ms");
    let throughput = figure("lost throughput", measured.lost, "%");
    let rate = figure("paid streaming", measured.rates, "tokens/s");
    // The worst run, not the median: a refusal is a fault however rare.
    let worst = measured.refusals.into_iter().fold(0.0, f64::max);
    let refusals = figure("asked again, held uncovered, worst run", vec![worst], "requests");
    let refusals = refusals.with_target(Target::AtMost(0.0));
    if pace.is_some() {
        return vec![
            first_token.with_target(Target::AtMost(5.0)),
            throughput.with_target(Target::AtMost(10.0)),
            rate,
            refusals,
        ];
    }
    // No model is that fast: these show where the path itself ends, and have no target.
    vec![first_token, rate, refusals]
}

async fn run<F>(streams: usize, stream: impl Fn() -> F) -> Result<Run>
where
    F: Future<Output = Result<Streamed>>,
{
    let start = Instant::now();
    let answers = try_join_all((0..streams).map(|_| stream())).await?;
    let time = start.elapsed();
    let tokens: u32 = answers.iter().map(|answer| answer.tokens).sum();
    ensure!(
        tokens as usize == streams * ANSWER as usize,
        "{tokens} tokens came of {streams} streams"
    );
    Ok(Run {
        first_token: median(answers.iter().map(|answer| answer.first_token.as_secs_f64()).collect()),
        tokens_per_second: f64::from(tokens) / time.as_secs_f64(),
        refusals: answers.iter().map(|answer| answer.refusals).sum(),
    })
}

async fn backend(pace: Option<Duration>) -> Result<(Process, String)> {
    let mut arguments = vec!["--model".to_owned(), MODEL.to_owned()];
    arguments.extend(["--answer-tokens".to_owned(), ANSWER.to_string()]);
    if let Some(pace) = pace {
        arguments.extend(["--token-delay-ms".to_owned(), pace.as_millis().to_string()]);
    }
    let process = Process::start("stub-backend", beside_this_program("stub-backend")?, &arguments, &[])?;
    let url = process
        .line("base URL", |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            Some(line["base_url"].as_str()?.to_owned())
        })
        .await?;
    Ok((process, url))
}

/// What is asked, both ways.
fn body() -> Map<String, Value> {
    let body = json!({
        "model": MODEL,
        "messages": [{ "role": "user", "content": "Tell me about the lighthouse, and take your time." }],
        "max_tokens": ANSWER,
        "stream": true,
        "stream_options": { "include_usage": true },
    });
    match body {
        Value::Object(body) => body,
        _ => unreachable!("it is an object"),
    }
}
