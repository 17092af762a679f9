use k256::{
    AffinePoint, EncodedPoint, FieldBytes, FieldElement, ProjectivePoint,
    elliptic_curve::sec1::{FromEncodedPoint as _, ToEncodedPoint as _},
};
use secp256k1::PublicKey;

/// A point of secp256k1 other than the neutral one, by its two coordinates, both of magnitude 1 (as `k256` counts how
/// far a field element is from being reduced).
#[derive(Clone, Copy)]
pub(super) struct Point {
    pub(super) x: FieldElement,
    pub(super) y: FieldElement,
}

impl Point {
    /// `None` for no point of the curve; a public key always is one.
    pub(super) fn of_key(key: &PublicKey) -> Option<Self> {
        let encoded = key.serialize_uncompressed();
        let coordinate = |bytes: &[u8]| Option::from(FieldElement::from_bytes(FieldBytes::from_slice(bytes)));
        Some(Self {
            x: coordinate(&encoded[1..33])?,
            y: coordinate(&encoded[33..])?,
        })
    }

    /// `None` for the neutral point.
    pub(super) fn of_projective(point: &ProjectivePoint) -> Option<Self> {
        let encoded = point.to_affine().to_encoded_point(false);
        let coordinate = |bytes: &FieldBytes| Option::from(FieldElement::from_bytes(bytes));
        Some(Self {
            x: coordinate(encoded.x()?)?,
            y: coordinate(encoded.y()?)?,
        })
    }

    /// For what `k256` computes with. `None` if the coordinates are no point of the curve, which sums of points are.
    pub(super) fn to_affine(self) -> Option<AffinePoint> {
        let encoded = EncodedPoint::from_affine_coordinates(&self.x.to_bytes(), &self.y.to_bytes(), false);
        AffinePoint::from_encoded_point(&encoded).into()
    }

    pub(super) fn negate_if(self, negative: bool) -> Self {
        if !negative {
            return self;
        }
        Self {
            x: self.x,
            y: self.y.negate(1).normalize_weak(),
        }
    }
}

/// How two points are added. The slope of the line through them is a fraction; its denominators are inverted for many
/// pairs at once, which makes an addition cost six multiplications.
enum Slope {
    /// Of the line through both.
    Chord,
    /// Of the line that touches the curve in the one point that both are.
    Tangent,
    /// None: they are each other's negatives, and their sum is the neutral point.
    Vertical,
}

/// Adds up each of many lists of points, pair by pair: with every round all lists get half as long, and one inversion
/// does for all pairs of a round.
pub(super) struct Sums {
    /// All lists' points, one list after the other.
    points: Vec<Point>,
    /// How many of them each list has.
    lengths: Vec<u32>,
    scratch: Scratch,
}

#[derive(Default)]
struct Scratch {
    next: Vec<Point>,
    slopes: Vec<Slope>,
    denominators: Vec<FieldElement>,
    /// At each place the product of all denominators before.
    products: Vec<FieldElement>,
}

impl Sums {
    pub(super) fn with_capacity(points: usize, lists: usize) -> Self {
        Self {
            points: Vec::with_capacity(points),
            lengths: Vec::with_capacity(lists),
            scratch: Scratch::default(),
        }
    }

    /// Appends a list.
    pub(super) fn push(&mut self, list: impl IntoIterator<Item = Point>) {
        let before = self.points.len();
        self.points.extend(list);
        self.lengths.push((self.points.len() - before) as u32);
    }

    /// The sum of each list, in order; `None` where it is the neutral point. `None` for all of them if a denominator
    /// can't be inverted, which would take a point that is not on the curve.
    pub(super) fn finish(mut self) -> Option<Vec<Option<Point>>> {
        while self.lengths.iter().any(|&length| length > 1) {
            self.halve()?;
        }
        let mut points = self.points.into_iter();
        Some(
            self.lengths
                .iter()
                .map(|&length| if length == 0 { None } else { points.next() })
                .collect(),
        )
    }

    fn halve(&mut self) -> Option<()> {
        let Scratch {
            next,
            slopes,
            denominators,
            products,
        } = &mut self.scratch;
        slopes.clear();
        denominators.clear();
        products.clear();
        let mut product = FieldElement::ONE;
        let mut start = 0;
        for &length in &self.lengths {
            let end = start + length as usize;
            for pair in self.points[start..end].chunks_exact(2) {
                let (slope, denominator) = slope_of(&pair[0], &pair[1]);
                products.push(product);
                product = product.mul(&denominator);
                slopes.push(slope);
                denominators.push(denominator);
            }
            start = end;
        }
        // From here on the inverse of the product of all denominators not yet passed, from the last backwards.
        let mut inverse: FieldElement = Option::from(product.invert())?;
        for (denominator, before) in denominators.iter_mut().zip(products.iter()).rev() {
            let inverted = inverse.mul(before);
            inverse = inverse.mul(denominator);
            *denominator = inverted;
        }

        next.clear();
        let mut fractions = slopes.iter().zip(denominators.iter());
        let mut start = 0;
        for length in &mut self.lengths {
            let end = start + *length as usize;
            let before = next.len();
            let pairs = self.points[start..end].chunks_exact(2);
            let last = pairs.remainder();
            for (pair, (slope, inverted)) in pairs.zip(&mut fractions) {
                next.extend(add(&pair[0], &pair[1], slope, inverted));
            }
            next.extend_from_slice(last);
            *length = (next.len() - before) as u32;
            start = end;
        }
        std::mem::swap(&mut self.points, next);
        Some(())
    }
}

fn slope_of(left: &Point, right: &Point) -> (Slope, FieldElement) {
    let run = right.x + left.x.negate(1);
    if !bool::from(run.normalizes_to_zero()) {
        return (Slope::Chord, run);
    }
    let rise = right.y + left.y.negate(1);
    if bool::from(rise.normalizes_to_zero()) {
        (Slope::Tangent, left.y.double())
    } else {
        (Slope::Vertical, FieldElement::ONE)
    }
}

fn add(left: &Point, right: &Point, slope: &Slope, inverted: &FieldElement) -> Option<Point> {
    let slope = match slope {
        Slope::Chord => (right.y + left.y.negate(1)).mul(inverted),
        Slope::Tangent => left.x.square().mul_single(3).mul(inverted),
        Slope::Vertical => return None,
    };
    let x = (slope.square() + (left.x + right.x).negate(2)).normalize_weak();
    let y = (slope.mul(&(left.x + x.negate(1))) + left.y.negate(1)).normalize_weak();
    Some(Point { x, y })
}
