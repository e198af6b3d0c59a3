//! A simulated device whose memory the host cannot access, for tests.
//!
//! Every operation copies its operands to host memory, computes there with the CPU's code, and
//! copies its results back. Direct access to the device's memory faults, elements that an operation
//! does not write are NaN, and forwards with one key must repeat themselves. This tests the
//! interface between networks and devices on machines without such a device.

mod operations;
mod staging;

use crate::cpu::Cpu;
use crate::device::{Device, DeviceError, Traffic};
use crate::threads::Threads;
use crate::view::{View, ViewMut};
use sottovoce_memory::driver::{Address, Driver, DriverError, SimulatedControl, SimulatedDriver};
use sottovoce_memory::{Memory, PoolConfiguration};
use staging::Step;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts of copies between host and device memory, by operations and transfers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyCount {
    /// Number of copies to the host.
    pub reads: u64,
    /// Bytes copied to the host.
    pub read_bytes: u64,
    /// Number of copies to the device.
    pub writes: u64,
    /// Bytes copied to the device.
    pub written_bytes: u64,
}

/// A device over a [`SimulatedDriver`] with hidden bytes.
pub struct SimulatedDevice {
    driver: SimulatedDriver,
    /// The CPU that computes.
    cpu: Cpu,
    /// Host memory for operands.
    scratch: Memory,
    traffic: Traffic,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    copies: CopyCount,
    operations: u64,
    /// The first failure.
    failure: Option<DriverError>,
    /// Steps of the forward being replayed.
    replayed: Option<Vec<Step>>,
    /// Steps of each key's first forward.
    forwards: HashMap<u64, Vec<Step>>,
}

impl SimulatedDevice {
    /// A device of `capacity` bytes, with its memory and the control of its driver, computing on
    /// `threads` host threads.
    pub fn new(capacity: u64, threads: usize) -> (SimulatedDevice, Memory, SimulatedControl) {
        let driver = SimulatedDriver::new(capacity).with_hidden_bytes();
        let (shared, control) = (driver.clone(), driver.control());
        let memory = Memory::with_driver(Box::new(shared), PoolConfiguration::default());
        let device = SimulatedDevice {
            driver,
            cpu: Cpu::new(Threads::new(threads)),
            scratch: Memory::host(u64::MAX >> 1),
            traffic: Traffic::default(),
            state: Mutex::default(),
        };
        (device, memory, control)
    }

    /// The counts of copies.
    pub fn copies(&self) -> CopyCount {
        self.state().copies
    }

    /// Number of operations so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Makes the device fail permanently.
    pub fn fail(&self, error: DriverError) {
        self.state().failure.get_or_insert(error);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held has already failed the test.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies bytes from device memory; a failed device leaves `into` unchanged.
    fn copy_in(&self, from: Address, into: &mut [u8]) {
        if into.is_empty() || self.check().is_err() {
            return;
        }
        // SAFETY: the driver checks that the span lies in one piece, and operations run one at a
        // time.
        match unsafe { self.driver.read(from, into) } {
            Ok(()) => {
                let copies = &mut self.state().copies;
                copies.reads += 1;
                copies.read_bytes += into.len() as u64;
            }
            Err(error) => self.fail(error),
        }
    }

    /// Copies bytes to device memory, unless the device has failed.
    fn copy_out(&self, bytes: &[u8], to: Address) {
        if bytes.is_empty() || self.check().is_err() {
            return;
        }
        // SAFETY: the driver checks that the span lies in one piece, and operations run one at a
        // time.
        match unsafe { self.driver.write(bytes, to) } {
            Ok(()) => {
                let copies = &mut self.state().copies;
                copies.writes += 1;
                copies.written_bytes += bytes.len() as u64;
            }
            Err(error) => self.fail(error),
        }
    }

    /// Copies the rows of a view to `into`, without gaps.
    fn rows_in(&self, view: View<'_>, into: &mut [f32]) {
        let (address, stride, columns) = shape(view);
        if stride == columns || view.row_count() <= 1 {
            return self.copy_in(address, bytemuck::cast_slice_mut(into));
        }
        for (row, into) in into.chunks_exact_mut(columns.max(1)).enumerate() {
            let from = address.offset((row * stride * size_of::<f32>()) as u64);
            self.copy_in(from, bytemuck::cast_slice_mut(into));
        }
    }

    /// Copies contiguous rows to those of a view.
    fn rows_out(&self, rows: &[f32], view: View<'_>) {
        let (address, stride, columns) = shape(view);
        if stride == columns || view.row_count() <= 1 {
            return self.copy_out(bytemuck::cast_slice(rows), address);
        }
        for (row, values) in rows.chunks_exact(columns.max(1)).enumerate() {
            let to = address.offset((row * stride * size_of::<f32>()) as u64);
            self.copy_out(bytemuck::cast_slice(values), to);
        }
    }
}

/// Address, stride and columns of a view.
///
/// # Panics
/// If it has elements and is not on a device.
fn shape(view: View<'_>) -> (Address, usize, usize) {
    let (rows, columns) = (view.row_count(), view.column_count());
    let address = match view.address() {
        Some(address) => address,
        None if rows * columns == 0 => Address(0),
        None => panic!("a view of {rows} × {columns} is not on the device"),
    };
    (address, view.stride(), columns)
}

impl Device for SimulatedDevice {
    fn read(&self, from: View<'_>, into: &mut [f32]) -> Result<(), DeviceError> {
        self.check()?;
        self.rows_in(from, into);
        self.check()
    }

    fn write(&self, values: &[f32], to: ViewMut<'_>) {
        self.rows_out(values, to.as_view());
    }

    fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    fn check(&self) -> Result<(), DeviceError> {
        match &self.state().failure {
            None => Ok(()),
            Some(error) => Err(DeviceError {
                device: "simulated".into(),
                source: error.clone(),
            }),
        }
    }

    /// # Panics
    /// If an earlier forward with the same key had other operations or other addresses.
    fn replay(&self, key: u64, forward: &mut dyn FnMut()) {
        self.state().replayed = Some(Vec::new());
        forward();
        let failed = self.check().is_err();
        let mut state = self.state();
        let steps = state.replayed.take().unwrap_or_default();
        if failed || steps.is_empty() {
            return;
        }
        let first = state.forwards.entry(key).or_insert_with(|| steps.clone());
        assert_eq!(*first, steps, "two forwards of key {key}");
    }

    fn has_recorded(&self, key: u64) -> bool {
        self.state().forwards.contains_key(&key)
    }

    fn forget_recorded(&self) {
        self.state().forwards.clear();
    }
}
