//! The process' peak in a voice change. A separate test, because other engines in the process would
//! count.

#[allow(dead_code, reason = "what only other tests use")]
mod common;

use sottovoce::{
    Engine, EngineOptions, ModelConfig, RecordedSpeech, Source, StreamOptions, VoiceSource,
};
use std::io::Write;
use std::path::Path;

const RATE: u32 = 8_000;
/// Length of a WAV's header.
const HEADER_BYTES: usize = 44;

/// A WAV of so many minutes, written second by second.
fn write_recording(path: &Path, minutes: u32) {
    let second = common::clip(1.0, RATE);
    let (header, samples) = second.split_at(HEADER_BYTES);
    let mut header = header.to_vec();
    let bytes = samples.len() as u32 * 60 * minutes;
    header[HEADER_BYTES - 4..].copy_from_slice(&bytes.to_le_bytes());
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(&header).unwrap();
    for _ in 0..60 * minutes {
        file.write_all(samples).unwrap();
    }
}

/// The process' largest resident size so far.
fn resident_peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kibibytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kibibytes.parse::<u64>().unwrap() << 10
}

#[cfg(target_os = "linux")]
#[test]
fn a_long_recording_takes_no_more_of_the_process_and_of_the_ledger_than_a_minute_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = ModelConfig::tiny_turbo();
    config.voice.tokenizer.window = 300;
    config.voice.tokenizer.overlap = 40;
    config.voice.prompt.flow_seconds_max = 0.4;
    let options = EngineOptions {
        threads: Some(1),
        speech: false,
        streams_max: 1,
        ..EngineOptions::default()
    };
    let engine = Engine::load(Source::Random(Box::new(config)), options).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let peaks = [1, 15].map(|minutes| {
        let path = folder.path().join("speech.wav");
        write_recording(&path, minutes);
        let quick = StreamOptions {
            flow_steps: Some(1),
            context_window: 10,
            ..StreamOptions::default()
        };
        let stream = (engine.change_voice(RecordedSpeech::File(path), &voice, quick)).unwrap();
        let count: usize = stream.map(|chunk| chunk.unwrap().samples.len()).sum();
        assert_eq!(count, minutes as usize * 60 * 24_000);
        let report = engine.memory_report();
        let recording = report.owners.iter().find(|owner| owner.tag == "recording");
        let recording = recording.unwrap().peak_bytes;
        assert!(recording > 0);
        let ledger = (report.reserved_peak_bytes, recording);
        (ledger, resident_peak_bytes())
    });
    let [(minute, minute_peak), (quarter, quarter_peak)] = peaks;
    assert_eq!(minute, quarter, "the ledger");
    // The whole recording has 14 MB, its result 86.
    let grown = quarter_peak.saturating_sub(minute_peak);
    assert!(grown < 4 << 20, "{grown} bytes more than {minute_peak}");
}
