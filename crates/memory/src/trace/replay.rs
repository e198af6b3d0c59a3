//! Replays a trace's events through a pool and reports the result.

use crate::driver::Driver;
use crate::pool::{Pool, PoolBlock, PoolConfiguration};
use crate::trace::{Event, TraceError};
use serde::Serialize;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// One step of a replay. Blocks are identified by slots: small numbers, reused once their block is
/// freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayStep {
    /// Allocate a block.
    Allocate {
        /// The slot to keep it in.
        slot: u32,
        /// Bytes requested; 0 does nothing.
        bytes: u64,
        /// The device queue.
        queue: u64,
    },
    /// Free the block in a slot; does nothing if its allocation failed.
    Free {
        /// The slot.
        slot: u32,
    },
    /// Retry a request that failed when the trace was recorded, and free it at once if it succeeds.
    Try {
        /// Bytes requested.
        bytes: u64,
        /// The device queue.
        queue: u64,
    },
    /// A chunk of output begins: fragmentation is sampled, and the cache is emptied if due.
    Chunk,
    /// Empty the cache.
    Clear,
    /// A step without effect on the pool.
    Other,
}

/// The result of a replay, in bytes. The field names are those of the JSON output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ReplayReport {
    /// Steps, markers included.
    pub events: u64,
    /// Peak of the requested bytes.
    pub peak_requested: u64,
    /// Peak of the allocated bytes, rounded.
    pub peak_allocated: u64,
    /// Peak of the reserved bytes.
    pub peak_reserved: u64,
    /// Allocated bytes at the end.
    pub end_allocated: u64,
    /// Reserved bytes at the end.
    pub end_reserved: u64,
    /// Largest fragmentation at the trace's chunk marks, or the fragmentation at the peak of
    /// reserved bytes if there are none.
    pub fragmentation_peak: f64,
    /// Allocations that emptied the cache first.
    pub retries: u64,
    /// Allocations that failed.
    pub ooms: u64,
    /// Requests that failed when the trace was recorded and fail here too.
    pub refused_again: u64,
    /// Requests that failed when the trace was recorded and succeed here.
    pub let_in: u64,
    /// Segments allocated from the driver and parts of ranges mapped.
    pub driver_allocs: u64,
    /// Segments freed and parts of ranges unmapped.
    pub driver_frees: u64,
    /// Mean time of a step in the pool, driver calls included.
    pub ns_per_event: f64,
}

/// A replay in progress.
pub struct Replay {
    pool: Pool,
    clear_every_chunk: Option<u32>,
    slots: Vec<Option<PoolBlock>>,
    slot_of_id: Slots,
    /// Counts before the trace began.
    before: Counts,
    events: u64,
    chunks: u32,
    refused_again: u64,
    let_in: u64,
    fragmentation_at_chunks: Option<f64>,
    time: Duration,
}

impl Replay {
    /// A replay over a fresh pool. With `clear_every_chunk`, the cache is emptied at every n-th
    /// chunk mark.
    pub fn new(
        driver: Box<dyn Driver>,
        configuration: PoolConfiguration,
        clear_every_chunk: Option<u32>,
    ) -> Replay {
        Replay {
            pool: Pool::new(driver, configuration),
            clear_every_chunk,
            slots: Vec::new(),
            slot_of_id: Slots::default(),
            before: Counts::default(),
            events: 0,
            chunks: 0,
            refused_again: 0,
            let_in: 0,
            fragmentation_at_chunks: None,
            time: Duration::ZERO,
        }
    }

    /// The pool, for its statistics.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Runs some steps.
    pub fn run(&mut self, steps: &[ReplayStep]) {
        let slots = steps.iter().map(|step| match *step {
            ReplayStep::Allocate { slot, .. } | ReplayStep::Free { slot } => slot as usize + 1,
            ReplayStep::Try { .. } | ReplayStep::Chunk | ReplayStep::Clear | ReplayStep::Other => 0,
        });
        let slot_count = slots.max().unwrap_or(0);
        if slot_count > self.slots.len() {
            self.slots.resize_with(slot_count, || None);
        }
        let start = Instant::now();
        for step in steps {
            match *step {
                ReplayStep::Allocate { bytes: 0, .. } => {}
                ReplayStep::Allocate { slot, bytes, queue } => {
                    self.slots[slot as usize] = self.pool.allocate_mut(bytes, queue).ok();
                }
                ReplayStep::Free { slot } => {
                    if let Some(block) = self.slots[slot as usize].take() {
                        self.pool.free_mut(block);
                    }
                }
                ReplayStep::Try { bytes, queue } => match self.pool.allocate_mut(bytes, queue) {
                    Ok(block) => {
                        self.pool.free_mut(block);
                        self.let_in += 1;
                    }
                    Err(_) => self.refused_again += 1,
                },
                ReplayStep::Chunk => self.chunk(),
                ReplayStep::Clear => {
                    self.pool.empty_cache();
                }
                ReplayStep::Other => {}
            }
        }
        self.time += start.elapsed();
        self.events += steps.len() as u64;
    }

    fn chunk(&mut self) {
        self.chunks += 1;
        if self
            .clear_every_chunk
            .is_some_and(|every| every > 0 && self.chunks.is_multiple_of(every))
        {
            self.pool.empty_cache();
        }
        let (allocated, reserved) = self.pool.allocated_and_reserved();
        let now = fragmentation((reserved, allocated));
        self.fragmentation_at_chunks = Some(self.fragmentation_at_chunks.unwrap_or(0.0).max(now));
    }

    /// Runs events that only prepare the pool, such as a snapshot's
    /// [beginning](crate::trace::Reader::take_beginning). They are not reported, and peaks are
    /// reset afterwards.
    pub fn prime(&mut self, events: Vec<Event>) {
        let steps: Vec<ReplayStep> = events
            .iter()
            .map(|event| self.slot_of_id.step(event))
            .collect();
        // The beginning is made of exact sizes.
        let divisions = self.pool.set_roundup(Default::default());
        self.run(&steps);
        self.pool.set_roundup(divisions);
        self.pool.reset_peaks();
        let statistics = self.pool.statistics();
        self.before = Counts {
            retries: statistics.num_alloc_retries,
            ooms: statistics.num_ooms,
            driver_allocs: statistics.num_device_alloc,
            driver_frees: statistics.num_device_free,
        };
        self.events = 0;
        self.time = Duration::ZERO;
        self.fragmentation_at_chunks = None;
    }

    /// The results so far.
    pub fn report(&self) -> ReplayReport {
        let statistics = self.pool.statistics();
        ReplayReport {
            events: self.events,
            peak_requested: statistics.requested_bytes.all.peak,
            peak_allocated: statistics.allocated_bytes.all.peak,
            peak_reserved: statistics.reserved_bytes.all.peak,
            end_allocated: statistics.allocated_bytes.all.current,
            end_reserved: statistics.reserved_bytes.all.current,
            fragmentation_peak: self
                .fragmentation_at_chunks
                .unwrap_or_else(|| fragmentation(self.pool.reserved_peak())),
            retries: statistics.num_alloc_retries - self.before.retries,
            ooms: statistics.num_ooms - self.before.ooms - self.refused_again,
            refused_again: self.refused_again,
            let_in: self.let_in,
            driver_allocs: statistics.num_device_alloc - self.before.driver_allocs,
            driver_frees: statistics.num_device_free - self.before.driver_frees,
            ns_per_event: if self.events == 0 {
                0.0
            } else {
                self.time.as_nanos() as f64 / self.events as f64
            },
        }
    }
}

/// (reserved − allocated) ÷ reserved, of (reserved, allocated).
fn fragmentation((reserved, allocated): (u64, u64)) -> f64 {
    if reserved == 0 {
        0.0
    } else {
        (reserved - allocated) as f64 / reserved as f64
    }
}

/// Steps that are run and timed at a time.
const BATCH: usize = 1 << 14;

impl Replay {
    /// Runs all events of a trace, batch by batch.
    ///
    /// # Errors
    /// The first error of the trace; the events before it were run.
    pub fn run_events(
        &mut self,
        events: impl IntoIterator<Item = Result<Event, TraceError>>,
    ) -> Result<(), TraceError> {
        let mut batch = Vec::with_capacity(BATCH);
        let mut outcome = Ok(());
        for event in events {
            match event {
                Ok(event) => batch.push(self.slot_of_id.step(&event)),
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
            if batch.len() == BATCH {
                self.run(&batch);
                batch.clear();
            }
        }
        self.run(&batch);
        outcome
    }
}

/// All steps of a trace.
///
/// # Errors
/// The first error of the trace.
pub fn steps(
    events: impl IntoIterator<Item = Result<Event, TraceError>>,
) -> Result<Vec<ReplayStep>, TraceError> {
    let mut slots = Slots::default();
    events
        .into_iter()
        .map(|event| event.map(|event| slots.step(&event)))
        .collect()
}

/// The request of a marker `oom BYTES [stream=N] …`.
fn refused<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<ReplayStep> {
    let bytes: u64 = words.next()?.parse().ok()?;
    let stream = words.next().and_then(|word| word.strip_prefix("stream="));
    let queue = stream.and_then(|stream| stream.parse().ok()).unwrap_or(0);
    (1..1 << 62)
        .contains(&bytes)
        .then_some(ReplayStep::Try { bytes, queue })
}

/// Counts of a pool.
#[derive(Clone, Copy, Default)]
struct Counts {
    retries: u64,
    ooms: u64,
    driver_allocs: u64,
    driver_frees: u64,
}

/// Maps ids of a trace to slots of a replay.
#[derive(Default)]
pub(super) struct Slots {
    by_id: HashMap<u64, u32>,
    vacant: Vec<u32>,
    count: u32,
}

impl Slots {
    pub(super) fn step(&mut self, event: &Event) -> ReplayStep {
        match event {
            Event::Allocate {
                id, bytes, stream, ..
            } => {
                let slot = self.vacant.pop().unwrap_or_else(|| {
                    self.count += 1;
                    self.count - 1
                });
                self.by_id.insert(*id, slot);
                ReplayStep::Allocate {
                    slot,
                    bytes: *bytes,
                    queue: *stream,
                }
            }
            Event::Free { id } => match self.by_id.remove(id) {
                Some(slot) => {
                    self.vacant.push(slot);
                    ReplayStep::Free { slot }
                }
                None => ReplayStep::Other,
            },
            Event::Marker(text) => {
                let mut words = text.split_whitespace();
                match words.next() {
                    Some("chunk") => ReplayStep::Chunk,
                    Some("clear") => ReplayStep::Clear,
                    Some("oom") => refused(words).unwrap_or(ReplayStep::Other),
                    _ => ReplayStep::Other,
                }
            }
        }
    }
}
