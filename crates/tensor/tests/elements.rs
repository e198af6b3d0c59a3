//! Functions of elements and rows, norms, LSTM and tables against their formulas in f64.

mod common;

use common::{dot, matrix, memory, random, relative_l2, unpacked, vector};
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::{
    Activation, Context, LayerNorm, Linear, Lstm, LstmLayer, Precision, Threads, View, Workspace,
};

fn with_context<R>(test: impl FnOnce(Context<'_>) -> R) -> R {
    let workspace = Workspace::pooled(&memory(), "test");
    let cpu = Cpu::new(Threads::new(2));
    test(Context::new(&workspace, &cpu))
}

/// The error function as a series whose terms are all of one sign.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    sum * (-x * x).exp() * std::f64::consts::FRAC_2_SQRT_PI
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn formula(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Relu => x.max(0.0),
        Activation::LeakyRelu(slope) => x.max(0.0) + f64::from(slope) * x.min(0.0),
        Activation::Elu => x.max(0.0) + x.min(0.0).exp_m1(),
        Activation::GeluErf => 0.5 * x * (1.0 + erf(x / 2.0_f64.sqrt())),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::Silu => x * sigmoid(x),
        Activation::Mish => x * x.exp().ln_1p().tanh(),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => sigmoid(x),
        Activation::Exp => x.exp(),
        Activation::Abs => x.abs(),
    }
}

#[test]
fn activations_equal_their_formulas() {
    let x: Vec<f32> = (-1600..=1600).map(|step| step as f32 / 200.0).collect();
    for activation in [
        Activation::Identity,
        Activation::Relu,
        Activation::LeakyRelu(0.1),
        Activation::Elu,
        Activation::GeluErf,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::Mish,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Exp,
        Activation::Abs,
    ] {
        let got = with_context(|ctx| {
            let mut out = ctx.upload(&[3, x.len() / 3], &x[..x.len() / 3 * 3]);
            ctx.activate(&mut out, activation);
            out.data().to_vec()
        });
        for (&x, &got) in x.iter().zip(&got) {
            let expected = formula(activation, f64::from(x));
            let error = (f64::from(got) - expected).abs();
            let allowed = 1e-6 * expected.abs().max(1.0);
            assert!(
                error < allowed,
                "{activation:?} of {x}: {got}, not {expected}"
            );
        }
    }
}

#[test]
fn exponentials_end_at_zero_and_stay_finite() {
    let got = with_context(|ctx| {
        let mut x = ctx.upload(&[1, 5], &[-1e30, -200.0, 1e30, f32::NEG_INFINITY, 0.0]);
        ctx.activate(&mut x, Activation::Exp);
        x.data().to_vec()
    });
    assert_eq!([got[0], got[1], got[3], got[4]], [0.0, 0.0, 0.0, 1.0]);
    assert!(got[2].is_finite() && got[2] > 1e38);
}

#[test]
fn norms_equal_their_formulas() {
    let epsilon = 1e-5;
    for (rows, channels) in [(1, 1), (5, 7), (40, 1024)] {
        let x: Vec<f32> = random(3, rows * channels).iter().map(|x| 2.0 + x).collect();
        let (scale, shift) = (random(4, channels), random(5, channels));
        let (layer, root) = with_context(|ctx| {
            let norm = LayerNorm {
                weight: vector(&scale),
                bias: vector(&shift),
                epsilon,
            };
            let x = View::new(&x, rows, channels);
            let layer = ctx.layer_norm(x, &norm).data().to_vec();
            let root = ctx.rms_norm(x, &vector(&scale), epsilon).data().to_vec();
            (layer, root)
        });
        let (mut expected_layer, mut expected_root) = (Vec::new(), Vec::new());
        for row in x.chunks_exact(channels) {
            let count = channels as f64;
            let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / count;
            let deviations = row.iter().map(|&x| (f64::from(x) - mean).powi(2));
            let deviation = (deviations.sum::<f64>() / count + f64::from(epsilon)).sqrt();
            let size = (dot(row, row) / count + f64::from(epsilon)).sqrt();
            for ((&x, &scale), &shift) in row.iter().zip(&scale).zip(&shift) {
                let (x, scale) = (f64::from(x), f64::from(scale));
                expected_layer.push(((x - mean) / deviation * scale + f64::from(shift)) as f32);
                expected_root.push((x / size * scale) as f32);
            }
        }
        // The mean is twice the deviation: what subtracting it loses is what f32 has.
        assert!(
            relative_l2(&layer, &expected_layer) < 2e-6,
            "{rows} × {channels}"
        );
        assert!(
            relative_l2(&root, &expected_root) < 1e-6,
            "{rows} × {channels}"
        );
    }
}

#[test]
fn softmax_equals_its_formula_and_a_row_of_nothing_becomes_zeros() {
    let (rows, columns) = (9, 131);
    let mut x: Vec<f32> = random(6, rows * columns).iter().map(|x| 30.0 * x).collect();
    x[..columns].fill(f32::NEG_INFINITY);
    x[columns + 5] = f32::NEG_INFINITY;
    let got = with_context(|ctx| {
        let mut x = ctx.upload(&[rows, columns], &x);
        ctx.softmax(&mut x);
        x.data().to_vec()
    });
    assert!(got[..columns].iter().all(|&value| value == 0.0));
    for (row, got) in (x.chunks_exact(columns).zip(got.chunks_exact(columns))).skip(1) {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f64> = (row.iter())
            .map(|&x| (f64::from(x) - f64::from(largest)).exp())
            .collect();
        let total: f64 = powers.iter().sum();
        let expected: Vec<f32> = powers.iter().map(|power| (power / total) as f32).collect();
        assert!(relative_l2(got, &expected) < 1e-6);
    }
}

#[test]
fn sums_products_and_gates_equal_their_formulas() {
    let (rows, columns) = (21, 35);
    let (x, y, one) = (
        random(7, rows * columns),
        random(8, rows * columns),
        random(9, columns),
    );
    let (sum, broadcast, product, gated) = with_context(|ctx| {
        let tensor = || ctx.upload(&[rows, columns], &x);
        let (mut sum, mut broadcast, mut product) = (tensor(), tensor(), tensor());
        ctx.add_scaled(&mut sum, 0.5, View::new(&y, rows, columns), -2.0);
        ctx.add(&mut broadcast, View::new(&one, 1, columns));
        ctx.multiply(&mut product, View::new(&one, 1, columns));
        let both = ctx.upload(&[rows, 2 * columns], &[x.clone(), y.clone()].concat());
        let gated = ctx.gated_silu(&both);
        [sum, broadcast, product, gated]
            .map(|tensor| tensor.data().to_vec())
            .into()
    });
    let both = [x.clone(), y.clone()].concat();
    for index in 0..rows * columns {
        let (row, column) = (index / columns, index % columns);
        assert_eq!(sum[index], x[index] * 0.5 + y[index] * -2.0);
        assert_eq!(broadcast[index], x[index] + one[column]);
        assert_eq!(product[index], x[index] * one[column]);
        let gate = f64::from(both[2 * row * columns + column]);
        let up = f64::from(both[(2 * row + 1) * columns + column]);
        assert!((f64::from(gated[index]) - gate * sigmoid(gate) * up).abs() < 1e-6);
    }
}

#[test]
fn positions_turn_pairs_by_their_angles() {
    let (rows, heads, size) = (6, 3, 10);
    let x = random(10, rows * heads * size);
    let angles: Vec<f32> = random(11, rows * size / 2)
        .iter()
        .map(|a| 3.0 * a)
        .collect();
    let got = with_context(|ctx| {
        let mut x = ctx.upload(&[rows, heads * size], &x);
        let [cosines, sines] = [f32::cos, f32::sin].map(|function: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|&angle| function(angle)).collect();
            ctx.upload(&[rows, size / 2], &values)
        });
        ctx.rotate(&mut x, heads, &cosines, &sines);
        x.data().to_vec()
    });
    for (place, &got) in got.iter().enumerate() {
        let (row, column) = (place / (heads * size), place % size);
        let angle = f64::from(angles[row * size / 2 + column % (size / 2)]);
        let other = place - column + (column + size / 2) % size;
        let sign = if column < size / 2 { -1.0 } else { 1.0 };
        let expected = f64::from(x[place]) * angle.cos() + sign * f64::from(x[other]) * angle.sin();
        assert!((f64::from(got) - expected).abs() < 1e-6, "place {place}");
    }
}

#[test]
fn an_lstm_equals_its_formula_for_each_sequence_of_a_batch() {
    let (batch, time, inputs, hidden) = (3, 11, 9, 8);
    let x = random(12, batch * time * inputs);
    let layer = |seed: u64, inputs: usize| {
        let weights = random(seed, 4 * hidden * inputs);
        let recurrent = random(seed + 1, 4 * hidden * hidden);
        LstmLayer {
            input: Linear {
                weight: matrix(4 * hidden, inputs, &weights, Precision::F32),
                bias: Some(vector(&random(seed + 2, 4 * hidden))),
            },
            recurrent: Linear {
                weight: matrix(4 * hidden, hidden, &recurrent, Precision::F32),
                bias: None,
            },
        }
    };
    let network = Lstm {
        layers: vec![layer(13, inputs), layer(16, hidden)],
    };
    let got = with_context(|ctx| {
        let x = View::new(&x, batch * time, inputs);
        ctx.lstm(x, batch, &network).data().to_vec()
    });
    let mut expected = Vec::new();
    for sequence in x.chunks_exact(time * inputs) {
        let mut rows: Vec<Vec<f32>> = sequence.chunks_exact(inputs).map(<[f32]>::to_vec).collect();
        for layer in &network.layers {
            let (input, recurrent) = (
                unpacked(&layer.input.weight),
                unpacked(&layer.recurrent.weight),
            );
            let bias = layer.input.bias.as_ref().expect("given above").data();
            let (mut state, mut cell) = (vec![0.0_f32; hidden], vec![0.0_f64; hidden]);
            for row in &mut rows {
                let gate = |index: usize| {
                    let inputs = row.len();
                    f64::from(bias[index])
                        + dot(row, &input[index * inputs..][..inputs])
                        + dot(&state, &recurrent[index * hidden..][..hidden])
                };
                let gates: Vec<f64> = (0..4 * hidden).map(gate).collect();
                for unit in 0..hidden {
                    let [input, forget, candidate, output] =
                        [0, 1, 2, 3].map(|kind| gates[kind * hidden + unit]);
                    cell[unit] = sigmoid(forget) * cell[unit] + sigmoid(input) * candidate.tanh();
                    state[unit] = (sigmoid(output) * cell[unit].tanh()) as f32;
                }
                row.clone_from(&state);
            }
        }
        expected.extend(rows.concat());
    }
    assert!(relative_l2(&got, &expected) < 1e-6);
}

#[test]
fn a_table_gives_the_rows_asked_for() {
    let (rows, columns) = (50, 37);
    let values = random(17, rows * columns);
    for (precision, tolerance) in [
        (Precision::F32, 0.0),
        (Precision::F16, 4e-4),
        (Precision::Int8, 8e-3),
        (Precision::Q4, 0.12),
    ] {
        let table = matrix(rows, columns, &values, precision);
        let ids = [49, 0, 17, 17];
        let got = with_context(|ctx| ctx.embedding(&table, &ids).data().to_vec());
        let expected: Vec<f32> = (ids.iter())
            .flat_map(|&id| values[id as usize * columns..][..columns].to_vec())
            .collect();
        assert!(relative_l2(&got, &expected) <= tolerance, "{precision}");
    }
}
