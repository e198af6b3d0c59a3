//! Speech tokens of a recording of any length, in bounded memory.
//!
//! The tokenizer attends to 30 s at once. A longer recording is read in windows of 30 s that
//! overlap by 4 s; of each overlap, the first half keeps the tokens of the window before, the
//! second half those of the window after. So does the reference, and as there the mel frames of all
//! windows are floored below the peak of the whole recording: [`TokenPeak`] finds it in a first
//! reading, [`TokenWindows`] cuts the windows in a second one. The tokens equal those of
//! [`SpeechTokenizer::tokens`] on the whole recording.

use super::front_end::{TokenLogMel, scale_token_mel};
use super::preparer::PRECISION;
use super::speech_tokenizer::kept;
use super::{NetworkPlan, SpeechTokenizer, TokenizerBlock, VoiceError};
use crate::config::SpeechTokenizerConfig;
use crate::weights::{Component, WeightSource, dry, load};
use sottovoce_memory::Memory;
use sottovoce_tensor::{Context, Device, Workspace};
use std::sync::Arc;

/// The loudest logarithmic mel band of a recording that is read piece by piece.
pub struct TokenPeak {
    log_mel: TokenLogMel,
    bands: Vec<f32>,
    peak: f32,
}

impl TokenPeak {
    /// The peak of a recording that has not been read yet.
    pub fn new(config: &SpeechTokenizerConfig) -> TokenPeak {
        TokenPeak {
            log_mel: TokenLogMel::new(&config.mel),
            bands: Vec::new(),
            peak: f32::NEG_INFINITY,
        }
    }

    /// Takes the next samples, at the tokenizer's rate.
    pub fn push(&mut self, samples: &[f32]) {
        self.log_mel.push(samples, &mut self.bands);
        self.peak = peak(&self.bands, self.peak);
        self.bands.clear();
    }

    /// The peak; `None` for a recording without a frame.
    pub fn finish(mut self) -> Option<f32> {
        self.log_mel.finish(&mut self.bands);
        Some(peak(&self.bands, self.peak)).filter(|peak| peak.is_finite())
    }
}

fn peak(bands: &[f32], least: f32) -> f32 {
    bands.iter().copied().fold(least, f32::max)
}

/// Longest piece for which [`TokenWindows`] and [`TokenPeak`] have a bound, in seconds.
pub const PIECE_SECONDS_MAX: usize = 8;

/// A window of a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenWindow {
    /// Scaled mel frames `[frames × bands]`.
    mel: Vec<f32>,
    is_first: bool,
    is_last: bool,
}

impl TokenWindow {
    /// Whether the recording ends with it.
    pub fn is_last(&self) -> bool {
        self.is_last
    }
}

/// Cuts a recording that is read piece by piece into windows.
pub struct TokenWindows {
    config: SpeechTokenizerConfig,
    /// `None` once the recording has ended.
    log_mel: Option<TokenLogMel>,
    peak: f32,
    /// Logarithmic mel frames from the next window's first one on, `[frames × bands]`.
    bands: Vec<f32>,
    is_first: bool,
    has_ended: bool,
}

impl TokenWindows {
    /// Upper bound of its memory in bytes with a window handed out, for pieces of up to
    /// [`PIECE_SECONDS_MAX`].
    pub fn bytes_max(config: &SpeechTokenizerConfig) -> u64 {
        let mel = &config.mel;
        let piece = PIECE_SECONDS_MAX * mel.sample_rate as usize;
        // Vectors grow by doubling: those of frames, and of samples on their way to frames.
        let frames = 2 * (config.window + piece.div_ceil(mel.hop)) + config.window;
        let samples = 2 * (piece + 2 * mel.fft) * size_of::<f64>();
        (frames * mel.bands * size_of::<f32>() + samples) as u64
    }

    /// The windows of a recording with this peak.
    pub fn new(config: &SpeechTokenizerConfig, peak: f32) -> TokenWindows {
        TokenWindows {
            config: *config,
            log_mel: Some(TokenLogMel::new(&config.mel)),
            peak,
            bands: Vec::new(),
            is_first: true,
            has_ended: false,
        }
    }

    /// Takes the next samples, at the tokenizer's rate.
    pub fn push(&mut self, samples: &[f32]) {
        if let Some(log_mel) = &mut self.log_mel {
            log_mel.push(samples, &mut self.bands);
        }
    }

    /// Ends the recording.
    pub fn finish(&mut self) {
        if let Some(log_mel) = self.log_mel.take() {
            log_mel.finish(&mut self.bands);
        }
    }

    /// The next window, if it is complete.
    pub fn next_window(&mut self) -> Option<TokenWindow> {
        let SpeechTokenizerConfig {
            window, overlap, ..
        } = self.config;
        let bands = self.config.mel.bands;
        let frames = self.bands.len() / bands;
        // Only a window with frames after it has another one after it.
        let is_last = frames <= window;
        if self.has_ended || is_last && (self.log_mel.is_some() || frames == 0) {
            return None;
        }
        let mut mel = self.bands[..frames.min(window) * bands].to_vec();
        scale_token_mel(&mut mel, self.peak);
        let made = TokenWindow {
            mel,
            is_first: self.is_first,
            is_last,
        };
        match is_last {
            true => self.bands = Vec::new(),
            false => drop(self.bands.drain(..(window - overlap) * bands)),
        }
        self.is_first = false;
        self.has_ended = is_last;
        Some(made)
    }
}

/// The speech tokenizer for one window at a time: its transformer blocks are loaded one after the
/// other for each window, and all its memory is planned.
pub struct WindowTokenizer<'a> {
    source: &'a WeightSource,
    network: SpeechTokenizer,
    workspace: Workspace,
    memory: Memory,
    device: Arc<dyn Device>,
}

impl<'a> WindowTokenizer<'a> {
    /// Plans the tokenizer of a model for windows of full length.
    ///
    /// # Errors
    /// If the model has no speech tokenizer, or a tensor of another shape.
    pub fn plan(source: &WeightSource, device: &dyn Device) -> Result<NetworkPlan, VoiceError> {
        let config = &source.config().voice.tokenizer;
        let component = Component::SpeechTokenizer;
        let (network, bytes) = dry(source, component, PRECISION, |loader| {
            SpeechTokenizer::load(loader, config)
        })?;
        let mel = vec![0.0; config.window * config.mel.bands];
        NetworkPlan::of(bytes as u64, device, |ctx, block_bytes| {
            let windows = std::iter::once(mel.as_slice());
            network.tokens_of_mels(ctx, windows, |index| -> Result<_, VoiceError> {
                let (block, bytes) = dry(source, component, PRECISION, |loader| {
                    TokenizerBlock::load(loader, config, index)
                })?;
                *block_bytes = (bytes as u64).max(*block_bytes);
                Ok(block)
            })?;
            Ok(())
        })
    }

    /// Loads the tokenizer.
    ///
    /// # Errors
    /// If a weight is invalid or memory runs out.
    pub fn load(
        plan: &NetworkPlan,
        source: &'a WeightSource,
        memory: &Memory,
        device: Arc<dyn Device>,
    ) -> Result<WindowTokenizer<'a>, VoiceError> {
        let config = &source.config().voice.tokenizer;
        let component = Component::SpeechTokenizer;
        let loaded = load(source, component, PRECISION, memory, |loader| {
            SpeechTokenizer::load(loader, config)
        })?;
        Ok(WindowTokenizer {
            source,
            network: loaded.network,
            workspace: plan.workspace(memory, "speech tokenizer")?,
            memory: memory.clone(),
            device,
        })
    }

    /// The tokens that are the window's own. Blocks are loaded, for which the driver must be open.
    ///
    /// # Errors
    /// If a weight is invalid or memory runs out.
    pub fn tokens(&self, window: &TokenWindow) -> Result<Vec<u32>, VoiceError> {
        let config = &self.source.config().voice.tokenizer;
        self.workspace.restart();
        let ctx = Context::new(&self.workspace, &*self.device);
        let windows = std::iter::once(window.mel.as_slice());
        let tokens = self.network.tokens_of_mels(&ctx, windows, |index| {
            let component = Component::SpeechTokenizer;
            let loaded = load(self.source, component, PRECISION, &self.memory, |loader| {
                TokenizerBlock::load(loader, config, index)
            });
            loaded
                .map(|loaded| loaded.network)
                .map_err(VoiceError::from)
        })?;
        ctx.finish()?;
        let tokens = tokens.into_iter().flatten().collect();
        Ok(kept(config, tokens, window.is_first, window.is_last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;
    use crate::voice::Preparer;
    use sottovoce_tensor::Threads;
    use sottovoce_tensor::cpu::Cpu;

    /// Half-second bursts of a buzz, louder and quieter.
    fn sound(samples: usize) -> Vec<f32> {
        (0..samples)
            .map(|index| {
                let time = index as f32 / 16_000.0;
                let level = 0.02 + 0.3 * ((time * 2.0) as u32 * 7 % 5) as f32 / 5.0;
                level * ((time * (110.0 + 9.0 * time.sin())).fract() - 0.5)
            })
            .collect()
    }

    #[test]
    fn tokens_of_windows_read_in_pieces_are_those_of_the_whole_recording() {
        let mut config = ModelConfig::tiny_base();
        config.voice.tokenizer.window = 120;
        config.voice.tokenizer.overlap = 16;
        let tokenizer = config.voice.tokenizer;
        let source = WeightSource::synthetic(config, 3);
        let memory = Memory::host(1 << 30);
        let device: Arc<dyn Device> = Arc::new(Cpu::new(Threads::new(1)));
        let preparer = Preparer::new(&source, &memory).unwrap();
        let plan = WindowTokenizer::plan(&source, &*device).unwrap();
        let loaded = WindowTokenizer::load(&plan, &source, &memory, device.clone()).unwrap();
        // Shorter than a window, on both sides of borders, and with a remainder within the overlap.
        for frames in [1, 3, 40, 119, 120, 121, 136, 224, 225, 240, 500, 1000] {
            let samples = sound(frames * 160 + frames % 7);
            let clips = [(samples.as_slice(), None)];
            let whole = preparer.speech_tokens(&*device, &clips).unwrap().remove(0);
            let lengths = [7usize, 4096, 1, 399, 20_000];
            let mut pieces = Vec::new();
            let mut rest = samples.as_slice();
            for length in lengths.into_iter().cycle() {
                let (piece, after) = rest.split_at(length.min(rest.len()));
                pieces.push(piece);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            let mut peak = TokenPeak::new(&tokenizer);
            pieces.iter().for_each(|piece| peak.push(piece));
            let mut windows = TokenWindows::new(&tokenizer, peak.finish().unwrap());
            let mut tokens = Vec::new();
            let mut take = |windows: &mut TokenWindows| {
                while let Some(window) = windows.next_window() {
                    assert!(window.mel.len() <= tokenizer.window * tokenizer.mel.bands);
                    tokens.extend(loaded.tokens(&window).unwrap());
                }
            };
            for piece in &pieces {
                windows.push(piece);
                take(&mut windows);
            }
            windows.finish();
            take(&mut windows);
            assert_eq!(tokens, whole, "{frames} frames");
            assert!(
                tokens.len().abs_diff(frames.div_ceil(4)) <= 1,
                "{} of {frames} frames",
                tokens.len()
            );
        }
    }

    #[test]
    fn a_recording_without_a_frame_has_no_peak_and_no_window() {
        let config = ModelConfig::tiny_base().voice.tokenizer;
        let mut peak = TokenPeak::new(&config);
        peak.push(&[0.1; 159]);
        assert_eq!(peak.finish(), None);
        let mut windows = TokenWindows::new(&config, 0.0);
        windows.push(&[0.1; 159]);
        windows.finish();
        assert_eq!(windows.next_window(), None);
    }
}
