//! The listener of a voice change: a thread that reads recorded speech and makes its speech tokens,
//! window by window, while the worker renders earlier ones.

use crate::engine::Shared;
use crate::error::Error;
use crate::recorded_speech::{RECORDING, RecordedSpeech};
use crate::worker::reason_of;
use sottovoce_chatterbox::voice::{
    NetworkPlan, TokenPeak, TokenWindow, TokenWindows, VoiceError, WindowTokenizer,
};
use sottovoce_formats::audio::Mix;
use sottovoce_memory::budget::Reservation;
use sottovoce_tensor::Device;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Speech tokens on their way from a listener to the worker: at most those of one window.
#[derive(Default)]
pub(crate) struct TokenInput {
    state: Mutex<TokenState>,
    changed: Condvar,
}

#[derive(Default)]
struct TokenState {
    tokens: Vec<u32>,
    /// No further tokens come.
    ended: bool,
    failure: Option<Error>,
    /// The listener's memory, once the stream is admitted.
    grant: Option<Grant>,
    /// The worker takes no more tokens.
    closed: bool,
}

/// A share of the budget of a listener, or of a recording that becomes a voice.
pub(crate) struct Grant {
    pub reservation: Reservation,
    /// Counts the grants of an engine; dropped after the reservation.
    pub _counted: Arc<()>,
}

impl TokenInput {
    /// Takes the tokens that are there, and whether they are the last.
    ///
    /// # Errors
    /// The listener's failure, once the tokens before it were taken.
    pub fn take(&self) -> Result<(Vec<u32>, bool), Error> {
        let mut state = self.state();
        let tokens = std::mem::take(&mut state.tokens);
        if let Some(failure) = state.failure.take_if(|_| tokens.is_empty()) {
            return Err(failure);
        }
        self.changed.notify_all();
        Ok((tokens, state.ended))
    }

    /// Lets the listener begin.
    pub fn grant(&self, grant: Grant) {
        self.state().grant = Some(grant);
        self.changed.notify_all();
    }

    /// Ends the listener: the worker takes no more tokens.
    pub fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Waits for the grant; `None` if the stream ended before.
    fn granted(&self) -> Option<Grant> {
        let mut state = self.wait(|state| state.closed || state.grant.is_some());
        state.grant.take().filter(|_| !state.closed)
    }

    /// Appends tokens once those before them were taken.
    fn push(&self, tokens: Vec<u32>, last: bool) {
        let mut state = self.wait(|state| state.closed || state.tokens.is_empty());
        state.tokens = tokens;
        state.ended = last;
    }

    fn fail(&self, failure: Error) {
        self.state().failure = Some(failure);
    }

    fn wait(&self, until: impl Fn(&TokenState) -> bool) -> MutexGuard<'_, TokenState> {
        let waited = (self.changed).wait_while(self.state(), |state| !until(state));
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, TokenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The worker's end of a [`TokenInput`]. Dropping it ends the listener.
pub(crate) struct TokenReceiver(pub Arc<TokenInput>);

impl Drop for TokenReceiver {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A listener.
pub(crate) struct Listener {
    pub shared: Arc<Shared>,
    pub speech: RecordedSpeech,
    /// Bytes of its grant for reading the speech.
    pub reading_bytes: u64,
    pub input: Arc<TokenInput>,
    pub plan: Arc<NetworkPlan>,
    /// Computes on the host.
    pub device: Arc<dyn Device>,
}

impl Listener {
    /// Reads the recording to its end, or until the worker takes no more tokens.
    pub fn run(self) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.listen()));
        let outcome = outcome.unwrap_or_else(|panic| {
            Err(Error::Fault {
                reason: reason_of(&*panic),
            })
        });
        if let Err(failure) = outcome {
            self.input.fail(failure);
        }
        self.shared.wake();
    }

    fn listen(&self) -> Result<(), Error> {
        let Some(mut grant) = self.input.granted() else {
            return Ok(());
        };
        let reserved = grant.reservation.balance().reserved;
        grant.reservation.commit(reserved)?;
        let holdings = self.shared.holdings();
        let _reading = holdings.host().charge(self.reading_bytes, RECORDING)?;
        let Some((mix, peak)) = self.survey()? else {
            return Ok(());
        };
        let tokenizer = {
            let _open = holdings.open();
            let (source, memory) = (self.shared.model(), holdings.host());
            let loaded = WindowTokenizer::load(&self.plan, source, memory, self.device.clone());
            loaded.map_err(|error| self.failed(error))?
        };
        let listened = self.make_tokens(&tokenizer, mix, peak);
        let open = holdings.open();
        drop(tokenizer);
        drop(open);
        listened
    }

    fn sample_rate(&self) -> u32 {
        self.shared.model().config().voice.tokenizer.mel.sample_rate
    }

    /// Reads the recording once: its mix and its peak; `None` if the stream ended before.
    fn survey(&self) -> Result<Option<(Mix, f32)>, Error> {
        let config = &self.shared.model().config().voice.tokenizer;
        let read = |mix| -> Result<_, Error> {
            let mut peak = TokenPeak::new(config);
            let better = self.speech.read(self.sample_rate(), mix, &mut |samples| {
                peak.push(samples);
                self.go_on()
            })?;
            let too_short = || {
                self.speech
                    .refuse("it is shorter than a hundredth of a second")
            };
            Ok((better, peak.finish().ok_or_else(too_short)?))
        };
        let (better, peak) = read(Mix::Mean)?;
        let (mix, peak) = match better {
            Mix::Mean => (better, peak),
            Mix::LoudestChannel => (better, read(better)?.1),
        };
        Ok((!self.input.is_closed()).then_some((mix, peak)))
    }

    /// Reads the recording again and hands on its tokens.
    fn make_tokens(
        &self,
        tokenizer: &WindowTokenizer<'_>,
        mix: Mix,
        peak: f32,
    ) -> Result<(), Error> {
        let config = &self.shared.model().config().voice.tokenizer;
        let mut windows = TokenWindows::new(config, peak);
        let mut outcome = Ok(());
        self.speech.read(self.sample_rate(), mix, &mut |samples| {
            windows.push(samples);
            while let Some(window) = windows.next_window() {
                outcome = self.make_window(tokenizer, &window);
                if outcome.is_err() {
                    return ControlFlow::Break(());
                }
            }
            self.go_on()
        })?;
        outcome?;
        windows.finish();
        while let Some(window) = windows.next_window() {
            self.make_window(tokenizer, &window)?;
        }
        Ok(())
    }

    fn make_window(
        &self,
        tokenizer: &WindowTokenizer<'_>,
        window: &TokenWindow,
    ) -> Result<(), Error> {
        if self.input.is_closed() {
            return Ok(());
        }
        let mut tokens = Ok(Vec::new());
        {
            let _open = self.shared.holdings().open();
            // On the pool's threads, like the worker's stages.
            self.device.run(&mut || tokens = tokenizer.tokens(window));
        }
        let tokens = tokens.map_err(|error| self.failed(error))?;
        self.input.push(tokens, window.is_last());
        self.shared.wake();
        Ok(())
    }

    fn go_on(&self) -> ControlFlow<()> {
        match self.input.is_closed() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn failed(&self, error: VoiceError) -> Error {
        let model = self.shared.model().name();
        Error::hearing(model, error, |error| self.speech.refuse(error))
    }
}
