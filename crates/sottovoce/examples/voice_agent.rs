//! A voice agent's loop: text arrives in pieces from a language model, sound is played as it is
//! generated, and an interruption stops it at once.
//!
//! ```console
//! $ cargo run --release --example voice_agent
//! ```

use sottovoce::{Canceller, Engine, EngineOptions, Source, StreamOptions, Voice, VoiceSource};
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

/// Outcome of a turn.
#[derive(Debug, PartialEq)]
pub enum Turn {
    /// The whole answer was spoken, in this number of samples.
    Spoken(usize),
    /// The user interrupted after this number of samples.
    Interrupted(usize),
}

/// Speaks an answer whose text arrives piece by piece. `play` gets samples at 24 kHz; a message on
/// `interruptions` ends the turn within a chunk.
///
/// # Errors
/// If the engine refuses the stream or ends it with an error.
pub fn answer(
    engine: &Engine,
    voice: &Voice,
    pieces: impl Iterator<Item = String> + Send,
    interruptions: &Receiver<()>,
    mut play: impl FnMut(&[f32]),
) -> Result<Turn, Box<dyn Error>> {
    let mut stream = engine.open_stream(voice, StreamOptions::default())?;
    let writer = stream.text();
    let canceller: Canceller = stream.canceller();
    let ended = AtomicBool::new(false);
    let mut sample_count = 0;
    let mut speak = || {
        loop {
            if interruptions.try_recv() != Err(TryRecvError::Empty) {
                canceller.cancel();
                return Ok(Turn::Interrupted(sample_count));
            }
            let Some(chunk) = stream.next() else {
                return Ok(Turn::Spoken(sample_count));
            };
            let chunk = chunk?;
            sample_count += chunk.samples.len();
            play(&chunk.samples);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for piece in pieces {
                if ended.load(Ordering::Relaxed) || writer.push(&piece).is_err() {
                    return;
                }
            }
            writer.finish();
        });
        let turn = speak();
        // The rest of the text is not needed.
        ended.store(true, Ordering::Relaxed);
        turn
    })
}

/// Stand-in for a language model: a few letters at a time.
pub fn pieces(text: &str) -> impl Iterator<Item = String> + Send + use<> {
    let letters: Vec<char> = text.chars().collect();
    let pieces: Vec<String> = (letters.chunks(7))
        .map(|piece| piece.iter().collect())
        .collect();
    pieces
        .into_iter()
        .inspect(|_| thread::sleep(Duration::from_millis(5)))
}

fn main() -> Result<(), Box<dyn Error>> {
    let engine = Engine::load(Source::Embedded, EngineOptions::default())?;
    let voice = engine.voice(VoiceSource::Default)?;
    // A voice activity detector would hold the sender. Without one, nobody interrupts.
    let (_user, interruptions): (SyncSender<()>, Receiver<()>) = sync_channel(1);
    let text = pieces("Your table is booked for eight. Shall I send you a message?");
    let turn = answer(&engine, &voice, text, &interruptions, |samples| {
        println!("{} samples to play", samples.len());
    })?;
    println!("{turn:?}");
    Ok(())
}
