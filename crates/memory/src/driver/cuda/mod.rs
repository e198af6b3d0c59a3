//! An NVIDIA device's memory through the driver API. The driver's library is loaded at run time:
//! without it, the program starts and reports that it is missing.
//!
//! A range is mapped unit by unit. Each unit is a physical allocation of its own, because the
//! driver unmaps only whole mappings. A call that fails midway is rolled back, so that a refusal
//! changes nothing.
//!
//! Besides memory ([`CudaDriver`]), a device has queues ([`Queue`]), kernels ([`Module`],
//! [`Kernel`]) and graphs ([`Graph`]), all in one context ([`CudaContext`]). The pool knows queues
//! by number. An event recorded on a [`Queue`]'s number is complete when the work before it is;
//! unknown numbers have no work. Memory that the driver takes for itself (context, modules, graphs)
//! is measured and counts against the capacity. Before unmapping memory, the driver waits for all
//! queues that may use it: its own, and adopted ones.
//!
//! Other libraries in the process, such as PyTorch, may use the same context. A thread's current
//! context is theirs again after each call, and nothing waits for their work or disturbs their
//! captures. Calls that a capture forbids wait for its end.
//!
//! Sticky errors (an illegal address, a lost device) are remembered. From then on, every call fails
//! with the same error without calling the library, no call waits, and dropping the last reference
//! releases the context.

mod context;
mod error;
mod graph;
mod image;
mod limits;
mod management;
mod module;
mod platform;
mod queue;
mod staging;
mod symbols;

pub use context::{Counts, CudaContext};
pub use error::CudaError;
pub use graph::Graph;
pub use image::{Generation, Target};
pub use limits::{ContextLimits, DriverBytes};
pub use module::{Kernel, LaunchShape, Module};
pub use platform::PlatformFacts;
pub use queue::{PARAMETERS_MAX, Queue};
pub use staging::Staging;

use super::books::{Books, bad_unit};
use super::{Address, DeviceMemory, Driver, DriverCapabilities, DriverError, EventId};
use context::{Turn, count};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use symbols::{CallFailure, Entered, Library};

/// Granularity of plain allocations: the driver's own for large requests.
const PIECE_UNIT: u64 = 2 << 20;
/// Number and bytes of the parts of the pinned ring through which weights are loaded. One part is
/// filled while the other is copied.
const LOADING: (usize, usize) = (2, 4 << 20);

/// A CUDA device. Describing it takes none of its memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CudaDevice {
    /// Ordinal, from 0.
    pub ordinal: u32,
    /// Name, as the driver reports it.
    pub name: String,
    /// Total memory, in bytes.
    pub total_bytes: u64,
    /// Free memory at present, in bytes.
    pub free_bytes: u64,
    /// The newest CUDA version that the driver supports: 1000 × major + 10 × minor.
    pub driver_version: u32,
    /// Compute capability.
    pub generation: Generation,
    /// Why expandable segments are off, if they are.
    pub ranges_off: Option<&'static str>,
    /// Why the device cannot compute, if it cannot.
    pub compute_off: Option<String>,
    /// Device memory that the driver holds for itself, in bytes.
    pub driver_bytes: DriverBytes,
}

/// A CUDA device of this machine.
///
/// # Errors
/// If there is no driver, it does not work, or there is no such device.
pub fn device(ordinal: u32) -> Result<CudaDevice, CudaError> {
    Ok(CudaDriver::open(ordinal, None)?.device())
}

/// All CUDA devices of this machine by ordinal, or why one cannot be used.
///
/// # Errors
/// If there is no driver, or it does not work.
pub fn devices() -> Result<Vec<Result<CudaDevice, CudaError>>, CudaError> {
    Ok((0..device_count()?).map(device).collect())
}

/// Number of CUDA devices of this machine. Creates no context.
///
/// # Errors
/// If there is no driver, or it does not work.
pub fn device_count() -> Result<u32, CudaError> {
    Ok(Library::load()?.device_count()?.unsigned_abs())
}

/// One CUDA device's memory.
pub struct CudaDriver {
    context: Arc<CudaContext>,
    ordinal: u32,
    name: String,
    granularity: u64,
    ranges: Result<(), &'static str>,
    driver_version: u32,
    /// The pinned ring, while bytes are being staged.
    loading: Mutex<Option<Staging>>,
    /// Reserved bytes of each piece that is mapped unit by unit, by address. A piece that shrank
    /// keeps its reservation.
    reserved: Mutex<BTreeMap<u64, u64>>,
}

impl CudaDriver {
    /// Opens device `ordinal` with a limit of `capacity` bytes, or with all of its memory.
    ///
    /// # Errors
    /// If there is no driver, it does not work, or there is no such device.
    pub fn open(ordinal: u32, capacity: Option<u64>) -> Result<CudaDriver, CudaError> {
        let library = Library::load()?;
        let driver_version = library.driver_version()?.unsigned_abs();
        let count = library.device_count()?.unsigned_abs();
        if ordinal >= count {
            return Err(CudaError::NoDevice { ordinal, count });
        }
        let device = library.device(ordinal as i32)?;
        let name = library.device_name(device)?;
        let total = library.device_total_memory(device)?;
        let capacity = capacity.map_or(total, |capacity| capacity.min(total));
        let mut driver = CudaDriver {
            context: Arc::new(CudaContext::retain(library, device, capacity)?),
            ordinal,
            granularity: PIECE_UNIT,
            ranges: Ok(()),
            driver_version,
            name,
            loading: Mutex::default(),
            reserved: Mutex::default(),
        };
        let library = driver.context.enter()?;
        driver.ranges = driver.facts().ranges();
        if driver.ranges.is_ok() {
            driver.granularity = library.granularity(device)?;
        }
        drop(library);
        Ok(driver)
    }

    /// The device's context, for queues, modules and graphs.
    pub fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    /// Describes the device in its present state.
    pub fn device(&self) -> CudaDevice {
        let DeviceMemory { free, total } = self.memory();
        CudaDevice {
            ordinal: self.ordinal,
            name: self.name.clone(),
            total_bytes: total,
            free_bytes: free,
            driver_version: self.driver_version,
            generation: self.context.generation(),
            ranges_off: self.ranges.err(),
            compute_off: (self.context.can_compute().err()).map(|error| error.to_string()),
            driver_bytes: self.context.driver_bytes(),
        }
    }

    fn facts(&self) -> PlatformFacts {
        let attribute = |attribute| {
            self.library()
                .device_attribute(attribute, self.context.device)
                .is_ok_and(|value| value != 0)
        };
        let address_management = attribute(symbols::ATTRIBUTE_ADDRESS_MANAGEMENT);
        let functions_present = self.library().has_ranges().is_ok();
        PlatformFacts {
            windows: cfg!(windows),
            wsl: platform::is_wsl(),
            integrated: attribute(symbols::ATTRIBUTE_INTEGRATED),
            virtual_gpu: platform::is_virtual_gpu(&self.name),
            functions_present,
            address_management,
            probe_succeeded: functions_present && address_management && self.probe().is_ok(),
        }
    }

    /// Reserves, maps and releases one unit.
    fn probe(&self) -> Result<(), CallFailure> {
        let unit = self.library().granularity(self.context.device)?;
        let address = self.library().reserve(unit, 0)?;
        let mapped = self.map_units(address, unit, unit);
        let unmapped = mapped.and_then(|()| twice(|| self.library().unmap(address, unit)));
        twice(|| self.library().release_addresses(address, unit))?;
        unmapped
    }

    /// Maps one unit to a physical allocation of its own.
    fn map_unit(&self, address: u64, unit: u64) -> Result<(), CallFailure> {
        let physical = self.library().create(unit, self.context.device)?;
        let mapped = self.library().map(address, unit, &physical);
        // The mapping alone now keeps the memory alive. If mapping failed, this frees the memory.
        let _ = twice(|| self.library().release(&physical));
        mapped
    }

    /// Maps all units of a range and makes them accessible, or maps none.
    fn map_units(&self, address: u64, bytes: u64, unit: u64) -> Result<(), CallFailure> {
        let units = || (address..address + bytes).step_by(unit as usize);
        let mut result = Ok(());
        let mut mapped = 0;
        for start in units() {
            result = self.map_unit(start, unit);
            if result.is_err() {
                break;
            }
            mapped += 1;
        }
        if result.is_ok() {
            result = self
                .library()
                .set_access(address, bytes, self.context.device);
        }
        if result.is_err() {
            for start in units().take(mapped) {
                twice(|| self.library().unmap(start, unit))?;
            }
        }
        result
    }

    /// Unmaps all units of a range. If one refuses, the units before it are mapped again.
    fn unmap_units(&self, address: u64, bytes: u64, unit: u64) -> Result<(), CallFailure> {
        for start in (address..address + bytes).step_by(unit as usize) {
            if let Err(failure) = self.library().unmap(start, unit) {
                if start > address {
                    self.map_units(address, start - address, unit)?;
                }
                return Err(failure);
            }
        }
        Ok(())
    }

    fn refusal(&self, failure: CallFailure, requested: u64, books: &Books) -> DriverError {
        if failure.status != symbols::OUT_OF_MEMORY {
            return failure.into();
        }
        let DeviceMemory { free, total } = self.memory_by(books);
        DriverError::OutOfMemory {
            requested,
            free,
            total,
        }
    }

    /// Free and total memory of the device within the capacity.
    fn memory_by(&self, books: &Books) -> DeviceMemory {
        let DeviceMemory { free, total } = books.memory();
        let device_free = self.library().memory().map_or(0, |(free, _)| free);
        DeviceMemory {
            free: free.min(device_free),
            total,
        }
    }

    /// Allocates a piece whose units are mapped one by one, so that its end can be released.
    fn allocate_units(&self, library: &Library, bytes: u64) -> Result<u64, CallFailure> {
        let address = library.reserve(bytes, self.granularity)?;
        if let Err(failure) = self.map_units(address, bytes, self.granularity) {
            twice(|| library.release_addresses(address, bytes))?;
            return Err(failure);
        }
        self.reserved().insert(address, bytes);
        Ok(address)
    }

    /// Frees a piece that is mapped unit by unit; `bytes` are still mapped.
    fn free_units(
        &self,
        library: &Library,
        turn: &Turn<'_>,
        address: u64,
        bytes: u64,
    ) -> Result<(), CallFailure> {
        // A kernel may still be reading. Unlike `cuMemFree`, unmapping does not wait.
        (self.context.finish(library, turn))
            .and_then(|()| self.unmap_units(address, bytes, self.granularity))?;
        let reserved = self.reserved().remove(&address).unwrap_or(bytes);
        // A reservation takes no memory, so a failure needs no rollback.
        let _ = twice(|| library.release_addresses(address, reserved));
        Ok(())
    }

    fn is_in_units(&self, address: Address) -> bool {
        self.reserved().contains_key(&address.0)
    }

    fn reserved(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loading(&self) -> MutexGuard<'_, Option<Staging>> {
        self.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a pinned ring on a queue of its own, after all earlier uses of the memory are
    /// complete.
    fn begin_staging(&self) -> Result<Staging, CudaError> {
        let queue = Arc::new(Queue::unnumbered(&self.context)?);
        queue.act(|library| self.context.finish(library, &self.context.turn()))?;
        Staging::new(&queue, LOADING.0, LOADING.1)
    }

    fn library(&self) -> &Library {
        self.context.library()
    }

    fn enter(&self) -> Result<(Entered<'_>, MutexGuard<'_, Books>), DriverError> {
        self.context.enter_books()
    }
}

/// Runs a release call, and repeats it once if it fails, because nobody else would.
fn twice(call: impl Fn() -> Result<(), CallFailure>) -> Result<(), CallFailure> {
    call().or_else(|_| call())
}

// SAFETY: device memory is not accessible to the host, so no host bytes need to be valid.
unsafe impl Driver for CudaDriver {
    fn name(&self) -> &str {
        "cuda"
    }

    fn capabilities(&self) -> DriverCapabilities {
        DriverCapabilities {
            granularity: self.granularity,
            ranges: self.ranges,
            host_accessible: false,
        }
    }

    fn memory(&self) -> DeviceMemory {
        match self.enter() {
            Ok((_, books)) => self.memory_by(&books),
            Err(_) => DeviceMemory {
                free: 0,
                total: self.context.books().memory().total,
            },
        }
    }

    fn allocate(&self, bytes: u64) -> Result<Address, DriverError> {
        let unit = self.granularity.max(PIECE_UNIT);
        let whole = (bytes.max(1).checked_next_multiple_of(unit)).unwrap_or(u64::MAX);
        let (library, mut books) = self.enter()?;
        books.room_for(whole)?;
        let address = match self.ranges {
            Ok(()) => self.allocate_units(&library, whole),
            Err(_) => library.allocate(whole),
        }
        .map_err(|failure| self.refusal(failure, whole, &books))?;
        books.add_piece(address, whole);
        Ok(Address(address))
    }

    fn free(&self, address: Address) -> Result<(), DriverError> {
        let turn = self.context.turn();
        let (library, mut books) = self.enter()?;
        let bytes = books.remove_piece(address)?;
        let result = match self.is_in_units(address) {
            true => self.free_units(&library, &turn, address.0, bytes),
            false => library.free(address.0),
        };
        if let Err(failure) = result {
            books.add_piece(address.0, bytes);
            return Err(failure.into());
        }
        Ok(())
    }

    fn shrink(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        let bytes = (bytes.checked_next_multiple_of(self.granularity)).unwrap_or(u64::MAX);
        let turn = self.context.turn();
        let (library, mut books) = self.enter()?;
        let before = books.shrink_piece(address, bytes)?;
        let result = match self.is_in_units(address) {
            // A kernel may still be reading.
            true => (self.context.finish(&library, &turn))
                .and_then(|()| {
                    self.unmap_units(address.0 + bytes, before - bytes, self.granularity)
                })
                .map_err(DriverError::from),
            false => Err(DriverError::Unsupported {
                call: "shrink",
                reason: self
                    .ranges
                    .err()
                    .unwrap_or("this piece is a plain allocation"),
            }),
        };
        if result.is_err() {
            books.remove_piece(address)?;
            books.add_piece(address.0, before);
        }
        result
    }

    fn reserve(&self, bytes: u64, unit: u64) -> Result<Address, DriverError> {
        if let Err(reason) = self.ranges {
            return Err(DriverError::Unsupported {
                call: "reserve",
                reason,
            });
        }
        if unit == 0
            || !unit.is_multiple_of(self.granularity)
            || bytes == 0
            || !bytes.is_multiple_of(unit)
        {
            return Err(bad_unit(bytes));
        }
        let (library, mut books) = self.enter()?;
        let address = library.reserve(bytes, 0)?;
        books.add_range(address, bytes, unit);
        Ok(Address(address))
    }

    fn release(&self, address: Address) -> Result<(), DriverError> {
        let (library, mut books) = self.enter()?;
        let unit = books.unit(address).unwrap_or_default();
        let bytes = books.remove_range(address)?;
        if let Err(failure) = library.release_addresses(address.0, bytes) {
            books.add_range(address.0, bytes, unit);
            return Err(failure.into());
        }
        Ok(())
    }

    fn map(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        let (_library, mut books) = self.enter()?;
        books.may_map(address, bytes)?;
        let unit = books.unit(address).unwrap_or(bytes);
        self.map_units(address.0, bytes, unit)
            .map_err(|failure| self.refusal(failure, bytes, &books))?;
        books.add_mapped(address, bytes)
    }

    fn unmap(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        let turn = self.context.turn();
        let (library, mut books) = self.enter()?;
        books.remove_mapped(address, bytes)?;
        let unit = books.unit(address).unwrap_or(bytes);
        // A kernel may still be reading. Unlike `cuMemFree`, unmapping does not wait.
        let result = (self.context.finish(&library, &turn))
            .and_then(|()| self.unmap_units(address.0, bytes, unit));
        if let Err(failure) = result {
            books.add_mapped(address, bytes)?;
            return Err(failure.into());
        }
        Ok(())
    }

    fn own_bytes(&self) -> u64 {
        self.context.driver_bytes().total()
    }

    fn record_event(&self, queue: u64) -> EventId {
        self.context.record_event(queue)
    }

    fn event_done(&self, event: EventId) -> bool {
        self.context.is_event_done(event)
    }

    fn wait_event(&self, event: EventId) {
        self.context.wait_event(event);
    }

    /// Waits for all work submitted to the device before.
    unsafe fn read(&self, from: Address, into: &mut [u8]) -> Result<(), DriverError> {
        let bytes = into.len();
        self.context.check_held("a read", from, bytes as u64)?;
        let library = self.context.enter()?;
        let counters = &self.context.counters;
        count(&counters.waits, 1);
        count(&counters.reads, 1);
        count(&counters.bytes_read, bytes);
        let finished = self.context.finish(&library, &self.context.turn());
        Ok(finished.and_then(|()| library.read(from.0, into))?)
    }

    /// Waits for all work submitted to the device before.
    unsafe fn write(&self, bytes: &[u8], to: Address) -> Result<(), DriverError> {
        self.context.check_held("a write", to, bytes.len() as u64)?;
        let library = self.context.enter()?;
        let counters = &self.context.counters;
        count(&counters.waits, 1);
        count(&counters.writes, 1);
        count(&counters.bytes_written, bytes.len());
        let finished = self.context.finish(&library, &self.context.turn());
        Ok(finished.and_then(|()| library.write(to.0, bytes))?)
    }

    /// Copies through a pinned ring on a queue of its own, so that filling one part overlaps the
    /// copy of another.
    unsafe fn stage(&self, bytes: &[u8], to: Address) -> Result<(), DriverError> {
        if self.library().has_queues().is_err() {
            // SAFETY: the caller upholds the same contract.
            return unsafe { self.write(bytes, to) };
        }
        let mut loading = self.loading();
        let staging = match &mut *loading {
            Some(staging) => staging,
            empty => empty.insert(self.begin_staging()?),
        };
        let staged = staging.write(bytes, to);
        self.context.note_staged();
        Ok(staged?)
    }

    fn finish_staging(&self) -> Result<(), DriverError> {
        match self.loading().take() {
            Some(mut staging) => {
                staging.finish()?;
                self.context.forget_staged();
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Drop for CudaDriver {
    fn drop(&mut self) {
        drop(self.loading().take());
        let turn = self.context.turn();
        // Errors cannot be reported from `drop`; releasing the context frees what is left.
        let Ok((library, mut books)) = self.enter().or_else(|_| self.enter()) else {
            return;
        };
        let _ = twice(|| self.context.finish(&library, &turn));
        for (address, unit) in books.mapped_units() {
            let _ = twice(|| library.unmap(address, unit));
        }
        let (pieces, ranges) = books.drain();
        drop(books);
        for (address, bytes) in pieces {
            let _ = match self.is_in_units(Address(address)) {
                true => twice(|| self.free_units(&library, &turn, address, bytes)),
                false => twice(|| library.free(address)),
            };
        }
        for (address, bytes) in ranges {
            let _ = twice(|| library.release_addresses(address, bytes));
        }
    }
}
