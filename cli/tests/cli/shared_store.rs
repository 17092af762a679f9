//! Homes whose store is a database of PostgreSQL.

use std::fs;

use lloom_ledger::{Ledger, StoreUrl};
use lloom_postgres::Server;

use crate::harness::{Devnet, Home};

/// Has config.toml name `store`.
fn configure(home: &Home, store: &str) {
    let path = home.path().join("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once("\n\n").unwrap();
    fs::write(path, format!("{head}\n\nstore = \"{store}\"\n{rest}")).unwrap();
}

#[test]
fn a_home_pays_from_a_database_and_says_so() {
    let server = Server::start().unwrap();
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    configure(&home, &server.url("postgres"));
    home.json(&["faucet"]);
    home.json(&["deposit", "5"]);
    assert!(!home.store().exists(), "the file was not begun");
    assert!(home.path().join("lloom.witness").exists());
    let diagnosis = home.run(&["doctor"]);
    assert!(diagnosis.stdout.contains("shared with other homes"), "{diagnosis:?}");

    // Another home sends nothing while somebody leads.
    let url = StoreUrl::parse(&server.url("postgres"), tempfile::tempdir().unwrap().keep().as_path()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_ledger, leadership) = runtime.block_on(async {
        let ledger = Ledger::open_read_only(&url).await.unwrap();
        let deployment = *ledger.deployment();
        ledger.close().await;
        let ledger = Ledger::open(&url, &deployment).await.unwrap();
        let leadership = ledger.lead().await.unwrap();
        (ledger, leadership)
    });
    let refused = home.run(&["deposit", "1"]);
    assert_eq!(refused.code, 6, "{refused:?}");
    assert!(refused.stderr.contains("another process sends"), "{refused:?}");
    drop(leadership);
    // Reading needs no turn.
    assert_eq!(home.run(&["earnings"]).code, 0);
}

#[test]
fn a_server_that_is_away_is_named() {
    let home = Home::client("http://127.0.0.1:1");
    configure(&home, "postgres://lloom@localhost/lloom?host=/nowhere");
    let ended = home.run(&["earnings"]);
    assert_eq!(ended.code, 6, "{ended:?}");
    assert!(ended.stderr.contains("postgres://lloom@localhost/lloom"), "{ended:?}");
    assert!(ended.stderr.contains("PGPASSFILE"), "{ended:?}");
}

#[test]
fn a_password_in_the_configuration_is_refused_and_never_repeated() {
    let home = Home::client("http://127.0.0.1:1");
    configure(&home, "postgres://lloom:s3cret@localhost/lloom");
    for command in [&["earnings"][..], &["doctor"], &["doctor", "--json"]] {
        let ended = home.run(command);
        assert_ne!(ended.code, 0, "{ended:?}");
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains("PGPASSWORD") && !said.contains("s3cret"), "{said}");
    }
}

#[test]
fn a_store_moves_into_a_database_and_back() {
    let server = Server::start().unwrap();
    let devnet = Devnet::start();
    let home = Home::client(&devnet.url);
    home.json(&["faucet"]);
    home.json(&["deposit", "5"]);
    let url = server.url("postgres");
    let refused = home.run(&["ledger", "move", "--to", &url.replace("lloom@", "lloom:s3cret@")]);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(!refused.stderr.contains("s3cret"), "{refused:?}");
    let moved = home.run(&["ledger", "move", "--to", &url]);
    assert_eq!(moved.code, 0, "{moved:?}");
    assert!(moved.stdout.contains(&format!("store = \"{url}\"")), "{moved:?}");
    assert!(!home.store().exists() && home.path().join("lloom.db.moved").exists());

    configure(&home, &url);
    home.json(&["deposit", "1"]);
    let back = home.run(&["ledger", "move", "--to", "again.db"]);
    assert_eq!(back.code, 0, "{back:?}");
    let gone = home.run(&["deposit", "1"]);
    assert_eq!(gone.code, 6, "{gone:?}");
    let config = home.path().join("config.toml");
    let text = fs::read_to_string(&config).unwrap().replace(&url, "again.db");
    fs::write(config, text).unwrap();
    home.json(&["deposit", "1"]);
}
