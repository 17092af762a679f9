//! Towers, as far as neither a chain nor a network is needed.

use std::time::SystemTime;

use alloy::primitives::Address;
use lloom_ledger::{StandingRefusal, TOWER_SILENCE};
use lloom_receipts::{Signed, TokenAmount, TowerAppointment, UnixSeconds};

use crate::{
    bad_input::deployment,
    caring::{Served, key, with_store},
    harness::{Ended, Home},
};

pub const PEER: &str = "/ip4/127.0.0.1/tcp/1/p2p/16Uiu2HAkvfe4Ks31H8UxBWdzFkr2nuYENMxF73HTY6XPxeadcv7D";
const ED25519: &str = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWH3uVF6wv47WnArKHk5ZDVmGb6CVbEDqVyemfPnCaQnQM";

/// An executor's home that names these towers.
fn naming(towers: &[&str]) -> Home {
    let home = Home::new();
    let init = [
        "init",
        "--role",
        "executor",
        "--model",
        "a",
        "--price",
        "1/1",
        "--insecure-fast-kdf",
    ];
    let made = home.run(&init);
    assert_eq!(made.code, 0, "{made:?}");
    // By hand: `init` writes none that it can't use.
    let path = home.path().join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let (before, section) = config.split_once("[towers]").unwrap();
    let section = section.replacen("peers = []", &format!("peers = {towers:?}"), 1);
    std::fs::write(path, format!("{before}[towers]{section}")).unwrap();
    home
}

#[track_caller]
fn refused(ended: &Ended, kind: &str, words: &str) {
    let failure = ended.failure();
    assert_eq!(failure["kind"], kind, "{failure}");
    let text = failure.to_string();
    assert!(text.contains(words), "{words} in {text}");
}

#[test]
fn towers_are_named_by_one_command_and_listed_by_another() {
    let home = Home::new();
    let offer = ["--model", "a", "--price", "1/1", "--insecure-fast-kdf", "--tower", PEER];
    let made = home.run(&[&["init", "--role", "executor"], &offer[..]].concat());
    assert_eq!(made.code, 0, "{made:?}");
    let listed = home.json(&["tower", "list"]);
    assert_eq!(listed["towers"][0]["at"], PEER);
    let address = listed["towers"][0]["tower"].as_str().unwrap();
    assert!(address.starts_with("0x") && address.len() == 42, "{address}");
    let text = home.run(&["tower", "list"]).stdout;
    assert!(text.starts_with("TOWER"), "{text}");
    // Nothing was earned, nobody was asked.
    let status = home.json(&["tower", "status"]);
    assert_eq!((&status["claimable"], &status["uncovered"]), (&"0".into(), &"0".into()));
    assert_eq!(status["towers"][0]["heard_at"], serde_json::Value::Null);
    let text = home.run(&["tower", "status"]).stdout;
    assert!(text.contains("never heard"), "{text}");
}

#[test]
fn a_home_without_towers_is_told_where_to_name_them() {
    let home = naming(&[]);
    for command in ["list", "ping"] {
        refused(
            &home.run(&["tower", command, "--json"]),
            "configuration",
            "watch --tower",
        );
    }
    let text = home.run(&["tower", "status"]).stdout;
    assert!(text.contains("No tower is configured"), "{text}");
}

#[test]
fn a_tower_is_named_by_where_and_who_it_is() {
    let without_peer = PEER.split("/p2p/").next().unwrap();
    for (towers, words) in [
        (&[without_peer][..], "does not end in the tower's peer id"),
        (&["not an address"], "no multiaddress"),
        (&[ED25519], "no secp256k1 key"),
        (&[PEER, PEER], "the second address of one tower"),
    ] {
        let home = naming(towers);
        for command in [&["tower", "list"][..], &["node", "run"], &["watch"]] {
            refused(&home.run(&[command, &["--json"]].concat()), "configuration", words);
        }
    }
    let home = naming(&[PEER]);
    let stranger = "0x00000000000000000000000000000000000000ff";
    refused(
        &home.run(&["tower", "ping", stranger, "--json"]),
        "usage",
        "names no tower",
    );
}

#[test]
fn a_tower_is_no_executor() {
    refused(
        &naming(&[]).run(&["watch", "--tower", "--json"]),
        "configuration",
        "init --role tower",
    );
    let home = Home::new();
    let made = home
        .run(&["init", "--role", "tower", "--insecure-fast-kdf", "--json"])
        .json();
    assert_eq!(made["payee"], serde_json::Value::Null);
    let config = std::fs::read_to_string(home.path().join("config.toml")).unwrap();
    for line in ["[tower]", "minimum_value = \"0.01\"", "tcp/4402"] {
        assert!(config.contains(line), "{line} in {config}");
    }
    // What it wrote it can read: all that is missing is a chain.
    let watching = home.run(&["watch", "--tower", "--json", "--rpc-url", "http://127.0.0.1:1"]);
    refused(&watching, "chain", "127.0.0.1:1");
    refused(
        &Home::new().run(&["init", "--role", "tower", "--tower", PEER, "--json"]),
        "usage",
        "an executor's",
    );
}

#[test]
fn quotas_of_nothing_are_refused_by_name() {
    for (key, value) in [
        ("max_operators", "0"),
        ("max_channels_per_operator", "0"),
        ("max_store_mib", "0"),
        ("messages_per_minute", "0"),
        ("max_fee_gwei", "0"),
        ("term_days", "0"),
        ("minimum_value", "\"0.00000001\""),
    ] {
        let home = Home::new();
        home.run(&["init", "--role", "tower", "--insecure-fast-kdf", "--json"])
            .json();
        let path = home.path().join("config.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{key} ="))).unwrap();
        std::fs::write(&path, text.replace(line, &format!("{key} = {value}"))).unwrap();
        let ended = home.run(&["watch", "--tower", "--json"]);
        refused(&ended, "configuration", &format!("tower.{key} is wrong"));
    }
}

#[test]
fn doctor_tells_an_executor_that_nobody_stands_in_for_it_and_a_tower_what_it_lacks() {
    let doctor = |home: &Home| {
        let said = home
            .run(&["doctor", "--json", "--rpc-url", "http://127.0.0.1:1"])
            .stdout;
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        let checks = said["checks"].as_array().unwrap().clone();
        move |name: &str| checks.iter().find(|check| check["name"] == name).cloned()
    };
    let alone = doctor(&naming(&[]))("towers").unwrap();
    assert_eq!(alone["state"], "warning");
    assert!(alone["finding"].as_str().unwrap().contains("nobody claims"), "{alone}");
    assert_eq!(doctor(&naming(&[PEER]))("towers").unwrap()["state"], "good");
    assert_eq!(doctor(&naming(&[ED25519]))("towers").unwrap()["state"], "bad");

    let home = Home::new();
    home.run(&["init", "--role", "tower", "--insecure-fast-kdf", "--json"])
        .json();
    let holding = home.json(&["tower", "status"]);
    assert_eq!(
        (&holding["channels"], &holding["held"]),
        (&0.into(), &serde_json::json!([]))
    );
    let tower = doctor(&home);
    assert_eq!(tower("tower").unwrap()["finding"], "not running");
    assert_eq!((tower("peers"), tower("towers"), tower("node")), (None, None, None));
}

#[test]
fn a_silent_tower_covers_nothing_and_a_refusal_stays() {
    let home = naming(&[PEER]);
    let tower: Address = home.json(&["tower", "list"])["towers"][0]["tower"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let now = UnixSeconds::from(SystemTime::now());
    let long_ago = now.minus(2 * TOWER_SILENCE);
    let refused = with_store(&home, async |ledger| {
        let mut channels = Vec::new();
        for number in 1..=2 {
            let mut served = Served::open(&home, &ledger, number).await;
            served.serve(&ledger, 1).await;
            channels.push(served.channel());
        }
        let appointment = TowerAppointment {
            channel: channels[0],
            tower,
            operator: key(8).address(),
            ceiling: TokenAmount::new(100),
            claim: TokenAmount::new(100),
            minimum_value: TokenAmount::new(10),
            max_fee_per_gas: 1,
            taken_at: long_ago,
            expires_at: now.plus(100 * TOWER_SILENCE),
        };
        // Of a tower whose key is not at hand; who keeps it has checked the signature.
        let signature = *key(9).sign(&deployment().domain(), appointment).signature();
        let signed = Signed::recall(appointment, signature);
        ledger.record_appointments(tower, vec![signed], long_ago).await.unwrap();
        let refusal = StandingRefusal {
            channel: channels[1],
            claim: TokenAmount::new(100),
            reason: "the tower's store is full: 9 bytes".to_owned(),
            since: long_ago,
        };
        ledger.record_refusals(tower, vec![refusal]).await.unwrap();
        channels[1].to_string()
    });
    let status = |home: &Home| home.json(&["tower", "status"]);
    let told = |home: &Home, arguments: &[&str]| home.run(arguments).stdout;
    let silent = status(&home);
    assert_eq!((&silent["covered"], &silent["uncovered"]), (&"0".into(), &"200".into()));
    assert_eq!(silent["towers"][0]["heard"], false);
    let text = told(&home, &["tower", "status"]);
    for words in ["silent", "was not heard for 20 minutes", "refuses 1 channel:", &refused] {
        assert!(text.contains(words), "{words} in {text}");
    }
    let text = told(&home, &["doctor", "--rpc-url", "http://127.0.0.1:1"]);
    for words in [
        "was not heard for 20 minutes",
        "refuses 1 channel;",
        "because the tower's store is full",
        "0.0002 LDEV that no tower",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }

    // A good answer, which says nothing of the channel that it does not take.
    with_store(&home, async |ledger| {
        ledger
            .record_appointments(tower, Vec::new(), UnixSeconds::from(SystemTime::now()))
            .await
            .unwrap();
    });
    let heard = status(&home);
    assert_eq!((&heard["covered"], &heard["uncovered"]), (&"100".into(), &"100".into()));
    let line = &heard["towers"][0];
    assert_eq!(
        (&line["heard"], &line["refusals"][0]["channel"]),
        (&true.into(), &refused.clone().into())
    );
    let text = told(&home, &["tower", "status"]);
    assert!(
        text.contains("refuses channels") && !text.contains("not heard"),
        "{text}"
    );
}
