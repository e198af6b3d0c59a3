//! The option tables, from which every interface is generated.

use serde_json::{Value, json};
use sottovoce::options::{Capabilities, Domain};
use sottovoce::{
    Engine, EngineOptions, FirstSound, ModelConfig, OptionTable, Source, StreamOptions, VoiceSource,
};

/// One value inside an option's domain and one outside; `None` for domains that accept every text.
fn samples(domain: Domain) -> Option<(Value, Value)> {
    Some(match domain {
        Domain::Number { least, most } => (json!(least), json!(f64::from(most) + 1.0)),
        Domain::Count { least, most } => (json!(least), json!(most as f64 * 4.0 + 4.0)),
        Domain::Choice { words } => (json!(words[words.len() - 1]), json!("no such word")),
        Domain::Switch => (json!(false), json!("perhaps")),
        Domain::Bytes => (json!(1 << 20), json!((1u64 << 48) + 1)),
        Domain::Text { .. } => (Value::Null, json!("no such thing!")),
        Domain::File | Domain::Folder => return None,
    })
}

fn every_option_is_read_back_and_refused_by_name<T: OptionTable>() {
    for option in T::DESCRIPTIONS {
        let Some((good, bad)) = samples(option.domain) else {
            continue;
        };
        let mut options = T::default();
        options.set(option.name, &good).unwrap();
        let found = options.get(option.name).unwrap();
        match good {
            Value::Null => assert_eq!(found, T::default().get(option.name).unwrap()),
            Value::Number(_) => assert_eq!(found.as_f64(), good.as_f64(), "{}", option.name),
            _ => assert_eq!(found, good, "{}", option.name),
        }
        options.check().unwrap();
        for bad in [bad, json!([1]), json!({})] {
            let refusal = options.set(option.name, &bad).unwrap_err().to_string();
            assert!(refusal.contains(option.name), "{refusal}");
            assert_eq!(
                options.get(option.name).unwrap(),
                found,
                "a refusal changes nothing"
            );
        }
        options.set(option.name, &Value::Null).unwrap();
        assert_eq!(
            options.get(option.name),
            T::default().get(option.name),
            "null is the default"
        );
    }
    assert!(T::default().set("sped", &json!(1)).is_err());
    assert_eq!(T::default().get("sped"), None);
}

#[test]
fn every_option_of_a_stream_is_read_back_and_refused_by_name() {
    every_option_is_read_back_and_refused_by_name::<StreamOptions>();
}

#[test]
fn every_option_of_an_engine_is_read_back_and_refused_by_name() {
    every_option_is_read_back_and_refused_by_name::<EngineOptions>();
}

fn descriptions_are_whole<T: OptionTable>() {
    for option in T::DESCRIPTIONS {
        let name = option.name;
        assert!(
            option.help().ends_with('.'),
            "{name} has a sentence of help"
        );
        assert!(!option.help().contains("--"), "{name} names no flag");
        let value = T::default().get(name).unwrap();
        assert_eq!(
            value.is_null(),
            !option.unset.is_empty(),
            "{name} says what applies where nothing is set, and only then"
        );
        assert!(!value.is_null() || option.optional, "{name}");
    }
    let names = |option: &sottovoce::options::OptionDescription| option.name;
    let mut all: Vec<&str> = T::DESCRIPTIONS.iter().map(names).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), T::DESCRIPTIONS.len());
}

#[test]
fn every_option_has_help_and_a_default_or_says_what_applies() {
    descriptions_are_whole::<StreamOptions>();
    descriptions_are_whole::<EngineOptions>();
}

#[test]
fn numbers_may_stand_in_strings_and_sizes_have_units() {
    let mut options = StreamOptions::default();
    options.set("speed", &json!("1.5")).unwrap();
    options.set("seed", &json!("18446744073709551615")).unwrap();
    options.set("top_k", &json!(40.0)).unwrap();
    options.set("chunk_size", &json!("1e2")).unwrap();
    assert_eq!((options.speed, options.seed), (1.5, u64::MAX));
    assert_eq!((options.top_k, options.chunk_size), (Some(40), Some(100)));
    for word in ["1,5", "", "NaN", "inf", "fast"] {
        assert!(options.set("speed", &json!(word)).is_err(), "{word:?}");
    }
    let mut options = EngineOptions::default();
    options.set("memory", &json!("512MiB")).unwrap();
    assert_eq!(options.memory, Some(512 << 20));
    assert!(options.set("memory", &json!("1 parsec")).is_err());
    options.set("memory", &json!(7)).unwrap();
    assert_eq!(options.memory, Some(7));
    options.set("memory", &Value::Null).unwrap();
    assert_eq!(options.memory, None);
    options.set("profile", &json!("auto")).unwrap();
    assert_eq!(options.get("profile"), Some(json!("automatic")));
}

#[test]
fn options_go_through_json_and_back_and_unknown_names_are_refused() {
    let options = StreamOptions {
        temperature: Some(0.7),
        seed: u64::MAX,
        language: Some("de".into()),
        ..StreamOptions::default()
    };
    let json = serde_json::to_string(&options).unwrap();
    assert!(json.contains("\"temperature\":0.7,"), "{json}");
    let read: StreamOptions = serde_json::from_str(&json).unwrap();
    assert_eq!(read, options);
    let some: StreamOptions = serde_json::from_str(r#"{"speed": 2}"#).unwrap();
    assert_eq!(
        some,
        StreamOptions {
            speed: 2.0,
            ..StreamOptions::default()
        }
    );
    for (json, name) in [
        (r#"{"sped": 2}"#, "sped"),
        (r#"{"speed": 9}"#, "speed"),
        (r#"{"when_full": "leave"}"#, "when_full"),
    ] {
        let refusal = serde_json::from_str::<StreamOptions>(json)
            .unwrap_err()
            .to_string();
        assert!(refusal.contains(name), "{refusal}");
    }
    let engine = EngineOptions {
        memory: Some(1 << 30),
        ..EngineOptions::default()
    };
    let json = serde_json::to_value(&engine).unwrap();
    assert_eq!(
        serde_json::from_value::<EngineOptions>(json).unwrap(),
        engine
    );
}

#[test]
fn options_without_effect_are_named_for_the_model_and_the_device() {
    let options = StreamOptions {
        speed: 2.0,
        exaggeration: Some(0.5),
        cfg_weight: Some(0.5),
        top_k: Some(40),
        min_p: Some(0.1),
        ..StreamOptions::default()
    };
    let host = |config: &ModelConfig| options.without_effect(&Capabilities::of(config, true));
    assert_eq!(host(&ModelConfig::base()), ["top_k"]);
    assert_eq!(
        host(&ModelConfig::turbo()),
        ["exaggeration", "cfg_weight", "min_p"]
    );
    let default = StreamOptions::default();
    let turbo = Capabilities::of(&ModelConfig::turbo(), true);
    assert!(
        default.without_effect(&turbo).is_empty(),
        "nothing was asked for"
    );
    let engine = EngineOptions {
        host_memory: Some(1 << 30),
        ..EngineOptions::default()
    };
    assert_eq!(engine.without_effect(&turbo), ["host_memory"]);
    let device = Capabilities::of(&ModelConfig::turbo(), false);
    assert!(engine.without_effect(&device).is_empty());
}

/// pico keeps the most likely token alone unless `top_k` says otherwise.
#[test]
fn sampling_options_are_named_where_only_one_token_is_kept() {
    let engine = Engine::load(Source::Embedded, EngineOptions::default()).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let without_effect = |options: StreamOptions| {
        let stream = engine.stream("Hi.", &voice, options).unwrap();
        stream.options_without_effect().to_vec()
    };
    let warm = StreamOptions {
        temperature: Some(1.5),
        top_p: Some(0.9),
        ..StreamOptions::default()
    };
    assert_eq!(without_effect(warm.clone()), ["temperature", "top_p"]);
    let chosen = StreamOptions {
        top_k: Some(5),
        ..warm.clone()
    };
    assert!(without_effect(chosen).is_empty());
    let cold = StreamOptions {
        temperature: Some(0.0),
        top_k: Some(5),
        ..StreamOptions::default()
    };
    assert_eq!(without_effect(cold), ["top_k"]);
    let repeats_little = StreamOptions {
        repetition_penalty: Some(2.0),
        ..StreamOptions::default()
    };
    assert_eq!(
        without_effect(repeats_little.clone()),
        ["repetition_penalty"],
        "it applies to what top_k left"
    );
    let chosen = StreamOptions {
        top_k: Some(5),
        ..repeats_little
    };
    assert!(without_effect(chosen).is_empty());
    assert!(without_effect(StreamOptions::default()).is_empty());
}

/// pico's own voice has no prompt for the flow, and pico is steady with early chunks.
#[test]
fn options_are_named_that_the_voice_or_the_models_speed_leave_without_effect() {
    let engine = Engine::load(Source::Embedded, EngineOptions::default()).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let options = StreamOptions {
        prompt_tokens: Some(10),
        first_sound: FirstSound::Early,
        ..StreamOptions::default()
    };
    let stream = engine.stream("Hi.", &voice, options).unwrap();
    assert_eq!(
        stream.options_without_effect(),
        ["first_sound", "prompt_tokens"]
    );
}
