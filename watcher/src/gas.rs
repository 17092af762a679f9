//! Gas limits. Pure.

/// Thousandths of an estimate that are added to it: until the transaction is mined, a row of it may be settled by somebody
/// else (which makes it cheaper), or a payee's balance emptied (a transfer into an empty balance costs 17,100 more).
const MARGIN_PER_MILLE: u64 = 250;
/// Added too: a quarter of a small call is less than what one cold account costs.
const MARGIN: u64 = 5_000;
/// What a claim gets at least, whatever an endpoint estimates: what `snapshots/Settlement.json` measures for the dearest
/// claim of one row, rounded up.
const LEAST_FOR_CLAIM: u64 = 60_000;
/// And for each row: the dearest row, rounded up.
const LEAST_FOR_ROW: u64 = 30_000;

/// The gas limit of a call that was estimated to use `estimate`.
pub(crate) const fn with_margin(estimate: u64) -> u64 {
    estimate
        .saturating_add(estimate.saturating_mul(MARGIN_PER_MILLE) / 1_000)
        .saturating_add(MARGIN)
}

/// The gas limit of a claim or close of `rows` channels that was estimated to use `estimate`.
pub(crate) fn for_claim(estimate: u64, rows: usize) -> u64 {
    with_margin(estimate).max(LEAST_FOR_CLAIM.saturating_add(LEAST_FOR_ROW.saturating_mul(rows as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_an_estimate_and_a_quarter_and_never_less_than_a_claim_needs() {
        assert_eq!(with_margin(100_000), 130_000);
        assert_eq!(with_margin(999), 6_248);
        assert_eq!(with_margin(u64::MAX), u64::MAX);
        assert_eq!(for_claim(1_600_000, 100), 3_060_000);
        assert_eq!(for_claim(4_000_000, 100), 5_005_000);
        // An endpoint whose state lacks the channel estimates what skipping it costs.
        assert_eq!(for_claim(25_000, 1), 90_000);
    }
}
