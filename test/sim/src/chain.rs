//! The chain: blocks and forks, a pool, people's transactions, and endpoints that show all of it well or badly.

mod endpoint;
pub mod evm;
mod genesis;
mod pool;
mod sim_chain;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use alloy::{
    primitives::{Address, B256, Bytes, TxKind, U256, keccak256},
    rpc::types::Log,
    sol_types::SolCall,
};
use lloom_ledger::Block;
use lloom_receipts::{BlockNumber, UnixSeconds};
use lloom_watcher::{Broadcast, Call};
use revm::context::TxEnv;

pub use self::{
    endpoint::{Endpoint, View, Weather},
    genesis::{CHAIN_ID, Genesis, TOKENS},
    sim_chain::{BROADCAST_DONE, SimChain},
};
use self::{
    evm::{Executed, State, Surroundings},
    pool::{Pool, Pooled},
};
use crate::fault::{Fault, Faults};

/// The time that every simulation begins at, Unix seconds.
pub const START: u64 = 1_800_000_000;

/// Gas of one block.
const BLOCK_GAS: u64 = 30_000_000;

/// A block and all that came of it.
#[derive(Debug)]
pub struct SimBlock {
    /// Its place in the chain.
    pub header: Block,
    /// Its base fee, wei.
    pub base_fee: u128,
    /// The state after it.
    pub state: State,
    /// Its transactions, in order.
    pub transactions: Vec<Included>,
    /// What its transactions said, in order.
    pub logs: Vec<Log>,
}

/// A transaction in a block.
#[derive(Clone, Debug)]
pub struct Included {
    /// Its hash.
    pub hash: B256,
    /// Who sent it.
    pub sender: Address,
    /// What it paid, wei per gas.
    pub gas_price: u128,
    /// What came of it.
    pub executed: Executed,
    /// What it is made of, should a fork take it back.
    origin: Origin,
}

#[derive(Clone, Debug)]
enum Origin {
    Pool(Box<Pooled>),
    People(Errand),
}

/// What somebody does without a node: a transaction that the next block takes, whatever gas costs.
#[derive(Clone, Debug)]
pub struct Errand {
    id: u64,
    from: Address,
    call: Call,
}

/// The blocks there are, the transactions that wait, and what gas costs.
#[derive(Debug)]
pub struct Blockchain {
    canonical: Arc<Vec<Arc<SimBlock>>>,
    /// Every block that ever was, on whichever fork.
    known: HashMap<B256, Arc<SimBlock>>,
    /// The blocks that hold a transaction, on whichever fork.
    holders: HashMap<B256, Vec<B256>>,
    pool: Pool,
    errands: Vec<Errand>,
    errands_run: u64,
    forks: u64,
    /// The next block's base fee, wei.
    pub base_fee: u128,
    /// How many blocks from now on take no transaction of the pool.
    pub stuck_blocks: u64,
    /// What went wrong on it.
    pub faults: Faults,
    /// Every transaction that was ever handed to the network: what each account signed for each nonce.
    pub signed: BTreeMap<(Address, u64), Vec<(B256, Call)>>,
}

impl Blockchain {
    /// A chain of one block, with the contracts deployed and everybody endowed.
    pub fn new(genesis: &Genesis) -> Self {
        let header = Block {
            number: BlockNumber::new(0),
            hash: keccak256("genesis"),
            parent: B256::ZERO,
            timestamp: UnixSeconds::new(START),
        };
        let block = Arc::new(SimBlock {
            header,
            base_fee: 1_000_000_000,
            state: genesis.state.clone(),
            transactions: Vec::new(),
            logs: Vec::new(),
        });
        Self {
            known: HashMap::from([(header.hash, Arc::clone(&block))]),
            canonical: Arc::new(vec![block]),
            holders: HashMap::new(),
            pool: Pool::default(),
            errands: Vec::new(),
            errands_run: 0,
            forks: 0,
            base_fee: 1_000_000_000,
            stuck_blocks: 0,
            faults: Faults::default(),
            signed: BTreeMap::new(),
        }
    }

    /// The newest block.
    ///
    /// # Panics
    /// Never: there is always the first.
    pub fn head(&self) -> &Arc<SimBlock> {
        self.canonical.last().expect("a chain has a first block")
    }

    /// The blocks, the first one first.
    pub fn canonical(&self) -> &[Arc<SimBlock>] {
        &self.canonical
    }

    /// A view that shows everything there is.
    pub fn view(&self) -> View {
        View::new(Arc::clone(&self.canonical))
    }

    /// Has somebody send a transaction.
    pub fn run_errand(&mut self, from: Address, to: Address, call: &impl SolCall) {
        self.run_call(from, Call::contract(to, call));
    }

    /// Has somebody send a transaction.
    pub fn run_call(&mut self, from: Address, call: Call) {
        let id = self.errands_run;
        self.errands_run += 1;
        self.errands.push(Errand { id, from, call });
    }

    /// Has somebody send a transaction that waits like those of nodes, and offers `max_fee`, wei per gas.
    pub fn queue_call(&mut self, from: Address, call: Call, max_fee: u128) {
        let (used, balance) = evm::account(&self.head().state, from);
        let id = self.errands_run;
        self.errands_run += 1;
        let sent = TxEnv {
            tx_type: 2,
            gas_price: max_fee,
            gas_priority_fee: Some(1),
            nonce: self.pool.next_nonce(from, used),
            chain_id: Some(CHAIN_ID),
            ..evm::call_env(from, TxKind::Call(call.to), call.data, call.value, 21_000)
        };
        let pooled = Pooled {
            hash: errand_hash(id),
            env: sent,
            is_errand: true,
        };
        // One that the pool refuses was never sent.
        if self.pool.take(pooled, used, balance) == Broadcast::Accepted {
            self.faults.count(Fault::Stranger);
        }
    }

    /// Asks a contract's view on the newest state.
    ///
    /// # Panics
    /// If the view reverts.
    pub fn read<V: SolCall>(&self, contract: Address, view: &V) -> V::Return {
        let head = self.head();
        let env = evm::call_env(
            Address::ZERO,
            TxKind::Call(contract),
            view.abi_encode().into(),
            U256::ZERO,
            evm::GAS_LIMIT,
        );
        let executed = evm::call(&head.state, surroundings(head), env).expect("the view is called");
        V::abi_decode_returns(&executed.output).expect("the view answers")
    }

    /// Adds a block made at `now`, from the errands and the pool.
    pub fn mine(&mut self, now: UnixSeconds) -> Arc<SimBlock> {
        let parent = Arc::clone(self.head());
        let number = parent.header.number.next();
        let timestamp = now.max(parent.header.timestamp.plus(std::time::Duration::from_secs(1)));
        let at = Surroundings {
            chain_id: CHAIN_ID,
            number: number.get(),
            timestamp: timestamp.get(),
            base_fee: self.base_fee,
        };
        let mut state = parent.state.clone();
        let mut transactions = Vec::new();
        for errand in std::mem::take(&mut self.errands) {
            let call = errand.call.clone();
            let env = evm::call_env(
                errand.from,
                TxKind::Call(call.to),
                call.data,
                call.value,
                evm::GAS_LIMIT,
            );
            if let Ok(executed) = evm::commit(&mut state, at, env, false) {
                transactions.push(Included {
                    hash: errand_hash(errand.id),
                    sender: errand.from,
                    gas_price: self.base_fee,
                    executed,
                    origin: Origin::People(errand),
                });
            }
        }
        if self.stuck_blocks > 0 {
            self.stuck_blocks -= 1;
            self.faults.count_many(Fault::Stuck, self.pool.len());
        } else {
            self.take_from_pool(&mut state, at, &mut transactions);
        }
        let mut preimage = [parent.header.hash.as_slice(), &number.get().to_be_bytes()].concat();
        preimage.extend(timestamp.get().to_be_bytes());
        preimage.extend(self.forks.to_be_bytes());
        for included in &transactions {
            preimage.extend(included.hash);
        }
        let header = Block {
            number,
            hash: keccak256(preimage),
            parent: parent.header.hash,
            timestamp,
        };
        let block = Arc::new(SimBlock {
            header,
            base_fee: self.base_fee,
            state,
            logs: logs(&header, &transactions),
            transactions,
        });
        for included in &block.transactions {
            self.holders.entry(included.hash).or_default().push(header.hash);
        }
        self.known.insert(header.hash, Arc::clone(&block));
        Arc::make_mut(&mut self.canonical).push(Arc::clone(&block));
        block
    }

    fn take_from_pool(&mut self, state: &mut State, at: Surroundings, transactions: &mut Vec<Included>) {
        let mut gas = 0;
        loop {
            let ready = self
                .pool
                .ready(self.base_fee, BLOCK_GAS - gas, |sender| evm::account(state, sender).0);
            let Some(pooled) = ready else {
                break;
            };
            match evm::commit(state, at, pooled.env.clone(), true) {
                Ok(executed) => {
                    gas += executed.gas_used;
                    transactions.push(Included {
                        hash: pooled.hash,
                        sender: pooled.env.caller,
                        gas_price: pooled.gas_price(self.base_fee),
                        executed,
                        origin: Origin::Pool(Box::new(pooled)),
                    });
                }
                // It can't pay for its gas any more.
                Err(_) => continue,
            }
        }
        self.pool.forget_used(|sender| evm::account(state, sender).0);
        self.faults
            .count_many(Fault::TooDear, self.pool.too_dear(self.base_fee));
    }

    /// Takes the newest `depth` blocks away, of which so many `confirmations` count as final. What was in them waits again;
    /// what is mined next is another fork.
    pub fn fork(&mut self, depth: usize, confirmations: usize) {
        let left = self.canonical.len().saturating_sub(depth).max(1);
        let removed = Arc::make_mut(&mut self.canonical).split_off(left);
        if removed.iter().any(|block| !block.transactions.is_empty()) {
            self.faults.count(match depth > confirmations {
                true => Fault::DeepFork,
                false => Fault::Fork,
            });
        }
        self.forks += 1;
        let mut errands = Vec::new();
        for included in removed.iter().flat_map(|block| &block.transactions) {
            match &included.origin {
                Origin::Pool(pooled) => self.pool.put_back((**pooled).clone()),
                Origin::People(errand) => errands.push(errand.clone()),
            }
        }
        errands.append(&mut self.errands);
        self.errands = errands;
    }

    /// Takes a signed transaction into the pool, as a node does.
    pub fn take(&mut self, raw: &Bytes) -> Broadcast {
        let pooled = match Pooled::decode(raw) {
            Ok(pooled) => pooled,
            Err(reason) => return Broadcast::Refused { reason },
        };
        let (nonce, balance) = evm::account(&self.head().state, pooled.env.caller);
        let place = (pooled.env.caller, pooled.env.nonce);
        let waited = self.pool.holds(place);
        let taken = self.pool.take(pooled, nonce, balance);
        if waited && taken == Broadcast::Accepted {
            self.faults.count(Fault::Replaced);
        }
        taken
    }

    /// Notes what was signed, whatever becomes of it.
    pub fn witness(&mut self, raw: &Bytes) -> Option<(Address, u64, B256)> {
        let pooled = Pooled::decode(raw).ok()?;
        let TxEnv { caller, nonce, .. } = pooled.env;
        let signed = self.signed.entry((caller, nonce)).or_default();
        if !signed.iter().any(|(hash, _)| *hash == pooled.hash) {
            signed.push((pooled.hash, pooled.call()));
        }
        Some((caller, nonce, pooled.hash))
    }

    /// Empties the pool, as nodes do that restart or are full.
    pub fn empty_pool(&mut self) -> u64 {
        let forgotten = self.pool.empty();
        self.faults.count_many(Fault::Forgotten, forgotten);
        forgotten
    }

    /// The next nonce of `account` after the state of `view` and what waits.
    pub fn pending_nonce(&self, view: &View, account: Address) -> u64 {
        self.pool
            .next_nonce(account, evm::account(&view.head().state, account).0)
    }

    /// The nonce of a signed transaction that is in a block; an errand has none.
    pub fn nonce_of(&self, hash: B256) -> Option<u64> {
        let holder = self.known.get(self.holders.get(&hash)?.first()?)?;
        let included = holder.transactions.iter().find(|included| included.hash == hash)?;
        match &included.origin {
            Origin::Pool(pooled) if !pooled.is_errand => Some(pooled.env.nonce),
            Origin::Pool(_) | Origin::People(_) => None,
        }
    }

    /// How many transactions with this selector that people sent ran through.
    pub fn succeeded(&self, selector: [u8; 4]) -> usize {
        let included = self.canonical.iter().flat_map(|block| &block.transactions);
        let ran = included.filter(|included| included.executed.succeeded);
        ran.filter(
            |included| matches!(&included.origin, Origin::People(errand) if errand.call.data.starts_with(&selector)),
        )
        .count()
    }

    /// A block, whether it is still part of the chain or not.
    pub fn known(&self, hash: B256) -> Option<&Arc<SimBlock>> {
        self.known.get(&hash)
    }

    /// A transaction, and the block of `view` that holds it.
    pub fn included<'v>(&self, view: &'v View, hash: B256) -> Option<(&'v Arc<SimBlock>, &'v Included)> {
        let holders = self.holders.get(&hash)?;
        let block = holders.iter().find_map(|holder| {
            let number = self.known.get(holder)?.header.number;
            view.block(number).filter(|block| block.header.hash == *holder)
        })?;
        let included = block.transactions.iter().find(|included| included.hash == hash)?;
        Some((block, included))
    }
}

/// What a call on the state after `block` sees around it.
pub fn surroundings(block: &SimBlock) -> Surroundings {
    Surroundings {
        chain_id: CHAIN_ID,
        number: block.header.number.get(),
        timestamp: block.header.timestamp.get(),
        base_fee: block.base_fee,
    }
}

fn errand_hash(id: u64) -> B256 {
    keccak256([b"errand".as_slice(), &id.to_be_bytes()].concat())
}

fn logs(header: &Block, transactions: &[Included]) -> Vec<Log> {
    let mut logs = Vec::new();
    for (place, included) in (0..).zip(transactions) {
        for inner in &included.executed.logs {
            logs.push(Log {
                inner: inner.clone(),
                block_hash: Some(header.hash),
                block_number: Some(header.number.get()),
                block_timestamp: None,
                transaction_hash: Some(included.hash),
                transaction_index: Some(place),
                log_index: Some(logs.len() as u64),
                removed: false,
            });
        }
    }
    logs
}
