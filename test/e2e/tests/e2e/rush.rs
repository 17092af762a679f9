//! A node that sells to several clients while it, and now and then one of them, is killed at any moment, behind an endpoint
//! that is not always well. All it takes on, it takes on under way: the properties are those of the other disturbed
//! watchers ([`Truth`]), and every answer that a client was given has its receipt on both sides.
//!
//! It prints its seed when it fails. `LLOOM_CHAOS_SEED` gives another, `LLOOM_CHAOS_KILLS` more kills (`make chaos`).

use std::{collections::BTreeMap, fs, time::Duration};

use eyre::{Result, WrapErr, ensure, eyre};
use lloom_e2e::{
    Behavior, Buyer, Chain, Due, Mining, Process, Prompt, RpcProxy, Seller, StubBackend, Truth, Weather, prompts, wait,
};
use lloom_receipts::{Receipt, TokenAmount, Verified};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};

use crate::{
    chaos::seed,
    killings::Killings,
    shop::{DEPOSIT, MODEL, same_receipts},
    stand::{A_MOMENT, kill_at},
};

/// Who buys.
const CUSTOMERS: usize = 2;
/// What each of them asks at a time, and how many answers it waits for at once.
const ERRANDS: usize = 12;
const AT_ONCE: &str = "4";
/// The longest answer, tokens.
const LONGEST_ANSWER: u32 = 40;
/// Milliseconds between two tokens: an answer takes long enough to be interrupted.
const TOKEN_DELAY: u64 = 4;
/// Calls to the chain before it serves, and so many at most while it does, before it is killed.
const BEGINNING: u64 = 12;
const LONGEST_RUSH: u64 = 15;

#[tokio::test]
async fn units_are_sold_and_paid_once_though_node_and_clients_are_killed_a_hundred_times() -> Result<()> {
    let mut draws = StdRng::seed_from_u64(seed());
    let mut rush = Rush::open().await?;
    while let Some(life) = rush.killings.next_life()? {
        rush.live(&mut draws).await.wrap_err_with(|| format!("life {life}"))?;
    }
    rush.ends_well().await
}

struct Rush {
    chain: Chain,
    proxy: RpcProxy,
    backend: StubBackend,
    seller: Seller,
    /// Where the node is found in each of its lives.
    address: String,
    customers: Vec<Customer>,
    killings: Killings,
    /// How often a client was killed while it waited for answers.
    clients_killed: usize,
}

/// A client that sends its errands again and again.
struct Customer {
    buyer: Buyer,
    chat: Option<Process>,
    /// The answers it was given, by their request.
    answers: BTreeMap<String, Value>,
}

impl Rush {
    async fn open() -> Result<Self> {
        let mut chain = Chain::start(Mining::Living).await?;
        let behavior = Behavior {
            token_delay: Duration::from_millis(TOKEN_DELAY),
            ..Behavior::default()
        };
        let backend = StubBackend::start(&[MODEL], behavior).await?;
        let proxy = RpcProxy::start(chain.anvil.url()).await?;
        let direct = chain.rpc_url().to_owned();
        chain.set_rpc_url(proxy.url());
        let mut seller = Seller::create(&chain, "executor", &backend.base_url(), &[MODEL], |settings| {
            settings.rpc_timeout_secs = 1;
            settings.watching.min_claim = "0.000001".to_owned();
            settings.watching.replace_after_secs = 3;
        })
        .await?;
        chain.set_rpc_url(direct);
        let first = seller.start().await?;
        seller.adjust(|settings| settings.listen = first.listens_at())?;
        let mut customers = Vec::new();
        for number in 0..CUSTOMERS {
            let buyer = Buyer::create(&chain, &format!("client {number}"), &[], DEPOSIT).await?;
            // Its channel is open before anything goes wrong.
            buyer.chat(&first.address, MODEL, "Are you open?").await?;
            customers.push(Customer {
                buyer,
                chat: None,
                answers: BTreeMap::new(),
            });
        }
        let address = first.address.clone();
        first.process.kill().await?;
        Ok(Self {
            chain,
            proxy,
            backend,
            seller,
            address,
            customers,
            killings: Killings::new(),
            clients_killed: 0,
        })
    }

    /// One life of the node, with everybody buying.
    async fn live(&mut self, draws: &mut StdRng) -> Result<()> {
        self.proxy.set_weather(Weather::breeze(draws.random()));
        for customer in &mut self.customers {
            // Whoever was left in mid-answer would wait some seconds for its bill.
            if draws.random_bool(0.7) {
                self.clients_killed += usize::from(customer.die().await?);
            }
        }
        let mut node = self.seller.home.start(&["node", "run"])?;
        // Some lives end before they have begun.
        let serves = draws.random_bool(0.8) && ready(&mut node).await?;
        if serves {
            self.serve_somebody(&mut node, draws)
                .await
                .wrap_err_with(|| self.tail(&node))?;
        }
        // A moment in its work is a number of calls: whatever it does, it asks or tells the chain.
        let moment = self.proxy.all_calls() + draws.random_range(1..=if serves { LONGEST_RUSH } else { BEGINNING });
        let later = Duration::from_millis(draws.random_range(0..=A_MOMENT));
        self.killings.count(kill_at(moment, later, &self.proxy, node).await?);
        Ok(())
    }

    /// Lets everybody ask until an answer has begun.
    async fn serve_somebody(&mut self, node: &mut Process, draws: &mut StdRng) -> Result<()> {
        let served = self.backend.served().len();
        let asking = async {
            while self.backend.served().len() == served && node.is_running() {
                for customer in &mut self.customers {
                    customer.ask_on(&self.address, draws).await?;
                }
                tokio::time::sleep(wait::LOOK_EVERY).await;
            }
            Ok(())
        };
        tokio::time::timeout(wait::LIMIT, asking)
            .await
            .wrap_err("nobody was served")?
    }

    /// What everybody said last, to be shown with an error.
    fn tail(&self, node: &Process) -> String {
        let chats = self.customers.iter().filter_map(|customer| customer.chat.as_ref());
        let tails = [node].into_iter().chain(chats).map(Process::tail);
        tails.collect::<Vec<_>>().concat()
    }

    /// Lets everybody buy once more undisturbed, and checks what is left of the money.
    async fn ends_well(mut self) -> Result<()> {
        self.proxy.heal();
        let node = self.seller.start().await?;
        for customer in &mut self.customers {
            customer.finish().await?;
            customer
                .buyer
                .chat(&node.address, MODEL, "Are you still there?")
                .await?;
        }
        let mut dues = Vec::new();
        let mut receipts = 0;
        let mut billed = 0;
        for customer in &self.customers {
            let channels = customer.buyer.channels().await?;
            ensure!(channels.len() == 1, "a client has {} channels", channels.len());
            let channel = channels[0];
            let sold = same_receipts(&self.seller.home, &customer.buyer.home, channel).await?;
            let outputs = sold.iter().map(|receipt| receipt.receipt().bill.usage.output.get());
            billed += outputs.map(u64::from).sum::<u64>();
            customer.check_answers(&sold)?;
            receipts += sold.len();
            let amount = sold
                .last()
                .map_or(TokenAmount::ZERO, |newest| newest.receipt().cumulative_amount);
            dues.push(Due { channel, amount });
        }
        let served: u64 = self
            .backend
            .served()
            .iter()
            .map(|call| u64::from(call.completion_tokens))
            .sum();
        ensure!(billed <= served, "{billed} tokens are billed, and {served} were served");
        let answered: usize = self.customers.iter().map(|customer| customer.answers.len()).sum();
        eprintln!(
            "{}, and {} of clients: {receipts} receipts, {answered} answers given whole, {billed} of {served} tokens billed",
            self.killings, self.clients_killed
        );
        ensure!(
            self.clients_killed > 0,
            "no client was killed in the middle of its errands"
        );
        ensure!(
            receipts as u64 > self.killings.killed() && answered > 0 && receipts > answered + 2 * CUSTOMERS,
            "there was no rush, or nothing was interrupted: {receipts} receipts, {answered} answers"
        );

        wait::until_within(wait::LIMIT * 2, "everything to be paid", || async {
            for due in &dues {
                if self.chain.money.settled(due.channel).await? != due.amount {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
        .await?;
        Truth::settles(&self.seller).await?;
        let truth = Truth::check(&self.chain, &self.seller, &dues).await?;
        eprintln!("{} transactions mined, {} replaced", truth.mined, truth.replaced);
        let stopped = node.process.stop().await?;
        ensure!(stopped.code() == Some(0), "{}", stopped.stderr);
        let checked = self.seller.home.json(&["ledger", "check"]).await?;
        ensure!(checked["sound"] == true, "{checked}");
        Ok(())
    }
}

/// Waits until a node serves. `false` when it ends before.
async fn ready(node: &mut Process) -> Result<bool> {
    wait::until("the node to serve, or its end", || {
        let serves = node.lines().iter().any(|line| line.contains("\"ready\":true"));
        let ended = !node.is_running();
        async move { Ok((serves || ended).then_some(serves)) }
    })
    .await
}

impl Customer {
    /// Sends its errands, unless it is still at those before.
    async fn ask_on(&mut self, address: &str, draws: &mut StdRng) -> Result<()> {
        if self.chat.as_mut().is_some_and(Process::is_running) {
            return Ok(());
        }
        self.finish().await?;
        let home = &self.buyer.home;
        let all = prompts()?;
        let errands: Vec<&Prompt> = all.choose_multiple(draws, ERRANDS).collect();
        let lines = errands.iter().map(|errand| {
            let most = errand.max_tokens.min(LONGEST_ANSWER);
            json!({ "id": errand.id, "prompt": errand.prompt, "max_tokens": most }).to_string()
        });
        let file = home.path("errands.jsonl");
        fs::write(&file, lines.collect::<Vec<_>>().join("\n")).wrap_err("writing errands")?;
        let file = file.display().to_string();
        let errands = ["--input", &file, "--concurrency", AT_ONCE];
        let asking = [&["chat", "--executor", address, "--model", MODEL], &errands[..]].concat();
        self.chat = Some(home.start(&asking)?);
        Ok(())
    }

    /// Lets it come to its end, and keeps what it was told.
    async fn finish(&mut self) -> Result<()> {
        if let Some(chat) = self.chat.take() {
            let ended = chat.finish().await?;
            self.keep(ended.stdout.lines())?;
        }
        Ok(())
    }

    /// `kill -9`; what it has said before counts. `false` when it had come to its end already.
    async fn die(&mut self) -> Result<bool> {
        if !self.chat.as_mut().is_some_and(Process::is_running) {
            self.finish().await?;
            return Ok(false);
        }
        if let Some(chat) = self.chat.take() {
            self.keep(chat.lines().iter().map(String::as_str))?;
            chat.kill().await?;
        }
        Ok(true)
    }

    fn keep<'a>(&mut self, lines: impl Iterator<Item = &'a str>) -> Result<()> {
        for line in lines {
            let answer: Value = serde_json::from_str(line).wrap_err_with(|| format!("this is no JSON: {line}"))?;
            if let Some(request) = answer["request_hash"].as_str() {
                self.answers.insert(request.to_owned(), answer);
            }
        }
        Ok(())
    }

    /// Each answer that it was given has the receipt that it was told of.
    fn check_answers(&self, receipts: &[Receipt<Verified>]) -> Result<()> {
        for (request, answer) in &self.answers {
            let receipt = receipts
                .iter()
                .map(Receipt::receipt)
                .find(|receipt| receipt.bill.request.to_string() == *request);
            let receipt = receipt.ok_or_else(|| eyre!("the answer {answer} has no receipt"))?;
            let told = (&answer["sequence"], &answer["amount"]);
            let held = (&json!(receipt.sequence), &json!(receipt.bill.amount));
            ensure!(told == held, "told {told:?}, and the receipt says {held:?}");
        }
        Ok(())
    }
}
