//! Fixtures of device tests: the device, its memory, and its tolerances.

use sottovoce_memory::{Arena, ArenaSlice, Memory, Owner, Region};
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::{Context, Device, Matrix, Precision, Threads, Vector, Workspace};
use std::fmt::Debug;

/// Tolerances of results against their formulas.
#[derive(Clone, Copy)]
pub struct Tolerances {
    /// Whether copies, random numbers and sines must equal the CPU's bit for bit.
    pub exact: bool,
    /// Element-wise functions, relative to the value or to 1, and relative L2 of norms.
    pub element: f64,
    /// Relative L2 of linear layers. Activations for integer weights are rounded to one part in
    /// 65,024 of a row's largest value.
    pub linear: fn(Precision) -> f64,
    /// Relative L2 of linear layers with coarse rounding.
    pub coarse: f64,
    /// Relative L2 of convolutions.
    pub convolution: fn(Precision) -> f64,
    /// Relative L2 of attention.
    pub attention: f64,
}

impl Default for Tolerances {
    /// Tolerances of the CPU.
    fn default() -> Tolerances {
        Tolerances {
            exact: true,
            element: 1e-6,
            linear: |_| 4e-5,
            coarse: 1e-2,
            convolution: |_| 1e-5,
            attention: 1e-5,
        }
    }
}

/// A device with its memory.
pub struct Fixture {
    /// The devices; several where they must give the same bits, as with different numbers of
    /// threads.
    pub devices: Vec<Box<dyn Device>>,
    /// The devices' memory, of less than 64 GiB.
    pub memory: Memory,
    /// The tolerances.
    pub tolerances: Tolerances,
    /// Cases per property test.
    pub cases: u32,
    /// Whether each tensor has a piece of the driver's.
    pub apart: bool,
}

impl Fixture {
    /// The CPU, with one thread and with three.
    pub fn cpu() -> Fixture {
        let cpu = |threads| Box::new(Cpu::new(Threads::new(threads))) as Box<dyn Device>;
        Fixture {
            devices: vec![cpu(3), cpu(1)],
            memory: Memory::host(1 << 30),
            tolerances: Tolerances::default(),
            cases: 40,
            apart: false,
        }
    }

    /// The result of `test` on each of the devices, which must be bit-identical.
    pub fn run<R: PartialEq + Debug>(&self, test: impl Fn(Context<'_>) -> R) -> R {
        let mut results = self.devices.iter().map(|device| {
            let workspace = match self.apart {
                true => Workspace::apart(&self.memory, "test"),
                false => Workspace::pooled(&self.memory, "test"),
            };
            let ctx = Context::new(&workspace, &**device);
            let result = test(ctx);
            ctx.finish().expect("memory, and a device that works");
            result
        });
        let first = results.next().expect("a device");
        results.for_each(|other| assert_eq!(first, other, "two of the devices"));
        first
    }

    fn weights(&self, bytes: usize) -> ArenaSlice {
        let owner = Owner::new(Region::Weights, "test");
        let block = self.memory.reserve_exact(bytes, owner).expect("room");
        Arena::new(block).take(bytes, 64).expect("room")
    }

    /// A matrix in the devices' memory.
    pub fn matrix(
        &self,
        rows: usize,
        columns: usize,
        weights: &[f32],
        precision: Precision,
    ) -> Matrix {
        let slice = self.weights(Matrix::bytes_for(rows, columns, precision));
        Matrix::from_f32(slice, rows, columns, weights, precision).expect("finite weights")
    }

    /// A vector in the devices' memory.
    pub fn vector(&self, values: &[f32]) -> Vector {
        let slice = self.weights(Vector::bytes_for(values.len()));
        Vector::from_f32(slice, values).expect("finite values")
    }

    /// Compares each value with its formula's; where bit equality with the CPU is required, with
    /// the CPU's.
    pub fn assert_exact(&self, got: &[f32], expected: &[f32]) {
        assert_eq!(got.len(), expected.len(), "lengths");
        for (place, (&got, &expected)) in got.iter().zip(expected).enumerate() {
            let off = f64::from(got - expected).abs();
            let allowed = self.tolerances.element * f64::from(expected.abs().max(1.0));
            assert!(
                got == expected || !self.tolerances.exact && off < allowed,
                "place {place}: {got}, not {expected}"
            );
        }
    }
}

/// The weights as rounded by a matrix of a precision.
pub fn rounded(rows: usize, columns: usize, weights: &[f32], precision: Precision) -> Vec<f32> {
    let host = Fixture {
        devices: Vec::new(),
        ..Fixture::cpu()
    };
    let matrix = host.matrix(rows, columns, weights, precision);
    let mut all = vec![0.0; rows * columns];
    for (row, out) in all.chunks_exact_mut(columns.max(1)).enumerate() {
        matrix.copy_row(row, out);
    }
    all
}
