//! What a CUDA device is asked for stays within its bounds.

#![cfg(target_os = "linux")]

mod counted;

use counted::{
    Asked, OnStandIn, Speaking, flow_of, narrow, narrow_flow, passes, position_bytes, weight_bytes,
};
use sottovoce_chatterbox::config::{ModelConfig, T3Config};
use sottovoce_chatterbox::t3::RepeatedForward;
use sottovoce_tensor::{Device, Precision};

#[test]
fn a_step_is_one_graph_of_few_kernels_that_read_each_weight_once() {
    let [base, turbo, nano] = [
        ModelConfig::base(),
        ModelConfig::turbo(),
        ModelConfig::nano(),
    ];
    for (name, config, kernels, precisions) in [
        (
            "base",
            base,
            153,
            &[Precision::F16, Precision::Int8, Precision::Q4][..],
        ),
        ("turbo", turbo, 124, &[Precision::F16, Precision::Int8]),
        ("nano", nano, 64, &[Precision::Int8, Precision::Q4]),
    ] {
        let official = config.t3;
        let config = ModelConfig {
            t3: narrow(config.t3),
            ..config
        };
        for &precision in precisions {
            let on = OnStandIn::open();
            // Many streams once: the stand-in runs every thread of every row.
            let counts: &[usize] = match precision {
                Precision::F16 => &[1, 4, 8, 16, 32],
                _ => &[1, 4, 8],
            };
            let most = counts.iter().max().copied().unwrap_or(1);
            let mut speaking = Speaking::begin(&on, &config, precision, most);
            for &count in counts {
                let own_bytes = on.device.own_bytes();
                assert!(!on.device.has_recorded(RepeatedForward::step(count).key()));
                let before = on.asked();
                speaking.step(&on.device, count, 3);
                let first = on.since(before);
                assert_eq!(
                    (first.launches, first.graph_launches),
                    (kernels, 1),
                    "{name}"
                );
                assert!(on.device.has_recorded(RepeatedForward::step(count).key()));
                let taken = on.device.own_bytes() - own_bytes;
                assert_eq!(
                    taken,
                    1024 * kernels,
                    "the graph's bytes are the driver's own"
                );
                for token in 4..6 {
                    let before = on.asked();
                    speaking.step(&on.device, count, token);
                    let step = on.since(before);
                    let bytes_read = step.bytes_read;
                    let expected = Asked {
                        launches: 0,
                        graph_launches: 1,
                        waits: 1,
                        memory_calls: 0,
                        reads: 1,
                        writes: 1,
                        bytes_read,
                    };
                    assert_eq!(step, expected, "{name} at {precision}, {count} states");
                    let [stored, seen] = speaking.positions(count);
                    let cached = |t3: &T3Config, positions| positions * position_bytes(t3);
                    let weights = weight_bytes(&config.t3, precision);
                    let watched = speaking.watched_bytes(seen);
                    let read = bytes_read - cached(&config.t3, seen) - watched;
                    let share = read as f64 / weights as f64;
                    assert!(
                        share <= 1.03,
                        "{name} at {precision}, {count} states: {share}"
                    );
                    // With all channels keys and values are a smaller part of what is read.
                    let weights = weight_bytes(&official, precision);
                    let needed = (weights + cached(&official, stored)) as f64;
                    let all = weights as f64 * share + (cached(&official, seen) + watched) as f64;
                    println!(
                        "{name} {precision}, {count} states: {kernels} kernels, weights × {share:.4}, \
                         all × {:.4} of {needed:.3e} bytes",
                        all / needed
                    );
                    // Of several states each one reads what they share.
                    assert!(
                        count > 1 || all <= 1.03 * needed,
                        "{name} at {precision}: {all}"
                    );
                }
            }
            drop(speaking);
        }
    }
}

#[test]
fn steps_that_were_recorded_take_nothing_from_the_driver_when_they_first_run() {
    let config = ModelConfig::tiny_base();
    let run = |record: bool| {
        let on = OnStandIn::open();
        let mut speaking = Speaking::begin(&on, &config, Precision::Int8, 4);
        let own_bytes = on.device.own_bytes();
        if record {
            (1..=4).for_each(|count| speaking.record(&on.device, count));
            let taken = on.device.own_bytes() - own_bytes;
            let reckoned = (on.device).recorded_bytes(4, speaking.launch_count_max());
            assert!(0 < taken && taken <= reckoned, "{taken} of {reckoned}");
        }
        let mut logits = Vec::new();
        for (token, count) in [1, 4, 2, 3, 1].into_iter().enumerate() {
            let (before, own_bytes) = (on.asked(), on.device.own_bytes());
            logits.push(speaking.step(&on.device, count, token as u32));
            let step = on.since(before);
            assert_eq!((step.graph_launches, step.reads), (1, 1));
            if record {
                assert_eq!((step.launches, step.memory_calls), (0, 0), "{count} states");
                assert_eq!(on.device.own_bytes(), own_bytes);
            }
        }
        logits
    };
    assert!(run(true) == run(false), "the same bits");
}

#[test]
fn a_replayed_step_has_the_bits_of_one_that_is_launched_kernel_by_kernel() {
    let config = ModelConfig::tiny_base();
    let run = |forget: bool| {
        let on = OnStandIn::open();
        let mut speaking = Speaking::begin(&on, &config, Precision::Int8, 2);
        let mut logits = Vec::new();
        for token in 0..5 {
            if forget {
                on.device.forget_recorded();
            }
            logits.push(speaking.step(&on.device, 2, token));
            logits.push(speaking.step(&on.device, 1, token));
        }
        logits
    };
    let replayed = run(false);
    assert!(replayed == run(true), "captured again at every step");
    // A driver that makes no graphs.
    let on = OnStandIn::open();
    let mut speaking = Speaking::begin(&on, &config, Precision::Int8, 2);
    for (index, expected) in replayed.iter().enumerate() {
        on.stand_in.set("fail=cuGraphInstantiateWithFlags:0:2");
        on.device.forget_recorded();
        let token = index as u32 / 2;
        let before = on.asked();
        let logits = speaking.step(&on.device, 2 - index % 2, token);
        assert!(logits == *expected, "step {index}");
        assert_eq!(on.since(before).graph_launches, 0);
    }
}

#[test]
fn a_velocity_is_one_pass_of_few_kernels_and_a_chunk_is_read_once() {
    for (name, config) in [
        ("base", ModelConfig::base()),
        ("turbo", ModelConfig::turbo()),
        ("nano", ModelConfig::nano()),
    ] {
        let on = OnStandIn::open();
        let flow = narrow_flow(&on, &config);
        let asked = |steps, guided_steps| flow_of(&on, &flow, &[12], (steps, guided_steps)).1;
        let (one, two, plain) = (asked(1, 1), asked(2, 2), asked(2, 1));
        let guided = two.launches - one.launches;
        println!("{name}, a velocity: {guided} launches");
        assert!(guided <= 340, "{name}: {guided} launches");
        assert!(plain.launches - one.launches <= guided);
        assert_eq!((two.reads, two.waits), (1, 1), "{name}, a chunk");
        // Streams together share the launches of a velocity, but for those that bring each one's
        // inputs side by side.
        let lengths = [12, 9, 12, 7, 10, 12, 8, 11];
        let together = |steps| flow_of(&on, &flow, &lengths, (steps, steps));
        let ((mels, two), (_, one)) = (together(2), together(1));
        let of_eight = two.launches - one.launches;
        println!("{name}, a velocity of eight streams: {of_eight} launches");
        let inputs = 5 * (lengths.len() as u64 - 1);
        assert!(of_eight <= guided + inputs, "{name}: {of_eight} launches");
        for (mel, length) in mels.chunks_exact(mels.len() / lengths.len()).zip(lengths) {
            let (alone, _) = flow_of(&on, &flow, &[length], (2, 2));
            assert!(mel[..alone.len()] == alone, "{name}, {length} tokens");
        }
    }
}

#[test]
fn a_pass_over_blocks_is_one_graph_that_was_recorded_and_is_read_once() {
    let flash = ModelConfig::flash();
    let narrow_flash = ModelConfig {
        t3: narrow(flash.t3),
        ..flash
    };
    let recorded = |config: &ModelConfig, counts, settled: &[usize]| {
        let run = passes(&OnStandIn::open(), config, counts, settled, [true, false]);
        let [taken, most] = run.recorded_bytes;
        assert!(0 < taken && taken <= most, "{taken} of {most}");
        println!("flash, {counts:?} states: {taken} of {most} bytes for graphs");
        for asked in run.asked {
            let expected = Asked {
                launches: 0,
                graph_launches: 1,
                waits: 1,
                memory_calls: 0,
                reads: 1,
                writes: 1,
                bytes_read: asked.bytes_read,
            };
            assert_eq!(asked, expected);
        }
        run.logits
    };
    recorded(&narrow_flash, [1, 1], &[0, 1]);
    let config = ModelConfig::tiny_flash();
    for (count, settled) in [(1, &[0, 1, 0, 1][..]), (2, &[0, 2, 1, 0, 1])] {
        let recorded = recorded(&config, [count, 2], settled);
        let captured = passes(
            &OnStandIn::open(),
            &config,
            [count, 2],
            settled,
            [false, true],
        );
        for asked in captured.asked {
            assert_eq!((asked.graph_launches, asked.reads), (1, 1));
        }
        assert!(recorded == captured.logits, "the same bits");
    }
}
