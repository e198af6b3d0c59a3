//! A very small model on a stand-in device, with short texts.

use cuda_stand_in::client::StandIn;
use sottovoce::{
    DeviceChoice, Engine, EngineOptions, Error, ModelConfig, PrecisionChoice, Source, Stream,
    StreamOptions, Voice, VoiceSource, read_in_turn,
};

/// Speech tokens of a short stream, and of one with several chunks.
const BRIEF_TOKENS: usize = 8;
const LONG_TOKENS: usize = 40;
/// Speech tokens of a chunk.
const CHUNK_TOKENS: usize = 10;

/// The base model's architecture at its smallest: the stand-in runs every thread of every kernel.
pub fn source() -> Source {
    let mut config = ModelConfig::tiny_base();
    config.t3.sampling.token_count_max = LONG_TOKENS;
    config.voice.prompt.flow_seconds_max = 0.2;
    Source::Random(Box::new(config))
}

/// The options for one stream on a device.
pub fn one_stream(device: DeviceChoice) -> EngineOptions {
    EngineOptions {
        device,
        precision: PrecisionChoice::F16,
        streams_max: 1,
        threads: Some(1),
        ..EngineOptions::default()
    }
}

pub fn options(device: StandIn) -> EngineOptions {
    EngineOptions {
        device: DeviceChoice::Cuda(device.ordinal()),
        precision: PrecisionChoice::F16,
        chunk_tokens_max: Some(CHUNK_TOKENS),
        context_tokens_max: CHUNK_TOKENS,
        threads: Some(1),
        streams_max: 2,
        ..EngineOptions::default()
    }
}

/// A stream of one or two chunks.
pub fn stream(engine: &Engine, voice: &Voice, seed: u64) -> Result<Stream, Error> {
    stream_of(engine, voice, seed, BRIEF_TOKENS)
}

/// A stream of several chunks.
pub fn long_stream(engine: &Engine, voice: &Voice, seed: u64) -> Result<Stream, Error> {
    stream_of(engine, voice, seed, LONG_TOKENS)
}

fn stream_of(engine: &Engine, voice: &Voice, seed: u64, tokens: usize) -> Result<Stream, Error> {
    let options = StreamOptions {
        seed,
        sentence_tokens_max: Some(tokens),
        chunk_size: Some(CHUNK_TOKENS),
        context_window: CHUNK_TOKENS,
        flow_steps: Some(1),
        buffered_chunks_max: 1,
        ..StreamOptions::default()
    };
    engine.stream("Go on.", voice, options)
}

/// Samples of one stream, and how it ended.
pub type Heard = (Vec<f32>, Result<(), Error>);

/// Loads the engine and speaks two streams at once.
///
/// # Errors
/// If loading fails.
pub fn act(device: StandIn) -> Result<Vec<Heard>, Error> {
    let engine = Engine::load(source(), options(device))?;
    let voice = engine.voice(VoiceSource::Default)?;
    let streams = (0..2).map(|seed| stream(&engine, &voice, seed));
    Ok(read_in_turn(streams))
}

/// Result of `act` without faults.
pub fn expected(device: StandIn) -> Vec<Vec<f32>> {
    let heard = act(device).unwrap();
    heard
        .into_iter()
        .map(|(samples, ending)| {
            ending.unwrap();
            assert!(!samples.is_empty());
            samples
        })
        .collect()
}
