use lloom_ledger::Resolution;
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
    for (channel, requested_at) in &store.close_requests {
        let known = store.obligations.iter();
        let mut known = known.filter(|known| known.channel == *channel && known.requested_at == *requested_at);
        if known.next().is_none() {
            found.push(format!(
                "{name} has no obligation for the close of {channel} at {requested_at}"
            ));
        }
    }
    for obligation in &store.obligations {
        let channel = obligation.channel;
        let due = evidence.channels.iter().find(|known| known.id == channel);
        let missing = due.map_or(TokenAmount::ZERO, |known| {
            known.due.saturating_sub(known.on_chain.settled)
        });
        match &obligation.resolution {
            None => found.push(format!("{name}'s obligation for {channel} still stands")),
            Some(Resolution::Claimed { transaction }) => {
                let is_final = store
                    .mined
                    .iter()
                    .any(|(hash, _, succeeded)| hash == transaction && *succeeded);
                if !is_final && !store.restored {
                    found.push(format!(
                        "{name}'s obligation for {channel} was met by {transaction}, which is not final"
                    ));
                }
            }
            Some(Resolution::Moot { reason }) => {
                if !is_proof(reason) {
                    found.push(format!(
                        "{name}'s obligation for {channel} is moot for no reason: {reason}"
                    ));
                }
            }
        }
        if !missing.is_zero() {
            found.push(format!(
                "{name}'s obligation for {channel} ended with {missing} unclaimed"
            ));
        }
    }
    found
}

/// The reasons that the watcher gives, each of which it reads off the chain.
fn is_proof(reason: &str) -> bool {
    let proofs = [
        "everything was settled",
        "the payer called the close off",
        "the channel is final",
    ];
    proofs.iter().any(|proof| reason.starts_with(proof))
}
