use std::fmt::Write as _;

use alloy::primitives::Address;

/// What a home's `config.toml` says, as far as it matters here.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The chain's JSON-RPC.
    pub rpc_url: String,
    /// Where to listen for peers.
    pub listen: String,
    /// The store, where it is not the file in the home.
    pub store: Option<String>,
    /// Other endpoints of it, asked after that.
    pub other_rpc_urls: Vec<String>,
    /// How long an endpoint may take for an answer, seconds.
    pub rpc_timeout_secs: u64,
    /// Peers known from the start, as multiaddresses.
    pub bootstrap: Vec<String>,
    /// Whether peers are looked for by multicast. Off here: tests run side by side.
    pub mdns: bool,
    /// What is sold.
    pub executor: Option<Selling>,
    /// What a channel that `chat` opens gets, token units.
    pub channel_deposit: String,
    /// How the chain is followed.
    pub watching: Watching,
    /// An executor's towers, as multiaddresses.
    pub towers: Vec<String>,
    /// What a tower promises.
    pub tower: Option<Promising>,
}

/// What a tower promises, and to whom.
#[derive(Clone, Debug)]
pub struct Promising {
    /// The least that it goes out for, token units.
    pub minimum_value: String,
    /// How many channels it holds for one operator.
    pub max_channels_per_operator: u32,
}

impl Default for Promising {
    /// Everything, to everybody.
    fn default() -> Self {
        Self {
            minimum_value: "0.000001".to_owned(),
            max_channels_per_operator: 1_000,
        }
    }
}

/// What an executor sells, and for whom.
#[derive(Clone, Debug)]
pub struct Selling {
    /// Who is paid.
    pub payee: Address,
    /// The LLM server's API.
    pub backend_url: String,
    /// The models.
    pub models: Vec<String>,
    /// Token units a million prompt tokens.
    pub input_price: String,
    /// Token units a million completion tokens.
    pub output_price: String,
    /// How far clients pay ahead, completion tokens.
    pub increment: u32,
    /// How long the LLM server may be silent, seconds.
    pub patience_secs: u64,
    /// How long the chain may be out of sight before requests are refused, seconds.
    pub max_chain_silence_secs: u64,
}

/// How a watcher follows the chain and claims.
#[derive(Clone, Debug)]
pub struct Watching {
    /// `vouchers`, `receipts` or `receipts-on-close`.
    pub publish: &'static str,
    /// The least a claim has to bring, token units.
    pub min_claim: String,
    /// Blocks above one that counts.
    pub confirmations: u64,
    /// How long a transaction may wait for a block before it is made dearer, seconds.
    pub replace_after_secs: u64,
    /// For how long a leader may fail until it lets another one lead, seconds.
    pub yield_after_secs: u64,
    /// How old the newest block may be, seconds; however old where it is missing: test chains may stand still.
    pub max_head_age_secs: Option<u64>,
}

impl Settings {
    /// A client's, at the chain behind `rpc_url`.
    pub fn client(rpc_url: &str) -> Self {
        Self {
            rpc_url: rpc_url.to_owned(),
            listen: "/ip4/127.0.0.1/tcp/0".to_owned(),
            store: None,
            other_rpc_urls: Vec::new(),
            rpc_timeout_secs: 15,
            bootstrap: Vec::new(),
            mdns: false,
            executor: None,
            channel_deposit: "1".to_owned(),
            watching: Watching {
                publish: "vouchers",
                // Nothing is claimed unless somebody says so.
                min_claim: "1000000".to_owned(),
                confirmations: 1,
                replace_after_secs: 90,
                yield_after_secs: 120,
                max_head_age_secs: None,
            },
            towers: Vec::new(),
            tower: None,
        }
    }

    /// A tower's.
    pub fn tower(rpc_url: &str) -> Self {
        Self {
            tower: Some(Promising::default()),
            ..Self::client(rpc_url)
        }
    }

    /// An executor's.
    pub fn executor(rpc_url: &str, selling: Selling) -> Self {
        Self {
            executor: Some(selling),
            ..Self::client(rpc_url)
        }
    }

    /// The file's text.
    pub fn to_toml(&self) -> String {
        let rpc_urls: Vec<_> = std::iter::once(&self.rpc_url).chain(&self.other_rpc_urls).collect();
        let mut text = format!(
            "network = \"devnet\"\nrpc_urls = {rpc_urls:?}\nrpc_timeout_secs = {}\n\
             listen = [{:?}]\nbootstrap = {:?}\nmdns = {}\n",
            self.rpc_timeout_secs, self.listen, self.bootstrap, self.mdns
        );
        if let Some(store) = &self.store {
            let _infallible = writeln!(text, "store = {store:?}");
        }
        if let Some(selling) = &self.executor {
            selling.write_to(&mut text);
        }
        let Watching {
            publish,
            min_claim,
            confirmations,
            replace_after_secs,
            yield_after_secs,
            max_head_age_secs,
        } = &self.watching;
        let _infallible = write!(
            text,
            "\n[client]\nchannel_deposit = {:?}\n\n[watcher]\npublish = {publish:?}\nmin_claim = {min_claim:?}\n\
             confirmations = {confirmations}\npoll_interval_millis = 200\nreplace_after_secs = {replace_after_secs}\n\
             yield_after_secs = {yield_after_secs}\n\n\
             [monitoring]\nlisten = \"127.0.0.1:0\"\n",
            self.channel_deposit
        );
        if let Some(seconds) = max_head_age_secs {
            let _infallible = writeln!(text, "max_head_age_secs = {seconds}");
        }
        let _infallible = write!(text, "\n[towers]\npeers = {:?}\ninterval_secs = 1\n", self.towers);
        if let Some(promising) = &self.tower {
            let _infallible = write!(
                text,
                "\n[tower]\nminimum_value = {:?}\nmax_channels_per_operator = {}\nmessages_per_minute = 10000\n",
                promising.minimum_value, promising.max_channels_per_operator
            );
        }
        text
    }
}

impl Selling {
    /// `models` of the server at `backend_url` at everyday prices, for `payee`.
    pub fn new(payee: Address, backend_url: &str, models: &[&str]) -> Self {
        Self {
            payee,
            backend_url: backend_url.to_owned(),
            models: models.iter().map(|&model| model.to_owned()).collect(),
            input_price: "0.15".to_owned(),
            output_price: "0.60".to_owned(),
            increment: 32,
            patience_secs: 60,
            max_chain_silence_secs: 300,
        }
    }

    fn write_to(&self, text: &mut String) {
        let _infallible = write!(
            text,
            "\n[executor]\npayee = \"{}\"\nbackend_url = {:?}\nincrement_tokens = {}\nfirst_token_timeout_secs = {}\n\
             idle_timeout_secs = {}\nmax_chain_silence_secs = {}\n",
            self.payee,
            self.backend_url,
            self.increment,
            self.patience_secs,
            self.patience_secs,
            self.max_chain_silence_secs
        );
        for model in &self.models {
            let _infallible = write!(
                text,
                "\n[[executor.models]]\nid = {model:?}\ninput_price = {:?}\noutput_price = {:?}\n",
                self.input_price, self.output_price
            );
        }
    }
}
