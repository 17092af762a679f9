use crate::evidence::Evidence;

/// No double nonce: what a key signs for one nonce always does the same thing. A store that was put back doesn't know what
/// it has signed, and the chain decides between the two.
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    for ((account, nonce), signed) in &evidence.signed {
        let forgot = evidence
            .stores
            .iter()
            .any(|store| store.account == *account && store.restored);
        let Some((first, call)) = signed.first() else {
            continue;
        };
        for (other, _) in signed.iter().filter(|(_, other)| other != call && !forgot) {
            found.push(format!(
                "{account} signed both {first} and {other} for the nonce {nonce}"
            ));
        }
    }
    found
}
