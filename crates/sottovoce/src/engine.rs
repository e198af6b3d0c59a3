//! The engine as callers see it.

use crate::error::Error;
use crate::report::MemoryReport;
use crate::settings::{
    EngineOptions, Profile, Source, StreamOptions, TEXT_CHARACTERS_MAX, WhenFull,
};
use crate::stream::Stream;
use crate::voice::{Voice, VoiceInner, VoiceSource};
use crate::worker::{self, Job};
use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A loaded model that speaks. Cloning shares it; the last clone's drop ends it and gives its memory back.
#[derive(Clone)]
pub struct Engine {
    handle: Arc<Handle>,
}

/// What the callers and the worker share.
pub(crate) struct Shared {
    desk: Mutex<Desk>,
    changed: Condvar,
}

/// Requests on their way to the worker, and what it tells about itself.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) waiting: VecDeque<Job>,
    pub(crate) live: usize,
    pub(crate) closing: bool,
    pub(crate) options: EngineOptions,
    awake: bool,
}

impl Shared {
    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the worker look at its streams again.
    pub(crate) fn wake(&self) {
        self.desk().awake = true;
        self.changed.notify_all();
    }

    /// Sleeps until someone called [`wake`](Self::wake) since the last time.
    pub(crate) fn sleep(&self) {
        let mut desk = self.desk();
        while !desk.awake {
            desk = self
                .changed
                .wait(desk)
                .unwrap_or_else(PoisonError::into_inner);
        }
        desk.awake = false;
    }
}

struct Handle {
    shared: Arc<Shared>,
    worker: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.desk().closing = true;
        self.shared.wake();
        let worker = self
            .worker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(worker) = worker {
            // A worker that panicked has nothing left to give back.
            let _ = worker.join();
        }
    }
}

impl Engine {
    /// Loads a model. Refuses a budget in which not even one stream fits.
    pub fn load(_source: Source, options: EngineOptions) -> Result<Engine, Error> {
        let desk = Desk {
            options,
            ..Desk::default()
        };
        let shared = Arc::new(Shared {
            desk: Mutex::new(desk),
            changed: Condvar::new(),
        });
        let worker = std::thread::Builder::new()
            .name("sottovoce-worker".into())
            .spawn({
                let shared = shared.clone();
                move || worker::run(&shared)
            })
            .map_err(|error| Error::Model {
                name: "worker".into(),
                reason: error.to_string(),
            })?;
        Ok(Engine {
            handle: Arc::new(Handle {
                shared,
                worker: Mutex::new(Some(worker)),
            }),
        })
    }

    /// Makes a voice ready.
    pub fn voice(&self, source: VoiceSource) -> Result<Voice, Error> {
        let name = match source {
            VoiceSource::Default => "default".to_owned(),
            VoiceSource::Name(name) | VoiceSource::ClipBytes { name, .. } => name,
            VoiceSource::Prepared(path) | VoiceSource::Clip(path) => path.display().to_string(),
        };
        Ok(Voice {
            inner: Arc::new(VoiceInner { name }),
        })
    }

    /// Starts to speak `text`; chunks come from the returned iterator as they are made.
    pub fn stream(
        &self,
        text: &str,
        voice: &Voice,
        options: StreamOptions,
    ) -> Result<Stream, Error> {
        let started = Instant::now();
        options.check()?;
        let characters = text.chars().count();
        if characters > TEXT_CHARACTERS_MAX {
            return Err(Error::Text {
                reason: format!(
                    "{characters} characters; one stream takes {TEXT_CHARACTERS_MAX}, split it"
                ),
            });
        }
        if !text.chars().any(char::is_alphanumeric) {
            return Err(Error::Text {
                reason: "there is nothing in it to speak".into(),
            });
        }
        let shared = &self.handle.shared;
        let (sender, chunks) = sync_channel(options.buffered_chunks_max);
        let cancelled = Arc::new(AtomicBool::new(false));
        {
            let mut desk = shared.desk();
            let full = desk.live + desk.waiting.len() >= desk.options.streams_max;
            let waiting_max = if options.when_full == WhenFull::Refuse {
                0
            } else {
                desk.options.waiting_max
            };
            let waiting = (desk.live + desk.waiting.len()).saturating_sub(desk.options.streams_max);
            if full && waiting >= waiting_max {
                return Err(Error::Busy {
                    waiting,
                    waiting_max,
                    retry_after: Duration::from_secs(1),
                });
            }
            desk.waiting.push_back(Job {
                text: text.to_owned(),
                voice: voice.clone(),
                options,
                sender,
                cancelled: cancelled.clone(),
                started,
            });
        }
        shared.wake();
        Ok(Stream {
            chunks,
            cancelled,
            shared: shared.clone(),
        })
    }

    /// Streams that may be under way together.
    pub fn streams_max(&self) -> usize {
        self.handle.shared.desk().options.streams_max
    }

    /// Ends every stream, also those of other clones, and refuses new ones.
    pub fn stop(&self) {
        self.handle.shared.desk().closing = true;
        self.handle.shared.wake();
    }

    /// Where every byte is.
    pub fn memory_report(&self) -> MemoryReport {
        MemoryReport::default()
    }

    /// Gives back what is cached and not in use; the bytes given back.
    pub fn trim(&self) -> u64 {
        0
    }

    /// Changes how eagerly memory goes back, while running.
    pub fn set_profile(&self, profile: Profile) {
        self.handle.shared.desk().options.profile = profile;
    }

    /// Changes profile, monitoring and cadence together, while running.
    pub fn configure_memory_management(
        &self,
        profile: Profile,
        enable_monitoring: bool,
        cache_interval: Option<u32>,
    ) {
        let mut desk = self.handle.shared.desk();
        desk.options.profile = profile;
        desk.options.enable_monitoring = enable_monitoring;
        desk.options.cache_interval = cache_interval;
    }
}
