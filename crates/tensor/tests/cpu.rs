//! The CPU conforms to the device suite.

mod common;
mod conformance;

use common::Fixture;

conformance::suite!(Fixture::cpu());
