//! How many receipts a second are durably accepted: `cargo run --release -p lloom-ledger --example accept_receipts`.
//!
//! 64 callers, each with a channel of its own, hand in dual-signed receipts one after the other, each with its voucher,
//! and wait for the answer: one `fsync`ed commit answers all that queued up meanwhile. Signing, requests and bills are
//! done before the clock starts.

use std::time::{Duration, Instant, SystemTime};

use alloy::primitives::{Address, B256, U256};
use lloom_ledger::{
    AcceptRequest, Block, ChainEvent, ChainEventKind, EventPosition, ExposurePolicy, Ledger, ObligationPolicy, Outcome,
    StoreDeployment,
};
use lloom_receipts::{
    BlockNumber, ChannelParameters, ContentHash, ContentSalt, Domain, InferenceRequest, Keypair, ModelHash,
    PricePerMillion, Prices, Receipt, ReceiptHead, RequestNonce, Signed, TokenAmount, TokenCount, UnixSeconds, Usage,
    UsageBill, Verified, Voucher,
};

const CALLERS: u64 = 64;
const RECEIPTS_EACH: u64 = 300;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Prepared = Vec<(Receipt<Verified>, Signed<Voucher, Verified>)>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let home = tempfile::tempdir_in(std::env::current_dir()?)?;
    let deployment = StoreDeployment {
        chain_id: 31_337,
        escrow: Address::repeat_byte(1),
        settlement: Address::repeat_byte(2),
    };
    let domain = deployment.domain();
    let now = SystemTime::now().into();
    let ledger = Ledger::open(&home.path().join("lloom.db"), &deployment).await?;
    let parameters: Vec<ChannelParameters> = (0..CALLERS).map(channel_of).collect::<Result<_, _>>()?;
    let block = Block {
        number: BlockNumber::new(1),
        hash: B256::repeat_byte(1),
        parent: B256::ZERO,
        timestamp: now,
    };
    let opened = parameters.iter().zip(0..).map(|(parameters, log)| ChainEvent {
        block: block.number,
        block_hash: block.hash,
        position: EventPosition::of_log(log),
        transaction: B256::ZERO,
        kind: ChainEventKind::ChannelOpened {
            channel: parameters.id(&domain),
            parameters: *parameters,
            deposit: TokenAmount::MAX,
            refunds_to_balance: true,
        },
    });
    ledger
        .apply_blocks(vec![block], opened.collect(), block.number, ObligationPolicy::default())
        .await?;

    let preparing = (0..CALLERS)
        .zip(parameters)
        .map(|(caller, parameters)| tokio::spawn(prepare(ledger.clone(), domain, caller, parameters, now)));
    let mut prepared = Vec::new();
    for task in futures::future::join_all(preparing).await {
        prepared.push(task??);
    }

    let started = Instant::now();
    let accepting = prepared
        .into_iter()
        .map(|receipts| tokio::spawn(accept(ledger.clone(), receipts)));
    let mut latencies = Vec::new();
    for task in futures::future::join_all(accepting).await {
        latencies.extend(task??);
    }
    let elapsed = started.elapsed();
    latencies.sort_unstable();
    let accepted = latencies.len();
    println!(
        "{accepted} receipts durably accepted in {elapsed:.2?}: {:.0} a second; median {:.2?}, 99 % within {:.2?}",
        accepted as f64 / elapsed.as_secs_f64(),
        latencies[accepted / 2],
        latencies[accepted * 99 / 100],
    );
    ledger.close().await;
    Ok(())
}

async fn accept(ledger: Ledger, receipts: Prepared) -> Result<Vec<Duration>, Failure> {
    let mut latencies = Vec::with_capacity(receipts.len());
    for (receipt, voucher) in receipts {
        let asked = Instant::now();
        if ledger.accept_receipt(receipt, Some(voucher)).await? != Outcome::Recorded {
            return Err("a receipt was known already".into());
        }
        latencies.push(asked.elapsed());
    }
    Ok(latencies)
}

/// Requests and bills in the store, and the receipts that link them, signed.
async fn prepare(
    ledger: Ledger,
    domain: Domain,
    caller: u64,
    parameters: ChannelParameters,
    now: UnixSeconds,
) -> Result<Prepared, Failure> {
    let (payer, operator) = (payer(caller)?, Keypair::from_secret([0xff - 1; 32])?);
    let channel = parameters.id(&domain);
    let price = PricePerMillion::new(TokenAmount::new(1_000_000));
    let mut head = ReceiptHead::empty(channel);
    let mut prepared = Vec::new();
    for nonce in 1..=RECEIPTS_EACH {
        let request = payer.sign(
            &domain,
            InferenceRequest {
                channel,
                operator: operator.address(),
                nonce: RequestNonce::new(U256::from(nonce)),
                model: ModelHash::of_id("model"),
                prompt_hash: ContentHash::new(B256::ZERO),
                max_input: TokenCount::new(100),
                max_output: TokenCount::new(100),
                prices: Prices {
                    input: price,
                    output: price,
                },
                deadline: now.plus(Duration::from_secs(60)),
            },
        );
        let usage = Usage {
            input: TokenCount::new(50),
            output: TokenCount::new(50),
        };
        let bill = UsageBill::for_request(request.document(), usage, ContentHash::new(B256::ZERO), now)?;
        let request = AcceptRequest {
            request,
            content_salt: ContentSalt::new(B256::ZERO),
            voucher: None,
            reserve: bill.amount,
            exposure: ExposurePolicy {
                start: TokenAmount::MAX,
                per_mille_of_settled: 0,
                maximum: TokenAmount::MAX,
            },
            now,
        };
        ledger.accept_request(request).await?;
        let bill = operator.sign(&domain, *ledger.commit_bill(bill).await?.bill());
        let receipt = payer.sign(&domain, head.link(*bill.document())?);
        head = ReceiptHead::at(receipt.document());
        let voucher = Voucher {
            channel,
            amount: head.amount,
        };
        prepared.push((Receipt::join(receipt, &bill)?, payer.sign(&domain, voucher)));
    }
    Ok(prepared)
}

fn payer(caller: u64) -> Result<Keypair, Failure> {
    let mut secret = [1; 32];
    secret[..8].copy_from_slice(&caller.to_be_bytes());
    Ok(Keypair::from_secret(secret)?)
}

fn channel_of(caller: u64) -> Result<ChannelParameters, Failure> {
    Ok(ChannelParameters {
        payer: payer(caller)?.address(),
        payee: Address::repeat_byte(3),
        token: Address::repeat_byte(4),
        salt: B256::ZERO,
        authorized_signer: Address::ZERO,
    })
}
