//! What is played again and again with a fault each time: loading, a voice from a recording, streams in two voices at once, and a switch
//! back to the first.

use super::super::{ValidateOptions, stream_options};
use super::TEXT;
use crate::engine::Engine;
use crate::error::Error;
use crate::options::{EngineOptions, SAMPLE_RATE, Source, StreamOptions};
use crate::stream::Stream;
use crate::voice::VoiceSource;
use sottovoce_audio::{AudioFormat, Encoder};
use sottovoce_memory::driver::{Driver, HostDriver, Script, Scripted, SimulatedDriver};
use sottovoce_memory::{Memory, PoolConfiguration};

/// Utterances of a scene.
const UTTERANCES: usize = 3;
/// More than any scene takes.
const PLENTY_BYTES: u64 = 1 << 46;
const CLIP_SECONDS: usize = 6;

/// Kinds of device to put under pressure.
#[derive(Clone, Copy, Debug)]
pub(super) enum Device {
    /// This process's memory.
    Host,
    /// A simulated device with bytes behind it.
    Simulated,
}

impl Device {
    pub fn name(self) -> &'static str {
        match self {
            Device::Host => "host",
            Device::Simulated => "simulated",
        }
    }

    /// Memory of such a device with `capacity` bytes, and what can be done to it meanwhile.
    pub fn open(self, capacity: u64) -> (Memory, Script) {
        let (driver, script): (Box<dyn Driver>, Script) = match self {
            Device::Host => {
                let driver = Scripted::new(HostDriver::new(capacity));
                let script = driver.script();
                (Box::new(driver), script)
            }
            Device::Simulated => {
                let driver = SimulatedDriver::new(capacity).with_bytes();
                let script = Script::clone(&driver.control());
                (Box::new(driver), script)
            }
        };
        let memory = Memory::with_driver(driver, PoolConfiguration::default());
        (memory, script)
    }
}

/// The scene, and how it sounds when nothing happens.
pub(super) struct Scene {
    source: Source,
    engine: EngineOptions,
    options: [StreamOptions; UTTERANCES],
    /// A recording for the second voice; none where the model takes none.
    clip: Option<Vec<u8>>,
    expected: Vec<Vec<f32>>,
}

/// How one playing of it ended.
pub(super) struct Played {
    /// Calls to the driver.
    pub calls: u64,
    /// Of those, calls that ask for memory.
    pub acquiring_calls: u64,
    pub ending: Ending,
}

/// From best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    /// Every stream spoke as if nothing had been.
    Equal,
    /// Some ended with an error of their own, after what they had spoken so far; the others spoke as if nothing had been.
    Refused,
    /// Some spoke something else, or lost a part.
    Different,
    /// Something was left behind.
    Leaked,
}

/// What was heard of one utterance before it ended, and with what.
type Heard = (Vec<f32>, Result<(), Error>);

impl Scene {
    /// Plays it once without a fault.
    pub fn prepare(options: &ValidateOptions) -> Result<Scene, Error> {
        let mut scene = Scene {
            source: options.source.clone(),
            engine: EngineOptions {
                memory: None,
                streams_max: 2,
                ..options.engine.clone()
            },
            options: [0, 1, 2].map(|seed| stream_options(options, seed)),
            clip: Some(clip()?),
            expected: Vec::new(),
        };
        let (memory, _) = Device::Host.open(PLENTY_BYTES);
        let heard = match scene.act(memory) {
            Err(Error::Voice { .. }) => {
                scene.clip = None;
                scene.act(Device::Host.open(PLENTY_BYTES).0)?
            }
            heard => heard?,
        };
        for (samples, ending) in heard {
            ending?;
            scene.expected.push(samples);
        }
        Ok(scene)
    }

    /// Plays it on a device to which `fault` has done something.
    pub fn play(&self, device: Device, fault: impl FnOnce(&Script)) -> Played {
        let (memory, script) = device.open(PLENTY_BYTES);
        fault(&script);
        let outcome = self.act(memory.clone());
        let (calls, acquiring_calls) = (script.call_count(), script.acquiring_calls());
        memory.unseal();
        memory.trim();
        let ending = match outcome {
            _ if memory.statistics().held_bytes() > 0 => Ending::Leaked,
            Err(_) => Ending::Refused,
            Ok(heard) => (heard.iter().zip(&self.expected))
                .map(|((samples, ending), expected)| match ending {
                    Ok(()) if samples == expected => Ending::Equal,
                    Err(_) if expected.starts_with(samples) => Ending::Refused,
                    _ => Ending::Different,
                })
                .max()
                .unwrap_or(Ending::Equal),
        };
        Played {
            calls,
            acquiring_calls,
            ending,
        }
    }

    /// # Errors
    /// Where no utterance could be tried: at loading.
    fn act(&self, memory: Memory) -> Result<Vec<Heard>, Error> {
        let engine = Engine::load_in(memory, self.source.clone(), self.engine.clone())?;
        let [first, second, third] = &self.options;
        let voice = engine.voice(VoiceSource::Default)?;
        let other = match &self.clip {
            Some(bytes) => engine.voice(VoiceSource::ClipBytes {
                name: "pressure".into(),
                bytes: bytes.clone(),
            }),
            None => engine.varied_voice(&voice, 1),
        };
        let other = match other {
            Err(error @ Error::Voice { .. }) => return Err(error),
            other => other,
        };
        let one = engine.stream(TEXT, &voice, first.clone());
        let two = other.and_then(|other| engine.stream(TEXT, &other, second.clone()));
        let mut heard = listen([one, two]);
        heard.extend(listen([engine.stream(TEXT, &voice, third.clone())]));
        Ok(heard)
    }
}

/// Reads streams to their ends, a chunk of each in turn.
fn listen<const COUNT: usize>(streams: [Result<Stream, Error>; COUNT]) -> Vec<Heard> {
    let mut heard = Vec::with_capacity(COUNT);
    let mut open = Vec::with_capacity(COUNT);
    for stream in streams {
        let (stream, ending) = match stream {
            Ok(stream) => (Some(stream), Ok(())),
            Err(error) => (None, Err(error)),
        };
        heard.push((Vec::new(), ending));
        open.push(stream);
    }
    while open.iter().any(Option::is_some) {
        for (stream, (samples, ending)) in open.iter_mut().zip(&mut heard) {
            match stream.as_mut().and_then(Iterator::next) {
                Some(Ok(chunk)) => samples.extend(chunk.samples),
                Some(Err(error)) => {
                    *ending = Err(error);
                    *stream = None;
                }
                None => *stream = None,
            }
        }
    }
    heard
}

/// A recording to take a voice from: a buzz that swells, for random weights and trained ones alike.
fn clip() -> Result<Vec<u8>, Error> {
    let samples: Vec<f32> = (0..CLIP_SECONDS * SAMPLE_RATE as usize)
        .map(|index| {
            let time = index as f32 / SAMPLE_RATE as f32;
            let level = 0.2 + 0.2 * (time * 9.0).sin();
            level * ((time * 140.0).fract() - 0.5)
        })
        .collect();
    let mut file = Vec::new();
    let mut encoder = Encoder::new(AudioFormat::Wav, SAMPLE_RATE)?;
    encoder.encode(&samples, &mut file)?;
    encoder.finish(&mut file)?;
    for patch in encoder.patches() {
        let start = patch.offset as usize;
        file[start..start + patch.bytes.len()].copy_from_slice(&patch.bytes);
    }
    Ok(file)
}
