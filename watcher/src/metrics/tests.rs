use alloy::primitives::{Address, B256, Bytes};
use lloom_ledger::ClaimBy;
use lloom_receipts::BlockNumber;
use prometheus_client::encoding::text::encode;

use super::*;

fn scrape(metrics: &WatcherMetrics) -> String {
    let mut registry = Registry::with_prefix("lloom");
    metrics.register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    text
}

#[track_caller]
fn assert_has(metrics: &WatcherMetrics, line: &str) {
    let text = scrape(metrics);
    assert!(text.lines().any(|found| found == line), "{line} in {text}");
}

fn record(number: i64, replaces: bool) -> TransactionRecord {
    let id = |number: i64| serde_json::from_value(number.into()).unwrap();
    TransactionRecord {
        id: id(number),
        from: Address::ZERO,
        nonce: 1,
        hash: B256::ZERO,
        raw: Bytes::new(),
        purpose: Purpose::Claim {
            by: ClaimBy::Vouchers,
            rows: Vec::new(),
        },
        replaces: replaces.then(|| id(1)),
        max_fee: 1,
        priority_fee: 1,
        gas_limit: 1,
        deadline: None,
        recorded_at: UnixSeconds::new(1),
        broadcast_at: None,
        finish: None,
    }
}

#[test]
fn a_claim_that_was_raised_is_confirmed_once_and_paid_for_once() {
    let metrics = WatcherMetrics::default();
    let (original, replacement) = (record(1, false), record(2, true));
    metrics.stored(purpose_of(&original.purpose), false);
    metrics.stored(purpose_of(&replacement.purpose), true);
    metrics.finished(&original, &Finish::Replaced { by: replacement.id });
    let mined = Finish::Mined {
        block: BlockNumber::new(1),
        succeeded: true,
        gas_used: 50_000,
        // Beyond what 64 bits hold, once multiplied.
        gas_price: 1_000_000_000_000_000,
    };
    metrics.finished(&replacement, &mined);
    assert_has(&metrics, r#"lloom_transactions_total{purpose="claim",status="sent"} 1"#);
    assert_has(
        &metrics,
        r#"lloom_transactions_total{purpose="claim",status="replaced"} 1"#,
    );
    assert_has(
        &metrics,
        r#"lloom_transactions_total{purpose="claim",status="confirmed"} 1"#,
    );
    assert_has(
        &metrics,
        r#"lloom_transactions_total{purpose="claim",status="dropped"} 0"#,
    );
    assert_has(&metrics, r#"lloom_gas_used_total{purpose="claim"} 50000"#);
    assert_has(
        &metrics,
        r#"lloom_fees_wei_total{purpose="claim"} 50000000000000000000.0"#,
    );
}

#[test]
fn what_was_dropped_is_counted_once_a_nonce() {
    let metrics = WatcherMetrics::default();
    metrics.finished(&record(1, false), &Finish::Dropped);
    metrics.finished(&record(2, true), &Finish::Dropped);
    assert_has(
        &metrics,
        r#"lloom_transactions_total{purpose="claim",status="dropped"} 1"#,
    );
}

#[test]
fn deferred_channels_are_those_of_the_newest_plan() {
    let metrics = WatcherMetrics::default();
    let put_off = DeferralCounts {
        awaits_receipt: 2,
        ..DeferralCounts::default()
    };
    metrics.planned(0, put_off);
    assert_has(&metrics, r#"lloom_deferred_channels{reason="awaits_receipt"} 2"#);
    metrics.planned(0, DeferralCounts::default());
    assert_has(&metrics, r#"lloom_deferred_channels{reason="awaits_receipt"} 0"#);
}
