//! The conformance suite of drivers. A driver's test calls [`run`] with a constructor.

use sottovoce_memory::driver::{Address, Driver, DriverError};

/// Capacity of the devices that the suite makes.
pub const CAPACITY: u64 = 256 << 20;
/// Unit of the ranges: that of a pool's large half.
const UNIT: u64 = 20 << 20;

/// Runs the whole suite; `make` returns a driver with a capacity of [`CAPACITY`] bytes.
pub fn run(make: &dyn Fn() -> Box<dyn Driver>) {
    pieces_are_aligned_and_apart(&*make());
    what_is_freed_is_free_again(&*make());
    capacity_is_kept(&*make());
    misuse_of_pieces_is_refused(&*make());
    absurd_sizes_are_refused(&*make());
    threads_may_allocate_at_once(&*make());
    if make().capabilities().ranges.is_ok() {
        parts_of_ranges_come_and_go(&*make());
        ranges_keep_the_capacity(&*make());
        misuse_of_ranges_is_refused(&*make());
    } else {
        let result = make().reserve(2 * UNIT, UNIT);
        assert!(
            matches!(result, Err(DriverError::Unsupported { .. })),
            "without ranges reserve says why: {result:?}"
        );
    }
}

fn pieces_are_aligned_and_apart(driver: &dyn Driver) {
    let sizes = [
        1,
        511,
        512,
        4096,
        4097,
        1 << 20,
        (2 << 20) + 1,
        20 << 20,
        33 << 20,
    ];
    let mut pieces: Vec<_> = sizes
        .iter()
        .map(|&size| (driver.allocate(size).expect("it fits").0, size))
        .collect();
    pieces.sort_unstable();
    for &(address, _) in &pieces {
        assert!(
            address > 0 && address.is_multiple_of(512),
            "a piece is aligned to 512: {address:#x}"
        );
    }
    for pair in pieces.windows(2) {
        assert!(
            pair[0].0 + pair[0].1 <= pair[1].0,
            "pieces never overlap: {pair:x?}"
        );
    }
    for (address, _) in pieces {
        driver.free(Address(address)).expect("it was allocated");
    }
}

fn what_is_freed_is_free_again(driver: &dyn Driver) {
    let before = driver.memory();
    assert_eq!(before.free, CAPACITY, "nothing is taken at first");
    let piece = driver.allocate(30 << 20).expect("it fits");
    let during = driver.memory();
    assert!(
        during.free <= before.free - (30 << 20),
        "what is allocated is not free"
    );
    assert_eq!(
        during.total, before.total,
        "allocating does not change the device"
    );
    driver.free(piece).expect("it was allocated");
    assert_eq!(driver.memory(), before, "what is freed is free again");
}

fn capacity_is_kept(driver: &dyn Driver) {
    let piece = driver.allocate(CAPACITY / 2).expect("half fits");
    let before = driver.memory();
    match driver.allocate(CAPACITY / 2 + (4 << 20)) {
        Err(DriverError::OutOfMemory {
            requested,
            free,
            total,
        }) => {
            assert!(
                requested >= CAPACITY / 2 + (4 << 20) && free < requested && total == CAPACITY,
                "the error's numbers"
            );
        }
        other => panic!("more than is free must be out of memory: {other:?}"),
    }
    assert_eq!(
        driver.memory(),
        before,
        "a refused allocation changes nothing"
    );
    let rest = driver
        .allocate(CAPACITY / 2)
        .expect("exactly the rest fits");
    driver.free(rest).expect("it was allocated");
    driver.free(piece).expect("it was allocated");
}

fn misuse_of_pieces_is_refused(driver: &dyn Driver) {
    let piece = driver.allocate(4096).expect("it fits");
    assert!(
        driver.free(piece.offset(512)).is_err(),
        "only a piece's own address frees it"
    );
    assert!(
        driver.free(Address(1 << 46)).is_err(),
        "a free of what never was is refused"
    );
    driver
        .free(piece)
        .expect("the refused frees changed nothing");
    assert!(driver.free(piece).is_err(), "a piece is freed once");
}

fn absurd_sizes_are_refused(driver: &dyn Driver) {
    let before = driver.memory();
    for bytes in [
        u64::MAX,
        u64::MAX - 511,
        1 << 63,
        i64::MAX as u64,
        CAPACITY + 1,
    ] {
        assert!(driver.allocate(bytes).is_err(), "{bytes} bytes do not fit");
    }
    assert_eq!(driver.memory(), before);
}

fn threads_may_allocate_at_once(driver: &dyn Driver) {
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            scope.spawn(move || {
                for round in 0..50 {
                    let piece = driver
                        .allocate(1 + thread * 1000 + round * 4096)
                        .expect("all threads' pieces fit");
                    driver.free(piece).expect("it was allocated");
                }
            });
        }
    });
    assert_eq!(driver.memory().free, CAPACITY);
}

fn parts_of_ranges_come_and_go(driver: &dyn Driver) {
    let range = driver
        .reserve(16 * UNIT, UNIT)
        .expect("addresses are plenty");
    assert_eq!(
        driver.memory().free,
        CAPACITY,
        "addresses alone take no memory"
    );
    driver.map(range, 2 * UNIT).expect("it fits");
    driver
        .map(range.offset(4 * UNIT), UNIT)
        .expect("parts need not touch");
    driver
        .map(range.offset(2 * UNIT), 2 * UNIT)
        .expect("a gap is filled");
    assert_eq!(
        driver.memory().free,
        CAPACITY - 5 * UNIT,
        "mapped parts take their bytes"
    );
    driver
        .unmap(range.offset(UNIT), 3 * UNIT)
        .expect("a middle part that was mapped in two pieces");
    assert_eq!(
        driver.memory().free,
        CAPACITY - 2 * UNIT,
        "an unmapped part is given back at once"
    );
    driver
        .map(range.offset(UNIT), UNIT)
        .expect("an unmapped part can be mapped again");
    driver.unmap(range, 2 * UNIT).expect("it is mapped");
    driver
        .unmap(range.offset(4 * UNIT), UNIT)
        .expect("it is mapped");
    driver.release(range).expect("nothing is mapped any longer");
    assert_eq!(driver.memory().free, CAPACITY);
}

fn ranges_keep_the_capacity(driver: &dyn Driver) {
    let range = driver
        .reserve(64 * UNIT, UNIT)
        .expect("a range may be larger than the device");
    let fitting = CAPACITY / UNIT * UNIT;
    let result = driver.map(range, fitting + UNIT);
    assert!(
        matches!(result, Err(DriverError::OutOfMemory { .. })),
        "{result:?}"
    );
    assert_eq!(
        driver.memory().free,
        CAPACITY,
        "a refused map changes nothing"
    );
    driver.map(range, fitting).expect("this much fits");
    let result = driver.map(range.offset(fitting), UNIT);
    assert!(
        matches!(result, Err(DriverError::OutOfMemory { .. })),
        "{result:?}"
    );
    driver.unmap(range, fitting).expect("it is mapped");
    driver.release(range).expect("nothing is mapped");
}

fn misuse_of_ranges_is_refused(driver: &dyn Driver) {
    let range = driver
        .reserve(4 * UNIT, UNIT)
        .expect("addresses are plenty");
    driver.map(range.offset(UNIT), UNIT).expect("it fits");
    for (part, bytes, why) in [
        (range.offset(UNIT), UNIT, "it is mapped already"),
        (range, 2 * UNIT, "half of it is mapped already"),
        (range.offset(4 * UNIT), UNIT, "it lies past the range"),
        (
            range.offset(3 * UNIT),
            2 * UNIT,
            "it reaches past the range",
        ),
        (range.offset(512), UNIT, "it does not begin at a unit"),
        (range, UNIT / 2, "it is no whole unit"),
        (range, 0, "it is nothing"),
    ] {
        assert!(
            driver.map(part, bytes).is_err(),
            "a part is not mapped if {why}"
        );
    }
    for (part, bytes, why) in [
        (range, UNIT, "it is not mapped"),
        (range, 2 * UNIT, "half of it is not mapped"),
        (range.offset(UNIT), 2 * UNIT, "half of it is not mapped"),
    ] {
        assert!(
            driver.unmap(part, bytes).is_err(),
            "a part is not unmapped if {why}"
        );
    }
    assert_eq!(
        driver.memory().free,
        CAPACITY - UNIT,
        "the refused calls changed nothing"
    );
    assert!(
        driver.release(range).is_err(),
        "a range with mapped parts is not released"
    );
    assert!(driver.free(range).is_err(), "a range is no piece");
    driver
        .unmap(range.offset(UNIT), UNIT)
        .expect("it is mapped");
    driver.release(range).expect("nothing is mapped");
    assert!(driver.release(range).is_err(), "a range is released once");
    assert!(
        driver.map(range, UNIT).is_err(),
        "nothing is mapped in a range that is gone"
    );
    assert!(
        driver.reserve(3 * UNIT / 2, UNIT).is_err(),
        "a range consists of whole units"
    );
    assert!(driver.reserve(UNIT, 0).is_err(), "a unit is not nothing");
}
