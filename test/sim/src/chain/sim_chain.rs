use std::{sync::Arc, time::Duration};

use alloy::{
    primitives::{Address, B256, Bytes, TxKind, U256},
    rpc::types::Log,
};
use lloom_ledger::Block;
use lloom_receipts::BlockNumber;
use lloom_watcher::{
    Broadcast, Call, CallOutcome, Chain, ChainError, FeeQuote, LogFilter, MinedTransaction, NonceAt, Revert, StateAt,
};

use super::{
    SimBlock, View,
    evm::{self, Executed},
    surroundings,
};
use crate::{
    fault::Fault,
    flaw::Flaw,
    life::Life,
    world::{Shared, World},
};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Coins for the next block's maker, wei per gas.
const PRIORITY_FEE: u128 = 1_000_000_000;

/// The chain as one process reaches it: over endpoints of its own, which have their bad days.
#[derive(Clone)]
pub struct SimChain {
    world: Shared,
    life: Arc<Life>,
}

/// The step after a broadcast has had its effect, and before anybody knows.
pub const BROADCAST_DONE: &str = "eth_sendRawTransaction answers";

/// What becomes of a question.
enum Luck {
    Answer(View),
    Timeout,
    Error,
    Malformed,
}

impl SimChain {
    /// The chain as the process of this life sees it.
    pub const fn new(world: Shared, life: Arc<Life>) -> Self {
        Self { world, life }
    }

    async fn ask<T>(
        &self,
        operation: &'static str,
        answer: impl FnOnce(&mut World, &View) -> Result<T, ChainError>,
    ) -> Result<T, ChainError> {
        self.life.step(operation).await;
        self.life.wait(2, 90).await;
        let answered = match self.luck(operation) {
            Luck::Answer(view) => {
                let mut world = self.world.lock();
                answer(&mut world, &view)
            }
            Luck::Error => Err(self.refused(operation, "internal error")),
            Luck::Malformed => Err(ChainError::Malformed {
                operation,
                reason: String::from("no JSON"),
            }),
            Luck::Timeout => Err(self.timed_out(operation).await),
        };
        self.life.wait(2, 40).await;
        self.life.step(operation).await;
        answered
    }

    fn luck(&self, operation: &'static str) -> Luck {
        let mut world = self.world.lock();
        let now = self.life.millis();
        let weather = world.weather;
        let endpoints = world.endpoints(self.life.process());
        let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint.down_until <= now) else {
            world.faults.count(Fault::Timeout);
            return Luck::Timeout;
        };
        let stale = endpoint.stale.clone().filter(|(_, until)| *until > now);
        let newest = world.chain.view();
        let is_stale = stale
            .as_ref()
            .is_some_and(|(view, _)| view.head().header != newest.head().header);
        let view = stale.map_or(newest, |(view, _)| view);
        let luck = self.life.choose(|choices| {
            if choices.chance(weather.timeouts) {
                Luck::Timeout
            } else if choices.chance(weather.errors) {
                Luck::Error
            } else if choices.chance(weather.malformed) {
                Luck::Malformed
            } else {
                Luck::Answer(view)
            }
        });
        let (fault, bad) = match luck {
            Luck::Answer(_) => {
                world.faults.count_many(Fault::StaleHead, u64::from(is_stale));
                return luck;
            }
            Luck::Timeout => (Fault::Timeout, "times out"),
            Luck::Error => (Fault::ErrorAnswer, "answers an error"),
            Luck::Malformed => (Fault::Malformed, "answers nonsense"),
        };
        world.bite(fault, &self.life, format_args!("{operation} {bad}"));
        luck
    }

    async fn timed_out(&self, operation: &'static str) -> ChainError {
        tokio::time::sleep(TIMEOUT).await;
        ChainError::Unavailable {
            operation,
            endpoint: String::from("sim"),
            reason: format!("no answer within {} s", TIMEOUT.as_secs()),
        }
    }

    fn refused(&self, operation: &'static str, message: &str) -> ChainError {
        ChainError::Refused {
            operation,
            endpoint: String::from("sim"),
            code: -32_000,
            message: message.to_owned(),
        }
    }

    /// The block whose state is asked for. An endpoint that is behind has not heard of every block.
    fn block_at(
        &self,
        operation: &'static str,
        world: &World,
        view: &View,
        at: StateAt,
    ) -> Result<Arc<SimBlock>, ChainError> {
        let head = view.head();
        match at {
            StateAt::Latest => Ok(Arc::clone(head)),
            StateAt::Block(hash) => {
                let known = world.chain.known(hash).cloned();
                let known = known.filter(|block| block.header.number <= head.header.number);
                known.ok_or_else(|| self.refused(operation, "unknown block"))
            }
        }
    }

    fn execute(at: &SimBlock, from: Address, call: &Call, gas: u64) -> Result<Executed, String> {
        let env = evm::call_env(from, TxKind::Call(call.to), call.data.clone(), call.value, gas);
        evm::call(&at.state, surroundings(at), env)
    }
}

/// What every process believes it sees: the flaw "skip a reorg" shows it the first block it ever saw at a height.
fn header(world: &mut World, life: &Life, block: Block) -> Block {
    if world.flaw == Some(Flaw::SkipReorg) {
        return *world.first_seen.entry((life.process(), block.number)).or_insert(block);
    }
    block
}

impl Chain for SimChain {
    async fn head(&self) -> Result<Block, ChainError> {
        self.ask("eth_blockNumber", |world, view| {
            Ok(header(world, &self.life, view.head().header))
        })
        .await
    }

    async fn block(&self, number: BlockNumber) -> Result<Option<Block>, ChainError> {
        self.ask("eth_getBlockByNumber", |world, view| {
            let block = view.block(number).map(|block| block.header);
            Ok(block.map(|block| header(world, &self.life, block)))
        })
        .await
    }

    async fn logs(&self, first: BlockNumber, last: Block, wanted: &LogFilter) -> Result<Vec<Log>, ChainError> {
        self.ask("eth_getLogs", |world, view| {
            let there = view.block(last.number).map(|block| block.header);
            if there.map(|block| header(world, &self.life, block)) != Some(last) {
                return Err(self.refused("eth_getLogs", "another block ends the range"));
            }
            let blocks = last.number.get().saturating_sub(first.get()) + 1;
            let limit = world.weather.range_limit;
            if limit > 0 && blocks > limit {
                world.faults.count(Fault::RangeRefused);
                return Err(self.refused("eth_getLogs", "too many blocks"));
            }
            let blocks = view.blocks(first, last.number);
            // A store that forgot a block believes to have it, so it finds nothing missing either.
            let blocks = blocks.filter(|block| !world.is_lost_to(self.life.process(), block.header.hash));
            let logs = blocks.flat_map(|block| &block.logs);
            Ok(logs.filter(|log| wanted.matches(log)).cloned().collect())
        })
        .await
    }

    async fn logs_of_block(&self, hash: B256, wanted: &LogFilter) -> Result<Vec<Log>, ChainError> {
        self.ask("eth_getLogs", |world, view| {
            let block = world.chain.known(hash).cloned();
            // An endpoint that is behind has not heard of it.
            let Some(block) = block.filter(|block| block.header.number <= view.head().header.number) else {
                return Err(self.refused("eth_getLogs", "unknown block"));
            };
            if world.is_lost_to(self.life.process(), hash) {
                return Ok(Vec::new());
            }
            world.fetched(self.life.process(), hash);
            let logs: Vec<_> = block.logs.iter().filter(|log| wanted.matches(log)).cloned().collect();
            if !logs.is_empty() && self.life.choose(|choices| choices.chance(world.weather.bare)) {
                let number = block.header.number;
                world.bite(
                    Fault::BareBlock,
                    &self.life,
                    format_args!("is told that block {number} has no logs"),
                );
                return Ok(Vec::new());
            }
            Ok(logs)
        })
        .await
    }

    async fn call(&self, from: Address, call: &Call, at: StateAt) -> Result<CallOutcome<Bytes>, ChainError> {
        self.ask("eth_call", |world, view| {
            let at = self.block_at("eth_call", world, view, at)?;
            let executed =
                Self::execute(&at, from, call, evm::GAS_LIMIT).map_err(|error| self.refused("eth_call", &error))?;
            Ok(outcome(executed.succeeded, executed.output.clone(), executed.output))
        })
        .await
    }

    async fn estimate_gas(&self, from: Address, call: &Call, at: StateAt) -> Result<CallOutcome<u64>, ChainError> {
        self.ask("eth_estimateGas", |world, view| {
            let at = self.block_at("eth_estimateGas", world, view, at)?;
            let refused = |error: String| self.refused("eth_estimateGas", &error);
            let executed = Self::execute(&at, from, call, evm::GAS_LIMIT).map_err(refused)?;
            if !executed.succeeded {
                return Ok(outcome(false, 0, executed.output));
            }
            // What a call inside may use is 63 parts of 64 of what is left, and some contracts insist on what they ask for.
            let mut gas = executed.gas_spent + executed.gas_spent / 63;
            while gas < evm::GAS_LIMIT && !Self::execute(&at, from, call, gas).is_ok_and(|executed| executed.succeeded)
            {
                gas = (gas + gas / 8).min(evm::GAS_LIMIT);
            }
            Ok(CallOutcome::Returned(gas))
        })
        .await
    }

    async fn fees(&self) -> Result<FeeQuote, ChainError> {
        self.ask("eth_maxPriorityFeePerGas", |world, _| {
            Ok(FeeQuote {
                base_fee: world.chain.base_fee,
                priority_fee: PRIORITY_FEE,
            })
        })
        .await
    }

    async fn nonce(&self, account: Address, at: NonceAt) -> Result<u64, ChainError> {
        self.ask("eth_getTransactionCount", |world, view| match at {
            NonceAt::Pending => Ok(world.chain.pending_nonce(view, account)),
            NonceAt::Block(hash) => {
                let known = world.chain.known(hash).cloned();
                let canonical = known.filter(|known| {
                    let there = view.block(known.header.number);
                    there.is_some_and(|there| there.header.hash == hash) || world.flaw == Some(Flaw::SkipReorg)
                });
                match canonical {
                    Some(block) => Ok(evm::account(&block.state, account).0),
                    None => Err(self.refused("eth_getTransactionCount", "the block is not canonical")),
                }
            }
        })
        .await
    }

    async fn native_balance(&self, account: Address) -> Result<U256, ChainError> {
        self.ask("eth_getBalance", |_, view| {
            Ok(evm::account(&view.head().state, account).1)
        })
        .await
    }

    async fn code(&self, address: Address) -> Result<Bytes, ChainError> {
        self.ask("eth_getCode", |_, view| Ok(evm::code(&view.head().state, address)))
            .await
    }

    async fn broadcast(&self, raw: &Bytes) -> Result<Broadcast, ChainError> {
        let operation = "eth_sendRawTransaction";
        self.life.step(operation).await;
        self.life.wait(2, 90).await;
        let weather = self.world.lock().weather;
        let silenced = self.life.choose(|choices| choices.chance(weather.silenced));
        let luck = match self.luck(operation) {
            Luck::Answer(_) if silenced => Luck::Timeout,
            luck => luck,
        };
        let swallowed = self.life.choose(|choices| choices.chance(weather.swallowed));
        let disowned = self.life.choose(|choices| choices.chance(weather.disowned));
        let arrives = silenced || self.life.choose(|choices| choices.chance(500));
        let taken = {
            let mut world = self.world.lock();
            let Some((sender, nonce, hash)) = world.chain.witness(raw) else {
                return Err(self.refused(operation, "no transaction"));
            };
            // One that times out may have arrived all the same.
            let (arrives, fault) = match luck {
                Luck::Answer(_) if swallowed => (false, Some(Fault::SentAndDropped)),
                Luck::Answer(_) if disowned => (true, Some(Fault::SentAndDisowned)),
                Luck::Answer(_) => (true, None),
                Luck::Timeout => (arrives, arrives.then_some(Fault::SentInSilence)),
                Luck::Error | Luck::Malformed => (disowned, disowned.then_some(Fault::SentAndDisowned)),
            };
            let taken = match arrives {
                true => world.chain.take(raw),
                false => Broadcast::Accepted,
            };
            if let Some(fault) = fault.filter(|_| taken == Broadcast::Accepted) {
                world.faults.count(fault);
            }
            let now = self.life.millis();
            world.note_at(
                now,
                self.life.name(),
                format_args!("broadcasts {hash} of {sender}, nonce {nonce}: {taken:?}, {fault:?}"),
            );
            if world.flaw == Some(Flaw::TrustTimeout) && !matches!(luck, Luck::Answer(_)) {
                world.written_off.insert(hash);
            }
            taken
        };
        // The answer is on its way.
        self.life.step(BROADCAST_DONE).await;
        self.life.wait(2, 40).await;
        self.life.step(BROADCAST_DONE).await;
        self.life.broadcast_done();
        match luck {
            Luck::Answer(_) if disowned => Err(self.refused(operation, "internal error")),
            Luck::Answer(_) => Ok(taken),
            Luck::Error => Err(self.refused(operation, "internal error")),
            Luck::Malformed => Err(ChainError::Malformed {
                operation,
                reason: String::from("no JSON"),
            }),
            Luck::Timeout => Err(self.timed_out(operation).await),
        }
    }

    async fn transaction_receipt(&self, hash: B256) -> Result<Option<MinedTransaction>, ChainError> {
        self.ask("eth_getTransactionReceipt", |world, view| {
            if world.written_off.contains(&hash) {
                return Ok(None);
            }
            let Some((block, included)) = world.chain.included(view, hash) else {
                return Ok(None);
            };
            let logs = block.logs.iter().filter(|log| log.transaction_hash == Some(hash));
            Ok(Some(MinedTransaction {
                hash,
                from: included.sender,
                block: block.header.number,
                block_hash: block.header.hash,
                succeeded: included.executed.succeeded,
                gas_used: included.executed.gas_used,
                gas_price: included.gas_price,
                logs: logs.cloned().collect(),
            }))
        })
        .await
    }
}

fn outcome<T>(succeeded: bool, returned: T, output: Bytes) -> CallOutcome<T> {
    if succeeded {
        CallOutcome::Returned(returned)
    } else {
        CallOutcome::Reverted(Revert {
            message: String::from("execution reverted"),
            data: output,
        })
    }
}
