//! What was passed over or changed in a text, and where.

use serde::Serialize;

/// Warnings that are kept of one text; how many more there were is said in the last one.
const WARNINGS_MAX: usize = 100;
/// Characters of the text that a warning shows.
const SHOWN_CHARACTERS_MAX: usize = 40;

/// Something in a text that is not spoken as it stands there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The line, from 1.
    pub line: usize,
    /// The character, word or tag in question.
    pub character: String,
    /// What became of it.
    pub message: String,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "line {}: {:?}: {}",
            self.line, self.character, self.message
        )
    }
}

/// Warnings as they are found.
pub(super) struct Warnings<'s> {
    source: &'s str,
    found: Vec<Warning>,
    further: usize,
    /// The byte up to which lines were counted, and the line that it is in.
    counted: (usize, usize),
}

impl<'s> Warnings<'s> {
    pub fn new(source: &'s str) -> Warnings<'s> {
        Warnings {
            source,
            found: Vec::new(),
            further: 0,
            counted: (0, 1),
        }
    }

    /// Adds a warning about what stands at the byte `at`.
    pub fn add(&mut self, at: usize, shown: &str, message: String) {
        if self.found.len() == WARNINGS_MAX {
            self.further += 1;
            return;
        }
        let line = self.line(at);
        let mut character: String = shown.chars().take(SHOWN_CHARACTERS_MAX).collect();
        if character.len() < shown.len() {
            character.push('…');
        }
        self.found.push(Warning {
            line,
            character,
            message,
        });
    }

    /// The line of a byte. Places mostly come in order, so that lines are seldom counted twice.
    fn line(&mut self, at: usize) -> usize {
        let at = at.min(self.source.len());
        let (from, line) = match self.counted {
            counted @ (from, _) if from <= at => counted,
            _ => (0, 1),
        };
        let breaks = self.source.as_bytes()[from..at]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        self.counted = (at, line + breaks);
        line + breaks
    }

    /// All of them.
    pub fn finish(mut self) -> Vec<Warning> {
        if self.further > 0
            && let Some(last) = self.found.last().cloned()
        {
            let message = format!("{} more were passed over", self.further);
            self.found.push(Warning { message, ..last });
        }
        self.found
    }
}
