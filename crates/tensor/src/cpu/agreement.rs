//! Results of each instruction set of this machine against the portable ones.

#[path = "../../tests/common/mod.rs"]
pub(super) mod common;

use super::Cpu;
use super::instruction_set::{InstructionSet, forced};
use super::unpack::unpack;
use crate::matrix::PANEL;
use crate::{
    Activation, Attention, CacheLayout, CachePlaces, CachePrecision, Context, Conv1d, Convolving,
    Linear, Matrix, Padding, PageLayout, Precision, Store, Threads, Vector, View, Workspace,
};
use common::{Fixture, page_table, random, relative_l2, store_positions};
use sottovoce_memory::Memory;

fn memory() -> Memory {
    Memory::host(1 << 30)
}

pub(super) fn matrix(rows: usize, columns: usize, weights: &[f32], precision: Precision) -> Matrix {
    Fixture::cpu().matrix(rows, columns, weights, precision)
}

fn vector(values: &[f32]) -> Vector {
    Fixture::cpu().vector(values)
}

/// Runs `work` with each instruction set on one thread, and compares the result with the portable
/// one.
fn agree(what: &str, tolerance: f64, work: impl Fn(&Context<'_>) -> Vec<f32>) {
    let run = |set: InstructionSet| {
        forced::with(set, || {
            let (memory, cpu) = (memory(), Cpu::new(Threads::new(1)));
            let workspace = Workspace::pooled(&memory, "test");
            work(&Context::new(&workspace, &cpu))
        })
    };
    let [portable, others @ ..] = &InstructionSet::detect()[..] else {
        unreachable!("every machine runs portable code");
    };
    let expected = run(*portable);
    assert!(expected.iter().all(|value| value.is_finite()), "{what}");
    for &set in others {
        let difference = relative_l2(&run(set), &expected);
        assert!(
            difference <= tolerance,
            "{what} on {set:?}: {difference:.1e} from the portable result"
        );
    }
}

#[test]
fn winograd_convolutions_agree() {
    let (time, inputs, outputs) = (150, 48, 40);
    for (kernel, dilation) in [(3, 1), (3, 3), (7, 1), (7, 5), (11, 1), (11, 3), (12, 2)] {
        let layer = Conv1d {
            weight: matrix(
                outputs,
                kernel * inputs,
                &random(1, outputs * kernel * inputs),
                Precision::F32,
            ),
            bias: Some(vector(&random(2, outputs))),
            kernel,
            stride: 1,
            dilation,
            padding: Padding {
                left: (kernel - 1) * dilation,
                right: 0,
            },
        };
        let alpha = vector(&vec![1.5; inputs]);
        let (x, before) = (random(3, time * inputs), random(4, time * outputs));
        agree(&format!("{kernel} taps"), 2e-5, |ctx| {
            let mut out = ctx.upload(&[time, outputs], &before);
            let options = Convolving {
                snake: Some(&alpha),
                store: Store::Add,
                ..Convolving::default()
            };
            ctx.conv1d_into(View::new(&x, time, inputs), &layer, &options, &mut out);
            ctx.download(&out).unwrap()
        });
    }
}

#[test]
fn products_agree_at_every_precision() {
    let (inputs, outputs) = (200, 72);
    for precision in Precision::ALL {
        let layer = Linear {
            weight: matrix(outputs, inputs, &random(5, outputs * inputs), precision),
            bias: Some(vector(&random(6, outputs))),
        };
        // Activations in 16-bit integers are rounded to one part in 65,024 of a row's largest
        // value.
        let tolerance = match precision {
            Precision::F32 | Precision::F16 => 1e-6,
            Precision::Int8 | Precision::Q4 => 4e-5,
        };
        for rows in [1, 3, 8, 30] {
            let x = random(7, rows * inputs);
            agree(&format!("{rows} rows by {precision}"), tolerance, |ctx| {
                let x = View::new(&x, rows, inputs);
                ctx.download(&ctx.linear_activated(x, &layer, Activation::Silu))
                    .unwrap()
            });
        }
    }
}

#[test]
fn unpacked_weights_agree_to_the_bit() {
    let (outputs, inputs) = (50, 100);
    for precision in Precision::ALL {
        let weight = matrix(outputs, inputs, &random(8, outputs * inputs), precision);
        for (panel, first, depth) in [(0, 0, 100), (0, 32, 40), (1, 64, 36)] {
            let width = PANEL.min(outputs.next_multiple_of(16) - panel * PANEL);
            let unpacked = |set| {
                let mut out = vec![0.0; depth * width];
                unpack(set, &weight, panel, first, depth, &mut out);
                out
            };
            let sets = InstructionSet::detect();
            let expected = unpacked(sets[0]);
            for set in sets {
                assert_eq!(unpacked(set), expected, "{precision} on {set:?}");
            }
        }
    }
}

#[test]
fn attention_over_a_cached_past_agrees() {
    for (heads, size) in [(3, 64), (5, 12), (16, 64), (7, 48), (21, 16), (3, 128)] {
        let columns = heads * size;
        for precision in [
            CachePrecision::F32,
            CachePrecision::F16,
            CachePrecision::Int8,
        ] {
            let layout = CacheLayout {
                heads,
                size,
                precision,
            };
            let pages = PageLayout {
                cache: layout,
                layers: 1,
                rows: 1,
                positions: 40,
            };
            let [keys, values] = [9, 10].map(|seed| random(seed, 47 * columns));
            let q = random(11, 2 * columns);
            agree(&format!("{heads} heads of {size}"), 1e-6, |ctx| {
                let mut table = page_table(&memory(), pages, 47);
                store_positions(ctx, &mut table, pages, [0, 0], [&keys, &values]);
                let mut places = CachePlaces::new(layout);
                let sequence = places.add_sequences(None, &mut table, pages);
                places.add_row(sequence, 47);
                places.add_row(sequence, 40);
                let q = View::new(&q, 2, columns);
                ctx.download(&ctx.attention_cached(q, 0, &places, 0.2))
                    .unwrap()
            });
        }
    }
}

#[test]
fn attention_and_norms_agree() {
    let (time, heads, size) = (70, 4, 24);
    let columns = heads * size;
    let [q, k, v] = [12, 13, 14].map(|seed| random(seed, time * columns));
    agree("attention", 1e-6, |ctx| {
        let [q, k, v] = [&q, &k, &v].map(|x| View::new(x, time, columns));
        let options = Attention {
            heads,
            scale: 0.2,
            causal: true,
            relative: None,
        };
        ctx.download(&ctx.attention(q, k, v, &options)).unwrap()
    });
    for activation in Activation::EACH {
        agree(&format!("{activation:?}"), 1e-6, |ctx| {
            let mut x = ctx.upload(&[time, columns], &q);
            ctx.activate(&mut x, activation);
            ctx.download(&x).unwrap()
        });
    }
}
