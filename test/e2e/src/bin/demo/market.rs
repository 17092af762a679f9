use std::fs;

use eyre::{Result, WrapErr, ensure, eyre};
use futures::future::{try_join, try_join_all};
use lloom_e2e::{Buyer, Chain, Node, Prompt, Seller, prompts};
use lloom_receipts::TokenAmount;
use serde_json::{Value, json};

use crate::backend::Backend;

/// Clients, each buying from every executor.
const CLIENTS: usize = 3;
/// Requests of each client.
const REQUESTS_A_CLIENT: usize = 9;
/// Requests of one client at a time.
const AT_A_TIME: &str = "3";
/// What each client puts into the escrow, token units.
const DEPOSIT: &str = "10";

/// Two executors and three clients, every one a process with a home of its own.
#[derive(Debug)]
pub struct Market {
    /// The executors.
    pub sellers: Vec<Seller>,
    nodes: Vec<Node>,
    /// The clients.
    pub buyers: Vec<Buyer>,
}

/// What both sides hold in all.
#[derive(Clone, Copy, Debug)]
pub struct Holdings {
    /// The clients, in wallets and free in the escrow.
    pub payers: TokenAmount,
    /// The executors' payees, likewise.
    pub payees: TokenAmount,
}

/// A request and what came of it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was asked.
    pub prompt: Prompt,
    /// What `lloomctl chat` said about it.
    pub said: Value,
}

impl Market {
    /// Makes and funds all keys, and starts the executors' nodes.
    ///
    /// # Errors
    /// When a command fails.
    pub async fn open(chain: &Chain, backend: &Backend) -> Result<Self> {
        let models = [backend.model.as_str()];
        let sellers = try_join(
            Seller::create(chain, "executor 1", backend.url(0), &models, |settings| {
                settings.watching.publish = "receipts";
                settings.watching.min_claim = "0.0002".to_owned();
            }),
            Seller::create(chain, "executor 2", backend.url(1), &models, |settings| {
                settings.watching.publish = "receipts-on-close";
                settings.watching.min_claim = "0.0002".to_owned();
                if let Some(selling) = &mut settings.executor {
                    selling.input_price = "0.10".to_owned();
                    selling.output_price = "0.40".to_owned();
                }
            }),
        );
        let (first, mut second) = sellers.await?;
        let node = first.start().await?;
        // Everybody knows the first executor's address; the second is found through it.
        let known = node.address.clone();
        second.adjust(|settings| settings.bootstrap = vec![known.clone()])?;
        let nodes = vec![node, second.start().await?];

        let buyers = (1..=CLIENTS).map(|number| {
            let known = known.as_str();
            async move { Buyer::create(chain, &format!("client {number}"), &[known], DEPOSIT).await }
        });
        Ok(Self {
            sellers: vec![first, second],
            nodes,
            buyers: try_join_all(buyers).await?,
        })
    }

    /// Who is there, in a line.
    pub fn description(&self) -> String {
        format!(
            "{} executors (processes {}), their payees' keys on no node; {} clients with {DEPOSIT} LDEV each in the escrow",
            self.sellers.len(),
            self.nodes
                .iter()
                .map(|node| node.process.id().to_string())
                .collect::<Vec<_>>()
                .join(" and "),
            self.buyers.len()
        )
    }

    /// What everybody holds now.
    ///
    /// # Errors
    /// When the chain doesn't answer.
    pub async fn holdings(&self, chain: &Chain) -> Result<Holdings> {
        let payers = self.buyers.iter().map(|buyer| buyer.home.address());
        let payees = self.sellers.iter().map(|seller| seller.payee.address());
        Ok(Holdings {
            payers: chain.money.held_by_all(payers).await?,
            payees: chain.money.held_by_all(payees).await?,
        })
    }

    /// Lets all clients ask at once, each some requests at a time, of both executors.
    ///
    /// # Errors
    /// When a request fails.
    pub async fn trade(&self, backend: &Backend) -> Result<Vec<Answer>> {
        let prompts = prompts()?;
        ensure!(
            prompts.len() >= CLIENTS * REQUESTS_A_CLIENT,
            "there are too few prompts"
        );
        let clients = self.buyers.iter().zip(prompts.chunks(REQUESTS_A_CLIENT)).enumerate();
        let clients = clients.map(|(client, (buyer, prompts))| self.ask(client, buyer, prompts, &backend.model));
        Ok(try_join_all(clients).await?.concat())
    }

    async fn ask(&self, client: usize, buyer: &Buyer, prompts: &[Prompt], model: &str) -> Result<Vec<Answer>> {
        // Every client asks the executors in turn, and not all begin with the same one.
        let executor_of = |index: usize| (client + index) % self.sellers.len();
        let lines = prompts.iter().enumerate().map(|(index, prompt)| {
            json!({
                "id": prompt.id,
                "prompt": prompt.prompt,
                "max_tokens": prompt.max_tokens,
                "executor": self.sellers[executor_of(index)].operator(),
            })
            .to_string()
        });
        let input = buyer.home.path("prompts.jsonl");
        fs::write(&input, lines.collect::<Vec<_>>().join("\n")).wrap_err("writing a client's prompts")?;
        let input = input.display().to_string();
        let batch = ["chat", "--model", model, "--input", &input, "--concurrency", AT_A_TIME];
        let said = buyer.home.json_lines(&batch).await?;
        prompts
            .iter()
            .map(|prompt| {
                let said = said.iter().find(|said| said["id"] == prompt.id.as_str());
                Ok(Answer {
                    prompt: prompt.clone(),
                    said: said.ok_or_else(|| eyre!("no answer to {}", prompt.id))?.clone(),
                })
            })
            .collect()
    }

    /// Lets both running nodes claim what they haven't yet.
    ///
    /// # Errors
    /// When a command fails.
    pub async fn claim(&self) -> Result<()> {
        try_join_all(self.sellers.iter().map(|seller| seller.home.json(&["claim"]))).await?;
        Ok(())
    }

    /// Lets both running nodes close all their channels.
    ///
    /// # Errors
    /// When a command fails.
    pub async fn close_channels(&self) -> Result<()> {
        let executors = self.sellers.iter().map(|seller| async move {
            for channel in seller.channels().await? {
                seller
                    .home
                    .json(&["channel", "close", &channel.to_string(), "--yes"])
                    .await?;
            }
            Ok::<(), eyre::Report>(())
        });
        try_join_all(executors).await?;
        Ok(())
    }

    /// Stops the nodes in an orderly way.
    ///
    /// # Errors
    /// When one doesn't stop, or complains.
    pub async fn stop(self) -> Result<()> {
        for node in self.nodes {
            let finished = node.process.stop().await?;
            ensure!(
                finished.code() == Some(0),
                "a node ended with {}\n{}",
                finished.status,
                finished.stderr
            );
        }
        Ok(())
    }
}
