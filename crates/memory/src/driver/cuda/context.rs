//! A device's primary context: the state shared by its memory driver, queues, modules and graphs.

use super::error::CudaError;
use super::image::Generation;
use super::limits::{ContextLimits, DriverBytes};
use super::management::Management;
use super::symbols::{self, CallFailure, Entered, Event, Library, Stream};
use super::twice;
use crate::driver::books::Books;
use crate::driver::{Address, DeviceMemory, DriverError, EventId};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

/// Event that is always complete.
const DONE: EventId = EventId(0);

/// Calls and traffic of a device since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Kernels launched one by one or captured.
    pub launches: u64,
    /// Those of them that may begin while the kernel before is at work.
    pub early_launches: u64,
    /// Graph launches.
    pub graph_launches: u64,
    /// Copies to the device.
    pub writes: u64,
    /// Bytes copied to the device.
    pub bytes_written: u64,
    /// Copies from the device.
    pub reads: u64,
    /// Bytes copied from the device.
    pub bytes_read: u64,
    /// Times the host waited for the device.
    pub waits: u64,
    /// Calls to the driver's library, including all of the above.
    pub calls: u64,
}

/// Counters behind [`Counts`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub launches: AtomicU64,
    pub early_launches: AtomicU64,
    pub graph_launches: AtomicU64,
    pub writes: AtomicU64,
    pub bytes_written: AtomicU64,
    pub reads: AtomicU64,
    pub bytes_read: AtomicU64,
    pub waits: AtomicU64,
}

/// Adds to a counter.
pub(super) fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

/// A device's primary context. Every user of the device holds a reference; dropping the last one
/// releases the context.
pub struct CudaContext {
    library: Library,
    context: symbols::Context,
    pub(super) device: i32,
    generation: Generation,
    limits: ContextLimits,
    driver_bytes: Mutex<DriverBytes>,
    books: Mutex<Books>,
    queues: Mutex<BTreeMap<u64, Stream>>,
    /// Own queues, numbered or not, and adopted ones: all that may use this context's memory.
    streams: Mutex<Vec<Stream>>,
    /// Held while a queue captures, and by calls that a capture forbids.
    capture: Mutex<()>,
    /// The thread that captures.
    capturing: Mutex<Option<ThreadId>>,
    events: Mutex<Events>,
    pub(super) counters: Counters,
    /// Whether a kernel has been launched outside a graph.
    has_launched: AtomicBool,
    /// Whether copies may be under way on the driver's own queue.
    staged: AtomicBool,
    /// Pinned host memory, in bytes.
    pinned: AtomicU64,
}

/// Events that the pool may wait for.
#[derive(Debug)]
struct Events {
    next: u64,
    pending: BTreeMap<u64, Event>,
    /// Completed events for reuse.
    spare: Vec<Event>,
}

impl CudaContext {
    /// Retains a device's primary context and measures the device memory that it takes. If nobody
    /// else uses the context, its limits are lowered first.
    pub(super) fn retain(
        library: Library,
        device: i32,
        capacity: u64,
    ) -> Result<CudaContext, CudaError> {
        let shared = library.is_active(device)?;
        let attribute = |attribute| {
            library
                .device_attribute(attribute, device)
                .map(i32::unsigned_abs)
        };
        let generation = Generation {
            major: attribute(symbols::ATTRIBUTE_MAJOR)?,
            minor: attribute(symbols::ATTRIBUTE_MINOR)?,
        };
        // Without a context, only the management library can report free memory.
        let management = match shared {
            true => None,
            false => (library.pci_address(device)).and_then(|address| Management::find(&address)),
        };
        let free_before = management.as_ref().and_then(Management::free_bytes);
        let context = library.retain_context(device).map_err(|failure| {
            if failure.status != symbols::OUT_OF_MEMORY {
                return failure.into();
            }
            CudaError::NoRoom {
                free: free_before,
                total: library.device_total_memory(device).unwrap_or(capacity),
            }
        })?;
        // From here on, dropping `context` releases it on every error path.
        let mut context = CudaContext {
            library,
            context,
            device,
            generation,
            limits: ContextLimits::default(),
            driver_bytes: Mutex::default(),
            books: Mutex::new(Books::new(capacity)),
            queues: Mutex::default(),
            streams: Mutex::default(),
            capture: Mutex::default(),
            capturing: Mutex::default(),
            events: Mutex::new(Events {
                next: DONE.0 + 1,
                pending: BTreeMap::new(),
                spare: Vec::new(),
            }),
            counters: Counters::default(),
            has_launched: AtomicBool::new(false),
            staged: AtomicBool::new(false),
            pinned: AtomicU64::new(0),
        };
        let entered = context.library.enter(&context.context)?;
        if let (Some(management), Some(before)) = (&management, free_before)
            && let Some(after) = management.free_bytes()
        {
            let bytes = before.saturating_sub(after);
            lock(&context.driver_bytes).context = Some(bytes);
            context.books().add_driver_bytes(bytes);
        }
        let limits = match shared {
            true => ContextLimits::read(&entered),
            false => ContextLimits::lower(&entered),
        };
        drop(entered);
        context.limits = limits;
        Ok(context)
    }

    /// The device's generation.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The context's limits.
    pub fn limits(&self) -> ContextLimits {
        self.limits
    }

    /// Device memory that the driver holds for itself.
    pub fn driver_bytes(&self) -> DriverBytes {
        *lock(&self.driver_bytes)
    }

    /// Free and total bytes as the device reports them, regardless of the capacity.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn device_memory(&self) -> Result<DeviceMemory, CudaError> {
        let (free, total) = self.enter()?.memory()?;
        Ok(DeviceMemory { free, total })
    }

    /// Pinned host memory held for copies, in bytes.
    pub fn pinned_bytes(&self) -> u64 {
        self.pinned.load(Ordering::Relaxed)
    }

    pub(super) fn add_pinned(&self, bytes: usize) {
        count(&self.pinned, bytes);
    }

    pub(super) fn remove_pinned(&self, bytes: usize) {
        self.pinned.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Records that copies were issued on the driver's own queue. Other queues do not wait for that
    /// queue by themselves.
    pub(super) fn note_staged(&self) {
        self.staged.store(true, Ordering::Release);
    }

    /// Records that all staged copies are complete.
    pub(super) fn forget_staged(&self) {
        self.staged.store(false, Ordering::Release);
    }

    /// Waits for copies under way on the driver's own queue; returns at once if there are none.
    pub(super) fn settle(&self, library: &Library) -> Result<(), CallFailure> {
        if !self.staged.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        (self.finish(library, &self.turn())).inspect_err(|_| self.note_staged())
    }

    /// Waits for a capture of another thread, and holds further ones back. In a capturing thread
    /// nothing is waited for: there the library refuses what cannot be captured.
    pub(super) fn turn(&self) -> Turn<'_> {
        let is_own = *lock(&self.capturing) == Some(std::thread::current().id());
        Turn((!is_own).then(|| lock(&self.capture)))
    }

    /// As [`CudaContext::turn`], for a capture.
    pub(super) fn capture_turn(&self) -> CaptureTurn<'_> {
        let turn = self.turn();
        if turn.0.is_some() {
            *lock(&self.capturing) = Some(std::thread::current().id());
        }
        CaptureTurn {
            context: self,
            turn,
        }
    }

    /// Waits for all work of all queues that may use this context's memory.
    ///
    /// A wait for the whole CUDA context would do more harm: others in this process use it too, and
    /// while any of them captures a graph, the library refuses such a wait and spoils the capture.
    pub(super) fn finish(&self, library: &Library, _: &Turn<'_>) -> Result<(), CallFailure> {
        let streams = lock(&self.streams).clone();
        (streams.into_iter()).try_for_each(|stream| library.synchronize_stream(stream))
    }

    /// Makes the context current in this thread from now on. In threads that never call this, it is
    /// current only within calls, and another library's remains in between.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn keep_current(&self) -> Result<(), CudaError> {
        match self.library.fault() {
            Some(fault) => Err(fault.clone().into()),
            None => Ok(self.library.keep_current(&self.context)?),
        }
    }

    /// Counts since the device was opened.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        Counts {
            launches: read(&counters.launches),
            early_launches: read(&counters.early_launches),
            graph_launches: read(&counters.graph_launches),
            writes: read(&counters.writes),
            bytes_written: read(&counters.bytes_written),
            reads: read(&counters.reads),
            bytes_read: read(&counters.bytes_read),
            waits: read(&counters.waits),
            calls: self.library.calls(),
        }
    }

    /// The sticky error that disabled the context, if there was one.
    pub fn fault(&self) -> Option<CudaError> {
        self.library.fault().cloned().map(CudaError::from)
    }

    /// Whether queues, modules and graphs are available.
    ///
    /// # Errors
    /// Names the first function that the driver's library lacks.
    pub fn can_compute(&self) -> Result<(), CudaError> {
        (self.library.has_queues())
            .and_then(|()| self.library.has_modules())
            .and_then(|()| self.library.has_graphs())
            .map_err(|symbol| match self.library.driver_version() {
                Ok(version) => CudaError::OldDriver {
                    version: version.unsigned_abs(),
                    symbol,
                },
                Err(_) => CudaError::MissingSymbol { symbol },
            })
    }

    /// The library, with the context current in this thread.
    pub(super) fn enter(&self) -> Result<Entered<'_>, CallFailure> {
        match self.library.fault() {
            Some(fault) => Err(fault.clone()),
            None => self.library.enter(&self.context),
        }
    }

    /// As [`CudaContext::enter`], for release calls, which nobody would repeat.
    pub(super) fn enter_to_give_back(&self) -> Result<Entered<'_>, CallFailure> {
        self.enter().or_else(|_| self.enter())
    }

    /// The library, without making the context current.
    pub(super) fn library(&self) -> &Library {
        &self.library
    }

    /// Converts a library failure into an error.
    pub(super) fn error(&self, failure: CallFailure) -> CudaError {
        match self.enter() {
            Ok(library) => CudaError::of(&library, failure),
            Err(_) => failure.into(),
        }
    }

    /// Locks the books, with the context current in this thread.
    pub(super) fn enter_books(&self) -> Result<(Entered<'_>, MutexGuard<'_, Books>), DriverError> {
        let library = self.enter()?;
        Ok((library, self.books()))
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.books)
    }

    /// Checks that these addresses are allocated.
    pub(super) fn check_held(
        &self,
        call: &'static str,
        address: Address,
        bytes: u64,
    ) -> Result<(), CudaError> {
        match self.books().holds(address, bytes) {
            true => Ok(()),
            false => Err(CudaError::NotHeld {
                call,
                address,
                bytes,
            }),
        }
    }

    /// Runs a call after which the driver may hold more memory for itself, and books the
    /// difference.
    pub(super) fn measured<T>(
        &self,
        of: fn(&mut DriverBytes) -> &mut u64,
        act: impl FnOnce(&Library) -> Result<T, CallFailure>,
    ) -> Result<(T, u64), CallFailure> {
        let library = self.enter()?;
        // The lock keeps other threads' allocations out of the difference.
        let mut books = self.books();
        let (before, _) = library.memory()?;
        let made = act(&library)?;
        // If free memory cannot be read, the difference counts as 0.
        let after = library.memory().map_or(before, |(free, _)| free);
        let bytes = before.saturating_sub(after);
        *of(&mut lock(&self.driver_bytes)) += bytes;
        books.add_driver_bytes(bytes);
        Ok((made, bytes))
    }

    /// Launches work. Memory that the driver takes at the first launch is booked.
    pub(super) fn launch(
        &self,
        act: impl FnOnce(&Library) -> Result<(), CallFailure>,
    ) -> Result<(), CallFailure> {
        let library = self.enter()?;
        self.settle(&library)?;
        if self.has_launched.load(Ordering::Relaxed) {
            return act(&library);
        }
        self.measured(|bytes| &mut bytes.stacks, act)?;
        self.has_launched.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Subtracts booked bytes.
    pub(super) fn forget(&self, of: fn(&mut DriverBytes) -> &mut u64, bytes: u64) {
        let mut books = self.books();
        *of(&mut lock(&self.driver_bytes)) -= bytes;
        books.remove_driver_bytes(bytes);
    }

    /// Registers a queue under the lowest free number.
    pub(super) fn add_queue(&self, stream: Stream) -> u64 {
        CudaContext::number(&mut lock(&self.queues), stream)
    }

    fn number(queues: &mut BTreeMap<u64, Stream>, stream: Stream) -> u64 {
        let number = (0..)
            .zip(queues.keys())
            .find(|(number, used)| number != *used)
            .map_or(queues.len() as u64, |(number, _)| number);
        queues.insert(number, stream);
        number
    }

    /// The number of a queue that another library in this process created; null is the default
    /// queue. Events are recorded on it as on the engine's own queues. One handle always gets the
    /// same number.
    ///
    /// # Safety
    /// `stream` must be null or a `CUstream` of this device's primary context, and must outlive
    /// this value.
    pub unsafe fn adopt_queue(&self, stream: *mut std::ffi::c_void) -> u64 {
        // SAFETY: the caller upholds the same contract.
        let stream = unsafe { Stream::of(stream) };
        let mut queues = lock(&self.queues);
        let known =
            (queues.iter()).find_map(|(number, queue)| (*queue == stream).then_some(*number));
        known.unwrap_or_else(|| {
            self.add_stream(stream);
            CudaContext::number(&mut queues, stream)
        })
    }

    /// Notes a queue whose work uses this context's memory.
    pub(super) fn add_stream(&self, stream: Stream) {
        lock(&self.streams).push(stream);
    }

    pub(super) fn remove_stream(&self, stream: Stream) {
        lock(&self.streams).retain(|known| *known != stream);
    }

    pub(super) fn remove_queue(&self, number: u64) {
        lock(&self.queues).remove(&number);
    }

    /// Records an event at the end of a queue's current work. An unknown queue gets the completed
    /// event.
    pub(super) fn record_event(&self, queue: u64) -> EventId {
        let stream = lock(&self.queues).get(&queue).copied();
        // An event that another thread's capture records never completes.
        let _turn = self.turn();
        let (Some(stream), Ok(library)) = (stream, self.enter()) else {
            return DONE;
        };
        let mut events = lock(&self.events);
        let recorded = match events.spare.pop() {
            Some(event) => Ok(event),
            None => library.create_event(),
        }
        .and_then(|event| {
            let result = library.record_event(event, stream);
            if result.is_err() {
                events.spare.push(event);
            }
            result.map(|()| event)
        });
        match recorded {
            Ok(event) => {
                let id = events.next;
                events.next += 1;
                events.pending.insert(id, event);
                EventId(id)
            }
            Err(_) => {
                // Without an event the only option is to wait. If waiting fails too, the context is
                // dead and nothing runs.
                let _ = twice(|| library.synchronize_stream(stream));
                DONE
            }
        }
    }

    /// Whether the work before an event is complete.
    pub(super) fn is_event_done(&self, event: EventId) -> bool {
        let mut events = lock(&self.events);
        let Some(&pending) = events.pending.get(&event.0) else {
            return true;
        };
        let done = match self.enter() {
            Ok(library) => library.is_event_done(pending).unwrap_or(false),
            Err(_) => false,
        };
        let done = done || self.library.fault().is_some();
        if done {
            events.pending.remove(&event.0);
            events.spare.push(pending);
        }
        done
    }

    /// Waits until the work before an event is complete.
    pub(super) fn wait_event(&self, event: EventId) {
        let pending = lock(&self.events).pending.get(&event.0).copied();
        let Some(pending) = pending else {
            return;
        };
        count(&self.counters.waits, 1);
        if let Ok(library) = self.enter()
            && twice(|| library.synchronize_event(pending)).is_err()
        {
            // Wait for everything instead. If waiting fails too, the context is dead and nothing
            // runs.
            let turn = self.turn();
            let _ = twice(|| self.finish(&library, &turn));
        }
        let mut events = lock(&self.events);
        if events.pending.remove(&event.0).is_some() {
            events.spare.push(pending);
        }
    }
}

/// The right to make calls that a capture forbids; `None` in a thread that captures.
pub(super) struct Turn<'a>(Option<MutexGuard<'a, ()>>);

/// The right to capture.
pub(super) struct CaptureTurn<'a> {
    context: &'a CudaContext,
    turn: Turn<'a>,
}

impl Drop for CaptureTurn<'_> {
    fn drop(&mut self) {
        if self.turn.0.is_some() {
            *lock(&self.context.capturing) = None;
        }
    }
}

impl fmt::Debug for CudaContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CudaContext({})", self.device)
    }
}

impl Drop for CudaContext {
    fn drop(&mut self) {
        // Errors cannot be reported from `drop`; releasing the context frees what is left.
        if let Ok(library) = self.enter_to_give_back() {
            let mut events = lock(&self.events);
            let pending = std::mem::take(&mut events.pending).into_values();
            for event in pending.chain(std::mem::take(&mut events.spare)) {
                let _ = twice(|| library.destroy_event(event));
            }
        }
        let _ = twice(|| self.library.release_context(&self.context));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
