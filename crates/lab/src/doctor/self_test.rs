//! Self-test of a device: each operation on small sizes, compared with the CPU on the same inputs.

use serde::Serialize;
use sottovoce::{Error, device};
use sottovoce_memory::pages::{PagePool, PageTable};
use sottovoce_memory::{Arena, ArenaSlice, Memory, Owner, Region};
use sottovoce_tensor::{
    Activation, Attention, CacheLayout, CachePlaces, CachePrecision, CachedPages, Context, Conv1d,
    Conv2d, ConvTranspose1d, Convolving, Device, EvenPositions, Harmonics, LayerNorm, Linear, Lstm,
    LstmLayer, Matrix, Noise, Padding, PageLayout, Precision, RelativePositions, Rounding,
    SinusoidOrder, Stft, Store, Tensor, Vector, View, Workspace,
};

/// Comparison of one operation with the CPU.
#[derive(Clone, Debug, Serialize)]
pub struct OperationCheck {
    /// The operation.
    pub operation: String,
    /// Relative L2 difference.
    pub difference: f64,
    /// Whether the difference is within tolerance.
    pub holds: bool,
}

/// Largest difference.
const DIFFERENCE_MAX: f64 = 1e-4;
/// Largest difference where rows may be rounded coarsely.
const DIFFERENCE_MAX_COARSE: f64 = 2e-2;
const MEMORY_BYTES: u64 = 64 << 20;

/// The computation of a check on one device.
type Work<'a> = Box<dyn Fn(&Side<'_>) -> Result<Vec<f32>, Error> + 'a>;

/// A check: its name, its tolerance, and its computation.
struct Check<'a> {
    operation: String,
    difference_max: f64,
    work: Work<'a>,
}

impl<'a> Check<'a> {
    fn new(
        operation: impl Into<String>,
        work: impl Fn(&Side<'_>) -> Result<Vec<f32>, Error> + 'a,
    ) -> Check<'a> {
        Check {
            operation: operation.into(),
            difference_max: DIFFERENCE_MAX,
            work: Box::new(work),
        }
    }

    /// An operation on a `rows` × `columns` tensor, without weights.
    fn of_numbers(
        operation: impl Into<String>,
        [rows, columns]: [usize; 2],
        work: impl Fn(&Context<'_>, Tensor) -> Tensor + 'a,
    ) -> Check<'a> {
        Check::new(operation, move |side| {
            side.run(|ctx| work(ctx, upload(ctx, &[rows, columns], 3)))
        })
    }
}

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

    fn matrix(&self, precision: Precision, [rows, columns]: [usize; 2]) -> Result<Matrix, Error> {
        let slice = self.weights(Matrix::bytes_for(rows, columns, precision))?;
        let values = numbers(rows * columns, 1);
        Matrix::from_f32(slice, rows, columns, &values, precision).map_err(|error| {
            Error::Synthesis {
                reason: error.to_string(),
            }
        })
    }

    fn vector(&self, values: &[f32]) -> Result<Vector, Error> {
        let slice = self.weights(Vector::bytes_for(values.len()))?;
        Vector::from_f32(slice, values).map_err(|error| Error::Synthesis {
            reason: error.to_string(),
        })
    }

    fn linear(&self, precision: Precision, outputs: usize, inputs: usize) -> Result<Linear, Error> {
        Ok(Linear {
            weight: self.matrix(precision, [outputs, inputs])?,
            bias: Some(self.vector(&numbers(outputs, 2))?),
        })
    }

    /// Result of a computation, on the host.
    fn run(&self, work: impl FnOnce(&Context<'_>) -> Tensor) -> Result<Vec<f32>, Error> {
        let workspace = Workspace::pooled(self.memory, "self-test");
        let ctx = Context::new(&workspace, self.device);
        let made = work(&ctx);
        Ok(ctx.download(&made)?)
    }
}

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut numbers = vec![0.0; count];
    Noise::new(seed).normals(0, count.max(1), &mut numbers);
    numbers
}

fn upload(ctx: &Context<'_>, dimensions: &[usize], seed: u64) -> Tensor {
    ctx.upload(dimensions, &numbers(dimensions.iter().product(), seed))
}

pub(super) fn relative_l2(found: &[f32], expected: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let off: f64 = (found.iter().zip(expected))
        .map(|(found, expected)| square(found - expected))
        .sum();
    let whole: f64 = expected.iter().copied().map(square).sum();
    (off / whole.max(1e-30)).sqrt()
}

/// Compares every operation of `device`, which computes in `memory`, with the CPU.
///
/// # Errors
/// If memory runs out, or a device fails.
pub fn self_test(device: &dyn Device, memory: &Memory) -> Result<Vec<OperationCheck>, Error> {
    let processor = device::host(1);
    let host = Memory::host(MEMORY_BYTES);
    let here = Side { device, memory };
    let there = Side {
        device: &*processor,
        memory: &host,
    };
    let checks = [
        products(),
        convolutions(),
        attentions(),
        elements(),
        sequences(),
        sound(),
    ];
    let compare = |check: Check<'_>| {
        let difference = relative_l2(&(check.work)(&here)?, &(check.work)(&there)?);
        Ok(OperationCheck {
            operation: check.operation,
            difference,
            // NaN fails the comparison.
            holds: difference < check.difference_max,
        })
    };
    checks.into_iter().flatten().map(compare).collect()
}

fn products() -> Vec<Check<'static>> {
    let mut checks = Vec::new();
    for precision in Precision::ALL {
        for rows in [1, 3, 8, 40] {
            checks.push(Check::new(
                format!("linear {precision}, {rows} rows"),
                move |side| {
                    let layer = side.linear(precision, 80, 72)?;
                    side.run(|ctx| ctx.linear(&upload(ctx, &[rows, 72], 3), &layer))
                },
            ));
        }
        checks.push(Check {
            difference_max: DIFFERENCE_MAX_COARSE,
            ..Check::new(format!("linear {precision}, coarse"), move |side| {
                let layer = side.linear(precision, 80, 72)?;
                side.run(|ctx| {
                    let coarse = Context::new(ctx.workspace, side.device);
                    let coarse = coarse.rounding(Rounding::Coarse);
                    coarse.linear(&upload(ctx, &[40, 72], 3), &layer)
                })
            })
        });
        // Where a device has matrix units.
        for (rounding, difference_max) in [
            (Rounding::Fine, DIFFERENCE_MAX),
            (Rounding::Coarse, DIFFERENCE_MAX_COARSE),
        ] {
            let name = format!("linear {precision} for many rows, {rounding:?}").to_lowercase();
            checks.push(Check {
                difference_max,
                ..Check::new(name, move |side| {
                    let Linear { weight, bias } = side.linear(precision, 80, 72)?;
                    let layer = Linear {
                        weight: weight.for_many_rows(),
                        bias,
                    };
                    side.run(|ctx| {
                        let ctx = Context::new(ctx.workspace, side.device).rounding(rounding);
                        ctx.linear(&upload(&ctx, &[40, 72], 3), &layer)
                    })
                })
            });
        }
        checks.push(Check::new(format!("embedding {precision}"), move |side| {
            let table = side.matrix(precision, [50, 37])?;
            side.run(|ctx| ctx.embedding(&table, &[49, 0, 17, 17]))
        }));
    }
    checks.push(Check::new("linear, added", |side| {
        let layer = side.linear(Precision::F32, 80, 72)?;
        side.run(|ctx| {
            let mut sum = upload(ctx, &[5, 80], 4);
            ctx.linear_add(&upload(ctx, &[5, 72], 3), &layer, &mut sum);
            sum
        })
    }));
    checks
}

fn convolutions() -> Vec<Check<'static>> {
    fn conv1d(side: &Side<'_>) -> Result<Conv1d, Error> {
        let Linear { weight, bias } = side.linear(Precision::F32, 24, 3 * 40)?;
        Ok(Conv1d {
            weight,
            bias,
            kernel: 3,
            stride: 1,
            dilation: 2,
            padding: Padding { left: 2, right: 2 },
        })
    }
    vec![
        Check::new("convolution", |side| {
            let layer = conv1d(side)?;
            side.run(|ctx| {
                ctx.conv1d_activated(&upload(ctx, &[50, 40], 3), &layer, Activation::Mish)
            })
        }),
        Check::new("convolution behind a snake, added", |side| {
            let layer = conv1d(side)?;
            let slopes: Vec<f32> = numbers(40, 5).iter().map(|x| 0.5 + x * x).collect();
            let alpha = side.vector(&slopes)?;
            side.run(|ctx| {
                let options = Convolving {
                    snake: Some(&alpha),
                    store: Store::Add,
                    ..Convolving::default()
                };
                let mut out = upload(ctx, &[50, 24], 4);
                ctx.conv1d_into(&upload(ctx, &[50, 40], 3), &layer, &options, &mut out);
                out
            })
        }),
        Check::new("transposed convolution", |side| {
            let weight = side.matrix(Precision::F32, [8 * 12, 20])?;
            let layer = ConvTranspose1d {
                weight,
                bias: Some(side.vector(&numbers(12, 2))?),
                kernel: 8,
                stride: 4,
                padding: 2,
            };
            side.run(|ctx| ctx.conv_transpose1d(&upload(ctx, &[19, 20], 3), &layer))
        }),
        Check::new("convolution of a plane", |side| {
            let layer = Conv2d {
                weight: side.matrix(Precision::F32, [6, 9 * 5])?,
                bias: Some(side.vector(&numbers(6, 2))?),
                kernel: [3, 3],
                stride: [2, 1],
                padding: [1, 1],
            };
            side.run(|ctx| ctx.conv2d(&upload(ctx, &[7, 9, 5], 3), &layer, Activation::Relu))
        }),
    ]
}

/// Attention over cached keys and values of `positions`, of which the first are a voice's prefix.
fn cached(side: &Side<'_>, precision: CachePrecision) -> Result<Vec<f32>, Error> {
    let (heads, size, shared, positions) = (2, 64, 37, 150);
    let columns = heads * size;
    let layout = PageLayout {
        cache: CacheLayout {
            heads,
            size,
            precision,
        },
        layers: 1,
        rows: 1,
        positions: 16,
    };
    let pool = PagePool::new(side.memory, layout.page_bytes(), usize::MAX);
    let table = |positions: usize| -> Result<PageTable, Error> {
        let mut table = pool.table(Owner::new(Region::KeyValue, "self-test"));
        for _ in 0..positions.div_ceil(layout.positions) {
            table.push_page()?;
        }
        Ok(table)
    };
    let [mut voice, mut own] = [table(shared)?, table(positions - shared)?];
    side.run(|ctx| {
        let [keys, values] = [4, 5].map(|seed| upload(ctx, &[positions, columns], seed));
        for (table, rows) in [(&mut voice, 0..shared), (&mut own, shared..positions)] {
            let mut places = CachePlaces::new(layout.cache);
            let first = places.add_sequences(None, table, layout);
            (1..=rows.len()).for_each(|length| places.add_row(first, length));
            let part = |x: &Tensor| ctx.copy(x.view().rows(rows.clone()));
            ctx.cache_store(&part(&keys), &part(&values), 0, &mut places);
        }
        let mut places = CachePlaces::new(layout.cache);
        let prefix = CachedPages {
            table: &voice,
            layout,
            positions: shared,
        };
        let first = places.add_sequences(Some(prefix), &mut own, layout);
        for length in [positions, 40, shared + 1] {
            places.add_row(first, length);
        }
        ctx.attention_cached(&upload(ctx, &[3, columns], 3), 0, &places, 0.125)
    })
}

fn attentions() -> Vec<Check<'static>> {
    fn options(causal: bool) -> Attention<'static> {
        Attention {
            heads: 2,
            scale: 0.125,
            causal,
            relative: None,
        }
    }
    let mut checks = vec![
        Check::of_numbers("attention", [70, 128], |ctx, x| {
            ctx.attention(&x, &x, &x, &options(false))
        }),
        Check {
            difference_max: DIFFERENCE_MAX_COARSE,
            ..Check::of_numbers("attention, coarse", [70, 128], |ctx, x| {
                let ctx = Context::new(ctx.workspace, ctx.device).rounding(Rounding::Coarse);
                ctx.attention(&x, &x, &x, &options(false))
            })
        },
        Check::of_numbers("attention, causal", [70, 128], |ctx, x| {
            ctx.attention(&x, &x, &x, &options(true))
        }),
        Check::of_numbers("attention, relative positions", [30, 128], |ctx, x| {
            let [queries, positions] =
                [(30, 6), (59, 7)].map(|(rows, seed)| upload(ctx, &[rows, 128], seed));
            let relative = RelativePositions {
                queries: queries.view(),
                positions: positions.view(),
            };
            let options = Attention {
                relative: Some(relative),
                ..options(false)
            };
            ctx.attention(&x, &x, &x, &options)
        }),
    ];
    for precision in [
        CachePrecision::F32,
        CachePrecision::F16,
        CachePrecision::Int8,
    ] {
        // A value halfway between two levels may round to either.
        let difference_max = match precision {
            CachePrecision::F32 => DIFFERENCE_MAX,
            CachePrecision::F16 => 1e-3,
            CachePrecision::Int8 => 1e-2,
        };
        checks.push(Check {
            difference_max,
            ..Check::new(format!("attention over {precision} pages"), move |side| {
                cached(side, precision)
            })
        });
    }
    checks
}

fn elements() -> Vec<Check<'static>> {
    let mut checks = Vec::new();
    for activation in Activation::EACH {
        let name = format!("{activation:?}").to_lowercase();
        checks.push(Check::of_numbers(name, [9, 300], move |ctx, mut x| {
            ctx.activate(&mut x, activation);
            x
        }));
    }
    checks.extend([
        Check::of_numbers("softmax", [9, 300], |ctx, mut x| {
            ctx.softmax(&mut x);
            x
        }),
        Check::of_numbers("gated silu", [9, 300], |ctx, x| ctx.gated_silu(&x)),
        Check::of_numbers("sums and products", [9, 300], |ctx, mut x| {
            let y = ctx.copy(&x);
            ctx.add_scaled(&mut x, 0.5, &y, 2.0);
            ctx.multiply(&mut x, &y);
            ctx.scale(&mut x, -0.3);
            x
        }),
        Check::of_numbers("copied parts", [9, 300], |ctx, x| {
            let parts: [View<'_>; 2] = [x.view().columns(7..20), x.view().columns(100..140)];
            ctx.concat_columns(&parts)
        }),
        Check::of_numbers("repeated rows", [9, 30], |ctx, x| ctx.repeat_rows(&x, 4)),
        Check::of_numbers("moments", [90, 30], |ctx, x| ctx.moments(&x)),
        Check::of_numbers("means of segments", [90, 30], |ctx, x| {
            ctx.segment_means(&x, 25)
        }),
        Check::new("layer norm", |side| {
            let layer = LayerNorm {
                weight: side.vector(&numbers(300, 5))?,
                bias: side.vector(&numbers(300, 6))?,
                epsilon: 1e-5,
            };
            side.run(|ctx| ctx.layer_norm(&upload(ctx, &[9, 300], 3), &layer))
        }),
        Check::new("root mean square norm", |side| {
            let scale = side.vector(&numbers(300, 5))?;
            side.run(|ctx| ctx.rms_norm(&upload(ctx, &[9, 300], 3), &scale, 1e-5))
        }),
    ]);
    checks
}

fn sequences() -> Vec<Check<'static>> {
    let mut checks = vec![
        Check::of_numbers("rotation by position", [6, 30], |ctx, mut x| {
            let frequencies = [1.0, 0.3, 0.1, 0.03, 0.01];
            let positions = [0, 1, 2, 40, 999, 4000];
            let [cosines, sines] = ctx.rotary_angles(&positions, &frequencies);
            ctx.rotate(&mut x, 3, &cosines, &sines);
            x
        }),
        Check::of_numbers("sinusoids", [9, 8], |ctx, mut x| {
            let positions = EvenPositions {
                first: 3.0,
                step: -1.0,
            };
            let rates = [1.0, 0.1, 0.01, 0.001];
            let waves = ctx.sinusoids(9, positions, &rates, SinusoidOrder::Halves);
            ctx.add(&mut x, &waves);
            x
        }),
    ];
    for precision in Precision::ALL {
        checks.push(Check::new(format!("lstm {precision}"), move |side| {
            let mut recurrent = side.linear(precision, 4 * 16, 16)?;
            // The input's bias includes the recurrent one.
            recurrent.bias = None;
            let input = side.linear(precision, 4 * 16, 24)?;
            let network = Lstm {
                layers: vec![LstmLayer { input, recurrent }],
            };
            side.run(|ctx| ctx.lstm(&upload(ctx, &[3 * 11, 24], 3), 3, &network))
        }));
    }
    checks
}

fn sound() -> Vec<Check<'static>> {
    vec![
        Check::of_numbers("noise", [40, 9], |ctx, mut x| {
            ctx.normals(Noise::new(5), 7, &mut x);
            x
        }),
        Check::new("harmonics", |side| {
            let source = Harmonics {
                phases: &[0, 1 << 62, 3 << 60],
                noise: Noise::new(3),
                position: 400,
                samples_a_frame: 40,
                sample_rate: 8000,
                voiced_threshold: 10.0,
                sine_amplitude: 0.1,
                noise_deviation: 0.003,
            };
            side.run(|ctx| {
                ctx.harmonics(&ctx.upload(&[4, 1], &[110.0, 5.0, 312.5, 300.0]), &source)
            })
        }),
        Check::of_numbers("spectrum", [400, 1], |ctx, x| {
            ctx.spectrum(&x, &Stft::new(16, 4))
        }),
        Check::of_numbers("samples of a spectrum", [50, 18], |ctx, x| {
            ctx.overlap_add(&x, &Stft::new(16, 4), 100.0, 0.99)
        }),
    ]
}
