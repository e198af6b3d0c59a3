//! The fields of OpenAI's speech call, and Chatterbox's own beside them, as engine options.

use crate::error::ServerError;
use crate::fields::{Fields, FromFields, Seed};
use crate::options::Limits;
use crate::voices::DEFAULT_VOICE;
use sottovoce::StreamOptions;
use sottovoce_audio::AudioFormat;
use utoipa::ToSchema;

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
    /// Who speaks: a name, or an object with `id`.
    #[schema(value_type = Option<VoiceField>)]
    pub(crate) voice: Option<String>,
    /// `mp3` (unless told otherwise), `wav`, `opus`, `flac`, `aac` or `pcm`.
    #[schema(pattern = "^(mp3|wav|opus|flac|aac|pcm)$")]
    pub(crate) response_format: Option<String>,
    /// `audio` (unless told otherwise) or `sse`.
    #[schema(pattern = "^(audio|sse)$")]
    pub(crate) stream_format: Option<String>,
    /// Accepted and not used; the answer's header `x-sottovoce-ignored` says so.
    pub(crate) instructions: Option<String>,
    #[serde(flatten)]
    pub(crate) knobs: Knobs,
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

/// How it is spoken; every field may be left out.
#[derive(Clone, Debug, Default, ToSchema)]
pub(crate) struct Knobs {
    /// 0.25 to 4.
    #[schema(minimum = 0.25, maximum = 4.0)]
    pub(crate) speed: Option<f32>,
    /// Emotion, 0 to 2.
    #[schema(minimum = 0.0, maximum = 2.0)]
    pub(crate) exaggeration: Option<f32>,
    /// Weight of classifier-free guidance.
    #[schema(minimum = 0.0, maximum = 5.0)]
    pub(crate) cfg_weight: Option<f32>,
    /// Sampling temperature.
    #[schema(minimum = 0.0, maximum = 5.0)]
    pub(crate) temperature: Option<f32>,
    /// Least probability mass kept.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub(crate) top_p: Option<f32>,
    /// Least probability kept, relative to the best.
    #[schema(minimum = 0.0, maximum = 1.0)]
    pub(crate) min_p: Option<f32>,
    /// Above 1 makes repeats rarer.
    #[schema(minimum = 1.0, maximum = 10.0)]
    pub(crate) repetition_penalty: Option<f32>,
    /// The same seed, text and voice give the same samples; -1 has one drawn, and the answer's
    /// header `x-sottovoce-seed` tells which one was used.
    #[schema(value_type = Option<i64>, minimum = -1)]
    pub(crate) seed: Option<Seed>,
    /// Speech tokens (1/25 s) a chunk.
    #[schema(minimum = 1, maximum = 250)]
    pub(crate) chunk_size: Option<usize>,
}

impl FromFields for Knobs {
    fn from_fields(fields: &mut Fields) -> Result<Knobs, ServerError> {
        // A number that no machine can count to is above every limit, and refused as such.
        let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        Ok(Knobs {
            speed: fields.number("speed")?,
            exaggeration: fields.number("exaggeration")?,
            cfg_weight: fields.number("cfg_weight")?,
            temperature: fields.number("temperature")?,
            top_p: fields.number("top_p")?,
            min_p: fields.number("min_p")?,
            repetition_penalty: fields.number("repetition_penalty")?,
            seed: fields.seed("seed")?,
            chunk_size: fields.count("chunk_size")?.map(count),
        })
    }
}

impl Knobs {
    /// Names of fields that were sent, of those that do nothing with some models.
    pub(crate) fn sent(&self) -> impl Iterator<Item = &'static str> {
        [
            ("exaggeration", self.exaggeration.is_some()),
            ("cfg_weight", self.cfg_weight.is_some()),
            ("min_p", self.min_p.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, sent)| sent.then_some(name))
    }

    /// The engine's options for these; what was left out keeps the engine's default.
    pub(crate) fn options(&self) -> Result<StreamOptions, ServerError> {
        let default = StreamOptions::default();
        let options = StreamOptions {
            speed: self.speed.unwrap_or(default.speed),
            exaggeration: self.exaggeration,
            cfg_weight: self.cfg_weight,
            temperature: self.temperature,
            top_p: self.top_p.or(default.top_p),
            min_p: self.min_p.or(default.min_p),
            repetition_penalty: self.repetition_penalty.or(default.repetition_penalty),
            seed: self.seed.map_or(default.seed, Seed::value),
            chunk_size: self.chunk_size,
            buffered_chunks_max: 1,
            ..default
        };
        options.check()?;
        Ok(options)
    }
}

/// How the sound travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamFormat {
    /// The file's bytes.
    Audio,
    /// Server-sent events with the bytes in base64.
    Events,
}

impl FromFields for SpeechRequest {
    fn from_fields(fields: &mut Fields) -> Result<SpeechRequest, ServerError> {
        let input = fields.text("input")?.ok_or(ServerError::Parameter {
            parameter: "input",
            reason: "send the text to speak".into(),
        })?;
        Ok(SpeechRequest {
            model: fields.text("model")?,
            input,
            voice: fields.voice("voice")?,
            response_format: fields.text("response_format")?,
            stream_format: fields.text("stream_format")?,
            instructions: fields.text("instructions")?,
            knobs: Knobs::from_fields(fields)?,
        })
    }
}

impl SpeechRequest {
    /// The voice's name.
    pub(crate) fn voice_name(&self) -> &str {
        self.voice.as_deref().unwrap_or(DEFAULT_VOICE)
    }

    /// The format of the sound.
    pub(crate) fn format(&self) -> Result<AudioFormat, ServerError> {
        let name = self.response_format.as_deref().unwrap_or("mp3");
        AudioFormat::ALL
            .into_iter()
            .find(|format| format.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| ServerError::Parameter {
                parameter: "response_format",
                reason: format!("{name:?} is not one of mp3, wav, opus, flac, aac and pcm"),
            })
    }

    /// How the sound travels.
    pub(crate) fn stream_format(&self) -> Result<StreamFormat, ServerError> {
        match self.stream_format.as_deref() {
            None | Some("audio") => Ok(StreamFormat::Audio),
            Some("sse") => Ok(StreamFormat::Events),
            Some(other) => Err(ServerError::Parameter {
                parameter: "stream_format",
                reason: format!("{other:?} is not one of audio and sse"),
            }),
        }
    }

    /// Names of fields that were sent and change nothing.
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
        assert_eq!(request.format().unwrap(), AudioFormat::Wav);
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
        assert_eq!(least.format().unwrap(), AudioFormat::Mp3);
        assert_eq!(least.ignored(), None);
    }

    #[test]
    fn chatterbox_knobs_reach_the_engine_and_are_checked_there() {
        let request = request(r#"{"input":"x","exaggeration":0.7,"seed":9,"chunk_size":50}"#);
        let options = request.knobs.options().unwrap();
        assert_eq!(
            (options.exaggeration, options.seed, options.chunk_size),
            (Some(0.7), 9, Some(50))
        );
        let wrong = Knobs {
            temperature: Some(-1.0),
            ..Knobs::default()
        };
        assert!(
            wrong
                .options()
                .unwrap_err()
                .to_string()
                .contains("temperature")
        );
    }

    #[test]
    fn unknown_formats_are_refused_by_name() {
        assert!(
            request(r#"{"input":"x","response_format":"midi"}"#)
                .format()
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
