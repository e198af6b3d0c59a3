//! Owners of the bytes at the peak.

use crate::trace::{Event, Reader, TraceError};
use serde::Serialize;
use std::collections::HashMap;

/// Live bytes of one owner at the peak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// The owner: a tag, or the phase in which the bytes were allocated.
    pub name: String,
    /// Its live bytes.
    pub bytes: u64,
    /// Its live allocations.
    pub count: u64,
}

/// The moment of most live bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnersAtPeak {
    /// Number of events before the peak.
    pub event: u64,
    /// Phase of the peak; empty if there are no markers.
    pub phase: String,
    /// Live bytes, as requested.
    pub bytes: u64,
    /// By tag, largest first.
    pub by_tag: Vec<Share>,
    /// By the phase of the allocation, largest first.
    pub by_phase: Vec<Share>,
}

/// Number of owners named; the others are summed up.
const NAMED_MAX: usize = 12;
/// Number of phases told apart; later ones count as the last.
const PHASE_COUNT_MAX: usize = 4096;

/// Reads the trace up to the given event and sums up what is live there.
pub(super) fn at_peak(reader: &mut Reader, peak_event: u64) -> Result<OwnersAtPeak, TraceError> {
    let mut live = HashMap::new();
    let mut phases: Vec<String> = vec![String::new()];
    for _ in 0..peak_event {
        match reader.next().transpose()? {
            Some(Event::Allocate { id, bytes, tag, .. }) => {
                live.insert(id, (bytes, tag, phases.len() - 1));
            }
            Some(Event::Free { id }) => {
                live.remove(&id);
            }
            Some(Event::Marker(text)) => {
                if phases.len() < PHASE_COUNT_MAX {
                    phases.push(text.into());
                }
            }
            None => break,
        }
    }
    let mut tags: HashMap<_, (u64, u64)> = HashMap::new();
    let mut births: HashMap<usize, (u64, u64)> = HashMap::new();
    for &(bytes, tag, phase) in live.values() {
        for sum in [
            tags.entry(tag).or_default(),
            births.entry(phase).or_default(),
        ] {
            sum.0 += bytes;
            sum.1 += 1;
        }
    }
    let by_tag = tags
        .into_iter()
        .map(|(tag, sum)| (reader.tags().name(tag).to_owned(), sum));
    let by_phase = births
        .into_iter()
        .map(|(phase, sum)| (phases[phase].clone(), sum));
    Ok(OwnersAtPeak {
        event: peak_event,
        bytes: live.values().map(|(bytes, ..)| bytes).sum(),
        by_tag: shares(by_tag, "(no tag)"),
        by_phase: shares(by_phase, "(before the first marker)"),
        phase: phases.pop().unwrap_or_default(),
    })
}

fn shares(sums: impl Iterator<Item = (String, (u64, u64))>, unnamed: &str) -> Vec<Share> {
    // Phases may repeat under the same name.
    let mut by_name: HashMap<String, (u64, u64)> = HashMap::new();
    for (name, (bytes, count)) in sums {
        let sum = by_name.entry(name).or_default();
        sum.0 += bytes;
        sum.1 += count;
    }
    let mut shares: Vec<Share> = by_name
        .into_iter()
        .map(|(name, (bytes, count))| Share {
            name: if name.is_empty() {
                unnamed.to_owned()
            } else {
                name
            },
            bytes,
            count,
        })
        .collect();
    shares.sort_by(|one, other| (other.bytes, &one.name).cmp(&(one.bytes, &other.name)));
    if shares.len() > NAMED_MAX {
        let rest = shares.split_off(NAMED_MAX - 1);
        shares.push(Share {
            name: format!("{} others", rest.len()),
            bytes: rest.iter().map(|share| share.bytes).sum(),
            count: rest.iter().map(|share| share.count).sum(),
        });
    }
    shares
}
