//! Graphs: captured work, and its executable form.

use super::{Device, ExecutableGraph, new_handle};
use crate::executor::Step;
use crate::status::{Outcome, Status};
use std::sync::Arc;

impl Device {
    /// Stores a captured graph.
    pub fn add_graph(&mut self, steps: Arc<[Step]>) -> u64 {
        let handle = new_handle();
        self.graphs.insert(handle, steps);
        handle
    }

    /// Number of nodes of a graph.
    pub fn node_count(&mut self, handle: u64) -> Result<usize, Status> {
        match self.graphs.get(&handle) {
            Some(steps) => Ok(steps.len()),
            None => Err(self.unknown_handle()),
        }
    }

    /// Destroys a graph; executable graphs made from it remain.
    pub fn destroy_graph(&mut self, handle: u64) -> Outcome {
        match self.graphs.remove(&handle) {
            Some(_) => Ok(()),
            None => Err(self.unknown_handle()),
        }
    }

    /// Instantiates a graph, which takes device memory.
    pub fn instantiate(&mut self, handle: u64) -> Result<u64, Status> {
        self.refuse_in_capture()?;
        let Some(steps) = self.graphs.get(&handle).cloned() else {
            return Err(self.unknown_handle());
        };
        let bytes = self.settings.graph + self.settings.node * steps.len() as u64;
        self.take(bytes)?;
        let executable = new_handle();
        let graph = ExecutableGraph { steps, bytes };
        self.executables.insert(executable, graph);
        Ok(executable)
    }

    /// Destroys an executable graph after all work is complete.
    pub fn destroy_executable(&mut self, handle: u64) -> Outcome {
        if !self.executables.contains_key(&handle) {
            return Err(self.unknown_handle());
        }
        self.finish_all()?;
        if let Some(graph) = self.executables.remove(&handle) {
            self.give(graph.bytes);
        }
        Ok(())
    }

    /// Launches a graph on a queue.
    pub fn launch_graph(&mut self, handle: u64, queue: u64) -> Outcome {
        let Some(graph) = self.executables.get(&handle) else {
            return Err(self.unknown_handle());
        };
        let steps = Arc::clone(&graph.steps);
        self.take_stacks()?;
        self.submit_all(queue, steps)?;
        self.counts.graph_launches += 1;
        Ok(())
    }
}
