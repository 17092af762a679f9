use std::{sync::Arc, time::Instant};

use alloy::primitives::B256;
use eyre::{Result, WrapErr, ensure, eyre};
use futures::StreamExt as _;
use lloom_ledger::{Ledger, NewChannel, StoreDeployment};
use lloom_node::{
    BackendConfig, IncomingStreams, ModelOffer, Network, NetworkConfig, NetworkHandle, Offer,
    backend::Backend,
    client::{ChatError, ChatEvent, ChatRequest, Client, ClientConfig},
    executor::{Executor, ExecutorConfig},
    network::NetworkName,
    wire::{Ending, Refusal},
};
use lloom_receipts::{ModelHash, PricePerMillion, Prices, TokenAmount, TokenCount};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{ANSWER, MODEL, Streamed, body};
use crate::documents::{Books, DEPOSIT, open_channels};

/// How far the client pays ahead.
pub const INCREMENT: u32 = 64;

/// How often one answer is asked for again.
const MAX_REFUSALS: u32 = 100;

/// An executor and a client node with an open channel between them.
pub struct Paid {
    client: Client,
    offer: Offer,
    networks: [NetworkHandle; 2],
    stores: [Ledger; 2],
    serving: JoinHandle<()>,
    _folder: TempDir,
}

impl Paid {
    /// Starts both, the executor before the backend at `base_url`, for `streams` at a time.
    pub async fn start(base_url: &str, streams: usize) -> Result<Self> {
        let books = Books::new(1)?;
        let folder = TempDir::new().wrap_err("making a folder for the stores")?;
        let deployment = StoreDeployment::from(&books.domain);
        let sold = Ledger::open(&folder.path().join("executor.db"), &deployment).await?;
        let bought = Ledger::open(&folder.path().join("client.db"), &deployment).await?;
        let channel = NewChannel {
            parameters: books.parameters,
            operator: books.operator.address(),
            client_random: B256::with_last_byte(1),
            deposit: DEPOSIT,
        };
        bought.record_channel(channel).await?;
        for store in [&sold, &bought] {
            open_channels(store, &[(books.channel(), books.parameters)]).await?;
        }

        let name = NetworkName {
            name: "bench".to_owned(),
            chain_id: books.domain.chain_id(),
            settlement: books.domain.settlement(),
        };
        let mut config = NetworkConfig::new(books.operator.clone(), name.clone());
        config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().wrap_err("a loopback address")?];
        config.limits.streams_per_connection = config.limits.streams_per_connection.max(2 * streams);
        let limits = config.limits.clone();
        let (executor_network, incoming) = Network::start(config).await?;
        let mut config = NetworkConfig::new(books.payer.clone(), name);
        config.limits = limits;
        let (client_network, _) = Network::start(config).await?;
        let addresses = executor_network.listen_addresses();
        let address = addresses.first().ok_or_else(|| eyre!("the executor listens nowhere"))?;
        client_network.dial(address.clone()).await?;

        let offer = offer(&books, streams);
        let backend = Backend::new(BackendConfig::new(base_url))?;
        let keypair = books.operator.clone();
        let executor = Executor::new(
            ExecutorConfig::default(),
            sold.clone(),
            books.domain,
            keypair,
            backend,
            offer.clone(),
        );
        Ok(Self {
            client: Client::new(
                ClientConfig::default(),
                bought.clone(),
                books.domain,
                books.payer.clone(),
                client_network.clone(),
            ),
            offer,
            networks: [executor_network, client_network],
            stores: [sold, bought],
            serving: tokio::spawn(serve(executor, incoming)),
            _folder: folder,
        })
    }

    /// Buys one answer, until both hold its receipt. Asks again where the executor holds the request uncovered, as any
    /// buyer would; the time goes on and the refusals are counted.
    pub async fn stream(&self) -> Result<Streamed> {
        let start = Instant::now();
        let mut refusals = 0;
        loop {
            match self.attempt(start).await {
                Ok(streamed) => return Ok(Streamed { refusals, ..streamed }),
                Err(error) if is_uncovered(&error) && refusals < MAX_REFUSALS => refusals += 1,
                Err(error) => return Err(error),
            }
        }
    }

    async fn attempt(&self, start: Instant) -> Result<Streamed> {
        let mut chat = self.client.chat(ChatRequest {
            peer: self.networks[0].peer_id(),
            offer: self.offer.clone(),
            model: ModelHash::of_id(MODEL),
            body: body(),
            max_output: Some(TokenCount::new(ANSWER)),
            channel: None,
        });
        let mut first_token = None;
        while let Some(event) = chat.next().await {
            match event? {
                ChatEvent::Accepted { .. } => {}
                ChatEvent::Chunk { usage, .. } => {
                    if usage.output.get() > 0 {
                        first_token.get_or_insert_with(|| start.elapsed());
                    }
                }
                ChatEvent::Completed(completion) => {
                    ensure!(completion.recorded, "a receipt is not recorded");
                    ensure!(
                        completion.ending == Ending::Complete,
                        "an answer ended with {:?}",
                        completion.ending
                    );
                    return Ok(Streamed {
                        first_token: first_token.ok_or_else(|| eyre!("no token came"))?,
                        tokens: completion.usage().output.get(),
                        refusals: 0,
                    });
                }
            }
        }
        Err(eyre!("an answer ended without a receipt"))
    }

    /// Stops everything.
    pub async fn stop(self) {
        for network in &self.networks {
            network.shutdown().await;
        }
        self.serving.abort();
        for store in self.stores {
            store.close().await;
        }
    }
}

fn is_uncovered(error: &eyre::Report) -> bool {
    matches!(
        error.downcast_ref::<ChatError>(),
        Some(ChatError::Refused(Refusal::Uncovered { .. }))
    )
}

fn offer(books: &Books, streams: usize) -> Offer {
    let price = |base_units| PricePerMillion::new(TokenAmount::new(base_units));
    Offer {
        chain_id: books.domain.chain_id(),
        escrow: books.domain.escrow(),
        settlement: books.domain.settlement(),
        token: books.parameters.token,
        payee: books.parameters.payee,
        operator: books.operator.address(),
        models: vec![ModelOffer {
            id: MODEL.to_owned(),
            hash: ModelHash::of_id(MODEL),
            prices: Prices {
                input: price(150_000),
                output: price(600_000),
            },
            max_input: TokenCount::new(8_192),
            max_output: TokenCount::new(4_096),
        }],
        increment: TokenCount::new(INCREMENT),
        min_deposit: TokenAmount::ZERO,
        confirmations: 1,
        capacity: u32::try_from(streams).unwrap_or(u32::MAX),
        agent: "bench".to_owned(),
    }
}

async fn serve(executor: Executor, mut incoming: IncomingStreams) {
    let executor = Arc::new(executor);
    while let Some(arrived) = incoming.next().await {
        let executor = Arc::clone(&executor);
        tokio::spawn(async move { executor.serve(arrived.stream, arrived.address).await });
    }
}
