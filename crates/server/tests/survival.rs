//! A server whose engine dies under load: callers are told, the model is loaded again, and health
//! checks report the state.

mod common;
#[path = "../../sottovoce/tests/trap/mod.rs"]
mod trap;

use common::{Client, Server, options, within};
use serde_json::{Value, json};
use sottovoce::{Engine, Error, ModelConfig, Source};
use sottovoce_server::{EngineLoader, Limits, ServerOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use trap::{Trap, Trigger};

/// A server over the trap's memory. Loading fails after the first `working` models.
async fn server(trap: &Trap, working: usize) -> Server {
    let (trap, loads) = (trap.clone(), Arc::new(AtomicUsize::new(0)));
    let loader = EngineLoader::new(move |source, options| {
        if loads.fetch_add(1, Ordering::AcqRel) >= working {
            return Err(Error::Stopped);
        }
        Engine::load_in(trap.memory(), source, options)
    });
    // Sentences exceed their likely length, so that the driver is called while they are spoken.
    let mut config = ModelConfig::tiny_base();
    config.t3.sampling.token_count_max = 400;
    Server::start(ServerOptions {
        source: Source::Random(Box::new(config)),
        loader,
        limits: Limits {
            broken_time: Duration::from_millis(200),
            ..Limits::default()
        },
        ..options()
    })
    .await
}

fn story() -> Value {
    json!({"input": "This is a long story about nothing at all. ".repeat(50), "response_format": "pcm"})
}

/// Two callers hear the beginning of their texts; then the engine dies.
async fn kill(server: &Server, trap: &Trap) {
    let mut callers: Vec<Client> = Vec::new();
    for _ in 0..2 {
        let mut caller = server.connect().await;
        caller.send_post("/v1/audio/speech", &story()).await;
        assert_eq!(caller.head().await.unwrap().0, 200);
        assert!(!caller.piece().await.unwrap().is_empty());
        callers.push(caller);
    }
    trap.arm(Trigger::Kill);
    for mut caller in callers {
        while let Some(piece) = caller.piece().await {
            assert!(!piece.is_empty(), "what was cut off must not look whole");
        }
    }
    assert!(trap.is_sprung());
}

async fn until(server: &Server, path: &str, status: u16) {
    within(async {
        while server.get(path).await.status != status {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_dies_under_load_is_loaded_again() {
    let trap = Trap::default();
    let server = server(&trap, 10).await;
    for loads in 2..4 {
        kill(&server, &trap).await;
        until(&server, "/health/ready", 200).await;
        within(async {
            while server.memory().await["loads"] != loads {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        assert_eq!(server.get("/health/live").await.status, 200);
        let mut caller = server.connect().await;
        caller.send_post("/v1/audio/speech", &story()).await;
        assert_eq!(caller.head().await.unwrap().0, 200, "it speaks again");
        assert!(!caller.piece().await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_be_loaded_again_is_told_by_both_probes() {
    let trap = Trap::default();
    let server = server(&trap, 1).await;
    assert_eq!(server.get("/health/ready").await.status, 200);
    kill(&server, &trap).await;
    until(&server, "/health/ready", 503).await;
    assert_eq!(server.get("/health/ready").await.json()["status"], "broken");
    until(&server, "/health/live", 503).await;
    let refused = server.post("/v1/audio/speech", &story()).await;
    assert_eq!(refused.status, 503);
}
