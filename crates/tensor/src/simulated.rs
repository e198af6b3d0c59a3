//! A device for tests whose memory the host cannot touch.
//!
//! Every operation copies its operands to memory of the host, has the processor compute there, and
//! copies its results back. What would reach the device's memory in another way faults, results
//! that an operation leaves out are NaN, and forwards of one key must repeat themselves: so the
//! seam between networks and devices is tested where no such device is at hand.

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

/// What operations and transfers copied between the host and the device's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyCount {
    /// Copies to the host.
    pub reads: u64,
    /// Bytes of them.
    pub read_bytes: u64,
    /// Copies to the device.
    pub writes: u64,
    /// Bytes of them.
    pub written_bytes: u64,
}

/// A device whose memory is a [`SimulatedDriver`]'s with hidden bytes.
pub struct SimulatedDevice {
    driver: SimulatedDriver,
    /// What computes.
    cpu: Cpu,
    /// Where it does.
    scratch: Memory,
    traffic: Traffic,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    copies: CopyCount,
    operations: u64,
    /// What went wrong first.
    failure: Option<DriverError>,
    /// The steps of the forward that is being replayed.
    replayed: Option<Vec<Step>>,
    /// The steps of each key's first forward.
    forwards: HashMap<u64, Vec<Step>>,
}

impl SimulatedDevice {
    /// A device of `capacity` bytes, with its memory and the script of its driver; `threads` of
    /// the host compute.
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

    /// What was copied up to now.
    pub fn copies(&self) -> CopyCount {
        self.state().copies
    }

    /// Operations up to now.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Fails the device for ever.
    pub fn fail(&self, error: DriverError) {
        self.state().failure.get_or_insert(error);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that failed with it has failed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies bytes of the device's memory; they stay as they are if it has failed.
    fn copy_in(&self, from: Address, into: &mut [u8]) {
        if into.is_empty() || self.check().is_err() {
            return;
        }
        // SAFETY: the driver refuses what is not all of one piece, and operations run one by one.
        match unsafe { self.driver.read(from, into) } {
            Ok(()) => {
                let copies = &mut self.state().copies;
                copies.reads += 1;
                copies.read_bytes += into.len() as u64;
            }
            Err(error) => self.fail(error),
        }
    }

    /// Copies bytes to the device's memory, if it has not failed.
    fn copy_out(&self, bytes: &[u8], to: Address) {
        if bytes.is_empty() || self.check().is_err() {
            return;
        }
        // SAFETY: as above.
        match unsafe { self.driver.write(bytes, to) } {
            Ok(()) => {
                let copies = &mut self.state().copies;
                copies.writes += 1;
                copies.written_bytes += bytes.len() as u64;
            }
            Err(error) => self.fail(error),
        }
    }

    /// Copies the rows of a view, close together, to `into`.
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

    /// Copies rows, close together, to those of a view.
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

/// Where a view lies, its stride and its columns.
///
/// # Panics
/// If it has elements and does not lie on a device.
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
    /// If a forward of the same key had other operations, or the same on other places.
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
