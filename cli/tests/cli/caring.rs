//! Looking after the store: backups, and putting them back.

use std::fs;

use alloy::primitives::{Address, B256, U256};
use lloom_ledger::{
    AcceptRequest, Block, ChainEvent, ChainEventKind, EventPosition, ExposurePolicy, Ledger, ObligationPolicy,
    StoreDeployment,
};
use lloom_receipts::{
    BlockNumber, ChannelId, ChannelParameters, ContentHash, ContentSalt, InferenceRequest, Keypair, ModelHash,
    PricePerMillion, Prices, Receipt, ReceiptHead, RequestNonce, Signed, TokenAmount, TokenCount, UnixSeconds, Usage,
    UsageBill, Verified, Voucher,
};

use crate::harness::{Ended, Home};

const NOWHERE: &str = "http://127.0.0.1:1";
/// When everything happened: long ago.
const THEN: UnixSeconds = UnixSeconds::new(1_700_000_000);

fn deployment() -> StoreDeployment {
    crate::bad_input::deployment()
}

pub fn key(byte: u8) -> Keypair {
    Keypair::from_secret([byte; 32]).unwrap()
}

fn block(number: u64) -> Block {
    let hash = |number: u64| B256::from(U256::from(number + 1));
    Block {
        number: BlockNumber::new(number),
        hash: hash(number),
        parent: hash(number.wrapping_sub(1)),
        timestamp: THEN,
    }
}

async fn mine(ledger: &Ledger, number: u64, kinds: Vec<ChainEventKind>) {
    let events = kinds.into_iter().zip(0..).map(|(kind, log)| ChainEvent {
        block: BlockNumber::new(number),
        block_hash: block(number).hash,
        position: EventPosition::of_log(log),
        transaction: B256::repeat_byte(9),
        kind,
    });
    let events = events.collect();
    ledger
        .apply_blocks(
            vec![block(number)],
            events,
            BlockNumber::new(number),
            ObligationPolicy::default(),
        )
        .await
        .unwrap();
}

/// A channel that this home serves.
pub struct Served {
    payer: Keypair,
    operator: Keypair,
    parameters: ChannelParameters,
    head: ReceiptHead,
}

impl Served {
    /// The `number`th, opened in the block of that number with a deposit of 1 LDEV.
    pub async fn open(home: &Home, ledger: &Ledger, number: u8) -> Self {
        Self::open_in(home, ledger, number, lloom_bindings::dev_token_address()).await
    }

    /// The same in units of another token.
    pub async fn open_in(home: &Home, ledger: &Ledger, number: u8, token: Address) -> Self {
        let payer = key(7);
        let parameters = ChannelParameters {
            payer: payer.address(),
            payee: home.address().parse().unwrap(),
            token,
            salt: B256::repeat_byte(number),
            authorized_signer: Address::ZERO,
        };
        let channel = parameters.id(&deployment().domain());
        let opened = ChainEventKind::ChannelOpened {
            channel,
            parameters,
            deposit: TokenAmount::new(1_000_000),
            refunds_to_balance: true,
        };
        mine(ledger, number.into(), vec![opened]).await;
        Self {
            payer,
            operator: key(8),
            parameters,
            head: ReceiptHead::empty(channel),
        }
    }

    /// The channel's id.
    pub fn channel(&self) -> ChannelId {
        self.head.channel
    }

    fn request(&self, nonce: u64) -> Signed<InferenceRequest, Verified> {
        let price = PricePerMillion::new(TokenAmount::new(1_000_000));
        let request = InferenceRequest {
            channel: self.head.channel,
            operator: self.operator.address(),
            nonce: RequestNonce::new(U256::from(nonce)),
            model: ModelHash::of_id("none"),
            prompt_hash: ContentHash::new(B256::ZERO),
            max_input: TokenCount::new(1_000),
            max_output: TokenCount::new(10_000),
            prices: Prices {
                input: price,
                output: price,
            },
            deadline: THEN.plus(std::time::Duration::from_secs(60)),
        };
        self.payer.sign(&deployment().domain(), request)
    }

    /// Takes a request on.
    async fn accept(&self, ledger: &Ledger, nonce: u64, cumulative: u128) {
        let voucher = Voucher {
            channel: self.head.channel,
            amount: TokenAmount::new(cumulative),
        };
        let accepted = AcceptRequest {
            request: self.request(nonce),
            content_salt: ContentSalt::new(B256::ZERO),
            voucher: Some(self.payer.sign(&deployment().domain(), voucher)),
            reserve: TokenAmount::new(100),
            exposure: ExposurePolicy::default(),
            now: THEN,
        };
        ledger.accept_request(accepted).await.unwrap();
    }

    /// Serves `count` requests of 100 tokens each, up to the receipt.
    pub async fn serve(&mut self, ledger: &Ledger, count: u64) {
        let domain = deployment().domain();
        for _ in 0..count {
            let nonce = self.head.sequence + 1;
            self.accept(ledger, nonce, u128::from(nonce) * 100).await;
            let usage = Usage {
                input: TokenCount::new(0),
                output: TokenCount::new(100),
            };
            let bill = UsageBill::for_request(
                self.request(nonce).document(),
                usage,
                ContentHash::new(B256::ZERO),
                THEN,
            )
            .unwrap();
            let committed = ledger.commit_bill(bill).await.unwrap();
            let bill = self.operator.sign(&domain, *committed.bill());
            let receipt = self.payer.sign(&domain, self.head.link(*bill.document()).unwrap());
            self.head = ReceiptHead::at(receipt.document());
            ledger
                .accept_receipt(Receipt::join(receipt, &bill).unwrap(), None)
                .await
                .unwrap();
        }
    }
}

/// Does something to the home's store.
pub fn with_store<F: Future>(home: &Home, work: impl FnOnce(Ledger) -> F) -> F::Output {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let ledger = Ledger::open(&home.store(), &deployment()).await.unwrap();
        let result = work(ledger.clone()).await;
        ledger.close().await;
        result
    })
}

/// A home with an executor's store: three receipts, and a request that is open.
fn executor() -> Home {
    let home = Home::executor(NOWHERE);
    with_store(&home, async |ledger| {
        let mut served = Served::open(&home, &ledger, 1).await;
        served.serve(&ledger, 3).await;
        served.accept(&ledger, 9, 900).await;
    });
    home
}

/// What a person sees, with what differs from run to run replaced.
fn told(home: &Home, arguments: &[&str], ended: &Ended) -> String {
    let place = home.path().to_str().unwrap();
    let text = format!(
        "$ lloomctl {}\n{}{}[exit code {}]\n\n",
        arguments.join(" "),
        ended.stdout,
        ended.stderr,
        ended.code
    );
    let text = text
        .replace(place, "<home>")
        .replace(&std::process::id().to_string(), "<pid>")
        .replace(&deployment().escrow.to_string(), "<escrow>");
    masked(&text)
}

/// Times and sizes vary.
fn masked(text: &str) -> String {
    let digits = |line: &str| line.replace(|letter: char| letter.is_ascii_digit() || letter == '.', "");
    let text: String = text
        .split_inclusive('\n')
        .map(|line| {
            if line.contains(" kB") {
                digits(line)
            } else {
                line.to_owned()
            }
        })
        .collect();
    let words = text.split_inclusive([' ', '\n', ',', '.']).map(|word| {
        let (core, end) = word.split_at(word.trim_end_matches([' ', '\n', ',', '.']).len());
        let date = core.len() == 10 && core.as_bytes()[4] == b'-' && core.as_bytes()[7] == b'-';
        let time = core.len() == 8 && core.as_bytes()[2] == b':' && core.as_bytes()[5] == b':';
        let masked = match core {
            _ if date => "<date>".to_owned(),
            _ if time => "<time>".to_owned(),
            _ if core.starts_with("0x") => "<hex>".to_owned(),
            core => match core.split_once("replaced-") {
                Some((before, _)) => format!("{before}replaced-<seconds>"),
                None => core.to_owned(),
            },
        };
        masked + end
    });
    words.collect()
}

#[test]
fn a_backup_is_made_and_restored() {
    let home = executor();
    let backup = home.path().join("backup.db");
    let backup = backup.to_str().unwrap();
    let mut all = String::new();
    let mut run = |arguments: &[&str], code: i32| {
        let ended = home.run(arguments);
        assert_eq!(ended.code, code, "{ended:?}");
        all.push_str(&told(&home, arguments, &ended));
    };
    run(&["ledger", "backup", backup], 0);
    run(&["ledger", "backup", backup], 1);
    run(&["ledger", "backup", "/nowhere/at/all.db"], 1);
    // One receipt more, which the backup lacks.
    with_store(&home, async |ledger| {
        let channel = ledger.channels(Default::default()).await.unwrap()[0].clone();
        let mut served = Served {
            payer: key(7),
            operator: key(8),
            parameters: channel.parameters,
            head: ledger.head(channel.id).await.unwrap(),
        };
        served.serve(&ledger, 1).await;
        assert_eq!(served.parameters.id(&deployment().domain()), channel.id);
    });
    with_store(&home, async |_| run(&["ledger", "restore", backup], 6));
    run(&["ledger", "restore", "missing.db"], 6);
    run(&["ledger", "restore", backup], 0);
    let text = all;
    insta::assert_snapshot!(text);

    let earnings = home.json(&["earnings"]);
    assert_eq!(earnings["receipts"], 3);
    let doctor = home.run(&["doctor"]);
    assert!(doctor.stdout.contains("it was restored"), "{doctor:?}");
}

#[test]
fn a_backup_put_in_place_by_hand_is_seen_before_it_is_used() {
    let home = executor();
    let backup = home.path().join("backup.db");
    home.json(&["ledger", "backup", backup.to_str().unwrap()]);
    fs::copy(&backup, home.store()).unwrap();
    let doctor = home.run(&["doctor"]);
    assert!(
        doctor.stdout.contains("it is the backup of") && doctor.stdout.contains("put in its place"),
        "{doctor:?}"
    );
    with_store(&home, async |ledger| {
        assert!(ledger.restored_at().await.unwrap().is_some())
    });
}

#[test]
fn a_copy_without_its_lock_file_is_seen_before_it_is_used() {
    let home = executor();
    assert!(!home.run(&["doctor"]).stdout.contains("as a copy is"));
    fs::remove_file(home.path().join("lloom.db.lock")).unwrap();
    let doctor = home.run(&["doctor"]);
    assert!(
        doctor
            .stdout
            .contains("it was put here without its lock file, as a copy is"),
        "{doctor:?}"
    );
    with_store(&home, async |ledger| {
        assert!(ledger.restored_at().await.unwrap().is_some())
    });
    let doctor = home.run(&["doctor"]);
    assert!(doctor.stdout.contains("it was restored"), "{doctor:?}");
}

/// As LloomDown's runbook says.
#[test]
fn a_home_whose_machine_is_gone_is_made_again_from_its_key_its_configuration_and_a_backup() {
    let home = executor();
    let elsewhere = tempfile::tempdir().unwrap();
    let backup = elsewhere.path().join("backup.db");
    let backup = backup.to_str().unwrap();
    home.json(&["ledger", "backup", backup]);
    let made_again = Home::empty(NOWHERE);
    fs::create_dir(made_again.path().join("keystore")).unwrap();
    for file in ["config.toml", "keystore/hot.json"] {
        fs::copy(home.path().join(file), made_again.path().join(file)).unwrap();
    }
    let receipts = |home: &Home| home.json(&["receipts", "list"])["receipts"].as_array().unwrap().len();
    let before = receipts(&home);
    assert!(before > 0);
    drop(home);
    made_again.json(&["ledger", "restore", backup]);
    assert_eq!(made_again.json(&["ledger", "check"])["sound"], true);
    assert_eq!(receipts(&made_again), before);
    let told = made_again.run(&["doctor"]).stdout;
    assert!(told.contains("it was restored"), "{told}");
}

#[test]
fn programs_are_told_what_follows_from_a_restore() {
    let home = executor();
    let backup = home.path().join("backup.db");
    let backup = backup.to_str().unwrap();
    let made = home.json(&["ledger", "backup", backup]);
    assert_eq!((&made["file"], &made["block"]), (&backup.into(), &1.into()));
    let restored = home.json(&["ledger", "restore", backup]);
    assert_eq!(restored["made_at"], made["made_at"]);
    assert_eq!(
        (&restored["waived_requests"], &restored["lost_commits"]),
        (&1.into(), &0.into())
    );
    let kept = restored["kept"].as_str().unwrap();
    assert!(fs::metadata(kept).unwrap().len() > 0);
    let careful = restored["careful_until"].as_u64().unwrap();
    assert_eq!(
        with_store(&home, async |ledger| ledger.restored_at().await.unwrap())
            .unwrap()
            .get()
            + 600,
        careful
    );

    let other = Home::client(NOWHERE);
    let refused = other.run(&["ledger", "restore", backup, "--network", "base-sepolia", "--json"]);
    assert_eq!(refused.failure()["kind"], "store");
    assert!(refused.stderr.contains("belongs to"), "{refused:?}");
    assert!(!other.store().exists());
    // Another key's home takes it only when it is told to, as after the loss of a machine and its key.
    let refused = other.run(&["ledger", "restore", backup, "--json"]);
    assert_eq!(refused.failure()["kind"], "store");
    let owner = home.address().to_lowercase();
    assert!(refused.stderr.to_lowercase().contains(&owner), "{refused:?}");
    assert!(refused.stderr.contains("--foreign"), "{refused:?}");
    assert!(!other.store().exists());
    other.json(&["ledger", "restore", backup, "--foreign"]);
    assert_eq!(
        other.json(&["receipts", "list"])["receipts"].as_array().unwrap().len(),
        3
    );
}

/// A home whose two channels are long over, and a third that is not.
fn old_executor() -> Home {
    let home = Home::executor(NOWHERE);
    with_store(&home, async |ledger| {
        let mut over = Vec::new();
        for number in 1..=3 {
            let mut served = Served::open(&home, &ledger, number).await;
            served.serve(&ledger, u64::from(number) * 2).await;
            if number < 3 {
                over.push(ChainEventKind::Closed {
                    channel: served.head.channel,
                    settled: served.head.amount,
                    refunded: TokenAmount::new(1),
                });
            }
        }
        mine(&ledger, 4, over).await;
    });
    home
}

#[test]
fn a_store_is_looked_through() {
    let home = old_executor();
    let mut all = String::new();
    let mut run = |arguments: &[&str], code: i32| {
        let ended = home.run(arguments);
        assert_eq!(ended.code, code, "{ended:?}");
        all.push_str(&told(&home, arguments, &ended));
    };
    let before = home.content();
    run(&["ledger", "check"], 0);
    assert_eq!(home.content(), before);
    with_store(&home, async |_| run(&["ledger", "check"], 0));
    home.json(&["ledger", "compact"]);
    run(&["ledger", "check"], 0);
    let archive = archived_file(&home);
    let text = fs::read_to_string(&archive).unwrap();
    let line = text.split_once('\n').unwrap().1;
    fs::write(&archive, line).unwrap();
    let ended = home.run(&["ledger", "check"]);
    let date = archive.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(ended.code, 6, "{ended:?}");
    all.push_str(&told(&home, &["ledger", "check"], &ended).replace(&date, "<file>"));
    insta::assert_snapshot!(all);

    let ended = home.run(&["ledger", "check", "--json"]);
    assert_eq!(ended.failure()["message"], "1 thing is wrong");
    let answer: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&answer["sound"], &answer["findings"]), (&false.into(), &1.into()));
    assert!(
        answer["found"][0]["what"].as_str().unwrap().contains("does not extend"),
        "{answer}"
    );
    assert_eq!(Home::client(NOWHERE).run(&["ledger", "check"]).code, 6);
}

/// The one file of the archive.
fn archived_file(home: &Home) -> std::path::PathBuf {
    let mut files = fs::read_dir(home.path().join("archive")).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    file
}

#[test]
fn receipts_move_to_the_archive_and_no_command_shows_less_money() {
    let home = old_executor();
    let mut all = String::new();
    let mut run = |arguments: &[&str], code: i32| {
        let ended = home.run(arguments);
        assert_eq!(ended.code, code, "{ended:?}");
        let date = fs::read_dir(home.path().join("archive"))
            .ok()
            .and_then(|mut files| Some(files.next()?.unwrap().file_name().into_string().unwrap()));
        let text = told(&home, arguments, &ended);
        all.push_str(&date.map_or(text.clone(), |date| text.replace(&date, "<file>")));
    };
    let shown = || home.json(&["earnings"]);
    let before = shown();
    let receipts = home.json(&["receipts", "list"])["receipts"].clone();
    let channels = home.json(&["ledger", "compact", "--dry-run"])["channels"].clone();
    assert!(!home.path().join("archive").exists());
    run(&["ledger", "compact", "--dry-run"], 0);
    run(&["ledger", "compact", "--keep-days", "36000"], 0);
    with_store(&home, async |_| run(&["ledger", "compact"], 6));
    run(&["ledger", "compact", "--no-vacuum"], 0);
    run(&["ledger", "compact"], 0);
    run(&["receipts", "list"], 0);
    let file = archived_file(&home);
    let verified = home.run(&["receipts", "verify", file.to_str().unwrap()]).stdout;
    assert!(
        verified.contains("All 6 receipts are signed by both sides"),
        "{verified}"
    );
    // No chain answers here.
    assert!(
        verified.contains("as the payer asked. Whether the payee has named it"),
        "{verified}"
    );
    let of = channels[1]["channel"].as_str().unwrap().to_owned();
    run(&["receipts", "show", &of, "2"], 8);
    insta::assert_snapshot!(all.replace(&of, "<channel>"));
    assert_eq!(shown(), before);

    // Store and archive together hold what the store held.
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count() + 6, receipts.as_array().unwrap().len());
    assert_eq!(home.json(&["receipts", "show", &of])["sequence"], 4);
    let exported = home.run(&["receipts", "export"]);
    assert_eq!(exported.stdout.lines().count(), 6);
    assert!(
        exported.stderr.contains("6 more, of 2 channels that are over"),
        "{exported:?}"
    );
}

#[test]
fn the_archive_lies_where_it_is_configured() {
    let home = old_executor();
    let elsewhere = tempfile::tempdir().unwrap();
    let path = home.path().join("config.toml");
    let config = fs::read_to_string(&path).unwrap();
    let archive = elsewhere.path().join("kept");
    fs::write(
        &path,
        format!(
            "{config}\n[ledger]\nkeep_days = 36000\narchive = \"{}\"\n",
            archive.display()
        ),
    )
    .unwrap();
    assert_eq!(home.json(&["ledger", "compact"])["channels"], 0);
    assert_eq!(home.json(&["ledger", "compact", "--keep-days", "30"])["channels"], 2);
    assert_eq!(fs::read_dir(archive).unwrap().count(), 1);
    let checked = home.json(&["ledger", "check"]);
    assert_eq!(
        (&checked["archived_receipts"], &checked["sound"]),
        (&6.into(), &true.into())
    );
}

#[test]
fn a_process_that_is_killed_while_it_archives_loses_nothing() {
    use std::{process::Stdio, thread::sleep, time::Duration};
    let home = Home::executor(NOWHERE);
    with_store(&home, async |ledger| {
        let mut over = Vec::new();
        for number in 1..=6 {
            let mut served = Served::open(&home, &ledger, number).await;
            served.serve(&ledger, 40).await;
            over.push(ChainEventKind::Closed {
                channel: served.head.channel,
                settled: served.head.amount,
                refunded: TokenAmount::new(1),
            });
        }
        mine(&ledger, 7, over).await;
    });
    let earned = home.json(&["earnings"]);
    let mut millis = 10;
    loop {
        let mut command = home.command(&["ledger", "compact"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(Duration::from_millis(millis));
        // SIGKILL: nothing of it runs any more.
        child.kill().unwrap();
        let ended = child.wait().unwrap();
        let checked = home.json(&["ledger", "check"]);
        assert_eq!(checked["sound"], true, "{checked}");
        assert_eq!(home.json(&["earnings"]), earned);
        if ended.success() {
            break;
        }
        millis += 15;
    }
    home.json(&["ledger", "compact"]);
    let checked = home.json(&["ledger", "check"]);
    assert_eq!(
        (&checked["archived_receipts"], &checked["receipts"]),
        (&240.into(), &6.into())
    );
    archived_file(&home);
}
