use alloy::primitives::U256;
use lloom_watcher::Call;

use crate::evidence::Evidence;

/// No double nonce: what a key signs for one nonce always does the same thing, or nothing at all: what is stuck and has
/// become moot is cancelled. A store that was put back doesn't know what it has signed, and the chain decides between the two.
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    for ((account, nonce), signed) in &evidence.signed {
        let forgot = evidence
            .stores
            .iter()
            .any(|store| store.account == *account && store.restored);
        let cancellation = Call::transfer(*account, U256::ZERO);
        let mut signed = signed.iter().filter(|(_, call)| *call != cancellation);
        let Some((first, call)) = signed.next() else {
            continue;
        };
        for (other, _) in signed.filter(|(_, other)| other != call && !forgot) {
            found.push(format!(
                "{account} signed both {first} and {other} for the nonce {nonce}"
            ));
        }
    }
    found
}
