//! A device without bytes: capacity, latencies and faults by script, every call counted.
//!
//! Addresses are given out as Linux gives them out to anonymous maps of whole 2 MiB: from the top down, in the highest gap
//! with room for alignment to a huge page; pieces keep 2 MiB free above them. Results that PyTorch's allocator gave over such
//! maps can therefore be compared to the byte, also where equal sizes are told apart by address.

use super::books::{Books, bad_unit};
use super::{Address, Capabilities, DeviceMemory, Driver, DriverError, EventId};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const GRANULARITY: u64 = 2 << 20;
/// Pieces that are meant to be somewhere begin at multiples of this.
const PLACE_UNIT: u64 = 512;
/// Addresses end below this.
const TOP: u64 = 0x7f00_0000_0000;

/// A kind of driver call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// [`Driver::allocate`]
    Allocate,
    /// [`Driver::free`]
    Free,
    /// [`Driver::reserve`]
    Reserve,
    /// [`Driver::release`]
    Release,
    /// [`Driver::map`]
    Map,
    /// [`Driver::unmap`]
    Unmap,
}

impl Call {
    /// The method's name.
    pub fn name(self) -> &'static str {
        match self {
            Call::Allocate => "allocate",
            Call::Free => "free",
            Call::Reserve => "reserve",
            Call::Release => "release",
            Call::Map => "map",
            Call::Unmap => "unmap",
        }
    }
}

/// A simulated device.
#[derive(Clone, Debug)]
pub struct SimulatedDriver {
    state: Arc<Mutex<State>>,
}

/// The other end of a [`SimulatedDriver`]: what a test or a script does to the device while a pool uses it.
#[derive(Clone, Debug)]
pub struct SimulatedControl {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    books: Books,
    /// Bytes that another process took: they are neither free nor ours.
    taken: u64,
    /// Occupied addresses: start → end.
    occupied: BTreeMap<u64, u64>,
    /// Bytes → where pieces of this size go first.
    places: HashMap<u64, VecDeque<u64>>,
    ranges_supported: Result<(), &'static str>,
    calls: BTreeMap<Call, u64>,
    call_count: u64,
    /// Numbers of the calls, counted from the first, that fail.
    failing: BTreeSet<u64>,
    latencies: BTreeMap<Call, Duration>,
    time: Duration,
    /// Events stay undone while held.
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
                taken: 0,
                occupied: BTreeMap::new(),
                places: HashMap::new(),
                ranges_supported: Ok(()),
                calls: BTreeMap::new(),
                call_count: 0,
                failing: BTreeSet::new(),
                latencies: BTreeMap::new(),
                time: Duration::ZERO,
                events_held: false,
                next_event: 0,
                done_before: 0,
            })),
        }
    }

    /// The same device where a call of this kind takes so long, in simulated time.
    pub fn with_latency(self, call: Call, latency: Duration) -> SimulatedDriver {
        lock(&self.state).latencies.insert(call, latency);
        self
    }

    /// The same device without virtual memory management, for this reason.
    pub fn without_ranges(self, reason: &'static str) -> SimulatedDriver {
        lock(&self.state).ranges_supported = Err(reason);
        self
    }

    /// The same device that gives out pieces of these sizes at these addresses first, in this order, as far as they are free; as
    /// another device did whose run is repeated.
    pub fn with_places(self, places: &[(Address, u64)]) -> SimulatedDriver {
        let mut state = lock(&self.state);
        for &(Address(address), bytes) in places {
            state.places.entry(bytes).or_default().push_back(address);
        }
        drop(state);
        self
    }

    /// The device's other end.
    pub fn control(&self) -> SimulatedControl {
        SimulatedControl {
            state: Arc::clone(&self.state),
        }
    }

    /// Counts a call and its time; fails it if the script says so.
    fn begin(&self, call: Call, bytes: u64) -> Result<MutexGuard<'_, State>, DriverError> {
        let mut state = lock(&self.state);
        *state.calls.entry(call).or_default() += 1;
        let latency = state.latencies.get(&call).copied().unwrap_or_default();
        state.time += latency;
        let number = state.call_count;
        state.call_count += 1;
        if !state.failing.remove(&number) {
            return Ok(state);
        }
        match call {
            Call::Allocate | Call::Map => {
                let DeviceMemory { total, .. } = state.books.memory();
                Err(DriverError::OutOfMemory {
                    requested: bytes,
                    free: 0,
                    total,
                })
            }
            other => Err(DriverError::Failed {
                call: other.name(),
                message: format!("call {number} fails by script"),
            }),
        }
    }
}

impl SimulatedControl {
    /// Sets the device's total bytes; what is used stays used.
    pub fn set_capacity(&self, capacity: u64) {
        lock(&self.state).books.set_capacity(capacity);
    }

    /// Takes `bytes` of the device for another process, replacing what it had taken before.
    pub fn take(&self, bytes: u64) {
        lock(&self.state).taken = bytes;
    }

    /// Lets a coming call fail: 0 is the next one.
    pub fn fail_call(&self, calls_ahead: u64) {
        let mut state = lock(&self.state);
        let number = state.call_count + calls_ahead;
        state.failing.insert(number);
    }

    /// Holds events back (they stay undone), or lets those recorded so far and all later ones be done.
    pub fn hold_events(&self, held: bool) {
        let mut state = lock(&self.state);
        state.events_held = held;
        state.done_before = state.next_event;
    }

    /// Calls so far, of one kind.
    pub fn calls(&self, call: Call) -> u64 {
        lock(&self.state)
            .calls
            .get(&call)
            .copied()
            .unwrap_or_default()
    }

    /// Calls so far, of all kinds.
    pub fn call_count(&self) -> u64 {
        lock(&self.state).call_count
    }

    /// The sum of all calls' latencies.
    pub fn time(&self) -> Duration {
        lock(&self.state).time
    }
}

impl State {
    fn memory(&self) -> DeviceMemory {
        let DeviceMemory { free, total } = self.books.memory();
        DeviceMemory {
            free: free.saturating_sub(self.taken),
            total,
        }
    }

    fn room_for(&self, bytes: u64) -> Result<(), DriverError> {
        let DeviceMemory { free, total } = self.memory();
        if bytes > free {
            Err(DriverError::OutOfMemory {
                requested: bytes,
                free,
                total,
            })
        } else {
            Ok(())
        }
    }

    /// Occupies the next place meant for a piece of `bytes`, if there is one and it can be had.
    fn place_as_meant(&mut self, bytes: u64) -> Option<u64> {
        let address = self.places.get_mut(&bytes)?.pop_front()?;
        let end = address.checked_add(bytes)?;
        let below = self.occupied.range(..end).next_back();
        let free = below.is_none_or(|(_, &occupied_end)| occupied_end <= address);
        if address == 0 || !address.is_multiple_of(PLACE_UNIT) || !free {
            return None;
        }
        self.occupied.insert(address, end);
        Some(address)
    }

    /// Occupies `bytes` of addresses below `headroom` more, in the highest gap that would take a huge page besides.
    fn place(&mut self, call: Call, bytes: u64, headroom: u64) -> Result<u64, DriverError> {
        let placed = bytes.saturating_add(headroom);
        let wanted = placed.saturating_add(GRANULARITY);
        let mut gap_end = TOP;
        for (&start, &end) in self.occupied.iter().rev() {
            // What was meant to be elsewhere may lie above the top.
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
                message: format!("no addresses for {bytes} bytes are left"),
            }),
        }
    }
}

// SAFETY: the device's memory is not accessible to the host, so there are no bytes to be valid.
unsafe impl Driver for SimulatedDriver {
    fn name(&self) -> &str {
        "simulated"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            granularity: GRANULARITY,
            ranges: lock(&self.state).ranges_supported,
            host_accessible: false,
        }
    }

    fn memory(&self) -> DeviceMemory {
        lock(&self.state).memory()
    }

    fn allocate(&self, bytes: u64) -> Result<Address, DriverError> {
        let mut state = self.begin(Call::Allocate, bytes)?;
        let whole = bytes
            .max(1)
            .checked_next_multiple_of(GRANULARITY)
            .unwrap_or(u64::MAX);
        state.room_for(whole)?;
        let address = match state.place_as_meant(whole) {
            Some(address) => address,
            None => state.place(Call::Allocate, whole, GRANULARITY)?,
        };
        state.books.add_piece(address, whole);
        Ok(Address(address))
    }

    fn free(&self, address: Address) -> Result<(), DriverError> {
        let mut state = self.begin(Call::Free, 0)?;
        state.books.remove_piece(address)?;
        state.occupied.remove(&address.0);
        Ok(())
    }

    fn reserve(&self, bytes: u64, unit: u64) -> Result<Address, DriverError> {
        let mut state = self.begin(Call::Reserve, bytes)?;
        if let Err(reason) = state.ranges_supported {
            return Err(DriverError::Unsupported {
                call: "reserve",
                reason,
            });
        }
        if unit == 0
            || !unit.is_multiple_of(GRANULARITY)
            || bytes == 0
            || !bytes.is_multiple_of(unit)
        {
            return Err(bad_unit(bytes));
        }
        let address = state.place(Call::Reserve, bytes, 0)?;
        state.books.add_range(address, bytes, unit);
        Ok(Address(address))
    }

    fn release(&self, address: Address) -> Result<(), DriverError> {
        let mut state = self.begin(Call::Release, 0)?;
        state.books.remove_range(address)?;
        state.occupied.remove(&address.0);
        Ok(())
    }

    fn map(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        let mut state = self.begin(Call::Map, bytes)?;
        state.room_for(bytes)?;
        state.books.may_map(address, bytes)?;
        state.books.add_mapped(address, bytes)
    }

    fn unmap(&self, address: Address, bytes: u64) -> Result<(), DriverError> {
        let mut state = self.begin(Call::Unmap, bytes)?;
        state.books.remove_mapped(address, bytes)
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
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
