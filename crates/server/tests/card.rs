//! A server on a CUDA card that is lost while it speaks: the caller is told, and the model is
//! loaded again on the same card.

#![cfg(target_os = "linux")]

mod common;

use common::{Server, options, within};
use cuda_stand_in::client::StandIn;
use serde_json::{Value, json};
use sottovoce::{DeviceChoice, EngineOptions, ModelConfig, PrecisionChoice, Source};
use sottovoce_server::ServerOptions;
use std::time::Duration;

fn speech(words: &str) -> Value {
    json!({"input": words, "response_format": "pcm", "seed": 1, "flow_steps": 1, "chunk_size": 10, "context_window": 10})
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_card_was_lost_in_mid_sentence_the_model_is_loaded_again_and_speaks_the_same() {
    let card = StandIn::new(0, "memory=1073741824");
    let mut config = ModelConfig::tiny_base();
    config.t3.sampling.token_count_max = 20;
    config.voice.prompt.flow_seconds_max = 0.2;
    let server = Server::start(ServerOptions {
        source: Source::Random(Box::new(config)),
        engine: EngineOptions {
            device: DeviceChoice::Cuda(card.ordinal()),
            precision: PrecisionChoice::F16,
            chunk_tokens_max: Some(10),
            context_tokens_max: 10,
            threads: Some(1),
            streams_max: 2,
            ..EngineOptions::default()
        },
        ..options()
    })
    .await;
    let before = server.post("/v1/audio/speech", &speech("Go.")).await;
    assert!(
        before.status == 200 && before.whole,
        "{}",
        String::from_utf8_lossy(&before.body)
    );
    // A kernel that faults, and a card that falls off.
    for loss in ["fault=40", "lost=60"] {
        card.set(loss);
        let lost = server.post("/v1/audio/speech", &speech("Go on.")).await;
        assert!(lost.status >= 500 || !lost.whole, "{loss}: {}", lost.status);
        card.set("fault=none lost=none");
        within(async {
            while server.get("/health/ready").await.status != 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let after = server.post("/v1/audio/speech", &speech("Go.")).await;
        assert!(
            after.status == 200 && after.whole,
            "{loss}: {}",
            after.status
        );
        assert!(after.body == before.body, "{loss}: the same samples");
    }
}
