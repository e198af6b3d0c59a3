//! Benchmarks of the pool: `cargo bench -p sottovoce-memory --bench pool [-- TRACE]`.
//!
//! Without a trace, a synthetic one is used: 400,000 events of many sizes, with a cache that grows
//! step by step. The bench prints
//!
//! - the mean time of an event in several rounds over the same pool,
//! - percentiles of single events,
//! - the same run from a planned arena,
//! - the cost of the timeline,
//! - the events per second of several threads with a queue each.
//!
//! Means are of the thread's CPU time where the system reports it, so that other load counts less.
//! The figures of several threads are wall time.

use sottovoce_memory::driver::SimulatedDriver;
use sottovoce_memory::plan::{self, Lifetime, SolveOptions};
use sottovoce_memory::policy::Observation;
use sottovoce_memory::pool::{Pool, PoolBlock, PoolConfiguration};
use sottovoce_memory::stats::MetricsRecorder;
use sottovoce_memory::trace::replay::{ReplayStep, steps};
use sottovoce_memory::trace::{Reader, TraceError};
use sottovoce_memory::{Memory, Owner, PlannedArena, Region};
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

const DEVICE_BYTES: u64 = 24 << 30;
const ROUNDS: usize = 5;

fn main() -> Result<(), TraceError> {
    // Cargo passes `--bench`; the trace is the only argument that is not a flag.
    let path = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"));
    let steps = match path {
        Some(path) => steps(Reader::open(Path::new(&path))?)?,
        None => synthetic_trace(400_000),
    };
    println!("{} events", steps.len());
    for text in ["", "expandable_segments:True"] {
        let configuration = PoolConfiguration::parse(text).unwrap_or_default();
        println!(
            "configuration: {}",
            if text.is_empty() { "default" } else { text }
        );
        rounds(&steps, &configuration, Use::Sole);
        rounds(&steps, &configuration, Use::Locked);
        percentiles(&steps, &configuration);
    }
    with_owners(&steps);
    // The whole trace as one plan, then as many events as one stage of an engine has, repeated.
    planned(&steps);
    planned(&steps[steps.len() / 2..][..(steps.len() / 2).min(4000)]);
    timeline(&steps);
    threads();
    Ok(())
}

/// Runs the steps from a planned arena, with and without touching the bytes of small pieces.
fn planned(steps: &[ReplayStep]) {
    let (lifetimes, count) = lifetimes(steps);
    let plan = plan::solve(&lifetimes, &SolveOptions::default());
    let memory = Memory::with_driver(
        Box::new(SimulatedDriver::new(DEVICE_BYTES)),
        PoolConfiguration::default(),
    );
    let owner = Owner::new(Region::Workspace, "bench");
    let mut arenas = PlannedArena::together(&memory, &[(&lifetimes, &plan)], owner);
    let Some(arena) = arenas.as_mut().ok().and_then(Vec::pop) else {
        println!("planned arena: no room");
        return;
    };
    memory.seal();
    let mut slots: Vec<_> = slots(steps).iter().map(|_| None).collect();
    let repeats = 400_000 / count.max(1) + 1;
    let times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let start = Stopwatch::start();
            for _ in 0..repeats {
                arena.restart();
                for step in steps {
                    match *step {
                        ReplayStep::Allocate { slot, bytes, .. } => {
                            slots[slot as usize] = arena.allocate(bytes as usize).ok()
                        }
                        ReplayStep::Free { slot } => slots[slot as usize] = None,
                        _ => {}
                    }
                }
                slots.iter_mut().for_each(|piece| *piece = None);
            }
            format!("{:.1}", nanoseconds(start.elapsed(), count * repeats))
        })
        .collect();
    println!(
        "planned arena, {count} events, {} bytes: {} ns per event, round by round",
        arena.len(),
        times.join(", ")
    );
    let mut singles: Vec<u32> = Vec::with_capacity(steps.len());
    arena.restart();
    for step in steps {
        let start = Instant::now();
        match *step {
            ReplayStep::Allocate { slot, bytes, .. } => {
                slots[slot as usize] = arena.allocate(bytes as usize).ok()
            }
            ReplayStep::Free { slot } => slots[slot as usize] = None,
            _ => continue,
        }
        singles.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
    print_percentiles(singles);
}

/// The steps' allocations as lifetimes, with one time step per event, and the number of events.
fn lifetimes(steps: &[ReplayStep]) -> (Vec<Lifetime>, usize) {
    let mut lifetimes: Vec<Lifetime> = Vec::new();
    let mut live: HashMap<u32, usize> = HashMap::new();
    let mut now = 0;
    for step in steps {
        match *step {
            ReplayStep::Allocate { slot, bytes, .. } => {
                live.insert(slot, lifetimes.len());
                lifetimes.push(Lifetime {
                    first: now,
                    last: u32::MAX,
                    bytes,
                });
                now += 1;
            }
            ReplayStep::Free { slot } => {
                if let Some(index) = live.remove(&slot) {
                    lifetimes[index].last = now;
                }
                now += 1;
            }
            _ => {}
        }
    }
    (lifetimes, now as usize)
}

/// Cost of the timeline: a run that samples it at every n-th event against the same run without
/// samples, in turn. The engine samples once a chunk, which is once in some thousand allocations or
/// every tenth of a second.
fn timeline(steps: &[ReplayStep]) {
    const EVENTS_A_SAMPLE: usize = 1000;
    let run = |recorder: Option<&mut MetricsRecorder>| {
        let memory = Memory::with_driver(
            Box::new(SimulatedDriver::new(DEVICE_BYTES)),
            PoolConfiguration::default(),
        );
        let owner = Owner::new(Region::Workspace, "bench");
        let mut slots: Vec<_> = slots(steps).iter().map(|_| None).collect();
        let mut recorder = recorder;
        let start = Stopwatch::start();
        for (position, step) in steps.iter().enumerate() {
            match *step {
                ReplayStep::Allocate { slot, bytes, .. } => {
                    slots[slot as usize] = memory.allocate(bytes as usize, owner).ok()
                }
                ReplayStep::Free { slot } => slots[slot as usize] = None,
                _ => {}
            }
            if position % EVENTS_A_SAMPLE == 0
                && let Some(recorder) = recorder.as_deref_mut()
            {
                let statistics = memory.statistics();
                let now = Observation::of(&statistics, 0);
                recorder.chunk_done(&statistics, now, position as u64);
            }
        }
        start.elapsed().as_secs_f64()
    };
    let mut recorder = MetricsRecorder::default();
    let (mut with, mut without) = (f64::MAX, f64::MAX);
    for _ in 0..2 * ROUNDS {
        without = without.min(run(None));
        with = with.min(run(Some(&mut recorder)));
    }
    let samples = steps.len().div_ceil(EVENTS_A_SAMPLE);
    let each = (with - without) / samples as f64;
    println!(
        "timeline: {:+.2} % of the allocator's own time with a sample in {EVENTS_A_SAMPLE} events, best of {} runs each; {:.1} us a \
         sample, {:.4} % of a chunk's tenth of a second",
        (with / without - 1.0) * 100.0,
        2 * ROUNDS,
        each * 1e6,
        each * 1e3
    );
}

/// A synthetic trace: sizes and orders from a fixed seed.
fn synthetic_trace(events: usize) -> Vec<ReplayStep> {
    let mut random = random_numbers(7);
    let mut steps = Vec::with_capacity(events);
    let mut live: Vec<u32> = Vec::new();
    let mut vacant: Vec<u32> = (0..300).rev().collect();
    while steps.len() < events {
        match vacant.pop() {
            Some(slot) if live.len() < 4 || !random().is_multiple_of(2) => {
                let bits = random() % 26;
                let bytes = if random().is_multiple_of(8) {
                    (8 + random() % 100) * 245_760
                } else {
                    (1 << bits) + random() % (1 << bits)
                };
                steps.push(ReplayStep::Allocate {
                    slot,
                    bytes,
                    queue: 0,
                });
                live.push(slot);
            }
            unused => {
                vacant.extend(unused);
                let slot = live.swap_remove(random() as usize % live.len());
                steps.push(ReplayStep::Free { slot });
                vacant.push(slot);
            }
        }
    }
    steps
}

fn random_numbers(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    }
}

fn slots(steps: &[ReplayStep]) -> Vec<Option<PoolBlock>> {
    let count = steps.iter().map(|step| match step {
        ReplayStep::Allocate { slot, .. } | ReplayStep::Free { slot } => *slot as usize + 1,
        _ => 0,
    });
    (0..count.max().unwrap_or(0)).map(|_| None).collect()
}

/// How the pool is used.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    /// One owner, no locks.
    Sole,
    /// Shared by threads, behind locks.
    Locked,
}

#[inline]
fn apply(pool: &mut Pool, step: &ReplayStep, slots: &mut [Option<PoolBlock>], how: Use) {
    match *step {
        ReplayStep::Allocate { slot, bytes, queue } if bytes > 0 => {
            let block = if how == Use::Sole {
                pool.allocate_mut(bytes, queue)
            } else {
                pool.allocate(bytes, queue)
            };
            slots[slot as usize] = block.ok();
        }
        ReplayStep::Free { slot } => {
            if let Some(block) = slots[slot as usize].take() {
                if how == Use::Sole {
                    pool.free_mut(block)
                } else {
                    pool.free(block)
                }
            }
        }
        _ => {}
    }
}

fn rounds(steps: &[ReplayStep], configuration: &PoolConfiguration, how: Use) {
    let mut pool = Pool::new(
        Box::new(SimulatedDriver::new(DEVICE_BYTES)),
        configuration.clone(),
    );
    let mut slots = slots(steps);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Stopwatch::start();
        for step in steps {
            apply(&mut pool, step, &mut slots, how);
        }
        times.push(format!("{:.1}", nanoseconds(start.elapsed(), steps.len())));
        slots
            .iter_mut()
            .filter_map(Option::take)
            .for_each(|block| pool.free(block));
    }
    let name = if how == Use::Sole {
        "sole user"
    } else {
        "with locks"
    };
    println!(
        "  {name}: {} ns per event, round by round",
        times.join(", ")
    );
}

/// Single events, each between two clock reads; the cost of a clock read is printed beside them.
fn percentiles(steps: &[ReplayStep], configuration: &PoolConfiguration) {
    let mut pool = Pool::new(
        Box::new(SimulatedDriver::new(DEVICE_BYTES)),
        configuration.clone(),
    );
    let mut slots = slots(steps);
    let mut times: Vec<u32> = Vec::with_capacity(steps.len());
    for step in steps {
        let start = Instant::now();
        apply(&mut pool, step, &mut slots, Use::Sole);
        times.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
    print_percentiles(times);
}

fn print_percentiles(mut times: Vec<u32>) {
    times.sort_unstable();
    let mut clock: Vec<u32> = (0..10_000)
        .map(|_| Instant::now().elapsed().as_nanos() as u32)
        .collect();
    clock.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "  single events: p50 {} ns, p99 {} ns, p99.9 {} ns, longest {} ns (clock {} ns included)",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        clock[clock.len() / 2]
    );
}

/// The same trace through [`Memory`], where every block has an owner.
fn with_owners(steps: &[ReplayStep]) {
    let driver = Box::new(SimulatedDriver::new(DEVICE_BYTES));
    let memory = Memory::with_driver(driver, PoolConfiguration::default());
    let owner = Owner::new(Region::Workspace, "bench");
    let mut slots: Vec<_> = slots(steps).iter().map(|_| None).collect();
    for round in 0..2 {
        let start = Stopwatch::start();
        for step in steps {
            match *step {
                ReplayStep::Allocate { slot, bytes, .. } => {
                    slots[slot as usize] = memory.allocate(bytes as usize, owner).ok()
                }
                ReplayStep::Free { slot } => slots[slot as usize] = None,
                _ => {}
            }
        }
        println!(
            "with owners, round {round}: {:.1} ns an event",
            nanoseconds(start.elapsed(), steps.len())
        );
        slots.iter_mut().for_each(|block| *block = None);
    }
}

/// Threads with a queue each on one pool of sixteen shards, in wall time. Threads with a pool each
/// run beside them and show the machine's own limit.
fn threads() {
    for count in [1, 2, 4] {
        let (mut shared, mut alone) = (Duration::MAX, Duration::MAX);
        for _ in 0..ROUNDS {
            let pool = pool_of(16);
            shared = shared.min(together(count, |queue| churn(&pool, queue)));
            let pools: Vec<_> = (0..count).map(|_| pool_of(16)).collect();
            alone = alone.min(together(count, |queue| {
                churn(&pools[queue as usize], queue)
            }));
        }
        let rate = |time: Duration| (CHURN_EVENTS as u64 * count) as f64 / time.as_secs_f64() / 1e6;
        println!(
            "{count} threads: {:.1} million events a second on one pool, {:.1} on one each: {:.2}",
            rate(shared),
            rate(alone),
            rate(shared) / rate(alone)
        );
    }
}

const CHURN_EVENTS: usize = 500_000;

fn pool_of(shards: usize) -> Pool {
    Pool::with_shards(
        Box::new(SimulatedDriver::new(DEVICE_BYTES)),
        PoolConfiguration::default(),
        shards,
    )
}

fn together(count: u64, work: impl Fn(u64) + Sync) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for queue in 0..count {
            let work = &work;
            scope.spawn(move || work(queue));
        }
    });
    start.elapsed()
}

fn churn(pool: &Pool, queue: u64) {
    let mut random = random_numbers(queue);
    let mut held: Vec<PoolBlock> = Vec::new();
    for _ in 0..CHURN_EVENTS {
        if held.len() < 4 || (held.len() < 64 && random().is_multiple_of(2)) {
            held.extend(pool.allocate(1 + random() % 200_000, queue).ok());
        } else {
            let block = held.swap_remove(random() as usize % held.len());
            pool.free(block);
        }
    }
    held.into_iter().for_each(|block| pool.free(block));
}

fn nanoseconds(time: Duration, events: usize) -> f64 {
    time.as_nanos() as f64 / events.max(1) as f64
}

/// Measures the CPU time of this thread.
struct Stopwatch(Duration);

impl Stopwatch {
    fn start() -> Stopwatch {
        Stopwatch(thread_time())
    }

    fn elapsed(&self) -> Duration {
        thread_time().saturating_sub(self.0)
    }
}

#[cfg(unix)]
fn thread_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is valid for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(not(unix))]
fn thread_time() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}
