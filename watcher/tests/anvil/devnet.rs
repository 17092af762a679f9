use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use alloy::primitives::{Address, B256, Bytes, U256, address};
use lloom_bindings::{CREATE2_PROXY, Contracts, dev_token_address, dev_token_creation_call};
use lloom_receipts::Domain;
use lloom_watcher::{Call, Chain as _, RpcChain, RpcConfig};
use serde_json::{Value, json};

pub const CHAIN_ID: u64 = 31_337;
/// One of anvil's own accounts: it signs for them, and they have coins.
pub const DEPLOYER: Address = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");

/// A chain of its own for one test. It mines when a transaction comes, and dies with this guard.
pub struct Devnet {
    process: Child,
    pub url: String,
    pub chain: RpcChain,
    pub contracts: Contracts,
    pub token: Address,
}

impl Drop for Devnet {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Devnet {
    /// Starts a chain with the contracts and the development token.
    pub async fn start() -> Self {
        let mut process = Command::new(program())
            .args(["--host", "127.0.0.1", "--port", "0", "--chain-id", "31337"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("anvil starts");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map(Result::unwrap)
            .find_map(|line| line.strip_prefix("Listening on ").map(str::to_owned))
            .expect("anvil says where it listens");
        // A full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        let url = format!("http://{address}");
        let devnet = Self {
            process,
            chain: chain_at(std::slice::from_ref(&url), CHAIN_ID),
            url,
            contracts: Contracts::of_this_version(),
            token: dev_token_address(),
        };
        for creation in [Contracts::creation_call(), dev_token_creation_call()] {
            devnet.send(DEPLOYER, CREATE2_PROXY, creation).await;
        }
        let contracts = devnet.contracts;
        let missing = devnet
            .chain
            .without_code(&[contracts.escrow, contracts.settlement, contracts.registry, devnet.token])
            .await
            .unwrap();
        assert_eq!(missing, Vec::<Address>::new());
        devnet
    }

    pub fn domain(&self) -> Domain {
        Domain::new(CHAIN_ID, self.contracts.escrow, self.contracts.settlement)
    }

    pub async fn rpc(&self, method: &'static str, params: Value) -> Value {
        self.chain
            .request(method, params)
            .await
            .unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Sends from an account that anvil signs for, and fails the test when the contract refuses.
    pub async fn send(&self, from: Address, to: Address, data: Bytes) {
        let hash = self.post(from, to, data, json!({})).await;
        // It answers before it mines.
        until("the transaction is mined", || async {
            self.chain.transaction_receipt(hash).await.unwrap().is_some()
        })
        .await;
        let mined = self.chain.transaction_receipt(hash).await.unwrap().unwrap();
        assert!(mined.succeeded, "a transaction of the test itself was reverted");
    }

    pub async fn send_call(&self, from: Address, call: &Call) {
        self.send(from, call.to, call.data.clone()).await;
    }

    /// Sends without waiting for a block. `more` adds fields, such as fees.
    pub async fn post(&self, from: Address, to: Address, data: Bytes, more: Value) -> B256 {
        self.rpc("anvil_impersonateAccount", json!([from])).await;
        self.give_coins(from).await;
        let mut transaction = json!({ "from": from, "to": to, "data": data });
        transaction
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let hash = self.rpc("eth_sendTransaction", json!([transaction])).await;
        serde_json::from_value(hash).unwrap()
    }

    pub async fn give_coins(&self, to: Address) {
        let coins = U256::from(10).pow(U256::from(21));
        self.rpc("anvil_setBalance", json!([to, coins])).await;
    }

    pub async fn take_coins(&self, from: Address) {
        self.rpc("anvil_setBalance", json!([from, "0x0"])).await;
    }

    pub async fn mine(&self, blocks: u64) {
        self.rpc("anvil_mine", json!([format!("{blocks:#x}")])).await;
    }

    /// Whether transactions are mined as they come.
    pub async fn set_automine(&self, on: bool) {
        self.rpc("evm_setAutomine", json!([on])).await;
    }

    /// What the next block asks for, wei per gas.
    pub async fn set_base_fee(&self, fee: u128) {
        self.rpc("anvil_setNextBlockBaseFeePerGas", json!([format!("{fee:#x}")]))
            .await;
    }

    /// Lets the chain's clock leap, and makes a block that shows it.
    pub async fn leap(&self, time: Duration) {
        self.rpc("evm_increaseTime", json!([time.as_secs()])).await;
        self.mine(1).await;
    }

    /// Awaits `future` on a chain that makes a block whenever it is looked at.
    pub async fn while_mining<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::pin!(future);
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                biased;
                output = &mut future => return output,
                _ = ticks.tick() => self.mine(1).await,
            }
        }
    }
}

/// Asks until `condition` holds; a test that waits in vain fails.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    const LIMIT: Duration = Duration::from_secs(60);
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, waiting).await.is_ok(), "in vain: {what}");
}

pub fn chain_at(endpoints: &[String], chain_id: u64) -> RpcChain {
    RpcChain::new(&RpcConfig {
        endpoints: endpoints.to_vec(),
        chain_id,
        genesis: None,
        timeout: Duration::from_secs(10),
    })
    .unwrap()
}

/// The binary itself, not npm's launcher: a launcher that is killed leaves its child behind.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("LLOOM_ANVIL") {
        return PathBuf::from(path);
    }
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node_modules/@foundry-rs");
    let installed = std::fs::read_dir(packages)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("anvil-"))
        .map(|entry| entry.path().join("bin/anvil"))
        .find(|binary| binary.is_file());
    installed.unwrap_or_else(|| PathBuf::from("anvil"))
}
