//! End-to-end tests of `sottovoce speak`.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn sottovoce() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sottovoce"));
    // The user's environment must not affect a test.
    command
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HOME", "/nonexistent")
        .env("SOTTOVOCE_VOICES", "/nonexistent");
    command
}

fn speak(arguments: &[&str]) -> Output {
    sottovoce()
        .arg("speak")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Checks a WAV file's header against its length; returns the samples.
fn wav_samples(bytes: &[u8]) -> Vec<i16> {
    assert_eq!(
        (&bytes[..4], &bytes[8..16], &bytes[36..40]),
        (&b"RIFF"[..], &b"WAVEfmt "[..], &b"data"[..])
    );
    assert_eq!(
        u32::from_le_bytes(bytes[24..28].try_into().unwrap()),
        24_000,
        "the sample rate"
    );
    bytes[44..]
        .chunks_exact(2)
        .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
        .collect()
}

fn stated_data_bytes(bytes: &[u8]) -> usize {
    u32::from_le_bytes(bytes[40..44].try_into().unwrap()) as usize
}

fn path_text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_text_becomes_a_wav_file_with_sound_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.wav");
    let stats = folder.path().join("stats.json");
    let output = speak(&[
        "Hello there.",
        "--out",
        path_text(&file),
        "--stats",
        path_text(&stats),
    ]);
    assert!(output.status.success(), "{}", words(&output));
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(
        stated_data_bytes(&bytes),
        bytes.len() - 44,
        "the header must state the true length"
    );
    assert!(
        wav_samples(&bytes)
            .iter()
            .any(|sample| sample.unsigned_abs() > 1000),
        "there must be sound"
    );
    let stats: serde_json::Value = serde_json::from_slice(&std::fs::read(&stats).unwrap()).unwrap();
    let seconds = stats["total_audio_duration"].as_f64().unwrap();
    assert!(
        (seconds - (bytes.len() - 44) as f64 / 48_000.0).abs() < 1e-6,
        "the figures must tell the file's length"
    );
    let words = words(&output);
    assert!(
        words.starts_with(path_text(&file)) && words.lines().count() == 1 && !words.contains('\r'),
        "a log gets one line about the file, without control codes: {words:?}"
    );
}

#[test]
fn standard_output_gets_a_stream_with_open_length_and_nothing_else() {
    let output = speak(&["Hello there.", "--out", "-"]);
    assert!(output.status.success(), "{}", words(&output));
    assert_eq!(stated_data_bytes(&output.stdout), u32::MAX as usize);
    let samples = wav_samples(&output.stdout);
    let raw = speak(&["Hello there.", "--out", "-", "--format", "pcm"]);
    assert_eq!(
        raw.stdout.len(),
        samples.len() * 2,
        "raw samples have no header"
    );
}

#[test]
fn the_models_own_voice_has_a_name() {
    let unnamed = speak(&["Hello there.", "--out", "-"]).stdout;
    let named = speak(&["Hello there.", "--voice", "default", "--out", "-"]);
    assert!(named.status.success(), "{}", words(&named));
    assert_eq!(named.stdout, unnamed);
}

#[test]
fn text_comes_from_standard_input_or_a_file_alike() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text.txt");
    std::fs::write(&file, "Good morning.").unwrap();
    let from_argument = speak(&["Good morning.", "--out", "-"]).stdout;
    let from_file = speak(&["--file", path_text(&file), "--out", "-"]).stdout;
    let mut child = sottovoce()
        .args(["speak", "--out", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"Good morning.")
        .unwrap();
    let from_input = child.wait_with_output().unwrap().stdout;
    assert!(
        from_argument == from_file && from_argument == from_input,
        "the same text must sound the same wherever it comes from"
    );
}

#[test]
fn text_on_standard_input_is_spoken_as_it_comes() {
    for named in [
        &[][..],
        &["-"],
        &["--file", "-"],
        #[cfg(unix)]
        &["--file", "/dev/stdin"],
    ] {
        let mut child = sottovoce()
            .args(["speak", "--out", "-", "--format", "pcm"])
            .args(named)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut output = child.stdout.take().unwrap();
        input
            .write_all(b"  \nThe first sentence is whole. ")
            .unwrap();
        input.write_all(b"The second is").unwrap();
        // The input is still open: its first sentence must not wait for the end.
        let mut first = vec![0; 24_000];
        output.read_exact(&mut first).unwrap();
        input.write_all(b" later.").unwrap();
        drop(input);
        output.read_to_end(&mut first).unwrap();
        assert!(child.wait().unwrap().success());
        let whole = "The first sentence is whole. The second is later.";
        let at_once = speak(&[whole, "--out", "-", "--format", "pcm"]).stdout;
        // Chunks end elsewhere where the text paused, so that samples differ in their last bits.
        assert_eq!(first.len(), at_once.len(), "{named:?}");
    }
}

#[test]
fn standard_input_that_breaks_off_leaves_the_file_that_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keep.wav");
    std::fs::write(&file, "before").unwrap();
    for text in [&b"A whole sentence. d\xe9j\xe0 vu"[..], b"", b" \n"] {
        let mut child = sottovoce()
            .args(["speak", "-", "--out", path_text(&file)])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", words(&output));
        assert_eq!(std::fs::read(&file).unwrap(), b"before", "{text:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_samples_whatever_profile_and_threads() {
    let run = |extra: &[&str]| {
        speak(
            &[
                &["The same again, please.", "--out", "-", "--seed", "7"],
                extra,
            ]
            .concat(),
        )
        .stdout
    };
    let first = run(&["--profile", "none", "--threads", "1"]);
    for extra in [
        &["--profile", "aggressive", "--threads", "2"][..],
        &["--profile", "performance"],
        &["--memory", "2GiB"],
    ] {
        assert!(run(extra) == first, "{extra:?} must not change the samples");
    }
}

#[test]
fn without_a_place_named_the_speech_goes_to_a_wav_file_and_the_figures_can_be_printed() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = sottovoce();
        command.current_dir(folder.path()).arg("speak");
        command.args(arguments).stdin(Stdio::null());
        command.output().unwrap()
    };
    let output = run(&["Hello there.", "--json", "--chunk-size", "120"]);
    assert!(output.status.success(), "{}", words(&output));
    assert!(words(&output).contains("speech.wav"), "{}", words(&output));
    let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let bytes = std::fs::read(folder.path().join("speech.wav")).unwrap();
    assert_eq!(
        figures["total_audio_duration"].as_f64().unwrap(),
        wav_samples(&bytes).len() as f64 / 24_000.0
    );
    let refused = run(&[" "]);
    assert!(!refused.status.success());
    assert_eq!(
        std::fs::read(folder.path().join("speech.wav")).unwrap(),
        bytes,
        "what cannot be spoken leaves an older file alone"
    );
}

#[test]
fn options_of_generation_change_what_is_heard() {
    let spoken = |extra: &[&str]| {
        let output = speak(&[&["One more time.", "--out", "-"], extra].concat());
        assert!(output.status.success(), "{extra:?}: {}", words(&output));
        output.stdout
    };
    let plain = spoken(&[]);
    for extra in [
        &["--seed", "3"][..],
        &["--top-k", "500", "--temperature", "5"],
        &["--speed", "1.5"],
        &["--fade-duration", "0.5"],
        &["--sentence-tokens-max", "6"],
    ] {
        assert!(spoken(extra) != plain, "{extra:?} must be heard");
    }
}

#[test]
fn every_format_is_written_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "a.wav", "a.flac", "a.mp3", "a.opus", "a.ogg", "a.aac", "a.pcm",
    ] {
        let file = folder.path().join(name);
        let output = speak(&["Hello.", "--out", path_text(&file)]);
        assert!(output.status.success(), "{name}: {}", words(&output));
        assert!(
            std::fs::metadata(&file).unwrap().len() > 500,
            "{name} must hold something"
        );
    }
}

#[test]
fn what_cannot_be_done_is_said_in_a_sentence_that_names_it() {
    let cases: [(&[&str], &str); 10] = [
        (&["Hello.", "--out", "-", "--json"], "--stats"),
        (
            &["Hello.", "--out", "-", "--temperature", "9"],
            "temperature",
        ),
        (&["Hello.", "--out", "a.txt"], "format"),
        (&["", "--out", "-"], "nothing"),
        (&[" \n", "--out", "-"], "nothing"),
        (&["Hello.", "--out", "-", "--chunk-size", "0"], "1 to 250"),
        (
            &["Hello.", "--out", "-", "--model", "/no/such/model"],
            "/no/such/model",
        ),
        (&["Hello.", "--out", "-", "--model", "nano"], "download"),
        (&["Hello.", "--out", "-", "--voice", "../x"], "name"),
        (&["--file", "/no/such/file", "--out", "-"], "/no/such/file"),
    ];
    for (arguments, named) in cases {
        let output = speak(arguments);
        assert!(!output.status.success(), "{arguments:?} must fail");
        let words = words(&output);
        assert!(
            words.contains(named) && !words.contains("panicked"),
            "{arguments:?} must name {named}: {words}"
        );
        assert!(
            output.stdout.is_empty(),
            "{arguments:?} must write no sound"
        );
    }
}

#[test]
fn text_of_every_kind_is_spoken_or_refused_but_never_panics() {
    for text in [
        "Größe 5 µm — ça va?",
        "你好，世界",
        "مرحبا",
        "a\u{0}b\u{7}c\u{1b}[31m",
        "🙂 hello",
        "....a",
        "A. B. C. D.",
    ] {
        let output = sottovoce()
            .args(["speak", "--out", "-", "--file", "/dev/stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = output.unwrap();
        // The command may refuse before it has read all input.
        let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
        let output = child.wait_with_output().unwrap();
        assert!(
            !words(&output).contains("panicked"),
            "{text:?}: {}",
            words(&output)
        );
    }
    // The embedded voice reads English only and skips characters without a sound.
    let output = sottovoce()
        .args(["speak", "hello мир", "--out", "-"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", words(&output));
    let folder = tempfile::tempdir().unwrap();
    let too_long = folder.path().join("long.txt");
    std::fs::write(&too_long, "a ".repeat(60_000)).unwrap();
    let output = sottovoce()
        .args(["speak", "--out", "-", "--file"])
        .arg(&too_long)
        .output()
        .unwrap();
    assert!(
        !output.status.success() && words(&output).contains("100000"),
        "{}",
        words(&output)
    );
}

/// Starts to speak a long text into a pipe and reads its first `bytes`. The stream is then running
/// and waits for its reader.
fn speaking(text: &str, extra: &[&str], bytes: usize) -> Child {
    let mut child = sottovoce()
        .args(["speak", "--out", "-"])
        .args(extra)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = child.stdout.as_mut().unwrap();
    output.read_exact(&mut vec![0; bytes]).unwrap();
    child
}

#[cfg(unix)]
#[test]
fn a_termination_leaves_a_valid_file_and_the_shells_status() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long.wav");
    let text = folder.path().join("long.txt");
    let sentence = "This goes on and on, sentence after sentence, until somebody stops it. ";
    std::fs::write(&text, sentence.repeat(1000)).unwrap();
    let mut child = sottovoce()
        .args([
            "speak",
            "--file",
            path_text(&text),
            "--out",
            path_text(&file),
        ])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !std::fs::metadata(&file).is_ok_and(|metadata| metadata.len() > 44) {
        assert!(child.try_wait().unwrap().is_none(), "it must still speak");
        std::thread::yield_now();
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").arg(&id).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(stated_data_bytes(&bytes), bytes.len() - 44);
}

#[cfg(unix)]
#[test]
fn a_failed_run_leaves_an_existing_file_and_a_device_as_they_were() {
    use std::os::unix::fs::FileTypeExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keep.wav");
    std::fs::write(&file, b"a recording that took an hour").unwrap();
    let refused = speak(&[" ", "--out", path_text(&file)]);
    assert!(!refused.status.success());
    assert_eq!(
        std::fs::read(&file).unwrap(),
        b"a recording that took an hour"
    );
    let output = speak(&["Hello.", "--out", "/dev/null", "--format", "pcm"]);
    assert!(output.status.success(), "{}", words(&output));
    let kind = std::fs::metadata("/dev/null").unwrap().file_type();
    assert!(kind.is_char_device());
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_speech_and_not_the_program() {
    let text = "This goes on and on, sentence after sentence, until somebody stops it. ";
    let mut child = speaking(&text.repeat(1000), &[], 1044);
    let interrupted = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(interrupted.success());
    let mut rest = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", words(&output));
    assert_eq!(rest.len() % 2, 0, "whole samples only");
}

#[test]
fn a_reader_that_goes_away_ends_the_program_with_its_figures() {
    let folder = tempfile::tempdir().unwrap();
    let stats = folder.path().join("stats.json");
    let text = "On and on. ".repeat(5000);
    let mut child = speaking(&text, &["--stats", path_text(&stats)], 1000);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && !words(&output).contains("error"),
        "{}",
        words(&output)
    );
    let stats: serde_json::Value = serde_json::from_slice(&std::fs::read(&stats).unwrap()).unwrap();
    assert!(stats["total_audio_duration"].as_f64().unwrap() > 0.0);
}

#[test]
fn options_that_change_nothing_are_named_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let made = |name: &str, further: &[&str]| {
        let file = folder.path().join(name);
        let arguments = ["Hello.", "--json", "--out", path_text(&file)];
        let output = speak(&[&arguments[..], further].concat());
        assert!(output.status.success(), "{}", words(&output));
        let figures: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (
            std::fs::read(&file).unwrap(),
            figures["options_without_effect"].clone(),
            words(&output),
        )
    };
    let (plain, none, _) = made("plain.wav", &[]);
    assert_eq!(none, serde_json::json!([]));
    let further = [
        "--exaggeration",
        "0.9",
        "--host-memory",
        "64MiB",
        "--speed",
        "1",
    ];
    let (same, named, told) = made("same.wav", &further);
    assert_eq!(named, serde_json::json!(["host_memory", "exaggeration"]));
    assert!(told.contains("exaggeration has no effect"), "{told}");
    assert!(!told.contains("speed"), "{told}");
    assert!(plain == same);
}

#[test]
fn json_tells_the_time_of_each_word_and_subtitles_are_written_from_them() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let text = "Dr. Smith paid $5. “Good,” she said.";
    let (sound, srt) = (place("out.wav"), place("out.srt"));
    let output = speak(&[text, "--out", &sound, "--json", "--subtitles", &srt]);
    assert!(output.status.success(), "{}", words(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let told = report["words"].as_array().unwrap();
    let written: Vec<&str> = told
        .iter()
        .map(|word| word["word"].as_str().unwrap())
        .collect();
    assert_eq!(
        written,
        ["Dr.", "Smith", "paid", "$5", "Good", "she", "said"]
    );
    let characters: Vec<char> = text.chars().collect();
    let seconds = report["total_audio_duration"].as_f64().unwrap();
    let mut end = 0.0;
    for word in told {
        let number = |name: &str| word[name].as_f64().unwrap();
        assert!(
            number("start") >= end && number("end") > number("start"),
            "{word}"
        );
        end = number("end");
        let place = number("text_start") as usize..number("text_end") as usize;
        assert_eq!(word["word"], String::from_iter(&characters[place]));
    }
    assert!(end <= seconds);
    let subtitles = std::fs::read_to_string(&srt).unwrap();
    assert!(subtitles.starts_with("1\n00:00:0"), "{subtitles}");
    assert!(
        subtitles.contains("Dr. Smith paid $5.\n\n2\n"),
        "{subtitles}"
    );
    assert!(subtitles.contains("“Good,” she said.\n"), "{subtitles}");
    let vtt = place("out.vtt");
    let output = speak(&[text, "--out", &sound, "--subtitles", &vtt]);
    assert!(output.status.success(), "{}", words(&output));
    assert!(
        std::fs::read_to_string(&vtt)
            .unwrap()
            .starts_with("WEBVTT\n\n1\n")
    );
}

#[test]
fn subtitles_in_an_unknown_format_are_refused_before_anything_is_spoken() {
    let output = speak(&[
        "Hello.",
        "--out",
        "/nonexistent/x.wav",
        "--subtitles",
        "x.txt",
    ]);
    assert!(!output.status.success());
    assert!(words(&output).contains("x.txt: subtitles are written as .srt or .vtt"));
}
