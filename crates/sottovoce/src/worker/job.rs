//! What the worker gets of a request.

use crate::admission::Ticket;
use crate::listener::TokenReceiver;
use crate::options::StreamOptions;
use crate::stream::Sender;
use crate::text_input::TextInput;
use crate::voice::Voice;
use std::sync::Arc;
use std::time::Instant;

/// A request to speak.
pub(crate) struct Job {
    pub ticket: Ticket,
    pub text: Arc<TextInput>,
    /// The tokens of recorded speech, for a voice change.
    pub tokens: Option<ChangeTokens>,
    pub voice: Voice,
    pub options: StreamOptions,
    pub delivery: Sender,
    pub started: Instant,
}

impl Job {
    /// The moment from which its reader has waited.
    pub fn asked(&self) -> Instant {
        self.delivery.asked().unwrap_or(self.started)
    }
}

/// The speech tokens of a voice change.
pub(crate) struct ChangeTokens {
    pub receiver: TokenReceiver,
    /// Bytes of the stream's reservation that are for the listener.
    pub listener_bytes: u64,
}
