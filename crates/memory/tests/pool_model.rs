//! The pool against a naive allocator that only tracks live blocks, under random operations,
//! configurations and faults.

use proptest::prelude::*;
use sottovoce_memory::driver::{SimulatedControl, SimulatedDriver};
use sottovoce_memory::pool::{Pool, PoolBlock, PoolConfiguration, PoolRefusal, sizes};
use sottovoce_memory::{Memory, Owner, Region};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Operation {
    Allocate {
        bytes: u64,
        queue: u64,
    },
    /// Frees the n-th live block, modulo their number.
    Free {
        place: usize,
    },
    Use {
        place: usize,
        queue: u64,
    },
    HoldEvents(bool),
    EmptyCache,
    /// Sets the device's capacity, in units of 2 MiB.
    Resize(u64),
}

/// Sizes around every threshold of the rules, and anything between.
fn bytes() -> impl Strategy<Value = u64> {
    let borders = [
        512_u64,
        1 << 20,
        2 << 20,
        10 << 20,
        20 << 20,
        22 << 20,
        40 << 20,
        64 << 20,
        128 << 20,
    ];
    prop_oneof![
        (prop::sample::select(borders.to_vec()), -1024_i64..=1024)
            .prop_map(|(border, more)| border.saturating_add_signed(more)),
        (0_u32..27, 0_u64..1 << 27).prop_map(|(bits, noise)| (1 << bits) + noise % (1 << bits)),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => (bytes(), 0_u64..3).prop_map(|(bytes, queue)| Operation::Allocate { bytes, queue }),
        7 => any::<usize>().prop_map(|place| Operation::Free { place }),
        1 => (any::<usize>(), 0_u64..3).prop_map(|(place, queue)| Operation::Use { place, queue }),
        1 => any::<bool>().prop_map(Operation::HoldEvents),
        1 => Just(Operation::EmptyCache),
        1 => (8_u64..300).prop_map(Operation::Resize),
    ]
}

fn configuration() -> impl Strategy<Value = PoolConfiguration> {
    let split = prop::sample::select(&["", "max_split_size_mb:21", "max_split_size_mb:64"][..]);
    let rounding = prop::sample::select(
        &[
            "",
            "roundup_power2_divisions:2",
            "roundup_power2_divisions:[16:8,>:4]",
        ][..],
    );
    let expandable =
        prop::sample::select(&["expandable_segments:False", "expandable_segments:True"][..]);
    let fraction = prop::option::of(0.2_f64..1.0);
    (split, rounding, expandable, fraction, any::<bool>()).prop_map(
        |(split, rounding, expandable, fraction, collects)| {
            let collection = if collects {
                "garbage_collection_threshold:0.5"
            } else {
                ""
            };
            let parts: Vec<&str> = [split, rounding, expandable, collection]
                .into_iter()
                .filter(|part| !part.is_empty())
                .collect();
            PoolConfiguration {
                per_process_memory_fraction: fraction,
                ..PoolConfiguration::parse(&parts.join(",")).unwrap()
            }
        },
    )
}

/// Live blocks: address → (bytes requested, block).
struct Model {
    pool: Pool,
    control: SimulatedControl,
    live: BTreeMap<u64, (u64, PoolBlock)>,
    /// Whether a call fails as scripted, so that an allocation may fail for no other reason.
    faulty: bool,
}

impl Model {
    fn new(configuration: PoolConfiguration, shards: usize) -> Model {
        let driver = SimulatedDriver::new(400 << 20);
        let control = driver.control();
        Model {
            pool: Pool::with_shards(Box::new(driver), configuration, shards),
            control,
            live: BTreeMap::new(),
            faulty: false,
        }
    }

    fn nth(&self, place: usize) -> Option<u64> {
        self.live
            .keys()
            .nth(place % self.live.len().max(1))
            .copied()
    }

    fn apply(&mut self, operation: &Operation) {
        match *operation {
            Operation::Allocate { bytes, queue } => match self.pool.allocate(bytes, queue) {
                Ok(block) => {
                    let (start, end) = (block.address.0, block.address.0 + block.size);
                    assert!(
                        start.is_multiple_of(512) && block.size >= bytes,
                        "a block is aligned and large enough"
                    );
                    let below = self.live.range(..end).next_back();
                    let overlaps =
                        below.is_some_and(|(&address, (_, other))| address + other.size > start);
                    assert!(!overlaps, "no byte is handed out twice");
                    self.live.insert(start, (bytes, block));
                }
                Err(refusal) => self.failed_for_a_reason(&refusal),
            },
            Operation::Free { place } => {
                if let Some(address) = self.nth(place)
                    && let Some((_, block)) = self.live.remove(&address)
                {
                    self.pool.free(block);
                }
            }
            Operation::Use { place, queue } => {
                if let Some(address) = self.nth(place) {
                    self.pool.record_use(&self.live[&address].1, queue);
                }
            }
            Operation::HoldEvents(held) => self.control.hold_events(held),
            Operation::EmptyCache => {
                self.pool.empty_cache();
            }
            Operation::Resize(units) => self.control.set_capacity(units * (2 << 20)),
        }
        self.pool.check().unwrap();
    }

    /// An allocation may fail only if the driver, or the memory fraction, has too little after the
    /// cache was released.
    fn failed_for_a_reason(&self, refusal: &PoolRefusal) {
        if self.faulty {
            return;
        }
        let segment_bytes = refusal.segment_bytes;
        let needed = segment_bytes.next_multiple_of(sizes::LARGE_SEGMENT);
        let held = self.pool.statistics().reserved_bytes.all.current;
        let over_allowed = self
            .pool
            .allowed_bytes()
            .is_some_and(|allowed| held + needed > allowed);
        assert!(
            over_allowed || self.pool.driver().memory().free < needed,
            "there was room for {segment_bytes} bytes"
        );
    }

    fn totals_are_the_models(&self) {
        let statistics = self.pool.statistics();
        let requested: u64 = self.live.values().map(|(bytes, _)| bytes).sum();
        let allocated: u64 = self.live.values().map(|(_, block)| block.size).sum();
        assert_eq!(statistics.allocated_bytes.all.current, allocated);
        assert_eq!(statistics.allocation.all.current, self.live.len() as u64);
        let waiting = statistics.active_bytes.all.current - allocated;
        let counted = statistics.requested_bytes.all.current;
        assert!(
            (requested..=requested + waiting).contains(&counted),
            "requested: {counted}, live {requested}, waiting {waiting}"
        );
    }

    fn ends_empty(mut self) {
        self.control.hold_events(false);
        for (_, (_, block)) in std::mem::take(&mut self.live) {
            self.pool.free(block);
        }
        self.pool.empty_cache();
        self.pool.check().unwrap();
        let statistics = self.pool.statistics();
        assert_eq!(
            statistics.reserved_bytes.all.current, 0,
            "an emptied pool holds nothing"
        );
        assert_eq!(statistics.requested_bytes.all.current, 0);
        self.control.set_capacity(400 << 20);
        assert_eq!(
            self.pool.driver().memory().free,
            400 << 20,
            "the driver has everything back"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_operation_breaks_an_invariant(
        configuration in configuration(),
        shards in prop::sample::select(&[1_usize, 4][..]),
        operations in prop::collection::vec(operation(), 1..120),
    ) {
        let mut model = Model::new(configuration, shards);
        for operation in &operations {
            model.apply(operation);
        }
        model.totals_are_the_models();
        model.ends_empty();
    }

    #[test]
    fn one_shard_and_many_count_the_same(
        configuration in configuration(),
        operations in prop::collection::vec(operation(), 1..120),
    ) {
        let mut models = [1, 8].map(|shards| Model::new(configuration.clone(), shards));
        for operation in &operations {
            models.iter_mut().for_each(|model| model.apply(operation));
        }
        let [one, many] = models.map(|model| model.pool.statistics());
        prop_assert_eq!(one, many);
    }
}

/// A run that needs every kind of driver call, and continues when calls fail.
fn run_with_faults(configuration: &str, failing: Option<u64>) -> u64 {
    let mut model = Model::new(PoolConfiguration::parse(configuration).unwrap(), 1);
    if let Some(call) = failing {
        model.control.fail_call(call);
        model.faulty = true;
    }
    let sizes = [
        600 << 10,
        3 << 20,
        30 << 20,
        70 << 20,
        100 << 20,
        900,
        45 << 20,
        260 << 20,
        12 << 20,
    ];
    for (step, bytes) in sizes.into_iter().enumerate() {
        model.apply(&Operation::Allocate {
            bytes,
            queue: step as u64 % 2,
        });
        if step % 2 == 1 {
            model.apply(&Operation::Free { place: step * 7 });
            model.apply(&Operation::Free { place: step * 5 });
        }
        if step % 4 == 3 {
            model.apply(&Operation::EmptyCache);
        }
    }
    model.totals_are_the_models();
    let calls = model.control.call_count();
    if failing.is_none() {
        model.ends_empty();
    } else {
        // A call that fails while the cache is emptied leaves its piece cached, for the next
        // attempt.
        for (_, (_, block)) in std::mem::take(&mut model.live) {
            model.pool.free(block);
        }
        model.pool.empty_cache();
        model.ends_empty();
    }
    calls
}

#[test]
fn a_fault_at_any_driver_call_loses_nothing() {
    for configuration in ["", "expandable_segments:True", "max_split_size_mb:32"] {
        let calls = run_with_faults(configuration, None);
        assert!(calls > 8, "the run calls the driver");
        for call in 0..calls {
            run_with_faults(configuration, Some(call));
        }
    }
}

#[test]
fn a_pool_on_a_shrinking_device_runs_out_of_memory_and_recovers() {
    let mut model = Model::new(PoolConfiguration::default(), 1);
    model.apply(&Operation::Allocate {
        bytes: 100 << 20,
        queue: 0,
    });
    model.control.set_capacity(50 << 20);
    assert!(
        model.pool.allocate(30 << 20, 0).is_err(),
        "another process took what was free"
    );
    model.control.set_capacity(400 << 20);
    model.apply(&Operation::Allocate {
        bytes: 30 << 20,
        queue: 0,
    });
    assert_eq!(model.live.len(), 2);
    model.ends_empty();
}

#[test]
fn a_sealed_memory_serves_from_its_cache_and_refuses_the_rest() {
    let owner = Owner::new(Region::Workspace, "test");
    let driver = SimulatedDriver::new(400 << 20);
    let control = driver.control();
    let memory = Memory::with_driver(Box::new(driver), PoolConfiguration::default());
    drop(memory.allocate(30 << 20, owner).unwrap());
    let exact = memory.reserve_exact(5 << 20, owner).unwrap();
    memory.seal();
    let calls = control.call_count();
    for _ in 0..100 {
        drop(
            memory
                .allocate(30 << 20, owner)
                .expect("the cache serves it"),
        );
    }
    let error = memory.allocate(60 << 20, owner).unwrap_err();
    assert_eq!(
        error.kind,
        sottovoce_memory::OutOfMemoryKind::OverAccount,
        "{error}"
    );
    assert!(error.to_string().contains("sealed"), "{error}");
    drop(exact);
    assert_eq!(memory.trim(), 0);
    assert_eq!(
        control.call_count(),
        calls,
        "a sealed driver is never called"
    );
    memory.unseal();
    assert_eq!(
        memory.statistics().exact_bytes.current,
        0,
        "what was dropped meanwhile goes back with the seal"
    );
    memory.trim();
    assert_eq!(memory.statistics().held_bytes(), 0);
}

#[test]
fn threads_with_a_queue_each_never_share_a_byte() {
    let memory = Memory::host(512 << 20);
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let memory = memory.clone();
            scope.spawn(move || {
                let owner = Owner::new(Region::Workspace, "test");
                let mut held = Vec::new();
                let mut state = u64::from(thread) + 1;
                // An interpreter is a thousand times slower.
                let (rounds, size_max) = if cfg!(miri) {
                    (20, 500)
                } else {
                    (2000, 100_000)
                };
                for _ in 0..rounds {
                    state = state
                        .wrapping_mul(6364136223846793005)
                        .wrapping_add(1442695040888963407);
                    let random = (state >> 33) as usize;
                    if held.len() < 20 && !random.is_multiple_of(3) {
                        let mut block = memory
                            .allocate_on(1 + random % size_max, owner, u64::from(thread))
                            .unwrap();
                        block.bytes_mut().fill(thread);
                        held.push(block);
                    } else if !held.is_empty() {
                        let block = held.swap_remove(random % held.len());
                        assert!(
                            block.bytes().iter().all(|&byte| byte == thread),
                            "another thread wrote here"
                        );
                    }
                }
            });
        }
    });
    memory.check().unwrap();
    let statistics = memory.statistics();
    assert_eq!(statistics.allocated_bytes.all.current, 0);
    assert_eq!(statistics.tags["test"].live_blocks, 0);
    assert!(statistics.allocated_bytes.all.peak <= statistics.reserved_bytes.all.peak);
    memory.trim();
    assert_eq!(memory.statistics().held_bytes(), 0);
}
