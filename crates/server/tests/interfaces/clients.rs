//! Requests of other projects' clients, and the responses that they expect.

use crate::common::calls::{answer, bytes, get, json_of, post, recording};
use crate::common::{options, options_with_voices};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, Request, StatusCode, header};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sottovoce::{Engine, EngineOptions, ModelConfig, Source, VoiceSource, VoiceStore};
use sottovoce_server::{App, Limits, ServerOptions, openapi_document};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

fn router() -> Router {
    App::new(options()).router()
}

async fn speak(router: &Router, body: &Value) -> axum::http::Response<Body> {
    answer(router, post("/v1/audio/speech", body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_a_request_id_that_is_the_caller_s_where_it_sent_one() {
    let router = App::new(ServerOptions {
        allowed_origins: vec!["https://app.example".into()],
        api_keys: vec!["secret".into()],
        ..options()
    })
    .router();
    let preflight = || {
        Request::options("/v1/audio/speech")
            .header(header::ORIGIN, "https://app.example")
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .body(Body::empty())
            .unwrap()
    };
    for request in [
        get("/health/live"),
        get("/nowhere"),
        get("/v1/models"),
        post("/v1/audio/speech", &json!({})),
        preflight(),
    ] {
        let path = request.uri().clone();
        let made = answer(&router, request).await;
        let made = made.headers()[&REQUEST_ID].to_str().unwrap().to_owned();
        assert!(
            made.starts_with("req_") && made.len() == 36,
            "{path}: {made}"
        );
    }
    for (sent, taken) in [
        ("abc-123", true),
        ("with space", false),
        (&"x".repeat(200), false),
    ] {
        let mut request = get("/health/live");
        request
            .headers_mut()
            .insert(REQUEST_ID, sent.parse().unwrap());
        let response = answer(&router, request).await;
        assert_eq!(response.headers()[&REQUEST_ID] == *sent, taken, "{sent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_s_preflight_is_answered_whatever_headers_its_client_adds() {
    let router = App::new(ServerOptions {
        allowed_origins: vec!["https://app.example".into()],
        ..options()
    })
    .router();
    let asked =
        "authorization,content-type,x-stainless-arch,x-stainless-os,x-stainless-retry-count";
    let preflight = |origin: &str, method: &str| {
        Request::options("/v1/audio/speech")
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, method)
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, asked)
            .body(Body::empty())
            .unwrap()
    };
    for method in ["GET", "POST", "PUT", "DELETE"] {
        let response = answer(&router, preflight("https://app.example", method)).await;
        assert_eq!(response.status(), StatusCode::OK);
        let headers = response.headers();
        assert_eq!(
            headers[header::ACCESS_CONTROL_ALLOW_ORIGIN],
            "https://app.example"
        );
        let allowed = headers[header::ACCESS_CONTROL_ALLOW_HEADERS]
            .to_str()
            .unwrap();
        assert!(allowed.contains("x-stainless-os"), "{allowed}");
        let methods = headers[header::ACCESS_CONTROL_ALLOW_METHODS]
            .to_str()
            .unwrap();
        assert!(methods.contains(method), "{methods}");
    }
    let foreign = answer(&router, preflight("https://evil.example", "POST")).await;
    assert!(
        !foreign
            .headers()
            .contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)
    );
    let mut request = get("/v1/models");
    let origin = "https://app.example".parse().unwrap();
    request.headers_mut().insert(header::ORIGIN, origin);
    let exposed = answer(&router, request).await;
    let exposed = exposed.headers()[header::ACCESS_CONTROL_EXPOSE_HEADERS]
        .to_str()
        .unwrap();
    for header in [
        "x-request-id",
        "x-sottovoce-ignored",
        "x-sottovoce-warnings",
    ] {
        assert!(exposed.contains(header), "{exposed}");
    }
}

#[test]
fn an_origin_that_no_browser_sends_is_refused_at_the_start() {
    let options = ServerOptions {
        allowed_origins: vec!["https://app.example/".into()],
        ..options()
    };
    let refusal = options.check().unwrap_err().to_string();
    assert!(refusal.contains("https://app.example"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_without_words_is_a_short_silence_in_every_format_and_only_no_text_is_refused() {
    let router = router();
    for input in ["👍", "…", "-", " ", "?!", "\u{200b}"] {
        let body = json!({"input": input, "response_format": "pcm"});
        let response = speak(&router, &body).await;
        assert_eq!(response.status(), StatusCode::OK, "{input:?}");
        let samples = bytes(response).await;
        assert!(
            samples.len() == 19_200 && samples.iter().all(|byte| *byte == 0),
            "{input:?}"
        );
    }
    for format in ["mp3", "wav", "opus", "flac", "aac", "pcm"] {
        let body = json!({"input": "👍", "response_format": format});
        let response = speak(&router, &body).await;
        assert_eq!(response.status(), StatusCode::OK, "{format}");
        assert!(bytes(response).await.len() > 40, "{format}");
    }
    let events = json!({"input": "…", "stream_format": "sse"});
    let events = String::from_utf8(bytes(speak(&router, &events).await).await).unwrap();
    assert!(events.contains("speech.audio.delta") && events.contains("speech.audio.done"));
    let empty = speak(&router, &json!({"input": ""})).await;
    assert_eq!(empty.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_of_minus_one_is_drawn_and_told() {
    let router = router();
    let with = async |seed: Value| {
        let body = json!({"input": "Good day.", "response_format": "pcm", "seed": seed});
        let response = speak(&router, &body).await;
        assert_eq!(response.status(), StatusCode::OK);
        let seed = response.headers()["x-sottovoce-seed"]
            .to_str()
            .unwrap()
            .to_owned();
        (seed, bytes(response).await)
    };
    let (drawn, sound) = with(json!(-1)).await;
    let (again, _) = with(json!(-1)).await;
    assert_ne!(drawn, again, "each call draws its own");
    assert_eq!(with(json!(drawn)).await, (drawn, sound));
    assert_eq!(with(json!(7)).await.0, "7");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_in_quotes_are_understood_and_fields_without_effect_are_told() {
    let router = router();
    let body = json!({
        "model": "x", "input": "Good day.", "response_format": "pcm", "speed": "1.5", "seed": "3",
        "mood": "en", "emotion": {"a": 1}, "instructions": "gently", "voice": {"id": "ALLOY"},
        "exaggeration": 0.7, "temperature": 0.8,
    });
    let quoted = speak(&router, &body).await;
    assert_eq!(quoted.status(), StatusCode::OK);
    assert_eq!(
        quoted.headers()["x-sottovoce-ignored"],
        "instructions, exaggeration, emotion, mood"
    );
    let body = json!({"input": "Good day.", "response_format": "pcm", "speed": 1.5, "seed": 3});
    let plain = speak(&router, &body).await;
    assert!(!plain.headers().contains_key("x-sottovoce-ignored"));
    assert_eq!(bytes(quoted).await, bytes(plain).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_names_its_field_in_plain_words() {
    let router = router();
    for (path, body, field) in [
        ("/v1/audio/speech", json!({}), "input"),
        ("/v1/audio/speech", json!({"input": 5}), "input"),
        ("/v1/audio/speech", json!({"input": ["x"]}), "input"),
        (
            "/v1/audio/speech",
            json!({"input": "x", "voice": 5}),
            "voice",
        ),
        (
            "/v1/audio/speech",
            json!({"input": "x", "voice": {"name": "x"}}),
            "voice",
        ),
        (
            "/v1/audio/speech",
            json!({"input": "x", "speed": "fast"}),
            "speed",
        ),
        (
            "/v1/audio/speech",
            json!({"input": "x", "speed": true}),
            "speed",
        ),
        (
            "/v1/audio/speech",
            json!({"input": "x", "seed": -2}),
            "seed",
        ),
        (
            "/v1/audio/speech",
            json!({"input": "x", "seed": 1.5}),
            "seed",
        ),
        (
            "/v1/audio/speech",
            json!({"input": "x", "chunk_size": -1}),
            "chunk_size",
        ),
        (
            "/v1/audio/speech",
            json!({"input": "x", "chunk_size": 1e30}),
            "chunk_size",
        ),
        (
            "/v1/audio/speech",
            json!({"input": "x", "chunk_size": 9999}),
            "chunk_size",
        ),
        (
            "/v1/audio/speech",
            json!({"input": "x", "response_format": 3}),
            "response_format",
        ),
        ("/memory/profile", json!({"profile": 3}), "profile"),
        (
            "/memory/profile",
            json!({"cache_intervall": 3}),
            "cache_intervall",
        ),
        (
            "/memory/profile",
            json!({"cache_interval": 1_000_000}),
            "cache_interval",
        ),
        ("/models/load", json!({"precision": "f17"}), "precision"),
        (
            "/models/load",
            json!({"memory_bytes": "much"}),
            "memory_bytes",
        ),
        ("/models/unload", json!({"force": "maybe"}), "force"),
    ] {
        let response = answer(&router, post(path, &body)).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{body}");
        let error = json_of(response).await["error"].clone();
        assert_eq!(error["param"], field, "{body}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(field), "{message}");
        for word in ["expected", "invalid type", "deserialize", "u64", "EOF"] {
            assert!(!message.contains(word), "{message}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_bodies_are_understood_or_refused_as_what_they_are() {
    let router = router();
    let json = json!({"input": "Good day.", "response_format": "pcm"}).to_string();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(json.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let request = |path: &str, kind: &str, packing: &str, body: Vec<u8>| {
        Request::post(path)
            .header(header::CONTENT_TYPE, kind)
            .header(header::CONTENT_ENCODING, packing)
            .body(Body::from(body))
            .unwrap()
    };
    let speech = "/v1/audio/speech";
    for (path, kind, packing, body, status) in [
        (speech, "application/json", "gzip", gzip.clone(), 200),
        (
            speech,
            "application/json",
            "identity",
            json.clone().into(),
            200,
        ),
        (speech, "application/json", "br", json.clone().into(), 415),
        (speech, "application/json", "zstd", json.clone().into(), 415),
        (speech, "application/json", "gzip", json.clone().into(), 400),
        (
            "/v1/audio/voices",
            "multipart/form-data; boundary=b",
            "gzip",
            gzip.clone(),
            415,
        ),
    ] {
        let response = answer(&router, request(path, kind, packing, body)).await;
        assert_eq!(response.status().as_u16(), status, "{path} {packing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_readable_without_a_key_where_they_were_opened() {
    let keys = |open_lists| ServerOptions {
        api_keys: vec!["secret".into()],
        open_lists,
        ..options()
    };
    let (closed, open) = (
        App::new(keys(false)).router(),
        App::new(keys(true)).router(),
    );
    for path in [
        "/v1/models",
        "/v1/models/pico",
        "/v1/audio/models",
        "/v1/audio/voices",
    ] {
        assert_eq!(
            answer(&closed, get(path)).await.status(),
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
        assert_eq!(
            answer(&open, get(path)).await.status(),
            StatusCode::OK,
            "{path}"
        );
    }
    for path in ["/memory", "/metrics"] {
        assert_eq!(
            answer(&open, get(path)).await.status(),
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
    }
    let speech = speak(&open, &json!({"input": "x"})).await;
    assert_eq!(speech.status(), StatusCode::UNAUTHORIZED);
    let models = json_of(answer(&open, get("/v1/audio/models")).await).await;
    assert_eq!(models, json!({"models": [{"id": "pico", "name": "pico"}]}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_speaks_does_not_unload_load_or_reconfigure() {
    let router = App::new(ServerOptions {
        api_keys: vec!["speaker".into()],
        admin_keys: vec!["keeper".into()],
        ..options()
    })
    .router();
    let call = async |path: &str, key: &str| {
        let mut request = post(path, &json!({}));
        let bearer = format!("Bearer {key}").parse().unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        answer(&router, request).await.status().as_u16()
    };
    for path in [
        "/models/load",
        "/models/unload",
        "/memory/trim",
        "/memory/profile",
    ] {
        assert_eq!(call(path, "speaker").await, 403, "{path}");
        assert_eq!(call(path, "keeper").await, 200, "{path}");
        assert_eq!(call(path, "nobody").await, 401, "{path}");
    }
    let locked = App::new(ServerOptions {
        remote_settings: false,
        ..options()
    })
    .router();
    let refused = answer(&locked, post("/models/unload", &json!({}))).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(
        json_of(refused).await["error"]["code"],
        "insufficient_permissions"
    );
}

/// The form that OpenAI's client sends.
fn sdk_form(name: &str, clip: &[u8], kind: &str) -> Request<Body> {
    let text = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let head = "--b\r\nContent-Disposition: form-data; name=\"audio_sample\"; filename=\"me.wav\"\r\nContent-Type: audio/wav\r\n\r\n";
    let body = [
        text("name", name).as_bytes(),
        text("consent", "cons_1234").as_bytes(),
        text("type", kind).as_bytes(),
        head.as_bytes(),
        clip,
        b"\r\n--b--\r\n",
    ]
    .concat();
    Request::post("/v1/audio/voices")
        .header(header::CONTENT_TYPE, "multipart/form-data; boundary=b")
        .body(Body::from(body))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn openai_s_client_makes_and_deletes_voices_and_an_alias_reaches_them() {
    let folder = tempfile::tempdir().unwrap();
    let router = App::new(ServerOptions {
        voice_aliases: BTreeMap::from([("Nova".to_owned(), "zoë".to_owned())]),
        ..options_with_voices(ModelConfig::tiny_base(), folder.path())
    })
    .router();
    let drawn = answer(&router, sdk_form("x", &recording(), "prompt")).await;
    assert_eq!(drawn.status(), StatusCode::BAD_REQUEST);
    assert_eq!(json_of(drawn).await["error"]["param"], "type");
    let made = answer(
        &router,
        sdk_form("Zoe\u{308}", &recording(), "audio_sample"),
    )
    .await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let made = json_of(made).await;
    assert_eq!(made["object"], "audio.voice");
    assert_eq!(made["type"], "audio_sample");
    assert_eq!(made["id"], "Zoë");
    assert!(made["created_at"].as_u64().unwrap() > 1_700_000_000);
    for voice in ["Zoë", "ZOË", "zoe\u{308}", "nova", "NOVA"] {
        let body = json!({"input": "Hi.", "voice": voice, "response_format": "pcm"});
        let spoken = speak(&router, &body).await;
        assert_eq!(
            spoken.status(),
            StatusCode::OK,
            "{voice}: {}",
            json_of(spoken).await
        );
    }
    let aliases = |method: &str, alias: &str, voice: &str| {
        Request::builder()
            .method(method)
            .uri(format!("/v1/audio/aliases/{alias}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(json!({ "voice": voice }).to_string()))
            .unwrap()
    };
    for (method, alias, voice, status) in [
        ("PUT", "alloy", "zoë", 200),
        ("PUT", "alloy", "nobody", 400),
        ("PUT", "default", "zoë", 400),
        ("PUT", "nova", "default", 400),
        ("DELETE", "nova", "", 400),
        ("DELETE", "unknown", "", 404),
    ] {
        let response = answer(&router, aliases(method, alias, voice)).await;
        assert_eq!(response.status().as_u16(), status, "{method} {alias}");
    }
    let list = json_of(answer(&router, get("/v1/audio/voices")).await).await;
    assert_eq!(list["voices"][1]["id"], "Zoë");
    assert_eq!(list["voices"][2]["alias_of"], "zoë");
    let taken = answer(&router, sdk_form("ALLOY", &recording(), "audio_sample")).await;
    assert_eq!(taken.status(), StatusCode::BAD_REQUEST);
    let forgotten = answer(&router, aliases("DELETE", "Alloy", "")).await;
    assert_eq!(forgotten.status(), StatusCode::OK);
    let delete = Request::delete("/v1/audio/voices/ZO%C3%8B")
        .body(Body::empty())
        .unwrap();
    let deleted = json_of(answer(&router, delete).await).await;
    assert_eq!(
        deleted,
        json!({"id": "Zoë", "object": "audio.voice.deleted", "deleted": true})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn voices_prepared_on_the_command_line_are_spoken_by_a_server_that_takes_none() {
    let folder = tempfile::tempdir().unwrap();
    let source = || Source::Random(Box::new(ModelConfig::tiny_base()));
    let store = VoiceStore::new(folder.path());
    let clip = folder.path().join("clip.wav");
    std::fs::write(&clip, recording()).unwrap();
    let engine = Engine::load(source(), EngineOptions::default()).unwrap();
    let voice = engine.voice(VoiceSource::Clip(clip)).unwrap();
    voice.save(&store.prepare("me").unwrap().1).unwrap();
    drop((voice, engine));
    let router = App::new(ServerOptions {
        source: source(),
        voices_directory: Some(folder.path().to_owned()),
        uploads: false,
        ..options()
    })
    .router();
    let list = json_of(answer(&router, get("/v1/audio/voices")).await).await;
    assert_eq!(list["voices"][1]["id"], "me");
    let body = json!({"input": "Hi.", "voice": "Me", "response_format": "pcm"});
    assert_eq!(speak(&router, &body).await.status(), StatusCode::OK);
    let refused = answer(&router, sdk_form("you", &recording(), "audio_sample")).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let delete = Request::delete("/v1/audio/voices/me")
        .body(Body::empty())
        .unwrap();
    assert_eq!(
        answer(&router, delete).await.status(),
        StatusCode::BAD_REQUEST
    );
    assert!(store.look_up("me").unwrap().is_some());
}

#[test]
fn the_openapi_document_has_the_server_s_own_limits_and_no_operation_twice() {
    let document = openapi_document(&Limits {
        text_characters: 1234,
        ..Limits::default()
    });
    let document = serde_json::to_value(document).unwrap();
    let speech = &document["components"]["schemas"]["SpeechRequest"];
    assert!(
        speech.to_string().contains("\"maxLength\":1234"),
        "{speech}"
    );
    let mut ids = BTreeSet::new();
    let paths = document["paths"].as_object().unwrap().values();
    for operation in paths.flat_map(|path| path.as_object().unwrap().values()) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{id} is there twice");
    }
}
