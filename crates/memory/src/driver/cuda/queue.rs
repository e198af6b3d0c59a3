//! Queues (CUDA streams): work that a device runs in order, asynchronously to the host.

use super::context::{CaptureTurn, CudaContext, count};
use super::error::CudaError;
use super::graph::Graph;
use super::module::{Kernel, LaunchShape, Module};
use super::symbols::{CAPTURE_INVALIDATED, CallFailure, CapturedGraph, Library, Stream};
use super::twice;
use crate::driver::Address;
use std::ffi::c_void;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Number of a queue that the pool does not know.
const NO_NUMBER: u64 = u64::MAX;
/// Most parameters of a kernel.
pub const PARAMETERS_MAX: usize = 32;

/// A queue of a device.
pub struct Queue {
    context: Arc<CudaContext>,
    stream: Stream,
    number: u64,
    /// Modules of the kernels captured so far, while a capture is under way.
    capture: Mutex<Option<Vec<Arc<Module>>>>,
}

impl Queue {
    /// Creates a queue under the lowest free number: 0 for the first.
    ///
    /// # Errors
    /// If the driver's library has no queue functions, or refuses.
    pub fn new(context: &Arc<CudaContext>) -> Result<Queue, CudaError> {
        let mut queue = Queue::unnumbered(context)?;
        queue.number = context.add_queue(queue.stream);
        Ok(queue)
    }

    /// Creates a queue that the pool does not know.
    pub(super) fn unnumbered(context: &Arc<CudaContext>) -> Result<Queue, CudaError> {
        let library = context.enter()?;
        let stream =
            (library.create_stream()).map_err(|failure| CudaError::of(&library, failure))?;
        context.add_stream(stream);
        Ok(Queue {
            context: Arc::clone(context),
            stream,
            number: NO_NUMBER,
            capture: Mutex::new(None),
        })
    }

    /// Number of the queue in the pool.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The device's context.
    pub fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    /// Waits until all work is complete. Its failures are reported here or by an earlier call.
    ///
    /// # Errors
    /// If the work failed.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.refuse_in_capture("a wait")?;
        count(&self.context.counters.waits, 1);
        self.act(|library| library.synchronize_stream(self.stream))
    }

    /// Whether all work is complete.
    ///
    /// # Errors
    /// If the work failed.
    pub fn is_done(&self) -> Result<bool, CudaError> {
        self.refuse_in_capture("a question")?;
        self.act(|library| library.is_stream_done(self.stream))
    }

    /// Copies within the device, in queue order.
    ///
    /// # Errors
    /// If the memory is not allocated, or the device refuses.
    pub fn copy(&self, from: Address, to: Address, bytes: u64) -> Result<(), CudaError> {
        self.context.check_held("a copy", from, bytes)?;
        self.context.check_held("a copy", to, bytes)?;
        self.act(|library| {
            (self.context.settle(library))
                .and_then(|()| library.copy_on(self.stream, to.0, from.0, bytes))
        })
    }

    /// Fills device memory with one byte value, in queue order.
    ///
    /// # Errors
    /// If the memory is not allocated, or the device refuses.
    pub fn fill(&self, to: Address, byte: u8, bytes: u64) -> Result<(), CudaError> {
        self.context.check_held("a fill", to, bytes)?;
        self.act(|library| {
            (self.context.settle(library))
                .and_then(|()| library.fill_on(self.stream, to.0, byte, bytes))
        })
    }

    /// Makes later work of this queue wait for all work submitted to `other` so far.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn wait_for(&self, other: &Queue) -> Result<(), CudaError> {
        self.refuse_in_capture("a wait")?;
        self.act(|library| {
            let event = library.create_event()?;
            let result = (library.record_event(event, other.stream))
                .and_then(|()| library.stream_wait(self.stream, event));
            // The library keeps the event until the wait is over.
            let _ = twice(|| library.destroy_event(event));
            result
        })
    }

    /// Launches a kernel with copies of the parameters' bytes. Nothing is allocated.
    ///
    /// # Safety
    /// Pointer parameters must address memory that the kernel may access until the queue is past
    /// the launch. Size parameters must not exceed that memory. A kernel that begins early must
    /// wait for the one before it as [`Kernel::beginning_early`] says.
    ///
    /// # Errors
    /// If the parameters do not match the kernel's, the device cannot run the shape, or the device
    /// refuses.
    pub unsafe fn launch(
        &self,
        kernel: &Kernel,
        shape: &LaunchShape,
        parameters: &[&[u8]],
    ) -> Result<(), CudaError> {
        kernel.check(shape, parameters)?;
        let mut pointers = [std::ptr::null::<c_void>(); PARAMETERS_MAX];
        for (pointer, parameter) in pointers.iter_mut().zip(parameters) {
            *pointer = parameter.as_ptr().cast();
        }
        let extent = shape.into();
        let launch = |library: &Library| {
            let (function, early) = (kernel.function(), kernel.begins_early());
            // SAFETY: `check` compared the number and sizes of the parameters with the kernel's;
            // the caller vouches for their values, and for the wait of a kernel that begins early.
            unsafe { library.launch(self.stream, function, &extent, &pointers, early) }
        };
        let mut capture = self.capture();
        let launched = match &mut *capture {
            Some(modules) => {
                if !(modules.iter()).any(|module| Arc::ptr_eq(module, kernel.module())) {
                    modules.push(Arc::clone(kernel.module()));
                }
                drop(capture);
                (self.context.enter()).and_then(|library| launch(&library))
            }
            None => {
                drop(capture);
                self.context.launch(launch)
            }
        };
        launched.map_err(|failure| kernel.explain(shape, self.context.error(failure)))?;
        let counters = &self.context.counters;
        count(&counters.launches, 1);
        count(&counters.early_launches, usize::from(kernel.begins_early()));
        Ok(())
    }

    /// Captures the work that `work` submits to this queue as a graph, without running it.
    ///
    /// # Errors
    /// If `work` fails, submits something that cannot be captured, or the device refuses.
    pub fn capture_graph<E: From<CudaError>>(
        self: &Arc<Self>,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<Graph, E> {
        self.refuse_in_capture("a capture")?;
        let turn = self.context.capture_turn();
        self.act(|library| {
            // Pending staged copies must complete first: a capture cannot wait for them.
            (self.context.settle(library)).and_then(|()| library.begin_capture(self.stream))
        })?;
        *self.capture() = Some(Vec::new());
        let mut running = Capturing {
            queue: self,
            has_ended: false,
            _turn: turn,
        };
        let result = work();
        let (captured, modules) = running.end();
        drop(running);
        if let (Ok(graph), Err(_)) = (&captured, &result) {
            self.give_back(*graph);
        }
        result?;
        Ok(Graph::new(self, captured?, modules)?)
    }

    /// Replays a graph.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn launch_graph(&self, graph: &Graph) -> Result<(), CudaError> {
        self.refuse_in_capture("a graph")?;
        let launch = |library: &Library| library.launch_graph(self.stream, graph.executable());
        (self.context.launch(launch)).map_err(|failure| self.context.error(failure))?;
        count(&self.context.counters.graph_launches, 1);
        Ok(())
    }

    fn give_back(&self, graph: CapturedGraph) {
        if let Ok(library) = self.context.enter_to_give_back() {
            let _ = twice(|| library.destroy_graph(graph));
        }
    }

    pub(super) fn stream(&self) -> Stream {
        self.stream
    }

    pub(super) fn act<T>(
        &self,
        act: impl FnOnce(&Library) -> Result<T, CallFailure>,
    ) -> Result<T, CudaError> {
        let library = self.context.enter()?;
        act(&library).map_err(|failure| CudaError::of(&library, failure))
    }

    pub(super) fn refuse_in_capture(&self, call: &'static str) -> Result<(), CudaError> {
        match *self.capture() {
            Some(_) => Err(CudaError::Capturing { call }),
            None => Ok(()),
        }
    }

    fn capture(&self) -> MutexGuard<'_, Option<Vec<Arc<Module>>>> {
        self.capture.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A capture under way; dropping it ends the capture even if `work` panics.
struct Capturing<'a> {
    queue: &'a Queue,
    has_ended: bool,
    _turn: CaptureTurn<'a>,
}

impl Capturing<'_> {
    fn end(&mut self) -> (Result<CapturedGraph, CudaError>, Vec<Arc<Module>>) {
        self.has_ended = true;
        let queue = self.queue;
        let modules = queue.capture().take().unwrap_or_default();
        // An unfinished capture would block the queue for ever.
        let stream = queue.stream;
        let captured = match queue.context.enter_to_give_back() {
            Ok(library) => (library.end_capture(stream))
                .or_else(|failure| match failure.status {
                    // It has ended, without a graph.
                    CAPTURE_INVALIDATED => Err(failure),
                    _ => library.end_capture(stream).map_err(|_| failure),
                })
                .map_err(|failure| CudaError::of(&library, failure)),
            Err(failure) => Err(failure.into()),
        };
        (captured, modules)
    }
}

impl Drop for Capturing<'_> {
    fn drop(&mut self) {
        if !self.has_ended
            && let (Ok(graph), _) = self.end()
        {
            self.queue.give_back(graph);
        }
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Queue({})", self.number)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // Nobody else may wait for a queue that is being destroyed.
        let _turn = self.context.turn();
        if self.number != NO_NUMBER {
            self.context.remove_queue(self.number);
        }
        self.context.remove_stream(self.stream);
        // Pending work completes first. If that fails, releasing the context frees the queue.
        if let Ok(library) = self.context.enter_to_give_back() {
            let _ = twice(|| library.synchronize_stream(self.stream));
            let _ = twice(|| library.destroy_stream(self.stream));
        }
    }
}
