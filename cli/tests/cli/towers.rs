//! Towers, as far as neither a chain nor a network is needed.

use crate::harness::{Ended, Home};

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
    let tower = doctor(&home);
    assert_eq!(tower("tower").unwrap()["finding"], "not running");
    assert_eq!((tower("peers"), tower("towers"), tower("node")), (None, None, None));
}
