//! Every driver through one suite, and what is particular to each.

mod common;

use common::driver_conformance::{self, CAPACITY};
use sottovoce_memory::driver::{
    Address, Call, Driver, DriverError, HostDriver, Sealed, SimulatedDriver,
};
use std::time::Duration;

#[test]
fn the_host_driver_conforms() {
    driver_conformance::run(&|| Box::new(HostDriver::new(CAPACITY)));
}

#[test]
fn the_simulated_driver_conforms() {
    driver_conformance::run(&|| Box::new(SimulatedDriver::new(CAPACITY)));
}

#[test]
fn a_simulated_device_without_ranges_conforms() {
    driver_conformance::run(&|| {
        Box::new(SimulatedDriver::new(CAPACITY).without_ranges("the test says so"))
    });
}

#[test]
fn an_open_seal_conforms() {
    driver_conformance::run(&|| Box::new(Sealed::new(HostDriver::new(CAPACITY))));
}

#[test]
fn a_closed_seal_refuses_every_call_and_changes_nothing() {
    let simulated = SimulatedDriver::new(CAPACITY);
    let control = simulated.control();
    let driver = Sealed::new(simulated);
    let piece = driver.allocate(4096).unwrap();
    let range = driver.reserve(4 << 20, 2 << 20).unwrap();
    driver.map(range, 2 << 20).unwrap();
    let (calls, memory) = (control.call_count(), driver.memory());
    driver.seal().close();
    let refused = [
        driver.allocate(1).err(),
        driver.free(piece).err(),
        driver.reserve(4 << 20, 2 << 20).err(),
        driver.release(range).err(),
        driver.map(range.offset(2 << 20), 2 << 20).err(),
        driver.unmap(range, 2 << 20).err(),
    ];
    for (error, call) in refused
        .into_iter()
        .zip(["allocate", "free", "reserve", "release", "map", "unmap"])
    {
        assert_eq!(
            error,
            Some(DriverError::Sealed { call }),
            "{call} must be refused"
        );
    }
    assert_eq!(
        (control.call_count(), driver.memory()),
        (calls, memory),
        "no call came through"
    );
    driver.seal().open();
    driver.free(piece).expect("an open seal lets calls pass");
}

#[test]
fn the_simulated_driver_counts_calls_and_their_time() {
    let driver = SimulatedDriver::new(CAPACITY)
        .with_latency(Call::Allocate, Duration::from_micros(100))
        .with_latency(Call::Free, Duration::from_micros(7));
    let control = driver.control();
    for _ in 0..3 {
        let piece = driver.allocate(1 << 20).unwrap();
        driver.free(piece).unwrap();
    }
    assert_eq!(
        (
            control.calls(Call::Allocate),
            control.calls(Call::Free),
            control.calls(Call::Map)
        ),
        (3, 3, 0)
    );
    assert_eq!(control.call_count(), 6);
    assert_eq!(control.time(), Duration::from_micros(321));
}

#[test]
fn a_scripted_call_fails_once() {
    let driver = SimulatedDriver::new(CAPACITY);
    driver.control().fail_call(1);
    let first = driver.allocate(1 << 20).unwrap();
    assert!(
        matches!(
            driver.allocate(1 << 20),
            Err(DriverError::OutOfMemory { .. })
        ),
        "the second call fails"
    );
    assert!(driver.allocate(1 << 20).is_ok(), "the third does not");
    driver.control().fail_call(0);
    assert!(driver.free(first).is_err());
    driver.free(first).expect("a failed free changed nothing");
}

#[test]
fn a_device_can_shrink_and_another_process_can_take_its_memory() {
    let driver = SimulatedDriver::new(CAPACITY);
    let control = driver.control();
    let piece = driver.allocate(CAPACITY / 2).unwrap();
    control.take(CAPACITY / 2);
    assert_eq!(driver.memory().free, 0);
    assert!(
        driver.allocate(1).is_err(),
        "what another process took is not to be had"
    );
    control.take(0);
    control.set_capacity(CAPACITY / 4);
    assert_eq!(
        driver.memory().free,
        0,
        "a device that shrank below its use has nothing free"
    );
    driver.free(piece).unwrap();
    assert_eq!(driver.memory().free, CAPACITY / 4);
}

#[test]
fn simulated_addresses_grow_downwards_and_fill_gaps_from_above() {
    let driver = SimulatedDriver::new(CAPACITY);
    let mib = |address: Address| address.0 >> 20;
    let [first, second, third] = [20, 12, 2].map(|size| driver.allocate(size << 20).unwrap());
    assert_eq!(
        (mib(first) - mib(second), mib(second) - mib(third)),
        (14, 4),
        "each lies 2 MiB below the one before"
    );
    driver.free(second).unwrap();
    let again = driver.allocate(10 << 20).unwrap();
    assert_eq!(
        mib(first) - mib(again),
        12,
        "a gap with room is filled at its top"
    );
}

#[cfg(all(target_os = "linux", not(miri)))]
mod linux {
    use super::*;

    /// Bytes mapped writable in this process whose maps begin within `range`.
    fn writable_bytes(within: std::ops::Range<u64>) -> u64 {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let hexadecimal = |text: &str| u64::from_str_radix(text, 16).unwrap();
        (maps.lines())
            .filter_map(|line| {
                let (span, rest) = line.split_once(' ')?;
                let (start, end) = span.split_once('-')?;
                let (start, end) = (
                    hexadecimal(start).max(within.start),
                    hexadecimal(end).min(within.end),
                );
                (rest.starts_with("rw") && start < end).then(|| end - start)
            })
            .sum()
    }

    /// Resident bytes of this process.
    fn resident_bytes() -> u64 {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            * 4096
    }

    #[test]
    fn the_systems_maps_agree_with_what_is_mapped() {
        let driver = HostDriver::new(CAPACITY);
        let unit = 2 << 20;
        let range = driver.reserve(32 * unit, unit).unwrap();
        let span = range.0..range.0 + 32 * unit;
        assert_eq!(
            writable_bytes(span.clone()),
            0,
            "a range alone is not memory"
        );
        driver.map(range.offset(unit), 5 * unit).unwrap();
        assert_eq!(writable_bytes(span.clone()), 5 * unit);
        driver.unmap(range.offset(2 * unit), 2 * unit).unwrap();
        assert_eq!(writable_bytes(span.clone()), 3 * unit);
        drop(driver);
        assert_eq!(
            writable_bytes(span),
            0,
            "a driver that is gone holds nothing"
        );
    }

    #[test]
    fn what_is_unmapped_or_freed_is_resident_no_longer() {
        use sottovoce_memory::{Memory, Owner, PoolConfiguration, Region};
        for configuration in ["", "expandable_segments:True"] {
            let configuration = PoolConfiguration::parse(configuration).unwrap();
            let memory = Memory::with_driver(Box::new(HostDriver::new(CAPACITY)), configuration);
            let before = resident_bytes();
            let mut block = memory
                .allocate(128 << 20, Owner::new(Region::Workspace, "test"))
                .unwrap();
            block.bytes_mut().fill(1);
            let during = resident_bytes();
            assert!(
                during >= before + (120 << 20),
                "written memory is resident: {before} → {during}"
            );
            drop(block);
            memory.trim();
            let after = resident_bytes();
            // Other tests run in this process too; they use far less than what is watched here.
            assert!(
                after <= during - (100 << 20),
                "memory given back is resident no longer: {during} → {after}"
            );
        }
    }
}
