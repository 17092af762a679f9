//! Receipts of channels that are over move to the archive, and nothing that counts changes.

use std::{
    fs,
    future::poll_fn,
    path::{Path, PathBuf},
    pin::pin,
    task::Poll,
    time::Duration,
};

use lloom_ledger::{
    ArchivedReceipt, Budget, ChainEventKind, ClaimBy, Compacted, Ledger, LedgerError, Moot, Outcome, Purpose,
    Resolution, ServeError,
};
use lloom_receipts::{ReceiptHead, TokenAmount, UnixSeconds};

use crate::{
    beside::beside,
    buying::own,
    checking::findings,
    settling::transaction,
    world::{Backend, Home, NOW, Pair, amount, mine, progress},
};

/// A day after everything happened.
const LATER: UnixSeconds = UnixSeconds::new(NOW.get() + 86_400);
const BEFORE: UnixSeconds = UnixSeconds::new(NOW.get() + 3_600);

fn archive(home: &Home) -> PathBuf {
    home.directory.path().join("archive")
}

fn files(home: &Home) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = match fs::read_dir(archive(home)) {
        Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
        Err(_) => Vec::new(),
    };
    files.sort();
    files
}

/// Serves requests of 10 tokens each, from request and voucher to the receipt.
async fn serve(ledger: &Ledger, pair: &Pair, count: u64) {
    let mut head = ledger.head(pair.channel()).await.unwrap();
    for nonce in head.sequence + 1..=head.sequence + count {
        let covered = u128::from(nonce) * 10;
        ledger
            .accept_request(pair.accept(nonce, Some(covered), 10))
            .await
            .unwrap();
        ledger.acknowledge(progress(pair, nonce, 10), None).await.unwrap();
        let bill = *ledger.commit_bill(pair.bill(nonce, 10)).await.unwrap().bill();
        let receipt = pair.link(&head, bill);
        head = ReceiptHead::at(receipt.receipt());
        ledger.accept_receipt(receipt, None).await.unwrap();
    }
}

/// Buys likewise, on a channel that is recorded.
async fn buy(ledger: &Ledger, pair: &Pair, count: u64) {
    let mut head = ReceiptHead::empty(pair.channel());
    for nonce in 1..=count {
        ledger
            .begin_request(own(pair, nonce, Some(u128::from(nonce) * 10), 10))
            .await
            .unwrap();
        let receipt = pair.link(&head, pair.bill(nonce, 10));
        head = ReceiptHead::at(receipt.receipt());
        ledger.link(receipt, None, Budget::UNLIMITED, NOW).await.unwrap();
    }
    ledger.confirm_receipt(pair.channel(), count).await.unwrap();
}

fn closed(pair: &Pair, settled: u128) -> ChainEventKind {
    ChainEventKind::Closed {
        channel: pair.channel(),
        settled: amount(settled),
        refunded: amount(1_000_000 - settled),
    }
}

/// Two channels that are served and one that is bought on: over, but for the first served one.
async fn a_life(on: Backend) -> (Home, Ledger, [Pair; 3]) {
    let pairs = [Pair::new(1, 1), Pair::new(3, 3), Pair::new(2, 2)];
    let home = Home::new(on).await;
    let ledger = home.open().await;
    ledger.record_channel(pairs[2].new_channel(1_000_000)).await.unwrap();
    mine(&ledger, pairs.iter().map(|pair| pair.opened(1_000_000)).collect()).await;
    serve(&ledger, &pairs[0], 3).await;
    serve(&ledger, &pairs[1], 12).await;
    // A bill that nobody linked, a request that was given up, and a voucher beyond everything.
    ledger.accept_request(pairs[1].accept(20, Some(200), 10)).await.unwrap();
    ledger.commit_bill(pairs[1].bill(20, 10)).await.unwrap();
    ledger.accept_request(pairs[1].accept(21, Some(300), 10)).await.unwrap();
    ledger
        .waive(pairs[1].request(21).document().hash(), "nobody came".into())
        .await
        .unwrap();
    buy(&ledger, &pairs[2], 5).await;
    mine(&ledger, vec![closed(&pairs[1], 130), closed(&pairs[2], 50)]).await;
    (home, ledger, pairs)
}

/// Everything that other commands show of the channels.
async fn totals(ledger: &Ledger, pairs: &[Pair]) -> Vec<String> {
    let mut totals = vec![
        format!("{:?}", ledger.earnings(pairs[0].payee).await.unwrap()),
        format!("{:?}", ledger.survey().await.unwrap()),
        format!("{:?}", ledger.interrupted_requests().await.unwrap()),
    ];
    for pair in pairs {
        let channel = pair.channel();
        let volume = ledger.settled_volume(pair.payer.address(), pair.token).await.unwrap();
        totals.push(format!(
            "{:?} {:?} {:?} {:?} {:?} {volume:?} {:?}",
            ledger.account(channel).await.unwrap(),
            ledger.purchases(channel).await.unwrap(),
            ledger.head(channel).await.unwrap(),
            ledger.head_receipt(channel).await.unwrap(),
            ledger.claimable_channel(channel).await.unwrap(),
            ledger.unlinked_bills(channel).await.unwrap(),
        ));
    }
    totals
}

async fn rows(home: &Home, table: &str) -> i64 {
    beside(home)
        .await
        .numbers(&format!("SELECT count(*) FROM {table}"))
        .await[0]
}

async fn assert_sound(ledger: &Ledger, home: &Home, archived_receipts: u64) {
    let (checked, found) = findings(ledger, home).await;
    assert_eq!(found, [""; 0]);
    assert_eq!(checked.archived_receipts, archived_receipts);
}

fn lines(file: &Path) -> Vec<ArchivedReceipt> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// As many receipts as are read at a time: nothing comes after the page that holds the last one.
#[tokio::test]
async fn a_full_last_page_takes_the_vouchers_along() {
    const PAGE: u64 = 100;
    let pair = Pair::new(1, 1);
    let home = Home::new(Backend::Sqlite).await;
    let ledger = home.open().await;
    mine(&ledger, vec![pair.opened(1_000_000)]).await;
    serve(&ledger, &pair, PAGE).await;
    mine(&ledger, vec![closed(&pair, u128::from(PAGE) * 10)]).await;
    let held = rows(&home, "vouchers").await;

    ledger.compact(&archive(&home), BEFORE, LATER).await.unwrap();
    let archived = lines(&files(&home)[0]);
    assert_eq!(archived.len() as u64, PAGE);
    assert_eq!(archived.last().unwrap().vouchers.len() as i64, held);
    ledger.close().await;
}

async fn what_is_over_moves_to_the_archive_and_no_total_changes(on: Backend) {
    let (home, ledger, pairs) = a_life(on).await;
    let before = totals(&ledger, &pairs).await;
    assert_sound(&ledger, &home, 0).await;
    let listed = ledger.compactable(BEFORE).await.unwrap();
    assert_eq!(
        listed
            .iter()
            .map(|found| (found.channel, found.receipts, found.amount))
            .collect::<Vec<_>>(),
        [
            (pairs[1].channel(), 12, amount(120)),
            (pairs[2].channel(), 5, amount(50))
        ]
    );

    let compacted = ledger.compact(&archive(&home), BEFORE, LATER).await.unwrap();
    assert_eq!((compacted.channels, compacted.receipts), (2, 17));
    let file = archive(&home).join("receipts-2027-01-16.jsonl");
    assert_eq!(compacted.files.iter().collect::<Vec<_>>(), [&file]);
    assert_eq!(files(&home), std::slice::from_ref(&file));
    assert_eq!(totals(&ledger, &pairs).await, before);
    assert_sound(&ledger, &home, 17).await;
    // Of those that are over: the newest receipt, and of the vouchers the newest; what was never linked stays.
    assert_eq!(rows(&home, "receipts").await, 3 + 1 + 1);
    assert_eq!(rows(&home, "bills").await, 3 + 2 + 1);
    assert_eq!(rows(&home, "requests").await, 3 + 3 + 1);
    assert_eq!(rows(&home, "vouchers").await, 3 + 1 + 1);

    // The file has all of it, from the first receipt on.
    let archived = lines(&file);
    let vouchers: Vec<usize> = archived
        .iter()
        .map(|line| line.vouchers.len())
        .filter(|count| *count > 0)
        .collect();
    assert_eq!(vouchers, [4, 4], "all that were kept");
    for line in &archived {
        let request = line.request.as_ref().unwrap().signed.document();
        assert_eq!(request.hash(), line.receipt.receipt().bill.request);
    }
    let named = ledger.archived_channels().await.unwrap();
    assert_eq!(named.len(), 2);
    assert!(
        named
            .iter()
            .all(|archived| archived.file == "receipts-2027-01-16.jsonl")
    );

    // Nothing is left to do, today and after a restart.
    assert_eq!(
        ledger.compact(&archive(&home), BEFORE, LATER).await.unwrap(),
        Compacted::default()
    );
    ledger.close().await;
    let ledger = home.open_at(LATER).await;
    assert_eq!(totals(&ledger, &pairs).await, before);
    assert_eq!(
        ledger.compact(&archive(&home), BEFORE, LATER).await.unwrap(),
        Compacted::default()
    );

    // The next channel that is over goes into a file of its own.
    mine(&ledger, vec![closed(&pairs[0], 30)]).await;
    let compacted = ledger.compact(&archive(&home), BEFORE, LATER).await.unwrap();
    assert_eq!((compacted.channels, compacted.receipts, files(&home).len()), (1, 3, 2));
    assert_sound(&ledger, &home, 20).await;
}

async fn an_archived_channel_takes_nothing_more(on: Backend) {
    let (home, ledger, pairs) = a_life(on).await;
    let pair = &pairs[1];
    let old = ledger.receipts(pair.channel(), 1, 1).await.unwrap().remove(0);
    let head = ledger.head(pair.channel()).await.unwrap();
    ledger.compact(&archive(&home), BEFORE, LATER).await.unwrap();
    let before = totals(&ledger, &pairs).await;

    let refused = ledger.accept_receipt(old.clone(), None).await.unwrap_err();
    assert!(
        matches!(&refused, ServeError::DoesNotExtend { head: Some(known) } if known.receipt().sequence == 12),
        "{refused}"
    );
    // A bill that is in the archive is linked once more: it is not taken for one that was lost.
    let again = pair.link(&head, old.receipt().bill);
    let refused = ledger.accept_receipt(again, None).await.unwrap_err();
    assert!(
        matches!(refused, ServeError::Ledger(LedgerError::Archived { .. })),
        "{refused}"
    );
    // Nor is a bill linked that nobody linked before.
    let unlinked = ledger.unlinked_bills(pair.channel()).await.unwrap();
    let late = pair.link(&head, *unlinked[0].bill());
    let refused = ledger.accept_receipt(late, None).await.unwrap_err();
    assert!(
        matches!(refused, ServeError::Ledger(LedgerError::Archived { .. })),
        "{refused}"
    );
    // Nor is a request that was answered.
    let refused = ledger.accept_request(pair.accept(1, None, 10)).await.unwrap_err();
    assert!(matches!(refused, ServeError::UnknownChannel), "{refused}");
    let refused = ledger.commit_bill(pair.bill(1, 9)).await.unwrap_err();
    assert!(matches!(refused, ServeError::UnknownRequest), "{refused}");
    let refused = ledger.accept_voucher(pair.voucher(1_000)).await.unwrap_err();
    assert!(
        matches!(refused, ServeError::Ledger(LedgerError::Archived { .. })),
        "{refused}"
    );
    let bought = &pairs[2];
    ledger.begin_request(own(bought, 9, None, 10)).await.unwrap_err();
    ledger
        .withdraw_receipts(bought.channel(), "no".into(), LATER)
        .await
        .unwrap_err();
    ledger.record_channel(bought.new_channel(1_000_000)).await.unwrap_err();
    assert_eq!(totals(&ledger, &pairs).await, before);
    assert_sound(&ledger, &home, 17).await;
}

async fn what_is_still_needed_stays(on: Backend) {
    let (home, ledger, pairs) = a_life(on).await;
    let listed = async |before| {
        let listed = ledger.compactable(before).await.unwrap();
        listed.into_iter().map(|found| found.channel).collect::<Vec<_>>()
    };
    // Too young: a request's deadline is the last that was heard of them.
    assert!(listed(NOW).await.is_empty());
    assert!(listed(NOW.plus(Duration::from_secs(60))).await.is_empty());
    assert_eq!(listed(BEFORE).await, [pairs[1].channel(), pairs[2].channel()]);
    // A transaction that is under way.
    let claim = lloom_ledger::NewTransaction {
        purpose: Purpose::Claim {
            by: ClaimBy::Vouchers,
            rows: vec![(pairs[1].channel(), amount(1))],
        },
        ..transaction(1, 1)
    };
    let id = ledger.record_transaction(claim).await.unwrap();
    assert_eq!(listed(BEFORE).await, [pairs[2].channel()]);
    ledger
        .finish_transaction(id, lloom_ledger::Finish::Dropped)
        .await
        .unwrap();
    assert_eq!(listed(BEFORE).await.len(), 2);
    // A deadline that nobody has met, and an end that is not confirmed.
    let pair = &pairs[0];
    let requested = ChainEventKind::CloseRequested {
        channel: pair.channel(),
        requested_at: NOW,
    };
    mine(&ledger, vec![requested, closed(pair, 0)]).await;
    assert_eq!(listed(BEFORE).await.len(), 2);
    let obligation = ledger.obligations().await.unwrap()[0].id;
    let moot = Resolution::Moot {
        reason: Moot::NothingEarned,
    };
    ledger.resolve_obligation(obligation, moot).await.unwrap();
    assert_eq!(listed(BEFORE).await.len(), 3);
    let late = Pair::new(4, 4);
    mine(&ledger, vec![late.opened(1_000_000)]).await;
    serve(&ledger, &late, 1).await;
    crate::world::mine_with(&ledger, vec![closed(&late, 10)], false).await;
    assert_eq!(listed(BEFORE).await.len(), 3, "it is over at the newest block alone");
    assert_eq!(
        ledger.compact(&archive(&home), BEFORE, LATER).await.unwrap().channels,
        3
    );
    assert_eq!(rows(&home, "obligations").await, 1);
}

/// Gives `future` up when it is to be polled once more than `polls` times.
async fn give_up_after<F: Future>(polls: u32, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

async fn it_may_end_anywhere_and_goes_on_the_next_time(on: Backend) {
    let (mut polls, mut done) = (0, false);
    while !done {
        let (home, ledger, pairs) = a_life(on).await;
        let before = totals(&ledger, &pairs).await;
        done = give_up_after(polls, ledger.compact(&archive(&home), BEFORE, LATER))
            .await
            .is_some();
        ledger.close().await;

        let ledger = home.open_at(LATER).await;
        assert_eq!(totals(&ledger, &pairs).await, before, "after {polls} polls");
        let (_, found) = findings(&ledger, &home).await;
        assert_eq!(found, [""; 0], "after {polls} polls");
        ledger.compact(&archive(&home), BEFORE, LATER).await.unwrap();
        assert_eq!(totals(&ledger, &pairs).await, before, "after {polls} polls");
        assert_sound(&ledger, &home, 17).await;
        assert_eq!(files(&home).len(), 1, "nothing is archived twice, after {polls} polls");
        assert_eq!(rows(&home, "receipts").await, 5);
        ledger.close().await;
        home.resign();
        polls += match on {
            Backend::Sqlite => 1,
            // Each connection takes its time.
            Backend::Postgres => 4,
        };
    }
    assert!(polls > 10, "{polls}");
}

#[tokio::test]
async fn what_a_killed_process_left_of_a_file_goes() {
    let (home, ledger, _) = a_life(Backend::Sqlite).await;
    fs::create_dir(archive(&home)).unwrap();
    let half = archive(&home).join("receipts-2027-01-16.jsonl.4711.new");
    fs::write(&half, "{\"chain_id\":").unwrap();
    let mine = archive(&home).join("notes.new");
    fs::write(&mine, "somebody's").unwrap();
    ledger.compact(&archive(&home), BEFORE, LATER).await.unwrap();
    assert!(!half.exists() && mine.exists());
    assert_sound(&ledger, &home, 17).await;
}

#[tokio::test]
async fn a_file_of_the_archive_that_was_changed_or_lost_is_found() {
    let (home, ledger, pairs) = a_life(Backend::Sqlite).await;
    ledger.compact(&archive(&home), BEFORE, LATER).await.unwrap();
    let file = files(&home).remove(0);
    let sound = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = sound.lines().collect();
    let raised = {
        let mut line: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
        let bill = &mut line["receipt"]["receipt"]["bill"];
        bill["response_hash"] = format!("0x{}", "11".repeat(32)).into();
        line.to_string()
    };
    let found_in = async |text: &str| {
        fs::write(&file, text).unwrap();
        findings(&ledger, &home).await.1.join("; ")
    };
    assert_eq!(found_in(&sound).await, "");
    let found = found_in(&sound[..sound.len() / 2]).await;
    assert!(found.contains("it is no receipt"), "{found}");
    let found = found_in(&(lines[1..].join("\n") + "\n")).await;
    assert!(
        found.contains("line 1") && found.contains("does not extend the head"),
        "{found}"
    );
    let without_last = [&lines[..11], &lines[12..]].concat().join("\n") + "\n";
    let found = found_in(&without_last).await;
    assert!(
        found.contains("end with 11") && found.contains("with 12 in its account"),
        "{found}"
    );
    let found = found_in(&[&[raised.as_str()], &lines[1..]].concat().join("\n")).await;
    assert!(found.contains("line 2") || found.contains("wrong"), "{found}");
    fs::remove_file(&file).unwrap();
    let found = findings(&ledger, &home).await.1.join("; ");
    assert!(
        found.contains("which is not in") && found.contains(&pairs[1].channel().to_string()),
        "{found}"
    );
}

#[tokio::test]
async fn nothing_goes_that_can_not_be_verified() {
    let (home, ledger, pairs) = a_life(Backend::Sqlite).await;
    ledger.close().await;
    beside(&home)
        .await
        .run("UPDATE receipts SET payer_signature = bill_signature WHERE bill = 5")
        .await;
    let ledger = home.open_at(LATER).await;
    let before = rows(&home, "receipts").await;
    ledger.compact(&archive(&home), BEFORE, LATER).await.unwrap_err();
    assert!(files(&home).is_empty());
    assert_eq!(rows(&home, "receipts").await, before);
    assert_eq!(ledger.archived_channels().await.unwrap(), []);
    assert_eq!(
        ledger.account(pairs[1].channel()).await.unwrap().billed,
        TokenAmount::new(130)
    );
}

#[tokio::test]
async fn space_is_given_back() {
    let (home, ledger, pairs) = a_life(Backend::Sqlite).await;
    serve(&ledger, &pairs[0], 400).await;
    mine(&ledger, vec![closed(&pairs[0], 4_030)]).await;
    ledger.compact(&archive(&home), BEFORE, LATER).await.unwrap();
    let refused = Ledger::give_back_space(&home.url()).await.unwrap_err();
    assert!(matches!(refused, lloom_ledger::OpenError::Locked { .. }), "{refused}");
    let totals_before = totals(&ledger, &pairs).await;
    ledger.close().await;
    let (before, after) = Ledger::give_back_space(&home.url()).await.unwrap().unwrap();
    assert!(after * 2 < before, "{before} {after}");
    assert_eq!(fs::metadata(home.path()).unwrap().len(), after);
    let ledger = home.open_at(LATER).await;
    assert_eq!(ledger.restored_at().await.unwrap(), None);
    assert_eq!(totals(&ledger, &pairs).await, totals_before);
    assert_eq!(
        ledger
            .accept_receipt(ledger.head_receipt(pairs[0].channel()).await.unwrap().unwrap(), None)
            .await
            .unwrap(),
        Outcome::AlreadyKnown
    );
}

on_both_stores!(
    what_is_over_moves_to_the_archive_and_no_total_changes,
    an_archived_channel_takes_nothing_more,
    what_is_still_needed_stays,
    it_may_end_anywhere_and_goes_on_the_next_time
);
