//! Functions of many numbers on the host, for what a model computes before its first tensor and after its last: compiled for the
//! machine's instruction set as the operations are.

use crate::cpu::maths;

/// Each number's sine; within 2e-7 up to a few thousand turns.
pub fn sines(x: &mut [f32]) {
    maths::sines(x);
}

/// Each number's exponential, within 2 units of the last place; 0 below −87.3, the largest finite power above 88.
pub fn exponentials(x: &mut [f32]) {
    maths::activate(x, crate::Activation::Exp);
}

/// Numbers of the standard normal distribution from two uniform ones each, the first in (0, 1] and the second in [0, 1) (Box and
/// Muller, 1958).
///
/// # Panics
/// If the lengths differ.
pub fn normals(first: &[f32], second: &[f32], out: &mut [f32]) {
    assert_eq!(
        (first.len(), second.len()),
        (out.len(), out.len()),
        "uniform numbers for normal ones"
    );
    maths::normals(first, second, out);
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
        exponentials(&mut power);
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
