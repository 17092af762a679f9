use std::{future::Future, time::Duration};

use alloy::{
    primitives::{Address, B256, Bytes, U256},
    rpc::types::Log,
    sol_types::SolCall,
};
use lloom_ledger::Block;
use lloom_receipts::BlockNumber;

use crate::LogFilter;

/// What the watcher needs of a chain. [`RpcChain`](crate::RpcChain) is the real one; a simulation may stand in.
///
/// Every answer is one endpoint's at one moment: two calls may see two forks. Whoever joins answers has to compare
/// block hashes.
pub trait Chain: Clone + Send + Sync + 'static {
    /// The newest block.
    fn head(&self) -> impl Future<Output = Result<Block, ChainError>> + Send;

    /// The canonical block at `number`, if the chain is that long.
    fn block(&self, number: BlockNumber) -> impl Future<Output = Result<Option<Block>, ChainError>> + Send;

    /// The logs `wanted` in the canonical blocks from `first` up to `last`, of an endpoint that has exactly this
    /// `last` at its height, still after it has answered; an error otherwise. One that is behind would leave the newest
    /// logs out without a word.
    fn logs(
        &self,
        first: BlockNumber,
        last: Block,
        wanted: &LogFilter,
    ) -> impl Future<Output = Result<Vec<Log>, ChainError>> + Send;

    /// The logs `wanted` in exactly the block named `hash`; an error when the endpoint doesn't know it.
    fn logs_of_block(
        &self,
        hash: B256,
        wanted: &LogFilter,
    ) -> impl Future<Output = Result<Vec<Log>, ChainError>> + Send;

    /// Executes `call` by `from` on the state `at`, without a transaction.
    fn call(
        &self,
        from: Address,
        call: &Call,
        at: StateAt,
    ) -> impl Future<Output = Result<CallOutcome<Bytes>, ChainError>> + Send;

    /// The gas `call` by `from` needs on the state `at`.
    fn estimate_gas(
        &self,
        from: Address,
        call: &Call,
        at: StateAt,
    ) -> impl Future<Output = Result<CallOutcome<u64>, ChainError>> + Send;

    /// What gas costs in the next block, and what the last blocks paid beyond it.
    fn fees(&self) -> impl Future<Output = Result<FeeQuote, ChainError>> + Send;

    /// How many transactions of `account` are counted at `at`: the next nonce there.
    fn nonce(&self, account: Address, at: NonceAt) -> impl Future<Output = Result<u64, ChainError>> + Send;

    /// The native coins of `account`, wei.
    fn native_balance(&self, account: Address) -> impl Future<Output = Result<U256, ChainError>> + Send;

    /// The code at `address`; empty when there is none.
    fn code(&self, address: Address) -> impl Future<Output = Result<Bytes, ChainError>> + Send;

    /// Hands a signed transaction to the network.
    fn broadcast(&self, raw: &Bytes) -> impl Future<Output = Result<Broadcast, ChainError>> + Send;

    /// The receipt of a transaction, if a canonical block holds it.
    fn transaction_receipt(
        &self,
        hash: B256,
    ) -> impl Future<Output = Result<Option<MinedTransaction>, ChainError>> + Send;

    /// How the endpoints behind it do, in the order they are configured; empty for a chain that has none.
    fn endpoints(&self) -> Vec<EndpointHealth> {
        Vec::new()
    }
}

/// A call of a contract, or a transfer of native coins where `data` is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who is called.
    pub to: Address,
    /// Calldata.
    pub data: Bytes,
    /// Native coins to send along, wei.
    pub value: U256,
}

impl Call {
    /// A call of the contract at `to` that sends no coins.
    pub fn contract(to: Address, call: &impl SolCall) -> Self {
        Self {
            to,
            data: call.abi_encode().into(),
            value: U256::ZERO,
        }
    }

    /// A transfer of native coins, wei.
    pub const fn transfer(to: Address, value: U256) -> Self {
        Self {
            to,
            data: Bytes::new(),
            value,
        }
    }
}

/// How a simulated call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallOutcome<T> {
    /// With this answer.
    Returned(T),
    /// The contract refused it.
    Reverted(Revert),
}

/// A contract's refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revert {
    /// What the endpoint said.
    pub message: String,
    /// The encoded custom error; empty where the endpoint keeps it to itself.
    pub data: Bytes,
}

impl std::fmt::Display for Revert {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match crate::revert::name(&self.data) {
            Some(name) => formatter.write_str(&name),
            None => formatter.write_str(&self.message),
        }
    }
}

/// What gas costs, wei per gas (EIP-1559).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeeQuote {
    /// Burned, of the next block.
    pub base_fee: u128,
    /// What blocks' makers were lately paid beyond it.
    pub priority_fee: u128,
}

impl FeeQuote {
    /// What one gas costs if the next block takes the transaction.
    pub const fn gas_price(self) -> u128 {
        self.base_fee.saturating_add(self.priority_fee)
    }
}

/// On which state a call is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateAt {
    /// The newest that the endpoint asked has. Two calls may see two.
    Latest,
    /// After the block of this hash; an error when no endpoint has it.
    Block(B256),
}

/// Where a nonce is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceAt {
    /// After everything the endpoint's pool holds.
    Pending,
    /// After the block of this hash.
    Block(B256),
}

/// What an endpoint made of a broadcast. None of these says whether the transaction will be mined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// It is in the pool.
    Accepted,
    /// It was there, or in a block, already.
    AlreadyKnown,
    /// Its nonce is used: by itself, by its replacement, or by a stranger.
    NonceUsed,
    /// The pool won't have it now.
    Refused {
        /// The endpoint's words.
        reason: String,
    },
}

/// A transaction that a canonical block holds.
#[derive(Clone, Debug)]
pub struct MinedTransaction {
    /// Its hash.
    pub hash: B256,
    /// Who signed it.
    pub from: Address,
    /// The block.
    pub block: BlockNumber,
    /// The block's hash.
    pub block_hash: B256,
    /// Whether it ran through; a reverted one moved nothing but its fee.
    pub succeeded: bool,
    /// Gas it used.
    pub gas_used: u64,
    /// What it paid, wei per gas.
    pub gas_price: u128,
    /// What it said.
    pub logs: Vec<Log>,
}

/// How one endpoint does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointHealth {
    /// Host and port: the path may hold a key.
    pub name: String,
    /// Whether it is asked.
    pub standing: Standing,
    /// The newest block it has shown.
    pub head: Option<BlockNumber>,
    /// How many blocks that is behind the best of all endpoints.
    pub behind: u64,
    /// Its recent failures, in thousandths of its answers.
    pub failures_per_mille: u32,
    /// How long its answers take, lately.
    pub latency: Option<Duration>,
}

/// Whether an endpoint is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It has answered, and shown that it serves the chain.
    Healthy,
    /// Nothing was asked of it yet, or it has to show again which chain it serves.
    #[default]
    Unproven,
    /// Its newest block is far behind another endpoint's, or on another fork: its head is not believed.
    Stale,
    /// It failed, and is left alone for a while.
    Resting,
}

/// Why a chain gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// No endpoint answered. Try again later.
    #[error("{operation}: no endpoint answered; {endpoint} said: {reason}")]
    Unavailable {
        /// What was asked, a JSON-RPC method.
        operation: &'static str,
        /// The endpoint asked first, without its path (which may hold a key).
        endpoint: String,
        /// What went wrong, there and at the others.
        reason: String,
    },
    /// An endpoint answered with an error.
    #[error("{operation}: {endpoint} answered {message} ({code})")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// Who was asked.
        endpoint: String,
        /// The JSON-RPC error code.
        code: i64,
        /// Its message.
        message: String,
    },
    /// An endpoint serves another chain.
    #[error("{endpoint} serves the chain {found}, not {expected}")]
    WrongChain {
        /// Which endpoint.
        endpoint: String,
        /// The chain id configured.
        expected: u64,
        /// The chain id it serves.
        found: u64,
    },
    /// An endpoint serves a chain of the same id that began otherwise.
    #[error("{endpoint} serves a chain that began with block {found}, not {expected}")]
    WrongGenesis {
        /// Which endpoint.
        endpoint: String,
        /// The genesis hash expected.
        expected: B256,
        /// The genesis hash it serves.
        found: B256,
    },
    /// A contract refused to be read.
    #[error("{operation}: the contract {contract} answered {revert}")]
    Reverted {
        /// The view.
        operation: &'static str,
        /// Which contract.
        contract: Address,
        /// Its refusal.
        revert: Revert,
    },
    /// An answer that can't be read.
    #[error("{operation}: the answer can't be read: {reason}")]
    Malformed {
        /// What was asked.
        operation: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl ChainError {
    /// Whether waiting can help. A wrong chain stays wrong.
    pub const fn is_transient(&self) -> bool {
        !matches!(self, Self::WrongChain { .. } | Self::WrongGenesis { .. })
    }
}
