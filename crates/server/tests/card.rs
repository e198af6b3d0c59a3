//! A server on a CUDA card that is lost while it speaks: the caller is told, and the model is
//! loaded again on the same card.

#![cfg(target_os = "linux")]

mod common;

use common::{Answer, Server, options, within};
use cuda_stand_in::client::StandIn;
use futures_util::future::join_all;
use serde_json::{Value, json};
use sottovoce::{DeviceChoice, EngineOptions, ModelConfig, PrecisionChoice, Source};
use sottovoce_server::ServerOptions;
use std::time::Duration;

fn speech(words: &str) -> Value {
    json!({"input": words, "response_format": "pcm", "seed": 1, "flow_steps": 1, "chunk_size": 10, "context_window": 10})
}

/// A server of a very small model on a card.
async fn serve(card: StandIn, streams_max: usize) -> Server {
    let mut config = ModelConfig::tiny_base();
    config.t3.sampling.token_count_max = 20;
    config.voice.prompt.flow_seconds_max = 0.2;
    Server::start(ServerOptions {
        source: Source::Random(Box::new(config)),
        engine: EngineOptions {
            device: DeviceChoice::Cuda(card.ordinal()),
            precision: PrecisionChoice::F16,
            chunk_tokens_max: Some(10),
            context_tokens_max: 10,
            threads: Some(1),
            streams_max,
            ..EngineOptions::default()
        },
        ..options()
    })
    .await
}

async fn becomes_ready(server: &Server) {
    within(async {
        while server.get("/health/ready").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Whether an answer has all of its sound.
fn is_whole(answer: &Answer) -> bool {
    answer.status == 200 && answer.whole
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_card_was_lost_in_mid_sentence_the_model_is_loaded_again_and_speaks_the_same() {
    let card = StandIn::new(0, "memory=1073741824");
    let server = serve(card, 2).await;
    let before = server.post("/v1/audio/speech", &speech("Go.")).await;
    assert!(
        is_whole(&before),
        "{}",
        String::from_utf8_lossy(&before.body)
    );
    // A kernel that faults, and a card that falls off.
    for loss in ["fault=40", "lost=60"] {
        card.set(loss);
        let lost = server.post("/v1/audio/speech", &speech("Go on.")).await;
        assert!(lost.status >= 500 || !lost.whole, "{loss}: {}", lost.status);
        card.set("fault=none lost=none");
        becomes_ready(&server).await;
        let after = server.post("/v1/audio/speech", &speech("Go.")).await;
        assert!(is_whole(&after), "{loss}: {}", after.status);
        assert!(after.body == before.body, "{loss}: the same samples");
    }
}

/// More callers at once than the card has streams for, some of whom hang up.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_on_a_card_that_fails_leaves_nothing_on_it_and_the_next_caller_hears_the_same() {
    let card = StandIn::new(1, "memory=1073741824");
    let server = &serve(card, 3).await;
    let alone = server.post("/v1/audio/speech", &speech("Go.")).await;
    assert!(is_whole(&alone));
    let at_rest = server.at_rest().await;
    let mut told = 0;
    for failure in [
        "fault=60",
        "fail=cuMemcpyDtoHAsync:9:999",
        "fail=cuMemMap:2:2",
    ] {
        card.set(failure);
        let callers = (0..8).map(|caller| async move {
            let mut client = server.connect().await;
            client.send_post("/v1/audio/speech", &speech("Go.")).await;
            match caller % 4 {
                0 => None,
                _ => Some(client.answer().await),
            }
        });
        for answer in join_all(callers).await.iter().flatten() {
            let heard = is_whole(answer) && answer.body == alone.body;
            let failed = answer.status >= 500 || !answer.whole;
            assert!(heard || failed, "{failure}: {}", answer.status);
            told += u32::from(failed);
        }
        card.set("fault=none fail=none");
        becomes_ready(server).await;
        let after = server.post("/v1/audio/speech", &speech("Go.")).await;
        assert!(is_whole(&after) && after.body == alone.body, "{failure}");
        assert_eq!(server.at_rest().await, at_rest, "{failure}");
        let engine = &server.memory().await["engine"];
        let bytes = |name: &str| engine[name].as_u64().unwrap();
        let ledger = bytes("reserved_bytes") + bytes("driver_bytes");
        assert_eq!(ledger, card.count("used"), "{failure}");
        assert_eq!(card.count("misuses"), 0, "{failure}");
    }
    assert!(told > 0, "somebody was told of a failure");
}
