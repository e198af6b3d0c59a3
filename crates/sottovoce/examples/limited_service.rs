//! A service within a budget: callers beyond its capacity are told when to retry, and memory never
//! exceeds the limit.
//!
//! ```console
//! $ cargo run --release --example limited_service
//! ```

use sottovoce::{
    Engine, EngineOptions, Error, Source, StreamOptions, Voice, VoiceSource, WhenFull,
};
use std::thread;
use std::time::Duration;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// Number of samples spoken.
    Spoken(usize),
    /// All places are taken: retry after this time.
    TryAgain(Duration),
}

/// A service with a budget.
pub struct Service {
    engine: Engine,
    voice: Voice,
}

impl Service {
    /// Loads the model within `budget_bytes`, for at most `streams_max` callers at once.
    ///
    /// # Errors
    /// [`Error::Budget`] if no stream fits, and any other error of loading.
    pub fn new(budget_bytes: u64, streams_max: usize) -> Result<Service, Error> {
        let options = EngineOptions {
            memory: Some(budget_bytes),
            streams_max,
            ..EngineOptions::default()
        };
        let engine = Engine::load(Source::Embedded, options)?;
        let voice = engine.voice(VoiceSource::Default)?;
        Ok(Service { engine, voice })
    }

    /// Speaks `text`, or returns when to retry.
    ///
    /// # Errors
    /// If the engine refuses the text, or ends the stream with an error. A full service is an
    /// outcome.
    pub fn call(&self, text: &str, mut play: impl FnMut(&[f32])) -> Result<Outcome, Error> {
        let options = StreamOptions {
            when_full: WhenFull::Refuse,
            ..StreamOptions::default()
        };
        let stream = match self.engine.stream(text, &self.voice, options) {
            Ok(stream) => stream,
            Err(Error::Busy { retry_after, .. }) => return Ok(Outcome::TryAgain(retry_after)),
            Err(error) => return Err(error),
        };
        let mut sample_count = 0;
        for chunk in stream {
            let chunk = chunk?;
            sample_count += chunk.samples.len();
            play(&chunk.samples);
        }
        Ok(Outcome::Spoken(sample_count))
    }

    /// The budget, and the peak of the bytes held.
    pub fn memory(&self) -> (u64, u64) {
        let report = self.engine.memory_report();
        (report.budget_bytes.unwrap_or(0), report.reserved_peak_bytes)
    }
}

fn main() -> Result<(), Error> {
    let service = Service::new(64 << 20, 2)?;
    thread::scope(|scope| {
        for number in 1..=6 {
            let service = &service;
            scope.spawn(move || {
                let outcome = service.call("All callers speak at once.", |_| {});
                println!("caller {number}: {outcome:?}");
            });
        }
    });
    let (budget, most) = service.memory();
    println!("{most} bytes held at most, of {budget} allowed");
    Ok(())
}
