//! The second pass: the events in order.

use super::entry::{Action, Entry, metadata, tag};
use super::prelude::{Beginning, beginning};
use super::survey::{Part, SnapshotSummary, Survey, Surveyor, part_of, rest_of_events};
use crate::pool::PoolConfiguration;
use crate::trace::error::{TraceError, TraceErrorKind as Kind, TracePosition};
use crate::trace::event::{Event, TagId, Tags};
use sottovoce_formats::pickle::{
    Disposition, Globals, MemoUse, Parser, PickleError, PickleErrorKind, PickleLimits,
    PickleListener, PickleStep, ValueRef,
};
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;

type ByteSource = Box<dyn Read + Send>;

/// Memory limit for the values of a snapshot. Events, segments and annotations are dropped as they
/// pass, so the limit concerns the stack frames, each of which is kept once, and the blocks that
/// were live.
const MEMORY_BYTES_MAX: u64 = 1 << 30;

/// Reads a snapshot: opens it three times, each time from the start.
pub(in crate::trace) struct SnapshotReader {
    open: Box<dyn Fn() -> io::Result<ByteSource> + Send>,
    stage: Section,
    device: Option<u64>,
    uses: Option<Arc<MemoUse>>,
    survey: Option<Survey>,
    /// The tags of the blocks that were live before the ring began.
    early_tags: Vec<TagId>,
    ring: Ring,
    pub(in crate::trace) tags: Tags,
}

enum Section {
    Fresh,
    /// The next block that was live before the ring began.
    Early(usize),
    Ring(Box<Parser<ByteSource, EntryQueue>>),
    Ended,
}

/// Tag of what was allocated before the ring began and freed within it.
const EARLY_TAG: &str = "(before the recording)";
/// Marker at the start of the ring, if blocks were live before.
const RING_MARKER: &str = "recording";

impl SnapshotReader {
    pub(in crate::trace) fn new(
        open: Box<dyn Fn() -> io::Result<ByteSource> + Send>,
    ) -> SnapshotReader {
        let mut tags = Tags::default();
        tags.intern("");
        SnapshotReader {
            open,
            stage: Section::Fresh,
            device: None,
            uses: None,
            survey: None,
            early_tags: Vec::new(),
            ring: Ring::default(),
            tags,
        }
    }

    /// Selects the device; must be called before anything was read.
    pub(in crate::trace) fn choose_device(&mut self, device: u64) {
        self.device = Some(device);
    }

    /// The summary of the snapshot; reads it twice.
    pub(in crate::trace) fn summary(&mut self) -> Result<&SnapshotSummary, TraceError> {
        Ok(&self.survey()?.summary)
    }

    fn survey(&mut self) -> Result<&Survey, TraceError> {
        let survey = match self.survey.take() {
            Some(survey) => survey,
            None => {
                let survey = self.make_survey()?;
                for block in &survey.early {
                    let tag = match block.tag.as_str() {
                        "" => EARLY_TAG,
                        tag => tag,
                    };
                    self.early_tags.push(self.tags.intern(tag));
                }
                survey
            }
        };
        Ok(self.survey.insert(survey))
    }

    fn make_survey(&mut self) -> Result<Survey, TraceError> {
        self.uses = MemoUse::scan(self.source()?).map(Arc::new);
        let mut parser = self.parser(Surveyor::default())?;
        while parser.advance().map_err(pickle_error)? {}
        let surveyor = std::mem::take(parser.listener());
        let document = parser.finish_source().map_err(pickle_error)?;
        Survey::conclude(surveyor, &document, self.device)
            .map_err(|problem| TraceError::whole(Kind::Snapshot(problem)))
    }

    fn parser<L: PickleListener>(&self, listener: L) -> Result<Parser<ByteSource, L>, TraceError> {
        let limits = PickleLimits {
            memory_bytes: MEMORY_BYTES_MAX,
            // Programs that compute with the sizes leave numpy's numbers there.
            globals: Globals::Numbers,
        };
        Ok(Parser::new(
            self.source()?,
            &limits,
            listener,
            self.uses.clone(),
        ))
    }

    fn source(&self) -> Result<ByteSource, TraceError> {
        (self.open)().map_err(|error| TraceError::whole(Kind::Io(error)))
    }

    /// The events that bring a pool of this configuration into the state at the start of the ring.
    /// They replace the allocations with which the reader would otherwise begin; `None` once
    /// reading has begun.
    pub(in crate::trace) fn take_beginning(
        &mut self,
        configuration: &PoolConfiguration,
    ) -> Result<Option<Beginning>, TraceError> {
        if !matches!(self.stage, Section::Fresh) {
            return Ok(None);
        }
        self.survey()?;
        let Some(survey) = &self.survey else {
            return Ok(None);
        };
        self.stage = Section::Early(survey.early.len());
        Ok(Some(beginning(survey, &self.early_tags, configuration)))
    }

    /// The next event, or `None` at the end.
    pub(in crate::trace) fn next_event(&mut self) -> Result<Option<Event>, TraceError> {
        loop {
            if let Some(event) = self.ring.ready.pop_front() {
                return Ok(Some(event));
            }
            match &mut self.stage {
                Section::Fresh => {
                    if self.survey()?.early.is_empty() {
                        self.stage = Section::Early(0);
                    } else {
                        self.stage = Section::Early(0);
                        return Ok(Some(Event::Marker(EARLY_TAG.into())));
                    }
                }
                Section::Early(next) => {
                    let index = *next;
                    *next += 1;
                    let survey = self.survey()?;
                    match survey.early.get(index) {
                        Some(block) => {
                            return Ok(Some(Event::Allocate {
                                id: index as u64,
                                bytes: block.requested_bytes,
                                stream: block.stream,
                                tag: self.early_tags[index],
                            }));
                        }
                        None => {
                            let ring = Ring::new(survey);
                            let queue = EntryQueue {
                                device: survey.summary.device as usize,
                                entries: VecDeque::new(),
                            };
                            let parser = self.parser(queue)?;
                            self.ring = ring;
                            self.stage = Section::Ring(Box::new(parser));
                            if index > 0 {
                                return Ok(Some(Event::Marker(RING_MARKER.into())));
                            }
                        }
                    }
                }
                Section::Ring(parser) => {
                    while let Some(entry) = parser.listener().entries.pop_front() {
                        self.ring.translate(&entry, &mut self.tags);
                    }
                    if self.ring.ready.is_empty() && !parser.advance().map_err(pickle_error)? {
                        self.end_ring()?;
                    }
                }
                Section::Ended => return Ok(None),
            }
        }
    }

    /// Processes events that the listener did not see, and frees that were only requested.
    fn end_ring(&mut self) -> Result<(), TraceError> {
        if let Section::Ring(mut parser) = std::mem::replace(&mut self.stage, Section::Ended) {
            let wanted = parser.listener().device;
            let document = parser.finish().map_err(pickle_error)?;
            for (device, view) in rest_of_events(&document) {
                if device == wanted {
                    let entry = QueuedEntry::read(view)
                        .map_err(|problem| TraceError::whole(Kind::Snapshot(problem)))?;
                    self.ring.translate(&entry, &mut self.tags);
                }
            }
            self.ring.end();
        }
        Ok(())
    }
}

/// Entries in the order of parsing.
struct EntryQueue {
    device: usize,
    entries: VecDeque<QueuedEntry>,
}

struct QueuedEntry {
    entry: Entry,
    tag: String,
    metadata: String,
}

impl QueuedEntry {
    fn read(view: ValueRef<'_>) -> Result<QueuedEntry, String> {
        let entry = Entry::read(view)?;
        let allocates = entry.action == Action::Allocate;
        Ok(QueuedEntry {
            tag: if allocates || entry.action == Action::OutOfMemory {
                tag(view)
            } else {
                String::new()
            },
            metadata: if allocates {
                metadata(view).to_owned()
            } else {
                String::new()
            },
            entry,
        })
    }
}

impl PickleListener for EntryQueue {
    fn item(&mut self, path: &[PickleStep<'_>], item: ValueRef<'_>) -> Result<Disposition, String> {
        match part_of(path) {
            Part::Event(device) if device == self.device => {
                self.entries.push_back(QueuedEntry::read(item)?);
            }
            Part::Structure => return Ok(Disposition::Keep),
            Part::Event(_) | Part::Segment | Part::Unused => {}
        }
        Ok(Disposition::HandOver)
    }
}

/// Converts entries to events with ids.
#[derive(Default)]
struct Ring {
    ready: VecDeque<Event>,
    /// Address → (id, whether a free was requested).
    live: HashMap<u64, (u64, bool)>,
    next_id: u64,
    /// Whether completed frees are recorded, and not only requested ones.
    frees_complete: bool,
    /// Blocks that were still waiting for other streams at the end.
    waiting_in_the_end: Vec<u64>,
    giving_back: bool,
    metadata: String,
}

impl Ring {
    fn new(survey: &Survey) -> Ring {
        let early = survey.early.iter().enumerate();
        Ring {
            live: early
                .map(|(id, block)| (block.address, (id as u64, false)))
                .collect(),
            next_id: survey.early.len() as u64,
            frees_complete: survey.frees_complete,
            waiting_in_the_end: survey.waiting_in_the_end.clone(),
            ..Ring::default()
        }
    }

    fn translate(&mut self, queued: &QueuedEntry, tags: &mut Tags) {
        let entry = queued.entry;
        if entry.action == Action::SegmentGivenBack {
            // Segments are freed when the cache is emptied, by the program or before a request
            // fails.
            if !std::mem::replace(&mut self.giving_back, true) {
                self.ready.push_back(Event::Marker("clear".into()));
            }
            return;
        }
        self.giving_back = false;
        match entry.action {
            Action::Allocate => {
                if queued.metadata != self.metadata {
                    self.metadata.clone_from(&queued.metadata);
                    if !self.metadata.is_empty() {
                        let text = self.metadata.as_str().into();
                        self.ready.push_back(Event::Marker(text));
                    }
                }
                let id = self.next_id;
                self.next_id += 1;
                // An address that is allocated again was free, whether or not the free was
                // recorded.
                if let Some((id, _)) = self.live.insert(entry.address, (id, false)) {
                    self.ready.push_back(Event::Free { id });
                }
                self.ready.push_back(Event::Allocate {
                    id,
                    bytes: entry.bytes,
                    tag: tags.intern(&queued.tag),
                    stream: entry.stream,
                });
            }
            Action::FreeRequested if self.frees_complete => {
                if let Some((_, requested)) = self.live.get_mut(&entry.address) {
                    *requested = true;
                }
            }
            Action::FreeRequested | Action::FreeCompleted => {
                if let Some((id, _)) = self.live.remove(&entry.address) {
                    self.ready.push_back(Event::Free { id });
                }
            }
            Action::OutOfMemory => {
                let mut text = format!("oom {} stream={}", entry.bytes, entry.stream);
                if !queued.tag.is_empty() {
                    text += " ";
                    text += &queued.tag;
                }
                self.ready.push_back(Event::Marker(text.into()));
            }
            Action::SegmentTaken | Action::SegmentGivenBack | Action::Other => {}
        }
    }

    fn end(&mut self) {
        let mut freed: Vec<u64> = self
            .live
            .iter()
            .filter(|&(address, &(_, requested))| {
                requested && !self.waiting_in_the_end.contains(address)
            })
            .map(|(_, &(id, _))| id)
            .collect();
        freed.sort_unstable();
        self.ready
            .extend(freed.into_iter().map(|id| Event::Free { id }));
    }
}

fn pickle_error(error: PickleError) -> TraceError {
    let kind = match error.kind {
        PickleErrorKind::Io(error) if error.kind() == ErrorKind::InvalidInput => {
            Kind::DamagedGzip(error)
        }
        PickleErrorKind::Io(error) => Kind::Io(error),
        kind => Kind::Snapshot(kind.to_string()),
    };
    TraceError {
        file: None,
        position: TracePosition::Byte(error.offset),
        kind,
    }
}
