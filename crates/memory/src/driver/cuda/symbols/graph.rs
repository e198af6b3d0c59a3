//! Capture of a queue's work into graphs, and their replay.

use super::queue::Stream;
use super::{CallFailure, Library, need};
use std::ffi::{c_uint, c_ulonglong, c_void};

/// `CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`: calls that cannot be captured are refused in this thread
/// only.
const THREAD_LOCAL: c_uint = 1;

handles! {
    /// A captured graph.
    CapturedGraph;
    /// An executable graph.
    ExecutableGraph;
}

functions! {
    /// Graphs: absent before CUDA 11.4.
    struct Graphs {
        begin = "cuStreamBeginCapture_v2": fn(*mut c_void, c_uint);
        end = "cuStreamEndCapture": fn(*mut c_void, *mut *mut c_void);
        nodes = "cuGraphGetNodes": fn(*mut c_void, *mut *mut c_void, *mut usize);
        instantiate = "cuGraphInstantiateWithFlags": fn(*mut *mut c_void, *mut c_void, c_ulonglong);
        launch = "cuGraphLaunch": fn(*mut c_void, *mut c_void);
        destroy = "cuGraphDestroy": fn(*mut c_void);
        destroy_executable = "cuGraphExecDestroy": fn(*mut c_void);
    }
}

impl Library {
    /// Whether the graph functions are present; otherwise the missing one.
    pub(in crate::driver::cuda) fn has_graphs(&self) -> Result<(), &'static str> {
        self.graphs.map(|_| ())
    }

    /// Begins to capture a queue's work.
    pub(in crate::driver::cuda) fn begin_capture(&self, stream: Stream) -> Result<(), CallFailure> {
        // SAFETY: the handle came from the library.
        let status = unsafe { (need(self.graphs)?.begin)(stream.pointer(), THREAD_LOCAL) };
        self.check("cuStreamBeginCapture", status)
    }

    /// Ends a capture.
    pub(in crate::driver::cuda) fn end_capture(
        &self,
        stream: Stream,
    ) -> Result<CapturedGraph, CallFailure> {
        let mut graph = std::ptr::null_mut();
        // SAFETY: the handle came from the library, and the pointer is valid for the call.
        let status = unsafe { (need(self.graphs)?.end)(stream.pointer(), &mut graph) };
        self.check("cuStreamEndCapture", status)
            .map(|()| CapturedGraph(graph))
    }

    /// Number of nodes of a graph.
    pub(in crate::driver::cuda) fn node_count(
        &self,
        graph: CapturedGraph,
    ) -> Result<usize, CallFailure> {
        let mut count = 0;
        let graphs = need(self.graphs)?;
        // SAFETY: the handle came from the library; with a null array the call only counts nodes.
        let status = unsafe { (graphs.nodes)(graph.0, std::ptr::null_mut(), &mut count) };
        self.check("cuGraphGetNodes", status).map(|()| count)
    }

    /// Instantiates a captured graph.
    pub(in crate::driver::cuda) fn instantiate(
        &self,
        graph: CapturedGraph,
    ) -> Result<ExecutableGraph, CallFailure> {
        let mut executable = std::ptr::null_mut();
        // SAFETY: the handle came from the library, and the pointer is valid for the call.
        let status = unsafe { (need(self.graphs)?.instantiate)(&mut executable, graph.0, 0) };
        self.check("cuGraphInstantiateWithFlags", status)
            .map(|()| ExecutableGraph(executable))
    }

    /// Launches a graph on a queue.
    pub(in crate::driver::cuda) fn launch_graph(
        &self,
        stream: Stream,
        graph: ExecutableGraph,
    ) -> Result<(), CallFailure> {
        // SAFETY: both handles came from the library; the graph's creator keeps the memory that its
        // nodes use.
        let status = unsafe { (need(self.graphs)?.launch)(graph.0, stream.pointer()) };
        self.check("cuGraphLaunch", status)
    }

    pub(in crate::driver::cuda) fn destroy_graph(
        &self,
        graph: CapturedGraph,
    ) -> Result<(), CallFailure> {
        // SAFETY: the handle came from the library, and its owner releases it.
        let status = unsafe { (need(self.graphs)?.destroy)(graph.0) };
        self.check("cuGraphDestroy", status)
    }

    pub(in crate::driver::cuda) fn destroy_executable(
        &self,
        graph: ExecutableGraph,
    ) -> Result<(), CallFailure> {
        // SAFETY: the handle came from the library, and its owner releases it.
        let status = unsafe { (need(self.graphs)?.destroy_executable)(graph.0) };
        self.check("cuGraphExecDestroy", status)
    }
}
