//! Results of each set against plain integer arithmetic.

use crate::cpu::agreement::common::random;
use crate::cpu::agreement::matrix;
use crate::cpu::attention::{AttentionKernel, Sizes};
use crate::cpu::attention_f32::F32Attention;
use crate::cpu::attention_int8::Int8Attention;
use crate::cpu::gemm::{Epilogue, Product};
use crate::cpu::gemm_int8::Int8Kernel;
use crate::cpu::gemm_int16::Int16Kernel;
use crate::cpu::instruction_set::InstructionSet;
use crate::cpu::{attention, gemm_int8, gemm_int16};
use crate::matrix::{GROUP, Int8Parts, NARROW_PANEL, Q4_BLOCK};
use crate::{Attention, Matrix, Precision, Threads, View, ViewMut};
use half::f16;

/// All sets of this machine with products of integers.
fn available() -> Vec<InstructionSet> {
    let mut sets = InstructionSet::detect();
    sets.retain(|set| set.multiplies_bytes());
    sets
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Scale of some values, and their levels up to `most`; NaN counts as 0.
fn round(values: &[f32], most: f32) -> (f32, Vec<i32>) {
    // `max` skips NaN.
    let largest = values
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    let scale = largest / most;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let level = |value: &f32| (value * inverse).round_ties_even() as i32;
    (scale, values.iter().map(level).collect())
}

/// Level of an `Int8` weight.
fn int8_level(matrix: &Matrix, output: usize, input: usize) -> i32 {
    let parts = Int8Parts::of(matrix.packed_bytes(), matrix.padded_rows());
    let panel = output / NARROW_PANEL * NARROW_PANEL * matrix.columns().next_multiple_of(4);
    let place = panel + input / 4 * 64 + output % NARROW_PANEL * 4 + input % 4;
    i32::from(parts.weights[place]) - 128
}

/// Level of a `Q4` weight, and its scale.
fn q4_level(matrix: &Matrix, output: usize, input: usize) -> (i32, f32) {
    let groups = matrix.columns().div_ceil(GROUP);
    let block = (output / NARROW_PANEL * groups + input / GROUP) * Q4_BLOCK;
    let block = &matrix.packed_bytes()[block..block + Q4_BLOCK];
    let (line, inner, lane) = (input % GROUP / 8, input % 8, output % NARROW_PANEL);
    let byte = block[64 * line + 4 * lane + inner % 4];
    let scale = [block[256 + 2 * lane], block[257 + 2 * lane]];
    let level = i32::from(byte >> (inner / 4 * 4) & 15) - 8;
    (level, f16::from_le_bytes(scale).to_f32())
}

/// Products with activations in 16 bits, in the kernels' order of operations.
fn expected_of_integers(x: &[f32], matrix: &Matrix) -> Vec<f32> {
    let inputs = matrix.columns();
    let mut out = Vec::new();
    for row in x.chunks_exact(inputs) {
        let (scale, levels) = round(row, 32_512.0);
        for output in 0..matrix.rows() {
            out.push(match matrix.precision() {
                Precision::Int8 => {
                    let parts = Int8Parts::of(matrix.packed_bytes(), matrix.padded_rows());
                    let [mut high, mut low] = [0_i32; 2];
                    for (input, &level) in levels.iter().enumerate() {
                        let weight = int8_level(matrix, output, input);
                        let upper = (level + 128) >> 8;
                        high += weight * upper;
                        low += weight * (level - 256 * upper);
                    }
                    (high as f32).mul_add(256.0, low as f32) * (parts.scales[output] * scale)
                }
                _ => {
                    let mut sum = 0.0;
                    for (group, levels) in levels.chunks(GROUP).enumerate() {
                        let (_, weight_scale) = q4_level(matrix, output, group * GROUP);
                        let products = levels.iter().enumerate().map(|(input, level)| {
                            level * q4_level(matrix, output, group * GROUP + input).0
                        });
                        sum += products.sum::<i32>() as f32 * weight_scale;
                    }
                    sum * scale
                }
            });
        }
    }
    out
}

/// Products with activations in bytes.
fn expected_of_bytes(x: &[f32], matrix: &Matrix) -> Vec<f32> {
    let inputs = matrix.columns();
    let parts = Int8Parts::of(matrix.packed_bytes(), matrix.padded_rows());
    let mut out = Vec::new();
    for row in x.chunks_exact(inputs) {
        for output in 0..matrix.rows() {
            let mut sum = 0.0_f32;
            for (group, values) in row.chunks(gemm_int8::GROUP_INPUTS).enumerate() {
                let (scale, levels) = round(values, 127.0);
                let products = levels.iter().enumerate().map(|(input, level)| {
                    level * int8_level(matrix, output, group * gemm_int8::GROUP_INPUTS + input)
                });
                let total = products.sum::<i32>() as f32;
                sum = (total * parts.scales[output]).mul_add(scale, sum);
            }
            out.push(sum);
        }
    }
    out
}

/// Result of a kernel on a set, with as much scratch as it requests.
macro_rules! product {
    ($kernel:ident, $scratch:path, $set:expr, $x:expr, $matrix:expr) => {{
        let (rows, outputs) = ($x.row_count(), $matrix.rows());
        let (threads, mut out) = (Threads::new(1), vec![0.0; rows * outputs]);
        let mut scratch = vec![0.0; $scratch(rows, $matrix.columns())];
        let product = Product {
            kernel: $kernel::quantise($set, &threads, $x, $matrix, &mut scratch),
            epilogue: Epilogue::NONE,
        };
        product.multiply(&threads, ViewMut::new(&mut out, rows, outputs));
        out
    }};
}

/// Test inputs: random numbers; the largest numbers, of one sign or of both, so that sums of two
/// products exceed 16 bits; one NaN.
fn kinds_of_numbers(seed: u64, count: usize) -> [Vec<f32>; 4] {
    let random = random(seed, count);
    let signs = random.iter().map(|value| value.signum()).collect();
    let mut broken = random.clone();
    broken[count / 2] = f32::NAN;
    [random, vec![-1.0; count], signs, broken]
}

#[test]
fn integer_products_are_bit_identical_on_all_lanes() {
    // Outputs that do not fill a panel; inputs that fill neither a group of four, nor a group, nor
    // a KC block.
    for (outputs, inputs) in [(50, 99), (33, 645), (16, 128)] {
        let [random, negative, signs, _] = kinds_of_numbers(1, outputs * inputs);
        for weights in [random, negative, signs] {
            for rows in [1, 2, 3, 5, 8, 30] {
                for x in kinds_of_numbers(2, rows * inputs) {
                    let view = View::new(&x, rows, inputs);
                    for precision in [Precision::Int8, Precision::Q4] {
                        let matrix = matrix(outputs, inputs, &weights, precision);
                        let expected = expected_of_integers(&x, &matrix);
                        for set in available() {
                            let what = format!("{rows} rows by {precision} on {set:?}");
                            let got =
                                product!(Int16Kernel, gemm_int16::scratch, set, view, &matrix);
                            assert_eq!(bits(&got), bits(&expected), "{what}");
                        }
                    }
                    let matrix = matrix(outputs, inputs, &weights, Precision::Int8);
                    let expected = expected_of_bytes(&x, &matrix);
                    for set in available() {
                        let got = product!(Int8Kernel, gemm_int8::scratch, set, view, &matrix);
                        assert_eq!(bits(&got), bits(&expected), "{rows} in bytes on {set:?}");
                    }
                }
            }
        }
    }
}

/// Result of a kernel of attention, with as much scratch as it requests.
fn attended(kernel: &impl AttentionKernel, q: View<'_>, k: View<'_>, v: View<'_>) -> Vec<f32> {
    let threads = Threads::new(1);
    let mut out = vec![0.0; q.row_count() * q.column_count()];
    let view = ViewMut::new(&mut out, q.row_count(), q.column_count());
    let mut scratch = vec![0.0; attention::scratch(kernel, &threads)];
    attention::attention(kernel, &threads, q, k, v, view, &mut scratch);
    out
}

#[test]
fn int8_attention_is_bit_identical_on_all_lanes_and_near_f32() {
    for (queries, keys, heads, size) in [(70, 70, 2, 64), (13, 50, 3, 12), (9, 200, 1, 128)] {
        let columns = heads * size;
        let kinds = [3, 4, 5].map(|seed| kinds_of_numbers(seed, queries.max(keys) * columns));
        for causal in [false, true] {
            for ((q, k), v) in kinds[0].iter().zip(&kinds[1]).zip(&kinds[2]) {
                let [q, k, v] = [(q, queries), (k, keys), (v, keys)]
                    .map(|(values, rows)| View::new(&values[..rows * columns], rows, columns));
                let options = Attention {
                    heads,
                    scale: 0.2,
                    causal,
                    relative: None,
                };
                let sizes = Sizes::of(queries, keys, columns, &options);
                let run = |set| attended(&Int8Attention::new(set, sizes, options.scale), q, k, v);
                let floats = attended(&F32Attention::new(sizes, &options), q, k, v);
                let outputs = available().into_iter().map(|set| (set, run(set)));
                let outputs: Vec<_> = outputs.collect();
                for (set, out) in &outputs {
                    let what = format!("{set:?}, {size} channels");
                    assert_eq!(bits(out), bits(&outputs[0].1), "{what}");
                    // Integer attention takes NaN for 0.
                    if floats.iter().all(|value| value.is_finite()) {
                        let (far, near) =
                            floats.iter().zip(out).fold((0.0, 0.0), |sums, (a, b)| {
                                (sums.0 + (a - b) * (a - b), sums.1 + a * a)
                            });
                        assert!(far <= 0.02_f32.powi(2) * near, "{what}: {far} of {near}");
                    }
                }
            }
        }
    }
}
