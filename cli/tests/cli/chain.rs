//! Networks, development chains and deployments.

use serde_json::json;

use crate::harness::{Devnet, Home, Running};

#[test]
fn a_devnet_has_everything_and_leaves_nothing() {
    let home = Home::new();
    let mut process = Running::start(home.command(&["devnet", "--port", "0", "--json"]));
    let ready = process.json();
    let url = ready["rpc_url"].as_str().unwrap().to_owned();
    assert_eq!(ready["chain_id"], 31_337);
    for contract in ["escrow", "settlement", "registry", "token"] {
        let code = crate::harness::call(&url, "eth_getCode", &json!([ready[contract], "latest"]));
        assert!(code.as_str().unwrap().len() > 100, "{contract}: {code}");
    }
    assert!(home.path().join("networks/devnet.toml").exists());
    assert_eq!(process.terminate(), 0);
    let gone = std::net::TcpStream::connect(url.strip_prefix("http://").unwrap());
    assert!(gone.is_err(), "anvil outlived its parent");
}

#[test]
fn a_chain_without_contracts_gets_them_by_deploy() {
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    // As if nobody had deployed anything.
    let contracts = lloom_bindings::Contracts::of_this_version();
    for address in [
        contracts.deployer,
        contracts.escrow,
        contracts.settlement,
        contracts.registry,
    ] {
        devnet.call("anvil_setCode", &json!([address, "0x"]));
        devnet.call("anvil_setNonce", &json!([address, "0x0"]));
    }
    let ended = home.run(&["balance"]);
    assert_eq!(ended.code, 5, "{ended:?}");
    assert!(ended.stderr.contains("has no escrow contract"), "{ended:?}");
    assert!(ended.stderr.contains("lloomctl deploy"), "{ended:?}");

    // It says what it costs before it finds that there is no money for it.
    let poor = home.run(&["deploy", "--json"]);
    assert_eq!(poor.code, 5, "{poor:?}");
    assert!(poor.failure()["hints"][0].as_str().unwrap().contains("faucet"));
    devnet.call("anvil_setBalance", &json!([home.address(), "0x8ac7230489e80000"]));
    let deployed = home.json(&["deploy"]);
    assert_eq!(deployed["transactions"].as_array().unwrap().len(), 1);
    assert!(home.path().join("networks/devnet.toml").exists());
    assert_eq!(home.run(&["balance"]).code, 0);
    let again = home.json(&["deploy"]);
    assert_eq!(
        again["transactions"].as_array().unwrap().len(),
        0,
        "everything is there"
    );
}

#[test]
fn money_that_is_worth_something_has_no_faucet() {
    let home = Home::client("http://127.0.0.1:1");
    let ended = home.run(&["faucet", "--network", "base", "--json"]);
    assert_eq!((ended.code, &ended.failure()["kind"]), (8, &"refused".into()));
}

#[test]
fn a_long_chain_is_followed_from_the_contracts_on() {
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    home.json(&["faucet"]);
    // The same chain, as a network that is none of development: its file doesn't say where the contracts begin.
    let file = home.path().join("networks/long.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let token = format!("{:?}", lloom_bindings::dev_token_address());
    let text = format!(
        "chain_id = 31337\nrpc_urls = [\"http://127.0.0.1:1\"]\nconfirmations = 0\n[token]\naddress = \"{token}\"\nsymbol = \"LDEV\"\ndecimals = 6\n"
    );
    std::fs::write(&file, text).unwrap();
    devnet.call("anvil_mine", &json!(["0x40"]));
    home.json(&["claim", "--network", "long"]);
    let written = std::fs::read_to_string(&file).unwrap();
    let start: u64 = written
        .lines()
        .find_map(|line| line.strip_prefix("start_block = "))
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..20).contains(&start), "{written}");
    assert!(
        written.contains("127.0.0.1:1\""),
        "a command's own endpoint isn't written down: {written}"
    );
}
