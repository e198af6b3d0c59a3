//! Queues (streams), events, copies on queues, pinned memory.

use super::{CallFailure, Library, Status, need};
use cudarc::driver::sys::CUdeviceptr;
use std::ffi::{c_uchar, c_uint, c_void};

/// `CU_STREAM_NON_BLOCKING`: no implicit synchronisation with the process's default stream.
const NON_BLOCKING: c_uint = 1;
/// `CU_EVENT_DISABLE_TIMING`.
const NO_TIMING: c_uint = 2;

handles! {
    /// A queue (`CUstream`).
    Stream;
    /// An event.
    Event;
}

functions! {
    /// Functions of queues, events and pinned memory.
    struct Queues {
        create = "cuStreamCreate": fn(*mut *mut c_void, c_uint);
        destroy = "cuStreamDestroy_v2": fn(*mut c_void);
        synchronize = "cuStreamSynchronize": fn(*mut c_void);
        query = "cuStreamQuery": fn(*mut c_void);
        wait_event = "cuStreamWaitEvent": fn(*mut c_void, *mut c_void, c_uint);
        create_event = "cuEventCreate": fn(*mut *mut c_void, c_uint);
        destroy_event = "cuEventDestroy_v2": fn(*mut c_void);
        record_event = "cuEventRecord": fn(*mut c_void, *mut c_void);
        query_event = "cuEventQuery": fn(*mut c_void);
        synchronize_event = "cuEventSynchronize": fn(*mut c_void);
        write = "cuMemcpyHtoDAsync_v2": fn(CUdeviceptr, *const c_void, usize, *mut c_void);
        read = "cuMemcpyDtoHAsync_v2": fn(*mut c_void, CUdeviceptr, usize, *mut c_void);
        copy = "cuMemcpyDtoDAsync_v2": fn(CUdeviceptr, CUdeviceptr, usize, *mut c_void);
        fill = "cuMemsetD8Async": fn(CUdeviceptr, c_uchar, usize, *mut c_void);
        allocate_pinned = "cuMemHostAlloc": fn(*mut *mut c_void, usize, c_uint);
        free_pinned = "cuMemFreeHost": fn(*mut c_void);
    }
}

impl Stream {
    /// The process's default stream.
    pub(super) const DEFAULT: Stream = Stream(std::ptr::null_mut());

    /// A queue that another library in this process created; null is the default stream.
    ///
    /// # Safety
    /// The handle must be the library's, or null, for as long as it is used.
    pub(in crate::driver::cuda) unsafe fn of(pointer: *mut c_void) -> Stream {
        Stream(pointer)
    }

    pub(super) fn pointer(self) -> *mut c_void {
        self.0
    }
}

impl Library {
    /// Whether the queue functions are present; otherwise the missing one.
    pub(in crate::driver::cuda) fn has_queues(&self) -> Result<(), &'static str> {
        self.queues.map(|_| ())
    }

    pub(in crate::driver::cuda) fn create_stream(&self) -> Result<Stream, CallFailure> {
        let mut stream = std::ptr::null_mut();
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { (need(self.queues)?.create)(&mut stream, NON_BLOCKING) };
        self.check("cuStreamCreate", status)
            .map(|()| Stream(stream))
    }

    pub(in crate::driver::cuda) fn destroy_stream(
        &self,
        stream: Stream,
    ) -> Result<(), CallFailure> {
        // SAFETY: the handle came from the library, and its owner releases it.
        let status = unsafe { (need(self.queues)?.destroy)(stream.0) };
        self.check("cuStreamDestroy", status)
    }

    /// Waits for all work of a queue.
    pub(in crate::driver::cuda) fn synchronize_stream(
        &self,
        stream: Stream,
    ) -> Result<(), CallFailure> {
        // SAFETY: the handle came from the library.
        let status = unsafe { (need(self.queues)?.synchronize)(stream.0) };
        self.check("cuStreamSynchronize", status)
    }

    /// Whether all work of a queue is complete.
    pub(in crate::driver::cuda) fn is_stream_done(
        &self,
        stream: Stream,
    ) -> Result<bool, CallFailure> {
        // SAFETY: the handle came from the library.
        let status = unsafe { (need(self.queues)?.query)(stream.0) };
        self.check_done("cuStreamQuery", status)
    }

    /// Makes a queue wait for another queue's event.
    pub(in crate::driver::cuda) fn stream_wait(
        &self,
        stream: Stream,
        event: Event,
    ) -> Result<(), CallFailure> {
        // SAFETY: both handles came from the library.
        let status = unsafe { (need(self.queues)?.wait_event)(stream.0, event.0, 0) };
        self.check("cuStreamWaitEvent", status)
    }

    pub(in crate::driver::cuda) fn create_event(&self) -> Result<Event, CallFailure> {
        let mut event = std::ptr::null_mut();
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { (need(self.queues)?.create_event)(&mut event, NO_TIMING) };
        self.check("cuEventCreate", status).map(|()| Event(event))
    }

    pub(in crate::driver::cuda) fn destroy_event(&self, event: Event) -> Result<(), CallFailure> {
        // SAFETY: the handle came from the library, and its owner releases it.
        let status = unsafe { (need(self.queues)?.destroy_event)(event.0) };
        self.check("cuEventDestroy", status)
    }

    /// Records an event at the end of a queue's current work.
    pub(in crate::driver::cuda) fn record_event(
        &self,
        event: Event,
        stream: Stream,
    ) -> Result<(), CallFailure> {
        // SAFETY: both handles came from the library.
        let status = unsafe { (need(self.queues)?.record_event)(event.0, stream.0) };
        self.check("cuEventRecord", status)
    }

    /// Whether the work before an event is complete.
    pub(in crate::driver::cuda) fn is_event_done(&self, event: Event) -> Result<bool, CallFailure> {
        // SAFETY: the handle came from the library.
        let status = unsafe { (need(self.queues)?.query_event)(event.0) };
        self.check_done("cuEventQuery", status)
    }

    /// Waits for the work before an event.
    pub(in crate::driver::cuda) fn synchronize_event(
        &self,
        event: Event,
    ) -> Result<(), CallFailure> {
        // SAFETY: the handle came from the library.
        let status = unsafe { (need(self.queues)?.synchronize_event)(event.0) };
        self.check("cuEventSynchronize", status)
    }

    /// Copies to the device, in queue order.
    ///
    /// # Safety
    /// The bytes must stay valid and unchanged until the copy is complete.
    pub(in crate::driver::cuda) unsafe fn write_on(
        &self,
        stream: Stream,
        to: u64,
        from: *const u8,
        bytes: usize,
    ) -> Result<(), CallFailure> {
        // SAFETY: the handle came from the library; the caller keeps the bytes.
        let status: Status =
            unsafe { (need(self.queues)?.write)(to, from.cast(), bytes, stream.0) };
        self.check("cuMemcpyHtoDAsync", status)
    }

    /// Copies from the device, in queue order.
    ///
    /// # Safety
    /// Nobody else may access the bytes until the copy is complete.
    pub(in crate::driver::cuda) unsafe fn read_on(
        &self,
        stream: Stream,
        to: *mut u8,
        from: u64,
        bytes: usize,
    ) -> Result<(), CallFailure> {
        // SAFETY: the handle came from the library; the caller keeps the bytes.
        let status = unsafe { (need(self.queues)?.read)(to.cast(), from, bytes, stream.0) };
        self.check("cuMemcpyDtoHAsync", status)
    }

    /// Copies within the device, in queue order.
    pub(in crate::driver::cuda) fn copy_on(
        &self,
        stream: Stream,
        to: u64,
        from: u64,
        bytes: u64,
    ) -> Result<(), CallFailure> {
        // SAFETY: the handle came from the library; the caller's books hold the addresses.
        let status = unsafe { (need(self.queues)?.copy)(to, from, bytes as usize, stream.0) };
        self.check("cuMemcpyDtoDAsync", status)
    }

    /// Fills device memory, in queue order.
    pub(in crate::driver::cuda) fn fill_on(
        &self,
        stream: Stream,
        to: u64,
        byte: u8,
        bytes: u64,
    ) -> Result<(), CallFailure> {
        // SAFETY: the handle came from the library; the caller's books hold the addresses.
        let status = unsafe { (need(self.queues)?.fill)(to, byte, bytes as usize, stream.0) };
        self.check("cuMemsetD8Async", status)
    }

    /// Allocates page-locked host memory.
    pub(in crate::driver::cuda) fn allocate_pinned(
        &self,
        bytes: usize,
    ) -> Result<*mut u8, CallFailure> {
        let mut address = std::ptr::null_mut();
        // SAFETY: the pointer is valid for the call.
        let status = unsafe { (need(self.queues)?.allocate_pinned)(&mut address, bytes, 0) };
        self.check("cuMemHostAlloc", status)
            .map(|()| address.cast())
    }

    /// Frees pinned memory.
    ///
    /// # Safety
    /// The memory must come from [`Library::allocate_pinned`] and have no further use.
    pub(in crate::driver::cuda) unsafe fn free_pinned(
        &self,
        address: *mut u8,
    ) -> Result<(), CallFailure> {
        // SAFETY: the caller gives up the memory.
        let status = unsafe { (need(self.queues)?.free_pinned)(address.cast()) };
        self.check("cuMemFreeHost", status)
    }
}
