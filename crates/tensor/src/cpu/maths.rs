//! Functions of elements and of rows, written so that the compiler turns them into vector code.

use crate::operations::Activation;

/// eˣ within 2 ULP; 0 below −87.3, largest finite power above 88.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, the first with few enough bits that its product with the exponent is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and taking away 1.5 · 2²³ rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(-87.3, 88.0);
    let shifted = clamped * LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let r = clamped - whole * LN2_HIGH - whole * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    for coefficient in [
        1.398_2e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        p = p * r + coefficient;
    }
    let value = p * r * r + r + 1.0;
    let exponent = (shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits());
    let power = f32::from_bits(exponent);
    if x < -87.3 { 0.0 } else { value * power }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    let square = x * x;
    // Near zero 1 − 2 / (e²ˣ + 1) would lose its leading digits.
    let near = x * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0 - square * (17.0 / 315.0))));
    let far = 1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0);
    if x.abs() < 0.15 {
        near
    } else {
        far.copysign(x)
    }
}

/// The error function within 1.2e-7 (Numerical Recipes' Chebyshev fit of erfc).
#[inline(always)]
fn erf(x: f32) -> f32 {
    let z = x.abs();
    let t = 1.0 / (1.0 + 0.5 * z);
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
        p = p * t + coefficient;
    }
    let complement = t * exp(p - z * z);
    (1.0 - complement).copysign(x)
}

#[inline(always)]
fn mish(x: f32) -> f32 {
    // tanh(ln(1 + e)) = (e² + 2e) / (e² + 2e + 2); above 20 it is 1 in f32.
    let e = exp(x.min(20.0));
    let n = e * (e + 2.0);
    x * (n / (n + 2.0))
}

/// sin x for moderate x: reduction by π in three parts, then a polynomial.
#[inline(always)]
pub(crate) fn sin(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::FRAC_1_PI + ROUND;
    let whole = shifted - ROUND;
    let r = x - whole * 3.140_625 - whole * 9.670_257_6e-4 - whole * 6.277_114e-7;
    let square = r * r;
    let mut p = 2.608_313_e-6_f32;
    for coefficient in [-1.981_078_1e-4, 8.333_075e-3, -1.666_665_8e-1] {
        p = p * square + coefficient;
    }
    let value = p * square * r + r;
    f32::from_bits(value.to_bits() ^ (shifted.to_bits() << 31))
}

/// Applies a function to each element.
pub(crate) fn activate(x: &mut [f32], activation: Activation) {
    fn map(x: &mut [f32], function: impl Fn(f32) -> f32) {
        x.iter_mut().for_each(|value| *value = function(*value));
    }
    match activation {
        Activation::Identity => {}
        Activation::Relu => map(x, |x| x.max(0.0)),
        Activation::LeakyRelu(slope) => map(x, |x| if x < 0.0 { x * slope } else { x }),
        Activation::Elu => map(x, |x| if x < 0.0 { exp(x) - 1.0 } else { x }),
        Activation::GeluErf => map(x, |x| {
            0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
        }),
        Activation::GeluTanh => map(x, |x| {
            const ROOT: f32 = 0.797_884_6;
            0.5 * x * (1.0 + tanh(ROOT * (x + 0.044_715 * x * x * x)))
        }),
        Activation::Silu => map(x, |x| x * sigmoid(x)),
        Activation::Mish => map(x, mish),
        Activation::Tanh => map(x, tanh),
        Activation::Sigmoid => map(x, sigmoid),
        Activation::Exp => map(x, exp),
        Activation::Sin => map(x, f32::sin),
        Activation::Cos => map(x, f32::cos),
        Activation::Abs => map(x, f32::abs),
    }
}

/// x + sin²(α x) / (α + 1e-9).
pub(crate) fn snake(x: &mut [f32], alpha: &[f32]) {
    for (value, &alpha) in x.iter_mut().zip(alpha) {
        let wave = sin(alpha * *value);
        *value += wave * wave / (alpha + 1e-9);
    }
}

/// The sum in sixteen lanes, then the lanes in pairs: one fixed order that vectorises.
pub(crate) fn sum(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let mut lanes = [0.0_f32; 16];
    for (index, value) in values.enumerate() {
        lanes[index % 16] += value;
    }
    let mut width = 8;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Softmax of one row; a row of −∞ alone becomes zeros.
pub(crate) fn softmax(x: &mut [f32]) {
    let largest = x
        .iter()
        .fold(f32::NEG_INFINITY, |most, &value| most.max(value));
    if largest == f32::NEG_INFINITY {
        x.fill(0.0);
        return;
    }
    x.iter_mut()
        .for_each(|value| *value = exp(*value - largest));
    let factor = 1.0 / sum(x.iter().copied());
    x.iter_mut().for_each(|value| *value *= factor);
}
