//! Errors of a batched step, each laid to one utterance where it can be.

use crate::error::Error;
use sottovoce_chatterbox::t3::{T3Error, T3State};

/// An error of a step, and the utterance that caused it.
#[derive(Debug)]
pub(crate) struct StepError {
    /// Index of the utterance in the batch; `None` if the error concerns the whole batch.
    pub index: Option<usize>,
    pub error: Error,
}

impl From<Error> for StepError {
    fn from(error: Error) -> StepError {
        StepError { index: None, error }
    }
}

impl From<StepError> for Error {
    fn from(step: StepError) -> Error {
        step.error
    }
}

/// Index in the batch of the state that T3 refused.
pub(super) fn at_fault(error: &T3Error, states: &[&mut T3State], tokens: &[u32]) -> Option<usize> {
    match error {
        T3Error::TokenOutOfRange { token, .. } => tokens.iter().position(|known| known == token),
        T3Error::TooLong { .. } => {
            let positions = states.iter().map(|state| state.position()).enumerate();
            positions
                .max_by_key(|(_, position)| *position)
                .map(|(at, _)| at)
        }
        _ => None,
    }
}
