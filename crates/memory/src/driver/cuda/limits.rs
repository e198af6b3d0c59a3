//! Memory that the driver takes for itself: reduced by lowering limits, then measured.

use super::symbols::Library;
use serde::Serialize;

/// `CU_LIMIT_STACK_SIZE`: from the first launch on, the driver holds one stack for each thread that
/// the device can run at once. On a card with 128 multiprocessors, 1,024 bytes a thread add up to
/// 192 MiB.
const STACK: u32 = 0;
/// `CU_LIMIT_PRINTF_FIFO_SIZE`.
const PRINT: u32 = 1;
/// `CU_LIMIT_MALLOC_HEAP_SIZE`.
const HEAP: u32 = 2;

/// Limits of a context, in bytes; `None` where the driver does not report one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ContextLimits {
    /// Stack of each thread.
    pub stack_bytes: Option<u64>,
    /// Buffer of device-side `printf`.
    pub print_bytes: Option<u64>,
    /// Heap of device-side `malloc`.
    pub heap_bytes: Option<u64>,
}

impl ContextLimits {
    /// Lowers the limits of this thread's context as far as the driver allows, and returns them.
    /// The kernels use no stack, no `printf` and no `malloc`.
    pub(super) fn lower(library: &Library) -> ContextLimits {
        for limit in [STACK, PRINT, HEAP] {
            // The driver rounds 0 up to its minimum. If it refuses, the limit stays as it was.
            let _ = library.set_limit(limit, 0);
        }
        ContextLimits::read(library)
    }

    /// Limits of this thread's context.
    pub(super) fn read(library: &Library) -> ContextLimits {
        let [stack_bytes, print_bytes, heap_bytes] =
            [STACK, PRINT, HEAP].map(|limit| library.limit(limit).ok());
        ContextLimits {
            stack_bytes,
            print_bytes,
            heap_bytes,
        }
    }
}

/// Device memory that the driver holds for this program, in bytes, measured as the difference of
/// free memory before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DriverBytes {
    /// The context; `None` if it could not be measured.
    pub context: Option<u64>,
    /// Loaded modules.
    pub modules: u64,
    /// Stacks of all threads that the device can run at once, allocated at the first launch.
    pub stacks: u64,
    /// Executable graphs.
    pub graphs: u64,
}

impl DriverBytes {
    /// Sum of all parts.
    pub fn total(self) -> u64 {
        self.context.unwrap_or(0) + self.modules + self.stacks + self.graphs
    }
}
