use std::collections::BTreeSet;

use alloy::{
    primitives::{B256, U256},
    sol_types::{SolCall as _, SolValue as _},
};
use lloom_bindings::{ChannelEscrow, UsageSettlement};
use lloom_watcher::Call;

use crate::evidence::{Evidence, StoreEvidence};

/// No double nonce: what a key signs for one nonce always does the same thing, or a part of it, or nothing at all: of a
/// claim that became too dear some rows go on, and what is stuck and has become moot is cancelled. A store that was put back doesn't know what it has lost, and may sign that nonce again: the chain
/// decides between the two. What it knows, it knows.
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    for ((account, nonce), signed) in &evidence.signed {
        let store = evidence.stores.iter().find(|store| store.account == *account);
        let cancellation = Call::transfer(*account, U256::ZERO);
        let signed: Vec<_> = signed.iter().filter(|(_, call)| *call != cancellation).collect();
        for (index, (first, call)) in signed.iter().enumerate() {
            // The network may hear of the whole after the part.
            let others = signed[index + 1..]
                .iter()
                .filter(|(_, other)| other != call && !is_part(other, call) && !is_part(call, other));
            for (other, _) in others {
                if !store.is_some_and(|store| forgot_between(store, *first, *other)) {
                    found.push(format!(
                        "{account} signed both {first} and {other} for the nonce {nonce}"
                    ));
                }
            }
        }
    }
    found
}

/// Whether `part` claims some of the rows that `whole` claims, and nothing else.
fn is_part(part: &Call, whole: &Call) -> bool {
    let (Some((kind, rows)), Some((kind_of_whole, all))) = (claim(part), claim(whole)) else {
        return false;
    };
    (part.to, part.value, kind) == (whole.to, whole.value, kind_of_whole) && !rows.is_empty() && rows.is_subset(&all)
}

/// A claim's rows, and what all of them have in common.
fn claim(call: &Call) -> Option<(Vec<u8>, BTreeSet<Vec<u8>>)> {
    if let Ok(claim) = ChannelEscrow::claimVouchersCall::abi_decode(&call.data) {
        let kind = (true, claim.payee, claim.token).abi_encode();
        return Some((kind, claim.rows.iter().map(|row| row.abi_encode()).collect()));
    }
    let claim = UsageSettlement::claimReceiptsCall::abi_decode(&call.data).ok()?;
    let kind = (false, claim.payee, claim.token).abi_encode();
    Some((kind, claim.rows.iter().map(|row| row.abi_encode()).collect()))
}

/// Whether `store` never had both on record, because one of them was lost with what a backup has replaced.
fn forgot_between(store: &StoreEvidence, first: B256, other: B256) -> bool {
    let now: BTreeSet<B256> = store.transactions.iter().map(|record| record.hash).collect();
    let knew_both = |on_record: &BTreeSet<B256>| on_record.contains(&first) && on_record.contains(&other);
    let is_lost = |hash| !now.contains(&hash) && store.replaced.iter().any(|before| before.contains(&hash));
    !store.replaced.iter().chain([&now]).any(knew_both) && (is_lost(first) || is_lost(other))
}
