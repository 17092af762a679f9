use lloom_ledger::Finish;

use crate::evidence::{Evidence, StoreEvidence};

/// The ledger equals the chain: a store knows the newest block, every channel is what the chain says, every transaction of
/// its key that is final is known as mined, and none is thought to be mined or gone that is not.
pub fn check(evidence: &Evidence) -> Vec<String> {
    evidence.stores.iter().flat_map(check_store).collect()
}

fn check_store(store: &StoreEvidence) -> Vec<String> {
    let name = &store.name;
    let mut found = Vec::new();
    if store.cursor.is_none_or(|cursor| cursor != store.head) {
        let cursor = store.cursor.map(|block| block.number);
        found.push(format!(
            "{name} is at {cursor:?}, and the chain at {}",
            store.head.number
        ));
    }
    for (id, known, on_chain) in &store.channels {
        if known.as_ref() != Some(on_chain) {
            found.push(format!("{name} knows {id} as {known:?}, and it is {on_chain:?}"));
        }
    }
    for (hash, nonce, succeeded) in &store.mined {
        let known = store.transactions.iter().find(|record| record.hash == *hash);
        match known.map(|record| &record.finish) {
            Some(Some(Finish::Mined { succeeded: known, .. })) if known == succeeded => {}
            None if store.restored => {}
            finish => found.push(format!(
                "{name} takes {hash}, nonce {nonce}, for {finish:?}, and it was mined"
            )),
        }
    }
    for record in &store.transactions {
        let is_mined = store.mined.iter().any(|(hash, ..)| *hash == record.hash);
        match record.finish {
            Some(Finish::Mined { .. }) if !is_mined => {
                found.push(format!("{name} takes {} for mined, and it was not", record.hash));
            }
            None => found.push(format!(
                "{name} still waits for {}, nonce {}",
                record.hash, record.nonce
            )),
            _ => {}
        }
    }
    found
}
