use std::fmt::Write as _;

use alloy::primitives::Address;

/// What a home's `config.toml` says, as far as it matters here.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The chain's JSON-RPC.
    pub rpc_url: String,
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
}

impl Settings {
    /// A client's, at the chain behind `rpc_url`.
    pub fn client(rpc_url: &str) -> Self {
        Self {
            rpc_url: rpc_url.to_owned(),
            bootstrap: Vec::new(),
            mdns: false,
            executor: None,
            channel_deposit: "1".to_owned(),
            watching: Watching {
                publish: "vouchers",
                // Nothing is claimed unless somebody says so.
                min_claim: "1000000".to_owned(),
                confirmations: 1,
            },
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
        let mut text = format!(
            "network = \"devnet\"\nrpc_url = {:?}\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nbootstrap = {:?}\nmdns = {}\n",
            self.rpc_url, self.bootstrap, self.mdns
        );
        if let Some(selling) = &self.executor {
            selling.write_to(&mut text);
        }
        let Watching {
            publish,
            min_claim,
            confirmations,
        } = &self.watching;
        let _infallible = write!(
            text,
            "\n[client]\nchannel_deposit = {:?}\n\n[watcher]\npublish = {publish:?}\nmin_claim = {min_claim:?}\n\
             confirmations = {confirmations}\npoll_interval_millis = 200\n\n[monitoring]\nlisten = \"127.0.0.1:0\"\n",
            self.channel_deposit
        );
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
