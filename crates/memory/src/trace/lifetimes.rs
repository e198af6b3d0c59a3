//! Conversion of events to the planner's input.

use super::error::TraceError;
use super::event::{Event, TagId};
use crate::plan::Lifetime;
use std::collections::HashMap;

/// The lifetimes of a trace, in the order of birth.
#[derive(Clone, Debug, Default)]
pub struct Lifetimes {
    /// Steps in which each allocation is live. There is one step for each allocation and each free;
    /// markers do not count. What is never freed lives one step past the last.
    pub lifetimes: Vec<Lifetime>,
    /// The tag of each lifetime.
    pub tags: Vec<TagId>,
    /// Starts of phases: the step of the first event after a marker, and the marker's text.
    pub phases: Vec<(u32, Box<str>)>,
    /// The number of steps.
    pub steps: u32,
    /// Events, markers included.
    pub events: u64,
}

impl Lifetimes {
    /// Collects the lifetimes of all events.
    ///
    /// # Errors
    /// The reader's first error.
    pub fn collect(
        events: impl IntoIterator<Item = Result<Event, TraceError>>,
    ) -> Result<Lifetimes, TraceError> {
        let mut collected = Lifetimes::default();
        let mut live: HashMap<u64, usize> = HashMap::new();
        for event in events {
            collected.events += 1;
            match event? {
                Event::Allocate { id, bytes, tag, .. } => {
                    live.insert(id, collected.lifetimes.len());
                    collected.lifetimes.push(Lifetime {
                        first: collected.steps,
                        last: u32::MAX,
                        bytes,
                    });
                    collected.tags.push(tag);
                    collected.steps += 1;
                }
                Event::Free { id } => {
                    if let Some(lifetime) = live
                        .remove(&id)
                        .and_then(|index| collected.lifetimes.get_mut(index))
                    {
                        lifetime.last = collected.steps;
                    }
                    collected.steps += 1;
                }
                Event::Marker(text) => collected.phases.push((collected.steps, text)),
            }
        }
        for &index in live.values() {
            collected.lifetimes[index].last = collected.steps + 1;
        }
        Ok(collected)
    }
}
