use alloy::primitives::{Address, B256, Bytes};
use lloom_ledger::{
    AcceptRequest, AuthorizationRef, ChainEventKind, ClaimBy, ExposurePolicy, Finish, Ledger, Moot, NewTransaction,
    Outcome, Purpose, Resolution, ServeError, SettleError, Tally, TransactionId,
};
use lloom_receipts::{BlockNumber, ChannelId, ReceiptHead, UnixSeconds};

use crate::{
    beside::{beside, no_signature},
    world::{Backend, Home, NOW, Pair, amount, mine, progress, serving},
};

/// That the tallies of all channels are what each channel says by itself; returns how many there are.
async fn assert_tallied(ledger: &Ledger, payee: Address) -> usize {
    let mut tallies = ledger.tallies(payee).await.unwrap();
    tallies.sort_by_key(|tally| tally.channel);
    let mut expected: Vec<Tally> = Vec::new();
    for claimable in ledger.claimable(payee).await.unwrap() {
        let state = claimable.channel.latest.unwrap();
        expected.push(Tally {
            channel: claimable.channel.id,
            payee,
            token: claimable.channel.parameters.token,
            deposit: state.deposit,
            settled: state.settled,
            close_requested_at: state.close_requested_at,
            billed: claimable.billed,
            voucher: claimable.voucher.map(|voucher| voucher.document().amount),
            receipt: claimable.receipt.map(|receipt| receipt.receipt().cumulative_amount),
        });
    }
    expected.sort_by_key(|tally| tally.channel);
    assert_eq!(tallies, expected);
    tallies.len()
}

async fn a_tally_says_what_each_channel_would_say(on: Backend) {
    let [pair, other] = [Pair::new(1, 1), Pair::new(2, 1)];
    let channel = pair.channel();
    let (_home, ledger) = serving(on, &pair, 1_000).await;
    mine(&ledger, vec![other.opened(100)]).await;
    assert_eq!(assert_tallied(&ledger, pair.payee).await, 0, "nothing was served yet");
    ledger.accept_request(other.accept(1, Some(50), 20)).await.unwrap();
    ledger.accept_request(pair.accept(1, Some(100), 90)).await.unwrap();
    assert_eq!(assert_tallied(&ledger, pair.payee).await, 2);
    assert_eq!(assert_tallied(&ledger, Address::ZERO).await, 0);

    ledger.commit_bill(pair.bill(1, 90)).await.unwrap();
    let receipt = pair.link(&ReceiptHead::empty(channel), pair.bill(1, 90));
    let head = ReceiptHead::at(receipt.receipt());
    ledger.accept_receipt(receipt, Some(pair.voucher(300))).await.unwrap();
    ledger.accept_request(pair.accept(2, None, 10)).await.unwrap();
    ledger.commit_bill(pair.bill(2, 80)).await.unwrap();
    ledger
        .accept_receipt(pair.link(&head, pair.bill(2, 80)), None)
        .await
        .unwrap();
    assert_eq!(assert_tallied(&ledger, pair.payee).await, 2);

    for refused in [
        AuthorizationRef::Voucher { amount: amount(300) },
        AuthorizationRef::Receipt { sequence: 2 },
        AuthorizationRef::Receipt { sequence: 1 },
        AuthorizationRef::Voucher { amount: amount(100) },
    ] {
        ledger.set_unusable(channel, refused, "refused".into()).await.unwrap();
        assert_eq!(assert_tallied(&ledger, pair.payee).await, 2, "without {refused:?}");
    }
    ledger.accept_voucher(pair.voucher(301)).await.unwrap();

    let requested_at = NOW;
    mine(
        &ledger,
        vec![
            ChainEventKind::Settled {
                channel,
                settled: amount(150),
            },
            ChainEventKind::CloseRequested { channel, requested_at },
        ],
    )
    .await;
    assert_eq!(assert_tallied(&ledger, pair.payee).await, 2);
    mine(
        &ledger,
        vec![ChainEventKind::Closed {
            channel,
            settled: amount(150),
            refunded: amount(850),
        }],
    )
    .await;
    assert_eq!(
        assert_tallied(&ledger, pair.payee).await,
        1,
        "what is over is no matter of claims"
    );
}

async fn an_authorization_that_the_disk_has_changed_gives_way_to_the_next(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let (home, ledger) = serving(on, &pair, 1_000).await;
    ledger.accept_request(pair.accept(1, Some(100), 100)).await.unwrap();
    ledger.accept_request(pair.accept(2, Some(200), 100)).await.unwrap();
    ledger.commit_bill(pair.bill(1, 80)).await.unwrap();
    let receipt = pair.link(&ReceiptHead::empty(channel), pair.bill(1, 80));
    ledger.accept_receipt(receipt, None).await.unwrap();
    assert!(ledger.unreadable_authorizations(channel).await.unwrap().is_empty());

    let zeros = no_signature(on);
    let newest = "amount = (SELECT max(amount) FROM vouchers)";
    beside(&home)
        .await
        .run(&format!(
            "UPDATE vouchers SET signature = {zeros} WHERE {newest}; UPDATE receipts SET payer_signature = {zeros}"
        ))
        .await;
    let claimable = ledger.claimable_channel(channel).await.unwrap().unwrap();
    assert_eq!((claimable.voucher, claimable.receipt), (None, None));
    let damaged = ledger.unreadable_authorizations(channel).await.unwrap();
    let voucher = AuthorizationRef::Voucher { amount: amount(200) };
    assert_eq!(damaged, [voucher, AuthorizationRef::Receipt { sequence: 1 }]);
    for authorization in damaged {
        ledger
            .set_unusable(channel, authorization, "damaged".into())
            .await
            .unwrap();
    }
    let claimable = ledger.claimable_channel(channel).await.unwrap().unwrap();
    assert_eq!((claimable.voucher, claimable.receipt), (Some(pair.voucher(100)), None));
    assert!(ledger.unreadable_authorizations(channel).await.unwrap().is_empty());
}

async fn a_claim_takes_what_was_billed_and_never_slack(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let (_home, ledger) = serving(on, &pair, 1_000).await;
    assert!(ledger.claimable(pair.payee).await.unwrap().is_empty());
    ledger.accept_request(pair.accept(1, Some(100), 100)).await.unwrap();
    ledger.accept_request(pair.accept(2, Some(200), 100)).await.unwrap();
    ledger.commit_bill(pair.bill(1, 80)).await.unwrap();
    let receipt = pair.link(&ReceiptHead::empty(channel), pair.bill(1, 80));
    ledger.accept_receipt(receipt.clone(), None).await.unwrap();
    ledger.commit_bill(pair.bill(2, 90)).await.unwrap();

    let [claimable] = &ledger.claimable(pair.payee).await.unwrap()[..] else {
        panic!("one channel");
    };
    assert_eq!((claimable.billed, claimable.linked), (amount(170), amount(80)));
    assert_eq!(claimable.voucher, Some(pair.voucher(200)));
    assert_eq!(claimable.receipt, Some(receipt));
    assert_eq!((claimable.amount(), claimable.unclaimed()), (amount(170), amount(170)));

    mine(
        &ledger,
        vec![ChainEventKind::Settled {
            channel,
            settled: amount(150),
        }],
    )
    .await;
    let claimable = ledger.claimable_channel(channel).await.unwrap().unwrap();
    assert_eq!((claimable.amount(), claimable.unclaimed()), (amount(170), amount(20)));
    assert!(ledger.claimable(Address::ZERO).await.unwrap().is_empty());

    let earnings = ledger.earnings(pair.payee).await.unwrap();
    let [earned] = &earnings.channels[..] else {
        panic!("one channel");
    };
    assert_eq!(
        (earned.billed, earned.linked, earned.settled),
        (amount(170), amount(80), amount(150))
    );
    assert_eq!((earned.claimable, earned.receipts), (amount(20), 1));

    mine(
        &ledger,
        vec![ChainEventKind::Closed {
            channel,
            settled: amount(150),
            refunded: amount(850),
        }],
    )
    .await;
    assert!(ledger.claimable(pair.payee).await.unwrap().is_empty());
    assert!(ledger.claimable_channel(channel).await.unwrap().is_some());
    assert_eq!(
        ledger.earnings(pair.payee).await.unwrap().channels[0].claimable,
        amount(0)
    );
}

async fn an_unusable_authorization_falls_back_to_the_next_best(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let (_home, ledger) = serving(on, &pair, 1_000).await;
    ledger.accept_request(pair.accept(1, Some(100), 90)).await.unwrap();
    ledger.commit_bill(pair.bill(1, 90)).await.unwrap();
    let receipt = pair.link(&ReceiptHead::empty(channel), pair.bill(1, 90));
    ledger
        .accept_receipt(receipt.clone(), Some(pair.voucher(300)))
        .await
        .unwrap();
    let newest = AuthorizationRef::Voucher { amount: amount(300) };
    assert_eq!(
        ledger.set_unusable(channel, newest, "refused".into()).await.unwrap(),
        Outcome::Recorded
    );
    assert_eq!(
        ledger.set_unusable(channel, newest, "refused".into()).await.unwrap(),
        Outcome::AlreadyKnown
    );
    assert_eq!(ledger.account(channel).await.unwrap().authorized, amount(100));
    let claimable = ledger.claimable_channel(channel).await.unwrap().unwrap();
    assert_eq!(
        (claimable.voucher, claimable.receipt),
        (Some(pair.voucher(100)), Some(receipt))
    );

    ledger
        .set_unusable(
            channel,
            AuthorizationRef::Voucher { amount: amount(100) },
            "refused".into(),
        )
        .await
        .unwrap();
    assert_eq!(ledger.account(channel).await.unwrap().authorized, amount(90));
    ledger
        .set_unusable(channel, AuthorizationRef::Receipt { sequence: 1 }, "refused".into())
        .await
        .unwrap();
    let claimable = ledger.claimable_channel(channel).await.unwrap().unwrap();
    assert_eq!((claimable.voucher.is_none(), claimable.receipt.is_none()), (true, true));
    assert_eq!(
        (claimable.amount(), ledger.account(channel).await.unwrap().authorized),
        (amount(0), amount(0))
    );
    // The one that was refused is no good a second time; a better one is.
    ledger.accept_voucher(pair.voucher(300)).await.unwrap_err();
    assert_eq!(
        ledger.accept_voucher(pair.voucher(301)).await.unwrap(),
        Outcome::Recorded
    );
    for unknown in [
        AuthorizationRef::Voucher { amount: amount(7) },
        AuthorizationRef::Receipt { sequence: 7 },
    ] {
        let refused = ledger
            .set_unusable(channel, unknown, "refused".into())
            .await
            .unwrap_err();
        assert!(matches!(refused, SettleError::UnknownAuthorization), "{refused}");
    }
}

pub fn transaction(nonce: u64, hash: u8) -> NewTransaction {
    NewTransaction {
        from: Address::repeat_byte(1),
        nonce,
        hash: B256::repeat_byte(hash),
        raw: Bytes::from(vec![hash; 300]),
        purpose: Purpose::Claim {
            by: ClaimBy::Vouchers,
            rows: vec![(Pair::new(1, 1).channel(), amount(u128::MAX))],
        },
        replaces: None,
        max_fee: u128::MAX,
        priority_fee: 1,
        gas_limit: u64::MAX,
        deadline: Some(UnixSeconds::new(9)),
        now: NOW,
    }
}

async fn nothing_is_taken_for_what_a_close_of_ours_leaves_unpaid(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let (_home, ledger) = serving(on, &pair, 1_000).await;
    let on_trust = AcceptRequest {
        exposure: ExposurePolicy {
            start: amount(100),
            per_mille_of_settled: 0,
            maximum: amount(100),
        },
        ..pair.accept(2, None, 60)
    };
    ledger.accept_request(pair.accept(1, Some(50), 50)).await.unwrap();
    ledger.accept_request(on_trust).await.unwrap();
    ledger.commit_bill(pair.bill(1, 40)).await.unwrap();
    ledger.commit_bill(pair.bill(2, 60)).await.unwrap();
    let close = NewTransaction {
        purpose: Purpose::Close {
            channel,
            amount: amount(50),
        },
        ..transaction(1, 1)
    };
    let close = ledger.record_transaction(close).await.unwrap();

    let first = pair.link(&ReceiptHead::empty(channel), pair.bill(1, 40));
    let second = pair.link(&ReceiptHead::at(first.receipt()), pair.bill(2, 60));
    let receive = |receipt, voucher| ledger.accept_receipt(receipt, Some(pair.voucher(voucher)));
    // What it pays may be linked; a voucher beyond that is worth nothing.
    assert_eq!(receive(first.clone(), 100).await.unwrap(), Outcome::Recorded);
    let refused = [
        receive(second.clone(), 100).await.unwrap_err(),
        ledger.accept_voucher(pair.voucher(100)).await.unwrap_err(),
        ledger
            .acknowledge(progress(&pair, 2, 1), Some(pair.voucher(100)))
            .await
            .unwrap_err(),
    ];
    for refused in refused {
        assert!(matches!(refused, ServeError::ChannelClosing), "{refused}");
    }
    assert_eq!(ledger.account(channel).await.unwrap().authorized, amount(50));
    assert_eq!(receive(first, 100).await.unwrap(), Outcome::AlreadyKnown);

    ledger.finish_transaction(close, Finish::Dropped).await.unwrap();
    assert_eq!(receive(second, 100).await.unwrap(), Outcome::Recorded);
}

async fn a_close_of_ours_gives_nothing_up_and_nothing_is_served_behind_it(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let (_home, ledger) = serving(on, &pair, 1_000).await;
    let close = |hash: u8, settled: u128| NewTransaction {
        purpose: Purpose::Close {
            channel,
            amount: amount(settled),
        },
        ..transaction(u64::from(hash), hash)
    };
    ledger.accept_request(pair.accept(1, Some(100), 100)).await.unwrap();
    let refused = ledger.record_transaction(close(1, 0)).await.unwrap_err();
    assert!(matches!(refused, SettleError::BeingServed { .. }), "{refused}");
    ledger.commit_bill(pair.bill(1, 80)).await.unwrap();
    let refused = ledger.record_transaction(close(1, 79)).await.unwrap_err();
    assert!(
        matches!(refused, SettleError::Forfeits { claimable, .. } if claimable == amount(80)),
        "{refused}"
    );
    assert!(ledger.pending_transactions().await.unwrap().is_empty());

    let id = ledger.record_transaction(close(1, 80)).await.unwrap();
    let refused = ledger.accept_request(pair.accept(2, Some(200), 100)).await.unwrap_err();
    assert!(matches!(refused, ServeError::ChannelClosing), "{refused}");
    // What will never be mined closes nothing.
    ledger.finish_transaction(id, Finish::Dropped).await.unwrap();
    ledger.accept_request(pair.accept(2, Some(200), 100)).await.unwrap();
    ledger.commit_bill(pair.bill(2, 20)).await.unwrap();

    // What is settled already is not forfeited by a close with less.
    mine(
        &ledger,
        vec![ChainEventKind::Settled {
            channel,
            settled: amount(100),
        }],
    )
    .await;
    ledger.record_transaction(close(2, 80)).await.unwrap();
}

async fn a_transaction_is_stored_before_it_is_sent_and_until_it_is_final(on: Backend) {
    let home = Home::new(on).await;
    let ledger = home.open().await;
    let from = Address::repeat_byte(1);
    assert_eq!(ledger.highest_nonce(from).await.unwrap(), None);
    let first = ledger.record_transaction(transaction(7, 1)).await.unwrap();
    assert_eq!(ledger.record_transaction(transaction(7, 1)).await.unwrap(), first);
    let replacement = NewTransaction {
        replaces: Some(first),
        ..transaction(7, 2)
    };
    let second = ledger.record_transaction(replacement).await.unwrap();
    let third = ledger
        .record_transaction(NewTransaction {
            purpose: Purpose::Other,
            ..transaction(8, 3)
        })
        .await
        .unwrap();
    let refused = ledger
        .record_transaction(NewTransaction {
            replaces: Some(third),
            ..transaction(7, 4)
        })
        .await
        .unwrap_err();
    assert!(
        matches!(refused, SettleError::NoReplacement { replaces } if replaces == third),
        "{refused}"
    );
    ledger.mark_broadcast(first, NOW).await.unwrap();
    ledger.close().await;

    let ledger = home.open().await;
    let pending = ledger.pending_transactions().await.unwrap();
    assert_eq!(
        pending.iter().map(|record| record.id).collect::<Vec<_>>(),
        vec![first, second, third]
    );
    let expected = transaction(7, 1);
    assert_eq!(
        (pending[0].nonce, pending[0].hash, pending[0].raw.clone()),
        (7, expected.hash, expected.raw)
    );
    assert_eq!(
        (pending[0].purpose.clone(), pending[0].broadcast_at),
        (expected.purpose, Some(NOW))
    );
    assert_eq!((pending[0].max_fee, pending[0].gas_limit), (u128::MAX, u64::MAX));
    assert_eq!(pending[1].replaces, Some(first));
    assert_eq!(ledger.highest_nonce(from).await.unwrap(), Some(8));

    let mined = Finish::Mined {
        block: BlockNumber::new(4),
        succeeded: true,
        gas_used: 5,
        gas_price: u128::MAX,
    };
    assert_eq!(
        ledger.finish_transaction(second, mined.clone()).await.unwrap(),
        Outcome::Recorded
    );
    assert_eq!(
        ledger.finish_transaction(second, mined.clone()).await.unwrap(),
        Outcome::AlreadyKnown
    );
    ledger
        .finish_transaction(first, Finish::Replaced { by: second })
        .await
        .unwrap();
    let refused = ledger.finish_transaction(first, mined.clone()).await.unwrap_err();
    let SettleError::FinishedOtherwise { finish, .. } = refused else {
        panic!("{refused}");
    };
    assert_eq!(finish, Finish::Replaced { by: second });
    ledger.finish_transaction(third, Finish::Dropped).await.unwrap();
    assert!(ledger.pending_transactions().await.unwrap().is_empty());
    assert_eq!(ledger.highest_nonce(from).await.unwrap(), Some(7));
    let newest = ledger.transactions(2).await.unwrap();
    assert_eq!(
        newest.iter().map(|record| record.id).collect::<Vec<_>>(),
        vec![third, second]
    );
    assert_eq!(newest[1].finish, Some(mined));

    let other = Home::new(on).await;
    let other = other.open().await;
    let refused = other.mark_broadcast(third, NOW).await.unwrap_err();
    assert!(
        matches!(refused, SettleError::UnknownTransaction { id } if id == third),
        "{refused}"
    );
}

async fn a_transaction_is_found_however_many_came_after_it(on: Backend) {
    let home = Home::new(on).await;
    let ledger = home.open().await;
    let first = ledger.record_transaction(transaction(0, 1)).await.unwrap();
    let later = (1..=300_u64).map(|nonce| {
        ledger.record_transaction(NewTransaction {
            hash: B256::left_padding_from(&nonce.to_be_bytes()),
            ..transaction(nonce, 2)
        })
    });
    futures::future::try_join_all(later).await.unwrap();
    let found = ledger.transaction(first).await.unwrap().unwrap();
    assert_eq!((found.id, found.nonce), (first, 0));
    let newest = ledger.transactions(256).await.unwrap();
    assert!(newest.iter().all(|record| record.id != first));
    let other = Home::new(on).await;
    assert_eq!(other.open().await.transaction(first).await.unwrap(), None);
}

/// Anybody may open channels, ask for their closes, and leave them so.
async fn closes_of_channels_that_were_never_served_are_passed_over(on: Backend) {
    let (served, strange) = (Pair::new(1, 1), Pair::new(2, 2));
    let (_home, ledger) = serving(on, &served, 1_000).await;
    let request = |channel| ChainEventKind::CloseRequested {
        channel,
        requested_at: UnixSeconds::new(100),
    };
    ledger.accept_request(served.accept(1, Some(50), 20)).await.unwrap();
    let to_review = async || -> Vec<ChannelId> {
        let obligations = ledger.obligations_to_review().await.unwrap();
        obligations.iter().map(|obligation| obligation.channel).collect()
    };
    mine(
        &ledger,
        vec![strange.opened(5), request(strange.channel()), request(served.channel())],
    )
    .await;
    assert_eq!(ledger.count_obligations().await.unwrap(), 2);
    assert_eq!(to_review().await, [served.channel()]);

    // Where the final state says how it ended, it ends.
    let closed = ChainEventKind::Closed {
        channel: strange.channel(),
        settled: amount(0),
        refunded: amount(5),
    };
    mine(&ledger, vec![closed]).await;
    let ended = to_review().await;
    assert!(ended.contains(&strange.channel()), "{ended:?}");
    for obligation in ledger.obligations_to_review().await.unwrap() {
        let moot = Resolution::Moot {
            reason: Moot::NothingEarned,
        };
        ledger.resolve_obligation(obligation.id, moot).await.unwrap();
    }
    assert_eq!(
        (ledger.count_obligations().await.unwrap(), to_review().await),
        (0, vec![])
    );

    // A close that a top-up called off does, too.
    let called_off = Pair::new(3, 3);
    mine(&ledger, vec![called_off.opened(5), request(called_off.channel())]).await;
    assert_eq!(to_review().await, []);
    let topped_up = ChainEventKind::ToppedUp {
        channel: called_off.channel(),
        deposit: amount(6),
        close_cancelled: true,
    };
    mine(&ledger, vec![topped_up]).await;
    assert_eq!(to_review().await, [called_off.channel()]);
}

async fn a_requested_close_obliges_until_it_is_resolved(on: Backend) {
    let (pair, later) = (Pair::new(1, 1), Pair::new(2, 2));
    let channel = pair.channel();
    let (home, ledger) = serving(on, &pair, 1_000).await;
    let request = |channel, at| ChainEventKind::CloseRequested {
        channel,
        requested_at: UnixSeconds::new(at),
    };
    mine(
        &ledger,
        vec![later.opened(5), request(later.channel(), 200), request(channel, 100)],
    )
    .await;
    ledger.close().await;
    let ledger = home.open().await;
    let obligations = ledger.obligations().await.unwrap();
    let found: Vec<_> = obligations
        .iter()
        .map(|obligation| (obligation.channel, obligation.deadline.get()))
        .collect();
    assert_eq!(found, vec![(channel, 3_700), (later.channel(), 3_800)]);

    let claimed = Resolution::Claimed {
        transaction: B256::repeat_byte(3),
    };
    let id = obligations[0].id;
    assert_eq!(ledger.resolve_obligation(id, claimed).await.unwrap(), Outcome::Recorded);
    let moot = Resolution::Moot { reason: Moot::Settled };
    assert_eq!(
        ledger.resolve_obligation(id, moot).await.unwrap(),
        Outcome::AlreadyKnown
    );
    assert_eq!(ledger.obligations().await.unwrap().len(), 1);
    assert_eq!(
        ledger.obligations_of(channel).await.unwrap()[0].resolution,
        Some(claimed)
    );

    // Another close is another obligation.
    let cancelled = ChainEventKind::ToppedUp {
        channel,
        deposit: amount(2_000),
        close_cancelled: true,
    };
    mine(&ledger, vec![cancelled, request(channel, 300)]).await;
    assert_eq!(ledger.obligations_of(channel).await.unwrap().len(), 2);
    // And one whose event is rolled back is none.
    ledger.roll_back(BlockNumber::new(2)).await.unwrap();
    assert_eq!(ledger.obligations_of(channel).await.unwrap().len(), 1);
    ledger.roll_back(BlockNumber::new(1)).await.unwrap();
    let refused = ledger.resolve_obligation(id, claimed).await.unwrap_err();
    assert!(matches!(refused, SettleError::UnknownObligation), "{refused}");
}

async fn a_reorg_beyond_what_was_final_reopens_what_was_mined_there(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = serving(on, &pair, 1_000).await;
    mine(&ledger, vec![]).await;
    mine(&ledger, vec![]).await;
    let tip = ledger.cursor().await.unwrap().unwrap().number;
    let mined_in = |block: BlockNumber| Finish::Mined {
        block,
        succeeded: true,
        gas_used: 5,
        gas_price: 6,
    };
    let record = async |nonce: u64, hash: u8, replaces: Option<TransactionId>| {
        let transaction = NewTransaction {
            replaces,
            ..transaction(nonce, hash)
        };
        ledger.record_transaction(transaction).await.unwrap()
    };
    let below = record(1, 1, None).await;
    let original = record(2, 2, None).await;
    let replacement = record(2, 3, Some(original)).await;
    let dropped = record(3, 4, None).await;
    let before = BlockNumber::new(tip.get() - 1);
    ledger.finish_transaction(below, mined_in(before)).await.unwrap();
    ledger
        .finish_transaction(original, Finish::Replaced { by: replacement })
        .await
        .unwrap();
    ledger.finish_transaction(replacement, mined_in(tip)).await.unwrap();
    ledger.finish_transaction(dropped, Finish::Dropped).await.unwrap();

    ledger.roll_back(before).await.unwrap();
    let pending = ledger.pending_transactions().await.unwrap();
    let pending: Vec<_> = pending.iter().map(|record| record.id).collect();
    assert_eq!(pending, [original, replacement]);
    // A stranger's may be mined in their place.
    ledger.finish_transaction(original, Finish::Dropped).await.unwrap();
    ledger.finish_transaction(replacement, Finish::Dropped).await.unwrap();
    assert_eq!(ledger.pending_transactions().await.unwrap(), []);
}

async fn the_last_of_our_transactions_that_settled_a_channel_is_found(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let (_home, ledger) = serving(on, &pair, 1_000).await;
    // An event's transaction has the hash of its place in the block.
    for hash in [0, 1] {
        ledger
            .record_transaction(transaction(u64::from(hash), hash))
            .await
            .unwrap();
    }
    let settled = |total| ChainEventKind::Settled {
        channel,
        settled: amount(total),
    };
    let stranger = |seed| Pair::new(seed, 2).opened(5);
    let by = async |up_to: BlockNumber| {
        let found = ledger.settled_by(channel, up_to).await.unwrap();
        found.map(|record| record.hash)
    };
    let tip = async || ledger.cursor().await.unwrap().unwrap().number;
    let before = tip().await;
    assert_eq!(by(before).await, None, "that it was opened settles nothing");
    mine(&ledger, vec![settled(50)]).await;
    let first = tip().await;
    assert_eq!(by(first).await, Some(B256::repeat_byte(0)));
    assert_eq!(by(before).await, None);
    mine(&ledger, vec![stranger(2), stranger(3), settled(90)]).await;
    assert_eq!(
        by(tip().await).await,
        Some(B256::repeat_byte(0)),
        "that was a stranger's"
    );
    mine(&ledger, vec![stranger(4), settled(120)]).await;
    assert_eq!(by(tip().await).await, Some(B256::repeat_byte(1)));
    assert_eq!(by(first).await, Some(B256::repeat_byte(0)));
}

async fn a_reorg_beyond_what_was_final_reopens_the_obligations_that_ended_there(on: Backend) {
    let (pair, other) = (Pair::new(1, 1), Pair::new(2, 2));
    let (_home, ledger) = serving(on, &pair, 1_000).await;
    let request = |channel| ChainEventKind::CloseRequested {
        channel,
        requested_at: UnixSeconds::new(100),
    };
    let settled = ChainEventKind::Settled {
        channel: pair.channel(),
        settled: amount(500),
    };
    mine(
        &ledger,
        vec![other.opened(5), request(other.channel()), request(pair.channel())],
    )
    .await;
    let requested_in = ledger.cursor().await.unwrap().unwrap().number;
    mine(&ledger, vec![settled]).await;
    for obligation in ledger.obligations().await.unwrap() {
        let claimed = Resolution::Claimed {
            transaction: B256::repeat_byte(3),
        };
        ledger.resolve_obligation(obligation.id, claimed).await.unwrap();
    }
    assert_eq!(ledger.obligations().await.unwrap(), []);

    // The claim is gone, and its channel's payer waits for the money all the same.
    ledger.roll_back(requested_in).await.unwrap();
    let stand: Vec<_> = ledger.obligations().await.unwrap();
    let stand: Vec<_> = stand.iter().map(|obligation| obligation.channel).collect();
    assert_eq!(stand, [pair.channel()]);
}

on_both_stores!(
    a_tally_says_what_each_channel_would_say,
    a_reorg_beyond_what_was_final_reopens_what_was_mined_there,
    a_reorg_beyond_what_was_final_reopens_the_obligations_that_ended_there,
    an_authorization_that_the_disk_has_changed_gives_way_to_the_next,
    a_claim_takes_what_was_billed_and_never_slack,
    an_unusable_authorization_falls_back_to_the_next_best,
    nothing_is_taken_for_what_a_close_of_ours_leaves_unpaid,
    a_close_of_ours_gives_nothing_up_and_nothing_is_served_behind_it,
    a_transaction_is_stored_before_it_is_sent_and_until_it_is_final,
    a_transaction_is_found_however_many_came_after_it,
    the_last_of_our_transactions_that_settled_a_channel_is_found,
    closes_of_channels_that_were_never_served_are_passed_over,
    a_requested_close_obliges_until_it_is_resolved
);
