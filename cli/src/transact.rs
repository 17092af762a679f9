//! A person's own transactions: what they will cost, and the way from asking to mined.

use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use lloom_ledger::{Leadership, Ledger};
use lloom_receipts::Keypair;
use lloom_watcher::{Call, Chain as _, CostEstimate, Fate, MinedTransaction, Outbox, RpcChain, SendError};
use serde::Serialize;

use crate::{
    failure::{Failure, Kind, OrFail as _, Result},
    money::show_coins,
    network::Network,
    onchain::{OnChain, chain_failure},
    progress::Progress,
    session::Session,
    watching::fee_policy,
};

/// One transaction of a command.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it does, for people: `deposit 10 USDC`.
    pub label: String,
    /// What is sent.
    pub call: Call,
    /// About how much gas it takes, where that can't be asked because an earlier step has to come first.
    pub usual_gas: u64,
}

/// A transaction that was mined.
#[derive(Clone, Debug, Serialize)]
pub struct Done {
    /// What it did.
    #[serde(skip)]
    pub label: String,
    /// Its hash.
    pub transaction: B256,
    /// Its block.
    pub block: u64,
    /// Gas it used.
    pub gas_used: u64,
    /// What that cost, wei.
    #[serde(serialize_with = "crate::money::serialize_wei")]
    pub fee_wei: U256,
}

/// Sends all that a command has to send, with the session's key, once whoever typed it agrees.
///
/// # Errors
/// When it can't be paid, nobody agrees, or the chain refuses. What was sent before stays sent.
pub async fn send(session: &Session, on_chain: &OnChain, steps: Vec<Step>, yes: bool) -> Result<Vec<Done>> {
    let key = session.unlock()?;
    let ledger = session.open_store().await?;
    let transactor = Transactor::new(session, on_chain.clone(), ledger.clone(), key).await?;
    transactor.agree(&steps, yes).await?;
    let done = transactor.send_all(steps).await?;
    ledger.close().await;
    Ok(done)
}

/// Sends a command's transactions, one after the other.
pub struct Transactor<'a> {
    session: &'a Session,
    outbox: Outbox<RpcChain>,
    on_chain: OnChain,
    /// Only one process sends from a store.
    _leadership: Leadership,
}

impl<'a> Transactor<'a> {
    /// A sender for `key`, whose transactions `ledger` remembers. What an earlier command left unfinished is sent again, and
    /// waited for.
    ///
    /// # Errors
    /// When the chain or the store fails.
    pub async fn new(session: &'a Session, on_chain: OnChain, ledger: Ledger, key: Keypair) -> Result<Self> {
        let transactor = Self::begin(session, on_chain, ledger, key).await?;
        transactor.settle().await?;
        Ok(transactor)
    }

    /// The same for whoever may have nothing to send. What an earlier command left unfinished is sent again, and not waited
    /// for: [`settle`](Self::settle) comes before deciding what to send.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub async fn begin(session: &'a Session, on_chain: OnChain, ledger: Ledger, key: Keypair) -> Result<Self> {
        let network = &session.network;
        let fees = fee_policy(session, &ledger).await?;
        let leadership = ledger
            .try_lead()
            .await
            .or_fail(Kind::Store, || "cannot use the store".to_owned())?
            .ok_or_else(|| {
                Failure::new(Kind::Store, "another process sends the transactions of this store")
                    .hint("stop the node or watcher that leads, or send from a home with a store of its own")
            })?;
        let outbox = Outbox::new(
            on_chain.chain().clone(),
            ledger,
            key,
            network.chain_id,
            fees,
            network.confirmations,
            poll_interval(network),
        );
        outbox.resume().await.map_err(earlier_failure)?;
        Ok(Self {
            session,
            outbox,
            on_chain,
            _leadership: leadership,
        })
    }

    /// Waits for what was sent before: what is sent next waits for it anyway, and what there is to send depends on what it
    /// did. Whether there was anything.
    ///
    /// # Errors
    /// When the chain or the store fails.
    pub async fn settle(&self) -> Result<bool> {
        let mut progress = None;
        self.outbox
            .settle(|transaction| {
                let waiting = format!("Waiting for transaction {transaction:?}, which was sent before");
                progress = Some(Progress::spinner(self.session.output, waiting));
            })
            .await
            .map_err(earlier_failure)?;
        Ok(progress.is_some())
    }

    /// Whose transactions these are.
    pub fn account(&self) -> Address {
        self.outbox.account()
    }

    /// What `steps` will cost. Checks that the account can pay it.
    ///
    /// # Errors
    /// When a contract would refuse the first step, or when gas money is missing.
    pub async fn quote(&self, steps: &[Step]) -> Result<CostEstimate> {
        let mut total = CostEstimate {
            gas: 0,
            gas_price: self
                .on_chain
                .chain()
                .fees()
                .await
                .map_err(|error| chain_failure(error, "cannot ask what gas costs"))?
                .gas_price(),
        };
        for (index, step) in steps.iter().enumerate() {
            // Later steps may depend on earlier ones, which haven't happened.
            total.gas += if index == 0 {
                self.outbox
                    .estimate(&step.call)
                    .await
                    .map_err(|error| send_failure(error, format!("cannot {}", step.label)))?
                    .gas
            } else {
                step.usual_gas
            };
        }
        let coins = self.on_chain.coins(self.outbox.account()).await?;
        if coins < total.wei() {
            let coin = &self.session.network.coin;
            return Err(Failure::new(
                Kind::Chain,
                format!(
                    "{} has {} for gas, and {} are needed",
                    self.outbox.account(),
                    show_coins(coins, coin),
                    show_coins(total.wei(), coin)
                ),
            )
            .hint(if self.session.network.development {
                "`lloomctl faucet` gives gas money".to_owned()
            } else {
                format!("send some {coin} to that address")
            }));
        }
        Ok(total)
    }

    /// Says what `steps` cost and, unless `yes`, asks whether to go ahead.
    ///
    /// # Errors
    /// When they can't be paid, or the answer is no.
    pub async fn agree(&self, steps: &[Step], yes: bool) -> Result {
        let cost = self.quote(steps).await?;
        let output = self.session.output;
        let coin = &self.session.network.coin;
        let labels: Vec<_> = steps.iter().map(|step| step.label.as_str()).collect();
        output.note(format!(
            "{} on {}: {} transaction{}, about {} gas, {} at today's price.",
            sentence(&labels.join(", then ")),
            self.session.network.name,
            steps.len(),
            if steps.len() == 1 { "" } else { "s" },
            cost.gas,
            show_coins(cost.wei(), coin),
        ));
        // A pipe has nobody to ask, and whoever wrote the script has decided; a person is asked.
        if !yes && output.is_interactive() && !output.confirm("Go ahead?")? {
            return Err(Failure::new(Kind::Interrupted, "nothing was sent"));
        }
        Ok(())
    }

    /// Sends `step` and waits until it is mined.
    ///
    /// # Errors
    /// When it is refused, reverts, or its fate can't be learned.
    pub async fn send(&self, step: Step) -> Result<Done> {
        let progress = Progress::spinner(self.session.output, format!("{}: sending", sentence(&step.label)));
        let operation = || format!("cannot {}", step.label);
        let sent = self
            .outbox
            .send(step.call.clone())
            .await
            .map_err(|error| send_failure(error, operation()))?;
        progress.say(format!(
            "{}: waiting for transaction {:?}",
            sentence(&step.label),
            sent.hash
        ));
        let mined = match self.outbox.confirm(&sent).await {
            Ok(Fate::Mined(mined)) => mined,
            Ok(Fate::Dropped) => {
                return Err(Failure::new(
                    Kind::Chain,
                    format!(
                        "the transaction {:?} was overtaken by another one of this key",
                        sent.hash
                    ),
                )
                .while_(operation())
                .hint("another program uses the same key; look at what happened, then try again"));
            }
            Err(error) => {
                return Err(send_failure(error, operation()).hint(format!(
                    "the transaction {:?} was sent and may still be mined: look before you send another one",
                    sent.hash
                )));
            }
        };
        drop(progress);
        if !mined.succeeded {
            return Err(
                Failure::new(Kind::Refused, format!("the transaction {:?} was reverted", mined.hash))
                    .while_(operation())
                    .hint("what it relied on changed in the meantime; nothing moved but its fee"),
            );
        }
        Ok(done(step.label, &mined))
    }

    /// Sends `steps` in order.
    ///
    /// # Errors
    /// As [`send`](Self::send); later steps aren't sent then.
    pub async fn send_all(&self, steps: Vec<Step>) -> Result<Vec<Done>> {
        let mut all = Vec::with_capacity(steps.len());
        for step in steps {
            all.push(self.send(step).await?);
        }
        Ok(all)
    }
}

fn done(label: String, mined: &MinedTransaction) -> Done {
    Done {
        label,
        transaction: mined.hash,
        block: mined.block.get(),
        gas_used: mined.gas_used,
        fee_wei: U256::from(mined.gas_used) * U256::from(mined.gas_price),
    }
}

/// What a mined transaction is reported as to people.
pub fn describe(network: &Network, done: &Done) -> String {
    let place = network
        .transaction_page(done.transaction)
        .unwrap_or_else(|| format!("transaction {:?}", done.transaction));
    format!(
        "{}: {} gas, {} ({place})",
        sentence(&done.label),
        done.gas_used,
        show_coins(done.fee_wei, &network.coin)
    )
}

fn earlier_failure(error: SendError) -> Failure {
    send_failure(error, "cannot take up earlier transactions")
}

/// A send failure with its advice.
pub fn send_failure(error: SendError, operation: impl Into<String>) -> Failure {
    match error {
        SendError::Chain(error) => chain_failure(error, operation),
        SendError::Ledger(_) => Failure::of(Kind::Store, error).while_(operation),
        SendError::Reverted { revert } => {
            let name = revert.to_string();
            let failure = Failure::new(Kind::Refused, format!("the contract answers {name}")).while_(operation);
            match advice(&name) {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        }
        SendError::OtherChain { .. } => Failure::of(Kind::Chain, error).while_(operation).hint(ANOTHER_CHAIN),
        SendError::FeesTooHigh(_) => Failure::of(Kind::Chain, error).while_(operation).hint(
            "wait until gas is cheaper, or raise `max_fee_gwei` in config.toml's [watcher] (a tower's: in [tower])",
        ),
        other => Failure::of(Kind::Chain, other).while_(operation),
    }
}

/// What to do when a store's chain is gone.
pub const ANOTHER_CHAIN: &str = "a development chain that was started anew is another chain: use a new --home with it";

/// What the contracts' errors mean for a person.
fn advice(name: &str) -> Option<&'static str> {
    Some(match name {
        "InsufficientBalance" => {
            "the escrow holds less for this account: `lloomctl balance` shows it, `lloomctl deposit` adds"
        }
        "ERC20InsufficientBalance" => "the wallet holds less: `lloomctl balance` shows it",
        "ChannelFinalized" => "the channel is closed for good; what remained was paid back",
        "ChannelNotFound" => "`lloomctl channel list` shows yours; an id stands for one deployment on one chain",
        "NotPayer" => "only the channel's payer may; choose its key with --key",
        "NotPayee" | "NotOperator" => "only the payee, or an operator it named (`lloomctl operator add`), may",
        "CloseNotReady" => "ask first with `lloomctl channel request-close`, and wait for the grace period",
        "OperatorAlreadyActive" => "the operator is named already; `lloomctl operator list` shows them",
        "OperatorNotActive" => "the operator isn't active; `lloomctl operator list` shows them",
        "ChannelAlreadyExists" => "open it again: a new channel takes a new salt",
        _ => return None,
    })
}

/// How often a chain is asked whether a transaction was mined.
pub const fn poll_interval(network: &Network) -> Duration {
    if network.development {
        Duration::from_millis(100)
    } else {
        Duration::from_secs(1)
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
