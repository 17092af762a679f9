use lloom_receipts::TokenAmount;

use crate::evidence::Evidence;

/// A client never signed beyond its budget: neither a request that may cost too much, nor more on all of its channels together,
/// or on those with one executor, than a day's. A store that was put back doesn't know what was signed since.
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    for client in &evidence.clients {
        let name = &client.name;
        let all = client
            .signed
            .iter()
            .fold(TokenAmount::ZERO, |sum, signed| sum.saturating_add(*signed));
        let to_one = client
            .signed
            .iter()
            .map(|signed| (*signed, client.per_executor_per_day, " to one executor"));
        for (signed, per_day, to) in to_one.chain([(all, client.per_day, "")]) {
            if signed > per_day && !client.restored {
                found.push(format!("{name} signed away {signed}{to}, and may {per_day} a day"));
            }
        }
        if client.dearest > client.per_request {
            found.push(format!(
                "{name} asked for what may cost {}, and may spend {} on a request",
                client.dearest, client.per_request
            ));
        }
    }
    found
}
