//! The first pass: live and reserved memory at the start of the ring.

use super::entry::{Action, Entry, tag};
use super::ranges::{Range, RangeSet};
use super::segments::{self, Segment, segment};
use serde::Serialize;
use sottovoce_formats::pickle::{Disposition, Document, PickleListener, PickleStep, ValueRef};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Contents of a snapshot beside its events. All sizes are in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SnapshotSummary {
    /// The selected device: the one requested, or the one with most memory.
    pub device: u64,
    /// The devices that have segments or events, ascending.
    pub devices: Vec<u64>,
    /// The allocator's settings, in PyTorch's syntax.
    pub configuration: String,
    /// Entries in the ring.
    pub entries: u64,
    /// Reserved bytes at the end.
    pub end_reserved: u64,
    /// Allocated bytes at the end, as the allocator rounded them.
    pub end_allocated: u64,
    /// Reserved bytes at the start of the ring.
    pub start_reserved: u64,
    /// Peak of the reserved bytes during the ring.
    pub peak_reserved: u64,
    /// Live bytes at the start of the ring, as requested.
    pub start_live: u64,
    /// Live allocations at the start of the ring.
    pub start_live_count: u64,
    /// Failed requests.
    pub ooms: u64,
    /// The first `REFUSALS_MAX` failed requests, of all devices.
    pub refusals: Vec<RecordedRefusal>,
}

/// Number of failed requests kept in a summary.
pub const REFUSALS_MAX: usize = 64;

/// A request that failed during the recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecordedRefusal {
    /// The device that was out of memory.
    pub device: u64,
    /// Bytes requested.
    pub bytes: u64,
    /// The allocating code; empty if no stack was recorded.
    pub tag: String,
    /// The device's stream.
    pub stream: u64,
    /// Free bytes of the device, if recorded.
    pub free_bytes: Option<u64>,
    /// Reserved bytes of the process at that moment.
    pub reserved_bytes: u64,
}

impl SnapshotSummary {
    /// Known size of the device in bytes: the free bytes at a failed request plus the bytes that
    /// the process held then, or else the peak of the process. Other processes' memory is not
    /// included.
    pub fn known_device_bytes(&self) -> u64 {
        let own = (self.refusals.iter()).filter(|refusal| refusal.device == self.device);
        own.filter_map(|refusal| refusal.free_bytes?.checked_add(refusal.reserved_bytes))
            .fold(self.peak_reserved, u64::max)
    }

    /// Whether a failed request reveals the size of the device.
    pub fn says_device_bytes(&self) -> bool {
        let mut refusals = self.refusals.iter();
        refusals.any(|refusal| refusal.device == self.device && refusal.free_bytes.is_some())
    }
}

/// An allocation that was live at the start of the ring.
#[derive(Clone, Debug)]
pub(super) struct EarlyBlock {
    pub(super) address: u64,
    pub(super) requested_bytes: u64,
    /// The block's own size, if it was still live at the end.
    pub(super) block_bytes: Option<u64>,
    /// The lowest address above it at which another block began while it was live, if known.
    pub(super) next_address: Option<u64>,
    pub(super) stream: u64,
    pub(super) tag: String,
}

/// Results of the first pass.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) summary: SnapshotSummary,
    /// Blocks in ascending order of addresses.
    pub(super) early: Vec<EarlyBlock>,
    /// Ranges reserved at the start of the ring, in ascending order of addresses.
    pub(super) start_ranges: Vec<Range>,
    /// Segments allocated from the driver during the ring, in this order; without expandable ones.
    pub(super) taken: Vec<Range>,
    /// Whether the completion of frees was recorded.
    pub(super) frees_complete: bool,
    /// Addresses of blocks that were still waiting for other streams at the end.
    pub(super) waiting_in_the_end: Vec<u64>,
}

/// Follows the events of all devices and collects the segments.
#[derive(Debug, Default)]
pub(super) struct Surveyor {
    devices: Vec<DeviceSurvey>,
    segments: Vec<Segment>,
}

#[derive(Debug, Default)]
struct DeviceSurvey {
    entries: u64,
    ooms: u64,
    /// The first failed requests, each with the number of segment changes before it.
    refusals: Vec<(usize, RecordedRefusal)>,
    frees_complete: bool,
    /// Blocks allocated within the ring and not yet freed.
    live: HashSet<u64>,
    /// Addresses of blocks allocated within the ring, the first [`STARTS_MAX`] of them.
    starts: BTreeSet<u64>,
    /// Blocks freed within the ring but allocated before it, by address.
    freed_early: HashMap<u64, FreedEarly>,
    /// Segments allocated (`true`) and freed (`false`).
    segment_changes: Vec<(bool, Range)>,
}

#[derive(Clone, Copy, Debug)]
struct FreedEarly {
    bytes: u64,
    stream: u64,
    next_address: Option<u64>,
}

/// Enough for the neighbours of the blocks that were live at first; some megabytes at most.
const STARTS_MAX: usize = 1 << 17;

impl DeviceSurvey {
    fn follow(&mut self, view: ValueRef<'_>) -> Result<(), String> {
        let entry = Entry::read(view)?;
        self.entries += 1;
        match entry.action {
            Action::Allocate => {
                self.live.insert(entry.address);
                if self.starts.len() < STARTS_MAX {
                    self.starts.insert(entry.address);
                }
            }
            Action::FreeRequested => {
                if self.live.insert(entry.address) {
                    self.note_early(entry);
                }
            }
            Action::FreeCompleted => {
                self.frees_complete = true;
                if !self.live.remove(&entry.address) {
                    self.note_early(entry);
                }
            }
            Action::SegmentTaken | Action::SegmentGivenBack => {
                let range = Range {
                    address: entry.address,
                    bytes: entry.bytes,
                    stream: entry.stream,
                    // The only segments of this size are those of the small pool.
                    small: entry.bytes <= SMALL_SEGMENT_BYTES,
                    expandable: entry.mapped,
                };
                self.segment_changes
                    .push((entry.action == Action::SegmentTaken, range));
            }
            Action::OutOfMemory => {
                self.ooms += 1;
                if self.refusals.len() < REFUSALS_MAX {
                    let refusal = RecordedRefusal {
                        bytes: entry.bytes,
                        tag: tag(view),
                        stream: entry.stream,
                        free_bytes: entry.free_bytes,
                        ..RecordedRefusal::default()
                    };
                    self.refusals.push((self.segment_changes.len(), refusal));
                }
            }
            Action::Other => {}
        }
        Ok(())
    }

    /// Records a block that is freed within the ring but was allocated before it.
    fn note_early(&mut self, entry: Entry) {
        let beyond = entry.address.saturating_add(entry.bytes.max(1));
        let next_address = self.starts.range(beyond..).next().copied();
        self.freed_early.entry(entry.address).or_insert(FreedEarly {
            bytes: entry.bytes,
            stream: entry.stream,
            next_address,
        });
    }
}

/// The size of a small segment, and the unit of small expandable ones.
const SMALL_SEGMENT_BYTES: u64 = 2 << 20;

/// Classification of a list item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// An event of this device.
    Event(usize),
    Segment,
    /// Part of a structure that is parsed as a whole.
    Structure,
    /// Not used here, such as annotations.
    Unused,
}

/// Classification of the items of the list at `path`.
pub(super) fn part_of(path: &[PickleStep<'_>]) -> Part {
    match path {
        [PickleStep::Key("device_traces"), PickleStep::Index(device)] => Part::Event(*device),
        [] | [PickleStep::Key("segments")] => Part::Segment,
        [PickleStep::Key("device_traces")] => Part::Structure,
        [PickleStep::Key(_)] => Part::Unused,
        _ => Part::Structure,
    }
}

/// Limit of the devices of one process.
const DEVICE_COUNT_MAX: usize = 1024;

impl Surveyor {
    fn device(&mut self, device: usize) -> Result<&mut DeviceSurvey, String> {
        if device >= DEVICE_COUNT_MAX {
            return Err(format!("there are more than {DEVICE_COUNT_MAX} devices"));
        }
        if device >= self.devices.len() {
            self.devices.resize_with(device + 1, DeviceSurvey::default);
        }
        Ok(&mut self.devices[device])
    }
}

impl PickleListener for Surveyor {
    fn item(&mut self, path: &[PickleStep<'_>], item: ValueRef<'_>) -> Result<Disposition, String> {
        match part_of(path) {
            Part::Event(device) => {
                self.device(device)?.follow(item)?;
            }
            Part::Segment => self.segments.push(segment(item)?),
            Part::Unused => {}
            Part::Structure => return Ok(Disposition::Keep),
        }
        Ok(Disposition::HandOver)
    }
}

/// Events that the listener did not see, by device.
pub(super) fn rest_of_events(document: &Document) -> impl Iterator<Item = (usize, ValueRef<'_>)> {
    let devices = document
        .root()
        .entry("device_traces")
        .and_then(ValueRef::items)
        .into_iter()
        .flatten()
        .enumerate();
    devices.flat_map(|(device, events)| {
        let events = events.items().into_iter().flatten();
        events.map(move |event| (device, event))
    })
}

impl Survey {
    /// Draws conclusions from all events and from the final segments, for the device `wanted` or
    /// for the one with most memory.
    ///
    /// # Errors
    /// A description of what is malformed, or that there is no such device.
    pub(super) fn conclude(
        mut surveyor: Surveyor,
        document: &Document,
        wanted: Option<u64>,
    ) -> Result<Survey, String> {
        for (device, view) in rest_of_events(document) {
            surveyor.device(device)?.follow(view)?;
        }
        for view in segments::list(document.root())? {
            surveyor.segments.push(segment(view)?);
        }
        let segments = std::mem::take(&mut surveyor.segments);
        let mut devices: Vec<u64> = segments.iter().map(|segment| segment.device).collect();
        let with_events = (0_u64..).zip(&surveyor.devices);
        devices.extend(
            with_events
                .filter(|(_, survey)| survey.entries > 0)
                .map(|(device, _)| device),
        );
        devices.sort_unstable();
        devices.dedup();
        let device = match wanted {
            Some(wanted) if devices.contains(&wanted) => wanted,
            Some(wanted) => {
                return Err(format!(
                    "it says nothing of device {wanted}, only of {}",
                    listed(&devices)
                ));
            }
            None => largest(&surveyor, &segments, &devices)?,
        };
        let refusals = refusals(&surveyor, &segments);
        let survey = surveyor
            .devices
            .into_iter()
            .nth(device as usize)
            .unwrap_or_default();
        let segments: Vec<Segment> = segments
            .into_iter()
            .filter(|segment| segment.device == device)
            .collect();
        let early = early_blocks(&survey, &segments);
        let (start_ranges, peak_reserved) = start_ranges(&survey, segments.iter())?;
        let blocks = segments.iter().flat_map(|segment| &segment.blocks);
        Ok(Survey {
            summary: SnapshotSummary {
                device,
                devices,
                configuration: segments::configuration(document.root()),
                entries: survey.entries,
                end_reserved: sum(segments.iter().map(|segment| segment.bytes)),
                end_allocated: sum(blocks
                    .filter(|block| block.allocated)
                    .map(|block| block.bytes)),
                start_reserved: sum(start_ranges.iter().map(|range| range.bytes)),
                peak_reserved,
                start_live: sum(early.iter().map(|block| block.requested_bytes)),
                start_live_count: early.len() as u64,
                ooms: survey.ooms,
                refusals,
            },
            frees_complete: survey.frees_complete,
            taken: survey
                .segment_changes
                .iter()
                .filter(|(taken, range)| *taken && !range.expandable)
                .map(|&(_, range)| range)
                .collect(),
            waiting_in_the_end: segments
                .iter()
                .flat_map(|segment| &segment.blocks)
                .filter(|block| !block.allocated)
                .map(|block| block.address)
                .collect(),
            early,
            start_ranges,
        })
    }
}

fn sum(values: impl Iterator<Item = u64>) -> u64 {
    values.fold(0, u64::saturating_add)
}

/// The failed requests of all devices, each with the bytes reserved when it failed.
fn refusals(surveyor: &Surveyor, segments: &[Segment]) -> Vec<RecordedRefusal> {
    let mut refusals = Vec::new();
    for (device, survey) in (0_u64..).zip(&surveyor.devices) {
        let own = segments.iter().filter(|segment| segment.device == device);
        let mut reserved = sum(own.map(|segment| segment.bytes));
        // Backwards from the end, undoing each later change of segments.
        let mut changes = survey.segment_changes.len();
        let mut of_device = Vec::new();
        for (changes_before, refusal) in survey.refusals.iter().rev() {
            for &(taken, range) in survey.segment_changes[*changes_before..changes]
                .iter()
                .rev()
            {
                reserved = if taken {
                    reserved.saturating_sub(range.bytes)
                } else {
                    reserved.saturating_add(range.bytes)
                };
            }
            changes = *changes_before;
            of_device.push(RecordedRefusal {
                device,
                reserved_bytes: reserved,
                ..refusal.clone()
            });
        }
        refusals.extend(of_device.into_iter().rev());
    }
    refusals.truncate(REFUSALS_MAX);
    refusals
}

/// The device with the largest peak; among equals the one with most events, then the first.
fn largest(surveyor: &Surveyor, segments: &[Segment], devices: &[u64]) -> Result<u64, String> {
    let none = DeviceSurvey::default();
    let mut largest = (0, 0, 0);
    for &device in devices.iter().rev() {
        let survey = surveyor.devices.get(device as usize).unwrap_or(&none);
        let own = segments.iter().filter(|segment| segment.device == device);
        let (_, peak) = start_ranges(survey, own)?;
        largest = largest.max((peak, survey.entries, u64::MAX - device));
    }
    Ok(if devices.is_empty() {
        0
    } else {
        u64::MAX - largest.2
    })
}

fn listed(devices: &[u64]) -> String {
    match devices {
        [] => "none at all".to_owned(),
        [one] => format!("device {one}"),
        several => {
            let several: Vec<String> = several.iter().map(u64::to_string).collect();
            format!("devices {}", several.join(", "))
        }
    }
}

/// Blocks that were live at the start of the ring: freed within it but not allocated within it, or
/// still live at the end.
fn early_blocks(survey: &DeviceSurvey, segments: &[Segment]) -> Vec<EarlyBlock> {
    let mut early: Vec<EarlyBlock> = survey
        .freed_early
        .iter()
        .map(|(&address, freed)| EarlyBlock {
            address,
            requested_bytes: freed.bytes,
            block_bytes: None,
            next_address: freed.next_address,
            stream: freed.stream,
            tag: String::new(),
        })
        .collect();
    for segment in segments {
        for block in &segment.blocks {
            let known = survey.live.contains(&block.address)
                || survey.freed_early.contains_key(&block.address);
            if !known {
                early.push(EarlyBlock {
                    address: block.address,
                    requested_bytes: block.requested_bytes,
                    block_bytes: Some(block.bytes),
                    next_address: None,
                    stream: segment.stream,
                    tag: block.tag.clone(),
                });
            }
        }
    }
    early.sort_by_key(|block| block.address);
    early
}

/// Ranges reserved at the start of the ring, by undoing its segment events one by one, and the peak
/// on the way.
fn start_ranges<'a>(
    survey: &DeviceSurvey,
    segments: impl Iterator<Item = &'a Segment> + Clone,
) -> Result<(Vec<Range>, u64), String> {
    let mut reserved: u64 = sum(segments.clone().map(|segment| segment.bytes));
    let mut peak = reserved;
    let mut ranges = RangeSet::default();
    for segment in segments {
        ranges.add(Range {
            address: segment.address,
            bytes: segment.bytes,
            stream: segment.stream,
            small: segment.small,
            expandable: segment.expandable,
        });
    }
    for &(taken, range) in survey.segment_changes.iter().rev() {
        if taken {
            ranges.remove(range);
            reserved = reserved.saturating_sub(range.bytes);
        } else {
            ranges.add(range);
            reserved = reserved.saturating_add(range.bytes);
            if reserved > i64::MAX as u64 {
                return Err("the segments given back pass 2^63 bytes".to_owned());
            }
        }
        peak = peak.max(reserved);
    }
    Ok((ranges.into_vec(), peak))
}
