//! What a CUDA device is asked for by the official models, and how long named cards take at least.
//!
//! Launches are counted on the stand-in for the driver's library, with the official layers and
//! fewer channels; bytes and operations follow from the sizes. No weights and no GPU are needed.

#[cfg(target_os = "linux")]
#[path = "../tests/counted/mod.rs"]
mod counted;

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("the stand-in that launches are counted on is Linux' only");
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    plan::main()
}

#[cfg(target_os = "linux")]
mod plan {
    use super::counted::{
        OnStandIn, Speaking, flow_of, narrow, narrow_flow, position_bytes, weight_bytes,
    };
    use serde::Serialize;
    use sottovoce_chatterbox::config::{BackboneKind, FlowConfig, ModelConfig, T3Config};
    use sottovoce_chatterbox::convert::sound_precision;
    use sottovoce_tensor::Precision;
    use std::process::ExitCode;

    const HELP: &str = "\
What a CUDA device is asked for by each official model, and how long named cards take at least.

Usage: cargo run --release -p sottovoce-chatterbox --example launch_plan [-- --json]

Times are lower bounds, not measurements: bytes by the card's bandwidth or operations by the peak of what they
run on, whichever is longer, with nothing for launches.

Options:
  --json   the same as JSON

Examples:
  cargo run --release -p sottovoce-chatterbox --example launch_plan
  cargo run --release -p sottovoce-chatterbox --example launch_plan -- --json
";

    /// Positions of a stream in T3, the voice's included: half a minute of speech is under way.
    const POSITIONS: u64 = 700;
    /// Speech tokens of a second.
    const TOKENS_A_SECOND: u64 = 25;
    /// Tokens that the flow sees for a chunk of a second: a prompt of ten, a second before, itself,
    /// and those it looks ahead.
    const WINDOW_TOKENS: u64 = 250 + 25 + 25 + 9;

    /// A card, by its maker's data sheet.
    struct Card {
        name: &'static str,
        /// Bytes a second.
        bandwidth: f64,
        /// Operations a second at 32 bits; a product and its sum are two.
        operations: f64,
        /// The same on matrix units, of halves with sums of 32 bits.
        operations_of_halves: f64,
    }

    const CARDS: [Card; 4] = [
        Card {
            name: "T4",
            bandwidth: 320e9,
            operations: 8.1e12,
            operations_of_halves: 65e12,
        },
        Card {
            name: "RTX 3060",
            bandwidth: 360e9,
            operations: 12.7e12,
            operations_of_halves: 25.5e12,
        },
        Card {
            name: "RTX 4090",
            bandwidth: 1008e9,
            operations: 82.6e12,
            operations_of_halves: 165.2e12,
        },
        Card {
            name: "H200",
            bandwidth: 4800e9,
            operations: 67e12,
            operations_of_halves: 989e12,
        },
    ];

    /// Work on a card.
    #[derive(Clone, Copy, Serialize)]
    struct Work {
        launches: u64,
        bytes: u64,
        /// Of products with weights.
        product_operations: u64,
        attention_operations: u64,
        /// Products of halves that one product, and one of attention, is made of on matrix units;
        /// 0 where it is made of numbers of 32 bits.
        halves: [u64; 2],
    }

    impl Work {
        fn operations(&self) -> u64 {
            self.product_operations + self.attention_operations
        }

        /// Seconds that it takes at least.
        fn bound(&self, card: &Card) -> f64 {
            let seconds = |operations: u64, halves: u64| {
                let rate = match halves {
                    0 => card.operations,
                    halves => card.operations_of_halves / halves as f64,
                };
                operations as f64 / rate
            };
            let [product, attention] = self.halves;
            // Attention of numbers of 32 bits is left to these where halves are not as much faster.
            let attention = match attention > 1 && card.operations_of_halves < 3.0 * card.operations
            {
                true => 0,
                false => attention,
            };
            let operations = seconds(self.product_operations, product)
                + seconds(self.attention_operations, attention);
            operations.max(self.bytes as f64 / card.bandwidth)
        }
    }

    #[derive(Serialize)]
    struct Bound {
        card: &'static str,
        step_microseconds: f64,
        velocity_microseconds: f64,
        /// Of T3 and the flow's decoder for a second of speech.
        milliseconds_a_second: f64,
    }

    #[derive(Serialize)]
    struct Row {
        model: &'static str,
        precision: String,
        /// One token of one stream, as one graph.
        step: Work,
        /// One velocity of the flow, both rows of guidance.
        velocity: Work,
        velocities_a_chunk: u64,
        lower_bounds: Vec<Bound>,
    }

    pub fn main() -> ExitCode {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let json = match arguments[..] {
            [] => false,
            ["--json"] => true,
            ["--help" | "-h"] => {
                print!("{HELP}");
                return ExitCode::SUCCESS;
            }
            _ => {
                eprint!("{HELP}");
                return ExitCode::FAILURE;
            }
        };
        let rows = rows();
        if !json {
            print_table(&rows);
            return ExitCode::SUCCESS;
        }
        match serde_json::to_string_pretty(&rows) {
            Ok(text) => {
                println!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        }
    }

    fn rows() -> Vec<Row> {
        let mut rows = Vec::new();
        for (model, config) in [
            ("base", ModelConfig::base()),
            ("turbo", ModelConfig::turbo()),
            ("nano", ModelConfig::nano()),
        ] {
            let step_launches = count_step(&config);
            let velocity_launches = count_velocity(&config);
            for precision in [Precision::F16, Precision::Int8, Precision::Q4] {
                let step = Work {
                    launches: step_launches,
                    ..step(&config.t3, precision)
                };
                let velocity = Work {
                    launches: velocity_launches,
                    ..velocity(&config.flow, guided(&config), sound_precision(precision))
                };
                let velocities_a_chunk = config.flow.solver.steps() as u64;
                let lower_bounds = (CARDS.iter()).map(|card| {
                    let (step, velocity) = (step.bound(card), velocity.bound(card));
                    let second =
                        step * TOKENS_A_SECOND as f64 + velocity * velocities_a_chunk as f64;
                    Bound {
                        card: card.name,
                        step_microseconds: step * 1e6,
                        velocity_microseconds: velocity * 1e6,
                        milliseconds_a_second: second * 1e3,
                    }
                });
                rows.push(Row {
                    model,
                    precision: precision.to_string(),
                    step,
                    velocity,
                    velocities_a_chunk,
                    lower_bounds: lower_bounds.collect(),
                });
            }
        }
        rows
    }

    /// Kernels of the graph of a step.
    fn count_step(config: &ModelConfig) -> u64 {
        let config = ModelConfig {
            t3: narrow(config.t3),
            ..config.clone()
        };
        let on = OnStandIn::open();
        let mut speaking = Speaking::begin(&on, &config, Precision::Int8, 1);
        let before = on.asked();
        speaking.step(&on.device, 1, 3);
        on.since(before).launches
    }

    /// Launches of a velocity, with the step along it.
    fn count_velocity(config: &ModelConfig) -> u64 {
        let on = OnStandIn::open();
        let flow = narrow_flow(&on, config);
        let [one, two] = [1, 2].map(|steps| flow_of(&on, &flow, &[12], (steps, steps)).1.launches);
        two - one
    }

    /// Whether the flow has a second row, without a condition.
    fn guided(config: &ModelConfig) -> bool {
        config.t3.classifier_free_guidance
    }

    fn step(config: &T3Config, precision: Precision) -> Work {
        let sizes = &config.backbone;
        let (hidden, columns) = (sizes.hidden, sizes.heads * sizes.head_size);
        let up = match sizes.kind {
            BackboneKind::Llama => 2 * sizes.feed_forward,
            BackboneKind::Gpt2 => sizes.feed_forward,
        };
        let layer = hidden * (4 * columns + up + sizes.feed_forward);
        let weights = (sizes.layers * layer + config.speech_vocabulary * hidden) as u64;
        let attended = POSITIONS * (sizes.layers * columns) as u64;
        let rows = if config.classifier_free_guidance {
            2
        } else {
            1
        };
        Work {
            launches: 0,
            bytes: weight_bytes(config, precision) + rows * POSITIONS * position_bytes(config),
            product_operations: rows * 2 * weights,
            attention_operations: rows * 4 * attended,
            // Inputs of two halves, in tiles of eight rows.
            halves: [2 * 8 / rows, 0],
        }
    }

    fn velocity(config: &FlowConfig, guided: bool, precision: Precision) -> Work {
        let sizes = &config.decoder;
        let (channels, inner) = (sizes.channels, sizes.heads * sizes.head_size);
        let bands = config.mel_bands();
        let transformer = 4 * channels * inner + 8 * channels * channels;
        let stage = |inputs: usize| {
            channels * (3 * inputs + 3 * channels + inputs) + sizes.blocks * transformer
        };
        let stages = sizes.middle_stages + 2;
        let weights = stage(4 * bands)
            + sizes.middle_stages * stage(channels)
            + stage(2 * channels)
            + 9 * channels * channels
            + channels * bands;
        let frames = WINDOW_TOKENS * config.upsampling as u64;
        let rows = frames * if guided { 2 } else { 1 };
        let scores = frames * (stages * sizes.blocks * inner) as u64;
        let (bits, halves) = match precision {
            Precision::F32 => (32, [0, 3]),
            Precision::F16 => (16, [2, 3]),
            Precision::Int8 | Precision::Q4 => (8, [1, 1]),
        };
        Work {
            launches: 0,
            // Its weights once; what layers hand on may stay in a card's cache.
            bytes: weights as u64 * bits / 8,
            product_operations: rows * 2 * weights as u64,
            attention_operations: rows * 4 * scores,
            halves,
        }
    }

    fn print_table(rows: &[Row]) {
        print!(
            "| model | weights | a token: kernels | MB | MFLOP | a velocity: launches | MB | GFLOP | a chunk |"
        );
        CARDS
            .iter()
            .for_each(|card| print!(" {}: µs a token, ms a second |", card.name));
        println!();
        println!("|{}", "---|".repeat(9 + CARDS.len()));
        for row in rows {
            print!(
                "| {} | {} | {} | {:.0} | {:.0} | {} | {:.0} | {:.0} | {} |",
                row.model,
                row.precision,
                row.step.launches,
                row.step.bytes as f64 / 1e6,
                row.step.operations() as f64 / 1e6,
                row.velocity.launches,
                row.velocity.bytes as f64 / 1e6,
                row.velocity.operations() as f64 / 1e9,
                row.velocities_a_chunk,
            );
            for bound in &row.lower_bounds {
                print!(
                    " {:.0}, {:.0} |",
                    bound.step_microseconds, bound.milliseconds_a_second
                );
            }
            println!();
        }
    }
}
