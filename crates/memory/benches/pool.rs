//! Times the pool: `cargo bench -p sottovoce-memory --bench pool [-- TRACE]`.
//!
//! Without a trace a made-up one is used: 400,000 events of many sizes with a cache that grows step by step. Printed are the mean
//! time of an event in several rounds over the same pool, percentiles of single events, and the events a second of several
//! threads with a queue each.

use sottovoce_memory::driver::SimulatedDriver;
use sottovoce_memory::pool::{Pool, PoolBlock, PoolConfiguration};
use sottovoce_memory::stats::MetricsRecorder;
use sottovoce_memory::trace::replay::{Step, steps};
use sottovoce_memory::trace::{Reader, TraceError};
use sottovoce_memory::{Memory, Owner, Region, StreamId};
use std::path::Path;
use std::time::{Duration, Instant};

const DEVICE_BYTES: u64 = 24 << 30;
const ROUNDS: usize = 5;

fn main() -> Result<(), TraceError> {
    // Cargo passes `--bench`; the trace is the argument that is no flag.
    let path = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"));
    let steps = match path {
        Some(path) => steps(Reader::open(Path::new(&path))?)?,
        None => made_up(400_000),
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
    metrics();
    threads();
    Ok(())
}

/// What taking the books down costs: once a chunk, which takes a tenth of a second and more.
fn metrics() {
    const CHUNKS: u64 = 10_000;
    let memory = Memory::with_driver(
        Box::new(SimulatedDriver::new(DEVICE_BYTES)),
        PoolConfiguration::default(),
    );
    let owner = Owner::new(Region::Workspace, "bench");
    let blocks: Vec<_> = (0..64)
        .map(|stream| memory.allocate(1 << 16, owner.for_stream(StreamId(stream))))
        .collect();
    let mut recorder = MetricsRecorder::default();
    let start = Instant::now();
    for chunk in 0..CHUNKS {
        recorder.chunk_done(&memory.statistics(), chunk);
    }
    let each = start.elapsed() / CHUNKS as u32;
    println!(
        "metrics and timeline with {} streams: {each:?} a chunk",
        blocks.len()
    );
}

/// Sizes and orders from a fixed seed.
fn made_up(events: usize) -> Vec<Step> {
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
                steps.push(Step::Allocate {
                    slot,
                    bytes,
                    queue: 0,
                });
                live.push(slot);
            }
            unused => {
                vacant.extend(unused);
                let slot = live.swap_remove(random() as usize % live.len());
                steps.push(Step::Free { slot });
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

fn slots(steps: &[Step]) -> Vec<Option<PoolBlock>> {
    let count = steps.iter().map(|step| match step {
        Step::Allocate { slot, .. } | Step::Free { slot } => *slot as usize + 1,
        _ => 0,
    });
    (0..count.max().unwrap_or(0)).map(|_| None).collect()
}

/// How the pool is used.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    /// By a sole user, without locks.
    Sole,
    /// As threads share it.
    Locked,
}

#[inline]
fn apply(pool: &mut Pool, step: &Step, slots: &mut [Option<PoolBlock>], how: Use) {
    match *step {
        Step::Allocate { slot, bytes, queue } if bytes > 0 => {
            let block = if how == Use::Sole {
                pool.allocate_mut(bytes, queue)
            } else {
                pool.allocate(bytes, queue)
            };
            slots[slot as usize] = block.ok();
        }
        Step::Free { slot } => {
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

fn rounds(steps: &[Step], configuration: &PoolConfiguration, how: Use) {
    let mut pool = Pool::new(
        Box::new(SimulatedDriver::new(DEVICE_BYTES)),
        configuration.clone(),
    );
    let mut slots = slots(steps);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
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
    println!("  {name}: {} ns an event, round by round", times.join(", "));
}

/// Single events, each between two looks at the clock; what the clock itself takes is printed beside.
fn percentiles(steps: &[Step], configuration: &PoolConfiguration) {
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

/// The same through [`Memory`], where every block has an owner.
fn with_owners(steps: &[Step]) {
    let driver = Box::new(SimulatedDriver::new(DEVICE_BYTES));
    let memory = Memory::with_driver(driver, PoolConfiguration::default());
    let owner = Owner::new(Region::Workspace, "bench");
    let mut slots: Vec<_> = slots(steps).iter().map(|_| None).collect();
    for round in 0..2 {
        let start = Instant::now();
        for step in steps {
            match *step {
                Step::Allocate { slot, bytes, .. } => {
                    slots[slot as usize] = memory.allocate(bytes as usize, owner).ok()
                }
                Step::Free { slot } => slots[slot as usize] = None,
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

/// Threads with a queue each on one pool of sixteen shards.
fn threads() {
    const EVENTS: usize = 1_000_000;
    let mut single = 0.0;
    for count in [1, 2, 4, 8] {
        let pool = Pool::with_shards(
            Box::new(SimulatedDriver::new(DEVICE_BYTES)),
            PoolConfiguration::default(),
            16,
        );
        let start = Instant::now();
        std::thread::scope(|scope| {
            for queue in 0..count {
                let pool = &pool;
                scope.spawn(move || churn(pool, queue, EVENTS));
            }
        });
        let rate = (EVENTS as u64 * count) as f64 / start.elapsed().as_secs_f64();
        if count == 1 {
            single = rate;
        }
        println!(
            "{count} threads: {:.1} million events a second, {:.2} of one thread's",
            rate / 1e6,
            rate / single
        );
    }
}

fn churn(pool: &Pool, queue: u64, events: usize) {
    let mut random = random_numbers(queue);
    let mut held: Vec<PoolBlock> = Vec::new();
    for _ in 0..events {
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
