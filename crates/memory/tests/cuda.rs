//! The CUDA driver over a stand-in for NVIDIA's library, which the tests compile themselves and
//! which refuses what the real one would.

#![cfg(target_os = "linux")]

mod common;

use common::driver_conformance::{self, CAPACITY};
use cuda_stand_in::client::{self, StandIn};
use sottovoce_memory::driver::cuda::{CudaDriver, CudaError, devices};
use sottovoce_memory::driver::{Driver, DriverError, SimulatedDriver};
use sottovoce_memory::trace::Reader;
use sottovoce_memory::trace::replay::Replay;
use sottovoce_memory::{Memory, OutOfMemoryKind, Owner, PoolConfiguration, Region};
use std::path::Path;

/// A fresh device of `capacity` bytes. Every test has its own, because tests run concurrently.
fn device(ordinal: u32, capacity: u64, ranges: bool) -> StandIn {
    let ranges = if ranges { "on" } else { "off" };
    StandIn::new(ordinal, &format!("memory={capacity} ranges={ranges}"))
}

fn open(device: StandIn) -> CudaDriver {
    CudaDriver::open(device.ordinal(), None).expect("the stand-in has this device")
}

#[test]
fn the_cuda_driver_conforms() {
    let device = device(0, CAPACITY, true);
    driver_conformance::run(&|| Box::new(open(device)));
    device.expect_clean("after the suite");
}

#[test]
fn a_cuda_device_without_ranges_conforms() {
    let device = device(1, CAPACITY, false);
    driver_conformance::run(&|| Box::new(open(device)));
    device.expect_clean("after the suite");
}

#[test]
fn a_device_describes_itself_and_a_missing_one_names_the_number_of_devices() {
    let device = device(2, CAPACITY, false);
    let driver = open(device);
    let piece = driver.allocate(30 << 20).unwrap();
    let found = driver.device();
    assert_eq!(found.name, "Stand-in GPU");
    assert_eq!(
        (found.total_bytes, found.free_bytes),
        (CAPACITY, CAPACITY - (30 << 20))
    );
    assert!(
        found
            .ranges_off
            .is_some_and(|reason| reason.contains("virtual memory management")),
        "{found:?}"
    );
    driver.free(piece).unwrap();
    let missing = CudaDriver::open(99, None).err();
    assert!(
        matches!(
            missing,
            Some(CudaError::NoDevice {
                ordinal: 99,
                count: StandIn::DEVICES
            })
        ),
        "{missing:?}"
    );
}

#[test]
fn a_capacity_below_the_devices_is_respected() {
    let device = device(3, CAPACITY, true);
    let driver = CudaDriver::open(device.ordinal(), Some(CAPACITY / 4)).unwrap();
    assert_eq!(driver.memory().free, CAPACITY / 4);
    let result = driver.allocate(CAPACITY / 2);
    assert!(
        matches!(result, Err(DriverError::OutOfMemory { total, .. }) if total == CAPACITY / 4),
        "{result:?}"
    );
}

#[test]
fn a_dropped_driver_leaves_nothing_behind() {
    let device = device(4, CAPACITY, true);
    let driver = open(device);
    let unit = 2 << 20;
    driver.allocate(3 << 20).unwrap();
    let range = driver.reserve(16 * unit, unit).unwrap();
    driver.map(range.offset(unit), 5 * unit).unwrap();
    driver.unmap(range.offset(2 * unit), unit).unwrap();
    drop(driver);
    device.expect_clean("after the drop");
}

/// Grows, frees, trims and allocates exact pieces; failures are skipped.
fn exercise(memory: &Memory) {
    let owner = Owner::new(Region::Workspace, "test");
    let mut blocks = Vec::new();
    for bytes in [100, 3 << 20, 12 << 20, 40 << 20, 700 << 10, 25 << 20] {
        blocks.extend(memory.allocate(bytes, owner));
    }
    blocks.extend(memory.reserve_exact(5 << 20, owner));
    // Frees every second one, so that emptying finds free parts between used ones.
    let mut place = 0;
    blocks.retain(|_| {
        place += 1;
        place % 2 == 0
    });
    memory.trim();
    blocks.extend(memory.allocate(60 << 20, owner));
    if let Err(error) = memory.allocate(1 << 40, owner) {
        assert_eq!(error.kind, OutOfMemoryKind::NeverFits);
    }
    drop(blocks);
    memory.trim();
}

#[test]
fn a_fault_at_every_driver_call_in_turn_leaks_nothing_and_breaks_nothing() {
    for (ordinal, configuration) in [(5, ""), (6, "expandable_segments:True")] {
        let mut calls = 0;
        loop {
            let device = device(ordinal, CAPACITY, true);
            device.set(&format!("fail=any:{calls}"));
            let when = format!("{configuration:?}, call {calls} fails");
            let Ok(driver) = CudaDriver::open(ordinal, None) else {
                device.expect_clean(&when);
                calls += 1;
                continue;
            };
            let configuration = PoolConfiguration::parse(configuration).unwrap();
            let memory = Memory::with_driver(Box::new(driver), configuration);
            exercise(&memory);
            memory
                .check()
                .unwrap_or_else(|broken| panic!("{when}: {broken}"));
            let all_came = device.fail_none();
            // After the fault, everything works again.
            exercise(&memory);
            memory
                .check()
                .unwrap_or_else(|broken| panic!("{when}: {broken}"));
            let statistics = memory.statistics();
            assert_eq!(statistics.held_bytes(), 0, "{when}: trimmed");
            drop(memory);
            device.expect_clean(&when);
            if all_came {
                break;
            }
            calls += 1;
        }
        assert!(calls > 40, "the run has many calls: {calls}");
    }
}

#[test]
fn a_replay_gives_the_same_figures_as_on_the_simulated_device() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/allocator_cases");
    let table = std::fs::read_to_string(folder.join("cases.tsv")).unwrap();
    let mut compared = 0;
    for line in table.lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let path = folder.join(cells[0]);
        let text = if cells[1] == "default" { "" } else { cells[1] };
        let device_bytes: u64 = cells[2].parse().unwrap();
        let figures = |driver: Box<dyn Driver>| {
            let configuration = PoolConfiguration::parse(text).unwrap();
            let mut replay = Replay::new(driver, configuration, cells[4].parse().ok());
            // One of the traces has lines that only the table's own reader knows.
            replay.run_events(Reader::open(&path).ok()?).ok()?;
            let mut report = replay.report();
            report.ns_per_event = 0.0;
            Some(serde_json::to_value(report).unwrap())
        };
        let device = device(7, device_bytes, true);
        let Some(on_cuda) = figures(Box::new(open(device))) else {
            continue;
        };
        let simulated = figures(Box::new(SimulatedDriver::new(device_bytes)));
        assert_eq!(Some(on_cuda), simulated, "{}, {}", cells[0], cells[1]);
        device.expect_clean(cells[0]);
        compared += 1;
    }
    assert!(compared > 50, "{compared} rows were compared");
}

#[test]
fn what_keeps_the_program_from_a_card_is_told_with_what_to_do() {
    for (status, words) in [
        (46, "nvidia-smi -q -d COMPUTE"),
        (802, "fabric manager"),
        (804, "compatibility library"),
        (807, "MPS"),
    ] {
        let device = device(8, CAPACITY, true);
        device.set(&format!("fail=cuDevicePrimaryCtxRetain:0:{status}"));
        let refused = CudaDriver::open(8, None).err().expect("it is refused");
        assert!(
            matches!(refused, CudaError::Unavailable { .. }),
            "{refused}"
        );
        let text = refused.to_string();
        assert!(text.contains(words) && text.contains("Retain"), "{text}");
        device.expect_clean(&text);
    }
}

/// Runs in a process of its own: all devices are opened.
#[test]
fn a_card_that_cannot_be_used_hides_no_other() {
    if client::child_argument().is_none() {
        return client::run_in_child("a_card_that_cannot_be_used_hides_no_other", "", None);
    }
    device(0, CAPACITY, true).set("fail=cuDevicePrimaryCtxRetain:0:46");
    let found = devices().unwrap();
    assert!(found[0].is_err() && found.len() > 1, "{:?}", found[0]);
    for (ordinal, device) in found.iter().enumerate().skip(1) {
        let known = device.as_ref().map(|device| device.ordinal as usize);
        assert_eq!(known, Ok(ordinal));
    }
}
