//! The CUDA driver through the binary: with a stand-in for NVIDIA's library, with one that lacks
//! functions, and without any.

#![cfg(target_os = "linux")]

use cuda_stand_in::client;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

const TRACE: &str =
    "a 0 41943040 t\na 1 2097152 t\na 2 62914560 t\nf 0\nf 2\nm chunk 1\na 3 73400320 t\n";

fn sottovoce(libraries: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sottovoce"))
        .args(arguments)
        .env("LD_LIBRARY_PATH", libraries)
        .env("CUDA_STAND_IN_MEMORY", (256 << 20).to_string())
        .env_remove("SOTTOVOCE_ALLOC_CONF")
        .env_remove("PYTORCH_ALLOC_CONF")
        .env_remove("PYTORCH_CUDA_ALLOC_CONF")
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    let mut report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    if let Some(report) = report.as_object_mut() {
        report.remove("ns_per_event");
    }
    report
}

#[test]
fn a_replay_on_cuda_gives_the_figures_of_the_simulated_device() {
    let folder = tempfile::tempdir().unwrap();
    client::install(folder.path(), &[]).unwrap();
    let trace = folder.path().join("run.trace");
    std::fs::write(&trace, TRACE).unwrap();
    for configuration in ["", "expandable_segments:True"] {
        let replay = |driver: &str| {
            let arguments = [
                "memory",
                "replay",
                trace.to_str().unwrap(),
                "--json",
                "--device-memory",
                "150MiB",
                "--conf",
                configuration,
                "--driver",
                driver,
            ];
            json(&sottovoce(folder.path(), &arguments))
        };
        let simulated = replay("simulated");
        assert_eq!(simulated["events"], 7);
        assert_eq!(replay("cuda"), simulated, "{configuration:?}");
    }
}

#[test]
fn a_driver_without_ranges_is_used_without_them_and_the_doctor_says_so() {
    let folder = tempfile::tempdir().unwrap();
    client::install(folder.path(), &["cuMemAddressReserve"]).unwrap();
    let trace = folder.path().join("run.trace");
    std::fs::write(&trace, TRACE).unwrap();
    let replay = |configuration: &str| {
        let trace = trace.to_str().unwrap();
        let arguments = [
            "memory",
            "replay",
            trace,
            "--json",
            "--conf",
            configuration,
            "--driver",
            "cuda",
        ];
        json(&sottovoce(folder.path(), &arguments))
    };
    assert_eq!(
        replay("expandable_segments:True"),
        replay(""),
        "expandable segments are off without ranges"
    );
    let report = json(&sottovoce(folder.path(), &["doctor", "--json"]));
    let device = &report["machine"]["cuda_devices"][0];
    assert_eq!(
        (&device["name"], &device["total_bytes"]),
        (&"Stand-in GPU".into(), &(256 << 20).into())
    );
    let notes = report["machine"]["notes"].to_string();
    assert!(
        notes.contains("expandable segments are off on CUDA device 0"),
        "{notes}"
    );
}

#[test]
fn without_a_driver_the_program_says_so_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("run.trace");
    std::fs::write(&trace, TRACE).unwrap();
    // A file of that name that is no library stands for a machine without one, wherever the test
    // runs.
    for name in ["libcuda.so", "libcuda.so.1"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    let arguments = [
        "memory",
        "replay",
        trace.to_str().unwrap(),
        "--driver",
        "cuda",
    ];
    let output = sottovoce(folder.path(), &arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    if !Path::new("/dev/nvidiactl").exists() {
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(
            error.contains("no CUDA") && !error.contains("panicked"),
            "{error}"
        );
    }
    let report = json(&sottovoce(folder.path(), &["doctor", "--json"]));
    assert!(report["machine"]["cuda_devices"].is_array());
    assert_eq!(report["settings"]["allocator"]["origin"], "default");
}
