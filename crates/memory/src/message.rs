//! Parser of PyTorch's out-of-memory message: of any version, within any text.

use crate::stats::Bytes;
use serde::Serialize;

/// Bytes of a text that are searched for a message.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Rough size of a CUDA context and its libraries, beside PyTorch's memory. Anything more belongs
/// to another process.
const CONTEXT_BYTES: u64 = 1 << 30;

/// Marks of errors that PyTorch's allocator for CUDA, ROCm and XPU did not raise, and what they
/// say.
const OTHER_ERRORS: [(&[&str], &str); 3] = [
    (
        &["MPS backend out of memory"],
        "it is of Apple's GPU, whose allocator has settings of its own, such as PYTORCH_MPS_HIGH_WATERMARK_RATIO",
    ),
    (
        &[
            "DefaultCPUAllocator",
            "not enough memory: you tried to allocate",
        ],
        "it is of the host's memory, of which the system had too little, not of a device's",
    ),
    (
        &[
            "CUDA error: out of memory",
            "CUDA_ERROR_OUT_OF_MEMORY",
            "cudaErrorMemoryAllocation",
            "CUBLAS_STATUS_ALLOC_FAILED",
            "CUDNN_STATUS_ALLOC_FAILED",
        ],
        "the device was full for a call outside of PyTorch's allocator, such as a context or a library's workspace: \
         nvidia-smi shows who holds it, and torch.cuda.empty_cache() gives the allocator's cache back",
    ),
];

/// What an out-of-memory error says that is in the text and that PyTorch's allocator for CUDA, ROCm
/// and XPU did not raise.
pub fn other_error(text: &str) -> Option<&'static str> {
    let found = |marks: &&[&str]| marks.iter().any(|mark| text.contains(mark));
    let (_, meaning) = OTHER_ERRORS.iter().find(|(marks, _)| found(marks))?;
    Some(meaning)
}

/// The figures of a message, in bytes. Figures that the message does not contain are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutOfMemoryMessage {
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

/// Interpretation of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The figures.
    pub message: OutOfMemoryMessage,
    /// Findings, one sentence each, most important first.
    pub findings: Vec<String>,
    /// A line of shell to try, if an allocator option could have satisfied the request.
    pub line: Option<String>,
}

impl OutOfMemoryMessage {
    /// Finds and parses the last message in a text, such as a log.
    pub fn parse(text: &str) -> Option<OutOfMemoryMessage> {
        // Terminals and logs wrap the message.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let begin = text.rfind("Tried to allocate ")?;
        let sentence = text[..begin].rfind("out of memory");
        if sentence.is_some_and(|sentence| text[..sentence].ends_with("MPS backend ")) {
            return None;
        }
        let end = text[begin..]
            .find("Traceback")
            .map_or(text.len(), |end| begin + end);
        let text = &text[begin..end];
        let tried = size_after(text, "Tried to allocate ")?;
        let reserved = size_before(text, " reserved in total");
        let allocated = size_before(text, " is allocated by PyTorch")
            .or_else(|| size_before(text, " already allocated"));
        let unallocated = size_before(text, " is reserved by PyTorch but unallocated")
            .or_else(|| Some(reserved?.saturating_sub(allocated?)));
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
            device: number_after(text, "GPU "),
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

    /// Interprets the figures.
    pub fn explain(&self) -> Explanation {
        let mut findings = Vec::new();
        let mut line = None;
        let tried = Bytes(self.tried);
        let limit = match (self.total, self.allowed) {
            (Some(total), Some(allowed)) => Some(total.min(allowed)),
            (total, allowed) => total.or(allowed),
        };
        if limit.is_some_and(|limit| self.tried > limit) {
            findings.push(format!(
                "The request for {tried} is larger than all memory of the device: the program must ask for less, \
                 for example by smaller batches or shorter inputs."
            ));
        }
        let unallocated = self.unallocated.unwrap_or(0);
        let is_limited = self
            .allowed
            .is_some_and(|allowed| self.total.is_none_or(|total| allowed < total));
        let free = self
            .free
            .filter(|&free| !is_limited && free >= segment(self.tried));
        if let (true, Some(free)) = (findings.is_empty(), free) {
            findings.push(format!(
                "{} were free on the device, more than the {tried} requested: no option of the allocator helps. The \
                 driver refused for another reason, such as a limit of a virtual GPU, of WSL or of a container, or \
                 another process gave memory back in between: nvidia-smi shows who comes and goes.",
                Bytes(free)
            ));
        }
        if findings.is_empty() && unallocated >= self.tried {
            findings.push(format!(
                "The allocator had {} reserved but unallocated, more than the {tried} requested, but in pieces: this is \
                 fragmentation, which expandable segments reduce (on Linux, with a GPU not shared with others).",
                Bytes(unallocated)
            ));
            line = Some("export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True".to_owned());
        } else if findings.is_empty()
            && unallocated.saturating_add(self.free.unwrap_or(0)) >= self.tried
        {
            findings.push(format!(
                "{} unallocated in the pool and {} free on the device would together have been enough for {tried}: \
                 expandable segments can join them (on Linux, with a GPU not shared with others).",
                Bytes(unallocated),
                Bytes(self.free.unwrap_or(0))
            ));
            line = Some("export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True".to_owned());
        } else if let (true, Some(allocated)) = (findings.is_empty(), self.allocated) {
            findings.push(format!(
                "{} were in use by tensors and only {} were unallocated: no option of the allocator helps, the program \
                 must use less memory (smaller batches, lower precision, fewer copies).",
                Bytes(allocated),
                Bytes(unallocated)
            ));
        }
        if let Some(allowed) = self
            .allowed
            .filter(|&allowed| self.total.is_none_or(|total| allowed < total))
        {
            findings.push(format!(
                "The process was allowed {} of the device (set_per_process_memory_fraction or \
                 per_process_memory_fraction).",
                Bytes(allowed)
            ));
        }
        let own = self.allocated.unwrap_or(0).saturating_add(unallocated);
        if self.others_in_use > 0 {
            findings.push(format!(
                "Other processes had {} of the device in use: nvidia-smi shows them.",
                Bytes(self.others_in_use)
            ));
        } else if let (Some(total), Some(free)) = (self.total, self.free) {
            let elsewhere = total.saturating_sub(free).saturating_sub(own);
            if self.allocated.is_some() && elsewhere > CONTEXT_BYTES {
                findings.push(format!(
                    "{} of the device were in use outside of PyTorch's allocator: by other processes, which \
                     nvidia-smi shows, or by libraries.",
                    Bytes(elsewhere)
                ));
            }
        }
        if let Some(pools) = self.private_pools.filter(|&pools| pools > 0) {
            findings.push(format!(
                "{} belong to private pools, such as those of CUDA graphs, which serve no other requests.",
                Bytes(pools)
            ));
        }
        Explanation {
            message: self.clone(),
            findings,
            line,
        }
    }
}

/// Bytes that the allocator asks the driver for to serve a request that finds no free block.
fn segment(request: u64) -> u64 {
    const SMALL: u64 = 2 << 20;
    const MIDDLE: u64 = 20 << 20;
    match request {
        0..=0x10_0000 => SMALL,
        0x10_0001..0xa0_0000 => MIDDLE,
        _ => request.checked_next_multiple_of(SMALL).unwrap_or(u64::MAX),
    }
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
                "RuntimeError: MPS backend out of memory (MPS allocated: 17.03 GB, other allocations: 1.05 GB, max \
                 allowed: 18.13 GB). Tried to allocate 512.00 MB on private pool.",
                "Apple",
            ),
            (
                "RuntimeError: [enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory: you \
                 tried to allocate 8589934592 bytes.",
                "host",
            ),
            ("RuntimeError: CUDA error: out of memory", "outside"),
            (
                "CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
                "outside",
            ),
        ] {
            assert_eq!(OutOfMemoryMessage::parse(text), None, "{text}");
            assert!(other_error(text).unwrap().contains(words), "{text}");
        }
        assert_eq!(other_error("RuntimeError: shape mismatch"), None);
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
