//! Kinds of devices, each with an allocator and options of its own.

use serde::Serialize;

/// The kind of device whose allocator raised a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Accelerator {
    /// NVIDIA's GPUs.
    #[default]
    Cuda,
    /// AMD's GPUs, under ROCm and HIP.
    Rocm,
    /// Intel's GPUs.
    Xpu,
    /// Apple's GPUs.
    Mps,
    /// Huawei's Ascend.
    Npu,
    /// A device of another extension of PyTorch.
    Other,
}

impl Accelerator {
    /// The kind that a message names whose request begins at `begin` of `text`: before "out of
    /// memory", or, where the beginning is cut off, by the options that the message recommends.
    pub(super) fn of(text: &str, begin: usize) -> Accelerator {
        let (before, after) = text.split_at(begin);
        // The sentence of this request, not that of an earlier one in a log.
        let near = before.len() - before.len().min(SENTENCE_BYTES);
        let near = (near..=before.len()).find(|&place| before.is_char_boundary(place));
        let before = &before[near.unwrap_or(before.len())..];
        if before.contains("NOT allocate memory block with size larger than") {
            return Accelerator::Xpu;
        }
        let named = before.rsplit_once(" out of memory").map(|(name, _)| name);
        match named.and_then(|name| name.rsplit(' ').next()) {
            Some("CUDA") => Accelerator::Cuda,
            Some("HIP") => Accelerator::Rocm,
            Some("XPU") => Accelerator::Xpu,
            Some("NPU") => Accelerator::Npu,
            Some("backend") if before.contains("MPS backend") => Accelerator::Mps,
            // A word of capitals is a device's kind; anything else is the log's.
            Some(name) if is_kind(name) => Accelerator::Other,
            _ if before.contains("(MPS allocated: ") => Accelerator::Mps,
            _ if after.contains("PYTORCH_HIP_ALLOC_CONF") => Accelerator::Rocm,
            _ if after.contains("NPU ") => Accelerator::Npu,
            _ => Accelerator::Cuda,
        }
    }

    /// The program that shows who uses a device.
    pub(super) fn monitor(self) -> &'static str {
        match self {
            Accelerator::Cuda => "nvidia-smi",
            Accelerator::Rocm => "rocm-smi",
            Accelerator::Xpu => "xpu-smi",
            Accelerator::Npu => "npu-smi",
            Accelerator::Mps => "Activity Monitor",
            Accelerator::Other => "the vendor's monitor",
        }
    }

    /// Where expandable segments work.
    pub(super) fn where_expandable(self) -> &'static str {
        match self {
            Accelerator::Cuda => "on Linux, with a GPU not shared with others",
            Accelerator::Rocm => "where PyTorch was built for ROCm 7 or newer",
            Accelerator::Xpu => "in recent versions of PyTorch",
            _ => "where the extension knows them",
        }
    }

    /// A line of shell that switches expandable segments on, if the allocator has them.
    pub(super) fn expandable_segments(self) -> Option<&'static str> {
        match self {
            Accelerator::Cuda => Some("export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"),
            Accelerator::Rocm => Some("export PYTORCH_HIP_ALLOC_CONF=expandable_segments:True"),
            Accelerator::Xpu => Some("export PYTORCH_ALLOC_CONF=expandable_segments:True"),
            Accelerator::Npu => Some("export PYTORCH_NPU_ALLOC_CONF=expandable_segments:True"),
            Accelerator::Mps | Accelerator::Other => None,
        }
    }

    /// What the allocator's options are, where they differ from those for CUDA.
    pub(super) fn options(self) -> Option<&'static str> {
        match self {
            Accelerator::Cuda => None,
            Accelerator::Rocm => Some(
                "This is PyTorch's allocator for AMD's GPUs (ROCm): its options are those for CUDA, in \
                 PYTORCH_HIP_ALLOC_CONF, PYTORCH_CUDA_ALLOC_CONF or, in recent versions, PYTORCH_ALLOC_CONF. Where it \
                 warns that expandable segments are not supported on this platform they do nothing, and \
                 max_split_size_mb:512 is the option to try.",
            ),
            Accelerator::Xpu => Some(
                "This is PyTorch's allocator for Intel's GPUs (XPU): recent versions read PYTORCH_ALLOC_CONF; older ones, \
                 and Intel's extension, have no options, and only torch.xpu.empty_cache() gives their cache back.",
            ),
            Accelerator::Mps => Some(
                "This is PyTorch's allocator for Apple's GPUs (MPS). The limit is PYTORCH_MPS_HIGH_WATERMARK_RATIO (1.7 \
                 unless set) times the size that Apple recommends for the GPU (torch.mps.recommended_max_memory()); 0.0 \
                 removes it, and the whole system may then run out of memory. From PYTORCH_MPS_LOW_WATERMARK_RATIO times \
                 that size on (1.4 where memory is unified; not above the other) PyTorch frees what it keeps. \
                 torch.mps.empty_cache() gives the cache back.",
            ),
            Accelerator::Npu => Some(
                "This is the allocator for Huawei's Ascend (NPU): its options are in PYTORCH_NPU_ALLOC_CONF, where \
                 expandable_segments excludes max_split_size_mb and garbage_collection_threshold.",
            ),
            Accelerator::Other => Some(
                "The device belongs to another extension of PyTorch: its documentation names its allocator's options, \
                 and those for CUDA do not apply.",
            ),
        }
    }
}

/// Bytes before a request in which its sentence begins.
const SENTENCE_BYTES: usize = 256;

fn is_kind(name: &str) -> bool {
    let name = name.trim_start_matches(|character: char| !character.is_ascii_alphanumeric());
    (2..=12).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}
