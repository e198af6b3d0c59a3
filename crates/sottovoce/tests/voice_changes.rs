//! Recorded speech in another voice: of any length, in constant memory, without T3.

mod common;

use sottovoce::{
    Chunk, DeliveryMode, Engine, EngineOptions, Error, MemoryReport, ModelConfig, PrecisionChoice,
    RecordedSpeech, Source, Stream, StreamOptions, Voice, VoiceSource, WhenFull,
};
use sottovoce_formats::safetensors::read_header;

const SAMPLES_PER_TOKEN: usize = 960;

/// A small turbo with windows of 3 s and short prompts.
fn config() -> ModelConfig {
    let mut config = ModelConfig::tiny_turbo();
    config.voice.tokenizer.window = 300;
    config.voice.tokenizer.overlap = 40;
    config.voice.prompt.flow_seconds_max = 0.4;
    config
}

fn options() -> EngineOptions {
    EngineOptions {
        threads: Some(1),
        speech: false,
        streams_max: 1,
        ..EngineOptions::default()
    }
}

fn load(options: EngineOptions) -> (Engine, Voice) {
    let engine = Engine::load(Source::Random(Box::new(config())), options).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    (engine, voice)
}

fn speech(seconds: f32) -> RecordedSpeech {
    RecordedSpeech::Bytes {
        name: "speech.wav".into(),
        bytes: common::clip(seconds, 16_000),
    }
}

fn seeded(seed: u64) -> StreamOptions {
    StreamOptions {
        seed,
        ..StreamOptions::default()
    }
}

fn samples(stream: Stream) -> Result<Vec<f32>, Error> {
    let mut samples = Vec::new();
    for chunk in stream {
        samples.extend(chunk?.samples);
    }
    Ok(samples)
}

#[test]
fn recorded_speech_comes_back_in_full_length_and_the_same_each_time() {
    let (engine, voice) = load(options());
    let change = |speech, voice: &Voice, options| {
        samples(engine.change_voice(speech, voice, options).unwrap()).unwrap()
    };
    let changed = change(speech(7.0), &voice, seeded(1));
    assert_eq!(changed.len(), 7 * 25 * SAMPLES_PER_TOKEN);
    assert!(changed.iter().any(|sample| sample.abs() > 1e-3));
    assert_eq!(change(speech(7.0), &voice, seeded(1)), changed);
    assert_ne!(change(speech(7.0), &voice, seeded(2)), changed, "the seed");
    let other = engine.varied_voice(&voice, 5).unwrap();
    assert_ne!(change(speech(7.0), &other, seeded(1)), changed, "the voice");
    let whole = StreamOptions {
        delivery: Some(DeliveryMode::Whole),
        ..seeded(1)
    };
    assert_eq!(change(speech(7.0), &voice, whole).len(), changed.len());
}

/// `reference/voice_change.py fixture`: the reference's S3Gen with this engine's random weights,
/// voice and random numbers.
#[test]
fn a_change_is_the_references_on_the_same_weights_and_random_numbers() {
    let file = include_bytes!("../../chatterbox/tests/fixtures/voice_change.safetensors");
    let header = read_header(file).unwrap();
    let floats = |name: &str| {
        let info = &header.tensors[name];
        let mut values = vec![0.0; info.shape.iter().product()];
        info.dtype.read_f32(&file[info.bytes.clone()], &mut values);
        values
    };
    let mut config = ModelConfig::tiny_base();
    config.voice.prompt.flow_seconds_max = 0.4;
    // Random weights give low frequencies, of which some are to count as voiced.
    config.vocoder.source.voiced_threshold = 0.5;
    let exact = EngineOptions {
        precision: PrecisionChoice::F32,
        ..options()
    };
    let engine = Engine::load(Source::Random(Box::new(config)), exact).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let speech = RecordedSpeech::Samples {
        samples: floats("samples_16k"),
        sample_rate: 16_000,
    };
    let in_one_pass = StreamOptions {
        delivery: Some(DeliveryMode::Whole),
        fade_duration: 0.0,
        ..seeded(7)
    };
    let changed = engine.change_voice(speech, &voice, in_one_pass).unwrap();
    let (changed, expected) = (samples(changed).unwrap(), floats("wav"));
    assert_eq!(changed.len(), expected.len());
    // The reference silences the first 20 ms and fades the next 20 in.
    let (changed, expected) = (&changed[960..], &expected[960..]);
    let square = |x: f32| f64::from(x) * f64::from(x);
    let apart: f64 = (changed.iter().zip(expected))
        .map(|(a, b)| square(a - b))
        .sum();
    let error = (apart / expected.iter().map(|&b| square(b)).sum::<f64>()).sqrt();
    assert!(error <= 1e-4, "relative L2 error {error:e}");
}

#[test]
fn a_file_an_open_file_bytes_and_samples_sound_the_same() {
    let (engine, voice) = load(options());
    let file = common::clip(2.0, 16_000);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("speech.wav");
    std::fs::write(&path, &file).unwrap();
    let pcm = file[44..].chunks_exact(2);
    let pcm = pcm.map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0);
    let forms = [
        RecordedSpeech::Opened {
            name: "speech.wav".into(),
            file: std::fs::File::open(&path).unwrap(),
        },
        RecordedSpeech::File(path),
        RecordedSpeech::Bytes {
            name: "speech.wav".into(),
            bytes: file.clone(),
        },
        RecordedSpeech::Samples {
            samples: pcm.collect(),
            sample_rate: 16_000,
        },
    ];
    let changed = forms.map(|speech| {
        let stream = engine.change_voice(speech, &voice, seeded(3)).unwrap();
        samples(stream).unwrap()
    });
    for other in &changed[1..] {
        assert!(*other == changed[0]);
    }
}

#[test]
fn ten_minutes_take_the_memory_of_one() {
    let peaks = [60.0, 600.0].map(|seconds| {
        let (engine, voice) = load(options());
        let quick = StreamOptions {
            flow_steps: Some(1),
            context_window: 10,
            ..seeded(1)
        };
        let stream = engine.change_voice(speech(seconds), &voice, quick).unwrap();
        let mut count = 0;
        for chunk in stream {
            count += chunk.unwrap().samples.len();
        }
        assert_eq!(count, seconds as usize * 25 * SAMPLES_PER_TOKEN);
        let report = engine.memory_report();
        let plan = engine.plan();
        assert!(
            report.reserved_peak_bytes <= plan.total_bytes(1),
            "the plan"
        );
        report.reserved_peak_bytes
    });
    assert_eq!(peaks[0], peaks[1]);
}

#[test]
fn an_engine_that_only_changes_voices_has_no_t3_and_refuses_to_speak() {
    let (engine, voice) = load(options());
    let owners = engine.memory_report().owners;
    assert!(owners.iter().any(|owner| owner.tag == "flow"));
    assert!(owners.iter().all(|owner| owner.tag != "t3"), "{owners:?}");
    let (speaking, _) = load(EngineOptions {
        speech: true,
        ..options()
    });
    assert!(engine.plan().weights_bytes < speaking.plan().weights_bytes);
    assert!(engine.plan().listener_bytes > 0 && speaking.plan().listener_bytes == 0);
    for refused in [
        engine.stream("Hello.", &voice, seeded(0)).err(),
        engine.open_stream(&voice, seeded(0)).err(),
    ] {
        let message = refused.unwrap().to_string();
        assert!(
            message.contains("speech") && message.contains("voices"),
            "{message}"
        );
    }
}

#[test]
fn an_engine_that_speaks_changes_voices_beside_what_it_speaks() {
    let (engine, voice) = load(EngineOptions {
        speech: true,
        streams_max: 2,
        ..options()
    });
    let alone = engine.change_voice(speech(4.0), &voice, seeded(1)).unwrap();
    let alone = samples(alone).unwrap();
    let spoken = samples(engine.stream("Ten boats.", &voice, seeded(1)).unwrap()).unwrap();
    let change = engine.change_voice(speech(4.0), &voice, seeded(1)).unwrap();
    let text = engine.stream("Ten boats.", &voice, seeded(1)).unwrap();
    let text = std::thread::spawn(move || samples(text).unwrap());
    assert!(samples(change).unwrap() == alone);
    assert!(text.join().unwrap() == spoken);
}

#[test]
fn the_listeners_memory_is_reserved_before_it_listens_and_is_given_back() {
    let source = Source::Random(Box::new(config()));
    // With a choice of precisions, another one may take less.
    let options = || EngineOptions {
        precision: PrecisionChoice::F16,
        ..options()
    };
    let least = Engine::plan_for(&source, &options()).unwrap();
    let refused = Engine::load(
        source.clone(),
        EngineOptions {
            memory: Some(least.total_bytes(1) - 1),
            ..options()
        },
    );
    assert!(matches!(refused.err(), Some(Error::Budget { .. })));
    let (engine, voice) = load(EngineOptions {
        memory: Some(least.total_bytes(1)),
        ..options()
    });
    let before = engine.memory_report();
    let mut first = engine
        .change_voice(speech(30.0), &voice, seeded(1))
        .unwrap();
    first.next().unwrap().unwrap();
    let during = engine.memory_report();
    let promised = during.promised_bytes - before.promised_bytes;
    // The plan has room for any recording. This one's container has no index.
    assert!((least.listener_bytes / 4..least.listener_bytes).contains(&promised));
    let reading = |report: &MemoryReport| {
        let owners = report.owners.iter();
        let recording = owners.filter(|owner| owner.tag == "recording");
        recording
            .map(|owner| (owner.region.clone(), owner.bytes))
            .next()
    };
    let (region, bytes) = reading(&during).unwrap();
    assert_eq!(region, "staging");
    // The decoder, the resampler, and mel frames of more than a window.
    assert!(
        (2 << 20..promised).contains(&bytes),
        "{bytes} of {promised}"
    );
    let second = StreamOptions {
        when_full: WhenFull::Refuse,
        ..seeded(1)
    };
    let busy = engine.change_voice(speech(1.0), &voice, second);
    assert!(matches!(busy.err(), Some(Error::Busy { .. })));
    drop(first);
    let next = engine.change_voice(speech(1.0), &voice, seeded(1)).unwrap();
    assert_eq!(samples(next).unwrap().len(), 25 * SAMPLES_PER_TOKEN);
    assert_eq!(reading(&engine.memory_report()).unwrap().1, 0);
    drop(voice);
    // A speaking engine whose budget has no room for a listener says so.
    let speaking = EngineOptions {
        speech: true,
        ..options()
    };
    let plan = Engine::plan_for(&source, &speaking).unwrap();
    let (engine, voice) = load(EngineOptions {
        memory: Some(plan.total_bytes(1)),
        ..speaking.clone()
    });
    assert!(engine.change_bytes().unwrap() > plan.stream_bytes);
    let refused = engine.change_voice(speech(1.0), &voice, seeded(1));
    let Some(Error::Budget { needed_bytes, .. }) = refused.err() else {
        panic!("it was not refused");
    };
    // What the refusal asks for suffices.
    let (engine, voice) = load(EngineOptions {
        memory: Some(needed_bytes),
        ..speaking
    });
    let changed = engine.change_voice(speech(1.0), &voice, seeded(1)).unwrap();
    let spoken = engine.stream("One.", &voice, seeded(1)).unwrap();
    assert!(!samples(changed).unwrap().is_empty());
    assert!(!samples(spoken).unwrap().is_empty());
}

#[test]
fn what_cannot_be_heard_is_refused_by_name() {
    let (engine, voice) = load(options());
    let outcome = |speech| -> Error {
        match engine.change_voice(speech, &voice, seeded(1)) {
            Ok(stream) => samples(stream).unwrap_err(),
            Err(error) => error,
        }
    };
    let bytes = |bytes: &[u8]| RecordedSpeech::Bytes {
        name: "clip.wav".into(),
        bytes: bytes.to_vec(),
    };
    let numbers = |samples: Vec<f32>, sample_rate| RecordedSpeech::Samples {
        samples,
        sample_rate,
    };
    for (speech, words) in [
        (bytes(b""), "empty"),
        (bytes(b"no sound at all"), "not a recording"),
        (bytes(&common::clip(0.005, 16_000)), "shorter"),
        (numbers(vec![], 16_000), "shorter"),
        (numbers(vec![f32::NAN], 16_000), "not finite"),
        (numbers(vec![0.0; 9], 0), "0 samples a second"),
        (RecordedSpeech::File("/no/such.wav".into()), "/no/such.wav"),
    ] {
        let message = outcome(speech).to_string();
        assert!(message.contains(words), "{message}");
    }
    let pico = Engine::load(Source::Embedded, EngineOptions::default()).unwrap();
    let voice = pico.voice(VoiceSource::Default).unwrap();
    let refused = pico.change_voice(speech(1.0), &voice, seeded(1));
    let message = refused.err().unwrap().to_string();
    assert!(message.contains("base, turbo and nano"), "{message}");
}

#[test]
fn options_of_text_are_told_to_have_no_effect_and_the_others_have_theirs() {
    let (engine, voice) = load(options());
    let options = StreamOptions {
        temperature: Some(0.1),
        language: Some("de".into()),
        speed: 2.0,
        chunk_size: Some(20),
        prompt_tokens: Some(5),
        ..seeded(1)
    };
    let stream = engine.change_voice(speech(2.0), &voice, options).unwrap();
    assert_eq!(stream.options_without_effect(), ["temperature", "language"]);
    let chunks: Vec<Chunk> = stream.map(Result::unwrap).collect();
    let count: usize = chunks.iter().map(|chunk| chunk.samples.len()).sum();
    let once = 50 * SAMPLES_PER_TOKEN;
    assert!(count < once * 6 / 10, "{count} at twice the speed");
    let last = &chunks.last().unwrap().metrics;
    assert_eq!((last.tokens, last.text_tokens), (50, 0));
}

#[test]
fn a_folder_with_s3gen_alone_changes_voices() {
    let folder = tempfile::tempdir().unwrap();
    common::write_model(folder.path(), &common::config());
    for file in [common::T3_FILE, common::ENCODER_FILE, "tokenizer.json"] {
        std::fs::remove_file(folder.path().join(file)).unwrap();
    }
    let source = Source::Directory(folder.path().to_owned());
    assert!(Engine::load(source.clone(), EngineOptions::default()).is_err());
    let engine = Engine::load(source, options()).unwrap();
    let clip = |name: &str| VoiceSource::ClipBytes {
        name: name.into(),
        bytes: common::clip(3.0, 24_000),
    };
    let voice = engine.voice(clip("target.wav")).unwrap();
    assert!(
        voice
            .save(&folder.path().join("voice.safetensors"))
            .is_err()
    );
    let stream = engine.change_voice(speech(1.0), &voice, seeded(1)).unwrap();
    assert_eq!(samples(stream).unwrap().len(), 25 * SAMPLES_PER_TOKEN);
}
