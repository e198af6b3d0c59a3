//! Suites shared by several test files.

pub mod driver_conformance;
