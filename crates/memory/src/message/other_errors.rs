//! Out-of-memory errors that PyTorch's allocators did not raise.

/// Marks of these errors, and what they say. Earlier rows are the more specific ones.
const OTHER_ERRORS: [(&[&str], &str); 12] = [
    (
        &[
            "DefaultCPUAllocator",
            "not enough memory: you tried to allocate",
        ],
        "it is of the host's memory, of which the system had too little, not of a device's",
    ),
    (
        &["MPS backend out of memory"],
        "it is of Apple's GPU, and ends before the size that was asked for; PYTORCH_MPS_HIGH_WATERMARK_RATIO is its \
         allocator's limit",
    ),
    (
        &[
            "MemoryError",
            "std::bad_alloc",
            "Cannot allocate memory",
            "OOMKilled",
            "Out of memory: Killed process",
            "The paging file is too small",
        ],
        "it is of the host's memory, of which the system, or the container's limit, had too little",
    ),
    (
        &["Allocation on device "],
        "it is of PyTorch's backend cudaMallocAsync, without its figures: the device was full, the options of the \
         caching allocator do nothing with this backend, and the program must use less memory",
    ),
    (
        &["BFCArena"],
        "it is of ONNX Runtime, whose arena has settings of its own, such as gpu_mem_limit and arena_extend_strategy",
    ),
    (
        &["No available memory for the cache blocks"],
        "it is of vLLM, whose weights and workspace left nothing for its cache: raise gpu_memory_utilization, or lower \
         max_model_len",
    ),
    (
        &["Invalid buffer size: "],
        "it is of Apple's GPU, which takes no single buffer of this size, however much memory is free: ask for \
         smaller tensors, for example by smaller batches or shorter inputs",
    ),
    (
        &["out of resource: shared memory"],
        "it is of a kernel of Triton that wants more of the chip's shared memory than it has, not of the device's \
         memory: smaller blocks or fewer stages in the kernel help",
    ),
    (
        &["RESOURCE_EXHAUSTED", "OOM when allocating tensor"],
        "it is of JAX or TensorFlow, whose allocator has settings of its own, such as XLA_PYTHON_CLIENT_MEM_FRACTION \
         and TF_GPU_ALLOCATOR",
    ),
    (
        &["UR_RESULT_ERROR_OUT_OF_", "ZE_RESULT_ERROR_OUT_OF_"],
        "Intel's driver refused, outside of PyTorch's allocator: the device was full, or one block was larger than \
         the driver gives out",
    ),
    (
        &[
            "HIP error: out of memory",
            "hipErrorOutOfMemory",
            "HIPBLAS_STATUS_ALLOC_FAILED",
            "miopenStatusAllocFailed",
        ],
        "the device was full for a call outside of PyTorch's allocator, such as a context or a library's workspace: \
         rocm-smi shows who holds it, and torch.cuda.empty_cache() gives the allocator's cache back",
    ),
    (
        &[
            "CUDA error: out of memory",
            "CUDA_ERROR_OUT_OF_MEMORY",
            "cudaErrorMemoryAllocation",
            "CUBLAS_STATUS_ALLOC_FAILED",
            "CUDNN_STATUS_ALLOC_FAILED",
            "cudaMalloc failed: out of memory",
            "cuda runtime error (2)",
            "Cuda failure 2 ",
            "Cuda failure 'out of memory'",
        ],
        "the device was full for a call outside of PyTorch's allocator, such as a context or a library's workspace: \
         nvidia-smi shows who holds it, and torch.cuda.empty_cache() gives the allocator's cache back",
    ),
];

/// What an out-of-memory error says that is in the text and that none of PyTorch's allocators for
/// devices raised.
pub fn other_error(text: &str) -> Option<&'static str> {
    // Its name ends like that of the host's error.
    let text = text.replace("OutOfMemoryError", "");
    let found = |marks: &&[&str]| marks.iter().any(|mark| text.contains(mark));
    let (_, meaning) = OTHER_ERRORS.iter().find(|(marks, _)| found(marks))?;
    Some(meaning)
}
