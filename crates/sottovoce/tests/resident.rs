//! Resident memory beyond the ledger. A separate test, because other engines in the process would
//! count.

use sottovoce::{Engine, EngineOptions, Source, StreamOptions, VoiceSource};

#[cfg(target_os = "linux")]
#[test]
fn what_is_not_in_the_ledger_is_small() {
    let engine = Engine::load(Source::Embedded, EngineOptions::default()).unwrap();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let text = "We counted forty two boats before it got dark. ".repeat(8);
    for chunk in engine
        .stream(&text, &voice, StreamOptions::default())
        .unwrap()
    {
        chunk.unwrap();
        let other = engine.memory_report().other_bytes;
        assert!(other <= 48 << 20, "{other} bytes");
    }
}
