//! All endpoints of a chain, and what is asked of one of them.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use alloy::{
    primitives::{B256, U64},
    rpc::{
        json_rpc::{ErrorPayload, RpcRecv, RpcSend},
        types::Log,
    },
};
use lloom_ledger::Block;

use super::{
    endpoint::{Answer, Endpoint},
    health::{self, Health},
    metrics::RpcMetrics,
    raw::{RawBlock, RawLogFilter, RawLogPlace},
    shown_blocks::Emptiness,
};
use crate::{
    LogFilter,
    chain::{ChainError, Standing},
};

pub(super) const GET_LOGS: &str = "eth_getLogs";
/// EIP-1474's code for what an endpoint doesn't have.
const RESOURCE_NOT_FOUND: i64 = -32_001;

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) chain_id: u64,
    pub(super) genesis: OnceLock<B256>,
    pub(super) timeout: Duration,
    pub(super) metrics: RpcMetrics,
}

impl Pool {
    /// Runs `look` on what is known of all endpoints at this moment.
    pub(super) fn with_health<T>(&self, look: impl FnOnce(&[&Health]) -> T) -> T {
        let all: Vec<_> = self.endpoints.iter().map(Endpoint::health).collect();
        let all: Vec<&Health> = all.iter().map(|guard| &**guard).collect();
        look(&all)
    }

    pub(super) fn order(&self) -> Vec<usize> {
        self.with_health(|all| health::order(all, Instant::now()))
    }

    /// Asks one endpoint, once it has shown which chain it serves.
    pub(super) async fn ask<P: RpcSend, R: RpcRecv>(
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

    pub(super) async fn prove(&self, endpoint: &Endpoint) -> Result<(), ChainError> {
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

    /// What an endpoint says that is `wanted` in the block named `hash`, once it has shown that it knows the block: of one
    /// that they don't know, some have no logs. And what that is worth where there are none.
    pub(super) async fn logs_of_block(
        &self,
        endpoint: &Endpoint,
        hash: B256,
        wanted: &LogFilter,
    ) -> Result<(Vec<Log>, Emptiness), ChainError> {
        let shown = endpoint.health().shown().emptiness(hash, wanted);
        let emptiness = match shown {
            Some(emptiness) => emptiness,
            None => match self.ask(endpoint, "eth_getBlockByHash", (hash, false)).await? {
                Answer::Result(Some(RawBlock {
                    hash: shown,
                    logs_bloom,
                    ..
                })) if shown == hash => Emptiness::told_by(logs_bloom, wanted),
                Answer::Result(_) | Answer::Error { .. } => {
                    return Err(ChainError::Refused {
                        operation: GET_LOGS,
                        endpoint: endpoint.name.clone(),
                        code: RESOURCE_NOT_FOUND,
                        message: format!("it does not know the block {hash}"),
                    });
                }
            },
        };
        let logs = self
            .logs(endpoint, wanted, RawLogPlace::Block { block_hash: hash })
            .await?;
        Ok((logs, emptiness))
    }

    /// What an endpoint says that is `wanted` in a place. Of a single block that has too many for it, it is asked for each
    /// kind alone.
    pub(super) async fn logs(
        &self,
        endpoint: &Endpoint,
        wanted: &LogFilter,
        place: RawLogPlace,
    ) -> Result<Vec<Log>, ChainError> {
        let ask = async |wanted: &LogFilter| {
            let filter = RawLogFilter::to_json(wanted, place)?;
            match self.ask(endpoint, GET_LOGS, (filter,)).await? {
                Answer::Result(logs) => Ok::<Vec<Log>, ChainError>(logs),
                Answer::Error { endpoint, payload } => Err(refused(GET_LOGS, endpoint, &payload)),
            }
        };
        match ask(wanted).await {
            Err(ChainError::Refused { .. }) if place.is_one_block() => {}
            answered => return answered,
        }
        let mut logs = Vec::new();
        for kind in wanted.one_by_one() {
            logs.extend(ask(&kind).await?);
        }
        logs.sort_unstable_by_key(|log| log.log_index);
        Ok(logs)
    }

    /// The head of the first endpoint whose view is not known to be old.
    pub(super) async fn fresh_head(&self, failure: &mut Option<ChainError>) -> Option<Block> {
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

    pub(super) async fn head_of(&self, endpoint: &Endpoint) -> Result<Block, ChainError> {
        const OPERATION: &str = "eth_getBlockByNumber";
        let answer: Answer<Option<RawBlock>> = self.ask(endpoint, OPERATION, ("latest", false)).await?;
        let head = match answer {
            Answer::Result(Some(block)) => {
                endpoint.health().shown().add(&block);
                Block::from(block)
            }
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

/// A failure that may pass says more about tomorrow than one that won't. Of endpoints that don't answer, each is told of.
pub(super) fn keep(failure: &mut Option<ChainError>, error: ChainError) {
    if let (
        Some(ChainError::Unavailable {
            endpoint: first,
            reason: known,
            ..
        }),
        ChainError::Unavailable { endpoint, reason, .. },
    ) = (&mut *failure, &error)
    {
        let told = format!("; {endpoint} said: ");
        if first != endpoint && !known.contains(&told) {
            known.push_str(&told);
            known.push_str(reason);
        }
        return;
    }
    if failure.as_ref().is_none_or(|known| !known.is_transient()) || error.is_transient() {
        *failure = Some(error);
    }
}

pub(super) fn nobody(operation: &'static str) -> ChainError {
    ChainError::Unavailable {
        operation,
        endpoint: String::from("none"),
        reason: String::from("no endpoint is configured"),
    }
}

pub(super) fn refused(operation: &'static str, endpoint: String, payload: &ErrorPayload) -> ChainError {
    ChainError::Refused {
        operation,
        endpoint,
        code: payload.code,
        message: payload.message.to_string(),
    }
}
