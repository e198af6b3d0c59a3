//! Blocks through the public interface.

use sottovoce_memory::driver::{DriverError, SimulatedDriver};
use sottovoce_memory::plan::{self, Lifetime, SolveOptions};
use sottovoce_memory::{
    Arena, Memory, OutOfMemoryKind, Owner, PlanMismatch, PlannedArena, PoolConfiguration, Region,
    StreamId,
};

const OWNER: Owner = Owner::new(Region::Workspace, "test");

#[test]
fn a_block_can_be_written_and_is_freed_on_drop() {
    let memory = Memory::host(64 << 20);
    let mut block = memory.allocate(1000, OWNER).unwrap();
    block.bytes_mut().fill(7);
    assert_eq!(block.bytes(), [7; 1000]);
    assert_eq!(memory.statistics().requested_bytes.all.current, 1000);
    drop(block);
    assert_eq!(
        memory.statistics().requested_bytes.all.current,
        0,
        "a dropped block is not live"
    );
    assert!(
        memory.trim() > 0,
        "its bytes were cached and can be trimmed"
    );
    assert_eq!(memory.statistics().held_bytes(), 0);
}

#[test]
fn a_request_above_the_capacity_never_fits() {
    let memory = Memory::host(1 << 20);
    let error = memory.reserve_exact(2 << 20, OWNER).unwrap_err();
    assert_eq!(error.kind, OutOfMemoryKind::NeverFits);
    assert_eq!(error.requested, 2 << 20);
}

#[test]
fn a_request_that_others_block_is_not_now_and_names_them() {
    let memory = Memory::host(64 << 20);
    let _held = memory
        .reserve_exact(48 << 20, Owner::new(Region::Weights, "weights.t3"))
        .unwrap();
    let error = memory
        .reserve_exact(32 << 20, OWNER.for_stream(StreamId(3)))
        .unwrap_err();
    assert_eq!(error.kind, OutOfMemoryKind::NotNow);
    assert_eq!(error.owners()[0].owner.tag, "weights.t3");
}

#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn a_part_of_a_file_counts_for_its_owner_until_its_last_holder_is_dropped() {
    use std::io::Write;
    let memory = Memory::host(1 << 20);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[[7; 65_536], [9; 65_536]].concat())
        .unwrap();
    let shared = memory.map_file(&file, 65_536..65_540, OWNER).unwrap();
    drop(file);
    let part = shared.slice(1..3).unwrap();
    drop(shared);
    assert_eq!(part.bytes(), [9; 2]);
    let statistics = memory.statistics();
    assert_eq!(statistics.exact_bytes.current, memory.unit_bytes());
    assert_eq!(statistics.owners[0].owner, OWNER);
    assert_eq!(statistics.owners[0].live_bytes, 4);
    drop(part);
    assert_eq!(memory.statistics().held_bytes(), 0);
    memory.check().unwrap();
}

#[test]
fn arena_parts_are_aligned_disjoint_and_shareable() {
    let memory = Memory::host(64 << 20);
    let mut arena = Arena::new(
        memory
            .reserve_exact(4096, Owner::new(Region::Weights, "test"))
            .unwrap(),
    );
    let mut first = arena.take(10, 64).unwrap();
    let mut second = arena.take(100, 64).unwrap();
    assert_eq!(second.address().0 - first.address().0, 64);
    first.bytes_mut().fill(1);
    second.bytes_mut().fill(2);
    let (first, second) = (first.into_shared(), second.into_shared());
    assert_eq!((first.bytes()[9], second.bytes()[99]), (1, 2));
    assert!(
        second.slice(90..101).is_none(),
        "a slice never reaches past its end"
    );
    assert!(
        arena.take(4096, 64).is_none(),
        "an arena never gives more than it has"
    );
    drop(arena);
    assert_eq!(
        memory.statistics().exact_bytes.current,
        4096,
        "parts keep the block alive"
    );
    drop((first, second));
    assert_eq!(memory.statistics().exact_bytes.current, 0);
}

fn planned(memory: &Memory, runs: &[&[(u32, u32, u64)]]) -> Vec<PlannedArena> {
    let lifetimes: Vec<Vec<Lifetime>> = (runs.iter())
        .map(|run| {
            let lifetime = |&(first, last, bytes)| Lifetime { first, last, bytes };
            run.iter().map(lifetime).collect()
        })
        .collect();
    let plans: Vec<_> = (lifetimes.iter())
        .map(|lifetimes| plan::solve(lifetimes, &SolveOptions::default()))
        .collect();
    let both: Vec<_> = (lifetimes.iter().zip(&plans))
        .map(|(lifetimes, plan)| (lifetimes.as_slice(), plan))
        .collect();
    PlannedArena::together(memory, &both, OWNER).unwrap()
}

#[test]
fn a_planned_arena_serves_every_run_from_the_same_bytes() {
    let memory = Memory::host(1 << 20);
    let arena = &planned(&memory, &[&[(0, 2, 128), (1, 4, 64), (2, 4, 128)]])[0];
    assert_eq!(arena.len(), 192);
    memory.seal();
    let mut places = Vec::new();
    for run in 0..3 {
        arena.restart();
        let mut first = arena.allocate(128).unwrap();
        first.bytes_mut().fill(run);
        let mut second = arena.allocate(20).expect("less than planned fits");
        second.bytes_mut().fill(run + 100);
        assert_eq!(first.bytes(), [run; 128]);
        drop(first);
        let third = arena.allocate(128).unwrap();
        assert_eq!(second.bytes(), [run + 100; 20]);
        places.push((second.address(), third.address()));
    }
    assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
    assert_eq!(memory.statistics().exact_blocks.current, 1);
}

#[test]
fn a_deviation_from_a_plan_is_refused_and_the_run_may_go_on_as_planned() {
    let memory = Memory::host(1 << 20);
    let arena = &planned(&memory, &[&[(0, 2, 100), (1, 4, 50), (2, 4, 100)]])[0];
    let first = arena.allocate(100).unwrap();
    let too_large = PlanMismatch::TooLarge {
        index: 1,
        bytes: 51,
        planned: 50,
    };
    assert_eq!(arena.allocate(51).unwrap_err(), too_large);
    let second = arena.allocate(50).expect("as planned");
    let overlaps = PlanMismatch::Overlaps { index: 2, other: 0 };
    assert_eq!(arena.allocate(100).unwrap_err(), overlaps);
    drop(first);
    let third = arena.allocate(100).expect("its place is free");
    let too_many = PlanMismatch::TooMany { planned: 3 };
    assert_eq!(arena.allocate(1).unwrap_err(), too_many);
    drop(second);
    arena.restart();
    let still_running = PlanMismatch::StillRunning { other: 2 };
    assert_eq!(arena.allocate(100).unwrap_err(), still_running);
    drop(third);
    arena.allocate(100).expect("a run begins");
}

#[test]
fn plans_share_bytes_in_turn_but_never_concurrently() {
    let memory = Memory::host(1 << 20);
    let arenas = planned(&memory, &[&[(0, 1, 64), (0, 1, 64)], &[(0, 1, 4096)]]);
    assert_eq!(memory.statistics().exact_bytes.current, 4096, "the largest");
    let first = arenas[0].allocate(64).unwrap();
    let still_running = PlanMismatch::StillRunning { other: 0 };
    assert_eq!(arenas[1].allocate(4096).unwrap_err(), still_running);
    let second = arenas[0].allocate(64).expect("the first goes on");
    drop((first, second));
    let whole = arenas[1].allocate(4096).expect("it is the second's turn");
    assert_eq!(arenas[0].allocate(64).unwrap_err(), still_running);
    drop(whole);
    arenas[0].allocate(64).expect("the first begins again");
}

#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn contents_are_discarded_between_runs_and_never_while_a_piece_is_in_use() {
    let memory = Memory::host(1 << 20);
    let arenas = planned(&memory, &[&[(0, 1, 40 << 10)], &[(0, 1, 64 << 10)]]);
    let mut piece = arenas[1].allocate(64 << 10).unwrap();
    piece.bytes_mut().fill(7);
    let resident = || memory.resident().unwrap().bytes;
    arenas[0].discard_contents();
    assert_eq!((resident(), piece.bytes()[0]), (64 << 10, 7));
    drop(piece);
    arenas[0].discard_contents();
    assert_eq!((resident(), arenas[0].len()), (0, 64 << 10));
    assert_eq!(memory.statistics().held_bytes(), 64 << 10);
    let mut piece = arenas[0].allocate(40 << 10).expect("the next run begins");
    piece.bytes_mut().fill(9);
    assert_eq!((resident(), piece.bytes()[0]), (40 << 10, 9));
}

#[test]
fn new_plans_take_over_the_bytes_and_the_rest_is_freed() {
    let memory = Memory::host(64 << 20);
    let large = [(0, 2, 40 << 10), (1, 3, 24 << 10)];
    let small = [(0, 2, 8 << 10), (1, 3, 4 << 10)];
    let solved = |run: &[(u32, u32, u64)]| {
        let lifetimes: Vec<_> = (run.iter())
            .map(|&(first, last, bytes)| Lifetime { first, last, bytes })
            .collect();
        let plan = plan::solve(&lifetimes, &SolveOptions::default());
        (lifetimes, plan)
    };
    let (lifetimes, plan) = solved(&small);
    let arenas = planned(&memory, &[&large, &large]);
    assert_eq!(memory.statistics().held_bytes(), 64 << 10);
    memory.seal();
    let arenas = PlannedArena::replan(arenas, &[(&lifetimes, &plan)]).unwrap();
    assert_eq!(arenas[0].len(), 64 << 10, "a sealed driver takes nothing");
    memory.unseal();
    let arenas = PlannedArena::replan(arenas, &[(&lifetimes, &plan)]).unwrap();
    assert_eq!((arenas.len(), arenas[0].len()), (1, 12 << 10));
    assert_eq!(memory.statistics().held_bytes(), 12 << 10);
    let mut piece = arenas[0].allocate(8 << 10).unwrap();
    piece.bytes_mut().fill(1);
    drop(piece);
    let (lifetimes, plan) = solved(&large);
    assert!(PlannedArena::replan(arenas, &[(&lifetimes, &plan)]).is_none());
    assert_eq!(
        memory.statistics().held_bytes(),
        0,
        "too small a block goes back whole"
    );
}

#[test]
fn pieces_may_be_dropped_by_other_threads() {
    let memory = Memory::host(1 << 20);
    let arena = &planned(&memory, &[&[(0, 1, 64), (1, 2, 64), (2, 3, 64)]])[0];
    for _ in 0..50 {
        arena.restart();
        for value in 0..3 {
            let mut piece = arena.allocate(64).expect("the one before is gone");
            std::thread::scope(|scope| {
                scope.spawn(move || piece.bytes_mut().fill(value));
            });
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "what it shows is a leak")]
fn bytes_outlive_their_arena_while_a_piece_is_in_use_and_are_freed_otherwise() {
    let memory = Memory::host(1 << 20);
    let arenas = planned(&memory, &[&[(0, 1, 4096)]]);
    let mut piece = arenas[0].allocate(4096).unwrap();
    drop(arenas);
    piece.bytes_mut().fill(1);
    assert_eq!(piece.bytes(), [1; 4096]);
    drop(piece);
    assert_eq!(
        memory.statistics().exact_bytes.current,
        4096,
        "never given back"
    );
    let arenas = planned(&memory, &[&[(0, 1, 8192)]]);
    drop(arenas[0].allocate(8192).unwrap());
    drop(arenas);
    assert_eq!(memory.statistics().exact_bytes.current, 4096);
}

#[test]
fn bytes_are_copied_in_and_out_on_any_device() {
    let simulated = SimulatedDriver::new(64 << 20).with_bytes();
    for memory in [
        Memory::host(64 << 20),
        Memory::with_driver(Box::new(simulated), PoolConfiguration::default()),
    ] {
        let mut block = memory.allocate(1000, OWNER).expect("room");
        block.write(0, &[1; 1000]).expect("it has bytes");
        block.write(990, &[2; 10]).expect("it has bytes");
        let mut read = [0; 20];
        block.read(980, &mut read).expect("it has bytes");
        assert_eq!(read, [[1; 10], [2; 10]].concat()[..]);
        let mut arena = Arena::new(memory.allocate(64, OWNER).expect("room"));
        let (mut first, mut second) = (arena.take(32, 1).unwrap(), arena.take(32, 1).unwrap());
        first.write(0, &[3; 32]).expect("it has bytes");
        second.write(8, &[4; 24]).expect("it has bytes");
        first.read(12, &mut read).expect("it has bytes");
        assert_eq!(read, [3; 20]);
        second
            .into_shared()
            .read(12, &mut read)
            .expect("it has bytes");
        assert_eq!(read, [4; 20]);
        let mut nothing = memory.allocate(0, OWNER).expect("nothing");
        nothing.write(0, &[]).expect("nothing");
        nothing.read(0, &mut []).expect("nothing");
    }
}

#[test]
fn a_device_without_bytes_refuses_to_copy() {
    let driver = Box::new(SimulatedDriver::new(64 << 20));
    let memory = Memory::with_driver(driver, PoolConfiguration::default());
    let mut block = memory.allocate(1000, OWNER).expect("room");
    let refused = block.write(0, &[1; 10]).expect_err("no bytes");
    assert!(matches!(
        refused,
        DriverError::Unsupported { call: "write", .. }
    ));
    assert!(block.read(0, &mut [0; 10]).is_err());
}

#[test]
#[should_panic(expected = "10 bytes from 995 on of 1000")]
fn bytes_beyond_a_block_are_not_copied() {
    let mut block = Memory::host(64 << 20).allocate(1000, OWNER).expect("room");
    let _ = block.write(995, &[0; 10]);
}
