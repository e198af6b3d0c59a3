//! State of a device, and dispatch of calls to it.

mod graphs;
mod memory;
mod modules;
mod queues;

use crate::executor::{Executor, Step, report};
use crate::kernels::Kernel;
use crate::settings::{Settings, variable_text};
use crate::status::{
    CONTEXT_IS_DESTROYED, INVALID_CONTEXT, INVALID_DEVICE, INVALID_HANDLE, INVALID_VALUE,
    LAUNCH_FAILED, Outcome, STREAM_CAPTURE_UNSUPPORTED, Status,
};
use crate::store::Store;
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::c_int;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

/// Most devices.
pub const DEVICES_MAX: usize = 64;
/// Handle of the legacy default queue.
pub const DEFAULT_QUEUE: u64 = 0;
/// A context's default limits: stack, `printf` buffer, `malloc` heap.
const LIMITS: [u64; 3] = [1024, 1 << 20, 8 << 20];
/// Smallest value of a limit.
const LIMIT_LEAST: u64 = 16;

/// An item of a queue.
#[derive(Clone, Debug)]
enum Item {
    Step(Step),
    Steps(Arc<[Step]>),
    /// A recorded event; does nothing.
    Record,
    /// A wait for another queue's progress.
    Wait {
        queue: u64,
        ticket: u64,
    },
}

#[derive(Debug)]
struct Capture {
    steps: Vec<Step>,
    thread: ThreadId,
    broken: bool,
}

/// A queue. Its work is deferred until somebody waits.
#[derive(Debug, Default)]
struct Queue {
    /// Whether it synchronises with the default queue.
    blocking: bool,
    items: VecDeque<Item>,
    asked: u64,
    done: u64,
    capture: Option<Capture>,
}

#[derive(Debug, Default)]
struct Event {
    /// The queue, and its position when the event was recorded.
    recorded: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Physical {
    bytes: u64,
    extent: u64,
    released: bool,
    maps: u64,
}

#[derive(Debug)]
struct Map {
    bytes: u64,
    handle: u64,
    open: bool,
}

#[derive(Debug)]
struct Function {
    kernel: Kernel,
    module: u64,
    dynamic_shared_max: u64,
}

#[derive(Debug)]
struct ExecutableGraph {
    steps: Arc<[Step]>,
    bytes: u64,
}

/// Counters for tests.
#[derive(Debug, Default)]
struct Counts {
    calls: u64,
    by_name: BTreeMap<&'static str, u64>,
    misuses: u64,
    abandoned: u64,
    launches: u64,
    graph_launches: u64,
    waits: u64,
    bytes_to_device: u64,
    bytes_from_device: u64,
    used_peak: u64,
    pinned_peak: u64,
}

/// One device.
#[derive(Debug)]
pub struct Device {
    pub settings: Settings,
    store: Option<Store>,
    used: u64,
    retained: u64,
    epoch: u64,
    sticky: Option<Status>,
    limits: [u64; LIMITS.len()],
    /// Device bytes of all threads' stacks, from the first launch on.
    stacks: Option<u64>,
    counts: Counts,
    executor: Option<Executor>,
    /// Plain pieces by address: bytes, and extent in the file.
    pieces: BTreeMap<u64, (u64, u64)>,
    ranges: BTreeMap<u64, u64>,
    maps: BTreeMap<u64, Map>,
    physical: BTreeMap<u64, Physical>,
    /// Pinned host memory by address: bytes.
    pinned: BTreeMap<u64, u64>,
    queues: BTreeMap<u64, Queue>,
    events: BTreeMap<u64, Event>,
    /// Device bytes by module.
    modules: BTreeMap<u64, u64>,
    /// Function handles by module and name.
    names: BTreeMap<(u64, String), u64>,
    functions: BTreeMap<u64, Function>,
    graphs: BTreeMap<u64, Arc<[Step]>>,
    executables: BTreeMap<u64, ExecutableGraph>,
}

static COUNT: AtomicU32 = AtomicU32::new(0);
static NEXT_HANDLE: AtomicU64 = AtomicU64::new(0x1000);
static DEVICES: LazyLock<Vec<Mutex<Device>>> = LazyLock::new(|| {
    let devices = (0..DEVICES_MAX).map(|ordinal| {
        let settings = Settings::of_device(ordinal).unwrap_or_else(|problem| {
            report(&problem);
            Settings::default()
        });
        Mutex::new(Device::new(settings))
    });
    devices.collect()
});

thread_local! {
    /// Ordinal and epoch of this thread's current context.
    static CURRENT: Cell<Option<(usize, u64)>> = const { Cell::new(None) };
}

/// Number of devices.
pub fn count() -> u32 {
    match COUNT.load(Ordering::SeqCst) {
        0 => variable_text("CUDA_STAND_IN_DEVICES")
            .and_then(|text| text.parse().ok())
            .unwrap_or(2)
            .clamp(1, DEVICES_MAX as u32),
        count => count,
    }
}

/// Number of devices that a program sees.
pub fn visible_count() -> u32 {
    (0..count() as usize).map_while(visible).count() as u32
}

/// The device that a program sees under this ordinal. As with the real library,
/// `CUDA_VISIBLE_DEVICES` lists them, up to the first entry that is no device; one that is listed
/// twice hides all.
pub fn visible(ordinal: usize) -> Option<usize> {
    static LISTED: LazyLock<Option<Vec<usize>>> = LazyLock::new(|| {
        let text = std::env::var("CUDA_VISIBLE_DEVICES").ok()?;
        let listed: Vec<usize> = (text.split(','))
            .map_while(|entry| entry.trim().parse().ok())
            .take_while(|&device| device < count() as usize)
            .collect();
        let is_repeated = |&device: &usize| listed.iter().filter(|&&it| it == device).count() > 1;
        Some(match listed.iter().any(is_repeated) {
            true => Vec::new(),
            false => listed,
        })
    });
    match &*LISTED {
        Some(listed) => listed.get(ordinal).copied(),
        None => (ordinal < count() as usize).then_some(ordinal),
    }
}

/// Sets the number of devices.
pub fn set_count(count: u32) {
    COUNT.store(count.clamp(1, DEVICES_MAX as u32), Ordering::SeqCst);
}

/// A device by ordinal.
pub fn device(ordinal: usize) -> Option<MutexGuard<'static, Device>> {
    let device = DEVICES.get(ordinal)?;
    Some(device.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A new, unique handle.
pub fn new_handle() -> u64 {
    NEXT_HANDLE.fetch_add(0x10, Ordering::SeqCst)
}

/// Counts a call to a device and runs it, unless it is scripted to fail.
pub fn call(
    ordinal: c_int,
    name: &'static str,
    failed: Status,
    act: impl FnOnce(usize, &mut Device) -> Outcome,
) -> Status {
    let ordinal = ordinal as usize;
    if ordinal >= count() as usize {
        return INVALID_DEVICE;
    }
    let Some(mut device) = device(ordinal) else {
        return INVALID_DEVICE;
    };
    let outcome = (device.admit(name, failed)).and_then(|()| act(ordinal, &mut device));
    outcome.err().unwrap_or_default()
}

/// As [`call`], for the device of this thread's context, which must be valid.
pub fn current(
    name: &'static str,
    failed: Status,
    act: impl FnOnce(usize, &mut Device) -> Outcome,
) -> Status {
    let Some((ordinal, epoch)) = CURRENT.get() else {
        return INVALID_CONTEXT;
    };
    call(ordinal as c_int, name, failed, |ordinal, device| {
        if device.retained == 0 || device.epoch != epoch {
            return Err(CONTEXT_IS_DESTROYED);
        }
        device
            .sticky
            .map_or(Ok(()), Err)
            .and_then(|()| act(ordinal, device))
    })
}

/// Ordinal and epoch encoded in a context's pointer.
pub fn context_of(pointer: u64) -> Option<(usize, u64)> {
    let ordinal = (pointer & 0xff).checked_sub(1)?;
    Some((ordinal as usize, pointer >> 8))
}

/// Ordinal and pointer of this thread's current context.
pub fn current_context() -> Option<(usize, u64)> {
    let (ordinal, epoch) = CURRENT.get()?;
    Some((ordinal, pointer_of(ordinal, epoch)))
}

/// A context's pointer: its ordinal and epoch.
fn pointer_of(ordinal: usize, epoch: u64) -> u64 {
    epoch << 8 | (ordinal as u64 + 1)
}

/// Sets or clears this thread's current context.
pub fn set_current(context: Option<(usize, u64)>) {
    CURRENT.set(context);
}

impl Device {
    fn new(settings: Settings) -> Device {
        Device {
            settings,
            store: None,
            used: 0,
            retained: 0,
            epoch: 0,
            sticky: None,
            limits: LIMITS,
            stacks: None,
            counts: Counts::default(),
            executor: None,
            pieces: BTreeMap::new(),
            ranges: BTreeMap::new(),
            maps: BTreeMap::new(),
            physical: BTreeMap::new(),
            pinned: BTreeMap::new(),
            queues: BTreeMap::new(),
            events: BTreeMap::new(),
            modules: BTreeMap::new(),
            names: BTreeMap::new(),
            functions: BTreeMap::new(),
            graphs: BTreeMap::new(),
            executables: BTreeMap::new(),
        }
    }

    /// Resets the device.
    pub fn configure(&mut self, settings: Settings) {
        *self = Device {
            epoch: self.epoch,
            ..Device::new(settings)
        };
    }

    fn admit(&mut self, name: &'static str, failed: Status) -> Outcome {
        self.counts.calls += 1;
        *self.counts.by_name.entry(name).or_default() += 1;
        if let Some((ahead, status)) = &mut self.settings.lost {
            if *ahead == 0 {
                return Err(*status);
            }
            *ahead -= 1;
        }
        if let Some(failing) = &mut self.settings.fail
            && (failing.call == "any" || failing.call == name)
        {
            if failing.calls_ahead == 0 {
                let status = failing.status.unwrap_or(failed);
                self.settings.fail = None;
                return Err(status);
            }
            failing.calls_ahead -= 1;
        }
        Ok(())
    }

    /// Counts a misuse: a call that the real library would refuse.
    pub fn misuse(&mut self) -> Status {
        self.counts.misuses += 1;
        INVALID_VALUE
    }

    fn unknown_handle(&mut self) -> Status {
        self.counts.misuses += 1;
        INVALID_HANDLE
    }

    fn take(&mut self, bytes: u64) -> Outcome {
        let free = (self.settings.memory).saturating_sub(self.settings.taken);
        if bytes > free.saturating_sub(self.used) {
            return Err(crate::status::OUT_OF_MEMORY);
        }
        self.used += bytes;
        self.counts.used_peak = self.counts.used_peak.max(self.used);
        Ok(())
    }

    fn give(&mut self, bytes: u64) {
        self.used -= bytes;
    }

    /// Free and total bytes.
    pub fn memory(&self) -> (u64, u64) {
        let held = self.used.saturating_add(self.settings.taken);
        (
            self.settings.memory.saturating_sub(held),
            self.settings.memory,
        )
    }

    /// Retains the primary context; returns its pointer.
    ///
    /// # Errors
    /// If a new context does not fit.
    pub fn retain(&mut self, ordinal: usize) -> Result<u64, Status> {
        if self.retained == 0 {
            self.take(self.settings.context)?;
            self.epoch += 1;
            self.sticky = None;
            self.limits = LIMITS;
            self.queues.insert(
                DEFAULT_QUEUE,
                Queue {
                    blocking: true,
                    ..Queue::default()
                },
            );
        }
        self.retained += 1;
        Ok(pointer_of(ordinal, self.epoch))
    }

    /// Releases the primary context. The last release destroys it with everything left in it.
    ///
    /// # Errors
    /// If it is not retained.
    pub fn release(&mut self) -> Outcome {
        if self.retained == 0 {
            return Err(self.misuse());
        }
        self.retained -= 1;
        if self.retained == 0 {
            self.queues.remove(&DEFAULT_QUEUE);
            let abandoned = self.things();
            if self.sticky.is_none() {
                self.counts.abandoned += abandoned;
            }
            for (address, bytes) in std::mem::take(&mut self.pinned) {
                memory::unmap_pinned(address, bytes);
            }
            // Everything that belongs to the context ends with it.
            let fresh = Device {
                epoch: self.epoch,
                counts: std::mem::take(&mut self.counts),
                ..Device::new(self.settings.clone())
            };
            *self = fresh;
        }
        Ok(())
    }

    /// Whether the primary context exists.
    pub fn is_active(&self) -> bool {
        self.retained > 0
    }

    /// Whether `epoch` is that of the existing context.
    pub fn is_current(&self, epoch: u64) -> bool {
        self.retained > 0 && self.epoch == epoch
    }

    /// A limit of the context.
    pub fn limit(&self, limit: usize) -> Option<u64> {
        self.limits.get(limit).copied()
    }

    /// Sets a limit, rounded up to the device's minimum.
    ///
    /// # Errors
    /// If there is no such limit.
    pub fn set_limit(&mut self, limit: usize, value: u64) -> Outcome {
        match self.limits.get_mut(limit) {
            Some(place) => {
                *place = value.max(LIMIT_LEAST).next_multiple_of(LIMIT_LEAST);
                Ok(())
            }
            None => Err(self.misuse()),
        }
    }

    /// Number of objects that still exist.
    fn things(&self) -> u64 {
        let counts = [
            self.pieces.len(),
            self.ranges.len(),
            self.maps.len(),
            self.physical.len(),
            self.pinned.len(),
            self.queues.len(),
            self.events.len(),
            self.modules.len(),
            self.graphs.len(),
            self.executables.len(),
        ];
        counts.iter().sum::<usize>() as u64
    }

    /// A counter by name; calls of a function are counted under its name.
    pub fn count(&self, name: &str) -> u64 {
        match name {
            "held" => self.things() + self.used + self.retained,
            "used" => self.used,
            "used_peak" => self.counts.used_peak,
            "pinned" => self.pinned.values().sum(),
            "pinned_peak" => self.counts.pinned_peak,
            "misuses" => self.counts.misuses,
            "abandoned" => self.counts.abandoned,
            "calls" => self.counts.calls,
            "launches" => self.counts.launches,
            "graph_launches" => self.counts.graph_launches,
            "waits" => self.counts.waits,
            "bytes_to_device" => self.counts.bytes_to_device,
            "bytes_from_device" => self.counts.bytes_from_device,
            "sticky" => self.sticky.unwrap_or_default().into(),
            "failing" => self.settings.fail.is_some().into(),
            _ => self.counts.by_name.get(name).copied().unwrap_or_default(),
        }
    }

    /// Functions called, with their counts.
    pub fn calls(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.counts
            .by_name
            .iter()
            .map(|(&name, &calls)| (name, calls))
    }

    /// All counters as a JSON object.
    pub fn report(&self) -> String {
        let names = [
            "used",
            "used_peak",
            "pinned_peak",
            "misuses",
            "abandoned",
            "calls",
            "launches",
            "graph_launches",
            "waits",
            "bytes_to_device",
            "bytes_from_device",
        ];
        let figures = names.map(|name| (name, self.count(name)));
        let pairs: Vec<String> = (figures.into_iter().chain(self.calls()))
            .map(|(name, count)| format!("\"{name}\": {count}"))
            .collect();
        format!("{{{}}}", pairs.join(", "))
    }

    /// Whether the device was ever called.
    pub fn was_used(&self) -> bool {
        self.counts.calls > 0
    }

    /// Runs steps, and remembers a fault.
    fn run(&mut self, steps: Vec<Step>) -> Outcome {
        if steps.is_empty() {
            return Ok(());
        }
        if self.executor.is_none() {
            self.executor = Some(Executor::start().map_err(|_| LAUNCH_FAILED)?);
        }
        let result = match &mut self.executor {
            Some(executor) => executor.run(steps),
            None => Ok(()),
        };
        result.map_err(|(status, message)| {
            report(&message);
            self.sticky = Some(status);
            self.executor = None;
            for queue in self.queues.values_mut() {
                queue.items.clear();
                queue.done = queue.asked;
            }
            status
        })
    }

    /// Refuses calls that are invalid while this thread captures.
    fn refuse_in_capture(&mut self) -> Outcome {
        let thread = std::thread::current().id();
        self.invalidate_captures(|capture| capture.thread == thread)
    }

    /// Refuses a call that is invalid during some captures, and invalidates those.
    fn invalidate_captures(&mut self, forbids: impl Fn(&Capture) -> bool) -> Outcome {
        let mut refused = false;
        for queue in self.queues.values_mut() {
            if let Some(capture) = &mut queue.capture
                && forbids(capture)
            {
                capture.broken = true;
                refused = true;
            }
        }
        match refused {
            true => Err(STREAM_CAPTURE_UNSUPPORTED),
            false => Ok(()),
        }
    }
}
