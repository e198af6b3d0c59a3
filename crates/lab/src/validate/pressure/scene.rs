//! The scene that is replayed with a different fault each time: loading, a voice from a recording,
//! streams in two voices at once, and a switch back to the first voice.

use super::super::{ValidateOptions, stream_options};
use super::TEXT;
use sottovoce::device;
use sottovoce::{
    DeviceChoice, Engine, EngineOptions, Error, SAMPLE_RATE, Source, StreamOptions, VoiceSource,
    read_in_turn,
};
use sottovoce_audio::{AudioFormat, Encoder};
use sottovoce_memory::driver::{
    ADDRESS_SPACE_BYTES, Driver, FaultScript, Scripted, SimulatedDriver,
};
use sottovoce_memory::{Memory, PoolConfiguration};
use sottovoce_tensor::Device;
use std::sync::Arc;

/// Utterances of a scene.
const UTTERANCES: usize = 3;
const CLIP_SECONDS: usize = 6;

/// Kinds of memory under pressure.
#[derive(Clone, Copy, Debug)]
pub(super) enum MemoryKind {
    /// A device's memory.
    Of(DeviceChoice),
    /// Memory of a simulated device, backed by host bytes, in which the CPU computes.
    Simulated,
}

/// A device whose memory can be put under pressure.
pub(super) struct Pressed {
    pub device: Arc<dyn Device>,
    pub memory: Memory,
    /// Script of the memory's faults.
    pub script: FaultScript,
}

impl MemoryKind {
    /// All places to test for this device.
    pub fn all(choice: DeviceChoice) -> Vec<MemoryKind> {
        match choice {
            DeviceChoice::Cpu => vec![MemoryKind::Of(choice), MemoryKind::Simulated],
            _ => vec![MemoryKind::Of(choice)],
        }
    }

    pub fn name(self) -> String {
        match self {
            MemoryKind::Of(DeviceChoice::Cpu) => "host".into(),
            MemoryKind::Of(choice) => choice.to_string(),
            MemoryKind::Simulated => "simulated".into(),
        }
    }

    /// Opens a device with `capacity` bytes of such memory, or with all available.
    ///
    /// # Errors
    /// If the device cannot be opened.
    pub fn open(self, capacity: Option<u64>, threads: usize) -> Result<Pressed, Error> {
        self.open_with(capacity, threads, &mut |_| {})
    }

    /// As [`MemoryKind::open`]; `prepare` is called with the script before the device is opened.
    ///
    /// # Errors
    /// If the device cannot be opened.
    pub fn open_with(
        self,
        capacity: Option<u64>,
        threads: usize,
        prepare: &mut dyn FnMut(&FaultScript),
    ) -> Result<Pressed, Error> {
        match self {
            MemoryKind::Of(choice) => {
                let mut script = FaultScript::default();
                let mut scripted = |driver: Box<dyn Driver>| -> Box<dyn Driver> {
                    let driver = Scripted::new(driver);
                    script = driver.script();
                    prepare(&script);
                    Box::new(driver)
                };
                let opened = device::open_covered(choice, threads, capacity, &mut scripted)?;
                Ok(Pressed {
                    device: opened.device,
                    memory: opened.memory,
                    script,
                })
            }
            MemoryKind::Simulated => {
                let capacity = capacity.unwrap_or(ADDRESS_SPACE_BYTES);
                let driver = SimulatedDriver::new(capacity).with_bytes();
                let script = FaultScript::clone(&driver.control());
                prepare(&script);
                let pool = PoolConfiguration::default();
                Ok(Pressed {
                    device: device::host(threads),
                    memory: Memory::with_driver(Box::new(driver), pool),
                    script,
                })
            }
        }
    }
}

impl Pressed {
    /// Lets another process take all that is free of `capacity` bytes.
    pub fn take_all(&self, capacity: u64) {
        let statistics = self.memory.statistics();
        let held = statistics.held_bytes() + statistics.driver_bytes;
        self.script.take(capacity.saturating_sub(held));
    }
}

/// The scene and its fault-free audio.
pub(super) struct Scene {
    source: Source,
    engine: EngineOptions,
    options: [StreamOptions; UTTERANCES],
    /// Recording for the second voice; `None` if the model has no voices from recordings.
    clip: Option<Vec<u8>>,
    expected: Vec<Vec<f32>>,
}

/// Outcome of one run.
pub(super) struct Played {
    /// Driver calls.
    pub calls: u64,
    /// Of those, allocations.
    pub acquiring_calls: u64,
    pub ending: Ending,
}

/// Outcomes from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ending {
    /// Every stream's audio was unchanged.
    Equal,
    /// Some streams ended with their own error after unchanged audio; the others were unchanged.
    Refused,
    /// Some audio was changed or missing.
    Different,
    /// Memory was leaked.
    Leaked,
}

/// Samples of one utterance, and how it ended.
type Heard = (Vec<f32>, Result<(), Error>);

impl Scene {
    /// Runs the scene once without a fault.
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
        let place = MemoryKind::Of(scene.engine.device);
        let heard = match scene.act(&place.open(None, scene.threads())?) {
            Err(Error::Voice { .. }) => {
                scene.clip = None;
                scene.act(&place.open(None, scene.threads())?)?
            }
            heard => heard?,
        };
        for (samples, ending) in heard {
            ending?;
            scene.expected.push(samples);
        }
        Ok(scene)
    }

    fn threads(&self) -> usize {
        self.engine.threads.unwrap_or(0)
    }

    /// Runs the scene on a device to whose memory `fault` is applied.
    pub fn play(&self, place: MemoryKind, fault: impl Fn(&FaultScript)) -> Played {
        let pressed = match place.open_with(None, self.threads(), &mut |script| fault(script)) {
            Ok(pressed) => pressed,
            // The fault hit the opening of the device itself.
            Err(_) => {
                return Played {
                    calls: 0,
                    acquiring_calls: 0,
                    ending: Ending::Refused,
                };
            }
        };
        let outcome = self.act(&pressed);
        let Pressed {
            device,
            memory,
            script,
        } = pressed;
        let (calls, acquiring_calls) = (script.call_count(), script.acquiring_calls());
        drop(device);
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
    /// The error of loading, if no utterance was possible.
    fn act(&self, pressed: &Pressed) -> Result<Vec<Heard>, Error> {
        let (device, memory) = (pressed.device.clone(), pressed.memory.clone());
        let engine = Engine::load_on(device, memory, self.source.clone(), self.engine.clone())?;
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
        let mut heard = read_in_turn([one, two]);
        heard.extend(read_in_turn([engine.stream(TEXT, &voice, third.clone())]));
        Ok(heard)
    }
}

/// A recording for a voice: a swelling buzz, for random and trained weights alike.
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
