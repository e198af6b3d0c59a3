//! How a text is spoken, as options of a command: the engine's own names and defaults.

use sottovoce::StreamOptions;

/// Choices for one text; what is not given stays as the engine has it.
#[derive(clap::Args)]
#[command(next_help_heading = "How it is spoken")]
pub struct Generation {
    /// Starts the random numbers: the same seed gives the same samples [default: 0]
    #[arg(long)]
    seed: Option<u64>,
    /// How fast: 1 as the voice speaks, 2 twice as fast at the same pitch [default: 1]
    #[arg(long)]
    speed: Option<f32>,
    /// Emotion, 0 to 2 (base only) [default: the model's]
    #[arg(long)]
    exaggeration: Option<f32>,
    /// Weight of classifier-free guidance (base only) [default: the model's]
    #[arg(long)]
    cfg_weight: Option<f32>,
    /// Sampling temperature; 0 always takes the most likely token [default: the model's]
    #[arg(long)]
    temperature: Option<f32>,
    /// Nucleus: least probability mass kept [default: the model's]
    #[arg(long)]
    top_p: Option<f32>,
    /// Most tokens kept (turbo, nano) [default: the model's]
    #[arg(long)]
    top_k: Option<usize>,
    /// Least probability kept, relative to the best [default: the model's]
    #[arg(long)]
    min_p: Option<f32>,
    /// Above 1 makes repeats rarer [default: the model's]
    #[arg(long)]
    repetition_penalty: Option<f32>,
    /// Speech tokens (1/25 s) in a chunk once the stream runs [default: the model's]
    #[arg(long)]
    chunk_size: Option<usize>,
    /// Speech tokens before a chunk that its synthesis sees again
    #[arg(long)]
    context_window: Option<usize>,
    /// Most tokens of the voice's prompt that each chunk's synthesis sees [default: all]
    #[arg(long)]
    prompt_tokens: Option<usize>,
    /// Steps from noise to mel: fewer are faster and rougher [default: the model's]
    #[arg(long)]
    flow_steps: Option<usize>,
    /// How many of these steps, from the first on, are guided (base only) [default: all]
    #[arg(long)]
    flow_guided_steps: Option<usize>,
    /// Seconds of fade at the very start
    #[arg(long)]
    fade_duration: Option<f32>,
    /// Most speech tokens of one sentence [default: the model's]
    #[arg(long)]
    sentence_tokens_max: Option<usize>,
}

impl Generation {
    /// The engine's defaults with what was given in their place.
    pub fn stream_options(&self) -> StreamOptions {
        let defaults = StreamOptions::default();
        StreamOptions {
            seed: self.seed.unwrap_or(defaults.seed),
            speed: self.speed.unwrap_or(defaults.speed),
            exaggeration: self.exaggeration,
            cfg_weight: self.cfg_weight,
            temperature: self.temperature,
            top_p: self.top_p.or(defaults.top_p),
            top_k: self.top_k.or(defaults.top_k),
            min_p: self.min_p.or(defaults.min_p),
            repetition_penalty: self.repetition_penalty.or(defaults.repetition_penalty),
            chunk_size: self.chunk_size.or(defaults.chunk_size),
            context_window: self.context_window.unwrap_or(defaults.context_window),
            prompt_tokens: self.prompt_tokens.or(defaults.prompt_tokens),
            flow_steps: self.flow_steps.or(defaults.flow_steps),
            flow_guided_steps: self.flow_guided_steps.or(defaults.flow_guided_steps),
            fade_duration: self.fade_duration.unwrap_or(defaults.fade_duration),
            sentence_tokens_max: self.sentence_tokens_max.or(defaults.sentence_tokens_max),
            ..defaults
        }
    }
}
