use crate::evidence::Evidence;

/// Nobody served beyond the exposure limit: whenever a piece of an answer left, its payer's vouchers and its executor's limit
/// for that payer covered all that had been served on the payer's channels.
pub fn check(evidence: &Evidence) -> Vec<String> {
    evidence.overserved.clone()
}
