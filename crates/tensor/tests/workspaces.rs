//! Measuring, planning and running give the same result from an arena of the planned size.

mod common;

use common::{matrix, memory, random};
use sottovoce_memory::{Memory, Region};
use sottovoce_tensor::cpu::Cpu;
use sottovoce_tensor::{
    Activation, Context, Failure, Linear, Precision, Tensor, Threads, Workspace,
};

fn network(ctx: &Context<'_>, layers: &[Linear], input: &[f32]) -> Tensor {
    let mut x = ctx.upload(&[5, 20], input);
    for layer in layers {
        x = ctx.linear_activated(&x, layer, Activation::Tanh);
    }
    x
}

fn layers() -> Vec<Linear> {
    (0..4)
        .map(|seed| Linear {
            weight: matrix(20, 20, &random(seed, 400), Precision::F32),
            bias: None,
        })
        .collect()
}

#[test]
fn a_planned_run_equals_a_pooled_one_and_stays_in_its_arena() {
    let cpu = Cpu::new(Threads::new(1));
    let (layers, input) = (layers(), random(9, 100));
    let measuring = Workspace::measuring();
    let out = network(&Context::new(&measuring, &cpu), &layers, &input);
    let read = Context::new(&measuring, &cpu).download(&out);
    assert!(read.unwrap().is_empty(), "a dry run has no bytes");
    drop(out);
    let recording = measuring.recording().expect("it measured");
    assert!(recording.peak_bytes() >= recording.lower_bound_bytes());

    let memory = memory();
    let pooled = Workspace::pooled(&memory, "pooled");
    let ctx = Context::new(&pooled, &cpu);
    let expected = ctx.download(&network(&ctx, &layers, &input)).unwrap();
    let planned = Workspace::planned(&memory, &recording, "planned").expect("room");
    let reserved = memory.statistics().regions[&Region::Workspace].live_bytes;
    for _ in 0..3 {
        planned.restart();
        let ctx = Context::new(&planned, &cpu);
        let out = network(&ctx, &layers, &input);
        assert_eq!(ctx.download(&out).unwrap(), expected);
        let now = memory.statistics().regions[&Region::Workspace].live_bytes;
        assert_eq!(now, reserved, "a planned run takes no new memory");
    }
}

#[test]
fn running_out_of_memory_is_reported_once_and_computes_nothing_more() {
    let cpu = Cpu::new(Threads::new(1));
    let workspace = Workspace::pooled(&Memory::host(4 << 20), "small");
    let ctx = Context::new(&workspace, &cpu);
    let _large = ctx.tensor(&[1 << 22]);
    let mut after = ctx.zeros(&[4]);
    ctx.write(&mut after, |_| panic!("after a failure everything is dry"));
    let read = ctx.read(&after, |_| panic!("there is nothing to read"));
    assert!(matches!(read, Err::<(), _>(Failure::OutOfMemory(_))));
    assert!(ctx.finish().is_ok(), "the failure is reported once");
    assert_eq!(ctx.download(&ctx.zeros(&[4])).unwrap(), [0.0; 4]);
}

#[test]
#[should_panic(expected = "bytes, 64 were planned")]
fn a_larger_tensor_than_recorded_is_refused() {
    let measuring = Workspace::measuring();
    drop(measuring.tensor(&[16]));
    let recording = measuring.recording().expect("it measured");
    let planned = Workspace::planned(&memory(), &recording, "test").expect("room");
    let _ = planned.tensor(&[17]);
}

#[test]
#[should_panic(expected = "lives longer than planned")]
fn a_tensor_that_outlives_its_recorded_lifetime_is_caught() {
    let measuring = Workspace::measuring();
    drop(measuring.tensor(&[16]));
    drop(measuring.tensor(&[16]));
    let recording = measuring.recording().expect("it measured");
    let planned = Workspace::planned(&memory(), &recording, "test").expect("room");
    let _first = planned.tensor(&[16]);
    let _second = planned.tensor(&[16]);
}

#[test]
fn plans_that_run_in_turn_share_the_room_of_the_largest() {
    let recording = |rows: usize| {
        let dry = Workspace::measuring();
        drop(dry.tensor(&[rows, 16]));
        dry.recording().expect("measuring")
    };
    let (small, large) = (recording(1), recording(8));
    let memory = memory();
    let workspaces = Workspace::planned_together(&memory, &[&small, &large], "test").expect("room");
    let held = memory.statistics().held_bytes();
    let cpu = Cpu::new(Threads::new(1));
    for _ in 0..2 {
        for (workspace, rows) in workspaces.iter().zip([1, 8]) {
            workspace.restart();
            Context::new(workspace, &cpu).zeros(&[rows, 16]);
        }
    }
    assert_eq!(
        memory.statistics().held_bytes(),
        held,
        "both run in the arena that was reserved at first"
    );
}

#[test]
#[should_panic(expected = "overlaps")]
fn plans_that_share_room_must_not_run_at_once() {
    let dry = Workspace::measuring();
    drop(dry.tensor(&[16]));
    let recording = dry.recording().expect("measuring");
    let workspaces =
        Workspace::planned_together(&memory(), &[&recording, &recording], "test").expect("room");
    let _first = workspaces[0].tensor(&[16]);
    let _second = workspaces[1].tensor(&[16]);
}
