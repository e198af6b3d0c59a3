//! Functions of elements and rows, norms, LSTM and tables against their formulas in f64.

mod common;

use common::{dot, matrix, memory, random, relative_l2, unpacked, vector};
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::{
    Activation, Context, Device, EvenPositions, LayerNorm, Linear, Lstm, LstmLayer, Noise,
    Precision, SinusoidOrder, Threads, TrafficCount, View, Workspace,
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
            ctx.download(&out).unwrap()
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
        ctx.download(&x).unwrap()
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
            let layer = ctx.download(&ctx.layer_norm(x, &norm)).unwrap();
            let root = ctx
                .download(&ctx.rms_norm(x, &vector(&scale), epsilon))
                .unwrap();
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
        ctx.download(&x).unwrap()
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
            .map(|tensor| ctx.download(&tensor).unwrap())
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
        ctx.download(&x).unwrap()
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
        ctx.download(&ctx.lstm(x, batch, &network)).unwrap()
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
        let got = with_context(|ctx| ctx.download(&ctx.embedding(&table, &ids)).unwrap());
        let expected: Vec<f32> = (ids.iter())
            .flat_map(|&id| values[id as usize * columns..][..columns].to_vec())
            .collect();
        assert!(relative_l2(&got, &expected) <= tolerance, "{precision}");
    }
}

#[test]
fn rows_are_repeated_filled_and_scaled() {
    let (rows, columns) = (3, 5);
    let x = random(18, rows * columns);
    let (repeated, scaled, filled) = with_context(|ctx| {
        let mut tensor = ctx.upload(&[rows, columns], &x);
        let repeated = ctx.download(&ctx.repeat_rows(&tensor, 4)).unwrap();
        ctx.scale(&mut tensor, -0.3);
        let scaled = ctx.download(&tensor).unwrap();
        (repeated, scaled, ctx.download(&ctx.zeros(&[2, 3])).unwrap())
    });
    for (place, value) in repeated.iter().enumerate() {
        assert_eq!(*value, x[place / (4 * columns) * columns + place % columns]);
    }
    assert!(x.iter().zip(&scaled).all(|(x, got)| *got == x * -0.3));
    assert_eq!(filled, [0.0; 6]);
}

#[test]
fn sinusoids_and_rotary_angles_are_sines_and_cosines_of_their_products() {
    let rates = [1.0, 0.3, 0.007];
    let positions = EvenPositions {
        first: 4.0,
        step: -1.0,
    };
    let tables = with_context(|ctx| {
        let [halves, pairs] = [SinusoidOrder::Halves, SinusoidOrder::Pairs].map(|order| {
            ctx.download(&ctx.sinusoids(9, positions, &rates, order))
                .unwrap()
        });
        let [cosines, sines] = ctx.rotary_angles(&[4, 0, 900], &rates);
        [halves, pairs]
            .into_iter()
            .chain([&cosines, &sines].map(|table| ctx.download(table).unwrap()))
            .collect::<Vec<_>>()
    });
    for row in 0..9 {
        for (place, &rate) in rates.iter().enumerate() {
            let (sine, cosine) = ((4.0 - row as f32) * rate).sin_cos();
            let halves = &tables[0][6 * row..][..6];
            assert_eq!((halves[place], halves[3 + place]), (sine, cosine));
            let pairs = &tables[1][6 * row..][..6];
            assert_eq!((pairs[2 * place], pairs[2 * place + 1]), (sine, cosine));
        }
    }
    for (row, position) in [4.0_f32, 0.0, 900.0].into_iter().enumerate() {
        for (place, &rate) in rates.iter().enumerate() {
            let angle = position * rate;
            assert_eq!(tables[2][3 * row + place], angle.cos());
            assert_eq!(tables[3][3 * row + place], angle.sin());
        }
    }
}

#[test]
fn moments_and_segment_means_equal_their_formulas() {
    let (rows, columns, segment) = (23, 4, 10);
    let x: Vec<f32> = random(19, rows * columns).iter().map(|x| x + 3.0).collect();
    let (moments, means) = with_context(|ctx| {
        let x = ctx.upload(&[rows, columns], &x);
        let means = ctx.segment_means(&x, segment);
        assert_eq!(means.shape(), [3, columns]);
        (
            ctx.download(&ctx.moments(&x)).unwrap(),
            ctx.download(&means).unwrap(),
        )
    });
    for column in 0..columns {
        let values: Vec<f64> = (x.iter().skip(column).step_by(columns))
            .map(|&x| f64::from(x))
            .collect();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let whole = mean(&values);
        let squares: Vec<f64> = values.iter().map(|x| (x - whole).powi(2)).collect();
        let deviation = (squares.iter().sum::<f64>() / (rows - 1) as f64).sqrt();
        assert!((f64::from(moments[column]) - whole).abs() < 1e-6);
        assert!((f64::from(moments[columns + column]) - deviation).abs() < 1e-6);
        for (index, own) in values.chunks(segment).enumerate() {
            let got = f64::from(means[index * columns + column]);
            assert!((got - whole - mean(own)).abs() < 1e-6);
        }
    }
}

#[test]
fn noise_belongs_to_its_row_and_column() {
    let (noise, rows, columns) = (Noise::new(5), 7, 9);
    let got = with_context(|ctx| {
        let mut out = ctx.tensor(&[rows, columns]);
        ctx.normals(noise, 100, out.view_mut().rows(0..3));
        ctx.normals(noise, 1000, out.view_mut().rows(3..rows));
        ctx.download(&out).unwrap()
    });
    for (place, &got) in got.iter().enumerate() {
        let row = match place / columns {
            row if row < 3 => 100 + row,
            row => 1000 + row - 3,
        };
        assert_eq!(got, noise.normal(row as u64, (place % columns) as u64));
    }
}

#[test]
fn what_goes_between_device_and_host_is_counted() {
    let workspace = Workspace::pooled(&memory(), "test");
    let cpu = Cpu::new(Threads::new(1));
    let ctx = Context::new(&workspace, &cpu);
    let x = ctx.upload(&[4, 6], &random(20, 24));
    let part = ctx.download(x.view().rows(1..3).columns(2..4)).unwrap();
    assert_eq!(part, [8, 9, 14, 15].map(|place| random(20, 24)[place]));
    let count = TrafficCount {
        reads: 1,
        read_bytes: 16,
        writes: 1,
        written_bytes: 96,
    };
    assert_eq!(cpu.traffic().count(), count);
}
