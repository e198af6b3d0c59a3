//! The command line, the memory tools and what models are made of.

use crate::errors::{Failed, other, unlocked};
use pyo3::prelude::*;
use sottovoce::text::LANGUAGES;
use sottovoce::{ModelConfig, parse_variant};
use sottovoce_chatterbox::config::Variant;
use sottovoce_chatterbox::convert::convert_model;
use sottovoce_chatterbox::weights::WeightSource;
use sottovoce_cli::environment::hub_settings;
use sottovoce_hub::OfficialModel;
use sottovoce_tensor::Precision;
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

/// Longest sentence of a model of random weights, in speech tokens: two seconds.
const SENTENCE_TOKENS_MAX: usize = 50;

/// Runs the command line; its exit status.
#[pyfunction]
pub fn run_command(py: Python<'_>, arguments: Vec<OsString>) -> Result<u8, Failed> {
    unlocked(py, || {
        Ok::<_, Failed>(status(sottovoce_cli::run(arguments)))
    })
}

/// Runs a command that prints JSON; what it would print, and what it notes beside.
#[pyfunction]
pub fn run_tool(py: Python<'_>, arguments: Vec<OsString>) -> Result<String, Failed> {
    unlocked(py, || {
        sottovoce_cli::capture(arguments).map_err(Failed::Tool)
    })
}

/// An exit status as a number, which it does not tell itself.
fn status(code: ExitCode) -> u8 {
    let is_it = |status: &u8| ExitCode::from(*status) == code;
    (0..=u8::MAX).find(is_it).unwrap_or(1)
}

/// Downloads what is missing of an official model; its folder.
#[pyfunction]
pub fn download(py: Python<'_>, name: &str) -> Result<PathBuf, Failed> {
    let model = OfficialModel::named(name).ok_or_else(|| Failed::Model {
        name: name.to_owned(),
        reason: "it is none of the official ones".into(),
    })?;
    let failed = |error: sottovoce_hub::Error| Failed::Model {
        name: name.to_owned(),
        reason: error.to_string(),
    };
    unlocked(py, || {
        let downloaded = model.download(&hub_settings(), &mut |_, _, _| ControlFlow::Continue(()));
        downloaded.map_err(failed)
    })
}

/// Languages of the multilingual models: code and English name.
#[pyfunction]
pub fn languages() -> Vec<(&'static str, &'static str)> {
    LANGUAGES.to_vec()
}

/// Writes a small model of random weights, for tests.
#[pyfunction]
pub fn write_random_model(py: Python<'_>, folder: PathBuf, variant: &str) -> Result<(), Failed> {
    let mut config = match parse_variant(variant)? {
        Variant::Base => ModelConfig::tiny_base(),
        Variant::Flash => ModelConfig::tiny_flash(),
        Variant::Multilingual => ModelConfig::tiny_multilingual(),
        _ => ModelConfig::tiny_turbo(),
    };
    // Random weights hardly ever end a sentence.
    config.t3.sampling.token_count_max = SENTENCE_TOKENS_MAX;
    unlocked(py, || {
        let source = WeightSource::synthetic(config, 1);
        convert_model(&source, &folder, Precision::F32).map_err(other)
    })?;
    Ok(())
}
