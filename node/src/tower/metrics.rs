//! What a tower takes on and refuses, counted where it is answered.

use lloom_ledger::DelegationRefusal;
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::message::{DelegationAnswer, Impediment, TowerAnswer, TowerRefusal, UpdateRefusal};
use crate::label::names;

type Label = (&'static str, &'static str);

const ANSWERS: [&str; 3] = ["taken_on", "passed_over", "refused"];

names!(reason_of_delegation, DELEGATION_REASONS, DelegationRefusal, {
    UnknownChannel: "unknown_channel",
    NotConfirmed: "not_confirmed",
    NotOperator: "not_operator",
    OtherToken: "other_token",
    Finalized: "finalized",
    AboveCeiling: "above_ceiling",
    AboveDeposit: "above_deposit",
    Settled: "settled",
    BelowMinimum: "below_minimum",
    TooLate: "too_late",
    Unusable: "unusable",
    TooManyOperators: "too_many_operators",
    TooManyChannels: "too_many_channels",
    Full: "full",
});

/// Why a delegation is refused before the store is asked.
const DOCUMENT_REASONS: [&str; 2] = ["other_channel", "wrong_signer"];

const fn reason_of_update(refusal: &UpdateRefusal) -> &'static str {
    match refusal {
        UpdateRefusal::OtherChannel => "other_channel",
        UpdateRefusal::WrongSigner { .. } => "wrong_signer",
        UpdateRefusal::Delegation(refusal) => reason_of_delegation(refusal),
    }
}

const MESSAGE_REASONS: [&str; 7] = [
    "other_deployment",
    "unknown_executor",
    "too_many_messages",
    "too_many_delegations",
    "chain_out_of_sight",
    "no_gas_money",
    "internal",
];

/// `None` for what the network answers in a tower's place.
const fn reason_of_message(refusal: &TowerRefusal) -> Option<&'static str> {
    Some(match refusal {
        TowerRefusal::NoTower | TowerRefusal::Busy => return None,
        TowerRefusal::OtherDeployment { .. } => "other_deployment",
        TowerRefusal::UnknownExecutor { .. } => "unknown_executor",
        TowerRefusal::TooManyMessages { .. } => "too_many_messages",
        TowerRefusal::TooManyDelegations { .. } => "too_many_delegations",
        TowerRefusal::Impeded(Impediment::ChainOutOfSight) => "chain_out_of_sight",
        TowerRefusal::Impeded(Impediment::NoGasMoney) => "no_gas_money",
        TowerRefusal::Internal => "internal",
    })
}

/// What a tower answers. Clones count together.
#[derive(Clone, Debug)]
pub struct TowerMetrics {
    delegations: Family<[Label; 1], Counter>,
    refusals: Family<[Label; 1], Counter>,
    refused_messages: Family<[Label; 1], Counter>,
}

impl Default for TowerMetrics {
    fn default() -> Self {
        let metrics = Self {
            delegations: Family::default(),
            refusals: Family::default(),
            refused_messages: Family::default(),
        };
        // What is there from the beginning can be added up and compared before it happens the first time.
        for answer in ANSWERS {
            drop(metrics.delegations.get_or_create(&[("answer", answer)]));
        }
        for reason in DELEGATION_REASONS.iter().chain(&DOCUMENT_REASONS) {
            drop(metrics.refusals.get_or_create(&[("reason", reason)]));
        }
        for reason in MESSAGE_REASONS {
            drop(metrics.refused_messages.get_or_create(&[("reason", reason)]));
        }
        metrics
    }
}

impl TowerMetrics {
    /// Puts them into `registry`, which is prefixed with the program's name.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "tower_delegations",
            "Channels that executors handed over, by what they were answered",
            self.delegations.clone(),
        );
        registry.register(
            "tower_refusals",
            "Channels that were not taken on, by the reason",
            self.refusals.clone(),
        );
        registry.register(
            "tower_refused_messages",
            "Messages of executors that were refused whole, by the reason",
            self.refused_messages.clone(),
        );
    }

    /// Takes what an executor is answered.
    pub(super) fn answered(&self, answer: &TowerAnswer) {
        match answer {
            TowerAnswer::Refused(refusal) => {
                if let Some(reason) = reason_of_message(refusal) {
                    self.refused_messages.get_or_create(&[("reason", reason)]).inc();
                }
            }
            TowerAnswer::Updated(answers) => answers.iter().for_each(|answer| self.delegation(answer)),
            TowerAnswer::Terms(_) | TowerAnswer::Status { .. } => {}
        }
    }

    fn delegation(&self, answer: &DelegationAnswer) {
        let answered = match answer {
            DelegationAnswer::TakenOn(_) => "taken_on",
            DelegationAnswer::PassedOver { .. } => "passed_over",
            DelegationAnswer::Refused(refusal) => {
                let reason = reason_of_update(refusal);
                self.refusals.get_or_create(&[("reason", reason)]).inc();
                "refused"
            }
        };
        self.delegations.get_or_create(&[("answer", answered)]).inc();
    }
}
