//! Fused operations give the same bits as the plain ones in sequence, and as each row alone.

use crate::common::{Fixture, page_table, random, store_positions};
use sottovoce_tensor::{
    Activation, Attention, CacheLayout, CachePlaces, CachePrecision, Context, Conv1d, LayerNorm,
    Linear, Norm, Padding, PageLayout, Precision, Rounding, Tensor,
};

/// One row, few rows, and many.
const ROWS: [usize; 7] = [1, 2, 7, 16, 20, 40, 70];

fn norms(fixture: &Fixture, channels: usize) -> [Norm; 2] {
    let [scale, weight, bias] = [1, 2, 3].map(|seed| fixture.vector(&random(seed, channels)));
    [
        Norm::RootMeanSquare {
            scale,
            epsilon: 1e-5,
        },
        Norm::Layer(LayerNorm {
            weight,
            bias,
            epsilon: 1e-5,
        }),
    ]
}

fn layer(
    fixture: &Fixture,
    [outputs, inputs]: [usize; 2],
    precision: Precision,
    bias: bool,
) -> Linear {
    let weights = random(outputs as u64, outputs * inputs);
    Linear {
        weight: fixture.matrix(outputs, inputs, &weights, precision),
        bias: bias.then(|| fixture.vector(&random(9, outputs))),
    }
}

/// Compares two forwards of rows, and each with itself for single rows.
fn compare(
    fixture: &Fixture,
    columns: usize,
    what: &str,
    fused: impl Fn(&Context<'_>, &Tensor) -> Tensor,
    plain: impl Fn(&Context<'_>, &Tensor) -> Tensor,
) {
    let all = random(7, ROWS[6] * columns);
    let run = |x: &[f32], forward: &dyn Fn(&Context<'_>, &Tensor) -> Tensor| {
        fixture.run(|ctx| {
            let x = ctx.upload(&[x.len() / columns, columns], x);
            ctx.download(&forward(&ctx, &x)).unwrap()
        })
    };
    for rows in ROWS {
        let x = &all[..rows * columns];
        let together = run(x, &fused);
        assert_eq!(together, run(x, &plain), "{what}, {rows} rows");
        let last = &x[(rows - 1) * columns..];
        let alone = run(last, &fused);
        assert_eq!(
            alone,
            together[together.len() - alone.len()..],
            "{what}, a row alone"
        );
    }
}

pub fn a_norm_and_a_linear_layer_as_one_equal_both(fixture: &Fixture) {
    let inputs = 72;
    for norm in &norms(fixture, inputs) {
        for precision in Precision::ALL {
            let layer = layer(fixture, [40, inputs], precision, true);
            compare(
                fixture,
                inputs,
                &format!("{precision}"),
                |ctx, x| ctx.norm_linear(x, norm, &layer, Activation::GeluTanh),
                |ctx, x| ctx.linear_activated(&ctx.norm(x, norm), &layer, Activation::GeluTanh),
            );
            // 32 outputs each, which devices may fuse, and 20.
            for outputs in [64, 40] {
                let gate_up = self::layer(fixture, [outputs, inputs], precision, false);
                compare(
                    fixture,
                    inputs,
                    &format!("gated {precision}"),
                    |ctx, x| ctx.gated_linear(x, norm, &gate_up),
                    |ctx, x| ctx.gated_silu(&ctx.linear(&ctx.norm(x, norm), &gate_up)),
                );
            }
        }
    }
}

pub fn layers_side_by_side_equal_each_of_them(fixture: &Fixture) {
    let inputs = 36;
    let [norm, _] = norms(fixture, inputs);
    let layers: Vec<Linear> = (0..18)
        .map(|seed| Linear {
            weight: fixture.matrix(20, inputs, &random(seed, 20 * inputs), Precision::F16),
            bias: Some(fixture.vector(&random(seed + 50, 20))),
        })
        .collect();
    let layers: Vec<&Linear> = layers.iter().collect();
    for rows in [1, 30] {
        let x = random(4, rows * inputs);
        let (together, apart) = fixture.run(|ctx| {
            let x = ctx.upload(&[rows, inputs], &x);
            let together = ctx.linears(&x, Some(&norm), &layers);
            let apart = (layers.iter()).flat_map(|layer| {
                let one = ctx.linear(&ctx.norm(&x, &norm), layer);
                ctx.download(&one).unwrap()
            });
            (
                ctx.download(&together).unwrap(),
                apart.collect::<Vec<f32>>(),
            )
        });
        assert_eq!(together, apart, "{rows} rows");
    }
}

pub fn layers_of_rows_in_bytes_equal_each_of_them(fixture: &Fixture) {
    let inputs = 136;
    for norm in &norms(fixture, inputs) {
        let layers: Vec<Linear> = (0..3)
            .map(|seed| Linear {
                weight: fixture.matrix(40, inputs, &random(seed, 40 * inputs), Precision::Int8),
                bias: Some(fixture.vector(&random(seed + 50, 40))),
            })
            .collect();
        let layers: Vec<&Linear> = layers.iter().collect();
        for rows in [1, 130] {
            let x = random(4, rows * inputs);
            let (together, apart) = fixture.run(|ctx| {
                let ctx = ctx.rounding(Rounding::Coarse);
                let x = ctx.upload(&[rows, inputs], &x);
                let together = ctx.linears(&x, Some(norm), &layers);
                let apart = (layers.iter()).flat_map(|layer| {
                    let one = ctx.linear(&ctx.norm(&x, norm), layer);
                    ctx.download(&one).unwrap()
                });
                (
                    ctx.download(&together).unwrap(),
                    apart.collect::<Vec<f32>>(),
                )
            });
            assert_eq!(together, apart, "{rows} rows");
        }
    }
}

pub fn a_feed_forward_equals_its_layers_in_sequence(fixture: &Fixture) {
    let (outer, inner) = (72, 200);
    let gelu = Activation::GeluErf;
    for norm in &norms(fixture, outer) {
        for precision in Precision::ALL {
            let feed_in = layer(fixture, [inner, outer], precision, true);
            let feed_out = layer(fixture, [outer, inner], precision, true);
            for (rows, rounding) in [1, 7, 50, 230]
                .into_iter()
                .flat_map(|rows| [(rows, Rounding::Fine), (rows, Rounding::Coarse)])
            {
                let x = random(7, rows * outer);
                let run = |whole: bool| {
                    fixture.run(|ctx| {
                        let ctx = ctx.rounding(rounding);
                        let mut x = ctx.upload(&[rows, outer], &x);
                        if whole {
                            ctx.feed_forward(&mut x, norm, &feed_in, gelu, &feed_out);
                        } else {
                            let inner = ctx.norm(&x, norm);
                            let inner = ctx.linear_activated(&inner, &feed_in, gelu);
                            ctx.linear_add(&inner, &feed_out, &mut x);
                        }
                        ctx.download(&x).unwrap()
                    })
                };
                assert_eq!(
                    run(true),
                    run(false),
                    "{precision}, {rows} rows, {rounding:?}"
                );
            }
        }
    }
}

pub fn embeddings_with_positions_equal_their_sum(fixture: &Fixture) {
    let columns = 24;
    for (precision, beside) in [
        (Precision::F32, Precision::F32),
        (Precision::F16, Precision::F16),
        (Precision::Int8, Precision::F16),
        (Precision::F32, Precision::F16),
    ] {
        let table = fixture.matrix(30, columns, &random(1, 30 * columns), precision);
        let positions = fixture.matrix(9, columns, &random(2, 9 * columns), beside);
        let (ids, at) = ([3, 3, 29, 0], [8, 0, 1, 1]);
        let (fused, plain) = fixture.run(|ctx| {
            let fused = ctx.embedding_sum(&table, &ids, Some((&positions, &at)), 2);
            let mut sum = ctx.embedding(&table, &ids);
            ctx.add(&mut sum, &ctx.embedding(&positions, &at));
            let plain = ctx.repeat_rows(&sum, 2);
            (ctx.download(&fused).unwrap(), ctx.download(&plain).unwrap())
        });
        assert_eq!(fused, plain, "{precision} and {beside}");
        let (fused, plain) = fixture.run(|ctx| {
            let fused = ctx.embedding_sum(&table, &ids, None, 1);
            let plain = ctx.embedding(&table, &ids);
            (ctx.download(&fused).unwrap(), ctx.download(&plain).unwrap())
        });
        assert_eq!(fused, plain, "{precision} alone");
    }
}

pub fn a_projection_into_pages_equals_product_rotation_and_store(fixture: &Fixture) {
    let (heads, inputs) = (2, 40);
    // Head sizes that devices may fuse, and others.
    for (size, precision) in [
        (32, CachePrecision::F32),
        (16, CachePrecision::F16),
        (64, CachePrecision::Int8),
        (12, CachePrecision::F16),
    ] {
        let columns = heads * size;
        let cache = CacheLayout {
            heads,
            size,
            precision,
        };
        let layout = PageLayout {
            cache,
            layers: 2,
            rows: 1,
            positions: 16,
        };
        let joined = layer(fixture, [3 * columns, inputs], Precision::Int8, true);
        let frequencies: Vec<f32> = (0..size / 2)
            .map(|pair| 0.9_f32.powi(pair as i32))
            .collect();
        for (norm, turned) in norms(fixture, inputs).iter().zip([true, false]) {
            // Attention of each row after its own position was stored behind 20 others.
            let run = |first: usize, count: usize, fused: bool| {
                fixture.run(|ctx| {
                    let mut tables: Vec<_> = (first..first + count)
                        .map(|row| {
                            let mut table = page_table(&fixture.memory, layout, 21);
                            let [keys, values] =
                                [100, 200].map(|seed| random(seed + row as u64, 20 * columns));
                            store_positions(&ctx, &mut table, layout, [0, 1], [&keys, &values]);
                            table
                        })
                        .collect();
                    let mut places = CachePlaces::new(cache);
                    for table in &mut tables {
                        let sequence = places.add_sequences(None, table, layout);
                        places.add_row(sequence, 21);
                    }
                    let x = random(7, ROWS[6] * inputs);
                    let x = ctx.upload(&[count, inputs], &x[first * inputs..][..count * inputs]);
                    let angles =
                        turned.then(|| ctx.rotary_angles(&places.positions(), &frequencies));
                    let all = match fused {
                        true => ctx.project(&x, norm, &joined, angles.as_ref(), 1, &mut places),
                        false => {
                            let mut all = ctx.linear(&ctx.norm(&x, norm), &joined);
                            if let Some([cosines, sines]) = &angles {
                                let turned = all.view_mut().columns(0..2 * columns);
                                ctx.rotate(turned, 2 * heads, cosines, sines);
                            }
                            let [keys, values] = [1, 2].map(|part| {
                                all.view().columns(part * columns..(part + 1) * columns)
                            });
                            ctx.cache_store(keys, values, 1, &mut places);
                            all
                        }
                    };
                    let queries = all.view().columns(0..columns);
                    let seen = ctx.attention_cached(queries, 1, &places, 0.2);
                    let queries = ctx.download(queries).unwrap();
                    (queries, ctx.download(&seen).unwrap())
                })
            };
            for rows in ROWS {
                let together = run(0, rows, true);
                assert_eq!(
                    together,
                    run(0, rows, false),
                    "{precision} {size}, {rows} rows"
                );
                let (queries, seen) = run(rows - 1, 1, true);
                let of_last = |all: &[f32]| all[(rows - 1) * columns..].to_vec();
                assert_eq!(queries, of_last(&together.0), "queries of a row alone");
                assert_eq!(seen, of_last(&together.1), "what a row alone sees");
            }
        }
    }
}

pub fn long_pasts_have_the_same_bits_in_few_rows_and_in_many(fixture: &Fixture) {
    let (heads, size, positions) = (1, 16, 2400);
    let cache = CacheLayout {
        heads,
        size,
        precision: CachePrecision::F16,
    };
    let layout = PageLayout {
        cache,
        layers: 1,
        rows: 1,
        positions: 64,
    };
    let q = random(3, 20 * size);
    let run = |rows: &[usize]| {
        fixture.run(|ctx| {
            let mut table = page_table(&fixture.memory, layout, positions);
            let [keys, values] = [1, 2].map(|seed| random(seed, positions * size));
            store_positions(&ctx, &mut table, layout, [0, 0], [&keys, &values]);
            let mut places = CachePlaces::new(cache);
            let sequence = places.add_sequences(None, &mut table, layout);
            let mut queries = Vec::new();
            for &row in rows {
                places.add_row(sequence, positions - 90 * row);
                queries.extend_from_slice(&q[row * size..][..size]);
            }
            let queries = ctx.upload(&[rows.len(), size], &queries);
            let seen = ctx.attention_cached(&queries, 0, &places, 0.3);
            ctx.download(&seen).unwrap()
        })
    };
    let all: Vec<usize> = (0..20).collect();
    let alone: Vec<f32> = all.iter().flat_map(|&row| run(&[row])).collect();
    assert_eq!(run(&all), alone, "twenty rows");
    assert_eq!(run(&all[..9]), alone[..9 * size], "nine rows");
}

pub fn sequences_in_one_pass_equal_each_of_them(fixture: &Fixture) {
    let (time, inputs) = (23, 12);
    for (outputs, precision, many_rows) in [
        (24, Precision::F32, false),
        (80, Precision::F16, false),
        (33, Precision::Int8, false),
        (260, Precision::Q4, false),
        (80, Precision::F16, true),
        (33, Precision::Int8, true),
    ] {
        let placed = |columns: usize, seed: u64| {
            let weights = random(seed, outputs * columns);
            let weight = fixture.matrix(outputs, columns, &weights, precision);
            match many_rows {
                true => weight.for_many_rows(),
                false => weight,
            }
        };
        let conv = Conv1d {
            weight: placed(3 * inputs, 1),
            bias: Some(fixture.vector(&random(2, outputs))),
            kernel: 3,
            stride: 1,
            dilation: 1,
            padding: Padding { left: 2, right: 0 },
        };
        let skip = Conv1d {
            weight: placed(inputs, 3),
            kernel: 1,
            padding: Padding::default(),
            ..conv.clone()
        };
        let [_, Norm::Layer(norm)] = norms(fixture, outputs) else {
            panic!("the second norm is a layer norm");
        };
        let (x, row) = (random(4, 2 * time * inputs), random(5, outputs));
        let (together, apart) = fixture.run(|ctx| {
            let x = ctx.upload(&[2 * time, inputs], &x);
            let row = ctx.upload(&[1, outputs], &row);
            let mut normed =
                ctx.conv1d_norm(&x, 2, &conv, &norm, Activation::Mish, Some(row.view()));
            let plain = ctx.conv1d_sequences(&x, 2, &conv);
            ctx.conv1d_add(&x, &skip, &mut normed);
            let mut apart = [Vec::new(), Vec::new()];
            for sequence in 0..2 {
                let x = x.view().rows(sequence * time..(sequence + 1) * time);
                let plain = ctx.conv1d(x, &conv);
                let mut normed = ctx.layer_norm(&plain, &norm);
                ctx.activate(&mut normed, Activation::Mish);
                ctx.add(&mut normed, &row);
                ctx.add(&mut normed, &ctx.conv1d(x, &skip));
                apart[0].extend(ctx.download(&normed).unwrap());
                apart[1].extend(ctx.download(&plain).unwrap());
            }
            let together = [&normed, &plain].map(|x| ctx.download(x).unwrap());
            (together, apart)
        });
        assert_eq!(together, apart, "{outputs} outputs at {precision}");
    }
    let (heads, size) = (2, 24);
    let columns = heads * size;
    let rows = random(6, 3 * 2 * time * columns);
    let seen_by_each = fixture.run(|ctx| {
        let all = ctx.upload(&[3 * 2 * time, columns], &rows);
        let parts = [0, 1, 2].map(|part| all.view().rows(part * 2 * time..(part + 1) * 2 * time));
        let options = Attention {
            heads,
            scale: 0.3,
            causal: false,
            relative: None,
        };
        let mut seen_by_each = Vec::new();
        for seen in [[time, time], [time, time - 3], [1, time]] {
            let together = ctx.attention_sequences(parts, &seen, &options);
            let mut apart = Vec::new();
            for (sequence, seen) in seen.into_iter().enumerate() {
                let [q, k, v] = parts.map(|part| part.rows(sequence * time..(sequence + 1) * time));
                let mixed = ctx.attention(q, k.rows(0..seen), v.rows(0..seen), &options);
                apart.extend(ctx.download(&mixed).unwrap());
            }
            seen_by_each.push((ctx.download(&together).unwrap(), apart));
        }
        seen_by_each
    });
    for (together, apart) in seen_by_each {
        assert_eq!(together, apart, "attention");
    }
}
