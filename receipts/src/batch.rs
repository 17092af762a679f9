//! Many ECDSA signatures checked by one equation.
//!
//! A signature (r, s, v) over the digest z by the key Q is good if `u1·G + u2·Q = R`, where `u1 = z/s`, `u2 = r/s` and R
//! is the point that r and v name. That is what recovery computes too: `(s·R − z·G)/r = Q` says the same. Checking it for
//! many signatures costs far less in one sum than one by one:
//!
//! ```text
//! Σ aᵢ·(u1ᵢ·G + u2ᵢ·Qᵢ − Rᵢ) = O
//! ```
//!
//! G appears once in it, and each signer's key once, whatever it signed; the finding of R, a square root, dominates.
//!
//! **Soundness.** The `aᵢ` are drawn for this very check, each evenly from 2¹²⁸ numbers, after all signatures are fixed.
//! If a term `Dⱼ = u1ⱼ·G + u2ⱼ·Qⱼ − Rⱼ` is not O, it generates the whole group, whose order n is a prime above 2¹²⁸:
//! however the others are drawn, exactly one residue `aⱼ` mod n makes the sum O, and at most one of the 2¹²⁸ numbers is
//! that residue. So a batch with a bad signature passes with a probability of at most 2⁻¹²⁸. With equal or foreseeable
//! `aᵢ`, two forgeries whose terms cancel would pass.
//!
//! **What it is for.** A passed batch proves all of its signatures. A failed one names none, so it is cut in halves until
//! the halves pass or are too small to be worth it; whatever is not proven is left to the check one by one, which names
//! what is wrong. So the verdict is always that of the single check. Signatures that have no place in the equation (r not
//! below n, no point of that abscissa) are left to it from the start.

mod lift;
mod multiscalar;
mod point;

use std::sync::OnceLock;

use alloy::primitives::B256;
use k256::{
    ProjectivePoint, Scalar, U256,
    elliptic_curve::{
        Group as _,
        ff::PrimeField as _,
        ops::{BatchInvert as _, Reduce},
    },
};
use rand::RngCore;
use secp256k1::PublicKey;

use crate::Signature;
use lift::{Abscissa, lift};
use point::Point;

/// The fewest signatures that are worth a batch: below, libsecp256k1 is faster one by one (`make bench`).
pub(crate) const SMALLEST: usize = 12;

/// A signature, and the key that is claimed to have made it.
pub(crate) struct Claim<'a> {
    pub(crate) digest: B256,
    pub(crate) signature: &'a Signature,
    /// Which of the keys.
    pub(crate) key: usize,
}

/// A public key Q, and 2¹²⁸·Q: so that a number of 256 bits times Q is two of half the length, like all others in the sum.
#[derive(Clone, Copy)]
pub(crate) struct KeyMultiples {
    once: Point,
    shifted: Point,
}

impl KeyMultiples {
    /// `None` never happens: a public key is a point of the curve, and so is what it is doubled to.
    pub(crate) fn of(key: &PublicKey) -> Option<Self> {
        Self::of_point(Point::of_key(key)?)
    }

    fn of_point(once: Point) -> Option<Self> {
        let mut shifted = ProjectivePoint::from(once.to_affine()?);
        for _ in 0..128 {
            shifted = shifted.double();
        }
        let shifted = Point::of_projective(&shifted)?;
        Some(Self { once, shifted })
    }

    fn of_generator() -> Option<&'static Self> {
        static GENERATOR: OnceLock<Option<KeyMultiples>> = OnceLock::new();
        let make = || Self::of_point(Point::of_projective(&ProjectivePoint::GENERATOR)?);
        GENERATOR.get_or_init(make).as_ref()
    }

    /// The two terms of `number · Q`.
    fn times(&self, number: &Scalar) -> [(Point, u128); 2] {
        let bytes = number.to_bytes();
        let (high, low) = bytes.split_at(16);
        let number = |half: &[u8]| half.iter().fold(0, |number, &byte| number << 8 | u128::from(byte));
        [(self.once, number(low)), (self.shifted, number(high))]
    }
}

/// A claim, as the equation has it.
struct Term {
    /// Where it is among the claims.
    position: usize,
    /// Which of the equation's keys.
    key: usize,
    minus_r: Point,
    u1: Scalar,
    u2: Scalar,
}

/// Which of `claims` are proven; the others have to be checked one by one.
pub(crate) fn prove(keys: &[KeyMultiples], claims: &[Claim<'_>], rng: &mut impl RngCore) -> Vec<bool> {
    let mut proven = vec![false; claims.len()];
    if claims.len() >= SMALLEST {
        let terms = terms(claims);
        Equation { keys }.prove(&terms, false, rng, &mut proven);
    }
    proven
}

/// The terms of those `claims` that have a place in the equation.
fn terms(claims: &[Claim<'_>]) -> Vec<Term> {
    struct Scalars {
        position: usize,
        r: Scalar,
        s: Scalar,
    }
    let mut scalars = Vec::with_capacity(claims.len());
    let mut abscissas = Vec::with_capacity(claims.len());
    for (position, Claim { signature, .. }) in claims.iter().enumerate() {
        let scalar = |bytes: [u8; 32]| Option::from(Scalar::from_repr(bytes.into()));
        // An r that is not below n is no scalar, and no signature either.
        let (Some(r), Some(s)) = (scalar(signature.r()), scalar(signature.s())) else {
            continue;
        };
        scalars.push(Scalars { position, r, s });
        abscissas.push(Abscissa {
            x: signature.r(),
            // The other of the two points is −R.
            odd_y: !signature.odd_y(),
        });
    }
    let inverses: Vec<Scalar> = scalars.iter().map(|scalars| scalars.s).collect();
    // None of them is zero: a signature with s = 0 has no value of its type.
    let inverses: Vec<Scalar> = Option::from(Scalar::batch_invert(inverses.as_slice())).unwrap_or_default();
    let found = scalars.into_iter().zip(inverses).zip(lift(&abscissas));
    found
        .filter_map(|((Scalars { position, r, .. }, inverse), minus_r)| {
            let claim = &claims[position];
            Some(Term {
                position,
                key: claim.key,
                minus_r: minus_r?,
                u1: residue(claim.digest) * inverse,
                u2: r * inverse,
            })
        })
        .collect()
}

/// A digest as ECDSA counts with it: modulo n.
fn residue(digest: B256) -> Scalar {
    <Scalar as Reduce<U256>>::reduce_bytes(&digest.0.into())
}

struct Equation<'a> {
    keys: &'a [KeyMultiples],
}

impl Equation<'_> {
    /// Marks which of `terms` are proven, and says whether all are. `fails`: that the equation over all of them does not hold is
    /// known already.
    fn prove(&self, terms: &[Term], fails: bool, rng: &mut impl RngCore, proven: &mut [bool]) -> bool {
        if terms.len() < SMALLEST {
            return false;
        }
        if !fails && self.holds(terms, rng) {
            terms.iter().for_each(|term| proven[term.position] = true);
            return true;
        }
        let (left, right) = terms.split_at(terms.len() / 2);
        let left_holds = self.prove(left, false, rng, proven);
        self.prove(right, left_holds, rng, proven);
        false
    }

    fn holds(&self, terms: &[Term], rng: &mut impl RngCore) -> bool {
        let coefficients = terms.iter().map(|_| {
            let mut bytes = [0; 16];
            rng.fill_bytes(&mut bytes);
            u128::from_le_bytes(bytes)
        });
        self.holds_with(terms, coefficients)
    }

    fn holds_with(&self, terms: &[Term], coefficients: impl Iterator<Item = u128>) -> bool {
        let mut of_generator = Scalar::ZERO;
        let mut of_keys = vec![None; self.keys.len()];
        let mut sum = Vec::with_capacity(terms.len() + 2 * of_keys.len() + 2);
        for (term, coefficient) in terms.iter().zip(coefficients) {
            let scalar = Scalar::from(coefficient);
            of_generator += scalar * term.u1;
            *of_keys[term.key].get_or_insert(Scalar::ZERO) += scalar * term.u2;
            sum.push((term.minus_r, coefficient));
        }
        for (key, number) in self.keys.iter().zip(&of_keys) {
            sum.extend(number.iter().flat_map(|number| key.times(number)));
        }
        let Some(generator) = KeyMultiples::of_generator() else {
            return false;
        };
        sum.extend(generator.times(&of_generator));
        multiscalar::multiply(&sum).is_some_and(|sum| bool::from(sum.is_identity()))
    }
}

#[cfg(test)]
mod tests;
