//! The planner on sets derived from known ones: `cargo bench -p sottovoce-memory --bench plan
//! [-- SET… CHANGE… SEEDS]`, such as `-- E Warped 3`; `-- D Least` looks for the least arena of a
//! set itself, without a capacity.
//!
//! Each set of MiniMalloc's challenge is changed in ways that keep it solvable, from seeds: other
//! sizes, other moments, other orders, two sets after each other or on top of each other. A plan of
//! the original shows that each derived set fits its capacity. The bench prints the outcome and the
//! time and the processor time of each, and fails if one was not planned within its capacity.

use sottovoce_memory::plan::{self, SolveOptions};
use std::time::Instant;

#[path = "../tests/derived_sets/mod.rs"]
mod derived_sets;

use derived_sets::{Change, DerivedSet, challenge, derive};

/// As `memory plan` has, within a capacity and without one.
const CAPACITY_EFFORT: u64 = 32_000_000_000;
const SMALLEST_EFFORT: u64 = 24_000_000_000;

fn main() {
    let words: Vec<String> = (std::env::args().skip(1))
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let seeds: u64 = words.iter().find_map(|word| word.parse().ok()).unwrap_or(1);
    let words = words.iter().filter(|word| word.parse::<u64>().is_err());
    let (sets, changes): (Vec<&String>, Vec<&String>) = words.partition(|word| word.len() == 1);
    let is_wanted = |word: &str, named: &[&String]| {
        named.is_empty() || named.iter().any(|other| *other == word)
    };
    let mut failures = 0;
    for name in derived_sets::NAMES {
        if !is_wanted(name, &sets) {
            continue;
        }
        let options = SolveOptions {
            alignment: 1,
            effort: CAPACITY_EFFORT,
        };
        let (start, before) = (Instant::now(), processor_seconds());
        let original = challenge(name);
        let witness = plan::fit(&original, derived_sets::CAPACITY, &options);
        let witness = witness.unwrap_or_else(|error| panic!("set {name}: {error}"));
        let (seconds, work) = (start.elapsed().as_secs_f64(), processor_seconds() - before);
        println!("{name}: itself in {seconds:.2} s, {work:.2} s of work");
        if is_wanted("Least", &changes) {
            let (start, before) = (Instant::now(), processor_seconds());
            let options = SolveOptions {
                effort: SMALLEST_EFFORT,
                ..options.clone()
            };
            let plan = plan::solve(&original, &options);
            let (seconds, work) = (start.elapsed().as_secs_f64(), processor_seconds() - before);
            plan::validate(&original, &plan).unwrap();
            let above = |bytes: u64| 100.0 * (plan.peak as f64 / bytes as f64 - 1.0);
            println!(
                "{name} Least: {} bytes, {:.2} % above the lower bound, {:.2} % above what is proven, \
                 {seconds:.2} s, {work:.2} s of work",
                plan.peak,
                above(plan.lower_bound),
                above(plan.proven_bytes)
            );
        }
        for change in Change::ALL {
            let word = format!("{change:?}");
            if !is_wanted(&word, &changes) {
                continue;
            }
            for seed in 0..seeds {
                let DerivedSet {
                    lifetimes,
                    capacity,
                } = derive(name, &witness.offsets, change, seed);
                let (start, before) = (Instant::now(), processor_seconds());
                let outcome = plan::fit(&lifetimes, capacity, &options);
                let seconds = start.elapsed().as_secs_f64();
                let work = processor_seconds() - before;
                let lower = plan::lower_bound(&lifetimes);
                let fullness = lower as f64 / capacity as f64;
                let found = match outcome {
                    Ok(plan) => {
                        plan::validate(&lifetimes, &plan).unwrap();
                        "fits".to_owned()
                    }
                    Err(refusal) => {
                        failures += 1;
                        let above = |bytes: u64| 100.0 * (bytes as f64 / capacity as f64 - 1.0);
                        format!(
                            "NOT FOUND: best {:+.2} %, proven {:+.2} %",
                            above(refusal.plan.peak),
                            above(refusal.plan.proven_bytes)
                        )
                    }
                };
                println!(
                    "{name} {change:?} {seed}: {} lifetimes, {:.4} full, {found}, {seconds:.2} s, {work:.2} s of work",
                    lifetimes.len(),
                    fullness
                );
            }
        }
    }
    assert_eq!(
        failures, 0,
        "sets were not planned within a capacity that they fit"
    );
}

/// Processor time of all threads so far; 0 where the system does not tell.
fn processor_seconds() -> f64 {
    let statistics = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let (_, fields) = statistics.rsplit_once(')').unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}
