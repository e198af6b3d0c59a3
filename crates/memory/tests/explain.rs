//! What `explain` says of configurations.

use sottovoce_memory::pool::explain::{Explanation, Platform, Verdict, explain};

fn verdicts(text: &str, platform: Platform) -> Vec<Verdict> {
    explain(text, platform)
        .iter()
        .map(|explanation| explanation.verdict)
        .collect()
}

fn only(text: &str) -> Explanation {
    let mut explanations = explain(text, Platform::Linux);
    assert_eq!(explanations.len(), 1, "{text}");
    explanations.remove(0)
}

#[test]
fn options_that_do_nothing_are_told_from_those_that_work() {
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
fn the_harmful_pair_is_named_with_what_it_costs() {
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
fn misspelt_options_get_the_name_that_was_meant() {
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
