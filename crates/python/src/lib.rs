//! The compiled half of the Python package `sottovoce`: the engine, the command line and the memory
//! tools as Python sees them. What callers meet, with types and documentation, is the Python in
//! `python/sottovoce`; nothing here is public.
//!
//! Rules of the border: Python's lock is free while the engine works ([`errors::unlocked`]), no
//! panic leaves ([`errors::Failed`]), and what belongs to a process is not touched in its forks
//! ([`process`]).
//!
//! # Terms
//!
//! | term | meaning |
//! |---|---|
//! | native module | this crate, `sottovoce._native` |
//! | public interface | the Python of `python/sottovoce`, with types and checks |
//! | GIL | the interpreter's global lock, free while the engine works |
//! | bell | a thread that wakes an asyncio loop when a stream has a chunk |
//! | stable ABI | the part of CPython's interface that one build uses on Python 3.10 and later |

mod allocator;
mod bell;
mod engine;
mod errors;
mod options;
mod process;
mod stream;
mod tools;
mod torch_error;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    use super::*;

    #[pymodule_export]
    use super::allocator::{allocator_report, install_allocator};
    #[pymodule_export]
    use super::engine::{Engine, Voice};
    #[pymodule_export]
    use super::options::option_tables;
    #[pymodule_export]
    use super::stream::Stream;
    #[pymodule_export]
    use super::tools::{download, languages, run_command, run_tool, write_random_model};

    #[pymodule_init]
    fn constants(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("SAMPLE_RATE", sottovoce::SAMPLE_RATE)?;
        module.add("TOKENS_PER_SECOND", sottovoce::TOKENS_PER_SECOND)?;
        module.add("TEXT_CHARACTERS_MAX", sottovoce::TEXT_CHARACTERS_MAX)
    }
}
