use lloom_ledger::{Moot, Obligation, Resolution};
use lloom_receipts::TokenAmount;

use crate::evidence::{Evidence, StoreEvidence};

/// Every obligation ended in a final success or a proof that it is moot: there is one for each close that a payer asked
/// for, none stands, and what each says of its end is what the chain says.
pub fn check(evidence: &Evidence) -> Vec<String> {
    evidence
        .stores
        .iter()
        .flat_map(|store| check_store(evidence, store))
        .collect()
}

fn check_store(evidence: &Evidence, store: &StoreEvidence) -> Vec<String> {
    let name = &store.name;
    let mut found = Vec::new();
    for request in &store.close_requests {
        let is_known = store
            .obligations
            .iter()
            .any(|known| (known.channel, known.requested_at) == (request.channel, request.requested_at));
        if !is_known {
            found.push(format!(
                "{name} has no obligation for the close of {} at {}",
                request.channel, request.requested_at
            ));
        }
    }
    for obligation in &store.obligations {
        if let Some(wrong) = judge(evidence, store, obligation) {
            found.push(format!("{name}'s obligation for {} {wrong}", obligation.channel));
        }
    }
    found
}

/// What is wrong with an obligation's end.
fn judge(evidence: &Evidence, store: &StoreEvidence, obligation: &Obligation) -> Option<String> {
    let channel = obligation.channel;
    let on_chain = evidence.channels.iter().find(|known| known.id == channel)?;
    let settled = on_chain.on_chain.settled;
    let missing = on_chain.due.saturating_sub(settled);
    if !missing.is_zero() {
        return Some(format!("ended with {missing} unclaimed"));
    }
    match obligation.resolution {
        None => Some(String::from("still stands")),
        Some(Resolution::Claimed { transaction }) => {
            let mut mined = store.mined.iter();
            let is_final = mined.any(|(hash, _, succeeded)| *hash == transaction && *succeeded);
            (!is_final).then(|| format!("was met by {transaction}, which is not final"))
        }
        Some(Resolution::Moot {
            reason: Moot::CalledOff,
        }) => {
            let mut requests = store.close_requests.iter();
            let is_called_off = requests.any(|request| {
                (request.channel, request.requested_at, request.called_off) == (channel, obligation.requested_at, true)
            });
            (!is_called_off).then(|| String::from("counts as called off, and nobody did"))
        }
        // Here each payee has one store: what that one doesn't have on record, it has lost.
        Some(Resolution::Moot { reason: Moot::Settled }) if !store.restored => {
            Some(String::from("was met by a transaction that its store never recorded"))
        }
        Some(Resolution::Moot { reason: Moot::Settled }) => settled
            .is_zero()
            .then(|| String::from("counts as settled, and nothing was")),
        Some(Resolution::Moot {
            reason: Moot::NothingEarned,
        }) => (!settled.is_zero()).then(|| format!("counts as one of nothing, and {settled} were settled")),
        Some(Resolution::Lost { amount }) => {
            // What a store forgot since can't be held against what it says.
            let claimable = store.claimable.get(&channel).copied().unwrap_or(TokenAmount::ZERO);
            let is_lost = store.restored || claimable.saturating_sub(settled) >= amount;
            let is_over = on_chain.on_chain.finalized && !amount.is_zero();
            (!is_over || !is_lost).then(|| {
                format!("counts as one that lost {amount}, with {claimable} to be claimed and {settled} settled")
            })
        }
    }
}
