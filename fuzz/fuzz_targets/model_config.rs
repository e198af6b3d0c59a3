//! Model configurations: any text is read or refused by name, and what is read has sizes that can
//! be computed with.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sottovoce_chatterbox::config::ModelConfig;

fuzz_target!(|json: &str| {
    let Ok(config) = ModelConfig::from_json(json) else {
        return;
    };
    assert!(config.samples_per_token() > 0);
    assert!(config.vocoder.reach_frames() > 0);
    assert_eq!(ModelConfig::from_json(&config.to_json()).as_ref(), Ok(&config));
});
