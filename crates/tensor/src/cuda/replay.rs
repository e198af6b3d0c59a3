//! Repeated forwards: their launches are gathered, compared with those of the last run, and
//! launched as one graph.
//!
//! Arrays that the host sends during gathering are copied ahead of all launches, in one copy.
//! Anything else (reading or writing elements, more arrays than there is room for) ends the
//! gathering: the gathered work is launched, and the rest follows one by one.

use super::Blocks;
use sottovoce_memory::driver::cuda::{Graph, Kernel};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Most forwards kept.
pub(super) const FORWARDS_MAX: usize = 64;

/// A launch: its kernel, its blocks, and the range of its arguments.
#[derive(Clone)]
struct Launch {
    kernel: Arc<Kernel>,
    blocks: Blocks,
    arguments: Range<usize>,
}

/// Launches in order.
#[derive(Default)]
pub(super) struct Launches {
    list: Vec<Launch>,
    /// Arguments of all launches.
    arguments: Vec<u8>,
}

impl Launches {
    pub fn push(&mut self, kernel: &Arc<Kernel>, blocks: Blocks, arguments: &[u8]) {
        let start = self.arguments.len();
        self.arguments.extend_from_slice(arguments);
        self.list.push(Launch {
            kernel: Arc::clone(kernel),
            blocks,
            arguments: start..self.arguments.len(),
        });
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn each(&self) -> impl Iterator<Item = (&Kernel, Blocks, &[u8])> {
        (self.list.iter()).map(|launch| {
            let arguments = &self.arguments[launch.arguments.clone()];
            (&*launch.kernel, launch.blocks, arguments)
        })
    }

    fn equals(&self, other: &Launches) -> bool {
        let same = |(one, other): (&Launch, &Launch)| {
            Arc::ptr_eq(&one.kernel, &other.kernel)
                && one.blocks == other.blocks
                && one.arguments == other.arguments
        };
        self.arguments == other.arguments
            && self.list.len() == other.list.len()
            && self.list.iter().zip(&other.list).all(same)
    }

    fn clear(&mut self) {
        self.list.clear();
        self.arguments.clear();
    }
}

/// A forward as last launched.
#[derive(Default)]
struct Forward {
    launches: Launches,
    /// `None` if the driver could not make one.
    graph: Option<Graph>,
}

/// What to do with gathered launches.
pub(super) enum Next<'a> {
    /// Launch this graph: the launches equal those that it captured.
    Replay(&'a Graph),
    /// Capture them: they are new under their key.
    Capture(&'a Launches),
    /// Launch them one by one: no graph is made of them.
    Launch(&'a Launches),
}

/// All kept forwards, and the one being gathered.
#[derive(Default)]
pub(super) struct Replays {
    gathered: Option<Launches>,
    /// Whether the forward being gathered is recorded only, and must not be launched.
    recording: bool,
    spare: Launches,
    forwards: BTreeMap<u64, Forward>,
}

impl Replays {
    /// Starts gathering, with `recording` to record only.
    pub fn begin(&mut self, recording: bool) {
        self.recording = recording;
        let mut launches = std::mem::take(&mut self.spare);
        launches.clear();
        self.gathered = Some(launches);
    }

    /// The launches gathered so far, if a forward is being gathered.
    pub fn gathering(&mut self) -> Option<&mut Launches> {
        self.gathered.as_mut()
    }

    /// Whether a forward is being recorded only.
    pub fn is_recording(&self) -> bool {
        self.recording
    }

    /// Ends recording.
    pub fn end_recording(&mut self) {
        self.recording = false;
    }

    /// Ends gathering in the middle of a forward.
    pub fn abandon(&mut self) -> Option<Launches> {
        self.gathered.take()
    }

    /// Ends gathering at the end of a forward.
    pub fn end(&mut self, key: u64) -> Option<Next<'_>> {
        let gathered = self.gathered.take()?;
        let known = self.forwards.contains_key(&key);
        if !known && self.forwards.len() == FORWARDS_MAX {
            self.spare = gathered;
            return Some(Next::Launch(&self.spare));
        }
        let forward = self.forwards.entry(key).or_default();
        let same = known && forward.launches.equals(&gathered);
        self.spare = std::mem::replace(&mut forward.launches, gathered);
        if !same {
            forward.graph = None;
            return Some(Next::Capture(&forward.launches));
        }
        Some(match &forward.graph {
            Some(graph) => Next::Replay(graph),
            None => Next::Launch(&forward.launches),
        })
    }

    /// Keeps the graph captured for a forward.
    pub fn keep(&mut self, key: u64, graph: Graph) {
        if let Some(forward) = self.forwards.get_mut(&key) {
            forward.graph = Some(graph);
        }
    }

    /// Whether a forward of this key has run before, or no further one can be kept.
    pub fn knows(&self, key: u64) -> bool {
        self.forwards.contains_key(&key) || self.forwards.len() == FORWARDS_MAX
    }

    /// Drops all forwards.
    pub fn forget(&mut self) {
        self.forwards.clear();
    }
}
