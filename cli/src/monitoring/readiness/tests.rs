use alloy::primitives::B256;
use lloom_ledger::Block;
use lloom_receipts::BlockNumber;
use lloom_watcher::Stall;

use super::*;

const NOW: UnixSeconds = UnixSeconds::new(1_800_000_000);
const LIMITS: Limits = Limits {
    round_silence: Duration::from_secs(120),
    lag: Duration::from_secs(60),
    head_age: Some(Duration::from_secs(180)),
};

fn block(number: u64, age: u64) -> Block {
    Block {
        number: BlockNumber::new(number),
        hash: B256::ZERO,
        parent: B256::ZERO,
        timestamp: NOW.minus(Duration::from_secs(age)),
    }
}

fn well() -> Evidence {
    Evidence {
        now: NOW,
        started_at: NOW.minus(Duration::from_secs(1_000)),
        watcher: Some(WatcherStatus {
            head: Some(block(10, 2)),
            cursor: Some(block(10, 2)),
            last_progress: Some(NOW),
            ..WatcherStatus::default()
        }),
        store_failure: None,
        network: Some(NetworkEvidence::Answers { listening: 1 }),
        main_loop_silence: Some(Duration::ZERO),
        stopping: false,
    }
}

fn status(evidence: &mut Evidence) -> &mut WatcherStatus {
    evidence.watcher.as_mut().unwrap()
}

/// The checks that fail once `change` has happened to a node that is well.
fn failing(change: impl FnOnce(&mut Evidence)) -> Vec<&'static str> {
    let mut evidence = well();
    change(&mut evidence);
    let checks = judge(&evidence, &LIMITS);
    for check in &checks {
        assert_eq!(check.ok, check.mend.is_none(), "what fails says what to do: {check:?}");
    }
    checks
        .iter()
        .filter(|check| !check.ok)
        .map(|check| check.check)
        .collect()
}

#[test]
fn what_progresses_is_ready() {
    assert_eq!(failing(|_| {}), [""; 0]);
    let checks = judge(&well(), &LIMITS);
    let names: Vec<_> = checks.iter().map(|check| check.check).collect();
    assert_eq!(names, CHECKS);
}

#[test]
fn each_thing_that_stands_still_fails_its_check() {
    let long_ago = NOW.minus(Duration::from_secs(121));
    assert_eq!(
        failing(|evidence| evidence.watcher = None),
        ["watcher", "claims", "cursor", "chain"]
    );
    assert_eq!(
        failing(|evidence| status(evidence).last_progress = Some(long_ago)),
        ["watcher"]
    );
    assert_eq!(failing(|evidence| status(evidence).last_progress = None), ["watcher"]);
    assert_eq!(
        failing(|evidence| status(evidence).cursor = Some(block(9, 63))),
        ["cursor"]
    );
    assert_eq!(
        failing(|evidence| status(evidence).cursor = Some(block(9, 62))),
        [""; 0],
        "a minute behind is the limit"
    );
    assert_eq!(
        failing(|evidence| {
            status(evidence).head = Some(block(10, 181));
            status(evidence).cursor = Some(block(10, 181));
        }),
        ["chain"]
    );
    assert_eq!(
        failing(|evidence| evidence.store_failure = Some("no space".to_owned())),
        ["store"]
    );
    assert_eq!(
        failing(|evidence| evidence.network = Some(NetworkEvidence::Silent)),
        ["network"]
    );
    assert_eq!(
        failing(|evidence| evidence.network = Some(NetworkEvidence::Joining)),
        ["network"]
    );
    assert_eq!(
        failing(|evidence| evidence.network = Some(NetworkEvidence::Answers { listening: 0 })),
        ["network"]
    );
    assert_eq!(
        failing(|evidence| evidence.network = None),
        [""; 0],
        "a watcher has no network"
    );
    assert_eq!(
        failing(|evidence| evidence.main_loop_silence = Some(Duration::from_secs(31))),
        ["process"]
    );
    assert_eq!(failing(|evidence| evidence.stopping = true), ["process"]);
}

#[test]
fn a_chain_that_mines_on_demand_may_stand_still() {
    let mut evidence = well();
    status(&mut evidence).head = Some(block(10, 100_000));
    status(&mut evidence).cursor = Some(block(10, 100_000));
    let limits = Limits {
        head_age: None,
        ..LIMITS
    };
    assert!(judge(&evidence, &limits).iter().all(|check| check.ok));
}

#[test]
fn a_failure_is_as_old_as_its_first_sight_and_forgotten_when_it_ends() {
    let mut memory = Memory::default();
    let mut evidence = well();
    evidence.store_failure = Some("no space".to_owned());
    let later = NOW.plus(Duration::from_secs(5));
    let mut since = |evidence: &Evidence, now| {
        let mut checks = judge(evidence, &LIMITS);
        memory.note(&mut checks, now);
        checks.into_iter().find(|check| check.check == "store").unwrap().since
    };
    assert_eq!(since(&evidence, NOW), Some(NOW));
    assert_eq!(since(&evidence, later), Some(NOW));
    assert_eq!(since(&well(), later), None);
    assert_eq!(since(&evidence, later), Some(later));
}

#[test]
fn what_is_due_and_gets_nowhere_is_told_when_it_lasts() {
    let stalled_for = |seconds| {
        let mut evidence = well();
        status(&mut evidence).stalled = Some(Stall {
            channels: 1,
            since: NOW.minus(Duration::from_secs(seconds)),
            reason: "0x01 has 3 wei left for gas".to_owned(),
        });
        let checks = judge(&evidence, &LIMITS);
        checks.into_iter().find(|check| check.check == "claims").unwrap()
    };
    // One that is sent in a later round was no news.
    let short = stalled_for(120);
    assert!(short.ok, "{short:?}");
    let long = stalled_for(121);
    assert!(!long.ok, "{long:?}");
    let expected = "payers of 1 channel may soon take what is unclaimed, and no claim of it goes forward for 121 s: 0x01 has 3 \
                    wei left for gas";
    assert_eq!(long.finding, expected);
}
