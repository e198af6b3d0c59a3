//! Memory cost of one more stream and of one more voice.

use serde::Serialize;
use sottovoce::{
    CachePrecision, Engine, EngineOptions, Error, Source, Stream, StreamOptions, TOKENS_PER_SECOND,
    VoiceSource,
};
use std::time::{Duration, Instant};

/// Letters per second of speech.
const LETTERS_A_SECOND: usize = 15;
/// Admission takes milliseconds, but a large model's worker may be busy with a chunk.
const PATIENCE: Duration = Duration::from_secs(300);

/// Additional bytes held from the system.
#[derive(Clone, Debug, Serialize)]
pub struct Further {
    /// Precision of T3's KV cache.
    pub key_value_precision: String,
    /// One more stream of up to 40 s of speech in the same voice.
    pub stream_of_40_seconds_bytes: u64,
    /// The same with a voice of its own, including the voice.
    pub stream_of_40_seconds_own_voice_bytes: u64,
    /// One more stream of up to 6 s of speech in the same voice.
    pub stream_of_6_seconds_bytes: u64,
    /// One more voice without a stream.
    pub voice_bytes: u64,
}

/// Measures with two streams that are admitted one after the other.
pub(super) fn further(
    source: &Source,
    options: &EngineOptions,
    cache: CachePrecision,
) -> Result<Further, Error> {
    let engine = Engine::load(
        source.clone(),
        EngineOptions {
            key_value_precision: cache,
            streams_max: 2,
            ..options.clone()
        },
    )?;
    let voice = engine.voice(VoiceSource::Default)?;
    let stream_bytes = |seconds: usize, own_voice: bool| -> Result<u64, Error> {
        let options = StreamOptions {
            sentence_tokens_max: Some(seconds * TOKENS_PER_SECOND as usize),
            buffered_chunks_max: 1,
            ..StreamOptions::default()
        };
        let text = "speaking ".repeat(seconds * LETTERS_A_SECOND / 9);
        let first = engine.stream(&text, &voice, options.clone())?;
        let one = reserved_with(&engine, 1)?;
        let second_voice = match own_voice {
            true => engine.varied_voice(&voice, 1)?,
            false => voice.clone(),
        };
        let second = engine.stream(&text, &second_voice, options)?;
        let two = reserved_with(&engine, 2)?;
        let streams: [Stream; 2] = [first, second];
        drop(streams);
        reserved_with(&engine, 0)?;
        Ok(two.saturating_sub(one))
    };
    let stream_of_40_seconds_bytes = stream_bytes(40, false)?;
    let stream_of_40_seconds_own_voice_bytes = stream_bytes(40, true)?;
    let stream_of_6_seconds_bytes = stream_bytes(6, false)?;
    let before = engine.memory_report().reserved_bytes;
    let further = engine.varied_voice(&voice, 1)?;
    let voice_bytes = engine.memory_report().reserved_bytes - before;
    drop(further);
    Ok(Further {
        key_value_precision: cache.to_string(),
        stream_of_40_seconds_bytes,
        stream_of_40_seconds_own_voice_bytes,
        stream_of_6_seconds_bytes,
        voice_bytes,
    })
}

/// Bytes held once `streams` streams have taken their first pages.
fn reserved_with(engine: &Engine, streams: usize) -> Result<u64, Error> {
    let started = Instant::now();
    loop {
        let report = engine.memory_report();
        let speaking = report.streams.iter().filter(|stream| stream.bytes > 0);
        let settled = speaking.count() == streams && engine.metrics().streams_live == streams;
        if settled {
            engine.trim();
            return Ok(engine.memory_report().reserved_bytes);
        }
        if started.elapsed() > PATIENCE {
            return Err(Error::Synthesis {
                reason: format!("{streams} streams were not under way after {PATIENCE:?}"),
            });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
