//! The way of the money, when nothing goes wrong.

use std::fs;

use alloy::primitives::Address;
use eyre::{Result, ensure};
use lloom_e2e::{
    Behavior, Buyer, Chain, Ending, Mining, RpcProxy, Seller, StubBackend, answer, prompt_tokens, prompts, wait,
};
use lloom_receipts::TokenAmount;
use serde_json::json;

use crate::shop::{MODEL, Shop};

#[tokio::test]
async fn executor_is_paid_exactly_what_both_signed() -> Result<()> {
    let mut shop = Shop::open().await?;
    let payer = shop.buyer.home.address();
    let before = shop.chain.money.held_by(payer).await?;
    for prompt in ["How deep is the harbour?", "And at low tide, in feet?"] {
        let said = shop.ask(prompt).await?;
        assert_eq!(said["input_tokens"], prompt_tokens(prompt));
        let served = shop.backend.served().pop().expect("the backend was asked");
        assert_eq!(said["output_tokens"], served.completion_tokens);
        assert_eq!(said["text"], served.text.as_str());
    }
    assert_eq!(shop.receipts().await?.len(), 2);
    let paid = shop.settle().await?;
    let channel = shop.channel().await?;
    shop.seller
        .home
        .json(&["channel", "close", &channel.to_string(), "--yes"])
        .await?;
    let after = shop.chain.money.held_by(payer).await?;
    assert_eq!(before.saturating_sub(after), paid);
    assert!(shop.chain.money.channel(channel).await?.finalized);

    let stopped = shop.stop_executor().await?;
    assert_eq!(stopped.code(), Some(0), "{}", stopped.stderr);
    Ok(())
}

#[tokio::test]
async fn what_the_budget_has_no_room_for_opens_no_channel() -> Result<()> {
    let shop = Shop::open().await?;
    let config = shop.buyer.home.path("config.toml");
    let text = fs::read_to_string(&config)?;
    let tight = text.replace("[client]\n", "[client]\nbudget_per_request = \"0.000001\"\n");
    ensure!(tight != text, "{text}");
    fs::write(&config, tight)?;
    let refused = shop.buyer.home.failure(&shop.asking("What does it cost?")).await?;
    ensure!(
        refused.error.to_string().contains("budget_per_request"),
        "{}",
        refused.error
    );
    let opened = shop.buyer.home.json(&["channel", "list"]).await?;
    assert_eq!(opened["channels"], json!([]), "{opened}");
    Ok(())
}

#[tokio::test]
async fn answers_are_counted_right_though_the_backend_tells_no_usage() -> Result<()> {
    let silent = Behavior {
        usage: false,
        ..Behavior::default()
    };
    let shop = Shop::open_with(silent, |_| ()).await?;
    for prompt in ["Three words, please.", "Écris-moi une phrase sur la pluie à Brest."] {
        let said = shop.ask(prompt).await?;
        let served = shop.backend.served().pop().expect("the backend was asked");
        assert_eq!(said["output_tokens"], served.completion_tokens);
        assert_eq!(said["input_tokens"], served.prompt_tokens);
    }
    shop.settle().await?;
    Ok(())
}

#[tokio::test]
async fn receipts_publish_what_was_used() -> Result<()> {
    let shop = Shop::open_with(Behavior::default(), |settings| settings.watching.publish = "receipts").await?;
    shop.ask("How many steps has the lighthouse?").await?;
    shop.settle().await?;
    let channel = shop.channel().await?;
    let published = shop.chain.money.published().await?;
    let published = published.get(&channel.hash()).expect("usage was published");
    let receipts = shop.receipts().await?;
    let newest = receipts.last().expect("there is a receipt").receipt();
    assert_eq!(published.sequence, newest.sequence);
    assert_eq!(published.input_tokens, newest.cumulative_input.get());
    assert_eq!(published.output_tokens, newest.cumulative_output.get());
    assert_eq!(published.amount, newest.cumulative_amount);
    Ok(())
}

#[tokio::test]
async fn many_streams_share_one_channel() -> Result<()> {
    let held = Behavior {
        ending: Ending::HoldAfter(3),
        ..Behavior::default()
    };
    let shop = Shop::open_with(held, |_| ()).await?;
    // The first answer opens the channel.
    shop.backend.set_behavior(Behavior::default());
    shop.ask("Are you open?").await?;
    shop.backend.set_behavior(held);

    let asked: Vec<_> = prompts()?
        .into_iter()
        .filter(|prompt| prompt.max_tokens > 16)
        .take(8)
        .collect();
    let lines = asked
        .iter()
        .map(|prompt| json!({ "id": prompt.id, "prompt": prompt.prompt, "max_tokens": prompt.max_tokens }).to_string());
    let input = shop.buyer.home.path("prompts.jsonl");
    fs::write(&input, lines.collect::<Vec<_>>().join("\n"))?;
    let input = input.display().to_string();
    let batch = [
        "chat",
        "--executor",
        shop.address(),
        "--model",
        MODEL,
        "--input",
        &input,
        "--concurrency",
        "8",
    ];
    let batch = shop.buyer.home.start(&batch)?;
    // All eight run at once before the first goes on.
    shop.backend.holding(8).await?;
    shop.backend.release();
    let finished = batch.finish().await?;
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);

    let answers = finished.answers()?;
    assert_eq!(answers.len(), 8);
    for prompt in &asked {
        let said = answers
            .iter()
            .find(|said| said["id"] == prompt.id.as_str())
            .expect("every prompt is answered");
        let truth = answer(&prompt.prompt, prompt.max_tokens, None);
        assert_eq!(said["text"], truth.concat().as_str());
        assert_eq!(said["output_tokens"], truth.len());
        assert_eq!(said["input_tokens"], prompt_tokens(&prompt.prompt));
    }
    assert_eq!(shop.receipts().await?.len(), 9);
    shop.settle().await?;
    Ok(())
}

#[tokio::test]
async fn executors_are_found_through_a_bootstrap_peer_and_the_cheaper_one_is_chosen() -> Result<()> {
    let chain = Chain::start(Mining::Living).await?;
    let backend = StubBackend::start(&[MODEL], Behavior::default()).await?;
    let dear = Seller::create(&chain, "dear", &backend.base_url(), &[MODEL], |_| ()).await?;
    let known = dear.start().await?;
    let cheap = Seller::create(&chain, "cheap", &backend.base_url(), &[MODEL], |settings| {
        settings.bootstrap = vec![known.address.clone()];
        if let Some(selling) = &mut settings.executor {
            selling.input_price = "0.05".to_owned();
            selling.output_price = "0.10".to_owned();
        }
    })
    .await?;
    let _cheap_node = cheap.start().await?;

    let buyer = Buyer::create(&chain, "client", &[&known.address], "5").await?;
    let offers = lloom_e2e::wait::until("both offers", || async {
        let offers = buyer.home.json(&["models"]).await?;
        let text = offers.to_string().to_lowercase();
        let both = [&dear, &cheap]
            .iter()
            .all(|seller| text.contains(&seller.operator().to_string().to_lowercase()));
        Ok(both.then_some(text))
    })
    .await?;
    assert!(offers.contains(MODEL));

    let said = buyer
        .home
        .json(&["chat", "--model", MODEL, "Who sells the cheapest light?"])
        .await?;
    assert_eq!(
        said["executor"].as_str().map(str::to_lowercase),
        Some(cheap.operator().to_string().to_lowercase())
    );
    assert_eq!(cheap.channels().await?.len(), 1);
    assert!(dear.channels().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_is_left_in_a_channel_comes_back() -> Result<()> {
    let shop = Shop::open().await?;
    let payer = shop.buyer.home.address();
    let before = shop.chain.money.held_by(payer).await?;
    let said = shop.ask("What does the ferry cost?").await?;
    let during = shop.chain.money.held_by(payer).await?;
    assert!(
        before.saturating_sub(during) > TokenAmount::ZERO,
        "the channel's deposit left the balance"
    );
    let channel = shop.channel().await?;
    shop.seller
        .home
        .json(&["channel", "close", &channel.to_string(), "--yes"])
        .await?;
    let after = shop.chain.money.held_by(payer).await?;
    let receipts = shop.receipts().await?;
    let charged = receipts.last().expect("there is a receipt").receipt().cumulative_amount;
    assert_eq!(before.saturating_sub(after), charged, "{said}");
    Ok(())
}

/// The payee is a contract: it can sign nothing and send nothing, and needs to do neither.
#[tokio::test]
async fn an_executor_behind_a_splitter_earns_claims_and_closes_and_all_get_their_shares() -> Result<()> {
    let chain = Chain::start(Mining::Living).await?;
    let backend = StubBackend::start(&[MODEL], Behavior::default()).await?;
    let [validators, treasury] = [Address::repeat_byte(0x7a), Address::repeat_byte(0x7e)];
    let (url, models) = (backend.base_url(), [MODEL]);
    let seller = Seller::create_with_splitter(&chain, "executor", &url, &models, validators, treasury).await?;
    let node = seller.start().await?;
    let buyer = Buyer::create(&chain, "client", &[], "10").await?;

    buyer.chat(&node.address, MODEL, "What does a tide table say?").await?;
    seller.home.json(&["claim"]).await?;
    let claimed = chain.money.held_by(seller.paid_to).await?;
    assert!(!claimed.is_zero());

    buyer.chat(&node.address, MODEL, "And who reads it?").await?;
    let channel = seller.channels().await?[0];
    seller
        .home
        .json(&["channel", "close", &channel.to_string(), "--yes"])
        .await?;
    assert!(chain.money.channel(channel).await?.finalized);
    let earned = chain.money.held_by(seller.paid_to).await?;
    assert!(earned > claimed, "closing paid for the second answer");
    assert_eq!(earned, chain.money.settled(channel).await?);

    // Anybody may release; here the client does.
    let splitter = seller.paid_to.to_string();
    buyer.home.json(&["splitter", "release", &splitter, "--yes"]).await?;
    let share = |basis_points: u128| TokenAmount::new(earned.base_units() * basis_points / 10_000);
    let host = seller.payee.address();
    assert_eq!(chain.money.held_by(host).await?, share(7_000));
    assert_eq!(chain.money.held_by(validators).await?, share(2_000));
    assert_eq!(chain.money.held_by(treasury).await?, share(1_000));
    assert!(
        chain.money.held_by(seller.paid_to).await? <= TokenAmount::new(2),
        "what rounding leaves"
    );

    let stopped = node.process.stop().await?;
    assert_eq!(stopped.code(), Some(0), "{}", stopped.stderr);
    Ok(())
}

#[tokio::test]
async fn operator_that_its_payee_removes_serves_nothing_until_it_is_named_again() -> Result<()> {
    let shop = Shop::open().await?;
    shop.ask("Is the ferry running?").await?;
    let operator = shop.seller.home.address().to_string();
    let named = async |change| {
        let payee = &shop.seller.payee;
        payee.json(&["operator", change, &operator, "--yes"]).await
    };
    named("remove").await?;
    shop.complaint("a word on the payee", |line| {
        line.contains("does not name this node's key").then_some(())
    })
    .await?;
    let refused = shop.buyer.home.failure(&shop.asking("And now?")).await?;
    ensure!(
        refused.error.to_string().contains("does not name it"),
        "{}",
        refused.error
    );

    named("add").await?;
    shop.complaint("another word", |line| line.contains("serving again").then_some(()))
        .await?;
    shop.ask("And on Sundays?").await?;
    assert_eq!(shop.receipts().await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn what_another_command_put_into_a_channel_is_spent() -> Result<()> {
    let shop = Shop::open_with(Behavior::default(), |settings| {
        if let Some(selling) = &mut settings.executor {
            selling.output_price = "20000".to_owned();
        }
    })
    .await?;
    let config = shop.buyer.home.path("config.toml");
    let text = fs::read_to_string(&config)?;
    fs::write(
        &config,
        text.replace("[client]\n", "[client]\nbudget_per_request = \"2\"\n"),
    )?;
    let ask = async || {
        let mut arguments = shop.asking("Is that all?").to_vec();
        arguments.extend(["--max-output-tokens", "16"]);
        shop.buyer.home.json(&arguments).await
    };
    ask().await?;
    let channel = shop.channel().await?;
    let first = TokenAmount::new(shop.chain.money.channel(channel).await?.deposit);
    // Interrupted before it wrote down what it did, a command leaves the store as one of another home does.
    let twin = shop.buyer.home.twin("twin")?;
    twin.json(&["channel", "top-up", &channel.to_string(), "2", "--yes"])
        .await?;
    let spent = async || {
        let receipts = shop.receipts().await?;
        Ok::<_, eyre::Report>(receipts.last().map(|receipt| receipt.receipt().cumulative_amount))
    };
    while spent().await?.is_none_or(|spent| spent <= first) {
        ask().await?;
    }
    assert_eq!(shop.channel().await?, channel, "it needs no other");
    Ok(())
}

/// Whether a block is made for each transaction, and every how many seconds one is made anyway; 0 is never.
async fn mine(shop: &Shop, automine: bool, interval: u64) -> Result<()> {
    let anvil = &shop.chain.anvil;
    anvil.call("evm_setAutomine", json!([automine])).await?;
    anvil.call("evm_setIntervalMining", json!([interval])).await?;
    Ok(())
}

/// How many transactions wait for a block.
async fn waiting(shop: &Shop) -> Result<String> {
    let status = shop.chain.anvil.call("txpool_status", json!([])).await?;
    Ok(status["pending"].as_str().unwrap_or_default().to_owned())
}

/// Starts a command of the buyer that sends a transaction which no block takes, and kills it.
async fn interrupt(shop: &Shop, arguments: &[&str]) -> Result<()> {
    mine(shop, false, 0).await?;
    let process = shop.buyer.home.start(arguments)?;
    wait::until("a transaction to be sent", || async {
        Ok((waiting(shop).await? == "0x1").then_some(()))
    })
    .await?;
    process.kill().await
}

#[tokio::test]
async fn opening_that_was_interrupted_is_not_repeated() -> Result<()> {
    let shop = Shop::open().await?;
    let asking = shop.asking("Is anybody there?");
    interrupt(&shop, &asking).await?;

    let proxy = RpcProxy::start(shop.chain.anvil.url()).await?;
    let again = shop
        .buyer
        .home
        .start_with(&asking, &[("LLOOM_RPC_URL".to_owned(), proxy.url())])?;
    proxy.called("eth_sendRawTransaction", 1).await?;
    // It has looked several times what became of the first one.
    proxy.called_at_all(proxy.all_calls() + 30).await?;
    assert_eq!(waiting(&shop).await?, "0x1");
    mine(&shop, true, 1).await?;
    let answered = again.finish().await?;
    ensure!(answered.code() == Some(0), "{}", answered.stderr);
    assert_eq!(proxy.calls("eth_sendRawTransaction"), 1);
    assert_eq!(shop.receipts().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn whoever_has_nothing_to_send_waits_for_no_block() -> Result<()> {
    let shop = Shop::open().await?;
    shop.ask("Is anybody there?").await?;
    interrupt(&shop, &["withdraw", "1", "--yes"]).await?;
    shop.ask("And now?").await?;
    assert_eq!(waiting(&shop).await?, "0x1", "the withdrawal still waits");
    assert_eq!(shop.receipts().await?.len(), 2);
    Ok(())
}
