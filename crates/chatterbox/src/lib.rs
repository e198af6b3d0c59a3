//! The networks of the Chatterbox family: text to speech tokens to mel frames to samples.
//!
//! Every network is immutable and shared; the state of a stream belongs to the caller. Sizes come
//! from [`config::ModelConfig`].
//!
//! # Terms
//!
//! | term | meaning |
//! |---|---|
//! | text token | an input id of T3 |
//! | speech token | an output id of T3: 1/25 s of speech |
//! | mel frame | one column of a mel spectrogram, 1/50 s |
//! | T3 | the autoregressive transformer from text tokens to speech tokens |
//! | prefill, decoding step | T3's run over the whole prompt, and over one new position |
//! | KV cache | keys and values of earlier positions |
//! | classifier-free guidance | extrapolation from an unconditional row to the conditional one |
//! | S3Gen | the flow from speech tokens to mel frames: encoder and velocity estimator |
//! | look-ahead | input that a stage needs beyond its output |
//! | reach | input on either side that an output depends on |
//! | cross-fade | a weighted transition between two renderings of the same frames or samples |
//! | vocoder (HiFT) | mel frames to samples, with a harmonic source signal |
//! | voice | speaker embeddings and prompts, prepared from a reference clip |
//! | watermark | Perth's inaudible mark in the samples |

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
