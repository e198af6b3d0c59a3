//! The path of `remsky/Kokoro-FastAPI` that OpenAI's API lacks: speech with the times of its words,
//! after its `api/src/routers/development.py`. It speaks in MP3 unless told otherwise.

use super::{Paths, Record, Refusal};
use crate::app::App;
use crate::bodies::JsonBody;
use crate::error::ServerError;
use crate::fields::{Fields, FromFields, base_language};
use crate::openai::{StreamFields, StreamFormat, format_named};
use crate::routes::speech::{Ask, answer};
use crate::speaking::Speaker;
use crate::voices::DEFAULT_VOICE;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use serde_json::Value;
use sottovoce::StreamOptions;
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
        router.route(path, post(speak))
    })
}

/// Its fields, and the engine's options.
struct CaptionedRequest {
    input: String,
    voice: String,
    response_format: Option<String>,
    /// Whether the answer is a line per piece.
    lines: bool,
    options: StreamOptions,
    ignored: Vec<String>,
}

impl FromFields for CaptionedRequest {
    fn from_fields(fields: &mut Fields) -> Result<CaptionedRequest, ServerError> {
        let input = fields.text("input")?.ok_or(ServerError::Parameter {
            parameter: "input",
            reason: "send the text to speak".into(),
        })?;
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
        Ok(CaptionedRequest {
            input,
            voice: voice.unwrap_or_else(|| DEFAULT_VOICE.into()),
            response_format,
            lines,
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

async fn speak(
    State(app): State<Arc<App>>,
    record: Record,
    body: Result<JsonBody<CaptionedRequest>, ServerError>,
) -> Result<Response, Refusal> {
    let JsonBody {
        value: request,
        unread,
        held,
    } = body?;
    let format = request.response_format.as_deref();
    let ask = Ask {
        format: format_named("response_format", format, AudioFormat::Mp3)?,
        text: request.input,
        voice: Speaker::Named(request.voice),
        options: request.options,
        travel: match request.lines {
            true => StreamFormat::CaptionedLines,
            false => StreamFormat::Captioned,
        },
        ignored: request.ignored,
        unread,
        held,
    };
    Ok(answer(&app, record.map(|record| record.0), ask).await?)
}
