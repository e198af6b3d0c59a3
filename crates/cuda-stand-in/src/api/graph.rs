//! Functions on capture, graphs and replay.

use super::put;
use crate::device::current;
use crate::status::{OUT_OF_MEMORY, Status, UNKNOWN};
use std::ffi::{c_uint, c_ulonglong, c_void};

#[unsafe(no_mangle)]
extern "C" fn cuStreamBeginCapture_v2(queue: *mut c_void, _mode: c_uint) -> Status {
    current("cuStreamBeginCapture", UNKNOWN, |_, device| {
        device.begin_capture(queue as u64)
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamEndCapture(queue: *mut c_void, place: *mut *mut c_void) -> Status {
    current("cuStreamEndCapture", UNKNOWN, |_, device| {
        let steps = device.end_capture(queue as u64)?;
        let graph = device.add_graph(steps);
        // SAFETY: the caller's place is valid.
        unsafe { put(place, graph as *mut c_void) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGraphGetNodes(
    graph: *mut c_void,
    nodes: *mut *mut c_void,
    count: *mut usize,
) -> Status {
    current("cuGraphGetNodes", UNKNOWN, |_, device| {
        // Only the number of nodes is supported.
        if !nodes.is_null() {
            return Err(device.misuse());
        }
        let nodes = device.node_count(graph as u64)?;
        // SAFETY: the caller's place is valid.
        unsafe { put(count, nodes) }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGraphInstantiateWithFlags(
    place: *mut *mut c_void,
    graph: *mut c_void,
    _flags: c_ulonglong,
) -> Status {
    current("cuGraphInstantiateWithFlags", OUT_OF_MEMORY, |_, device| {
        let executable = device.instantiate(graph as u64)?;
        // SAFETY: the caller's place is valid.
        unsafe { put(place, executable as *mut c_void) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphLaunch(graph: *mut c_void, queue: *mut c_void) -> Status {
    current("cuGraphLaunch", UNKNOWN, |_, device| {
        device.launch_graph(graph as u64, queue as u64)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphDestroy(graph: *mut c_void) -> Status {
    current("cuGraphDestroy", UNKNOWN, |_, device| {
        device.destroy_graph(graph as u64)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphExecDestroy(graph: *mut c_void) -> Status {
    current("cuGraphExecDestroy", UNKNOWN, |_, device| {
        device.destroy_executable(graph as u64)
    })
}
