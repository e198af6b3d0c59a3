//! The server's HTTP API with the embedded voice, without a socket.

use crate::common::calls::{answer, bytes, form, get, json_of, post, recording};
use crate::common::{options, options_with_voices};
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use sottovoce::{Engine, EngineOptions, ModelConfig, Source};
use sottovoce_server::{App, EngineLoader, Limits, ServerOptions};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn speech_arrives_in_the_format_that_was_asked_for() {
    let router = App::new(options()).router();
    for (format, kind, start) in [
        ("wav", "audio/wav", b"RIFF".as_slice()),
        ("flac", "audio/flac", b"fLaC"),
        ("opus", "audio/ogg; codecs=opus", b"OggS"),
    ] {
        let body = json!({"model": "tts-1", "voice": "alloy", "input": "Good day.", "response_format": format});
        let response = answer(&router, post("/v1/audio/speech", &body)).await;
        assert_eq!(response.status(), StatusCode::OK, "{format}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], kind);
        let sound = bytes(response).await;
        assert!(
            sound.starts_with(start) && sound.len() > 1000,
            "{format}: {} bytes",
            sound.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_seed_gives_the_same_sound_and_instructions_are_said_to_be_ignored() {
    let router = App::new(options()).router();
    let body = json!({"input": "Good day.", "response_format": "pcm", "seed": 3, "instructions": "whisper"});
    let first = answer(&router, post("/v1/audio/speech", &body)).await;
    assert_eq!(first.headers()["x-sottovoce-ignored"], "instructions");
    let second = answer(&router, post("/v1/audio/speech", &body)).await;
    assert_eq!(bytes(first).await, bytes(second).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_carry_the_sound_and_end_with_done() {
    let router = App::new(options()).router();
    let body = json!({"input": "Good day.", "response_format": "pcm", "stream_format": "sse"});
    let response = answer(&router, post("/v1/audio/speech", &body)).await;
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "text/event-stream"
    );
    let text = String::from_utf8(bytes(response).await).unwrap();
    let events: Vec<Value> = text
        .split("\n\n")
        .filter_map(|event| event.strip_prefix("data: "))
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    assert_eq!(events[0]["type"], "speech.audio.delta");
    let done = events.last().unwrap();
    assert_eq!(done["type"], "speech.audio.done");
    let (read, spoken) = (
        done["usage"]["input_tokens"].as_u64().unwrap(),
        done["usage"]["output_tokens"].as_u64().unwrap(),
    );
    assert!(read > 2 && spoken > 5, "{done}");
    assert_eq!(done["usage"]["total_tokens"], read + spoken);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_refused_in_openai_s_shape() {
    let router = App::new(options()).router();
    let long = "word ".repeat(10_000);
    for (body, parameter) in [
        (json!({"input": ""}), "input"),
        (json!({"input": long}), "input"),
        (json!({"input": "x", "voice": "nobody"}), "voice"),
        (json!({"input": "x", "voice": "../../etc/passwd"}), "voice"),
        (
            json!({"input": "x", "response_format": "midi"}),
            "response_format",
        ),
        (
            json!({"input": "x", "stream_format": "pigeon"}),
            "stream_format",
        ),
        (json!({"input": "x", "speed": 9}), "speed"),
        (json!({"input": "x", "temperature": -1}), "temperature"),
    ] {
        let response = answer(&router, post("/v1/audio/speech", &body)).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{parameter}");
        let error = json_of(response).await;
        assert_eq!(error["error"]["type"], "invalid_request_error");
        assert_eq!(error["error"]["param"], parameter);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_not_what_a_call_takes_are_refused() {
    let router = App::new(options()).router();
    let request = |kind: &str, body: String| {
        Request::post("/v1/audio/speech")
            .header(header::CONTENT_TYPE, kind)
            .body(Body::from(body))
            .unwrap()
    };
    for (kind, body, status) in [
        ("application/json", "{".into(), StatusCode::BAD_REQUEST),
        ("application/json", "[]".into(), StatusCode::BAD_REQUEST),
        ("application/json", "\u{0}".into(), StatusCode::BAD_REQUEST),
        (
            "text/plain",
            "{\"input\":\"x\"}".into(),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ),
        (
            "application/json",
            "x".repeat(2 << 20),
            StatusCode::PAYLOAD_TOO_LARGE,
        ),
    ] {
        let response = answer(&router, request(kind, body)).await;
        assert_eq!(response.status(), status, "{kind}");
        assert!(json_of(response).await["error"]["message"].is_string());
    }
    assert_eq!(
        answer(&router, get("/nowhere")).await.status(),
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        answer(&router, get("/v1/audio/speech")).await.status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_keys_only_the_page_and_the_health_are_open() {
    let router = App::new(ServerOptions {
        api_keys: vec!["secret".into()],
        ..options()
    })
    .router();
    for (path, status) in [
        ("/", StatusCode::OK),
        ("/page/app.js", StatusCode::OK),
        ("/health/live", StatusCode::OK),
        ("/v1/models", StatusCode::UNAUTHORIZED),
        ("/memory", StatusCode::UNAUTHORIZED),
        ("/metrics", StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(answer(&router, get(path)).await.status(), status, "{path}");
    }
    let mut request = get("/v1/models");
    request
        .headers_mut()
        .insert(header::AUTHORIZATION, "Bearer secret".parse().unwrap());
    assert_eq!(answer(&router, request).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_s_files_are_packed_for_who_unpacks_them() {
    let router = App::new(options()).router();
    for path in ["/", "/page/app.js", "/page/style.css"] {
        let plain = answer(&router, get(path)).await;
        assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
        let mut request = get(path);
        let gzip = "gzip".parse().unwrap();
        request.headers_mut().insert(header::ACCEPT_ENCODING, gzip);
        let packed = answer(&router, request).await;
        assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip", "{path}");
        let (plain, packed) = (bytes(plain).await, bytes(packed).await);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_end(&mut unpacked)
            .unwrap();
        assert!(
            unpacked == plain && packed.len() < plain.len() * 2 / 3,
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins_are_refused_and_get_no_cors_headers() {
    let router = App::new(options()).router();
    let mut request = post("/memory/trim", &json!({}));
    request
        .headers_mut()
        .insert(header::ORIGIN, "https://evil.example".parse().unwrap());
    let response = answer(&router, request).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert!(
        !response
            .headers()
            .contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_is_shown_trimmed_unloaded_and_loaded_again() {
    let app = App::new(options());
    let router = app.router();
    assert_eq!(
        json_of(answer(&router, get("/memory")).await).await["model_loaded"],
        false
    );
    app.load().await.unwrap();
    let memory = json_of(answer(&router, get("/memory")).await).await;
    assert!(memory["engine"]["reserved_bytes"].as_u64().unwrap() > 0);
    let state = answer(
        &router,
        post(
            "/memory/profile",
            &json!({"profile": "aggressive", "cache_interval": 3.0}),
        ),
    )
    .await;
    assert_eq!(
        json_of(state).await,
        json!({"profile": "aggressive", "cache_interval": 3, "enable_monitoring": true})
    );
    let wrong = answer(
        &router,
        post("/memory/profile", &json!({"profile": "lazy"})),
    )
    .await;
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    for senseless in ["[null, null]", " ", "3", "{"] {
        let request = Request::post("/memory/profile")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(senseless))
            .unwrap();
        let status = answer(&router, request).await.status();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{senseless:?}");
    }
    assert!(
        json_of(answer(&router, post("/memory/trim", &json!({}))).await).await["freed_bytes"]
            .is_u64()
    );
    let tight = answer(
        &router,
        post("/models/load", &json!({"memory_bytes": 1 << 20})),
    )
    .await;
    assert_eq!(tight.status(), StatusCode::CONFLICT);
    let words = json_of(tight).await["error"]["message"].to_string();
    assert!(words.contains("budget"), "{words}");
    let again = answer(&router, post("/models/load", &Value::Null)).await;
    assert_eq!(again.status(), StatusCode::OK);
    let in_use = async || {
        let figures = bytes(answer(&router, get("/metrics")).await).await;
        let figures = String::from_utf8(figures).unwrap();
        (figures.lines())
            .filter(|line| line.starts_with("sottovoce_memory_bytes{"))
            .filter(|line| !line.ends_with(" 0"))
            .count()
    };
    assert!(in_use().await > 0);
    let gone = answer(&router, post("/models/unload", &json!({}))).await;
    assert_eq!(
        json_of(gone).await,
        json!({"loaded": false, "changed": true})
    );
    assert_eq!(in_use().await, 0, "what is gone is not shown");
    let back = answer(&router, post("/models/load", &json!({}))).await;
    assert_eq!(
        json_of(back).await,
        json!({"loaded": true, "changed": true})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uploaded_voice_speaks_survives_another_server_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let options = || options_with_voices(ModelConfig::tiny_base(), folder.path());
    let first = App::new(options()).router();
    let made = answer(&first, form("Ann é 日本", &recording())).await;
    let status = made.status();
    assert_eq!(status, StatusCode::CREATED, "{}", json_of(made).await);
    // Another replica over the same folder.
    let second = App::new(options()).router();
    let list = json_of(answer(&second, get("/v1/audio/voices")).await).await;
    assert_eq!(list["voices"][1]["id"], "Ann é 日本");
    let body = json!({"input": "Good day.", "voice": "Ann é 日本", "response_format": "pcm"});
    let sound = answer(&second, post("/v1/audio/speech", &body)).await;
    assert_eq!(sound.status(), StatusCode::OK);
    // Random weights never end a sentence: the beginning is enough.
    let beginning = sound.into_body().frame().await.unwrap().unwrap();
    assert!(!beginning.into_data().unwrap().is_empty());
    let delete = || {
        Request::delete("/v1/audio/voices/Ann%20%C3%A9%20%E6%97%A5%E6%9C%AC")
            .body(Body::empty())
            .unwrap()
    };
    assert_eq!(answer(&second, delete()).await.status(), StatusCode::OK);
    let gone = answer(&first, delete()).await;
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);
    let unknown = answer(&first, post("/v1/audio/speech", &body)).await;
    assert_eq!(unknown.status(), StatusCode::BAD_REQUEST);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_language_that_the_model_has_not_is_refused_and_right_to_left_text_is_spoken() {
    let folder = tempfile::tempdir().unwrap();
    let options = options_with_voices(ModelConfig::tiny_multilingual(), folder.path());
    let router = App::new(options).router();
    let made = answer(&router, form("Ann", &recording())).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let body = |language: &str, text: &str| json!({"input": text, "voice": "Ann", "response_format": "pcm", "language": language});
    for (language, reason) in [
        ("xx", "does not speak"),
        ("klingon", "does not speak"),
        ("english please", "language code"),
    ] {
        let request = post("/v1/audio/speech", &body(language, "Hello."));
        let refused = answer(&router, request).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{language}");
        let message = json_of(refused).await["error"]["message"].to_string();
        assert!(message.contains(reason), "{message}");
    }
    for (language, text) in [
        ("ar", "مرحبا Anna، كيف الحال؟"),
        ("he", "שלום Hello 今日は"),
    ] {
        let spoken = answer(&router, post("/v1/audio/speech", &body(language, text))).await;
        assert_eq!(spoken.status(), StatusCode::OK, "{language}");
        // Random weights never end a sentence: the beginning is enough.
        let beginning = spoken.into_body().frame().await.unwrap().unwrap();
        assert!(beginning.into_data().is_ok_and(|bytes| !bytes.is_empty()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_takes_no_voices_says_which_do() {
    let folder = tempfile::tempdir().unwrap();
    let router = App::new(ServerOptions {
        voices_directory: Some(folder.path().to_owned()),
        ..options()
    })
    .router();
    let refused = answer(&router, form("ann", &recording())).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let error = json_of(refused).await;
    assert_eq!(error["error"]["param"], "voice");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("base, turbo and nano"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_never_reach_the_file_system_and_what_is_no_recording_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let voices = folder.path().join("voices");
    std::fs::create_dir(&voices).unwrap();
    let router = App::new(ServerOptions {
        source: Source::Random(Box::new(ModelConfig::tiny_base())),
        voices_directory: Some(voices.clone()),
        ..options()
    })
    .router();
    let long = "x".repeat(10_000);
    for name in [
        "..",
        "../ann",
        "/tmp/ann",
        "a/b",
        "a\\b",
        "..\\ann",
        "a\0b",
        "%2e%2e%2fann",
        "C:ann",
        "a\u{202e}b",
        "default",
        "alloy",
        "",
        &long,
        &"日".repeat(67),
    ] {
        let response = answer(&router, form(name, &recording())).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{name:?}");
    }
    for clip in [b"not a sound".as_slice(), b"", &recording()[..44]] {
        let response = answer(&router, form("ann", clip)).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{clip:?}");
    }
    for path in ["..%2f..%2fetc%2fpasswd", "%2e%2e%2fx", "%00", "%ff"] {
        let request = Request::delete(format!("/v1/audio/voices/{path}"))
            .body(Body::empty())
            .unwrap();
        let response = answer(&router, request).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(&voices).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_that_break_off_are_the_caller_s_fault() {
    let router = App::new(options()).router();
    for (boundary, body) in [
        ("", ""),
        ("", "----"),
        ("b", ""),
        ("b", "--b\r\nContent-Disposition: form-data; name=\"na"),
        (
            "b",
            "--b\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nann",
        ),
    ] {
        let kind = format!("multipart/form-data; boundary={boundary}");
        let broken = futures_util::stream::iter([
            Ok(body.to_owned()),
            Err(std::io::Error::other("the connection broke")),
        ]);
        for body in [Body::from(body), Body::from_stream(broken)] {
            let request = Request::post("/v1/audio/voices")
                .header(header::CONTENT_TYPE, &kind)
                .body(body)
                .unwrap();
            let status = answer(&router, request).await.status();
            assert_eq!(status, StatusCode::BAD_REQUEST, "{boundary:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_answers_429_and_a_caller_who_leaves_frees_the_place() {
    let app = App::new(ServerOptions {
        engine: EngineOptions {
            streams_max: 1,
            ..EngineOptions::default()
        },
        limits: Limits {
            queue: 0,
            ..Limits::default()
        },
        ..ServerOptions::default()
    });
    let router = app.router();
    let text = "This is a long story about nothing at all. ".repeat(20);
    let body = json!({"input": text, "response_format": "pcm"});
    let first = answer(&router, post("/v1/audio/speech", &body)).await;
    assert_eq!(first.status(), StatusCode::OK);
    let second = answer(&router, post("/v1/audio/speech", &body)).await;
    assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(second.headers().contains_key(header::RETRY_AFTER));
    drop(first);
    let mut freed = false;
    for _ in 0..500 {
        let memory = json_of(answer(&router, get("/memory")).await).await;
        freed = memory["streams_live"] == 0 && memory["streams"] == json!([]);
        if freed {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(freed, "the place of a caller who left must come free");
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_requests_as_there_are_places_are_served_together_and_the_rest_wait() {
    let router = App::new(options()).router();
    let body = json!({"input": "Good day.", "response_format": "pcm", "seed": 5});
    let requests = (0..6).map(|_| async {
        let response = answer(&router, post("/v1/audio/speech", &body)).await;
        assert_eq!(response.status(), StatusCode::OK);
        bytes(response).await
    });
    let sounds = futures_util::future::join_all(requests).await;
    assert!(
        sounds.iter().all(|sound| *sound == sounds[0]),
        "the same words sound the same whoever speaks beside them"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_is_not_ready_and_refuses_work() {
    let app: Arc<App> = App::new(options());
    let router = app.router();
    assert_eq!(
        answer(&router, get("/health/ready")).await.status(),
        StatusCode::OK
    );
    app.stop();
    assert_eq!(
        answer(&router, get("/health/ready")).await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    let refused = answer(
        &router,
        post("/v1/audio/speech", &json!({"input": "Hi there."})),
    )
    .await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_the_words_in_their_sound_where_they_are_asked_for() {
    let router = App::new(options()).router();
    let text = "Good day. It costs $5.";
    for (format, asked) in [("pcm", true), ("mp3", true), ("pcm", false)] {
        let body = json!({
            "input": text, "response_format": format, "stream_format": "sse", "word_times": asked,
        });
        let response = answer(&router, post("/v1/audio/speech", &body)).await;
        assert_eq!(response.status(), StatusCode::OK);
        let events = String::from_utf8(bytes(response).await).unwrap();
        let events = events
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "));
        let words: Vec<Value> = events
            .map(|event| serde_json::from_str::<Value>(event).unwrap())
            .flat_map(|event| event["words"].as_array().cloned().unwrap_or_default())
            .collect();
        let written: Vec<&str> = words
            .iter()
            .map(|word| word["word"].as_str().unwrap())
            .collect();
        match asked {
            true => assert_eq!(written, ["Good", "day", "It", "costs", "$5"], "{format}"),
            false => assert_eq!(written, [""; 0]),
        }
        let starts: Vec<f64> = words
            .iter()
            .map(|word| word["start"].as_f64().unwrap())
            .collect();
        assert!(starts.is_sorted());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_model_is_loaded_at_the_start_the_server_says_so_and_refuses_work() {
    let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
    let released = std::sync::Mutex::new(released);
    let loader = EngineLoader::new(move |source, options| {
        released.lock().unwrap().recv().unwrap();
        Engine::load(source, options)
    });
    let app = App::new(ServerOptions {
        loader,
        ..options()
    });
    app.expect_load();
    let router = app.router();
    let loading = tokio::spawn({
        let app = app.clone();
        async move { app.load().await }
    });
    let words = json!({"input": "Hi there."});
    let refused = answer(&router, post("/v1/audio/speech", &words)).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "2");
    assert_eq!(json_of(refused).await["error"]["code"], "loading");
    for (probe, status) in [
        ("/health/startup", StatusCode::SERVICE_UNAVAILABLE),
        ("/health/ready", StatusCode::SERVICE_UNAVAILABLE),
        ("/health/live", StatusCode::OK),
    ] {
        assert_eq!(
            answer(&router, get(probe)).await.status(),
            status,
            "{probe}"
        );
    }
    let ready = answer(&router, get("/health/ready")).await;
    assert_eq!(json_of(ready).await["status"], "loading");
    release.send(()).unwrap();
    loading.await.unwrap().unwrap();
    for probe in ["/health/startup", "/health/ready", "/health/live"] {
        assert_eq!(
            answer(&router, get(probe)).await.status(),
            StatusCode::OK,
            "{probe}"
        );
    }
    let spoken = answer(&router, post("/v1/audio/speech", &words)).await;
    assert_eq!(spoken.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document_describes_what_is_served() {
    let router = App::new(options()).router();
    let document = json_of(answer(&router, get("/openapi.json")).await).await;
    for path in [
        "/",
        "/health",
        "/health/live",
        "/health/ready",
        "/health/startup",
        "/memory",
        "/memory/history",
        "/models",
        "/models/{name}/download",
        "/memory/profile",
        "/memory/trim",
        "/metrics",
        "/models/load",
        "/models/unload",
        "/openapi.json",
        "/page/{file}",
        "/v1/audio/speech",
        "/v1/audio/voices",
        "/v1/audio/voices/{id}",
        "/v1/models",
        "/v1/models/{id}",
        "/v1/options",
        "/v1/stream",
    ] {
        let item = &document["paths"][path];
        assert!(item.is_object(), "{path} is missing");
        for operation in item.as_object().unwrap().values() {
            assert!(operation["responses"]["429"].is_object(), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_figures_name_owners_streams_and_latencies() {
    let router = App::new(options()).router();
    let body = json!({"input": "Good day.", "response_format": "pcm"});
    bytes(answer(&router, post("/v1/audio/speech", &body)).await).await;
    let text = String::from_utf8(bytes(answer(&router, get("/metrics")).await).await).unwrap();
    for figure in [
        "sottovoce_memory_bytes{region=",
        "sottovoce_first_audio_seconds_count 1",
        "sottovoce_fragmentation",
        "sottovoce_queue_length 0",
        "sottovoce_requests_total{route=\"/v1/audio/speech\",status=\"200\"} 1",
    ] {
        assert!(text.contains(figure), "{figure} is missing from\n{text}");
    }
}
