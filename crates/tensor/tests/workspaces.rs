//! A planned workspace serves its trace and nothing else.

use sottovoce_memory::Memory;
use sottovoce_tensor::Workspace;

fn memory() -> Memory {
    Memory::host(1 << 20)
}

#[test]
#[should_panic(expected = "bytes, 64 were planned")]
fn a_larger_tensor_than_recorded_is_refused() {
    let measuring = Workspace::measuring();
    drop(measuring.tensor(&[16]));
    let trace = measuring.trace().expect("it measured");
    let planned = Workspace::planned(&memory(), &trace, "test").expect("room");
    let _ = planned.tensor(&[17]);
}

#[test]
#[should_panic(expected = "lives longer than planned")]
fn a_tensor_that_outlives_its_recorded_lifetime_is_caught() {
    let measuring = Workspace::measuring();
    drop(measuring.tensor(&[16]));
    drop(measuring.tensor(&[16]));
    let trace = measuring.trace().expect("it measured");
    let planned = Workspace::planned(&memory(), &trace, "test").expect("room");
    let _first = planned.tensor(&[16]);
    let _second = planned.tensor(&[16]);
}

#[test]
#[should_panic(expected = "overlaps")]
fn plans_that_share_memory_must_not_overlap() {
    let dry = Workspace::measuring();
    drop(dry.tensor(&[16]));
    let trace = dry.trace().expect("measuring");
    let workspaces =
        Workspace::planned_together(&memory(), &[&trace, &trace], "test").expect("room");
    let _first = workspaces[0].tensor(&[16]);
    let _second = workspaces[1].tensor(&[16]);
}
