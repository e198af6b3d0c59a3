//! What it costs to reach a device: copies both ways, a launch, a wait.

use super::Opened;
use crate::error::Error;
use serde::Serialize;
use sottovoce_tensor::{Context, Workspace};
use std::time::Instant;

/// Copies are of so many rows of so many numbers.
const COPY: [usize; 2] = [8192, 1024];
/// Launches in a row, without a wait.
const LAUNCHES: u32 = 1000;
/// Launches each of which is waited for.
const ROUND_TRIPS: u32 = 100;

/// Rates and times, as the engine's own ways reach them.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DeviceFigures {
    /// Bytes of each copy that was timed.
    pub copy_bytes: u64,
    /// From the host, in bytes a second.
    pub write_bytes_a_second: f64,
    /// To the host, in bytes a second.
    pub read_bytes_a_second: f64,
    /// Time of the host for a launch, in seconds.
    pub launch_seconds: f64,
    /// From a launch until its result is on the host, in seconds.
    pub round_trip_seconds: f64,
}

/// Measures a device on which nothing else runs.
///
/// # Errors
/// If memory runs out, or the device fails.
pub fn figures(opened: &Opened) -> Result<DeviceFigures, Error> {
    let workspace = Workspace::pooled(&opened.memory, "figures");
    let ctx = Context::new(&workspace, &*opened.device);
    let [rows, columns] = COPY;
    let values = vec![0.5; rows * columns];
    let copy_bytes = size_of_val(&values[..]) as u64;
    // What the first use of anything costs is not meant.
    let mut x = ctx.upload(&COPY, &values);
    ctx.scale(&mut x, 2.0);
    ctx.read(x.view().rows(0..1), |_| ())?;
    let started = Instant::now();
    ctx.write(&mut x, |out| out.copy_from_slice(&values));
    // Until it is there.
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
