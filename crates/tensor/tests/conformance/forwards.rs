//! Whole forwards: planned, replayed, and out of memory.

use crate::common::{Fixture, page_table, random};
use sottovoce_memory::Region;
use sottovoce_tensor::{
    Activation, CacheLayout, CachePlaces, CachePrecision, Context, Failure, Linear, PageLayout,
    Precision, Tensor, Workspace,
};

fn network(ctx: &Context<'_>, layers: &[Linear], input: &[f32]) -> Tensor {
    let mut x = ctx.upload(&[5, 20], input);
    for layer in layers {
        x = ctx.linear_activated(&x, layer, Activation::Tanh);
    }
    x
}

fn layers(fixture: &Fixture) -> Vec<Linear> {
    (0..4)
        .map(|seed| Linear {
            weight: fixture.matrix(20, 20, &random(seed, 400), Precision::F32),
            bias: None,
        })
        .collect()
}

pub fn a_planned_run_equals_a_pooled_one_and_stays_in_its_arena(fixture: &Fixture) {
    let (layers, input) = (layers(fixture), random(9, 100));
    let expected = fixture.run(|ctx| ctx.download(&network(&ctx, &layers, &input)).unwrap());
    for device in &fixture.devices {
        let device = &**device;
        let measuring = Workspace::measuring();
        let out = network(&Context::new(&measuring, device), &layers, &input);
        let read = Context::new(&measuring, device).download(&out);
        assert!(read.unwrap().is_empty(), "a dry run has no bytes");
        drop(out);
        let trace = measuring.trace().expect("it measured");

        let memory = &fixture.memory;
        let planned = Workspace::planned(memory, &trace, "planned").expect("room");
        let held = || memory.statistics().regions[&Region::Workspace].live_bytes;
        let reserved = held();
        for _ in 0..3 {
            planned.restart();
            let ctx = Context::new(&planned, device);
            let out = network(&ctx, &layers, &input);
            assert_eq!(ctx.download(&out).unwrap(), expected);
            assert_eq!(held(), reserved, "a planned run takes no new memory");
        }
    }
}

pub fn a_replayed_forward_equals_an_eager_one_with_what_was_written_anew(fixture: &Fixture) {
    let layers = layers(fixture);
    for device in &fixture.devices {
        let device = &**device;
        let measuring = Workspace::measuring();
        drop(network(
            &Context::new(&measuring, device),
            &layers,
            &[0.0; 100],
        ));
        let trace = measuring.trace().expect("it measured");
        let workspace = Workspace::planned(&fixture.memory, &trace, "planned").expect("room");
        let forward = |input: &[f32], replayed: bool| {
            workspace.restart();
            let ctx = Context::new(&workspace, device);
            let mut out = None;
            let mut run = || out = Some(network(&ctx, &layers, input));
            match replayed {
                true => device.replay(7, &mut run),
                false => run(),
            }
            ctx.download(&out.expect("it ran")).unwrap()
        };
        for seed in 0..4 {
            let input = random(seed, 100);
            let eager = forward(&input, false);
            assert_eq!(forward(&input, true), eager, "with key 7, input {seed}");
        }
    }
}

pub fn a_replayed_forward_takes_ids_positions_and_places_of_a_cache_anew(fixture: &Fixture) {
    let (heads, size, rows) = (2, 8, 3);
    let columns = heads * size;
    let table = fixture.matrix(30, columns, &random(1, 30 * columns), Precision::F16);
    let cache = CacheLayout {
        heads,
        size,
        precision: CachePrecision::F16,
    };
    let layout = PageLayout {
        cache,
        layers: 1,
        rows: 1,
        positions: 4,
    };
    for device in &fixture.devices {
        let device = &**device;
        // One position after another of three sequences; returns each attention result.
        let speak = |key: Option<u64>| {
            let mut tables: Vec<_> = (0..rows)
                .map(|_| page_table(&fixture.memory, layout, 9))
                .collect();
            let step = |ctx: Context<'_>, places: &mut CachePlaces<'_>, ids: &[u32]| {
                let x = ctx.embedding(&table, ids);
                let mut keys = ctx.copy(&x);
                let [cosines, sines] =
                    ctx.rotary_angles(&places.positions(), &[1.0, 0.4, 0.1, 0.02]);
                ctx.rotate(&mut keys, heads, &cosines, &sines);
                ctx.cache_store(&keys, &x, 0, places);
                ctx.attention_cached(&keys, 0, places, 0.5)
            };
            let measuring = Workspace::measuring();
            drop(step(
                Context::new(&measuring, device),
                &mut CachePlaces::dry(cache, rows),
                &[0; 3],
            ));
            let trace = measuring.trace().expect("it measured");
            let workspace = Workspace::planned(&fixture.memory, &trace, "planned").expect("room");
            let mut seen = Vec::new();
            for position in 0..9 {
                let mut places = CachePlaces::new(cache);
                for table in &mut tables {
                    let sequence = places.add_sequences(None, table, layout);
                    places.add_row(sequence, position + 1);
                }
                let ids = [0, 1, 2].map(|row| (7 * position + row) as u32 % 30);
                workspace.restart();
                let ctx = Context::new(&workspace, device);
                let mut out = None;
                let mut run = || out = Some(step(ctx, &mut places, &ids));
                match key {
                    Some(key) => device.replay(key, &mut run),
                    None => run(),
                }
                seen.push(ctx.download(&out.expect("it ran")).unwrap());
            }
            seen
        };
        assert_eq!(speak(Some(8)), speak(None));
    }
}

pub fn running_out_of_memory_is_reported_once_and_computes_nothing_more(fixture: &Fixture) {
    let workspace = Workspace::pooled(&fixture.memory, "small");
    let ctx = Context::new(&workspace, &*fixture.devices[0]);
    let _large = ctx.tensor(&[1 << 34]);
    let mut after = ctx.zeros(&[4]);
    ctx.write(&mut after, |_| panic!("after a failure everything is dry"));
    let read = ctx.read(&after, |_| panic!("there is nothing to read"));
    assert!(matches!(read, Err::<(), _>(Failure::OutOfMemory(_))));
    assert!(ctx.finish().is_ok(), "the failure is reported once");
    assert_eq!(ctx.download(&ctx.zeros(&[4])).unwrap(), [0.0; 4]);
}

pub fn plans_that_run_in_turn_share_the_room_of_the_largest(fixture: &Fixture) {
    let trace = |rows: usize| {
        let dry = Workspace::measuring();
        drop(dry.tensor(&[rows, 16]));
        dry.trace().expect("measuring")
    };
    let (small, large) = (trace(1), trace(8));
    let memory = &fixture.memory;
    let workspaces = Workspace::planned_together(memory, &[&small, &large], "test").expect("room");
    let held = memory.statistics().held_bytes();
    for _ in 0..2 {
        for (workspace, rows) in workspaces.iter().zip([1, 8]) {
            workspace.restart();
            Context::new(workspace, &*fixture.devices[0]).zeros(&[rows, 16]);
        }
    }
    assert_eq!(
        memory.statistics().held_bytes(),
        held,
        "both run in the arena that was reserved at first"
    );
}
