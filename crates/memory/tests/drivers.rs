//! Every driver through one conformance suite, and the particulars of each.

mod common;

use common::driver_conformance::{self, CAPACITY};
use sottovoce_memory::driver::{
    Address, Call, DeviceMemory, Driver, DriverError, FaultScript, HostDriver, Scripted, Sealed,
    SimulatedDriver,
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
fn a_simulated_device_with_bytes_conforms() {
    driver_conformance::run(&|| Box::new(SimulatedDriver::new(CAPACITY).with_bytes()));
}

#[test]
fn a_simulated_device_with_hidden_bytes_conforms() {
    driver_conformance::run(&|| Box::new(SimulatedDriver::new(CAPACITY).with_hidden_bytes()));
}

#[test]
fn hidden_bytes_are_accessible_through_the_driver_only() {
    let driver = SimulatedDriver::new(CAPACITY).with_hidden_bytes();
    assert!(!driver.capabilities().host_accessible);
    let piece = driver.allocate(1 << 20).unwrap();
    let mut read = [0; 3];
    // SAFETY: the driver refuses bytes outside of its pieces; nobody else uses this driver.
    let results = unsafe {
        [
            driver.write(&[1, 2, 3], piece.offset(100)),
            driver.read(piece.offset(100), &mut read),
            driver.write(&[0; 8], piece.offset((1 << 20) - 4)),
            driver.read(Address(piece.0 - 1), &mut [0; 2]),
        ]
    };
    assert_eq!(read, [1, 2, 3]);
    assert!(results[..2].iter().all(Result::is_ok), "{results:?}");
    for result in &results[2..] {
        assert!(
            matches!(result, Err(DriverError::Misuse { .. })),
            "{result:?}"
        );
    }
}

#[test]
fn a_simulated_device_without_ranges_conforms() {
    driver_conformance::run(&|| {
        Box::new(SimulatedDriver::new(CAPACITY).without_ranges("the test says so"))
    });
}

#[test]
fn an_unsealed_driver_conforms() {
    driver_conformance::run(&|| Box::new(Sealed::new(HostDriver::new(CAPACITY))));
}

#[test]
fn a_sealed_driver_refuses_every_call_and_changes_nothing() {
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
fn the_simulated_driver_counts_calls_and_latency() {
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

/// Runs a scripted test on the simulated device, and on another driver.
fn scripted(test: impl Fn(&dyn Driver, &FaultScript)) {
    let simulated = SimulatedDriver::new(CAPACITY);
    test(&simulated, &simulated.control());
    let host = Scripted::new(HostDriver::new(CAPACITY));
    test(&host, &host.script());
    let over_simulated = Scripted::new(SimulatedDriver::new(CAPACITY));
    test(&over_simulated, &over_simulated.script());
}

#[test]
fn a_scripted_call_fails_once_on_any_driver() {
    scripted(|driver, script| {
        script.fail_call(1);
        let first = driver.allocate(1 << 20).unwrap();
        let second = driver.allocate(1 << 20);
        assert!(
            matches!(second, Err(DriverError::OutOfMemory { .. })),
            "the second call fails"
        );
        assert!(driver.allocate(1 << 20).is_ok(), "the third does not");
        script.fail_call(0);
        assert!(driver.free(first).is_err());
        driver.free(first).expect("a failed free changed nothing");
        script.fail_acquiring_call(3);
        assert_eq!((script.call_count(), script.acquiring_calls()), (5, 3));
        assert!(driver.allocate(1 << 20).is_err(), "the fourth that asks");
        assert_eq!(script.calls(Call::Allocate), 4);
    });
}

#[test]
fn requests_fail_from_a_call_on_until_the_script_says_otherwise() {
    scripted(|driver, script| {
        let before = script.acquiring_calls();
        script.fail_acquiring_calls_from(Some(before + 1));
        let piece = driver.allocate(4096).unwrap();
        for _ in 0..3 {
            assert!(driver.allocate(4096).is_err());
        }
        driver.free(piece).unwrap();
        script.fail_acquiring_calls_from(None);
        driver.allocate(4096).unwrap();
    });
}

#[test]
fn a_shrunk_piece_frees_its_tail_and_keeps_its_start() {
    let host = HostDriver::new(CAPACITY);
    let simulated = SimulatedDriver::new(CAPACITY);
    let with_bytes = SimulatedDriver::new(CAPACITY).with_bytes();
    let drivers: [&dyn Driver; 3] = [&host, &simulated, &with_bytes];
    for driver in drivers {
        let unit = driver.capabilities().granularity;
        let piece = driver.allocate(4 * unit).unwrap();
        driver.shrink(piece, unit).unwrap();
        assert_eq!(driver.memory().free, CAPACITY - unit, "{}", driver.name());
        for (address, bytes) in [(piece, 2 * unit), (piece, 0), (piece.offset(unit), unit)] {
            let refused = driver.shrink(address, bytes);
            assert!(
                matches!(refused, Err(DriverError::Misuse { .. })),
                "{bytes} at {address}: {refused:?}"
            );
        }
        driver.free(piece).unwrap();
        assert_eq!(driver.memory().free, CAPACITY);
    }
}

/// A file of whole and partial pages, of which each byte differs from its neighbours.
#[cfg(all(target_os = "linux", not(miri)))]
fn file_of(bytes: u64) -> std::fs::File {
    use std::io::Write;
    let mut file = tempfile::tempfile().unwrap();
    let content: Vec<u8> = (0..bytes).map(|at| (at / 4096 + at) as u8).collect();
    file.write_all(&content).unwrap();
    file
}

#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn a_part_of_a_file_is_a_piece_within_the_capacity() {
    let driver = HostDriver::new(CAPACITY);
    let unit = driver.capabilities().granularity;
    let file = file_of(3 * unit + 100);
    let piece = driver.map_file(&file, unit..3 * unit + 100).unwrap();
    assert_eq!(driver.memory().free, CAPACITY - 3 * unit);
    let mut read = vec![0; unit as usize];
    // SAFETY: the bytes lie within the piece; nobody writes to the file.
    unsafe { driver.read(piece.offset(unit + 100), &mut read) }.unwrap();
    for (at, byte) in (2 * unit + 100..).zip(read) {
        assert_eq!(byte, (at / 4096 + at) as u8, "byte {at} of the file");
    }
    driver.free(piece).unwrap();
    assert_eq!(driver.memory().free, CAPACITY);
    assert!(driver.free(piece).is_err(), "it is freed once");

    for part in [unit..4 * unit, 1..unit, unit..unit, 0..u64::MAX] {
        let refused = driver.map_file(&file, part.clone());
        assert!(
            matches!(
                refused,
                Err(DriverError::Misuse { .. } | DriverError::Failed { .. })
            ),
            "{part:?}: {refused:?}"
        );
    }
    let small = HostDriver::new(2 * unit);
    let refused = small.map_file(&file, 0..3 * unit);
    assert!(
        matches!(refused, Err(DriverError::OutOfMemory { .. })),
        "{refused:?}"
    );
    assert_eq!(small.memory().free, 2 * unit);
}

#[cfg(all(target_os = "linux", not(miri)))]
#[test]
fn parts_of_files_pass_every_layer_as_allocations_do() {
    let file = file_of(4096);
    let driver = Sealed::new(Scripted::new(HostDriver::new(CAPACITY)));
    driver.seal().close();
    assert_eq!(
        driver.map_file(&file, 0..4096),
        Err(DriverError::Sealed { call: "allocate" })
    );
    let driver = Scripted::new(HostDriver::new(CAPACITY));
    let script = driver.script();
    script.fail_call(0);
    assert!(driver.map_file(&file, 0..4096).is_err());
    let piece = driver.map_file(&file, 0..4096).unwrap();
    assert_eq!(script.calls(Call::Allocate), 2);
    driver.free(piece).unwrap();

    let other = SimulatedDriver::new(CAPACITY);
    assert!(matches!(
        other.map_file(&file, 0..4096),
        Err(DriverError::Unsupported { .. })
    ));
}

#[test]
fn any_device_can_shrink_and_another_process_can_take_its_memory() {
    scripted(|driver, script| {
        let piece = driver.allocate(CAPACITY / 2).unwrap();
        script.take(CAPACITY / 2);
        assert_eq!(driver.memory().free, 0);
        assert!(
            driver.allocate(1).is_err(),
            "what another process took is not to be had"
        );
        script.take(0);
        script.set_capacity(CAPACITY / 4);
        assert_eq!(
            driver.memory().free,
            0,
            "a device that shrank below its use has nothing free"
        );
        driver.free(piece).unwrap();
        let DeviceMemory { free, total } = driver.memory();
        assert_eq!((free, total), (CAPACITY / 4, CAPACITY / 4));
        assert!(driver.allocate(CAPACITY / 2).is_err());
    });
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

    /// Writable bytes of this process in mappings that begin within the range.
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

    #[test]
    fn the_systems_mappings_agree_with_the_drivers() {
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
}
