//! What is sold, and the LLM server that makes it.

use super::diagnosis::Checks;
use crate::{
    command::node,
    config::Config,
    failure::{Failure, Kind},
    session::Session,
};

/// Looks at both.
pub async fn check(session: &Session, config: &Config, checks: &mut Checks) {
    let Some(settings) = &config.executor else { return };
    let payee = settings.payee.unwrap_or_default();
    match session
        .address()
        .and_then(|operator| node::offer(session, config, settings, payee, operator))
    {
        Ok(_) => {}
        Err(failure) => checks.bad("offer", &failure),
    }
    let backend = match node::backend(settings) {
        Ok(backend) => backend,
        Err(failure) => return checks.bad("LLM server", &failure),
    };
    match backend.models().await {
        Ok(available) => {
            let missing: Vec<_> = settings
                .models
                .iter()
                .filter(|model| !available.contains(&model.id))
                .map(|model| model.id.as_str())
                .collect();
            if missing.is_empty() {
                checks.good(
                    "LLM server",
                    format!("{}, with all models offered", settings.backend_url),
                );
            } else {
                let failure = Failure::new(
                    Kind::Configuration,
                    format!("{} has no {}", settings.backend_url, missing.join(", ")),
                );
                checks.bad("LLM server", &failure.hint(format!("it has {}", available.join(", "))));
            }
        }
        Err(error) => checks.bad(
            "LLM server",
            &Failure::of(Kind::Failed, error)
                .while_(format!("{} doesn't answer", settings.backend_url))
                .hint(
                    "is it running? `ollama serve` starts Ollama; config.toml's executor.backend_url says where it is",
                ),
        ),
    }
}
