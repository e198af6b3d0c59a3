//! Typical utterances: a few seconds of speech, in both delivery modes.

use serde::Serialize;
use sottovoce::{
    DeliveryMode, Engine, EngineOptions, Error, SAMPLE_RATE, Source, StreamOptions,
    TOKENS_PER_SECOND, VoiceSource,
};

/// Longest sentence, in seconds; longer utterances have several.
const SENTENCE_SECONDS_MAX: f64 = 10.0;
/// Letters per second of speech.
const LETTERS_A_SECOND: f64 = 15.0;
/// Words of the text, repeated as needed.
const WORDS: &str = "the first boats were coming home with the tide and nobody on the quay spoke";
/// Letters per sentence if the text does not determine its length.
const LETTERS: usize = 60;

/// What to measure.
#[derive(Clone, Debug)]
pub struct UtteranceOptions {
    /// The model. With random weights T3 makes exactly the tokens of the requested length, of
    /// which those that are no speech codes are left out; otherwise the length is approximate.
    pub source: Source,
    /// All other engine options.
    pub engine: EngineOptions,
    /// Lengths, in seconds of speech.
    pub seconds: Vec<f64>,
    /// Speech tokens per pass of the flow in whole delivery.
    pub whole_tokens: usize,
    /// Rounds; the best time of each counts.
    pub rounds: usize,
}

/// One utterance in one delivery mode. Times are seconds from the call.
#[derive(Clone, Debug, Serialize)]
pub struct UtteranceFigures {
    /// Delivery mode.
    pub delivery: DeliveryMode,
    /// Requested seconds of speech.
    pub asked_seconds: f64,
    /// Seconds of speech.
    pub audio_seconds: f64,
    /// To the first sound.
    pub first_audio_seconds: f64,
    /// Until playback can run without interruption.
    pub uninterrupted_seconds: f64,
    /// To the end.
    pub total_seconds: f64,
    /// Seconds of work per second of speech.
    pub rtf: f64,
    /// Chunks.
    pub chunks: u64,
    /// Peak of the bytes held from the system by this delivery mode's engine so far.
    pub peak_reserved_bytes: u64,
}

/// Measures each length in each delivery mode, in turn.
///
/// # Errors
/// If an engine cannot load or speak.
pub fn utterances(options: &UtteranceOptions) -> Result<Vec<UtteranceFigures>, Error> {
    let mut figures = Vec::new();
    for delivery in [DeliveryMode::Stream, DeliveryMode::Whole] {
        let engine = EngineOptions {
            streams_max: 1,
            whole_tokens_max: (delivery == DeliveryMode::Whole).then_some(options.whole_tokens),
            ..options.engine.clone()
        };
        let engine = Engine::load(options.source.clone(), engine)?;
        for &seconds in &options.seconds {
            let mut best: Option<UtteranceFigures> = None;
            for _ in 0..options.rounds.max(1) {
                let found = one(&engine, &options.source, seconds, delivery)?;
                if (best.as_ref()).is_none_or(|best| found.total_seconds < best.total_seconds) {
                    best = Some(found);
                }
            }
            figures.extend(best);
        }
    }
    Ok(figures)
}

fn one(
    engine: &Engine,
    source: &Source,
    seconds: f64,
    delivery: DeliveryMode,
) -> Result<UtteranceFigures, Error> {
    let sentences = (seconds / SENTENCE_SECONDS_MAX).ceil().max(1.0);
    let random = source.is_random();
    let tokens = (seconds / sentences * f64::from(TOKENS_PER_SECOND)).round() as usize;
    let letters = match random {
        true => LETTERS,
        false => (seconds / sentences * LETTERS_A_SECOND) as usize,
    };
    let options = StreamOptions {
        delivery: Some(delivery),
        sentence_tokens_max: random.then_some(tokens),
        buffered_chunks_max: 1000,
        ..StreamOptions::default()
    };
    let voice = engine.voice(VoiceSource::Default)?;
    let text = text(sentences as usize, letters);
    let (mut samples, mut last) = (0, None);
    for chunk in engine.stream(&text, &voice, options)? {
        let chunk = chunk?;
        samples += chunk.samples.len();
        last = Some(chunk.metrics);
    }
    let metrics = last.unwrap_or_default();
    let audio_seconds = samples as f64 / f64::from(SAMPLE_RATE);
    Ok(UtteranceFigures {
        delivery,
        asked_seconds: seconds,
        audio_seconds,
        first_audio_seconds: metrics.latency_to_first_chunk,
        uninterrupted_seconds: metrics.uninterrupted_after,
        total_seconds: metrics.total_generation_time,
        rtf: metrics.rtf,
        chunks: metrics.chunk_count,
        peak_reserved_bytes: metrics.memory_reserved_peak,
    })
}

/// Sentences of about `letters` letters.
fn text(sentences: usize, letters: usize) -> String {
    let mut words = WORDS.split(' ').cycle();
    let mut text = String::new();
    for _ in 0..sentences {
        let start = text.len();
        text.push_str("Then");
        for word in words.by_ref() {
            if text.len() - start >= letters {
                break;
            }
            text.push(' ');
            text.push_str(word);
        }
        text.push_str(". ");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_as_many_sentences_as_asked_for() {
        let text = text(4, 60);
        assert_eq!(sottovoce::text::sentences(&text).len(), 4, "{text}");
        assert!((240..330).contains(&text.len()));
    }
}
