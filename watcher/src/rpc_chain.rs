use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use alloy::{
    hex,
    primitives::{Address, B256, Bytes, U64, U128, U256},
    rpc::{
        json_rpc::{ErrorPayload, RpcRecv, RpcSend},
        types::Log,
    },
};
use lloom_ledger::Block;
use lloom_receipts::BlockNumber;
use tokio::sync::mpsc;

use self::{
    endpoint::{Answer, Endpoint},
    health::Health,
    raw::{LogFilter, RawBlock, RawBlockId, RawCall, RawFeeHistory, RawReceipt},
};
use crate::chain::{
    Broadcast, Call, CallOutcome, Chain, ChainError, EndpointHealth, FeeQuote, MinedTransaction, NonceAt, Revert,
    Standing, StateAt,
};

mod endpoint;
mod health;
mod raw;

/// How often an endpoint that nobody asks is looked at, so that its head is known when it is needed.
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// How often all endpoints are asked when none answers, unless that took as long as one may take; and the pause before
/// the second time, as long again before each further one. A round of a watcher asks a dozen questions: if each bad answer
/// ended it, an endpoint that fails one time in ten would keep it from ever finishing.
const ROUNDS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);
/// Blocks whose priority fees are looked at, and which of the fees paid in each counts, a percentile.
const FEE_HISTORY: u64 = 10;
const FEE_PERCENTILE: f64 = 50.0;

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
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    endpoints: Vec<Endpoint>,
    chain_id: u64,
    genesis: OnceLock<B256>,
    timeout: Duration,
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
        let endpoints = config
            .endpoints
            .iter()
            .map(|given| Endpoint::new(given))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            shared: Arc::new(Shared {
                endpoints,
                chain_id: config.chain_id,
                genesis: config.genesis.map_or_else(OnceLock::new, OnceLock::from),
                timeout: config.timeout,
            }),
        })
    }

    /// The chain id every endpoint has to serve.
    pub fn chain_id(&self) -> u64 {
        self.shared.chain_id
    }

    /// Sends any JSON-RPC request: for what the trait doesn't name, such as a devnet's own methods.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn request<P: RpcSend, R: RpcRecv>(&self, operation: &'static str, params: P) -> Result<R, ChainError> {
        self.request_until(operation, params, |_| true).await
    }

    /// The first answer that is `enough`, or else the last.
    async fn request_until<P: RpcSend, R: RpcRecv>(
        &self,
        operation: &'static str,
        params: P,
        enough: impl Fn(&R) -> bool,
    ) -> Result<R, ChainError> {
        let enough = |answer: &Answer<R>| match answer {
            Answer::Result(result) => enough(result),
            // What one endpoint doesn't know, such as a block or its state, another may. With one, its word stands.
            Answer::Error { .. } => false,
        };
        match self.ask_until(operation, params, enough).await? {
            Answer::Result(result) => Ok(result),
            Answer::Error { endpoint, payload } => Err(refused(operation, endpoint, &payload)),
        }
    }

    async fn ask_until<P: RpcSend, R: RpcRecv>(
        &self,
        operation: &'static str,
        params: P,
        enough: impl Fn(&Answer<R>) -> bool,
    ) -> Result<Answer<R>, ChainError> {
        let begun = Instant::now();
        let mut failure = None;
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(PAUSE * round).await;
            }
            let mut answered: Option<Answer<R>> = None;
            for index in self.shared.order() {
                let endpoint = &self.shared.endpoints[index];
                // Who failed just now is asked only if nobody else answers.
                if answered.is_some() && endpoint.health().is_resting(Instant::now()) {
                    continue;
                }
                match self.shared.ask(endpoint, operation, params.clone()).await {
                    Ok(answer) if enough(&answer) => return Ok(answer),
                    // An answer says more than an error.
                    Ok(answer) if answered.is_none() || matches!(answer, Answer::Result(_)) => answered = Some(answer),
                    Ok(_) => {}
                    Err(error) => keep(&mut failure, error),
                }
            }
            if let Some(answer) = answered {
                return Ok(answer);
            }
            let may_pass = failure.as_ref().is_some_and(ChainError::is_transient);
            if !may_pass || begun.elapsed() >= self.shared.timeout {
                break;
            }
        }
        Err(failure.unwrap_or_else(|| nobody(operation)))
    }

    /// Looks at the heads of endpoints that nobody asks, beside the work.
    fn probe(&self) {
        let now = Instant::now();
        let order = self.shared.order();
        for index in order.into_iter().skip(1) {
            let due = self.shared.endpoints[index].health().begin_probe(now, PROBE_EVERY);
            if due {
                let shared = self.shared.clone();
                tokio::spawn(async move {
                    let endpoint = &shared.endpoints[index];
                    // A failure is counted where it happens.
                    let _ = shared.head_of(endpoint).await;
                    endpoint.health().end_probe();
                });
            }
        }
    }
}

/// A failure that may pass says more about tomorrow than one that won't.
fn keep(failure: &mut Option<ChainError>, error: ChainError) {
    if failure.as_ref().is_none_or(|known| !known.is_transient()) || error.is_transient() {
        *failure = Some(error);
    }
}

fn nobody(operation: &'static str) -> ChainError {
    ChainError::Unavailable {
        operation,
        endpoint: String::from("none"),
        reason: String::from("no endpoint is configured"),
    }
}

impl Shared {
    /// Runs `look` on what is known of all endpoints at this moment.
    fn with_health<T>(&self, look: impl FnOnce(&[&Health]) -> T) -> T {
        let all: Vec<_> = self.endpoints.iter().map(Endpoint::health).collect();
        let all: Vec<&Health> = all.iter().map(|guard| &**guard).collect();
        look(&all)
    }

    fn order(&self) -> Vec<usize> {
        self.with_health(|all| health::order(all, Instant::now()))
    }

    /// Asks one endpoint, once it has shown which chain it serves.
    async fn ask<P: RpcSend, R: RpcRecv>(
        &self,
        endpoint: &Endpoint,
        operation: &'static str,
        params: P,
    ) -> Result<Answer<R>, ChainError> {
        let asked = async {
            if !endpoint.health().is_proven() {
                self.prove(endpoint).await?;
            }
            endpoint.ask(operation, params, self.timeout).await
        };
        let answer = asked.await;
        if let Err(error) = &answer {
            endpoint.failed(operation, error);
        }
        answer
    }

    async fn prove(&self, endpoint: &Endpoint) -> Result<(), ChainError> {
        let chain_id: U64 = endpoint.must_answer("eth_chainId", (), self.timeout).await?;
        let found = chain_id.to::<u64>();
        if found != self.chain_id {
            return Err(ChainError::WrongChain {
                endpoint: endpoint.name.clone(),
                expected: self.chain_id,
                found,
            });
        }
        let genesis: RawBlock = endpoint
            .must_answer("eth_getBlockByNumber", (U64::ZERO, false), self.timeout)
            .await?;
        let expected = *self.genesis.get_or_init(|| genesis.hash);
        if genesis.hash != expected {
            return Err(ChainError::WrongGenesis {
                endpoint: endpoint.name.clone(),
                expected,
                found: genesis.hash,
            });
        }
        endpoint.health().prove();
        Ok(())
    }

    /// The head of the first endpoint whose view is not known to be old.
    async fn fresh_head(&self, failure: &mut Option<ChainError>) -> Option<Block> {
        for index in self.order() {
            let endpoint = &self.endpoints[index];
            let head = match self.head_of(endpoint).await {
                Ok(head) => head,
                Err(error) => {
                    keep(failure, error);
                    continue;
                }
            };
            let standing = self.with_health(|all| health::standing(all, index, Instant::now()));
            if standing != Standing::Stale {
                return Some(head);
            }
            let error = ChainError::Unavailable {
                operation: "eth_getBlockByNumber",
                endpoint: endpoint.name.clone(),
                reason: format!(
                    "its head, block {}, is behind what another endpoint has shown",
                    head.number
                ),
            };
            keep(failure, error);
        }
        None
    }

    async fn head_of(&self, endpoint: &Endpoint) -> Result<Block, ChainError> {
        const OPERATION: &str = "eth_getBlockByNumber";
        let answer: Answer<Option<RawBlock>> = self.ask(endpoint, OPERATION, ("latest", false)).await?;
        let head = match answer {
            Answer::Result(Some(block)) => Block::from(block),
            Answer::Result(None) => {
                return Err(ChainError::Malformed {
                    operation: OPERATION,
                    reason: String::from("there is no latest block"),
                });
            }
            Answer::Error { endpoint, payload } => return Err(refused(OPERATION, endpoint, &payload)),
        };
        endpoint.health().saw(head, Instant::now());
        Ok(head)
    }
}

fn refused(operation: &'static str, endpoint: String, payload: &ErrorPayload) -> ChainError {
    ChainError::Refused {
        operation,
        endpoint,
        code: payload.code,
        message: payload.message.to_string(),
    }
}

/// A contract's refusal, if that is what the error says. Code 3 is the execution-error code; many endpoints only say it
/// in words.
fn revert_of(payload: &ErrorPayload) -> Option<Revert> {
    let data = payload.as_revert_data();
    let is_revert = data.is_some() || payload.code == 3 || payload.message.contains("revert");
    is_revert.then(|| Revert {
        message: payload.message.to_string(),
        data: data.unwrap_or_default(),
    })
}

fn outcome<T>(operation: &'static str, answer: Answer<T>) -> Result<CallOutcome<T>, ChainError> {
    match answer {
        Answer::Result(result) => Ok(CallOutcome::Returned(result)),
        Answer::Error { endpoint, payload } => match revert_of(&payload) {
            Some(revert) => Ok(CallOutcome::Reverted(revert)),
            None => Err(refused(operation, endpoint, &payload)),
        },
    }
}

fn is_outcome<T>(answer: &Answer<T>) -> bool {
    match answer {
        Answer::Result(_) => true,
        Answer::Error { payload, .. } => revert_of(payload).is_some(),
    }
}

impl From<StateAt> for RawBlockId {
    fn from(at: StateAt) -> Self {
        match at {
            StateAt::Latest => Self::Tag("latest"),
            StateAt::Block(hash) => Self::Hash {
                block_hash: hash,
                require_canonical: true,
            },
        }
    }
}

impl Chain for RpcChain {
    async fn head(&self) -> Result<Block, ChainError> {
        self.probe();
        let shared = &self.shared;
        let begun = Instant::now();
        let mut failure = None;
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(PAUSE * round).await;
            }
            match shared.fresh_head(&mut failure).await {
                Some(head) => return Ok(head),
                None if failure.as_ref().is_some_and(|error| !error.is_transient()) => break,
                None if begun.elapsed() >= shared.timeout => break,
                None => {}
            }
        }
        Err(failure.unwrap_or_else(|| nobody("eth_getBlockByNumber")))
    }

    async fn block(&self, number: BlockNumber) -> Result<Option<Block>, ChainError> {
        // One that is behind has no block here: another may.
        let block = self
            .request_until(
                "eth_getBlockByNumber",
                (U64::from(number.get()), false),
                |block: &Option<RawBlock>| block.is_some(),
            )
            .await?;
        Ok(block.map(Block::from))
    }

    async fn logs(&self, first: BlockNumber, last: Block, addresses: &[Address]) -> Result<Vec<Log>, ChainError> {
        const OPERATION: &str = "eth_getLogs";
        let filter = LogFilter {
            address: addresses,
            from_block: Some(U64::from(first.get())),
            to_block: Some(U64::from(last.number.get())),
            block_hash: None,
        };
        let filter = filter.to_json()?;
        let shared = &self.shared;
        let mut failure = None;
        for index in shared.order() {
            let endpoint = &shared.endpoints[index];
            let answered: Result<Vec<Log>, ChainError> = async {
                let logs = match shared.ask(endpoint, OPERATION, (filter.clone(),)).await? {
                    Answer::Result(logs) => logs,
                    Answer::Error { endpoint, payload } => return Err(refused(OPERATION, endpoint, &payload)),
                };
                // An endpoint that is behind leaves the newest logs out, and says nothing.
                let end = (U64::from(last.number.get()), false);
                let end: Answer<Option<RawBlock>> = shared.ask(endpoint, "eth_getBlockByNumber", end).await?;
                let end = match end {
                    Answer::Result(end) => end.map(Block::from),
                    Answer::Error { .. } => None,
                };
                if end == Some(last) {
                    return Ok(logs);
                }
                Err(ChainError::Unavailable {
                    operation: OPERATION,
                    endpoint: endpoint.name.clone(),
                    reason: format!("it does not have block {} with the hash {}", last.number, last.hash),
                })
            }
            .await;
            match answered {
                Ok(logs) => return Ok(logs),
                // "Too many logs" is an answer: whoever asks has to ask for less.
                Err(error @ ChainError::Refused { .. }) => failure = Some(error),
                Err(error) if matches!(failure, Some(ChainError::Refused { .. })) => drop(error),
                Err(error) => keep(&mut failure, error),
            }
        }
        Err(failure.unwrap_or_else(|| nobody(OPERATION)))
    }

    async fn logs_of_block(&self, hash: B256, addresses: &[Address]) -> Result<Vec<Log>, ChainError> {
        let filter = LogFilter {
            address: addresses,
            from_block: None,
            to_block: None,
            block_hash: Some(hash),
        };
        self.request("eth_getLogs", (filter.to_json()?,)).await
    }

    async fn call(&self, from: Address, call: &Call, at: StateAt) -> Result<CallOutcome<Bytes>, ChainError> {
        let params = (RawCall::new(from, call), RawBlockId::from(at));
        outcome("eth_call", self.ask_until("eth_call", params, is_outcome).await?)
    }

    async fn estimate_gas(&self, from: Address, call: &Call, at: StateAt) -> Result<CallOutcome<u64>, ChainError> {
        const OPERATION: &str = "eth_estimateGas";
        let params = (RawCall::new(from, call), RawBlockId::from(at));
        let answer: Answer<U64> = self.ask_until(OPERATION, params, is_outcome).await?;
        Ok(match outcome(OPERATION, answer)? {
            CallOutcome::Returned(gas) => CallOutcome::Returned(gas.to()),
            CallOutcome::Reverted(revert) => CallOutcome::Reverted(revert),
        })
    }

    async fn fees(&self) -> Result<FeeQuote, ChainError> {
        let params = (U64::from(FEE_HISTORY), "latest", [FEE_PERCENTILE]);
        match self.request::<_, RawFeeHistory>("eth_feeHistory", params).await {
            Ok(history) => {
                if let Some(quote) = history.quote() {
                    return Ok(quote);
                }
            }
            // Not every endpoint has the method.
            Err(ChainError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        let head: Option<RawBlock> = self.request("eth_getBlockByNumber", ("latest", false)).await?;
        let base_fee = head
            .and_then(|block| block.base_fee_per_gas)
            .map_or(0, |fee| fee.to::<u128>());
        let priority_fee = match self.request::<_, U128>("eth_maxPriorityFeePerGas", ()).await {
            Ok(fee) => fee.to(),
            // The gas price holds both parts.
            Err(ChainError::Refused { .. }) => {
                let price: U128 = self.request("eth_gasPrice", ()).await?;
                price.to::<u128>().saturating_sub(base_fee)
            }
            Err(error) => return Err(error),
        };
        Ok(FeeQuote { base_fee, priority_fee })
    }

    async fn nonce(&self, account: Address, at: NonceAt) -> Result<u64, ChainError> {
        let at = match at {
            NonceAt::Pending => RawBlockId::Tag("pending"),
            NonceAt::Block(hash) => RawBlockId::from(StateAt::Block(hash)),
        };
        let nonce: U64 = self.request("eth_getTransactionCount", (account, at)).await?;
        Ok(nonce.to())
    }

    async fn native_balance(&self, account: Address) -> Result<U256, ChainError> {
        self.request("eth_getBalance", (account, "latest")).await
    }

    async fn code(&self, address: Address) -> Result<Bytes, ChainError> {
        self.request("eth_getCode", (address, "latest")).await
    }

    /// To all endpoints at once that are not resting; the best of their answers counts, and the first good one ends the
    /// wait for the others, who get it all the same.
    async fn broadcast(&self, raw: &Bytes) -> Result<Broadcast, ChainError> {
        const OPERATION: &str = "eth_sendRawTransaction";
        let order = self.shared.order();
        let now = Instant::now();
        let (resting, mut asked): (Vec<_>, Vec<_>) = order
            .into_iter()
            .partition(|&index| self.shared.endpoints[index].health().is_resting(now));
        if asked.is_empty() {
            asked = resting;
        }
        let (answers, mut answered) = mpsc::channel(asked.len().max(1));
        for index in asked {
            let (shared, answers, raw) = (self.shared.clone(), answers.clone(), hex::encode_prefixed(raw));
            tokio::spawn(async move {
                let endpoint = &shared.endpoints[index];
                let answer: Result<Answer<B256>, _> = shared.ask(endpoint, OPERATION, (raw,)).await;
                // Nobody waits any more where another was faster.
                let _ = answers.send(answer.map(read_broadcast)).await;
            });
        }
        drop(answers);
        let mut refusal = None;
        let mut failure = None;
        while let Some(answer) = answered.recv().await {
            match answer {
                Ok(refused @ Broadcast::Refused { .. }) => refusal = Some(refused),
                Ok(taken) => return Ok(taken),
                Err(error) => keep(&mut failure, error),
            }
        }
        refusal.ok_or_else(|| failure.unwrap_or_else(|| nobody(OPERATION)))
    }

    async fn transaction_receipt(&self, hash: B256) -> Result<Option<MinedTransaction>, ChainError> {
        // One that is behind has not heard of it. Some answer with a receipt without a block while it waits.
        let in_block = |receipt: &Option<RawReceipt>| receipt.as_ref().is_some_and(|found| found.block_hash.is_some());
        let receipt = self
            .request_until("eth_getTransactionReceipt", (hash,), in_block)
            .await?;
        Ok(receipt.and_then(|receipt| {
            Some(MinedTransaction {
                hash: receipt.transaction_hash,
                block: BlockNumber::new(receipt.block_number?.to()),
                block_hash: receipt.block_hash?,
                succeeded: receipt.status.is_none_or(|status| status == U64::from(1)),
                gas_used: receipt.gas_used.to(),
                gas_price: receipt.effective_gas_price.map_or(0, |price| price.to()),
                logs: receipt.logs,
            })
        }))
    }

    fn endpoints(&self) -> Vec<EndpointHealth> {
        let now = Instant::now();
        self.shared.with_health(|all| {
            let named = self.shared.endpoints.iter().enumerate();
            named
                .map(|(index, endpoint)| health::report(all, index, &endpoint.name, now))
                .collect()
        })
    }
}

/// Endpoints agree on no codes here, only roughly on words.
fn read_broadcast(answer: Answer<B256>) -> Broadcast {
    match answer {
        Answer::Result(_) => Broadcast::Accepted,
        Answer::Error { payload, .. } => read_refusal(&payload.message),
    }
}

fn read_refusal(message: &str) -> Broadcast {
    let words = message.to_lowercase();
    if words.contains("already known") || words.contains("already imported") || words.contains("alreadyknown") {
        Broadcast::AlreadyKnown
    } else if words.contains("nonce too low") || words.contains("nonce is too low") || words.contains("oldnonce") {
        Broadcast::NonceUsed
    } else {
        Broadcast::Refused {
            reason: message.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
