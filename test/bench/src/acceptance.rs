use std::time::{Duration, Instant};

use eyre::{Result, WrapErr};
use futures::future::try_join_all;
use lloom_ledger::{AcceptRequest, ExposurePolicy, Ledger, StoreDeployment, StoreUrl};
use lloom_node::executor::Inspection;
use lloom_postgres::Server;
use lloom_receipts::{ContentSalt, Receipt, ReceiptHead, Signed, TokenAmount, Unverified, Verified, Voucher};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::{
    documents::{Books, DEPOSIT, NOW, open_channels},
    figure::{Figure, RUNS, Target, median, percentile},
};

/// Callers at a time, each with a channel of its own.
const CALLERS: u32 = 64;
/// Receipts of each caller in a run.
const RECEIPTS_A_CALLER: usize = 128;

/// What a client sends at the end of a request.
type Delivery<S = Verified> = (Receipt<S>, Signed<Voucher, S>);

/// Receipts durably accepted a second, and how long each caller waited, `fsync` included.
pub fn measure() -> Result<Vec<Figure>> {
    let runtime = tokio::runtime::Runtime::new().wrap_err("starting a runtime")?;
    let recorded = runtime.block_on(accept(Store::Sqlite, Checking::Before))?;
    let checked = runtime.block_on(accept(Store::Sqlite, Checking::Inside))?;
    let postgres = runtime.block_on(accept(Store::Postgres, Checking::Before))?;
    let method = |store: &str| {
        format!(
            "{CALLERS} callers at a time, a channel each, {RECEIPTS_A_CALLER} receipts in a row each, every one with \
             its voucher; each answered after the commit that holds it is on disk ({store}, group commit). Requests and \
             bills are in the store before the clock starts. Median of {RUNS} runs on one store."
        )
    };
    let callers = method("SQLite, WAL, synchronous=FULL");
    let latency = |name: &str, milliseconds| {
        Figure::new(
            format!("durable accept, {name}"),
            milliseconds,
            "ms",
            "How long each of those calls took, verified before, from the call to its answer, over all runs.",
        )
    };
    let waits = &recorded.milliseconds;
    Ok(vec![
        Figure::new(
            "receipts durably accepted, verified before",
            median(recorded.rates),
            "receipts/s",
            callers.clone(),
        )
        .with_key("accepted_per_s")
        .with_target(Target::AtLeast(25_000.0)),
        Figure::new(
            "receipts verified and durably accepted",
            median(checked.rates),
            "receipts/s, all cores",
            format!(
                "{callers} Here the three signatures are checked while the clock runs, by the executor's desk: those of \
                 callers that wait together as one batch."
            ),
        ),
        Figure::new(
            "receipts durably accepted in PostgreSQL, verified before",
            median(postgres.rates),
            "receipts/s",
            method("PostgreSQL on the same machine and cores, by a UNIX socket, fsync and synchronous_commit on"),
        )
        .with_key("accepted_per_s_postgres"),
        latency("50 of 100 within", percentile(waits, 0.5)),
        latency("99 of 100 within", percentile(waits, 0.99))
            .with_key("accept_p99_ms")
            .with_target(Target::AtMost(20.0)),
        latency("all within", percentile(waits, 1.0)),
    ])
}

/// How the callers of all runs did.
#[derive(Debug, Default)]
struct Accepted {
    /// A run each.
    rates: Vec<f64>,
    /// A call each.
    milliseconds: Vec<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Store {
    Sqlite,
    Postgres,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Checking {
    Before,
    Inside,
}

async fn accept(store: Store, checking: Checking) -> Result<Accepted> {
    let folder = TempDir::new().wrap_err("making a folder for the store")?;
    let server = match store {
        Store::Sqlite => None,
        Store::Postgres => Some(Server::start()?),
    };
    let url = match &server {
        None => StoreUrl::file(&folder.path().join("lloom.db")),
        Some(server) => StoreUrl::parse(&server.url("postgres"), folder.path())?,
    };
    let books = (0..CALLERS).map(Books::new).collect::<Result<Vec<_>>>()?;
    let first = books.first().ok_or_else(|| eyre::eyre!("no callers"))?;
    let store = Ledger::open(&url, &StoreDeployment::from(&first.domain)).await?;
    let channels: Vec<_> = books.iter().map(|book| (book.channel(), book.parameters)).collect();
    // Of several processes on one database, one records what the chain says.
    let _leads = store.lead().await?;
    open_channels(&store, &channels).await?;

    let deliveries = try_join_all(books.iter().map(|book| prepare(&store, book))).await?;
    let mut left: Vec<_> = deliveries.into_iter().map(Vec::into_iter).collect();
    let mut accepted = Accepted::default();
    for _ in 0..RUNS {
        let batches: Vec<Vec<Delivery>> = left
            .iter_mut()
            .map(|all| all.take(RECEIPTS_A_CALLER).collect())
            .collect();
        let start = Instant::now();
        let waits = match checking {
            Checking::Before => deliver(&store, batches).await?,
            Checking::Inside => check_and_deliver(&store, &books, batches).await?,
        };
        accepted.rates.push(waits.len() as f64 / start.elapsed().as_secs_f64());
        let milliseconds = waits.iter().map(|wait| wait.as_secs_f64() * 1_000.0);
        accepted.milliseconds.extend(milliseconds);
    }
    store.close().await;
    Ok(accepted)
}

/// Takes on and bills what the receipts of all runs will link.
async fn prepare(store: &Ledger, book: &Books) -> Result<Vec<Delivery>> {
    let exposure = ExposurePolicy {
        start: DEPOSIT,
        per_mille_of_settled: 0,
        maximum: DEPOSIT,
    };
    let mut head = ReceiptHead::empty(book.channel());
    let mut deliveries = Vec::with_capacity(RUNS * RECEIPTS_A_CALLER);
    for number in 0..(RUNS * RECEIPTS_A_CALLER) as u64 {
        let request = book.request(number);
        let bill = book.bill(request.document())?;
        let accept = AcceptRequest {
            request,
            content_salt: ContentSalt::new(alloy::primitives::B256::ZERO),
            voucher: None,
            reserve: TokenAmount::ZERO,
            exposure,
            now: NOW,
        };
        store.accept_request(accept).await?;
        let bill = *store.commit_bill(bill).await?.bill();
        let receipt = book.receipt(&head, bill)?;
        head = ReceiptHead::at(receipt.receipt());
        deliveries.push((receipt, book.voucher(head.amount)));
    }
    Ok(deliveries)
}

/// How long each call took.
async fn deliver(store: &Ledger, batches: Vec<Vec<Delivery>>) -> Result<Vec<Duration>> {
    let callers = batches.into_iter().map(|batch| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut waits = Vec::with_capacity(batch.len());
            for (receipt, voucher) in batch {
                let called = Instant::now();
                store.accept_receipt(receipt, Some(voucher)).await?;
                waits.push(called.elapsed());
            }
            Ok::<_, eyre::Report>(waits)
        })
    });
    all(callers).await
}

async fn check_and_deliver(store: &Ledger, books: &[Books], batches: Vec<Vec<Delivery>>) -> Result<Vec<Duration>> {
    let unverified: Vec<Vec<Delivery<Unverified>>> = batches
        .into_iter()
        .map(|batch| {
            let batch = batch.into_iter();
            batch
                .map(|(receipt, voucher)| (receipt.into_unverified(), voucher.into_unverified()))
                .collect()
        })
        .collect();
    let first = books.first().ok_or_else(|| eyre::eyre!("no callers"))?;
    let desk = Inspection::start(first.domain);
    let callers = unverified.into_iter().zip(books).map(|(batch, book)| {
        let (store, desk) = (store.clone(), desk.clone());
        let (payer, operator) = (book.payer.address(), book.operator.address());
        tokio::spawn(async move {
            let mut waits = Vec::with_capacity(batch.len());
            for (receipt, voucher) in batch {
                let called = Instant::now();
                let papers = (receipt.by(payer, operator), voucher.by(payer));
                let (receipt, voucher) = desk.receipt(papers.0, Some(papers.1)).await?;
                store.accept_receipt(receipt?, voucher.transpose()?).await?;
                waits.push(called.elapsed());
            }
            Ok::<_, eyre::Report>(waits)
        })
    });
    all(callers).await
}

/// What all callers saw, once all are done.
async fn all(callers: impl Iterator<Item = JoinHandle<Result<Vec<Duration>>>>) -> Result<Vec<Duration>> {
    let ended = try_join_all(callers).await?;
    let waits: Vec<Vec<Duration>> = ended.into_iter().collect::<Result<_>>()?;
    Ok(waits.concat())
}
