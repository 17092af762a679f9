use crate::evidence::Evidence;

/// A client never signed beyond its budget: neither a request that may cost too much, nor vouchers that promise more than a
/// day's. A store that was put back doesn't know what was spent since.
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    for client in &evidence.clients {
        let name = &client.name;
        let allowed = client.per_day.saturating_add(client.abandoned);
        if client.signed > allowed && !client.restored {
            found.push(format!(
                "{name} signed {}, and may spend {allowed} a day",
                client.signed
            ));
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
