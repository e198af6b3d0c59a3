//! Voice changes over HTTP, with a small random model.

use crate::common::calls::{answer, bytes, change_form, json_of, recording};
use crate::common::options;
use axum::http::{StatusCode, header};
use sottovoce::{EngineOptions, ModelConfig, Source};
use sottovoce_server::{App, Limits, ServerOptions};

/// 16-bit samples of two seconds at 24 kHz.
const BYTES: usize = 2 * 24_000 * 2;

fn small() -> ServerOptions {
    let mut config = ModelConfig::tiny_turbo();
    config.voice.prompt.flow_seconds_max = 0.4;
    ServerOptions {
        source: Source::Random(Box::new(config)),
        engine: EngineOptions {
            threads: Some(1),
            ..options().engine
        },
        ..options()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_comes_back_in_another_voice_in_the_format_asked_for() {
    let router = App::new(small()).router();
    let pcm = [
        ("response_format", "pcm"),
        ("seed", "3"),
        ("voice", "default"),
    ];
    let first = answer(&router, change_form(&pcm, &recording())).await;
    assert_eq!(first.status(), StatusCode::OK);
    assert_eq!(first.headers()["x-sottovoce-seed"], "3");
    assert_eq!(first.headers()["x-sample-rate"], "24000");
    let first = bytes(first).await;
    assert_eq!(first.len(), BYTES);
    let again = answer(&router, change_form(&pcm, &recording())).await;
    assert_eq!(bytes(again).await, first);
    let flac = [
        ("response_format", "flac"),
        ("temperature", "1"),
        ("mood", "merry"),
    ];
    let response = answer(&router, change_form(&flac, &recording())).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "audio/flac");
    let ignored = response.headers()["x-sottovoce-ignored"].to_str().unwrap();
    assert_eq!(ignored, "mood, temperature", "none of the sound");
    assert!(bytes(response).await.starts_with(b"fLaC"));
    let events = [("stream_format", "sse"), ("response_format", "pcm")];
    let response = answer(&router, change_form(&events, &recording())).await;
    let events = String::from_utf8(bytes(response).await).unwrap();
    assert!(events.contains("speech.audio.done") && events.contains("\"output_tokens\":50"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_changed_is_refused_by_its_field() {
    let router = App::new(small()).router();
    for (fields, clip, parameter) in [
        (vec![], b"no sound".to_vec(), "file"),
        (vec![], Vec::new(), "file"),
        (vec![("voice", "nobody")], recording(), "voice"),
        (vec![("speed", "9")], recording(), "speed"),
        (vec![("seed", "x")], recording(), "seed"),
        (
            vec![("response_format", "midi")],
            recording(),
            "response_format",
        ),
        (
            vec![("stream_format", "smoke")],
            recording(),
            "stream_format",
        ),
    ] {
        let response = answer(&router, change_form(&fields, &clip)).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{parameter}");
        assert_eq!(json_of(response).await["error"]["param"], parameter);
    }
    let many = vec![("x", "y"); 65];
    let response = answer(&router, change_form(&many, &recording())).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let pico = App::new(options()).router();
    let response = answer(&pico, change_form(&[], &recording())).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let message = json_of(response).await["error"]["message"].to_string();
    assert!(message.contains("base, turbo and nano"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn recordings_larger_than_the_limit_and_more_at_once_than_may_are_refused() {
    let router = App::new(ServerOptions {
        limits: Limits {
            clip_bytes: 1000,
            ..Limits::default()
        },
        ..small()
    })
    .router();
    let large = vec![0; 100_000];
    let response = answer(&router, change_form(&[], &large)).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let router = App::new(ServerOptions {
        limits: Limits {
            uploads_max: 0,
            ..Limits::default()
        },
        ..small()
    })
    .router();
    let response = answer(&router, change_form(&[], &recording())).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
}
