//! Towers: others' watchers, which claim when an executor can't.

use alloy::primitives::{Address, U256};
use eyre::{Result, ensure, eyre};
use lloom_e2e::{Behavior, Chain, Mining, Node, Tower, wait};
use lloom_ledger::{ChannelFilter, ValueAtRisk};
use lloom_node::{
    Network, NetworkConfig, NetworkHandle,
    network::NetworkName,
    tower::{DelegationAnswer, Tower as Service, TowerAnswer, TowerConfig},
};
use lloom_receipts::{Keypair, TokenAmount, UnixSeconds};
use serde_json::Value;

use crate::{
    monitoring::{base_units, shown},
    shop::Shop,
};

/// A shop whose executor knows these towers.
async fn shop_with(chain: Chain, towers: Vec<String>) -> Result<Shop> {
    Shop::open_on(chain, Behavior::default(), |settings| settings.towers = towers).await
}

/// What the executor would lose if it stayed away.
async fn at_risk(shop: &Shop) -> Result<ValueAtRisk> {
    let store = shop.seller.home.store().await?;
    let now = UnixSeconds::from(std::time::SystemTime::now());
    let token = shop.chain.money.token();
    let risk = store.value_at_risk(shop.seller.paid_to, token, now).await?;
    store.close().await;
    Ok(risk)
}

/// Waits until towers have promised to claim everything that was billed.
async fn covered(shop: &Shop) -> Result<TokenAmount> {
    wait::until("towers to cover everything", || async {
        let risk = at_risk(shop).await?;
        Ok((!risk.claimable.is_zero() && risk.uncovered().is_zero()).then_some(risk.claimable))
    })
    .await
}

async fn request_close(shop: &Shop) -> Result<()> {
    let channel = shop.channel().await?.to_string();
    let closing = ["channel", "request-close", &channel, "--yes"];
    shop.buyer.home.json(&closing).await.map(drop)
}

fn tower_named(status: &Value, tower: Address) -> Result<Value> {
    let towers = status["towers"].as_array().cloned().unwrap_or_default();
    let found = towers
        .into_iter()
        .find(|line| line["tower"].as_str().and_then(|text| text.parse().ok()) == Some(tower));
    found.ok_or_else(|| eyre!("{tower} is not in {status}"))
}

async fn stop(node: Node) -> Result<()> {
    let stopped = node.process.stop().await?;
    ensure!(stopped.code() == Some(0), "{}", stopped.stderr);
    Ok(())
}

#[tokio::test]
async fn executor_that_died_finds_its_money_after_its_tower_claimed() -> Result<()> {
    let chain = Chain::start(Mining::Living).await?;
    let mut tower = Tower::create(&chain, "tower", |_| ()).await?;
    let watching = tower.start().await?;
    let mut shop = shop_with(chain, vec![watching.address.clone()]).await?;
    shop.ask("Who stays awake?").await?;
    shop.ask("And when you are gone?").await?;
    let owed = shop
        .receipts()
        .await?
        .last()
        .expect("receipts")
        .receipt()
        .cumulative_amount;
    assert_eq!(covered(&shop).await?, owed);
    let status = shop.seller.home.json(&["tower", "status"]).await?;
    assert_eq!(tower_named(&status, tower.home.address())?["channels"], 1);

    shop.kill_executor().await?;
    request_close(&shop).await?;
    // Whoever runs the tower sees what it is up to.
    let scrape = shown(&watching.monitoring, "lloom_value_at_risk", "LDEV", base_units(owed)).await?;
    assert_eq!(scrape.sample("lloom_held_channels", ""), Some(1.0));
    let left = scrape.sample("lloom_deadline_remaining_seconds", "");
    assert!(left.is_some_and(|left| (3_000.0..=3_600.0).contains(&left)), "{left:?}");
    let channel = shop.channel().await?;
    let holding = tower.home.json(&["tower", "status"]).await?;
    ensure!(
        holding["operators"] == 1 && holding["held"][0]["channel"] == channel.to_string(),
        "{holding}"
    );
    let explained = tower.home.json(&["claim", "--explain", &channel.to_string()]).await?;
    ensure!(
        explained["verdict"] == "held" && explained["value"] == owed.base_units().to_string(),
        "{explained}"
    );
    let diagnosis = tower.home.run(&["doctor"]).await?;
    ensure!(
        diagnosis.stdout.contains("has promised to claim"),
        "{}",
        diagnosis.stdout
    );
    // The executor's chance is over, and it did not come; the grace period is not.
    shop.chain.anvil.pass_time(41 * 60).await?;
    shop.settled(owed).await?;
    shown(&watching.monitoring, "lloom_value_at_risk", "LDEV", 0.0).await?;
    let paid_to = shop.seller.payee.address();
    assert_eq!(shop.chain.money.held_by(paid_to).await?, owed);
    assert_eq!(shop.chain.money.held_by(tower.home.address()).await?, TokenAmount::ZERO);
    let claims = shop.chain.money.settling_transactions().await?;
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].from, tower.home.address());

    // The payer gets the rest, and the executor finds its money when it comes back.
    shop.chain.anvil.pass_time(20 * 60).await?;
    let withdrawing = ["channel", "withdraw", &channel.to_string(), "--yes"];
    shop.buyer.home.json(&withdrawing).await?;
    shop.start_executor().await?;
    let earned = wait::until("the executor to see it", || async {
        let earned = shop.seller.home.json(&["earnings"]).await?;
        Ok((earned["settled"] == owed.base_units().to_string()).then_some(earned))
    })
    .await?;
    assert_eq!(earned["claimable"], "0");
    assert_eq!(shop.chain.money.settlements(channel).await?, [owed]);
    stop(watching).await
}

#[tokio::test]
async fn tower_that_does_not_run_claims_when_it_is_told_to() -> Result<()> {
    let chain = Chain::start(Mining::Living).await?;
    let mut tower = Tower::create(&chain, "tower", |_| ()).await?;
    let watching = tower.start().await?;
    let mut shop = shop_with(chain, vec![watching.address.clone()]).await?;
    shop.ask("Who is left?").await?;
    let owed = covered(&shop).await?;
    shop.kill_executor().await?;
    request_close(&shop).await?;
    stop(watching).await?;

    let refused = tower.home.failure(&["watch"]).await?;
    ensure!(
        refused.error.to_string().contains("`lloomctl watch --tower`"),
        "{}",
        refused.error
    );
    tower.home.json(&["claim"]).await?;
    // The executor has its chance first.
    assert_eq!(shop.chain.money.settling_transactions().await?.len(), 0);
    shop.chain.anvil.pass_time(41 * 60).await?;
    tower.home.json(&["claim"]).await?;
    shop.settled(owed).await?;
    assert_eq!(shop.chain.money.held_by(shop.seller.payee.address()).await?, owed);
    Ok(())
}

#[tokio::test]
async fn executor_that_lives_claims_itself_and_costs_its_tower_nothing() -> Result<()> {
    let chain = Chain::start(Mining::Living).await?;
    let mut tower = Tower::create(&chain, "tower", |_| ()).await?;
    let watching = tower.start().await?;
    let shop = shop_with(chain, vec![watching.address.clone()]).await?;
    shop.ask("Who is first?").await?;
    let owed = covered(&shop).await?;
    request_close(&shop).await?;
    shop.chain.anvil.pass_time(31 * 60).await?;
    shop.settled(owed).await?;
    shop.chain.anvil.pass_time(15 * 60).await?;
    let store = tower.home.store().await?;
    wait::until("the tower to let go of it", || async {
        Ok((store.held_totals().await?.channels == 0).then_some(()))
    })
    .await?;
    store.close().await;
    let claims = shop.chain.money.settling_transactions().await?;
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].from, shop.seller.operator());
    stop(watching).await
}

#[tokio::test]
async fn tower_killed_at_any_moment_holds_all_that_it_has_signed_for() -> Result<()> {
    let chain = Chain::start(Mining::Living).await?;
    let mut tower = Tower::create(&chain, "tower", |_| ()).await?;
    let mut watching = tower.start().await?;
    let mut shop = shop_with(chain, vec![watching.address.clone()]).await?;
    for round in 0..4 {
        shop.ask("More, please.").await?;
        if round == 2 {
            covered(&shop).await?;
        }
        // Between storing and signing, after it, or before either: whatever the moment brings.
        watching.process.kill().await?;
        check_promises(&shop, &tower).await?;
        watching = tower.start().await?;
    }
    let owed = covered(&shop).await?;
    check_promises(&shop, &tower).await?;

    // And what it holds, it defends: also when it was dead while the payer left.
    shop.kill_executor().await?;
    watching.process.kill().await?;
    request_close(&shop).await?;
    shop.chain.anvil.pass_time(50 * 60).await?;
    let watching = tower.start().await?;
    shop.settled(owed).await?;
    stop(watching).await
}

/// Whatever the executor has a tower's signature for, the tower has on its disk.
async fn check_promises(shop: &Shop, tower: &Tower) -> Result<()> {
    let (executor, held) = (shop.seller.home.store().await?, tower.home.store().await?);
    for channel in executor.channels(ChannelFilter::default()).await? {
        for signed in executor.appointments_of(channel.id).await? {
            let promised = signed.appointment.document().claim;
            let claim = held.held_channel(channel.id).await?.map(|held| held.claimable.amount());
            ensure!(claim >= Some(promised), "{promised} is promised, and {claim:?} held");
        }
    }
    executor.close().await;
    held.close().await;
    Ok(())
}

#[tokio::test]
async fn one_living_tower_of_two_is_enough() -> Result<()> {
    let chain = Chain::start(Mining::Living).await?;
    let mut dead = Tower::create(&chain, "dead tower", |_| ()).await?;
    let mut living = Tower::create(&chain, "living tower", |_| ()).await?;
    let (was, watching) = (dead.start().await?, living.start().await?);
    let towers = vec![was.address.clone(), watching.address.clone()];
    was.process.kill().await?;
    let mut shop = shop_with(chain, towers).await?;
    shop.ask("Is one enough?").await?;
    let owed = covered(&shop).await?;

    let listed = shop.seller.home.json(&["tower", "list"]).await?;
    assert_eq!(listed["towers"].as_array().map(Vec::len), Some(2));
    let pinged = shop.seller.home.run(&["tower", "ping"]).await?;
    assert_eq!(pinged.code(), Some(7), "{}{}", pinged.stdout, pinged.stderr);
    let answers = &pinged.answers()?[0];
    assert_eq!(tower_named(answers, dead.home.address())?["ok"], false);
    let answer = tower_named(answers, living.home.address())?;
    assert_eq!(
        (&answer["ok"], &answer["max_channels"]),
        (&true.into(), &1_000.into()),
        "{answer}"
    );
    let living_one = living.home.address().to_string();
    shop.seller.home.json(&["tower", "ping", &living_one]).await?;
    let status = wait::until("the dead tower to be named", || async {
        let status = shop.seller.home.json(&["tower", "status"]).await?;
        let problem = tower_named(&status, dead.home.address())?["problem"].clone();
        Ok(problem.is_string().then_some(status))
    })
    .await?;
    assert_eq!(status["uncovered"], "0");
    assert_eq!(tower_named(&status, living.home.address())?["problem"], Value::Null);

    shop.kill_executor().await?;
    request_close(&shop).await?;
    shop.chain.anvil.pass_time(41 * 60).await?;
    shop.settled(owed).await?;
    stop(watching).await
}

#[tokio::test]
async fn watcher_alone_hands_over_what_the_node_could_not() -> Result<()> {
    let chain = Chain::start(Mining::Living).await?;
    let mut tower = Tower::create(&chain, "tower", |_| ()).await?;
    let watching = tower.start().await?;
    let address = watching.address.clone();
    watching.process.kill().await?;
    let mut shop = shop_with(chain, vec![address]).await?;
    shop.ask("Does anybody hear me?").await?;
    shop.kill_executor().await?;
    assert!(!at_risk(&shop).await?.uncovered().is_zero());
    let tower_again = tower.start().await?;
    let watch = shop.seller.home.start(&["watch"])?;
    let owed = covered(&shop).await?;
    assert_eq!(owed, shop.receipts().await?[0].receipt().cumulative_amount);
    let stopped = watch.stop().await?;
    ensure!(stopped.code() == Some(0), "{}", stopped.stderr);
    stop(tower_again).await
}

#[tokio::test]
async fn tower_without_gas_money_promises_nothing() -> Result<()> {
    let chain = Chain::start(Mining::Living).await?;
    let mut tower = Tower::create(&chain, "poor tower", |_| ()).await?;
    chain.anvil.set_coins(tower.home.address(), U256::from(1)).await?;
    let watching = tower.start().await?;
    let shop = shop_with(chain, vec![watching.address.clone()]).await?;
    shop.ask("Can you afford me?").await?;
    let status = wait::until("its purse to be named", || async {
        let status = shop.seller.home.json(&["tower", "status"]).await?;
        let problem = tower_named(&status, tower.home.address())?["problem"].clone();
        let said = problem.as_str().is_some_and(|problem| problem.contains("no coins"));
        Ok(said.then_some(status))
    })
    .await?;
    assert_eq!(status["covered"], "0");
    let pinged = shop.seller.home.run(&["tower", "ping"]).await?;
    assert_eq!(pinged.code(), Some(7), "{}", pinged.stdout);
    stop(watching).await
}

#[tokio::test]
async fn what_is_too_small_for_a_tower_is_shown_as_uncovered() -> Result<()> {
    let chain = Chain::start(Mining::Living).await?;
    let mut tower = Tower::create(&chain, "proud tower", |settings| {
        if let Some(promising) = &mut settings.tower {
            promising.minimum_value = "1000".to_owned();
        }
    })
    .await?;
    let watching = tower.start().await?;
    let shop = shop_with(chain, vec![watching.address.clone()]).await?;
    shop.ask("Am I too small for you?").await?;
    let owed = shop.receipts().await?[0].receipt().cumulative_amount;
    let pinged = shop.seller.home.json(&["tower", "ping"]).await?;
    assert_eq!(pinged["towers"][0]["minimum_value"], "1000000000");
    let status = shop.seller.home.json(&["tower", "status"]).await?;
    assert_eq!(status["uncovered"], owed.base_units().to_string());
    assert_eq!(status["uncovered_channels"], 1);
    stop(watching).await
}

/// A tower that answers like any other, and signs what it takes on with a key that is not its own.
async fn lying_tower(chain: &Chain) -> Result<(NetworkHandle, String, Address)> {
    let key = Keypair::from_secret([0x66; 32])?;
    let forger = Keypair::from_secret([0x67; 32])?;
    let domain = chain.money.domain();
    let name = NetworkName {
        name: "devnet".to_owned(),
        chain_id: domain.chain_id(),
        settlement: domain.settlement(),
    };
    let mut config = NetworkConfig::new(key.clone(), name);
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse()?];
    let (network, _nothing) = Network::start(config).await?;
    let mut inquiries = network.serve_tower().await?;
    // Its store knows no chain, so what it promises is made up.
    let home = tempfile::tempdir()?;
    let deployment = lloom_ledger::StoreDeployment::from(&domain);
    let ledger = lloom_ledger::Ledger::open(&home.path().join("lloom.db"), &deployment).await?;
    let config = TowerConfig {
        terms: lloom_ledger::TowerTerms {
            token: chain.money.token(),
            minimum_value: TokenAmount::new(1),
            max_fee_per_gas: 1,
            term: std::time::Duration::from_secs(1_000_000),
        },
        quotas: lloom_ledger::TowerQuotas {
            operators: 1,
            channels_per_operator: 1,
            bytes: 1 << 20,
        },
        messages_per_minute: 10_000,
        executors: None,
        grace: std::time::Duration::from_secs(3_600),
    };
    let honest = Service::new(config, ledger, domain, key.clone());
    let (at, tower) = (network.listen_addresses()[0].to_string(), key.address());
    tokio::spawn(async move {
        let _home = home;
        while let Some(inquiry) = inquiries.next().await {
            let now = UnixSeconds::from(std::time::SystemTime::now());
            let question = inquiry.question.clone();
            let operator = inquiry.address;
            let answer = match &question {
                lloom_node::tower::TowerQuestion::Update { delegations, .. } => {
                    let promised = delegations.iter().map(|delegation| {
                        let voucher = delegation.voucher.document();
                        let appointment = lloom_receipts::TowerAppointment {
                            channel: voucher.channel,
                            tower,
                            operator,
                            ceiling: voucher.amount,
                            claim: delegation.claim,
                            minimum_value: TokenAmount::new(1),
                            max_fee_per_gas: 1,
                            taken_at: now,
                            expires_at: now.plus(std::time::Duration::from_secs(1_000_000)),
                        };
                        DelegationAnswer::TakenOn(forger.sign(&domain, appointment).into_unverified())
                    });
                    TowerAnswer::Updated(promised.collect())
                }
                _ => honest.answer(operator, question, now).await,
            };
            inquiry.answer(answer).await;
        }
    });
    Ok((network, at, tower))
}

#[tokio::test]
async fn tower_that_lies_is_named_and_covers_nothing() -> Result<()> {
    let chain = Chain::start(Mining::Living).await?;
    let (network, at, liar) = lying_tower(&chain).await?;
    let shop = shop_with(chain, vec![at]).await?;
    shop.ask("Do you promise?").await?;
    let status = wait::until("the lie to be noticed", || async {
        let status = shop.seller.home.json(&["tower", "status"]).await?;
        let fault = tower_named(&status, liar)?["fault"].clone();
        Ok(fault.is_string().then_some(status))
    })
    .await?;
    let fault = tower_named(&status, liar)?["fault"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(fault.contains("not signed by the tower"), "{fault}");
    assert_eq!(status["covered"], "0");
    let channel = shop.channel().await?.to_string();
    let signed = shop
        .seller
        .home
        .json(&["tower", "status", "--channel", &channel])
        .await?;
    assert_eq!(signed["appointments"].as_array().map(Vec::len), Some(0));
    network.shutdown().await;
    Ok(())
}
