use std::time::Duration;

use alloy::primitives::U256;
use lloom_bindings::{ChannelEscrow, DevToken};
use lloom_ledger::{Ledger, StoreDeployment};
use lloom_receipts::{Keypair, TokenAmount};
use lloom_watcher::{Call, Chain as _, Fate, FeePolicy, Outbox, SendError};

use crate::devnet::{CHAIN_ID, DEPLOYER, Devnet};

#[tokio::test]
async fn a_persons_transactions_go_the_same_way() {
    let devnet = Devnet::start().await;
    let directory = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(
        &directory.path().join("lloom.db"),
        &StoreDeployment::from(&devnet.domain()),
    )
    .await
    .unwrap();
    let key = Keypair::from_secret([0x21; 32]).unwrap();
    let account = key.address();
    let outbox = Outbox::new(
        devnet.chain.clone(),
        ledger.clone(),
        key,
        CHAIN_ID,
        FeePolicy::default(),
        1,
        Duration::from_millis(20),
    );
    let (escrow, token) = (devnet.contracts.escrow, devnet.token);
    let amount = U256::from(500);
    let mint = DevToken::mintCall { to: account, amount };
    devnet.send_call(DEPLOYER, &Call::contract(token, &mint)).await;
    let approve = Call::contract(
        token,
        &DevToken::approveCall {
            spender: escrow,
            value: amount,
        },
    );
    let deposit = Call::contract(escrow, &ChannelEscrow::depositCall { token, amount });

    // Without coins for gas nothing is stored or sent.
    let poor = outbox.send(approve.clone()).await;
    assert!(matches!(poor, Err(SendError::InsufficientGasMoney { .. })), "{poor:?}");
    assert!(ledger.transactions(10).await.unwrap().is_empty());
    devnet.give_coins(account).await;

    // What the contract would refuse is refused before it costs anything.
    let refused = outbox.send(deposit.clone()).await;
    assert!(matches!(refused, Err(SendError::Reverted { .. })), "{refused:?}");
    assert!(ledger.transactions(10).await.unwrap().is_empty());

    assert!(outbox.estimate(&approve).await.unwrap().gas > 21_000);
    let first = outbox.send(approve).await.unwrap();
    let second = outbox.send(deposit).await.unwrap();
    // In this order on purpose: confirming the later one finishes the earlier one on the way.
    for sent in [second, first] {
        match Box::pin(devnet.while_mining(outbox.confirm(&sent))).await.unwrap() {
            Fate::Mined(mined) => assert!(mined.succeeded && mined.hash == sent.hash),
            Fate::Dropped => panic!("nobody else has the key"),
        }
    }
    let balance = devnet.chain.escrow_balance(escrow, account, token).await.unwrap();
    assert_eq!(balance, TokenAmount::new(500));
    let head = devnet.chain.head().await.unwrap();
    let nonce = devnet
        .chain
        .nonce(account, lloom_watcher::NonceAt::Block(head.hash))
        .await;
    assert_eq!(nonce.unwrap(), 2);
}
