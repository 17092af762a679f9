//! What was acknowledged is there after `kill -9`.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use lloom_ledger::{Ledger, StoreUrl};
use lloom_receipts::ReceiptHead;

use crate::world::{Backend, Home, Pair, amount, deployment, mine};

const CHILD: &str = "LLOOM_LEDGER_TEST_STORE";
const HOME: &str = "LLOOM_LEDGER_TEST_HOME";
const ROUND: &str = "LLOOM_LEDGER_TEST_ROUND";
const CHANNELS: u8 = 4;

/// The process that dies: it accepts receipts on several channels at once and prints each once it is acknowledged.
#[test]
fn accepting_child() {
    let Ok(store) = std::env::var(CHILD) else {
        return;
    };
    let round = std::env::var(ROUND).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let home = std::env::var(HOME).unwrap();
        let store = StoreUrl::parse(&store, Path::new(&home)).unwrap();
        let ledger = Ledger::open(&store, &deployment()).await.unwrap();
        let tasks = (1..=CHANNELS).map(|number| tokio::spawn(accept_for_ever(ledger.clone(), number, round)));
        futures::future::join_all(tasks).await;
    });
}

async fn accept_for_ever(ledger: Ledger, number: u8, round: u64) {
    let pair = Pair::new(number, number);
    let channel = pair.channel();
    loop {
        let head = ledger.head(channel).await.unwrap();
        let sequence = head.sequence + 1;
        // Another one than those that died with the processes before.
        let nonce = round << 32 | sequence;
        let cumulative = ledger.account(channel).await.unwrap().spent.base_units() + 10;
        ledger
            .accept_request(pair.accept(nonce, Some(cumulative), 10))
            .await
            .unwrap();
        let bill = ledger.commit_bill(pair.bill(nonce, 10)).await.unwrap();
        ledger
            .accept_receipt(pair.link(&head, *bill.bill()), None)
            .await
            .unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {number} {sequence}").unwrap();
        out.flush().unwrap();
    }
}

async fn every_acknowledged_receipt_survives_kill_9(on: Backend) {
    let home = Home::new(on).await;
    let pairs: Vec<Pair> = (1..=CHANNELS).map(|number| Pair::new(number, number)).collect();
    let ledger = home.open().await;
    mine(&ledger, pairs.iter().map(|pair| pair.opened(1_000_000)).collect()).await;
    ledger.close().await;
    home.resign();

    let mut acknowledged = [0_u64; CHANNELS as usize];
    for (round, kill_after) in [(1, 1), (2, 7), (3, 40)] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "surviving::accepting_child",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(CHILD, home.text())
            .env(HOME, home.directory.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines {
            let line = line.unwrap();
            // The test runner's own words may stand before the first.
            let Some((_, said)) = line.split_once("acknowledged ") else {
                continue;
            };
            let (number, sequence) = said.split_once(' ').unwrap();
            acknowledged[number.parse::<usize>().unwrap() - 1] = sequence.parse().unwrap();
            seen += 1;
            if seen == kill_after {
                // SIGKILL. What it printed before it died is read to the end.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen >= kill_after);

        let ledger = home.open().await;
        for (pair, acknowledged) in pairs.iter().zip(acknowledged) {
            let channel = pair.channel();
            let receipts = ledger.receipts(channel, 0, u32::MAX).await.unwrap();
            let mut head = ReceiptHead::empty(channel);
            for receipt in &receipts {
                head.check_extends(receipt.receipt()).unwrap();
                head = ReceiptHead::at(receipt.receipt());
            }
            assert!(head.sequence >= acknowledged, "{} < {acknowledged}", head.sequence);
            assert_eq!(ledger.head(channel).await.unwrap(), head);
            let account = ledger.account(channel).await.unwrap();
            assert_eq!(account.linked, head.amount);
            assert!(account.authorized >= head.amount && account.billed >= head.amount);
            assert!(account.billed <= amount(head.amount.base_units() + 10));
            // The channel goes on where it was.
            for bill in ledger.unlinked_bills(channel).await.unwrap() {
                ledger
                    .accept_receipt(pair.link(&head, *bill.bill()), None)
                    .await
                    .unwrap();
            }
        }
        for lost in ledger.interrupted_requests().await.unwrap() {
            let request = lost.request.document().hash();
            ledger.waive(request, "nothing was acknowledged".into()).await.unwrap();
        }
        ledger.close().await;
    }
}

on_both_stores!(every_acknowledged_receipt_survives_kill_9);
