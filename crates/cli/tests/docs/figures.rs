//! Compares figures in the documentation with `doctor`'s and with the server's Prometheus metrics.

use crate::page::{Page, root};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// A machine with more threads needs slightly more than documented.
const TOLERANCE: f64 = 0.03;

type Fits = BTreeMap<(String, String), Value>;

/// Models and precisions that fit `memory`.
fn fits(memory: &str) -> Fits {
    let output = Command::new(env!("CARGO_BIN_EXE_sottovoce"))
        .args(["doctor", "--json", "--memory", memory])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    (report["fits"].as_array().unwrap().iter())
        .map(|row| ((name(row, "model"), name(row, "precision")), row.clone()))
        .collect()
}

/// The rows between two comments.
fn table(begin: &str, end: &str) -> Vec<Vec<String>> {
    let mut page = Page::named("docs/models.md");
    let from = page.text.find(begin).unwrap();
    let to = page.text.find(end).unwrap();
    page.text = page.text[from..to].to_owned();
    page.rows().collect()
}

#[test]
fn the_models_page_has_doctors_bytes() {
    let fits = fits("4GiB");
    let rows = table("<!-- fits:begin -->", "<!-- fits:end -->");
    assert!(rows.len() > 10);
    for row in &rows[1..] {
        let found = &fits[&(row[0].clone(), row[1].clone())];
        let fields = [
            "one_stream_bytes",
            "further_stream_bytes",
            "further_stream_8_bit_bytes",
        ];
        for (cell, field) in row[2..].iter().zip(fields) {
            let written: f64 = cell.parse().unwrap();
            let mebibytes = found[field].as_f64().unwrap() / f64::from(1 << 20);
            assert!(
                (written - mebibytes).abs() <= TOLERANCE * mebibytes,
                "{row:?}: {field} is {mebibytes:.1} MiB"
            );
        }
    }
}

#[test]
fn the_models_page_has_doctors_streams() {
    let rows = table("<!-- streams:begin -->", "<!-- streams:end -->");
    assert!(rows.len() > 10);
    for (column, size) in rows[0].iter().enumerate().skip(2) {
        let fits = fits(&size.replace(' ', ""));
        for row in &rows[1..] {
            let found = &fits[&(row[0].clone(), row[1].clone())];
            let streams = match found["streams_fit"].as_u64().unwrap() {
                0 => "–".to_owned(),
                streams => streams.to_string(),
            };
            assert_eq!(row[column], streams, "{} {} in {size}", row[0], row[1]);
        }
    }
}

/// Metric names in a text, without the suffixes that Prometheus adds.
fn figure_names(text: &str) -> BTreeSet<String> {
    let letters = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    let names = text.split(|letter| !letters(letter));
    names
        .filter(|name| name.starts_with("sottovoce_"))
        .map(|name| {
            let name = name.strip_suffix("_bucket").unwrap_or(name);
            name.strip_suffix("_total").unwrap_or(name).to_owned()
        })
        .collect()
}

#[test]
fn alerts_and_dashboard_ask_for_figures_that_the_server_has_and_the_pages_explain() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let mut sources = String::new();
    for entry in std::fs::read_dir(root().join("crates/server/src")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            sources += &std::fs::read_to_string(path).unwrap();
        }
    }
    let served = figure_names(&sources);
    let explained = figure_names(&read("docs/operations.md"));
    let alerts = read("deploy/alerts.yaml");
    let asked = figure_names(&(alerts.clone() + &read("deploy/grafana-dashboard.json")));
    assert!(asked.len() > 10, "{asked:?}");
    for name in asked.union(&explained) {
        assert!(served.contains(name), "the server has no {name}");
        assert!(explained.contains(name), "docs/operations.md lacks {name}");
    }
    let operations = read("docs/operations.md");
    let named = alerts
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let mut count = 0;
    for alert in named {
        count += 1;
        assert!(operations.contains(&format!("| `{alert}` |")), "{alert}");
    }
    assert!(count > 5, "only {count} alerts were found");
}
