//! `config.toml`: what the owner chose. Unknown keys are refused, so that a typing error can't silently mean nothing.

mod client;
mod executor;
mod ledger;
mod monitoring;
mod tower;
mod towers;
mod watcher;

use std::fs;

use serde::{Deserialize, Deserializer, Serialize, de};

pub use client::ClientSettings;
pub use executor::ExecutorSettings;
pub use ledger::LedgerSettings;
pub use monitoring::{DEFAULT_MONITORING, MonitoringSettings};
pub use tower::TowerSettings;
pub use towers::TowersSettings;
pub use watcher::{Publish, TokenSettings, WatcherSettings};

use crate::{
    failure::{Failure, Kind, OrFail as _, Result},
    home::Home,
};

/// The whole file. [`template`](crate::command::init) writes one with comments.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Which network, by name.
    pub network: String,
    /// Which store: a path, or `postgres://user@host/database`; `lloom.db` in the home where it is missing.
    #[serde(default)]
    pub store: Option<String>,
    /// Endpoints instead of the network's own, asked in this order unless one does clearly worse.
    #[serde(default)]
    pub rpc_urls: Vec<String>,
    /// The only one, as it may be written too; [`parse`](Self::parse) makes a list of it.
    #[serde(default, skip_serializing)]
    rpc_url: Option<String>,
    /// How long an endpoint may take for one answer.
    #[serde(default)]
    pub rpc_timeout_secs: Option<u64>,
    /// Which key of the keystore signs.
    #[serde(default = "default_key")]
    pub key: String,
    /// Where to listen for peers, as multiaddresses.
    #[serde(default)]
    pub listen: Vec<String>,
    /// Addresses that others reach this node by and that it can't see itself.
    #[serde(default)]
    pub external: Vec<String>,
    /// Peers to meet the others through.
    #[serde(default)]
    pub bootstrap: Vec<String>,
    /// Whether to look for peers on the local network.
    #[serde(default = "yes")]
    pub mdns: bool,
    /// What is sold.
    #[serde(default)]
    pub executor: Option<ExecutorSettings>,
    /// How is bought.
    #[serde(default)]
    pub client: ClientSettings,
    /// How the chain is followed and claimed from.
    #[serde(default)]
    pub watcher: WatcherSettings,
    /// Who defends this executor's channels while it is away.
    #[serde(default)]
    pub towers: TowersSettings,
    /// What `watch --tower` takes on for others.
    #[serde(default)]
    pub tower: Option<TowerSettings>,
    /// How the store is looked after.
    #[serde(default)]
    pub ledger: LedgerSettings,
    /// What is shown of it while it runs.
    #[serde(default)]
    pub monitoring: MonitoringSettings,
}

/// The key's name when nobody chose.
pub const DEFAULT_KEY: &str = "hot";

fn default_key() -> String {
    DEFAULT_KEY.to_owned()
}

const fn yes() -> bool {
    true
}

impl Config {
    /// Reads the home's configuration.
    ///
    /// # Errors
    /// When there is none, or it is wrong.
    pub fn load(home: &Home) -> Result<Self> {
        Self::load_if_any(home)?.ok_or_else(|| {
            Failure::new(
                Kind::Configuration,
                format!("there is no configuration in {}", home.root().display()),
            )
            .hint("`lloomctl init --role client` (or `--role executor`) makes one; --home or LLOOM_HOME name another directory")
        })
    }

    /// Reads the home's configuration where there is one.
    ///
    /// # Errors
    /// When it is wrong.
    pub fn load_if_any(home: &Home) -> Result<Option<Self>> {
        let path = home.config();
        if !path.exists() {
            return Ok(None);
        }
        let operation = || format!("cannot read the configuration {}", path.display());
        let text = fs::read_to_string(&path).or_fail(Kind::Configuration, operation)?;
        Self::parse(&text)
            .map(Some)
            .map_err(|failure| failure.while_(operation()))
    }

    /// Whether the home is there to defend others: a tower has one of its own.
    pub const fn is_tower(&self) -> bool {
        self.tower.is_some() && self.executor.is_none()
    }

    /// Reads a configuration's text.
    ///
    /// # Errors
    /// When it is wrong; the failure names key and line.
    pub fn parse(text: &str) -> Result<Self> {
        let mut config: Self =
            toml::from_str(text).map_err(|error| Failure::new(Kind::Configuration, error.to_string().trim_end()))?;
        if let Some(url) = config.rpc_url.take() {
            if !config.rpc_urls.is_empty() {
                return Err(
                    Failure::new(Kind::Configuration, "`rpc_url` and `rpc_urls` both name endpoints")
                        .hint("put all of them into `rpc_urls`, the preferred one first, and take `rpc_url` out"),
                );
            }
            config.rpc_urls.push(url);
        }
        Ok(config)
    }

    /// What is sold.
    ///
    /// # Errors
    /// When this home sells nothing.
    pub fn executor(&self) -> Result<&ExecutorSettings> {
        self.executor.as_ref().ok_or_else(|| {
            Failure::new(
                Kind::Configuration,
                "config.toml has no [executor] section: this home sells nothing",
            )
            .hint("`lloomctl --home <another directory> init --role executor` makes one that does")
        })
    }
}

/// An amount in the token's units, as text: a number would be rounded on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Decimal(String);

impl Decimal {
    /// Wraps `text`, which [`Token::parse_setting`](crate::money::Token::parse_setting) reads.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Decimal;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an amount in quotes, such as \"0.15\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Decimal::new(text))
            }
        }
        // `any`: so that a bare number reaches the visitor's own words.
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_needed() {
        let config = Config::parse("network = \"devnet\"").unwrap();
        assert_eq!(config.key, DEFAULT_KEY);
        assert!(config.mdns && config.executor.is_none());
        assert_eq!(config.executor().unwrap_err().kind(), Kind::Configuration);
    }

    #[test]
    fn endpoints_are_one_list() {
        let parse = |text: &str| Config::parse(&format!("network = \"devnet\"\n{text}"));
        assert!(parse("").unwrap().rpc_urls.is_empty());
        let several = parse("rpc_urls = [\"http://a\", \"http://b\"]").unwrap();
        assert_eq!(several.rpc_urls, ["http://a", "http://b"]);
        assert_eq!(parse("rpc_url = \"http://a\"").unwrap().rpc_urls, ["http://a"]);
        let both = parse("rpc_url = \"http://a\"\nrpc_urls = [\"http://b\"]").unwrap_err();
        assert_eq!(both.kind(), Kind::Configuration);
        assert!(both.hints()[0].contains("`rpc_urls`"), "{both:?}");
    }

    #[test]
    fn wrong_keys_are_named_with_their_line() {
        for (text, named) in [
            ("network = \"devnet\"\n\nlisten_on = []\n", ["line 3", "listen_on"]),
            (
                "network = \"devnet\"\n[client]\nchannel_deposit = 1.5\n",
                ["line 3", "in quotes"],
            ),
            (
                "network = \"devnet\"\n[watcher]\npublish = \"all\"\n",
                ["line 3", "receipts-on-close"],
            ),
            ("network = \"devnet\"\nnetwork = \"base\"\n", ["line 2", "duplicate"]),
            ("key = \"hot\"\n", ["network", "missing"]),
        ] {
            let failure = Config::parse(text).unwrap_err();
            assert_eq!(failure.kind(), Kind::Configuration);
            for word in named {
                assert!(failure.message().contains(word), "{word} in {}", failure.message());
            }
        }
    }
}
