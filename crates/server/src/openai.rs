//! Fields of OpenAI's speech API, and Chatterbox's own, as engine options.

use crate::error::ServerError;
use crate::fields::{Fields, FromFields};
use crate::option_schema;
use crate::options::Limits;
use crate::voices::DEFAULT_VOICE;
use sottovoce::StreamOptions;
use sottovoce::options::{OptionDescription, Scope};
use sottovoce_audio::AudioFormat;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The body of `POST /v1/audio/speech`. Numbers may also come in quotes.
#[derive(Clone, Debug, ToSchema)]
pub(crate) struct SpeechRequest {
    /// Any name: this server has one model.
    #[allow(
        dead_code,
        reason = "clients must send it, and one model serves them all"
    )]
    pub(crate) model: Option<String>,
    /// The text to speak. One without words is a short silence.
    #[schema(min_length = 1)]
    pub(crate) input: String,
    /// The voice: a name, or an object with `id`.
    #[schema(value_type = Option<VoiceField>)]
    pub(crate) voice: Option<String>,
    /// `mp3` (the default), `wav`, `opus`, `flac`, `aac` or `pcm`.
    #[schema(pattern = "^(mp3|wav|opus|flac|aac|pcm)$")]
    pub(crate) response_format: Option<String>,
    /// `audio` (the default) or `sse`.
    #[schema(pattern = "^(audio|sse)$")]
    pub(crate) stream_format: Option<String>,
    /// Accepted and ignored; the response header `x-sottovoce-ignored` lists it.
    pub(crate) instructions: Option<String>,
    #[serde(flatten)]
    pub(crate) stream: StreamFields,
}

/// A voice by name or, as newer clients send it, by id.
#[derive(ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes the field in the OpenAPI document")]
pub(crate) enum VoiceField {
    /// Its name.
    Name(String),
    /// An object with its id.
    Object {
        /// Its name.
        id: String,
    },
}

/// The engine's options of a stream; all are optional.
#[derive(Clone, Debug)]
pub(crate) struct StreamFields(StreamOptions);

impl Default for StreamFields {
    fn default() -> StreamFields {
        StreamFields(StreamOptions {
            // The server has its own buffer.
            buffered_chunks_max: 1,
            ..StreamOptions::default()
        })
    }
}

fn is_field(option: &OptionDescription) -> bool {
    option.scope == Scope::Stream
}

fn is_field_of_sound(option: &OptionDescription) -> bool {
    is_field(option) && StreamOptions::is_of_sound(option)
}

/// The engine's options of a voice change; all are optional.
#[derive(Clone, Debug)]
pub(crate) struct ChangeFields(pub(crate) StreamOptions);

impl FromFields for ChangeFields {
    fn from_fields(fields: &mut Fields) -> Result<ChangeFields, ServerError> {
        Ok(ChangeFields(options_of(fields, is_field_of_sound)?))
    }
}

impl PartialSchema for ChangeFields {
    fn schema() -> RefOr<Schema> {
        schema_of(is_field_of_sound)
    }
}

impl ToSchema for ChangeFields {}

/// The options sent, and a seed, which may be drawn.
fn options_of(
    fields: &mut Fields,
    takes: fn(&OptionDescription) -> bool,
) -> Result<StreamOptions, ServerError> {
    let StreamFields(mut options) = StreamFields::default();
    if let Some(seed) = fields.seed("seed")? {
        options.seed = seed.value();
    }
    fields.options(&mut options, takes)?;
    Ok(options)
}

fn schema_of(takes: fn(&OptionDescription) -> bool) -> RefOr<Schema> {
    let mut object = option_schema::object::<StreamOptions>(takes);
    if let Some(RefOr::T(Schema::Object(seed))) = object.properties.get_mut("seed") {
        seed.minimum = Some((-1).into());
        let drawn = "-1 has one drawn, and the answer's header `x-sottovoce-seed` tells which.";
        let description = seed.description.take().unwrap_or_default();
        seed.description = Some(format!("{description} {drawn}"));
    }
    object.into()
}

impl FromFields for StreamFields {
    fn from_fields(fields: &mut Fields) -> Result<StreamFields, ServerError> {
        Ok(StreamFields(options_of(fields, is_field)?))
    }
}

impl PartialSchema for StreamFields {
    fn schema() -> RefOr<Schema> {
        schema_of(is_field)
    }
}

impl ToSchema for StreamFields {}

impl StreamFields {
    /// The engine's options: defaults for absent fields, and the random seed if one was requested.
    pub(crate) fn options(&self) -> &StreamOptions {
        &self.0
    }
}

/// The format that the field `parameter` names; `unset` without a name.
pub(crate) fn format_named(
    parameter: &'static str,
    name: Option<&str>,
    unset: AudioFormat,
) -> Result<AudioFormat, ServerError> {
    let Some(name) = name else {
        return Ok(unset);
    };
    AudioFormat::ALL
        .into_iter()
        .find(|format| format.name().eq_ignore_ascii_case(name))
        .ok_or_else(|| ServerError::Parameter {
            parameter,
            reason: format!("{name:?} is not one of mp3, wav, opus, flac, aac and pcm"),
        })
}

/// Transport of the sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamFormat {
    /// The bytes of a sound file.
    Audio,
    /// Server-sent events with base64-encoded bytes.
    Events,
    /// The same after one event that describes the samples.
    DescribedEvents,
    /// A line of JSON per piece of a sound file, with the times of words.
    CaptionedLines,
    /// One JSON object with a sound file and the times of words.
    Captioned,
}

impl StreamFormat {
    /// The transport that the field `stream_format` names; without it, a file's bytes.
    pub(crate) fn named(name: Option<&str>) -> Result<StreamFormat, ServerError> {
        match name {
            None | Some("audio") => Ok(StreamFormat::Audio),
            Some("sse") => Ok(StreamFormat::Events),
            Some(other) => Err(ServerError::Parameter {
                parameter: "stream_format",
                reason: format!("{other:?} is not one of audio and sse"),
            }),
        }
    }
}

impl FromFields for SpeechRequest {
    fn from_fields(fields: &mut Fields) -> Result<SpeechRequest, ServerError> {
        let input = fields.required_text("input", "send the text to speak")?;
        Ok(SpeechRequest {
            model: fields.text("model")?,
            input,
            voice: fields.voice("voice")?,
            response_format: fields.text("response_format")?,
            stream_format: fields.text("stream_format")?,
            instructions: fields.text("instructions")?,
            stream: StreamFields::from_fields(fields)?,
        })
    }
}

impl SpeechRequest {
    /// Name of the voice.
    pub(crate) fn voice_name(&self) -> &str {
        self.voice.as_deref().unwrap_or(DEFAULT_VOICE)
    }

    /// The format of the sound; `unset` if the request names none.
    pub(crate) fn format(&self, unset: AudioFormat) -> Result<AudioFormat, ServerError> {
        format_named("response_format", self.response_format.as_deref(), unset)
    }

    /// Transport of the sound.
    pub(crate) fn stream_format(&self) -> Result<StreamFormat, ServerError> {
        StreamFormat::named(self.stream_format.as_deref())
    }

    /// Names of fields that were sent but have no effect.
    pub(crate) fn ignored(&self) -> Option<&'static str> {
        self.instructions
            .as_ref()
            .filter(|text| !text.is_empty())
            .map(|_| "instructions")
    }
}

/// Refuses text that is empty or too long.
pub(crate) fn check_text(text: &str, limits: &Limits) -> Result<(), ServerError> {
    let refuse = |reason| {
        Err(ServerError::Parameter {
            parameter: "input",
            reason,
        })
    };
    if text.is_empty() {
        return refuse("there is nothing to speak".into());
    }
    let characters = text.chars().count();
    if characters > limits.text_characters {
        return refuse(format!(
            "{characters} characters are more than the {} that this server takes at once",
            limits.text_characters
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: &str) -> SpeechRequest {
        SpeechRequest::from_fields(&mut Fields::parse(json.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn what_openai_clients_send_is_understood() {
        let request = request(
            r#"{"model":"gpt-4o-mini-tts","input":"Hi","voice":"alloy","response_format":"wav","speed":1.0,"stream_format":"sse","instructions":"gently"}"#,
        );
        assert_eq!(request.voice_name(), "alloy");
        assert_eq!(request.format(AudioFormat::Mp3).unwrap(), AudioFormat::Wav);
        assert_eq!(request.stream_format().unwrap(), StreamFormat::Events);
        assert_eq!(request.ignored(), Some("instructions"));
    }

    #[test]
    fn a_voice_may_be_an_object_and_most_may_be_left_out() {
        assert_eq!(
            request(r#"{"input":"x","voice":{"id":"ann"}}"#).voice_name(),
            "ann"
        );
        let least = request(r#"{"input":"x"}"#);
        assert_eq!(least.voice_name(), DEFAULT_VOICE);
        assert_eq!(least.format(AudioFormat::Mp3).unwrap(), AudioFormat::Mp3);
        assert_eq!(least.ignored(), None);
    }

    #[test]
    fn options_of_a_stream_reach_the_engine_and_are_refused_by_name() {
        let request = request(
            r#"{"input":"x","exaggeration":"0.7","seed":9,"chunk_size":50,"top_k":40,"when_full":"refuse"}"#,
        );
        let expected = StreamOptions {
            exaggeration: Some(0.7),
            seed: 9,
            chunk_size: Some(50),
            top_k: Some(40),
            buffered_chunks_max: 1,
            ..StreamOptions::default()
        };
        assert_eq!(
            *request.stream.options(),
            expected,
            "when_full is the program's choice"
        );
        for name in ["temperature", "flow_steps", "language"] {
            let json = format!("{{\"input\":\"x\",\"{name}\":-1}}");
            let mut fields = Fields::parse(json.as_bytes()).unwrap();
            let refusal = SpeechRequest::from_fields(&mut fields).unwrap_err();
            assert!(refusal.to_string().contains(name), "{refusal}");
        }
    }

    #[test]
    fn unknown_formats_are_refused_by_name() {
        assert!(
            request(r#"{"input":"x","response_format":"midi"}"#)
                .format(AudioFormat::Mp3)
                .is_err()
        );
        assert!(
            request(r#"{"input":"x","stream_format":"carrier pigeon"}"#)
                .stream_format()
                .is_err()
        );
    }

    #[test]
    fn empty_and_overlong_text_is_refused() {
        let limits = Limits {
            text_characters: 3,
            ..Limits::default()
        };
        assert!(check_text("", &limits).is_err());
        assert!(check_text(" \n", &limits).is_ok(), "it is a short silence");
        assert!(check_text("äöüß", &limits).is_err());
        assert!(check_text("äöü", &limits).is_ok());
    }
}
