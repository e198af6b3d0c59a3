//! Convolutions against their formulas.

use crate::common::{Fixture, dot, random, relative_l2, rounded};
use proptest::prelude::*;
use sottovoce_tensor::{
    Activation, Conv1d, Conv2d, ConvTranspose1d, Convolving, Padding, Precision, Store,
};

/// Checks the convolution of these weights and this bias (one per row, or none) against its
/// formula.
fn assert_convolves(
    fixture: &Fixture,
    layer: &Conv1d,
    [weights, bias]: [&[f32]; 2],
    x: &[f32],
    time: usize,
) {
    let (inputs, outputs) = (layer.inputs(), layer.weight.rows());
    let precision = layer.weight.precision();
    let weights = rounded(outputs, layer.weight.columns(), weights, precision);
    let mut expected = Vec::new();
    // Where terms cancel, an output is small and its rounding is that of its terms.
    let mut terms = 0.0;
    for row in 0..layer.output_time(time) {
        for output in 0..outputs {
            let mut sum = bias.get(output).map_or(0.0, |&bias| f64::from(bias));
            for tap in 0..layer.kernel {
                let place = row * layer.stride + tap * layer.dilation;
                let place = place.checked_sub(layer.padding.left);
                if let Some(place) = place.filter(|&place| place < time) {
                    let weights = &weights[(output * layer.kernel + tap) * inputs..][..inputs];
                    let x = &x[place * inputs..][..inputs];
                    sum += dot(x, weights);
                    let products = x.iter().zip(weights);
                    terms += products
                        .map(|(x, weight)| f64::from(x * weight).powi(2))
                        .sum::<f64>();
                }
            }
            expected.push(sum as f32);
        }
    }
    let got = fixture.run(|ctx| {
        let x = ctx.upload(&[time, inputs], x);
        ctx.download(&ctx.conv1d(&x, layer)).unwrap()
    });
    let tolerance = (fixture.tolerances.convolution)(precision);
    let scale = (terms / dot(&expected, &expected).max(1e-30))
        .sqrt()
        .max(1.0);
    let error = relative_l2(&got, &expected);
    assert!(
        expected.is_empty() && got.is_empty() || error < scale * tolerance,
        "{error:e}, {scale} times {tolerance:e} are allowed"
    );
}

pub fn a_convolution_equals_its_formula(fixture: &Fixture) {
    proptest!(ProptestConfig::with_cases(fixture.cases), |(
        time in 0_usize..30, inputs in 1_usize..40, outputs in 1_usize..40, kernel in 1_usize..8,
        stride in 1_usize..3, dilation in 1_usize..6, left in 0_usize..6, right in 0_usize..6, seed: u64,
    )| {
        let weights = random(seed, outputs * kernel * inputs);
        let layer = Conv1d {
            weight: fixture.matrix(outputs, kernel * inputs, &weights, Precision::F32),
            bias: None, kernel, stride, dilation, padding: Padding { left, right },
        };
        let x = random(seed + 1, time * inputs);
        assert_convolves(fixture, &layer, [&weights, &[]], &x, time);
    });
}

pub fn a_wide_and_long_convolution_equals_its_formula(fixture: &Fixture) {
    proptest!(ProptestConfig::with_cases(fixture.cases), |(
        time in 48_usize..330, inputs in 32_usize..70, outputs in 32_usize..70,
        kernel in prop::sample::select(vec![3_usize, 7, 11, 12]), dilation in 1_usize..6,
        left in 0_usize..30, right in 0_usize..30, seed: u64,
        precision in prop::sample::select(Precision::ALL.to_vec()),
    )| {
        let weights = random(seed, outputs * kernel * inputs);
        let bias = random(seed + 2, outputs);
        let layer = Conv1d {
            weight: fixture.matrix(outputs, kernel * inputs, &weights, precision),
            bias: Some(fixture.vector(&bias)),
            kernel, stride: 1, dilation, padding: Padding { left, right },
        };
        let x = random(seed + 1, time * inputs);
        assert_convolves(fixture, &layer, [&weights, &bias], &x, time);
    });
}

pub fn a_convolution_behind_a_snake_is_added_to_what_was_there(fixture: &Fixture) {
    proptest!(ProptestConfig::with_cases(fixture.cases), |(
        time in prop::sample::select(vec![10_usize, 100]), channels in 32_usize..50, kernel in 1_usize..8,
        dilation in 1_usize..4, seed: u64,
    )| {
        let weights = random(seed, channels * kernel * channels);
        let bias = random(seed + 1, channels);
        let reach = (kernel - 1) * dilation;
        let layer = Conv1d {
            weight: fixture.matrix(channels, kernel * channels, &weights, Precision::F32),
            bias: Some(fixture.vector(&bias)), kernel, stride: 1, dilation,
            padding: Padding { left: reach, right: 0 },
        };
        let (x, before) = (random(seed + 2, time * channels), random(seed + 3, time * channels));
        let alpha: Vec<f32> = random(seed + 4, channels).iter().map(|a| 0.5 + a.abs()).collect();
        let waves: Vec<f32> = x.iter().zip(alpha.iter().cycle())
            .map(|(x, a)| (f64::from(*x) + (f64::from(*x) * f64::from(*a)).sin().powi(2) / f64::from(*a)) as f32)
            .collect();
        let alpha = fixture.vector(&alpha);
        let [got, plain] = fixture.run(|ctx| {
            let mut out = ctx.upload(&[time, channels], &before);
            let options = Convolving { snake: Some(&alpha), store: Store::Add, ..Convolving::default() };
            ctx.conv1d_into(&ctx.upload(&[time, channels], &x), &layer, &options, &mut out);
            let plain = ctx.conv1d(&ctx.upload(&[time, channels], &waves), &layer);
            [ctx.download(&out).unwrap(), ctx.download(&plain).unwrap()]
        });
        let expected: Vec<f32> = plain.iter().zip(&before).map(|(a, b)| a + b).collect();
        prop_assert!(relative_l2(&got, &expected) < (fixture.tolerances.convolution)(Precision::F32));
    });
}

pub fn a_transposed_convolution_equals_its_formula(fixture: &Fixture) {
    proptest!(ProptestConfig::with_cases(fixture.cases), |(
        time in 1_usize..20, inputs in 1_usize..30, outputs in 1_usize..30, stride in 1_usize..6,
        extra in 0_usize..8, seed: u64,
    )| {
        let kernel = stride + extra;
        let padding = extra / 2;
        let weights = random(seed, kernel * outputs * inputs);
        let layer = ConvTranspose1d {
            weight: fixture.matrix(kernel * outputs, inputs, &weights, Precision::F32),
            bias: None, kernel, stride, padding,
        };
        let x = random(seed + 1, time * inputs);
        let got = fixture.run(|ctx| {
            ctx.download(&ctx.conv_transpose1d(&ctx.upload(&[time, inputs], &x), &layer)).unwrap()
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
        prop_assert!(relative_l2(&got, &expected) < (fixture.tolerances.convolution)(Precision::F32));
    });
}

pub fn a_plane_convolution_equals_its_formula(fixture: &Fixture) {
    let (size, inputs, outputs) = ([7, 9], 5, 6);
    let weights = random(1, outputs * 9 * inputs);
    let layer = Conv2d {
        weight: fixture.matrix(outputs, 9 * inputs, &weights, Precision::F32),
        bias: None,
        kernel: [3, 3],
        stride: [2, 1],
        padding: [1, 1],
    };
    let x = random(2, size[0] * size[1] * inputs);
    let got = fixture.run(|ctx| {
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
    assert!(relative_l2(&got, &expected) < (fixture.tolerances.convolution)(Precision::F32));
}
