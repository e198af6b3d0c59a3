//! Typical utterances: a few seconds of speech, in both delivery modes.

use serde::Serialize;
use sottovoce::{
    ChunkMetrics, DeliveryMode, Engine, EngineOptions, Error, ModelConfig, SAMPLE_RATE, Source,
    StreamOptions, TOKENS_PER_SECOND, Voice, VoiceSource,
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
    /// The model. With random weights the length is exact, and every token of T3 has a sound;
    /// otherwise the length is approximate.
    pub source: Source,
    /// All other engine options.
    pub engine: EngineOptions,
    /// Lengths, in seconds of speech.
    pub seconds: Vec<f64>,
    /// Speech tokens per pass of the flow in whole delivery.
    pub whole_tokens: usize,
    /// Rounds; the best time of each counts.
    pub rounds: usize,
    /// Streams that speak the utterance at the same time.
    pub streams: usize,
}

/// One utterance in one delivery mode, spoken by so many streams at the same time. Times are
/// seconds from the call, those of the slowest stream.
#[derive(Clone, Debug, Serialize)]
pub struct UtteranceFigures {
    /// Delivery mode.
    pub delivery: DeliveryMode,
    /// Streams.
    pub streams: usize,
    /// Requested seconds of speech.
    pub asked_seconds: f64,
    /// Seconds of speech of all streams.
    pub audio_seconds: f64,
    /// To the first sound.
    pub first_audio_seconds: f64,
    /// Until playback can run without interruption.
    pub uninterrupted_seconds: f64,
    /// To the end.
    pub total_seconds: f64,
    /// Seconds of work per second of speech of all streams.
    pub rtf: f64,
    /// Chunks of all streams.
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
    let source = with_a_sound_for_every_token(&options.source);
    for delivery in [DeliveryMode::Stream, DeliveryMode::Whole] {
        let engine = EngineOptions {
            streams_max: options.streams,
            whole_tokens_max: (delivery == DeliveryMode::Whole).then_some(options.whole_tokens),
            ..options.engine.clone()
        };
        let engine = Engine::load(source.clone(), engine)?;
        for &seconds in &options.seconds {
            let mut best: Option<UtteranceFigures> = None;
            for _ in 0..options.rounds.max(1) {
                let found = together(&engine, options, seconds, delivery)?;
                if (best.as_ref()).is_none_or(|best| found.total_seconds < best.total_seconds) {
                    best = Some(found);
                }
            }
            figures.extend(best);
        }
    }
    Ok(figures)
}

/// Speaks the utterance in all streams at the same time.
fn together(
    engine: &Engine,
    options: &UtteranceOptions,
    seconds: f64,
    delivery: DeliveryMode,
) -> Result<UtteranceFigures, Error> {
    let voice = engine.voice(VoiceSource::Default)?;
    let spoken = std::thread::scope(|scope| {
        let one = || one(engine, &voice, &options.source, seconds, delivery);
        let others: Vec<_> = (1..options.streams).map(|_| scope.spawn(one)).collect();
        let mut spoken = vec![one()];
        spoken.extend(others.into_iter().map(|other| match other.join() {
            Ok(figures) => figures,
            Err(panic) => std::panic::resume_unwind(panic),
        }));
        spoken.into_iter().collect::<Result<Vec<_>, _>>()
    })?;
    let samples: usize = spoken.iter().map(|one| one.samples).sum();
    let audio_seconds = samples as f64 / f64::from(SAMPLE_RATE);
    let slowest = |time: fn(&ChunkMetrics) -> f64| {
        spoken
            .iter()
            .map(|one| time(&one.metrics))
            .fold(0.0, f64::max)
    };
    let total_seconds = slowest(|metrics| metrics.total_generation_time);
    Ok(UtteranceFigures {
        delivery,
        streams: spoken.len(),
        asked_seconds: seconds,
        audio_seconds,
        first_audio_seconds: slowest(|metrics| metrics.latency_to_first_chunk),
        uninterrupted_seconds: slowest(|metrics| metrics.uninterrupted_after),
        total_seconds,
        rtf: total_seconds / audio_seconds,
        chunks: spoken.iter().map(|one| one.metrics.chunk_count).sum(),
        peak_reserved_bytes: (spoken.iter().map(|one| one.metrics.memory_reserved_peak))
            .max()
            .unwrap_or(0),
    })
}

/// The same model with a speech code for every token that its T3 may draw. A trained T3 draws
/// speech codes only; one of random weights draws any token, and a step whose token has no sound
/// would count as work for speech that is not there. Models of files stay as they are.
fn with_a_sound_for_every_token(source: &Source) -> Source {
    let tokens = match source {
        Source::Paired { model, .. } => random_config(model),
        source => random_config(source),
    };
    let Some(tokens) = tokens.map(|config| config.t3.speech_vocabulary) else {
        return source.clone();
    };
    let widened = |source: &Source| match random_config(source) {
        Some(mut config) => {
            config.flow.vocabulary = config.flow.vocabulary.max(tokens);
            Source::Random(Box::new(config))
        }
        None => source.clone(),
    };
    match source {
        Source::Paired { model, sound } => Source::Paired {
            model: Box::new(widened(model)),
            sound: Box::new(widened(sound)),
        },
        source => widened(source),
    }
}

/// The configuration of a model with random weights.
fn random_config(source: &Source) -> Option<ModelConfig> {
    match source {
        Source::Synthetic(variant) => Some(ModelConfig::preset(*variant)),
        Source::Random(config) => Some((**config).clone()),
        Source::Embedded | Source::Directory(_) | Source::Paired { .. } => None,
    }
}

/// What one stream came to.
struct Spoken {
    samples: usize,
    metrics: ChunkMetrics,
}

fn one(
    engine: &Engine,
    voice: &Voice,
    source: &Source,
    seconds: f64,
    delivery: DeliveryMode,
) -> Result<Spoken, Error> {
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
    let text = text(sentences as usize, letters);
    let mut spoken = Spoken {
        samples: 0,
        metrics: ChunkMetrics::default(),
    };
    for chunk in engine.stream(&text, voice, options)? {
        let chunk = chunk?;
        spoken.samples += chunk.samples.len();
        spoken.metrics = chunk.metrics;
    }
    Ok(spoken)
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
    use sottovoce::Variant;

    #[test]
    fn a_text_has_as_many_sentences_as_asked_for() {
        let text = text(4, 60);
        assert_eq!(sottovoce::text::sentences(&text).len(), 4, "{text}");
        assert!((240..330).contains(&text.len()));
    }

    #[test]
    fn every_token_of_a_random_t3_has_a_sound_alone_and_with_another_models_s3gen() {
        let base = || Box::new(Source::Synthetic(Variant::Base));
        let vocabularies = |source: &Source| {
            let config = random_config(source).expect("random weights");
            (config.t3.speech_vocabulary, config.flow.vocabulary)
        };
        let alone = with_a_sound_for_every_token(&base());
        assert_eq!(vocabularies(&alone), (8194, 8194));
        let sound = Box::new(Source::Synthetic(Variant::Turbo));
        let paired = Source::Paired {
            model: base(),
            sound,
        };
        let Source::Paired { model, sound } = with_a_sound_for_every_token(&paired) else {
            panic!("a pair stays a pair");
        };
        assert_eq!(vocabularies(&model), (8194, 8194));
        assert_eq!(vocabularies(&sound).1, 8194);
        let embedded = with_a_sound_for_every_token(&Source::Embedded);
        assert_eq!(embedded, Source::Embedded);
    }
}
