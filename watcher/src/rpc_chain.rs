use std::{
    ops::RangeInclusive,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use self::metrics::Asked;
pub use self::metrics::RpcMetrics;
use self::raw::{LogFilter, RawBlock, RawBlockId, RawCall, RawReceipt};
use crate::chain::{Broadcast, Call, CallOutcome, Chain, ChainError, FeeQuote, MinedTransaction, NonceAt, Revert};
use alloy::{
    hex,
    primitives::{Address, B256, Bytes, U64, U128, U256},
    rpc::{
        client::RpcClient,
        json_rpc::{ErrorPayload, RpcError, RpcRecv, RpcSend},
        types::Log,
    },
    transports::http::reqwest::Url,
};
use lloom_ledger::Block;
use lloom_receipts::BlockNumber;

mod metrics;
mod raw;

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
/// failure. When one doesn't answer, the next is asked; the one that answered last is asked first the next time.
#[derive(Clone, Debug)]
pub struct RpcChain {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    endpoints: Vec<Endpoint>,
    current: AtomicUsize,
    chain_id: u64,
    genesis: OnceLock<B256>,
    timeout: Duration,
    metrics: RpcMetrics,
}

#[derive(Debug)]
struct Endpoint {
    client: RpcClient,
    name: String,
    metrics: RpcMetrics,
    believed: AtomicBool,
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
            shared: Arc::new(Shared {
                endpoints,
                current: AtomicUsize::new(0),
                chain_id: config.chain_id,
                genesis: config.genesis.map_or_else(OnceLock::new, OnceLock::from),
                timeout: config.timeout,
                metrics,
            }),
        })
    }

    /// The chain id every endpoint has to serve.
    pub fn chain_id(&self) -> u64 {
        self.shared.chain_id
    }

    /// How its endpoints do.
    pub fn metrics(&self) -> &RpcMetrics {
        &self.shared.metrics
    }

    /// Sends any JSON-RPC request: for what the trait doesn't name, such as a devnet's own methods.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn request<P: RpcSend, R: RpcRecv>(&self, operation: &'static str, params: P) -> Result<R, ChainError> {
        match self.ask(operation, params).await? {
            Answer::Result(result) => Ok(result),
            Answer::Error { endpoint, payload } => Err(refused(operation, endpoint, &payload)),
        }
    }

    async fn ask<P: RpcSend, R: RpcRecv>(&self, operation: &'static str, params: P) -> Result<Answer<R>, ChainError> {
        let shared = &self.shared;
        let first = shared.current.load(Ordering::Relaxed);
        let mut failure = None;
        for offset in 0..shared.endpoints.len() {
            let index = (first + offset) % shared.endpoints.len();
            let endpoint = &shared.endpoints[index];
            match shared.ask_endpoint(endpoint, operation, params.clone()).await {
                Ok(answer) => {
                    shared.current.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => {
                    tracing::debug!(endpoint = endpoint.name, operation, %error, "an endpoint failed");
                    endpoint.believed.store(false, Ordering::Relaxed);
                    // A failure that may pass says more about tomorrow than one that won't.
                    if failure.as_ref().is_none_or(|known: &ChainError| !known.is_transient()) || error.is_transient() {
                        failure = Some(error);
                    }
                }
            }
        }
        Err(failure.unwrap_or_else(|| ChainError::Unavailable {
            operation,
            endpoint: String::from("none"),
            reason: String::from("no endpoint is configured"),
        }))
    }
}

enum Answer<R> {
    Result(R),
    Error { endpoint: String, payload: ErrorPayload },
}

impl Shared {
    async fn ask_endpoint<P: RpcSend, R: RpcRecv>(
        &self,
        endpoint: &Endpoint,
        operation: &'static str,
        params: P,
    ) -> Result<Answer<R>, ChainError> {
        if !endpoint.believed.load(Ordering::Relaxed) {
            self.believe(endpoint).await?;
            endpoint.believed.store(true, Ordering::Relaxed);
        }
        endpoint.ask(operation, params, self.timeout).await
    }

    async fn believe(&self, endpoint: &Endpoint) -> Result<(), ChainError> {
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
        Ok(())
    }
}

impl Endpoint {
    fn new(given: &str, metrics: RpcMetrics) -> Result<Self, RpcConfigError> {
        let not_http = || RpcConfigError::NotHttp {
            given: given.to_owned(),
        };
        let url: Url = given.parse().map_err(|_| not_http())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(not_http());
        }
        // Paths and queries of RPC URLs hold API keys: they stay out of messages.
        let name = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => return Err(not_http()),
        };
        metrics.expect(&name);
        Ok(Self {
            client: RpcClient::new_http(url),
            name,
            metrics,
            believed: AtomicBool::new(false),
        })
    }

    async fn ask<P: RpcSend, R: RpcRecv>(
        &self,
        operation: &'static str,
        params: P,
        timeout: Duration,
    ) -> Result<Answer<R>, ChainError> {
        let unavailable = |reason: String| ChainError::Unavailable {
            operation,
            endpoint: self.name.clone(),
            reason,
        };
        let asked_at = Instant::now();
        let request = self.client.request::<P, R>(operation, params);
        let answer = match tokio::time::timeout(timeout, request).await {
            Err(_) => Err(unavailable(format!("no answer within {} s", timeout.as_secs_f32()))),
            Ok(Ok(result)) => Ok(Answer::Result(result)),
            Ok(Err(RpcError::ErrorResp(payload))) if is_rate_limit(&payload) => Err(unavailable(payload.to_string())),
            Ok(Err(RpcError::ErrorResp(payload))) => Ok(Answer::Error {
                endpoint: self.name.clone(),
                payload,
            }),
            // Anything else is no answer of a healthy endpoint, and its text may quote the URL.
            Ok(Err(RpcError::DeserError { err, .. })) => Err(unavailable(format!("the answer is malformed: {err}"))),
            Ok(Err(RpcError::Transport(error))) => Err(unavailable(describe_transport(&error, &self.name))),
            Ok(Err(error)) => Err(unavailable(error.to_string())),
        };
        let asked = match &answer {
            Ok(Answer::Result(_)) => Asked::Answered,
            Ok(Answer::Error { .. }) => Asked::Refused,
            Err(_) => Asked::Unavailable,
        };
        self.metrics.asked(&self.name, operation, asked, asked_at.elapsed());
        answer
    }

    async fn must_answer<P: RpcSend, R: RpcRecv>(
        &self,
        operation: &'static str,
        params: P,
        timeout: Duration,
    ) -> Result<R, ChainError> {
        match self.ask(operation, params, timeout).await? {
            Answer::Result(result) => Ok(result),
            Answer::Error { endpoint, payload } => Err(ChainError::Unavailable {
                operation,
                endpoint,
                reason: payload.to_string(),
            }),
        }
    }
}

/// Too many requests: the endpoint is busy, not of another opinion. (-32005 also means "too many logs", which waiting
/// doesn't cure.)
fn is_rate_limit(payload: &ErrorPayload) -> bool {
    payload.code == 429 || payload.message.contains("rate limit") || payload.message.contains("request limit")
}

fn describe_transport(error: &alloy::transports::TransportErrorKind, endpoint: &str) -> String {
    use alloy::transports::TransportErrorKind;
    match error {
        TransportErrorKind::HttpError(http) => format!("HTTP status {}", http.status),
        // A reqwest error prints the whole URL, API key included; what caused it doesn't.
        TransportErrorKind::Custom(source) => {
            let mut cause: &dyn std::error::Error = source.as_ref();
            while let Some(next) = cause.source() {
                cause = next;
            }
            let text = cause.to_string();
            if text.contains("://") {
                format!("no connection to {endpoint}")
            } else {
                text
            }
        }
        other => other.to_string(),
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

fn outcome<T>(operation: &'static str, answer: Answer<T>) -> Result<CallOutcome<T>, ChainError> {
    match answer {
        Answer::Result(result) => Ok(CallOutcome::Returned(result)),
        Answer::Error { endpoint, payload } => {
            let data = payload.as_revert_data();
            // Code 3 is the execution-error code; many endpoints only say it in words.
            if data.is_some() || payload.code == 3 || payload.message.contains("revert") {
                Ok(CallOutcome::Reverted(Revert {
                    message: payload.message.to_string(),
                    data: data.unwrap_or_default(),
                }))
            } else {
                Err(refused(operation, endpoint, &payload))
            }
        }
    }
}

impl Chain for RpcChain {
    async fn head(&self) -> Result<Block, ChainError> {
        let block: Option<RawBlock> = self.request("eth_getBlockByNumber", ("latest", false)).await?;
        block.map(Block::from).ok_or(ChainError::Malformed {
            operation: "eth_getBlockByNumber",
            reason: String::from("there is no latest block"),
        })
    }

    async fn block(&self, number: BlockNumber) -> Result<Option<Block>, ChainError> {
        let block: Option<RawBlock> = self
            .request("eth_getBlockByNumber", (U64::from(number.get()), false))
            .await?;
        Ok(block.map(Block::from))
    }

    async fn logs(&self, range: RangeInclusive<BlockNumber>, addresses: &[Address]) -> Result<Vec<Log>, ChainError> {
        let filter = LogFilter {
            address: addresses,
            from_block: Some(U64::from(range.start().get())),
            to_block: Some(U64::from(range.end().get())),
            block_hash: None,
        };
        self.request("eth_getLogs", (filter.to_json()?,)).await
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

    async fn call(&self, from: Address, call: &Call, gas_limit: Option<u64>) -> Result<CallOutcome<Bytes>, ChainError> {
        let params = (RawCall::new(from, call, gas_limit), "latest");
        outcome("eth_call", self.ask("eth_call", params).await?)
    }

    async fn estimate_gas(&self, from: Address, call: &Call) -> Result<CallOutcome<u64>, ChainError> {
        let params = (RawCall::new(from, call, None),);
        let answer: Answer<U64> = self.ask("eth_estimateGas", params).await?;
        Ok(match outcome("eth_estimateGas", answer)? {
            CallOutcome::Returned(gas) => CallOutcome::Returned(gas.to()),
            CallOutcome::Reverted(revert) => CallOutcome::Reverted(revert),
        })
    }

    async fn fees(&self) -> Result<FeeQuote, ChainError> {
        let head: Option<RawBlock> = self.request("eth_getBlockByNumber", ("latest", false)).await?;
        let base_fee = head
            .and_then(|block| block.base_fee_per_gas)
            .map_or(0, |fee| fee.to::<u128>());
        let priority_fee = match self.request::<_, U128>("eth_maxPriorityFeePerGas", ()).await {
            Ok(fee) => fee.to(),
            // Not every endpoint has the method: the gas price holds both parts.
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
            NonceAt::Block(hash) => RawBlockId::Hash {
                block_hash: hash,
                require_canonical: true,
            },
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

    async fn broadcast(&self, raw: &Bytes) -> Result<Broadcast, ChainError> {
        let answer: Answer<B256> = self.ask("eth_sendRawTransaction", (hex::encode_prefixed(raw),)).await?;
        Ok(match answer {
            Answer::Result(_) => Broadcast::Accepted,
            Answer::Error { payload, .. } => read_refusal(&payload.message),
        })
    }

    async fn transaction_receipt(&self, hash: B256) -> Result<Option<MinedTransaction>, ChainError> {
        let receipt: Option<RawReceipt> = self.request("eth_getTransactionReceipt", (hash,)).await?;
        // Some endpoints answer with a receipt without a block while the transaction waits.
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
}

/// Endpoints agree on no codes here, only roughly on words.
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
mod tests {
    use super::*;

    fn config(endpoints: &[&str]) -> RpcConfig {
        RpcConfig {
            endpoints: endpoints.iter().map(|&endpoint| endpoint.to_owned()).collect(),
            chain_id: 31_337,
            genesis: None,
            timeout: Duration::from_secs(2),
        }
    }

    #[test]
    fn refuses_endpoints_that_are_none() {
        assert!(matches!(RpcChain::new(&config(&[])), Err(RpcConfigError::NoEndpoint)));
        for given in ["", "localhost", "ws://localhost:1", "file:///etc/passwd"] {
            assert!(
                matches!(RpcChain::new(&config(&[given])), Err(RpcConfigError::NotHttp { .. })),
                "{given}"
            );
        }
    }

    #[tokio::test]
    async fn an_unreachable_endpoint_is_named_without_its_key() {
        // Port 1 of the loopback: nothing listens there.
        let chain = RpcChain::new(&config(&["http://127.0.0.1:1/v3/secret-key"])).unwrap();
        let error = chain.head().await.unwrap_err();
        assert!(error.is_transient());
        let text = error.to_string();
        assert!(text.contains("127.0.0.1:1"), "{text}");
        assert!(!text.contains("secret-key"), "{text}");
    }

    #[test]
    fn reads_what_pools_say() {
        for (message, expected) in [
            ("already known", Broadcast::AlreadyKnown),
            ("nonce too low: next nonce 5, tx nonce 4", Broadcast::NonceUsed),
            ("transaction already imported", Broadcast::AlreadyKnown),
            (
                "insufficient funds for gas * price + value",
                Broadcast::Refused {
                    reason: String::from("insufficient funds for gas * price + value"),
                },
            ),
        ] {
            assert_eq!(read_refusal(message), expected, "{message}");
        }
    }
}
