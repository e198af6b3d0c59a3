//! The pinned ring for copies to and from a CUDA device, over the stand-in, whose queues execute
//! nothing before a wait.

#![cfg(target_os = "linux")]

use cuda_stand_in::client::StandIn;
use sottovoce_memory::driver::Driver;
use sottovoce_memory::driver::cuda::{CudaDriver, Queue, Staging};
use std::sync::Arc;

const UNIT: u64 = 2 << 20;

fn open(ordinal: u32) -> (StandIn, CudaDriver, Arc<Queue>) {
    let stand_in = StandIn::new(ordinal, "memory=268435456");
    let driver = CudaDriver::open(ordinal, None).unwrap();
    let queue = Arc::new(Queue::new(driver.context()).unwrap());
    (stand_in, driver, queue)
}

#[test]
fn staging_keeps_its_size_and_every_byte_whatever_is_written_through_it() {
    let (stand_in, driver, queue) = open(0);
    let place = driver.allocate(UNIT).unwrap();
    let mut staging = Staging::new(&queue, 3, 256).unwrap();
    let mut expected = vec![0_u8; 20_000];
    queue.fill(place, 0, UNIT).unwrap();
    let mut seed = 7_u64;
    for round in 0..300 {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
        let (start, length) = ((seed >> 33) as usize % 19_000, (seed >> 20) as usize % 900);
        let piece = vec![round as u8; length];
        staging.write(&piece, place.offset(start as u64)).unwrap();
        expected[start..start + length].fill(round as u8);
    }
    let mut found = vec![0; expected.len()];
    staging.read(place, &mut found).unwrap();
    assert!(
        found == expected,
        "all bytes are there, the last ones on top"
    );
    assert_eq!(
        stand_in.count("cuMemHostAlloc"),
        1,
        "one piece of pinned memory"
    );
    staging.finish().unwrap();
    drop(staging);
    driver.free(place).unwrap();
    drop((queue, driver));
    stand_in.expect_clean("after the test");
}

#[test]
fn a_read_waits_once_for_as_much_as_the_ring_holds() {
    let (stand_in, driver, queue) = open(1);
    let place = driver.allocate(UNIT).unwrap();
    let mut staging = Staging::new(&queue, 2, 256).unwrap();
    let values: Vec<u8> = (0..2000_u16).map(|index| index as u8).collect();
    for (lengths, waits) in [
        ([512, 0], 1),
        ([100, 412], 1),
        ([0, 513], 2),
        ([500, 13], 2),
        ([700, 900], 4),
        ([0, 0], 0),
    ] {
        // What is still on its way to the device is not written over.
        staging.write(&values, place).unwrap();
        let [mut first, mut second] = lengths.map(|length| vec![0; length]);
        let before = stand_in.count("waits");
        let gap = 1000;
        let places = &mut [
            (place.offset(gap), &mut first[..]),
            (place, &mut second[..]),
        ];
        staging.read_all(places).unwrap();
        assert_eq!(stand_in.count("waits") - before, waits, "{lengths:?}");
        let gap = gap as usize;
        assert!(
            first == values[gap..gap + lengths[0]] && second == values[..lengths[1]],
            "{lengths:?}"
        );
    }
    // A read that failed half-way may still write to the ring.
    for failing in ["cuMemcpyDtoHAsync:1", "cuStreamSynchronize:0"] {
        queue.fill(place, 0, UNIT).unwrap();
        staging.finish().unwrap();
        stand_in.set(&format!("fail={failing}"));
        let [mut first, mut second] = [[0_u8; 64]; 2];
        let places = &mut [(place, &mut first[..]), (place, &mut second[..])];
        staging.read_all(places).unwrap_err();
        staging.write(&values, place).unwrap();
        let mut found = vec![0; values.len()];
        staging.read(place, &mut found).unwrap();
        assert!(found == values, "after {failing}");
    }
    drop(staging);
    driver.free(place).unwrap();
    drop((queue, driver));
    stand_in.expect_clean("after the test");
}
