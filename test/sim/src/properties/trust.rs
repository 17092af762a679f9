use crate::evidence::Evidence;

/// A client never signed for more than it received, within its tolerance, and one increment for each answer: no voucher was
/// above that, no bill was linked that charges more than what came, and no executor, however it cheats, has taken more.
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut found = evidence.oversigned.clone();
    for loss in &evidence.losses {
        if loss.settled > loss.received {
            let (channel, settled, received) = (loss.channel, loss.settled, loss.received);
            found.push(format!(
                "{channel} settled {settled}, and {received} were received on it"
            ));
        }
    }
    found
}
