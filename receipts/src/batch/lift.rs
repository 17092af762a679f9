use k256::{FieldBytes, FieldElement};

use super::point::Point;

/// Square roots taken side by side. Each is a chain of 270 multiplications that wait for one another; a processor works
/// on several such chains in the time of one and a half.
const LANES: usize = 4;

/// The `b` of the curve `y² = x³ + b`.
const CURVE_B: u64 = 7;

/// A point to be found by its abscissa.
pub(super) struct Abscissa {
    pub(super) x: [u8; 32],
    /// Which of the two points it is.
    pub(super) odd_y: bool,
}

/// The points of `abscissas`, in order; `None` where the curve has no such point.
pub(super) fn lift(abscissas: &[Abscissa]) -> Vec<Option<Point>> {
    let mut points = Vec::with_capacity(abscissas.len());
    for lane in abscissas.chunks(LANES) {
        let mut xs = [FieldElement::ZERO; LANES];
        let mut in_field = [false; LANES];
        for ((x, known), abscissa) in xs.iter_mut().zip(&mut in_field).zip(lane) {
            if let Some(element) = Option::from(FieldElement::from_bytes(FieldBytes::from_slice(&abscissa.x))) {
                (*x, *known) = (element, true);
            }
        }
        let squares = xs.map(|x| (x.square().mul(&x) + FieldElement::from_u64(CURVE_B)).normalize_weak());
        let roots = square_roots(&squares);
        for (index, abscissa) in lane.iter().enumerate() {
            let y = roots[index].normalize();
            let is_root = bool::from((y.square() + squares[index].negate(1)).normalizes_to_zero());
            let point = Point { x: xs[index], y };
            let other = bool::from(y.is_odd()) != abscissa.odd_y;
            points.push((in_field[index] && is_root).then(|| point.negate_if(other)));
        }
    }
    points
}

/// `a^((p + 1) / 4)` of each element: its square root, if it has one, because p ≡ 3 (mod 4).
///
/// In binary the exponent is blocks of 223, 22 and 2 ones with zeros between (`0`, `0000`, and `00` at the end).
fn square_roots(of: &[FieldElement; LANES]) -> [FieldElement; LANES] {
    // `ones(n)` is the element to the power of n ones.
    let ones_2 = times(&square(*of, 1), of);
    let ones_3 = times(&square(ones_2, 1), of);
    let ones_6 = times(&square(ones_3, 3), &ones_3);
    let ones_9 = times(&square(ones_6, 3), &ones_3);
    let ones_11 = times(&square(ones_9, 2), &ones_2);
    let ones_22 = times(&square(ones_11, 11), &ones_11);
    let ones_44 = times(&square(ones_22, 22), &ones_22);
    let ones_88 = times(&square(ones_44, 44), &ones_44);
    let ones_176 = times(&square(ones_88, 88), &ones_88);
    let ones_220 = times(&square(ones_176, 44), &ones_44);
    let ones_223 = times(&square(ones_220, 3), &ones_3);
    let with_22 = times(&square(ones_223, 23), &ones_22);
    let with_2 = times(&square(with_22, 6), &ones_2);
    square(with_2, 2)
}

fn square(mut elements: [FieldElement; LANES], times: u32) -> [FieldElement; LANES] {
    for _ in 0..times {
        for element in &mut elements {
            *element = element.square();
        }
    }
    elements
}

fn times(left: &[FieldElement; LANES], right: &[FieldElement; LANES]) -> [FieldElement; LANES] {
    std::array::from_fn(|lane| left[lane].mul(&right[lane]))
}
