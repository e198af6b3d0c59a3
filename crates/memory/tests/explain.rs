//! The verdicts of `explain` on configurations.

use proptest::prelude::*;
use sottovoce_memory::PoolConfiguration;
use sottovoce_memory::pool::explain::{OptionExplanation, Platform, Verdict, explain};
use sottovoce_memory::pool::options_of_line;

fn verdicts(text: &str, platform: Platform) -> Vec<Verdict> {
    explain(text, platform)
        .iter()
        .map(|explanation| explanation.verdict)
        .collect()
}

fn only(text: &str) -> OptionExplanation {
    let mut explanations = explain(text, Platform::Linux);
    assert_eq!(explanations.len(), 1, "{text}");
    explanations.remove(0)
}

#[test]
fn options_without_effect_are_told_from_those_that_work() {
    use Verdict::{DoesNothing, Works};
    let cases: &[(&str, &[Verdict])] = &[
        ("garbage_collection_threshold:0.8", &[DoesNothing]),
        (
            "per_process_memory_fraction:0.5,garbage_collection_threshold:0.8",
            &[Works, Works],
        ),
        (
            "expandable_segments:True,garbage_collection_threshold:0.8",
            &[Works, DoesNothing],
        ),
        ("max_non_split_rounding_mb:64", &[DoesNothing]),
        (
            "max_split_size_mb:128,max_non_split_rounding_mb:64",
            &[Works, Works],
        ),
        ("max_split_size_mb:-1", &[DoesNothing]),
        ("roundup_power2_divisions:1", &[DoesNothing]),
        ("roundup_power2_divisions:[256:0,>:1]", &[DoesNothing]),
        (
            "expandable_segments:False,backend:native",
            &[DoesNothing, DoesNothing],
        ),
        (
            "backend:cudaMallocAsync,expandable_segments:True",
            &[Works, DoesNothing],
        ),
        ("pinned_num_register_threads:8", &[DoesNothing]),
        (
            "max_split_size_mb:30,max_split_size_mb:40",
            &[DoesNothing, Works],
        ),
        ("", &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(verdicts(text, Platform::Linux), *expected, "{text}");
    }
}

#[test]
fn the_harmful_combination_is_named_with_its_cost() {
    let explanations = explain(
        "expandable_segments:True,max_split_size_mb:128",
        Platform::Linux,
    );
    for explanation in &explanations {
        assert_eq!(
            explanation.verdict,
            Verdict::Harms,
            "both halves of the pair"
        );
        let measured = explanation.measured.expect("the harm was measured");
        assert!(measured.with_option_bytes > measured.default_bytes);
    }
    assert_eq!(
        verdicts(
            "expandable_segments:True,max_split_size_mb:128",
            Platform::Windows
        ),
        [Verdict::Unsupported, Verdict::Works],
        "where segments cannot expand there is no pair"
    );
}

#[test]
fn coarse_rounding_harms_and_fine_rounding_does_not() {
    assert_eq!(only("roundup_power2_divisions:2").verdict, Verdict::Harms);
    assert_eq!(only("roundup_power2_divisions:8").verdict, Verdict::Works);
}

#[test]
fn misspelt_options_get_the_intended_name() {
    for (text, suggestion) in [
        ("expandable_segment:True", "expandable_segments:True"),
        ("max_split_size_MB:128", "max_split_size_mb:128"),
        ("max_split_size_mb=128", "max_split_size_mb:128"),
        (
            "garbage-collection-treshold:0.8",
            "garbage_collection_threshold:0.8",
        ),
        ("roundup_power_2_divisions:8", "roundup_power2_divisions:8"),
    ] {
        let explanation = only(text);
        assert_eq!(
            (explanation.verdict, explanation.suggestion.as_deref()),
            (Verdict::Misspelt, Some(suggestion)),
            "{text}"
        );
    }
    let explanation = only("frobnicate:1");
    assert_eq!(
        (explanation.verdict, explanation.suggestion),
        (Verdict::Rejected, None),
        "nothing is like it"
    );
}

#[test]
fn rejected_values_do_not_hide_the_other_options() {
    let explanations = explain(
        "max_split_size_mb:10, expandable_segments:true ,roundup_power2_divisions:[256:1,>:8]",
        Platform::Linux,
    );
    let seen: Vec<_> = explanations
        .iter()
        .map(|explanation| (explanation.offset, explanation.verdict))
        .collect();
    assert_eq!(
        seen,
        [
            (0, Verdict::Rejected),
            (22, Verdict::Rejected),
            (48, Verdict::Works)
        ]
    );
    assert_eq!(
        explanations[1].suggestion.as_deref(),
        Some("expandable_segments:True")
    );
}

#[test]
fn platforms_without_virtual_memory_refuse_expandable_segments() {
    for platform in [
        Platform::Windows,
        Platform::Wsl,
        Platform::Vgpu,
        Platform::Jetson,
        Platform::Cpu,
    ] {
        assert_eq!(
            verdicts("expandable_segments:True", platform),
            [Verdict::Unsupported],
            "{platform:?}"
        );
    }
}

#[test]
fn options_say_since_which_version_they_are_known() {
    for (text, since) in [
        ("expandable_segments:True", "2.6 or earlier"),
        ("graph_capture_record_stream_reuse:True", "2.9"),
        ("per_process_memory_fraction:0.5", "2.10"),
        ("pinned_reserve_segment_size_mb:64", "2.10"),
        ("large_segment_size_mb:12", "2.11"),
    ] {
        let explanation = only(text);
        assert_eq!(explanation.since.as_deref(), Some(since), "{text}");
        let is_new = since != "2.6 or earlier";
        let words = format!("before {since} fail with an error");
        assert_eq!(
            explanation.explanation.contains(&words),
            is_new,
            "{}",
            explanation.explanation
        );
    }
}

#[test]
fn platforms_where_expandable_segments_fail_the_program_are_named() {
    for platform in [Platform::Wsl, Platform::Vgpu, Platform::Jetson] {
        let explanation = explain("expandable_segments:True", platform).remove(0);
        assert!(
            explanation.explanation.contains("CUDA driver error"),
            "{explanation:?}"
        );
    }
    let windows = explain("expandable_segments:True", Platform::Windows).remove(0);
    assert!(
        windows.explanation.contains("warns and continues"),
        "{windows:?}"
    );
}

/// An option with a value that PyTorch accepts.
fn setting() -> impl Strategy<Value = (&'static str, String)> {
    prop_oneof![
        (21..100_000u64).prop_map(|size| ("max_split_size_mb", size.to_string())),
        (21..100_000u64).prop_map(|size| ("max_non_split_rounding_mb", size.to_string())),
        (11..1_000u64).prop_map(|size| ("large_segment_size_mb", size.to_string())),
        (1..100u32).prop_map(|share| ("garbage_collection_threshold", format!("0.{share:02}"))),
        (0..8u32).prop_map(|power| ("roundup_power2_divisions", (1 << power).to_string())),
        (0..8u32).prop_map(|power| ("pinned_num_register_threads", (1 << power).to_string())),
        any::<bool>().prop_map(|on| (
            "expandable_segments",
            if on { "True" } else { "False" }.into()
        )),
        any::<bool>().prop_map(|on| (
            "pinned_use_background_threads",
            if on { "True" } else { "False" }.into()
        )),
        Just(("backend", "cudaMallocAsync".to_owned())),
    ]
}

/// Groups of three digits, with commas between them.
fn grouped(number: &str) -> String {
    let groups: Vec<&str> = number
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).unwrap())
        .collect();
    groups.join(",")
}

/// Ways to write a value that PyTorch reads otherwise or not at all; `None` where there is none.
fn writing(kind: usize, name: &str, value: &str) -> Option<String> {
    let size = || name.ends_with("_mb").then(|| value.parse::<u64>().unwrap());
    let share = || {
        name.ends_with("threshold")
            .then(|| value.parse::<f64>().unwrap())
    };
    Some(match kind {
        0 => format!("{}MB", size()?),
        1 => format!("{} MiB", size()?),
        2 => format!("{}kB", size()? * 1024),
        3 => format!("{}GiB", size()? as f64 / 1024.0),
        4 => format!(
            "{} GB",
            (size()? as f64 / 1024.0).to_string().replace('.', ",")
        ),
        5 => grouped(&size()?.to_string()),
        6 => format!("{}b;", size()? << 20),
        7 => format!("{}.0", size()?),
        8 => format!(
            "{}_{:03}",
            size()?.checked_div(1000).filter(|&high| high > 0)?,
            size()? % 1000
        ),
        9 => value.replace(share().map(|_| '.')?, ","),
        10 => format!("{}%", (share()? * 100.0).round()),
        11 => format!("{} percent", (share()? * 100.0).round()),
        // Smaller numbers may be meant as shares of one.
        12 => format!(
            "{}",
            Some((share()? * 100.0).round()).filter(|percent| *percent >= 5.0)?
        ),
        13 => value
            .strip_prefix('0')
            .filter(|_| share().is_some())?
            .to_owned(),
        14 => format!("{}e-2;", (share()? * 100.0).round()),
        15 => value.replace('0', "０").replace('.', "．"),
        _ => format!(" {value} ;"),
    })
}

/// Ways in which people misspell it.
fn slip(kind: usize, name: &str, value: &str) -> String {
    match kind {
        0 => format!("{name}={value}"),
        1 => format!("{name}:\"{value}\""),
        2 => format!("{name}:{}", value.to_lowercase()),
        3 => format!("{}:{value}", name.replace('_', "-")),
        4 => format!("{}:{value}", name.to_uppercase()),
        5 => format!("{}:{value}", &name[..name.len() - 1]),
        6 => format!("'{name}':'{value}'"),
        _ => format!("\t{name} = {value}\r"),
    }
}

proptest! {
    #[test]
    fn every_suggestion_is_accepted_and_keeps_the_value((name, value) in setting(), kind in 0..8usize) {
        let right = PoolConfiguration::parse(&format!("{name}:{value}")).unwrap();
        let text = slip(kind, name, &value);
        let taken = options_of_line(&text);
        if PoolConfiguration::parse(&taken).is_ok_and(|read| read == right) {
            return Ok(());
        }
        let explanation = explain(&taken, Platform::Linux).remove(0);
        let suggestion = explanation.suggestion.expect("what was meant is plain");
        prop_assert_eq!(&PoolConfiguration::parse(&suggestion).unwrap(), &right, "{} became {}", text, suggestion);
    }

    #[test]
    fn a_value_written_otherwise_is_accepted_as_meant_or_suggested(
        (name, value) in setting(),
        kind in 0..17usize,
        separator in "[:=]",
    ) {
        let Some(written) = writing(kind, name, &value) else {
            return Ok(());
        };
        let right = PoolConfiguration::parse(&format!("{name}:{value}")).unwrap();
        for text in [
            format!("{name}{separator}{written}"),
            format!("PYTORCH_ALLOC_CONF={name}:{written}"),
        ] {
            let mut explanations = explain(&options_of_line(&text), Platform::Linux);
            prop_assert_eq!(explanations.len(), 1, "{}", text);
            let explanation = explanations.remove(0);
            let read = format!("{}:{}", explanation.option, explanation.value);
            let taken = match (explanation.verdict, explanation.suggestion) {
                (Verdict::Misread | Verdict::Rejected | Verdict::Misspelt, suggestion) => {
                    suggestion.expect("what was meant is plain")
                }
                _ => read,
            };
            let taken = PoolConfiguration::parse(&taken).unwrap();
            prop_assert_eq!(&taken, &right, "{}", text);
        }
    }

    #[test]
    fn every_suggestion_passes_the_check(
        texts in prop::collection::vec(
            prop_oneof!["[a-z_]{1,30}[:=][0-9a-zA-Z%.,\\[\\]>]{0,12}", "\\PC{0,40}",
                (setting(), 0..8usize).prop_map(|((name, value), kind)| slip(kind, name, &value))],
            1..4),
        mark in "[,; ]",
    ) {
        let text = texts.join(&mark);
        for platform in [Platform::Linux, Platform::Windows] {
            for explanation in explain(&options_of_line(&text), platform) {
                if let Some(suggestion) = explanation.suggestion {
                    prop_assert!(PoolConfiguration::parse(&suggestion).is_ok(), "{} of {}", suggestion, text);
                    let again = explain(&suggestion, platform);
                    prop_assert!(again.iter().all(|explanation| !matches!(
                        explanation.verdict,
                        Verdict::Rejected | Verdict::Misread | Verdict::Misspelt
                    )));
                }
            }
        }
    }
}
