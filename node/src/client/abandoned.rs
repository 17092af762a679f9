//! Why a client gives a request up: kept in its ledger, and read again when a bill of it turns up later.

/// How the reason begins where the executor billed or counted more than is owed.
const OVERBILLED: &str = "overbilled: ";

/// The reason where `why` says what is not owed; `bill` is the evidence, where there is a signed one.
pub(super) fn for_overbilling(why: &str, bill: Option<&str>) -> String {
    match bill {
        Some(bill) => format!("{OVERBILLED}{why}; bill: {bill}"),
        None => format!("{OVERBILLED}{why}"),
    }
}

/// Whether that is the reason: then nothing is paid for the request any more, whichever bill is offered.
pub(super) fn is_for_overbilling(reason: &str) -> bool {
    reason.starts_with(OVERBILLED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_known_again() {
        assert!(is_for_overbilling(&for_overbilling("too much", None)));
        assert!(is_for_overbilling(&for_overbilling("too much", Some("{}"))));
        assert!(!is_for_overbilling("refused: the bill is overbilled: no"));
        assert!(!is_for_overbilling("never billed"));
    }
}
