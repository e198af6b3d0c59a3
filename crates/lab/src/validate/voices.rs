//! Hundreds of voice switches must leak no memory.

use super::{ValidateOptions, sentence, speak, stream_options};
use serde::Serialize;
use sottovoce::{Engine, Error, MemoryReport, StreamOptions, VoiceSource};

/// Results. Sizes are bytes.
#[derive(Clone, Debug, Serialize)]
pub struct VoicesReport {
    /// Voices in turn.
    pub voices: usize,
    /// Switches.
    pub switches: usize,
    /// Bytes in use before the first voice.
    pub allocated_before_bytes: u64,
    /// Bytes in use after the last voice was dropped.
    pub allocated_after_bytes: u64,
    /// Bytes held once every voice had spoken.
    pub reserved_before_bytes: u64,
    /// Bytes held at the end.
    pub reserved_after_bytes: u64,
    /// Bytes of a voice.
    pub voice_bytes: u64,
    /// Whether nothing was leaked.
    pub held: bool,
}

/// Limit on the bytes of a voice.
const VOICE_BYTES_MAX: u64 = 1_000_000;

/// With short sentences, a switch takes no more than the first chunk.
const BRIEF_TOKENS: usize = 10;

fn brief(options: &ValidateOptions, seed: u64) -> StreamOptions {
    let options = stream_options(options, seed);
    StreamOptions {
        sentence_tokens_max: options
            .sentence_tokens_max
            .map(|most| most.min(BRIEF_TOKENS)),
        ..options
    }
}

/// Bytes in use on the host and, if it has memory of its own, on the device.
fn allocated(report: &MemoryReport) -> u64 {
    let on_host = report.host.as_ref().map_or(0, |host| host.allocated_bytes);
    report.allocated_bytes + on_host
}

pub(super) fn run(
    options: &ValidateOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<VoicesReport, Error> {
    let engine = Engine::load(options.source.clone(), options.engine.clone())?;
    let first = engine.voice(VoiceSource::Default)?;
    speak(
        &engine,
        &first,
        sentence(0),
        stream_options(options, 0),
        |_| {},
    )?;
    engine.trim();
    let before = engine.memory_report();
    let mut voices = Vec::with_capacity(options.voices);
    for seed in 0..options.voices {
        voices.push(engine.varied_voice(&first, seed as u64)?);
    }
    let in_use_bytes = allocated(&engine.memory_report());
    let mut reserved_before_bytes = 0;
    for switch in 0..options.switches {
        let voice = &voices[switch % voices.len().max(1)];
        speak(
            &engine,
            voice,
            "Next, please.",
            brief(options, switch as u64),
            |_| {},
        )?;
        if switch + 1 == options.voices.min(options.switches) {
            reserved_before_bytes = engine.memory_report().reserved_bytes;
        }
        if (switch + 1) % 100 == 0 {
            progress(&format!("voices: {} switches", switch + 1));
        }
    }
    let reserved_after_bytes = engine.memory_report().reserved_bytes;
    drop(voices);
    // The same state as before the first switch: the first voice spoke last.
    speak(
        &engine,
        &first,
        sentence(0),
        stream_options(options, 0),
        |_| {},
    )?;
    engine.trim();
    let after = engine.memory_report();
    let voice_bytes =
        in_use_bytes.saturating_sub(allocated(&before)) / options.voices.max(1) as u64;
    let held = allocated(&after) == allocated(&before)
        && reserved_after_bytes == reserved_before_bytes
        && voice_bytes <= VOICE_BYTES_MAX;
    Ok(VoicesReport {
        voices: options.voices,
        switches: options.switches,
        allocated_before_bytes: allocated(&before),
        allocated_after_bytes: allocated(&after),
        reserved_before_bytes,
        reserved_after_bytes,
        voice_bytes,
        held,
    })
}
