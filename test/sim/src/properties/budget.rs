use crate::evidence::{Evidence, SpentEvidence};

/// A client never signed beyond its budget: neither a request that may cost too much, nor requests, nor a channel's voucher,
/// beyond a day's, in all or with one executor. A store that was put back doesn't know what was spent since.
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut found = Vec::new();
    for client in &evidence.clients {
        let name = &client.name;
        let mut all = SpentEvidence::default();
        for spent in &client.spent {
            all.cost = all.cost.saturating_add(spent.cost);
            all.signed = all.signed.max(spent.signed);
            all.abandoned = all.abandoned.saturating_add(spent.abandoned);
        }
        let to_one = client
            .spent
            .iter()
            .map(|spent| (spent, client.per_executor_per_day, " with one executor"));
        for (spent, per_day, with) in to_one.chain([(&all, client.per_day, "")]) {
            let allowed = per_day.saturating_add(spent.abandoned);
            let most = spent.cost.max(spent.signed);
            if most > allowed && !client.restored {
                found.push(format!(
                    "{name} signed for {}, and may spend {allowed} a day{with}",
                    most
                ));
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
