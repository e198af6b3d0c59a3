//! The workspaces: made to fit the streams under way, shrunk, and renewed after a fault.

use super::{Pipeline, Utterance};
use crate::error::Error;
use crate::holdings::Holdings;
use crate::plan::{Extent, Networks, RunTraces, record};
use crate::workspaces::Workspaces;

impl Pipeline {
    /// Makes the workspaces hold a run of `extent`; after shrinking they may have to grow again.
    /// The existing ones are released only if no other stream needs them, that is, if the caller is
    /// `alone`.
    pub(super) fn fit(
        &mut self,
        extent: &Extent,
        alone: bool,
        holdings: &Holdings,
    ) -> Result<(), Error> {
        let together = match &self.workspaces {
            Some(workspaces) if workspaces.hold(extent) => return Ok(()),
            Some(workspaces) => workspaces.extent().union(extent),
            None => *extent,
        };
        let traces = self.record(&together)?;
        let _open = holdings.open();
        self.device.forget_recorded();
        let mut larger = Workspaces::reserve(holdings.memory(), &traces, together);
        if larger.is_err() && alone {
            self.workspaces = None;
            larger = Workspaces::reserve(holdings.memory(), &traces, together);
        }
        self.workspaces = Some(larger?);
        Ok(())
    }

    /// Shrinks the workspaces to what the running streams' `extent` needs; returns the bytes
    /// released. Results are unchanged.
    pub fn shrink(&mut self, extent: &Extent, holdings: &Holdings) -> u64 {
        let Some(workspaces) = self.workspaces.take() else {
            return 0;
        };
        let extent = &Extent {
            flow_streams: extent.streams.min(workspaces.extent().flow_streams),
            ..*extent
        };
        let traces = match self.record(extent) {
            Ok(traces) if traces.peak_bytes() < workspaces.bytes() => traces,
            _ => {
                self.workspaces = Some(workspaces);
                return 0;
            }
        };
        let before = holdings.memory().statistics().held_bytes();
        let opening = holdings.open();
        self.device.forget_recorded();
        self.workspaces = workspaces.shrunk(&traces, *extent);
        drop(opening);
        before.saturating_sub(holdings.memory().statistics().held_bytes())
    }

    /// Rebuilds the workspaces after a stage panicked in them. If there is no room for everything
    /// planned at load, the next run makes what it needs.
    pub fn renew_workspaces(&mut self, holdings: &Holdings) {
        let _open = holdings.open();
        self.device.forget_recorded();
        self.workspaces = None;
        let renewed = self
            .record(&self.extent)
            .and_then(|traces| Workspaces::reserve(holdings.memory(), &traces, self.extent));
        self.workspaces = renewed.ok();
    }

    /// In whole delivery, lets the workspaces take no memory until the next run writes to them. A
    /// sentence's prompt and flow write most of them, and what comes after each writes elsewhere;
    /// it takes what it needs alone then. In a stream they alternate.
    pub(super) fn discard_workspace(&self, utterance: &Utterance) -> Result<(), Error> {
        if utterance.is_delivered_whole() {
            // All lie in one arena.
            self.workspaces()?.runs.step.discard_contents();
        }
        Ok(())
    }

    pub(super) fn record(&self, extent: &Extent) -> Result<RunTraces, Error> {
        let networks = Networks {
            t3: self.speech.as_ref().map(|speech| &speech.t3),
            flow: &self.flow,
            vocoder: &self.vocoder,
        };
        record(networks, &self.config, extent, &*self.device)
    }

    pub(super) fn workspaces(&self) -> Result<&Workspaces, Error> {
        self.workspaces.as_ref().ok_or_else(|| Error::Synthesis {
            reason: "a run began without a workspace".into(),
        })
    }
}
