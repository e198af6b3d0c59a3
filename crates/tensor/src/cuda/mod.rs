//! Operations on an NVIDIA device.
//!
//! Kernels are launched in order on one queue, the pool's queue 0, and the host does not wait. The
//! first failure is remembered, and nothing is launched after it. Memory comes from views, matrices
//! and pages. The device itself owns one block for the small arrays that `uploads` sends, and the
//! pinned ring for copies; both are allocated when the device is opened.
//!
//! Every sum has one fixed order that does not depend on the rest of the batch. Both families of
//! product kernels return the same bits for a row.

mod arguments;
mod few_rows;
mod fused;
mod kernels;
mod launches;
mod operations;
mod replay;
mod uploads;

use crate::device::{Device, DeviceError, Traffic};
use crate::view::{View, ViewMut};
use bytemuck::{Pod, Zeroable};
use kernels::Kernels;
use replay::{FORWARDS_MAX, Launches, Next, Replays};
use sottovoce_memory::driver::cuda::{
    CudaContext, CudaError, Graph, Kernel, LaunchShape, Queue, Staging,
};
use sottovoce_memory::driver::{Address, DriverError};
use sottovoce_memory::{Memory, OutOfMemory};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use uploads::{UploadError, Uploads};

/// Threads of a block where a kernel has no others.
const THREADS: u32 = 128;
/// Number and bytes of the parts of the pinned ring. A read that fits the ring waits once, as the
/// scores of base's step of 34 streams do.
const STAGING: (usize, usize) = (2, 9 << 17);
/// Launches of the larger of the two graphs whose memory is measured.
const MEASURED_LAUNCHES: usize = 65;

/// The blocks of a launch.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Blocks {
    grid: [u32; 3],
    /// Of a block.
    threads: u32,
}

impl From<[u32; 3]> for Blocks {
    fn from(grid: [u32; 3]) -> Blocks {
        Blocks {
            grid,
            threads: THREADS,
        }
    }
}

/// Why a device cannot compute.
#[derive(Debug, thiserror::Error)]
pub enum CudaOpenError {
    /// The device or its driver refused.
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// The device has too little memory for what the kernels themselves need.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// An NVIDIA device with its kernels loaded.
pub struct Cuda {
    name: String,
    queue: Arc<Queue>,
    kernels: Kernels,
    fine_attention_has_matrix_units: bool,
    ways: Mutex<Ways>,
    replays: Mutex<Replays>,
    /// Counters of completed parts of attentions.
    done: Address,
    unit_bytes: u64,
    /// Device bytes of any graph, and of each launch in it.
    graph_bytes: [u64; 2],
    failure: OnceLock<DeviceError>,
    traffic: Traffic,
}

/// Copies between host and device.
struct Ways {
    staging: Staging,
    uploads: Uploads,
}

impl Cuda {
    /// Loads the kernels. `memory` belongs to a driver of `context`, in which the kernels run.
    ///
    /// # Errors
    /// If the driver is too old or refuses, no image suits the device, or memory runs out.
    pub fn open(context: &Arc<CudaContext>, memory: &Memory) -> Result<Cuda, CudaOpenError> {
        context.can_compute()?;
        let queue = Arc::new(Queue::new(context)?);
        let kernels = Kernels::load(context)?;
        let uploads = Uploads::new(memory)?;
        let done = uploads.done();
        let (parts, part_bytes) = STAGING;
        let staging = Staging::new(&queue, parts, part_bytes)?;
        let mut cuda = Cuda {
            name: format!("cuda-{}", context.generation()),
            queue,
            kernels,
            fine_attention_has_matrix_units: kernels::fine_attention_has_matrix_units(
                context.generation(),
            ),
            ways: Mutex::new(Ways { staging, uploads }),
            replays: Mutex::default(),
            done,
            unit_bytes: memory.unit_bytes(),
            graph_bytes: [0; 2],
            failure: OnceLock::new(),
            traffic: Traffic::default(),
        };
        // The driver takes memory at the first launch. Launching here makes that memory part of the
        // plan.
        let zeros = arguments::Elements {
            out: done.0,
            rows: 1,
            columns: uploads::DONE_MAX as u32,
            ..Zeroable::zeroed()
        };
        let grid = launches::element_blocks(1, uploads::DONE_MAX);
        cuda.launch(&cuda.kernels.fill, grid, &zeros);
        cuda.queue.synchronize()?;
        cuda.graph_bytes = cuda.measure_graphs(&zeros);
        Ok(cuda)
    }

    /// Remembers the first failure.
    fn fail(&self, source: DriverError) {
        let device = self.name.clone();
        let _ = self.failure.set(DeviceError { device, source });
    }

    /// Records a failure: an operation beyond the kernels' limits.
    fn refuse(&self, what: &str, count: usize, most: usize) {
        self.fail(DriverError::Failed {
            call: "cuda",
            message: format!("{what}: {count}, and the kernels take {most} at most"),
        });
    }

    fn ways(&self) -> MutexGuard<'_, Ways> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replays(&self) -> MutexGuard<'_, Replays> {
        self.replays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Launches a kernel, or gathers the launch for a replay. Does nothing if there are no blocks
    /// or the device has failed.
    fn launch<A: Pod>(&self, kernel: &Arc<Kernel>, blocks: impl Into<Blocks>, arguments: &A) {
        let blocks = blocks.into();
        if blocks.grid.contains(&0) || self.failure.get().is_some() {
            return;
        }
        let arguments = bytemuck::bytes_of(arguments);
        let mut replays = self.replays();
        if let Some(launches) = replays.gathering() {
            return launches.push(kernel, blocks, arguments);
        }
        if replays.is_recording() {
            return;
        }
        drop(replays);
        self.note(self.launch_now(kernel, blocks, arguments));
    }

    fn launch_now(
        &self,
        kernel: &Kernel,
        blocks: Blocks,
        arguments: &[u8],
    ) -> Result<(), CudaError> {
        let shape = LaunchShape {
            grid: blocks.grid,
            block: [blocks.threads, 1, 1],
            shared_bytes: 0,
        };
        // SAFETY: operations fill the arguments from views, weights and cache places. These stand
        // for memory of this device with the stated rows and columns, and live as long as the
        // forward. Any later use of that memory is queued behind this launch on the same queue, and
        // the driver waits for the queue before it unmaps memory.
        unsafe { (self.queue).launch(kernel, &shape, &[arguments]) }
    }

    fn launch_all(&self, launches: &Launches) -> Result<(), CudaError> {
        (launches.each())
            .try_for_each(|(kernel, blocks, arguments)| self.launch_now(kernel, blocks, arguments))
    }

    fn note(&self, result: Result<(), CudaError>) {
        if let Err(error) = result {
            self.fail(error.into());
        }
    }

    /// Launches the work gathered so far; the rest of the forward is launched one by one.
    fn end_gathering(&self) {
        let mut replays = self.replays();
        let (gathered, recording) = (replays.abandon(), replays.is_recording());
        drop(replays);
        if let Some(launches) = gathered
            && !recording
            && self.send_gathered()
        {
            self.note(self.launch_all(&launches));
        }
    }

    /// Sends the arrays of a gathered forward; returns whether that succeeded.
    fn send_gathered(&self) -> bool {
        let mut ways = self.ways();
        let Ways { staging, uploads } = &mut *ways;
        let sent = uploads.send_gathered(staging);
        drop(ways);
        let worked = sent.is_ok();
        self.note(sent);
        worked
    }

    /// Captures the launches and launches the graph; if no graph can be made, launches one by one.
    fn capture(&self, launches: &Launches) -> Option<Graph> {
        let graph = self.captured(launches);
        self.note(match &graph {
            Some(graph) => self.queue.launch_graph(graph),
            None => self.launch_all(launches),
        });
        graph
    }

    /// A graph of the launches; `None` if none can be made. A driver without room for a graph may
    /// still launch.
    fn captured(&self, launches: &Launches) -> Option<Graph> {
        (self.queue.capture_graph(|| self.launch_all(launches))).ok()
    }

    /// Measures the memory that the driver takes for graphs: for any graph, and for each launch.
    fn measure_graphs(&self, arguments: &arguments::Elements) -> [u64; 2] {
        let bytes_of = |launch_count: usize| {
            let mut launches = Launches::default();
            for _ in 0..launch_count {
                let bytes = bytemuck::bytes_of(arguments);
                launches.push(&self.kernels.fill, [1, 1, 1].into(), bytes);
            }
            // Without graphs, forwards are launched kernel by kernel.
            let graph = self.captured(&launches);
            graph.map_or(0, |graph| graph.device_bytes())
        };
        let [one, many] = [1, MEASURED_LAUNCHES].map(bytes_of);
        let further = MEASURED_LAUNCHES as u64 - 1;
        [one, many.saturating_sub(one).div_ceil(further)]
    }

    /// Sends small arrays; `None` if the device has failed.
    fn send<R>(
        &self,
        send: impl Fn(&mut Uploads, &mut Staging) -> Result<R, UploadError>,
    ) -> Option<R> {
        loop {
            if self.failure.get().is_some() {
                return None;
            }
            let gathering = self.replays().gathering().is_some();
            let mut ways = self.ways();
            let Ways { staging, uploads } = &mut *ways;
            uploads.gather(gathering);
            let result = send(uploads, staging);
            drop(ways);
            match result {
                Ok(sent) => return Some(sent),
                Err(UploadError::NoRoom) if gathering => self.end_gathering(),
                Err(UploadError::NoRoom) => return None,
                Err(UploadError::TooLong { what, count, most }) => self.refuse(what, count, most),
                Err(UploadError::Device(error)) => self.fail(error.into()),
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

/// Gathers a forward's launches while it lives. Dropping it before the end discards them.
struct Gathering<'a>(&'a Cuda);

impl<'a> Gathering<'a> {
    fn begin(device: &'a Cuda, recording: bool) -> Gathering<'a> {
        device.replays().begin(recording);
        device.ways().uploads.begin();
        Gathering(device)
    }
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        let mut replays = self.0.replays();
        drop(replays.abandon());
        replays.end_recording();
    }
}

/// Device address of a view's first element.
///
/// # Panics
/// If the view is in host memory.
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
        self.end_gathering();
        let (rows, columns, stride) = (from.row_count(), from.column_count(), from.stride());
        if rows * columns == 0 {
            return Ok(());
        }
        let mut ways = self.ways();
        let read = if rows == 1 || stride == columns {
            (ways.staging).read(start(&from), bytemuck::cast_slice_mut(into))
        } else {
            // Copying the gaps too costs one wait for all rows.
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

    fn read_both(&self, from: [View<'_>; 2], into: [&mut [f32]; 2]) -> Result<(), DeviceError> {
        let ([one, other], [into_one, into_other]) = (from, into);
        let has_gaps =
            |view: &View<'_>| view.row_count() > 1 && view.stride() != view.column_count();
        if has_gaps(&one) || has_gaps(&other) {
            self.read(one, into_one)?;
            return self.read(other, into_other);
        }
        if let Some(failure) = self.failed() {
            return Err(failure);
        }
        self.end_gathering();
        let mut parts = [
            (start(&one), bytemuck::cast_slice_mut(into_one)),
            (start(&other), bytemuck::cast_slice_mut(into_other)),
        ];
        let read = self.ways().staging.read_all(&mut parts);
        if let Err(error) = read {
            self.fail(error.into());
        }
        self.failed().map_or(Ok(()), Err)
    }

    fn write(&self, values: &[f32], to: ViewMut<'_>) {
        if self.failure.get().is_some() || values.is_empty() {
            return;
        }
        // A write before the first launch may precede all launches.
        if (self.replays().gathering()).is_some_and(|launches| !launches.is_empty()) {
            self.end_gathering();
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

    /// Gathers the launches of `forward`. If they equal the last ones under this key, the graph of
    /// that time is launched; otherwise they are captured as a new graph. `forward` must not return
    /// memory to the driver, and must write to it only by [`Device::write`].
    fn replay(&self, key: u64, forward: &mut dyn FnMut()) {
        let gathering = Gathering::begin(self, false);
        forward();
        if self.failure.get().is_none()
            && self.replays().gathering().is_some()
            && self.send_gathered()
        {
            let mut replays = self.replays();
            let captured = match replays.end(key) {
                None => None,
                Some(Next::Replay(graph)) => {
                    self.note(self.queue.launch_graph(graph));
                    None
                }
                Some(Next::Launch(launches)) => {
                    self.note(self.launch_all(launches));
                    None
                }
                Some(Next::Capture(launches)) => self.capture(launches),
            };
            if let Some(graph) = captured {
                replays.keep(key, graph);
            }
        }
        drop(gathering);
    }

    fn record(&self, key: u64, forward: &mut dyn FnMut()) {
        let gathering = Gathering::begin(self, true);
        forward();
        if self.failure.get().is_none() {
            let mut replays = self.replays();
            if let Some(Next::Capture(launches)) = replays.end(key)
                && let Some(graph) = self.captured(launches)
            {
                replays.keep(key, graph);
            }
        }
        drop(gathering);
    }

    fn recorded_bytes(&self, forward_count: usize, launch_count: usize) -> u64 {
        let [graph, launch] = self.graph_bytes;
        let forwards = forward_count.min(FORWARDS_MAX) as u64;
        forwards * (graph + launch * launch_count as u64)
    }

    fn has_recorded(&self, key: u64) -> bool {
        self.failure.get().is_some() || self.replays().knows(key)
    }

    fn forget_recorded(&self) {
        self.replays().forget();
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

    fn sequences_max(&self) -> usize {
        uploads::SEQUENCES_MAX
    }

    fn pages_max(&self) -> usize {
        uploads::PAGES_MAX
    }

    fn attend(&self) {
        // If this fails, so does the first call.
        let _ = self.queue.context().keep_current();
    }

    fn check(&self) -> Result<(), DeviceError> {
        self.failed().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::{arguments as with, few_rows};
    use std::path::Path;

    #[test]
    fn kernels_are_launched_with_as_many_bytes_as_they_were_built_for() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/built/manifest.json");
        let text = std::fs::read_to_string(path).unwrap();
        let built: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (family, bytes) in [
            ("product_q4_64", size_of::<with::Product>()),
            ("rows_int8_4", size_of::<with::Rows>()),
            ("rows_mma_q4_64", size_of::<with::Rows>()),
            ("rows_mma_project_f16_8", size_of::<with::Projection>()),
            ("rows_project_f16_1", size_of::<with::Projection>()),
            ("product_norm_f32_256", size_of::<with::Product>()),
            ("product_mma_f16_2_64", size_of::<with::Product>()),
            ("product_mma_norm_int8_1_64", size_of::<with::Product>()),
            ("attention_mma_relative_2", size_of::<with::Attention>()),
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
        assert!(few_rows::PLAIN_ROWS.is_sorted() && few_rows::UNITS_ROWS.is_sorted());
    }
}
