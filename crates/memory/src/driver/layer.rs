//! Driver layers: each adds one concern and forwards everything else to the driver below.

use super::{
    Address, Call, DeviceMemory, Driver, DriverCapabilities, DriverError, EventId, Resident,
};
use std::fs::File;
use std::ops::Range;

/// One concern: checks before calls, records after them. A layer is also the handle to its state,
/// which all clones share.
pub trait Layer: Clone + Default + Send + Sync {
    /// Admits or refuses a call for `bytes` bytes; `memory` is the state of the driver below.
    ///
    /// # Errors
    /// If the layer refuses the call, which then does not reach the driver.
    fn before(
        &self,
        _call: Call,
        _bytes: u64,
        _memory: &dyn Fn() -> DeviceMemory,
    ) -> Result<(), DriverError> {
        Ok(())
    }

    /// Called after a piece was allocated.
    fn allocated(&self, _address: Address, _bytes: u64) {}

    /// Called after a piece was freed.
    fn freed(&self, _address: Address) {}

    /// Free and total bytes as seen through the layer.
    fn memory(&self, below: DeviceMemory) -> DeviceMemory {
        below
    }
}

/// A driver with a layer on top.
pub struct Layered<L, D> {
    pub(super) layer: L,
    below: D,
}

impl<L: Layer, D: Driver> Layered<L, D> {
    /// `below` with a fresh layer.
    pub fn new(below: D) -> Layered<L, D> {
        Layered {
            layer: L::default(),
            below,
        }
    }

    fn pass(&self, call: Call, bytes: u64) -> Result<&D, DriverError> {
        self.layer
            .before(call, bytes, &|| self.below.memory())
            .map(|()| &self.below)
    }
}

// SAFETY: every call is forwarded to the driver below, or refused.
unsafe impl<L: Layer, D: Driver> Driver for Layered<L, D> {
    fn name(&self) -> &str {
        self.below.name()
    }

    fn capabilities(&self) -> DriverCapabilities {
        self.below.capabilities()
    }

    fn memory(&self) -> DeviceMemory {
        self.layer.memory(self.below.memory())
    }

    fn allocate(&self, bytes: u64) -> Result<Address, DriverError> {
        let address = self.pass(Call::Allocate, bytes)?.allocate(bytes)?;
        self.layer.allocated(address, bytes);
        Ok(address)
    }

    fn free(&self, address: Address) -> Result<(), DriverError> {
        self.pass(Call::Free, 0)?.free(address)?;
        self.layer.freed(address);
        Ok(())
    }

    fn shrink(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        self.pass(Call::Free, 0)?.shrink(address, bytes)
    }

    fn prefer_small_pages(&self, address: Address, bytes: u64) {
        self.below.prefer_small_pages(address, bytes);
    }

    unsafe fn discard(&self, address: Address, bytes: u64) {
        // SAFETY: the caller's contract is that of the driver below.
        unsafe { self.below.discard(address, bytes) }
    }

    fn map_file(&self, file: &File, part: Range<u64>) -> Result<Address, DriverError> {
        let bytes = part.end.saturating_sub(part.start);
        let address = self.pass(Call::Allocate, bytes)?.map_file(file, part)?;
        self.layer.allocated(address, bytes);
        Ok(address)
    }

    fn reserve(&self, bytes: u64, unit: u64) -> Result<Address, DriverError> {
        // A reservation takes addresses, not bytes.
        self.pass(Call::Reserve, 0)?.reserve(bytes, unit)
    }

    fn release(&self, address: Address) -> Result<(), DriverError> {
        self.pass(Call::Release, 0)?.release(address)
    }

    fn map(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        self.pass(Call::Map, bytes)?.map(address, bytes)
    }

    fn unmap(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        self.pass(Call::Unmap, 0)?.unmap(address, bytes)
    }

    fn own_bytes(&self) -> u64 {
        self.below.own_bytes()
    }

    fn resident(&self) -> Option<Resident> {
        self.below.resident()
    }

    fn charge(&self, bytes: u64) -> Result<(), DriverError> {
        self.below.charge(bytes)
    }

    fn uncharge(&self, bytes: u64) {
        self.below.uncharge(bytes);
    }

    fn record_event(&self, queue: u64) -> EventId {
        self.below.record_event(queue)
    }

    fn event_done(&self, event: EventId) -> bool {
        self.below.event_done(event)
    }

    fn wait_event(&self, event: EventId) {
        self.below.wait_event(event);
    }

    unsafe fn read(&self, from: Address, into: &mut [u8]) -> Result<(), DriverError> {
        // SAFETY: the caller's contract is that of the driver below.
        unsafe { self.below.read(from, into) }
    }

    unsafe fn write(&self, bytes: &[u8], to: Address) -> Result<(), DriverError> {
        // SAFETY: the caller's contract is that of the driver below.
        unsafe { self.below.write(bytes, to) }
    }

    unsafe fn stage(&self, bytes: &[u8], to: Address) -> Result<(), DriverError> {
        // SAFETY: the caller's contract is that of the driver below.
        unsafe { self.below.stage(bytes, to) }
    }

    fn finish_staging(&self) -> Result<(), DriverError> {
        self.below.finish_staging()
    }
}
