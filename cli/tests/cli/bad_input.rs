//! What people get wrong, and what the machine gets wrong. Each has a clear error, a hint, a documented exit code, and
//! changes nothing.

use std::{fs, path::Path};

use lloom_bindings::Contracts;
use lloom_ledger::{Ledger, StoreDeployment};

use crate::harness::{Devnet, Home};

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:1";
const NO_CHANNEL: &str = "0x1111111111111111111111111111111111111111111111111111111111111111";
const EXECUTOR: &str = "0x2222222222222222222222222222222222222222";

pub fn deployment() -> StoreDeployment {
    let contracts = Contracts::of_this_version();
    StoreDeployment {
        chain_id: 31_337,
        escrow: contracts.escrow,
        settlement: contracts.settlement,
    }
}

/// Makes a store and lets go of it.
fn make_store(path: &Path) {
    runtime().block_on(async {
        Ledger::open(path, &deployment()).await.unwrap().close().await;
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Runs `arguments`, which have to fail with `code`, say `words`, give a hint, and leave the home as it was.
#[track_caller]
fn refused(home: &Home, arguments: &[&str], code: i32, words: &[&str]) {
    let before = home.content();
    let human = home.run(arguments);
    assert_eq!(human.code, code, "{arguments:?}: {human:?}");
    assert!(
        human.stderr.contains("Error: ") && human.stderr.contains("Hint: "),
        "{human:?}"
    );
    for word in words {
        assert!(human.stderr.contains(word), "'{word}' is missing: {human:?}");
    }
    assert_eq!(human.stdout, "", "{arguments:?}");
    let machine = home.run(&[arguments, &["--json"]].concat());
    assert_eq!(machine.code, code, "{machine:?}");
    assert!(!machine.failure()["hints"].as_array().unwrap().is_empty());
    assert_eq!(home.content(), before, "{arguments:?} changed something");
}

/// It would take on, up to the last five minutes, what it then leaves for later.
#[test]
fn a_margin_in_which_no_claim_is_mined() {
    let home = Home::tower(NOWHERE);
    let config = home.path().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let with = |seconds: u64| text.replacen("[tower]", &format!("[tower]\nclaim_margin_secs = {seconds}"), 1);
    fs::write(&config, with(299)).unwrap();
    refused(
        &home,
        &["watch", "--tower"],
        3,
        &["tower.claim_margin_secs is wrong", "300"],
    );
    fs::write(&config, with(300)).unwrap();
    let other = home.run(&["watch", "--tower"]);
    assert!(!other.stderr.contains("claim_margin_secs"), "{other:?}");
}

#[test]
fn amounts_that_are_none() {
    // The chain can't be reached: whoever looks at the amount first never asks it.
    let home = Home::client(NOWHERE);
    for (amount, words) in [
        ("ten", "is not an amount"),
        ("1e3", "is not an amount"),
        ("1,5", "is not an amount"),
        ("", "is not an amount"),
        ("-5", "is negative"),
        ("-0.5", "is negative"),
        ("0.0000001", "7 decimals, but the token has 6"),
        ("340282366920938463463374607431769", "more than a channel can hold"),
    ] {
        for command in [
            &["deposit", amount][..],
            &["withdraw", amount],
            &["faucet", amount],
            &["channel", "open", "--executor", EXECUTOR, amount],
            &["channel", "top-up", NO_CHANNEL, amount],
        ] {
            refused(&home, command, 2, &[words]);
        }
    }
    refused(&home, &["deposit", "0"], 2, &["the amount is zero"]);
}

#[test]
fn arguments_that_are_none() {
    let home = Home::client(NOWHERE);
    let digits = NO_CHANNEL.len() - 1;
    for id in ["0x12", "0x123", "mine", &NO_CHANNEL[..digits]] {
        refused(
            &home,
            &["channel", "show", id],
            2,
            &["0x and 64 hexadecimal digits", "--json"],
        );
    }
    let address = home.run(&["operator", "add", "0x12"]);
    assert!(address.stderr.contains("0x and 40 hexadecimal digits"), "{address:?}");
    refused(&home, &["chat", ""], 2, &["the prompt is empty"]);
    refused(&home, &["chat", "-"], 2, &["the prompt is empty"]);
    refused(
        &home,
        &["balance", "--rpc-url", "nowhere"],
        3,
        &["RPC endpoint", "https://"],
    );
    for wrong in [
        &["channel", "open", "--executor", "somebody", "1"][..],
        &["operator", "add", "0x12"],
        &["deposit", "1", "--for", "0x123"],
        &["chat"],
        &["chat", "hello", "--input", "file"],
        &["fly"],
    ] {
        let ended = home.run(&[wrong, &["--json"]].concat());
        assert_eq!(
            (ended.code, &ended.failure()["kind"]),
            (2, &"usage".into()),
            "{wrong:?}"
        );
    }
}

#[test]
fn a_chain_that_does_not_answer() {
    let home = Home::client(NOWHERE);
    for command in [
        &["balance"][..],
        &["deposit", "1"],
        &["withdraw", "all"],
        &["channel", "request-close", NO_CHANNEL],
        &["operator", "add", EXECUTOR],
        &["claim"],
        &["chat", "hello"],
        &["watch"],
    ] {
        refused(&home, command, 5, &["127.0.0.1:1", "--rpc-url"]);
    }
}

#[test]
fn only_a_devnet_is_started_by_devnet() {
    let home = Home::client(NOWHERE);
    let hint = "lloomctl devnet";
    assert!(home.run(&["balance"]).stderr.contains(hint));
    let public = home.run(&["balance", "--network", "base"]);
    assert_eq!(public.code, 5, "{public:?}");
    assert!(!public.stderr.contains(hint), "{public:?}");
}

#[test]
fn a_chain_that_is_another_one() {
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    for command in [&["balance"][..], &["deposit", "1"], &["chat", "hello"], &["watch"]] {
        let arguments = [command, &["--network", "base-sepolia", "--rpc-url", &devnet.url]].concat();
        refused(
            &home,
            &arguments,
            5,
            &["serves the chain 31337, not 84532", "--network"],
        );
    }
}

#[test]
fn a_chain_of_the_same_number_that_began_otherwise() {
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    let genesis = devnet.call("eth_getBlockByNumber", &serde_json::json!(["0x0", false]));
    let genesis = genesis["hash"].as_str().unwrap().to_owned();
    let networks = home.path().join("networks");
    fs::create_dir_all(&networks).unwrap();
    let token = lloom_bindings::dev_token_address();
    for (name, genesis) in [("right", &genesis), ("wrong", &format!("0x{:064x}", 7))] {
        let file = format!(
            "chain_id = 31337\nrpc_urls = [\"{}\"]\ngenesis = \"{genesis}\"\nconfirmations = 0\n\
             [token]\naddress = \"{token}\"\nsymbol = \"LDEV\"\ndecimals = 6\n",
            devnet.url
        );
        fs::write(networks.join(format!("{name}.toml")), file).unwrap();
    }
    assert_eq!(home.run(&["balance", "--network", "right"]).code, 0);
    let told = format!("serves a chain that began with block {genesis}, not 0x{:064x}", 7);
    for command in [&["balance"][..], &["deposit", "1"], &["chat", "hello"], &["watch"]] {
        let arguments = [command, &["--network", "wrong"]].concat();
        refused(
            &home,
            &arguments,
            5,
            &[&told, "the endpoint belongs to another network", "--network"],
        );
    }
}

#[test]
fn channels_nobody_knows() {
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    for command in [
        &["channel", "request-close", NO_CHANNEL][..],
        &["channel", "withdraw", NO_CHANNEL],
        &["channel", "close", NO_CHANNEL],
        &["channel", "top-up", NO_CHANNEL, "1"],
        &["channel", "show", NO_CHANNEL],
        &["receipts", "show", NO_CHANNEL],
        &["claim", "--channel", NO_CHANNEL],
        &["claim", "--dry-run", "--channel", NO_CHANNEL],
    ] {
        refused(&home, command, 8, &[NO_CHANNEL, "shows"]);
    }
}

#[test]
fn a_wrong_password() {
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    let password = home.path().join("wrong");
    fs::write(&password, "battery staple").unwrap();
    for command in [
        &["deposit", "1"][..],
        &["operator", "add", EXECUTOR],
        &["chat", "hello"],
        &["watch"],
    ] {
        let arguments = [command, &["--password-file", password.to_str().unwrap()]].concat();
        let before = home.content();
        let ended = home.run(&arguments);
        assert_eq!(ended.code, 4, "{ended:?}");
        assert!(ended.stderr.contains("the password is wrong"), "{ended:?}");
        assert!(ended.stderr.contains("Hint: "), "{ended:?}");
        assert!(!ended.stderr.contains("battery"), "{ended:?}");
        assert_eq!(home.content(), before);
    }
    assert_eq!(
        devnet.call(
            "eth_getTransactionCount",
            &serde_json::json!([home.address(), "latest"])
        ),
        "0x0"
    );
}

#[test]
fn a_key_that_is_missing_or_damaged() {
    let home = Home::client(NOWHERE);
    refused(&home, &["balance", "--key", "other"], 4, &["there is no key 'other'"]);
    let path = home.path().join("keystore/hot.json");
    fs::write(&path, "{}").unwrap();
    let ended = home.run(&["balance"]);
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.stderr.contains("no keystore file of version 3"), "{ended:?}");
}

#[test]
fn a_configuration_with_a_typing_error() {
    let home = Home::client(NOWHERE);
    let path = home.path().join("config.toml");
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace("budget_per_day", "budget_per_dya");
    fs::write(&path, text).unwrap();
    let ended = home.run(&["balance"]);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(
        ended.stderr.contains("budget_per_dya") && ended.stderr.contains("line "),
        "{ended:?}"
    );
}

#[test]
fn no_home_at_all() {
    let home = Home::new();
    for command in [
        &["deposit", "1"][..],
        &["earnings"],
        &["chat", "hello"],
        &["node", "run"],
        &["watch"],
    ] {
        refused(&home, command, 3, &["there is no configuration", "lloomctl init"]);
    }
}

#[test]
fn a_store_from_a_newer_version() {
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    make_store(&home.store());
    let mut bytes = fs::read(home.store()).unwrap();
    // The database's user version: bytes 60 to 63, big-endian (SQLite's file format, section 1.3).
    bytes[60..64].copy_from_slice(&9_999u32.to_be_bytes());
    fs::write(home.store(), bytes).unwrap();
    for command in [
        &["earnings"][..],
        &["receipts", "list"],
        &["deposit", "1"],
        &["chat", "hello"],
        &["watch"],
    ] {
        refused(&home, command, 6, &["schema 9999", "newer lloomctl"]);
    }
    let doctor = home.run(&["doctor", "--json"]);
    assert_eq!(doctor.code, 6, "{doctor:?}");
    assert!(doctor.stdout.contains("schema 9999"), "{doctor:?}");
}

#[test]
fn a_damaged_store() {
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    make_store(&home.store());
    let good = fs::read(home.store()).unwrap();
    let beginning = [&b"garbage"[..], &good[7..]].concat();
    let middle = {
        let mut bytes = good.clone();
        let length = bytes.len();
        bytes[4_096..length - 1_024].fill(0xa5);
        bytes
    };
    for damaged in [beginning, middle, b"short".to_vec()] {
        fs::write(home.store(), damaged).unwrap();
        for command in [
            &["earnings"][..],
            &["channel", "list"],
            &["deposit", "1"],
            &["chat", "hello"],
            &["watch"],
        ] {
            refused(&home, command, 6, &["is damaged", "backup"]);
        }
    }
    fs::write(home.store(), good).unwrap();
    assert_eq!(home.run(&["earnings"]).code, 0);
}

#[test]
fn a_second_process_on_the_store() {
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    let runtime = runtime();
    let ledger = runtime.block_on(Ledger::open(&home.store(), &deployment())).unwrap();
    let holder = format!("process {}", std::process::id());
    for command in [&["deposit", "1"][..], &["chat", "hello"], &["claim"], &["watch"]] {
        let ended = home.run(command);
        assert_eq!(ended.code, 6, "{ended:?}");
        assert!(
            ended.stderr.contains(&holder) && ended.stderr.contains("Hint: "),
            "{ended:?}"
        );
    }
    // Reading goes on beside it.
    assert_eq!(home.run(&["earnings"]).code, 0);
    assert_eq!(home.run(&["channel", "list"]).code, 0);
    assert_eq!(
        devnet.call(
            "eth_getTransactionCount",
            &serde_json::json!([home.address(), "latest"])
        ),
        "0x0"
    );
    runtime.block_on(ledger.close());
    assert_eq!(home.run(&["deposit", "1"]).code, 0);
}

#[test]
fn a_store_of_another_chain() {
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    runtime().block_on(async {
        let other = StoreDeployment {
            chain_id: 84_532,
            ..deployment()
        };
        Ledger::open(&home.store(), &other).await.unwrap().close().await;
    });
    refused(&home, &["earnings"], 6, &["belongs to", "84532", "another --home"]);
    refused(&home, &["deposit", "1"], 6, &["belongs to", "another --home"]);
}

#[test]
fn errors_as_people_see_them() {
    let home = Home::client(NOWHERE);
    let escrow = Contracts::of_this_version().escrow.to_string();
    let text: String = [
        &["deposit", "-5"][..],
        &["deposit", "0.0000001"],
        &["balance"],
        &["balance", "--key", "other"],
        &["balance", "--network", "mars"],
        &["channel", "show", "0x12"],
        &["node", "run"],
    ]
    .iter()
    .map(|command| {
        let ended = home.run(command);
        let place = home.path().to_str().unwrap();
        format!(
            "$ lloomctl {}\n{}[exit code {}]\n\n",
            command.join(" "),
            ended.stderr.replace(place, "<home>").replace(&escrow, "<escrow>"),
            ended.code
        )
    })
    .collect();
    insta::assert_snapshot!(text);
}
