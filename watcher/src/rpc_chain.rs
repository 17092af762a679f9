use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use alloy::{
    primitives::B256,
    rpc::json_rpc::{RpcRecv, RpcSend},
};

pub use self::metrics::RpcMetrics;
use self::{
    endpoint::{Answer, Endpoint},
    pool::{Pool, keep, nobody, refused},
};
use crate::chain::ChainError;

mod answers;
mod endpoint;
mod health;
mod metrics;
mod pool;
mod raw;
mod shown_blocks;

/// How often an endpoint that nobody asks is looked at, so that its head is known when it is needed.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// How often all endpoints are asked when none answers, or none with what was asked for, unless that took as long as one may take; and the pause before
/// the second time, as long again before each further one. A round of a watcher asks a dozen questions: if each bad answer
/// ended it, an endpoint that fails one time in ten would keep it from ever finishing.
const ROUNDS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// JSON-RPC's codes for a method that an endpoint doesn't have, and for parameters that it doesn't take.
const METHOD_NOT_FOUND: i64 = -32_601;
const INVALID_PARAMS: i64 = -32_602;

/// What to do about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing more: it is what was asked for.
    Enough,
    /// Another endpoint may know more. With one, its word stands.
    AskOthers,
    /// So may the same one in a moment: behind one address often stand several, of which one is behind.
    AskAgain,
}

impl Verdict {
    /// Errors have as many codes as there are endpoints, but for these two, which waiting doesn't cure.
    const fn of_error(code: i64) -> Self {
        match code {
            METHOD_NOT_FOUND | INVALID_PARAMS => Self::AskOthers,
            _ => Self::AskAgain,
        }
    }
}

/// Which chain to believe, and whom to ask about it.
#[derive(Clone, Debug)]
pub struct RpcConfig {
    /// JSON-RPC endpoints over HTTP, the preferred one first.
    pub endpoints: Vec<String>,
    /// The chain id every endpoint has to serve.
    pub chain_id: u64,
    /// The hash of block 0. Where it is not known, the first endpoint's answer counts as long as the process lives.
    pub genesis: Option<B256>,
    /// How long one answer may take.
    pub timeout: Duration,
}

impl RpcConfig {
    /// The default of [`RpcConfig::timeout`].
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
}

/// A chain behind JSON-RPC endpoints.
///
/// An endpoint is believed once it has shown the right chain id and genesis block, and shows them again after each
/// failure. They are asked in the order of the configuration, unless one does clearly worse: by its failures, by how long
/// it takes, and by how far its head is behind the best. One that failed rests, longer each time, and is tried again by
/// looking at its head while others do the work. A head that is stale, or of a shorter fork, is not believed as long as
/// another endpoint has shown a better one. What depends on a block is asked of it by its hash, or compared with it, of
/// the same endpoint. Transactions go to all that are well.
#[derive(Clone, Debug)]
pub struct RpcChain {
    pool: Arc<Pool>,
}

/// The endpoints given can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RpcConfigError {
    /// None at all.
    #[error("no RPC endpoint is configured")]
    NoEndpoint,
    /// Not an HTTP URL.
    #[error("'{given}' is not an http or https URL")]
    NotHttp {
        /// What was given.
        given: String,
    },
}

impl RpcChain {
    /// A chain behind `config`'s endpoints. Asks them nothing yet.
    ///
    /// # Errors
    /// [`RpcConfigError`] for a list that is empty or holds something else than HTTP URLs.
    pub fn new(config: &RpcConfig) -> Result<Self, RpcConfigError> {
        if config.endpoints.is_empty() {
            return Err(RpcConfigError::NoEndpoint);
        }
        let metrics = RpcMetrics::default();
        let endpoints = config
            .endpoints
            .iter()
            .map(|given| Endpoint::new(given, metrics.clone()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            pool: Arc::new(Pool {
                endpoints,
                chain_id: config.chain_id,
                genesis: config.genesis.map_or_else(OnceLock::new, OnceLock::from),
                timeout: config.timeout,
                metrics,
            }),
        })
    }

    /// The chain id every endpoint has to serve.
    pub fn chain_id(&self) -> u64 {
        self.pool.chain_id
    }

    /// How its endpoints do.
    pub fn metrics(&self) -> &RpcMetrics {
        &self.pool.metrics
    }

    /// Sends any JSON-RPC request: for what the trait doesn't name, such as a devnet's own methods.
    ///
    /// # Errors
    /// [`ChainError`]. It may have been carried out all the same; it is not asked a second time of the same endpoint.
    pub async fn request<P: RpcSend, R: RpcRecv>(&self, operation: &'static str, params: P) -> Result<R, ChainError> {
        match self.ask_until(operation, params, |_| Verdict::Enough, 1).await? {
            Answer::Result(result) => Ok(result),
            Answer::Error { endpoint, payload } => Err(refused(operation, endpoint, &payload)),
        }
    }

    /// [`request`](Self::request) of something that may be asked as often as one likes.
    async fn question<P: RpcSend, R: RpcRecv>(&self, operation: &'static str, params: P) -> Result<R, ChainError> {
        self.question_until(operation, params, |_| Verdict::Enough).await
    }

    /// [`question`](Self::question), and what to do about an answer.
    async fn question_until<P: RpcSend, R: RpcRecv>(
        &self,
        operation: &'static str,
        params: P,
        judge: impl Fn(&R) -> Verdict,
    ) -> Result<R, ChainError> {
        let judge = |answer: &Answer<R>| match answer {
            Answer::Result(result) => judge(result),
            Answer::Error { payload, .. } => Verdict::of_error(payload.code),
        };
        match self.ask_until(operation, params, judge, ROUNDS).await? {
            Answer::Result(result) => Ok(result),
            Answer::Error { endpoint, payload } => Err(refused(operation, endpoint, &payload)),
        }
    }

    /// The first answer that is enough, or else the last.
    async fn ask_until<P: RpcSend, R: RpcRecv>(
        &self,
        operation: &'static str,
        params: P,
        judge: impl Fn(&Answer<R>) -> Verdict,
        rounds: u32,
    ) -> Result<Answer<R>, ChainError> {
        let begun = Instant::now();
        let mut failure = None;
        let mut answered: Option<Answer<R>> = None;
        for round in 0..rounds {
            if round > 0 {
                tokio::time::sleep(PAUSE * round).await;
            }
            let mut may_change = false;
            let mut in_this_round = false;
            for index in self.pool.order() {
                let endpoint = &self.pool.endpoints[index];
                // Who failed just now is asked only if nobody else answers.
                if in_this_round && endpoint.health().is_resting(Instant::now()) {
                    continue;
                }
                match self.pool.ask(endpoint, operation, params.clone()).await {
                    Ok(answer) => {
                        in_this_round = true;
                        match judge(&answer) {
                            Verdict::Enough => return Ok(answer),
                            Verdict::AskOthers => {}
                            Verdict::AskAgain => may_change = true,
                        }
                        // An answer says more than an error.
                        if answered.is_none() || matches!(answer, Answer::Result(_)) {
                            answered = Some(answer);
                        }
                    }
                    Err(error) => keep(&mut failure, error),
                }
            }
            let may_answer = !in_this_round && failure.as_ref().is_some_and(ChainError::is_transient);
            if !(may_change || may_answer) || begun.elapsed() >= self.pool.timeout {
                break;
            }
        }
        answered.ok_or_else(|| failure.unwrap_or_else(|| nobody(operation)))
    }

    /// Looks at the heads of endpoints that nobody asks, beside the work.
    fn probe(&self) {
        let now = Instant::now();
        let order = self.pool.order();
        for index in order.into_iter().skip(1) {
            let due = self.pool.endpoints[index].health().begin_probe(now, PROBE_EVERY);
            if due {
                let pool = self.pool.clone();
                tokio::spawn(async move {
                    let endpoint = &pool.endpoints[index];
                    // A failure is counted where it happens.
                    let _ = pool.head_of(endpoint).await;
                    endpoint.health().end_probe();
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;
