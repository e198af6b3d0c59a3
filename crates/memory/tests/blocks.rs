//! Blocks through the public interface.

use sottovoce_memory::{Arena, Memory, OutOfMemoryKind, Owner, Region, StreamId};

const OWNER: Owner = Owner::new(Region::Workspace, "test");

#[test]
fn a_block_can_be_written_and_gives_back_on_drop() {
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
fn more_than_the_capacity_never_fits() {
    let memory = Memory::host(1 << 20);
    let error = memory.reserve_exact(2 << 20, OWNER).unwrap_err();
    assert_eq!(error.kind, OutOfMemoryKind::NeverFits);
    assert_eq!(error.requested, 2 << 20);
}

#[test]
fn what_others_hold_is_not_now_and_they_are_named() {
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
