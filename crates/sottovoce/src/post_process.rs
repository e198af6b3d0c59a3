//! Processing of a stream's samples after the vocoder: fade-in, tempo, watermark.

use crate::error::Error;
use crate::options::{SAMPLE_RATE, StreamOptions};
use crate::stage::{MarkStage, Stage};
use crate::watermark::Watermark;
use sottovoce_audio::{FadeIn, Tempo};
use sottovoce_chatterbox::watermark::MarkState;

/// The state of a stream's stages after the vocoder.
pub(crate) struct PostProcess {
    fade: FadeIn,
    tempo: Tempo,
    mark: MarkState,
}

impl PostProcess {
    /// The start of a stream.
    pub fn new(options: &StreamOptions) -> PostProcess {
        let fade_samples = (options.fade_duration * SAMPLE_RATE as f32).round() as usize;
        PostProcess {
            fade: FadeIn::new(fade_samples),
            tempo: Tempo::new(options.speed),
            mark: MarkState::new(SAMPLE_RATE),
        }
    }

    /// Samples of the vocoder. After a `whole` run, sound starts afresh; with `last`, the stream
    /// ends.
    pub fn sound(
        &mut self,
        watermark: Option<&Watermark>,
        samples: Vec<f32>,
        whole: bool,
        last: bool,
    ) -> Result<Vec<f32>, Error> {
        let faded = self.fade.step(samples, whole)?;
        let stretched = self.tempo.step(faded, whole)?;
        if whole {
            self.fade.reset();
            self.tempo.reset();
        }
        self.mark(watermark, stretched, last)
    }

    /// A silence, whose length the tempo does not change.
    pub fn silence(
        &mut self,
        watermark: Option<&Watermark>,
        count: usize,
        last: bool,
    ) -> Result<Vec<f32>, Error> {
        self.mark(watermark, vec![0.0; count], last)
    }

    fn mark(
        &mut self,
        watermark: Option<&Watermark>,
        samples: Vec<f32>,
        last: bool,
    ) -> Result<Vec<f32>, Error> {
        let Some(watermark) = watermark else {
            return Ok(samples);
        };
        let state = &mut self.mark;
        MarkStage { watermark, state }.step(samples, last)
    }
}
