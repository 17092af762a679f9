//! What the watcher asks, as JSON-RPC.

use std::time::Instant;

use alloy::{
    hex,
    primitives::{Address, B256, Bytes, U64, U128, U256},
    rpc::{json_rpc::ErrorPayload, types::Log},
};
use lloom_ledger::Block;
use lloom_receipts::BlockNumber;
use tokio::sync::mpsc;

use super::{
    PAUSE, ROUNDS, RpcChain, Verdict,
    endpoint::Answer,
    health,
    pool::{GET_LOGS, keep, nobody, refused},
    raw::{LatelyPaid, RawBlock, RawBlockId, RawCall, RawFeeHistory, RawLogPlace, RawReceipt},
    shown_blocks::Emptiness,
};
use crate::{
    LogFilter,
    chain::{
        Broadcast, Call, CallOutcome, Chain, ChainError, EndpointHealth, FeeQuote, MinedTransaction, NonceAt, Revert,
        StateAt,
    },
};

/// Blocks whose priority fees are looked at, and which of the fees paid in each counts, a percentile.
const FEE_HISTORY: u64 = 10;
const FEE_PERCENTILE: f64 = 50.0;

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

fn judge_outcome<T>(answer: &Answer<T>) -> Verdict {
    match answer {
        Answer::Error { payload, .. } if revert_of(payload).is_none() => Verdict::of_error(payload.code),
        _ => Verdict::Enough,
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

impl RpcChain {
    /// What gas costs where blocks were `paid` this lately. Where too few of them tell, the endpoint is asked what it would
    /// pay, which it may have from the same few: no more than the base fee is believed of it. An endpoint that can't say leaves
    /// it to the policy's minimum.
    async fn quote(&self, paid: LatelyPaid) -> Result<FeeQuote, ChainError> {
        let LatelyPaid { base_fee, priority_fee } = paid;
        let priority_fee = match priority_fee {
            Some(fee) => fee,
            None => match self.question::<_, U128>("eth_maxPriorityFeePerGas", ()).await {
                // Where there is no base fee, there is nothing to measure it by.
                Ok(fee) if base_fee == 0 => fee.to(),
                Ok(fee) => fee.to::<u128>().min(base_fee),
                Err(ChainError::Refused { .. }) => 0,
                Err(error) => return Err(error),
            },
        };
        Ok(FeeQuote { base_fee, priority_fee })
    }
}

impl Chain for RpcChain {
    async fn head(&self) -> Result<Block, ChainError> {
        self.probe();
        let pool = &self.pool;
        let begun = Instant::now();
        let mut failure = None;
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(PAUSE * round).await;
            }
            match pool.fresh_head(&mut failure).await {
                Some(head) => return Ok(head),
                None if failure.as_ref().is_some_and(|error| !error.is_transient()) => break,
                None if begun.elapsed() >= pool.timeout => break,
                None => {}
            }
        }
        Err(failure.unwrap_or_else(|| nobody("eth_getBlockByNumber")))
    }

    async fn block(&self, number: BlockNumber) -> Result<Option<Block>, ChainError> {
        let params = (U64::from(number.get()), false);
        // One that is behind has no block here.
        let judge = |block: &Option<RawBlock>| match block {
            Some(_) => Verdict::Enough,
            None => Verdict::AskAgain,
        };
        let block = self.question_until("eth_getBlockByNumber", params, judge).await?;
        Ok(block.map(Block::from))
    }

    async fn logs(&self, first: BlockNumber, last: Block, wanted: &LogFilter) -> Result<Vec<Log>, ChainError> {
        let place = RawLogPlace::Range {
            from_block: U64::from(first.get()),
            to_block: U64::from(last.number.get()),
        };
        let pool = &self.pool;
        let mut failure = None;
        for index in pool.order() {
            let endpoint = &pool.endpoints[index];
            let answered: Result<Vec<Log>, ChainError> = async {
                let logs = pool.logs(endpoint, wanted, place).await?;
                // An endpoint that is behind leaves the newest logs out, and says nothing.
                let end = (U64::from(last.number.get()), false);
                let end: Answer<Option<RawBlock>> = pool.ask(endpoint, "eth_getBlockByNumber", end).await?;
                let end = match end {
                    Answer::Result(end) => end.map(Block::from),
                    Answer::Error { .. } => None,
                };
                if end == Some(last) {
                    return Ok(logs);
                }
                Err(ChainError::Unavailable {
                    operation: GET_LOGS,
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
        Err(failure.unwrap_or_else(|| nobody(GET_LOGS)))
    }

    async fn logs_of_block(&self, hash: B256, wanted: &LogFilter) -> Result<Vec<Log>, ChainError> {
        let pool = &self.pool;
        let begun = Instant::now();
        let mut is_doubtful = false;
        let mut refusal = None;
        let mut failure = None;
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(PAUSE * round).await;
            }
            let mut may_change = false;
            let mut in_this_round = false;
            for index in pool.order() {
                let endpoint = &pool.endpoints[index];
                // To wait for who failed just now would take longer than the block is worth where many are doubted.
                if in_this_round && endpoint.health().is_resting(Instant::now()) {
                    continue;
                }
                match pool.logs_of_block(endpoint, hash, wanted).await {
                    Ok((logs, Emptiness::Doubtful)) if logs.is_empty() => {
                        (is_doubtful, may_change, in_this_round) = (true, true, true);
                    }
                    Ok((logs, _)) => return Ok(logs),
                    // What one doesn't know, another may, or the same one in a moment.
                    Err(error @ ChainError::Refused { code, .. }) => {
                        may_change |= Verdict::of_error(code) == Verdict::AskAgain;
                        in_this_round = true;
                        refusal = Some(error);
                    }
                    Err(error) => {
                        may_change |= error.is_transient();
                        keep(&mut failure, error);
                    }
                }
            }
            if !may_change || begun.elapsed() >= pool.timeout {
                break;
            }
        }
        // Said as often as there was time to ask, it is believed: filters are wrong at times, and whoever reads the block
        // again once it is deep finds what was left out.
        if is_doubtful {
            return Ok(Vec::new());
        }
        // What an endpoint says of the block says more than that another said nothing.
        Err(refusal.or(failure).unwrap_or_else(|| nobody(GET_LOGS)))
    }

    async fn call(&self, from: Address, call: &Call, at: StateAt) -> Result<CallOutcome<Bytes>, ChainError> {
        let params = (RawCall::new(from, call), RawBlockId::from(at));
        outcome(
            "eth_call",
            self.ask_until("eth_call", params, judge_outcome, ROUNDS).await?,
        )
    }

    async fn estimate_gas(&self, from: Address, call: &Call, at: StateAt) -> Result<CallOutcome<u64>, ChainError> {
        const OPERATION: &str = "eth_estimateGas";
        let params = (RawCall::new(from, call), RawBlockId::from(at));
        let answer: Answer<U64> = self.ask_until(OPERATION, params, judge_outcome, ROUNDS).await?;
        Ok(match outcome(OPERATION, answer)? {
            CallOutcome::Returned(gas) => CallOutcome::Returned(gas.to()),
            CallOutcome::Reverted(revert) => CallOutcome::Reverted(revert),
        })
    }

    async fn fees(&self) -> Result<FeeQuote, ChainError> {
        let params = (U64::from(FEE_HISTORY), "latest", [FEE_PERCENTILE]);
        match self.question::<_, RawFeeHistory>("eth_feeHistory", params).await {
            Ok(history) => {
                if let Some(paid) = history.lately_paid() {
                    return self.quote(paid).await;
                }
            }
            // Not every endpoint has the method.
            Err(ChainError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        let head: Option<RawBlock> = self.question("eth_getBlockByNumber", ("latest", false)).await?;
        let base_fee = head
            .and_then(|block| block.base_fee_per_gas)
            .map_or(0, |fee| fee.to::<u128>());
        let priority_fee = match self.question::<_, U128>("eth_maxPriorityFeePerGas", ()).await {
            Ok(fee) => fee.to(),
            // The gas price holds both parts.
            Err(ChainError::Refused { .. }) => {
                let price: U128 = self.question("eth_gasPrice", ()).await?;
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
        let nonce: U64 = self.question("eth_getTransactionCount", (account, at)).await?;
        Ok(nonce.to())
    }

    async fn native_balance(&self, account: Address) -> Result<U256, ChainError> {
        self.question("eth_getBalance", (account, "latest")).await
    }

    async fn code(&self, address: Address) -> Result<Bytes, ChainError> {
        self.question("eth_getCode", (address, "latest")).await
    }

    /// To all endpoints at once that are not resting; the best of their answers counts, and the first good one ends the
    /// wait for the others, who get it all the same.
    async fn broadcast(&self, raw: &Bytes) -> Result<Broadcast, ChainError> {
        const OPERATION: &str = "eth_sendRawTransaction";
        let order = self.pool.order();
        let now = Instant::now();
        let (resting, mut asked): (Vec<_>, Vec<_>) = order
            .into_iter()
            .partition(|&index| self.pool.endpoints[index].health().is_resting(now));
        if asked.is_empty() {
            asked = resting;
        }
        let (answers, mut answered) = mpsc::channel(asked.len().max(1));
        for index in asked {
            let (pool, answers, raw) = (self.pool.clone(), answers.clone(), hex::encode_prefixed(raw));
            tokio::spawn(async move {
                let endpoint = &pool.endpoints[index];
                let answer: Result<Answer<B256>, _> = pool.ask(endpoint, OPERATION, (raw,)).await;
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
        // None is what most questions meet, as long as it waits.
        let judge = |receipt: &Option<RawReceipt>| match receipt.as_ref().and_then(|found| found.block_hash) {
            Some(_) => Verdict::Enough,
            None => Verdict::AskOthers,
        };
        let receipt = self.question_until("eth_getTransactionReceipt", (hash,), judge).await?;
        Ok(receipt.and_then(|receipt| {
            Some(MinedTransaction {
                hash: receipt.transaction_hash,
                from: receipt.from,
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
        self.pool.with_health(|all| {
            let named = self.pool.endpoints.iter().enumerate();
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

pub(super) fn read_refusal(message: &str) -> Broadcast {
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
