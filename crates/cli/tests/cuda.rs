//! End-to-end tests of the CUDA driver: with a stand-in for NVIDIA's library, with one that lacks
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
    // An invalid file of that name stands for a missing library on any machine.
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

/// Speaks a few words into `file`; returns the metrics and standard error.
fn speak(
    libraries: &Path,
    file: &str,
    device: &str,
    order: &str,
    further: &[&str],
) -> (Value, String) {
    let path = libraries.join(file);
    let output = Command::new(env!("CARGO_BIN_EXE_sottovoce"))
        .args(["speak", "Forty two boats.", "--json", "--seed", "3"])
        .args(["--temperature", "0", "--threads", "1", "--device", device])
        .args(["--out", path.to_str().unwrap()])
        .args(further)
        .env("LD_LIBRARY_PATH", libraries)
        .env("CUDA_STAND_IN_MEMORY", (256 << 20).to_string())
        .env("CUDA_STAND_IN_ORDER", order)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (
        serde_json::from_slice(&output.stdout).unwrap_or_default(),
        said,
    )
}

#[test]
fn a_cuda_device_says_as_many_tokens_as_the_processor_and_the_same_samples_in_every_order() {
    let folder = tempfile::tempdir().unwrap();
    client::install(folder.path(), &[]).unwrap();
    let (on_processor, said) = speak(folder.path(), "cpu.wav", "cpu", "natural", &[]);
    assert!(on_processor["tokens"].as_u64() > Some(5), "{said}");
    let read = |file: &str| std::fs::read(folder.path().join(file)).unwrap();
    let mut first = None;
    for order in ["natural", "reverse", "shuffled:3"] {
        let (figures, said) = speak(folder.path(), "cuda.wav", "cuda", order, &[]);
        assert_eq!(figures["tokens"], on_processor["tokens"], "{order}: {said}");
        let samples = read("cuda.wav");
        assert_eq!(samples.len(), read("cpu.wav").len());
        assert!(first.get_or_insert(samples.clone()) == &samples, "{order}");
    }
    let (_, said) = speak(folder.path(), "auto.wav", "auto", "natural", &[]);
    assert!(!said.contains("the CPU speaks"), "{said}");
    assert!(Some(read("auto.wav")) == first, "auto takes the card");
}

#[test]
fn a_cuda_device_that_cannot_be_used_is_refused_in_a_sentence_and_auto_goes_on_with_the_processor()
{
    let folder = tempfile::tempdir().unwrap();
    client::install(folder.path(), &[]).unwrap();
    for (device, further, expected) in [
        ("cuda:9", &[][..], "no CUDA device 9: the driver knows 2"),
        ("cuda", &["--memory", "8MiB"], "the budget of 8.00 MiB"),
        ("gpu", &[], "cuda:N"),
    ] {
        let (_, said) = speak(folder.path(), "none.wav", device, "natural", further);
        assert!(said.contains(expected), "{device}: {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    let none = tempfile::tempdir().unwrap();
    for name in ["libcuda.so", "libcuda.so.1"] {
        std::fs::write(none.path().join(name), "").unwrap();
    }
    if Path::new("/dev/nvidiactl").exists() {
        return;
    }
    let (_, said) = speak(none.path(), "none.wav", "cuda", "natural", &[]);
    assert!(
        said.contains("no CUDA") && said.contains("device cpu"),
        "{said}"
    );
    let (figures, said) = speak(none.path(), "cpu.wav", "auto", "natural", &[]);
    assert!(figures["tokens"].as_u64() > Some(5), "{said}");
    assert!(said.contains("the CPU speaks: no CUDA"), "{said}");
}

#[test]
fn the_doctor_compares_a_cuda_device_with_the_processor() {
    let folder = tempfile::tempdir().unwrap();
    client::install(folder.path(), &[]).unwrap();
    let output = sottovoce(folder.path(), &["doctor", "--device", "cuda", "--json"]);
    let report = json(&output);
    assert!(output.status.success(), "{report:#}");
    assert_eq!(report["held"], true, "{report:#}");
    let operations = report["operations"].as_array().unwrap();
    for word in ["linear", "lstm", "pages", "harmonics", "snake", "rotation"] {
        let named = |check: &&Value| check["operation"].as_str().unwrap().contains(word);
        assert!(operations.iter().any(|check| named(&check)), "{word}");
    }
    let ledgers = &report["ledgers"];
    assert_eq!(ledgers["device"]["total_bytes"], 256 << 20);
    assert_eq!(ledgers["device"]["driver"]["context"], 0, "it is known");
    assert!(ledgers["host"]["pinned_bytes"].as_u64() > Some(0));
    assert!(report["figures"]["launch_seconds"].as_f64() > Some(0.0));
    assert!(report["counts"]["launches"].as_u64() > Some(100));
    for check in report["speech"].as_array().unwrap() {
        assert_eq!(check["ledger_bytes"], check["device_bytes"], "{check:#}");
    }
    assert!(report["status"].as_str().unwrap().contains("experimental"));
    assert_eq!(report["card"]["name"], "Stand-in GPU");
}

#[test]
fn auto_looks_at_every_card_and_says_why_not_for_each_before() {
    let folder = tempfile::tempdir().unwrap();
    client::install(folder.path(), &[]).unwrap();
    let run = |memory: u64, device: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_sottovoce"))
            .args(["speak", "Go.", "--json", "--seed", "3", "--threads", "1"])
            .args(["--device", device, "--out", "-", "--format", "wav"])
            .env("LD_LIBRARY_PATH", folder.path())
            .env("CUDA_STAND_IN_DEVICES", "3")
            .env("CUDA_STAND_IN_MEMORY", memory.to_string())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = run(8 << 20, "auto");
    for word in [
        "the CPU speaks",
        "not cuda:0",
        "not cuda:1",
        "not cuda:2",
        "MiB",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_driver_that_is_too_old_to_compute_is_named_with_its_version_and_what_to_install() {
    let folder = tempfile::tempdir().unwrap();
    client::install(folder.path(), &["cuLaunchKernel"]).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sottovoce"))
        .args(["speak", "Go.", "--device", "cuda", "--out", "/dev/null"])
        .env("LD_LIBRARY_PATH", folder.path())
        .env("CUDA_STAND_IN_DRIVER", "11040")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for word in ["CUDA 11.4", "cuLaunchKernel", "11.8", "device cpu"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

/// A card that is busy, smaller than the budget, that faults, or that falls off.
#[test]
fn what_is_wrong_with_a_card_is_one_sentence_with_its_numbers() {
    let folder = tempfile::tempdir().unwrap();
    client::install(folder.path(), &[]).unwrap();
    let memory = (256_u64 << 20).to_string();
    let busy = (250_u64 << 20).to_string();
    for (environment, further, words) in [
        (
            ("CUDA_STAND_IN_TAKEN", busy.as_str()),
            &[][..],
            &["give at least", "MiB"][..],
        ),
        (
            ("CUDA_STAND_IN_TAKEN", "0"),
            &["--memory", "1GiB"],
            &["1024.00 MiB", "cuda:0 has 256.00 MiB", "give at most that"],
        ),
        (
            ("CUDA_STAND_IN_FAULT", "400"),
            &[],
            &["ILLEGAL_ADDRESS", "load the model again"],
        ),
        (
            ("CUDA_STAND_IN_LOST", "1500:719"),
            &[],
            &["LAUNCH_FAILED", "load the model again"],
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_sottovoce"))
            .args(["speak", "Go on.", "--threads", "1", "--device", "cuda"])
            .args(["--out", "-", "--format", "wav"])
            .args(further)
            .env("LD_LIBRARY_PATH", folder.path())
            .env("CUDA_STAND_IN_MEMORY", &memory)
            .env(environment.0, environment.1)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{environment:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{environment:?}, {word}: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn every_command_that_takes_a_device_refuses_one_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    client::install(folder.path(), &[]).unwrap();
    for arguments in [
        &["speak", "Go."][..],
        &["serve", "--port", "0"],
        &["doctor"],
        &["validate", "--audio-minutes", "0.01"],
        &["bench"],
        &["bench", "speed", "--utterances", "1"],
    ] {
        let arguments = [arguments, &["--device", "cuda:9"]].concat();
        let output = sottovoce(folder.path(), &arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(
            said.contains("no CUDA device 9: the driver knows 2"),
            "{arguments:?}: {said}"
        );
    }
}

/// As on a MIG slice: the management library does not find the device.
#[test]
fn where_the_contexts_bytes_cannot_be_known_the_doctor_says_so() {
    let folder = tempfile::tempdir().unwrap();
    client::install(folder.path(), &["nvmlDeviceGetHandleByPciBusId_v2"]).unwrap();
    let report = json(&sottovoce(
        folder.path(),
        &["doctor", "--device", "cuda", "--json"],
    ));
    assert_eq!(report["held"], true, "{report:#}");
    assert!(report["ledgers"]["device"]["driver"]["context"].is_null());
}

#[test]
fn the_script_for_a_card_writes_whole_lines_of_json_whatever_other_programs_say() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    };
    // No UTF-8, and a character over the end of what is kept.
    let nonsense = "#!/bin/sh\nprintf '\\377\\303'\nhead -c 99997 /dev/zero | tr '\\0' a\nprintf '\\303\\244\\303\\244'\nexit 3\n";
    write("nvidia-smi", nonsense);
    let program = write(
        "sottovoce",
        "#!/bin/sh\ncase $1 in doctor) echo '{\"half\": '; kill -9 $$ ;; esac\necho '{}'\n",
    );
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tools/on-hardware");
    let results = folder.path().join("results");
    let output = Command::new("sh")
        .args(["-c", "PATH=\"$0:$PATH\" exec \"$@\""])
        .args([folder.path(), Path::new(script), &program, &results])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let written = std::fs::read(results.join("results.jsonl")).unwrap();
    let parts: Vec<Value> = (written.split(|&byte| byte == b'\n'))
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("every line is JSON"))
        .collect();
    let part = |name: &str| parts.iter().find(|part| part["part"] == name).unwrap();
    assert_eq!(part("nvidia_smi")["exit_code"], 3);
    assert_eq!(part("doctor")["exit_code"], 137);
    assert_eq!(part("speak_cuda")["output"], serde_json::json!({}));
}
