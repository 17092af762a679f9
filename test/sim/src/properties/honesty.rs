use crate::evidence::Evidence;

/// Nobody honest ever signed what the registry punishes, restored backups included: no two bills for one request, and no
/// bill beyond the limits or prices of its request.
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    for (hash, seen) in &evidence.requests {
        if seen.bills.len() > 1 {
            found.push(format!("{} has signed {} bills for {hash}", seen.by, seen.bills.len()));
        }
        for bill in seen.bills.values() {
            if let Err(error) = bill.check(&seen.request) {
                found.push(format!("{} has signed a bill for {hash}, and {error}", seen.by));
            }
        }
    }
    found
}
