//! Access to list items while a pickle is read.

use super::document::{Node, Value, ValueRef};

/// A step from a container to one of its items.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PickleStep<'a> {
    /// The value under a string key.
    Key(&'a str),
    /// The item at an index.
    Index(usize),
    /// A key that is not a string.
    Other,
}

/// What to do with an item that a listener has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Keep it as part of the document.
    Keep,
    /// Drop it and free its memory: the listener has taken what it needs.
    HandOver,
}

/// Sees the items of lists while a pickle is read, so that a long list need not be held in memory.
///
/// Only lists at a depth of at most [`LISTEN_DEPTH_MAX`] containers are announced, and only if each
/// container is filled in batches, as Python does for more than one entry. Other items are found in
/// the finished document.
pub trait PickleListener {
    /// Called before an item is appended to the list at `path`. An error ends the reading.
    ///
    /// # Errors
    /// The reason to end the reading, which ends with
    /// [`PickleErrorKind::Refused`](super::PickleErrorKind::Refused).
    fn item(&mut self, path: &[PickleStep<'_>], item: ValueRef<'_>) -> Result<Disposition, String>;
}

/// Depth down to which lists are announced to a [`PickleListener`].
pub const LISTEN_DEPTH_MAX: usize = 6;

/// A listener that keeps every item.
pub(super) struct KeepAll;

impl PickleListener for KeepAll {
    fn item(&mut self, _: &[PickleStep<'_>], _: ValueRef<'_>) -> Result<Disposition, String> {
        Ok(Disposition::Keep)
    }
}

/// Replaces the end of `steps` by the path from the root to the container at `position` on the
/// stack, and returns the start of the path. `None` for containers that are nested too deeply.
pub(super) fn path<'a>(
    nodes: &'a [Node],
    stack: &[Value],
    marks: &[usize],
    mut position: usize,
    steps: &mut [PickleStep<'a>; LISTEN_DEPTH_MAX],
) -> Option<usize> {
    let mut first = LISTEN_DEPTH_MAX;
    for &mark in marks.iter().rev() {
        let container = ValueRef::new(nodes, *stack.get(mark.checked_sub(1)?)?);
        let pending = position.checked_sub(mark)?;
        let below = |distance: usize| container.at(stack[position - distance]);
        let mut step = |step| {
            first = first.checked_sub(1)?;
            steps[first] = step;
            Some(())
        };
        match container.node()? {
            Node::Dictionary(_) if pending % 2 == 1 => {
                step(below(1).text().map_or(PickleStep::Other, PickleStep::Key))?;
            }
            // A list with a single item is filled without a mark: it lies between the key and the
            // list in question.
            Node::Dictionary(_) if pending >= 2 => {
                step(
                    below(1)
                        .items()
                        .map_or(PickleStep::Other, |items| PickleStep::Index(items.len())),
                )?;
                step(below(2).text().map_or(PickleStep::Other, PickleStep::Key))?;
            }
            Node::List(items) => step(PickleStep::Index(items.len() + pending))?,
            _ => step(PickleStep::Other)?,
        }
        position = mark - 1;
    }
    // Only the root may lie below the outermost mark: the path of a container without a mark is
    // unknown.
    (position == 0).then_some(first)
}
