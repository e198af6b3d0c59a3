//! The options of a stream that are given and have no effect.

use super::Shared;
use crate::chunking::Schedule;
use crate::options::{
    DeliveryMode, EngineOptions, FirstSound, OptionDescription, OptionTable, StreamOptions,
};
use crate::voice::Voice;
use sottovoce_chatterbox::config::ModelConfig;

/// Names of options that differ from the default and have no effect on a stream of a text or, with
/// `changes_voice`, of recorded speech.
pub(super) fn without_effect(
    shared: &Shared,
    engine: &EngineOptions,
    changes_voice: bool,
    voice: &Voice,
    options: &StreamOptions,
) -> Vec<&'static str> {
    let config = shared.model.config();
    let sampling = match changes_voice || config.t3.blocks.is_some() {
        true => Vec::new(),
        false => options.sampling_without_effect(&config.t3.sampling),
    };
    let prompt_tokens = voice.inner.flow.prompt_tokens.len();
    let limits = (engine.chunk_tokens(config), engine.context_tokens_max);
    let has_effect = |option: &OptionDescription| {
        option.has_effect(&shared.capabilities)
            && (StreamOptions::is_of_sound(option) || !changes_voice)
            && match option.name {
                "prompt_tokens" => prompt_tokens > 0,
                "first_sound" => chooses_first_sound(config, limits, prompt_tokens, options),
                name => !sampling.contains(&name),
            }
    };
    let default = StreamOptions::default();
    (StreamOptions::DESCRIPTIONS.iter())
        .filter(|option| options.get(option.name) != default.get(option.name))
        .filter(|option| !has_effect(option))
        .map(|option| option.name)
        .collect()
}

/// Whether the first sound of a stream can come at another time: if chunks leave one by one, and
/// playback without a gap needs other chunks than the earliest sound.
fn chooses_first_sound(
    config: &ModelConfig,
    limits: (usize, usize),
    prompt_tokens: usize,
    options: &StreamOptions,
) -> bool {
    let schedule = |first_sound| {
        let options = StreamOptions {
            first_sound,
            ..options.clone()
        };
        Schedule::of_stream(config, limits, prompt_tokens, &options)
    };
    options.delivery != Some(DeliveryMode::Whole)
        && schedule(FirstSound::Early) != schedule(FirstSound::Steady)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sound_is_chosen_where_the_model_is_fast_enough_and_chunks_leave_one_by_one() {
        let chooses = |config: &ModelConfig, delivery| {
            let options = StreamOptions {
                delivery,
                ..StreamOptions::default()
            };
            chooses_first_sound(config, (75, 50), 125, &options)
        };
        assert!(chooses(&ModelConfig::nano(), None));
        assert!(chooses(&ModelConfig::nano(), Some(DeliveryMode::Stream)));
        assert!(!chooses(&ModelConfig::nano(), Some(DeliveryMode::Whole)));
        assert!(!chooses(&ModelConfig::base(), None), "too slow");
    }
}
