//! Replays a trace under candidate settings and makes a recommendation.

use super::candidates::{CLEAR_EVERY_CHUNK, CONFIGURATIONS};
use super::owners::{self, OwnersAtPeak};
use super::timeline::{Collector, ReplayTimeline};
use crate::driver::SimulatedDriver;
use crate::pool::PoolConfiguration;
use crate::stats::Bytes;
use crate::trace::replay::{Replay, ReplayStep, Slots};
use crate::trace::{Event, Reader, SnapshotSummary, TraceError};
use serde::Serialize;

/// Input of the advice.
#[derive(Clone, Debug)]
pub struct AdviseOptions {
    /// Bytes of the device. Without it, the device's size as recorded in a snapshot, or at least
    /// [`CARD_BYTES`] if none is recorded.
    pub device_bytes: Option<u64>,
    /// The current settings, valid and in PyTorch's syntax.
    pub today: String,
    /// Whether to collect curves for a plot.
    pub timeline: bool,
}

/// Usable memory of a GPU sold with 24 GB: the default device.
pub const CARD_BYTES: u64 = 24_564 << 20;
/// Larger devices are assumed to be a multiple of this.
const CARD_STEP_BYTES: u64 = 16 << 30;

/// Bytes of the device that a trace ran on, as far as is known.
pub fn device_bytes(recorded: Option<&SnapshotSummary>) -> u64 {
    let Some(recorded) = recorded else {
        return CARD_BYTES;
    };
    let known = recorded.known_device_bytes();
    if recorded.says_device_bytes() {
        known
    } else if known <= CARD_BYTES {
        CARD_BYTES
    } else {
        known
            .checked_next_multiple_of(CARD_STEP_BYTES)
            .unwrap_or(known)
    }
}

/// The result of one setting.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tried {
    /// The settings, in PyTorch's syntax; empty for the defaults.
    pub configuration: String,
    /// Interval, in chunk marks, at which the program empties the cache.
    pub clear_every_chunk: Option<u32>,
    /// Whether these are the current settings.
    pub today: bool,
    /// Peak of the reserved bytes.
    pub peak_reserved: u64,
    /// Reserved bytes at the end.
    pub end_reserved: u64,
    /// Largest fragmentation.
    pub fragmentation_peak: f64,
    /// Allocations that emptied the cache first.
    pub retries: u64,
    /// Allocations that failed.
    pub ooms: u64,
    /// Requests that failed when the trace was recorded and fail under these settings too.
    pub refused_again: u64,
    /// Requests that failed when the trace was recorded and succeed under these settings.
    pub let_in: u64,
    /// Driver calls, each of which stalls the device.
    pub driver_calls: u64,
    /// Peak minus the current settings' peak, in bytes; negative is better.
    pub versus_today: i64,
    /// Peak divided by the peak of live bytes, which is the lower bound of any allocator.
    pub versus_lower_bound: f64,
}

impl Tried {
    /// A display name: `default`, or its options, and the program's own cache releases.
    pub fn name(&self) -> String {
        name(&self.configuration, self.clear_every_chunk)
    }
}

fn name(configuration: &str, clear_every_chunk: Option<u32>) -> String {
    let settings = match configuration {
        "" => "default",
        settings => settings,
    };
    match clear_every_chunk {
        None => settings.to_owned(),
        Some(1) => format!("{settings}, cache emptied at every chunk"),
        Some(every) => format!("{settings}, cache emptied every {every} chunks"),
    }
}

/// The recommendation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recommendation {
    /// A line of shell, or `None` to leave the settings as they are.
    pub line: Option<String>,
    /// Bytes saved at the peak.
    pub saves: u64,
    /// The reason, in a sentence.
    pub reason: String,
    /// What a change of the program would save beyond any option, in a sentence.
    pub program: Option<String>,
}

/// The memory that a trace takes under other settings, and the part that no setting can change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// Number of events in the trace.
    pub events: u64,
    /// Bytes of the device used for the replays.
    pub device_bytes: u64,
    /// Peak of the requested live bytes: no allocator needs less.
    pub lower_bound: u64,
    /// The settings that were tried, best first.
    pub tried: Vec<Tried>,
    /// Owners of the bytes at the peak.
    pub at_peak: OwnersAtPeak,
    /// Bytes of the current peak that no option can save.
    pub beyond_options: u64,
    /// The recommendation.
    pub recommendation: Recommendation,
    /// The summary of a snapshot.
    pub recorded: Option<SnapshotSummary>,
    /// Curves, if requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<ReplayTimeline>,
}

/// Number of events that all pools replay at a time.
const BATCH: usize = 256;
/// Minimum saving, as a share of the peak, that justifies a setting.
const WORTH_SHARE: f64 = 0.02;

/// Replays the trace that `open` opens, which is called twice, under candidate settings.
///
/// # Errors
/// The trace's first error.
pub fn advise(
    mut open: impl FnMut() -> Result<Reader, TraceError>,
    options: &AdviseOptions,
) -> Result<Advice, TraceError> {
    let mut reader = open()?;
    let recorded = reader.snapshot()?.cloned();
    let device_bytes = (options.device_bytes).unwrap_or_else(|| device_bytes(recorded.as_ref()));
    let mut candidates = Candidate::all(&options.today, device_bytes);
    let mut run = Run::new(&mut candidates, options.timeline);
    for event in reader.by_ref() {
        run.take(&event?);
    }
    run.flush();
    let (events, live, timeline) = (run.events, run.live, run.timeline);
    let at_peak = owners::at_peak(&mut open()?, live.peak_event)?;
    let lower_bound = live.peak;
    let timeline = timeline.map(|collector| {
        let names = std::iter::once("live".to_owned());
        collector.finish(
            names
                .chain(candidates.iter().map(Candidate::name))
                .collect(),
        )
    });
    let chunks = candidates.iter().any(|candidate| candidate.cleared);
    let today_peak = candidates
        .iter()
        .find(|candidate| candidate.today)
        .map_or(0, |candidate| candidate.replay.report().peak_reserved);
    let mut tried: Vec<Tried> = candidates
        .iter()
        .filter(|candidate| chunks || candidate.clear_every_chunk.is_none())
        .map(|candidate| candidate.result(today_peak, lower_bound))
        .collect();
    // Among equals, fewer options are better.
    tried.sort_by_key(|tried| {
        (
            tried.ooms,
            tried.refused_again,
            tried.peak_reserved,
            tried.configuration.len(),
            tried.driver_calls,
        )
    });
    Ok(Advice {
        events,
        device_bytes,
        lower_bound,
        recommendation: Recommendation {
            program: change_of_program(&tried),
            ..recommend(&tried, recorded.is_some(), device_bytes)
        },
        tried,
        at_peak,
        beyond_options: lower_bound.min(today_peak),
        recorded,
        timeline,
    })
}

/// A pool under candidate settings.
struct Candidate {
    configuration: String,
    clear_every_chunk: Option<u32>,
    today: bool,
    /// Whether the cache was in fact emptied at a chunk mark.
    cleared: bool,
    replay: Replay,
}

impl Candidate {
    fn all(today_text: &str, device_bytes: u64) -> Vec<Candidate> {
        let today = PoolConfiguration::parse(today_text).unwrap_or_default();
        let new = |text: &str, configuration: PoolConfiguration, clear_every_chunk| Candidate {
            configuration: text.to_owned(),
            clear_every_chunk,
            today: false,
            cleared: false,
            replay: Replay::new(
                Box::new(SimulatedDriver::new(device_bytes)),
                configuration,
                clear_every_chunk,
            ),
        };
        let mut candidates = Vec::new();
        for text in CONFIGURATIONS {
            let Ok(configuration) = PoolConfiguration::parse(text) else {
                continue;
            };
            let mut candidate = new(text, configuration.clone(), None);
            candidate.today = configuration == today;
            candidates.push(candidate);
        }
        if !candidates.iter().any(|candidate| candidate.today) {
            let mut candidate = new(today_text, today.clone(), None);
            candidate.today = true;
            candidates.push(candidate);
        }
        candidates.push(new(today_text, today, Some(CLEAR_EVERY_CHUNK)));
        candidates
    }

    fn name(&self) -> String {
        name(&self.configuration, self.clear_every_chunk)
    }

    fn result(&self, today_peak: u64, lower_bound: u64) -> Tried {
        let report = self.replay.report();
        Tried {
            configuration: self.configuration.clone(),
            clear_every_chunk: self.clear_every_chunk,
            today: self.today,
            peak_reserved: report.peak_reserved,
            end_reserved: report.end_reserved,
            fragmentation_peak: report.fragmentation_peak,
            retries: report.retries,
            ooms: report.ooms,
            refused_again: report.refused_again,
            let_in: report.let_in,
            driver_calls: report.driver_allocs + report.driver_frees,
            // Both are below 2^63: they are reserved on a device of at most that size.
            versus_today: report.peak_reserved as i64 - today_peak as i64,
            versus_lower_bound: report.peak_reserved as f64 / lower_bound.max(1) as f64,
        }
    }
}

/// Live bytes during the pass through the trace.
#[derive(Default)]
struct Live {
    by_id: std::collections::HashMap<u64, u64>,
    bytes: u64,
    peak: u64,
    /// Number of events up to and including the peak.
    peak_event: u64,
    batch_peak: u64,
}

/// One pass through the trace with all candidates side by side.
struct Run<'a> {
    candidates: &'a mut [Candidate],
    slots: Slots,
    batch: Vec<ReplayStep>,
    live: Live,
    events: u64,
    timeline: Option<Collector>,
}

impl<'a> Run<'a> {
    fn new(candidates: &'a mut [Candidate], timeline: bool) -> Run<'a> {
        Run {
            timeline: timeline.then(|| Collector::new(candidates.len() + 1)),
            candidates,
            slots: Slots::default(),
            batch: Vec::with_capacity(BATCH),
            live: Live::default(),
            events: 0,
        }
    }

    fn take(&mut self, event: &Event) {
        self.events += 1;
        match event {
            Event::Allocate { id, bytes, .. } => {
                self.live.by_id.insert(*id, *bytes);
                self.live.bytes += bytes;
                self.live.batch_peak = self.live.batch_peak.max(self.live.bytes);
                if self.live.bytes > self.live.peak {
                    self.live.peak = self.live.bytes;
                    self.live.peak_event = self.events;
                }
            }
            Event::Free { id } => {
                self.live.bytes -= self.live.by_id.remove(id).unwrap_or(0);
            }
            Event::Marker(text) => {
                if let Some(timeline) = &mut self.timeline {
                    timeline.mark(self.events, text);
                }
            }
        }
        self.batch.push(self.slots.step(event));
        if self.batch.len() == BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        for candidate in self.candidates.iter_mut() {
            candidate.replay.run(&self.batch);
            candidate.cleared |=
                candidate.clear_every_chunk.is_some() && self.batch.contains(&ReplayStep::Chunk);
        }
        if let Some(timeline) = &mut self.timeline {
            let reserved = self
                .candidates
                .iter()
                .map(|candidate| candidate.replay.pool().allocated_and_reserved().1);
            let values = std::iter::once(self.live.batch_peak).chain(reserved);
            timeline.note(self.batch.len() as u64, values);
        }
        self.live.batch_peak = self.live.bytes;
        self.batch.clear();
    }
}

/// The variable that every version of PyTorch with these options reads.
const VARIABLE: &str = "PYTORCH_CUDA_ALLOC_CONF";

fn recommend(tried: &[Tried], is_recorded: bool, device_bytes: u64) -> Recommendation {
    let stay = |reason: String| Recommendation {
        line: None,
        saves: 0,
        reason,
        program: None,
    };
    let options_only = || {
        tried
            .iter()
            .filter(|tried| tried.clear_every_chunk.is_none())
    };
    let (Some(best), Some(today)) = (
        options_only().next(),
        tried.iter().find(|tried| tried.today),
    ) else {
        return stay("Nothing was tried.".to_owned());
    };
    // The recorded requests of a snapshot did succeed. A replay in which they fail uses too small a
    // device and says nothing.
    if is_recorded && today.ooms > 0 {
        return stay(format!(
            "No advice: {} of the allocations that succeeded in the recording fail on a device of {}, \
             so the real device was larger; give its size.",
            today.ooms,
            Bytes(device_bytes)
        ));
    }
    let worth = |more: u64, less: u64| (more - less.min(more)) as f64 >= more as f64 * WORTH_SHARE;
    // The simplest setting that is about as good as the best one.
    let as_good = |tried: &&Tried| {
        (tried.ooms, tried.refused_again) == (best.ooms, best.refused_again)
            && !worth(tried.peak_reserved, best.peak_reserved)
    };
    let chosen = options_only()
        .filter(as_good)
        .min_by_key(|tried| tried.configuration.len())
        .unwrap_or(best);
    let fewer_refused = today.ooms.saturating_sub(chosen.ooms);
    let let_in = chosen.let_in.saturating_sub(today.let_in);
    let saves = today.peak_reserved.saturating_sub(chosen.peak_reserved);
    let needless = chosen.configuration.is_empty() && !today.configuration.is_empty();
    if fewer_refused == 0
        && let_in == 0
        && !needless
        && !worth(today.peak_reserved, chosen.peak_reserved)
    {
        let what = if today.configuration.is_empty() {
            "Leave the defaults"
        } else {
            "Leave the settings as they are"
        };
        return stay(format!(
            "{what}: no option saves {} % of the peak.",
            WORTH_SHARE * 100.0
        ));
    }
    let percent = saves as f64 / today.peak_reserved.max(1) as f64 * 100.0;
    let reason = if let_in > 0 {
        format!("{let_in} of the requests that failed in the recording would have succeeded.")
    } else if fewer_refused > 0 {
        format!("{fewer_refused} of the allocations that fail today succeed.")
    } else if saves == 0 {
        "The defaults are as good as today's settings.".to_owned()
    } else {
        format!("The peak is {percent:.1} % lower than today.")
    };
    Recommendation {
        line: Some(if chosen.configuration.is_empty() {
            format!("unset {VARIABLE}")
        } else {
            format!("export {VARIABLE}={}", chosen.configuration)
        }),
        saves,
        reason,
        program: None,
    }
}

/// The saving of a change of the program beyond all options, if there is one.
fn change_of_program(tried: &[Tried]) -> Option<String> {
    let cleared = tried
        .iter()
        .find(|tried| tried.clear_every_chunk.is_some())?;
    let today = tried.iter().find(|tried| tried.today)?;
    let saves = today.peak_reserved.saturating_sub(cleared.peak_reserved);
    let share = saves as f64 / today.peak_reserved.max(1) as f64;
    // A change under which the recorded requests fail is no improvement.
    if cleared.ooms > today.ooms {
        return None;
    }
    let fewer_refused = cleared.ooms < today.ooms || cleared.refused_again < today.refused_again;
    (fewer_refused || share >= WORTH_SHARE).then(|| {
        format!(
            "Not an option but a change of the program: torch.cuda.empty_cache() at every chunk {} {} driver calls in place of {}.",
            if fewer_refused {
                "lets more allocations succeed, with".to_owned()
            } else {
                format!("lowers the peak by {:.1} %, with", share * 100.0)
            },
            cleared.driver_calls,
            today.driver_calls
        )
    })
}
