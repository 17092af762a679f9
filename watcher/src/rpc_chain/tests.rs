use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use serde_json::{Value, json};

use alloy::{
    primitives::{Address, Bloom, BloomInput, Bytes, U64, U256},
    rpc::types::Log,
};
use lloom_ledger::Block;
use lloom_receipts::BlockNumber;

use self::stub_endpoint::StubEndpoint;
use super::{answers::read_refusal, raw::RawBlock, *};
use crate::{
    LogFilter,
    chain::{Broadcast, Call, CallOutcome, Chain as _, Standing, StateAt},
};

mod stub_endpoint;

fn config(endpoints: &[&str]) -> RpcConfig {
    RpcConfig {
        endpoints: endpoints.iter().map(|&endpoint| endpoint.to_owned()).collect(),
        chain_id: 31_337,
        genesis: None,
        timeout: Duration::from_secs(2),
    }
}

#[test]
fn refuses_endpoints_that_are_none() {
    assert!(matches!(RpcChain::new(&config(&[])), Err(RpcConfigError::NoEndpoint)));
    for given in ["", "localhost", "ws://localhost:1", "file:///etc/passwd"] {
        assert!(
            matches!(RpcChain::new(&config(&[given])), Err(RpcConfigError::NotHttp { .. })),
            "{given}"
        );
    }
}

#[tokio::test]
async fn an_unreachable_endpoint_is_named_without_its_key() {
    // Port 1 of the loopback: nothing listens there.
    let chain = RpcChain::new(&config(&["http://127.0.0.1:1/v3/secret-key"])).unwrap();
    let error = chain.head().await.unwrap_err();
    assert!(error.is_transient());
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:1"), "{text}");
    assert!(!text.contains("secret-key"), "{text}");
}

#[test]
fn reads_what_pools_say() {
    for (message, expected) in [
        ("already known", Broadcast::AlreadyKnown),
        ("nonce too low: next nonce 5, tx nonce 4", Broadcast::NonceUsed),
        ("transaction already imported", Broadcast::AlreadyKnown),
        (
            "insufficient funds for gas * price + value",
            Broadcast::Refused {
                reason: String::from("insufficient funds for gas * price + value"),
            },
        ),
    ] {
        assert_eq!(read_refusal(message), expected, "{message}");
    }
}

const CHAIN_ID: u64 = 31_337;

fn hash(number: u64, fork: u8) -> B256 {
    let mut hash = B256::with_last_byte(fork);
    hash.0[..8].copy_from_slice(&number.to_be_bytes());
    hash
}

fn raw_block(number: u64, fork: u8) -> Value {
    json!({
        "number": U64::from(number), "hash": hash(number, fork), "parentHash": hash(number.saturating_sub(1), fork),
        "timestamp": U64::from(1_000 + number), "baseFeePerGas": "0x7",
    })
}

fn block(number: u64) -> Block {
    Block::from(serde_json::from_value::<RawBlock>(raw_block(number, 0)).unwrap())
}

/// What an endpoint of the chain says whose newest block is `head`.
fn at(head: u64) -> impl Fn(&str, &Value) -> Value + Send + Sync + 'static {
    move |method, params| {
        let unknown = json!({ "error": { "code": -32_000, "message": "header not found" } });
        let result = match method {
            "eth_chainId" => json!(U64::from(CHAIN_ID)),
            "eth_getBlockByNumber" => match params[0].as_str().unwrap() {
                "latest" => raw_block(head, 0),
                number => match u64::from_str_radix(&number[2..], 16).unwrap() {
                    number if number <= head => raw_block(number, 0),
                    _ => Value::Null,
                },
            },
            "eth_getBlockByHash" => match (0..=head).find(|&number| params[0] == json!(hash(number, 0))) {
                Some(number) => raw_block(number, 0),
                None => Value::Null,
            },
            "eth_getLogs" => json!([]),
            "eth_call" if params[1]["blockHash"] == json!(hash(head, 0)) => json!("0x2a"),
            "eth_call" => return unknown,
            "eth_sendRawTransaction" => json!(B256::repeat_byte(7)),
            "eth_getTransactionReceipt" => Value::Null,
            _ => return unknown,
        };
        json!({ "result": result })
    }
}

fn wanted() -> LogFilter {
    LogFilter {
        addresses: vec![Address::ZERO],
        topics: vec![B256::repeat_byte(1), B256::repeat_byte(2)],
    }
}

async fn chain(endpoints: &[&StubEndpoint]) -> RpcChain {
    let urls: Vec<String> = endpoints.iter().map(|endpoint| endpoint.url()).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    RpcChain::new(&config(&urls)).unwrap()
}

/// Asks for the head until every endpoint has shown one.
async fn heads_known(chain: &RpcChain) {
    while chain.endpoints().iter().any(|endpoint| endpoint.head.is_none()) {
        let _ = chain.head().await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stale_head_is_not_believed_when_another_endpoint_has_a_newer_one() {
    let (stale, fresh) = (StubEndpoint::start(at(90)).await, StubEndpoint::start(at(100)).await);
    let chain = chain(&[&stale, &fresh]).await;
    heads_known(&chain).await;
    assert_eq!(chain.head().await.unwrap(), block(100));
    let health = chain.endpoints();
    assert_eq!((health[0].standing, health[0].behind), (Standing::Stale, 10));
    assert_eq!(health[1].standing, Standing::Healthy);
    assert!(health[1].latency.is_some());

    // The fresh one is gone: what it showed still counts against the stale one.
    fresh.set(|_, _| json!({ "status": 503 }));
    let error = chain.head().await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    // What doesn't depend on the newest block, the stale one may answer.
    assert_eq!(chain.block(BlockNumber::new(80)).await.unwrap(), Some(block(80)));
}

#[tokio::test]
async fn an_endpoint_on_another_fork_is_not_believed() {
    let forked = StubEndpoint::start(|method, params: &Value| match (method, params[0].as_str()) {
        ("eth_getBlockByNumber", Some("latest")) => json!({ "result": raw_block(99, 9) }),
        _ => at(99)(method, params),
    })
    .await;
    let canonical = StubEndpoint::start(at(99)).await;
    let chain = chain(&[&forked, &canonical]).await;
    heads_known(&chain).await;
    canonical.set(at(100));
    heads_known(&chain).await;
    // A tie goes to the first; a block later the longer fork is known.
    forked.set(|_, _| json!({ "status": 502 }));
    assert_eq!(chain.head().await.unwrap(), block(100));
}

#[tokio::test]
async fn what_one_endpoint_does_not_know_is_asked_of_the_next() {
    let (behind, fresh) = (StubEndpoint::start(at(90)).await, StubEndpoint::start(at(100)).await);
    let chain = chain(&[&behind, &fresh]).await;
    assert_eq!(chain.block(BlockNumber::new(95)).await.unwrap(), Some(block(95)));
    assert_eq!(chain.block(BlockNumber::new(101)).await.unwrap(), None);
    let call = Call::transfer(Address::ZERO, U256::ZERO);
    let called = chain.call(Address::ZERO, &call, StateAt::Block(hash(100, 0))).await;
    assert_eq!(called.unwrap(), CallOutcome::Returned(Bytes::from_static(&[0x2a])));
    let called = chain.call(Address::ZERO, &call, StateAt::Block(hash(95, 0))).await;
    assert!(matches!(called, Err(ChainError::Refused { .. })), "{called:?}");

    fresh.set(|method, params| match method {
        "eth_getTransactionReceipt" => json!({ "result": {
            "transactionHash": B256::repeat_byte(7), "from": Address::repeat_byte(8), "blockNumber": "0x64",
            "blockHash": hash(100, 0), "status": "0x1", "gasUsed": "0x5208",
        } }),
        _ => at(100)(method, params),
    });
    let receipt = chain.transaction_receipt(B256::repeat_byte(7)).await.unwrap().unwrap();
    assert_eq!(receipt.block_hash, hash(100, 0));
    assert_eq!(receipt.from, Address::repeat_byte(8));
}

#[tokio::test]
async fn logs_count_only_of_an_endpoint_that_has_the_last_block() {
    let (behind, fresh) = (StubEndpoint::start(at(90)).await, StubEndpoint::start(at(100)).await);
    let chain = chain(&[&behind, &fresh]).await;
    let logs = chain.logs(BlockNumber::new(1), block(95), &wanted()).await;
    assert_eq!(logs.unwrap(), []);
    assert_eq!((behind.calls("eth_getLogs"), fresh.calls("eth_getLogs")), (1, 1));
    let beyond = chain.logs(BlockNumber::new(1), block(101), &wanted()).await;
    assert!(matches!(beyond, Err(ChainError::Unavailable { .. })), "{beyond:?}");
    // Each of them is told of, not the last one alone.
    let told = beyond.unwrap_err().to_string();
    assert!(
        [&behind, &fresh].iter().all(|endpoint| told.contains(&endpoint.name())),
        "{told}"
    );
}

fn raw_log(number: u64, index: u64) -> Value {
    json!({
        "address": Address::ZERO, "topics": [], "data": "0x", "blockNumber": U64::from(number),
        "blockHash": hash(number, 0), "transactionHash": hash(number, 7), "transactionIndex": "0x0",
        "logIndex": U64::from(index), "removed": false,
    })
}

/// Some endpoints have no logs of a block that they don't know, and don't say that they don't.
#[tokio::test]
async fn no_logs_count_only_of_an_endpoint_that_knows_the_block() {
    let answers_with_log = move |head| {
        move |method: &str, params: &Value| match method {
            "eth_getLogs" if params[0]["blockHash"] == json!(hash(100, 0)) && head >= 100 => {
                json!({ "result": [raw_log(100, 0)] })
            }
            _ => at(head)(method, params),
        }
    };
    let (behind, fresh) = (
        StubEndpoint::start(answers_with_log(99)).await,
        StubEndpoint::start(answers_with_log(100)).await,
    );
    let chain = chain(&[&behind, &fresh]).await;
    let logs = chain.logs_of_block(hash(100, 0), &wanted()).await.unwrap();
    assert_eq!(logs.len(), 1);
    assert!(chain.logs_of_block(hash(99, 0), &wanted()).await.unwrap().is_empty());

    // Where nobody knows it, nobody says that it is empty.
    fresh.set(at(99));
    let error = chain.logs_of_block(hash(100, 0), &wanted()).await.unwrap_err();
    assert!(matches!(error, ChainError::Refused { .. }), "{error}");
}

/// What an endpoint showed as its head it is not asked for again.
#[tokio::test]
async fn a_head_and_its_logs_are_two_questions() {
    let endpoint = StubEndpoint::start(at(100)).await;
    let chain = chain(&[&endpoint]).await;
    let head = chain.head().await.unwrap();
    assert!(chain.logs_of_block(head.hash, &wanted()).await.unwrap().is_empty());
    assert_eq!(
        (endpoint.calls("eth_getLogs"), endpoint.calls("eth_getBlockByHash")),
        (1, 0)
    );
}

/// Of several machines behind an address one shows the block, and another has no logs of it. The block's filter knows better.
#[tokio::test]
async fn no_logs_are_doubted_where_the_block_speaks_of_some() {
    let wanted = wanted();
    let bloom = |inputs: &[&[u8]]| {
        let mut bloom = Bloom::ZERO;
        for input in inputs {
            bloom.accrue(BloomInput::Raw(input));
        }
        bloom
    };
    let speaking = bloom(&[wanted.addresses[0].as_slice(), wanted.topics[1].as_slice()]);
    let of_others = bloom(&[wanted.addresses[0].as_slice()]);
    let saturated = Bloom::repeat_byte(0xff);
    for (bloom, log_after, expected) in [
        (speaking, 3, (1, 3)),
        // Said three times, it is so.
        (speaking, 4, (0, 3)),
        (of_others, 2, (0, 1)),
        (saturated, 2, (0, 1)),
        // As on chains that fill no filters.
        (Bloom::ZERO, 2, (0, 1)),
    ] {
        let asked = AtomicU32::new(0);
        let endpoint = StubEndpoint::start(move |method, params: &Value| match method {
            "eth_getBlockByNumber" if params[0] == "latest" => {
                let mut block = raw_block(100, 0);
                block["logsBloom"] = json!(bloom);
                json!({ "result": block })
            }
            "eth_getLogs" if asked.fetch_add(1, Ordering::Relaxed) + 1 == log_after => {
                json!({ "result": [raw_log(100, 0)] })
            }
            _ => at(100)(method, params),
        })
        .await;
        let chain = chain(&[&endpoint]).await;
        chain.head().await.unwrap();
        let logs = chain.logs_of_block(hash(100, 0), &wanted).await.unwrap();
        assert_eq!((logs.len(), endpoint.calls("eth_getLogs")), expected, "{log_after}");
    }
}

/// A payer that pays for two logs a block can have every block doubted. An endpoint that swallows what it is asked must not
/// be waited for each time.
#[tokio::test]
async fn a_doubt_does_not_wait_for_an_endpoint_that_rests() {
    let doubtful = |method: &str, params: &Value| match method {
        "eth_getBlockByNumber" if params[0] == "latest" => {
            let mut block = raw_block(100, 0);
            let mut bloom = Bloom::ZERO;
            for input in [wanted().addresses[0].as_slice(), wanted().topics[0].as_slice()] {
                bloom.accrue(BloomInput::Raw(input));
            }
            block["logsBloom"] = json!(bloom);
            json!({ "result": block })
        }
        _ => at(100)(method, params),
    };
    let (talking, silent) = (
        StubEndpoint::start(doubtful).await,
        StubEndpoint::start(|_, _| json!({ "silent": true })).await,
    );
    let chain = chain(&[&talking, &silent]).await;
    let failed_lately = &chain.pool.endpoints[1];
    // It rests for half a minute.
    (0..6).for_each(|_| failed_lately.health().failed(Instant::now()));
    chain.head().await.unwrap();
    let probed = silent.calls("eth_chainId");
    for _ in 0..2 {
        assert!(chain.logs_of_block(hash(100, 0), &wanted()).await.unwrap().is_empty());
    }
    assert_eq!(talking.calls("eth_getLogs"), 6, "each silence is doubted twice");
    assert_eq!(silent.calls("eth_chainId"), probed);
}

/// Endpoints limit how many logs they give. Of one block nobody can ask for less, but of one kind alone.
#[tokio::test]
async fn a_block_with_too_many_logs_is_asked_for_each_kind() {
    let endpoint = StubEndpoint::start(|method, params: &Value| match method {
        "eth_getLogs" => match params[0]["topics"][0].as_array().unwrap().as_slice() {
            [kind] if *kind == json!(B256::repeat_byte(1)) => {
                json!({ "result": [raw_log(100, 0), raw_log(100, 9)] })
            }
            [_] => json!({ "result": [raw_log(100, 4)] }),
            _ => json!({ "error": { "code": -32_005, "message": "query returned more than 10000 results" } }),
        },
        _ => at(100)(method, params),
    })
    .await;
    let chain = chain(&[&endpoint]).await;
    let indices = |logs: Vec<Log>| logs.iter().map(|log| log.log_index.unwrap()).collect::<Vec<_>>();
    let logs = chain.logs_of_block(hash(100, 0), &wanted()).await.unwrap();
    assert_eq!(indices(logs), [0, 4, 9]);
    let logs = chain.logs(BlockNumber::new(100), block(100), &wanted()).await.unwrap();
    assert_eq!(indices(logs), [0, 4, 9]);
    // Of several blocks, one asks for fewer.
    let error = chain
        .logs(BlockNumber::new(99), block(100), &wanted())
        .await
        .unwrap_err();
    assert!(matches!(error, ChainError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn a_transaction_goes_to_all_and_the_first_that_takes_it_ends_the_wait() {
    let silent = StubEndpoint::start(|method, params: &Value| match method {
        "eth_sendRawTransaction" => json!({ "silent": true }),
        _ => at(100)(method, params),
    })
    .await;
    let refusing = StubEndpoint::start(|method, params: &Value| match method {
        "eth_sendRawTransaction" => json!({ "error": { "code": -32_000, "message": "txpool is full" } }),
        _ => at(100)(method, params),
    })
    .await;
    let taking = StubEndpoint::start(at(100)).await;
    let chain = chain(&[&silent, &refusing, &taking]).await;
    let begun = Instant::now();
    assert_eq!(chain.broadcast(&Bytes::new()).await.unwrap(), Broadcast::Accepted);
    assert!(begun.elapsed() < Duration::from_secs(1), "it waited for the silent one");
    while silent.calls("eth_sendRawTransaction") == 0 || refusing.calls("eth_sendRawTransaction") == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_endpoint_proves_its_chain_again_after_each_failure() {
    let endpoint = StubEndpoint::start(at(100)).await;
    let chain = chain(&[&endpoint]).await;
    chain.head().await.unwrap();
    chain.head().await.unwrap();
    assert_eq!(endpoint.calls("eth_chainId"), 1);
    endpoint.set(|_, _| json!({ "status": 500 }));
    chain.head().await.unwrap_err();
    assert_eq!(chain.endpoints()[0].standing, Standing::Resting);
    // Behind the same address, another chain answers.
    endpoint.set(|method, params| match method {
        "eth_chainId" => json!({ "result": "0x1" }),
        _ => at(100)(method, params),
    });
    assert!(matches!(
        chain.head().await,
        Err(ChainError::WrongChain { found: 1, .. })
    ));
    // The right one again, but begun anew.
    endpoint.set(|method, params| match (method, params[0].as_str()) {
        ("eth_getBlockByNumber", Some("0x0")) => json!({ "result": raw_block(0, 5) }),
        _ => at(100)(method, params),
    });
    assert!(matches!(chain.head().await, Err(ChainError::WrongGenesis { .. })));
    endpoint.set(at(101));
    assert_eq!(chain.head().await.unwrap(), block(101));
}

/// Without a configured block 0, that of whoever answers first counts. With one, it never does.
#[tokio::test]
async fn a_chain_that_began_otherwise_than_configured_is_no_chain() {
    let other = StubEndpoint::start(|method, params: &Value| match (method, params[0].as_str()) {
        ("eth_getBlockByNumber", Some("0x0")) => json!({ "result": raw_block(0, 5) }),
        _ => at(100)(method, params),
    })
    .await;
    let begun_at = |genesis, endpoints: &[&StubEndpoint]| {
        let urls: Vec<String> = endpoints.iter().map(|endpoint| endpoint.url()).collect();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let config = RpcConfig {
            genesis: Some(genesis),
            ..config(&urls)
        };
        RpcChain::new(&config).unwrap()
    };
    let (expected, found) = (hash(0, 0), hash(0, 5));
    let error = begun_at(expected, &[&other]).head().await.unwrap_err();
    assert!(
        matches!(&error, ChainError::WrongGenesis { expected: e, found: f, .. } if (*e, *f) == (expected, found)),
        "{error}"
    );
    assert!(!error.is_transient(), "waiting mends nothing");
    assert_eq!(
        other.calls("eth_getBlockByNumber"),
        1,
        "it was asked for its head all the same"
    );

    // The first one's answer does not decide, and the right one is asked.
    let right = StubEndpoint::start(at(100)).await;
    let chain = begun_at(expected, &[&other, &right]);
    assert_eq!(chain.head().await.unwrap(), block(100));
    assert_eq!(chain.endpoints()[0].standing, Standing::Resting);
    assert_eq!(begun_at(found, &[&other]).head().await.unwrap(), block(100));
}

#[tokio::test]
async fn tips_are_the_median_of_what_was_paid_lately() {
    let history = |rewards: Value, used: Value| {
        move |method: &str, params: &Value| match method {
            "eth_feeHistory" => {
                json!({ "result": { "oldestBlock": "0x1", "baseFeePerGas": ["0x5", "0x6", "0x9"], "reward": rewards, "gasUsedRatio": used } })
            }
            "eth_maxPriorityFeePerGas" => json!({ "result": "0x3" }),
            _ => at(100)(method, params),
        }
    };
    let used = |blocks: usize| json!(vec![0.5; blocks]);
    let endpoint = StubEndpoint::start(history(json!([["0x0"], ["0x4"], ["0xff"], ["0x8"]]), used(4))).await;
    let chain = chain(&[&endpoint]).await;
    let quote = chain.fees().await.unwrap();
    assert_eq!((quote.base_fee, quote.priority_fee), (9, 8));
    endpoint.set(history(json!([["0x0"], ["0x0"], ["0x0"]]), used(3)));
    assert_eq!(chain.fees().await.unwrap().priority_fee, 0, "the policy has a minimum");
    endpoint.set(history(Value::Null, used(3)));
    let quote = chain.fees().await.unwrap();
    assert_eq!((quote.base_fee, quote.priority_fee), (7, 3));
}

#[tokio::test]
async fn one_payer_in_haste_is_not_followed() {
    let rewards = |tips: &[u64]| json!(tips.iter().map(|tip| [format!("{tip:#x}")]).collect::<Vec<_>>());
    let hasty = 100_000_000_000;
    let endpoint = StubEndpoint::start(at(100)).await;
    let chain = chain(&[&endpoint]).await;
    let tip = async |tips: Value, used: Value, suggested: Option<u64>| {
        endpoint.set(move |method: &str, params: &Value| match method {
            "eth_feeHistory" => {
                json!({ "result": { "oldestBlock": "0x1", "baseFeePerGas": ["0x5", "0x9"], "reward": tips, "gasUsedRatio": used } })
            }
            "eth_maxPriorityFeePerGas" => match suggested {
                Some(fee) => json!({ "result": format!("{fee:#x}") }),
                None => json!({ "error": { "code": -32_601, "message": "the method does not exist" } }),
            },
            _ => at(100)(method, params),
        });
        chain.fees().await.unwrap().priority_fee
    };
    // As on most rollups: blocks that others used without a tip.
    let mut paid = [0; 10];
    paid[4] = hasty;
    assert_eq!(tip(rewards(&paid), json!(vec![0.1; 10]), Some(3)).await, 0);

    // Where the others were empty, one block is no market, and the endpoint is asked what it would pay.
    let mut used = [0.0; 10];
    used[4] = 0.1;
    assert_eq!(tip(rewards(&paid), json!(used), Some(3)).await, 3);
    assert_eq!(
        tip(rewards(&paid), json!(used), None).await,
        0,
        "the policy has a minimum"
    );
    // It may have seen no more than that either: what the next block asks for is a measure.
    assert_eq!(tip(rewards(&paid), json!(used), Some(hasty)).await, 9);

    // Three are one, whatever is between them; nor does it say much of the others that they paid nothing.
    assert_eq!(
        tip(rewards(&[0, 7, 0, 5, 6]), json!([0, 0.2, 0, 0.3, 1]), Some(3)).await,
        6
    );
    assert_eq!(tip(rewards(&[0, 7, 0, 5, 6]), Value::Null, Some(3)).await, 6);
}

#[tokio::test]
async fn questions_are_asked_again_and_what_may_have_been_done_is_not() {
    let endpoint = StubEndpoint::start(at(100)).await;
    let chain = chain(&[&endpoint]).await;
    chain.head().await.unwrap();
    endpoint.set(|method, params| match method {
        "eth_getBalance" | "eth_sendTransaction" => json!({ "status": 502 }),
        _ => at(100)(method, params),
    });
    chain.native_balance(Address::ZERO).await.unwrap_err();
    assert_eq!(endpoint.calls("eth_getBalance"), 3);
    let sent: Result<B256, _> = chain.request("eth_sendTransaction", (json!({}),)).await;
    assert!(sent.is_err());
    assert_eq!(endpoint.calls("eth_sendTransaction"), 1);
}

/// Behind one address stand several, of which one is behind, or has trouble of its own.
#[tokio::test]
async fn what_an_endpoint_does_not_know_it_is_asked_again() {
    let endpoint = StubEndpoint::start(at(100)).await;
    let chain = chain(&[&endpoint]).await;
    chain.head().await.unwrap();
    let asked = AtomicU32::new(0);
    endpoint.set(move |method, params| {
        let first_two = || asked.fetch_add(1, Ordering::Relaxed) % 3 < 2;
        match method {
            "eth_getBlockByNumber" | "eth_getBlockByHash" if first_two() => json!({ "result": null }),
            "eth_getLogs" | "eth_call" | "eth_getBalance" if first_two() => {
                json!({ "error": { "code": -32_603, "message": "internal error" } })
            }
            "eth_getBalance" => json!({ "result": "0x5" }),
            "eth_getCode" => json!({ "error": { "code": -32_601, "message": "the method does not exist" } }),
            _ => at(100)(method, params),
        }
    });
    assert_eq!(chain.block(BlockNumber::new(95)).await.unwrap(), Some(block(95)));
    // The head is known already, so these are the logs.
    assert_eq!(chain.logs_of_block(hash(100, 0), &wanted()).await.unwrap(), []);
    let call = Call::transfer(Address::ZERO, U256::ZERO);
    let called = chain.call(Address::ZERO, &call, StateAt::Block(hash(100, 0))).await;
    assert_eq!(called.unwrap(), CallOutcome::Returned(Bytes::from_static(&[0x2a])));
    assert_eq!(chain.native_balance(Address::ZERO).await.unwrap(), U256::from(5));
    for method in ["eth_getLogs", "eth_call", "eth_getBalance"] {
        assert_eq!(endpoint.calls(method), 3, "{method}");
    }

    // What it doesn't have at all, or has not yet, it is not asked for again.
    chain.code(Address::ZERO).await.unwrap_err();
    assert_eq!(endpoint.calls("eth_getCode"), 1);
    assert_eq!(
        chain
            .transaction_receipt(B256::ZERO)
            .await
            .unwrap()
            .map(|found| found.hash),
        None
    );
    assert_eq!(endpoint.calls("eth_getTransactionReceipt"), 1);
}
