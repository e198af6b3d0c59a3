//! Paths of `devnen/Chatterbox-TTS-Server`, after its `server.py` and `models.py`. Its voices are
//! files: `ann.wav` is the voice `ann`.

use super::{Dialect, Paths, Record, Refusal, SpeechRequest, file_name, language_name, speak};
use crate::app::App;
use crate::error::ServerError;
use crate::fields::Fields;
use crate::forms::{Folder, UploadedRecording, receive};
use crate::routes::voices::{add, blocking};
use crate::voices::recording_stem;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use sottovoce::SAMPLE_RATE;
use std::sync::Arc;

const SPEAK: &Paths = &["/tts"];
/// With the fields in the query, or in a body as for `/tts`.
const SPEAK_BY_URL: &Paths = &["/tts-stream"];
const VOICES: &Paths = &["/get_predefined_voices"];
const RECORDINGS: &Paths = &["/get_reference_files"];
const UPLOAD_VOICE: &Paths = &["/upload_predefined_voice"];
const UPLOAD_RECORDING: &Paths = &["/upload_reference"];
const MODEL: &Paths = &["/api/model-info"];
const PAGE_DATA: &Paths = &["/api/ui/initial-data"];
/// All of them.
pub(super) const PATHS: [&Paths; 8] = [
    SPEAK,
    SPEAK_BY_URL,
    VOICES,
    RECORDINGS,
    UPLOAD_VOICE,
    UPLOAD_RECORDING,
    MODEL,
    PAGE_DATA,
];

/// Those that list.
pub(super) const LISTS: [&Paths; 3] = [VOICES, RECORDINGS, MODEL];

pub(super) fn routes(form: DefaultBodyLimit) -> Router<Arc<App>> {
    Router::new()
        .route(SPEAK[0], post(speak::<TtsFields>))
        .route(SPEAK_BY_URL[0], get(speak_by_url).post(speak::<TtsFields>))
        .route(VOICES[0], get(list_voices))
        .route(RECORDINGS[0], get(list_recordings))
        .route(UPLOAD_VOICE[0], post(upload_voices).layer(form))
        .route(UPLOAD_RECORDING[0], post(upload_recordings).layer(form))
        .route(MODEL[0], get(show_model))
        .route(PAGE_DATA[0], get(show_page_data))
}

/// The body of `/tts`.
struct TtsFields;

impl Dialect for TtsFields {
    fn read(fields: &mut Fields) -> Result<SpeechRequest, ServerError> {
        let missing = |parameter, reason: &str| ServerError::Parameter {
            parameter,
            reason: reason.into(),
        };
        // The other server has the same path, with OpenAI's fields.
        fields.rename("input", "text");
        fields.rename("response_format", "output_format");
        let text = fields.required_text("text", "send the text to speak")?;
        let predefined = fields.text("predefined_voice_id")?;
        let recording = fields.text("reference_audio_filename")?;
        let voice = fields.voice("voice")?;
        let voice = match fields.text("voice_mode")?.as_deref() {
            None => predefined.or(recording).or(voice),
            Some("predefined") => predefined.or(voice),
            Some("clone") => Some(recording.or(voice).ok_or_else(|| {
                missing(
                    "reference_audio_filename",
                    "name the recording to be cloned",
                )
            })?),
            Some(_) => return Err(missing("voice_mode", "use predefined or clone")),
        };
        let mut ignored = fields.drop_all(&["model"]);
        let mut request = SpeechRequest::read(fields, text, voice, "output_format")?;
        ignored.append(&mut request.ignored);
        Ok(SpeechRequest { ignored, ..request })
    }
}

/// The request's fields stand in the query, so that a page's player can read the sound by itself.
async fn speak_by_url(
    State(app): State<Arc<App>>,
    record: Record,
    query: Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Refusal> {
    let Query(pairs) = query.map_err(|refusal| ServerError::Body {
        status: StatusCode::BAD_REQUEST,
        reason: format!("the query cannot be read: {refusal}"),
    })?;
    let mut fields = Fields::default();
    for (name, text) in pairs {
        fields.insert(name, text);
    }
    let request = TtsFields::read(&mut fields)?;
    let held = app.bodies.hold();
    (request.answer(&app, record, None, fields.unread(), held)).await
}

/// All voices, each as the file of which that server would have made it.
async fn voices(app: &Arc<App>) -> Result<Vec<Value>, ServerError> {
    let app = app.clone();
    let list = blocking(move || app.voices.list()).await?;
    let entry = |name: String| json!({"display_name": name, "filename": file_name(&name)});
    Ok(list.into_iter().map(|voice| entry(voice.name)).collect())
}

/// Uploaded voices, by file.
async fn recordings(app: &Arc<App>) -> Result<Vec<String>, ServerError> {
    let app = app.clone();
    let stored = blocking(move || app.voices.stored()).await?;
    Ok(stored.iter().map(|voice| file_name(&voice.name)).collect())
}

async fn list_voices(State(app): State<Arc<App>>) -> Result<Json<Vec<Value>>, Refusal> {
    Ok(Json(voices(&app).await?))
}

async fn list_recordings(State(app): State<Arc<App>>) -> Result<Json<Vec<String>>, Refusal> {
    Ok(Json(recordings(&app).await?))
}

/// Prepares a voice of each recording of the form's field `files`; a voice that is there already
/// is kept.
async fn upload(
    app: &Arc<App>,
    request: Request,
) -> Result<(StatusCode, Map<String, Value>), Refusal> {
    let form = receive(app, request, Folder::OfVoices).await?;
    if form.recordings.is_empty() {
        return Err(Refusal::from(ServerError::Parameter {
            parameter: "files",
            reason: "the form lacks the recordings".into(),
        }));
    }
    let count = form.recordings.len();
    let (mut uploaded, mut errors) = (Vec::new(), Vec::new());
    for recording in form.recordings {
        let file = recording.file_name.clone().unwrap_or_default();
        match keep(app, recording).await {
            Ok(name) => uploaded.push(file_name(&name)),
            Err(error) => errors.push(json!({"filename": file, "error": error.message()})),
        }
    }
    let status = match uploaded.is_empty() {
        true => StatusCode::BAD_REQUEST,
        false => StatusCode::OK,
    };
    let mut answer = Map::new();
    answer.insert(
        "message".into(),
        format!("Processed {count} file(s).").into(),
    );
    answer.insert("uploaded_files".into(), uploaded.into());
    answer.insert("errors".into(), errors.into());
    Ok((status, answer))
}

/// Keeps one recording's voice under its file's name; returns the voice's name.
async fn keep(app: &Arc<App>, recording: UploadedRecording) -> Result<String, ServerError> {
    let file = recording.file_name.clone().unwrap_or_default();
    // Some clients send a path.
    let file = file.rsplit(['/', '\\']).next().unwrap_or_default();
    let name = recording_stem(file).unwrap_or(file).to_owned();
    let (known, wanted) = (app.clone(), name.clone());
    if let Some(voice) = blocking(move || known.voices.find(&wanted)).await? {
        return Ok(voice.name);
    }
    Ok(add(app, name, recording).await?.name)
}

async fn upload_recordings(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let (status, mut answer) = upload(&app, request).await?;
    answer.insert("all_reference_files".into(), recordings(&app).await?.into());
    Ok((status, Json(answer.into())))
}

async fn upload_voices(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let (status, mut answer) = upload(&app, request).await?;
    answer.insert("all_predefined_voices".into(), voices(&app).await?.into());
    Ok((status, Json(answer.into())))
}

/// What that server tells of its model. `type` is the reference's class of models.
async fn model(app: &Arc<App>) -> Result<Value, ServerError> {
    let app = app.clone();
    blocking(move || {
        let model = app.host.model();
        let spoken = app.library.spoken(&model);
        let languages = spoken.languages;
        let (kind, class) = match model.name.as_str() {
            name if name.contains("turbo") || name.contains("nano") => {
                ("turbo", "ChatterboxTurboTTS")
            }
            _ if languages.len() > 1 => ("multilingual", "ChatterboxMultilingualTTS"),
            _ => ("original", "ChatterboxTTS"),
        };
        let tags: Vec<String> = (spoken.tags.into_iter())
            .map(|tag| tag.tag.trim_matches(['[', ']']).to_owned())
            .collect();
        let names: Map<String, Value> = (languages.iter())
            .map(|code| (code.clone(), language_name(code).into()))
            .collect();
        Ok(json!({
            "loaded": app.host.loaded().is_some(),
            "type": kind,
            "class_name": class,
            "model": model.name,
            "device": app.host.change_options(|_| {}).device.to_string(),
            "sample_rate": SAMPLE_RATE,
            "supports_paralinguistic_tags": !tags.is_empty(),
            "available_paralinguistic_tags": tags,
            "turbo_available_in_package": true,
            "multilingual_available_in_package": languages.len() > 1,
            "supports_multilingual": languages.len() > 1,
            "supported_languages": names,
        }))
    })
    .await
}

async fn show_model(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    Ok(Json(model(&app).await?))
}

async fn show_page_data(State(app): State<Arc<App>>) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!({
        "config": {},
        "reference_files": recordings(&app).await?,
        "predefined_voices": voices(&app).await?,
        "presets": [],
        "initial_gen_result": {},
        "model_info": model(&app).await?,
    })))
}
