//! What the operator is shown while money is made, and while it is about to be lost.

use std::collections::BTreeMap;

use eyre::{Result, eyre};
use lloom_e2e::wait;
use lloom_receipts::{Decimals, TokenAmount};
use serde_json::json;

use crate::shop::Shop;

/// Every sample of a scrape: its name and labels as they are written, and its value.
#[derive(Debug)]
pub struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    async fn of(monitoring: &str) -> Result<Self> {
        let text = reqwest::get(format!("{monitoring}/metrics")).await?.text().await?;
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Ok(Self(samples.collect()))
    }

    /// The one sample whose name is `name` and whose labels hold `label`.
    pub fn sample(&self, name: &str, label: &str) -> Option<f64> {
        let mut found = self.0.iter().filter(|(sample, _)| {
            let (named, labels) = sample.split_once('{').unwrap_or((sample, ""));
            named == name && labels.contains(label)
        });
        let (_, value) = found.next()?;
        assert!(found.next().is_none(), "more than one {name} with {label}");
        Some(*value)
    }
}

/// Waits until a sample of who is monitored there has a value.
pub async fn shown(monitoring: &str, name: &str, label: &str, expected: f64) -> Result<Scrape> {
    shown_as(monitoring, name, label, &format!("{expected}"), |value| {
        value == expected
    })
    .await
}

/// The same for a value that goes on to grow.
pub async fn shown_at_least(monitoring: &str, name: &str, label: &str, least: f64) -> Result<Scrape> {
    shown_as(monitoring, name, label, &format!("{least} or more"), |value| {
        value >= least
    })
    .await
}

async fn shown_as(
    monitoring: &str,
    name: &str,
    label: &str,
    expected: &str,
    suits: impl Fn(f64) -> bool,
) -> Result<Scrape> {
    wait::until(&format!("{name}{{{label}}} to be {expected}"), || async {
        let scrape = Scrape::of(monitoring).await?;
        Ok(scrape.sample(name, label).is_some_and(&suits).then_some(scrape))
    })
    .await
}

pub fn base_units(amount: TokenAmount) -> f64 {
    amount.base_units() as f64
}

#[tokio::test]
async fn operator_sees_what_is_owed_and_when_it_would_be_lost() -> Result<()> {
    let mut shop = Shop::open().await?;
    shop.ask("What do you owe me?").await?;
    let owed = shop.receipts().await?[0].receipt().cumulative_amount;

    // Earned, and not claimed: nothing is at risk yet.
    let scrape = shown(shop.monitoring(), "lloom_unclaimed_value", "LDEV", base_units(owed)).await?;
    let channel = shop.channel().await?;
    let payer = shop.chain.money.channel(channel).await?.payer;
    for (name, label, expected) in [
        ("lloom_accepted_total", "request", 1.0),
        ("lloom_accepted_total", "receipt", 1.0),
        ("lloom_answers_total", "\"complete\"", 1.0),
        ("lloom_refusals_total", "\"internal\"", 0.0),
        ("lloom_value_at_risk", "decimals=\"6\"", 0.0),
        ("lloom_billed_value", "LDEV", base_units(owed)),
        ("lloom_settled_value", "LDEV", 0.0),
        ("lloom_channels", "open", 1.0),
        ("lloom_payers_owing", "", 1.0),
        ("lloom_payer_unclaimed_value", &payer.to_string(), base_units(owed)),
        ("lloom_deferred_channels", "not_worthwhile", 1.0),
        ("lloom_answers_running", "", 0.0),
    ] {
        assert_eq!(scrape.sample(name, label), Some(expected), "{name} {label}");
    }
    assert!(scrape.sample("lloom_accepted_total", "voucher") > Some(0.0));
    assert!(scrape.sample("lloom_billed_tokens_total", "output") > Some(0.0));
    assert_eq!(
        scrape.sample("lloom_deadline_remaining_seconds", ""),
        None,
        "there is none"
    );

    // And why, in words and by the name that the metric has.
    let id = channel.to_string();
    let plan = shop.seller.home.json(&["claim", "--dry-run"]).await?;
    let brings = format!(
        "the claim would bring {} LDEV, and has to bring ",
        owed.display(Decimals::new(6))
    );
    assert_eq!(plan["claims"], json!([]), "{plan}");
    let waiting = &plan["waiting"][0];
    assert_eq!(
        (&waiting["channel"], &waiting["value"]),
        (&json!(channel), &json!(owed)),
        "{plan}"
    );
    assert!(
        waiting["why"].as_str().is_some_and(|why| why.starts_with(&brings)),
        "{plan}"
    );
    let explained = shop.seller.home.json(&["claim", "--explain", &id]).await?;
    assert_eq!(
        (&explained["verdict"], &explained["reason"], &explained["value"]),
        (&json!("not_yet"), &json!("not_worthwhile"), &json!(owed)),
        "{explained}"
    );
    assert!(
        explained["why"].as_str().is_some_and(|why| why.starts_with(&brings)),
        "{explained}"
    );

    // The payer asks for the rest.
    shop.buyer
        .home
        .json(&["channel", "request-close", &id, "--yes"])
        .await?;
    let scrape = shown(shop.monitoring(), "lloom_value_at_risk", "LDEV", base_units(owed)).await?;
    assert_eq!(scrape.sample("lloom_channels", "closing"), Some(1.0));
    let left = scrape.sample("lloom_deadline_remaining_seconds", "");
    assert!(left.is_some_and(|left| (3_000.0..=3_600.0).contains(&left)), "{left:?}");
    let told = shop.seller.home.run(&["doctor"]).await?;
    assert!(told.stdout.contains("of yours away in 5"), "{}", told.stdout);
    assert!(told.stdout.contains("the node claims it in time"), "{}", told.stdout);

    // Nobody looks after it while the deadline comes near.
    shop.stop_executor().await?;
    shop.chain.anvil.pass_time(2_700).await?;
    let told = shop.seller.home.run(&["doctor"]).await?;
    assert_eq!(told.code(), Some(8), "{}\n{}", told.stdout, told.stderr);
    let diagnosis: serde_json::Value = serde_json::from_str(&told.stdout)?;
    let worst = &diagnosis["checks"][0];
    assert_eq!(
        (&worst["name"], &worst["state"]),
        (&"deadline".into(), &"bad".into()),
        "{diagnosis}"
    );
    assert_eq!(worst["hints"][0], "`lloomctl claim` now", "{diagnosis}");
    let finding = worst["finding"].as_str().unwrap_or_default();
    assert!(finding.contains("of yours away in 1"), "{finding}");
    assert!(told.stdout.contains("nothing runs that would"), "{}", told.stdout);

    // Without a chain, what the store knew when it was open last is told.
    let blind = shop
        .seller
        .home
        .run(&["doctor", "--rpc-url", "http://127.0.0.1:1"])
        .await?;
    assert!(blind.stdout.contains("of yours away in 5"), "{}", blind.stdout);

    // A node that comes back claims whatever it costs, and shows what it cost.
    shop.start_executor().await?;
    shop.settled(owed).await?;
    let scrape = shown(
        shop.monitoring(),
        "lloom_transactions_total",
        "purpose=\"claim\",status=\"confirmed\"",
        1.0,
    )
    .await?;
    assert_eq!(
        scrape.sample("lloom_transactions_total", "purpose=\"claim\",status=\"sent\""),
        Some(1.0)
    );
    let gas = scrape
        .sample("lloom_gas_used_total", "claim")
        .ok_or_else(|| eyre!("no gas"))?;
    assert!((30_000.0..200_000.0).contains(&gas), "{gas}");
    assert!(scrape.sample("lloom_fees_wei_total", "claim") >= Some(gas));
    let scrape = shown(shop.monitoring(), "lloom_value_at_risk", "LDEV", 0.0).await?;
    assert_eq!(scrape.sample("lloom_settled_value", "LDEV"), Some(base_units(owed)));
    assert_eq!(scrape.sample("lloom_payers_owing", ""), Some(0.0));
    Ok(())
}
