//! Warnings about parts of a text that were skipped or changed.

use serde::Serialize;

/// Limit of the warnings of one text; the last one counts the others.
const WARNINGS_MAX: usize = 100;
/// Characters of the text shown in a warning.
const SHOWN_CHARACTERS_MAX: usize = 40;

/// A part of a text that is not spoken as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Line number, from 1.
    pub line: usize,
    /// The character, word or tag in question.
    pub character: String,
    /// What happens to it.
    pub message: String,
}

impl Warning {
    /// Whether both say the same of the same word or tag, on whichever lines.
    pub fn is_alike(&self, other: &Warning) -> bool {
        (&self.character, &self.message) == (&other.character, &other.message)
    }
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

/// Collects warnings.
pub(super) struct Warnings<'s> {
    source: &'s str,
    found: Vec<Warning>,
    further: usize,
    /// Byte offset up to which lines were counted, and its line.
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

    /// Adds a warning about the text at byte `at`.
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

    /// The line of a byte. Offsets are mostly ascending, so lines are rarely counted twice.
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

    /// All warnings.
    pub fn finish(mut self) -> Vec<Warning> {
        if self.further > 0
            && let Some(last) = self.found.last().cloned()
        {
            let message = format!("{} more warnings were omitted", self.further);
            self.found.push(Warning { message, ..last });
        }
        self.found
    }
}
