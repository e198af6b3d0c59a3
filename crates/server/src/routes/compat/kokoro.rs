//! The path of `remsky/Kokoro-FastAPI` that OpenAI's API lacks: speech with the times of its words,
//! after its `api/src/routers/development.py`. It speaks in MP3 unless told otherwise.

use super::{Dialect, Paths, SpeechRequest, speak};
use crate::app::App;
use crate::error::ServerError;
use crate::fields::{Fields, FromFields, base_language};
use crate::openai::{StreamFields, StreamFormat, format_named};
use crate::voices::DEFAULT_VOICE;
use axum::Router;
use axum::routing::post;
use serde_json::Value;
use sottovoce_audio::AudioFormat;
use std::sync::Arc;

const CAPTIONED: &Paths = &["/dev/captioned_speech"];
/// All of them.
pub(super) const PATHS: [&Paths; 1] = [CAPTIONED];

/// Its letters for languages.
const LETTERS: [(&str, &str); 9] = [
    ("a", "en"),
    ("b", "en"),
    ("e", "es"),
    ("f", "fr"),
    ("h", "hi"),
    ("i", "it"),
    ("j", "ja"),
    ("p", "pt"),
    ("z", "zh"),
];

pub(super) fn routes() -> Router<Arc<App>> {
    (CAPTIONED.iter()).fold(Router::new(), |router, path| {
        router.route(path, post(speak::<CaptionedFields>))
    })
}

/// Its fields, and the engine's options.
struct CaptionedFields;

impl Dialect for CaptionedFields {
    fn read(fields: &mut Fields) -> Result<SpeechRequest, ServerError> {
        let text = fields.required_text("input", "send the text to speak")?;
        let voice = fields.voice("voice")?;
        let response_format = fields.text("response_format")?;
        // One model serves all names.
        fields.text("model")?;
        let lines = fields.flag("stream")?.unwrap_or(true);
        let told = fields.flag("return_timestamps")?.unwrap_or(true);
        let ignored = fields.drop_all(&[
            "return_download_link",
            "volume_multiplier",
            "normalization_options",
        ]);
        fields.rename("lang_code", "language");
        fields.change("language", language);
        let mut options = StreamFields::from_fields(fields)?.options().clone();
        options.word_times = told;
        let format = response_format.as_deref();
        Ok(SpeechRequest {
            text,
            voice: voice.unwrap_or_else(|| DEFAULT_VOICE.into()),
            format: format_named("response_format", format, AudioFormat::Mp3)?,
            travel: match lines {
                true => StreamFormat::CaptionedLines,
                false => StreamFormat::Captioned,
            },
            options,
            ignored,
        })
    }
}

/// The language of a letter or of a tag.
fn language(code: Value) -> Value {
    let Some(tag) = code.as_str() else {
        return code;
    };
    let letter = |(letter, _): &&(&str, &str)| letter.eq_ignore_ascii_case(tag.trim());
    match LETTERS.iter().find(letter) {
        Some((_, language)) => (*language).into(),
        None => base_language(tag).into(),
    }
}
