//! Requests that the clients of other Chatterbox servers send, as they were recorded, and what
//! those clients read from the answers.

use crate::common::calls::{answer, bytes, get, json_of, post, recording};
use crate::common::options;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use sottovoce::{EngineOptions, ModelConfig, Source};
use sottovoce_server::{App, Compatibility, ServerOptions};
use std::path::Path;

/// A server with the embedded model and the paths of the Chatterbox servers.
fn router() -> Router {
    App::new(ServerOptions {
        compatibility: vec![Compatibility::Chatterbox],
        ..options()
    })
    .router()
}

/// The same with a model that takes voices, kept in `folder`.
fn router_with_voices(folder: &Path) -> Router {
    App::new(ServerOptions {
        compatibility: vec![Compatibility::Chatterbox],
        source: Source::Random(Box::new(ModelConfig::tiny_base())),
        engine: EngineOptions {
            threads: Some(1),
            ..EngineOptions::default()
        },
        voices_directory: Some(folder.to_owned()),
        ..options()
    })
    .router()
}

/// A form of text fields and files: (field, file name, bytes).
fn form(path: &str, texts: &[(&str, &str)], files: &[(&str, &str, &[u8])]) -> Request<Body> {
    let mut body = Vec::new();
    for (name, text) in texts {
        let part =
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n");
        body.extend(part.as_bytes());
    }
    for (name, file, clip) in files {
        let head = format!(
            "--b\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{file}\"\r\nContent-Type: audio/wav\r\n\r\n"
        );
        body.extend(head.as_bytes());
        body.extend(*clip);
        body.extend(b"\r\n");
    }
    body.extend(b"--b--\r\n");
    Request::post(path)
        .header(header::CONTENT_TYPE, "multipart/form-data; boundary=b")
        .body(Body::from(body))
        .unwrap()
}

/// The body of SillyTavern's Chatterbox provider.
fn silly_tavern(text: &str, voice: &str) -> Value {
    let mut body = json!({
        "text": text, "voice_mode": "predefined",
        "temperature": 0.8, "exaggeration": 0.5, "cfg_weight": 0.5, "seed": 1873462,
        "speed_factor": 1, "language": "en", "split_text": true, "chunk_size": 120,
        "output_format": "wav",
    });
    match voice.strip_prefix("ref_") {
        Some(file) => {
            body["voice_mode"] = "clone".into();
            body["reference_audio_filename"] = file.into();
        }
        None => body["predefined_voice_id"] = voice.into(),
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn silly_tavern_lists_voices_and_speaks_by_both_of_its_methods() {
    let router = router();
    assert_eq!(answer(&router, get("/")).await.status(), StatusCode::OK);
    let voices = json_of(answer(&router, get("/get_predefined_voices")).await).await;
    assert_eq!(
        voices,
        json!([{"display_name": "default", "filename": "default.wav"}])
    );
    let files = json_of(answer(&router, get("/get_reference_files")).await).await;
    assert_eq!(files, json!([]));
    let response = answer(
        &router,
        post("/tts", &silly_tavern("Hello.", "default.wav")),
    )
    .await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "audio/wav");
    let ignored = response.headers()["x-sottovoce-ignored"].to_str().unwrap();
    assert!(ignored.contains("split_text, chunk_size"), "{ignored}");
    assert!(bytes(response).await.starts_with(b"RIFF"));
    let url = "/tts-stream?text=Hello+there.&voice_mode=predefined&temperature=0.8&exaggeration=0.5\
        &cfg_weight=0.5&seed=-1&speed_factor=1&language=zh-cn&output_format=opus\
        &predefined_voice_id=default.wav";
    let response = answer(&router, get(url)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(bytes(response).await.starts_with(b"OggS"));
    // Others send the fields in a body there.
    let body = silly_tavern("Hello.", "default.wav");
    let response = answer(&router, post("/tts-stream", &body)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(bytes(response).await.starts_with(b"RIFF"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_has_the_detail_that_these_clients_show_and_names_the_field() {
    let router = router();
    for (request, status, field) in [
        (post("/tts", &json!({})), 400, "text"),
        (
            post("/tts", &json!({"text": "x", "voice_mode": "sung"})),
            400,
            "voice_mode",
        ),
        (
            post("/tts", &json!({"text": "x", "voice_mode": "clone"})),
            400,
            "reference_audio_filename",
        ),
        (
            post("/tts", &json!({"text": "x", "output_format": "midi"})),
            400,
            "output_format",
        ),
        (post("/tts", &silly_tavern("x", "nobody.wav")), 400, "voice"),
        (get("/tts-stream"), 400, "text"),
        (
            post("/v1/audio/speech/stream", &json!({"voice": "alloy"})),
            400,
            "input",
        ),
        (form("/upload_reference", &[], &[]), 400, "files"),
    ] {
        let path = request.uri().clone();
        let response = answer(&router, request).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        let body = json_of(response).await;
        assert_eq!(body["error"]["param"], field, "{path}: {body}");
        assert_eq!(body["detail"], body["error"]["message"], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_zero_draws_one_and_any_other_is_kept() {
    let router = router();
    let seed = async |seed: i64| {
        let body = json!({"text": "Hi.", "seed": seed});
        let response = answer(&router, post("/tts", &body)).await;
        let seed = response.headers()["x-sottovoce-seed"].to_str().unwrap();
        seed.parse::<u64>().unwrap()
    };
    assert_eq!(seed(7).await, 7);
    assert_ne!(seed(0).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploaded_files_are_voices_under_their_file_s_name() {
    let folder = tempfile::tempdir().unwrap();
    let router = router_with_voices(folder.path());
    let clip = recording();
    let files: [(&str, &str, &[u8]); 3] = [
        ("files", "Ann.wav", &clip),
        ("files", "C:\\fakepath\\Bob.mp3", &clip),
        ("files", "notes.wav", b"no recording"),
    ];
    let response = answer(&router, form("/upload_reference", &[], &files)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let body = json_of(response).await;
    assert_eq!(body["uploaded_files"], json!(["Ann.wav", "Bob.wav"]));
    assert_eq!(body["all_reference_files"], json!(["Ann.wav", "Bob.wav"]));
    assert_eq!(body["errors"][0]["filename"], "notes.wav");
    for request in [
        post("/tts", &silly_tavern("Hi.", "ref_Ann.wav")),
        post("/tts", &silly_tavern("Hi.", "Bob.wav")),
        post(
            "/v1/audio/speech",
            &json!({"input": "Hi.", "voice": "ann.wav"}),
        ),
        post(
            "/v1/audio/speech/stream",
            &json!({"input": "Hi.", "voice": "Ann"}),
        ),
    ] {
        let response = answer(&router, request).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(
            bytes(response).await.starts_with(b"RIFF"),
            "WAV unless told otherwise"
        );
    }
    let again = answer(&router, form("/upload_predefined_voice", &[], &files[..1])).await;
    let again = json_of(again).await;
    assert_eq!(again["uploaded_files"], json!(["Ann.wav"]));
    let names = again["all_predefined_voices"].as_array().unwrap().len();
    assert_eq!(names, 3, "the model's own is one of them");
    let broken = answer(&router, form("/upload_reference", &[], &files[2..])).await;
    assert_eq!(broken.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_voice_library_is_that_of_the_other_server_with_and_without_v1() {
    let folder = tempfile::tempdir().unwrap();
    let router = router_with_voices(folder.path());
    let clip = recording();
    let texts = [("voice_name", "Zoë"), ("language", "en")];
    let files: [(&str, &str, &[u8]); 1] = [("voice_file", "me.wav", &clip)];
    let made = answer(&router, form("/v1/voices", &texts, &files)).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    assert_eq!(json_of(made).await["voice"]["name"], "Zoë");
    for path in ["/voices", "/v1/voices", "/audio/voices", "/voice-library"] {
        let list = json_of(answer(&router, get(path)).await).await;
        assert_eq!(list["count"], 1, "{path}");
        let voice = &list["voices"][0];
        assert_eq!(voice["filename"], "Zoë.wav");
        assert!(voice["file_size"].as_u64().unwrap() > 0);
        let date = voice["upload_date"].as_str().unwrap();
        assert!(date.starts_with("20") && date.ends_with('Z'), "{date}");
    }
    let shown = json_of(answer(&router, get("/voices/zo%C3%AB")).await).await;
    assert_eq!(shown["voice"]["name"], "Zoë");
    let mut rename = form("/v1/voices/Zo%C3%AB", &[("new_name", "Ann")], &[]);
    *rename.method_mut() = axum::http::Method::PUT;
    let renamed = json_of(answer(&router, rename).await).await;
    assert_eq!(renamed["new_name"], "Ann");
    let delete = Request::delete("/voices/Ann").body(Body::empty()).unwrap();
    assert_eq!(answer(&router, delete).await.status(), StatusCode::OK);
    let gone = answer(&router, get("/voices/Ann")).await;
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);
    assert!(
        json_of(gone).await["detail"]
            .as_str()
            .unwrap()
            .contains("Ann")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_speaks_with_a_recording_that_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let router = router_with_voices(folder.path());
    let clip = recording();
    let texts = [
        ("input", "Hi."),
        ("voice", "alloy"),
        ("response_format", "pcm"),
        ("exaggeration", "0.7"),
        ("streaming_chunk_size", "200"),
        ("temperature", ""),
    ];
    let files: [(&str, &str, &[u8]); 1] = [("voice_file", "me.wav", &clip)];
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for (sound, files) in [(&mut own, &files[..0]), (&mut other, &files[..])] {
        for path in ["/v1/audio/speech/upload", "/audio/speech/stream/upload"] {
            let response = answer(&router, form(path, &texts, files)).await;
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            *sound = bytes(response).await;
        }
    }
    assert!(own != other, "the recording's voice is another");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let broken: [(&str, &str, &[u8]); 1] = [("voice_file", "me.wav", b"no recording")];
    let refused = answer(&router, form("/v1/audio/speech/upload", &texts, &broken)).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_described_samples_as_the_other_server_sends_them() {
    let router = router();
    for path in [
        "/v1/audio/speech",
        "/audio/speech",
        "/v1/audio/speech/stream",
    ] {
        let body = json!({"input": "Hi.", "voice": "alloy", "stream_format": "sse"});
        let response = answer(&router, post(path, &body)).await;
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "text/event-stream"
        );
        let text = String::from_utf8(bytes(response).await).unwrap();
        let events: Vec<Value> = (text.split("\n\n").filter(|event| !event.is_empty()))
            .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
            .collect();
        assert_eq!(events[0]["type"], "speech.audio.info", "{path}");
        assert_eq!(events[0]["sample_rate"], 24_000);
        assert_eq!(events[1]["type"], "speech.audio.delta");
        assert!(
            !events[1]["audio"].as_str().unwrap().starts_with("UklG"),
            "no WAV header"
        );
        assert_eq!(events.last().unwrap()["type"], "speech.audio.done");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_languages_and_health_are_told_in_their_words() {
    let router = router();
    let model = json_of(answer(&router, get("/api/model-info")).await).await;
    assert_eq!(model["sample_rate"], 24_000);
    assert_eq!(model["supported_languages"]["en"], "English");
    let page = json_of(answer(&router, get("/api/ui/initial-data")).await).await;
    assert_eq!(page["predefined_voices"][0]["filename"], "default.wav");
    for path in ["/languages", "/v1/languages"] {
        let languages = json_of(answer(&router, get(path)).await).await;
        assert_eq!(
            languages["languages"][0],
            json!({"code": "en", "name": "English"})
        );
    }
    for path in ["/v1/health", "/ping", "/v1/ping", "/voices/default"] {
        assert_eq!(
            answer(&router, get(path)).await.status(),
            StatusCode::OK,
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_probes_are_open_as_the_server_s_own_are() {
    let closed = |open_lists| {
        App::new(ServerOptions {
            compatibility: vec![Compatibility::Chatterbox],
            api_keys: vec!["secret".into()],
            open_lists,
            ..options()
        })
        .router()
    };
    for (path, needs_key, listed) in [
        ("/v1/health", false, false),
        ("/ping", false, false),
        ("/get_predefined_voices", true, true),
        ("/v1/languages", true, true),
        ("/tts-stream?text=Hi.", true, false),
    ] {
        for open_lists in [false, true] {
            let response = answer(&closed(open_lists), get(path)).await;
            let open = !needs_key || (listed && open_lists);
            assert_eq!(
                response.status() == StatusCode::OK,
                open,
                "{path}, {open_lists}"
            );
        }
    }
}

/// The body of Kokoro-FastAPI's own examples of captioned speech.
fn kokoro(text: &str, stream: bool) -> Value {
    json!({
        "model": "kokoro", "input": text, "voice": "default", "speed": 1.0,
        "response_format": "wav", "stream": stream,
    })
}

fn spoken_words(object: &Value) -> Vec<String> {
    let words = object["timestamps"].as_array().unwrap().iter();
    words
        .map(|word| {
            let (start, end) = (&word["start_time"], &word["end_time"]);
            assert!(start.as_f64() < end.as_f64(), "{word}");
            word["word"].as_str().unwrap().to_owned()
        })
        .collect()
}

fn captioned_sound(object: &Value) -> Vec<u8> {
    BASE64.decode(object["audio"].as_str().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn captioned_speech_comes_whole_or_line_by_line_with_the_times_of_its_words() {
    let router = router();
    let (path, text) = ("/dev/captioned_speech", "Hello there. Now we go on.");
    let response = answer(&router, post(path, &kokoro(text, false))).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    let whole = json_of(response).await;
    assert_eq!(whole["audio_format"], "audio/wav");
    let words = ["Hello", "there", "Now", "we", "go", "on"];
    assert_eq!(spoken_words(&whole), words);
    let sound = captioned_sound(&whole);
    assert!(sound.starts_with(b"RIFF"));

    let response = answer(&router, post(path, &kokoro(text, true))).await;
    let lines = String::from_utf8(bytes(response).await).unwrap();
    let lines: Vec<Value> = (lines.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines.len() > 1);
    let told: Vec<String> = lines.iter().flat_map(spoken_words).collect();
    assert_eq!(told, words);
    let joined: Vec<u8> = lines.iter().flat_map(captioned_sound).collect();
    assert_eq!(joined, sound);
}

#[tokio::test(flavor = "multi_thread")]
async fn captioned_speech_takes_the_other_server_s_fields_and_names_those_without_effect() {
    let router = router();
    let path = "/dev/captioned_speech";
    let mut body = kokoro("Hello there.", false);
    body["return_timestamps"] = false.into();
    body["lang_code"] = "a".into();
    body["return_download_link"] = true.into();
    body["volume_multiplier"] = 1.0.into();
    body["normalization_options"] = json!({"normalize": true, "url_normalization": true});
    body["response_format"] = "mp3".into();
    let response = answer(&router, post(path, &body)).await;
    assert_eq!(response.status(), StatusCode::OK);
    let ignored = response.headers()["x-sottovoce-ignored"].to_str().unwrap();
    for name in [
        "return_download_link",
        "volume_multiplier",
        "normalization_options",
    ] {
        assert!(ignored.contains(name), "{ignored}");
    }
    let object = json_of(response).await;
    assert_eq!(object["audio_format"], "audio/mpeg");
    assert_eq!(object["timestamps"], json!([]));
    for (field, value) in [
        ("input", json!("")),
        ("voice", json!("af_nobody")),
        ("response_format", json!("midi")),
        ("speed", json!(40)),
        ("stream", json!("perhaps")),
    ] {
        let mut body = kokoro("Hello there.", false);
        body[field] = value;
        let response = answer(&router, post(path, &body)).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{field}");
        let detail = json_of(response).await["detail"].to_string();
        assert!(
            field == "input" || detail.contains(field),
            "{field}: {detail}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_near_miss_is_told_the_right_path_and_another_server_s_path_the_option() {
    let plain = App::new(options()).router();
    for (path, word) in [
        ("/audio/speech", "/v1/audio/speech"),
        ("/v1/audio/speach", "/v1/audio/speech"),
        ("/v1/audio/voice", "/v1/audio/voices"),
        ("/v1/voices/ann", "/v1/audio/voices/{id}"),
        ("/tts", "option compat"),
        ("/v1/languages", "option compat"),
        ("/get_predefined_voices", "option compat"),
        ("/dev/captioned_speech", "option compat"),
        ("/nowhere/at/all", "not known here"),
    ] {
        let response = answer(&plain, post(path, &json!({}))).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        let body = json_of(response).await;
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains(word), "{path}: {message}");
        assert_eq!(body["error"]["code"], "not_found");
    }
    let response = answer(&router(), get("/get_predefined_voice")).await;
    let message = json_of(response).await["error"]["message"].to_string();
    assert!(message.contains("/get_predefined_voices"), "{message}");
    let locked = App::new(ServerOptions {
        api_keys: vec!["secret".into()],
        ..options()
    });
    let response = answer(&locked.router(), get("/audio/speech")).await;
    assert_eq!(
        response.status(),
        StatusCode::UNAUTHORIZED,
        "paths are told to callers only"
    );
}
