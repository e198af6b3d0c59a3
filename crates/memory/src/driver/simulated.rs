//! A simulated device with scripted capacity, latencies and faults; every call is counted.
//!
//! It has no bytes by default. With host bytes behind it ([`SimulatedDriver::with_bytes`])
//! arithmetic can run over it. With hidden bytes ([`SimulatedDriver::with_hidden_bytes`]) it is a
//! device whose memory the host cannot address.
//!
//! Without bytes, addresses follow Linux's placement of anonymous mappings of whole 2 MiB: from the
//! top down, in the highest gap with room for alignment to a huge page; pieces keep 2 MiB free
//! above them. Results of PyTorch's allocator over such mappings can therefore be compared byte for
//! byte, even where equal sizes are ordered by address.

use super::books::{Books, bad_unit};
use super::{
    Address, Call, DeviceMemory, Driver, DriverCapabilities, DriverError, EventId, FaultScript,
    HostDriver, Layer,
};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const GRANULARITY: u64 = 2 << 20;
/// Alignment of scripted places.
const PLACE_ALIGNMENT: u64 = 512;
/// Offset of hidden bytes from their host addresses. No address of this process lies there.
const HIDDEN_OFFSET: u64 = 1 << 60;
/// Upper end of the address space.
const TOP: u64 = 0x7f00_0000_0000;

/// A simulated device.
#[derive(Clone, Debug)]
pub struct SimulatedDriver {
    state: Arc<Mutex<State>>,
    script: FaultScript,
    /// The bytes behind the device, if any.
    bytes: Option<Backing>,
}

/// Host memory that stands for the device's memory.
#[derive(Clone, Debug)]
struct Backing {
    host: Arc<HostDriver>,
    /// Device address minus host address.
    shift: u64,
}

impl Backing {
    /// The host address of a device address.
    fn host(&self, address: Address) -> Address {
        Address(address.0 - self.shift)
    }

    /// The device address of a host address.
    fn device(&self, address: Address) -> u64 {
        address.0 + self.shift
    }
}

/// The control of a [`SimulatedDriver`]: its script, clock and events.
#[derive(Clone, Debug)]
pub struct SimulatedControl {
    state: Arc<Mutex<State>>,
    script: FaultScript,
}

impl Deref for SimulatedControl {
    type Target = FaultScript;

    fn deref(&self) -> &FaultScript {
        &self.script
    }
}

#[derive(Debug)]
struct State {
    books: Books,
    /// Occupied addresses: start → end.
    occupied: BTreeMap<u64, u64>,
    /// Scripted addresses by piece size, used first.
    places: HashMap<u64, VecDeque<u64>>,
    ranges_supported: Result<(), &'static str>,
    latencies: BTreeMap<Call, Duration>,
    time: Duration,
    /// Events stay incomplete while held.
    events_held: bool,
    next_event: u64,
    done_before: u64,
}

impl SimulatedDriver {
    /// A device of `capacity` bytes on which every call takes no time.
    pub fn new(capacity: u64) -> SimulatedDriver {
        SimulatedDriver {
            state: Arc::new(Mutex::new(State {
                books: Books::new(capacity),
                occupied: BTreeMap::new(),
                places: HashMap::new(),
                ranges_supported: Ok(()),
                latencies: BTreeMap::new(),
                time: Duration::ZERO,
                events_held: false,
                next_event: 0,
                done_before: 0,
            })),
            script: FaultScript::default(),
            bytes: None,
        }
    }

    /// Adds host memory, in pages of this system: the bytes can be read and written, and scripted
    /// places ([`SimulatedDriver::with_places`]) are ignored.
    pub fn with_bytes(self) -> SimulatedDriver {
        self.backed(0)
    }

    /// As [`SimulatedDriver::with_bytes`], but the bytes are accessible through [`Driver::read`]
    /// and [`Driver::write`] only. A dereferenced device address faults.
    pub fn with_hidden_bytes(self) -> SimulatedDriver {
        self.backed(HIDDEN_OFFSET)
    }

    fn backed(self, shift: u64) -> SimulatedDriver {
        SimulatedDriver {
            bytes: Some(Backing {
                host: Arc::new(HostDriver::new(u64::MAX)),
                shift,
            }),
            ..self
        }
    }

    /// Sets the simulated latency of a kind of call.
    pub fn with_latency(self, call: Call, latency: Duration) -> SimulatedDriver {
        lock(&self.state).latencies.insert(call, latency);
        self
    }

    /// Removes virtual memory management, for the given reason.
    pub fn without_ranges(self, reason: &'static str) -> SimulatedDriver {
        lock(&self.state).ranges_supported = Err(reason);
        self
    }

    /// Scripts the first addresses for pieces of these sizes, in this order and as far as they are
    /// free: a replay of another device's placement.
    pub fn with_places(self, places: &[(Address, u64)]) -> SimulatedDriver {
        let mut state = lock(&self.state);
        for &(Address(address), bytes) in places {
            state.places.entry(bytes).or_default().push_back(address);
        }
        drop(state);
        self
    }

    /// The device's control.
    pub fn control(&self) -> SimulatedControl {
        SimulatedControl {
            state: Arc::clone(&self.state),
            script: self.script.clone(),
        }
    }

    fn granularity(&self) -> u64 {
        let of_bytes = |bytes: &Backing| bytes.host.capabilities().granularity;
        self.bytes.as_ref().map_or(GRANULARITY, of_bytes)
    }

    fn ranges(&self, state: &State) -> Result<(), &'static str> {
        state.ranges_supported?;
        (self.bytes.as_ref()).map_or(Ok(()), |bytes| bytes.host.capabilities().ranges)
    }

    /// The bytes behind a span of addresses, after a check of its bounds.
    fn backing(
        &self,
        call: &'static str,
        address: Address,
        bytes: usize,
    ) -> Result<&Backing, DriverError> {
        let backing = (self.bytes.as_ref()).ok_or(DriverError::Unsupported {
            call,
            reason: "this device has no bytes",
        })?;
        let bytes = bytes as u64;
        match lock(&self.state).books.holds(address, bytes) {
            true => Ok(backing),
            false => Err(DriverError::Misuse {
                call,
                address,
                bytes,
                reason: "the span does not lie in one piece or mapped part",
            }),
        }
    }

    /// Counts a call for `bytes` bytes and its latency; fails it if the script says so.
    fn begin(&self, call: Call, bytes: u64) -> Result<MutexGuard<'_, State>, DriverError> {
        let mut state = lock(&self.state);
        let latency = state.latencies.get(&call).copied().unwrap_or_default();
        state.time += latency;
        (self.script).before(call, bytes, &|| state.books.memory())?;
        Ok(state)
    }
}

impl SimulatedControl {
    /// Holds events back, which keeps them incomplete, or completes those recorded so far and all
    /// later ones.
    pub fn hold_events(&self, held: bool) {
        let mut state = lock(&self.state);
        state.events_held = held;
        state.done_before = state.next_event;
    }

    /// Sum of all calls' latencies.
    pub fn time(&self) -> Duration {
        lock(&self.state).time
    }
}

impl State {
    /// Occupies the next scripted place for a piece of `bytes`, if one is left and free.
    fn scripted_place(&mut self, bytes: u64) -> Option<u64> {
        let address = self.places.get_mut(&bytes)?.pop_front()?;
        let end = address.checked_add(bytes)?;
        let below = self.occupied.range(..end).next_back();
        let free = below.is_none_or(|(_, &occupied_end)| occupied_end <= address);
        if address == 0 || !address.is_multiple_of(PLACE_ALIGNMENT) || !free {
            return None;
        }
        self.occupied.insert(address, end);
        Some(address)
    }

    /// Occupies `bytes` of addresses with `headroom` bytes free above them, in the highest gap that
    /// also fits a huge page.
    fn place(&mut self, call: Call, bytes: u64, headroom: u64) -> Result<u64, DriverError> {
        let placed = bytes.saturating_add(headroom);
        let wanted = placed.saturating_add(GRANULARITY);
        let mut gap_end = TOP;
        for (&start, &end) in self.occupied.iter().rev() {
            // A scripted place may lie above the top.
            if gap_end.saturating_sub(end) >= wanted {
                break;
            }
            gap_end = start.min(TOP);
        }
        match gap_end.checked_sub(wanted) {
            Some(low) if low > 0 => {
                let address = gap_end - placed;
                self.occupied.insert(address, address + bytes);
                Ok(address)
            }
            _ => Err(DriverError::Failed {
                call: call.name(),
                message: format!("no free address range of {bytes} bytes is left"),
            }),
        }
    }
}

// SAFETY: if the device's memory is not host-accessible, no bytes need to be valid. Otherwise every
// piece and every mapped part is the host driver's, and the books here admit every call that
// reaches it.
unsafe impl Driver for SimulatedDriver {
    fn name(&self) -> &str {
        "simulated"
    }

    fn capabilities(&self) -> DriverCapabilities {
        DriverCapabilities {
            granularity: self.granularity(),
            ranges: self.ranges(&lock(&self.state)),
            host_accessible: (self.bytes.as_ref()).is_some_and(|bytes| bytes.shift == 0),
        }
    }

    fn memory(&self) -> DeviceMemory {
        self.script.memory(lock(&self.state).books.memory())
    }

    fn allocate(&self, bytes: u64) -> Result<Address, DriverError> {
        let whole = bytes
            .max(1)
            .checked_next_multiple_of(self.granularity())
            .unwrap_or(u64::MAX);
        let mut state = self.begin(Call::Allocate, whole)?;
        let address = if let Some(bytes) = &self.bytes {
            bytes.device(bytes.host.allocate(whole)?)
        } else if let Some(address) = state.scripted_place(whole) {
            address
        } else {
            state.place(Call::Allocate, whole, GRANULARITY)?
        };
        state.books.add_piece(address, whole);
        Ok(Address(address))
    }

    fn free(&self, address: Address) -> Result<(), DriverError> {
        let mut state = self.begin(Call::Free, 0)?;
        state.books.remove_piece(address)?;
        state.occupied.remove(&address.0);
        (self.bytes.as_ref()).map_or(Ok(()), |bytes| bytes.host.free(bytes.host(address)))
    }

    fn shrink(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        let whole = (bytes.checked_next_multiple_of(self.granularity())).unwrap_or(u64::MAX);
        let mut state = self.begin(Call::Free, 0)?;
        state.books.shrink_piece(address, whole)?;
        if let Some(backing) = &self.bytes {
            backing.host.shrink(backing.host(address), whole)?;
        }
        if let Some(end) = state.occupied.get_mut(&address.0) {
            *end = address.0 + whole;
        }
        Ok(())
    }

    fn reserve(&self, bytes: u64, unit: u64) -> Result<Address, DriverError> {
        let mut state = self.begin(Call::Reserve, 0)?;
        if let Err(reason) = self.ranges(&state) {
            return Err(DriverError::Unsupported {
                call: "reserve",
                reason,
            });
        }
        if unit == 0
            || !unit.is_multiple_of(self.granularity())
            || bytes == 0
            || !bytes.is_multiple_of(unit)
        {
            return Err(bad_unit(bytes));
        }
        let address = match &self.bytes {
            Some(backing) => backing.device(backing.host.reserve(bytes, unit)?),
            None => state.place(Call::Reserve, bytes, 0)?,
        };
        state.books.add_range(address, bytes, unit);
        Ok(Address(address))
    }

    fn release(&self, address: Address) -> Result<(), DriverError> {
        let mut state = self.begin(Call::Release, 0)?;
        state.books.remove_range(address)?;
        state.occupied.remove(&address.0);
        (self.bytes.as_ref()).map_or(Ok(()), |bytes| bytes.host.release(bytes.host(address)))
    }

    fn map(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        let mut state = self.begin(Call::Map, bytes)?;
        state.books.may_map(address, bytes)?;
        if let Some(backing) = &self.bytes {
            backing.host.map(backing.host(address), bytes)?;
        }
        state.books.add_mapped(address, bytes)
    }

    fn unmap(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        let mut state = self.begin(Call::Unmap, 0)?;
        state.books.remove_mapped(address, bytes)?;
        (self.bytes.as_ref()).map_or(Ok(()), |backing| {
            backing.host.unmap(backing.host(address), bytes)
        })
    }

    fn record_event(&self, _queue: u64) -> EventId {
        let mut state = lock(&self.state);
        let event = EventId(state.next_event);
        state.next_event += 1;
        if !state.events_held {
            state.done_before = state.next_event;
        }
        event
    }

    fn event_done(&self, event: EventId) -> bool {
        event.0 < lock(&self.state).done_before
    }

    fn wait_event(&self, event: EventId) {
        let mut state = lock(&self.state);
        state.done_before = state.done_before.max(event.0 + 1);
    }

    fn charge(&self, bytes: u64) -> Result<(), DriverError> {
        let mut state = lock(&self.state);
        state.books.room_for(bytes)?;
        state.books.add_driver_bytes(bytes);
        Ok(())
    }

    fn uncharge(&self, bytes: u64) {
        lock(&self.state).books.remove_driver_bytes(bytes);
    }

    unsafe fn read(&self, from: Address, into: &mut [u8]) -> Result<(), DriverError> {
        let backing = self.backing("read", from, into.len())?;
        // SAFETY: the caller's contract is that of the host driver, whose bytes these are.
        unsafe { backing.host.read(backing.host(from), into) }
    }

    unsafe fn write(&self, bytes: &[u8], to: Address) -> Result<(), DriverError> {
        let backing = self.backing("write", to, bytes.len())?;
        // SAFETY: the caller's contract is that of the host driver, whose bytes these are.
        unsafe { backing.host.write(bytes, backing.host(to)) }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
