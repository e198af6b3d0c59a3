//! How fast products of a few rows read their weights, beside a plain loop that only reads them.
//!
//! A step of T3 is such products: each weight is read once and multiplied by a few numbers, so its
//! time is that of reading, and a kernel can at best be as fast as the loop.

use serde::Serialize;
use sottovoce_memory::{Arena, Memory, OutOfMemory, Owner, Region};
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::{
    Context, Device, Failure, Linear, Matrix, Precision, Threads, View, Workspace,
};
use std::hint::black_box;
use std::time::Instant;

/// Rows that the products have.
const ROWS: [usize; 4] = [1, 2, 4, 8];
/// Outputs and inputs of the matrices: those of a block of turbo's T3, over and over.
const SHAPES: [[usize; 2]; 4] = [[3072, 1024], [1024, 1024], [4096, 1024], [1024, 4096]];
/// Every byte of the weights: an ordinary number at each precision.
const FILLING: u8 = 0x2c;
/// Parts of the region that a thread reads in turn, as many as it has of a product.
const PARTS: usize = 4;
/// Bytes of one round of the read loop: eight registers of eight bytes, twice.
const LINE_BYTES: usize = 128;

/// What to measure.
#[derive(Clone, Debug)]
pub struct BandwidthOptions {
    /// Numbers of threads, each in turn; 0 takes all.
    pub threads: Vec<usize>,
    /// Bytes of weights at each precision: more than the caches hold.
    pub bytes: usize,
    /// Passes over the weights, of which the best counts.
    pub passes: usize,
}

/// The speed of one kind of product.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BandwidthFigures {
    /// Compute threads.
    pub threads: usize,
    /// Precision of the weights.
    pub precision: Precision,
    /// Rows that are multiplied with the weights.
    pub rows: usize,
    /// Bytes of weights per second.
    pub product_bytes_per_second: f64,
    /// Bytes per second of the loop that only reads, in turn with the product.
    pub read_bytes_per_second: f64,
}

/// Measures every precision with one to eight rows, in turn with the read loop.
///
/// # Errors
/// If memory runs out.
pub fn bandwidth(options: &BandwidthOptions) -> Result<Vec<BandwidthFigures>, Failure> {
    let mut figures = Vec::new();
    for precision in Precision::ALL {
        let memory = Memory::host(u64::MAX);
        let weights = Weights::new(&memory, precision, options.bytes)?;
        for &count in &options.threads {
            let threads = Threads::new(count);
            let device = Cpu::new(threads.clone());
            for rows in ROWS {
                let (mut product, mut read) = (f64::INFINITY, f64::INFINITY);
                for _ in 0..options.passes.max(1) {
                    read = read.min(weights.read(&threads));
                    product = product.min(weights.multiply(&memory, &device, rows)?);
                }
                let bytes = weights.bytes as f64;
                figures.push(BandwidthFigures {
                    threads: threads.count(),
                    precision,
                    rows,
                    product_bytes_per_second: bytes / product,
                    read_bytes_per_second: bytes / read,
                });
            }
        }
    }
    Ok(figures)
}

/// Linear layers in one arena.
struct Weights {
    layers: Vec<Linear>,
    bytes: usize,
}

impl Weights {
    fn new(memory: &Memory, precision: Precision, bytes: usize) -> Result<Weights, OutOfMemory> {
        let size = |[outputs, inputs]: [usize; 2]| Matrix::bytes_for(outputs, inputs, precision);
        let block: usize = SHAPES.into_iter().map(size).sum();
        let shapes: Vec<[usize; 2]> = SHAPES.repeat(bytes.div_ceil(block).max(1));
        let bytes = shapes.iter().copied().map(size).sum();
        let owner = Owner::new(Region::Weights, "bench");
        let mut arena = Arena::new(memory.reserve_exact(bytes, owner)?);
        let layers = shapes.into_iter().filter_map(|shape| {
            let mut slice = arena.take(size(shape), LINE_BYTES)?;
            slice.bytes_mut().fill(FILLING);
            let [outputs, inputs] = shape;
            let weight = Matrix::from_packed(slice.into_shared(), outputs, inputs, precision);
            Some(Linear {
                weight: weight.ok()?,
                bias: None,
            })
        });
        Ok(Weights {
            layers: layers.collect(),
            bytes,
        })
    }

    /// Seconds of multiplying `rows` rows with every matrix, in a planned workspace as in a step.
    fn multiply(&self, memory: &Memory, device: &Cpu, rows: usize) -> Result<f64, Failure> {
        let values = vec![0.5; rows * SHAPES.iter().map(|shape| shape[1]).max().unwrap_or(0)];
        let products = |workspace: &Workspace| {
            let ctx = Context::new(workspace, device);
            for layer in &self.layers {
                let inputs = layer.weight.columns();
                let x = View::new(&values[..rows * inputs], rows, inputs);
                black_box(ctx.linear(x, layer));
            }
            ctx.finish()
        };
        let measuring = Workspace::measuring();
        products(&measuring)?;
        let workspace = match measuring.trace() {
            Some(trace) => Workspace::planned(memory, &trace, "bench")?,
            None => Workspace::pooled(memory, "bench"),
        };
        let mut seconds = 0.0;
        let mut done = Ok(());
        device.run(&mut || {
            workspace.restart();
            let start = Instant::now();
            done = products(&workspace);
            seconds = start.elapsed().as_secs_f64();
        });
        done.map(|()| seconds)
    }

    /// Seconds of reading every matrix.
    fn read(&self, threads: &Threads) -> f64 {
        let parts = PARTS * threads.count();
        let mut seconds = 0.0;
        threads.run(|| {
            let start = Instant::now();
            for layer in &self.layers {
                let bytes = layer.weight.packed_bytes();
                threads.for_each(parts, |part| {
                    let (start, end) = (bytes.len() * part, bytes.len() * (part + 1));
                    black_box(sum(&bytes[start / parts..end / parts]));
                });
            }
            seconds = start.elapsed().as_secs_f64();
        });
        seconds
    }
}

/// A sum of all whole lines.
fn sum(bytes: &[u8]) -> u64 {
    let mut sums = [0_u64; LINE_BYTES / 8];
    for line in bytes.as_chunks::<LINE_BYTES>().0 {
        for (sum, word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
            *sum ^= u64::from_le_bytes(*word);
        }
    }
    sums.into_iter().fold(0, |all, sum| all ^ sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_precision_and_number_of_rows_has_its_figures() {
        let options = BandwidthOptions {
            threads: vec![1, 2],
            bytes: 1,
            passes: 1,
        };
        let figures = bandwidth(&options).unwrap();
        assert_eq!(figures.len(), Precision::ALL.len() * 2 * ROWS.len());
        for figure in figures {
            assert!(figure.product_bytes_per_second > 0.0, "{figure:?}");
            assert!(figure.read_bytes_per_second > 0.0, "{figure:?}");
        }
    }
}
