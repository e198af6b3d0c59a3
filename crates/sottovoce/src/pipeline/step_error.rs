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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_whose_token_does_not_exist_is_at_fault_and_nobody_where_the_error_is_of_all() {
        let unknown = T3Error::TokenOutOfRange {
            kind: "speech",
            token: 9000,
            vocabulary: 8194,
        };
        assert_eq!(at_fault(&unknown, &[], &[5, 9000, 7]), Some(1));
        let of_all = T3Error::Decoding {
            expected: "token by token",
        };
        assert_eq!(at_fault(&of_all, &[], &[5, 9000, 7]), None);
    }
}
