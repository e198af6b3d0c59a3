//! An NVIDIA device's memory through the driver API, loaded at run time: a program without a driver
//! starts and says so.
//!
//! A range is mapped unit by unit, each unit a physical allocation of its own, because the driver
//! unmaps only what one map covered. A call that fails in the middle undoes what it did, so that a
//! refusal changes nothing.
//!
//! Beside its memory ([`CudaDriver`]) the device has queues ([`Queue`]), kernels ([`Module`],
//! [`Kernel`]) and graphs ([`Graph`]), all of one context ([`CudaContext`]). The pool knows queues
//! by their numbers: an event of a number that is a [`Queue`]'s is done when its work is; others
//! have no work. What the driver takes for itself (its context, modules, graphs) is measured and
//! booked: it counts against the capacity. Before memory is unmapped the driver waits for all work
//! in the context, as the library's own free does.
//!
//! An error after which a context does nothing any more (an illegal address, a card that is gone)
//! is remembered: from then on every call says so without calling the library, nothing waits, and
//! dropping everything gives the context back.

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
pub use limits::{DriverBytes, Limits};
pub use module::{Kernel, LaunchShape, Module};
pub use platform::PlatformFacts;
pub use queue::{PARAMETERS_MAX, Queue};
pub use staging::Staging;

use super::books::{Books, bad_unit};
use super::{Address, Capabilities, DeviceMemory, Driver, DriverError, EventId};
use context::count;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use symbols::{Failure, Library};

/// Unit of plain allocations: what the driver hands out to large requests.
const PIECE_UNIT: u64 = 2 << 20;
/// Parts of the pinned ring through which weights are loaded, and bytes of each: one is filled
/// while the other is copied.
const LOADING: (usize, usize) = (2, 4 << 20);

/// A CUDA device, without any of its memory taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CudaDevice {
    /// Its number, from 0.
    pub ordinal: u32,
    /// Its name, as the driver gives it.
    pub name: String,
    /// All its memory, in bytes.
    pub total_bytes: u64,
    /// Its memory that is free now, in bytes.
    pub free_bytes: u64,
    /// The newest CUDA version that the driver knows: 1000 × major + 10 × minor.
    pub driver_version: u32,
    /// Its compute capability.
    pub generation: Generation,
    /// Why expandable segments are off there, if they are.
    pub ranges_off: Option<&'static str>,
    /// Why nothing can be computed there, if so.
    pub compute_off: Option<String>,
    /// Device memory that the driver holds for its context, in bytes.
    pub driver_bytes: DriverBytes,
}

/// Every CUDA device of this machine.
///
/// # Errors
/// If there is no driver, or it does not work.
pub fn devices() -> Result<Vec<CudaDevice>, CudaError> {
    let count = Library::load()?.device_count()?;
    (0..u32::try_from(count).unwrap_or(0))
        .map(|ordinal| Ok(CudaDriver::open(ordinal, None)?.device()))
        .collect()
}

/// How many CUDA devices this machine has; none of them is touched.
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
    /// The pinned ring for what is staged, while something is.
    loading: Mutex<Option<Staging>>,
    /// The addresses behind pieces that are mapped unit by unit, in bytes: a piece that shrank
    /// keeps them.
    reserved: Mutex<BTreeMap<u64, u64>>,
}

impl CudaDriver {
    /// Device `ordinal`, of which at most `capacity` bytes are used; without it, all that it has.
    ///
    /// # Errors
    /// If there is no driver, no such device, or the driver does not work.
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
        driver.ranges = driver.facts().ranges();
        if driver.ranges.is_ok() {
            driver.granularity = driver.library().granularity(device)?;
        }
        Ok(driver)
    }

    /// The device's context, for queues, modules and graphs.
    pub fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    /// The device as it is now.
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

    /// Reserves, maps and gives back one unit.
    fn probe(&self) -> Result<(), Failure> {
        let unit = self.library().granularity(self.context.device)?;
        let address = self.library().reserve(unit, 0)?;
        let mapped = self.map_units(address, unit, unit);
        let unmapped = mapped.and_then(|()| twice(|| self.library().unmap(address, unit)));
        twice(|| self.library().release_addresses(address, unit))?;
        unmapped
    }

    /// Puts memory of its own behind one unit.
    fn map_unit(&self, address: u64, unit: u64) -> Result<(), Failure> {
        let physical = self.library().create(unit, self.context.device)?;
        let mapped = self.library().map(address, unit, &physical);
        // From here on the map alone keeps the memory; if the map failed, this gives it back.
        let _ = twice(|| self.library().release(&physical));
        mapped
    }

    /// Maps all units of a part and makes them accessible, or none of them.
    fn map_units(&self, address: u64, bytes: u64, unit: u64) -> Result<(), Failure> {
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

    /// Unmaps all units of a part; where one refuses, those before it get memory again, so that
    /// nothing has changed.
    fn unmap_units(&self, address: u64, bytes: u64, unit: u64) -> Result<(), Failure> {
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

    fn refusal(&self, failure: Failure, requested: u64, books: &Books) -> DriverError {
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

    /// What the device has free, as far as the capacity allows it.
    fn memory_by(&self, books: &Books) -> DeviceMemory {
        let DeviceMemory { free, total } = books.memory();
        let device_free = self.library().memory().map_or(0, |(free, _)| free);
        DeviceMemory {
            free: free.min(device_free),
            total,
        }
    }

    /// A piece whose units are mapped one by one, so that its end can be given back.
    fn allocate_units(&self, library: &Library, bytes: u64) -> Result<u64, Failure> {
        let address = library.reserve(bytes, self.granularity)?;
        if let Err(failure) = self.map_units(address, bytes, self.granularity) {
            twice(|| library.release_addresses(address, bytes))?;
            return Err(failure);
        }
        self.reserved().insert(address, bytes);
        Ok(address)
    }

    /// Gives such a piece back, of which `bytes` are left.
    fn free_units(&self, library: &Library, address: u64, bytes: u64) -> Result<(), Failure> {
        // A kernel may still be reading: unlike freeing, unmapping does not wait for it.
        (library.synchronize())
            .and_then(|()| self.unmap_units(address, bytes, self.granularity))?;
        let reserved = self.reserved().remove(&address).unwrap_or(bytes);
        // Addresses that stay reserved take no memory, so there is nothing to undo.
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

    /// A pinned ring on a queue of its own, once what may still use the memory is done.
    fn begin_staging(&self) -> Result<Staging, CudaError> {
        let queue = Arc::new(Queue::unnumbered(&self.context)?);
        queue.act(Library::synchronize)?;
        Staging::new(&queue, LOADING.0, LOADING.1)
    }

    fn library(&self) -> &Library {
        self.context.library()
    }

    fn enter(&self) -> Result<(&Library, MutexGuard<'_, Books>), DriverError> {
        self.context.enter_books()
    }
}

/// Does what gives something back, and again if it is refused: nobody else would give it back.
fn twice(call: impl Fn() -> Result<(), Failure>) -> Result<(), Failure> {
    call().or_else(|_| call())
}

// SAFETY: the device's memory is not accessible to the host, so there are no bytes to be valid.
unsafe impl Driver for CudaDriver {
    fn name(&self) -> &str {
        "cuda"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
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
            Ok(()) => self.allocate_units(library, whole),
            Err(_) => library.allocate(whole),
        }
        .map_err(|failure| self.refusal(failure, whole, &books))?;
        books.add_piece(address, whole);
        Ok(Address(address))
    }

    fn free(&self, address: Address) -> Result<(), DriverError> {
        let (library, mut books) = self.enter()?;
        let bytes = books.remove_piece(address)?;
        let result = match self.is_in_units(address) {
            true => self.free_units(library, address.0, bytes),
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
        let (library, mut books) = self.enter()?;
        let before = books.shrink_piece(address, bytes)?;
        let result = match self.is_in_units(address) {
            // A kernel may still be reading.
            true => (library.synchronize())
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
        let (_, mut books) = self.enter()?;
        books.may_map(address, bytes)?;
        let unit = books.unit(address).unwrap_or(bytes);
        self.map_units(address.0, bytes, unit)
            .map_err(|failure| self.refusal(failure, bytes, &books))?;
        books.add_mapped(address, bytes)
    }

    fn unmap(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        let (library, mut books) = self.enter()?;
        books.remove_mapped(address, bytes)?;
        let unit = books.unit(address).unwrap_or(bytes);
        // A kernel may still be reading: unlike freeing, unmapping does not wait for it.
        let result =
            (library.synchronize()).and_then(|()| self.unmap_units(address.0, bytes, unit));
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

    /// Waits for all work that the device has been given first.
    unsafe fn read(&self, from: Address, into: &mut [u8]) -> Result<(), DriverError> {
        let bytes = into.len();
        self.context.check_held("a read", from, bytes as u64)?;
        let library = self.context.enter()?;
        let counters = &self.context.counters;
        count(&counters.waits, 1);
        count(&counters.reads, 1);
        count(&counters.bytes_read, bytes);
        Ok((library.synchronize()).and_then(|()| library.read(from.0, into))?)
    }

    /// Waits for all work that the device has been given first.
    unsafe fn write(&self, bytes: &[u8], to: Address) -> Result<(), DriverError> {
        self.context.check_held("a write", to, bytes.len() as u64)?;
        let library = self.context.enter()?;
        let counters = &self.context.counters;
        count(&counters.waits, 1);
        count(&counters.writes, 1);
        count(&counters.bytes_written, bytes.len());
        Ok((library.synchronize()).and_then(|()| library.write(to.0, bytes))?)
    }

    /// Through a pinned ring on a queue of the driver's own, so that the next bytes are made ready
    /// while these are copied.
    unsafe fn stage(&self, bytes: &[u8], to: Address) -> Result<(), DriverError> {
        if self.library().has_queues().is_err() {
            // SAFETY: the caller's promise is the same.
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
        // What fails from here on cannot be told to anybody, and the context's end gives it back.
        let Ok((library, mut books)) = self.enter().or_else(|_| self.enter()) else {
            return;
        };
        let _ = twice(|| library.synchronize());
        for (address, unit) in books.mapped_units() {
            let _ = twice(|| library.unmap(address, unit));
        }
        let (pieces, ranges) = books.drain();
        drop(books);
        for (address, bytes) in pieces {
            let _ = match self.is_in_units(Address(address)) {
                true => twice(|| self.free_units(library, address, bytes)),
                false => twice(|| library.free(address)),
            };
        }
        for (address, bytes) in ranges {
            let _ = twice(|| library.release_addresses(address, bytes));
        }
    }
}
