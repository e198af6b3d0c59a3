//! Validation of a config from a file before any size in it is used.

use super::*;

/// Why a config is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not JSON, or not the fields of a config.
    #[error("the model config is malformed: {reason}")]
    Syntax {
        /// The JSON parser's error, with line and column.
        reason: String,
    },
    /// A value out of range.
    #[error("the model config's {field} is {value}, but must be {expected}")]
    OutOfRange {
        /// Path of the field in the file.
        field: String,
        /// The value.
        value: String,
        /// The allowed values.
        expected: String,
    },
}

impl ConfigError {
    fn out_of_range(field: &str, value: impl ToString, expected: impl Into<String>) -> ConfigError {
        ConfigError::OutOfRange {
            field: field.into(),
            value: value.to_string(),
            expected: expected.into(),
        }
    }
}

/// Upper bound of every width, vocabulary and count; products of three such sizes fit 64 bits.
const SIZE_MAX: usize = 1 << 20;

struct Check;

impl Check {
    fn size(field: &str, value: usize) -> Result<(), ConfigError> {
        Check::between(field, value, 1, SIZE_MAX)
    }

    fn between(field: &str, value: usize, least: usize, most: usize) -> Result<(), ConfigError> {
        if (least..=most).contains(&value) {
            return Ok(());
        }
        Err(ConfigError::out_of_range(
            field,
            value,
            format!("{least} to {most}"),
        ))
    }

    fn number(field: &str, value: f32, least: f32, most: f32) -> Result<(), ConfigError> {
        // A comparison with NaN is false.
        if value >= least && value <= most {
            return Ok(());
        }
        Err(ConfigError::out_of_range(
            field,
            value,
            format!("{least} to {most}"),
        ))
    }

    fn equal(field: &str, value: usize, expected: usize, why: &str) -> Result<(), ConfigError> {
        if value == expected {
            return Ok(());
        }
        Err(ConfigError::out_of_range(
            field,
            value,
            format!("{expected} ({why})"),
        ))
    }

    fn multiple(field: &str, value: usize, of: usize, why: &str) -> Result<(), ConfigError> {
        if value.is_multiple_of(of) {
            return Ok(());
        }
        let expected = format!("a multiple of {of} ({why})");
        Err(ConfigError::out_of_range(field, value, expected))
    }

    fn sizes(field: &str, values: &[usize], count: usize) -> Result<(), ConfigError> {
        Check::equal(
            &format!("{field}.length"),
            values.len(),
            count,
            "one per stage",
        )?;
        values.iter().enumerate().try_for_each(|(index, &value)| {
            Check::between(&format!("{field}[{index}]"), value, 1, 4096)
        })
    }
}

impl ModelConfig {
    /// Checks that every size is usable and consistent with the others.
    ///
    /// # Errors
    /// The first field that is out of range, with the allowed values.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_text()?;
        self.validate_t3()?;
        self.validate_flow()?;
        self.validate_vocoder()?;
        self.validate_voice()
    }

    fn validate_text(&self) -> Result<(), ConfigError> {
        Check::between("text.token_count_max", self.text.token_count_max, 8, 4096)?;
        Check::between("text.languages.length", self.text.languages.len(), 0, 256)?;
        for language in &self.text.languages {
            let is_code = (2..=8).contains(&language.len())
                && language.bytes().all(|byte| byte.is_ascii_lowercase());
            if !is_code {
                return Err(ConfigError::out_of_range(
                    "text.languages",
                    format!("{language:?}"),
                    "codes of 2 to 8 small letters, such as de",
                ));
            }
        }
        Ok(())
    }

    fn validate_t3(&self) -> Result<(), ConfigError> {
        let t3 = &self.t3;
        let backbone = &t3.backbone;
        Check::between("t3.backbone.hidden", backbone.hidden, 1, 1 << 16)?;
        Check::between("t3.backbone.layers", backbone.layers, 1, 1024)?;
        Check::between("t3.backbone.heads", backbone.heads, 1, 1024)?;
        Check::between("t3.backbone.head_size", backbone.head_size, 1, 4096)?;
        Check::between(
            "t3.backbone.feed_forward",
            backbone.feed_forward,
            1,
            1 << 18,
        )?;
        Check::number("t3.backbone.norm_epsilon", backbone.norm_epsilon, 0.0, 1.0)?;
        Check::size(
            "t3.backbone.position_count_max",
            backbone.position_count_max,
        )?;
        if let Some(rope) = &backbone.rope {
            Check::multiple(
                "t3.backbone.head_size",
                backbone.head_size,
                2,
                "rotary positions rotate pairs",
            )?;
            Check::number("t3.backbone.rope.theta", rope.theta, 1.0, 1e12)?;
            if let Some(scaling) = &rope.scaling {
                Check::number("t3.backbone.rope.scaling.factor", scaling.factor, 1.0, 1e6)?;
                Check::number(
                    "t3.backbone.rope.scaling.low_frequency_factor",
                    scaling.low_frequency_factor,
                    1e-6,
                    1e6,
                )?;
                Check::number(
                    "t3.backbone.rope.scaling.high_frequency_factor",
                    scaling.high_frequency_factor,
                    1e-6,
                    1e6,
                )?;
                Check::size(
                    "t3.backbone.rope.scaling.original_positions",
                    scaling.original_positions,
                )?;
            }
        } else if backbone.kind == BackboneKind::Llama {
            return Err(ConfigError::out_of_range(
                "t3.backbone.rope",
                "null",
                "given, because the backbone is a Llama",
            ));
        }
        Check::size("t3.text_vocabulary", t3.text_vocabulary)?;
        Check::size("t3.speech_vocabulary", t3.speech_vocabulary)?;
        for (field, token) in [
            ("t3.speech_start", t3.speech_start),
            ("t3.speech_stop", t3.speech_stop),
        ] {
            Check::between(field, token as usize, 0, t3.speech_vocabulary - 1)?;
        }
        if let Some((start, stop)) = t3.text_start_stop {
            Check::between(
                "t3.text_start_stop[0]",
                start as usize,
                0,
                t3.text_vocabulary - 1,
            )?;
            Check::between(
                "t3.text_start_stop[1]",
                stop as usize,
                0,
                t3.text_vocabulary - 1,
            )?;
        }
        if let Some(positions) = &t3.positions {
            Check::between("t3.positions.text", positions.text, 2, SIZE_MAX)?;
            Check::between("t3.positions.speech", positions.speech, 2, SIZE_MAX)?;
            Check::between(
                "t3.prompt_token_count_max",
                t3.prompt_token_count_max,
                0,
                positions.speech,
            )?;
        }
        Check::between(
            "t3.prompt_token_count_max",
            t3.prompt_token_count_max,
            0,
            backbone.position_count_max,
        )?;
        Check::size("t3.speaker_embedding", t3.speaker_embedding)?;
        if let Some(perceiver) = &t3.perceiver {
            Check::between("t3.perceiver.queries", perceiver.queries, 1, 4096)?;
            Check::between("t3.perceiver.heads", perceiver.heads, 1, 1024)?;
            Check::multiple(
                "t3.backbone.hidden",
                backbone.hidden,
                perceiver.heads,
                "the perceiver's heads share it",
            )?;
        }
        if let Some(stated) = &t3.alignment_heads {
            if t3.blocks.is_some() {
                return Err(ConfigError::out_of_range(
                    "t3.alignment_heads",
                    "given",
                    "absent: passes over blocks record no attention",
                ));
            }
            for head in stated.as_slice() {
                let (layers, heads) = (backbone.layers, backbone.heads);
                Check::between("t3.alignment_heads[][0]", head.layer, 0, layers - 1)?;
                Check::between("t3.alignment_heads[][1]", head.head, 0, heads - 1)?;
            }
        }
        if let Some(blocks) = &t3.blocks {
            let tables = t3.positions.map_or(SIZE_MAX, |tables| tables.speech);
            Check::between("t3.blocks.size", blocks.size, 1, 256.min(tables - 1))?;
            Check::between("t3.blocks.passes", blocks.passes, 1, 256)?;
            Check::number("t3.blocks.early", blocks.early, 0.0, 1.0)?;
            Check::number(
                "t3.blocks.schedule_shift",
                blocks.schedule_shift,
                0.0,
                100.0,
            )?;
            for (field, count) in [
                (
                    "t3.blocks.speech_a_text_token_max",
                    blocks.speech_a_text_token_max,
                ),
                (
                    "t3.blocks.speech_token_count_min",
                    blocks.speech_token_count_min,
                ),
            ] {
                Check::size(field, count)?;
            }
        }
        let sampling = &t3.sampling;
        Check::number("t3.sampling.temperature", sampling.temperature, 1e-3, 100.0)?;
        Check::number("t3.sampling.top_p", sampling.top_p, 0.0, 1.0)?;
        Check::number("t3.sampling.min_p", sampling.min_p, 0.0, 1.0)?;
        Check::number(
            "t3.sampling.repetition_penalty",
            sampling.repetition_penalty,
            1e-3,
            1000.0,
        )?;
        Check::number("t3.sampling.guidance", sampling.guidance, 0.0, 100.0)?;
        Check::number(
            "t3.sampling.exaggeration",
            sampling.exaggeration,
            0.0,
            100.0,
        )?;
        Check::size("t3.sampling.token_count_max", sampling.token_count_max)
    }

    fn validate_flow(&self) -> Result<(), ConfigError> {
        let flow = &self.flow;
        Check::size("flow.vocabulary", flow.vocabulary)?;
        Check::between("flow.token_rate", flow.token_rate as usize, 1, 1000)?;
        Check::between("flow.upsampling", flow.upsampling, 1, 64)?;
        check_mel("flow.prompt_mel", &flow.prompt_mel)?;
        Check::size("flow.speaker_vector", flow.speaker_vector)?;
        Check::between(
            "flow.silence_token",
            flow.silence_token as usize,
            0,
            flow.vocabulary - 1,
        )?;
        Check::between(
            "flow.silence_token_count",
            flow.silence_token_count,
            0,
            1000,
        )?;
        let encoder = &flow.encoder;
        Check::between("flow.encoder.hidden", encoder.hidden, 2, 1 << 16)?;
        Check::between("flow.encoder.heads", encoder.heads, 1, 1024)?;
        Check::multiple(
            "flow.encoder.hidden",
            encoder.hidden,
            2 * encoder.heads,
            "heads share it, positions are pairs",
        )?;
        Check::between(
            "flow.encoder.feed_forward",
            encoder.feed_forward,
            1,
            1 << 18,
        )?;
        Check::between("flow.encoder.layers", encoder.layers, 0, 1024)?;
        Check::between(
            "flow.encoder.layers_upsampled",
            encoder.layers_upsampled,
            0,
            1024,
        )?;
        Check::between("flow.encoder.look_ahead", encoder.look_ahead, 0, 64)?;
        let decoder = &flow.decoder;
        Check::between("flow.decoder.channels", decoder.channels, 2, 1 << 16)?;
        Check::between("flow.decoder.middle_stages", decoder.middle_stages, 0, 1024)?;
        Check::between("flow.decoder.blocks", decoder.blocks, 0, 1024)?;
        Check::between("flow.decoder.heads", decoder.heads, 1, 1024)?;
        Check::between("flow.decoder.head_size", decoder.head_size, 1, 4096)?;
        Check::between("flow.solver.steps", flow.solver.steps(), 1, 1000)?;
        if let FlowSolver::Euler { guidance, .. } = flow.solver {
            Check::number("flow.solver.guidance", guidance, 0.0, 100.0)?;
        }
        Ok(())
    }

    fn validate_vocoder(&self) -> Result<(), ConfigError> {
        let vocoder = &self.vocoder;
        Check::between(
            "vocoder.sample_rate",
            vocoder.sample_rate as usize,
            1000,
            384_000,
        )?;
        let stages = vocoder.upsampling.len();
        Check::between("vocoder.upsampling.length", stages, 1, 8)?;
        Check::sizes("vocoder.upsampling", &vocoder.upsampling, stages)?;
        if let [_, .., last] = vocoder.upsampling[..] {
            // The source's spectrum has a row more than the mel has hops; a stride drops it.
            let field = format!("vocoder.upsampling[{}]", stages - 1);
            Check::between(&field, last, 2, 4096)?;
        }
        Check::sizes(
            "vocoder.upsampling_kernels",
            &vocoder.upsampling_kernels,
            stages,
        )?;
        for (index, (&factor, &kernel)) in vocoder
            .upsampling
            .iter()
            .zip(&vocoder.upsampling_kernels)
            .enumerate()
        {
            let field = format!("vocoder.upsampling_kernels[{index}]");
            Check::between(&field, kernel, factor, 4096)?;
            Check::multiple(
                &field,
                kernel - factor,
                2,
                "larger than its factor by a multiple of 2, so that both ends are cut equally",
            )?;
        }
        Check::sizes(
            "vocoder.source_residual_kernels",
            &vocoder.source_residual_kernels,
            stages,
        )?;
        Check::between(
            "vocoder.residual_kernels.length",
            vocoder.residual_kernels.len(),
            1,
            16,
        )?;
        Check::sizes(
            "vocoder.residual_kernels",
            &vocoder.residual_kernels,
            vocoder.residual_kernels.len(),
        )?;
        Check::between(
            "vocoder.residual_dilations.length",
            vocoder.residual_dilations.len(),
            1,
            16,
        )?;
        Check::sizes(
            "vocoder.residual_dilations",
            &vocoder.residual_dilations,
            vocoder.residual_dilations.len(),
        )?;
        Check::between("vocoder.channels", vocoder.channels, 1 << stages, 1 << 16)?;
        Check::multiple(
            "vocoder.channels",
            vocoder.channels,
            1 << stages,
            "each upsampling halves them",
        )?;
        Check::between("vocoder.fft", vocoder.fft, 2, 4096)?;
        Check::multiple("vocoder.fft", vocoder.fft, 2, "a real transform")?;
        Check::between("vocoder.hop", vocoder.hop, 1, vocoder.fft)?;
        Check::number("vocoder.leaky_slope", vocoder.leaky_slope, 0.0, 1.0)?;
        Check::number("vocoder.sample_max", vocoder.sample_max, 0.0, 1.0)?;
        Check::between("vocoder.f0_channels", vocoder.f0_channels, 1, 1 << 16)?;
        Check::between("vocoder.f0_layers", vocoder.f0_layers, 1, 64)?;
        Check::between("vocoder.source.harmonics", vocoder.source.harmonics, 0, 256)?;
        Check::number(
            "vocoder.source.sine_amplitude",
            vocoder.source.sine_amplitude,
            0.0,
            10.0,
        )?;
        Check::number(
            "vocoder.source.noise_deviation",
            vocoder.source.noise_deviation,
            0.0,
            10.0,
        )?;
        Check::number(
            "vocoder.source.voiced_threshold",
            vocoder.source.voiced_threshold,
            0.0,
            1e5,
        )?;
        let frame = vocoder.samples_per_frame();
        Check::equal(
            "flow.prompt_mel.hop",
            self.flow.prompt_mel.hop,
            frame,
            "the samples that the vocoder makes of a frame",
        )
    }

    fn validate_voice(&self) -> Result<(), ConfigError> {
        let voice = &self.voice;
        let prompt = &voice.prompt;
        Check::number(
            "voice.prompt.t3_seconds_max",
            prompt.t3_seconds_max,
            0.0,
            600.0,
        )?;
        Check::number(
            "voice.prompt.flow_seconds_max",
            prompt.flow_seconds_max,
            0.1,
            600.0,
        )?;
        Check::number("voice.prompt.seconds_min", prompt.seconds_min, 0.0, 600.0)?;
        if let Some(loudness) = prompt.loudness {
            Check::number("voice.prompt.loudness", loudness, -100.0, 0.0)?;
        }
        let encoder = &voice.encoder;
        check_mel("voice.encoder.mel", &encoder.mel)?;
        Check::between("voice.encoder.hidden", encoder.hidden, 1, 1 << 16)?;
        Check::between("voice.encoder.layers", encoder.layers, 1, 64)?;
        Check::equal(
            "voice.encoder.embedding",
            encoder.embedding,
            self.t3.speaker_embedding,
            "t3.speaker_embedding",
        )?;
        Check::between("voice.encoder.window", encoder.window, 1, 1 << 16)?;
        Check::number("voice.encoder.rate", encoder.rate, 0.01, 1000.0)?;
        Check::between("voice.encoder.rate", encoder.step(), 1, encoder.window)?;
        Check::number(
            "voice.encoder.coverage_min",
            encoder.coverage_min,
            0.01,
            1.0,
        )?;
        Check::number(
            "voice.encoder.trim_decibels",
            encoder.trim_decibels,
            1.0,
            200.0,
        )?;
        let tokenizer = &voice.tokenizer;
        check_mel("voice.tokenizer.mel", &tokenizer.mel)?;
        Check::between("voice.tokenizer.hidden", tokenizer.hidden, 2, 1 << 16)?;
        Check::between("voice.tokenizer.heads", tokenizer.heads, 1, 1024)?;
        Check::multiple(
            "voice.tokenizer.hidden",
            tokenizer.hidden,
            2 * tokenizer.heads,
            "heads share it, positions are pairs",
        )?;
        Check::between("voice.tokenizer.layers", tokenizer.layers, 0, 1024)?;
        Check::between(
            "voice.tokenizer.memory_kernel",
            tokenizer.memory_kernel,
            1,
            4095,
        )?;
        Check::between("voice.tokenizer.code_digits", tokenizer.code_digits, 1, 12)?;
        Check::between("voice.tokenizer.window", tokenizer.window, 16, 1 << 16)?;
        Check::between(
            "voice.tokenizer.overlap",
            tokenizer.overlap,
            0,
            tokenizer.window / 2,
        )?;
        let vector = &voice.speaker_vector;
        Check::between("voice.speaker_vector.bands", vector.bands, 8, 1024)?;
        Check::multiple(
            "voice.speaker_vector.bands",
            vector.bands,
            8,
            "the head halves them three times",
        )?;
        Check::between(
            "voice.speaker_vector.head_channels",
            vector.head_channels,
            1,
            4096,
        )?;
        Check::between("voice.speaker_vector.channels", vector.channels, 1, 1 << 16)?;
        let blocks = vector.block_layers.len();
        Check::between("voice.speaker_vector.block_layers.length", blocks, 1, 16)?;
        Check::sizes(
            "voice.speaker_vector.block_layers",
            &vector.block_layers,
            blocks,
        )?;
        Check::sizes(
            "voice.speaker_vector.block_dilations",
            &vector.block_dilations,
            blocks,
        )?;
        Check::between("voice.speaker_vector.kernel", vector.kernel, 1, 255)?;
        Check::multiple(
            "voice.speaker_vector.kernel",
            vector.kernel + 1,
            2,
            "odd, so that it has a middle",
        )?;
        Check::between("voice.speaker_vector.growth", vector.growth, 1, 4096)?;
        Check::between(
            "voice.speaker_vector.bottleneck",
            vector.bottleneck,
            2,
            4096,
        )?;
        Check::between("voice.speaker_vector.segment", vector.segment, 1, 1 << 16)?;
        Check::equal(
            "voice.speaker_vector.embedding",
            vector.embedding,
            self.flow.speaker_vector,
            "flow.speaker_vector",
        )
    }
}

fn check_mel(field: &str, mel: &MelConfig) -> Result<(), ConfigError> {
    Check::between(
        &format!("{field}.sample_rate"),
        mel.sample_rate as usize,
        1000,
        384_000,
    )?;
    Check::between(&format!("{field}.fft"), mel.fft, 2, 1 << 16)?;
    Check::multiple(&format!("{field}.fft"), mel.fft, 2, "a real transform")?;
    Check::between(&format!("{field}.hop"), mel.hop, 1, mel.fft)?;
    Check::between(&format!("{field}.bands"), mel.bands, 1, 1024)?;
    let nyquist = mel.sample_rate as f32 / 2.0;
    Check::number(
        &format!("{field}.frequency_min"),
        mel.frequency_min,
        0.0,
        nyquist,
    )?;
    Check::number(
        &format!("{field}.frequency_max"),
        mel.frequency_max,
        mel.frequency_min,
        nyquist,
    )
}
