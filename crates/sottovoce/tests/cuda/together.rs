//! Streams whose chunks are due at about the same time: one pass of the flow renders them.

use crate::scene::{long_stream, options, source};
use cuda_stand_in::client::StandIn;
use sottovoce::{Engine, EngineOptions, VoiceSource, read_in_turn};

/// Samples of streams with these seeds that begin at once, how many chunks they had, and how many
/// of those were rendered together.
fn speak(device: StandIn, seeds: &[u64]) -> (Vec<Vec<f32>>, u64, u64) {
    let options = EngineOptions {
        streams_max: 5,
        ..options(device)
    };
    let engine = Engine::load(source(), options).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let streams = (seeds.iter()).map(|&seed| long_stream(&engine, &voice, seed));
    let samples = (read_in_turn(streams).into_iter())
        .map(|(samples, ending)| {
            ending.unwrap();
            samples
        })
        .collect();
    let metrics = engine.metrics();
    (samples, metrics.chunks, metrics.chunks_together)
}

#[test]
fn chunks_that_are_due_at_once_are_rendered_together_and_sound_as_alone() {
    let device = StandIn::new(51, "memory=2147483648 order=shuffled:5");
    let seeds = [3, 8, 3, 5, 4];
    let (together, chunks, chunks_together) = speak(device, &seeds);
    println!("{chunks_together} of {chunks} chunks");
    assert!(
        2 * chunks_together > chunks,
        "{chunks_together} of {chunks}"
    );
    for (together, seed) in together.into_iter().zip(seeds) {
        let (alone, _, none) = speak(device, &[seed]);
        assert!(alone == [together], "the stream with seed {seed}");
        assert_eq!(none, 0);
    }
}
