//! Effect of each option of a configuration on a platform: none, harmful, or as intended.
//!
//! Measured figures are peaks of reserved bytes on a recorded run of a streaming speech engine: its
//! weights loaded, then four voices prepared and spoken with one after the other; 1.3 million
//! events on a 24,564 MiB device, live bytes 3,380 MiB.

use super::configuration::{Backend, PoolConfiguration};
use super::parse::{ConfigurationError, Setting};
use super::paste;
use serde::Serialize;

/// An option and the first version of PyTorch that accepts it.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownOption {
    pub(super) name: &'static str,
    /// Major and minor number; 2.6 also stands for earlier versions.
    pub(super) since: (u32, u32),
}

const fn since(name: &'static str, minor: u32) -> KnownOption {
    KnownOption {
        name,
        since: (2, minor),
    }
}

/// Every option that any version of PyTorch knows.
pub(super) const OPTIONS: [KnownOption; 17] = [
    since("backend", 6),
    since("max_split_size_mb", 6),
    since("max_non_split_rounding_mb", 6),
    since("garbage_collection_threshold", 6),
    since("roundup_power2_divisions", 6),
    since("expandable_segments", 6),
    since("release_lock_on_cudamalloc", 6),
    since("release_lock_on_hipmalloc", 6),
    since("pinned_use_cuda_host_register", 6),
    since("pinned_use_hip_host_register", 6),
    since("pinned_num_register_threads", 6),
    since("pinned_use_background_threads", 6),
    since("pinned_reserve_segment_size_mb", 10),
    since("graph_capture_record_stream_reuse", 9),
    since("per_process_memory_fraction", 10),
    since("throw_on_cudamalloc_oom", 12),
    since("large_segment_size_mb", 11),
];

/// The platform that PyTorch runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// Linux with a GPU not shared with others.
    #[default]
    Linux,
    /// Windows.
    Windows,
    /// Linux under Windows (WSL).
    Wsl,
    /// A virtual GPU: a part of a GPU, assigned by a hypervisor.
    Vgpu,
    /// A Jetson board.
    Jetson,
    /// No device: CPU memory only.
    Cpu,
}

impl Platform {
    /// All platforms.
    pub const ALL: [Platform; 6] = [
        Platform::Linux,
        Platform::Windows,
        Platform::Wsl,
        Platform::Vgpu,
        Platform::Jetson,
        Platform::Cpu,
    ];

    /// Its name in options and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Platform::Linux => "linux",
            Platform::Windows => "windows",
            Platform::Wsl => "wsl",
            Platform::Vgpu => "vgpu",
            Platform::Jetson => "jetson",
            Platform::Cpu => "cpu",
        }
    }

    /// What it is, in a few words.
    pub fn description(self) -> &'static str {
        match self {
            Platform::Linux => "Linux with a GPU not shared with others",
            Platform::Windows => "Windows",
            Platform::Wsl => "Linux under Windows (WSL)",
            Platform::Vgpu => "A virtual GPU: a part of a GPU, assigned by a hypervisor",
            Platform::Jetson => "A Jetson board",
            Platform::Cpu => "No device: CPU memory only",
        }
    }

    /// The consequence of expandable segments, if the platform does not support them.
    pub fn refuses_expandable_segments(self) -> Option<&'static str> {
        match self {
            Platform::Linux => None,
            Platform::Windows => Some(
                "PyTorch warns and continues without it: its Windows builds lack the driver calls that the option needs",
            ),
            Platform::Wsl => Some(
                "the program fails at its first allocation with \"CUDA driver error\": under WSL the driver refuses \
                 the memory handles that the option needs",
            ),
            Platform::Vgpu => Some(
                "on many virtual GPUs, which have no virtual memory management, the program fails at its first \
                 allocation with \"CUDA driver error\"",
            ),
            Platform::Jetson => Some(
                "the program fails at its first allocation with \"CUDA driver error\": the driver of Jetson boards \
                 does not export the memory handles that the option needs",
            ),
            Platform::Cpu => Some("without a device the caching allocator is not used at all"),
        }
    }
}

/// The effect of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Has the intended effect.
    Works,
    /// Has no effect.
    DoesNothing,
    /// Makes memory use worse as set.
    Harms,
    /// Not available on the platform or in the version.
    Unsupported,
    /// PyTorch takes it for another value than is written.
    Misread,
    /// Unknown; a similar option exists.
    Misspelt,
    /// PyTorch fails with an error.
    Rejected,
}

/// Peaks of reserved bytes without and with an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Measured {
    /// Peak with the default configuration.
    pub default_bytes: u64,
    /// Peak as set.
    pub with_option_bytes: u64,
    /// The configuration measured.
    pub configuration: &'static str,
}

/// One option explained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OptionExplanation {
    /// The name as written.
    pub option: String,
    /// The value as written, without spaces.
    pub value: String,
    /// Byte offset of the option in the text.
    pub offset: usize,
    /// The effect.
    pub verdict: Verdict,
    /// The reason, in a sentence or two.
    pub explanation: String,
    /// The first version of PyTorch known to accept the option, such as `2.9`; `2.6 or earlier` for
    /// older options.
    pub since: Option<String>,
    /// A replacement that PyTorch accepts.
    pub suggestion: Option<String>,
    /// A measurement behind the verdict.
    pub measured: Option<Measured>,
}

const DEFAULT_BYTES: u64 = 3_762_290_688;

const fn measured(with_option_bytes: u64, configuration: &'static str) -> Option<Measured> {
    Some(Measured {
        default_bytes: DEFAULT_BYTES,
        with_option_bytes,
        configuration,
    })
}

/// Explains every option of a configuration, including those that PyTorch rejects.
pub fn explain(text: &str, platform: Platform) -> Vec<OptionExplanation> {
    let items: Vec<Item> = paste::options(text)
        .into_iter()
        .map(|(part, offset)| Item::read(part, offset))
        .collect();
    // Combined effects are judged by the options that PyTorch would accept.
    let accepted: Vec<&str> = items
        .iter()
        .filter(|item| item.error.is_none())
        .map(|item| item.text.as_str())
        .collect();
    let whole = PoolConfiguration::parse(&accepted.join(",")).unwrap_or_default();
    let last_of = |name: &str| items.iter().rposition(|item| item.setting.name == name);
    (items.iter().enumerate())
        .map(|(place, item)| match &item.error {
            Some(error) => explain_error(item, error),
            None if last_of(&item.setting.name) != Some(place) => item.explained(
                Verdict::DoesNothing,
                "the same option is set again later, and the last one wins",
            ),
            None => match paste::misread(&item.text) {
                Some(meant) => item.misread(meant),
                None => explain_setting(item, &whole, platform),
            },
        })
        .collect()
}

/// A comma-separated part of the text.
struct Item {
    text: String,
    setting: Setting,
    error: Option<ConfigurationError>,
}

impl Item {
    fn read(part: &str, offset: usize) -> Item {
        let text: String = part.chars().filter(|character| *character != ' ').collect();
        let (name, value) = text.split_once(':').unwrap_or((&text, ""));
        let setting = Setting {
            name: name.to_owned(),
            value: value.to_owned(),
            offset,
        };
        let error = PoolConfiguration::parse(&text).err();
        Item {
            text,
            setting,
            error,
        }
    }

    fn explained(&self, verdict: Verdict, explanation: impl Into<String>) -> OptionExplanation {
        OptionExplanation {
            option: self.setting.name.clone(),
            value: self.setting.value.clone(),
            offset: self.setting.offset,
            verdict,
            explanation: explanation.into(),
            since: since_version(&self.setting.name),
            suggestion: None,
            measured: None,
        }
    }

    fn misread(&self, meant: String) -> OptionExplanation {
        let mut explanation = self.explained(
            Verdict::Misread,
            "PyTorch reads the digits at the start and ignores what follows: units, points and \
             separators are not for it",
        );
        explanation.suggestion = Some(meant);
        explanation
    }
}

fn explain_error(item: &Item, error: &ConfigurationError) -> OptionExplanation {
    let name = item.setting.name.split('=').next().unwrap_or_default();
    let is_misspelt = error.is_unknown_option() && similar_option(name).is_some();
    let verdict = if is_misspelt {
        Verdict::Misspelt
    } else {
        Verdict::Rejected
    };
    let mut explanation = item.explained(verdict, format!("PyTorch fails with: {error}"));
    // `CUDA_LAUNCH_BLOCKING=1`
    let variable = item.text.trim().split('=').next().unwrap_or_default();
    let capitals = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if error.is_unknown_option() && variable.contains('_') && variable.chars().all(capitals) {
        explanation.explanation = format!(
            "{variable} is an environment variable of its own and no option of the allocator; \
             among its options {}",
            explanation.explanation
        );
        return explanation;
    }
    explanation.suggestion = paste::corrected(&item.text);
    if let Some(option) = explanation
        .suggestion
        .as_deref()
        .and_then(|text| text.split(':').next())
    {
        explanation.since = since_version(option);
    }
    explanation
}

/// The first version that accepts an option, as text.
fn since_version(name: &str) -> Option<String> {
    let option = OPTIONS.iter().find(|option| option.name == name)?;
    Some(match option.since {
        (2, 6) => "2.6 or earlier".to_owned(),
        (major, minor) => format!("{major}.{minor}"),
    })
}

pub(super) fn similar_option(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    OPTIONS
        .iter()
        .map(|option| (distance(&name, option.name), option.name))
        .min()
        .filter(|&(edits, option)| edits * 3 <= option.len())
        .map(|(_, option)| option)
}

/// Edit distance of two texts.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, character) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (place, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(character != *other);
            diagonal = row[place + 1];
            row[place + 1] = replaced.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row[to.len()]
}

fn explain_setting(
    item: &Item,
    whole: &PoolConfiguration,
    platform: Platform,
) -> OptionExplanation {
    let name = item.setting.name.as_str();
    if platform == Platform::Cpu {
        return item.explained(
            Verdict::Unsupported,
            "without a device PyTorch does not use its caching allocator, whatever is set",
        );
    }
    if whole.backend == Backend::CudaMallocAsync && name != "backend" {
        return item.explained(
            Verdict::DoesNothing,
            "backend:cudaMallocAsync leaves memory to the driver and ignores this option",
        );
    }
    match name {
        "backend" => explain_backend(item, whole),
        "max_split_size_mb" => explain_max_split_size(item, whole, platform),
        "max_non_split_rounding_mb" if whole.max_split_size == u64::MAX => item.explained(
            Verdict::DoesNothing,
            "it limits how much too large an unsplittable block may be, and without max_split_size_mb every block can be split",
        ),
        "max_non_split_rounding_mb" => item.explained(
            Verdict::Works,
            "a request of max_split_size_mb or more takes a free block only if that is less than this much larger",
        ),
        "garbage_collection_threshold" => explain_collection(item, whole, platform),
        "roundup_power2_divisions" => explain_divisions(item, whole),
        "expandable_segments" => explain_expandable(item, whole, platform),
        "release_lock_on_cudamalloc" | "release_lock_on_hipmalloc" => {
            let verdict = if item.setting.value == "True" { Verdict::Works } else { Verdict::DoesNothing };
            item.explained(verdict, "it lets other threads allocate while one waits for the driver; memory use is the same")
        }
        _ if name.starts_with("pinned_") => {
            let mut explanation = item.explained(
                Verdict::DoesNothing,
                "it concerns pinned host memory; use of the device's memory is the same",
            );
            note_later(&mut explanation);
            explanation
        }
        "large_segment_size_mb" => {
            let mut explanation = item.explained(
                Verdict::Works,
                "segments for requests between 1 and 10 MiB, and the steps in which expandable segments grow, have \
                 this size in place of 20 MiB: a smaller one wastes less if few such blocks are live",
            );
            note_later(&mut explanation);
            explanation
        }
        "per_process_memory_fraction" => {
            let mut explanation = item.explained(
                Verdict::Works,
                "the pool never holds more than this share of the device, and garbage_collection_threshold becomes active",
            );
            note_later(&mut explanation);
            explanation
        }
        _ => {
            let mut explanation = item.explained(Verdict::DoesNothing, "ordinary allocations are served the same way");
            note_later(&mut explanation);
            explanation
        }
    }
}

fn note_later(explanation: &mut OptionExplanation) {
    let option = OPTIONS
        .iter()
        .find(|option| option.name == explanation.option);
    if let Some(option) = option.filter(|option| option.since > (2, 6)) {
        let (major, minor) = option.since;
        explanation.explanation +=
            &format!("; versions of PyTorch before {major}.{minor} fail with an error at it");
    }
}

fn explain_backend(item: &Item, whole: &PoolConfiguration) -> OptionExplanation {
    match whole.backend {
        Backend::Native => item.explained(Verdict::DoesNothing, "native is the default"),
        Backend::CudaMallocAsync => item.explained(
            Verdict::Works,
            "the driver's own pool (CUDA 11.4 or newer) replaces the caching allocator; its other options are ignored",
        ),
    }
}

fn explain_max_split_size(
    item: &Item,
    whole: &PoolConfiguration,
    platform: Platform,
) -> OptionExplanation {
    if whole.max_split_size > 1 << 50 {
        return item.explained(
            Verdict::DoesNothing,
            "a negative or huge size means no limit, which is the default",
        );
    }
    if whole.expandable_segments && platform.refuses_expandable_segments().is_none() {
        return harmful_pair(item, whole);
    }
    item.explained(
        Verdict::Works,
        "blocks of this size and more are neither split nor used for smaller requests. That helps against fragmentation by \
         large requests only if all of them are larger; where many sizes lie around it, each gets a segment of its own (a run of \
         requests between 90 and 310 MiB reserved 1,050 MiB with max_split_size_mb:64 instead of 610 MiB). The recorded speech \
         engine peaked at the same 3,588 MiB with and without it",
    )
}

/// Expandable segments with a split limit: the one combination known to leak by design.
fn harmful_pair(item: &Item, whole: &PoolConfiguration) -> OptionExplanation {
    let mut explanation = item.explained(
        Verdict::Harms,
        "expandable_segments and max_split_size_mb should not be combined: a free block that has grown past the limit serves no \
         smaller request any more, so memory grows with every burst. In PyTorch's own report, it grew from 220 to 14,060 MiB in \
         100 cycles. Keep the first and remove the second",
    );
    explanation.measured = if whole.max_split_size <= 64 << 20 {
        measured(
            8_757_706_752,
            "expandable_segments:True,max_split_size_mb:64",
        )
    } else {
        measured(
            5_249_171_456,
            "expandable_segments:True,max_split_size_mb:128",
        )
    };
    explanation.suggestion = Some("expandable_segments:True".to_owned());
    explanation
}

fn explain_collection(
    item: &Item,
    whole: &PoolConfiguration,
    platform: Platform,
) -> OptionExplanation {
    if whole.expandable_segments && platform.refuses_expandable_segments().is_none() {
        return item.explained(
            Verdict::DoesNothing,
            "whole free segments are collected, and expandable segments never are",
        );
    }
    if whole.per_process_memory_fraction.is_none() {
        let mut explanation = item.explained(
            Verdict::DoesNothing,
            "it is a share of the memory that the process may use, and nothing is collected unless that was limited with \
             torch.cuda.set_per_process_memory_fraction or, in later versions, by an option: set a limit, or remove this option",
        );
        explanation.suggestion = Some(format!("per_process_memory_fraction:1.0,{}", item.text));
        explanation.measured = measured(DEFAULT_BYTES, "garbage_collection_threshold:0.8");
        return explanation;
    }
    item.explained(
        Verdict::Works,
        "when a new segment is needed and more than this share of the allowed memory is reserved, free segments of large blocks are \
         released, least recently used first",
    )
}

fn explain_divisions(item: &Item, whole: &PoolConfiguration) -> OptionExplanation {
    let divisions = &whole.roundup_power2_divisions;
    let Some(&coarsest) = divisions.iter().filter(|&&divisions| divisions > 1).min() else {
        return item.explained(
            Verdict::DoesNothing,
            "0 and 1 mean no rounding, which is the default",
        );
    };
    let list_quirk = if item.setting.value.contains('>') {
        ". In PyTorch 2.6 the entry `>` also overwrites the interval named just before it"
    } else {
        ""
    };
    let mut explanation = item.explained(
        Verdict::Works,
        format!(
            "requests are rounded up to steps between powers of two, by up to {:.0} % of their size. That helps where sizes vary \
             little from call to call; the rounding itself costs memory{list_quirk}",
            100.0 / coarsest as f64
        ),
    );
    match coarsest {
        2 => explanation.measured = measured(4_037_017_600, "roundup_power2_divisions:2"),
        8 => explanation.measured = measured(3_797_942_272, "roundup_power2_divisions:8"),
        _ => {}
    }
    if coarsest <= 4 {
        explanation.verdict = Verdict::Harms;
        explanation.suggestion = Some("roundup_power2_divisions:16".to_owned());
        if coarsest == 4 {
            explanation.measured = measured(3_858_759_680, "roundup_power2_divisions:4");
        }
    }
    explanation
}

fn explain_expandable(
    item: &Item,
    whole: &PoolConfiguration,
    platform: Platform,
) -> OptionExplanation {
    if !whole.expandable_segments {
        return item.explained(Verdict::DoesNothing, "False is the default");
    }
    if let Some(reason) = platform.refuses_expandable_segments() {
        return item.explained(Verdict::Unsupported, format!("{reason}. Remove it"));
    }
    if whole.max_split_size <= 1 << 50 {
        return harmful_pair(item, whole);
    }
    let mut explanation = item.explained(
        Verdict::Works,
        "segments grow in place instead of being replaced, which avoids most fragmentation between sizes. Tensors in them cannot \
         be shared with other processes by CUDA IPC",
    );
    explanation.measured = measured(3_718_250_496, "expandable_segments:True");
    explanation
}
