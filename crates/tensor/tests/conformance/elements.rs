//! Element-wise and row functions, norms, LSTM and tables against their formulas in f64.

use crate::common::{Fixture, dot, random, relative_l2};
use sottovoce_tensor::{
    Activation, Context, EvenPositions, LayerNorm, Linear, Lstm, LstmLayer, Noise, Precision,
    SinusoidOrder, TrafficCount, Workspace,
};

/// The error function as a series whose terms have the same sign.
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

pub fn activations_equal_their_formulas(fixture: &Fixture) {
    let x: Vec<f32> = (-1600..=1600).map(|step| step as f32 / 200.0).collect();
    for activation in Activation::EACH {
        let got = fixture.run(|ctx| {
            let mut out = ctx.upload(&[3, x.len() / 3], &x[..x.len() / 3 * 3]);
            ctx.activate(&mut out, activation);
            ctx.download(&out).unwrap()
        });
        for (&x, &got) in x.iter().zip(&got) {
            let expected = formula(activation, f64::from(x));
            let error = (f64::from(got) - expected).abs();
            let allowed = fixture.tolerances.element * expected.abs().max(1.0);
            assert!(
                error < allowed,
                "{activation:?} of {x}: {got}, not {expected}"
            );
        }
    }
}

pub fn exponentials_end_at_zero_and_stay_finite(fixture: &Fixture) {
    let got = fixture.run(|ctx| {
        let mut x = ctx.upload(&[1, 5], &[-1e30, -200.0, 1e30, f32::NEG_INFINITY, 0.0]);
        ctx.activate(&mut x, Activation::Exp);
        ctx.download(&x).unwrap()
    });
    assert_eq!([got[0], got[1], got[3], got[4]], [0.0, 0.0, 0.0, 1.0]);
    assert!(got[2].is_finite() && got[2] > 1e38);
}

pub fn norms_equal_their_formulas(fixture: &Fixture) {
    let epsilon = 1e-5;
    for (rows, channels) in [(1, 1), (5, 7), (40, 1024)] {
        let x: Vec<f32> = random(3, rows * channels).iter().map(|x| 2.0 + x).collect();
        let (scale, shift) = (random(4, channels), random(5, channels));
        let (layer, root) = fixture.run(|ctx| {
            let norm = LayerNorm {
                weight: fixture.vector(&scale),
                bias: fixture.vector(&shift),
                epsilon,
            };
            let x = ctx.upload(&[rows, channels], &x);
            let layer = ctx.download(&ctx.layer_norm(&x, &norm)).unwrap();
            let root = ctx
                .download(&ctx.rms_norm(&x, &fixture.vector(&scale), epsilon))
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
        // The mean is twice the deviation: subtracting it loses as much as f32 does.
        assert!(
            relative_l2(&layer, &expected_layer) < 2.0 * fixture.tolerances.element,
            "{rows} × {channels}"
        );
        assert!(
            relative_l2(&root, &expected_root) < fixture.tolerances.element,
            "{rows} × {channels}"
        );
    }
}

pub fn softmax_equals_its_formula_and_a_row_of_nothing_becomes_zeros(fixture: &Fixture) {
    let (rows, columns) = (9, 131);
    let mut x: Vec<f32> = random(6, rows * columns).iter().map(|x| 30.0 * x).collect();
    x[..columns].fill(f32::NEG_INFINITY);
    x[columns + 5] = f32::NEG_INFINITY;
    let got = fixture.run(|ctx| {
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
        assert!(relative_l2(got, &expected) < fixture.tolerances.element);
    }
}

pub fn sums_products_and_gates_equal_their_formulas(fixture: &Fixture) {
    let (rows, columns) = (21, 35);
    let (x, y, one) = (
        random(7, rows * columns),
        random(8, rows * columns),
        random(9, columns),
    );
    let (sum, broadcast, product, gated) = fixture.run(|ctx| {
        let tensor = || ctx.upload(&[rows, columns], &x);
        let (mut sum, mut broadcast, mut product) = (tensor(), tensor(), tensor());
        ctx.add_scaled(&mut sum, 0.5, &ctx.upload(&[rows, columns], &y), -2.0);
        ctx.add(&mut broadcast, &ctx.upload(&[1, columns], &one));
        ctx.multiply(&mut product, &ctx.upload(&[1, columns], &one));
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
        assert!(
            (f64::from(gated[index]) - gate * sigmoid(gate) * up).abs()
                < fixture.tolerances.element
        );
    }
}

pub fn positions_turn_pairs_by_their_angles(fixture: &Fixture) {
    let (rows, heads, size) = (6, 3, 10);
    let x = random(10, rows * heads * size);
    let angles: Vec<f32> = random(11, rows * size / 2)
        .iter()
        .map(|a| 3.0 * a)
        .collect();
    let got = fixture.run(|ctx| {
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
        assert!(
            (f64::from(got) - expected).abs() < fixture.tolerances.element,
            "place {place}"
        );
    }
}

pub fn an_lstm_equals_its_formula_for_each_sequence_of_a_batch(fixture: &Fixture) {
    let (batch, time, inputs, hidden) = (3, 11, 9, 8);
    let x = random(12, batch * time * inputs);
    // For each layer: input weights, recurrent weights, the bias.
    let weights = [(13, inputs), (16, hidden)].map(|(seed, inputs)| {
        let sizes = [4 * hidden * inputs, 4 * hidden * hidden, 4 * hidden];
        [0, 1, 2].map(|part| random(seed + part as u64, sizes[part]))
    });
    let linear = |weights: &[f32], bias: Option<&[f32]>| {
        let inputs = weights.len() / (4 * hidden);
        Linear {
            weight: fixture.matrix(4 * hidden, inputs, weights, Precision::F32),
            bias: bias.map(|bias| fixture.vector(bias)),
        }
    };
    let layers = weights.iter().map(|[input, recurrent, bias]| LstmLayer {
        input: linear(input, Some(bias)),
        recurrent: linear(recurrent, None),
    });
    let network = Lstm {
        layers: layers.collect(),
    };
    let got = fixture.run(|ctx| {
        let x = ctx.upload(&[batch * time, inputs], &x);
        ctx.download(&ctx.lstm(&x, batch, &network)).unwrap()
    });
    let mut expected = Vec::new();
    for sequence in x.chunks_exact(time * inputs) {
        let mut rows: Vec<Vec<f32>> = sequence.chunks_exact(inputs).map(<[f32]>::to_vec).collect();
        for [input, recurrent, bias] in &weights {
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
    assert!(relative_l2(&got, &expected) < fixture.tolerances.element);
}

pub fn a_table_gives_the_rows_asked_for(fixture: &Fixture) {
    let (rows, columns) = (50, 37);
    let values = random(17, rows * columns);
    for (precision, tolerance) in [
        (Precision::F32, 0.0),
        (Precision::F16, 4e-4),
        (Precision::Int8, 8e-3),
        (Precision::Q4, 0.12),
    ] {
        let table = fixture.matrix(rows, columns, &values, precision);
        let ids = [49, 0, 17, 17];
        let got = fixture.run(|ctx| ctx.download(&ctx.embedding(&table, &ids)).unwrap());
        let expected: Vec<f32> = (ids.iter())
            .flat_map(|&id| values[id as usize * columns..][..columns].to_vec())
            .collect();
        assert!(relative_l2(&got, &expected) <= tolerance, "{precision}");
    }
}

pub fn rows_are_repeated_filled_and_scaled(fixture: &Fixture) {
    let (rows, columns) = (3, 5);
    let x = random(18, rows * columns);
    let (repeated, scaled, filled) = fixture.run(|ctx| {
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

pub fn sinusoids_and_rotary_angles_are_sines_and_cosines_of_their_products(fixture: &Fixture) {
    let rates = [1.0, 0.3, 0.007];
    let positions = EvenPositions {
        first: 4.0,
        step: -1.0,
    };
    let tables = fixture.run(|ctx| {
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
    let (mut halves, mut pairs) = (Vec::new(), Vec::new());
    for row in 0..9 {
        let waves = rates.map(|rate| ((4.0 - row as f32) * rate).sin_cos());
        halves.extend(waves.map(|(sine, _)| sine));
        halves.extend(waves.map(|(_, cosine)| cosine));
        pairs.extend(waves.into_iter().flat_map(|(sine, cosine)| [sine, cosine]));
    }
    let angles: Vec<f32> = [4.0, 0.0, 900.0]
        .into_iter()
        .flat_map(|position| rates.map(|rate| position * rate))
        .collect();
    fixture.assert_exact(&tables[0], &halves);
    fixture.assert_exact(&tables[1], &pairs);
    for (table, function) in [(2, f32::cos as fn(f32) -> f32), (3, f32::sin)] {
        let expected: Vec<f32> = angles.iter().map(|&angle| function(angle)).collect();
        fixture.assert_exact(&tables[table], &expected);
    }
}

pub fn moments_and_segment_means_equal_their_formulas(fixture: &Fixture) {
    let (rows, columns, segment) = (23, 4, 10);
    let x: Vec<f32> = random(19, rows * columns).iter().map(|x| x + 3.0).collect();
    let (moments, means) = fixture.run(|ctx| {
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

pub fn noise_belongs_to_its_row_and_column(fixture: &Fixture) {
    let (noise, rows, columns) = (Noise::new(5), 7, 9);
    let got = fixture.run(|ctx| {
        let mut out = ctx.tensor(&[rows, columns]);
        ctx.normals(noise, 100, out.view_mut().rows(0..3));
        ctx.normals(noise, 1000, out.view_mut().rows(3..rows));
        ctx.download(&out).unwrap()
    });
    let numbers = [100, 101, 102, 1000, 1001, 1002, 1003];
    let expected: Vec<f32> = (numbers.into_iter())
        .flat_map(|row| (0..columns as u64).map(move |column| noise.normal(row, column)))
        .collect();
    fixture.assert_exact(&got, &expected);
}

pub fn what_goes_between_device_and_host_is_counted(fixture: &Fixture) {
    let device = &fixture.devices[0];
    let before = device.traffic().count();
    let workspace = Workspace::pooled(&fixture.memory, "test");
    let ctx = Context::new(&workspace, &**device);
    let x = ctx.upload(&[4, 6], &random(20, 24));
    let part = ctx.download(x.view().rows(1..3).columns(2..4)).unwrap();
    assert_eq!(part, [8, 9, 14, 15].map(|place| random(20, 24)[place]));
    let count = TrafficCount {
        reads: before.reads + 1,
        read_bytes: before.read_bytes + 16,
        writes: before.writes + 1,
        written_bytes: before.written_bytes + 96,
    };
    assert_eq!(device.traffic().count(), count);
}
