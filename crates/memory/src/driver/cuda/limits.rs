//! What the driver takes for itself: as little as it can be brought to, and measured.

use super::symbols::Library;
use serde::Serialize;

/// `CU_LIMIT_STACK_SIZE`: every thread that the device can hold has a stack of its own from the
/// first launch on, so that 1,024 bytes are 192 MiB on a card with 128 multiprocessors.
const STACK: u32 = 0;
/// `CU_LIMIT_PRINTF_FIFO_SIZE`.
const PRINT: u32 = 1;
/// `CU_LIMIT_MALLOC_HEAP_SIZE`.
const HEAP: u32 = 2;

/// Limits of a context, in bytes; none where the driver does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// The stack of each thread.
    pub stack_bytes: Option<u64>,
    /// What kernels may print.
    pub print_bytes: Option<u64>,
    /// What kernels may allocate.
    pub heap_bytes: Option<u64>,
}

impl Limits {
    /// Lowers the limits of this thread's context as far as the driver allows it, and says what
    /// they are. Our kernels have no stack, print nothing and allocate nothing.
    pub(super) fn lower(library: &Library) -> Limits {
        for limit in [STACK, PRINT, HEAP] {
            // The driver rounds up to the least that it can; where it refuses, the limit stays as
            // it is.
            let _ = library.set_limit(limit, 0);
        }
        Limits::read(library)
    }

    /// The limits of this thread's context as they are.
    pub(super) fn read(library: &Library) -> Limits {
        let [stack_bytes, print_bytes, heap_bytes] =
            [STACK, PRINT, HEAP].map(|limit| library.limit(limit).ok());
        Limits {
            stack_bytes,
            print_bytes,
            heap_bytes,
        }
    }
}

/// Device memory that the driver holds for itself on this program's behalf, in bytes, as it was
/// measured: free memory before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DriverBytes {
    /// The context; none where it cannot be known.
    pub context: Option<u64>,
    /// Loaded modules.
    pub modules: u64,
    /// The stacks of all threads that the device can hold, from the first launch on.
    pub stacks: u64,
    /// Graphs that can be launched.
    pub graphs: u64,
}

impl DriverBytes {
    /// All of it.
    pub fn total(self) -> u64 {
        self.context.unwrap_or(0) + self.modules + self.stacks + self.graphs
    }
}
