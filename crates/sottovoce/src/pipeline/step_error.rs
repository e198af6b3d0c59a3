//! Errors of a batched step, each laid to one utterance where it can be.

use crate::error::Error;
use sottovoce_chatterbox::t3::BatchError;

/// An error of a step, and the utterance that caused it.
#[derive(Debug)]
pub(crate) struct StepError {
    /// Index of the utterance in the batch; `None` if the error concerns the whole batch.
    pub index: Option<usize>,
    pub error: Error,
}

impl StepError {
    /// The error of a run without the utterances that `began` a sentence, as one of all utterances.
    pub fn among(self, began: &[bool]) -> StepError {
        let mut under_way = (0..began.len()).filter(|&index| !began[index]);
        StepError {
            index: self.index.and_then(|index| under_way.nth(index)),
            ..self
        }
    }
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

impl From<BatchError> for StepError {
    fn from(refused: BatchError) -> StepError {
        StepError {
            index: refused.index,
            error: refused.error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_run_names_its_stream_among_those_that_began_a_sentence() {
        let of = |index| StepError {
            index,
            error: Error::Stopped,
        };
        let began = [true, false, true, false];
        assert_eq!(of(Some(1)).among(&began).index, Some(3));
        assert_eq!(of(Some(0)).among(&began).index, Some(1));
        assert_eq!(of(None).among(&began).index, None);
    }
}
