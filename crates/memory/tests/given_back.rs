//! Memory released by the host driver is released according to the operating system's own figures.
//! A single test, so that nothing else in the process allocates at the same time.

#![cfg(all(target_os = "linux", not(miri)))]

use sottovoce_memory::driver::{Address, Driver, HostDriver};
use sottovoce_memory::pages::PagePool;
use sottovoce_memory::{Memory, Owner, Region};

const MIB: u64 = 1 << 20;
/// Allowance for the test itself: buffers of the system's figures.
const SLACK: u64 = 2 * MIB;

/// Resident bytes of this process.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    // SAFETY: `sysconf` does not access memory of this program.
    pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64
}

/// Mapped and resident bytes of this process between two addresses.
fn mapped_between(start: u64, end: u64) -> (u64, u64) {
    let (mut mapped, mut resident, mut inside) = (0, 0, false);
    for line in std::fs::read_to_string("/proc/self/smaps").unwrap().lines() {
        let range = line.split_once(' ').and_then(|(range, _)| {
            let (first, last) = range.split_once('-')?;
            let parse = |text| u64::from_str_radix(text, 16).ok();
            Some((parse(first)?, parse(last)?))
        });
        if let Some((first, last)) = range {
            inside = first < end && start < last;
            if inside {
                mapped += last.min(end) - first.max(start);
            }
        } else if let Some(kibibytes) = line.strip_prefix("Rss:").filter(|_| inside) {
            let kibibytes: u64 = kibibytes.trim().trim_end_matches(" kB").parse().unwrap();
            resident += kibibytes << 10;
        }
    }
    (mapped, resident)
}

fn touch(address: u64, bytes: u64) {
    let start: *mut u8 = std::ptr::with_exposed_provenance_mut(address as usize);
    // SAFETY: by the driver's contract the part is valid for writes, and only this test uses it.
    unsafe { std::ptr::write_bytes(start, 1, bytes as usize) };
}

fn expect_resident(expected: u64, when: &str) {
    let resident = resident_bytes();
    assert!(
        resident.abs_diff(expected) < SLACK,
        "{when}: {resident} bytes are resident, {expected} are expected"
    );
}

#[test]
fn freed_unmapped_and_trimmed_memory_returns_to_the_system() {
    let before = resident_bytes();
    let driver = HostDriver::new(256 * MIB);

    let piece = driver.allocate(64 * MIB).unwrap().0;
    touch(piece, 64 * MIB);
    expect_resident(before + 64 * MIB, "a piece was written");
    let untouched = driver.allocate(MIB).unwrap();
    let of_driver = driver.resident().unwrap();
    assert_eq!((of_driver.bytes, of_driver.file_bytes), (64 * MIB, 0));
    driver.free(untouched).unwrap();
    // SAFETY: the piece is as long, and only this test uses it.
    unsafe { driver.discard(Address(piece), 64 * MIB) };
    expect_resident(before, "its contents were discarded");
    assert_eq!(driver.memory().free, 192 * MIB, "it stays allocated");
    touch(piece, 64 * MIB);
    expect_resident(before + 64 * MIB, "and was written again");
    driver.free(Address(piece)).unwrap();
    expect_resident(before, "the piece was freed");
    assert_eq!(mapped_between(piece, piece + 64 * MIB), (0, 0));

    let range = driver.reserve(128 * MIB, MIB).unwrap();
    driver.map(range, 96 * MIB).unwrap();
    touch(range.0, 96 * MIB);
    expect_resident(before + 96 * MIB, "most of a range was written");
    driver.unmap(range.offset(16 * MIB), 64 * MIB).unwrap();
    expect_resident(before + 32 * MIB, "its middle was unmapped");
    let middle = (range.0 + 16 * MIB, range.0 + 80 * MIB);
    let (addresses, resident) = mapped_between(middle.0, middle.1);
    assert_eq!(
        (addresses, resident),
        (64 * MIB, 0),
        "addresses stay reserved"
    );
    driver.map(range.offset(16 * MIB), 64 * MIB).unwrap();
    expect_resident(before + 32 * MIB, "mapped again, and nothing written yet");
    assert_eq!(driver.resident().unwrap().bytes, 32 * MIB);
    driver.unmap(range, 96 * MIB).unwrap();
    driver.release(range).unwrap();
    expect_resident(before, "the range was released");
    assert_eq!(mapped_between(range.0, range.0 + 128 * MIB), (0, 0));

    let dropped = HostDriver::new(256 * MIB);
    let piece = dropped.allocate(32 * MIB).unwrap().0;
    touch(piece, 32 * MIB);
    drop(dropped);
    expect_resident(before, "a driver with a piece was dropped");

    let memory = Memory::host(256 * MIB);
    let owner = Owner::new(Region::KeyValue, "test");
    let mut block = memory.allocate(40 << 20, owner).unwrap();
    block.bytes_mut().fill(1);
    drop(block);
    expect_resident(before + 40 * MIB, "the pool keeps a freed block");
    let pages = PagePool::new(&memory, 4 << 20, 8);
    let mut table = pages.table(owner);
    table.reserve(8).unwrap();
    for page in 0..8 {
        table.push_page().unwrap();
        table.page_mut(page).fill(1);
    }
    drop(table);
    expect_resident(before + 72 * MIB, "and the pages are kept");
    assert_eq!(pages.trim() + memory.trim(), 72 * MIB);
    expect_resident(before, "both were trimmed");
    assert_eq!(memory.statistics().held_bytes(), 0);
}
