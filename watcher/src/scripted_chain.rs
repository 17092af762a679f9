//! A chain that does what a test writes down. No EVM: it answers what the follower and the sender ask.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use alloy::{
    primitives::{Address, B256, Bytes, LogData, U256, keccak256},
    rpc::types::Log,
    sol_types::SolEvent as _,
};
use lloom_bindings::ChannelEscrow;
use lloom_ledger::Block;
use lloom_receipts::{BlockNumber, ChannelParameters, Domain, UnixSeconds};

use crate::{
    LogFilter,
    chain::{Broadcast, Call, CallOutcome, Chain, ChainError, FeeQuote, MinedTransaction, NonceAt, StateAt},
};

/// What the escrow of `domain` says of a channel that is opened with `deposit` base units.
pub(crate) fn opened(domain: &Domain, parameters: &ChannelParameters, deposit: u128) -> (Address, LogData) {
    let opened = ChannelEscrow::ChannelOpened {
        channelId: parameters.id(domain).hash(),
        payer: parameters.payer,
        payee: parameters.payee,
        token: parameters.token,
        authorizedSigner: parameters.authorized_signer,
        salt: parameters.salt,
        deposit,
        refundsToBalance: false,
    };
    (domain.escrow(), opened.encode_log_data())
}

#[derive(Clone, Default)]
pub(crate) struct ScriptedChain {
    script: Arc<Mutex<Script>>,
}

/// What a call is answered.
type Answers = Box<dyn Fn(&Call) -> CallOutcome<Bytes> + Send>;

#[derive(Default)]
struct Script {
    blocks: Vec<(Block, Vec<Log>)>,
    forks: u64,
    /// The most blocks whose logs are given at once.
    range_limit: Option<u64>,
    /// How many answers fail before one succeeds again.
    failures: u32,
    ranges: Vec<u64>,
    by_hash: usize,
    /// A block of which no logs are given when it is asked for by its hash.
    bare: Option<B256>,
    receipts: BTreeMap<B256, MinedTransaction>,
    /// A transaction that nothing is said of.
    hidden: Option<B256>,
    broadcasts: Vec<Bytes>,
    broadcasts_fail: bool,
    nonces: (u64, BTreeMap<B256, u64>),
    fees: Option<FeeQuote>,
    /// Everybody's native coins; no end of them unless the test writes otherwise.
    balance: Option<U256>,
    calls: Option<Answers>,
    /// The states on which calls were executed.
    called_at: Vec<StateAt>,
}

impl ScriptedChain {
    /// A chain of `length` blocks above genesis.
    pub(crate) fn with_blocks(length: u64) -> Self {
        let chain = Self::default();
        for _ in 0..=length {
            chain.mine(Vec::new());
        }
        chain
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Adds a block that holds these logs.
    pub(crate) fn mine(&self, logs: Vec<(Address, LogData)>) -> Block {
        let mut script = self.script();
        let number = script.blocks.len() as u64;
        let parent = script.blocks.last().map_or(B256::ZERO, |(block, _)| block.hash);
        let hash = keccak256([parent.as_slice(), &number.to_be_bytes(), &script.forks.to_be_bytes()].concat());
        let block = Block {
            number: BlockNumber::new(number),
            hash,
            parent,
            timestamp: UnixSeconds::new(1_000_000 + 2 * number),
        };
        let logs = logs
            .into_iter()
            .enumerate()
            .map(|(index, (address, data))| Log {
                inner: alloy::primitives::Log { address, data },
                block_hash: Some(hash),
                block_number: Some(number),
                block_timestamp: None,
                transaction_hash: Some(keccak256(hash)),
                transaction_index: Some(0),
                log_index: Some(index as u64),
                removed: false,
            })
            .collect();
        script.blocks.push((block, logs));
        block
    }

    /// Adds so many blocks in which nothing happens.
    pub(crate) fn mine_empty(&self, blocks: usize) {
        for _ in 0..blocks {
            self.mine(Vec::new());
        }
    }

    /// Takes the newest `depth` blocks away. What is mined next is another fork.
    pub(crate) fn fork(&self, depth: usize) {
        let mut script = self.script();
        let left = script.blocks.len() - depth;
        script.blocks.truncate(left);
        script.forks += 1;
    }

    pub(crate) fn limit_ranges(&self, blocks: u64) {
        self.script().range_limit = Some(blocks);
    }

    pub(crate) fn fail_next(&self, answers: u32) {
        self.script().failures = answers;
    }

    /// Gives no logs of a block by its hash, as one of several backends does that has not heard of it.
    pub(crate) fn leave_out_logs_of(&self, block: B256) {
        self.script().bare = Some(block);
    }

    /// The widths of the ranges whose logs were given, and how many blocks were asked for by hash.
    pub(crate) fn log_requests(&self) -> (Vec<u64>, usize) {
        let script = self.script();
        (script.ranges.clone(), script.by_hash)
    }

    pub(crate) fn set_receipt(&self, receipt: MinedTransaction) {
        self.script().receipts.insert(receipt.hash, receipt);
    }

    pub(crate) fn refuse_receipt(&self, hash: B256) {
        self.script().hidden = Some(hash);
    }

    pub(crate) fn forget_receipts(&self) {
        self.script().receipts.clear();
    }

    pub(crate) fn set_nonces(&self, pending: u64, at_blocks: &[(B256, u64)]) {
        self.script().nonces = (pending, at_blocks.iter().copied().collect());
    }

    pub(crate) fn set_fees(&self, fees: FeeQuote) {
        self.script().fees = Some(fees);
    }

    pub(crate) fn set_balance(&self, balance: U256) {
        self.script().balance = Some(balance);
    }

    pub(crate) fn fail_broadcasts(&self, fail: bool) {
        self.script().broadcasts_fail = fail;
    }

    pub(crate) fn broadcasts(&self) -> Vec<Bytes> {
        self.script().broadcasts.clone()
    }

    pub(crate) fn answer_calls(&self, answers: impl Fn(&Call) -> CallOutcome<Bytes> + Send + 'static) {
        self.script().calls = Some(Box::new(answers));
    }

    /// The states of all calls that were answered, in their order.
    pub(crate) fn called_at(&self) -> Vec<StateAt> {
        self.script().called_at.clone()
    }

    fn answering(&self, operation: &'static str) -> Result<MutexGuard<'_, Script>, ChainError> {
        let mut script = self.script();
        if script.failures > 0 {
            script.failures -= 1;
            return Err(ChainError::Unavailable {
                operation,
                endpoint: String::from("scripted"),
                reason: String::from("as the test wrote"),
            });
        }
        Ok(script)
    }
}

fn refused(operation: &'static str, message: &str) -> ChainError {
    ChainError::Refused {
        operation,
        endpoint: String::from("scripted"),
        code: -32_000,
        message: message.to_owned(),
    }
}

impl Chain for ScriptedChain {
    async fn head(&self) -> Result<Block, ChainError> {
        Ok(self.answering("head")?.blocks.last().unwrap().0)
    }

    async fn block(&self, number: BlockNumber) -> Result<Option<Block>, ChainError> {
        let script = self.answering("block")?;
        Ok(script.blocks.get(number.get() as usize).map(|(block, _)| *block))
    }

    async fn logs(&self, first: BlockNumber, last: Block, wanted: &LogFilter) -> Result<Vec<Log>, ChainError> {
        let mut script = self.answering("logs")?;
        if script.blocks.get(last.number.get() as usize).map(|(block, _)| *block) != Some(last) {
            return Err(refused("logs", "another block ends the range"));
        }
        let (first, last) = (first.get(), last.number.get());
        let width = last - first + 1;
        if script.range_limit.is_some_and(|limit| width > limit) {
            return Err(refused("logs", "query exceeds max block range"));
        }
        script.ranges.push(width);
        Ok(script.blocks[first as usize..=last as usize]
            .iter()
            .flat_map(|(_, logs)| logs)
            .filter(|log| wanted.matches(log))
            .cloned()
            .collect())
    }

    async fn logs_of_block(&self, hash: B256, wanted: &LogFilter) -> Result<Vec<Log>, ChainError> {
        let mut script = self.answering("logs_of_block")?;
        script.by_hash += 1;
        let (_, logs) = script
            .blocks
            .iter()
            .find(|(block, _)| block.hash == hash)
            .ok_or_else(|| refused("logs_of_block", "unknown block"))?;
        if script.bare == Some(hash) {
            return Ok(Vec::new());
        }
        let logs = logs.iter().filter(|log| wanted.matches(log));
        Ok(logs.cloned().collect())
    }

    async fn call(&self, _: Address, call: &Call, at: StateAt) -> Result<CallOutcome<Bytes>, ChainError> {
        let mut script = self.script();
        let Some(answers) = &script.calls else {
            return Err(refused("call", "a scripted chain executes nothing"));
        };
        let answer = answers(call);
        script.called_at.push(at);
        Ok(answer)
    }

    async fn estimate_gas(&self, _: Address, _: &Call, _: StateAt) -> Result<CallOutcome<u64>, ChainError> {
        Ok(CallOutcome::Returned(100_000))
    }

    async fn fees(&self) -> Result<FeeQuote, ChainError> {
        Ok(self.answering("fees")?.fees.unwrap_or(FeeQuote {
            base_fee: 10,
            priority_fee: 1,
        }))
    }

    async fn nonce(&self, _: Address, at: NonceAt) -> Result<u64, ChainError> {
        let script = self.answering("nonce")?;
        Ok(match at {
            NonceAt::Pending => script.nonces.0,
            NonceAt::Block(hash) => script.nonces.1.get(&hash).copied().unwrap_or(0),
        })
    }

    async fn native_balance(&self, _: Address) -> Result<U256, ChainError> {
        Ok(self.answering("native_balance")?.balance.unwrap_or(U256::MAX))
    }

    async fn code(&self, _: Address) -> Result<Bytes, ChainError> {
        Ok(Bytes::new())
    }

    async fn broadcast(&self, raw: &Bytes) -> Result<Broadcast, ChainError> {
        let mut script = self.answering("broadcast")?;
        if script.broadcasts_fail {
            return Err(refused("broadcast", "as the test wrote"));
        }
        script.broadcasts.push(raw.clone());
        Ok(Broadcast::Accepted)
    }

    async fn transaction_receipt(&self, hash: B256) -> Result<Option<MinedTransaction>, ChainError> {
        let script = self.answering("transaction_receipt")?;
        if script.hidden == Some(hash) {
            return Err(refused("transaction_receipt", "transaction indexing is in progress"));
        }
        Ok(script.receipts.get(&hash).cloned())
    }
}
