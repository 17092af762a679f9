//! Networks: a chain, the token that is paid in, and where the contracts are.

use std::fs;

use alloy::primitives::{Address, B256, address, b256};
use lloom_bindings::{Contracts, dev_token_address};
use lloom_receipts::{Decimals, Domain};
use serde::{Deserialize, Serialize};

use crate::{
    failure::{Failure, Kind, OrFail as _, Result},
    home::{Home, check_name},
    money::Token,
};

/// The chain id of local development chains.
pub const DEVNET_CHAIN_ID: u64 = 31_337;
/// Where a devnet answers when nobody chose.
pub const DEVNET_PORT: u16 = 8545;

/// A network as commands use it.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// The chain's id.
    pub chain_id: u64,
    /// JSON-RPC endpoints, the preferred one first.
    pub rpc_urls: Vec<String>,
    /// The hash of block 0, where it is known.
    pub genesis: Option<B256>,
    /// How deep a block must lie before deposits in it count.
    pub confirmations: u64,
    /// A block explorer's address, without a slash at its end.
    pub explorer: Option<String>,
    /// What the chain calls its native coin.
    pub coin: String,
    /// The ERC-20 that is paid in.
    pub token: Token,
    /// Where the contracts are.
    pub contracts: Contracts,
    /// No event of the contracts lies before this block.
    pub start_block: u64,
    /// Whether money on it is worth nothing: there is a faucet.
    pub development: bool,
}

/// The content of `networks/<name>.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkFile {
    /// As [`Network::chain_id`].
    pub chain_id: u64,
    /// As [`Network::rpc_urls`].
    pub rpc_urls: Vec<String>,
    /// As [`Network::genesis`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<B256>,
    /// As [`Network::confirmations`].
    pub confirmations: u64,
    /// As [`Network::explorer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explorer: Option<String>,
    /// As [`Network::coin`].
    #[serde(default = "ether")]
    pub coin: String,
    /// As [`Network::start_block`].
    #[serde(default)]
    pub start_block: u64,
    /// As [`Network::development`].
    #[serde(default)]
    pub development: bool,
    /// As [`Network::token`].
    pub token: TokenFile,
    /// As [`Network::contracts`]; this version's deterministic addresses where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contracts: Option<Contracts>,
}

/// The token of a [`NetworkFile`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenFile {
    /// The ERC-20.
    pub address: Address,
    /// What people call it.
    pub symbol: String,
    /// How many decimals its unit has.
    pub decimals: Decimals,
}

fn ether() -> String {
    "ETH".to_owned()
}

/// The networks that need no file.
pub const PRESETS: [&str; 3] = ["devnet", "base-sepolia", "base"];

fn preset(name: &str) -> Option<NetworkFile> {
    let usdc = |address| TokenFile {
        address,
        symbol: "USDC".to_owned(),
        decimals: Decimals::new(6),
    };
    let public = |chain_id, genesis, rpc: &str, explorer: &str, token| NetworkFile {
        chain_id,
        rpc_urls: vec![rpc.to_owned()],
        // A fork that somebody runs has the same chain id.
        genesis: Some(genesis),
        // A rollup's sequencer rarely reorganizes, but it did; ten blocks are twenty seconds.
        confirmations: 10,
        explorer: Some(explorer.to_owned()),
        coin: ether(),
        start_block: 0,
        development: false,
        token,
        contracts: None,
    };
    match name {
        "devnet" => Some(devnet(&format!("http://127.0.0.1:{DEVNET_PORT}"))),
        "base-sepolia" => Some(public(
            84_532,
            b256!("0x0dcc9e089e30b90ddfc55be9a37dd15bc551aeee999d2e2b51414c54eaf934e4"),
            "https://sepolia.base.org",
            "https://sepolia.basescan.org",
            usdc(address!("0x036CbD53842c5426634e7929541eC2318f3dCF7e")),
        )),
        "base" => Some(public(
            8_453,
            b256!("0xf712aa9241cc24369b143cf6dce85f0902a9731e70d66818a3a5845b296c73dd"),
            "https://mainnet.base.org",
            "https://basescan.org",
            usdc(address!("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913")),
        )),
        _ => None,
    }
}

/// A development chain at `rpc_url`.
pub fn devnet(rpc_url: &str) -> NetworkFile {
    NetworkFile {
        chain_id: DEVNET_CHAIN_ID,
        rpc_urls: vec![rpc_url.to_owned()],
        genesis: None,
        // Such chains mine when there is something to mine: a second block may never come.
        confirmations: 0,
        explorer: None,
        coin: ether(),
        start_block: 0,
        development: true,
        token: TokenFile {
            address: dev_token_address(),
            symbol: "LDEV".to_owned(),
            decimals: Decimals::new(6),
        },
        contracts: None,
    }
}

impl Network {
    /// The network `name`: the home's own file first, then the presets.
    ///
    /// # Errors
    /// When there is none of that name, or its file is wrong.
    pub fn load(home: &Home, name: &str) -> Result<Self> {
        check_name("network", name)?;
        let path = home.network(name);
        let file = if path.exists() {
            let operation = || format!("cannot read the network file {}", path.display());
            let text = fs::read_to_string(&path).or_fail(Kind::Configuration, operation)?;
            toml::from_str(&text).or_fail(Kind::Configuration, operation)?
        } else {
            preset(name).ok_or_else(|| {
                Failure::new(Kind::Configuration, format!("there is no network '{name}'")).hint(format!(
                    "built in are {}; others are described by a file {}",
                    PRESETS.join(", "),
                    path.display()
                ))
            })?
        };
        Ok(Self::new(name, file))
    }

    fn new(name: &str, file: NetworkFile) -> Self {
        Self {
            name: name.to_owned(),
            chain_id: file.chain_id,
            rpc_urls: file.rpc_urls,
            genesis: file.genesis,
            confirmations: file.confirmations,
            explorer: file.explorer.map(|url| url.trim_end_matches('/').to_owned()),
            coin: file.coin,
            token: Token {
                address: file.token.address,
                symbol: file.token.symbol,
                decimals: file.token.decimals,
            },
            contracts: file.contracts.unwrap_or_else(Contracts::of_this_version),
            start_block: file.start_block,
            development: file.development,
        }
    }

    /// It as a file.
    pub fn to_file(&self) -> NetworkFile {
        NetworkFile {
            chain_id: self.chain_id,
            rpc_urls: self.rpc_urls.clone(),
            genesis: self.genesis,
            confirmations: self.confirmations,
            explorer: self.explorer.clone(),
            coin: self.coin.clone(),
            start_block: self.start_block,
            development: self.development,
            token: TokenFile {
                address: self.token.address,
                symbol: self.token.symbol.clone(),
                decimals: self.token.decimals,
            },
            contracts: (self.contracts != Contracts::of_this_version()).then_some(self.contracts),
        }
    }

    /// What documents are signed for.
    pub fn domain(&self) -> Domain {
        Domain::new(self.chain_id, self.contracts.escrow, self.contracts.settlement)
    }

    /// A transaction's page at the explorer.
    pub fn transaction_page(&self, hash: B256) -> Option<String> {
        self.explorer.as_ref().map(|explorer| format!("{explorer}/tx/{hash:?}"))
    }
}

impl NetworkFile {
    /// Its text.
    ///
    /// # Errors
    /// Never for what this program makes.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).or_fail(Kind::Failed, || "cannot write a network file".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(directory.path().to_owned())).unwrap();
        (directory, home)
    }

    #[test]
    fn every_preset_loads_and_survives_its_file() {
        let (_directory, home) = home();
        for name in PRESETS {
            let network = Network::load(&home, name).unwrap();
            let file = network.to_file();
            assert_eq!(toml::from_str::<NetworkFile>(&file.to_toml().unwrap()).unwrap(), file);
            // A devnet begins anew each time.
            assert_eq!(network.genesis.is_some(), !network.development, "{name}");
        }
    }

    #[test]
    fn an_own_file_comes_before_a_preset() {
        let (_directory, home) = home();
        let file = NetworkFile {
            confirmations: 3,
            ..devnet("http://127.0.0.1:9999")
        };
        home.write(&home.network("devnet"), file.to_toml().unwrap().as_bytes(), false)
            .unwrap();
        let network = Network::load(&home, "devnet").unwrap();
        assert_eq!(network.confirmations, 3);
        assert_eq!(network.rpc_urls, ["http://127.0.0.1:9999"]);
    }

    #[test]
    fn a_wrong_file_is_refused_with_its_line() {
        let (_directory, home) = home();
        let text = devnet("http://127.0.0.1:1").to_toml().unwrap() + "\ncolor = \"red\"\n";
        home.write(&home.network("mine"), text.as_bytes(), false).unwrap();
        let failure = Network::load(&home, "mine").unwrap_err();
        assert_eq!(failure.kind(), Kind::Configuration);
        assert!(failure.one_line().contains("color"), "{}", failure.one_line());
        assert_eq!(Network::load(&home, "other").unwrap_err().kind(), Kind::Configuration);
    }
}
