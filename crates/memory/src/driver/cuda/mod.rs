//! An NVIDIA device's memory through the driver API, loaded at run time: a program without a driver starts and says so.
//!
//! A range is mapped unit by unit, each unit a physical allocation of its own, because the driver unmaps only what one map
//! covered. A call that fails in the middle undoes what it did, so that a refusal changes nothing.
//!
//! Nothing in this program launches work on a CUDA queue, so queues are mere numbers here and their events count as done at once: a
//! block that was used on several queues is free again when it is given back. Whoever launches work must record events of the queues
//! behind those numbers in [`Driver::record_event`] first. What does not hang on that: before memory is unmapped the driver waits for
//! all work in the context, and the library's own free waits likewise.

mod error;
mod platform;
mod symbols;

pub use error::CudaError;
pub use platform::PlatformFacts;

use super::books::{Books, bad_unit};
use super::{Address, Capabilities, DeviceMemory, Driver, DriverError};
use serde::Serialize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use symbols::{Context, Failure, Library};

/// Unit of plain allocations: what the driver hands out to large requests.
const PIECE_UNIT: u64 = 2 << 20;

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
    /// Why expandable segments are off there, if they are.
    pub ranges_off: Option<&'static str>,
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

/// One CUDA device's memory.
pub struct CudaDriver {
    library: Library,
    context: Context,
    device: i32,
    ordinal: u32,
    name: String,
    granularity: u64,
    ranges: Result<(), &'static str>,
    driver_version: u32,
    books: Mutex<Books>,
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
        let context = library.retain_context(device)?;
        let mut driver = CudaDriver {
            library,
            context,
            device,
            ordinal,
            granularity: PIECE_UNIT,
            ranges: Ok(()),
            driver_version,
            books: Mutex::new(Books::new(
                capacity.map_or(total, |capacity| capacity.min(total)),
            )),
            name,
        };
        driver.library.enter(&driver.context)?;
        driver.ranges = driver.facts().ranges();
        if driver.ranges.is_ok() {
            driver.granularity = driver.library.granularity(device)?;
        }
        Ok(driver)
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
            ranges_off: self.ranges.err(),
        }
    }

    fn facts(&self) -> PlatformFacts {
        let attribute = |attribute| {
            self.library
                .device_attribute(attribute, self.device)
                .is_ok_and(|value| value != 0)
        };
        let address_management = attribute(symbols::ATTRIBUTE_ADDRESS_MANAGEMENT);
        let functions_present = self.library.has_ranges().is_ok();
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
        let unit = self.library.granularity(self.device)?;
        let address = self.library.reserve(unit)?;
        let mapped = self.map_units(address, unit, unit);
        let unmapped = mapped.and_then(|()| twice(|| self.library.unmap(address, unit)));
        twice(|| self.library.release_addresses(address, unit))?;
        unmapped
    }

    /// Puts memory of its own behind one unit.
    fn map_unit(&self, address: u64, unit: u64) -> Result<(), Failure> {
        let physical = self.library.create(unit, self.device)?;
        let mapped = self.library.map(address, unit, &physical);
        // From here on the map alone keeps the memory; if the map failed, this gives it back.
        let _ = twice(|| self.library.release(&physical));
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
            result = self.library.set_access(address, bytes, self.device);
        }
        if result.is_err() {
            for start in units().take(mapped) {
                twice(|| self.library.unmap(start, unit))?;
            }
        }
        result
    }

    /// Unmaps all units of a part; where one refuses, those before it get memory again, so that nothing has changed.
    fn unmap_units(&self, address: u64, bytes: u64, unit: u64) -> Result<(), Failure> {
        for start in (address..address + bytes).step_by(unit as usize) {
            if let Err(failure) = self.library.unmap(start, unit) {
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
        let device_free = self.library.memory().map_or(0, |(free, _)| free);
        DeviceMemory {
            free: free.min(device_free),
            total,
        }
    }

    /// The books, with the device's context current in this thread.
    fn enter(&self) -> Result<MutexGuard<'_, Books>, DriverError> {
        self.library.enter(&self.context)?;
        Ok(self.books())
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
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
            Ok(books) => self.memory_by(&books),
            Err(_) => DeviceMemory {
                free: 0,
                total: self.books().memory().total,
            },
        }
    }

    fn allocate(&self, bytes: u64) -> Result<Address, DriverError> {
        let whole = bytes
            .max(1)
            .checked_next_multiple_of(PIECE_UNIT)
            .unwrap_or(u64::MAX);
        let mut books = self.enter()?;
        books.room_for(whole)?;
        let address = self
            .library
            .allocate(whole)
            .map_err(|failure| self.refusal(failure, whole, &books))?;
        books.add_piece(address, whole);
        Ok(Address(address))
    }

    fn free(&self, address: Address) -> Result<(), DriverError> {
        let mut books = self.enter()?;
        let bytes = books.remove_piece(address)?;
        if let Err(failure) = self.library.free(address.0) {
            books.add_piece(address.0, bytes);
            return Err(failure.into());
        }
        Ok(())
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
        let mut books = self.enter()?;
        let address = self.library.reserve(bytes)?;
        books.add_range(address, bytes, unit);
        Ok(Address(address))
    }

    fn release(&self, address: Address) -> Result<(), DriverError> {
        let mut books = self.enter()?;
        let unit = books.unit(address).unwrap_or_default();
        let bytes = books.remove_range(address)?;
        if let Err(failure) = self.library.release_addresses(address.0, bytes) {
            books.add_range(address.0, bytes, unit);
            return Err(failure.into());
        }
        Ok(())
    }

    fn map(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        let mut books = self.enter()?;
        books.may_map(address, bytes)?;
        let unit = books.unit(address).unwrap_or(bytes);
        self.map_units(address.0, bytes, unit)
            .map_err(|failure| self.refusal(failure, bytes, &books))?;
        books.add_mapped(address, bytes)
    }

    fn unmap(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        let mut books = self.enter()?;
        books.remove_mapped(address, bytes)?;
        let unit = books.unit(address).unwrap_or(bytes);
        // A kernel may still be reading: unlike freeing, unmapping does not wait for it.
        let result =
            (self.library.synchronize()).and_then(|()| self.unmap_units(address.0, bytes, unit));
        if let Err(failure) = result {
            books.add_mapped(address, bytes)?;
            return Err(failure.into());
        }
        Ok(())
    }
}

impl Drop for CudaDriver {
    fn drop(&mut self) {
        // What fails from here on cannot be told to anybody, and the context's end gives it back.
        let _ = twice(|| self.library.enter(&self.context));
        let mut books = self.books();
        for (address, unit) in books.mapped_units() {
            let _ = twice(|| self.library.unmap(address, unit));
        }
        let (pieces, ranges) = books.drain();
        drop(books);
        for address in pieces.into_keys() {
            let _ = twice(|| self.library.free(address));
        }
        for (address, bytes) in ranges {
            let _ = twice(|| self.library.release_addresses(address, bytes));
        }
        let _ = twice(|| self.library.release_context(&self.context));
    }
}
