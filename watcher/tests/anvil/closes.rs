use lloom_ledger::ServeError;
use lloom_receipts::{ChannelId, TokenAmount, TokenTotal};
use lloom_watcher::{CloseError, HandleError, Publish};

use crate::executor::{DEPOSIT, Executor};

#[tokio::test]
async fn a_close_with_the_last_receipt_publishes_the_usage() {
    let executor = Executor::new().await;
    let running = executor.start(executor.publishing(Publish::ReceiptsOnClose));
    let channels = executor.open_channels(&running, 1..=1).await;
    let channel = &channels[0];
    for tokens in [30, 12] {
        let bill = executor.serve(channel, tokens, 5).await;
        executor.link(channel, bill).await;
    }
    let ordered = running.handle.close_channel(channel.id);
    let report = executor.devnet.while_mining(ordered).await.unwrap();
    assert!(report.mined.succeeded);
    assert_eq!(report.claimed_first, None);
    assert_eq!(report.settled, TokenAmount::new(42));
    assert_eq!(report.forfeited, TokenAmount::ZERO);
    assert_eq!(executor.operator_nonce().await, 1);
    assert_eq!(executor.payee_balance().await, 42);
    assert_eq!(executor.balance(channel.parameters.payer).await, DEPOSIT - 42);
    let published = executor.ledger.published_usage(channel.id).await.unwrap().unwrap();
    assert_eq!(
        (published.input, published.output),
        (TokenTotal::new(14), TokenTotal::new(42))
    );
    assert!(!executor.ledger.channel(channel.id).await.unwrap().unwrap().is_open());
}

#[tokio::test]
async fn what_only_a_voucher_covers_is_claimed_before_the_close() {
    let executor = Executor::new().await;
    let running = executor.start(executor.publishing(Publish::ReceiptsOnClose));
    let channels = executor.open_channels(&running, 1..=1).await;
    let channel = &channels[0];
    let bill = executor.serve(channel, 30, 0).await;
    executor.link(channel, bill).await;
    // The client vanishes before it links this one.
    executor.serve(channel, 12, 100).await;

    let ordered = running.handle.close_channel(channel.id);
    let report = executor.devnet.while_mining(ordered).await.unwrap();
    assert!(report.claimed_first.is_some());
    assert_eq!(report.settled, TokenAmount::new(42));
    assert_eq!(executor.operator_nonce().await, 2);
    assert_eq!(executor.payee_balance().await, 42);
    assert_eq!(executor.balance(channel.parameters.payer).await, DEPOSIT - 42);
    let published = executor.ledger.published_usage(channel.id).await.unwrap().unwrap();
    assert_eq!(published.amount, TokenAmount::new(30), "what both signed");
}

#[tokio::test]
async fn a_close_by_voucher_takes_what_was_billed_and_returns_the_slack() {
    let executor = Executor::new().await;
    let running = executor.start(executor.publishing(Publish::Vouchers));
    let channels = executor.open_channels(&running, 1..=2).await;
    executor.serve(&channels[0], 42, 500).await;
    let ordered = running.handle.close_channel(channels[0].id);
    let report = executor.devnet.while_mining(ordered).await.unwrap();
    assert_eq!(report.settled, TokenAmount::new(42));
    assert_eq!(executor.balance(channels[0].parameters.payer).await, DEPOSIT - 42);

    // Never served on: all of it goes back.
    let ordered = running.handle.close_channel(channels[1].id);
    let report = executor.devnet.while_mining(ordered).await.unwrap();
    assert_eq!(report.settled, TokenAmount::ZERO);
    assert_eq!(executor.balance(channels[1].parameters.payer).await, DEPOSIT);
}

#[tokio::test]
async fn a_close_that_would_forfeit_or_makes_no_sense_is_refused() {
    let executor = Executor::new().await;
    let running = executor.start(executor.publishing(Publish::Vouchers));
    let channels = executor.open_channels(&running, 1..=1).await;
    let channel = &channels[0];
    executor.accept(channel, 100, executor.voucher(channel, 100)).await;
    assert_eq!(
        refusal(&running.handle, channel.id).await,
        CloseError::Busy { channel: channel.id }
    );
    let unknown = ChannelId::new(alloy::primitives::B256::repeat_byte(9));
    assert_eq!(
        refusal(&running.handle, unknown).await,
        CloseError::Unknown { channel: unknown }
    );
    assert_eq!(executor.operator_nonce().await, 0);
}

#[tokio::test]
async fn nothing_is_served_while_the_close_is_under_way() {
    let executor = Executor::new().await;
    let running = executor.start(executor.publishing(Publish::Vouchers));
    let channels = executor.open_channels(&running, 1..=1).await;
    let channel = channels[0].clone();
    executor.serve(&channel, 42, 0).await;
    executor.devnet.set_automine(false).await;
    let handle = running.handle.clone();
    let ordered = tokio::spawn(async move { handle.close_channel(channel.id).await });
    let mut status = running.handle.status();
    status
        .wait_for(|status| status.pending_transactions == 1)
        .await
        .unwrap();
    let refused = executor
        .try_accept(&channels[0], 10, executor.voucher(&channels[0], 52))
        .await;
    assert!(matches!(refused, Err(ServeError::ChannelClosing)), "{refused:?}");
    let report = executor.devnet.while_mining(ordered).await.unwrap().unwrap();
    assert_eq!(report.settled, TokenAmount::new(42));
}

async fn refusal(handle: &lloom_watcher::WatcherHandle, channel: ChannelId) -> CloseError {
    match handle.close_channel(channel).await.unwrap_err() {
        HandleError::Close(error) => error,
        other => panic!("{other}"),
    }
}
