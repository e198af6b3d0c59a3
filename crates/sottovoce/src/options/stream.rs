//! Options of a stream.

use super::{
    CHUNK_SIZES, CONTEXT_WINDOWS, Capability, DeliveryMode, Domain, FirstSound, OptionDescription,
    SAMPLES_PER_TOKEN, WhenFull, default_chunk_size,
};
use sottovoce_chatterbox::config::{LetterCase, ModelConfig, SamplingConfig, SamplingOrder};
use sottovoce_chatterbox::s3gen::FlowOptions;
use sottovoce_chatterbox::text::{Normalise, TextOptions, Unreadable};

crate::options! {
    /// Choices for one stream. `None` takes the model's own default, which is the reference's for
    /// that variant.
    pub struct StreamOptions {
        /// Seed of the random numbers: the same seed, text, voice and precision give the same
        /// samples.
        seed: u64 = 0, domain Domain::count(0, u64::MAX), scope Stream;
        /// Speed at constant pitch: 1 as the voice speaks, 2 twice as fast.
        speed: f32 = 1.0, domain Domain::number(0.25, 4.0), scope Stream;
        /// Emotion: 0.5 is neutral, more is livelier.
        exaggeration: Option<f32> = None, unset "the model's",
            domain Domain::number(0.0, 2.0), scope Stream, needs Emotion;
        /// Weight of classifier-free guidance: less lets the speech run slower and freer.
        cfg_weight: Option<f32> = None, unset "the model's",
            domain Domain::number(0.0, 5.0), scope Stream, needs Guidance;
        /// Sampling temperature; 0 takes the most likely token every time.
        temperature: Option<f32> = None, unset "the model's",
            domain Domain::number(0.0, 5.0), scope Stream;
        /// Nucleus sampling: least probability mass kept.
        top_p: Option<f32> = None, unset "the model's",
            domain Domain::number(0.0, 1.0), scope Stream, needs TokenByToken;
        /// Most tokens kept, the most likely first.
        top_k: Option<usize> = None, unset "the model's",
            domain Domain::count(0, 1 << 20), scope Stream, needs TopK;
        /// Least probability kept, relative to the most likely token's.
        min_p: Option<f32> = None, unset "the model's",
            domain Domain::number(0.0, 1.0), scope Stream, needs MinP;
        /// Repetition penalty: above 1 makes repeated tokens less likely.
        repetition_penalty: Option<f32> = None, unset "the model's",
            domain Domain::number(1.0, 10.0), scope Stream, needs TokenByToken;
        /// Most speech tokens of one sentence; the model's own limit holds as well.
        sentence_tokens_max: Option<usize> = None, unset "the model's",
            domain Domain::count(1, 1 << 20), scope Stream, unit "speech tokens";
        /// Whether numbers, dates, signs and abbreviations become words first; `auto` as the model
        /// was trained.
        normalise: Normalise = Normalise::Auto, domain Domain::choice::<Normalise>(), scope Stream;
        /// Language of the text, for models that speak several.
        language: Option<String> = None,
            unset "English where the model speaks it, else the model's",
            domain Domain::Text { form: "a language code such as en" }, scope Stream;
        /// Whether a multilingual model reads small letters alone, as the reference's package does,
        /// or letters as they are written, as its hosted demonstration does.
        letter_case: Option<LetterCase> = None, unset "the model's",
            domain Domain::choice::<LetterCase>(), scope Stream, needs Languages;
        /// What becomes of characters for which the model has no sound: `skip` passes over them
        /// with a warning, `refuse` refuses the text.
        unreadable: Unreadable = Unreadable::Skip,
            domain Domain::choice::<Unreadable>(), scope Stream;
        /// Whether T3's attention to the text holds back an early end, and ends speech that goes on
        /// after its text or reads it again: the reference's watcher.
        alignment_watch: bool = false,
            domain Domain::Switch, scope Stream, needs AlignmentHeads;
        /// How the sound is made: `stream` in growing chunks for somebody who listens, `whole`
        /// sentence by sentence, with less work and a later first sound.
        delivery: Option<DeliveryMode> = None,
            unset "whole where `speak` writes a file, else stream",
            domain Domain::choice::<DeliveryMode>(), scope Stream;
        /// When a stream's first sound comes: `steady` once playback need not wait afterwards,
        /// where the model is fast enough for that, `early` sooner, and playback may wait once.
        first_sound: FirstSound = FirstSound::Steady,
            domain Domain::choice::<FirstSound>(), scope Stream;
        /// Speech tokens in a chunk once the stream runs.
        chunk_size: Option<usize> = None, unset "the model's, or the engine's most if that is less",
            domain CHUNK_SIZES, scope Stream, unit "speech tokens";
        /// Speech tokens before a chunk that its synthesis sees again. 50 bring the mel a third
        /// nearer to the whole's than 10; 100 bring an eighth more.
        context_window: usize = 50, domain CONTEXT_WINDOWS, scope Stream, unit "speech tokens";
        /// Most tokens of the voice's prompt that a chunk's synthesis sees, the last ones.
        prompt_tokens: Option<usize> = None, unset "all of them",
            domain Domain::count(0, 1000), scope Stream, unit "speech tokens";
        /// Steps from noise to mel, at most the model's own: fewer are faster and rougher.
        flow_steps: Option<usize> = None, unset "the model's",
            domain Domain::count(1, 100), scope Stream, unit "steps";
        /// How many of these steps, from the first on, are guided: the others take half the time.
        flow_guided_steps: Option<usize> = None, unset "all of them",
            domain Domain::count(0, 100), scope Stream, unit "steps", needs GuidedFlow;
        /// Whether chunks tell the words in them, with the time of each.
        word_times: bool = false, domain Domain::Switch, scope Stream, needs WordTimes;
        /// Fade-in at the start.
        fade_duration: f32 = 0.02, domain Domain::number(0.0, 1.0), scope Stream, unit "seconds";
        /// Whether the memory policy acts on this stream's chunks.
        memory_management: bool = true, domain Domain::Switch, scope Program;
        /// What to do when all places are taken.
        when_full: WhenFull = WhenFull::Wait, domain Domain::choice::<WhenFull>(), scope Program;
        /// Chunks that may wait for the reader before the stream pauses.
        buffered_chunks_max: usize = 4,
            domain Domain::count(1, 1000), scope Program, unit "chunks";
    }
}

/// Options of a stream's text and of T3, which no voice change has.
const OF_SPEECH: [&str; 14] = [
    "exaggeration",
    "cfg_weight",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "sentence_tokens_max",
    "normalise",
    "language",
    "letter_case",
    "unreadable",
    "alignment_watch",
    "word_times",
];

impl StreamOptions {
    /// Whether an option is about the sound, not about the text or T3: only such options have an
    /// effect on voice changes.
    pub fn is_of_sound(option: &OptionDescription) -> bool {
        !OF_SPEECH.contains(&option.name)
    }

    /// Speech tokens in a chunk of this model once the stream runs.
    pub(crate) fn chunk_tokens(&self, config: &ModelConfig) -> usize {
        self.chunk_size
            .unwrap_or_else(|| default_chunk_size(config))
    }

    /// Steps of the flow.
    pub(crate) fn flow(&self, config: &ModelConfig) -> FlowOptions {
        let steps = self.flow_steps.unwrap_or(config.flow.solver.steps());
        FlowOptions {
            steps,
            guided_steps: self.flow_guided_steps.unwrap_or(steps).min(steps),
        }
    }

    /// Tokens that the flow uses of a voice's prompt of `count`.
    pub(crate) fn flow_prompt_tokens(&self, count: usize) -> usize {
        count.min(self.prompt_tokens.unwrap_or(usize::MAX))
    }

    /// Most bytes of samples waiting for the reader, in chunks of at most `chunk_tokens`: the
    /// waiting chunks, and the one in progress.
    pub(crate) fn delivery_bytes(&self, chunk_tokens: usize) -> u64 {
        let samples = chunk_tokens * SAMPLES_PER_TOKEN;
        ((self.buffered_chunks_max + 1) * samples * size_of::<f32>()) as u64
    }

    /// T3's sampling: the model's own, overridden by the options that are set.
    pub(crate) fn sampling(&self, defaults: &SamplingConfig) -> SamplingConfig {
        SamplingConfig {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            repetition_penalty: self
                .repetition_penalty
                .unwrap_or(defaults.repetition_penalty),
            guidance: self.cfg_weight.unwrap_or(defaults.guidance),
            exaggeration: self.exaggeration.unwrap_or(defaults.exaggeration),
            ..*defaults
        }
    }

    /// The sampling options that change nothing with a model of these `defaults`, because only the
    /// most likely token is kept before they apply.
    pub(crate) fn sampling_without_effect(&self, defaults: &SamplingConfig) -> Vec<&'static str> {
        let own = self.sampling(defaults);
        let is_cold = own.temperature <= 0.0;
        let keeps_one = own.order == SamplingOrder::PenaltyLast && own.top_k == 1;
        let penalised_late = own.order != SamplingOrder::PenaltyFirst && (is_cold || keeps_one);
        let without = [
            (
                "temperature",
                keeps_one,
                own.temperature != defaults.temperature,
            ),
            ("top_k", is_cold, own.top_k != defaults.top_k),
            ("top_p", keeps_one || is_cold, own.top_p != defaults.top_p),
            ("min_p", keeps_one || is_cold, own.min_p != defaults.min_p),
            (
                "repetition_penalty",
                penalised_late,
                own.repetition_penalty != defaults.repetition_penalty,
            ),
        ];
        (without.into_iter())
            .filter(|(_, is_without, is_changed)| *is_without && *is_changed)
            .map(|(name, ..)| name)
            .collect()
    }

    /// Whether attention to the text decides about the end of this model's sentences.
    pub(crate) fn watches_alignment(&self, config: &ModelConfig) -> bool {
        self.alignment_watch && Capability::AlignmentHeads.is_in_model(config)
    }

    /// The default options, with the model's own values filled in.
    pub(crate) fn of_model(config: &ModelConfig, chunk_tokens_max: usize) -> StreamOptions {
        let sampling = config.t3.sampling;
        StreamOptions {
            exaggeration: Some(sampling.exaggeration),
            cfg_weight: Some(sampling.guidance),
            temperature: Some(sampling.temperature),
            top_p: Some(sampling.top_p),
            top_k: Some(sampling.top_k),
            min_p: Some(sampling.min_p),
            repetition_penalty: Some(sampling.repetition_penalty),
            chunk_size: Some(default_chunk_size(config).min(chunk_tokens_max)),
            flow_steps: Some(config.flow.solver.steps()),
            ..StreamOptions::default()
        }
    }

    /// Options of the text front end.
    pub fn text(&self) -> TextOptions {
        TextOptions {
            normalise: self.normalise,
            language: self.language.clone(),
            letter_case: self.letter_case,
            unreadable: self.unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_own_sampling_holds_where_nothing_is_given() {
        let mut config = ModelConfig::base();
        let own = &mut config.t3.sampling;
        (own.temperature, own.guidance, own.exaggeration) = (0.31, 0.72, 0.63);
        let own = *own;
        assert_eq!(StreamOptions::default().sampling(&own), own);
        let told = StreamOptions::of_model(&config, 150);
        assert_eq!(told.temperature, Some(0.31));
        assert_eq!(told.cfg_weight, Some(0.72));
        assert_eq!(told.exaggeration, Some(0.63));
        let given = StreamOptions {
            exaggeration: Some(1.5),
            ..StreamOptions::default()
        };
        let sampling = given.sampling(&own);
        assert_eq!((sampling.temperature, sampling.exaggeration), (0.31, 1.5));
    }

    #[test]
    fn top_k_silences_other_sampling_options_only_where_the_sampler_has_it() {
        let options = StreamOptions {
            top_k: Some(1),
            temperature: Some(0.3),
            repetition_penalty: Some(1.9),
            ..StreamOptions::default()
        };
        let of = |config: ModelConfig| options.sampling_without_effect(&config.t3.sampling);
        assert!(of(ModelConfig::base()).is_empty());
        assert_eq!(
            of(ModelConfig::turbo()),
            ["temperature", "repetition_penalty"]
        );
    }
}
