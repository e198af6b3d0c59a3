//! Text front end: any text is read or refused in time that grows with its length, no piece is
//! longer than the model can say, and every pause has a length that is a number.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sottovoce_chatterbox::config::ModelConfig;
use sottovoce_chatterbox::text::{Normalise, Piece, TextFrontEnd, TextOptions};
use std::sync::LazyLock;

static FRONT_END: LazyLock<(TextFrontEnd, usize)> = LazyLock::new(|| {
    let mut config = ModelConfig::tiny_base();
    config.text.spell_out = true;
    config.text.token_count_max = 40;
    // The start and stop tokens come on top.
    (TextFrontEnd::characters(&config), 42)
});

fuzz_target!(|text: &str| {
    let (front_end, tokens_max) = &*FRONT_END;
    for normalise in [Normalise::On, Normalise::Off] {
        let options = TextOptions { normalise, ..TextOptions::default() };
        let Ok(script) = front_end.script(text, &options) else {
            continue;
        };
        assert!(!script.pieces.is_empty(), "a text that is taken has something in it");
        for piece in script.pieces {
            match piece {
                Piece::Words(sentence) => {
                    let single = sentence.text.chars().count() == 1;
                    assert!(single || sentence.tokens.len() <= *tokens_max);
                    assert!(text.contains(&sentence.written));
                }
                Piece::Pause { seconds, .. } => assert!((0.0..=60.0).contains(&seconds)),
            }
        }
    }
});
