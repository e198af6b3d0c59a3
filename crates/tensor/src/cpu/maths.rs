//! Element-wise and row functions, written for auto-vectorisation.

use super::vectorised::{multiply_add, vectorised};
use crate::operations::Activation;

/// eˣ within 2 ULP; 0 below −87.3, the largest finite power above 88.
#[inline(always)]
pub(crate) fn exp<const FUSED: bool>(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts. The first one has few enough bits that its product with the exponent is
    // exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 · 2²³ rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.3, 88.0);
    let shifted = multiply_add::<FUSED>(clamped, LOG2_E, ROUND);
    let whole = shifted - ROUND;
    let r = multiply_add::<FUSED>(whole, -LN2_HIGH, clamped);
    let r = multiply_add::<FUSED>(whole, -LN2_LOW, r);
    let mut p = 1.987_569_1e-4;
    for coefficient in [
        1.398_2e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        p = multiply_add::<FUSED>(p, r, coefficient);
    }
    let value = multiply_add::<FUSED>(p * r, r, r) + 1.0;
    let exponent = (shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits());
    let power = f32::from_bits(exponent);
    if x < -87.3 { 0.0 } else { value * power }
}

#[inline(always)]
fn sigmoid<const FUSED: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FUSED>(-x))
}

#[inline(always)]
fn tanh<const FUSED: bool>(x: f32) -> f32 {
    let square = x * x;
    // Near zero, 1 − 2 / (e²ˣ + 1) would lose its leading digits.
    let near = x * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0 - square * (17.0 / 315.0))));
    let far = 1.0 - 2.0 / (exp::<FUSED>(2.0 * x.abs()) + 1.0);
    if x.abs() < 0.15 {
        near
    } else {
        far.copysign(x)
    }
}

/// The error function within 1.2e-7 (Numerical Recipes' Chebyshev fit of erfc).
#[inline(always)]
fn erf<const FUSED: bool>(x: f32) -> f32 {
    let z = x.abs();
    let t = 1.0 / multiply_add::<FUSED>(0.5, z, 1.0);
    let mut p = 0.170_872_77_f32;
    for coefficient in [
        -0.822_152_2,
        1.488_515_9,
        -1.135_204,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_7,
        -1.265_512_2,
    ] {
        p = multiply_add::<FUSED>(p, t, coefficient);
    }
    let complement = t * exp::<FUSED>(p - z * z);
    (1.0 - complement).copysign(x)
}

#[inline(always)]
fn mish<const FUSED: bool>(x: f32) -> f32 {
    // tanh::<FUSED>(ln(1 + e)) = (e² + 2e) / (e² + 2e + 2); above 20 it is 1 in f32.
    let e = exp::<FUSED>(x.min(20.0));
    let n = e * (e + 2.0);
    x * (n / (n + 2.0))
}

/// sin x for moderate x: range reduction by π in three parts, then a polynomial.
#[inline(always)]
fn sin<const FUSED: bool>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let shifted = multiply_add::<FUSED>(x, std::f32::consts::FRAC_1_PI, ROUND);
    let whole = shifted - ROUND;
    let mut r = x;
    for part in [3.140_625, 9.670_257_6e-4, 6.277_114e-7] {
        r = multiply_add::<FUSED>(whole, -part, r);
    }
    let square = r * r;
    let mut p = 2.608_313_e-6_f32;
    for coefficient in [-1.981_078_1e-4, 8.333_075e-3, -1.666_665_8e-1] {
        p = multiply_add::<FUSED>(p, square, coefficient);
    }
    let value = multiply_add::<FUSED>(p * square, r, r);
    f32::from_bits(value.to_bits() ^ (shifted.to_bits() << 31))
}

/// Natural logarithm of a positive normal number, within 3 ULP (Cephes' polynomial).
#[inline(always)]
fn ln<const FUSED: bool>(x: f32) -> f32 {
    // x = m · 2ᵉ with m from √½ to √2.
    let shifted = x
        .to_bits()
        .wrapping_sub(std::f32::consts::FRAC_1_SQRT_2.to_bits());
    let exponent = (shifted.cast_signed() >> 23) as f32;
    let m = f32::from_bits((shifted & 0x7f_ffff) + std::f32::consts::FRAC_1_SQRT_2.to_bits());
    let r = m - 1.0;
    let square = r * r;
    let mut p = 7.037_683_6e-2;
    for coefficient in [
        -0.115_146_1,
        0.116_769_98,
        -0.124_201_41,
        0.142_493_23,
        -0.166_680_57,
        0.200_007_15,
        -0.249_999_94,
        0.333_333_3,
    ] {
        p = multiply_add::<FUSED>(p, r, coefficient);
    }
    let correction = multiply_add::<FUSED>(p * r, square, -0.5 * square);
    multiply_add::<FUSED>(exponent, std::f32::consts::LN_2, r + correction)
}

#[inline(always)]
fn gelu_erf<const FUSED: bool>(x: f32) -> f32 {
    0.5 * x * (1.0 + erf::<FUSED>(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn gelu_tanh<const FUSED: bool>(x: f32) -> f32 {
    const ROOT: f32 = 0.797_884_6;
    0.5 * x * (1.0 + tanh::<FUSED>(ROOT * (x + 0.044_715 * x * x * x)))
}

/// Applies an activation to each element, for callers that are themselves compiled for an
/// instruction set.
#[inline(always)]
pub(crate) fn activate_here<const FUSED: bool>(x: &mut [f32], activation: Activation) {
    macro_rules! each {
        ($value:ident => $result:expr) => {
            for element in x.iter_mut() {
                let $value = *element;
                *element = $result;
            }
        };
    }
    match activation {
        Activation::Identity => {}
        Activation::Relu => each!(x => x.max(0.0)),
        Activation::LeakyRelu(slope) => each!(x => if x < 0.0 { x * slope } else { x }),
        Activation::Elu => each!(x => if x < 0.0 { exp::<FUSED>(x) - 1.0 } else { x }),
        Activation::GeluErf => each!(x => gelu_erf::<FUSED>(x)),
        Activation::GeluTanh => each!(x => gelu_tanh::<FUSED>(x)),
        Activation::Silu => each!(x => x * sigmoid::<FUSED>(x)),
        Activation::Mish => each!(x => mish::<FUSED>(x)),
        Activation::Tanh => each!(x => tanh::<FUSED>(x)),
        Activation::Sigmoid => each!(x => sigmoid::<FUSED>(x)),
        Activation::Exp => each!(x => exp::<FUSED>(x)),
        Activation::Abs => each!(x => x.abs()),
    }
}

/// Sum of a function of each element, in sixteen lanes, then the lanes in pairs: a fixed order that
/// vectorises.
#[inline(always)]
pub(crate) fn sum(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let (chunks, rest) = x.as_chunks::<16>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += term(value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane += term(value);
    }
    total(lanes)
}

/// Dot product, in the order of [`sum`].
#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    for (x, y) in x.chunks(16).zip(y.chunks(16)) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    total(lanes)
}

/// Sums lanes in pairs.
#[inline(always)]
fn total(mut lanes: [f32; 16]) -> f32 {
    let mut width = 8;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = x.as_chunks::<16>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = if value > *lane { value } else { *lane };
        }
    }
    lanes
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max)
}

vectorised! {
    /// Applies an activation to each element.
    pub(crate) fn activate(x: &mut [f32], activation: Activation) {
        activate_here::<FUSED>(x, activation);
    }

    /// Snake: x + sin²(α x) · r, with the reciprocals r of [`snake_reciprocals`].
    pub(crate) fn snake(x: &[f32], alpha: &[f32], reciprocals: &[f32], out: &mut [f32]) {
        for (((out, &value), &alpha), &r) in out.iter_mut().zip(x).zip(alpha).zip(reciprocals) {
            let wave = sin::<FUSED>(alpha * value);
            *out = multiply_add::<FUSED>(wave * wave, r, value);
        }
    }

    /// 1 / (α + 1e-9).
    pub(crate) fn snake_reciprocals(alpha: &[f32], out: &mut [f32]) {
        (out.iter_mut().zip(alpha)).for_each(|(out, alpha)| *out = 1.0 / (alpha + 1e-9));
    }

    /// sin x.
    pub(crate) fn sines(x: &mut [f32]) {
        x.iter_mut().for_each(|x| *x = sin::<FUSED>(*x));
    }

    /// √(−2 ln u) · cos(2π v).
    pub(crate) fn normals(first: &[f32], second: &[f32], out: &mut [f32]) {
        for ((out, &u), &v) in out.iter_mut().zip(first).zip(second) {
            let angle = std::f32::consts::TAU * (v + 0.25);
            *out = (-2.0 * ln::<FUSED>(u)).sqrt() * sin::<FUSED>(angle);
        }
    }

    /// silu(gate) · up.
    pub(crate) fn gated_silu(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate * sigmoid::<FUSED>(gate) * up;
        }
    }

    /// Softmax of one row except for its normalisation, whose factor is returned. A row of −∞
    /// becomes zeros.
    pub(crate) fn unnormalised_softmax(x: &mut [f32]) -> f32 {
        let largest = largest(x);
        if largest == f32::NEG_INFINITY {
            x.fill(0.0);
            return 0.0;
        }
        x.iter_mut()
            .for_each(|value| *value = exp::<FUSED>(*value - largest));
        1.0 / sum(x, |value| value)
    }

    /// The larger of `most` and |x|, element by element.
    pub(crate) fn largest_magnitudes(most: &mut [f32], x: &[f32]) {
        for (most, &value) in most.iter_mut().zip(x) {
            *most = if value.abs() > *most { value.abs() } else { *most };
        }
    }

    /// x · factor.
    pub(crate) fn scale(x: &mut [f32], factor: f32) {
        x.iter_mut().for_each(|value| *value *= factor);
    }

    /// x + y.
    pub(crate) fn add(x: &mut [f32], y: &[f32]) {
        x.iter_mut().zip(y).for_each(|(x, &y)| *x += y);
    }

    /// x · scale + y · factor.
    pub(crate) fn add_scaled(x: &mut [f32], scale: f32, y: &[f32], factor: f32) {
        for (x, &y) in x.iter_mut().zip(y) {
            *x = *x * scale + y * factor;
        }
    }

    /// x · y.
    pub(crate) fn multiply(x: &mut [f32], y: &[f32]) {
        x.iter_mut().zip(y).for_each(|(x, &y)| *x *= y);
    }

    /// Layer normalisation: mean 0 and variance 1, then scale and shift.
    pub(crate) fn layer_norm(
        x: &[f32],
        weight: Option<&[f32]>,
        bias: Option<&[f32]>,
        epsilon: f32,
        out: &mut [f32],
    ) {
        let mean = sum(x, |value| value) / x.len() as f32;
        let variance = sum(x, |value| (value - mean) * (value - mean)) / x.len() as f32;
        let factor = 1.0 / (variance + epsilon).sqrt();
        (out.iter_mut().zip(x)).for_each(|(out, &value)| *out = (value - mean) * factor);
        if let Some(weight) = weight {
            (out.iter_mut().zip(weight)).for_each(|(out, &weight)| *out *= weight);
        }
        if let Some(bias) = bias {
            (out.iter_mut().zip(bias)).for_each(|(out, &bias)| *out += bias);
        }
    }

    /// RMS normalisation: division by the root mean square, then scale.
    pub(crate) fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        let mean_square = sum(x, |value| value * value) / x.len() as f32;
        let factor = 1.0 / (mean_square + epsilon).sqrt();
        for ((out, &value), &weight) in out.iter_mut().zip(x).zip(weight) {
            *out = value * factor * weight;
        }
    }

    /// One step of an LSTM layer; gates in the order input, forget, cell, output.
    pub(crate) fn lstm_cell(gates: &[f32], cell: &mut [f32], hidden: &mut [f32]) {
        let size = cell.len();
        let (input, rest) = gates.split_at(size);
        let (forget, rest) = rest.split_at(size);
        let (candidate, output) = rest.split_at(size);
        for (index, (cell, hidden)) in cell.iter_mut().zip(hidden).enumerate() {
            *cell = sigmoid::<FUSED>(forget[index]) * *cell + sigmoid::<FUSED>(input[index]) * tanh::<FUSED>(candidate[index]);
            *hidden = sigmoid::<FUSED>(output[index]) * tanh::<FUSED>(*cell);
        }
    }
}

/// Softmax of one row; a row of −∞ becomes zeros.
pub(crate) fn softmax(x: &mut [f32]) {
    let factor = unnormalised_softmax(x);
    scale(x, factor);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sines_and_exponentials_equal_the_exact_ones() {
        let x: Vec<f32> = (0..2001)
            .map(|place| (place - 1000) as f32 * 0.05)
            .collect();
        let (mut sine, mut power) = (x.clone(), x.clone());
        sines(&mut sine);
        activate(&mut power, Activation::Exp);
        for ((x, sine), power) in x.iter().zip(sine).zip(power) {
            let exact = f64::from(*x).sin();
            assert!((f64::from(sine) - exact).abs() < 3e-7, "sin {x} = {sine}");
            let exact = f64::from(*x).exp();
            assert!(
                (f64::from(power) / exact - 1.0).abs() < 3e-7,
                "exp {x} = {power}"
            );
        }
    }

    #[test]
    fn normals_equal_box_and_mullers_formula() {
        let steps = 1 << 12;
        let first: Vec<f32> = (1..=steps).map(|i| i as f32 / steps as f32).collect();
        let second: Vec<f32> = (0..steps)
            .map(|i| (i * 37 % steps) as f32 / steps as f32)
            .collect();
        let mut out = vec![0.0; first.len()];
        normals(&first, &second, &mut out);
        for ((u, v), got) in first.iter().zip(&second).zip(out) {
            let turn = std::f64::consts::TAU * f64::from(*v);
            let exact = (-2.0 * f64::from(*u).ln()).sqrt() * turn.cos();
            assert!((f64::from(got) - exact).abs() < 2e-6, "{u}, {v}: {got}");
        }
    }
}
