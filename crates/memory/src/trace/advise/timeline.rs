//! Curves over a trace of any length, in bounded memory.

use serde::Serialize;

/// The maxima of one quantity over equal intervals of events.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// Display name.
    pub name: String,
    /// Bytes, one value per interval.
    pub bytes: Vec<u64>,
}

/// Curves, and the starts of phases.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplayTimeline {
    /// Events in the trace.
    pub events: u64,
    /// The curves; the first one shows the live bytes.
    pub curves: Vec<Curve>,
    /// Event and text of the first markers.
    pub phases: Vec<(u64, String)>,
}

/// Maximum number of intervals of a curve; beyond it, pairs of intervals are merged.
const STRETCH_COUNT_MAX: usize = 2048;
/// Maximum number of markers kept.
const PHASE_COUNT_MAX: usize = 400;

/// Collects a timeline.
pub(super) struct Collector {
    stretch_events: u64,
    in_stretch: u64,
    /// One row per interval, one value per curve.
    rows: Vec<Vec<u64>>,
    current: Vec<u64>,
    events: u64,
    phases: Vec<(u64, String)>,
}

impl Collector {
    pub(super) fn new(curves: usize) -> Collector {
        Collector {
            stretch_events: 1,
            in_stretch: 0,
            rows: Vec::new(),
            current: vec![0; curves],
            events: 0,
            phases: Vec::new(),
        }
    }

    pub(super) fn mark(&mut self, event: u64, text: &str) {
        if self.phases.len() < PHASE_COUNT_MAX {
            self.phases.push((event, text.to_owned()));
        }
    }

    /// Records the maxima of all curves over the next `events` events.
    pub(super) fn note(&mut self, events: u64, values: impl Iterator<Item = u64>) {
        for (current, value) in self.current.iter_mut().zip(values) {
            *current = (*current).max(value);
        }
        self.events += events;
        self.in_stretch += events;
        if self.in_stretch >= self.stretch_events {
            self.close();
        }
    }

    fn close(&mut self) {
        let count = self.current.len();
        self.rows
            .push(std::mem::replace(&mut self.current, vec![0; count]));
        self.in_stretch = 0;
        if self.rows.len() == STRETCH_COUNT_MAX {
            self.rows = self
                .rows
                .chunks(2)
                .map(|pair| {
                    let mut merged = pair[0].clone();
                    for (merged, value) in merged.iter_mut().zip(&pair[pair.len() - 1]) {
                        *merged = (*merged).max(*value);
                    }
                    merged
                })
                .collect();
            self.stretch_events *= 2;
        }
    }

    /// The curves, named in the order in which values were recorded.
    pub(super) fn finish(mut self, names: Vec<String>) -> ReplayTimeline {
        if self.in_stretch > 0 {
            self.close();
        }
        let curves = names.into_iter().enumerate();
        ReplayTimeline {
            events: self.events,
            curves: curves
                .map(|(index, name)| Curve {
                    name,
                    bytes: self.rows.iter().map(|row| row[index]).collect(),
                })
                .collect(),
            phases: self.phases,
        }
    }
}
