use alloy::primitives::{Address, B256};
use lloom_bindings::eip712;
use serde::{Deserialize, Serialize};

use crate::{ChannelId, Document, Domain, TokenAmount, UnixSeconds, struct_hash::TypeHash};

/// What a tower took on for an executor: its word that it claims a channel's money when the executor is away.
///
/// The tower promises: should the payer request the close of `channel` until `expires_at`, and should the channel not
/// have settled `claim` by itself, then the tower claims `claim` within the grace period with the voucher over `ceiling`,
/// offering up to `max_fee_per_gas`, as long as that brings at least `minimum_value`. A channel that paid less all the
/// same proves, beside this document, that the tower slept.
///
/// No contract reads it: what a tower claims can only reach the payee, so nothing has to hold it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TowerAppointment {
    /// The channel.
    pub channel: ChannelId,
    /// Who promises, and signs.
    pub tower: Address,
    /// Whom it is promised: an operator of the channel's payee, or the payee.
    pub operator: Address,
    /// What the voucher signs, cumulative base units.
    pub ceiling: TokenAmount,
    /// What the channel's `settled` is to become, base units; at most the ceiling.
    pub claim: TokenAmount,
    /// The least that the claim has to bring beyond what is settled, base units.
    pub minimum_value: TokenAmount,
    /// The most that the tower offers for gas, wei.
    pub max_fee_per_gas: u128,
    /// When the tower took it on, or renewed it.
    pub taken_at: UnixSeconds,
    /// Closes that are requested later are not defended.
    pub expires_at: UnixSeconds,
}

impl Document for TowerAppointment {
    fn struct_hash(&self) -> B256 {
        static TYPE: TypeHash = TypeHash::new();
        TYPE.hash(&eip712::TowerAppointment {
            channelId: self.channel.hash(),
            tower: self.tower,
            operator: self.operator,
            cumulativeAmount: self.ceiling.base_units(),
            claimAmount: self.claim.base_units(),
            minimumValue: self.minimum_value.base_units(),
            maxFeePerGas: self.max_fee_per_gas,
            takenAt: self.taken_at.get(),
            expiresAt: self.expires_at.get(),
        })
    }

    fn separator(domain: &Domain) -> B256 {
        domain.settlement_separator()
    }
}

impl TowerAppointment {
    /// Whether it promises to bring a channel that has settled `settled` to at least `amount`, at `now`.
    pub fn covers(&self, amount: TokenAmount, settled: TokenAmount, now: UnixSeconds) -> bool {
        self.claim >= amount && self.expires_at > now && self.claim.saturating_sub(settled) >= self.minimum_value
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::hex;

    use super::*;
    use crate::{Keypair, Verifier, VerifyError};

    /// `appointment-typical` of `test/vectors/eip712.json`, whose key is the fifth of every development chain.
    fn typical() -> (Domain, TowerAppointment, Keypair) {
        let file: serde_json::Value =
            serde_json::from_str(include_str!("../../test/vectors/eip712.json")).expect("JSON");
        let vectors = file["vectors"].as_array().expect("vectors");
        let vector = vectors
            .iter()
            .find(|vector| vector["name"] == "appointment-typical")
            .expect("the vector");
        let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
        let message = |field: &str| text(&vector["message"][field]);
        let number = |field: &str| message(field).parse::<u128>().expect("a number");
        let appointment = TowerAppointment {
            channel: message("channelId").parse().expect("a hash"),
            tower: message("tower").parse().expect("an address"),
            operator: message("operator").parse().expect("an address"),
            ceiling: TokenAmount::new(number("cumulativeAmount")),
            claim: TokenAmount::new(number("claimAmount")),
            minimum_value: TokenAmount::new(number("minimumValue")),
            max_fee_per_gas: number("maxFeePerGas"),
            taken_at: UnixSeconds::new(number("takenAt") as u64),
            expires_at: UnixSeconds::new(number("expiresAt") as u64),
        };
        let settlement = text(&vector["domain"]["verifyingContract"])
            .parse()
            .expect("an address");
        let domain = Domain::new(31_337, Address::ZERO, settlement);
        assert_eq!(appointment.digest(&domain).to_string(), text(&vector["digest"]));
        let secret = hex::decode(text(&vector["privateKey"])).expect("hex");
        let key = Keypair::from_secret(secret.try_into().expect("32 bytes")).expect("a key");
        (domain, appointment, key)
    }

    #[test]
    fn is_signed_by_the_tower_it_names() {
        let (domain, appointment, key) = typical();
        let verifier = Verifier::default();
        let signed = key.sign(&domain, appointment).into_unverified();
        signed
            .clone()
            .verify(&domain, &verifier, appointment.tower)
            .expect("signed");
        let other = Domain::new(1, Address::ZERO, domain.settlement());
        assert!(matches!(
            signed.verify(&other, &verifier, appointment.tower),
            Err(VerifyError::WrongSigner { .. })
        ));
    }

    #[test]
    fn covers_what_it_promises_and_no_longer_than_it_says() {
        let (_, appointment, _) = typical();
        let (claim, zero) = (appointment.claim, TokenAmount::ZERO);
        let now = appointment.taken_at;
        assert!(appointment.covers(claim, zero, now));
        assert!(!appointment.covers(claim.saturating_add(TokenAmount::new(1)), zero, now));
        assert!(!appointment.covers(claim, zero, appointment.expires_at));
        // What is left to claim is below what the tower goes out for.
        let settled = claim.saturating_sub(TokenAmount::new(appointment.minimum_value.base_units() - 1));
        assert!(!appointment.covers(claim, settled, now));
    }
}
