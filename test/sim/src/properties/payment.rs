use crate::evidence::Evidence;

/// Every durably accepted unit is paid by its deadline whenever the chain was reachable long enough: what an executor has
/// acknowledged or could claim, twenty quiet minutes before its channel was over, is settled.
pub fn check(evidence: &Evidence) -> Vec<String> {
    let unpaid = evidence
        .channels
        .iter()
        .filter(|channel| channel.on_chain.settled < channel.due);
    unpaid
        .map(|channel| {
            let (id, settled, due) = (channel.id, channel.on_chain.settled, channel.due);
            format!("{id} settled {settled} of {due} that were accepted in time")
        })
        .collect()
}
