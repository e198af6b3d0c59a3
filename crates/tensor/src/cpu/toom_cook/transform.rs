//! Winograd (Toom–Cook) transforms: a short convolution as products at a few points, so that six
//! outputs of a seven-tap filter cost twelve multiplications in place of 42 (Winograd, "Arithmetic
//! Complexity of Computations", 1980). The matrices follow from polynomial interpolation (Lavin and
//! Gray, "Fast Algorithms for Convolutional Neural Networks", 2016).
//!
//! `y = output · ((kernel · w) ⊙ (input · x))`. Rows of `input` are scaled by powers of two, and
//! those of `kernel` by their inverses, so that no point outweighs the others in single precision.
//!
//! Points are 0, then pairs ±p, then possibly infinity. The two polynomials of a pair differ only
//! in the sign of every second coefficient, so the sums over even and over odd coefficients serve
//! both.

use crate::cpu::vectorised::multiply_add;

/// Columns transformed together: one wide vector.
pub const LANES: usize = 16;

/// Matrices of F(`OUTPUTS`, `TAPS`) at `POINTS` = `OUTPUTS + TAPS − 1` points.
pub struct Transform<const OUTPUTS: usize, const TAPS: usize, const POINTS: usize> {
    /// Transform of a window of inputs.
    input: [[f32; POINTS]; POINTS],
    /// Transform of the taps.
    pub kernel: [[f32; TAPS]; POINTS],
    /// Transform of the products to the outputs.
    output: [[f32; POINTS]; OUTPUTS],
}

/// F(6, 3) at eight points: 1.33 products per output in place of 3.
pub const SIX_BY_THREE: Transform<6, 3, 8> = Transform::new([1.0, 2.0, 0.5]);
/// F(6, 7) at twelve points: 2 products per output in place of 7. The points are the tangents of
/// multiples of 15°: spread evenly on the circle, they lose the fewest digits.
pub const SIX_BY_SEVEN: Transform<6, 7, 12> = Transform::new([
    0.267_949_192_431_122_7,
    0.577_350_269_189_625_6,
    1.0,
    1.732_050_807_568_877_2,
    3.732_050_807_568_877,
]);
/// F(6, 6) at eleven points, the tangents of multiples of 180°/11: 1.83 products per output in
/// place of 6. As there are as many outputs as taps, the windows of a longer filter's parts are
/// windows of later tiles, and are transformed once for all parts.
pub const SIX_BY_SIX: Transform<6, 6, 11> = Transform::new([
    0.293_626_492_938_366_7,
    0.642_660_977_168_331,
    1.154_061_520_533_009_4,
    2.189_694_562_989_681,
    6.955_152_771_773_474_5,
]);

impl<const OUTPUTS: usize, const TAPS: usize, const POINTS: usize>
    Transform<OUTPUTS, TAPS, POINTS>
{
    /// Computes the matrices for 0, the pairs ± `positive`, and infinity if that leaves a point.
    const fn new<const PAIRS: usize>(positive: [f64; PAIRS]) -> Self {
        let finite = 2 * PAIRS + 1;
        assert!(OUTPUTS + TAPS - 1 == POINTS && (POINTS == finite || POINTS == finite + 1));
        let mut points = [0.0f64; POINTS];
        let mut pair = 0;
        while pair < PAIRS {
            points[2 * pair + 1] = positive[pair];
            points[2 * pair + 2] = -positive[pair];
            pair += 1;
        }
        let mut transform = Transform {
            input: [[0.0; POINTS]; POINTS],
            kernel: [[0.0; TAPS]; POINTS],
            output: [[0.0; POINTS]; OUTPUTS],
        };
        let mut point = 0;
        while point < POINTS {
            // Lagrange polynomial of the point; for infinity, the one with all finite points as its
            // roots.
            let mut polynomial = [0.0f64; POINTS];
            polynomial[0] = 1.0;
            let mut degree = 0;
            let mut other = 0;
            while other < finite {
                if other != point {
                    let divisor = if point < finite {
                        points[point] - points[other]
                    } else {
                        1.0
                    };
                    let mut k = degree + 1;
                    while k > 0 {
                        polynomial[k] =
                            (polynomial[k - 1] - points[other] * polynomial[k]) / divisor;
                        k -= 1;
                    }
                    polynomial[0] = -points[other] * polynomial[0] / divisor;
                    degree += 1;
                }
                other += 1;
            }
            let mut sum = 0.0;
            let mut k = 0;
            while k < POINTS {
                sum += polynomial[k].abs();
                k += 1;
            }
            let mut scale = 1.0;
            while sum * scale > 4.0 {
                scale *= 0.5;
            }
            while sum * scale < 2.0 {
                scale *= 2.0;
            }
            k = 0;
            while k < POINTS {
                transform.input[point][k] = (polynomial[k] * scale) as f32;
                k += 1;
            }
            let mut power = 1.0;
            k = 0;
            while k < TAPS {
                let value = if point < finite {
                    power
                } else if k == TAPS - 1 {
                    1.0
                } else {
                    0.0
                };
                transform.kernel[point][k] = (value / scale) as f32;
                power *= points[point];
                k += 1;
            }
            power = 1.0;
            k = 0;
            while k < OUTPUTS {
                transform.output[k][point] = if point < finite {
                    power as f32
                } else if k == OUTPUTS - 1 {
                    1.0
                } else {
                    0.0
                };
                power *= points[point];
                k += 1;
            }
            point += 1;
        }
        transform
    }

    /// Transforms the first [`LANES`] columns of a window, whose rows are `stride` apart, to points
    /// that are `out_stride` apart.
    #[inline(always)]
    pub fn to_points<const FUSED: bool>(
        &self,
        (x, stride): (&[f32], usize),
        (out, out_stride): (&mut [f32], usize),
    ) {
        // The lanes of all rows stay in registers for all sums.
        let rows: [[f32; LANES]; POINTS] = load_rows(x, stride);
        // At 0 only even coefficients of the polynomial are left, at infinity only odd ones.
        let [even, _] = halves::<FUSED, POINTS>(&self.input[0], &rows);
        store(out, 0, &even);
        for pair in 0..(POINTS - 1) / 2 {
            let plus = 2 * pair + 1;
            let [even, odd] = halves::<FUSED, POINTS>(&self.input[plus], &rows);
            store(out, plus * out_stride, &add(&even, &odd));
            store(out, (plus + 1) * out_stride, &subtract(&even, &odd));
        }
        if POINTS.is_multiple_of(2) {
            let [_, odd] = halves::<FUSED, POINTS>(&self.input[POINTS - 1], &rows);
            store(out, (POINTS - 1) * out_stride, &odd);
        }
    }

    /// Transforms the first [`LANES`] columns of the products, which are `stride` apart, to outputs
    /// that are `out_stride` apart.
    #[inline(always)]
    pub fn to_outputs<const FUSED: bool>(
        &self,
        (points, stride): (&[f32], usize),
        (out, out_stride): (&mut [f32], usize),
    ) {
        let mut sums = [[0.0; LANES]; OUTPUTS];
        sums[0] = load(points, 0);
        if POINTS.is_multiple_of(2) {
            sums[OUTPUTS - 1] = load(points, (POINTS - 1) * stride);
        }
        for pair in 0..(POINTS - 1) / 2 {
            let point = 2 * pair + 1;
            let (plus, minus) = (
                load(points, point * stride),
                load(points, (point + 1) * stride),
            );
            let (even, odd) = (add(&plus, &minus), subtract(&plus, &minus));
            for (index, sums) in sums.iter_mut().enumerate() {
                let factor = self.output[index][point];
                let values = if index % 2 == 0 { even } else { odd };
                for lane in 0..LANES {
                    sums[lane] = multiply_add::<FUSED>(factor, values[lane], sums[lane]);
                }
            }
        }
        for (index, sums) in sums.iter().enumerate() {
            store(out, index * out_stride, sums);
        }
    }
}

/// Weighted sums over the even and over the odd rows.
#[inline(always)]
fn halves<const FUSED: bool, const POINTS: usize>(
    factors: &[f32; POINTS],
    rows: &[[f32; LANES]; POINTS],
) -> [[f32; LANES]; 2] {
    let mut sums = [[0.0; LANES]; 2];
    for place in 0..POINTS {
        for lane in 0..LANES {
            let sum = &mut sums[place % 2][lane];
            *sum = multiply_add::<FUSED>(factors[place], rows[place][lane], *sum);
        }
    }
    sums
}

#[inline(always)]
fn load_rows<const ROWS: usize>(x: &[f32], stride: usize) -> [[f32; LANES]; ROWS] {
    let mut rows = [[0.0; LANES]; ROWS];
    for (index, row) in rows.iter_mut().enumerate() {
        *row = load(x, index * stride);
    }
    rows
}

#[inline(always)]
fn load(x: &[f32], first: usize) -> [f32; LANES] {
    *x[first..].first_chunk().expect("whole lanes")
}

#[inline(always)]
fn store(x: &mut [f32], first: usize, values: &[f32; LANES]) {
    *x[first..].first_chunk_mut().expect("whole lanes") = *values;
}

#[inline(always)]
fn add(x: &[f32; LANES], y: &[f32; LANES]) -> [f32; LANES] {
    let mut out = *x;
    out.iter_mut().zip(y).for_each(|(out, y)| *out += y);
    out
}

#[inline(always)]
fn subtract(x: &[f32; LANES], y: &[f32; LANES]) -> [f32; LANES] {
    let mut out = *x;
    out.iter_mut().zip(y).for_each(|(out, y)| *out -= y);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest difference from the direct sum, over all outputs.
    fn difference<const OUTPUTS: usize, const TAPS: usize, const POINTS: usize>(
        transform: &Transform<OUTPUTS, TAPS, POINTS>,
    ) -> f32 {
        let inputs: [f32; POINTS] = std::array::from_fn(|i| ((i * 7 + 3) % 5) as f32 - 1.7);
        let taps: [f32; TAPS] = std::array::from_fn(|i| ((i * 5 + 1) % 7) as f32 * 0.3 - 0.8);
        let window: Vec<f32> = inputs.iter().flat_map(|&value| [value; LANES]).collect();
        let mut products = vec![0.0; POINTS * LANES];
        transform.to_points::<true>((&window, LANES), (&mut products, LANES));
        for (values, factors) in products.chunks_exact_mut(LANES).zip(&transform.kernel) {
            let weight: f32 = factors
                .iter()
                .zip(taps)
                .map(|(factor, tap)| factor * tap)
                .sum();
            values.iter_mut().for_each(|value| *value *= weight);
        }
        let mut outputs = vec![0.0; OUTPUTS * LANES];
        transform.to_outputs::<true>((&products, LANES), (&mut outputs, LANES));
        let mut worst = 0.0f32;
        for (output, values) in outputs.chunks_exact(LANES).enumerate() {
            let direct: f32 = (0..TAPS).map(|tap| inputs[output + tap] * taps[tap]).sum();
            let differences = values.iter().map(|value| (value - direct).abs());
            worst = differences.fold(worst, f32::max);
        }
        worst
    }

    #[test]
    fn transforms_equal_direct_convolution() {
        for worst in [
            difference(&SIX_BY_THREE),
            difference(&SIX_BY_SEVEN),
            difference(&SIX_BY_SIX),
        ] {
            assert!(worst < 1e-4, "{worst}");
        }
    }
}
