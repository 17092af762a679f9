use alloy::primitives::{Address, B256, U256, keccak256, uint};
use k256::{AffinePoint, elliptic_curve::point::DecompressPoint as _};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use rand::{RngCore, SeedableRng as _, rngs::StdRng};

use super::*;
use crate::{Keypair, SignatureCheck, Verifier, VerifyError};

const ORDER: U256 = uint!(0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141_U256);
const FIELD: U256 = uint!(0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFC2F_U256);

fn keypair(number: u8) -> Keypair {
    Keypair::from_secret([number; 32]).unwrap()
}

/// Signatures over different digests, by `signers` keys in turn.
fn checks(count: u64, signers: u8) -> Vec<SignatureCheck> {
    let keys: Vec<_> = (1..=signers).map(keypair).collect();
    (0..count)
        .zip(keys.iter().cycle())
        .map(|(number, key)| {
            let digest = keccak256(number.to_be_bytes());
            SignatureCheck {
                digest,
                signature: key.sign_digest(digest),
                signer: key.address(),
            }
        })
        .collect()
}

/// One that knows these signers already.
fn acquainted(checks: &[SignatureCheck]) -> Verifier {
    let verifier = Verifier::default();
    for check in checks {
        verifier.check(check.digest, &check.signature, check.signer).unwrap();
    }
    verifier
}

/// The verdicts of the batch, which have to be those of libsecp256k1, one by one.
fn verdicts(verifier: &Verifier, checks: &[SignatureCheck]) -> Vec<Result<(), VerifyError>> {
    let single = Verifier::default();
    let expected: Vec<_> = checks
        .iter()
        .map(|check| single.check(check.digest, &check.signature, check.signer))
        .collect();
    let together = verifier.check_all(checks);
    assert_eq!(together, expected);
    together
}

/// Which of `checks` the equation proves, without the check one by one behind it.
fn proven(checks: &[SignatureCheck]) -> Vec<bool> {
    prove(&multiples(), &claims(checks), &mut rand::rng())
}

/// Of the keys 1 to 4.
fn multiples() -> Vec<KeyMultiples> {
    let public = |number| {
        secp256k1::Keypair::from_secret_bytes([number; 32])
            .unwrap()
            .public_key()
    };
    (1..=4)
        .map(|number| KeyMultiples::of(&public(number)).unwrap())
        .collect()
}

fn claims(checks: &[SignatureCheck]) -> Vec<Claim<'_>> {
    let signers: Vec<Address> = (1..=4).map(|number| keypair(number).address()).collect();
    checks
        .iter()
        .map(|check| Claim {
            digest: check.digest,
            signature: &check.signature,
            key: signers.iter().position(|signer| *signer == check.signer).unwrap(),
        })
        .collect()
}

fn rebuilt(signature: &Signature, change: impl FnOnce(&mut [u8; 65])) -> Signature {
    let mut bytes = signature.to_bytes();
    change(&mut bytes);
    Signature::from_bytes(&bytes).unwrap()
}

#[test]
fn good_signatures_are_proven_without_a_single_check() {
    for (count, signers) in [(SMALLEST as u64, 1), (13, 4), (64, 1), (100, 4), (257, 2)] {
        let checks = checks(count, signers);
        assert_eq!(proven(&checks), vec![true; count as usize], "{count} by {signers}");
    }
}

#[test]
fn the_same_signature_any_number_of_times_is_still_good() {
    let mut checks = checks(4, 2);
    for _ in 0..5 {
        checks.extend_from_within(..);
    }
    assert_eq!(proven(&checks), vec![true; checks.len()]);
}

#[test]
fn each_bad_signature_is_named_and_no_good_one() {
    let good = checks(60, 3);
    let verifier = acquainted(&good[..3]);
    let stranger = keypair(9);
    let expect_bad = |what: &str, change: &dyn Fn(&mut Vec<SignatureCheck>), bad: &[usize]| {
        let mut checks = good.clone();
        change(&mut checks);
        let found: Vec<usize> = verdicts(&verifier, &checks)
            .iter()
            .enumerate()
            .filter_map(|(place, verdict)| verdict.is_err().then_some(place))
            .collect();
        assert_eq!(found, bad, "{what}");
        assert!(bad.iter().all(|&place| !proven(&checks)[place]), "{what}");
    };
    for bit in [0, 1, 7, 128, 254, 255] {
        let flip = move |word: usize| {
            move |checks: &mut Vec<SignatureCheck>| {
                checks[7].signature = rebuilt(&checks[7].signature, |bytes| {
                    bytes[word * 32 + bit / 8] ^= 1 << (bit % 8)
                });
            }
        };
        expect_bad("a bit of r", &flip(0), &[7]);
        // A set highest bit would be a high s.
        if bit != 7 && bit != 0 {
            expect_bad("a bit of s", &flip(1), &[7]);
        }
        expect_bad(
            "a bit of the digest",
            &move |checks| checks[59].digest.0[bit / 8] ^= 1 << (bit % 8),
            &[59],
        );
    }
    expect_bad(
        "signatures swapped",
        &|checks| {
            let (left, right) = (checks[3].signature, checks[40].signature);
            (checks[3].signature, checks[40].signature) = (right, left);
        },
        &[3, 40],
    );
    expect_bad(
        "signatures of one signer swapped",
        &|checks| {
            let (left, right) = (checks[0].signature, checks[3].signature);
            (checks[0].signature, checks[3].signature) = (right, left);
        },
        &[0, 3],
    );
    expect_bad(
        "another known signer",
        &|checks| checks[0].signer = good[1].signer,
        &[0],
    );
    expect_bad(
        "a stranger's signature",
        &|checks| {
            checks[30].signature = stranger.sign_digest(checks[30].digest);
        },
        &[30],
    );
    expect_bad(
        "the recovery bit of the other point",
        &|checks| {
            checks[12].signature = rebuilt(&checks[12].signature, |bytes| bytes[64] = 55 - bytes[64]);
        },
        &[12],
    );
    expect_bad(
        "all of them",
        &|checks| {
            checks
                .iter_mut()
                .for_each(|check| check.digest = keccak256(check.digest));
        },
        &(0..60).collect::<Vec<_>>(),
    );
    expect_bad(
        "every second",
        &|checks| {
            checks
                .iter_mut()
                .step_by(2)
                .for_each(|check| check.digest = keccak256(check.digest));
        },
        &(0..60).step_by(2).collect::<Vec<_>>(),
    );
}

/// −s is as good as s for the curve; the chain refuses it, and so there is no [`Signature`] of it.
#[test]
fn a_high_s_never_gets_to_the_equation() {
    let check = checks(1, 1)[0];
    let mut bytes = check.signature.to_bytes();
    let high = ORDER - U256::from_be_bytes(check.signature.s());
    bytes[32..64].copy_from_slice(&high.to_be_bytes::<32>());
    bytes[64] = 55 - bytes[64];
    assert!(Signature::from_bytes(&bytes).is_err());
}

#[test]
fn an_r_at_the_edges_is_judged_as_it_is_alone() {
    let good = checks(40, 2);
    let verifier = acquainted(&good[..2]);
    // Where r could be taken for r − n, or is no abscissa, or none of the field.
    let edges = [
        U256::ONE,
        U256::from(2),
        U256::from(5),
        ORDER - U256::from(2),
        ORDER - U256::ONE,
        ORDER,
        ORDER + U256::ONE,
        ORDER + U256::from(2),
        ORDER + U256::from(6),
        FIELD - U256::ONE,
        FIELD,
        FIELD + U256::ONE,
        U256::MAX,
    ];
    let mut checks = good;
    for (place, r) in edges.into_iter().enumerate() {
        let check = &mut checks[place + 3];
        check.signature = rebuilt(&check.signature, |bytes| {
            bytes[..32].copy_from_slice(&r.to_be_bytes::<32>())
        });
    }
    let bad = verdicts(&verifier, &checks)
        .iter()
        .filter(|verdict| verdict.is_err())
        .count();
    assert_eq!(bad, edges.len());
}

/// Digests are numbers up to 2²⁵⁶ and are taken modulo n, also where that makes them 0.
#[test]
fn a_digest_at_the_edges_is_judged_as_it_is_alone() {
    let key = keypair(1);
    let edges = [
        U256::ZERO,
        U256::ONE,
        ORDER - U256::ONE,
        ORDER,
        ORDER + U256::ONE,
        U256::MAX,
    ];
    let mut checks = checks(30, 1);
    for (check, edge) in checks.iter_mut().zip(edges) {
        check.digest = B256::from(edge);
        check.signature = key.sign_digest(check.digest);
    }
    assert_eq!(proven(&checks), vec![true; 30]);
    // The same residue, another digest: for ECDSA, and for the chain, it is the same one.
    checks[0].digest = B256::from(ORDER);
    assert!(verdicts(&acquainted(&checks[..1]), &checks).iter().all(Result::is_ok));
}

/// Why the coefficients have to be random: here two forgeries cancel each other when all are 1, or equal, or known.
#[test]
fn forgeries_that_cancel_each_other_don_t_pass() {
    let mut checks = checks(20, 1);
    let scalar = |bytes: [u8; 32]| Option::<Scalar>::from(Scalar::from_repr(bytes.into())).unwrap();
    let delta = Scalar::from(12_345_u64);
    for (place, delta) in [(4, delta), (11, -delta)] {
        let check = &mut checks[place];
        let z = residue(check.digest);
        // Adds delta·G to the claim's term.
        check.digest = B256::from_slice(&(z + delta * scalar(check.signature.s())).to_bytes());
    }
    let (keys, terms) = (multiples(), terms(&claims(&checks)));
    let equation = Equation { keys: &keys };
    assert!(equation.holds_with(&terms, std::iter::repeat(1)));
    assert!(equation.holds_with(&terms, std::iter::repeat(u128::MAX)));
    for seed in 0..20 {
        assert!(!equation.holds(&terms, &mut StdRng::seed_from_u64(seed)), "seed {seed}");
    }
    let found = verdicts(&acquainted(&checks[..1]), &checks);
    assert!(found[4].is_err() && found[11].is_err());
    assert_eq!(found.iter().filter(|verdict| verdict.is_err()).count(), 2);
}

/// Coefficients of their full width, fresh for each check: what the soundness argument takes for granted.
#[test]
fn every_check_draws_coefficients_of_128_bits_anew() {
    struct Counting(StdRng, usize);
    impl RngCore for Counting {
        fn next_u32(&mut self) -> u32 {
            self.0.next_u32()
        }
        fn next_u64(&mut self) -> u64 {
            self.0.next_u64()
        }
        fn fill_bytes(&mut self, bytes: &mut [u8]) {
            self.1 += bytes.len();
            self.0.fill_bytes(bytes);
        }
    }
    let mut checks = checks(32, 1);
    checks[0].digest = keccak256(checks[0].digest);
    let mut rng = Counting(StdRng::seed_from_u64(1), 0);
    let proven = prove(&multiples(), &claims(&checks), &mut rng);
    assert_eq!(proven.iter().filter(|proven| **proven).count(), 16);
    // All 32; then the first 16, which fail too. That the other 16 fail is not known, so they are checked.
    assert_eq!(rng.1, 16 * (32 + 16 + 16));
}

#[test]
fn strangers_are_checked_one_by_one_and_known_from_then_on() {
    let checks = checks(40, 4);
    let verifier = Verifier::default();
    assert!(verifier.check_all(&checks).iter().all(Result::is_ok));
    assert!(verifier.check_all(&checks).iter().all(Result::is_ok));
    // One that never made a good signature stays a stranger.
    let mut forged = checks;
    let nobody = Address::repeat_byte(7);
    forged.iter_mut().step_by(4).for_each(|check| check.signer = nobody);
    assert_eq!(
        verdicts(&verifier, &forged)
            .iter()
            .filter(|verdict| verdict.is_err())
            .count(),
        10
    );
}

/// `number · point`, by doubling and adding with the curve's complete formulas.
fn product(point: &Point, number: u128) -> ProjectivePoint {
    let point = ProjectivePoint::from(point.to_affine().unwrap());
    (0..128).rev().fold(ProjectivePoint::IDENTITY, |sum, bit| {
        let doubled = sum.double();
        if number >> bit & 1 == 1 {
            doubled + point
        } else {
            doubled
        }
    })
}

fn point(number: u64) -> Point {
    Point::of_projective(&(ProjectivePoint::GENERATOR * Scalar::from(number))).unwrap()
}

#[test]
fn sums_of_products_are_what_they_are_one_by_one() {
    let edges = [
        0,
        1,
        2,
        3,
        127,
        128,
        129,
        255,
        256,
        1 << 64,
        u128::MAX - 1,
        u128::MAX,
        1 << 127,
        (1 << 127) - 1,
    ];
    let cases: [Vec<(Point, u128)>; 5] = [
        vec![],
        vec![(point(5), 0), (point(6), 0)],
        // The same point with the same number: the line through both is a tangent.
        edges
            .iter()
            .map(|&number| (point(3), number))
            .chain([(point(3), 1), (point(3), 1)])
            .collect(),
        // A point and its negative: there is no line.
        edges
            .iter()
            .flat_map(|&number| [(point(4), number), (point(4).negate_if(true), number)])
            .collect(),
        (1..200)
            .map(|number| (point(number), u128::MAX / u128::from(number)))
            .collect(),
    ];
    for terms in cases {
        let expected: ProjectivePoint = terms.iter().map(|(point, number)| product(point, *number)).sum();
        assert_eq!(multiscalar::multiply(&terms), Some(expected), "{} terms", terms.len());
    }
}

#[test]
fn lifting_finds_the_points_that_decompression_finds() {
    let mut abscissas = Vec::new();
    for number in 0..50_u64 {
        abscissas.push(keccak256(number.to_be_bytes()).0);
    }
    abscissas.extend([
        [0; 32],
        [0xff; 32],
        FIELD.to_be_bytes(),
        (FIELD + U256::ONE).to_be_bytes(),
        U256::ONE.to_be_bytes(),
    ]);
    for odd_y in [false, true] {
        let lifted = lift(&abscissas.iter().map(|&x| Abscissa { x, odd_y }).collect::<Vec<_>>());
        for (x, found) in abscissas.iter().zip(lifted) {
            let expected = Option::<AffinePoint>::from(AffinePoint::decompress(&(*x).into(), u8::from(odd_y).into()));
            assert_eq!(found.map(|point| point.to_affine().unwrap()), expected);
        }
    }
}

/// What is done to a signature.
#[derive(Clone, Debug)]
enum Mutation {
    None,
    FlipR(u8),
    FlipS(u8),
    FlipDigest(u8),
    FlipParity,
    ReplaceR([u8; 32]),
    TakeSignatureOf(prop::sample::Index),
    TakeSignerOf(prop::sample::Index),
    Repeat(prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        12 => Just(Mutation::None),
        1 => any::<u8>().prop_map(Mutation::FlipR),
        1 => any::<u8>().prop_map(Mutation::FlipS),
        1 => any::<u8>().prop_map(Mutation::FlipDigest),
        1 => Just(Mutation::FlipParity),
        1 => any::<[u8; 32]>().prop_map(Mutation::ReplaceR),
        1 => any::<prop::sample::Index>().prop_map(Mutation::TakeSignatureOf),
        1 => any::<prop::sample::Index>().prop_map(Mutation::TakeSignerOf),
        1 => any::<prop::sample::Index>().prop_map(Mutation::Repeat),
    ]
}

fn mutate(good: &[SignatureCheck], place: usize, mutation: &Mutation) -> SignatureCheck {
    let mut check = good[place];
    let mut bytes = check.signature.to_bytes();
    match mutation {
        Mutation::None => {}
        Mutation::FlipR(bit) => bytes[usize::from(bit / 8)] ^= 1 << (bit % 8),
        Mutation::FlipS(bit) => bytes[32 + usize::from(bit / 8)] ^= 1 << (bit % 8),
        Mutation::FlipDigest(bit) => check.digest.0[usize::from(bit / 8)] ^= 1 << (bit % 8),
        Mutation::FlipParity => bytes[64] = 55 - bytes[64],
        Mutation::ReplaceR(r) => bytes[..32].copy_from_slice(r),
        Mutation::TakeSignatureOf(other) => bytes = other.get(good).signature.to_bytes(),
        Mutation::TakeSignerOf(other) => check.signer = other.get(good).signer,
        Mutation::Repeat(other) => return *other.get(good),
    }
    // What is no canonical signature has no value of its type, an `s` in the upper half above all; the good one stays then.
    check.signature = Signature::from_bytes(&bytes).unwrap_or(check.signature);
    check
}

/// Cases of the comparison: some here, many with `make fuzz`.
fn cases() -> u32 {
    std::env::var("LLOOM_FUZZ_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn a_batch_says_what_each_check_alone_says(
        mutations in prop::collection::vec(mutation(), SMALLEST..80),
        signers in 1_u8..=4,
    ) {
        let good = checks(mutations.len() as u64, signers);
        let verifier = acquainted(&good[..usize::from(signers)]);
        let mutated: Vec<_> = mutations
            .iter()
            .enumerate()
            .map(|(place, mutation)| mutate(&good, place, mutation))
            .collect();
        verdicts(&verifier, &mutated);
    }
}
