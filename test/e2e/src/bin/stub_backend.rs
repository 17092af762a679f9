//! A stand-in for an LLM server: speaks `/v1/models` and `/v1/chat/completions` (SSE, usage) without a model.

use std::{io::Write as _, time::Duration};

use clap::Parser;
use eyre::Result;
use lloom_e2e::{Behavior, StubBackend};
use serde_json::json;

/// Serves an OpenAI-compatible API whose answers are made of a few dozen words.
#[derive(Parser)]
struct Arguments {
    /// The port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// A model to serve; may be given several times.
    #[arg(long = "model", default_value = "stub-1")]
    models: Vec<String>,
    /// Never tells a stream's usage, as llama-cpp-python.
    #[arg(long)]
    no_usage: bool,
    /// Milliseconds between two tokens.
    #[arg(long, default_value_t = 0)]
    token_delay_ms: u64,
    /// The length of every answer; without it the length varies with the prompt.
    #[arg(long)]
    answer_tokens: Option<u32>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let models: Vec<&str> = arguments.models.iter().map(String::as_str).collect();
    let behavior = Behavior {
        usage: !arguments.no_usage,
        answer_tokens: arguments.answer_tokens,
        token_delay: Duration::from_millis(arguments.token_delay_ms),
        ..Behavior::default()
    };
    let backend = StubBackend::start_on(arguments.port, &models, behavior).await?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", json!({ "base_url": backend.base_url() }))?;
    stdout.flush()?;
    tokio::signal::ctrl_c().await?;
    Ok(())
}
