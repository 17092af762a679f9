//! A payee removes a node's key: what the node has earned until then is not lost with it.

use std::{fs, time::Duration};

use alloy::primitives::{Address, B256, U256};
use lloom_ledger::{AcceptRequest, ExposurePolicy};
use lloom_receipts::{
    ChannelId, ContentHash, ContentSalt, InferenceRequest, Keypair, ModelHash, PricePerMillion, Prices, RequestNonce,
    TokenAmount, TokenCount, UnixSeconds, Usage, UsageBill, Voucher,
};
use serde_json::Value;

use crate::{
    bad_input::deployment,
    caring::with_store,
    harness::{Devnet, Home, Running, eventually},
};

const PAYER: [u8; 32] = [7; 32];
/// What one answer costs: enough for a watcher to claim it by itself.
const ANSWER: u128 = 2_000_000;

/// An executor with a payee of its own, and a client's channel.
struct Business {
    _devnet: Devnet,
    executor: Home,
    payee: Home,
    channel: String,
}

impl Business {
    fn open() -> Self {
        let devnet = Devnet::start();
        let (executor, payee) = (Home::executor(&devnet.url), Home::client(&devnet.url));
        let config = executor.path().join("config.toml");
        let text = fs::read_to_string(&config).unwrap();
        let text = text.replace("[executor]", &format!("[executor]\npayee = \"{}\"", payee.address()));
        fs::write(&config, text).unwrap();

        let payer = Home::empty(&devnet.url);
        let secret = payer.path().join("secret.hex");
        fs::write(&secret, alloy::hex::encode(PAYER)).unwrap();
        let secret = secret.to_str().unwrap();
        payer.json(&[
            "init",
            "--role",
            "client",
            "--no-mdns",
            "--insecure-fast-kdf",
            "--import",
            secret,
        ]);
        for home in [&executor, &payee, &payer] {
            home.json(&["faucet"]);
        }
        payee.json(&["operator", "add", &executor.address()]);
        let (operator, paid) = (executor.address(), payee.address());
        let open = [
            "channel",
            "open",
            "--executor",
            &operator,
            "--payee",
            &paid,
            "50",
            "--from-wallet",
            "--yes",
        ];
        let opened = payer.json(&open);
        // Makes the store, and follows the chain.
        executor.json(&["claim"]);
        Self {
            _devnet: devnet,
            executor,
            payee,
            channel: opened["channel"].as_str().unwrap().to_owned(),
        }
    }

    /// Serves the `number`th answer, which the payer pays by voucher.
    fn serve(&self, number: u8) {
        let channel: ChannelId = self.channel.parse().unwrap();
        let payer = Keypair::from_secret(PAYER).unwrap();
        let domain = deployment().domain();
        let now = UnixSeconds::from(std::time::SystemTime::now());
        let price = PricePerMillion::new(TokenAmount::new(ANSWER * 1_000_000));
        let request = InferenceRequest {
            channel,
            operator: self.executor.address().parse().unwrap(),
            nonce: RequestNonce::new(U256::from(number)),
            model: ModelHash::of_id("none"),
            prompt_hash: ContentHash::new(B256::ZERO),
            max_input: TokenCount::new(0),
            max_output: TokenCount::new(1),
            prices: Prices {
                input: price,
                output: price,
            },
            deadline: now.plus(Duration::from_secs(60)),
        };
        let voucher = Voucher {
            channel,
            amount: TokenAmount::new(u128::from(number) * ANSWER),
        };
        let usage = Usage {
            input: TokenCount::new(0),
            output: TokenCount::new(1),
        };
        let bill = UsageBill::for_request(&request, usage, ContentHash::new(B256::ZERO), now).unwrap();
        let accepted = AcceptRequest {
            request: payer.sign(&domain, request),
            content_salt: ContentSalt::new(B256::ZERO),
            voucher: Some(payer.sign(&domain, voucher)),
            reserve: TokenAmount::new(ANSWER),
            exposure: ExposurePolicy::default(),
            now,
        };
        with_store(&self.executor, async |ledger| {
            ledger.accept_request(accepted).await.unwrap();
            ledger.commit_bill(bill).await.unwrap();
        });
    }

    fn dismiss(&self) {
        let removed = self.payee.json(&["operator", "remove", &self.executor.address()]);
        assert_eq!(removed["status"], "retired");
    }

    /// How many answers the payee has been paid for.
    fn paid_answers(&self) -> u128 {
        let shown = self.payee.json(&["balance"]);
        let wallet: u128 = shown["wallet"].as_str().unwrap().parse().unwrap();
        // Beyond whole thousands, which are the faucet's.
        wallet % 1_000_000_000 / ANSWER
    }

    fn paid(&self, answers: u128) {
        eventually("the claim", || (self.paid_answers() == answers).then_some(()));
    }
}

#[test]
fn a_removed_operator_claims_what_vouchers_cover() {
    let business = Business::open();
    business.serve(1);
    business.dismiss();
    let executor = &business.executor;

    let planned = executor.run(&["claim", "--dry-run"]);
    assert_eq!(planned.code, 0, "{planned:?}");
    for words in ["has removed", "What vouchers cover", "lloomctl operator add 0x"] {
        assert!(planned.stderr.contains(words), "'{words}' is missing: {planned:?}");
    }
    assert_eq!(business.paid_answers(), 0);
    let claimed = executor.json(&["claim"]);
    assert_eq!(claimed["transactions"][0]["by"], "vouchers", "{claimed}");
    assert_eq!(business.paid_answers(), 1);

    let refused = executor.run(&["channel", "close", &business.channel, "--yes", "--json"]);
    assert!(
        refused.failure()["message"].as_str().unwrap().contains("has removed"),
        "{refused:?}"
    );
}

/// Starts `command`, which has to watch for a payee that doesn't name it, and serve nothing.
fn watch(executor: &Home, command: &[&str]) -> Running {
    let mut watching = Running::start(executor.command(&[command, &["--json"]].concat()));
    let ready: Value = watching.json();
    assert_eq!(
        (&ready["ready"], &ready["named"]),
        (&true.into(), &false.into()),
        "{ready}"
    );
    assert!(ready["models"].is_null(), "{ready}");
    watching
}

#[test]
fn a_removed_operator_watches_and_claims_by_itself() {
    let business = Business::open();
    business.serve(1);
    business.dismiss();
    let watching = watch(&business.executor, &["watch"]);
    business.paid(1);
    let refused = business
        .executor
        .run(&["channel", "close", &business.channel, "--yes", "--json"]);
    let message = refused.failure()["message"].to_string();
    assert!(message.contains("does not name this watcher's key"), "{refused:?}");
    assert_eq!(watching.terminate(), 0);

    // A supervisor starts the node again and again: it claims, too.
    business.serve(2);
    let watching = watch(&business.executor, &["node", "run"]);
    business.paid(2);
    // Named again, it needs no restart to close.
    business.payee.json(&["operator", "add", &business.executor.address()]);
    business
        .executor
        .json(&["channel", "close", &business.channel, "--yes"]);
    assert_eq!(watching.terminate(), 0);
}

/// Nobody owes anything to a node that nobody has named yet.
#[test]
fn a_node_that_was_never_named_is_told_so() {
    let devnet = Devnet::start();
    let executor = Home::executor(&devnet.url);
    let config = executor.path().join("config.toml");
    let cold = Address::repeat_byte(0xc0);
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace("[executor]", &format!("[executor]\npayee = \"{cold}\"")),
    )
    .unwrap();
    let refused = executor.run(&["node", "run", "--json"]).failure();
    assert!(
        refused["message"].as_str().unwrap().contains("has not named"),
        "{refused}"
    );
    let hints = refused["hints"].to_string();
    assert!(
        hints.contains("operator add") && hints.contains("lloomctl watch"),
        "{hints}"
    );
}
