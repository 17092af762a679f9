//! Checking what a tower says, against what it was asked.

use alloy::primitives::Address;
use lloom_ledger::Undelegated;
use lloom_receipts::{ChannelId, Domain, Signed, TokenAmount, TowerAppointment, UnixSeconds, Verified, Verifier};

use super::message::{DelegationAnswer, TowerProfile, UpdateRefusal};

/// What an honest tower never says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TowerFault {
    /// Somebody else's signature, or none.
    #[error("the appointment of the channel {channel} is not signed by the tower")]
    WrongSigner {
        /// The channel.
        channel: ChannelId,
    },
    /// An appointment in another's name, or for another.
    #[error("the appointment of the channel {channel} is between others than the tower and this operator")]
    OtherParties {
        /// The channel.
        channel: ChannelId,
    },
    /// An appointment of another channel.
    #[error("the tower was asked for the channel {asked} and answered for {answered}")]
    OtherChannel {
        /// What was asked.
        asked: ChannelId,
        /// What was answered.
        answered: ChannelId,
    },
    /// An appointment over another amount, and no voucher that explains it.
    #[error("the tower was asked to claim {asked} of the channel {channel} and promised {promised}")]
    OtherAmount {
        /// The channel.
        channel: ChannelId,
        /// What was asked.
        asked: TokenAmount,
        /// What was answered.
        promised: TokenAmount,
    },
    /// Worse terms than it told.
    #[error("the appointment of the channel {channel} has worse terms than the tower told")]
    OtherTerms {
        /// The channel.
        channel: ChannelId,
    },
    /// More or fewer answers than there were questions.
    #[error("the number of channels that the tower was asked for is {asked}, and that of its answers {answered}")]
    OtherCount {
        /// What was asked.
        asked: usize,
        /// What was answered.
        answered: usize,
    },
    /// It signed for a channel, and does not hold it.
    #[error("the tower has signed for the channel {channel} and does not hold it any more")]
    Forgot {
        /// The channel.
        channel: ChannelId,
    },
    /// It speaks in the name of another, or of another chain than before.
    #[error("the tower introduces itself as {named}")]
    OtherName {
        /// Whom it names.
        named: Address,
    },
}

/// What was taken on, and what wasn't, in the order asked.
pub type Statements = Vec<Result<Signed<TowerAppointment, Verified>, UpdateRefusal>>;

/// Checks the answers of the tower `profile` to an update, against the delegations `asked` by `operator`.
///
/// # Errors
/// [`TowerFault`], and nothing of the answer is believed: whoever lies about one channel is not asked to be trusted with
/// the others.
pub fn check_answers(
    asked: &[Undelegated],
    answers: Vec<DelegationAnswer>,
    profile: &TowerProfile,
    operator: Address,
    domain: &Domain,
    verifier: &Verifier,
    now: UnixSeconds,
) -> Result<Statements, TowerFault> {
    if answers.len() != asked.len() {
        return Err(TowerFault::OtherCount {
            asked: asked.len(),
            answered: answers.len(),
        });
    }
    asked
        .iter()
        .zip(answers)
        .map(|(asked, answer)| {
            let (appointment, proof) = match answer {
                DelegationAnswer::Refused(refusal) => return Ok(Err(refusal)),
                DelegationAnswer::TakenOn(appointment) => (appointment, None),
                DelegationAnswer::PassedOver { appointment, voucher } => (appointment, Some(voucher)),
            };
            let said = *appointment.document();
            let channel = asked.channel.id;
            if said.channel != channel {
                return Err(TowerFault::OtherChannel {
                    asked: channel,
                    answered: said.channel,
                });
            }
            if (said.tower, said.operator) != (profile.tower, operator) {
                return Err(TowerFault::OtherParties { channel });
            }
            let wanted = &asked.delegation;
            let better = || {
                // It may hold what a restored copy of the own store has forgotten: the payer side's signature proves it.
                proof.is_some_and(|voucher| {
                    let signer = asked.channel.parameters.payer_side();
                    let (of, ceiling) = (voucher.document().channel, voucher.document().amount);
                    of == channel && ceiling == said.ceiling && voucher.verify(domain, verifier, signer).is_ok()
                }) && said.claim > wanted.claim
                    && said.claim <= said.ceiling
            };
            let same = said.claim == wanted.claim && said.ceiling >= said.claim;
            if !same && !better() {
                return Err(TowerFault::OtherAmount {
                    channel,
                    asked: wanted.claim,
                    promised: said.claim,
                });
            }
            let worse = said.minimum_value > profile.minimum_value || said.max_fee_per_gas < profile.max_fee_per_gas;
            if worse || said.expires_at <= now {
                return Err(TowerFault::OtherTerms { channel });
            }
            appointment
                .verify(domain, verifier, profile.tower)
                .map(Ok)
                .map_err(|_| TowerFault::WrongSigner { channel })
        })
        .collect()
}
