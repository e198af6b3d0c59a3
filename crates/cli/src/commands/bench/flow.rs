//! `sottovoce bench flow`: cost of each option of the flow, in time and in difference from the
//! offline result.

use crate::commands::Outcome;
use crate::options::count_of;
use crate::output::print::output;
use crate::source::ModelChoice;
use sottovoce::{EngineOptions, Source, StreamOptions, Variant, parse_variant};
use sottovoce_lab::bench::{FlowBenchOptions, FlowChoice, flow};
use sottovoce_tensor::Precision;
use std::io::Write;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  sottovoce bench flow --synthetic nano --chunk-sizes 25,75
  sottovoce bench flow --synthetic base --flow-steps 10,6 --threads 2 --json
  sottovoce bench flow --synthetic base --sound turbo --chunk-sizes 75,150";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelChoice,
    /// Take S3Gen of base, turbo or nano, and compare its mel with that of the model's own, too.
    #[arg(long, value_parser = parse_variant, requires = "synthetic")]
    sound: Option<Variant>,
    /// How the flow's weights are kept: f32, f16 or int8.
    #[arg(long, default_value = "int8")]
    precision: Precision,
    /// Threads for arithmetic; 0 takes all.
    #[arg(long, default_value = "0", value_parser = count_of::<EngineOptions>("threads"), allow_negative_numbers = true)]
    threads: usize,
    /// Speech tokens of the utterance.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=1000), allow_negative_numbers = true)]
    tokens: u16,
    /// Tokens in a chunk, each in turn.
    #[arg(long, value_delimiter = ',', default_value = "75", value_parser = count_of::<StreamOptions>("chunk_size"))]
    chunk_sizes: Vec<usize>,
    /// Tokens before a chunk, each in turn.
    #[arg(long, value_delimiter = ',', default_value = "50", value_parser = count_of::<StreamOptions>("context_window"))]
    context_windows: Vec<usize>,
    /// Tokens of the voice's prompt, each in turn.
    #[arg(long, value_delimiter = ',', default_value = "250", value_parser = count_of::<StreamOptions>("prompt_tokens"))]
    prompt_tokens: Vec<usize>,
    /// Steps from noise to mel, each in turn [default: the model's]
    #[arg(long, value_delimiter = ',', value_parser = count_of::<StreamOptions>("flow_steps"))]
    flow_steps: Vec<usize>,
    /// Guided steps, each in turn [default: all]
    #[arg(long, value_delimiter = ',', value_parser = count_of::<StreamOptions>("flow_guided_steps"))]
    flow_guided_steps: Vec<usize>,
    /// Print one JSON list.
    #[arg(long)]
    json: bool,
}

/// Every combination of what was listed.
fn choices(arguments: &Arguments) -> Vec<FlowChoice> {
    let optional = |list: &[usize]| -> Vec<Option<usize>> {
        match list {
            [] => vec![None],
            list => list.iter().copied().map(Some).collect(),
        }
    };
    let mut choices = Vec::new();
    for &chunk_size in &arguments.chunk_sizes {
        for &context_window in &arguments.context_windows {
            for &prompt_tokens in &arguments.prompt_tokens {
                for &flow_steps in &optional(&arguments.flow_steps) {
                    for &flow_guided_steps in &optional(&arguments.flow_guided_steps) {
                        choices.push(FlowChoice {
                            chunk_size,
                            context_window,
                            prompt_tokens,
                            flow_steps,
                            flow_guided_steps,
                        });
                    }
                }
            }
        }
    }
    choices
}

pub fn run(arguments: &Arguments) -> Outcome {
    let options = FlowBenchOptions {
        source: match arguments.sound {
            Some(sound) => Source::Paired {
                model: Box::new(arguments.model.source()?),
                sound: Box::new(Source::Synthetic(sound)),
            },
            None => arguments.model.source()?,
        },
        precision: arguments.precision,
        threads: arguments.threads,
        tokens: arguments.tokens.into(),
        choices: choices(arguments),
    };
    let mut out = output();
    if arguments.json {
        let figures = flow(&options, &mut |_| {})?;
        writeln!(out, "{}", serde_json::to_string_pretty(&figures)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(
        out,
        "{:>6} {:>8} {:>7} {:>6} {:>7} {:>10} {:>14} {:>11}",
        "chunk", "context", "prompt", "steps", "guided", "a chunk", "for a second", "difference"
    )?;
    let named = |value: Option<usize>| value.map_or("all".to_owned(), |value| value.to_string());
    let mut written = Ok(());
    flow(&options, &mut |figures| {
        let choice = figures.choice;
        let line = writeln!(
            out,
            "{:>6} {:>8} {:>7} {:>6} {:>7} {:>8.3} s {:>12.3} s {:>11.5}",
            choice.chunk_size,
            choice.context_window,
            choice.prompt_tokens,
            named(choice.flow_steps),
            named(choice.flow_guided_steps),
            figures.chunk_seconds,
            figures.seconds_a_second,
            figures.difference
        );
        let line = line.and_then(|()| match figures.difference_to_own {
            Some(difference) => writeln!(out, "{:>58} {difference:>11.5}", "to its own sound"),
            None => Ok(()),
        });
        if let Err(error) = line {
            written = Err(error);
        }
    })?;
    written?;
    Ok(ExitCode::SUCCESS)
}
