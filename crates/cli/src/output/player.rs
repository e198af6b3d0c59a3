//! Playback through a player installed on the system, so that the build needs no sound library.

use sottovoce_audio::{AudioFormat, Encoder};
use std::io::Write;
use std::process::{Child, Command, Stdio};

/// Players that read raw 16-bit samples from standard input, best first, with their arguments for a
/// sample rate.
const PLAYERS: [(&str, &[&str]); 5] = [
    (
        "pw-play",
        &["--format=s16", "--channels=1", "--rate={rate}", "-"],
    ),
    (
        "paplay",
        &["--raw", "--format=s16le", "--channels=1", "--rate={rate}"],
    ),
    (
        "aplay",
        &[
            "-q", "-t", "raw", "-f", "S16_LE", "-c", "1", "-r", "{rate}", "-",
        ],
    ),
    (
        "ffplay",
        &[
            "-loglevel",
            "error",
            "-nodisp",
            "-autoexit",
            "-f",
            "s16le",
            "-ar",
            "{rate}",
            "-",
        ],
    ),
    (
        "play",
        &[
            "-q", "-t", "raw", "-e", "signed", "-b", "16", "-c", "1", "-r", "{rate}", "-",
        ],
    ),
];

/// A running player.
pub struct Player {
    program: &'static str,
    process: Child,
    encoder: Encoder,
    buffer: Vec<u8>,
}

impl Player {
    /// Starts the first player that is installed.
    ///
    /// # Errors
    /// If the encoder does not take the sample rate, or no player is installed; the message lists
    /// those that would do.
    pub fn start(sample_rate: u32) -> Result<Player, Box<dyn std::error::Error>> {
        let encoder = Encoder::new(AudioFormat::Pcm, sample_rate)?;
        for (program, arguments) in PLAYERS {
            let arguments = arguments
                .iter()
                .map(|argument| argument.replace("{rate}", &sample_rate.to_string()));
            let started = Command::new(program)
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                // Messages of the player's libraries are of no use to the user.
                .stderr(Stdio::null())
                .spawn();
            if let Ok(process) = started {
                return Ok(Player {
                    program,
                    process,
                    encoder,
                    buffer: Vec::new(),
                });
            }
        }
        let names: Vec<&str> = PLAYERS.iter().map(|(program, _)| *program).collect();
        Err(format!(
            "no player found: install one of {}, or write to a file with --out",
            names.join(", ")
        )
        .into())
    }

    /// Plays samples; blocks while the player is behind.
    ///
    /// # Errors
    /// If the player has stopped reading, as it does without a sound device.
    pub fn play(&mut self, samples: &[f32]) -> Result<(), Box<dyn std::error::Error>> {
        self.encoder.encode(samples, &mut self.buffer)?;
        if let Some(pipe) = &mut self.process.stdin {
            pipe.write_all(&self.buffer).map_err(|_| self.stopped())?;
        }
        self.buffer.clear();
        Ok(())
    }

    /// Waits until everything has been played.
    ///
    /// # Errors
    /// If the player ends with another status than success.
    pub fn finish(mut self) -> Result<(), Box<dyn std::error::Error>> {
        drop(self.process.stdin.take());
        let status = self.process.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(self.stopped().into())
        }
    }

    fn stopped(&self) -> String {
        format!(
            "{} could not play the speech, perhaps for want of a sound device: write to a file \
             with --out",
            self.program
        )
    }
}
