use std::{collections::BTreeMap, time::Duration};

use alloy::primitives::B256;
use lloom_ledger::{Block, HeldTotals};
use lloom_receipts::{BlockNumber, Decimals};
use lloom_watcher::DeferralCounts;
use prometheus_client::{encoding::text::encode, registry::Registry};

use super::{
    super::{
        payers::Payer,
        readiness::Check,
        survey::{Gas, Sums},
    },
    *,
};

const TOKEN: Address = Address::repeat_byte(0x70);
const OTHER_TOKEN: Address = Address::repeat_byte(0x71);

fn block(number: u64, timestamp: u64) -> Block {
    Block {
        number: BlockNumber::new(number),
        hash: B256::repeat_byte(1),
        parent: B256::repeat_byte(2),
        timestamp: UnixSeconds::new(timestamp),
    }
}

fn endpoint(name: &str, standing: Standing, behind: u64) -> EndpointHealth {
    EndpointHealth {
        name: name.to_owned(),
        standing,
        head: None,
        behind,
        failures_per_mille: 0,
        latency: None,
    }
}

/// No two numbers in it are the same, so that none can stand in another's place.
fn status() -> WatcherStatus {
    WatcherStatus {
        head: Some(block(120, 1_700_000_900)),
        cursor: Some(block(113, 1_700_000_861)),
        confirmed: Some(BlockNumber::new(103)),
        last_progress: Some(UnixSeconds::new(1_700_000_895)),
        caught_up: true,
        pending_transactions: 4,
        obligations: 5,
        standing_by: true,
        deferrals: DeferralCounts {
            not_worthwhile: 21,
            awaits_receipt: 22,
            quarantined: 23,
            fees_too_high: 24,
            gas_money: 25,
        },
        endpoints: vec![
            endpoint("stale.example:1", Standing::Stale, 9),
            endpoint("resting.example:2", Standing::Resting, 0),
        ],
        ..WatcherStatus::default()
    }
}

fn sums(from: u128) -> Sums {
    let amount = |more| TokenAmount::new(from + more);
    Sums {
        at_risk: amount(1),
        unclaimed: amount(2),
        exposure: amount(3),
        billed: amount(4),
        settled: amount(5),
    }
}

fn payer(unclaimed: u128, exposure: u128, accepted_at: Option<u64>, settled_at: Option<u64>) -> Payer {
    let mut payer = Payer::default();
    payer.unclaimed = TokenAmount::new(unclaimed);
    payer.exposure = TokenAmount::new(exposure);
    payer.accepted_at = accepted_at.map(UnixSeconds::new);
    payer.settled_at = settled_at.map(UnixSeconds::new);
    payer
}

fn survey() -> Survey {
    Survey {
        at: Some(UnixSeconds::new(1_700_000_890)),
        took: Duration::from_millis(250),
        tokens: BTreeMap::from([(TOKEN, sums(1_000)), (OTHER_TOKEN, sums(2_000))]),
        channels: [("open", 31), ("closing", 32), ("closed", 33)],
        held: HeldTotals {
            channels: 41,
            operators: 42,
            bytes: 43,
        },
        payers: vec![
            (
                (Address::repeat_byte(0xa1), TOKEN),
                payer(51, 52, Some(1_700_000_053), Some(1_700_000_054)),
            ),
            (
                (Address::repeat_byte(0xa2), OTHER_TOKEN),
                payer(61, 62, None, Some(1_700_000_064)),
            ),
        ],
        owing_payers: 71,
        longest_wait: Duration::from_secs(72),
        uncovered: Some(TokenAmount::new(73)),
        gas: Some(Gas {
            balance: U256::from(74),
            price: 75,
        }),
    }
}

fn facts(status: WatcherStatus, survey: Survey) -> Facts {
    let newest = Newest::default();
    newest.set(survey);
    let check = |check, ok| Check {
        check,
        ok,
        finding: String::new(),
        mend: None,
        since: None,
    };
    let verdict = Verdict {
        checks: vec![check("watcher", true), check("store", false)],
    };
    Facts {
        watcher: watch::channel(status).1,
        survey: newest,
        verdict: watch::channel(verdict).1,
        network: Joined::default(),
        store: None,
        home: PathBuf::from("/there is no such place"),
        token: Token {
            address: TOKEN,
            symbol: String::from("USDC"),
            decimals: Decimals::new(6),
        },
        operator: Address::repeat_byte(0x0b),
        started_at: UnixSeconds::new(1_700_000_001),
    }
}

/// What a scrape is answered, without descriptions, and without what the machine's disk has left.
fn samples(facts: Facts) -> Vec<String> {
    let mut registry = Registry::with_prefix("lloom");
    registry.register_collector(Box::new(facts));
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    let samples = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("lloom_disk_free_bytes "));
    samples.map(str::to_owned).collect()
}

#[test]
fn each_gauge_says_its_own_number() {
    insta::assert_snapshot!(samples(facts(status(), survey())).join("\n"));
}

#[test]
fn what_is_not_known_yet_has_no_sample() {
    insta::assert_snapshot!(samples(facts(WatcherStatus::default(), Survey::default())).join("\n"));
}

#[test]
fn a_deadline_is_told_by_the_time_that_is_left() {
    let now = UnixSeconds::from(SystemTime::now()).get();
    let long_ago = status().head;
    // Where the chain's time is ahead of this clock, it is the chain that lets the payer go.
    let ahead = Some(block(120, now + 600));
    for (head, deadline, expected) in [
        (long_ago, now + 1_000, 990.0..=1_000.0),
        (long_ago, now - 1_000, -1_010.0..=-1_000.0),
        (ahead, now + 1_000, 400.0..=400.0),
        (ahead, now + 500, -100.0..=-100.0),
        (None, now + 1_000, 990.0..=1_000.0),
    ] {
        let status = WatcherStatus {
            head,
            next_deadline: Some(UnixSeconds::new(deadline)),
            ..status()
        };
        let samples = samples(facts(status, survey()));
        let left = samples
            .iter()
            .find_map(|sample| sample.strip_prefix("lloom_deadline_remaining_seconds "))
            .unwrap();
        assert!(expected.contains(&left.parse::<f64>().unwrap()), "{left}");
    }
}
