//! Suites that several test files share.

pub mod driver_conformance;
