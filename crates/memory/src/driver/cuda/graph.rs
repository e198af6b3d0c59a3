//! Graphs: work captured once and launched again as a whole.

use super::error::CudaError;
use super::module::Module;
use super::queue::Queue;
use super::symbols::{CapturedGraph, ExecutableGraph};
use super::twice;
use std::fmt;
use std::sync::Arc;

/// An executable graph. It keeps the modules of its kernels loaded. Its creator must keep the
/// memory that it uses.
pub struct Graph {
    queue: Arc<Queue>,
    executable: ExecutableGraph,
    node_count: usize,
    bytes: u64,
    /// Modules whose kernels the graph launches.
    _modules: Vec<Arc<Module>>,
}

impl Graph {
    /// Instantiates captured work. Device memory that the driver takes for it is booked.
    pub(super) fn new(
        queue: &Arc<Queue>,
        captured: CapturedGraph,
        modules: Vec<Arc<Module>>,
    ) -> Result<Graph, CudaError> {
        let context = queue.context();
        let made = context.measured(
            |bytes| &mut bytes.graphs,
            |library| {
                let node_count = library.node_count(captured)?;
                Ok((library.instantiate(captured)?, node_count))
            },
        );
        if let Ok(library) = context.enter_to_give_back() {
            let _ = twice(|| library.destroy_graph(captured));
        }
        let ((executable, node_count), bytes) = made.map_err(|failure| context.error(failure))?;
        Ok(Graph {
            queue: Arc::clone(queue),
            executable,
            node_count,
            bytes,
            _modules: modules,
        })
    }

    /// Number of kernel, copy and fill nodes.
    pub fn node_count(&self) -> usize {
        self.node_count
    }

    /// Device memory taken by the graph, in bytes.
    pub fn device_bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn executable(&self) -> ExecutableGraph {
        self.executable
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Graph({} nodes)", self.node_count)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let context = self.queue.context();
        let mut given_back = self.bytes;
        if let Ok(library) = context.enter_to_give_back() {
            // The graph may still be running on any queue.
            let _ = twice(|| context.finish(&library, &context.turn()));
            let before = library.memory();
            let _ = twice(|| library.destroy_executable(self.executable));
            // A driver may keep memory of one graph for the next.
            if let (Ok((before, _)), Ok((after, _))) = (before, library.memory()) {
                given_back = given_back.min(after.saturating_sub(before));
            }
        }
        context.forget(|bytes| &mut bytes.graphs, given_back);
    }
}
