use alloy::primitives::{Address, U256};
use eyre::{Result, WrapErr, ensure, eyre};
use lloom_ledger::ChannelFilter;
use lloom_receipts::ChannelId;
use serde_json::Value;

use crate::{Anvil, Home, Mining, Money, Process, Selling, Settings};

/// A chain with the contracts on it.
#[derive(Debug)]
pub struct Chain {
    /// The chain.
    pub anvil: Anvil,
    /// Its contracts, seen without `lloomctl`.
    pub money: Money,
    rpc_url: String,
}

impl Chain {
    /// Starts a chain and deploys on it, with `lloomctl deploy`.
    ///
    /// # Errors
    /// When either fails.
    pub async fn start(mining: Mining) -> Result<Self> {
        let anvil = Anvil::start(mining).await?;
        let money = Money::on(&anvil);
        let rpc_url = anvil.url().to_owned();
        let deployer = Home::create("deployer", &Settings::client(&rpc_url)).await?;
        anvil.set_coins(deployer.address(), coins(100)).await?;
        deployer.json(&["deploy", "--yes"]).await?;
        Ok(Self { anvil, money, rpc_url })
    }

    /// Where homes made from now on find it: a proxy before it, for instance.
    pub fn set_rpc_url(&mut self, url: String) {
        self.rpc_url = url;
    }

    /// Where homes find it.
    pub fn rpc_url(&self) -> &str {
        &self.rpc_url
    }
}

/// So many whole coins, in wei.
fn coins(count: u64) -> U256 {
    U256::from(count) * U256::from(10_u64).pow(U256::from(18))
}

/// An executor: a payee whose key is on no node, and the home of a node that signs as its operator.
#[derive(Debug)]
pub struct Seller {
    /// The home of the payee, or of its host where the payee is a splitter: it names the operator, and is needed for
    /// nothing else.
    pub payee: Home,
    /// Who is paid.
    pub paid_to: Address,
    /// The node's home.
    pub home: Home,
    settings: Settings,
}

/// A running executor node.
#[derive(Debug)]
pub struct Node {
    /// The process.
    pub process: Process,
    /// Where it can be dialed, its peer id included.
    pub address: String,
    /// Where it is monitored, a URL.
    pub monitoring: String,
}

impl Node {
    /// Starts the node of an executor's home and waits until it serves.
    ///
    /// # Errors
    /// When it ends, or isn't ready in time.
    pub async fn start(home: &Home) -> Result<Self> {
        Self::of(home.start(&["node", "run"])?).await
    }

    /// Its address without its peer id: what `listen` has to say for another life to be found there.
    pub fn listens_at(&self) -> String {
        self.address.split("/p2p/").next().unwrap_or_default().to_owned()
    }

    /// Waits until `process`, which is one, says that it is ready.
    ///
    /// # Errors
    /// When it ends, or isn't ready in time.
    pub async fn of(process: Process) -> Result<Self> {
        let ready = |line: &str| {
            serde_json::from_str::<Value>(line)
                .ok()
                .filter(|answer| answer["ready"] == true)
        };
        let ready = process.line("ready line", ready).await?;
        let address = ready["addresses"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .next();
        let mut address = address
            .ok_or_else(|| eyre!("the node listens nowhere: {ready}"))?
            .to_owned();
        if !address.contains("/p2p/") {
            let peer = ready["peer_id"]
                .as_str()
                .ok_or_else(|| eyre!("the node names no peer id: {ready}"))?;
            address = format!("{address}/p2p/{peer}");
        }
        let monitoring = ready["monitoring"]
            .as_str()
            .ok_or_else(|| eyre!("the node doesn't say where it is monitored: {ready}"))?
            .to_owned();
        Ok(Self {
            process,
            address,
            monitoring,
        })
    }
}

impl Seller {
    /// Makes both keys, funds them with gas money, and lets the payee name the operator.
    ///
    /// # Errors
    /// When a command fails.
    pub async fn create(
        chain: &Chain,
        name: &str,
        backend_url: &str,
        models: &[&str],
        adjust: impl FnOnce(&mut Settings),
    ) -> Result<Self> {
        let payee = Home::create(&format!("{name}'s payee"), &Settings::client(chain.rpc_url())).await?;
        let paid_to = payee.address();
        let mut settings = Settings::executor(chain.rpc_url(), Selling::new(paid_to, backend_url, models));
        adjust(&mut settings);
        let home = Home::create(name, &settings).await?;
        for account in [payee.address(), home.address()] {
            chain.anvil.set_coins(account, coins(10)).await?;
        }
        payee
            .json(&["operator", "add", &home.address().to_string(), "--yes"])
            .await?;
        Ok(Self {
            payee,
            paid_to,
            home,
            settings,
        })
    }

    /// Another node of the same payee, with a home and a key of its own and otherwise the same settings.
    ///
    /// # Errors
    /// When a command fails.
    pub async fn colleague(&self, chain: &Chain, name: &str) -> Result<Home> {
        let home = Home::create(name, &self.settings).await?;
        chain.anvil.set_coins(home.address(), coins(10)).await?;
        let operator = home.address().to_string();
        self.payee.json(&["operator", "add", &operator, "--yes"]).await?;
        Ok(home)
    }

    /// The same, paid to a splitter of the usual shares, whose host names the operator.
    ///
    /// # Errors
    /// When a command fails.
    pub async fn create_with_splitter(
        chain: &Chain,
        name: &str,
        backend_url: &str,
        models: &[&str],
        validators: Address,
        treasury: Address,
    ) -> Result<Self> {
        let host = Home::create(&format!("{name}'s host"), &Settings::client(chain.rpc_url())).await?;
        chain.anvil.set_coins(host.address(), coins(10)).await?;
        let (validators, treasury) = (validators.to_string(), treasury.to_string());
        let others = ["--validators", &validators, "--treasury", &treasury, "--yes"];
        let deployed = host.json(&[&["splitter", "deploy"], &others[..]].concat()).await?;
        let splitter = deployed["splitter"].as_str().unwrap_or_default();
        let paid_to: Address = splitter.parse().wrap_err("the splitter's address")?;

        let settings = Settings::executor(chain.rpc_url(), Selling::new(paid_to, backend_url, models));
        let home = Home::create(name, &settings).await?;
        chain.anvil.set_coins(home.address(), coins(10)).await?;
        let operator = home.address().to_string();
        host.json(&["operator", "add", &operator, "--splitter", splitter, "--yes"])
            .await?;
        Ok(Self {
            payee: host,
            paid_to,
            home,
            settings,
        })
    }

    /// Changes what the node finds in its `config.toml` when it starts next.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn adjust(&mut self, adjust: impl FnOnce(&mut Settings)) -> Result<()> {
        adjust(&mut self.settings);
        self.home.configure(&self.settings)
    }

    /// Who signs.
    pub const fn operator(&self) -> Address {
        self.home.address()
    }

    /// The channels opened for its payee that its store knows, oldest first.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn channels(&self) -> Result<Vec<ChannelId>> {
        let filter = ChannelFilter {
            payee: Some(self.paid_to),
            ..ChannelFilter::default()
        };
        let channels = self
            .home
            .store()
            .await?
            .channels(filter)
            .await
            .wrap_err("listing channels")?;
        Ok(channels.into_iter().map(|channel| channel.id).collect())
    }

    /// Starts the node and waits until it serves.
    ///
    /// # Errors
    /// When it ends, or isn't ready in time.
    pub async fn start(&self) -> Result<Node> {
        Node::start(&self.home).await
    }
}

/// A tower: a home whose key no payee has named.
#[derive(Debug)]
pub struct Tower {
    /// Its home.
    pub home: Home,
    settings: Settings,
}

impl Tower {
    /// Makes a key and funds it with gas money.
    ///
    /// # Errors
    /// When a command fails.
    pub async fn create(chain: &Chain, name: &str, adjust: impl FnOnce(&mut Settings)) -> Result<Self> {
        let mut settings = Settings::tower(chain.rpc_url());
        adjust(&mut settings);
        let home = Home::create(name, &settings).await?;
        chain.anvil.set_coins(home.address(), coins(10)).await?;
        Ok(Self { home, settings })
    }

    /// Starts it and waits until it serves. It listens where it listened before.
    ///
    /// # Errors
    /// When it ends, or isn't ready in time.
    pub async fn start(&mut self) -> Result<Node> {
        let node = Node::of(self.home.start(&["watch", "--tower"])?).await?;
        self.settings.listen = node.listens_at();
        self.home.configure(&self.settings)?;
        Ok(node)
    }
}

/// A client with money in the escrow.
#[derive(Debug)]
pub struct Buyer {
    /// Its home.
    pub home: Home,
}

impl Buyer {
    /// Makes a key, funds it, and deposits `deposit` token units.
    ///
    /// # Errors
    /// When a command fails.
    pub async fn create(chain: &Chain, name: &str, bootstrap: &[&str], deposit: &str) -> Result<Self> {
        let mut settings = Settings::client(chain.rpc_url());
        settings.bootstrap = bootstrap.iter().map(|&address| address.to_owned()).collect();
        let home = Home::create(name, &settings).await?;
        home.json(&["faucet"]).await?;
        home.json(&["deposit", deposit, "--yes"]).await?;
        Ok(Self { home })
    }

    /// Buys one answer from `executor` (an operator, a peer id or a multiaddress), and waits for it.
    ///
    /// # Errors
    /// When the command fails.
    pub async fn chat(&self, executor: &str, model: &str, prompt: &str) -> Result<Value> {
        let answer = self
            .home
            .json(&["chat", "--executor", executor, "--model", model, prompt])
            .await?;
        ensure!(answer["request_hash"].is_string(), "this is no answer: {answer}");
        Ok(answer)
    }

    /// Its channels, in the order they were opened, as its own store knows them.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn channels(&self) -> Result<Vec<ChannelId>> {
        let store = self.home.store().await?;
        let channels = store
            .channels(ChannelFilter::default())
            .await
            .wrap_err("listing channels")?;
        Ok(channels.into_iter().map(|channel| channel.id).collect())
    }
}
