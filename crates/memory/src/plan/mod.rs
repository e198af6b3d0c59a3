//! Memory whose future is known: lifetimes in, offsets and a peak out.
//!
//! ```
//! use sottovoce_memory::plan::{self, Lifetime, SolveOptions};
//!
//! // Three tensors; the first is gone when the third is born.
//! let lifetimes = [
//!     Lifetime { first: 0, last: 2, bytes: 1024 },
//!     Lifetime { first: 1, last: 4, bytes: 512 },
//!     Lifetime { first: 2, last: 4, bytes: 1024 },
//! ];
//! let plan = plan::solve(&lifetimes, &SolveOptions::default());
//! plan::validate(&lifetimes, &plan)?;
//! assert_eq!(plan.peak, 1536);
//! assert_eq!(plan.lower_bound, 1536);
//! # Ok::<(), plan::PlanViolation>(())
//! ```
//!
//! A [`crate::PlannedArena`] serves runs by plans.

mod conflict;
mod csv;
mod heuristic;
mod learning;
mod lifetime;
mod moments;
mod overlaps;
mod search;
mod solver;
mod sweep;
mod validate;

pub use csv::{CSV_HEADER, CsvError, read_csv};
pub use lifetime::{Lifetime, lower_bound};
pub use solver::{DoesNotFit, Plan, SolveOptions, fit, solve};
pub use validate::{PlanViolation, validate};
