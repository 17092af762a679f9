use alloy::primitives::B256;
use futures::future::try_join_all;
use lloom_ledger::{AcceptRequest, AuthorizationRef, ChainEventKind, ExposurePolicy, LedgerError, Outcome, ServeError};
use lloom_receipts::{
    BillError, ChannelId, ContentHash, ReceiptHead, RequestHash, TokenAmount, TokenCount, UnixSeconds, UsageBill,
};

use crate::{
    beside::beside,
    world::{Backend, Home, NOW, Pair, amount, domain, key, mine, mine_with, progress, salt, serving},
};

const TRUSTING: ExposurePolicy = ExposurePolicy {
    start: amount(100),
    per_mille_of_settled: 0,
    maximum: amount(100),
};

fn hash_of(pair: &Pair, nonce: u64) -> RequestHash {
    pair.request(nonce).document().hash()
}

async fn a_request_is_recorded_once(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = serving(on, &pair, 1_000).await;
    let request = pair.accept(1, Some(100), 60);
    assert_eq!(ledger.accept_request(request.clone()).await.unwrap(), Outcome::Recorded);
    assert_eq!(ledger.accept_request(request).await.unwrap(), Outcome::AlreadyKnown);
    let account = ledger.account(pair.channel()).await.unwrap();
    assert_eq!((account.authorized, account.spent), (amount(100), amount(60)));

    let twin = AcceptRequest {
        request: pair.request_until(1, UnixSeconds::new(1_800_000_061)),
        ..pair.accept(1, None, 1)
    };
    assert!(matches!(
        ledger.accept_request(twin).await.unwrap_err(),
        ServeError::NonceUsed
    ));
}

async fn a_channel_has_to_be_open_and_confirmed(on: Backend) {
    let pair = Pair::new(1, 1);
    let home = Home::new(on).await;
    let ledger = home.open().await;
    let request = pair.accept(1, Some(100), 60);
    let refused = ledger.accept_request(request.clone()).await.unwrap_err();
    assert!(matches!(refused, ServeError::UnknownChannel), "{refused}");

    mine_with(&ledger, vec![pair.opened(1_000)], false).await;
    let refused = ledger.accept_request(request.clone()).await.unwrap_err();
    assert!(matches!(refused, ServeError::Unconfirmed), "{refused}");
    let refused = ledger.accept_voucher(pair.voucher(1)).await.unwrap_err();
    assert!(matches!(refused, ServeError::Unconfirmed), "{refused}");

    mine(&ledger, vec![]).await;
    ledger.accept_request(request).await.unwrap();

    // Seen at the head, not confirmed: the streams stop all the same.
    let channel = pair.channel();
    let requested_at = UnixSeconds::new(5);
    mine_with(
        &ledger,
        vec![ChainEventKind::CloseRequested { channel, requested_at }],
        false,
    )
    .await;
    let refused = ledger.accept_request(pair.accept(2, None, 1)).await.unwrap_err();
    assert!(matches!(refused, ServeError::ChannelClosing), "{refused}");
    let refused = ledger
        .reserve(hash_of(&pair, 1), amount(70), TRUSTING)
        .await
        .unwrap_err();
    assert!(matches!(refused, ServeError::ChannelClosing), "{refused}");
    // What is owed can still be authorized.
    assert_eq!(
        ledger.accept_voucher(pair.voucher(150)).await.unwrap(),
        Outcome::Recorded
    );

    mine(
        &ledger,
        vec![ChainEventKind::Closed {
            channel,
            settled: amount(150),
            refunded: amount(850),
        }],
    )
    .await;
    let refused = ledger.accept_request(pair.accept(2, None, 1)).await.unwrap_err();
    assert!(matches!(refused, ServeError::ChannelFinalized), "{refused}");
    let refused = ledger.accept_voucher(pair.voucher(160)).await.unwrap_err();
    assert!(matches!(refused, ServeError::ChannelFinalized), "{refused}");
}

async fn vouchers_only_grow_within_the_deposit(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = serving(on, &pair, 1_000).await;
    assert_eq!(
        ledger.accept_voucher(pair.voucher(500)).await.unwrap(),
        Outcome::Recorded
    );
    assert_eq!(
        ledger.accept_voucher(pair.voucher(500)).await.unwrap(),
        Outcome::AlreadyKnown
    );
    let refused = ledger.accept_voucher(pair.voucher(499)).await.unwrap_err();
    assert!(
        matches!(refused, ServeError::VoucherNotIncreasing { best } if best == amount(500)),
        "{refused}"
    );
    let refused = ledger.accept_voucher(pair.voucher(1_001)).await.unwrap_err();
    assert!(
        matches!(refused, ServeError::VoucherOverDeposit { deposit } if deposit == amount(1_000)),
        "{refused}"
    );
    assert_eq!(
        ledger.accept_voucher(pair.voucher(1_000)).await.unwrap(),
        Outcome::Recorded
    );

    let other = Pair::new(1, 2);
    let refused = ledger
        .accept_request(AcceptRequest {
            voucher: Some(other.voucher(1)),
            ..pair.accept(1, None, 1)
        })
        .await
        .unwrap_err();
    assert!(
        matches!(refused, ServeError::OtherChannel { channel } if channel == other.channel()),
        "{refused}"
    );
}

async fn what_is_not_covered_is_not_served(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = serving(on, &pair, 1_000).await;
    let refused = ledger.accept_request(pair.accept(1, None, 1)).await.unwrap_err();
    let ServeError::Uncovered {
        required,
        authorized,
        deposit,
    } = refused
    else {
        panic!("{refused}");
    };
    assert_eq!((required, authorized, deposit), (amount(1), amount(0), amount(1_000)));
    assert_eq!(ledger.account(pair.channel()).await.unwrap().spent, TokenAmount::ZERO);

    ledger.accept_request(pair.accept(1, Some(100), 100)).await.unwrap();
    let request = hash_of(&pair, 1);
    let refused = ledger
        .reserve(request, amount(101), ExposurePolicy::default())
        .await
        .unwrap_err();
    assert!(
        matches!(refused, ServeError::Uncovered { required, .. } if required == amount(101)),
        "{refused}"
    );
    // A voucher that adds nothing covers nothing.
    let refused = ledger.accept_request(pair.accept(2, Some(90), 1)).await.unwrap_err();
    assert!(
        matches!(refused, ServeError::VoucherNotIncreasing { best } if best == amount(100)),
        "{refused}"
    );

    // Within the limit it is served on trust, and the next voucher is asked for what lies beyond.
    ledger.reserve(request, amount(200), TRUSTING).await.unwrap();
    let refused = ledger.reserve(request, amount(201), TRUSTING).await.unwrap_err();
    assert!(
        matches!(refused, ServeError::Uncovered { required, .. } if required == amount(101)),
        "{refused}"
    );
    // Less than is set aside already changes nothing.
    ledger
        .reserve(request, amount(1), ExposurePolicy::default())
        .await
        .unwrap();
    assert_eq!(ledger.account(pair.channel()).await.unwrap().spent, amount(200));

    let boundless = ExposurePolicy {
        start: TokenAmount::MAX,
        per_mille_of_settled: 0,
        maximum: TokenAmount::MAX,
    };
    let refused = ledger.reserve(request, amount(1_001), boundless).await.unwrap_err();
    assert!(
        matches!(refused, ServeError::Uncovered { required, .. } if required == amount(1_001)),
        "{refused}"
    );
    let refused = ledger
        .reserve(hash_of(&pair, 9), amount(1), boundless)
        .await
        .unwrap_err();
    assert!(matches!(refused, ServeError::UnknownRequest), "{refused}");
}

async fn a_stale_voucher_does_not_stop_a_covered_request(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = serving(on, &pair, 1_000).await;
    ledger.accept_request(pair.accept(2, Some(200), 100)).await.unwrap();
    // Sent before the other, arrived after it.
    assert_eq!(
        ledger.accept_request(pair.accept(1, Some(100), 100)).await.unwrap(),
        Outcome::Recorded
    );
    assert_eq!(ledger.account(pair.channel()).await.unwrap().spent, amount(200));
}

async fn trust_is_shared_by_all_channels_of_a_payer(on: Backend) {
    let (first, second, stranger) = (Pair::new(1, 1), Pair::new(1, 2), Pair::new(2, 1));
    let (_home, ledger) = serving(on, &first, 1_000).await;
    mine(&ledger, vec![second.opened(1_000), stranger.opened(1_000)]).await;
    let accept = |pair: &Pair, nonce, reserve| AcceptRequest {
        exposure: TRUSTING,
        ..pair.accept(nonce, None, reserve)
    };
    ledger.accept_request(accept(&first, 1, 70)).await.unwrap();
    let refused = ledger.accept_request(accept(&second, 1, 31)).await.unwrap_err();
    assert!(
        matches!(refused, ServeError::Uncovered { required, .. } if required == amount(1)),
        "{refused}"
    );
    ledger.accept_request(accept(&second, 1, 30)).await.unwrap();
    ledger.accept_request(accept(&stranger, 1, 100)).await.unwrap();
    // A voucher on one channel frees trust for the other.
    ledger.accept_voucher(first.voucher(70)).await.unwrap();
    ledger
        .reserve(hash_of(&second, 1), amount(100), TRUSTING)
        .await
        .unwrap();
}

async fn trust_grows_with_what_was_settled_here(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = serving(on, &pair, 10_000).await;
    let elsewhere = Pair::new(1, 9);
    let policy = ExposurePolicy {
        start: amount(0),
        per_mille_of_settled: 100,
        maximum: amount(400),
    };
    let volume = async || ledger.settled_volume(pair.payer.address(), pair.token).await.unwrap();

    // A channel that is not served here proves nothing: anybody can pay themselves.
    let (channel, other) = (pair.channel(), elsewhere.channel());
    mine(
        &ledger,
        vec![
            elsewhere.opened(9_000),
            ChainEventKind::Settled {
                channel: other,
                settled: amount(9_000),
            },
        ],
    )
    .await;
    assert_eq!(volume().await, amount(0));

    ledger.accept_voucher(pair.voucher(3_000)).await.unwrap();
    mine(
        &ledger,
        vec![ChainEventKind::Settled {
            channel,
            settled: amount(3_000),
        }],
    )
    .await;
    assert_eq!(volume().await, amount(3_000));
    let accept = |nonce, reserve| AcceptRequest {
        exposure: policy,
        ..pair.accept(nonce, None, reserve)
    };
    let refused = ledger.accept_request(accept(1, 3_301)).await.unwrap_err();
    assert!(
        matches!(refused, ServeError::Uncovered { required, .. } if required == amount(3_001)),
        "{refused}"
    );
    ledger.accept_request(accept(1, 3_300)).await.unwrap();

    assert_eq!(policy.limit(amount(1_999)), amount(199));
    assert_eq!(policy.limit(amount(1_000_000)), amount(400));
    assert_eq!(policy.limit(TokenAmount::MAX), amount(400));
}

async fn a_request_has_one_bill_for_ever(on: Backend) {
    let pair = Pair::new(1, 1);
    let (home, ledger) = serving(on, &pair, 1_000).await;
    ledger.accept_request(pair.accept(1, Some(500), 300)).await.unwrap();
    let first = ledger.commit_bill(pair.bill(1, 120)).await.unwrap();
    assert_eq!(first.bill(), &pair.bill(1, 120));
    assert_eq!(first.operator(), Some(pair.request(1).document().operator));
    let again = ledger.commit_bill(pair.bill(1, 90)).await.unwrap();
    assert_eq!(again, first);
    let account = ledger.account(pair.channel()).await.unwrap();
    assert_eq!((account.spent, account.billed), (amount(120), amount(120)));
    let refused = ledger
        .reserve(hash_of(&pair, 1), amount(400), TRUSTING)
        .await
        .unwrap_err();
    assert!(matches!(refused, ServeError::AlreadyBilled), "{refused}");
    let refused = ledger.waive(hash_of(&pair, 1), "no".into()).await.unwrap_err();
    assert!(matches!(refused, ServeError::AlreadyBilled), "{refused}");

    ledger.close().await;
    let ledger = home.open().await;
    assert_eq!(ledger.commit_bill(pair.bill(1, 1)).await.unwrap(), first);
    assert_eq!(ledger.unlinked_bills(pair.channel()).await.unwrap(), vec![first]);
}

/// A payer is shown some of what it has not linked, and only what the node that it asks may sign.
async fn unlinked_bills_are_read_in_parts(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = serving(on, &pair, 1_000).await;
    let (operator, channel) = (pair.operator.address(), pair.channel());
    let mut of_another = pair.accept(1, Some(500), 10);
    let mut document = *of_another.request.document();
    document.operator = key(201).address();
    of_another.request = pair.payer.sign(&domain(), document);
    let foreign = document.hash();
    ledger.accept_request(of_another).await.unwrap();
    let bill = UsageBill {
        request: foreign,
        ..pair.bill(1, 10)
    };
    let foreign = ledger.commit_bill(bill).await.unwrap();
    let mut own = Vec::new();
    for nonce in 2..=5 {
        ledger.accept_request(pair.accept(nonce, None, 10)).await.unwrap();
        own.push(ledger.commit_bill(pair.bill(nonce, 10)).await.unwrap());
    }
    let listed = ledger.unlinked_bills_by(operator, channel, 3).await.unwrap();
    assert_eq!(listed, own[..3]);
    let linked = pair.link(&ledger.head(channel).await.unwrap(), *own[0].bill());
    ledger.accept_receipt(linked, None).await.unwrap();
    let listed = ledger.unlinked_bills_by(operator, channel, 9).await.unwrap();
    assert_eq!(listed, own[1..]);
    let listed = ledger.unlinked_bills_by(key(201).address(), channel, 9).await.unwrap();
    assert_eq!(listed, [foreign]);
}

async fn a_bill_charges_what_its_request_allows(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = serving(on, &pair, 5_000).await;
    ledger.accept_request(pair.accept(1, Some(500), 300)).await.unwrap();
    let refused = ledger.commit_bill(pair.bill(2, 1)).await.unwrap_err();
    assert!(matches!(refused, ServeError::UnknownRequest), "{refused}");
    let bill = pair.bill(1, 10);
    for (wrong, expected) in [
        (
            UsageBill {
                amount: amount(11),
                ..bill
            },
            "overcharged",
        ),
        (
            UsageBill {
                channel: ChannelId::new(B256::ZERO),
                ..bill
            },
            "other",
        ),
        (
            UsageBill {
                usage: lloom_receipts::Usage {
                    input: TokenCount::new(1_001),
                    ..bill.usage
                },
                ..bill
            },
            "limit",
        ),
    ] {
        let refused = ledger.commit_bill(wrong).await.unwrap_err();
        let matched = match refused {
            ServeError::BillRefused(BillError::Overcharged { .. }) => expected == "overcharged",
            ServeError::BillRefused(BillError::OtherRequest { .. }) => expected == "other",
            ServeError::BillRefused(BillError::OverLimit { .. }) => expected == "limit",
            _ => false,
        };
        assert!(matched, "{expected}");
    }
    assert_eq!(ledger.account(pair.channel()).await.unwrap().billed, amount(0));
}

async fn receipts_form_one_chain_of_committed_bills(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let (_home, ledger) = serving(on, &pair, 1_000).await;
    for nonce in 1..=3 {
        ledger
            .accept_request(pair.accept(nonce, Some(u128::from(nonce) * 100), 100))
            .await
            .unwrap();
        ledger.commit_bill(pair.bill(nonce, 50)).await.unwrap();
    }
    let empty = ReceiptHead::empty(channel);
    assert_eq!(ledger.head(channel).await.unwrap(), empty);
    // Bills are linked in any order.
    let first = pair.link(&empty, pair.bill(2, 50));
    assert_eq!(
        ledger.accept_receipt(first.clone(), None).await.unwrap(),
        Outcome::Recorded
    );
    assert_eq!(
        ledger.accept_receipt(first.clone(), None).await.unwrap(),
        Outcome::AlreadyKnown
    );
    let head = ledger.head(channel).await.unwrap();
    assert_eq!(head, ReceiptHead::at(first.receipt()));

    let beside = pair.link(&empty, pair.bill(1, 50));
    let ServeError::DoesNotExtend { head: Some(carried) } = ledger.accept_receipt(beside, None).await.unwrap_err()
    else {
        panic!("two chains");
    };
    assert_eq!(*carried, first);
    let refused = ledger
        .accept_receipt(pair.link(&head, pair.bill(1, 49)), None)
        .await
        .unwrap_err();
    assert!(matches!(refused, ServeError::BillNotCommitted), "{refused}");
    let refused = ledger
        .accept_receipt(pair.link(&head, pair.bill(2, 50)), None)
        .await
        .unwrap_err();
    assert!(matches!(refused, ServeError::BillAlreadyLinked), "{refused}");
    let unknown = Pair::new(3, 3);
    let receipt = unknown.link(&ReceiptHead::empty(unknown.channel()), unknown.bill(1, 1));
    let refused = ledger.accept_receipt(receipt, None).await.unwrap_err();
    assert!(matches!(refused, ServeError::UnknownChannel), "{refused}");
    // The receipt is refused whole when its voucher is.
    let second = pair.link(&head, pair.bill(3, 50));
    let refused = ledger
        .accept_receipt(second.clone(), Some(pair.voucher(1_001)))
        .await
        .unwrap_err();
    assert!(matches!(refused, ServeError::VoucherOverDeposit { .. }), "{refused}");
    assert_eq!(ledger.head(channel).await.unwrap(), head);

    assert_eq!(
        ledger
            .accept_receipt(second.clone(), Some(pair.voucher(400)))
            .await
            .unwrap(),
        Outcome::Recorded
    );
    // A late voucher comes with a receipt that is known.
    assert_eq!(
        ledger
            .accept_receipt(second.clone(), Some(pair.voucher(410)))
            .await
            .unwrap(),
        Outcome::AlreadyKnown
    );
    let account = ledger.account(channel).await.unwrap();
    assert_eq!((account.authorized, account.linked), (amount(410), amount(100)));
    assert_eq!((account.spent, account.billed), (amount(150), amount(150)));
    assert_eq!(
        ledger.receipts(channel, 0, 10).await.unwrap(),
        vec![first, second.clone()]
    );
    assert_eq!(ledger.receipts(channel, 2, 10).await.unwrap(), vec![second.clone()]);
    assert_eq!(ledger.head_receipt(channel).await.unwrap(), Some(second));
    let unlinked = ledger.unlinked_bills(channel).await.unwrap();
    assert_eq!(
        unlinked.iter().map(|bill| *bill.bill()).collect::<Vec<_>>(),
        vec![pair.bill(1, 50)]
    );
}

async fn a_crash_leaves_what_the_client_acknowledged(on: Backend) {
    let pair = Pair::new(1, 1);
    let (home, ledger) = serving(on, &pair, 1_000).await;
    for nonce in 1..=4 {
        ledger
            .accept_request(pair.accept(nonce, Some(u128::from(nonce) * 100), 100))
            .await
            .unwrap();
    }
    let told = progress(&pair, 1, 40);
    assert_eq!(
        ledger.acknowledge(told, Some(pair.voucher(450))).await.unwrap(),
        Outcome::Recorded
    );
    assert_eq!(
        ledger.acknowledge(told, Some(pair.voucher(450))).await.unwrap(),
        Outcome::AlreadyKnown
    );
    // Overtaken by a later one: it can't take anything back.
    assert_eq!(
        ledger.acknowledge(progress(&pair, 1, 30), None).await.unwrap(),
        Outcome::AlreadyKnown
    );
    let refused = ledger.acknowledge(progress(&pair, 1, 1_001), None).await.unwrap_err();
    assert!(
        matches!(refused, ServeError::BillRefused(BillError::OverLimit { .. })),
        "{refused}"
    );
    let refused = ledger.acknowledge(progress(&pair, 9, 1), None).await.unwrap_err();
    assert!(matches!(refused, ServeError::UnknownRequest), "{refused}");
    ledger.commit_bill(pair.bill(3, 100)).await.unwrap();
    assert_eq!(
        ledger
            .waive(hash_of(&pair, 4), "the backend is down".into())
            .await
            .unwrap(),
        Outcome::Recorded
    );
    assert_eq!(
        ledger.waive(hash_of(&pair, 4), "again".into()).await.unwrap(),
        Outcome::AlreadyKnown
    );
    assert_eq!(ledger.account(pair.channel()).await.unwrap().spent, amount(300));
    ledger.close().await;

    let ledger = home.open().await;
    let interrupted = ledger.interrupted_requests().await.unwrap();
    let mut found: Vec<_> = interrupted
        .iter()
        .map(|found| (found.request.document().nonce.get().to::<u64>(), found.acknowledged))
        .collect();
    found.sort_by_key(|(nonce, _)| *nonce);
    assert_eq!(found, vec![(1, Some(told)), (2, None)]);
    assert_eq!(interrupted[0].content_salt, salt());
    assert!(interrupted.iter().any(|found| found.request == pair.request(1)));

    let refused = ledger.commit_bill(pair.bill(4, 1)).await.unwrap_err();
    assert!(matches!(refused, ServeError::Waived { .. }), "{refused}");
    let bill = UsageBill {
        response_hash: ContentHash::of(salt(), b"x"),
        ..pair.bill(1, 40)
    };
    ledger.commit_bill(bill).await.unwrap();
    assert_eq!(ledger.interrupted_requests().await.unwrap().len(), 1);
}

async fn a_close_is_called_off_once_that_is_confirmed(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let (_home, ledger) = serving(on, &pair, 1_000).await;
    let requested_at = NOW;
    mine(&ledger, vec![ChainEventKind::CloseRequested { channel, requested_at }]).await;
    let refused = ledger.accept_request(pair.accept(1, Some(100), 10)).await.unwrap_err();
    assert!(matches!(refused, ServeError::ChannelClosing), "{refused}");
    // At the end of the grace period: another block in this one's place may hold the payer's withdrawal.
    let topped_up = ChainEventKind::ToppedUp {
        channel,
        deposit: amount(1_001),
        close_cancelled: true,
    };
    mine_with(&ledger, vec![topped_up], false).await;
    let refused = ledger.accept_request(pair.accept(1, Some(100), 10)).await.unwrap_err();
    assert!(matches!(refused, ServeError::Unconfirmed), "{refused}");
    assert_eq!(ledger.accept_voucher(pair.voucher(1)).await.unwrap(), Outcome::Recorded);
    mine(&ledger, vec![]).await;
    ledger.accept_request(pair.accept(1, Some(100), 10)).await.unwrap();
}

/// How many vouchers.
async fn kept(home: &Home) -> Vec<i64> {
    beside(home).await.numbers("SELECT count(*) FROM vouchers").await
}

async fn a_channel_keeps_its_best_few_vouchers(on: Backend) {
    let pair = Pair::new(1, 1);
    let channel = pair.channel();
    let (home, ledger) = serving(on, &pair, 10_000).await;
    for over in 1..=8 {
        ledger.accept_voucher(pair.voucher(over * 10)).await.unwrap();
    }
    assert_eq!(kept(&home).await, [4]);
    // With requests and receipts, and many at once.
    let requests = (1..=8).map(|nonce| ledger.accept_request(pair.accept(nonce, Some(100 + u128::from(nonce)), 1)));
    try_join_all(requests).await.unwrap();
    assert_eq!(kept(&home).await, [4]);
    ledger.commit_bill(pair.bill(1, 1)).await.unwrap();
    let receipt = pair.link(&ReceiptHead::empty(channel), pair.bill(1, 1));
    ledger.accept_receipt(receipt, Some(pair.voucher(200))).await.unwrap();
    ledger
        .acknowledge(progress(&pair, 2, 1), Some(pair.voucher(201)))
        .await
        .unwrap();
    assert_eq!(kept(&home).await, [4]);

    // What is kept is what counts when the best turns out to be unusable, and such a one is kept beside.
    for over in [201, 200, 108] {
        let best = ledger.claimable_channel(channel).await.unwrap().unwrap().voucher;
        assert_eq!(best, Some(pair.voucher(over)));
        let best = AuthorizationRef::Voucher { amount: amount(over) };
        ledger
            .set_unusable(channel, best, String::from("refused"))
            .await
            .unwrap();
    }
    for over in 202..=210 {
        ledger.accept_voucher(pair.voucher(over)).await.unwrap();
    }
    assert_eq!(kept(&home).await, [4]);
    let refused = ledger.accept_voucher(pair.voucher(201)).await.unwrap_err();
    assert!(
        matches!(refused, ServeError::VoucherNotIncreasing { best } if best == amount(210)),
        "{refused}"
    );

    // A store that has kept all of them lets them go bit by bit.
    let (over, signature) = match on {
        Backend::Sqlite => ("unhex(printf('%032x', n))", "zeroblob(65)"),
        Backend::Postgres => (
            "decode(lpad(to_hex(n), 32, '0'), 'hex')",
            "decode(repeat('00', 65), 'hex')",
        ),
    };
    let fill = format!(
        "WITH RECURSIVE numbers (n) AS (SELECT 1001 UNION ALL SELECT n + 1 FROM numbers WHERE n < 4000)
         INSERT INTO vouchers (account, amount, signature)
         SELECT (SELECT id FROM accounts), {over}, {signature} FROM numbers"
    );
    beside(&home).await.run(&fill).await;
    ledger.accept_voucher(pair.voucher(4_001)).await.unwrap();
    assert_eq!(kept(&home).await, [957]);
    ledger.accept_voucher(pair.voucher(4_002)).await.unwrap();
    assert_eq!(kept(&home).await, [4]);
}

async fn a_channel_is_kept_for_one_side(on: Backend) {
    let pair = Pair::new(1, 1);
    let (_home, ledger) = serving(on, &pair, 1_000).await;
    let bought = Pair::new(2, 2);
    mine(&ledger, vec![bought.opened(1_000)]).await;
    ledger.record_channel(bought.new_channel(1_000)).await.unwrap();
    let refused = ledger.accept_request(bought.accept(1, Some(10), 1)).await.unwrap_err();
    assert!(
        matches!(refused, ServeError::Ledger(LedgerError::OtherSide { .. })),
        "{refused}"
    );
    ledger.accept_voucher(pair.voucher(1)).await.unwrap();
    let refused = ledger.record_channel(pair.new_channel(1_000)).await.unwrap_err();
    assert!(refused.to_string().contains("other side"), "{refused}");
}

on_both_stores!(
    a_request_is_recorded_once,
    a_channel_has_to_be_open_and_confirmed,
    vouchers_only_grow_within_the_deposit,
    what_is_not_covered_is_not_served,
    a_stale_voucher_does_not_stop_a_covered_request,
    trust_is_shared_by_all_channels_of_a_payer,
    trust_grows_with_what_was_settled_here,
    a_request_has_one_bill_for_ever,
    unlinked_bills_are_read_in_parts,
    a_bill_charges_what_its_request_allows,
    receipts_form_one_chain_of_committed_bills,
    a_crash_leaves_what_the_client_acknowledged,
    a_close_is_called_off_once_that_is_confirmed,
    a_channel_keeps_its_best_few_vouchers,
    a_channel_is_kept_for_one_side
);
