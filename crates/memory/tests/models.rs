//! Models of shared state, run in many interleavings by a model checker: `cargo test --release -p
//! sottovoce-memory --features shuttle --test models`.

use shuttle::sync::Mutex;
use shuttle::thread;
use sottovoce_memory::budget::{Account, Balance, Budget};
use sottovoce_memory::driver::SimulatedDriver;
use sottovoce_memory::pages::PagePool;
use sottovoce_memory::plan::{Lifetime, Plan};
use sottovoce_memory::pool::{Pool, PoolBlock, PoolConfiguration};
use sottovoce_memory::{Memory, Owner, PlanMismatch, PlannedArena, Region, StreamId};
use std::sync::Arc;

const ORDERS: usize = 2000;
const MIB: u64 = 1 << 20;

fn pool(device_mib: u64, configuration: &str, shards: usize) -> Arc<Pool> {
    let driver = Box::new(SimulatedDriver::new(device_mib * MIB));
    Arc::new(Pool::with_shards(
        driver,
        PoolConfiguration::parse(configuration).unwrap(),
        shards,
    ))
}

/// Checks the pool, empties it, and checks that the driver got everything back.
fn ends_empty(pool: &Pool) {
    pool.check().unwrap();
    pool.empty_cache();
    let statistics = pool.statistics();
    assert_eq!(
        statistics.allocated_bytes.all.current, 0,
        "everything was given back"
    );
    assert_eq!(
        statistics.reserved_bytes.all.current, 0,
        "an emptied pool holds nothing"
    );
    assert!(statistics.allocated_bytes.all.peak <= statistics.reserved_bytes.all.peak);
    let memory = pool.driver().memory();
    assert_eq!(memory.free, memory.total);
}

#[test]
fn queues_on_shards_of_their_own_agree_on_totals_and_peaks() {
    shuttle::check_random(
        || {
            let pool = pool(256, "", 4);
            let threads: Vec<_> = (0..3)
                .map(|queue| {
                    let pool = Arc::clone(&pool);
                    thread::spawn(move || {
                        let sizes = [700_000, 3 * MIB, 900];
                        let blocks: Vec<_> = sizes
                            .iter()
                            .map(|&size| pool.allocate(size, queue).unwrap())
                            .collect();
                        blocks.into_iter().for_each(|block| pool.free(block));
                        pool.free(pool.allocate(600_000, queue).unwrap());
                    })
                })
                .collect();
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            // Each thread holds at most 3,847,168 bytes of blocks at once; three together hold at
            // most three times that.
            let peak = pool.statistics().allocated_bytes.all.peak;
            assert!((3_847_168..=3 * 3_847_168).contains(&peak), "peak {peak}");
            assert_eq!(pool.statistics().allocation.all.allocated, 12);
            ends_empty(&pool);
        },
        ORDERS,
    );
}

#[test]
fn emptying_the_cache_during_allocations_loses_nothing() {
    for configuration in ["", "expandable_segments:True"] {
        shuttle::check_random(
            move || {
                let pool = pool(256, configuration, 2);
                let worker = {
                    let pool = Arc::clone(&pool);
                    thread::spawn(move || {
                        for size in [30 * MIB, 500_000, 30 * MIB] {
                            let block = pool.allocate(size, 1).unwrap();
                            assert!(block.size >= size);
                            pool.free(block);
                        }
                    })
                };
                for _ in 0..2 {
                    pool.empty_cache();
                    pool.check().unwrap();
                }
                worker.join().unwrap();
                ends_empty(&pool);
            },
            ORDERS,
        );
    }
}

#[test]
fn a_thread_that_runs_out_gets_what_another_has_cached() {
    shuttle::check_random(
        || {
            let pool = pool(64, "", 2);
            let threads: Vec<_> = (0..2)
                .map(|queue| {
                    let pool = Arc::clone(&pool);
                    thread::spawn(move || {
                        let block = pool.allocate(32 * MIB, queue).expect("two halves fit");
                        pool.free(block);
                    })
                })
                .collect();
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            let whole = pool
                .allocate(64 * MIB, 2)
                .expect("what both have cached is given back first");
            pool.free(whole);
            ends_empty(&pool);
        },
        ORDERS,
    );
}

#[test]
fn a_block_may_be_freed_by_another_thread_and_waits_for_the_queues_that_use_it() {
    shuttle::check_random(
        || {
            let pool = pool(256, "", 2);
            let handed: Arc<Mutex<Vec<PoolBlock>>> = Arc::default();
            let giver = {
                let (pool, handed) = (Arc::clone(&pool), Arc::clone(&handed));
                thread::spawn(move || {
                    for size in [600_000, 30 * MIB] {
                        let block = pool.allocate(size, 0).unwrap();
                        pool.record_use(&block, 1);
                        handed.lock().unwrap().push(block);
                    }
                })
            };
            let taker = {
                let (pool, handed) = (Arc::clone(&pool), Arc::clone(&handed));
                thread::spawn(move || {
                    let blocks = std::mem::take(&mut *handed.lock().unwrap());
                    blocks.into_iter().for_each(|block| pool.free(block));
                    pool.free(pool.allocate(1000, 1).unwrap());
                })
            };
            giver.join().unwrap();
            taker.join().unwrap();
            let rest = std::mem::take(&mut *handed.lock().unwrap());
            rest.into_iter().for_each(|block| pool.free(block));
            ends_empty(&pool);
        },
        ORDERS,
    );
}

#[test]
fn owners_and_pages_add_up_in_any_order() {
    shuttle::check_random(
        || {
            let driver = Box::new(SimulatedDriver::new(64 * MIB));
            let memory = Memory::with_driver(driver, PoolConfiguration::default());
            let pages = PagePool::new(&memory, 2 << 20, 3);
            let threads: Vec<_> = (0..2)
                .map(|stream| {
                    let (memory, pages) = (memory.clone(), pages.clone());
                    thread::spawn(move || {
                        let owner =
                            Owner::new(Region::KeyValue, "model").for_stream(StreamId(stream));
                        let mut table = pages.table(owner);
                        table.push_page().expect("each needs one page of three");
                        let block = memory.allocate_on(1000, owner, stream).unwrap();
                        drop(table);
                        drop(block);
                    })
                })
                .collect();
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            pages.trim();
            memory.trim();
            let statistics = memory.statistics();
            assert_eq!(statistics.held_bytes(), 0);
            assert!(
                statistics.streams.is_empty(),
                "streams that hold nothing are forgotten"
            );
            assert_eq!(statistics.regions[&Region::KeyValue].live_blocks, 0);
        },
        ORDERS,
    );
}

#[test]
fn reserved_pages_stay_available_while_others_grow_trim_or_leave() {
    shuttle::check_random(
        || {
            let driver = Box::new(SimulatedDriver::new(64 * MIB));
            let memory = Memory::with_driver(driver, PoolConfiguration::default());
            let pages = PagePool::new(&memory, 2 << 20, 5);
            let threads: Vec<_> = (0..2)
                .map(|stream| {
                    let pages = pages.clone();
                    thread::spawn(move || {
                        let owner = Owner::new(Region::KeyValue, "model");
                        let mut table = pages.table(owner.for_stream(StreamId(stream)));
                        table.reserve(2).expect("two tables of two fit");
                        for _ in 0..2 {
                            table.push_page().expect("reserved");
                        }
                        table.truncate(1);
                        table.push_page().expect("still reserved");
                    })
                })
                .collect();
            let other = {
                let pages = pages.clone();
                thread::spawn(move || {
                    let mut table = pages.table(Owner::new(Region::KeyValue, "other"));
                    // The request may be refused, but takes nothing from reservations.
                    let _ = table.push_page();
                    pages.trim();
                })
            };
            for thread in threads.into_iter().chain([other]) {
                thread.join().unwrap();
            }
            assert_eq!((pages.used_count(), pages.reserved_count()), (0, 0));
            pages.trim();
            assert_eq!(memory.statistics().held_bytes(), 0);
        },
        ORDERS,
    );
}

#[test]
fn a_budget_promises_no_more_than_it_has_in_any_order() {
    shuttle::check_random(
        || {
            let budget = Budget::new(100);
            let threads: Vec<_> = (0..3)
                .map(|stream| {
                    let budget = budget.clone();
                    thread::spawn(move || {
                        let account = Account::of_stream(Region::KeyValue, StreamId(stream));
                        let Ok(mut promised) = budget.reserve(account, 40) else {
                            return;
                        };
                        promised.commit(40).expect("it was promised");
                        let grown = promised.grow(20).is_ok();
                        let Balance { reserved, .. } = budget.device();
                        assert!((40..=100).contains(&reserved), "{reserved} are promised");
                        promised.release(40);
                        assert_eq!(promised.shrink(100), if grown { 60 } else { 40 });
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
            budget.check().unwrap();
            assert_eq!(budget.device(), Balance::default());
        },
        ORDERS,
    );
}

#[test]
fn a_planned_place_belongs_to_one_piece_in_any_order_of_drops() {
    shuttle::check_random(
        || {
            let driver = Box::new(SimulatedDriver::new(64 * MIB));
            let memory = Memory::with_driver(driver, PoolConfiguration::default());
            let lifetimes = [0, 1, 2].map(|first| Lifetime {
                first,
                last: first + 1,
                bytes: 64,
            });
            let plan = Plan {
                offsets: vec![0; 3],
                peak: 64,
                lower_bound: 64,
                proven_bytes: 64,
            };
            let owner = Owner::new(Region::Workspace, "model");
            let arenas = PlannedArena::together(&memory, &[(&lifetimes, &plan)], owner);
            let arena = arenas.unwrap().remove(0);
            let holders = Arc::new(Mutex::new(0));
            let mut droppers = Vec::new();
            for index in 0..3 {
                let piece = loop {
                    match arena.allocate(64) {
                        Ok(piece) => break piece,
                        Err(mismatch) => {
                            let other = index - 1;
                            assert_eq!(mismatch, PlanMismatch::Overlaps { index, other });
                            thread::yield_now();
                        }
                    }
                };
                *holders.lock().unwrap() += 1;
                assert_eq!(*holders.lock().unwrap(), 1, "one piece lives in the place");
                let holders = Arc::clone(&holders);
                droppers.push(thread::spawn(move || {
                    *holders.lock().unwrap() -= 1;
                    drop(piece);
                }));
            }
            drop(arena);
            for dropper in droppers {
                dropper.join().unwrap();
            }
        },
        ORDERS,
    );
}
