//! Whether a device computes what the processor does: each kind of operation once, on small sizes.

use crate::error::Error;
use serde::Serialize;
use sottovoce_memory::{Arena, ArenaSlice, Memory, Owner, Region};
use sottovoce_tensor::{
    Activation, Attention, Context, Conv1d, Device, EvenPositions, Linear, Matrix, Noise, Padding,
    Precision, SinusoidOrder, Stft, Tensor, Vector, Workspace,
};

/// How near an operation's result is to the processor's.
#[derive(Clone, Debug, Serialize)]
pub struct OperationCheck {
    /// The operation.
    pub operation: String,
    /// Relative L2 of the difference.
    pub difference: f64,
    /// Whether that is as near as it must be.
    pub holds: bool,
}

/// How far results may be apart.
const DIFFERENCE_MAX: f64 = 1e-4;
const MEMORY_BYTES: u64 = 64 << 20;

/// A device with its memory.
struct Side<'a> {
    device: &'a dyn Device,
    memory: &'a Memory,
}

impl Side<'_> {
    fn weights(&self, bytes: usize) -> Result<ArenaSlice, Error> {
        let owner = Owner::new(Region::Weights, "self-test");
        let block = self.memory.reserve_exact(bytes, owner)?;
        (Arena::new(block).take(bytes, 64)).ok_or_else(|| Error::Synthesis {
            reason: "an arena is smaller than it was made".into(),
        })
    }

    fn linear(&self, precision: Precision, outputs: usize, inputs: usize) -> Result<Linear, Error> {
        let failed = |error: sottovoce_tensor::MatrixError| Error::Synthesis {
            reason: error.to_string(),
        };
        let slice = self.weights(Matrix::bytes_for(outputs, inputs, precision))?;
        let values = numbers(outputs * inputs, 1);
        let weight =
            Matrix::from_f32(slice, outputs, inputs, &values, precision).map_err(failed)?;
        let slice = self.weights(Vector::bytes_for(outputs))?;
        let bias = Vector::from_f32(slice, &numbers(outputs, 2)).map_err(failed)?;
        Ok(Linear {
            weight,
            bias: Some(bias),
        })
    }

    /// What an operation makes of `rows` × `columns` numbers.
    fn run(
        &self,
        rows: usize,
        columns: usize,
        work: &dyn Fn(&Context<'_>, Tensor) -> Tensor,
    ) -> Result<Vec<f32>, Error> {
        let workspace = Workspace::pooled(self.memory, "self-test");
        let ctx = Context::new(&workspace, self.device);
        let x = ctx.upload(&[rows, columns], &numbers(rows * columns, 3));
        let made = work(&ctx, x);
        Ok(ctx.download(&made)?)
    }
}

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut numbers = vec![0.0; count];
    Noise::new(seed).normals(0, count.max(1), &mut numbers);
    numbers
}

fn relative_l2(found: &[f32], expected: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let off: f64 = (found.iter().zip(expected))
        .map(|(found, expected)| square(found - expected))
        .sum();
    let whole: f64 = expected.iter().copied().map(square).sum();
    (off / whole.max(1e-30)).sqrt()
}

/// Compares `device`, which computes in `memory`, with the processor.
///
/// # Errors
/// If memory runs out, or a device fails.
pub fn self_test(device: &dyn Device, memory: &Memory) -> Result<Vec<OperationCheck>, Error> {
    let processor = super::host(1);
    let host = Memory::host(MEMORY_BYTES);
    let sides = [
        Side { device, memory },
        Side {
            device: &*processor,
            memory: &host,
        },
    ];
    let mut checks = Vec::new();
    let mut add = |operation: String, results: Vec<Vec<f32>>| {
        let difference = relative_l2(&results[0], &results[1]);
        checks.push(OperationCheck {
            operation,
            difference,
            holds: difference < DIFFERENCE_MAX,
        });
    };
    for precision in Precision::ALL {
        for rows in [1, 3, 40] {
            let results = sides.iter().map(|side| {
                let layer = side.linear(precision, 80, 72)?;
                side.run(rows, 72, &|ctx, x| ctx.linear(&x, &layer))
            });
            let results = results.collect::<Result<_, Error>>()?;
            add(format!("linear {precision}, {rows} rows"), results);
        }
    }
    let results = sides.iter().map(|side| {
        let Linear { weight, bias } = side.linear(Precision::F32, 24, 3 * 40)?;
        let layer = Conv1d {
            weight,
            bias,
            kernel: 3,
            stride: 1,
            dilation: 2,
            padding: Padding { left: 2, right: 2 },
        };
        side.run(50, 40, &|ctx, x| {
            ctx.conv1d_activated(&x, &layer, Activation::Mish)
        })
    });
    add("convolution".into(), results.collect::<Result<_, Error>>()?);
    let attention = Attention {
        heads: 2,
        scale: 0.125,
        causal: true,
        relative: None,
    };
    let transform = Stft::new(16, 4);
    type Work<'a> = &'a dyn Fn(&Context<'_>, Tensor) -> Tensor;
    let others: [(&str, usize, usize, Work<'_>); 6] = [
        ("attention", 70, 128, &|ctx, x| {
            ctx.attention(&x, &x, &x, &attention)
        }),
        ("softmax", 9, 300, &|ctx, mut x| {
            ctx.softmax(&mut x);
            x
        }),
        ("gated silu", 9, 300, &|ctx, x| ctx.gated_silu(&x)),
        ("sums", 9, 300, &|ctx, mut x| {
            let y = ctx.copy(&x);
            ctx.add_scaled(&mut x, 0.5, &y, 2.0);
            ctx.multiply(&mut x, &y);
            x
        }),
        ("sinusoids and noise", 9, 8, &|ctx, mut x| {
            let positions = EvenPositions {
                first: 3.0,
                step: -1.0,
            };
            let rates = [1.0, 0.1, 0.01, 0.001];
            ctx.normals(Noise::new(5), 7, &mut x);
            let waves = ctx.sinusoids(9, positions, &rates, SinusoidOrder::Halves);
            ctx.add(&mut x, &waves);
            x
        }),
        ("spectrum", 400, 1, &|ctx, x| ctx.spectrum(&x, &transform)),
    ];
    for (operation, rows, columns, work) in others {
        let results = sides.iter().map(|side| side.run(rows, columns, work));
        add(operation.into(), results.collect::<Result<_, Error>>()?);
    }
    Ok(checks)
}
