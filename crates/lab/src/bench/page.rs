//! Benchmark report as one HTML page: a table, and plots as inline SVG. The page loads nothing.

use super::{BenchReport, BenchRun};
use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
const MARGIN: f64 = 56.0;
const COLOURS: [&str; 8] = [
    "#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#a463f2", "#9c6b4e", "#97bbf5", "#9498a0",
];
const MEBIBYTE: f64 = 1024.0 * 1024.0;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\
table{border-collapse:collapse}th,td{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #ccc}th:first-child,td:first-child{text-align:left}\
svg{display:block;max-width:100%}svg text{font-size:11px;fill:currentColor}@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}}";

/// The report as a self-contained page.
pub fn html(report: &BenchReport) -> String {
    let mut page = String::new();
    let model = escape(&report.model);
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>sottovoce bench: {model}</title><style>{STYLE}</style><h1>sottovoce bench: {model}</h1>"
    );
    table(&mut page, report);
    further_table(&mut page, report);
    for run in &report.runs {
        let _ = write!(page, "<h2>{}, {}</h2>", run.precision, run.profile);
        memory_plot(&mut page, run);
        line_plot(&mut page, "Fragmentation, %", run, |chunk| {
            chunk.fragmentation * 100.0
        });
        line_plot(&mut page, "Chunk latency, s", run, |chunk| {
            chunk.latency_seconds
        });
    }
    page.push_str("</html>\n");
    page
}

fn table(page: &mut String, report: &BenchReport) {
    page.push_str(
        "<table><tr><th>precision, profile<th>peak reserved<th>of reference<th>peak resident<th>first audio<th>RTF<th>fragmentation<th>driver calls a chunk",
    );
    for run in &report.runs {
        let _ = write!(
            page,
            "<tr><td>{}, {}<td>{:.0} MiB<td>{:.1} %<td>{:.0} MiB<td>{:.2} s<td>{:.2}<td>{:.1} %<td>{:.1}",
            run.precision,
            run.profile,
            run.peak_reserved_bytes as f64 / MEBIBYTE,
            run.peak_reserved_share * 100.0,
            run.peak_resident_bytes as f64 / MEBIBYTE,
            run.first_audio_seconds,
            run.rtf,
            run.fragmentation_max * 100.0,
            run.driver_calls_per_chunk
        );
    }
    let _ = write!(
        page,
        "<tr><td>reference, f32 base<td>{:.0} MiB<td>100 %<td><td><td><td><td></table>",
        report.reference_peak_reserved_bytes as f64 / MEBIBYTE
    );
}

/// Table of the cost of further streams and voices.
fn further_table(page: &mut String, report: &BenchReport) {
    if report.further.is_empty() {
        return;
    }
    page.push_str("<h2>One more</h2><table><tr><th>keys and values<th>stream of 40 s<th>with a voice of its own<th>stream of 6 s<th>voice");
    for further in &report.further {
        let _ = write!(
            page,
            "<tr><td>{}<td>{:.1} MB<td>{:.1} MB<td>{:.1} MB<td>{:.3} MB",
            further.key_value_precision,
            further.stream_of_40_seconds_bytes as f64 / 1e6,
            further.stream_of_40_seconds_own_voice_bytes as f64 / 1e6,
            further.stream_of_6_seconds_bytes as f64 / 1e6,
            further.voice_bytes as f64 / 1e6,
        );
    }
    page.push_str("</table>");
}

/// Memory over time, stacked by owner, with the bytes held above it.
fn memory_plot(page: &mut String, run: &BenchRun) {
    let mut owners: Vec<&String> = run
        .chunks
        .iter()
        .flat_map(|chunk| chunk.owners.keys())
        .collect();
    owners.sort();
    owners.dedup();
    let top = run
        .chunks
        .iter()
        .map(|chunk| chunk.reserved_bytes.max(chunk.allocated_bytes))
        .max()
        .unwrap_or(0) as f64
        / MEBIBYTE;
    let axes = Axes {
        x_max: last_second(run),
        y_max: top,
    };
    axes.open(page, "Memory by owner, MiB");
    let mut below = vec![0.0; run.chunks.len()];
    let mut legend = Vec::new();
    for (index, owner) in owners.iter().enumerate() {
        let above: Vec<f64> = run
            .chunks
            .iter()
            .zip(&below)
            .map(|(chunk, below)| {
                below + chunk.owners.get(*owner).copied().unwrap_or(0) as f64 / MEBIBYTE
            })
            .collect();
        let mut points = String::new();
        for (chunk, value) in run.chunks.iter().zip(&above) {
            axes.point(&mut points, chunk.seconds, *value);
        }
        for (chunk, value) in run.chunks.iter().zip(&below).rev() {
            axes.point(&mut points, chunk.seconds, *value);
        }
        let colour = COLOURS[index % COLOURS.len()];
        let _ = write!(
            page,
            "<polygon points=\"{points}\" fill=\"{colour}\" opacity=\"0.8\"/>"
        );
        legend.push((owner.as_str(), colour));
        below = above;
    }
    let mut points = String::new();
    for chunk in &run.chunks {
        axes.point(
            &mut points,
            chunk.seconds,
            chunk.reserved_bytes as f64 / MEBIBYTE,
        );
    }
    let _ = write!(
        page,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"currentColor\"/>"
    );
    legend.push(("reserved", "currentColor"));
    page.push_str("</svg><p>");
    for (owner, colour) in legend {
        let _ = write!(
            page,
            "<span style=\"color:{colour}\">■</span> {} &nbsp; ",
            escape(owner)
        );
    }
    page.push_str("</p>");
}

fn line_plot(
    page: &mut String,
    title: &str,
    run: &BenchRun,
    value: impl Fn(&super::BenchChunk) -> f64,
) {
    let y_max = run.chunks.iter().map(&value).fold(0.0, f64::max);
    let axes = Axes {
        x_max: last_second(run),
        y_max,
    };
    axes.open(page, title);
    let mut points = String::new();
    for chunk in &run.chunks {
        axes.point(&mut points, chunk.seconds, value(chunk));
    }
    let _ = write!(
        page,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/></svg>",
        COLOURS[0]
    );
}

fn last_second(run: &BenchRun) -> f64 {
    run.chunks.last().map_or(0.0, |chunk| chunk.seconds)
}

struct Axes {
    x_max: f64,
    y_max: f64,
}

impl Axes {
    fn open(&self, page: &mut String, title: &str) {
        let (bottom, right) = (HEIGHT - MARGIN / 2.0, WIDTH - MARGIN / 2.0);
        let _ = write!(
            page,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\"><text x=\"{MARGIN}\" y=\"14\">{title}</text>\
             <path d=\"M{MARGIN} 24V{bottom}H{right}\" fill=\"none\" stroke=\"currentColor\"/>\
             <text x=\"4\" y=\"34\">{:.2}</text><text x=\"4\" y=\"{bottom}\">0</text><text x=\"{}\" y=\"{}\">{:.1} s</text>",
            self.y_max,
            right - 40.0,
            HEIGHT - 6.0,
            self.x_max
        );
    }

    fn point(&self, points: &mut String, x: f64, y: f64) {
        let across = MARGIN + x / self.x_max.max(f64::MIN_POSITIVE) * (WIDTH - 1.5 * MARGIN);
        let up = HEIGHT
            - MARGIN / 2.0
            - y / self.y_max.max(f64::MIN_POSITIVE) * (HEIGHT - MARGIN / 2.0 - 24.0);
        let _ = write!(points, "{across:.1},{up:.1} ");
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{BenchOptions, bench};
    use sottovoce::{EngineOptions, PrecisionChoice, Profile, Source};

    #[test]
    fn the_page_stands_alone_and_shows_every_run() {
        let options = BenchOptions {
            source: Source::Embedded,
            precisions: vec![PrecisionChoice::Auto],
            profiles: vec![Profile::Balanced, Profile::None],
            engine: EngineOptions::default(),
            // Long enough that the first chunk is looked at while the last ones are still made.
            text: "We counted forty two boats before it got dark. ".repeat(12),
            further: true,
            rounds: 0,
            audio_seconds_max: 1.0,
        };
        let mut report = bench(&options, &mut |_| {}).unwrap();
        report.model = "a <b>".into();
        let page = html(&report);
        assert!(
            page.contains("a &lt;b&gt;") && !page.contains("<b>"),
            "names are escaped"
        );
        assert_eq!(page.matches("<svg").count(), 6, "three plots a run");
        for owner in ["weights t3", "key_value stream"] {
            assert!(page.contains(owner), "{owner} has a colour");
        }
        assert!(
            !page.contains("src=") && !page.contains("href="),
            "nothing is fetched"
        );
    }
}
