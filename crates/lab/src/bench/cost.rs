//! Time cost of each memory profile: one engine speaks the same text under each profile in turn,
//! for several rounds.

use super::BenchOptions;
use serde::Serialize;
use sottovoce::{Engine, EngineOptions, Error, PrecisionChoice, Profile, Voice, VoiceSource};

/// A profile's time relative to no memory management.
#[derive(Clone, Debug, Serialize)]
pub struct ProfileCost {
    /// Precision of the weights.
    pub precision: PrecisionChoice,
    /// The profile.
    pub profile: Profile,
    /// Rounds.
    pub rounds: usize,
    /// Seconds of work per second of speech: the median over the rounds.
    pub rtf: f64,
    /// The same under [`Profile::None`].
    pub rtf_none: f64,
    /// Median of rtf ÷ rtf_none − 1 over the rounds: 0.01 is one per cent.
    pub cost: f64,
}

/// Costs of all profiles except `None` at `precision`; empty without rounds.
pub(super) fn costs(
    options: &BenchOptions,
    precision: PrecisionChoice,
) -> Result<Vec<ProfileCost>, Error> {
    let managed: Vec<Profile> = (options.profiles.iter().copied())
        .filter(|profile| *profile != Profile::None)
        .collect();
    if options.rounds == 0 || managed.is_empty() {
        return Ok(Vec::new());
    }
    let engine = Engine::load(
        options.source.clone(),
        EngineOptions {
            precision,
            profile: Profile::None,
            ..options.engine.clone()
        },
    )?;
    let voice = engine.voice(VoiceSource::Default)?;
    let mut none = Vec::new();
    let mut times = vec![Vec::new(); managed.len()];
    // A first run warms the caches for all profiles.
    spoken(options, &engine, &voice, Profile::None)?;
    for round in 0..options.rounds {
        // The order rotates, so that no profile is always first.
        let mut order: Vec<Option<usize>> = (0..managed.len()).map(Some).collect();
        order.push(None);
        order.rotate_left(round % (managed.len() + 1));
        for who in order {
            match who {
                Some(index) => {
                    times[index].push(spoken(options, &engine, &voice, managed[index])?);
                }
                None => none.push(spoken(options, &engine, &voice, Profile::None)?),
            }
        }
    }
    let costs = managed.iter().zip(&times).map(|(&profile, times)| {
        let ratios = (times.iter().zip(&none)).map(|(time, none)| time / none - 1.0);
        ProfileCost {
            precision,
            profile,
            rounds: options.rounds,
            rtf: median(times.clone()),
            rtf_none: median(none.clone()),
            cost: median(ratios.collect()),
        }
    });
    Ok(costs.collect())
}

/// The real-time factor of the text under a profile.
fn spoken(
    options: &BenchOptions,
    engine: &Engine,
    voice: &Voice,
    profile: Profile,
) -> Result<f64, Error> {
    engine.set_profile(profile);
    let mut rtf = 0.0;
    for chunk in engine.stream(&options.text, voice, options.stream_options())? {
        let metrics = chunk?.metrics;
        rtf = metrics.rtf;
        if metrics.total_audio_duration >= options.audio_seconds_max {
            break;
        }
    }
    Ok(rtf)
}

/// The median; of an even number of values, the mean of the middle two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[half],
        _ => (values[half - 1] + values[half]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sottovoce::Source;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }

    #[test]
    fn every_managed_profile_is_held_against_none() {
        let options = BenchOptions {
            source: Source::Embedded,
            precisions: Vec::new(),
            profiles: vec![Profile::Balanced, Profile::None, Profile::Aggressive],
            engine: EngineOptions::default(),
            text: "Hello.".into(),
            audio_seconds_max: 2.0,
            further: false,
            rounds: 2,
        };
        let costs = costs(&options, PrecisionChoice::Auto).unwrap();
        let profiles: Vec<Profile> = costs.iter().map(|cost| cost.profile).collect();
        assert_eq!(profiles, [Profile::Balanced, Profile::Aggressive]);
        for cost in costs {
            assert!(cost.rtf > 0.0 && cost.rtf_none > 0.0 && cost.cost > -1.0);
        }
    }
}
