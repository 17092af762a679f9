use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    rpc::types::Log,
};
use lloom_ledger::Block;
use lloom_receipts::BlockNumber;
use lloom_watcher::{
    Broadcast, Call, CallOutcome, Chain, ChainError, FeeQuote, MinedTransaction, NonceAt, RpcChain, StateAt,
};

/// A real chain whose broadcasts can be made to hang forever: the moment between storing and broadcasting, stretched.
#[derive(Clone)]
pub struct FaultyChain {
    pub real: RpcChain,
    pub broadcasts_hang: Arc<AtomicBool>,
}

impl Chain for FaultyChain {
    async fn head(&self) -> Result<Block, ChainError> {
        self.real.head().await
    }

    async fn block(&self, number: BlockNumber) -> Result<Option<Block>, ChainError> {
        self.real.block(number).await
    }

    async fn logs(&self, first: BlockNumber, last: Block, addresses: &[Address]) -> Result<Vec<Log>, ChainError> {
        self.real.logs(first, last, addresses).await
    }

    async fn logs_of_block(&self, hash: B256, addresses: &[Address]) -> Result<Vec<Log>, ChainError> {
        self.real.logs_of_block(hash, addresses).await
    }

    async fn call(&self, from: Address, call: &Call, at: StateAt) -> Result<CallOutcome<Bytes>, ChainError> {
        self.real.call(from, call, at).await
    }

    async fn estimate_gas(&self, from: Address, call: &Call, at: StateAt) -> Result<CallOutcome<u64>, ChainError> {
        self.real.estimate_gas(from, call, at).await
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
        self.real.broadcast(raw).await
    }

    async fn transaction_receipt(&self, hash: B256) -> Result<Option<MinedTransaction>, ChainError> {
        self.real.transaction_receipt(hash).await
    }
}
