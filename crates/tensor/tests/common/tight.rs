//! A driver whose pieces begin or end where what is mapped begins or ends.

use sottovoce_memory::driver::{
    Address, DeviceMemory, Driver, DriverCapabilities, DriverError, EventId,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What kernels load and store at a time.
const ALIGNMENT: u64 = 16;

/// The end of a piece beyond which nothing can be accessed.
#[derive(Clone, Copy, PartialEq)]
pub enum Edge {
    Front,
    Back,
}

/// Next to each of its pieces, on one side, is an address that cannot be accessed, so that a kernel
/// that goes past that end of a tensor or a weight with a piece of its own faults. Below it is a
/// driver that leaves gaps between pieces. It is no `Layer`, and forwards calls itself: a layer
/// changes neither the sizes nor the addresses of pieces.
pub struct Tight<D> {
    below: D,
    edge: Edge,
    /// Address given out → piece of the driver below.
    pieces: Mutex<BTreeMap<u64, Address>>,
}

impl<D: Driver> Tight<D> {
    pub fn new(below: D, edge: Edge) -> Tight<D> {
        Tight {
            below,
            edge,
            pieces: Mutex::default(),
        }
    }

    fn pieces(&self) -> MutexGuard<'_, BTreeMap<u64, Address>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unsupported<T>(call: &'static str) -> Result<T, DriverError> {
    let reason = "its pieces are of any size";
    Err(DriverError::Unsupported { call, reason })
}

// SAFETY: a piece is a part of one of the driver below, which is freed with it.
unsafe impl<D: Driver> Driver for Tight<D> {
    fn name(&self) -> &str {
        self.below.name()
    }

    fn capabilities(&self) -> DriverCapabilities {
        DriverCapabilities {
            granularity: ALIGNMENT,
            ranges: Err("its pieces are of any size"),
            ..self.below.capabilities()
        }
    }

    fn memory(&self) -> DeviceMemory {
        self.below.memory()
    }

    fn allocate(&self, bytes: u64) -> Result<Address, DriverError> {
        let whole = bytes.next_multiple_of(self.below.capabilities().granularity);
        let piece = self.below.allocate(whole)?;
        let address = match self.edge {
            Edge::Front => piece,
            Edge::Back => piece.offset(whole - bytes),
        };
        self.pieces().insert(address.0, piece);
        Ok(address)
    }

    fn free(&self, address: Address) -> Result<(), DriverError> {
        let piece = self.pieces().remove(&address.0);
        self.below.free(piece.unwrap_or(address))
    }

    fn reserve(&self, _bytes: u64, _unit: u64) -> Result<Address, DriverError> {
        unsupported("reserve")
    }

    fn release(&self, _address: Address) -> Result<(), DriverError> {
        unsupported("release")
    }

    fn map(&self, _address: Address, _bytes: u64) -> Result<(), DriverError> {
        unsupported("map")
    }

    fn unmap(&self, _address: Address, _bytes: u64) -> Result<(), DriverError> {
        unsupported("unmap")
    }

    fn own_bytes(&self) -> u64 {
        self.below.own_bytes()
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
