//! End-to-end tests of the memory tools.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn memory(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sottovoce"))
        .arg("memory")
        .args(arguments)
        .env_remove("SOTTOVOCE_ALLOC_CONF")
        .env_remove("PYTORCH_ALLOC_CONF")
        .env_remove("PYTORCH_CUDA_ALLOC_CONF")
        .output()
        .unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = memory(arguments);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn write(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// Allocates and frees 40 MiB and 60 MiB, then allocates 60 MiB again.
const TRACE: &str =
    "a 0 41943040 t\na 1 2097152 t\na 2 62914560 t\nf 0\nf 2\nm chunk 1\na 3 62914560 t\n";

#[test]
fn replay_prints_one_object_with_the_documented_keys() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "run.trace", TRACE.as_bytes());
    let report = json(&["replay", path.to_str().unwrap(), "--json"]);
    let mut keys: Vec<&str> = report
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut documented = vec![
        "events",
        "peak_requested",
        "peak_allocated",
        "peak_reserved",
        "end_allocated",
        "end_reserved",
        "fragmentation_peak",
        "retries",
        "ooms",
        "refused_again",
        "let_in",
        "driver_allocs",
        "driver_frees",
        "ns_per_event",
    ];
    keys.sort_unstable();
    documented.sort_unstable();
    assert_eq!(keys, documented);
    assert_eq!(
        (&report["events"], &report["peak_reserved"]),
        (&7.into(), &125_829_120.into())
    );
    assert_eq!(report["driver_allocs"], 3);
}

#[test]
fn replay_obeys_device_memory_clearing_and_driver() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "run.trace", TRACE.as_bytes());
    let path = path.to_str().unwrap();
    let cleared = json(&["replay", path, "--json", "--clear-every-chunk", "1"]);
    assert_eq!(
        (&cleared["driver_frees"], &cleared["end_reserved"]),
        (&2.into(), &83_886_080.into())
    );
    let small = json(&["replay", path, "--json", "--device-memory", "100MiB"]);
    assert_eq!((&small["ooms"], &small["retries"]), (&1.into(), &2.into()));
    let host = json(&[
        "replay",
        path,
        "--json",
        "--driver",
        "host",
        "--conf",
        "expandable_segments:True",
    ]);
    assert_eq!(host["peak_reserved"], 125_829_120);
}

#[test]
fn replay_without_json_prints_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "run.trace", TRACE.as_bytes());
    let output = memory(&["replay", path.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("reserved") && text.contains("120.0 MiB"),
        "{text}"
    );
}

#[test]
fn malformed_traces_end_with_an_error_that_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &[u8], &str); 6] = [
        ("free.trace", b"a 0 100 t\nf 1\n", "line 2"),
        ("double.trace", b"a 0 100 t\na 0 100 t\n", "line 2"),
        ("negative.trace", b"a 0 -5 t\n", "line 1"),
        ("huge.trace", b"a 0 9223372036854775808 t\n", "line 1"),
        ("noise.trace", b"hello\n", "line 1"),
        (
            "truncated.gz",
            &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0x4b],
            "gzip",
        ),
    ];
    for (name, content, place) in cases {
        let path = write(folder.path(), name, content);
        let output = memory(&["replay", path.to_str().unwrap(), "--json"]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{name}: {error}");
        assert!(
            error.contains(place) && !error.contains("panicked"),
            "{name}: {error}"
        );
        assert!(
            output.stdout.is_empty(),
            "{name}: no report of half a trace"
        );
    }
    let output = memory(&["replay", "/nonexistent/run.trace"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_configuration_that_pytorch_rejects_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "run.trace", TRACE.as_bytes());
    let output = memory(&[
        "replay",
        path.to_str().unwrap(),
        "--conf",
        "max_split_size_mb:20",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.contains("CachingAllocator option max_split_size_mb too small, must be > 20"),
        "{error}"
    );
}

#[test]
fn check_explains_each_option_and_fails_where_pytorch_would() {
    let report = json(&[
        "check",
        "expandable_segments:True,max_split_size_mb:128",
        "--json",
    ]);
    let options = report["options"].as_array().unwrap();
    let verdicts: Vec<&str> = options
        .iter()
        .map(|option| option["verdict"].as_str().unwrap())
        .collect();
    assert_eq!(verdicts, ["harms", "harms"]);
    assert_eq!(report["valid"], true);
    let report = json(&[
        "check",
        "expandable_segments:True",
        "--platform",
        "wsl",
        "--json",
    ]);
    assert_eq!(report["options"][0]["verdict"], "unsupported");
    let output = memory(&["check", "expandable_segment:True"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("misspelt") && text.contains("instead: expandable_segments:True"),
        "{text}"
    );
}

#[test]
fn help_has_examples() {
    for command in ["replay", "check"] {
        let text = String::from_utf8(memory(&[command, "--help"]).stdout).unwrap();
        assert!(
            text.contains("Examples:") && text.contains(&format!("sottovoce memory {command}")),
            "{text}"
        );
    }
}

#[test]
fn plan_finds_the_bound_and_explains_what_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "run.trace", TRACE.as_bytes());
    let path = path.to_str().unwrap();
    let report = json(&["plan", path, "--json"]);
    assert_eq!(report["lower_bound"], 106_954_752);
    assert_eq!(report["planned_peak"], 106_954_752);
    assert!(report["seconds"].is_number());
    let report = json(&["plan", path, "--from", "chunk", "--json"]);
    assert_eq!(report["lower_bound"], 62_914_560);
    let report = json(&["plan", path, "--capacity", "100MiB", "--json"]);
    assert_eq!(report["fits"], false);
    assert_eq!(report["smallest_subset"].as_array().unwrap().len(), 3);
    assert!(
        !memory(&["plan", path, "--capacity", "100MiB"])
            .status
            .success()
    );
    assert!(
        !memory(&["plan", path, "--from", "nothing"])
            .status
            .success()
    );
}

#[test]
fn plan_takes_a_list_of_buffers() {
    let folder = tempfile::tempdir().unwrap();
    let list = "id,lower,upper,size\nb1,0,3,4\nb2,3,9,4\nb3,0,9,4\nb4,9,21,4\nb5,0,21,4\n";
    let path = write(folder.path(), "buffers.csv", list.as_bytes());
    let report = json(&["plan", path.to_str().unwrap(), "--capacity", "12", "--json"]);
    assert_eq!(report["planned_peak"], 12);
    assert_eq!(report["fits"], true);
    let path = write(folder.path(), "bad.csv", b"id,lower,upper,size\nb1,0,x,4\n");
    let output = memory(&["plan", path.to_str().unwrap()]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("line 2: `upper` is missing or not a number"),
        "{message}"
    );
}

#[test]
fn convert_goes_to_a_snapshot_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let trace = write(folder.path(), "run.trace", TRACE.as_bytes());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (pickle, text) = (path("run.pickle.gz"), path("back.trace"));
    let report = json(&["convert", trace.to_str().unwrap(), &pickle, "--json"]);
    assert_eq!(report["format"], "snapshot");
    assert_eq!(report["compressed"], true);
    assert!(memory(&["convert", &pickle, &text]).status.success());
    assert_eq!(std::fs::read_to_string(&text).unwrap(), TRACE);
    let report = json(&["replay", &pickle, "--json"]);
    assert_eq!(report["end_reserved"], report["recorded"]["end_reserved"]);
}

#[test]
fn a_conversion_that_fails_leaves_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let trace = write(folder.path(), "bad.trace", b"a 1 5 x\nf 2\n");
    let out = write(folder.path(), "out.trace", b"precious");
    let output = memory(&["convert", trace.to_str().unwrap(), out.to_str().unwrap()]);
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("line 2: id 2 is freed but not live"),
        "{message}"
    );
    assert_eq!(std::fs::read(&out).unwrap(), b"precious");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

/// Slightly different sizes: each needs its own segment unless segments can grow.
fn growing() -> String {
    let mut text = String::from("m load\na 0 104857600 weight\nm run\n");
    for step in 1..40_u64 {
        text += &format!(
            "m chunk {step}\na {step} {} cache\n",
            12_000_000 + step * 3_000_000
        );
        if step > 1 {
            text += &format!("f {}\n", step - 1);
        }
    }
    text
}

#[test]
fn advise_recommends_one_line_and_names_the_owners() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "run.trace", growing().as_bytes());
    let report = json(&["advise", path.to_str().unwrap(), "--json"]);
    let line = report["recommendation"]["line"].as_str().unwrap();
    assert_eq!(
        line,
        "export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"
    );
    let tried = report["tried"].as_array().unwrap();
    let peak = |row: &Value| row["peak_reserved"].as_u64().unwrap();
    assert!(
        tried
            .windows(2)
            .all(|pair| peak(&pair[0]) <= peak(&pair[1])),
        "best first"
    );
    assert_eq!(tried.iter().filter(|row| row["today"] == true).count(), 1);
    assert_eq!(report["lower_bound"], report["at_peak"]["bytes"]);
    assert_eq!(
        report["lower_bound"],
        104_857_600_u64 + 126_000_000 + 129_000_000
    );
    assert_eq!(report["at_peak"]["by_tag"][0]["name"], "cache");
    assert_eq!(report["at_peak"]["by_phase"][1]["name"], "chunk 38");
    assert_eq!(report["at_peak"]["phase"], "chunk 39");
}

#[test]
fn advise_leaves_the_defaults_where_nothing_helps() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(
        folder.path(),
        "run.trace",
        b"a 0 104857600 weight\na 1 52428800 x\nf 1\n",
    );
    let report = json(&["advise", path.to_str().unwrap(), "--json"]);
    assert!(report["recommendation"]["line"].is_null(), "{report}");
}

#[test]
fn advise_draws_a_plot_that_needs_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let trace = growing().replace("weight", "<script>&");
    let path = write(folder.path(), "run.trace", trace.as_bytes());
    for name in ["plot.svg", "plot.html"] {
        let plot = folder.path().join(name);
        let arguments = [
            "advise",
            path.to_str().unwrap(),
            "--plot",
            plot.to_str().unwrap(),
        ];
        assert!(memory(&arguments).status.success());
        let drawn = std::fs::read_to_string(&plot).unwrap();
        assert!(drawn.contains("<path class=\"today\"") && drawn.contains("prefers-color-scheme"));
        let outside = drawn.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
        assert!(
            !outside.contains("http") && !outside.contains("<script"),
            "{name}"
        );
    }
    let refused = memory(&["advise", path.to_str().unwrap(), "--plot", "plot.png"]);
    assert!(!refused.status.success());
}

#[test]
fn output_that_nobody_reads_ends_a_command_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "run.trace", TRACE.as_bytes());
    let path = path.to_str().unwrap();
    for arguments in [
        &["replay", path][..],
        &["plan", path, "--capacity", "100MiB"],
        &["advise", path, "--json"],
        &["check", "expandable_segments:True"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_sottovoce"))
            .arg("memory")
            .args(arguments)
            .stdout(writer)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            (output.status.code(), error.as_str()),
            (Some(0), ""),
            "{arguments:?}"
        );
    }
}

fn data(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    folder.join(name).to_str().unwrap().to_owned()
}

#[test]
fn the_device_of_a_snapshot_holds_what_was_recorded() {
    let path = data("snapshot_60_gib.pickle");
    let report = json(&["replay", &path, "--json"]);
    assert_eq!(
        report["ooms"], 0,
        "what succeeded when it was recorded succeeds"
    );
    let advice = json(&["advise", &path, "--json"]);
    assert!(
        advice["device_bytes"].as_u64().unwrap() >= 60 << 30,
        "{advice}"
    );
    let tried = advice["tried"].as_array().unwrap();
    let today = tried.iter().find(|tried| tried["today"] == true).unwrap();
    assert_eq!(today["ooms"], 0);
    // A device smaller than the recorded run leaves nothing to advise.
    let advice = json(&["advise", &path, "--json", "--device-memory", "24GiB"]);
    assert!(advice["recommendation"]["line"].is_null(), "{advice}");
    let reason = advice["recommendation"]["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("No advice") && reason.contains("give its size"),
        "{reason}"
    );
}

#[test]
fn a_failed_request_is_shown_with_who_asked_and_which_setting_would_have_let_it_in() {
    let path = data("snapshot_oom.pickle");
    let advice = json(&["advise", &path, "--json"]);
    // 4 GiB were held and 2 GiB free.
    assert_eq!(advice["device_bytes"], 6_u64 << 30);
    let refusal = &advice["recorded"]["refusals"][0];
    assert_eq!(refusal["bytes"], 6_u64 << 30);
    assert_eq!(refusal["tag"], "forward (train.py:42)");
    for tried in advice["tried"].as_array().unwrap() {
        assert_eq!(
            (&tried["let_in"], &tried["refused_again"]),
            (&0.into(), &1.into())
        );
    }
    let larger = json(&["advise", &path, "--json", "--device-memory", "12GiB"]);
    assert_eq!(larger["tried"][0]["let_in"], 1);
    let shown = memory(&["advise", &path]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    for words in [
        "1 of its requests failed on device 0",
        "6144.0 MiB asked for by forward (train.py:42)",
        "2048.0 MiB were free",
        "0 of 1",
    ] {
        assert!(shown.contains(words), "{words:?} in {shown}");
    }
}

#[test]
fn a_pasted_message_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let message = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.69 GiB of which \
                   1.19 GiB is free. Of the allocated memory 15.00 GiB is allocated by PyTorch, and 3.25 GiB is \
                   reserved by PyTorch but unallocated.";
    let path = write(folder.path(), "error.txt", message.as_bytes());
    let path = path.to_str().unwrap();
    let explained = json(&["advise", "--message", path, "--json"]);
    assert_eq!(explained["message"]["tried"], 2_u64 << 30);
    assert!(
        explained["findings"][0]
            .as_str()
            .unwrap()
            .contains("fragmentation")
    );
    let shown = String::from_utf8(memory(&["advise", "--message", path]).stdout).unwrap();
    assert!(
        shown.contains("export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"),
        "{shown}"
    );
    let wide: Vec<u8> = ("\u{feff}".to_owned() + message)
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let wide = write(folder.path(), "wide.txt", &wide);
    let explained = json(&["advise", "--message", wide.to_str().unwrap(), "--json"]);
    assert_eq!(explained["message"]["tried"], 2_u64 << 30);
    assert_eq!(explained["message"]["accelerator"], "cuda");
    let other = write(folder.path(), "other.txt", b"ValueError");
    let refused = memory(&["advise", "--message", other.to_str().unwrap()]);
    assert!(!refused.status.success());
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(error.contains("no out-of-memory message"), "{error}");
    assert!(
        !memory(&["advise"]).status.success(),
        "a trace or a message is wanted"
    );
}

#[test]
fn lines_as_people_paste_them_are_understood_or_mended() {
    for (line, valid, suggestion) in [
        ("\"expandable_segments:True\"", true, None),
        (
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True",
            true,
            None,
        ),
        (
            "export PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:128\r\n",
            true,
            None,
        ),
        (
            "set \"PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:128\"",
            true,
            None,
        ),
        (
            "expandable_segments:True,large_segment_size_mb:12",
            true,
            None,
        ),
        (
            "expandable_segments=true",
            false,
            Some("expandable_segments:True"),
        ),
        (
            "garbage_collection_threshold:1",
            false,
            Some("garbage_collection_threshold:0.99"),
        ),
        (
            "max_split_size_mb=\"128\"",
            false,
            Some("max_split_size_mb:128"),
        ),
        ("max_split_size_gb:1", false, Some("max_split_size_mb:1024")),
        (
            "expandable_segments:True;max_split_size_mb:128",
            false,
            Some("expandable_segments:True,max_split_size_mb:128"),
        ),
    ] {
        let checked = json(&["check", line, "--json"]);
        assert_eq!(checked["valid"], valid, "{line}: {checked}");
        let options = checked["options"].as_array().unwrap();
        if let Some(suggestion) = suggestion {
            assert_eq!(options[0]["suggestion"], suggestion, "{line}");
            assert!(
                memory(&["check", suggestion]).status.success(),
                "{suggestion}"
            );
        }
    }
}
