//! A device whose memory the host cannot access conforms to the device suite.

mod common;
mod conformance;

use common::fixture::Tolerances;
use common::{Fixture, random, rounded};
use sottovoce_memory::driver::DriverError;
use sottovoce_tensor::simulated::{CopyCount, SimulatedDevice};
use sottovoce_tensor::{Context, Device, Failure, Precision, Workspace};

fn fixture() -> Fixture {
    let (device, memory, _) = SimulatedDevice::new(1 << 30, 1);
    Fixture {
        devices: vec![Box::new(device)],
        memory,
        tolerances: Tolerances::default(),
        cases: 10,
        apart: false,
    }
}

conformance::suite!(fixture());

#[test]
fn weights_are_staged_as_they_are_packed_on_the_host() {
    let fixture = fixture();
    // More than a panel, and a last one that is not full.
    let (rows, columns) = (71, 45);
    let weights = random(1, rows * columns);
    let ids: Vec<u32> = (0..rows as u32).collect();
    for precision in Precision::ALL {
        let matrix = fixture.matrix(rows, columns, &weights, precision);
        let got = fixture.run(|ctx| ctx.download(&ctx.embedding(&matrix, &ids)).unwrap());
        assert_eq!(
            got,
            rounded(rows, columns, &weights, precision),
            "{precision}"
        );
    }
}

#[test]
fn every_copy_of_an_operation_is_counted() {
    let (device, memory, _) = SimulatedDevice::new(1 << 24, 1);
    let workspace = Workspace::pooled(&memory, "test");
    let ctx = Context::new(&workspace, &device);
    let mut x = ctx.upload(&[3, 4], &[1.0; 12]);
    ctx.scale(x.view_mut().columns(1..3), 2.0);
    let rows = ctx.download(x.view().rows(1..2)).unwrap();
    assert_eq!(rows, [1.0, 2.0, 2.0, 1.0]);
    // One copy for all rows, or one per row if there are gaps between them.
    let count = CopyCount {
        reads: 3 + 1,
        read_bytes: 3 * 8 + 16,
        writes: 1 + 3,
        written_bytes: 48 + 3 * 8,
    };
    assert_eq!((device.copies(), device.operations()), (count, 1));
}

#[test]
fn a_failed_device_computes_nothing_and_reports_the_reason() {
    let (device, memory, _) = SimulatedDevice::new(1 << 24, 1);
    let workspace = Workspace::pooled(&memory, "test");
    let ctx = Context::new(&workspace, &device);
    let mut x = ctx.upload(&[2, 2], &[1.0; 4]);
    device.fail(DriverError::Failed {
        call: "launch",
        message: "it fell off".into(),
    });
    let before = device.copies();
    ctx.scale(&mut x, 2.0);
    let read = ctx.download(&x);
    assert!(
        matches!(&read, Err(Failure::Device(error)) if error.to_string().contains("it fell off"))
    );
    assert_eq!(device.copies(), before);
}

#[test]
#[should_panic(expected = "two forwards of key 3")]
fn forwards_of_one_key_must_repeat_themselves() {
    let (device, memory, _) = SimulatedDevice::new(1 << 24, 1);
    let workspace = Workspace::pooled(&memory, "test");
    let ctx = Context::new(&workspace, &device);
    let mut x = ctx.zeros(&[2, 2]);
    device.replay(3, &mut || ctx.scale(&mut x, 1.0));
    device.replay(3, &mut || ctx.scale(x.view_mut().rows(0..1), 1.0));
}

#[test]
#[should_panic(expected = "is not on the device")]
fn host_memory_is_not_accepted_as_an_operand() {
    let (device, _, _) = SimulatedDevice::new(1 << 24, 1);
    let host = Workspace::pooled(&Fixture::cpu().memory, "test");
    let _ = Context::new(&host, &device).zeros(&[2, 2]);
}
