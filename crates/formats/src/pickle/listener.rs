//! Seeing list items while a pickle is read.

use super::document::{Node, Value, View};

/// A step from a container to what it holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step<'a> {
    /// The value under a string key.
    Key(&'a str),
    /// The item at an index.
    Index(usize),
    /// Under a key that is no string.
    Other,
}

/// What becomes of an item that a listener has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It becomes part of the document.
    Keep,
    /// The listener has taken what it needs: the item is given up, and its memory with it.
    HandOver,
}

/// Sees the items of lists while the pickle is read, so that a long list need not be held.
///
/// Only lists at most [`LISTEN_DEPTH_MAX`] containers deep are announced, and only where the writer
/// filled each container in batches, as Python does for more than one entry. Other items are found
/// in the finished document.
pub trait Listener {
    /// An item about to be appended to the list at `path`. An error ends the reading.
    fn item(&mut self, path: &[Step<'_>], item: View<'_>) -> Result<Disposition, String>;
}

/// How deep lists are announced to a [`Listener`].
pub const LISTEN_DEPTH_MAX: usize = 6;

/// Lets everything become part of the document.
pub(super) struct KeepAll;

impl Listener for KeepAll {
    fn item(&mut self, _: &[Step<'_>], _: View<'_>) -> Result<Disposition, String> {
        Ok(Disposition::Keep)
    }
}

/// Fills the end of `steps` with the path from the root to the container at `position` on the
/// stack, and returns where the path starts. `None` for containers that lie too deep.
pub(super) fn path<'a>(
    nodes: &'a [Node],
    stack: &[Value],
    marks: &[usize],
    mut position: usize,
    steps: &mut [Step<'a>; LISTEN_DEPTH_MAX],
) -> Option<usize> {
    let mut first = LISTEN_DEPTH_MAX;
    for &mark in marks.iter().rev() {
        let container = View::new(nodes, *stack.get(mark.checked_sub(1)?)?);
        let pending = position.checked_sub(mark)?;
        let below = |distance: usize| container.at(stack[position - distance]);
        let mut step = |step| {
            first = first.checked_sub(1)?;
            steps[first] = step;
            Some(())
        };
        match container.node()? {
            Node::Dictionary(_) if pending % 2 == 1 => {
                step(below(1).text().map_or(Step::Other, Step::Key))?;
            }
            // A list with a single item is filled without a mark: it lies between the key and the
            // list in question.
            Node::Dictionary(_) if pending >= 2 => {
                step(
                    below(1)
                        .items()
                        .map_or(Step::Other, |items| Step::Index(items.len())),
                )?;
                step(below(2).text().map_or(Step::Other, Step::Key))?;
            }
            Node::List(items) => step(Step::Index(items.len() + pending))?,
            _ => step(Step::Other)?,
        }
        position = mark - 1;
    }
    // Below the outermost mark only the root: under a container without one, the way is not known.
    (position == 0).then_some(first)
}
