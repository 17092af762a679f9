//! Transactions and calls, executed by revm on the contracts' committed bytecode.

use alloy::primitives::{Address, Bytes, Log, TxKind, U256};
use revm::{
    Context, DatabaseCommit, DatabaseRef, ExecuteCommitEvm, ExecuteEvm, MainBuilder, MainContext,
    context::{
        BlockEnv, CfgEnv, TxEnv,
        result::{EVMError, ExecutionResult, Output},
    },
    database::{CacheDB, EmptyDB},
};

/// A chain's state after a block.
pub type State = CacheDB<EmptyDB>;

/// Enough for every call here, and below the limit of a transaction (EIP-7825).
pub const GAS_LIMIT: u64 = 16_000_000;

/// Where a transaction or call is executed.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    /// The chain's id.
    pub chain_id: u64,
    /// The block's number.
    pub number: u64,
    /// The block's time, Unix seconds.
    pub timestamp: u64,
    /// The block's base fee, wei.
    pub base_fee: u128,
}

/// What came of an execution.
#[derive(Clone, Debug)]
pub struct Executed {
    /// Whether it ran through.
    pub succeeded: bool,
    /// What it returned, or why it reverted.
    pub output: Bytes,
    /// What it said.
    pub logs: Vec<Log>,
    /// Gas it used.
    pub gas_used: u64,
    /// Gas it needed at the most, before refunds.
    pub gas_spent: u64,
}

/// A call by an account whose nonce and balance don't matter.
pub fn call_env(from: Address, to: TxKind, data: Bytes, value: U256, gas_limit: u64) -> TxEnv {
    TxEnv {
        caller: from,
        kind: to,
        data,
        value,
        gas_limit,
        gas_price: 0,
        chain_id: None,
        ..TxEnv::default()
    }
}

/// Executes `transaction` and changes `state`.
///
/// # Errors
/// Why the transaction can't be in a block.
pub fn commit(state: &mut State, at: Surroundings, transaction: TxEnv, checked: bool) -> Result<Executed, String> {
    let taken = std::mem::take(state);
    let mut evm = Context::mainnet()
        .with_db(taken)
        .with_cfg(config(at, checked))
        .with_block(block_env(at, checked))
        .build_mainnet();
    let result = evm.transact_commit(transaction);
    *state = std::mem::take(&mut evm.ctx.journaled_state.database);
    result.map(executed).map_err(|error| error.to_string())
}

/// Executes `transaction` and changes nothing.
///
/// # Errors
/// Why it can't be executed.
pub fn call(state: &State, at: Surroundings, transaction: TxEnv) -> Result<Executed, String> {
    let mut evm = Context::mainnet()
        .with_db(CacheDB::new(state))
        .with_cfg(config(at, false))
        .with_block(block_env(at, false))
        .build_mainnet();
    let result: Result<_, EVMError<<State as DatabaseRef>::Error>> = evm.transact_one(transaction);
    result.map(executed).map_err(|error| error.to_string())
}

fn config(at: Surroundings, checked: bool) -> CfgEnv {
    let mut config = CfgEnv::default();
    config.chain_id = at.chain_id;
    config.disable_nonce_check = !checked;
    config
}

fn block_env(at: Surroundings, checked: bool) -> BlockEnv {
    BlockEnv {
        number: U256::from(at.number),
        timestamp: U256::from(at.timestamp),
        basefee: if checked {
            u64::try_from(at.base_fee).unwrap_or(u64::MAX)
        } else {
            0
        },
        ..BlockEnv::default()
    }
}

fn executed(result: ExecutionResult) -> Executed {
    let gas = *result.gas();
    let (succeeded, output, logs) = match result {
        ExecutionResult::Success { output, logs, .. } => {
            let data = match output {
                Output::Call(data) | Output::Create(data, _) => data,
            };
            (true, data, logs)
        }
        ExecutionResult::Revert { output, .. } => (false, output, Vec::new()),
        ExecutionResult::Halt { .. } => (false, Bytes::new(), Vec::new()),
    };
    Executed {
        succeeded,
        output,
        logs,
        gas_used: gas.tx_gas_used(),
        gas_spent: gas.total_gas_spent(),
    }
}

/// Writes an account's coins into `state`.
pub fn endow(state: &mut State, account: Address, wei: U256) {
    let mut info = state.basic_ref(account).ok().flatten().unwrap_or_default();
    info.balance = wei;
    state.insert_account_info(account, info);
    state.commit(Default::default());
}

/// What is known of an account.
pub fn account(state: &State, account: Address) -> (u64, U256) {
    let info = state.basic_ref(account).ok().flatten().unwrap_or_default();
    (info.nonce, info.balance)
}

/// The code at an address.
pub fn code(state: &State, at: Address) -> Bytes {
    let info = state.basic_ref(at).ok().flatten().unwrap_or_default();
    match info.code {
        Some(code) => code.original_bytes(),
        None => state
            .code_by_hash_ref(info.code_hash)
            .map(|code| code.original_bytes())
            .unwrap_or_default(),
    }
}
