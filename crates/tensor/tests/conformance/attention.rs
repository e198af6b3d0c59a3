//! Attention over rows and over cached positions.

use crate::common::{Fixture, dot, page_table, random, relative_l2, store_positions};
use proptest::prelude::*;
use sottovoce_tensor::{
    Attention, CacheLayout, CachePlaces, CachePrecision, CachedPages, PageLayout,
    RelativePositions, Rounding, WatchedHeads,
};

pub fn attention_equals_its_formula(fixture: &Fixture) {
    proptest!(ProptestConfig::with_cases(fixture.cases), |(
        queries in 1_usize..230, keys in 1_usize..230, heads in 1_usize..4, size in 1_usize..40,
        causal: bool, relative: bool, seed: u64,
    )| {
        let keys = if relative || causal { queries } else { keys };
        let columns = heads * size;
        let [q, k, v] = [(0, queries), (1, keys), (2, keys)].map(|(n, rows)| random(seed + n, rows * columns));
        let biased = random(seed + 3, queries * columns);
        let positions = random(seed + 4, (2 * keys - 1) * columns);
        let scale = 1.0 / (size as f32).sqrt();
        let got = fixture.run(|ctx| {
            let [q, k, v, biased, positions] = [
                (&q, queries), (&k, keys), (&v, keys), (&biased, queries), (&positions, 2 * keys - 1),
            ].map(|(x, rows)| ctx.upload(&[rows, columns], x));
            let relative = relative.then(|| RelativePositions {
                queries: biased.view(),
                positions: positions.view(),
            });
            let options = Attention { heads, scale, causal, relative };
            ctx.download(&ctx.attention(&q, &k, &v, &options)).unwrap()
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
        prop_assert!(relative_l2(&got, &expected) < fixture.tolerances.attention);
    });
}

/// As in the base model's perceiver.
pub fn attention_of_wide_heads_equals_its_formula(fixture: &Fixture) {
    let (queries, keys, heads, size) = (5, 40, 2, 256);
    let columns = heads * size;
    let [q, k, v] =
        [(0, queries), (1, keys), (2, keys)].map(|(seed, rows)| random(seed, rows * columns));
    let options = Attention {
        heads,
        scale: 1.0 / 16.0,
        causal: false,
        relative: None,
    };
    let got = fixture.run(|ctx| {
        let [q, k, v] = [(&q, queries), (&k, keys), (&v, keys)]
            .map(|(x, rows)| ctx.upload(&[rows, columns], x));
        ctx.download(&ctx.attention(&q, &k, &v, &options)).unwrap()
    });
    let mut expected = vec![0.0; queries * columns];
    for head in 0..heads {
        let part = |x: &[f32], row: usize| x[row * columns + head * size..][..size].to_vec();
        for i in 0..queries {
            let weights = (0..keys).map(|j| (dot(&part(&q, i), &part(&k, j)) / 16.0).exp());
            let weights: Vec<f64> = weights.collect();
            let total: f64 = weights.iter().sum();
            for (j, weight) in weights.iter().enumerate() {
                for (c, value) in part(&v, j).into_iter().enumerate() {
                    expected[i * columns + head * size + c] += (weight / total) as f32 * value;
                }
            }
        }
    }
    assert!(relative_l2(&got, &expected) < fixture.tolerances.attention);
}

pub fn coarse_attention_is_near_attention(fixture: &Fixture) {
    for (queries, keys, heads, size, causal, relative) in [
        (1, 1, 1, 4, false, false),
        (50, 33, 2, 20, false, false),
        (200, 230, 3, 64, false, false),
        (97, 97, 2, 40, true, false),
        (97, 97, 2, 64, false, true),
    ] {
        let columns = heads * size;
        let [q, mut k, v] =
            [(0, queries), (1, keys), (2, keys)].map(|(seed, rows)| random(seed, rows * columns));
        // A common offset of all keys would coarsen them; no weight depends on it.
        k.iter_mut().for_each(|value| *value += 20.0);
        let biased = random(3, queries * columns);
        let positions = random(4, (2 * keys - 1) * columns);
        let run = |rounding: Rounding| {
            fixture.run(|ctx| {
                let ctx = ctx.rounding(rounding);
                let [q, k, v, biased, positions] = [
                    (&q, queries),
                    (&k, keys),
                    (&v, keys),
                    (&biased, queries),
                    (&positions, 2 * keys - 1),
                ]
                .map(|(x, rows)| ctx.upload(&[rows, columns], x));
                let options = Attention {
                    heads,
                    scale: 0.5,
                    causal,
                    relative: relative.then(|| RelativePositions {
                        queries: biased.view(),
                        positions: positions.view(),
                    }),
                };
                ctx.download(&ctx.attention(&q, &k, &v, &options)).unwrap()
            })
        };
        let error = relative_l2(&run(Rounding::Coarse), &run(Rounding::Fine));
        assert!(error < 2e-2, "{queries} queries of {size}: {error}");
    }
}

pub fn attention_over_cached_positions_equals_attention_whatever_their_parts(fixture: &Fixture) {
    for (heads, size) in [(3, 20), (4, 64)] {
        let (positions, columns) = (150, heads * size);
        let [q, k, v] = [(0, 2), (1, positions), (2, positions)]
            .map(|(seed, rows)| random(seed, rows * columns));
        for (precision, tolerance) in [
            (CachePrecision::F32, fixture.tolerances.attention),
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
            let (got, expected) = fixture.run(|ctx| {
                let mut prefix_table = page_table(&fixture.memory, shared, prefix);
                let mut own_table = page_table(&fixture.memory, own, rest);
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

pub fn inspected_weights_are_those_of_the_attention(fixture: &Fixture) {
    let (heads, size, prefix, positions) = (3, 20, 21, 60);
    let columns = heads * size;
    let cache = CacheLayout {
        heads,
        size,
        precision: CachePrecision::F32,
    };
    let shared = PageLayout {
        cache,
        layers: 2,
        rows: 1,
        positions: 19,
    };
    let own = PageLayout {
        positions: 16,
        ..shared
    };
    let [q, k, v] =
        [(0, 1), (1, positions), (2, positions)].map(|(seed, rows)| random(seed, rows * columns));
    let (weights, got) = fixture.run(|ctx| {
        let mut prefix_table = page_table(&fixture.memory, shared, prefix);
        let mut own_table = page_table(&fixture.memory, own, positions - prefix);
        let (keys, values) = (k.split_at(prefix * columns), v.split_at(prefix * columns));
        store_positions(&ctx, &mut prefix_table, shared, [0, 1], [keys.0, values.0]);
        store_positions(&ctx, &mut own_table, own, [0, 1], [keys.1, values.1]);
        let prefix = CachedPages {
            table: &prefix_table,
            layout: shared,
            positions: prefix,
        };
        // All positions in one row of the record, those on either side of the border between prefix
        // and own positions in two; the row in between is of a row that is not watched.
        let mut recorded = |range: std::ops::Range<usize>, row| {
            let mut places = CachePlaces::new(cache);
            let sequence = places.add_sequences(Some(prefix), &mut own_table, own);
            places.add_row(sequence, positions);
            places.add_row(sequence, positions);
            places.watch(row, range);
            let q = ctx.upload(&[2, columns], &[&q[..], &q[..]].concat());
            let mut record = ctx.zeros(&[heads * 3, positions]);
            let all: Vec<usize> = (0..heads).collect();
            let watched = WatchedHeads {
                heads: &all,
                record: record.view_mut(),
            };
            let got = ctx.attention_watched(&q, 1, &places, 0.3, Some(watched));
            let record = ctx.download(&record).unwrap();
            let rows = record.chunks_exact(positions).skip(row).step_by(3);
            let rows: Vec<f32> = rows.flatten().copied().collect();
            (rows, ctx.download(&got).unwrap())
        };
        let (weights, both) = recorded(0..positions, 1);
        let (first, _) = recorded(0..30, 0);
        let (second, _) = recorded(30..positions, 2);
        let parts = (first.chunks_exact(positions)).zip(second.chunks_exact(positions));
        let parts: Vec<f32> = parts
            .flat_map(|(first, second)| first[..30].iter().chain(&second[..positions - 30]))
            .copied()
            .collect();
        assert_eq!(weights, parts);
        let mut places = CachePlaces::new(cache);
        let sequence = places.add_sequences(Some(prefix), &mut own_table, own);
        places.add_row(sequence, positions);
        let got = ctx.attention_cached(&ctx.upload(&[1, columns], &q), 1, &places, 0.3);
        let got = ctx.download(&got).unwrap();
        assert_eq!(
            both,
            [&got[..], &got[..]].concat(),
            "with and without a watch"
        );
        (weights, got)
    });
    let mut expected = vec![0.0; columns];
    for (head, weights) in weights.chunks_exact(positions).enumerate() {
        for (weight, v) in weights.iter().zip(v.chunks_exact(columns)) {
            let part = head * size..(head + 1) * size;
            for (sum, value) in expected[part.clone()].iter_mut().zip(&v[part]) {
                *sum += weight * value;
            }
        }
    }
    let error = relative_l2(&got, &expected);
    assert!(error < fixture.tolerances.attention, "{error}");
}

pub fn a_row_over_cached_positions_has_the_same_bits_whatever_the_other_rows(fixture: &Fixture) {
    let (heads, size, lengths) = (2, 24, [1, 5, 16, 17, 40, 300]);
    let columns = heads * size;
    for precision in [
        CachePrecision::F32,
        CachePrecision::F16,
        CachePrecision::Int8,
    ] {
        let cache = CacheLayout {
            heads,
            size,
            precision,
        };
        let layout = PageLayout {
            cache,
            layers: 1,
            rows: 1,
            positions: 16,
        };
        // All `chosen` in one forward: each stores its keys and values at its last position and
        // attends to all of them.
        let run = |chosen: &[usize]| {
            fixture.run(|ctx| {
                let mut tables: Vec<_> = (chosen.iter())
                    .map(|&index| {
                        let mut table = page_table(&fixture.memory, layout, lengths[index]);
                        let [keys, values] = [10, 20].map(|seed: u64| {
                            random(seed + index as u64, (lengths[index] - 1) * columns)
                        });
                        store_positions(&ctx, &mut table, layout, [0, 0], [&keys, &values]);
                        table
                    })
                    .collect();
                let mut places = CachePlaces::new(cache);
                for (table, &index) in tables.iter_mut().zip(chosen) {
                    let sequence = places.add_sequences(None, table, layout);
                    places.add_row(sequence, lengths[index]);
                }
                let [q, k, v] = [30, 40, 50].map(|seed: u64| {
                    let rows = (chosen.iter()).map(|&index| random(seed + index as u64, columns));
                    let rows: Vec<f32> = rows.flatten().collect();
                    ctx.upload(&[chosen.len(), columns], &rows)
                });
                ctx.cache_store(&k, &v, 0, &mut places);
                ctx.download(&ctx.attention_cached(&q, 0, &places, 0.2))
                    .unwrap()
            })
        };
        let all = [0, 1, 2, 3, 4, 5];
        let alone: Vec<f32> = all.iter().flat_map(|&index| run(&[index])).collect();
        assert_eq!(run(&all), alone, "{precision:?}");
    }
}

pub fn rows_of_a_block_see_all_of_it_and_their_own_rows_prefix(fixture: &Fixture) {
    let (heads, size, prefix, block) = (2, 24, 21, 5);
    let (columns, positions) = (heads * size, prefix + 11);
    let cache = CacheLayout {
        heads,
        size,
        precision: CachePrecision::F32,
    };
    let own = PageLayout {
        cache,
        layers: 2,
        rows: 2,
        positions: 16,
    };
    let shared = PageLayout {
        positions: 19,
        ..own
    };
    let [q, k, v] = [0, 2, 4].map(|seed| [0, 1].map(|row| random(seed + row, positions * columns)));
    let (got, expected) = fixture.run(|ctx| {
        let mut prefix_table = page_table(&fixture.memory, shared, prefix);
        let mut own_table = page_table(&fixture.memory, own, positions - prefix);
        for row in 0..2 {
            let end = prefix * columns;
            let keys = [&k[row][..end], &v[row][..end]];
            store_positions(&ctx, &mut prefix_table, shared, [row, 1], keys);
        }
        let mut places = CachePlaces::new(cache);
        let of_prefix = CachedPages {
            table: &prefix_table,
            layout: shared,
            positions: prefix,
        };
        let first = places.add_sequences(Some(of_prefix), &mut own_table, own);
        for row in 0..2 {
            for position in prefix..positions - block {
                places.add_row(first + row, position + 1);
            }
            places.add_block(first + row, positions, block);
        }
        let rows = (prefix..positions).map(|position| position as u32);
        assert_eq!(
            places.positions(),
            [rows.clone(), rows].map(Vec::from_iter).concat()
        );
        let new = |x: &[Vec<f32>; 2]| {
            let rows = x.iter().flat_map(|x| &x[prefix * columns..]).copied();
            ctx.upload(
                &[2 * (positions - prefix), columns],
                &rows.collect::<Vec<f32>>(),
            )
        };
        ctx.cache_store(&new(&k), &new(&v), 1, &mut places);
        let got = places.attending(|places| ctx.attention_cached(&new(&q), 1, places, 0.3));
        // Each row alone, over the positions that it sees.
        let mut expected = Vec::new();
        for row in 0..2 {
            for position in prefix..positions {
                let seen = match position < positions - block {
                    true => position + 1,
                    false => positions,
                };
                let of = |x: &[Vec<f32>; 2], range: std::ops::Range<usize>| {
                    let rows = &x[row][range.start * columns..range.end * columns];
                    ctx.upload(&[range.len(), columns], rows)
                };
                let options = Attention {
                    heads,
                    scale: 0.3,
                    causal: false,
                    relative: None,
                };
                let (q, k, v) = (
                    of(&q, position..position + 1),
                    of(&k, 0..seen),
                    of(&v, 0..seen),
                );
                expected.extend(ctx.download(&ctx.attention(&q, &k, &v, &options)).unwrap());
            }
        }
        (ctx.download(&got).unwrap(), expected)
    });
    let error = relative_l2(&got, &expected);
    assert!(error < fixture.tolerances.attention, "{error}");
}
