//! Voice files, ours and the reference's `conds.pt`: any bytes are read or refused; what is read
//! can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::voice::PreparedVoice;
use std::sync::LazyLock;

static CONFIG: LazyLock<ModelConfig> = LazyLock::new(ModelConfig::tiny_turbo);

fuzz_target!(|bytes: &[u8]| {
    let Ok(voice) = PreparedVoice::read(bytes, &CONFIG) else {
        return;
    };
    let written = voice.write(&CONFIG).expect("a voice that was read can be written");
    PreparedVoice::read(&written, &CONFIG).expect("a voice that was written can be read");
});
