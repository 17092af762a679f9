//! Many points, each times a number of its own, added up: Pippenger's method.

use k256::ProjectivePoint;

use super::point::{Point, Sums};

/// Bits of a number that a point is multiplied with.
const BITS: u32 = 128;
/// What adding up the buckets of a window costs next to putting a point into one.
const BUCKET_COST: usize = 2;

/// The sum of `numbers[i] · points[i]`. `None` if a point is not on the curve.
///
/// Each number is cut into digits of `width` bits. For each place of a digit ("window"), the points are gathered in
/// buckets by their digit there; what is left is to add up the buckets of each window, each times its digit.
pub(super) fn multiply(terms: &[(Point, u128)]) -> Option<ProjectivePoint> {
    let width = best_width(terms.len());
    let digits = Digits { width };
    let per_window = 1 << (width - 1);
    let buckets = digits.windows() * per_window;

    // How many points each bucket gets, then where the next one of each goes.
    let mut ends = vec![0_u32; buckets];
    digits.each(terms, |bucket, _, _| ends[bucket] += 1);
    let mut total = 0;
    for end in &mut ends {
        (total, *end) = (total + *end, total);
    }
    let mut order = vec![(0_u32, false); total as usize];
    digits.each(terms, |bucket, term, negative| {
        order[ends[bucket] as usize] = (term as u32, negative);
        ends[bucket] += 1;
    });
    let mut sums = Sums::with_capacity(order.len(), buckets);
    let mut start = 0;
    for &end in &ends {
        let bucket = order[start..end as usize].iter();
        sums.push(bucket.map(|&(term, negative)| terms[term as usize].0.negate_if(negative)));
        start = end as usize;
    }
    combine(sums.finish()?, width, per_window)
}

/// Adds up `buckets`: `per_window` for each window, the first of them for the digit 1.
///
/// With 2ᵏ buckets in a window, `Σ (i+1)·Bᵢ` is `Σ Bᵢ + Σ i·Bᵢ`, and the bits of i say how to go on: the buckets with
/// the highest bit of i count 2ᵏ⁻¹ times, as a whole; without that bit they are folded onto the others. So it goes on
/// with half as many, and everything is sums of points that don't wait for each other.
fn combine(mut buckets: Vec<Option<Point>>, width: u32, per_window: usize) -> Option<ProjectivePoint> {
    let windows = buckets.len() / per_window;
    let mut wholes = Sums::with_capacity(buckets.len(), windows * (width as usize - 1));
    let mut left = per_window;
    while left > 1 {
        let mut folded = Sums::with_capacity(buckets.len(), buckets.len() / 2);
        for window in buckets.chunks_exact(left) {
            let (low, high) = window.split_at(left / 2);
            wholes.push(high.iter().copied().flatten());
            for (low, high) in low.iter().zip(high) {
                folded.push([*low, *high].into_iter().flatten());
            }
        }
        buckets = folded.finish()?;
        left /= 2;
    }
    let wholes = wholes.finish()?;

    // From the highest bit of the highest window down: doubled for each bit.
    let mut sum = ProjectivePoint::IDENTITY;
    for window in (0..windows).rev() {
        sum = sum.double();
        for level in 0..width as usize - 1 {
            sum = sum.double();
            if let Some(whole) = wholes[level * windows + window] {
                sum += whole.to_affine()?;
            }
        }
        if let Some(rest) = buckets[window] {
            sum += rest.to_affine()?;
        }
    }
    Some(sum)
}

/// Numbers in signed digits: with digits from -2^(width-1) to 2^(width-1), half the buckets do, because a point is
/// negated for nothing.
struct Digits {
    width: u32,
}

impl Digits {
    /// One bit more than the numbers have, for the last digit's carry.
    const fn windows(&self) -> usize {
        (BITS + 1).div_ceil(self.width) as usize
    }

    /// Calls `place` with the bucket, the term and whether it is to be negated, for each digit that is not zero.
    fn each(&self, terms: &[(Point, u128)], mut place: impl FnMut(usize, usize, bool)) {
        let mask = (1_u128 << self.width) - 1;
        let half = 1_u128 << (self.width - 1);
        for (term, &(_, number)) in terms.iter().enumerate() {
            let mut rest = number;
            let mut carry = 0;
            for window in 0..self.windows() {
                let digit = (rest & mask) + carry;
                rest >>= self.width;
                let negative = digit > half;
                carry = u128::from(negative);
                let size = if negative { (1 << self.width) - digit } else { digit };
                if size != 0 {
                    place((window << (self.width - 1)) + size as usize - 1, term, negative);
                }
            }
        }
    }
}

/// The width of digits that costs the fewest additions for this many points.
fn best_width(points: usize) -> u32 {
    let cost = |width: u32| Digits { width }.windows() * (points + (BUCKET_COST << (width - 1)));
    (2..=16).min_by_key(|&width| cost(width)).unwrap_or(2)
}
