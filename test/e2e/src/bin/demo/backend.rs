use std::env;

use eyre::{Result, WrapErr, eyre};
use lloom_e2e::{Process, Prompt, answer, beside_this_program, prompt_tokens};
use serde_json::Value;

/// The model of the stub.
const STUB_MODEL: &str = "stub-1";

/// The LLM servers behind the two executors.
#[derive(Debug)]
pub struct Backend {
    /// What clients ask for.
    pub model: String,
    servers: Servers,
}

#[derive(Debug)]
enum Servers {
    Own {
        url: String,
    },
    Stubs {
        urls: [String; 2],
        _processes: Vec<Process>,
    },
}

impl Backend {
    /// The user's own server where `LLOOM_BACKEND` names one, two stubs otherwise.
    ///
    /// # Errors
    /// When the server doesn't answer, or a stub doesn't start.
    pub async fn start() -> Result<Self> {
        let Ok(url) = env::var("LLOOM_BACKEND") else {
            let (first, second) = tokio::try_join!(stub(&[]), stub(&["--no-usage"]))?;
            return Ok(Self {
                model: STUB_MODEL.to_owned(),
                servers: Servers::Stubs {
                    urls: [first.1, second.1],
                    _processes: vec![first.0, second.0],
                },
            });
        };
        let model = match env::var("LLOOM_MODEL") {
            Ok(model) => model,
            Err(_) => first_model(&url).await?,
        };
        Ok(Self {
            model,
            servers: Servers::Own { url },
        })
    }

    /// The `executor`th executor's server.
    pub fn url(&self, executor: usize) -> &str {
        match &self.servers {
            Servers::Own { url } => url,
            Servers::Stubs { urls, .. } => &urls[executor % urls.len()],
        }
    }

    /// What it is, in a line.
    pub fn description(&self) -> String {
        match &self.servers {
            Servers::Own { url } => format!("your LLM server at {url}, model {}", self.model),
            Servers::Stubs {
                urls: [first, second], ..
            } => format!(
                "no LLOOM_BACKEND, so two stub servers stand in for an LLM: {first} tells its usage, {second} doesn't"
            ),
        }
    }

    /// The true token counts of a prompt and its answer, where they are known.
    pub fn true_usage(&self, prompt: &Prompt) -> Option<(u64, u64)> {
        match self.servers {
            Servers::Own { .. } => None,
            Servers::Stubs { .. } => {
                let output = answer(&prompt.prompt, prompt.max_tokens, None).len();
                Some((u64::from(prompt_tokens(&prompt.prompt)), output as u64))
            }
        }
    }
}

async fn stub(arguments: &[&str]) -> Result<(Process, String)> {
    let mut all: Vec<String> = ["--model", STUB_MODEL, "--token-delay-ms", "5"]
        .map(str::to_owned)
        .to_vec();
    all.extend(arguments.iter().map(|&argument| argument.to_owned()));
    let process = Process::start("stub-backend", beside_this_program("stub-backend")?, &all, &[])?;
    let url = process
        .line("base URL", |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            Some(line["base_url"].as_str()?.to_owned())
        })
        .await?;
    Ok((process, url))
}

async fn first_model(url: &str) -> Result<String> {
    let asked = async {
        let response = reqwest::get(format!("{url}/models")).await?.error_for_status()?;
        response.json::<Value>().await
    };
    let models = asked.await.wrap_err_with(|| format!("asking {url} for its models"))?;
    let model = models["data"][0]["id"].as_str();
    Ok(model
        .ok_or_else(|| eyre!("{url} has no model: name one with LLOOM_MODEL"))?
        .to_owned())
}
