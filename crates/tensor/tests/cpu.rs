//! The processor does what every device must.

mod common;
mod conformance;

use common::Fixture;

conformance::suite!(Fixture::cpu());
