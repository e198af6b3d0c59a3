//! Calls to a router without a socket.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, header};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

pub fn post(path: &str, body: &Value) -> Request<Body> {
    Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

pub fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

pub async fn answer(router: &Router, request: Request<Body>) -> Response<Body> {
    router.clone().oneshot(request).await.unwrap()
}

pub async fn bytes(response: Response<Body>) -> Vec<u8> {
    response
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes()
        .to_vec()
}

pub async fn json_of(response: Response<Body>) -> Value {
    serde_json::from_slice(&bytes(response).await).unwrap()
}

pub fn form(name: &str, clip: &[u8]) -> Request<Body> {
    let head = format!(
        "--b\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\n{name}\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"../../x.wav\"\r\n\r\n"
    );
    let body = [head.as_bytes(), clip, b"\r\n--b--\r\n"].concat();
    Request::post("/v1/audio/voices")
        .header(header::CONTENT_TYPE, "multipart/form-data; boundary=b")
        .body(Body::from(body))
        .unwrap()
}

/// A form that changes the voice of a clip, with further fields.
pub fn change_form(fields: &[(&str, &str)], clip: &[u8]) -> Request<Body> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part =
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend(part.as_bytes());
    }
    body.extend(
        b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x.wav\"\r\n\r\n",
    );
    body.extend(clip);
    body.extend(b"\r\n--b--\r\n");
    Request::post("/v1/audio/voice-changes")
        .header(header::CONTENT_TYPE, "multipart/form-data; boundary=b")
        .body(Body::from(body))
        .unwrap()
}

/// Two seconds of a hum, as 16-bit WAV at 24 kHz.
pub fn recording() -> Vec<u8> {
    let samples = (0..48_000).flat_map(|moment| {
        let hum = (moment as f32 * 0.05).sin() + (moment as f32 * 0.11).sin();
        ((hum * 8_000.0) as i16).to_le_bytes()
    });
    let mut wav = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    wav.extend(24_000_u32.to_le_bytes());
    wav.extend(48_000_u32.to_le_bytes());
    wav.extend(b"\x02\0\x10\0data");
    wav.extend(96_000_u32.to_le_bytes());
    wav.extend(samples);
    let size = wav.len() as u32 - 8;
    wav[4..8].copy_from_slice(&size.to_le_bytes());
    wav
}
