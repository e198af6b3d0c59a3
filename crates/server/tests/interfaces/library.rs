//! The page's calls besides speech: the list of models, a download, the memory history, and
//! renaming a voice.

use crate::common::calls::{answer, bytes, form, get, json_of, post, recording};
use crate::common::{Server, options, options_with_voices, within};
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use sottovoce::ModelConfig;
use sottovoce_server::{App, HubSettings, ServerOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

/// Bytes of each file of the stand-in hub.
const SIZE: usize = 200_000;
/// Entity tag that is not a SHA-256, so that the files are not verified.
const TAG: &str = "tag";

/// A hub whose files all have [`SIZE`] bytes and are sent slowly.
fn hub() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || serve(connection));
        }
    });
    address
}

fn serve(mut connection: std::net::TcpStream) -> Option<()> {
    let mut lines = BufReader::new(connection.try_clone().ok()?).lines();
    let first = lines.next()?.ok()?;
    let headers: Vec<String> = (lines.map_while(Result::ok))
        .take_while(|line| !line.is_empty())
        .map(|line| line.to_lowercase())
        .collect();
    let start = (headers.iter())
        .find_map(|line| {
            line.strip_prefix("range: bytes=")?
                .strip_suffix('-')?
                .parse()
                .ok()
        })
        .unwrap_or(0_usize);
    let file = first
        .split(' ')
        .nth(1)?
        .rsplit('/')
        .next()?
        .replace('.', "-");
    let head = format!(
        "HTTP/1.1 200 OK\r\nx-repo-commit: c0ffee\r\netag: \"{TAG}-{file}\"\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        SIZE - start
    );
    let head = if first.starts_with("GET") {
        head.replace("200 OK", "206 Partial Content")
    } else {
        head
    };
    connection.write_all(head.as_bytes()).ok()?;
    let mut left = if first.starts_with("GET") {
        SIZE - start
    } else {
        0
    };
    while left > 0 {
        let piece = left.min(20_000);
        connection.write_all(&vec![0; piece]).ok()?;
        left -= piece;
        std::thread::sleep(Duration::from_millis(5));
    }
    Some(())
}

fn with_hub(endpoint: &str, cache: &Path) -> ServerOptions {
    ServerOptions {
        hub: Some(HubSettings {
            endpoint: endpoint.to_owned(),
            cache: cache.to_owned(),
            offline: false,
            token: None,
        }),
        ..options()
    }
}

fn delete(path: &str) -> Request<Body> {
    Request::delete(path).body(Body::empty()).unwrap()
}

async fn nano(router: &Router) -> Value {
    let list = json_of(answer(router, get("/models")).await).await;
    let models = list["models"].as_array().unwrap().iter();
    let mut models = models.filter(|model| model["name"] == "nano");
    models.next().unwrap().clone()
}

/// Polls the model until `there` holds.
async fn until(router: &Router, there: impl Fn(&Value) -> bool) -> Value {
    within(async {
        loop {
            let model = nano(router).await;
            if there(&model) {
                return model;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_offered_fetched_cancelled_and_goes_on() {
    let (hub, cache) = (hub(), tempfile::tempdir().unwrap());
    let router = App::new(with_hub(&hub, cache.path())).router();
    let list = json_of(answer(&router, get("/models")).await).await;
    assert_eq!(
        (&list["model"], &list["downloads"]),
        (&json!("pico"), &json!(true))
    );
    assert!(nano(&router).await["fits"][0]["one_stream_bytes"].as_u64() > Some(1 << 20));

    let path = "/models/nano/download";
    let offer = json_of(answer(&router, get(path)).await).await;
    let total = offer["total_bytes"].as_u64().unwrap();
    assert_eq!(offer["download_bytes"], total);
    assert!(offer["from"].as_str().unwrap().starts_with(&hub));
    assert_eq!(
        answer(&router, delete(path)).await.status(),
        StatusCode::NOT_FOUND
    );

    let begun = answer(&router, post(path, &json!({}))).await;
    assert_eq!(begun.status(), StatusCode::ACCEPTED);
    let other = answer(&router, post("/models/turbo/download", &json!({}))).await;
    assert_eq!(other.status(), StatusCode::CONFLICT, "one at a time");
    let error = json_of(other).await["error"].take();
    assert_eq!(error["code"], "fetching", "{error}");
    let seen = until(&router, |model| {
        model["download"]["received_bytes"].as_u64() > Some(0)
    })
    .await;
    assert_eq!(seen["download"]["total_bytes"], total);
    assert_eq!(answer(&router, delete(path)).await.status(), StatusCode::OK);
    until(&router, |model| model["download"].is_null()).await;

    let rest = json_of(answer(&router, get(path)).await).await;
    assert!(
        rest["download_bytes"].as_u64() < Some(total),
        "what came is kept"
    );
    answer(&router, post(path, &json!({}))).await;
    let here = until(&router, |model| model["here"] == true).await;
    assert_eq!(here["speaks"], false);
    // The files are not a model. The call that chooses it reports this, and the previous model
    // stays.
    let chosen = answer(&router, post("/models/load", &json!({"model": "nano"}))).await;
    assert!(chosen.status().is_server_error() || chosen.status().is_client_error());
    let list = json_of(answer(&router, get("/models")).await).await;
    assert_eq!(list["model"], "pico");
    let again = answer(&router, post("/models/load", &json!({"model": "pico"}))).await;
    assert_eq!(again.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_chosen_or_fetched_is_refused_in_words() {
    let closed = tempfile::tempdir().unwrap();
    let router = App::new(with_hub("http://127.0.0.1:1", closed.path())).router();
    for (request, status, words) in [
        (post("/models/load", &json!({"model": "huge"})), 400, "huge"),
        (post("/models/load", &json!({"model": "nano"})), 400, "nano"),
        (get("/models/huge/download"), 404, "huge"),
        (get("/models/nano/download"), 502, "hub"),
    ] {
        let response = answer(&router, request).await;
        assert_eq!(response.status().as_u16(), status, "{words}");
        let message = json_of(response).await["error"]["message"].to_string();
        assert!(message.contains(words), "{message}");
    }
    answer(&router, post("/models/nano/download", &json!({}))).await;
    let failed = until(&router, |model| model["download"]["error"].is_string()).await;
    assert_eq!(failed["download"]["running"], false);

    let none = App::new(options()).router();
    assert_eq!(
        json_of(answer(&none, get("/models")).await).await["downloads"],
        false
    );
    let refused = answer(&none, post("/models/nano/download", &json!({}))).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_minutes_of_the_memory_are_told() {
    let server = Server::start(options()).await;
    let mut client = server.connect().await;
    let history = within(async {
        loop {
            let history = client.get("/memory/history?minutes=1").await.json();
            if history["at"].as_array().is_some_and(|at| at.len() > 1) {
                return history;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let count = history["at"].as_array().unwrap().len();
    for column in [
        "budget_bytes",
        "reserved_bytes",
        "allocated_bytes",
        "fragmentation",
        "out_of_memory",
        "retries",
    ] {
        assert_eq!(history[column].as_array().unwrap().len(), count, "{column}");
    }
    assert!(history["regions"]["weights"][0].as_u64() > Some(0));
    let latest = history["at"][count - 1].as_f64().unwrap();
    let more = client
        .get(&format!("/memory/history?minutes=1&since={latest}"))
        .await
        .json();
    assert!(more["at"].as_array().unwrap().len() < count);
    for wrong in ["minutes=0", "minutes=61", "minutes=x", "since=x"] {
        assert_eq!(
            client.get(&format!("/memory/history?{wrong}")).await.status,
            400,
            "{wrong}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voice_is_renamed_and_its_aliases_follow() {
    let folder = tempfile::tempdir().unwrap();
    let router = App::new(options_with_voices(ModelConfig::tiny_base(), folder.path())).router();
    for name in ["Ann", "Bob"] {
        assert_eq!(
            answer(&router, form(name, &recording())).await.status(),
            StatusCode::CREATED
        );
    }
    let alias = Request::put("/v1/audio/aliases/reader")
        .header("content-type", "application/json")
        .body(Body::from(r#"{"voice":"Ann"}"#))
        .unwrap();
    assert_eq!(answer(&router, alias).await.status(), StatusCode::OK);
    let rename =
        |from: &str, to: &str| post(&format!("/v1/audio/voices/{from}"), &json!({"name": to}));
    for (from, to, status) in [
        ("Ann", "bob", 400),
        ("Ann", "../x", 400),
        ("Ann", "default", 400),
        ("Ann", "reader", 400),
        ("Cyd", "Dee", 404),
        ("default", "Dee", 404),
    ] {
        let response = answer(&router, rename(from, to)).await;
        assert_eq!(response.status().as_u16(), status, "{from} to {to}");
    }
    let renamed = json_of(answer(&router, rename("Ann", "Anna")).await).await;
    assert_eq!(renamed["id"], "Anna");
    let list = json_of(answer(&router, get("/v1/audio/voices")).await).await;
    assert_eq!(list["uploads"], true);
    let ids: Vec<&str> = (list["voices"].as_array().unwrap().iter())
        .map(|voice| voice["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["default", "Anna", "Bob", "reader"]);
    let body = json!({"input": "Hi.", "voice": "reader", "response_format": "pcm"});
    let spoken = answer(&router, post("/v1/audio/speech", &body)).await;
    assert_eq!(spoken.status(), StatusCode::OK, "the alias follows");
    assert!(!bytes(spoken).await.is_empty());
}
