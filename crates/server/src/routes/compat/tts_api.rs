//! Paths of `travisvn/chatterbox-tts-api`, after its `app/core/aliases.py` and `app/api/endpoints`.
//! It answers each path with and without `/v1`, and speaks in WAV unless told otherwise.

use super::{Dialect, Paths, Record, Refusal, SpeechRequest, file_name, language_name, speak};
use crate::app::App;
use crate::error::ServerError;
use crate::fields::Fields;
use crate::forms::{Folder, receive};
use crate::routes::PathName;
use crate::routes::health;
use crate::routes::voices::{add, blocking};
use crate::voices::{DEFAULT_VOICE, recording_stem};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use sottovoce::StoredVoice;
use std::sync::Arc;

/// Its `/tts` is that of the other server, which takes the fields of both.
const SPEAK: &Paths = &[
    "/v1/audio/speech/stream",
    "/audio/speech",
    "/audio/speech/stream",
    "/tts/stream",
];
const SPEAK_FORM: &Paths = &[
    "/v1/audio/speech/upload",
    "/v1/audio/speech/stream/upload",
    "/audio/speech/upload",
    "/audio/speech/stream/upload",
    "/tts/upload",
    "/tts/stream/upload",
];
const VOICES: &Paths = &[
    "/v1/voices",
    "/voices",
    "/audio/voices",
    "/voice-library",
    "/voice_library",
];
const DEFAULT: &Paths = &["/v1/voices/default", "/voices/default", "/default-voice"];
const VOICE: &Paths = &["/v1/voices/{name}", "/voices/{name}"];
const LANGUAGES: &Paths = &["/v1/languages", "/languages"];
pub(super) const HEALTH: &Paths = &["/v1/health"];
pub(super) const PING: &Paths = &["/v1/ping", "/ping"];
/// All of them.
pub(super) const PATHS: [&Paths; 8] = [
    SPEAK, SPEAK_FORM, VOICES, DEFAULT, VOICE, LANGUAGES, HEALTH, PING,
];

/// Those that list.
pub(super) const LISTS: [&Paths; 4] = [VOICES, DEFAULT, VOICE, LANGUAGES];

pub(super) fn routes(form: DefaultBodyLimit) -> Router<Arc<App>> {
    let groups: [(&Paths, MethodRouter<Arc<App>>); 8] = [
        (SPEAK, post(speak::<OpenAiFields>)),
        (SPEAK_FORM, post(speak_form).layer(form)),
        (VOICES, get(list).post(upload).layer(form)),
        (DEFAULT, get(show_default)),
        (VOICE, get(show).put(rename).delete(delete).layer(form)),
        (LANGUAGES, get(languages)),
        (HEALTH, get(health::health)),
        (PING, get(ping)),
    ];
    let mut router = Router::new();
    for (paths, handlers) in groups {
        for path in paths {
            router = router.route(path, handlers.clone());
        }
    }
    router
}

/// OpenAI's fields, and the reference's.
struct OpenAiFields;

impl Dialect for OpenAiFields {
    fn read(fields: &mut Fields) -> Result<SpeechRequest, ServerError> {
        let text = fields.required_text("input", "send the text to speak")?;
        let voice = fields.voice("voice")?;
        // Every client of OpenAI's call must send a model, and one model serves them all.
        fields.text("model")?;
        SpeechRequest::read(fields, text, voice, "response_format")
    }
}

/// The fields come as a form. With a recording (`voice_file`) the voice is that recording's, for
/// this request only.
async fn speak_form(
    State(app): State<Arc<App>>,
    record: Record,
    request: Request,
) -> Result<Response, Refusal> {
    let mut form = receive(&app, request, Folder::Any).await?;
    let recording = form.recording(&["voice_file", "file"]);
    let request = OpenAiFields::read(&mut form.fields)?;
    let unread = form.fields.unread();
    (request.answer(&app, record, recording, unread, form.held)).await
}

/// A voice as that server's library lists it.
fn entry(voice: &StoredVoice, aliases: &[String]) -> Value {
    let file = file_name(&voice.name);
    let bytes = std::fs::metadata(&voice.path).map_or(0, |metadata| metadata.len());
    json!({
        "name": voice.name,
        "filename": file,
        "original_filename": file,
        "file_extension": ".wav",
        "file_size": bytes,
        "upload_date": humantime::format_rfc3339_seconds(voice.changed).to_string(),
        "path": file,
        "language": "en",
        "aliases": aliases,
        "exists": true,
    })
}

/// Uploaded voices with their aliases. Blocks while the folder is read.
fn library(app: &App) -> Result<Vec<Value>, ServerError> {
    let aliases = app.voices.aliases.list()?;
    let of = |voice: &StoredVoice| {
        let own = aliases.iter().filter(|alias| alias.voice == voice.name);
        own.map(|alias| alias.alias.clone()).collect::<Vec<_>>()
    };
    let stored = app.voices.stored()?;
    Ok(stored
        .iter()
        .map(|voice| entry(voice, &of(voice)))
        .collect())
}

async fn list(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    let voices = blocking(move || library(&app)).await?;
    Ok(Json(json!({"count": voices.len(), "voices": voices})))
}

async fn upload(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let missing = |parameter, reason: &str| ServerError::Parameter {
        parameter,
        reason: reason.into(),
    };
    let mut form = receive(&app, request, Folder::OfVoices).await?;
    form.fields.rename("voice_name", "name");
    let recording = (form.recording(&["voice_file", "file"]))
        .ok_or_else(|| missing("voice_file", "the form lacks the recording"))?;
    let file = recording.file_name.as_deref();
    let of_file = file.and_then(recording_stem).map(str::to_owned);
    let name = (form.fields.text("name")?.or(of_file))
        .ok_or_else(|| missing("voice_name", "the form lacks the voice's name"))?;
    let name = add(&app, name, recording).await?.name;
    let voice = blocking(move || stored(&app, &name)).await?;
    let body = json!({"message": "Voice uploaded successfully", "voice": entry(&voice, &[])});
    Ok((StatusCode::CREATED, Json(body)))
}

/// The uploaded voice of this name. Blocks while the folder is read.
fn stored(app: &App, name: &str) -> Result<StoredVoice, ServerError> {
    let missing = || ServerError::NotFound {
        what: format!("an uploaded voice {name:?}"),
    };
    let found = app.voices.find(name).map_err(|_| missing())?;
    found.ok_or_else(missing)
}

async fn show(
    State(app): State<Arc<App>>,
    PathName(name): PathName,
) -> Result<Json<Value>, Refusal> {
    let voice = blocking(move || stored(&app, &name)).await?;
    Ok(Json(json!({"voice": entry(&voice, &[])})))
}

/// The model's own voice speaks unless a request names another.
async fn show_default() -> Json<Value> {
    Json(json!({"default_voice": null, "source": "file_system", "path": DEFAULT_VOICE}))
}

async fn rename(
    State(app): State<Arc<App>>,
    PathName(name): PathName,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let mut form = receive(&app, request, Folder::OfVoices).await?;
    let to = form
        .fields
        .text("new_name")?
        .ok_or(ServerError::Parameter {
            parameter: "new_name",
            reason: "send the voice's new name".into(),
        })?;
    let from = name.clone();
    let renamed = blocking(move || app.voices.rename(app.host.loaded().as_deref(), &from, &to));
    let to = renamed.await?.name;
    Ok(Json(json!({
        "message": "Voice renamed successfully", "old_name": name, "new_name": to,
    })))
}

async fn delete(
    State(app): State<Arc<App>>,
    PathName(name): PathName,
) -> Result<Json<Value>, Refusal> {
    let removed = blocking(move || app.voices.remove(app.host.loaded().as_deref(), &name)).await?;
    Ok(Json(json!({
        "message": "Voice deleted successfully", "voice_name": removed,
    })))
}

async fn languages(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    let spoken = blocking(move || Ok(app.library.spoken(&app.host.model()))).await?;
    let list: Vec<Value> = (spoken.languages.iter())
        .map(|code| json!({"code": code, "name": language_name(code)}))
        .collect();
    let kind = match list.len() {
        0 | 1 => "standard",
        _ => "multilingual",
    };
    Ok(Json(
        json!({"count": list.len(), "languages": list, "model_type": kind}),
    ))
}

async fn ping() -> Json<Value> {
    Json(json!({"status": "ok", "message": "Server is running"}))
}
