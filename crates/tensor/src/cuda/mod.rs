//! Operations on an NVIDIA device.
//!
//! Kernels are launched one after the other on one queue, which is the pool's queue 0, and the host
//! goes on at once. What fails is remembered; from then on nothing is launched. All memory comes
//! from views, matrices and pages, but for one block for the small arrays that [`uploads`] sends
//! and the pinned ring through which numbers come and go: both are taken when the device is opened.
//!
//! A sum has one fixed order, whatever else is computed: the rows of a product may come from either
//! family of kernels, with the same bits.

mod arguments;
mod kernels;
mod launches;
mod operations;
mod uploads;

use crate::device::{Device, DeviceError, Traffic};
use crate::view::{View, ViewMut};
use bytemuck::{Pod, Zeroable};
use kernels::Kernels;
use sottovoce_memory::driver::cuda::{CudaContext, CudaError, Kernel, LaunchShape, Queue, Staging};
use sottovoce_memory::driver::{Address, DriverError};
use sottovoce_memory::{Memory, OutOfMemory};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use uploads::{UploadError, Uploads};

/// Threads of every block.
const THREADS: u32 = 128;
/// Parts of the pinned ring, and bytes of each: what is read at once is waited for once.
const STAGING: (usize, usize) = (2, 1 << 20);

/// Why a device cannot compute.
#[derive(Debug, thiserror::Error)]
pub enum CudaOpenError {
    /// The device or its driver refuses.
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// The device's memory has no room for what computing itself needs.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// An NVIDIA device with its kernels loaded.
pub struct Cuda {
    name: String,
    queue: Arc<Queue>,
    kernels: Kernels,
    ways: Mutex<Ways>,
    unit_bytes: u64,
    failure: OnceLock<DeviceError>,
    traffic: Traffic,
}

/// What goes between the host and the device.
struct Ways {
    staging: Staging,
    uploads: Uploads,
}

impl Cuda {
    /// Loads the kernels; `memory` is that of a driver of `context`, in which they will compute.
    ///
    /// # Errors
    /// If the driver is too old or refuses, there is no code for the device, or its memory is too
    /// little.
    pub fn open(context: &Arc<CudaContext>, memory: &Memory) -> Result<Cuda, CudaOpenError> {
        context.can_compute()?;
        let queue = Arc::new(Queue::new(context)?);
        let kernels = Kernels::load(context)?;
        let uploads = Uploads::new(memory)?;
        let anywhere = uploads.address();
        let (parts, part_bytes) = STAGING;
        let staging = Staging::new(&queue, parts, part_bytes)?;
        let cuda = Cuda {
            name: format!("cuda-{}", context.generation()),
            queue,
            kernels,
            ways: Mutex::new(Ways { staging, uploads }),
            unit_bytes: memory.unit_bytes(),
            failure: OnceLock::new(),
            traffic: Traffic::default(),
        };
        // What the driver takes for itself at the first launch is thus known before anything is
        // reckoned with.
        let one = arguments::Elements {
            out: anywhere.0,
            rows: 1,
            columns: 1,
            ..Zeroable::zeroed()
        };
        cuda.launch(&cuda.kernels.fill, [1, 1, 1], &one);
        cuda.queue.synchronize()?;
        Ok(cuda)
    }

    /// Remembers the first failure.
    fn fail(&self, source: DriverError) {
        let device = self.name.clone();
        let _ = self.failure.set(DeviceError { device, source });
    }

    /// Something that the kernels cannot do.
    fn refuse(&self, what: &str, count: usize, most: usize) {
        self.fail(DriverError::Failed {
            call: "cuda",
            message: format!("{what}: {count}, and the kernels take {most} at most"),
        });
    }

    fn ways(&self) -> MutexGuard<'_, Ways> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Launches a kernel; nothing where there are no blocks, or the device has failed.
    fn launch<A: Pod>(&self, kernel: &Kernel, grid: [u32; 3], arguments: &A) {
        if grid.contains(&0) || self.failure.get().is_some() {
            return;
        }
        let shape = LaunchShape {
            grid,
            block: [THREADS, 1, 1],
            shared_bytes: 0,
        };
        // SAFETY: operations fill the arguments from views, weights and places of caches, which
        // outlive the call and stand for memory of this device with the rows and columns that they
        // say; later work on that memory takes its turn behind this on the same queue, and the
        // driver waits for the queue before it takes memory away.
        let launched =
            unsafe { (self.queue).launch(kernel, &shape, &[bytemuck::bytes_of(arguments)]) };
        if let Err(error) = launched {
            self.fail(error.into());
        }
    }

    /// Sends small arrays; `None` if the device has failed.
    fn send<R>(
        &self,
        send: impl FnOnce(&mut Uploads, &mut Staging) -> Result<R, UploadError>,
    ) -> Option<R> {
        if self.failure.get().is_some() {
            return None;
        }
        let mut ways = self.ways();
        let Ways { staging, uploads } = &mut *ways;
        match send(uploads, staging) {
            Ok(sent) => Some(sent),
            Err(UploadError::TooLong { what, count, most }) => {
                self.refuse(what, count, most);
                None
            }
            Err(UploadError::Device(error)) => {
                self.fail(error.into());
                None
            }
        }
    }

    fn failed(&self) -> Option<DeviceError> {
        if self.failure.get().is_none()
            && let Some(fault) = self.queue.context().fault()
        {
            self.fail(fault.into());
        }
        self.failure.get().cloned()
    }
}

/// Where a view begins.
///
/// # Panics
/// If it is on the host.
fn start(view: &View<'_>) -> Address {
    match view.address() {
        Some(address) => address,
        None => panic!(
            "a view of {} × {} is not on the device",
            view.row_count(),
            view.column_count()
        ),
    }
}

impl Device for Cuda {
    fn read(&self, from: View<'_>, into: &mut [f32]) -> Result<(), DeviceError> {
        if let Some(failure) = self.failed() {
            return Err(failure);
        }
        let (rows, columns, stride) = (from.row_count(), from.column_count(), from.stride());
        if rows * columns == 0 {
            return Ok(());
        }
        let mut ways = self.ways();
        let read = if rows == 1 || stride == columns {
            (ways.staging).read(start(&from), bytemuck::cast_slice_mut(into))
        } else {
            // The gaps come along, so that there is one wait for all rows.
            let mut span = vec![0.0_f32; (rows - 1) * stride + columns];
            let read = (ways.staging).read(start(&from), bytemuck::cast_slice_mut(&mut span));
            for (row, out) in span.chunks(stride).zip(into.chunks_exact_mut(columns)) {
                out.copy_from_slice(&row[..columns]);
            }
            read
        };
        drop(ways);
        if let Err(error) = read {
            self.fail(error.into());
        }
        self.failed().map_or(Ok(()), Err)
    }

    fn write(&self, values: &[f32], to: ViewMut<'_>) {
        if self.failure.get().is_some() || values.is_empty() {
            return;
        }
        let (view, columns) = (to.as_view(), to.column_count());
        let mut ways = self.ways();
        let written = if view.row_count() == 1 || view.stride() == columns {
            (ways.staging).write(bytemuck::cast_slice(values), start(&view))
        } else {
            (values.chunks_exact(columns).enumerate()).try_for_each(|(row, values)| {
                let place = start(&view.rows(row..row + 1));
                ways.staging.write(bytemuck::cast_slice(values), place)
            })
        };
        drop(ways);
        if let Err(error) = written {
            self.fail(error.into());
        }
    }

    fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    fn own_bytes(&self) -> u64 {
        let bytes = self.queue.context().driver_bytes();
        let arrays = uploads::BYTES as u64;
        bytes.total() + arrays.next_multiple_of(self.unit_bytes)
    }

    fn pinned_bytes(&self) -> u64 {
        self.queue.context().pinned_bytes()
    }

    fn unit_bytes(&self) -> u64 {
        self.unit_bytes
    }

    fn check(&self) -> Result<(), DeviceError> {
        self.failed().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::{arguments as with, kernels};
    use std::path::Path;

    #[test]
    fn kernels_are_launched_with_as_many_bytes_as_they_were_built_for() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/built/manifest.json");
        let text = std::fs::read_to_string(path).unwrap();
        let built: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (family, bytes) in [
            ("product_q4_64", size_of::<with::Product>()),
            ("rows_int8_4", size_of::<with::Rows>()),
            ("store_pages", size_of::<with::Store>()),
            ("attend_pages_f16", size_of::<with::Pages>()),
            ("attention_64", size_of::<with::Attention>()),
            ("activate", size_of::<with::Elements>()),
            ("normalise", size_of::<with::Norm>()),
            ("embed_f32", size_of::<with::Embedding>()),
            ("sum_taps", size_of::<with::Taps>()),
            ("sinusoids", size_of::<with::Sinusoids>()),
            ("rotary_angles", size_of::<with::Rotary>()),
            ("rotate", size_of::<with::Rotate>()),
            ("lstm_f16", size_of::<with::Lstm>()),
            ("moments", size_of::<with::Columns>()),
            ("normals", size_of::<with::Normals>()),
            ("harmonics", size_of::<with::Harmonics>()),
            ("overlap_add", size_of::<with::Spectrum>()),
        ] {
            let expected = &built["entries"][family]["parameter_bytes"];
            assert_eq!(*expected, serde_json::json!([bytes]), "{family}");
        }
        assert!(kernels::FEW_ROWS.is_sorted());
    }
}
