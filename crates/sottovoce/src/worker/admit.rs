//! Admission: requests become streams under way.

use super::{Job, Live, Worker, reason_of};
use crate::error::Error;
use crate::pipeline::Utterance;
use sottovoce_memory::policy::PolicyEvent;
use std::panic::{AssertUnwindSafe, catch_unwind};

impl Worker {
    /// Begins the admitted streams. Memory that ended streams left for them, and that they do not
    /// reuse, is released.
    pub(super) fn admit(&mut self) {
        self.begin_admitted();
        // Newly admitted streams have reused what they can of the memory of ended streams.
        if std::mem::take(&mut self.left_for_others) {
            self.event(PolicyEvent::StreamEnded);
        }
    }

    /// Begins the admitted streams.
    fn begin_admitted(&mut self) {
        while let Some((job, error)) = self.shared.next_stuck() {
            self.shared.metrics().streams_failed += 1;
            job.delivery.fail(Error::OutOfMemory(error));
        }
        while let Some((job, promise)) = self.shared.next_admitted() {
            if job.delivery.cancelled() {
                self.shared.left(job.ticket, job.started.elapsed());
                self.shared.metrics().streams_cancelled += 1;
                continue;
            }
            let begun = catch_unwind(AssertUnwindSafe(|| self.begin(&job)));
            let begun = begun.unwrap_or_else(|panic| {
                self.pipeline.renew_workspaces(self.shared.holdings());
                Err(Error::Fault {
                    reason: reason_of(&*panic),
                })
            });
            match begun {
                Ok(mut utterance) => {
                    let mut promise = promise;
                    if let Some(tokens) = &job.tokens {
                        let host = promise.host.as_mut();
                        let of_listener = host.unwrap_or(&mut promise.device);
                        let granted = of_listener.split(tokens.listener_bytes);
                        tokens.receiver.0.grant(self.shared.grant(granted));
                    }
                    let warnings = utterance.take_warnings();
                    job.delivery.warn(&warnings);
                    job.delivery.admit();
                    self.shared.begins(job.ticket);
                    let mut live = Live::new(job, promise, utterance, self.turn);
                    live.warnings = warnings;
                    self.live.push(live);
                    self.settle();
                }
                Err(error) if error.is_memory_short() && !self.live.is_empty() => {
                    self.shared.put_back(job, promise);
                    return;
                }
                Err(error) => {
                    drop(promise);
                    self.shared.left(job.ticket, job.started.elapsed());
                    self.shared.metrics().streams_failed += 1;
                    self.notice_loss();
                    job.delivery.fail(error);
                }
            }
        }
    }

    /// Begins a job's utterance, climbing the ladder while memory is short.
    fn begin(&mut self, job: &Job) -> Result<Utterance, Error> {
        let shared = self.shared.clone();
        let _open = shared.holdings().open();
        let mut attempt = 0;
        loop {
            let (id, text) = (job.ticket, job.text.whole_text());
            let (voice, options) = (&job.voice, &job.options);
            let others = self.live.len();
            let holdings = shared.holdings();
            let text = text.as_deref();
            let begun = match &job.tokens {
                Some(_) => (self.pipeline).begin_change(others, voice, options, holdings),
                None => (self.pipeline).begin(id, others, text, voice, options, holdings),
            };
            match begun {
                Err(error) if self.climb(&error, attempt).is_some() => attempt += 1,
                outcome => return outcome,
            }
        }
    }
}
