//! End-to-end tests of `bench flow` and `bench speed` with the embedded voice.

use serde_json::Value;
use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sottovoce"))
        .arg("bench")
        .args(arguments)
        .output()
        .unwrap()
}

fn bench_flow(arguments: &[&str]) -> Output {
    bench(&[&["flow", "--tokens", "40"], arguments].concat())
}

#[test]
fn streams_that_speak_at_the_same_time_are_counted_together() {
    let samples = |streams: &str| {
        let output = bench(&["speed", "--utterances", "2", "--streams", streams, "--json"]);
        assert!(output.status.success(), "{output:?}");
        let figures: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let whole = (figures.iter().find(|figure| figure["delivery"] == "whole")).unwrap();
        assert_eq!(whole["streams"], streams.parse::<u64>().unwrap());
        (whole["audio_seconds"].as_f64().unwrap() * 24_000.0).round() as u64
    };
    assert_eq!(samples("3"), 3 * samples("1"));
}

#[test]
fn more_streams_than_an_engine_takes_are_refused_before_any_is_started() {
    let output = bench(&["speed", "--utterances", "2", "--streams", "1000000"]);
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("--streams"), "{message}");
}

#[test]
fn each_choice_of_the_flow_is_tried_and_less_of_it_is_further_from_the_whole() {
    let output = bench_flow(&["--chunk-sizes", "40,10", "--flow-steps", "2,1", "--json"]);
    assert!(output.status.success());
    let figures: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let difference = |chunk: u64, steps: u64| {
        let of = |figures: &&Value| {
            figures["choice"]["chunk_size"] == chunk && figures["choice"]["flow_steps"] == steps
        };
        figures.iter().find(of).unwrap()["difference"]
            .as_f64()
            .unwrap()
    };
    assert!(
        difference(40, 2) < 0.03,
        "the whole in 8 bits is nearly the whole: {}",
        difference(40, 2)
    );
    assert!(difference(40, 1) > difference(40, 2), "one step is rougher");
    assert!(difference(10, 2) > difference(40, 2), "so are small chunks");
}

#[test]
fn a_choice_out_of_range_is_refused_by_name() {
    for (arguments, named) in [
        (&["--chunk-sizes", "0"][..], "--chunk-sizes"),
        (&["--precision", "int9"], "--precision"),
        (&["--chunk-sizes", "75"], "chunk_size"),
        (&["--chunk-sizes", "40", "--flow-steps", "3"], "flow_steps"),
    ] {
        let output = bench_flow(arguments);
        assert!(!output.status.success(), "{arguments:?} must fail");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(named), "{message} must name {named}");
    }
}
