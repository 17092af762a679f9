//! What each property is there for, made up.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, Bytes, U256};
use lloom_bindings::{ChannelEscrow, channel_escrow::IChannelEscrow::VoucherRow};
use lloom_ledger::{Block, ChannelState, Finish, Moot, Obligation, Purpose, Resolution, TransactionRecord};
use lloom_receipts::{
    BlockNumber, ChannelId, ContentHash, InferenceRequest, ModelHash, PricePerMillion, Prices, RequestNonce,
    TokenAmount, TokenCount, UnixSeconds, Usage, UsageBill,
};
use lloom_sim::{
    Seen,
    evidence::{
        ChannelEvidence, ClientEvidence, CloseRequest, Evidence, LossEvidence, PayeeEvidence, PayerEvidence,
        StoreEvidence,
    },
    properties::{Property, check},
};
use lloom_watcher::Call;
use serde::de::DeserializeOwned;
use serde_json::json;

fn amount(units: u128) -> TokenAmount {
    TokenAmount::new(units)
}

fn channel() -> ChannelId {
    ChannelId::new(B256::repeat_byte(1))
}

fn state(settled: u128) -> ChannelState {
    ChannelState {
        deposit: amount(1_000),
        settled: amount(settled),
        close_requested_at: None,
        finalized: true,
    }
}

fn request() -> InferenceRequest {
    let price = PricePerMillion::new(amount(1_000_000));
    InferenceRequest {
        channel: channel(),
        operator: Address::repeat_byte(2),
        nonce: RequestNonce::new(U256::ONE),
        model: ModelHash::of_id("model"),
        prompt_hash: ContentHash::new(B256::ZERO),
        max_input: TokenCount::new(0),
        max_output: TokenCount::new(500),
        prices: Prices {
            input: price,
            output: price,
        },
        deadline: UnixSeconds::new(1_000),
    }
}

fn bill(output: u32) -> UsageBill {
    let usage = Usage {
        input: TokenCount::new(0),
        output: TokenCount::new(output),
    };
    UsageBill::for_request(&request(), usage, ContentHash::new(B256::ZERO), UnixSeconds::new(900))
        .expect("the bill is within its request")
}

fn block(number: u64) -> Block {
    Block {
        number: BlockNumber::new(number),
        hash: B256::with_last_byte(number as u8),
        parent: B256::ZERO,
        timestamp: UnixSeconds::new(number),
    }
}

/// One channel that was served, billed, paid and closed: nothing is wrong with it.
fn sound() -> Evidence {
    let seen = Seen {
        request: request(),
        by: Address::repeat_byte(2),
        delivered: Usage {
            input: TokenCount::new(0),
            output: TokenCount::new(100),
        },
        bills: BTreeMap::from([(bill(100).hash(), bill(100))]),
    };
    Evidence {
        channels: vec![ChannelEvidence {
            id: channel(),
            on_chain: state(100),
            due: amount(100),
            billed: amount(100),
        }],
        payees: vec![PayeeEvidence {
            payee: Address::repeat_byte(3),
            received: amount(100),
            settled: amount(100),
        }],
        payers: vec![PayerEvidence {
            payer: Address::repeat_byte(4),
            lost: amount(100),
            spent: amount(100),
        }],
        losses: vec![LossEvidence {
            channel: channel(),
            settled: amount(100),
            received: amount(100),
        }],
        oversigned: Vec::new(),
        stores: vec![StoreEvidence {
            name: String::from("executor"),
            account: Address::repeat_byte(2),
            restored: false,
            replaced: Vec::new(),
            cursor: Some(block(9)),
            head: block(9),
            channels: vec![(channel(), Some(state(100)), state(100))],
            transactions: Vec::new(),
            mined: Vec::new(),
            obligations: Vec::new(),
            close_requests: Vec::new(),
            claimable: BTreeMap::from([(channel(), amount(100))]),
        }],
        clients: vec![ClientEvidence {
            name: String::from("client"),
            restored: false,
            per_day: amount(500),
            per_executor_per_day: amount(300),
            signed: vec![amount(110)],
            dearest: amount(500),
            per_request: amount(500),
        }],
        requests: BTreeMap::from([(request().hash(), seen)]),
        signed: BTreeMap::new(),
        overserved: Vec::new(),
    }
}

fn close_request() -> CloseRequest {
    CloseRequest {
        channel: channel(),
        requested_at: UnixSeconds::new(5),
        called_off: false,
    }
}

/// A name in a store, which only a store gives.
fn named<T: DeserializeOwned>(number: i64) -> T {
    serde_json::from_value(json!(number)).expect("names are numbers")
}

fn mined() -> Finish {
    Finish::Mined {
        block: BlockNumber::new(8),
        succeeded: true,
        gas_used: 60_000,
        gas_price: 1,
    }
}

fn transaction(hash: B256, finish: Option<Finish>) -> TransactionRecord {
    TransactionRecord {
        id: named(1),
        from: Address::repeat_byte(2),
        nonce: 0,
        hash,
        raw: Bytes::new(),
        purpose: Purpose::Other,
        replaces: None,
        max_fee: 1,
        priority_fee: 1,
        gas_limit: 90_000,
        deadline: None,
        recorded_at: UnixSeconds::new(6),
        broadcast_at: Some(UnixSeconds::new(6)),
        finish,
    }
}

fn broken_by(change: impl FnOnce(&mut Evidence)) -> Vec<Property> {
    let mut evidence = sound();
    change(&mut evidence);
    check(&evidence)
        .into_iter()
        .map(|violation| violation.property)
        .collect()
}

#[test]
fn sound_evidence_breaks_nothing() {
    assert_eq!(check(&sound()), []);
}

#[test]
fn what_was_accepted_in_time_and_not_paid_is_noticed() {
    assert_eq!(
        broken_by(|evidence| evidence.channels[0].due = amount(101)),
        [Property::Payment]
    );
}

#[test]
fn what_was_taken_too_much_is_noticed() {
    assert_eq!(
        broken_by(|evidence| evidence.payees[0].received = amount(200)),
        [Property::Theft]
    );
    assert_eq!(
        broken_by(|evidence| evidence.channels[0].billed = amount(99)),
        [Property::Theft]
    );
    let undelivered = broken_by(|evidence| {
        let seen = evidence.requests.get_mut(&request().hash()).unwrap();
        seen.delivered.output = TokenCount::new(99);
    });
    assert_eq!(undelivered, [Property::Theft]);
}

#[test]
fn a_payer_that_does_not_get_the_rest_back_is_noticed() {
    assert_eq!(
        broken_by(|evidence| evidence.payers[0].lost = amount(101)),
        [Property::Theft]
    );
    assert_eq!(
        broken_by(|evidence| evidence.payers[0].lost = amount(99)),
        [Property::Theft],
        "a grant that counts twice opens a channel that nobody paid for"
    );
}

#[test]
fn what_a_cheat_took_beyond_what_came_is_noticed() {
    assert_eq!(
        broken_by(|evidence| evidence.losses[0].settled = amount(101)),
        [Property::Trust]
    );
    assert_eq!(
        broken_by(|evidence| evidence.oversigned.push(String::from("too much"))),
        [Property::Trust]
    );
}

#[test]
fn two_calls_for_one_nonce_are_noticed() {
    let call = |value: u64| Call {
        to: Address::ZERO,
        data: Bytes::new(),
        value: U256::from(value),
    };
    let signed = |second: u64| {
        let both = vec![
            (B256::with_last_byte(1), call(1)),
            (B256::with_last_byte(2), call(second)),
        ];
        BTreeMap::from([((Address::repeat_byte(2), 7), both)])
    };
    assert_eq!(broken_by(|evidence| evidence.signed = signed(2)), [Property::Nonce]);
    assert_eq!(
        broken_by(|evidence| evidence.signed = signed(1)),
        [],
        "a dearer one is no other"
    );
}

#[test]
fn a_part_of_a_claim_is_no_other_call_for_its_nonce() {
    let claim = |amounts: &[u64], payee: u8| {
        let row = |amount: &u64| VoucherRow {
            payer: Address::ZERO,
            salt: B256::ZERO,
            authorizedSigner: Address::ZERO,
            r: B256::ZERO,
            vs: B256::ZERO,
            amounts: U256::from(*amount),
        };
        let call = ChannelEscrow::claimVouchersCall {
            payee: Address::repeat_byte(payee),
            token: Address::ZERO,
            rows: amounts.iter().map(row).collect(),
        };
        Call::contract(Address::ZERO, &call)
    };
    let beside_all = |second: Call| {
        let both = vec![
            (B256::with_last_byte(1), claim(&[1, 2, 3], 9)),
            (B256::with_last_byte(2), second),
        ];
        broken_by(|evidence| evidence.signed = BTreeMap::from([((Address::repeat_byte(2), 7), both)]))
    };
    assert_eq!(beside_all(claim(&[1, 3], 9)), []);
    for other in [claim(&[1, 4], 9), claim(&[1, 3], 8), claim(&[], 9)] {
        assert_eq!(beside_all(other), [Property::Nonce]);
    }
}

#[test]
fn what_a_backup_made_a_store_forget_excuses_a_second_call_and_nothing_else_does() {
    let call = |value: u64| Call {
        to: Address::ZERO,
        data: Bytes::new(),
        value: U256::from(value),
    };
    let [first, second] = [1, 2].map(B256::with_last_byte);
    let after = |replaced: &[&[B256]]| {
        broken_by(|evidence| {
            let both = vec![(first, call(1)), (second, call(2))];
            evidence.signed = BTreeMap::from([((Address::repeat_byte(2), 7), both)]);
            evidence.stores[0].restored = true;
            let replaced = replaced.iter().map(|hashes| hashes.iter().copied().collect());
            evidence.stores[0].replaced = replaced.collect();
        })
    };
    assert_eq!(after(&[&[first]]), [], "the first was lost");
    assert_eq!(after(&[&[first], &[second]]), [], "so were both, one after the other");
    assert_eq!(after(&[&[]]), [Property::Nonce], "neither was ever on record");
    assert_eq!(after(&[&[first, second]]), [Property::Nonce], "it knew the first");
}

#[test]
fn a_store_that_is_not_what_the_chain_is_is_noticed() {
    assert_eq!(
        broken_by(|evidence| evidence.stores[0].cursor = Some(block(8))),
        [Property::Ledger]
    );
    let stale = broken_by(|evidence| evidence.stores[0].channels[0].1 = Some(state(99)));
    assert_eq!(stale, [Property::Ledger]);
    let unknown = broken_by(|evidence| evidence.stores[0].mined.push((B256::with_last_byte(1), 0, true)));
    assert_eq!(unknown, [Property::Ledger]);
}

#[test]
fn a_close_without_an_obligation_is_noticed() {
    let forgotten = broken_by(|evidence| {
        evidence.stores[0].close_requests.push(close_request());
    });
    assert_eq!(forgotten, [Property::Obligation]);
}

#[test]
fn an_obligation_that_ended_otherwise_than_the_chain_says_is_noticed() {
    let hash = B256::with_last_byte(1);
    let ended = |resolution: Option<Resolution>, change: &dyn Fn(&mut Evidence)| {
        broken_by(|evidence| {
            evidence.stores[0].close_requests.push(close_request());
            evidence.stores[0].obligations.push(Obligation {
                id: named(1),
                channel: channel(),
                requested_at: UnixSeconds::new(5),
                deadline: UnixSeconds::new(3_605),
                resolution,
            });
            change(evidence);
        })
    };
    let moot = |reason| Some(Resolution::Moot { reason });
    let claimed = || Some(Resolution::Claimed { transaction: hash });
    let nothing = |_: &mut Evidence| {};
    let wrong = [Property::Obligation];
    assert_eq!(ended(None, &nothing), wrong, "it stands");

    assert_eq!(ended(moot(Moot::CalledOff), &nothing), wrong, "nobody called it off");
    let called_off = |evidence: &mut Evidence| evidence.stores[0].close_requests[0].called_off = true;
    assert_eq!(ended(moot(Moot::CalledOff), &called_off), []);

    assert_eq!(ended(moot(Moot::Settled), &nothing), wrong, "by whom?");
    let restored = |evidence: &mut Evidence| evidence.stores[0].restored = true;
    assert_eq!(ended(moot(Moot::Settled), &restored), [], "it forgot by whom");
    let unsettled = |evidence: &mut Evidence| {
        *evidence = Evidence {
            stores: evidence.stores.clone(),
            channels: evidence.channels.clone(),
            ..Evidence::default()
        };
        evidence.stores[0].channels[0] = (channel(), Some(state(0)), state(0));
        evidence.channels[0].on_chain = state(0);
        evidence.channels[0].due = amount(0);
    };
    let forgotten = |evidence: &mut Evidence| {
        unsettled(evidence);
        restored(evidence);
    };
    assert_eq!(ended(moot(Moot::Settled), &forgotten), wrong, "nothing was settled");

    assert_eq!(
        ended(moot(Moot::NothingEarned), &nothing),
        wrong,
        "something was settled"
    );
    assert_eq!(ended(moot(Moot::NothingEarned), &unsettled), []);

    assert_eq!(ended(claimed(), &nothing), wrong, "no such claim is final");
    let is_final = |evidence: &mut Evidence| {
        evidence.stores[0].mined.push((hash, 0, true));
        evidence.stores[0].transactions.push(transaction(hash, Some(mined())));
    };
    assert_eq!(ended(claimed(), &is_final), []);

    // What was not accepted in time is lost without anybody's fault, and has to be said as it is.
    let lost = |units| Some(Resolution::Lost { amount: amount(units) });
    let more = |evidence: &mut Evidence| {
        evidence.stores[0].claimable.insert(channel(), amount(112));
    };
    assert_eq!(ended(lost(12), &more), []);
    assert_eq!(ended(lost(13), &more), wrong, "so much was never to be claimed");
    assert_eq!(ended(lost(0), &more), wrong, "that is no loss");
    let unpaid = |evidence: &mut Evidence| {
        more(evidence);
        evidence.channels[0].due = amount(101);
    };
    assert_eq!(ended(lost(12), &unpaid), [Property::Payment, Property::Obligation]);
}

#[test]
fn a_transaction_whose_end_is_another_on_the_chain_is_noticed() {
    let hash = B256::with_last_byte(1);
    let known_as = |finish: Option<Finish>, is_mined: bool| {
        broken_by(|evidence| {
            evidence.stores[0].transactions.push(transaction(hash, finish));
            if is_mined {
                evidence.stores[0].mined.push((hash, 0, true));
            }
        })
    };
    assert_eq!(known_as(Some(mined()), true), []);
    assert_eq!(known_as(Some(mined()), false), [Property::Ledger]);
    assert_eq!(known_as(Some(Finish::Dropped), true), [Property::Ledger]);
    assert_eq!(known_as(Some(Finish::Dropped), false), []);
    assert_eq!(known_as(None, false), [Property::Ledger], "its end is not known");
}

#[test]
fn serving_beyond_the_limit_is_noticed() {
    let overserved = broken_by(|evidence| evidence.overserved.push(String::from("too much")));
    assert_eq!(overserved, [Property::Exposure]);
}

#[test]
fn signing_beyond_the_budget_is_noticed() {
    let signed = |signed: [u128; 2]| broken_by(|evidence| evidence.clients[0].signed = signed.map(amount).to_vec());
    assert_eq!(signed([250, 250]), []);
    assert_eq!(signed([251, 250]), [Property::Budget], "more than a day's");
    assert_eq!(signed([301, 0]), [Property::Budget], "more than a day's with one");
    assert_eq!(
        broken_by(|evidence| evidence.clients[0].dearest = amount(501)),
        [Property::Budget]
    );
}

#[test]
fn what_the_registry_punishes_is_noticed() {
    let twice = broken_by(|evidence| {
        let seen = evidence.requests.get_mut(&request().hash()).unwrap();
        seen.bills.insert(bill(50).hash(), bill(50));
    });
    assert_eq!(twice, [Property::Honesty]);
    let dear = broken_by(|evidence| {
        let seen = evidence.requests.get_mut(&request().hash()).unwrap();
        let mut dear = bill(100);
        dear.amount = amount(101);
        seen.bills = BTreeMap::from([(dear.hash(), dear)]);
    });
    assert_eq!(dear, [Property::Theft, Property::Honesty]);
}
