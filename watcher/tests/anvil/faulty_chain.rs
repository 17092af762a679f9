use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    rpc::types::Log,
};
use lloom_ledger::Block;
use lloom_receipts::BlockNumber;
use lloom_watcher::{
    Broadcast, Call, CallOutcome, Chain, ChainError, FeeQuote, LogFilter, MinedTransaction, NonceAt, Revert, RpcChain,
    StateAt,
};

/// A real chain whose broadcasts can be made to hang forever (the moment between storing and broadcasting, stretched), and
/// that can refuse transactions, refuse and multiply estimates, revert calls, stand still and keep receipts to itself. It
/// remembers on which states calls were executed.
#[derive(Clone)]
pub struct FaultyChain {
    pub real: RpcChain,
    pub broadcasts_hang: Arc<AtomicBool>,
    pub broadcasts_refused: Arc<AtomicBool>,
    pub receipts_fail: Arc<AtomicBool>,
    pub logs_fail: Arc<AtomicBool>,
    /// How many times as much gas as it takes every call is estimated to take.
    pub overestimates: Arc<AtomicU64>,
    asked: Arc<Mutex<Asked>>,
    refused: Arc<Mutex<Option<Calls>>>,
    reverted: Arc<Mutex<Option<Calls>>>,
    head: Arc<Mutex<Option<Block>>>,
}

/// On which states calls were executed, and what they were estimated to take.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub called_at: Vec<StateAt>,
    pub estimated_at: Vec<StateAt>,
    pub estimates: Vec<u64>,
}

/// Some calls.
#[derive(Clone, Copy, Debug)]
pub enum Calls {
    /// Those with more bytes than this.
    LongerThan(usize),
    /// Those in which this word stands.
    Naming(B256),
}

impl Calls {
    fn include(self, call: &Call) -> bool {
        match self {
            Self::LongerThan(length) => call.data.len() > length,
            Self::Naming(word) => call.data.windows(32).any(|part| part == word.as_slice()),
        }
    }
}

impl FaultyChain {
    pub fn new(real: RpcChain) -> Self {
        Self {
            real,
            broadcasts_hang: Arc::default(),
            broadcasts_refused: Arc::default(),
            receipts_fail: Arc::default(),
            logs_fail: Arc::default(),
            overestimates: Arc::new(AtomicU64::new(1)),
            asked: Arc::default(),
            refused: Arc::default(),
            reverted: Arc::default(),
            head: Arc::default(),
        }
    }

    /// What was asked since this was called last.
    pub fn take_asked(&self) -> Asked {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// Answers no estimate of these any more but with an error that says nothing of the contract.
    pub fn refuse_estimates(&self, calls: Option<Calls>) {
        *self.refused.lock().unwrap() = calls;
    }

    /// Shows this as the newest block from now on, as an endpoint without peers does.
    pub fn stand_still_at(&self, head: Block) {
        *self.head.lock().unwrap() = Some(head);
    }

    /// Shows the newest block again.
    pub fn go_on(&self) {
        *self.head.lock().unwrap() = None;
    }

    fn may_give_logs(&self) -> Result<(), ChainError> {
        match self.logs_fail.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(ChainError::Unavailable {
                operation: "eth_getLogs",
                endpoint: String::from("here"),
                reason: String::from("too many requests"),
            }),
        }
    }

    /// Has these calls reverted, as if the contract did it.
    pub fn revert(&self, calls: Option<Calls>) {
        *self.reverted.lock().unwrap() = calls;
    }
}

fn chosen(calls: &Mutex<Option<Calls>>, call: &Call) -> bool {
    let calls = *calls.lock().unwrap();
    calls.is_some_and(|calls| calls.include(call))
}

impl Chain for FaultyChain {
    async fn head(&self) -> Result<Block, ChainError> {
        let stands_at = *self.head.lock().unwrap();
        match stands_at {
            Some(head) => Ok(head),
            None => self.real.head().await,
        }
    }

    async fn block(&self, number: BlockNumber) -> Result<Option<Block>, ChainError> {
        self.real.block(number).await
    }

    async fn logs(&self, first: BlockNumber, last: Block, wanted: &LogFilter) -> Result<Vec<Log>, ChainError> {
        self.may_give_logs()?;
        self.real.logs(first, last, wanted).await
    }

    async fn logs_of_block(&self, hash: B256, wanted: &LogFilter) -> Result<Vec<Log>, ChainError> {
        self.may_give_logs()?;
        self.real.logs_of_block(hash, wanted).await
    }

    async fn call(&self, from: Address, call: &Call, at: StateAt) -> Result<CallOutcome<Bytes>, ChainError> {
        self.asked.lock().unwrap().called_at.push(at);
        if chosen(&self.reverted, call) {
            return Ok(CallOutcome::Reverted(Revert {
                message: String::from("a row of it can't be settled"),
                data: Bytes::new(),
            }));
        }
        self.real.call(from, call, at).await
    }

    async fn estimate_gas(&self, from: Address, call: &Call, at: StateAt) -> Result<CallOutcome<u64>, ChainError> {
        if chosen(&self.refused, call) {
            return Err(ChainError::Refused {
                operation: "eth_estimateGas",
                endpoint: String::from("a faulty endpoint"),
                code: -32_000,
                message: String::from("request is too large"),
            });
        }
        self.asked.lock().unwrap().estimated_at.push(at);
        let estimated = self.real.estimate_gas(from, call, at).await?;
        Ok(match estimated {
            CallOutcome::Returned(gas) => {
                let gas = gas * self.overestimates.load(Ordering::Relaxed);
                self.asked.lock().unwrap().estimates.push(gas);
                CallOutcome::Returned(gas)
            }
            CallOutcome::Reverted(_) => estimated,
        })
    }

    async fn fees(&self) -> Result<FeeQuote, ChainError> {
        self.real.fees().await
    }

    async fn nonce(&self, account: Address, at: NonceAt) -> Result<u64, ChainError> {
        self.real.nonce(account, at).await
    }

    async fn native_balance(&self, account: Address) -> Result<U256, ChainError> {
        self.real.native_balance(account).await
    }

    async fn code(&self, address: Address) -> Result<Bytes, ChainError> {
        self.real.code(address).await
    }

    async fn broadcast(&self, raw: &Bytes) -> Result<Broadcast, ChainError> {
        if self.broadcasts_hang.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.broadcasts_refused.load(Ordering::Relaxed) {
            return Ok(Broadcast::Refused {
                reason: String::from("a faulty endpoint takes nothing"),
            });
        }
        self.real.broadcast(raw).await
    }

    async fn transaction_receipt(&self, hash: B256) -> Result<Option<MinedTransaction>, ChainError> {
        if self.receipts_fail.load(Ordering::Relaxed) {
            return Err(ChainError::Unavailable {
                operation: "eth_getTransactionReceipt",
                endpoint: String::from("a faulty endpoint"),
                reason: String::from("it does not answer"),
            });
        }
        self.real.transaction_receipt(hash).await
    }
}
