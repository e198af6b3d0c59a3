//! Models whose decoding has parts of its own, on a card and on the processor: the multilingual
//! model's alignment watcher, and flash's blocks.

use crate::scene::one_stream;
use cuda_stand_in::client::StandIn;
use sottovoce::{DeviceChoice, Engine, ModelConfig, Source, StreamOptions, Variant, VoiceSource};

/// What a stream said.
struct Said {
    tokens: u64,
    run_ons: u64,
    samples: Vec<f32>,
}

fn say(config: &ModelConfig, device: DeviceChoice, streams: &[(&str, StreamOptions)]) -> Vec<Said> {
    let engine =
        Engine::load(Source::Random(Box::new(config.clone())), one_stream(device)).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let one = |(text, options): &(&str, StreamOptions)| {
        let options = StreamOptions {
            flow_steps: Some(1),
            ..options.clone()
        };
        let mut said = Said {
            tokens: 0,
            run_ons: 0,
            samples: Vec::new(),
        };
        for chunk in engine.stream(text, &voice, options).unwrap() {
            let chunk = chunk.unwrap();
            said.samples.extend(chunk.samples);
            (said.tokens, said.run_ons) = (chunk.metrics.tokens, chunk.metrics.run_ons);
        }
        said
    };
    streams.iter().map(one).collect()
}

/// What is said on a card, which is what is said on the processor.
fn same_on_a_card(
    ordinal: u32,
    config: &ModelConfig,
    streams: &[(&str, StreamOptions)],
) -> Vec<Said> {
    let card = StandIn::new(ordinal, "memory=1073741824 order=shuffled:3 generation=90");
    let expected = say(config, DeviceChoice::Cpu, streams);
    let found = say(config, DeviceChoice::Cuda(card.ordinal()), streams);
    card.expect_clean("after the streams");
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found.tokens, expected.tokens, "tokens of stream {index}");
        assert_eq!(found.run_ons, expected.run_ons, "run-ons of stream {index}");
        assert_eq!(found.samples.len(), expected.samples.len());
        let square = |value: f32| f64::from(value).powi(2);
        let pairs = found.samples.iter().zip(&expected.samples);
        let off: f64 = pairs.map(|(a, b)| square(a - b)).sum();
        let whole: f64 = expected.samples.iter().map(|&value| square(value)).sum();
        let difference = (off / whole).sqrt();
        println!(
            "stream {index}: {} tokens, {} run-ons, relative L2 of the samples {difference:.1e}",
            found.tokens, found.run_ons
        );
        assert!(difference < 1e-3, "stream {index}: {difference:.2e}");
    }
    found
}

fn seeded(seed: u64, temperature: f32) -> StreamOptions {
    StreamOptions {
        seed,
        temperature: Some(temperature),
        ..StreamOptions::default()
    }
}

/// The multilingual model with few channels, but with all layers and heads, to which its alignment
/// heads belong.
fn multilingual() -> ModelConfig {
    let official = ModelConfig::preset(Variant::Multilingual).t3.backbone;
    let mut config = ModelConfig::tiny_multilingual();
    config.t3.backbone.layers = official.layers;
    config.t3.backbone.heads = official.heads;
    config.t3.backbone.head_size = 16;
    config.t3.sampling.token_count_max = 24;
    // Of few tokens one is soon said twice, which the watcher takes for babble, and one of them is
    // the end, which it forbids as long as text is left.
    (
        config.t3.speech_vocabulary,
        config.t3.prompt_token_count_max,
    ) = (12, 0);
    (config.t3.speech_start, config.t3.speech_stop) = (10, 11);
    config.voice.prompt.flow_seconds_max = 0.2;
    config
}

#[test]
fn the_watcher_decides_on_a_card_as_on_the_processor() {
    let config = multilingual();
    assert_eq!(config.t3.alignment_heads().len(), 3);
    let watching = |seed, temperature| StreamOptions {
        alignment_watch: true,
        language: Some("fr".into()),
        ..seeded(seed, temperature)
    };
    let text = "Deux bateaux.";
    let streams = [
        (text, watching(1, 0.0)),
        (text, watching(2, 0.8)),
        (text, watching(3, 0.8)),
    ];
    let watched = same_on_a_card(42, &config, &streams);
    let free = streams.map(|(text, options)| {
        let alignment_watch = false;
        (
            text,
            StreamOptions {
                alignment_watch,
                ..options
            },
        )
    });
    let free = say(&config, DeviceChoice::Cpu, &free);
    let differs = |(watched, free): &(&Said, &Said)| {
        (watched.tokens, watched.run_ons) != (free.tokens, free.run_ons)
    };
    let differing = watched.iter().zip(&free).filter(differs).count();
    let run_ons: u64 = watched.iter().map(|said| said.run_ons).sum();
    println!("{differing} streams are other ones without the watcher; it ended {run_ons}");
    assert!(differing > 0 && run_ons > 0, "the watcher decided nothing");
}

#[test]
fn flash_decodes_its_blocks_on_a_card_as_on_the_processor() {
    let mut config = ModelConfig::tiny_flash();
    config.voice.prompt.flow_seconds_max = 0.2;
    config.t3.sampling.token_count_max = 40;
    let text = "Two boats. And then seven more.";
    let streams = [(text, seeded(1, 0.0)), (text, seeded(2, 0.8))];
    let said = same_on_a_card(43, &config, &streams);
    assert!(said.iter().all(|said| said.tokens > 16), "several blocks");
}
