//! What a command works with: the home, its configuration, the network, and what they lead to.

use std::{path::PathBuf, time::Duration};

use alloy::primitives::Address;
use lloom_ledger::{Ledger, OpenError, StoreDeployment, StoreUrl, StoreUrlError};
use lloom_receipts::{ChannelId, Keypair};
use lloom_watcher::{RpcChain, RpcConfig};

use crate::{
    cli::GlobalOptions,
    config::{Config, DEFAULT_KEY, LedgerSettings},
    control::{Answer, Order, ask_status, hand_over},
    failure::{Failure, Kind, OrFail as _, Result},
    home::{Home, begin_store},
    keystore::LockedKey,
    network::Network,
    onchain::OnChain,
    output::Output,
    password::PasswordSource,
};

/// The network when nobody chose one.
pub const DEFAULT_NETWORK: &str = "devnet";

/// One run of one command.
#[derive(Debug)]
pub struct Session {
    /// Where everything lies.
    pub home: Home,
    /// Where answers go.
    pub output: Output,
    /// The network chosen.
    pub network: Network,
    config: Option<Config>,
    key: String,
    password: PasswordSource,
    own_endpoint: bool,
    /// Whether it is one that a node which runs here was not started with.
    passing_endpoint: bool,
}

impl Session {
    /// Reads the home.
    ///
    /// # Errors
    /// When its configuration, or the network's, is wrong.
    pub fn load(options: GlobalOptions) -> Result<Self> {
        let home = Home::resolve(options.home)?;
        let config = Config::load_if_any(&home)?;
        let configured = config.as_ref().map(|config| config.network.as_str());
        let name = options.network.as_deref().or(configured).unwrap_or(DEFAULT_NETWORK);
        let mut network = Network::load(&home, name)?;
        // An endpoint in config.toml is one of the network named there, and of no other.
        let configured = config.as_ref().filter(|config| config.network == name);
        let mut own_endpoints: Vec<String> = configured.map(|config| config.rpc_urls.clone()).unwrap_or_default();
        let mut passing_endpoint = false;
        if let Some(url) = options.rpc_url {
            passing_endpoint = !own_endpoints.contains(&url) && !network.rpc_urls.contains(&url);
            own_endpoints = vec![url];
        }
        let own_endpoint = !own_endpoints.is_empty();
        if own_endpoint {
            std::mem::swap(&mut network.rpc_urls, &mut own_endpoints);
        }
        let key = options
            .key
            .or_else(|| config.as_ref().map(|config| config.key.clone()))
            .unwrap_or_else(|| DEFAULT_KEY.to_owned());
        Ok(Self {
            home,
            output: Output::new(options.json),
            network,
            config,
            key,
            password: PasswordSource {
                file: options.password_file,
            },
            own_endpoint,
            passing_endpoint,
        })
    }

    /// Hands `order` to the node that runs in this home. `None` when none does.
    ///
    /// # Errors
    /// When the node hangs, what it answers, or a connection that broke.
    pub async fn hand_over(&self, order: &Order) -> Result<Option<Answer>> {
        let socket = self.home.control_socket();
        // Said before: with an endpoint that does not answer, the node may take long.
        if self.passing_endpoint && ask_status(&socket).await?.is_some() {
            self.output.note(
                "The node that runs in this home does it, with the endpoints it was started with: --rpc-url is not used. Stop the node first to use it, or change config.toml and start the node again.",
            );
        }
        hand_over(&socket, order).await
    }

    /// The configuration.
    ///
    /// # Errors
    /// When the home has none.
    pub fn config(&self) -> Result<&Config> {
        match &self.config {
            Some(config) => Ok(config),
            // Says what is missing.
            None => Err(Config::load(&self.home).err().unwrap_or_else(|| {
                Failure::new(Kind::Configuration, "the configuration was written just now; try again")
            })),
        }
    }

    /// Whether the endpoint is another than the network's.
    pub const fn has_own_endpoint(&self) -> bool {
        self.own_endpoint
    }

    /// Where passwords come from.
    pub fn password(&self) -> &PasswordSource {
        &self.password
    }

    /// The chosen key's name.
    pub fn key_name(&self) -> &str {
        &self.key
    }

    /// The chosen key's address.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn address(&self) -> Result<Address> {
        LockedKey::read(&self.home, &self.key)?.address()
    }

    /// The chosen key, decrypted.
    ///
    /// # Errors
    /// When there is no such key, or the password is wrong.
    pub fn unlock(&self) -> Result<Keypair> {
        LockedKey::read(&self.home, &self.key)?.unlock(&self.password)
    }

    /// The chain, not asked anything yet.
    ///
    /// # Errors
    /// When its endpoint is no URL.
    pub fn chain(&self) -> Result<RpcChain> {
        self.chain_of(&self.network)
    }

    /// The chain of a network.
    ///
    /// # Errors
    /// When its endpoint is no URL.
    pub fn chain_of(&self, network: &Network) -> Result<RpcChain> {
        RpcChain::new(&RpcConfig {
            endpoints: network.rpc_urls.clone(),
            chain_id: network.chain_id,
            genesis: network.genesis,
            timeout: self
                .config
                .as_ref()
                .and_then(|config| config.rpc_timeout_secs)
                .map_or(RpcConfig::DEFAULT_TIMEOUT, |seconds| {
                    Duration::from_secs(seconds.max(1))
                }),
        })
        .or_fail(Kind::Configuration, || {
            format!("the network '{}' has no usable RPC endpoint", network.name)
        })
        .map_err(|failure| {
            failure.hint("give an http:// or https:// URL with --rpc-url, or in config.toml's `rpc_urls`")
        })
    }

    /// The contracts, checked to be there.
    ///
    /// # Errors
    /// When the chain doesn't answer, is another one, or has no contracts.
    pub async fn on_chain(&self) -> Result<OnChain> {
        let on_chain = OnChain::new(self.chain()?, &self.network);
        on_chain.check_deployed(&self.network).await?;
        Ok(on_chain)
    }

    /// What the store's records are of.
    pub fn store_deployment(&self) -> StoreDeployment {
        StoreDeployment::from(&self.network.domain())
    }

    /// Which store it is: config.toml's, or the file in the home.
    ///
    /// # Errors
    /// When config.toml names none that can be.
    pub fn store_url(&self) -> Result<StoreUrl> {
        match self.config.as_ref().and_then(|config| config.store.as_deref()) {
            None => Ok(StoreUrl::file(&self.home.store())),
            Some(text) => {
                parse_store_url(text, &self.home).map_err(|failure| failure.while_("config.toml's `store` is no use"))
            }
        }
    }

    /// How the store is looked after.
    pub fn ledger_settings(&self) -> LedgerSettings {
        self.config
            .as_ref()
            .map_or_else(LedgerSettings::default, |config| config.ledger.clone())
    }

    /// Where receipts go that leave the store.
    pub fn archive(&self) -> PathBuf {
        let configured = self.ledger_settings().archive.unwrap_or_else(|| "archive".into());
        self.home.root().join(configured)
    }

    /// The store, for this process alone where it is a file.
    ///
    /// # Errors
    /// When it can't be used.
    pub async fn open_store(&self) -> Result<Ledger> {
        self.config()?;
        let url = self.store_url()?;
        if let Some(path) = url.path() {
            begin_store(path)?;
        }
        Ledger::open(&url, &self.store_deployment())
            .await
            .map_err(store_failure)
    }

    /// The store for reading, also beside a process that writes; `None` where nothing was ever recorded.
    ///
    /// # Errors
    /// When it can't be used.
    pub async fn read_store(&self) -> Result<Option<Ledger>> {
        match Ledger::open_read_only(self.store_url()?).await {
            Ok(ledger) if *ledger.deployment() == self.store_deployment() => Ok(Some(ledger)),
            Ok(ledger) => Err(store_failure(OpenError::OtherDeployment {
                store: ledger.url().clone(),
                found: *ledger.deployment(),
                wanted: self.store_deployment(),
            })),
            Err(OpenError::Missing { .. }) => Ok(None),
            // Only an owner may change it, and it would change nothing that is recorded.
            Err(OpenError::OlderSchema { .. }) => self.open_store().await.map(Some),
            Err(error) => Err(store_failure(error)),
        }
    }
}

/// A store as somebody wrote it down.
///
/// # Errors
/// When it can't be one. What is wrong is said without repeating it: a password may stand in it.
pub fn parse_store_url(text: &str, home: &Home) -> Result<StoreUrl> {
    StoreUrl::parse(text, home.root()).map_err(|error| {
        let failure = Failure::of(Kind::Configuration, error);
        match error {
            StoreUrlError::Password => {
                failure.hint("leave it out of the URL, and change it: whoever has read the URL has read it")
            }
            _ => failure.hint("such as postgres://lloom@db.example/lloom?sslmode=verify-full"),
        }
    })
}

/// A channel that the store has no record of.
pub fn unknown_channel(channel: ChannelId) -> Failure {
    Failure::new(Kind::Refused, format!("this home knows no channel {channel}"))
        .hint("`lloomctl channel list --all` shows those it knows")
}

/// An open failure with its advice.
pub fn store_failure(error: OpenError) -> Failure {
    let hint = match &error {
        OpenError::Locked { .. } => Some(
            "one process writes a store at a time: stop the other one (`lloomctl node run`, `watch` or `chat`), or use another --home",
        ),
        OpenError::NewerSchema { .. } => Some("a newer lloomctl wrote it: use that version; nothing was changed"),
        OpenError::Damaged { .. } => Some(
            "nothing was changed. `lloomctl ledger restore` puts the newest backup in its place and keeps the file; without one, copy the home and claim from the copy what can still be read of it",
        ),
        OpenError::Unfit { .. } => {
            Some("money is at stake: a store belongs on a server that keeps what it acknowledges")
        }
        OpenError::Sql { store, .. } if store.is_shared() => Some(
            "is the server up, and may this user connect? The password comes from PGPASSWORD, or from the file that PGPASSFILE names",
        ),
        OpenError::OtherDeployment { .. } => {
            Some("a store belongs to one deployment on one chain: use another --home for this network")
        }
        _ => None,
    };
    let failure = Failure::of(Kind::Store, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
