//! Refusals of the device, and a lost device: streams end with their error after their unchanged
//! beginning, nothing hangs or leaks, and the engine can be loaded again.

use crate::scene::{Heard, act, expected, long_stream, options, source, stream};
use cuda_stand_in::client::{StandIn, within_patience};
use sottovoce::{Engine, Error, VoiceSource, read_in_turn};

const MEMORY: &str = "memory=1073741824";

/// Asserts that every stream finished with the same sound, or ended with its own error after a
/// prefix of it; returns the number of the latter.
fn check(heard: &[Heard], expected: &[Vec<f32>], when: &str) -> usize {
    let mut refused = 0;
    for ((samples, ending), expected) in heard.iter().zip(expected) {
        match ending {
            Ok(()) => assert!(samples == expected, "{when}: it spoke something else"),
            Err(error) => {
                check_error(error, when);
                assert!(
                    expected.starts_with(samples),
                    "{when}: it spoke something else, then {error}"
                );
                refused += 1;
            }
        }
    }
    refused
}

/// Asserts that an error explains itself and is not a caught panic.
fn check_error(error: &Error, when: &str) {
    let text = error.to_string();
    assert!(
        !matches!(error, Error::Fault { .. }) && text.len() > 20,
        "{when}: {text}"
    );
}

/// At most three numbers below `count`, evenly spread.
fn spread(count: u64) -> Vec<u64> {
    let mut numbers = vec![0, count / 2, count - 1];
    numbers.dedup();
    numbers
}

#[test]
fn a_call_of_the_library_that_fails_once_costs_no_more_than_the_streams_it_was_for() {
    let device = StandIn::new(10, MEMORY);
    let spoken = expected(device);
    device.expect_clean("after the run without a fault");
    let calls = device.calls();
    assert!(calls.len() > 20, "{calls:?}");
    let (mut runs, mut at_load, mut in_streams) = (0, 0, 0);
    for (call, count) in calls {
        for number in spread(count) {
            let when = format!("{call} fails, {number} of {count}");
            within_patience(&when, || {
                let device = StandIn::new(10, &format!("{MEMORY} fail={call}:{number}"));
                match act(device) {
                    Ok(heard) => in_streams += check(&heard, &spoken, &when),
                    Err(error) => {
                        check_error(&error, &when);
                        at_load += 1;
                    }
                }
                assert!(!device.fail_none(), "{when}: it was not called so often");
                device.expect_clean(&when);
                runs += 1;
            });
        }
    }
    println!("{runs} runs: {at_load} were refused at load, {in_streams} streams ended early");
    assert!(at_load > 0 && in_streams > 0);
    let device = StandIn::new(10, MEMORY);
    assert!(expected(device) == spoken, "it can be loaded again");
}

#[test]
fn after_a_kernel_that_faults_the_model_can_be_loaded_again_on_the_same_card() {
    let device = StandIn::new(11, MEMORY);
    let spoken = expected(device);
    let launches = device.count("launches");
    for number in spread(launches) {
        let when = format!("kernel {number} of {launches} faults");
        within_patience(&when, || {
            device.set(&format!("fault={number}"));
            match act(device) {
                Ok(heard) => assert!(check(&heard, &spoken, &when) > 0, "{when}"),
                Err(error) => {
                    check_error(&error, &when);
                    assert!(error.to_string().contains("ILLEGAL_ADDRESS"), "{error}");
                }
            }
            device.expect_clean(&when);
            device.set("fault=none");
            assert!(expected(device) == spoken, "{when}: it can be loaded again");
        });
    }
}

#[test]
fn a_card_that_is_gone_from_a_call_on_ends_everything_with_its_error() {
    let device = StandIn::new(12, MEMORY);
    let spoken = expected(device);
    let calls = device.count("calls");
    for status in [719, 999] {
        for number in [0, calls / 50, calls / 4, calls / 2, calls - calls / 10] {
            let when = format!("call {number} of {calls} and all after it return {status}");
            within_patience(&when, || {
                let device = StandIn::new(12, &format!("{MEMORY} lost={number}:{status}"));
                match act(device) {
                    Ok(heard) => {
                        check(&heard, &spoken, &when);
                    }
                    Err(error) => check_error(&error, &when),
                }
            });
        }
    }
    let device = StandIn::new(12, MEMORY);
    assert!(expected(device) == spoken, "it can be loaded again");
}

#[test]
fn a_card_that_falls_off_in_mid_sentence_ends_streams_after_their_finished_sound() {
    let device = StandIn::new(13, MEMORY);
    let spoken = expected(device);
    within_patience("a card that falls off", || {
        let engine = Engine::load(source(), options(device)).unwrap();
        let voice = engine.voice(VoiceSource::Default).unwrap();
        let whole = read_in_turn(vec![long_stream(&engine, &voice, 0)])
            .remove(0)
            .0;
        let before = engine.metrics().chunks;
        assert!(before > 2, "{before} chunks");
        let mut first = long_stream(&engine, &voice, 0).unwrap();
        let mut samples = first.next().unwrap().unwrap().samples;
        // The next chunk is finished and waits for its reader.
        while engine.metrics().chunks < before + 2 {
            std::thread::yield_now();
        }
        device.set("lost=0:719");
        let second = stream(&engine, &voice, 1);
        let third = stream(&engine, &voice, 2);
        let finished = first.next().unwrap().unwrap().samples;
        assert!(!finished.is_empty(), "what was finished is delivered");
        samples.extend(finished);
        let heard = read_in_turn(vec![Ok(first), second, third]);
        let mut failed = 0;
        for (index, (more, ending)) in heard.iter().enumerate() {
            let error = ending.as_ref().expect_err("it cannot end well");
            samples.extend(more);
            // The loss may have been noticed before a further stream was asked for.
            if index > 0 && matches!(error, Error::Stopped) {
                continue;
            }
            failed += 1;
            assert!(matches!(error, Error::Device(_)), "{error}");
            assert!(
                error.to_string().contains("load the model again"),
                "{error}"
            );
        }
        assert!(whole.starts_with(&samples) && samples.len() < whole.len());
        while engine.is_alive() {
            std::thread::yield_now();
        }
        let refused = stream(&engine, &voice, 3).err().expect("it is dead");
        assert!(matches!(refused, Error::Stopped), "{refused}");
        assert_eq!(engine.metrics().streams_failed, failed);
    });
    let device = StandIn::new(13, MEMORY);
    assert!(expected(device) == spoken, "it can be loaded again");
}

#[test]
fn memory_that_another_process_takes_costs_one_stream_an_error_and_the_next_one_speaks() {
    let device = StandIn::new(14, MEMORY);
    let spoken = expected(device);
    within_patience("taken memory", || {
        let engine = Engine::load(source(), options(device)).unwrap();
        let voice = engine.voice(VoiceSource::Default).unwrap();
        let speak = |seed| read_in_turn(vec![stream(&engine, &voice, seed)]).remove(0);
        let mut under_way = stream(&engine, &voice, 0).unwrap();
        let mut samples = under_way.next().unwrap().unwrap().samples;
        let take = || {
            let free = (1 << 30) - device.count("used");
            device.set(&format!("taken={free}"));
        };
        take();
        let (more, ending) = read_in_turn(vec![Ok(under_way)]).remove(0);
        ending.expect("it has all that it was promised");
        samples.extend(more);
        assert!(samples == spoken[0]);
        while engine.metrics().streams_live > 0 {
            std::thread::yield_now();
        }
        engine.trim();
        take();
        let (samples, ending) = speak(1);
        let error = ending.expect_err("there is no memory for its pages");
        assert!(
            samples.is_empty() && matches!(error, Error::OutOfMemory(_)),
            "{error}"
        );
        assert!(error.to_string().contains("free"), "{error}");
        assert!(engine.metrics().out_of_memory > 0, "the ladder was climbed");
        device.set("taken=0");
        let (samples, ending) = speak(1);
        ending.unwrap();
        assert!(samples == spoken[1]);
    });
    device.expect_clean("after the engine");
}
