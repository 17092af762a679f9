//! Stores as each released version of the program left them.
//!
//! `make ledger-fixtures` writes those of this version's schema, by the program itself: a story that leaves no table
//! empty, dumped as SQL with the schema in it. One that is committed never changes again, which its hash is there to see.

use std::{fmt::Write as _, fs, path::PathBuf, time::Duration};

use alloy::primitives::{B256, b256, keccak256};
use lloom_ledger::{
    AuthorizationRef, Budget, ChainEventKind, Claimable, Finish, Ledger, Moot, Observation, ObservedOutcome, OpenError,
    Resolution, SCHEMA_VERSION,
};
use lloom_receipts::ReceiptHead;

use crate::{
    beside::{Beside, beside, contents},
    buying::own,
    delegating::{appointment, record, refusal},
    settling::transaction,
    towers::{hand_over, named},
    world::{Backend, Home, NOW, Pair, amount, deployment, key, mine, progress},
};

/// The schemas of which fixtures are committed. The newest is this program's.
const VERSIONS: [u32; 7] = [1, 2, 3, 4, 5, 6, 7];
const _: () = assert!(
    VERSIONS[VERSIONS.len() - 1] == SCHEMA_VERSION,
    "a new schema needs fixtures: `make ledger-fixtures`"
);
/// Their hashes (keccak-256), of each version on SQLite and on PostgreSQL.
const HASHES: [[B256; 2]; VERSIONS.len()] = [
    [
        b256!("b5553bf6d3cb12d7ed8b19d3547299f2783af3720607821d4abf314c7f084f45"),
        b256!("9374a2b7292a73596c5d805a9af20b3df361a1d8c0c6a34d38731b50f3ed73ba"),
    ],
    [
        b256!("5f54c95a04167fa4299a1474d853fb596d0f57764bbaa02904ba763b9fa5b419"),
        b256!("b8db72c7ff07d39aa0cfeb8e2ce5d9d9b856dec5d58194b661ff5199208ef4da"),
    ],
    [
        b256!("ca65882d6d01a470c053bc9c655bdf861162369a45fb6e2a9f8a72666d5bc5f6"),
        b256!("3062f5cdecacf304255f6987cb5ed63df2ec11810dd21df5ff05510970e6387d"),
    ],
    [
        b256!("e901d144c33dda8e6d0c3f212c39ee211fc3f65ff58d0977c4f0b6d9f05d7596"),
        b256!("1820913a8819cf2a92f94a5a5556123e73bc1a229de670bea552ff9e4e83a596"),
    ],
    [
        b256!("ed9ba2eb5f26a2a05c12a26495d77d20f36fd989b4fb0ecfe5ba73d6319e0abf"),
        b256!("cc25f9cb03779a7e54d7826e938a163dde515fcd771ebb17b0310c142f22f806"),
    ],
    [
        b256!("ea39ea4ef00172da1ea9014391ea9596897c458861c55ad8053dcf0da0554218"),
        b256!("d894e3d67aef2a771ed96d39fd7563347e71d2fabc62c09890996e6244df3466"),
    ],
    [
        b256!("0a1725cd1415618eb7b639b4e24cef38f425216023bb9c7811b8451845e0a66c"),
        b256!("f8d336ae0858bb4fb5e1e7236bee18c8a04e959ea31b3c76c65922cc14dd8fdb"),
    ],
];
/// The first schema with what towers keep, and what is kept of towers.
const TOWERS_SINCE: u32 = 2;
/// The first schema with what towers refuse.
const REFUSALS_SINCE: u32 = 7;

/// Tells the test below to write, and where.
const WRITE: &str = "LLOOM_LEDGER_FIXTURES";

fn path(directory: &str, on: Backend, version: u32) -> PathBuf {
    let store = match on {
        Backend::Sqlite => "sqlite",
        Backend::Postgres => "postgres",
    };
    PathBuf::from(directory).join(format!("{version:04}.{store}.sql"))
}

fn committed(on: Backend, version: u32) -> String {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    fs::read_to_string(path(directory, on, version)).unwrap()
}

/// A fixture that was written anew would show only that a version reads what it writes itself.
#[test]
fn what_was_released_is_as_it_was() {
    for (version, hashes) in VERSIONS.into_iter().zip(HASHES) {
        let found = [Backend::Sqlite, Backend::Postgres].map(|on| keccak256(committed(on, version)));
        assert_eq!(found, hashes, "the fixtures of version {version} have changed");
    }
}

fn pairs() -> [Pair; 3] {
    [Pair::new(1, 1), Pair::new(2, 2), Pair::new(3, 3)]
}

/// Something in every table: a channel that is served and settled, one that is closing, and one that is bought on.
pub async fn live(ledger: &Ledger) {
    let [served, closing, bought] = pairs();
    ledger.record_channel(bought.new_channel(900)).await.unwrap();
    mine(
        ledger,
        vec![served.opened(1_000), closing.opened(2_000), bought.opened(900)],
    )
    .await;
    let mut head = ReceiptHead::empty(served.channel());
    for nonce in 1..=3 {
        let covered = u128::from(nonce) * 100;
        ledger
            .accept_request(served.accept(nonce, Some(covered), 100))
            .await
            .unwrap();
        ledger.acknowledge(progress(&served, nonce, 70), None).await.unwrap();
        let bill = *ledger.commit_bill(served.bill(nonce, 80)).await.unwrap().bill();
        let receipt = served.link(&head, bill);
        head = ReceiptHead::at(receipt.receipt());
        ledger.accept_receipt(receipt, None).await.unwrap();
    }
    ledger.accept_request(served.accept(4, Some(400), 50)).await.unwrap();
    ledger.acknowledge(progress(&served, 4, 20), None).await.unwrap();
    ledger
        .accept_request(closing.accept(1, Some(u64::MAX.into()), 5))
        .await
        .unwrap_err();
    ledger.accept_request(closing.accept(1, Some(500), 5)).await.unwrap();
    ledger
        .waive(closing.request(1).document().hash(), "nobody came".into())
        .await
        .unwrap();
    let unusable = AuthorizationRef::Voucher { amount: amount(500) };
    ledger
        .set_unusable(closing.channel(), unusable, "the chain refused it".into())
        .await
        .unwrap();

    let mut head = ReceiptHead::empty(bought.channel());
    for nonce in 1..=2 {
        let covered = u128::from(nonce) * 100;
        ledger
            .begin_request(own(&bought, nonce, Some(covered), 100))
            .await
            .unwrap();
        let receipt = bought.link(&head, bought.bill(nonce, 60));
        head = ReceiptHead::at(receipt.receipt());
        ledger.link(receipt, None, Budget::UNLIMITED, NOW).await.unwrap();
    }
    ledger.confirm_receipt(bought.channel(), 1).await.unwrap();
    ledger
        .withdraw_receipts(bought.channel(), "it holds others".into(), NOW)
        .await
        .unwrap();
    let observation = Observation {
        at: NOW,
        outcome: ObservedOutcome::Completed,
        time_to_first_token: Some(Duration::from_millis(250)),
        tokens_per_second: Some(42.5),
    };
    ledger.observe(bought.operator.address(), observation).await.unwrap();

    let requested = ChainEventKind::CloseRequested {
        channel: closing.channel(),
        requested_at: NOW,
    };
    let settled = ChainEventKind::Settled {
        channel: served.channel(),
        settled: amount(150),
    };
    mine(ledger, vec![requested, settled, named(&served)]).await;
    let first = ledger.record_transaction(transaction(7, 1)).await.unwrap();
    ledger.mark_broadcast(first, NOW).await.unwrap();
    ledger.finish_transaction(first, Finish::Dropped).await.unwrap();
    ledger.record_transaction(transaction(8, 2)).await.unwrap();

    hand_over(ledger, &served, 400, 300).await.unwrap();
    record(ledger, 71, appointment(71, &served, 240)).await;
    let tower = key(71).address();
    ledger.record_tower_fault(tower, "it lied".into(), NOW).await.unwrap();
    ledger.record_refusals(tower, vec![refusal(&served)]).await.unwrap();
}

/// What a program of any version has to find there.
pub async fn assert_lived(ledger: &Ledger) {
    let [served, closing, bought] = pairs();
    let receipts = ledger.receipts(served.channel(), 0, 10).await.unwrap();
    let mut head = ReceiptHead::empty(served.channel());
    for receipt in &receipts {
        head.check_extends(receipt.receipt()).unwrap();
        head = ReceiptHead::at(receipt.receipt());
    }
    assert_eq!((receipts.len(), head.amount), (3, amount(240)));
    assert_eq!(ledger.head(served.channel()).await.unwrap(), head);
    let account = ledger.account(served.channel()).await.unwrap();
    assert_eq!(
        (account.authorized, account.billed, account.spent),
        (amount(400), amount(240), amount(290))
    );
    let interrupted = ledger.interrupted_requests().await.unwrap();
    assert_eq!(interrupted.len(), 1);
    assert_eq!(interrupted[0].acknowledged, Some(progress(&served, 4, 20)));
    let claimable = ledger.claimable_channel(served.channel()).await.unwrap();
    assert_eq!(claimable.as_ref().map(Claimable::unclaimed), Some(amount(90)));
    assert_eq!(claimable.unwrap().voucher, Some(served.voucher(400)));
    let claimable = ledger.claimable_channel(closing.channel()).await.unwrap().unwrap();
    assert!(claimable.voucher.is_none());
    assert_eq!(ledger.obligations().await.unwrap()[0].channel, closing.channel());
    let purchases = ledger.purchases(bought.channel()).await.unwrap();
    assert_eq!((purchases.linked, purchases.authorized), (amount(60), amount(200)));
    assert_eq!(ledger.withdrawn_receipts(bought.channel()).await.unwrap().len(), 1);
    assert_eq!(
        ledger
            .quality(bought.operator.address())
            .await
            .unwrap()
            .tokens_per_second,
        Some(42.5)
    );
    let pending = ledger.pending_transactions().await.unwrap();
    assert_eq!((pending.len(), pending[0].hash), (1, B256::repeat_byte(2)));
    assert_eq!(ledger.cursor().await.unwrap().unwrap().number.get(), 2);
}

/// What a program has to find there of a store of the schema `version`.
async fn assert_towers_lived(ledger: &Ledger, version: u32) {
    let [served, ..] = pairs();
    let held = ledger.held_channel(served.channel()).await.unwrap();
    let appointments = ledger.appointments_of(served.channel()).await.unwrap();
    let towers = ledger.towers().await.unwrap();
    if version < TOWERS_SINCE {
        assert!(held.is_none() && appointments.is_empty() && towers.is_empty());
        return;
    }
    assert_eq!(held.unwrap().claimable.voucher, Some(served.voucher(400)));
    assert_eq!(appointments.len(), 1);
    assert_eq!(towers[0].fault, Some(("it lied".into(), NOW)));
    let refused = ledger.refusals(towers[0].address, None, 10).await.unwrap();
    let kept = (version >= REFUSALS_SINCE).then(|| refusal(&served));
    assert_eq!(refused, Vec::from_iter(kept));
}

/// The whole store as SQL.
async fn dump(on: Backend, beside: &mut Beside) -> String {
    let mut text = String::new();
    let (schema, tables) = match on {
        Backend::Sqlite => {
            let schema = beside
                .texts("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")
                .await;
            let tables = beside
                .texts("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY rowid")
                .await;
            // Tables were replaced by later ones of the same name, so they don't stand in the order of what they refer to.
            writeln!(text, "PRAGMA foreign_keys = OFF;").unwrap();
            for pragma in ["application_id", "user_version"] {
                let value = beside.numbers(&format!("PRAGMA {pragma}")).await[0];
                writeln!(text, "PRAGMA {pragma} = {value};").unwrap();
            }
            (schema.join(";\n") + ";\n", tables)
        }
        Backend::Postgres => {
            // The server knows no text of it; the migrations that made it are part of what was released.
            let migrations = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres");
            let mut scripts: Vec<PathBuf> = fs::read_dir(migrations)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            scripts.retain(|path| path.to_string_lossy().ends_with(".up.sql"));
            scripts.sort();
            let schema = scripts.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
            let tables = beside
                .texts("SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace ORDER BY oid")
                .await;
            (schema, tables)
        }
    };
    text.push_str(&schema);
    for table in tables {
        let rows = match on {
            Backend::Sqlite => {
                let columns = beside
                    .texts(&format!("SELECT name FROM pragma_table_info('{table}')"))
                    .await;
                let quoted: Vec<String> = columns.iter().map(|column| format!("quote({column})")).collect();
                format!("SELECT {} FROM {table} ORDER BY 1", quoted.join(" || ', ' || "))
            }
            Backend::Postgres => {
                let columns = beside
                    .texts(&format!(
                        "SELECT attname::text FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 ORDER BY attnum"
                    ))
                    .await;
                let quoted: Vec<String> = columns
                    .iter()
                    .map(|column| format!("quote_nullable({column}::text)"))
                    .collect();
                format!("SELECT {} FROM {table} ORDER BY 1", quoted.join(" || ', ' || "))
            }
        };
        for row in beside.texts(&rows).await {
            writeln!(text, "INSERT INTO {table} VALUES ({row});").unwrap();
        }
        if on == Backend::Postgres
            && [
                "accounts",
                "bills",
                "vouchers",
                "withdrawn_receipts",
                "observations",
                "transactions",
                "obligations",
            ]
            .contains(&table.as_str())
        {
            writeln!(
                text,
                "SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}));"
            )
            .unwrap();
        }
    }
    text
}

async fn write(on: Backend) {
    let Ok(directory) = std::env::var(WRITE) else {
        return;
    };
    let home = Home::new(on).await;
    let ledger = home.open().await;
    live(&ledger).await;
    assert_lived(&ledger).await;
    let newest = VERSIONS[VERSIONS.len() - 1];
    assert_towers_lived(&ledger, newest).await;
    ledger.close().await;
    home.resign();
    let text = dump(on, &mut beside(&home).await).await;
    fs::write(path(&directory, on, newest), text).unwrap();
}

async fn every_released_store_opens_and_loses_nothing_on_the_way_down_and_up(on: Backend) {
    for version in VERSIONS {
        let home = Home::new(on).await;
        let mut other = beside(&home).await;
        other.run(&committed(on, version)).await;
        if let Some(path) = home.url().path() {
            // It is no copy: its lock file lies beside it.
            fs::write(path.with_extension("db.lock"), "").unwrap();
        }
        let released = contents(&home).await;
        assert!(released.len() > 20, "{released:?}");

        let ledger = home.open().await;
        assert_lived(&ledger).await;
        assert_towers_lived(&ledger, version).await;
        ledger.close().await;
        home.resign();
        let newest = contents(&home).await;
        Ledger::migrate(home.url(), version).await.unwrap();
        assert_eq!(contents(&home).await, released, "down to {version}");
        Ledger::migrate(home.url(), VERSIONS[VERSIONS.len() - 1]).await.unwrap();
        assert_eq!(contents(&home).await, newest, "up from {version}");

        // It is one to work on.
        let ledger = home.open().await;
        assert_lived(&ledger).await;
        assert_towers_lived(&ledger, version).await;
        let obligation = ledger.obligations().await.unwrap()[0].id;
        let moot = Resolution::Moot { reason: Moot::Settled };
        ledger.resolve_obligation(obligation, moot).await.unwrap();
        ledger.record_transaction(transaction(9, 3)).await.unwrap();
        ledger.close().await;
    }
}

async fn the_first_schema_goes_without_a_trace_and_comes_back(on: Backend) {
    let home = Home::new(on).await;
    let ledger = home.open().await;
    live(&ledger).await;
    let refused = Ledger::migrate(home.url(), 0).await.unwrap_err();
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    ledger.close().await;
    home.resign();
    let refused = Ledger::migrate(home.url(), 999).await.unwrap_err();
    assert!(
        matches!(refused, OpenError::NewerSchema { found: 999, .. }),
        "{refused}"
    );
    Ledger::migrate(home.url(), 0).await.unwrap();
    let refused = Ledger::open_read_only(home.url()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Missing { .. }), "{refused}");
    let left = match on {
        Backend::Sqlite => "SELECT count(*) FROM sqlite_schema",
        Backend::Postgres => "SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace",
    };
    assert_eq!(beside(&home).await.numbers(left).await, [0]);
    let ledger = Ledger::open(home.url(), &deployment()).await.unwrap();
    assert_eq!(ledger.cursor().await.unwrap(), None);
    ledger.close().await;
}

on_both_stores!(
    write,
    every_released_store_opens_and_loses_nothing_on_the_way_down_and_up,
    the_first_schema_goes_without_a_trace_and_comes_back
);
