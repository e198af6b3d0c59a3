//! Plot of live and reserved bytes over a trace, as one self-contained drawing for light and dark
//! themes.

use sottovoce_memory::trace::advise::{Advice, Curve, ReplayTimeline, Share};
use std::fmt::Write;
use std::path::Path;

/// Format of a plot's file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The drawing alone.
    Svg,
    /// A page with the drawing and the tables.
    Html,
}

impl Format {
    /// The format of a file name.
    pub fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "svg" => Some(Format::Svg),
            "html" | "htm" => Some(Format::Html),
            _ => None,
        }
    }
}

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 48.0;
/// Least distance between phase labels.
const LABEL_GAP: f64 = 90.0;
const MEBIBYTE: f64 = 1024.0 * 1024.0;

const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#fff;--ink:#1c2430;--faint:#8a94a3;--grid:#e4e8ee;--live:#4c9be8;--today:#d9534f;--best:#2a9d5c}
@media (prefers-color-scheme:dark){:root{--paper:#14181f;--ink:#e3e8ef;--faint:#8390a2;--grid:#2a313c;--live:#3f7fc4;--today:#ff7b72;--best:#4ccf85}}
";
const SVG_STYLE: &str = "\
svg.plot{background:var(--paper);font:13px system-ui,sans-serif}
.plot text{fill:var(--ink)}.plot .faint{fill:var(--faint);font-size:11px}
.plot .grid{stroke:var(--grid)}.plot .phase{stroke:var(--faint);stroke-dasharray:2 4}
.plot .live{fill:var(--live);fill-opacity:.35;stroke:var(--live)}
.plot .today{fill:none;stroke:var(--today);stroke-width:2}.plot .best{fill:none;stroke:var(--best);stroke-width:2}
.plot .bound{stroke:var(--live);stroke-dasharray:6 4}
";
const PAGE_STYLE: &str = "\
body{background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem}
svg{width:100%;height:auto}table{border-collapse:collapse;margin:1rem 0;width:100%}
td,th{padding:.25rem .6rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--grid)}td:first-child,th:first-child{text-align:left;white-space:normal;overflow-wrap:anywhere}
tr.today{font-weight:600}code{background:var(--grid);padding:.1rem .4rem;border-radius:4px;word-break:break-all}
";

/// Draws the result of an analysis.
pub fn draw(advice: &Advice, timeline: &ReplayTimeline, format: Format) -> String {
    match format {
        Format::Svg => svg(advice, timeline, true),
        Format::Html => page(advice, timeline),
    }
}

/// Maps events and bytes to the drawing's units.
struct Scale {
    events: f64,
    bytes: f64,
}

impl Scale {
    fn x(&self, event: f64) -> f64 {
        LEFT + event / self.events * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, bytes: f64) -> f64 {
        HEIGHT - BOTTOM - bytes / self.bytes * (HEIGHT - TOP - BOTTOM)
    }
}

fn svg(advice: &Advice, timeline: &ReplayTimeline, alone: bool) -> String {
    let today = advice.tried.iter().find(|tried| tried.today);
    let best = advice
        .tried
        .iter()
        .find(|tried| tried.clear_every_chunk.is_none() && !tried.today);
    let curve = |configuration: &str| {
        let name = if configuration.is_empty() {
            "default"
        } else {
            configuration
        };
        timeline.curves.iter().find(|curve| curve.name == name)
    };
    let today_curve = today.and_then(|tried| curve(&tried.configuration));
    let best_curve = best.and_then(|tried| curve(&tried.configuration));
    let live = timeline.curves.first();
    let highest = [live, today_curve, best_curve]
        .into_iter()
        .flatten()
        .flat_map(|curve| &curve.bytes)
        .copied()
        .chain([advice.lower_bound])
        .max()
        .unwrap_or(0);
    let step = nice_step(highest as f64 / MEBIBYTE / 5.0);
    let top = ((highest as f64 / MEBIBYTE / step).ceil() * step).max(step);
    let scale = Scale {
        events: timeline.events.max(1) as f64,
        bytes: top * MEBIBYTE,
    };
    let mut out = format!(
        "<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"live and reserved memory over the trace\">\n"
    );
    let styles = if alone { STYLE } else { "" };
    push(
        &mut out,
        format_args!("<style>{styles}{SVG_STYLE}</style>\n"),
    );
    axes(&mut out, &scale, step, top, timeline);
    if let Some(live) = live {
        push(
            &mut out,
            format_args!("<path class=\"live\" d=\"{}\"/>\n", area(live, &scale)),
        );
    }
    let bound = scale.y(advice.lower_bound as f64);
    push(
        &mut out,
        format_args!(
            "<line class=\"bound\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{bound:.1}\" y2=\"{bound:.1}\"/>\n",
            WIDTH - RIGHT
        ),
    );
    let mut legend = vec![(
        "live",
        format!("live, at most {} (lower bound)", size(advice.lower_bound)),
    )];
    for (class, title, tried, curve) in [
        ("today", "reserved today", today, today_curve),
        ("best", "reserved at best", best, best_curve),
    ] {
        if let (Some(tried), Some(curve)) = (tried, curve) {
            push(
                &mut out,
                format_args!("<path class=\"{class}\" d=\"{}\"/>\n", line(curve, &scale)),
            );
            let settings = match tried.configuration.as_str() {
                "" => "default",
                settings => settings,
            };
            legend.push((
                class,
                format!(
                    "{title}, at most {}: {}",
                    size(tried.peak_reserved),
                    shortened(settings, 70)
                ),
            ));
        }
    }
    for (row, (class, text)) in legend.iter().enumerate() {
        let y = 16.0 + 18.0 * row as f64;
        push(
            &mut out,
            format_args!(
                "<line class=\"{class}\" stroke-width=\"4\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/><text x=\"{}\" y=\"{}\">{}</text>\n",
                LEFT + 24.0,
                LEFT + 32.0,
                y + 4.0,
                escape(text)
            ),
        );
    }
    out.push_str("</svg>\n");
    out
}

fn axes(out: &mut String, scale: &Scale, step: f64, top: f64, timeline: &ReplayTimeline) {
    let mut mebibytes = 0.0;
    while mebibytes <= top {
        let y = scale.y(mebibytes * MEBIBYTE);
        push(
            out,
            format_args!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text class=\"faint\" text-anchor=\"end\" x=\"{}\" y=\"{:.1}\">{}</text>\n",
                WIDTH - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                size((mebibytes * MEBIBYTE) as u64)
            ),
        );
        mebibytes += step;
    }
    let mut free_from = LEFT;
    for (event, text) in &timeline.phases {
        let x = scale.x(*event as f64);
        if x < free_from || x > WIDTH - RIGHT {
            continue;
        }
        // At the right edge, the label is placed before its line if there is room.
        let (anchor, label_x) = if x + LABEL_GAP <= WIDTH {
            ("start", x + 3.0)
        } else if x - LABEL_GAP >= free_from {
            ("end", x - 3.0)
        } else {
            continue;
        };
        free_from = x + LABEL_GAP;
        push(
            out,
            format_args!(
                "<line class=\"phase\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{}\"/><text class=\"faint\" text-anchor=\"{anchor}\" x=\"{label_x:.1}\" y=\"{}\">{}</text>\n",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 16.0,
                escape(&shortened(text, 14))
            ),
        );
    }
    push(
        out,
        format_args!(
            "<text class=\"faint\" text-anchor=\"end\" x=\"{}\" y=\"{}\">{} events</text>\n",
            WIDTH - RIGHT,
            HEIGHT - 10.0,
            timeline.events
        ),
    );
}

fn points(curve: &Curve, scale: &Scale) -> String {
    let count = curve.bytes.len().max(1) as f64;
    let mut path = String::new();
    let mut point = |share: f64, bytes: u64| {
        let x = scale.x(share * scale.events);
        push(
            &mut path,
            format_args!("L{x:.1} {:.1}", scale.y(bytes as f64)),
        );
    };
    // Values are centred in their intervals; the first and the last extend to the edges.
    point(0.0, curve.bytes.first().copied().unwrap_or(0));
    for (index, &bytes) in curve.bytes.iter().enumerate() {
        point((index as f64 + 0.5) / count, bytes);
    }
    point(1.0, curve.bytes.last().copied().unwrap_or(0));
    path
}

fn line(curve: &Curve, scale: &Scale) -> String {
    points(curve, scale).replacen('L', "M", 1)
}

fn area(curve: &Curve, scale: &Scale) -> String {
    let ground = scale.y(0.0);
    format!(
        "M{LEFT} {ground:.1}{}L{} {ground:.1}Z",
        points(curve, scale),
        WIDTH - RIGHT
    )
}

fn page(advice: &Advice, timeline: &ReplayTimeline) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>Memory advice</title>\n<style>{STYLE}{PAGE_STYLE}</style></head><body>\n<h1>Memory advice</h1>\n"
    );
    push(
        &mut out,
        format_args!("<p>{}</p>\n", escape(&advice.recommendation.reason)),
    );
    if let Some(line) = &advice.recommendation.line {
        push(
            &mut out,
            format_args!("<p><code>{}</code></p>\n", escape(line)),
        );
    }
    if let Some(program) = &advice.recommendation.program {
        push(&mut out, format_args!("<p>{}</p>\n", escape(program)));
    }
    out.push_str(&svg(advice, timeline, false));
    out.push_str("<table><tr><th>settings, best first</th><th>peak reserved</th><th>to today</th><th>to live</th><th>driver calls</th><th>failed</th></tr>\n");
    for tried in &advice.tried {
        push(
            &mut out,
            format_args!(
                "<tr{}><td>{}</td><td>{}</td><td>{:+.1} MiB</td><td>{:+.1} %</td><td>{}</td><td>{}</td></tr>\n",
                if tried.today { " class=\"today\"" } else { "" },
                escape(&tried.name()),
                size(tried.peak_reserved),
                tried.versus_today as f64 / MEBIBYTE,
                (tried.versus_lower_bound - 1.0) * 100.0,
                tried.driver_calls,
                tried.ooms
            ),
        );
    }
    out.push_str("</table>\n");
    push(
        &mut out,
        format_args!(
            "<p>No option can save {}: these bytes are live at once, at event {}.</p>\n",
            size(advice.beyond_options),
            advice.at_peak.event
        ),
    );
    for (title, shares) in [
        ("allocated by", &advice.at_peak.by_tag),
        ("allocated in phase", &advice.at_peak.by_phase),
    ] {
        owners(&mut out, title, shares);
    }
    out.push_str("</body></html>\n");
    out
}

fn owners(out: &mut String, title: &str, shares: &[Share]) {
    push(
        out,
        format_args!("<table><tr><th>{title}</th><th>at the peak</th><th>allocations</th></tr>\n"),
    );
    for share in shares {
        push(
            out,
            format_args!(
                "<tr><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                escape(&share.name),
                size(share.bytes),
                share.count
            ),
        );
    }
    out.push_str("</table>\n");
}

/// 1, 2 or 5 times a power of ten, not below `least`.
fn nice_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-3).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|&step| step >= least)
        .unwrap_or(10.0 * power)
}

fn size(bytes: u64) -> String {
    let mebibytes = bytes as f64 / MEBIBYTE;
    if mebibytes >= 10.0 || mebibytes == 0.0 {
        format!("{mebibytes:.0} MiB")
    } else {
        format!("{mebibytes:.2} MiB")
    }
}

fn shortened(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    text.chars().take(length).chain("…".chars()).collect()
}

/// Escapes text from a trace, which is untrusted.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // Control characters are not allowed in XML.
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Writing to a string cannot fail.
fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::{escape, nice_step};

    #[test]
    fn steps_are_one_two_or_five() {
        for (least, step) in [(0.3, 0.5), (1.0, 1.0), (140.0, 200.0), (501.0, 1000.0)] {
            assert!((nice_step(least) - step).abs() < 1e-9, "{least}");
        }
    }

    #[test]
    fn names_from_a_trace_cannot_leave_their_place() {
        assert_eq!(
            escape("</text><script a=\"&\u{1}"),
            "&lt;/text&gt;&lt;script a=&quot;&amp; "
        );
    }
}
