//! Loading a model on a CUDA device needs little host memory: weights go from the file to the
//! device through two pinned halves, without a full copy on the host. A separate test, because its
//! allocator counts for the whole process.

#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "what only other tests use")]
mod common;

use cuda_stand_in::client::StandIn;
use sottovoce::{DeviceChoice, Engine, EngineOptions, PrecisionChoice, Source};
use sottovoce_chatterbox::convert::convert_model;
use sottovoce_chatterbox::weights::WeightSource;
use sottovoce_tensor::Precision;
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most host memory of loading, excluding the file's own pages.
const HOST_BYTES_MAX: u64 = 64 << 20;
/// Pinned memory during loading: the loader's two halves and the device's own ring.
const PINNED_BYTES_MAX: u64 = (8 << 20) + (9 << 18);

/// The system's allocator, with a counter.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller upholds the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the pointer came from `alloc`, and so from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Loads a folder on a device; returns the heap's largest growth meanwhile.
fn load(folder: &Path, precision: PrecisionChoice) -> u64 {
    let device = StandIn::new(0, "memory=1073741824");
    let options = EngineOptions {
        device: DeviceChoice::Cuda(0),
        precision,
        threads: Some(1),
        streams_max: 1,
        ..EngineOptions::default()
    };
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let engine = Engine::load(Source::Directory(folder.to_owned()), options).unwrap();
    let heap = (PEAK.load(Ordering::Relaxed) - before) as u64;
    let pinned = device.count("pinned_peak");
    assert!(pinned <= PINNED_BYTES_MAX, "{pinned} bytes were pinned");
    assert!(
        device.count("pinned") < pinned,
        "the loader's halves were given back"
    );
    assert_eq!(
        device.count("cuMemcpyHtoD"),
        0,
        "weights are copied while the next ones are made ready"
    );
    let host = engine.memory_report().host.unwrap();
    let own = host.reserved_peak_bytes - host.owners.iter().map(pinned_bytes).sum::<u64>();
    drop(engine);
    device.expect_clean("after the engine");
    heap + pinned + own
}

fn pinned_bytes(owner: &sottovoce::OwnerBytes) -> u64 {
    if owner.tag == "pinned" {
        owner.bytes
    } else {
        0
    }
}

#[test]
fn a_models_weights_are_never_on_the_host_as_a_whole() {
    let mut config = common::config();
    let backbone = &mut config.t3.backbone;
    (backbone.hidden, backbone.layers, backbone.feed_forward) = (512, 4, 2048);
    (backbone.heads, backbone.head_size) = (8, 64);
    let (official, converted) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    common::write_model(official.path(), &config);
    let weights = std::fs::metadata(official.path().join(common::T3_FILE)).unwrap();
    assert!(weights.len() > HOST_BYTES_MAX, "{} bytes", weights.len());
    let source = WeightSource::open(official.path()).unwrap();
    convert_model(&source, converted.path(), Precision::F32).unwrap();
    drop(source);
    for (folder, precision) in [
        (&official, PrecisionChoice::F32),
        (&official, PrecisionChoice::Int8),
        (&converted, PrecisionChoice::F32),
    ] {
        let bytes = load(folder.path(), precision);
        println!("{precision}: {bytes} bytes of the host at the peak");
        assert!(bytes <= HOST_BYTES_MAX, "{precision}: {bytes} bytes");
    }
}
