use crate::evidence::Evidence;

/// Nobody served beyond the exposure limit: whenever a piece of an answer left, its channel's vouchers and the limit covered
/// all that had been served on it.
pub fn check(evidence: &Evidence) -> Vec<String> {
    evidence.overserved.clone()
}
