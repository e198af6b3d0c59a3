//! The CUDA driver over a stand-in for NVIDIA's library, which the tests compile themselves and which refuses what the real one
//! would.

#![cfg(target_os = "linux")]

mod common;
mod cuda_stand_in;

use common::driver_conformance::{self, CAPACITY};
use sottovoce_memory::driver::cuda::{CudaDriver, CudaError};
use sottovoce_memory::driver::{Driver, DriverError, SimulatedDriver};
use sottovoce_memory::trace::Reader;
use sottovoce_memory::trace::replay::Replay;
use sottovoce_memory::{Memory, OutOfMemoryKind, Owner, PoolConfiguration, Region};
use std::ffi::{CString, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::LazyLock;

/// The stand-in's handle, as a number that threads can share. The driver finds the library by name once it is loaded.
static LIBRARY: LazyLock<usize> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(std::process::id().to_string());
    std::fs::create_dir_all(&folder).unwrap();
    let library = cuda_stand_in::compile(&folder, &[]);
    let path = CString::new(library.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path ends with a zero; the library's initialisers are the Rust runtime's.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    assert!(!handle.is_null(), "the stand-in loads");
    std::fs::remove_dir_all(&folder).unwrap();
    handle as usize
});

fn symbol(name: &str) -> *mut c_void {
    let name = CString::new(name).unwrap();
    // SAFETY: the handle is that of a loaded library, and the name ends with a zero.
    let address = unsafe { libc::dlsym(*LIBRARY as *mut c_void, name.as_ptr()) };
    assert!(!address.is_null(), "the stand-in has {name:?}");
    address
}

/// One device of the stand-in. Every test has its own, since they run at once.
#[derive(Clone, Copy)]
struct StandIn {
    ordinal: u32,
}

impl StandIn {
    /// A fresh device of `capacity` bytes.
    fn new(ordinal: u32, capacity: u64, ranges: bool) -> StandIn {
        // SAFETY: the stand-in defines the function so.
        let configure: extern "C" fn(c_int, u64, c_int) =
            unsafe { std::mem::transmute(symbol("stand_in_configure")) };
        configure(ordinal as c_int, capacity, c_int::from(ranges));
        StandIn { ordinal }
    }

    fn open(self) -> CudaDriver {
        CudaDriver::open(self.ordinal, None).expect("the stand-in has this device")
    }

    /// Lets a coming call fail: 0 is the next one.
    fn fail_call(self, calls_ahead: u64) {
        // SAFETY: the stand-in defines the function so.
        let fail: extern "C" fn(c_int, u64) =
            unsafe { std::mem::transmute(symbol("stand_in_fail_call")) };
        fail(self.ordinal as c_int, calls_ahead);
    }

    /// Lets no call fail; whether one was still to come.
    fn fail_none(self) -> bool {
        // SAFETY: the stand-in defines the function so.
        let fail: extern "C" fn(c_int) -> c_int =
            unsafe { std::mem::transmute(symbol("stand_in_fail_none")) };
        fail(self.ordinal as c_int) != 0
    }

    fn count(self, name: &str) -> u64 {
        // SAFETY: the stand-in defines both functions that are asked for so.
        let count: extern "C" fn(c_int) -> u64 = unsafe { std::mem::transmute(symbol(name)) };
        count(self.ordinal as c_int)
    }

    /// Nothing is left on the device, and nothing impossible was asked of it.
    fn expect_clean(self, when: &str) {
        assert_eq!(self.count("stand_in_held"), 0, "{when}: nothing is held");
        assert_eq!(
            self.count("stand_in_misuses"),
            0,
            "{when}: every call was one that a driver can obey"
        );
    }
}

#[test]
fn the_cuda_driver_conforms() {
    let device = StandIn::new(0, CAPACITY, true);
    driver_conformance::run(&|| Box::new(device.open()));
    device.expect_clean("after the suite");
}

#[test]
fn a_cuda_device_without_ranges_conforms() {
    let device = StandIn::new(1, CAPACITY, false);
    driver_conformance::run(&|| Box::new(device.open()));
    device.expect_clean("after the suite");
}

#[test]
fn a_device_says_what_it_is_and_a_missing_one_how_many_there_are() {
    let device = StandIn::new(2, CAPACITY, false);
    let driver = device.open();
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
                count: 16
            })
        ),
        "{missing:?}"
    );
}

#[test]
fn a_capacity_below_the_devices_is_kept() {
    let device = StandIn::new(3, CAPACITY, true);
    let driver = CudaDriver::open(device.ordinal, Some(CAPACITY / 4)).unwrap();
    assert_eq!(driver.memory().free, CAPACITY / 4);
    let result = driver.allocate(CAPACITY / 2);
    assert!(
        matches!(result, Err(DriverError::OutOfMemory { total, .. }) if total == CAPACITY / 4),
        "{result:?}"
    );
}

#[test]
fn a_dropped_driver_leaves_nothing_behind() {
    let device = StandIn::new(4, CAPACITY, true);
    let driver = device.open();
    let unit = 2 << 20;
    driver.allocate(3 << 20).unwrap();
    let range = driver.reserve(16 * unit, unit).unwrap();
    driver.map(range.offset(unit), 5 * unit).unwrap();
    driver.unmap(range.offset(2 * unit), unit).unwrap();
    drop(driver);
    device.expect_clean("after the drop");
}

/// Grows, frees, trims and takes exact pieces; what fails is skipped.
fn exercise(memory: &Memory) {
    let owner = Owner::new(Region::Workspace, "test");
    let mut blocks = Vec::new();
    for bytes in [100, 3 << 20, 12 << 20, 40 << 20, 700 << 10, 25 << 20] {
        blocks.extend(memory.allocate(bytes, owner));
    }
    blocks.extend(memory.reserve_exact(5 << 20, owner));
    // Every second one goes, so that emptying finds free stretches between used ones.
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
            let device = StandIn::new(ordinal, CAPACITY, true);
            device.fail_call(calls);
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
            // The fault is over: everything works again.
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
        let device = StandIn::new(7, device_bytes, true);
        let Some(on_cuda) = figures(Box::new(device.open())) else {
            continue;
        };
        let simulated = figures(Box::new(SimulatedDriver::new(device_bytes)));
        assert_eq!(Some(on_cuda), simulated, "{}, {}", cells[0], cells[1]);
        device.expect_clean(cells[0]);
        compared += 1;
    }
    assert!(compared > 50, "{compared} rows were compared");
}
