//! The networks of the Chatterbox family.

#![cfg_attr(not(test), deny(clippy::unwrap_used))]

pub mod components;
pub mod config;
pub mod convert;
pub mod inspect;
pub mod parity;
pub mod s3gen;
pub mod t3;
pub mod text;
pub mod vocoder;
pub mod voice;
pub mod watermark;
pub mod weights;
