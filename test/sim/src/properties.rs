//! What has to hold once everything has settled, whatever happened before.

mod budget;
mod exposure;
mod honesty;
mod ledger;
mod nonce;
mod obligation;
mod payment;
mod theft;
mod trust;

use crate::evidence::Evidence;

/// A rule of the design.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// Every durably accepted unit is paid by its deadline whenever the chain was reachable long enough.
    Payment,
    /// Nothing is paid twice, and nothing is taken that was neither billed nor delivered.
    Theft,
    /// No double nonce.
    Nonce,
    /// The ledger equals the chain.
    Ledger,
    /// Every obligation ended in a final success or a proof that it is moot.
    Obligation,
    /// Nobody served beyond the exposure limit.
    Exposure,
    /// A client never signed beyond its budget.
    Budget,
    /// A client never signed for more than it received, within its tolerance, and one increment.
    Trust,
    /// Nobody honest ever signed what the registry punishes, restored backups included.
    Honesty,
    /// No process stops by itself, and none of its tasks crashes.
    Life,
}

/// A rule that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub property: Property,
    /// How.
    pub what: String,
}

impl Violation {
    /// A violation of `property`.
    pub fn of(property: Property, what: impl Into<String>) -> Self {
        Self {
            property,
            what: what.into(),
        }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}: {}", self.property, self.what)
    }
}

/// Every rule that `evidence` shows to be broken.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    type Check = fn(&Evidence) -> Vec<String>;
    let checks: [(Property, Check); 9] = [
        (Property::Payment, payment::check),
        (Property::Theft, theft::check),
        (Property::Nonce, nonce::check),
        (Property::Ledger, ledger::check),
        (Property::Obligation, obligation::check),
        (Property::Exposure, exposure::check),
        (Property::Budget, budget::check),
        (Property::Trust, trust::check),
        (Property::Honesty, honesty::check),
    ];
    let mut violations = Vec::new();
    for (property, check) in checks {
        violations.extend(check(evidence).into_iter().map(|what| Violation { property, what }));
    }
    violations
}
