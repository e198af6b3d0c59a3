//! Linear layers against their formulas, row by row.

use crate::common::{Fixture, dot, product, random, relative_l2, rounded};
use proptest::prelude::*;
use sottovoce_tensor::{Linear, Precision, Rounding};

pub fn a_linear_layer_equals_its_formula_at_every_precision(fixture: &Fixture) {
    proptest!(ProptestConfig::with_cases(fixture.cases), |(
        rows in 0_usize..40, inputs in 1_usize..400, outputs in 1_usize..130, seed: u64,
        precision in prop::sample::select(Precision::ALL.to_vec()),
    )| {
        let weights = random(seed, outputs * inputs);
        let weight = fixture.matrix(outputs, inputs, &weights, precision);
        let weights = rounded(outputs, inputs, &weights, precision);
        let bias = random(seed + 1, outputs);
        let x = random(seed + 2, rows * inputs);
        let layer = Linear { weight, bias: Some(fixture.vector(&bias)) };
        let got = fixture.run(|ctx| {
            ctx.download(&ctx.linear(&ctx.upload(&[rows, inputs], &x), &layer)).unwrap()
        });
        let mut expected = product(&x, &weights, inputs);
        for row in expected.chunks_exact_mut(outputs) {
            row.iter_mut().zip(&bias).for_each(|(value, bias)| *value += bias);
        }
        // Against what sums of such terms usually are: a sum of few rows and outputs may cancel.
        let squares = |values: &[f32]| values.iter().map(|x| x * x).collect::<Vec<f32>>();
        let usual = product(&squares(&x), &squares(&weights), inputs);
        let usual: f64 = usual.iter().map(|&square| f64::from(square)).sum();
        let error = relative_l2(&got, &expected) * (dot(&expected, &expected) / usual).sqrt();
        let tolerance = (fixture.tolerances.linear)(precision);
        prop_assert!(rows == 0 || error < tolerance, "{error:e}");
    });
}

pub fn a_row_of_a_linear_layer_has_the_same_bits_whatever_the_other_rows(fixture: &Fixture) {
    let (rows, inputs, outputs) = (100, 300, 170);
    let x = random(3, rows * inputs);
    for precision in Precision::ALL {
        let weight = fixture.matrix(outputs, inputs, &random(4, outputs * inputs), precision);
        let layer = Linear { weight, bias: None };
        let run = |x: &[f32]| {
            fixture.run(|ctx| {
                ctx.download(&ctx.linear(&ctx.upload(&[x.len() / inputs, inputs], x), &layer))
                    .unwrap()
            })
        };
        let all = run(&x);
        let eight = run(&x[..8 * inputs]);
        let alone: Vec<f32> = (x.chunks_exact(inputs).take(8)).flat_map(run).collect();
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

pub fn a_coarse_linear_layer_is_near_its_formula_and_each_row_its_own(fixture: &Fixture) {
    for (rows, inputs, outputs) in [(1, 4, 16), (13, 77, 33), (100, 300, 170), (30, 1100, 40)] {
        let weights = random(4, outputs * inputs);
        let weight = fixture.matrix(outputs, inputs, &weights, Precision::Int8);
        let weights = rounded(outputs, inputs, &weights, Precision::Int8);
        let bias = random(5, outputs);
        let layer = Linear {
            weight,
            bias: Some(fixture.vector(&bias)),
        };
        let x = random(3, rows * inputs);
        let run = |x: &[f32]| {
            fixture.run(|ctx| {
                let ctx = ctx.rounding(Rounding::Coarse);
                let mut out = ctx.zeros(&[x.len() / inputs, outputs]);
                ctx.linear_add(
                    &ctx.upload(&[x.len() / inputs, inputs], x),
                    &layer,
                    &mut out,
                );
                ctx.download(&out).unwrap()
            })
        };
        let mut expected = product(&x, &weights, inputs);
        for row in expected.chunks_exact_mut(outputs) {
            row.iter_mut().zip(&bias).for_each(|(y, b)| *y += b);
        }
        let all = run(&x);
        let error = relative_l2(&all, &expected);
        assert!(error < 1e-2, "{rows} rows of {inputs}: {error}");
        let alone: Vec<f32> = x.chunks_exact(inputs).flat_map(run).collect();
        assert_eq!(all, alone, "together against each alone");
    }
}

pub fn a_layer_for_many_rows_is_near_its_formula_and_each_row_its_own(fixture: &Fixture) {
    for (rows, inputs, outputs) in [(1, 4, 16), (13, 77, 33), (100, 300, 170)] {
        for precision in Precision::ALL {
            for rounding in [Rounding::Fine, Rounding::Coarse] {
                let weights = random(4, outputs * inputs);
                let weight = fixture.matrix(outputs, inputs, &weights, precision);
                let weights = rounded(outputs, inputs, &weights, precision);
                let layer = Linear {
                    weight: weight.for_many_rows(),
                    bias: None,
                };
                let x = random(3, rows * inputs);
                let run = |x: &[f32]| {
                    fixture.run(|ctx| {
                        let ctx = ctx.rounding(rounding);
                        let x = ctx.upload(&[x.len() / inputs, inputs], x);
                        ctx.download(&ctx.linear(&x, &layer)).unwrap()
                    })
                };
                let all = run(&x);
                let error = relative_l2(&all, &product(&x, &weights, inputs));
                let tolerance = match rounding {
                    Rounding::Fine => (fixture.tolerances.linear)(precision),
                    Rounding::Coarse => fixture.tolerances.coarse,
                };
                let what = format!("{rows} rows of {inputs}, {precision}, {rounding:?}");
                assert!(error < tolerance, "{what}: {error}");
                let alone: Vec<f32> = x.chunks_exact(inputs).flat_map(run).collect();
                assert_eq!(all, alone, "{what}: together against each alone");
            }
        }
    }
}
