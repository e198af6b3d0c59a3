//! The figures of the models' page against `doctor`'s own.

use crate::page::Page;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

/// A machine with more threads needs a little more than is written.
const TOLERANCE: f64 = 0.03;

type Fits = BTreeMap<(String, String), Value>;

/// What fits `memory`, by model and precision.
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
