//! Toom–Cook transforms: a short convolution as products at a few points, so that four outputs of a four-tap filter cost seven
//! multiplications in place of sixteen (Winograd, "Arithmetic Complexity of Computations", 1980; the matrices follow from
//! polynomial interpolation, Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016).
//!
//! With `y = output · ((kernel · w) ⊙ (input · x))`; rows of `input` are scaled by powers of two, and those of `kernel` by their
//! inverses, so that no point outweighs the others in single precision.

/// Matrices of F(`OUTPUTS`, `TAPS`) at `POINTS` = `OUTPUTS + TAPS − 1` points, the last of them infinity.
pub struct Transform<const OUTPUTS: usize, const TAPS: usize, const POINTS: usize> {
    /// From a window of inputs to the points.
    pub input: [[f32; POINTS]; POINTS],
    /// From the taps to the points.
    pub kernel: [[f32; TAPS]; POINTS],
    /// From the points to the outputs.
    pub output: [[f32; POINTS]; OUTPUTS],
}

/// Six outputs of three taps at eight points: 1.33 products an output in place of 3.
pub const SIX_BY_THREE: Transform<6, 3, 8> = Transform::new([0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5]);
/// Four outputs of four taps at seven points: 1.75 products an output in place of 4. As outputs and taps are equally many, the
/// windows of a longer filter's parts are windows of later outputs, and are transformed once for all parts.
pub const FOUR_BY_FOUR: Transform<4, 4, 7> = Transform::new([0.0, 1.0, -1.0, 2.0, -2.0, 0.5]);

impl<const OUTPUTS: usize, const TAPS: usize, const POINTS: usize>
    Transform<OUTPUTS, TAPS, POINTS>
{
    /// Builds the matrices for `POINTS − 1` finite points.
    const fn new<const FINITE: usize>(points: [f64; FINITE]) -> Self {
        assert!(FINITE + 1 == POINTS && OUTPUTS + TAPS - 1 == POINTS);
        let mut transform = Transform {
            input: [[0.0; POINTS]; POINTS],
            kernel: [[0.0; TAPS]; POINTS],
            output: [[0.0; POINTS]; OUTPUTS],
        };
        let mut point = 0;
        while point < POINTS {
            // Lagrange's polynomial of the point, or for infinity the one with all finite points as its roots.
            let mut polynomial = [0.0f64; POINTS];
            polynomial[0] = 1.0;
            let mut degree = 0;
            let mut other = 0;
            while other < FINITE {
                if other != point {
                    let divisor = if point < FINITE {
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
                let value = if point < FINITE {
                    power
                } else if k == TAPS - 1 {
                    1.0
                } else {
                    0.0
                };
                transform.kernel[point][k] = (value / scale) as f32;
                if point < FINITE {
                    power *= points[point];
                }
                k += 1;
            }
            power = 1.0;
            k = 0;
            while k < OUTPUTS {
                transform.output[k][point] = if point < FINITE {
                    power as f32
                } else if k == OUTPUTS - 1 {
                    1.0
                } else {
                    0.0
                };
                if point < FINITE {
                    power *= points[point];
                }
                k += 1;
            }
            point += 1;
        }
        transform
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct_and_transformed<const OUTPUTS: usize, const TAPS: usize, const POINTS: usize>(
        transform: &Transform<OUTPUTS, TAPS, POINTS>,
    ) -> f64 {
        let inputs: Vec<f64> = (0..POINTS)
            .map(|i| ((i * 7 + 3) % 5) as f64 - 1.7)
            .collect();
        let taps: Vec<f64> = (0..TAPS)
            .map(|i| ((i * 5 + 1) % 7) as f64 * 0.3 - 0.8)
            .collect();
        let mut worst = 0.0f64;
        for output in 0..OUTPUTS {
            let direct: f64 = (0..TAPS).map(|tap| inputs[output + tap] * taps[tap]).sum();
            let transformed: f64 = (0..POINTS)
                .map(|point| {
                    let input: f64 = (0..POINTS)
                        .map(|i| transform.input[point][i] as f64 * inputs[i])
                        .sum();
                    let kernel: f64 = (0..TAPS)
                        .map(|i| transform.kernel[point][i] as f64 * taps[i])
                        .sum();
                    transform.output[output][point] as f64 * input * kernel
                })
                .sum();
            worst = worst.max((direct - transformed).abs());
        }
        worst
    }

    #[test]
    fn transforms_compute_the_convolution() {
        assert!(direct_and_transformed(&SIX_BY_THREE) < 1e-5);
        assert!(direct_and_transformed(&FOUR_BY_FOUR) < 1e-5);
    }
}
