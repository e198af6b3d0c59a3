//! Times the hot paths: `cargo bench -p sottovoce-tensor [-- THREADS]`. For each the best of
//! several runs, as GFLOP/s and as the GB/s of weights read.

#![allow(clippy::disallowed_methods, reason = "a bench measures time")]

use sottovoce_memory::pages::PagePool;
use sottovoce_memory::{Arena, Memory, OutOfMemory, Owner, Region};
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::{
    Activation, Attention, CacheLayout, CachePlaces, CachePrecision, Context, Conv1d, Device,
    Linear, Matrix, Operations, Padding, PageLayout, Precision, Threads, Workspace,
};
use std::time::Instant;

fn main() -> Result<(), OutOfMemory> {
    let threads = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok());
    let cpu = Cpu::new(Threads::new(threads.unwrap_or(0)));
    println!("{} with {} threads", cpu.name(), cpu.threads());
    let memory = Memory::host(4 << 30);
    let workspace = Workspace::pooled(&memory, "bench");
    let ctx = Context::new(&workspace, &cpu);

    for (rows, inputs, outputs) in [(800, 768, 768), (800, 1024, 4096), (96, 256, 256)] {
        for precision in [Precision::F32, Precision::F16, Precision::Int8] {
            let layer = linear(&memory, outputs, inputs, precision)?;
            let x = ctx.zeros(&[rows, inputs]);
            let name = format!("linear {precision} {rows}×{inputs}×{outputs}");
            time(&name, 2 * rows * inputs * outputs, 0, || {
                ctx.linear(&x, &layer);
            });
        }
    }
    // Several matrices in turn, more than the caches hold, as a decoding step reads them.
    for precision in Precision::ALL {
        let layers = (0..32)
            .map(|_| linear(&memory, 4096, 1024, precision))
            .collect::<Result<Vec<_>, _>>()?;
        let bytes: usize = (layers.iter())
            .map(|layer| layer.weight.packed_bytes().len())
            .sum();
        for rows in [1, 2, 16] {
            let x = ctx.zeros(&[rows, 1024]);
            let name = format!("decode {precision} {rows} rows");
            cpu.run(&mut || {
                time(&name, 2 * 32 * rows * 1024 * 4096, bytes, || {
                    for layer in &layers {
                        ctx.linear(&x, layer);
                    }
                });
            });
        }
    }
    for (time_rows, channels, kernel, dilation) in [
        (800, 256, 3, 1),
        (6_000, 64, 3, 1),
        (6_000, 128, 7, 3),
        (6_000, 64, 11, 5),
    ] {
        let layer = Conv1d {
            weight: linear(&memory, channels, kernel * channels, Precision::F32)?.weight,
            bias: None,
            kernel,
            stride: 1,
            dilation,
            padding: Padding {
                left: (kernel - 1) * dilation,
                right: 0,
            },
        };
        let x = ctx.zeros(&[time_rows, channels]);
        let name = format!("conv1d {time_rows}×{channels}, kernel {kernel}, dilation {dilation}");
        time(
            &name,
            2 * time_rows * channels * channels * kernel,
            0,
            || {
                ctx.conv1d(&x, &layer);
            },
        );
    }
    let (queries, columns, heads) = (800, 512, 8);
    let x = ctx.zeros(&[queries, columns]);
    let options = Attention {
        heads,
        scale: 0.125,
        causal: false,
        relative: None,
    };
    time(
        "attention 800×800, 8 heads of 64",
        4 * queries * queries * columns,
        0,
        || {
            ctx.attention(&x, &x, &x, &options);
        },
    );
    cached(&memory, &ctx)?;
    for activation in [
        Activation::GeluErf,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::Mish,
        Activation::Tanh,
    ] {
        let mut x = ctx.zeros(&[800, 1024]);
        time(&format!("{activation:?}"), 800 * 1024, 0, || {
            ctx.activate(&mut x, activation)
        });
    }
    Ok(())
}

fn cached(memory: &Memory, ctx: &Context<'_>) -> Result<(), OutOfMemory> {
    for precision in [
        CachePrecision::F32,
        CachePrecision::F16,
        CachePrecision::Int8,
    ] {
        let layout = CacheLayout {
            heads: 16,
            size: 64,
            precision,
        };
        let pages = PageLayout {
            cache: layout,
            layers: 1,
            rows: 1,
            positions: 16,
        };
        let pool = PagePool::new(memory, pages.page_bytes(), usize::MAX);
        let mut table = pool.table(Owner::new(Region::KeyValue, "bench"));
        for _ in 0..1024 / pages.positions {
            table.push_page()?;
        }
        let mut places = CachePlaces::new(layout);
        let sequence = places.add_sequences(None, &mut table, pages);
        places.add_row(sequence, 1024);
        places.add_row(sequence, 1024);
        let bytes = 1024 * layout.row_bytes();
        let q = ctx.zeros(&[2, 1024]);
        let name = format!("cached attention {precision:?}, 2 rows over 1024 positions");
        time(&name, 2 * 4 * 1024 * 1024, 2 * bytes, || {
            ctx.attention_cached(&q, 0, &places, 0.125);
        });
    }
    Ok(())
}

fn linear(
    memory: &Memory,
    outputs: usize,
    inputs: usize,
    precision: Precision,
) -> Result<Linear, OutOfMemory> {
    let bytes = Matrix::bytes_for(outputs, inputs, precision);
    let block = memory.reserve_exact(bytes, Owner::new(Region::Weights, "bench"))?;
    let slice = Arena::new(block).take(bytes, 64).expect("the whole block");
    let weight = Matrix::from_rows(slice, outputs, inputs, precision, |row, out| {
        for (column, value) in out.iter_mut().enumerate() {
            *value = ((row * 31 + column * 17) % 255) as f32 / 127.0 - 1.0;
        }
    });
    Ok(Linear {
        weight: weight.expect("finite weights"),
        bias: None,
    })
}

fn time(name: &str, operations: usize, bytes: usize, mut work: impl FnMut()) {
    let best = (0..7)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    println!(
        "{name:<56} {:9.3} ms  {:7.1} GFLOP/s  {:6.1} GB/s",
        best * 1e3,
        operations as f64 / best * 1e-9,
        bytes as f64 / best * 1e-9
    );
}
