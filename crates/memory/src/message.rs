//! Parser of PyTorch's out-of-memory message: of any version and device, within any text.

mod accelerator;
mod driver_pool;
mod explanation;
mod other_errors;

pub use accelerator::Accelerator;
pub use explanation::MessageExplanation;
pub use other_errors::other_error;

use driver_pool::DRIVER_POOL_MARK;
use serde::Serialize;

/// Bytes of a text that are searched for a message.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The figures of a message, in bytes. Figures that the message does not contain are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutOfMemoryMessage {
    /// The kind of device whose allocator refused.
    pub accelerator: Accelerator,
    /// Whether the driver's own pool refused (`backend:cudaMallocAsync`).
    pub driver_pool: bool,
    /// Whether the text shows that expandable segments do nothing there: by PyTorch's warning, or
    /// by paths of Windows.
    pub without_expandable_segments: bool,
    /// Device index.
    pub device: Option<u64>,
    /// Bytes requested.
    pub tried: u64,
    /// Bytes of the device.
    pub total: Option<u64>,
    /// Free bytes of the device.
    pub free: Option<u64>,
    /// Bytes in use by this process, contexts and libraries included.
    pub in_use: Option<u64>,
    /// Bytes in use by other processes.
    pub others_in_use: u64,
    /// Bytes that the process was allowed.
    pub allowed: Option<u64>,
    /// Bytes allocated by tensors.
    pub allocated: Option<u64>,
    /// Allocated bytes in private pools, such as those of CUDA graphs.
    pub private_pools: Option<u64>,
    /// Bytes reserved by the allocator but not allocated.
    pub unallocated: Option<u64>,
}

impl OutOfMemoryMessage {
    /// Finds and parses the last message in a text, such as a log.
    pub fn parse(text: &str) -> Option<OutOfMemoryMessage> {
        let text = plain(text);
        let message = OutOfMemoryMessage::parse_plain(&text).or_else(|| {
            let bare = without_prefixes(&text)?;
            OutOfMemoryMessage::parse_plain(&bare)
        })?;
        let without_expandable_segments = text
            .contains("expandable_segments not supported on this platform")
            || is_windows(&text);
        Some(OutOfMemoryMessage {
            without_expandable_segments,
            ..message
        })
    }

    fn parse_plain(text: &str) -> Option<OutOfMemoryMessage> {
        // Terminals and logs wrap the message.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let request = text.rfind("Tried to allocate ");
        let driver_pool = text.rfind(DRIVER_POOL_MARK);
        if let Some(begin) = driver_pool.filter(|&begin| request.is_none_or(|place| place < begin))
        {
            let message = OutOfMemoryMessage::parse_driver_pool(&text, begin);
            if message.is_some() {
                return message;
            }
        }
        let begin = request?;
        let end = text[begin..]
            .find("Traceback")
            .map_or(text.len(), |end| begin + end);
        let accelerator = Accelerator::of(&text[..end], begin);
        if accelerator == Accelerator::Mps {
            return OutOfMemoryMessage::parse_mps(&text[..end], begin);
        }
        let text = &text[begin..end];
        let tried = size_after(text, "Tried to allocate ")?;
        let reserved = size_before(text, " reserved in total");
        let allocated = size_before(text, " is allocated by PyTorch")
            .or_else(|| size_before(text, " already allocated"));
        let unallocated = size_before(text, " is reserved by PyTorch but unallocated")
            .or_else(|| Some(reserved?.saturating_sub(allocated?)))
            // PyTorch before 1.4
            .or_else(|| size_before(text, " cached"));
        let total = size_after(text, "total capacity of ")
            .or_else(|| size_after(text, "total capacty of "))
            .or_else(|| size_before(text, " total capacity"));
        let mut others: Vec<u64> = (text.split("Process ").skip(1))
            .filter_map(|part| size_after(part, "has "))
            .collect();
        let mut in_use = size_after(text, "this process has ");
        if in_use.is_none() {
            let own = allocated
                .unwrap_or(0)
                .saturating_add(unallocated.unwrap_or(0));
            in_use = take_own(&mut others, own, total);
        }
        Some(OutOfMemoryMessage {
            accelerator,
            driver_pool: false,
            without_expandable_segments: false,
            device: number_after(text, "GPU ").or_else(|| number_after(text, "NPU ")),
            tried,
            total,
            free: size_before(text, " is free").or_else(|| size_before(text, " free")),
            in_use,
            others_in_use: others.into_iter().fold(0, u64::saturating_add),
            allowed: size_before(text, " allowed"),
            allocated,
            private_pools: size_before(text, " allocated in private pools"),
            unallocated,
        })
    }

    /// Parses the message of Apple's GPUs, whose figures precede the request at `begin`.
    fn parse_mps(text: &str, begin: usize) -> Option<OutOfMemoryMessage> {
        let sentence = text[..begin].rfind("(MPS allocated: ").unwrap_or(begin);
        let figures = &text[sentence..];
        let allocated = size_after(figures, "MPS allocated: ");
        let others = size_after(figures, "other allocations: ");
        Some(OutOfMemoryMessage {
            accelerator: Accelerator::Mps,
            tried: size_after(&text[begin..], "Tried to allocate ")?,
            in_use: allocated.map(|bytes| bytes.saturating_add(others.unwrap_or(0))),
            allowed: size_after(figures, "max allowed: "),
            allocated,
            ..OutOfMemoryMessage::default()
        })
    }
}

/// A text without a terminal's colours and a web page's spaces.
fn plain(text: &str) -> String {
    let text = text.replace("&nbsp;", " ");
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|character: char| character.is_ascii_alphabetic());
        plain.push_str(end.map_or("", |end| &part[end + 1..]));
    }
    plain
}

/// Whether a text has a path of Windows, as a traceback there has.
fn is_windows(text: &str) -> bool {
    text.match_indices(":\\").any(|(place, _)| {
        let mut before = text[..place].chars().rev();
        let drive = before.next();
        drive.is_some_and(|drive| drive.is_ascii_alphabetic())
            && !before.next().is_some_and(char::is_alphanumeric)
    })
}

/// The text without what a log puts before each line, if the line of the last message and the one
/// after it begin alike, up to digits.
fn without_prefixes(text: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let first = lines
        .iter()
        .rposition(|line| line.contains("Tried to allocate"))?;
    let (one, next) = (lines[first], lines.get(first + 1)?);
    let alike = |(a, b): &(char, char)| a == b || a.is_ascii_digit() && b.is_ascii_digit();
    let prefix: String = (one.chars().zip(next.chars()))
        .take_while(alike)
        .map(|(character, _)| character)
        .collect();
    // It ends with a word.
    let length = prefix.rfind(' ')?;
    let bare = lines[first..]
        .iter()
        .map(|line| line.get(length..).unwrap_or_default());
    Some(bare.collect::<Vec<_>>().join(" "))
}

/// Takes this process's figure out of those of all processes. In a container, PyTorch does not find
/// itself among the numbers of processes that the driver knows, and lists itself as another one:
/// the figures and its `own` bytes are then more than the device has.
fn take_own(processes: &mut Vec<u64>, own: u64, total: Option<u64>) -> Option<u64> {
    let all = processes.iter().copied().fold(own, u64::saturating_add);
    if own == 0 || all <= total? {
        return None;
    }
    let candidates = (0..processes.len()).filter(|&index| processes[index] >= own);
    let index = candidates.min_by_key(|&index| processes[index])?;
    Some(processes.remove(index))
}

/// Parses a size at the start of a text, such as `1.50 GiB`.
fn size(text: &str) -> Option<u64> {
    let mut words = text
        .split([' ', ';', ',', ')', '('])
        .filter(|word| !word.is_empty());
    let number: f64 = words.next()?.parse().ok()?;
    let unit = words.next()?.trim_end_matches(['.', ';', ',', ')']);
    let unit: f64 = match unit {
        "bytes" | "B" => 1.0,
        "KiB" | "KB" => 1024.0,
        "MiB" | "MB" => 1_048_576.0,
        "GiB" | "GB" => 1_073_741_824.0,
        "TiB" | "TB" => 1_099_511_627_776.0,
        _ => return None,
    };
    // Casts of floats saturate.
    (number.is_finite() && number >= 0.0).then_some((number * unit) as u64)
}

fn size_after(text: &str, mark: &str) -> Option<u64> {
    size(&text[text.find(mark)? + mark.len()..])
}

/// The size whose two words precede the first occurrence of `mark` that has one.
fn size_before(text: &str, mark: &str) -> Option<u64> {
    text.match_indices(mark).find_map(|(place, _)| {
        let before = &text[..place];
        let unit = before.rfind(' ')?;
        let number = before[..unit]
            .rfind([' ', '('])
            .map_or(0, |place| place + 1);
        size(&before[number..])
    })
}

fn number_after(text: &str, mark: &str) -> Option<u64> {
    let rest = &text[text.find(mark)? + mark.len()..];
    let end = rest.find(|character: char| !character.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: f64 = 1_073_741_824.0;
    const MIB: f64 = 1_048_576.0;

    #[test]
    fn a_current_message_is_parsed() {
        let message = OutOfMemoryMessage::parse(
            "Traceback (most recent call last):\n  File \"/w/train.py\", line 42, in forward\n\
             torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 1 has a total capacity of \
             23.69 GiB of which 1.19 GiB is free.\nProcess 1234 has 3.00 GiB memory in use. Including non-PyTorch \
             memory, this process has 19.50 GiB memory in use. 20.00 GiB allowed; Of the allocated memory 15.00 GiB \
             is allocated by PyTorch, with 512.00 MiB allocated in private pools (e.g., CUDA Graphs), and 3.25 GiB \
             is reserved by PyTorch but unallocated. If reserved but unallocated memory is large try setting \
             PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation.",
        )
        .unwrap();
        let expected = OutOfMemoryMessage {
            accelerator: Accelerator::Cuda,
            driver_pool: false,
            without_expandable_segments: false,
            device: Some(1),
            tried: (2.0 * GIB) as u64,
            total: Some((23.69 * GIB) as u64),
            free: Some((1.19 * GIB) as u64),
            in_use: Some((19.5 * GIB) as u64),
            others_in_use: (3.0 * GIB) as u64,
            allowed: Some((20.0 * GIB) as u64),
            allocated: Some((15.0 * GIB) as u64),
            private_pools: Some((512.0 * MIB) as u64),
            unallocated: Some((3.25 * GIB) as u64),
        };
        assert_eq!(message, expected);
        let explanation = message.explain();
        assert!(
            explanation.findings[0].contains("fragmentation"),
            "{explanation:?}"
        );
        assert!(explanation.line.is_some());
        let all = explanation.findings.join(" ");
        for words in [
            "was allowed 20.00 GiB",
            "Other processes had 3.00 GiB",
            "private pools",
        ] {
            assert!(all.contains(words), "{all}");
        }
    }

    #[test]
    fn a_request_that_the_free_memory_would_have_served_is_not_called_fragmentation() {
        let with_free = |free: &str| {
            let text = format!(
                "RuntimeError: CUDA out of memory. Tried to allocate 12.50 MiB (GPU 0; 10.92 GiB total \
                 capacity; 8.57 MiB already allocated; {free} free; 14.00 MiB reserved in total by PyTorch)"
            );
            OutOfMemoryMessage::parse(&text).unwrap().explain()
        };
        let ample = with_free("9.28 GiB");
        assert!(
            ample.findings[0].contains("9.28 GiB were free"),
            "{ample:?}"
        );
        assert_eq!(ample.line, None);
        // What the driver hands out comes in steps of 2 MiB.
        let scarce = with_free("13.00 MiB");
        assert!(!scarce.findings[0].contains("were free on"), "{scarce:?}");
    }

    #[test]
    fn an_older_message_is_parsed() {
        let message = OutOfMemoryMessage::parse(
            "RuntimeError: CUDA out of memory. Tried to allocate 734.00 MiB (GPU 0; 7.79 GiB total capacity; 5.20 GiB \
             already allocated; 603.94 MiB free; 5.23 GiB reserved in total by PyTorch) If reserved memory is >> \
             allocated memory try setting max_split_size_mb to avoid fragmentation.",
        )
        .unwrap();
        assert_eq!(message.device, Some(0));
        assert_eq!(message.tried, (734.0 * MIB) as u64);
        assert_eq!(message.total, Some((7.79 * GIB) as u64));
        assert_eq!(message.free, Some((603.94 * MIB) as u64));
        assert_eq!(message.allocated, Some((5.2 * GIB) as u64));
        let unallocated = message.unallocated.unwrap() as f64 / GIB;
        assert!((unallocated - 0.03).abs() < 1e-6);
        let explanation = message.explain();
        assert!(
            explanation.findings[0].contains("no option of the allocator helps"),
            "{explanation:?}"
        );
        assert!(
            explanation.findings[1].contains("outside of PyTorch's allocator"),
            "{explanation:?}"
        );
        assert_eq!(explanation.line, None);
    }

    #[test]
    fn a_message_is_found_behind_prefixes_and_in_colours() {
        for text in [
            "2026-01-02 10:11:12,001 ERROR worker OutOfMemoryError: CUDA out of memory. Tried to allocate\n\
             2026-01-02 10:11:12,104 ERROR worker 2.00 GiB. GPU 0 has a total capacity of 23.69 GiB of which\n\
             2026-01-02 10:11:13,005 ERROR worker 1.19 GiB is free.",
            "\u{1b}[31mCUDA out of memory.\u{1b}[0m Tried to allocate \u{1b}[1m2.00 GiB\u{1b}[0m. GPU 0 has a total \
             capacity of 23.69 GiB of which 1.19 GiB is free.",
            "CUDA out of memory. Tried to allocate 2.00&nbsp;GiB. GPU 0 has a total capacity of 23.69&nbsp;GiB of \
             which 1.19&nbsp;GiB is free.",
        ] {
            let message = OutOfMemoryMessage::parse(text).unwrap();
            let expected = OutOfMemoryMessage {
                device: Some(0),
                tried: 2 << 30,
                total: Some((23.69 * GIB) as u64),
                free: Some((1.19 * GIB) as u64),
                ..OutOfMemoryMessage::default()
            };
            assert_eq!(message, expected, "{text}");
        }
        let old = "Tried to allocate 196.00 MiB (GPU 0; 10.92 GiB total capacity; 9.70 GiB already allocated; \
                   158.06 MiB free; 402.50 MiB cached)";
        let old = OutOfMemoryMessage::parse(old).unwrap();
        assert_eq!(old.unallocated, Some((402.5 * MIB) as u64));
    }

    #[test]
    fn in_a_container_the_process_itself_is_not_taken_for_another() {
        let message = |others: &str| {
            let text = format!(
                "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 1 has a total \
                 capacty of 23.69 GiB of which 18.25 MiB is free. {others} Of the allocated memory 15.31 GiB is \
                 allocated by PyTorch, and 1.05 GiB is reserved by PyTorch but unallocated."
            );
            OutOfMemoryMessage::parse(&text).unwrap()
        };
        let alone = message("Process 1234 has 23.66 GiB memory in use.");
        assert_eq!(alone.in_use, Some((23.66 * GIB) as u64));
        assert_eq!(alone.others_in_use, 0);
        let shared = message(
            "Process 12 has 6.60 GiB memory in use. Process 34 has 17.06 GiB memory in use.",
        );
        assert_eq!(shared.in_use, Some((17.06 * GIB) as u64));
        assert_eq!(shared.others_in_use, (6.6 * GIB) as u64);
        let other = message("Process 12 has 6.60 GiB memory in use.");
        assert_eq!(
            (other.in_use, other.others_in_use),
            (None, (6.6 * GIB) as u64)
        );
    }

    #[test]
    fn errors_of_other_allocators_are_told_from_messages() {
        for (text, words) in [
            (
                "RuntimeError: [enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory: you \
                 tried to allocate 8589934592 bytes.",
                "host",
            ),
            ("RuntimeError: CUDA error: out of memory", "outside"),
            ("RuntimeError: HIP error: out of memory", "rocm-smi"),
            (
                "RuntimeError: level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
                "Intel",
            ),
            ("RuntimeError: Invalid buffer size: 20.00 GB", "Apple"),
            (
                "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate",
                "JAX",
            ),
            (
                "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 131072",
                "Triton",
            ),
            (
                "CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
                "outside",
            ),
            (
                "RuntimeError: cuda runtime error (2) : out of memory at aten/src/THC/THCStorage.cu:58",
                "outside",
            ),
            ("NCCL WARN Cuda failure 2 'out of memory'", "outside"),
            (
                "Out of memory: Killed process 812 (python3) total-vm:61230000kB",
                "host",
            ),
            (
                "OSError: [WinError 1455] The paging file is too small for this operation to complete.",
                "host",
            ),
            (
                "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 1024",
                "ONNX Runtime",
            ),
            (
                "torch.OutOfMemoryError: Allocation on device \nGot an OOM, unloading all loaded models.",
                "cudaMallocAsync",
            ),
        ] {
            assert_eq!(OutOfMemoryMessage::parse(text), None, "{text}");
            assert!(other_error(text).unwrap().contains(words), "{text}");
        }
        for text in [
            "RuntimeError: shape mismatch",
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate",
        ] {
            assert_eq!(other_error(text), None, "{text}");
        }
    }

    #[test]
    fn the_message_of_the_drivers_own_pool_is_parsed() {
        let message = OutOfMemoryMessage::parse(
            "torch.OutOfMemoryError: Allocation on device 0 would exceed allowed memory. (out of memory)\n\
             Currently allocated     : 10.50 GiB\n\
             Requested               : 26.25 MiB\n\
             Device limit            : 12.00 GiB\n\
             Free (according to CUDA): 0 bytes\n\
             PyTorch limit (set by user-supplied memory fraction)\n\
             \x20                       : 17179869184.00 GiB",
        )
        .unwrap();
        let expected = OutOfMemoryMessage {
            driver_pool: true,
            device: Some(0),
            tried: (26.25 * MIB) as u64,
            total: Some(12 << 30),
            free: Some(0),
            allocated: Some((10.5 * GIB) as u64),
            ..OutOfMemoryMessage::default()
        };
        assert_eq!(message, expected);
        let explanation = message.explain();
        let [refusal, elsewhere] = &explanation.findings[..] else {
            panic!("{explanation:?}");
        };
        assert!(refusal.contains("backend:cudaMallocAsync"), "{refusal}");
        assert!(elsewhere.contains("1.50 GiB"), "{elsewhere}");
        assert_eq!(explanation.line, None);
    }

    #[test]
    fn expandable_segments_are_not_advised_where_the_text_shows_that_they_do_nothing() {
        let request = "CUDA out of memory. Tried to allocate 900.00 MiB (GPU 0; 8.00 GiB total capacity; 6.06 GiB \
                       already allocated; 0 bytes free; 7.23 GiB reserved in total by PyTorch)";
        let explained = |before: &str| {
            let text = format!("{before}\ntorch.cuda.OutOfMemoryError: {request}");
            OutOfMemoryMessage::parse(&text).unwrap().explain()
        };
        for before in [
            "  File \"C:\\webui\\venv\\lib\\site-packages\\torch\\nn\\modules\\conv.py\", line 459, in forward",
            "UserWarning: expandable_segments not supported on this platform (Triggered internally at ...)",
        ] {
            let explanation = explained(before);
            assert_eq!(explanation.line, None, "{before}");
            let finding = &explanation.findings[0];
            assert!(finding.contains("max_split_size_mb:512"), "{finding}");
            assert!(!finding.contains("on Linux"), "{finding}");
        }
        for before in ["  File \"/w/train.py\", line 42, in forward", "step:\\n"] {
            assert!(explained(before).line.is_some(), "{before}");
        }
    }

    #[test]
    fn a_message_is_explained_with_the_options_of_its_own_device() {
        let figures = "GPU 0 has a total capacity of 15.92 GiB of which 0.12 GiB is free. Of the allocated memory 8.08 \
                       GiB is allocated by PyTorch, and 7.02 GiB is reserved by PyTorch but unallocated.";
        for (beginning, accelerator, variable, monitor) in [
            (
                "torch.cuda.OutOfMemoryError: CUDA",
                Accelerator::Cuda,
                "PYTORCH_CUDA_ALLOC_CONF",
                "nvidia-smi",
            ),
            (
                "[rank3]: torch.OutOfMemoryError: HIP",
                Accelerator::Rocm,
                "PYTORCH_HIP_ALLOC_CONF",
                "rocm-smi",
            ),
            (
                "torch.OutOfMemoryError: XPU",
                Accelerator::Xpu,
                "PYTORCH_ALLOC_CONF",
                "xpu-smi",
            ),
            (
                "RuntimeError: NPU",
                Accelerator::Npu,
                "PYTORCH_NPU_ALLOC_CONF",
                "npu-smi",
            ),
        ] {
            let text =
                format!("{beginning} out of memory. Tried to allocate 432.00 MiB. {figures}");
            let message = OutOfMemoryMessage::parse(&text).unwrap();
            assert_eq!(message.accelerator, accelerator, "{text}");
            let explanation = message.explain();
            let line = explanation.line.clone().unwrap();
            assert_eq!(line, format!("export {variable}=expandable_segments:True"));
            let shared = format!("{text} Process 7 has 3.00 GiB memory in use.");
            let shared = OutOfMemoryMessage::parse(&shared).unwrap().explain();
            let words = shared.findings.join(" ");
            assert!(words.contains(monitor), "{words}");
            let foreign = ["nvidia-smi", "NVIDIA"];
            let is_foreign = foreign.iter().any(|name| words.contains(name));
            assert!(accelerator == Accelerator::Cuda || !is_foreign, "{words}");
        }
        // Older words, a beginning that was cut off, and an extension that nobody here knows.
        for (text, accelerator, device) in [
            (
                "NPU out of memory. Tried to allocate 260.00 MiB (NPU 3; 28.50 GiB total capacity; 10.24 GiB already \
                 allocated; 149.57 MiB free; 10.28 GiB reserved in total by PyTorch)",
                Accelerator::Npu,
                Some(3),
            ),
            (
                "Current platform can NOT allocate memory block with size larger than 4GB! Tried to allocate 6.85 GiB \
                 (GPU  0; 15.56 GiB total capacity; 0 bytes already allocated; 0 bytes reserved in total by PyTorch)",
                Accelerator::Xpu,
                Some(0),
            ),
            (
                "Tried to allocate 2.00 MiB. GPU 1 has a total capacity of 24.00 GiB of which 0 bytes is free. If \
                 reserved but unallocated memory is large try setting PYTORCH_HIP_ALLOC_CONF=expandable_segments:True",
                Accelerator::Rocm,
                Some(1),
            ),
            (
                "RuntimeError: MUSA out of memory. Tried to allocate 2.00 MiB (GPU 0; 31.00 GiB total capacity)",
                Accelerator::Other,
                Some(0),
            ),
        ] {
            let message = OutOfMemoryMessage::parse(text).unwrap();
            assert_eq!(
                (message.accelerator, message.device),
                (accelerator, device),
                "{text}"
            );
            let explanation = message.explain();
            let words = explanation.findings.join(" ");
            assert!(
                !words.contains("nvidia-smi") && explanation.line.is_none(),
                "{explanation:?}"
            );
        }
    }

    #[test]
    fn a_message_of_apples_gpus_is_explained_by_its_limit() {
        let message = OutOfMemoryMessage::parse(
            "RuntimeError: MPS backend out of memory (MPS allocated: 16.00 GB, other allocations: 3.31 GB, max allowed: \
             18.13 GB). Tried to allocate 256 bytes on shared pool. Use PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0 to disable \
             upper limit for memory allocations (may cause system failure).",
        )
        .unwrap();
        let expected = OutOfMemoryMessage {
            accelerator: Accelerator::Mps,
            tried: 256,
            in_use: Some((16.0 * GIB) as u64 + (3.31 * GIB) as u64),
            allowed: Some((18.13 * GIB) as u64),
            allocated: Some((16.0 * GIB) as u64),
            ..OutOfMemoryMessage::default()
        };
        assert_eq!(message, expected);
        let explanation = message.explain();
        assert!(
            explanation.findings[0].contains("18.13 GiB"),
            "{explanation:?}"
        );
        let words = explanation.findings.join(" ");
        assert!(words.contains("PYTORCH_MPS_LOW_WATERMARK_RATIO"), "{words}");
        assert_eq!(explanation.line, None, "no limit at all is no advice");
        let cut = OutOfMemoryMessage::parse(
            "(MPS allocated: 5.00 GB, max allowed: 6.80 GB). Tried to allocate 7.25 GB on private pool.",
        );
        let cut = cut.unwrap();
        assert_eq!(cut.accelerator, Accelerator::Mps);
        assert!(cut.explain().findings[0].contains("larger than the 6.80 GiB"));
    }

    #[test]
    fn other_texts_are_not_messages_and_odd_figures_are_harmless() {
        for text in [
            "",
            "RuntimeError: shape mismatch",
            "Tried to allocate",
            "Tried to allocate a lot. GPU",
        ] {
            assert_eq!(OutOfMemoryMessage::parse(text), None, "{text}");
        }
        let odd = "Tried to allocate 1e30 GiB. GPU 99999999999999999999 has a total capacity of NaN GiB, -1 GiB is free";
        let message = OutOfMemoryMessage::parse(odd).unwrap();
        assert_eq!(
            (message.tried, message.device, message.total, message.free),
            (u64::MAX, None, None, None)
        );
        message.explain();
        let huge = OutOfMemoryMessage::parse(
            "Tried to allocate 80.00 GiB. GPU 0 has a total capacity of 24.00 GiB",
        );
        assert!(
            huge.unwrap().explain().findings[0].contains("larger than all memory of the device")
        );
    }
}
