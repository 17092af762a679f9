//! A payee that belongs to three.

use std::fs;

use serde_json::json;

use crate::harness::{Devnet, Home};

const VALIDATORS: &str = "0x7A7A7a7A7a7A7a7a7a7A7a7A7a7a7A7A7a7a7a7A";
const TREASURY: &str = "0x7E7e7e7e7E7e7E7E7E7e7E7E7E7E7E7e7E7e7E7E";
const OPERATOR: &str = "0x00000000000000000000000000000000000000aa";

fn deploy(extra: &[&'static str]) -> Vec<&'static str> {
    [
        &["splitter", "deploy", "--validators", VALIDATORS, "--treasury", TREASURY],
        extra,
    ]
    .concat()
}

#[test]
fn a_splitter_is_deployed_once_and_pays_what_is_due() {
    let devnet = Devnet::start();
    let host = Home::client(&devnet.url);
    host.json(&["faucet"]);

    let deployed = host.json(&deploy(&[]));
    let splitter = deployed["splitter"].as_str().unwrap();
    assert_eq!(deployed["transactions"].as_array().unwrap().len(), 1);
    let again = host.json(&deploy(&[]));
    assert_eq!(
        (&again["splitter"], &again["transactions"]),
        (&deployed["splitter"], &json!([]))
    );
    let other = host.json(&deploy(&["--shares", "5000,3000,2000"]));
    assert_ne!(other["splitter"], deployed["splitter"]);

    let shown = host.json(&["splitter", "show", splitter]);
    let shares: Vec<_> = shown["parties"]
        .as_array()
        .unwrap()
        .iter()
        .map(|party| &party["basis_points"])
        .collect();
    assert_eq!(shares, [&json!(7_000), &json!(2_000), &json!(1_000)]);
    assert_eq!(host.json(&["splitter", "release", splitter])["released"], json!([]));

    // In the escrow, as if a payout had failed.
    host.json(&["deposit", "5", "--for", splitter]);
    assert_eq!(host.json(&["splitter", "show", splitter])["in_escrow"], "5000000");
    let released = host.json(&["splitter", "release", splitter]);
    assert_eq!(
        released["transactions"].as_array().unwrap().len(),
        4,
        "brought in, and three paid"
    );
    let amounts: Vec<_> = released["released"]
        .as_array()
        .unwrap()
        .iter()
        .map(|paid| &paid["amount"])
        .collect();
    assert_eq!(amounts, ["3500000", "1000000", "500000"]);
    assert_eq!(host.json(&["splitter", "show", splitter])["in_escrow"], "0");
}

/// A node that has its config already is told the line to put into it, as it stands there.
#[test]
fn what_comes_next_can_be_copied_into_a_nodes_config() {
    let devnet = Devnet::start();
    let node = Home::executor(&devnet.url);
    node.json(&["faucet"]);
    let said = node.run(&deploy(&["--yes"]));
    assert_eq!(said.code, 0, "{said:?}");
    let (_, lines) = said
        .stdout
        .split_once("config.toml it has already:")
        .expect("what comes next");
    let payee = lines
        .lines()
        .find(|line| line.contains("payee"))
        .expect("a line to copy")
        .trim();

    let path = node.path().join("config.toml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace("[executor]", &format!("[executor]\n{payee}"))).unwrap();
    let listed = node.json(&["operator", "list"]);
    let named = listed["payee"].as_str().unwrap();
    assert!(payee.to_lowercase().contains(named), "{named} {payee}");
}

#[test]
fn the_host_alone_names_operators() {
    let devnet = Devnet::start();
    let host = Home::client(&devnet.url);
    host.json(&["faucet"]);
    let deployed = host.json(&deploy(&[]));
    let splitter = deployed["splitter"].as_str().unwrap();

    let named = host.json(&["operator", "add", OPERATOR, "--splitter", splitter]);
    assert_eq!(
        (&named["payee"], &named["status"]),
        (&deployed["splitter"], &json!("active"))
    );
    let retired = host.json(&["operator", "remove", OPERATOR, "--splitter", splitter]);
    assert_eq!(retired["status"], "retired");

    let stranger = Home::client(&devnet.url);
    let refused = stranger
        .run(&["operator", "add", OPERATOR, "--splitter", splitter, "--json"])
        .failure();
    assert!(
        refused["message"].as_str().unwrap().contains("is not the host"),
        "{refused}"
    );
}

#[test]
fn bad_terms_and_bad_addresses_are_refused() {
    let devnet = Devnet::start();
    let host = Home::client(&devnet.url);
    for (shares, reason) in [
        ("7000,2000,999", "make 9999"),
        ("7000,3000", "three numbers"),
        ("7000,2000,x", "'x' is no number"),
        ("70000,2000,1000", "'70000' is no number"),
    ] {
        let ended = host.run(&[&deploy(&["--shares"])[..], &[shares]].concat());
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.stderr.contains(reason), "{ended:?}");
    }
    let nowhere = host.run(&["splitter", "show", OPERATOR]);
    assert_eq!(nowhere.code, 2, "{nowhere:?}");
    assert!(nowhere.stderr.contains("there is no splitter at"), "{nowhere:?}");
}
