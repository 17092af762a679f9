use std::path::{Path, PathBuf};

use alloy::{
    primitives::{Address, B256, U256},
    providers::{DynProvider, Provider, ProviderBuilder},
};
use eyre::{Result, WrapErr, eyre};
use serde_json::{Value, json};

use crate::Process;

/// When a chain makes blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mining {
    /// A block a second, and one more for every transaction: a chain that lives.
    Living,
    /// Only for transactions: nothing happens behind a test's back.
    OnTransaction,
}

/// A development chain of its own, on a free port. It dies with this guard.
#[derive(Debug)]
pub struct Anvil {
    url: String,
    provider: DynProvider,
    process: Process,
}

impl Anvil {
    /// The chain id of every development chain.
    pub const CHAIN_ID: u64 = 31337;

    /// Starts a chain.
    ///
    /// # Errors
    /// When no anvil is found, or it doesn't start.
    pub async fn start(mining: Mining) -> Result<Self> {
        let mut arguments: Vec<String> = ["--host", "127.0.0.1", "--port", "0", "--chain-id", "31337"]
            .map(str::to_owned)
            .to_vec();
        if mining == Mining::Living {
            arguments.extend(["--block-time", "1", "--mixed-mining"].map(str::to_owned));
        }
        let process = Process::start("anvil", program()?, &arguments, &[])?;
        let address = process
            .line("address it listens on", |line| {
                line.strip_prefix("Listening on ").map(str::to_owned)
            })
            .await?;
        let url = format!("http://{address}");
        let provider = ProviderBuilder::new()
            .connect_http(url.parse().wrap_err("anvil's address")?)
            .erased();
        Ok(Self { url, provider, process })
    }

    /// Where its JSON-RPC is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// A provider over it.
    pub const fn provider(&self) -> &DynProvider {
        &self.provider
    }

    /// Calls any method.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn call(&self, method: &'static str, parameters: Value) -> Result<Value> {
        self.provider
            .raw_request(method.into(), parameters)
            .await
            .wrap_err_with(|| format!("calling {method}"))
    }

    /// The newest block's number.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn block_number(&self) -> Result<u64> {
        Ok(self.provider.get_block_number().await?)
    }

    /// Mines `count` blocks.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn mine(&self, count: u64) -> Result<()> {
        self.call("anvil_mine", json!([format!("{count:#x}")])).await.map(drop)
    }

    /// No block is made any more until [`resume_mining`](Self::resume_mining); transactions wait in the pool.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn hold_mining(&self) -> Result<()> {
        self.call("evm_setIntervalMining", json!([0])).await?;
        self.call("evm_setAutomine", json!([false])).await.map(drop)
    }

    /// Blocks are made again, one for every transaction and, on a living chain, one a second.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn resume_mining(&self, mining: Mining) -> Result<()> {
        self.call("evm_setAutomine", json!([true])).await?;
        if mining == Mining::Living {
            self.call("evm_setIntervalMining", json!([1])).await?;
        }
        self.mine(1).await
    }

    /// Replaces the newest `depth` blocks by empty ones: what happened in them didn't.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn reorganize(&self, depth: u64) -> Result<()> {
        self.call("anvil_reorg", json!([depth, []])).await.map(drop)
    }

    /// Moves the chain's clock by `seconds` and mines a block.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn pass_time(&self, seconds: u64) -> Result<()> {
        self.call("evm_increaseTime", json!([seconds])).await?;
        self.mine(1).await
    }

    /// How many transactions wait for a block.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn waiting_transactions(&self) -> Result<u64> {
        let status = self.call("txpool_status", json!([])).await?;
        let pending = status["pending"].as_str().unwrap_or_default();
        u64::from_str_radix(pending.trim_start_matches("0x"), 16).wrap_err("the pool's status")
    }

    /// Gives `account` this much of the chain's own coin, wei.
    ///
    /// # Errors
    /// When the call fails.
    pub async fn set_coins(&self, account: Address, wei: U256) -> Result<()> {
        self.call("anvil_setBalance", json!([account, wei])).await.map(drop)
    }

    /// The block a transaction is in.
    ///
    /// # Errors
    /// When the call fails or it is in none.
    pub async fn block_of(&self, transaction: B256) -> Result<u64> {
        let receipt = self.provider.get_transaction_receipt(transaction).await?;
        let block = receipt.and_then(|receipt| receipt.block_number);
        block.ok_or_else(|| eyre!("the transaction {transaction} is in no block"))
    }
}

/// Where anvil is: `LLOOM_ANVIL`, the project's `node_modules`, or the `PATH`.
fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("LLOOM_ANVIL") {
        return Ok(PathBuf::from(path));
    }
    // The program itself, not npm's launcher, which would stay between it and its guard.
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../node_modules/@foundry-rs");
    let installed = packages.read_dir().into_iter().flatten().flatten();
    let mut installed = installed
        .filter(|package| package.file_name().to_string_lossy().starts_with("anvil-"))
        .map(|package| package.path().join("bin/anvil"));
    if let Some(installed) = installed.find(|program| program.is_file()) {
        return Ok(installed);
    }
    let searched = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&searched)
        .map(|folder| folder.join("anvil"))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| eyre!("no anvil found: run `make node_modules`, or set LLOOM_ANVIL"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn mines_only_when_it_may() {
        let anvil = Anvil::start(Mining::OnTransaction).await.unwrap();
        assert_eq!(anvil.block_number().await.unwrap(), 0);
        anvil.mine(3).await.unwrap();
        assert_eq!(anvil.block_number().await.unwrap(), 3);

        let accounts = anvil.call("eth_accounts", json!([])).await.unwrap();
        anvil.hold_mining().await.unwrap();
        let transaction = json!([{ "from": accounts[0], "to": accounts[1], "value": "0x1" }]);
        anvil.call("eth_sendTransaction", transaction).await.unwrap();
        assert_eq!(anvil.waiting_transactions().await.unwrap(), 1);
        assert_eq!(anvil.block_number().await.unwrap(), 3);
        anvil.resume_mining(Mining::OnTransaction).await.unwrap();
        assert_eq!(anvil.waiting_transactions().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_reorganization_replaces_blocks() {
        let anvil = Anvil::start(Mining::OnTransaction).await.unwrap();
        anvil.mine(5).await.unwrap();
        let hash = |number: u64| {
            let provider = anvil.provider().clone();
            async move {
                provider
                    .get_block_by_number(number.into())
                    .await
                    .unwrap()
                    .unwrap()
                    .header
                    .hash
            }
        };
        let (before, kept) = (hash(5).await, hash(2).await);
        anvil.reorganize(2).await.unwrap();
        assert_ne!(hash(5).await, before);
        assert_eq!(hash(2).await, kept);
    }
}
