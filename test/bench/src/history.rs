//! The store of an executor with a long history, and the chain that it belongs to.
//!
//! Making it takes minutes, so it is kept beside the figures and made anew only when its recipe or the store's schema
//! has changed.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use alloy::{
    primitives::{B256, hex},
    providers::Provider as _,
};
use eyre::{Result, WrapErr, ensure, eyre};
use futures::future::try_join_all;
use lloom_bindings::{Contracts, dev_token_address};
use lloom_e2e::{Anvil, Chain, Lloomctl, Mining, Process, Settings};
use lloom_ledger::{AcceptRequest, Block, ExposurePolicy, Ledger, ObligationPolicy, SCHEMA_VERSION, StoreDeployment};
use lloom_receipts::{BlockNumber, ContentSalt, Domain, ReceiptHead, TokenAmount, UnixSeconds};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::documents::{Books, DEPOSIT, NOW, open_channels_in, operator_secret};

/// Confirmed channels, each of another payer.
pub const CHANNELS: u32 = 100_000;
/// Receipts of each, every one with its request, its bill and its voucher.
pub const RECEIPTS_A_CHANNEL: u64 = 10;

/// Counts up with every change of what is in the store.
const RECIPE: u32 = 1;
/// Channels that one block opens.
const CHANNELS_A_BLOCK: usize = 1_000;
/// Channels that are served at a time while the store is made.
const CALLERS: usize = 512;
/// Both keys' password.
const PASSWORD: &str = "correct horse battery staple";

/// Which of the home's keys signs: both are the same one, under passwords that cost differently much to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// As on a server whose disk is its protection: deriving it costs nothing.
    Cheap,
    /// As `lloomctl init` makes it.
    Standard,
}

impl Key {
    const ALL: [Self; 2] = [Self::Cheap, Self::Standard];

    /// Its name in the keystore.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cheap => "hot",
            Self::Standard => "standard",
        }
    }
}

/// An executor's home with its store, and its chain.
#[derive(Debug)]
pub struct History {
    folder: PathBuf,
    lloomctl: Lloomctl,
}

impl History {
    /// The one in `folder`, which is made first where it is missing or of another recipe.
    ///
    /// # Errors
    /// When it can't be made.
    pub async fn prepare(folder: PathBuf) -> Result<Self> {
        let lloomctl = Lloomctl::find().await?;
        let history = Self { folder, lloomctl };
        let stamp = history.folder.join("recipe.json");
        let recipe = json!({
            "recipe": RECIPE,
            "schema": SCHEMA_VERSION,
            "channels": CHANNELS,
            "receipts_a_channel": RECEIPTS_A_CHANNEL,
        });
        let found = fs::read_to_string(&stamp).ok();
        if found.and_then(|text| serde_json::from_str::<Value>(&text).ok()) == Some(recipe.clone()) {
            return Ok(history);
        }
        if history.folder.exists() {
            fs::remove_dir_all(&history.folder).wrap_err("removing a store of another recipe")?;
        }
        history.make().await?;
        fs::write(&stamp, recipe.to_string()).wrap_err("writing what the store is")?;
        Ok(history)
    }

    /// The executor's home.
    pub fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// The store.
    pub fn store(&self) -> PathBuf {
        self.home().join("lloom.db")
    }

    /// Starts `lloomctl` in the home.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(&self, arguments: &[&str]) -> Result<Process> {
        self.start_in(&self.home(), arguments)
    }

    fn start_in(&self, home: &Path, arguments: &[&str]) -> Result<Process> {
        let arguments: Vec<String> = std::iter::once("--json")
            .chain(arguments.iter().copied())
            .map(str::to_owned)
            .collect();
        let environment = [
            ("LLOOM_HOME", home.display().to_string()),
            ("LLOOM_PASSWORD", PASSWORD.to_owned()),
            ("LLOOM_LOG", "warn".to_owned()),
        ];
        let environment = environment.map(|(key, value)| (key.to_owned(), value));
        Process::start("lloomctl", self.lloomctl.program(), &arguments, &environment)
    }

    /// Writes the home's configuration.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn configure(&self, settings: &Settings) -> Result<()> {
        fs::write(self.home().join("config.toml"), settings.to_toml()).wrap_err("writing config.toml")
    }

    /// The chain, as it was when the store was made, and the store at that chain's head: what an earlier measurement
    /// let it see of later blocks is taken back.
    ///
    /// # Errors
    /// When either fails.
    pub async fn chain(&self) -> Result<Anvil> {
        let state = fs::read_to_string(self.folder.join("chain")).wrap_err("reading the chain's state")?;
        let anvil = Anvil::start(Mining::OnTransaction).await?;
        anvil.call("anvil_loadState", json!([state])).await?;
        let head = anvil.block_number().await?;
        let store = self.open().await?;
        if store.cursor().await?.is_some_and(|cursor| cursor.number.get() > head) {
            store.roll_back(BlockNumber::new(head)).await?;
        }
        let cursor = store.cursor().await?.ok_or_else(|| eyre!("the store has no cursor"))?;
        ensure!(
            cursor == block(&anvil, cursor.number.get()).await?,
            "the store is another chain's"
        );
        store.close().await;
        Ok(anvil)
    }

    /// Opens the store.
    ///
    /// # Errors
    /// When it is in use.
    pub async fn open(&self) -> Result<Ledger> {
        Ok(Ledger::open(&self.store(), &StoreDeployment::from(&domain())).await?)
    }

    async fn make(&self) -> Result<()> {
        eprintln!(
            "Making a store of {CHANNELS} channels with {RECEIPTS_A_CHANNEL} receipts each, once: this takes some minutes."
        );
        fs::create_dir_all(self.home()).wrap_err("making a folder for the store")?;
        self.make_keys().await?;
        let chain = Chain::start(Mining::OnTransaction).await?;
        let store = self.open().await?;
        open_all(&store, &chain.anvil).await?;
        let state = chain.anvil.call("anvil_dumpState", json!([])).await?;
        let state = state.as_str().ok_or_else(|| eyre!("the chain's state is no text"))?;
        fs::write(self.folder.join("chain"), state).wrap_err("writing the chain's state")?;
        serve_all(&store).await?;
        store.close().await;
        Ok(())
    }

    /// The executor's key under both passwords.
    async fn make_keys(&self) -> Result<()> {
        let secret = self.folder.join("secret");
        fs::write(&secret, hex::encode(operator_secret())).wrap_err("writing the executor's key")?;
        for key in Key::ALL {
            let home = self.folder.join(key.name());
            let secret = secret.display().to_string();
            let mut arguments = vec!["init", "--role", "client", "--network", "devnet", "--import", &secret];
            if key == Key::Cheap {
                arguments.push("--insecure-fast-kdf");
            }
            let made = self.start_in(&home, &arguments)?.finish().await?;
            ensure!(made.code() == Some(0), "lloomctl init: {}", made.stderr);
            let keystore = self.home().join("keystore");
            fs::create_dir_all(&keystore).wrap_err("making a keystore")?;
            fs::rename(
                home.join("keystore/hot.json"),
                keystore.join(format!("{}.json", key.name())),
            )
            .wrap_err("moving the executor's key")?;
            fs::remove_dir_all(home).wrap_err("removing a home that was made for its key")?;
        }
        fs::remove_file(secret).wrap_err("removing the executor's key")
    }
}

/// What the documents are signed for.
pub fn domain() -> Domain {
    let contracts = Contracts::of_this_version();
    Domain::new(Anvil::CHAIN_ID, contracts.escrow, contracts.settlement)
}

fn books(number: u32) -> Result<Books> {
    Books::on(domain(), dev_token_address(), number)
}

/// The block that the chain has at `number`.
async fn block(anvil: &Anvil, number: u64) -> Result<Block> {
    let found = anvil.provider().get_block_by_number(number.into()).await?;
    let header = found.ok_or_else(|| eyre!("the chain has no block {number}"))?.header;
    Ok(Block {
        number: BlockNumber::new(number),
        hash: header.hash,
        parent: header.parent_hash,
        timestamp: UnixSeconds::new(header.timestamp),
    })
}

/// Tells the store what a follower would have seen, had the channels been opened in the chain's blocks.
async fn open_all(store: &Ledger, anvil: &Anvil) -> Result<()> {
    let genesis = block(anvil, 0).await?;
    let policy = ObligationPolicy::default;
    store
        .apply_blocks(vec![genesis], Vec::new(), genesis.number, policy())
        .await?;
    let numbers: Vec<u32> = (0..CHANNELS).collect();
    for opened in numbers.chunks(CHANNELS_A_BLOCK) {
        anvil.mine(1).await?;
        let block = block(anvil, anvil.block_number().await?).await?;
        let channels = opened
            .iter()
            .map(|&number| books(number).map(|book| (book.channel(), book.parameters)))
            .collect::<Result<Vec<_>>>()?;
        open_channels_in(store, block, &channels).await?;
    }
    eprintln!("  {CHANNELS} channels are open");
    Ok(())
}

/// A round for each receipt, every round through all channels in another order: what a channel has lies as far apart as it
/// does when its client comes back days later.
async fn serve_all(store: &Ledger) -> Result<()> {
    let books: Vec<Books> = (0..CHANNELS).map(books).collect::<Result<_>>()?;
    let shared = Arc::new(Shared {
        heads: books
            .iter()
            .map(|book| Mutex::new(ReceiptHead::empty(book.channel())))
            .collect(),
        books,
    });
    for round in 0..RECEIPTS_A_CHANNEL {
        let next = Arc::new(AtomicUsize::new(0));
        let callers = (0..CALLERS).map(|_| {
            let (store, shared, next) = (store.clone(), Arc::clone(&shared), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    if turn >= CHANNELS as usize {
                        return Ok::<(), eyre::Report>(());
                    }
                    shared.serve(&store, shuffled(turn, round), round).await?;
                }
            })
        });
        for ended in try_join_all(callers).await? {
            ended?;
        }
        eprintln!("  every channel has {} of {RECEIPTS_A_CHANNEL} receipts", round + 1);
    }
    Ok(())
}

/// Which channel's turn it is: multiplying by what has no factor in common with their number takes each once.
fn shuffled(turn: usize, round: u64) -> usize {
    const FACTOR: usize = 48_271;
    (turn * FACTOR + usize::try_from(round).unwrap_or_default() * 7_919) % CHANNELS as usize
}

/// All channels, and how far each is.
struct Shared {
    books: Vec<Books>,
    heads: Vec<Mutex<ReceiptHead>>,
}

impl Shared {
    /// What an executor records of one request of a channel.
    async fn serve(&self, store: &Ledger, channel: usize, number: u64) -> Result<()> {
        let exposure = ExposurePolicy {
            start: DEPOSIT,
            per_mille_of_settled: 0,
            maximum: DEPOSIT,
        };
        let book = &self.books[channel];
        let mut head = self.heads[channel].lock().await;
        let request = book.request(number);
        let bill = book.bill(request.document())?;
        let accept = AcceptRequest {
            request,
            content_salt: ContentSalt::new(B256::ZERO),
            voucher: None,
            reserve: TokenAmount::new(100),
            exposure,
            now: NOW,
        };
        store.accept_request(accept).await?;
        let bill = *store.commit_bill(bill).await?.bill();
        let receipt = book.receipt(&head, bill)?;
        *head = ReceiptHead::at(receipt.receipt());
        let voucher = book.voucher(head.amount);
        store.accept_receipt(receipt, Some(voucher)).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_round_takes_each_channel_once() {
        for round in [0, RECEIPTS_A_CHANNEL - 1] {
            let taken: HashSet<usize> = (0..CHANNELS as usize).map(|turn| shuffled(turn, round)).collect();
            assert_eq!(taken.len(), CHANNELS as usize);
        }
    }
}
