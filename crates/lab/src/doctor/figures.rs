//! Cost of reaching a device: copies both ways, a launch, a round trip.

use serde::Serialize;
use sottovoce::Error;
use sottovoce::device::Opened;
use sottovoce_tensor::{Context, Workspace};
use std::time::Instant;

/// Rows and columns of a copied tensor.
const COPY: [usize; 2] = [8192, 1024];
/// Successive launches without a wait.
const LAUNCHES: u32 = 1000;
/// Launches that are each waited for.
const ROUND_TRIPS: u32 = 100;

/// Rates and times, measured through the engine's own code paths.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DeviceFigures {
    /// Bytes of each timed copy.
    pub copy_bytes: u64,
    /// Host to device, in bytes per second.
    pub write_bytes_a_second: f64,
    /// Device to host, in bytes per second.
    pub read_bytes_a_second: f64,
    /// Host time of a launch, in seconds.
    pub launch_seconds: f64,
    /// Time from a launch until its result is on the host, in seconds.
    pub round_trip_seconds: f64,
}

/// Measures an otherwise idle device.
///
/// # Errors
/// If memory runs out, or the device fails.
pub fn figures(opened: &Opened) -> Result<DeviceFigures, Error> {
    let workspace = Workspace::pooled(&opened.memory, "figures");
    let ctx = Context::new(&workspace, &*opened.device);
    let [rows, columns] = COPY;
    let values = vec![0.5; rows * columns];
    let copy_bytes = size_of_val(&values[..]) as u64;
    // A first run keeps one-time costs out of the measurement.
    let mut x = ctx.upload(&COPY, &values);
    ctx.scale(&mut x, 2.0);
    ctx.read(x.view().rows(0..1), |_| ())?;
    let started = Instant::now();
    ctx.write(&mut x, |out| out.copy_from_slice(&values));
    // Waits for the copy.
    ctx.read(x.view().rows(0..1), |_| ())?;
    let write_seconds = started.elapsed().as_secs_f64();
    let started = Instant::now();
    ctx.read(&x, |_| ())?;
    let read_seconds = started.elapsed().as_secs_f64();
    let mut row = ctx.zeros(&[1, 1]);
    let started = Instant::now();
    for _ in 0..LAUNCHES {
        ctx.scale(&mut row, 1.0);
    }
    let launch_seconds = started.elapsed().as_secs_f64() / f64::from(LAUNCHES);
    ctx.read(&row, |_| ())?;
    let started = Instant::now();
    for _ in 0..ROUND_TRIPS {
        ctx.scale(&mut row, 1.0);
        ctx.read(&row, |_| ())?;
    }
    let round_trip_seconds = started.elapsed().as_secs_f64() / f64::from(ROUND_TRIPS);
    let rate = |seconds: f64| copy_bytes as f64 / seconds.max(f64::MIN_POSITIVE);
    Ok(DeviceFigures {
        copy_bytes,
        write_bytes_a_second: rate(write_seconds),
        read_bytes_a_second: rate(read_seconds),
        launch_seconds,
        round_trip_seconds,
    })
}
