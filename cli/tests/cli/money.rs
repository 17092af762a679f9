//! A person's money on its way: wallet, escrow, channel, and back.

use serde_json::{Value, json};

use crate::harness::{Devnet, Home};

const OPERATOR: &str = "0x2222222222222222222222222222222222222222";
const PAYEE: &str = "0x3333333333333333333333333333333333333333";

fn balance(home: &Home) -> (String, String, String) {
    let balance = home.json(&["balance"]);
    let text = |name: &str| balance[name].as_str().unwrap().to_owned();
    (text("wallet"), text("escrow"), text("in_channels"))
}

fn amounts(wallet: &str, escrow: &str, in_channels: &str) -> (String, String, String) {
    (wallet.to_owned(), escrow.to_owned(), in_channels.to_owned())
}

#[test]
fn a_deposit_is_one_command_and_says_what_it_costs() {
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    home.json(&["faucet", "100"]);
    let human = home.run(&["deposit", "12.5"]);
    assert_eq!(human.code, 0, "{human:?}");
    assert!(
        human.stderr.contains("1 transaction, about ") && human.stderr.contains(" ETH"),
        "{human:?}"
    );
    assert!(human.stdout.contains("Deposited 12.5 LDEV"), "{human:?}");
    assert_eq!(balance(&home), amounts("87500000", "12500000", "0"));

    let without_permit = home.json(&["deposit", "7.5", "--no-permit"]);
    assert_eq!(
        without_permit["transactions"].as_array().unwrap().len(),
        2,
        "approve, then deposit"
    );
    assert_eq!(balance(&home), amounts("80000000", "20000000", "0"));

    let withdrawn = home.json(&["withdraw", "5"]);
    assert_eq!(withdrawn["balance"], "15000000");
    let too_much = home.run(&["withdraw", "15.000001", "--json"]);
    assert_eq!((too_much.code, &too_much.failure()["kind"]), (8, &"refused".into()));
    home.json(&["withdraw", "all", "--to", PAYEE]);
    assert_eq!(balance(&home), amounts("85000000", "0", "0"));
    assert_eq!(home.json(&["balance", PAYEE])["wallet"], "15000000");
}

#[test]
fn whoever_asks_the_faucet_at_the_same_time_gets_the_same() {
    let devnet = Devnet::start();
    // What is sent stays in the pool for a while.
    devnet.call("evm_setIntervalMining", &json!([1]));
    let homes: Vec<Home> = (0..12).map(|_| Home::client(&devnet.url)).collect();
    std::thread::scope(|scope| {
        for home in &homes {
            scope.spawn(|| home.json(&["faucet", "7"]));
        }
    });
    for home in &homes {
        assert_eq!(balance(home), amounts("7000000", "0", "0"));
    }
}

#[test]
fn on_a_devnet_a_deposit_gets_its_money_from_the_faucet() {
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    home.json(&["deposit", "10"]);
    assert_eq!(balance(&home), amounts("0", "10000000", "0"));
}

#[test]
fn a_channel_opens_from_the_balance_and_its_rest_returns_there() {
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    home.json(&["deposit", "10"]);
    let open = ["channel", "open", "--executor", OPERATOR, "--payee", PAYEE];
    let short = home.run(&[&open[..], &["10.5", "--json"]].concat());
    assert_eq!(short.code, 8, "{short:?}");
    assert!(
        short.failure()["hints"][0]
            .as_str()
            .unwrap()
            .contains("lloomctl deposit 0.5")
    );

    let opened = home.json(&[&open[..], &["4"]].concat());
    let id = opened["channel"].as_str().unwrap();
    assert_eq!(balance(&home), amounts("0", "6000000", "4000000"));
    home.json(&["channel", "top-up", id, "1.5"]);
    let shown = home.json(&["channel", "show", id]);
    assert_eq!(
        (&shown["deposit"], &shown["status"]),
        (&"5500000".into(), &"open".into())
    );
    assert_eq!(shown["payee"].as_str().unwrap().to_lowercase(), PAYEE);

    // Only the executor's side closes at once; the payer is told how it gets its money.
    let close = home.run(&["channel", "close", id, "--json"]);
    assert_eq!(close.code, 8, "{close:?}");
    assert!(close.failure()["hints"][0].as_str().unwrap().contains("request-close"));

    let early = home.run(&["channel", "withdraw", id, "--json"]);
    assert_eq!(early.code, 8, "{early:?}");
    home.json(&["channel", "request-close", id]);
    let waiting = home.run(&["channel", "withdraw", id, "--json"]);
    assert_eq!(waiting.code, 8, "{waiting:?}");
    assert!(waiting.failure()["message"].as_str().unwrap().contains("grace period"));
    devnet.call("evm_increaseTime", &json!([3_700]));
    devnet.call("evm_mine", &json!([]));
    let withdrawn = home.json(&["channel", "withdraw", id]);
    assert_eq!(
        (&withdrawn["refunded"], &withdrawn["to_balance"]),
        (&"5500000".into(), &true.into())
    );
    assert_eq!(balance(&home), amounts("0", "10000000", "0"));

    assert_eq!(home.json(&["channel", "list"])["channels"], json!([]));
    assert_eq!(
        home.json(&["channel", "list", "--all"])["channels"][0]["status"],
        "closed"
    );
    let over = home.run(&["channel", "request-close", id, "--json"]);
    assert_eq!(over.code, 8, "{over:?}");
}

#[test]
fn a_channel_opens_from_the_wallet_and_its_rest_returns_there() {
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    home.json(&["faucet", "10"]);
    let opened = home.json(&[
        "channel",
        "open",
        "--executor",
        OPERATOR,
        "--payee",
        PAYEE,
        "--from-wallet",
        "4",
    ]);
    let id = opened["channel"].as_str().unwrap();
    assert_eq!(balance(&home), amounts("6000000", "0", "4000000"));
    home.json(&["channel", "request-close", id]);
    devnet.call("evm_increaseTime", &json!([3_700]));
    devnet.call("evm_mine", &json!([]));
    let withdrawn = home.json(&["channel", "withdraw", id]);
    assert_eq!(withdrawn["to_balance"], false);
    assert_eq!(balance(&home), amounts("10000000", "0", "0"));
}

#[test]
fn a_payee_names_its_operators() {
    let devnet = Devnet::start();
    let payee = Home::client(&devnet.url);
    payee.json(&["faucet"]);
    let status = |value: &Value| value["status"].as_str().unwrap().to_owned();
    assert_eq!(status(&payee.json(&["operator", "add", OPERATOR])), "active");
    let again = payee.json(&["operator", "add", OPERATOR]);
    assert_eq!(again["transactions"], json!([]), "there is nothing left to do");
    assert_eq!(status(&payee.json(&["operator", "remove", OPERATOR])), "retired");
}

#[test]
fn whoever_earned_nothing_claims_nothing() {
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    let claimed = home.json(&["claim"]);
    assert_eq!((&claimed["transactions"], &claimed["rows"]), (&json!([]), &json!([])));
    assert_eq!(home.json(&["claim", "--dry-run"])["claims"], json!([]));
    assert_eq!(home.json(&["earnings"])["billed"], "0");
    assert_eq!(home.json(&["receipts", "list"])["receipts"], json!([]));
}

#[test]
fn a_watcher_runs_beside_reading_commands_and_takes_orders() {
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    let mut watch = crate::harness::Running::start(home.command(&["watch", "--json"]));
    assert_eq!(watch.json()["ready"], true);
    // The store is the watcher's; the order goes to it.
    assert_eq!(home.json(&["claim"])["transactions"], json!([]));
    assert_eq!(home.json(&["claim", "--dry-run"])["waiting"], json!([]));
    assert_eq!(home.run(&["watch"]).code, 6);
    // And it is the watcher's endpoint that is asked. Whoever names another is told.
    let elsewhere = home.run(&["claim", "--rpc-url", "http://127.0.0.1:9"]);
    assert_eq!(elsewhere.code, 0, "{elsewhere:?}");
    assert!(elsewhere.stderr.contains("--rpc-url is not used"), "{elsewhere:?}");
    let same = home.run(&["claim", "--rpc-url", &devnet.url]);
    assert!(!same.stderr.contains("--rpc-url"), "{same:?}");
    assert_eq!(watch.terminate(), 0);
    assert!(!home.path().join("control.sock").exists());
}

#[test]
fn a_home_pays_no_more_for_gas_than_it_says() {
    let devnet = Devnet::start();
    for home in [
        Home::client(&devnet.url),
        Home::executor(&devnet.url),
        Home::tower(&devnet.url),
    ] {
        home.json(&["faucet", "10"]);
        let path = home.path().join("config.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        let limited = |limit: u64| {
            let text = if config.contains("max_fee_gwei = 500") {
                config.replace("max_fee_gwei = 500", &format!("max_fee_gwei = {limit}"))
            } else {
                let section = format!("[watcher]\nmax_fee_gwei = {limit}\n");
                match config.contains("[watcher]\n") {
                    true => config.replace("[watcher]\n", &section),
                    false => format!("{config}\n{section}"),
                }
            };
            std::fs::write(&path, text).unwrap();
        };
        // Twenty gwei: an empty block lowers it by an eighth.
        devnet.call("anvil_setNextBlockBaseFeePerGas", &json!(["0x4a817c800"]));
        devnet.call("evm_mine", &json!([]));
        limited(1);
        let refused = home.run(&["deposit", "1", "--json"]);
        assert_eq!(refused.code, 5, "{refused:?}");
        let failure = refused.failure().to_string();
        assert!(
            failure.contains("more than the 1000000000 that the fee policy pays") && failure.contains("max_fee_gwei"),
            "{failure}"
        );
        limited(100);
        assert_eq!(home.json(&["deposit", "1"])["balance"], "1000000");
    }
}
