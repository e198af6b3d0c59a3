//! Linear layers, convolutions and attention against their formulas; results independent of threads and batch.

mod common;

use common::{
    dot, matrix, memory, page_table, product, random, relative_l2, store_positions, unpacked,
    vector,
};
use proptest::prelude::*;
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::{
    Activation, Attention, CacheLayout, CachePlaces, CachePrecision, CachedPages, Context, Conv1d,
    Conv2d, ConvTranspose1d, Convolving, Linear, Padding, PageLayout, Precision, RelativePositions,
    Rounding, Store, Threads, View, Workspace,
};

fn with_context<R>(threads: usize, test: impl FnOnce(Context<'_>) -> R) -> R {
    let workspace = Workspace::pooled(&memory(), "test");
    let cpu = Cpu::new(Threads::new(threads));
    let result = test(Context::new(&workspace, &cpu));
    assert!(workspace.take_failure().is_none(), "memory ran out");
    result
}

/// The convolution equals its formula, and one thread gives what three give, bit by bit.
fn assert_convolves(layer: &Conv1d, x: &[f32], time: usize) {
    let (inputs, outputs) = (layer.inputs(), layer.weight.rows());
    let weights = unpacked(&layer.weight);
    let mut expected = Vec::new();
    for row in 0..layer.output_time(time) {
        for output in 0..outputs {
            let mut sum = (layer.bias.as_ref()).map_or(0.0, |bias| f64::from(bias.data()[output]));
            for tap in 0..layer.kernel {
                let place = row * layer.stride + tap * layer.dilation;
                let place = place.checked_sub(layer.padding.left);
                if let Some(place) = place.filter(|&place| place < time) {
                    let weights = &weights[(output * layer.kernel + tap) * inputs..][..inputs];
                    sum += dot(&x[place * inputs..][..inputs], weights);
                }
            }
            expected.push(sum as f32);
        }
    }
    let [got, again] = [1, 3].map(|threads| {
        with_context(threads, |ctx| {
            ctx.download(&ctx.conv1d(View::new(x, time, inputs), layer))
                .unwrap()
        })
    });
    assert!(expected.is_empty() && got.is_empty() || relative_l2(&got, &expected) < 1e-5);
    assert_eq!(got, again, "threads");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_linear_layer_equals_its_formula_at_every_precision(
        rows in 0_usize..40, inputs in 1_usize..400, outputs in 1_usize..130, seed: u64,
        precision in prop::sample::select(Precision::ALL.to_vec()),
    ) {
        let weight = matrix(outputs, inputs, &random(seed, outputs * inputs), precision);
        let weights = unpacked(&weight);
        let bias = random(seed + 1, outputs);
        let x = random(seed + 2, rows * inputs);
        let layer = Linear { weight, bias: Some(vector(&bias)) };
        let got = with_context(2, |ctx| {
            ctx.download(&ctx.linear(View::new(&x, rows, inputs), &layer)).unwrap()
        });
        let mut expected = product(&x, &weights, inputs);
        for row in expected.chunks_exact_mut(outputs) {
            row.iter_mut().zip(&bias).for_each(|(value, bias)| *value += bias);
        }
        // Rows in 16-bit integers are rounded to one part in 65,024 of their largest value.
        prop_assert!(rows == 0 || relative_l2(&got, &expected) < 4e-5);
    }

    #[test]
    fn a_convolution_equals_its_formula(
        time in 0_usize..30, inputs in 1_usize..40, outputs in 1_usize..40, kernel in 1_usize..8,
        stride in 1_usize..3, dilation in 1_usize..6, left in 0_usize..6, right in 0_usize..6, seed: u64,
    ) {
        let weights = random(seed, outputs * kernel * inputs);
        let layer = Conv1d {
            weight: matrix(outputs, kernel * inputs, &weights, Precision::F32),
            bias: None, kernel, stride, dilation, padding: Padding { left, right },
        };
        let x = random(seed + 1, time * inputs);
        assert_convolves(&layer, &x, time);
    }

    #[test]
    fn a_wide_and_long_convolution_equals_its_formula(
        time in 48_usize..330, inputs in 32_usize..70, outputs in 32_usize..70,
        kernel in prop::sample::select(vec![3_usize, 7, 11, 12]), dilation in 1_usize..6,
        left in 0_usize..30, right in 0_usize..30, seed: u64,
        precision in prop::sample::select(Precision::ALL.to_vec()),
    ) {
        let weights = random(seed, outputs * kernel * inputs);
        let layer = Conv1d {
            weight: matrix(outputs, kernel * inputs, &weights, precision),
            bias: Some(vector(&random(seed + 2, outputs))),
            kernel, stride: 1, dilation, padding: Padding { left, right },
        };
        let x = random(seed + 1, time * inputs);
        assert_convolves(&layer, &x, time);
    }

    #[test]
    fn a_convolution_behind_a_snake_is_added_to_what_was_there(
        time in prop::sample::select(vec![10_usize, 100]), channels in 32_usize..50, kernel in 1_usize..8,
        dilation in 1_usize..4, seed: u64,
    ) {
        let weights = random(seed, channels * kernel * channels);
        let bias = random(seed + 1, channels);
        let reach = (kernel - 1) * dilation;
        let layer = Conv1d {
            weight: matrix(channels, kernel * channels, &weights, Precision::F32),
            bias: Some(vector(&bias)), kernel, stride: 1, dilation,
            padding: Padding { left: reach, right: 0 },
        };
        let (x, before) = (random(seed + 2, time * channels), random(seed + 3, time * channels));
        let alpha: Vec<f32> = random(seed + 4, channels).iter().map(|a| 0.5 + a.abs()).collect();
        let waves: Vec<f32> = x.iter().zip(alpha.iter().cycle())
            .map(|(x, a)| (f64::from(*x) + (f64::from(*x) * f64::from(*a)).sin().powi(2) / f64::from(*a)) as f32)
            .collect();
        let alpha = vector(&alpha);
        let [got, plain] = with_context(2, |ctx| {
            let mut out = ctx.upload(&[time, channels], &before);
            let options = Convolving { snake: Some(&alpha), store: Store::Add, ..Convolving::default() };
            ctx.conv1d_into(View::new(&x, time, channels), &layer, &options, &mut out);
            let plain = ctx.conv1d(View::new(&waves, time, channels), &layer);
            [ctx.download(&out).unwrap(), ctx.download(&plain).unwrap()]
        });
        let expected: Vec<f32> = plain.iter().zip(&before).map(|(a, b)| a + b).collect();
        prop_assert!(relative_l2(&got, &expected) < 1e-5);
    }

    #[test]
    fn a_transposed_convolution_equals_its_formula(
        time in 1_usize..20, inputs in 1_usize..30, outputs in 1_usize..30, stride in 1_usize..6,
        extra in 0_usize..8, seed: u64,
    ) {
        let kernel = stride + extra;
        let padding = extra / 2;
        let weights = random(seed, kernel * outputs * inputs);
        let layer = ConvTranspose1d {
            weight: matrix(kernel * outputs, inputs, &weights, Precision::F32),
            bias: None, kernel, stride, padding,
        };
        let x = random(seed + 1, time * inputs);
        let got = with_context(2, |ctx| {
            ctx.download(&ctx.conv_transpose1d(View::new(&x, time, inputs), &layer)).unwrap()
        });
        let mut expected = vec![0.0; layer.output_time(time) * outputs];
        for row in 0..time {
            for tap in 0..kernel {
                let place = (row * stride + tap).wrapping_sub(padding);
                for output in 0..outputs {
                    if place < layer.output_time(time) {
                        let weights = &weights[(tap * outputs + output) * inputs..][..inputs];
                        expected[place * outputs + output] += dot(&x[row * inputs..][..inputs], weights) as f32;
                    }
                }
            }
        }
        prop_assert!(relative_l2(&got, &expected) < 1e-5);
    }

    #[test]
    fn attention_equals_its_formula(
        queries in 1_usize..230, keys in 1_usize..230, heads in 1_usize..4, size in 1_usize..40,
        causal: bool, relative: bool, seed: u64,
    ) {
        let keys = if relative || causal { queries } else { keys };
        let columns = heads * size;
        let [q, k, v] = [(0, queries), (1, keys), (2, keys)].map(|(n, rows)| random(seed + n, rows * columns));
        let biased = random(seed + 3, queries * columns);
        let positions = random(seed + 4, (2 * keys - 1) * columns);
        let scale = 1.0 / (size as f32).sqrt();
        let got = with_context(2, |ctx| {
            let relative = relative.then(|| RelativePositions {
                queries: View::new(&biased, queries, columns),
                positions: View::new(&positions, 2 * keys - 1, columns),
            });
            let options = Attention { heads, scale, causal, relative };
            let [q, k, v] = [(&q, queries), (&k, keys), (&v, keys)].map(|(x, rows)| View::new(x, rows, columns));
            ctx.download(&ctx.attention(q, k, v, &options)).unwrap()
        });
        let mut expected = vec![0.0; queries * columns];
        for head in 0..heads {
            let part = |x: &[f32], row: usize| x[row * columns + head * size..][..size].to_vec();
            for i in 0..queries {
                let visible = if causal { i + 1 + keys - queries } else { keys };
                let scores: Vec<f64> = (0..visible).map(|j| {
                    let mut score = dot(&part(&q, i), &part(&k, j));
                    if relative {
                        score += dot(&part(&biased, i), &part(&positions, keys - 1 - i + j));
                    }
                    (score * f64::from(scale)).exp()
                }).collect();
                let total: f64 = scores.iter().sum();
                for (j, score) in scores.iter().enumerate() {
                    for (c, value) in part(&v, j).into_iter().enumerate() {
                        expected[i * columns + head * size + c] += (score / total) as f32 * value;
                    }
                }
            }
        }
        prop_assert!(relative_l2(&got, &expected) < 1e-5);
    }
}

#[test]
fn a_plane_convolution_equals_its_formula() {
    let (size, inputs, outputs) = ([7, 9], 5, 6);
    let weights = random(1, outputs * 9 * inputs);
    let layer = Conv2d {
        weight: matrix(outputs, 9 * inputs, &weights, Precision::F32),
        bias: None,
        kernel: [3, 3],
        stride: [2, 1],
        padding: [1, 1],
    };
    let x = random(2, size[0] * size[1] * inputs);
    let got = with_context(2, |ctx| {
        let x = ctx.upload(&[size[0], size[1], inputs], &x);
        let out = ctx.conv2d(&x, &layer, Activation::Relu);
        assert_eq!(out.shape(), [4, 9, outputs]);
        ctx.download(&out).unwrap()
    });
    let mut expected = Vec::new();
    for row in 0..4_usize {
        for column in 0..9_usize {
            for output in 0..outputs {
                let mut sum = 0.0;
                for tap in 0..9 {
                    let y = (row * 2 + tap / 3).wrapping_sub(1);
                    let place = (column + tap % 3).wrapping_sub(1);
                    if y < size[0] && place < size[1] {
                        let x = &x[(y * size[1] + place) * inputs..][..inputs];
                        sum += dot(x, &weights[(output * 9 + tap) * inputs..][..inputs]);
                    }
                }
                expected.push(sum.max(0.0) as f32);
            }
        }
    }
    assert!(relative_l2(&got, &expected) < 1e-5);
}

#[test]
fn a_row_has_the_same_bits_whatever_the_threads_and_the_other_rows() {
    let (rows, inputs, outputs) = (100, 300, 170);
    let x = random(3, rows * inputs);
    for precision in Precision::ALL {
        let weight = matrix(outputs, inputs, &random(4, outputs * inputs), precision);
        let layer = Linear { weight, bias: None };
        let run = |threads: usize, x: &[f32]| {
            with_context(threads, |ctx| {
                ctx.download(&ctx.linear(View::new(x, x.len() / inputs, inputs), &layer))
                    .unwrap()
            })
        };
        let all = run(2, &x);
        assert_eq!(all, run(1, &x), "one thread against two at {precision}");
        let eight = run(2, &x[..8 * inputs]);
        let alone: Vec<f32> = (x.chunks_exact(inputs).take(8))
            .flat_map(|row| run(2, row))
            .collect();
        assert_eq!(
            eight, alone,
            "eight rows together against each alone at {precision}"
        );
        assert_eq!(
            all[..8 * outputs],
            alone,
            "a hundred rows against one at {precision}"
        );
    }
}

#[test]
fn a_coarse_linear_layer_is_near_its_formula_and_each_row_its_own() {
    for (rows, inputs, outputs) in [(1, 4, 16), (13, 77, 33), (100, 300, 170), (30, 1100, 40)] {
        let weight = matrix(
            outputs,
            inputs,
            &random(4, outputs * inputs),
            Precision::Int8,
        );
        let weights = unpacked(&weight);
        let bias = random(5, outputs);
        let layer = Linear {
            weight,
            bias: Some(vector(&bias)),
        };
        let x = random(3, rows * inputs);
        let run = |threads: usize, x: &[f32]| {
            with_context(threads, |ctx| {
                let ctx = ctx.rounding(Rounding::Coarse);
                let mut out = ctx.zeros(&[x.len() / inputs, outputs]);
                ctx.linear_add(View::new(x, x.len() / inputs, inputs), &layer, &mut out);
                ctx.download(&out).unwrap()
            })
        };
        let mut expected = product(&x, &weights, inputs);
        for row in expected.chunks_exact_mut(outputs) {
            row.iter_mut().zip(&bias).for_each(|(y, b)| *y += b);
        }
        let all = run(2, &x);
        let error = relative_l2(&all, &expected);
        assert!(error < 1e-2, "{rows} rows of {inputs}: {error}");
        assert_eq!(all, run(1, &x), "one thread against two");
        let alone: Vec<f32> = x.chunks_exact(inputs).flat_map(|row| run(2, row)).collect();
        assert_eq!(all, alone, "together against each alone");
    }
}

#[test]
fn coarse_attention_is_near_attention() {
    for (queries, keys, heads, size, causal) in [
        (1, 1, 1, 4, false),
        (50, 33, 2, 20, false),
        (200, 230, 3, 64, false),
        (97, 97, 2, 40, true),
    ] {
        let columns = heads * size;
        let [q, mut k, v] =
            [(0, queries), (1, keys), (2, keys)].map(|(seed, rows)| random(seed, rows * columns));
        // What all keys have in common would coarsen them; no weight depends on it.
        k.iter_mut().for_each(|value| *value += 20.0);
        let run = |threads: usize, rounding: Rounding| {
            let [q, k, v] = [(&q, queries), (&k, keys), (&v, keys)]
                .map(|(x, rows)| View::new(x, rows, columns));
            let options = Attention {
                heads,
                scale: 0.5,
                causal,
                relative: None,
            };
            with_context(threads, |ctx| {
                let ctx = ctx.rounding(rounding);
                ctx.download(&ctx.attention(q, k, v, &options)).unwrap()
            })
        };
        let coarse = run(2, Rounding::Coarse);
        let error = relative_l2(&coarse, &run(2, Rounding::Fine));
        assert!(error < 2e-2, "{queries} queries of {size}: {error}");
        assert_eq!(coarse, run(1, Rounding::Coarse), "one thread against two");
    }
}

#[test]
fn attention_over_cached_positions_equals_attention_whatever_their_parts() {
    for (heads, size) in [(3, 20), (4, 64)] {
        let (positions, columns) = (150, heads * size);
        let [q, k, v] = [(0, 2), (1, positions), (2, positions)]
            .map(|(seed, rows)| random(seed, rows * columns));
        for (precision, tolerance) in [
            (CachePrecision::F32, 1e-5),
            (CachePrecision::F16, 1e-3),
            (CachePrecision::Int8, 1e-2),
        ] {
            let layout = CacheLayout {
                heads,
                size,
                precision,
            };
            let shared = PageLayout {
                cache: layout,
                layers: 2,
                rows: 1,
                positions: 19,
            };
            let own = PageLayout {
                rows: 2,
                positions: 16,
                ..shared
            };
            let (prefix, rest) = (37, positions - 37);
            let (got, expected) = with_context(2, |ctx| {
                let memory = memory();
                let mut prefix_table = page_table(&memory, shared, prefix);
                let mut own_table = page_table(&memory, own, rest);
                let (keys, values) = (k.split_at(prefix * columns), v.split_at(prefix * columns));
                store_positions(&ctx, &mut prefix_table, shared, [0, 1], [keys.0, values.0]);
                for row in 0..2 {
                    store_positions(&ctx, &mut own_table, own, [row, 1], [keys.1, values.1]);
                }
                let mut places = CachePlaces::new(layout);
                let prefix = CachedPages {
                    table: &prefix_table,
                    layout: shared,
                    positions: prefix,
                };
                let first = places.add_sequences(Some(prefix), &mut own_table, own);
                places.add_row(first, positions);
                places.add_row(first + 1, positions);
                assert_eq!(places.positions(), [positions as u32 - 1; 2]);
                let [q, k, v] = [(&q, 2), (&k, positions), (&v, positions)]
                    .map(|(x, rows)| ctx.upload(&[rows, columns], x));
                let got = ctx.attention_cached(&q, 1, &places, 0.3);
                let options = Attention {
                    heads,
                    scale: 0.3,
                    causal: false,
                    relative: None,
                };
                let expected = ctx.attention(&q, &k, &v, &options);
                (
                    ctx.download(&got).unwrap(),
                    ctx.download(&expected).unwrap(),
                )
            });
            let error = relative_l2(&got, &expected);
            assert!(
                error < tolerance,
                "{precision:?} in heads of {size}: {error}"
            );
        }
    }
}
