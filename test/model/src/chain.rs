//! The contracts' bytecode, in an EVM in this process.

use std::sync::Arc;

use alloy::primitives::{Address, Bytes, Log, U256, address, hex};
use revm::{
    Context, ExecuteCommitEvm, ExecuteEvm, MainBuilder, MainContext, MainnetEvm,
    bytecode::Bytecode,
    context::{
        BlockEnv, CfgEnv, Journal, TxEnv,
        result::{ExecutionResult, Output},
    },
    database::{CacheDB, EmptyDB},
    primitives::TxKind,
    state::AccountInfo,
};

use crate::{
    action::Action,
    artifact,
    outcome::{Outcome, Revert},
    world::{CHAIN_ID, START, World},
};

type Db = CacheDB<EmptyDB>;
type Evm = MainnetEvm<Context<BlockEnv, TxEnv, CfgEnv, Db, Journal<Db>, ()>>;

/// Who deploys everything.
const DEPLOYER: Address = address!("0x00000000000000000000000000000000000d0001");
const AGREEABLE: Address = address!("0x00000000000000000000000000000000000d0002");
const BLOCKING_TOKEN: Address = address!("0x00000000000000000000000000000000000d0003");

/// Enough for every call, and below the limit of a transaction (EIP-7825).
const GAS_LIMIT: u64 = 16_000_000;

/// A chain with the contracts on it. A clone is another chain, with the same past.
pub struct Chain {
    /// Who takes part.
    pub world: Arc<World>,
    evm: Evm,
}

impl Chain {
    /// Deploys the contracts.
    ///
    /// # Panics
    /// If they can't be deployed.
    pub fn deploy() -> Self {
        let mut db = Db::default();
        let token = DEPLOYER.create(1);
        let code = |code: Vec<u8>| AccountInfo::from_bytecode(Bytecode::new_raw(code.into()));
        db.insert_account_info(AGREEABLE, code(agreeable_code()));
        db.insert_account_info(BLOCKING_TOKEN, code(blocking_code(token, World::blocked())));

        let block = BlockEnv {
            number: U256::ONE,
            timestamp: U256::from(START),
            ..BlockEnv::default()
        };
        let mut evm = evm(db, block);
        let deployer = create(&mut evm, artifact::deployer());
        assert_eq!(create(&mut evm, artifact::token()), token, "the token is elsewhere");
        Self {
            world: Arc::new(World::new(deployer, token, BLOCKING_TOKEN, AGREEABLE)),
            evm,
        }
    }

    /// Does a step, and says what came of it.
    ///
    /// # Panics
    /// If a transaction neither returns nor reverts.
    pub fn apply(&mut self, action: &Action) -> Option<Outcome> {
        match action {
            Action::Wait(seconds) => {
                self.evm.ctx.block.timestamp += U256::from(*seconds);
                self.evm.ctx.block.number += U256::ONE;
                None
            }
            Action::Call { caller, to, call } => {
                let transaction = transaction(*caller, TxKind::Call(*to), call.data());
                let result = self.evm.transact_commit(transaction).expect("the transaction is valid");
                Some(outcome(result))
            }
        }
    }

    /// Asks several views at once, and changes nothing.
    ///
    /// # Panics
    /// If a view does not return.
    pub fn ask(&mut self, calls: impl IntoIterator<Item = (Address, Bytes)>) -> Vec<Bytes> {
        let answers = calls
            .into_iter()
            .map(|(to, data)| {
                let result = self.evm.transact_one(transaction(DEPLOYER, TxKind::Call(to), data));
                outcome(result.expect("the call is valid"))
                    .result
                    .expect("a view returns")
            })
            .collect();
        self.evm.finalize();
        answers
    }
}

impl Clone for Chain {
    fn clone(&self) -> Self {
        let db = self.evm.ctx.journaled_state.database.clone();
        Self {
            world: Arc::clone(&self.world),
            evm: evm(db, self.evm.ctx.block.clone()),
        }
    }
}

fn evm(db: Db, block: BlockEnv) -> Evm {
    let mut cfg = CfgEnv::default();
    cfg.chain_id = CHAIN_ID;
    cfg.disable_nonce_check = true;
    Context::mainnet()
        .with_db(db)
        .with_cfg(cfg)
        .with_block(block)
        .build_mainnet()
}

fn create(evm: &mut Evm, code: Bytes) -> Address {
    let nonce = evm
        .ctx
        .journaled_state
        .database
        .load_account(DEPLOYER)
        .map_or(0, |account| account.info.nonce);
    let mut transaction = transaction(DEPLOYER, TxKind::Create, code);
    transaction.nonce = nonce;
    match evm.transact_commit(transaction) {
        Ok(ExecutionResult::Success {
            output: Output::Create(_, Some(address)),
            ..
        }) => address,
        other => panic!("a contract was not created: {other:?}"),
    }
}

fn transaction(caller: Address, kind: TxKind, data: Bytes) -> TxEnv {
    TxEnv {
        caller,
        kind,
        data,
        gas_limit: GAS_LIMIT,
        gas_price: 0,
        chain_id: Some(CHAIN_ID),
        ..TxEnv::default()
    }
}

fn outcome(result: ExecutionResult) -> Outcome {
    match result {
        ExecutionResult::Success { logs, output, .. } => Outcome {
            result: Ok(output.into_data()),
            events: logs.into_iter().collect::<Vec<Log>>(),
        },
        ExecutionResult::Revert { output, .. } => Outcome {
            result: Err(Revert(output)),
            events: Vec::new(),
        },
        ExecutionResult::Halt { reason, .. } => panic!("a transaction halted: {reason:?}"),
    }
}

/// `PUSH4 magic PUSH1 224 SHL PUSH0 MSTORE PUSH1 32 PUSH0 RETURN`
fn agreeable_code() -> Vec<u8> {
    hex!("63 1626ba7e 60e0 1b 5f 52 6020 5f f3").to_vec()
}

/// Hands every call on to the code of `token`, but reverts `transfer` to `blocked`.
fn blocking_code(token: Address, blocked: Address) -> Vec<u8> {
    [
        // The selector is that of `transfer(address,uint256)` …
        &hex!("5f 35 60e0 1c 63 a9059cbb 14")[..],
        // … and its first argument is the blocked account: jump to the last line.
        &hex!("6004 35 73"),
        blocked.as_slice(),
        &hex!("14 16 6055 57"),
        // Copy the call's data, and delegate.
        &hex!("36 5f 5f 37 5f 5f 36 5f 73"),
        token.as_slice(),
        &hex!("5a f4"),
        // Return, or revert with, what came back.
        &hex!("3d 5f 5f 3e 6051 57 3d 5f fd 5b 3d 5f f3"),
        &hex!("5b 5f 5f fd"),
    ]
    .concat()
}
