//! The configuration language: what PyTorch 2.6 accepts, and its errors for everything else.

use sottovoce_memory::pool::{Backend, PoolConfiguration};

#[test]
fn what_pytorch_rejects_is_rejected_in_its_wording() {
    let small = "CachingAllocator option max_split_size_mb too small, must be > 20";
    let colon = "Error parsing CachingAllocator settings, expected :";
    let comma = "Error parsing CachingAllocator settings, expected ,";
    let divisions = "For roundups, the divisons has to be power of 2 ";
    let divisions_in_list =
        "For roundups, the divisons has to be power of 2 or 0 to disable roundup ";
    let intervals = "For roundups, the intervals have to be power of 2 ";
    let expandable = "Expected a single True/False argument for expandable_segments";
    let cases = [
        ("max_split_size_mb", colon),
        (
            "max_split_size_mb:",
            "Error, expecting max_split_size_mb value",
        ),
        ("max_split_size_mb:20", small),
        ("max_split_size_mb:1.5", small),
        ("max_split_size_mb:12abc", small),
        ("max_split_size_mb:0x80", small),
        ("max_split_size_mb:abc", "stoi"),
        ("max_split_size_mb:99999999999", "stoi"),
        ("max_split_size_mb:[128]", "stoi"),
        (
            "max_split_size_mb=128",
            "Unrecognized CachingAllocator option: max_split_size_mb=128",
        ),
        (
            "max_split_size_mb:128 garbage_collection_threshold:0.5",
            comma,
        ),
        (
            ",max_split_size_mb:128",
            "Unrecognized CachingAllocator option: ,",
        ),
        (
            "max_split_size_mb:128,,garbage_collection_threshold:0.5",
            "Unrecognized CachingAllocator option: ,",
        ),
        ("max_split_size_mb:128:", comma),
        (
            "max_non_split_rounding_mb:20",
            "CachingAllocator option max_non_split_rounding_mb too small, must be > 20",
        ),
        ("max_non_split_rounding_mb:x", "stoi"),
        (
            "max_non_split_rounding_mb:",
            "Error, expecting max_non_split_rounding_mb value",
        ),
        (
            "garbage_collection_threshold:0",
            "garbage_collect_threshold too small, set it 0.0~1.0",
        ),
        (
            "garbage_collection_threshold:1",
            "garbage_collect_threshold too big, set it 0.0~1.0",
        ),
        (
            "garbage_collection_threshold:-0.5",
            "garbage_collect_threshold too small, set it 0.0~1.0",
        ),
        (
            "garbage_collection_threshold:nan",
            "garbage_collect_threshold too small, set it 0.0~1.0",
        ),
        (
            "garbage_collection_threshold:inf",
            "garbage_collect_threshold too big, set it 0.0~1.0",
        ),
        ("garbage_collection_threshold:abc", "stod"),
        (
            "garbage_collection_threshold:",
            "Error, expecting garbage_collection_threshold value",
        ),
        ("roundup_power2_divisions:3", divisions),
        ("roundup_power2_divisions:0", divisions),
        ("roundup_power2_divisions:-4", divisions),
        (
            "roundup_power2_divisions:",
            "Error, expecting roundup_power2_divisions value",
        ),
        ("roundup_power2_divisions:x", "stoi"),
        ("roundup_power2_divisions:[256:1,512:3]", divisions_in_list),
        ("roundup_power2_divisions:[256:1 512:2]", divisions_in_list),
        ("roundup_power2_divisions:[255:1]", intervals),
        ("roundup_power2_divisions:[0:1]", intervals),
        ("roundup_power2_divisions:[-256:2]", intervals),
        ("roundup_power2_divisions:[256]", colon),
        (
            "roundup_power2_divisions:[256:",
            "Error parsing roundup_power2_divisions value",
        ),
        ("roundup_power2_divisions:[256:1", comma),
        ("roundup_power2_divisions:[x:1]", "stoul"),
        ("backend", colon),
        ("backend:", "Error parsing backend value"),
        (
            "backend:foo",
            "Unknown allocator backend, options are native and cudaMallocAsync",
        ),
        ("expandable_segments", colon),
        ("expandable_segments:", expandable),
        ("expandable_segments:true", expandable),
        (
            "release_lock_on_cudamalloc:yes",
            "Expected a single True/False argument for release_lock_on_cudamalloc",
        ),
        (
            "pinned_use_cuda_host_register:maybe",
            "Expected a single True/False argument for pinned_use_cuda_host_register",
        ),
        (
            "pinned_use_cuda_host_register:",
            "Error, expecting pinned_use_cuda_host_register value",
        ),
        (
            "pinned_num_register_threads:3",
            "Number of register threads has to be power of 2 ",
        ),
        (
            "pinned_num_register_threads:256",
            "Number of register threads should be less than or equal to 128",
        ),
        (
            "pinned_num_register_threads:0",
            "Number of register threads has to be power of 2 ",
        ),
        (
            "pinned_num_register_threads:",
            "Error, expecting pinned_num_register_threads value",
        ),
        (
            "pinned_use_background_threads:x",
            "Expected a single True/False argument for pinned_use_background_threads",
        ),
        (
            "pinned_use_background_threads:",
            "Error, expecting pinned_use_background_threads value",
        ),
        ("foo", "Unrecognized CachingAllocator option: foo"),
        (
            "max_split_size_MB:128",
            "Unrecognized CachingAllocator option: max_split_size_MB",
        ),
        ("[", "Unrecognized CachingAllocator option: ["),
        (":", "Unrecognized CachingAllocator option: :"),
    ];
    for (text, words) in cases {
        match PoolConfiguration::parse(text) {
            Err(error) => assert_eq!(error.text, words, "{text}"),
            Ok(configuration) => panic!("{text} must be rejected: {configuration:?}"),
        }
    }
}

#[test]
fn what_pytorch_accepts_is_accepted() {
    for text in [
        "",
        " ",
        "max_split_size_mb:21",
        "max_split_size_mb:+128",
        "max_split_size_mb:0128",
        "max_split_size_mb:128,",
        "  max_split_size_mb : 128 , expandable_segments : False",
        "garbage_collection_threshold:1e-3",
        "garbage_collection_threshold:0x0.8p0",
        "garbage_collection_threshold:.5x",
        "roundup_power2_divisions:1",
        "roundup_power2_divisions:[]",
        "roundup_power2_divisions:[256:1,]",
        "roundup_power2_divisions:[256:1,",
        "roundup_power2_divisions:[>:4]",
        "roundup_power2_divisions:[1e3:2]",
        "backend:native",
        "release_lock_on_hipmalloc:True",
        "pinned_use_hip_host_register:True",
        "pinned_num_register_threads:128",
        "pinned_reserve_segment_size_mb:4,graph_capture_record_stream_reuse:True,throw_on_cudamalloc_oom:False",
    ] {
        assert!(
            PoolConfiguration::parse(text).is_ok(),
            "{text} is accepted: {:?}",
            PoolConfiguration::parse(text)
        );
    }
}

#[test]
fn the_last_of_a_repeated_option_wins_and_spaces_are_ignored() {
    let text = "max_split_size_mb:128, max_split_size_mb : 2 56, expandable_segments:True,backend:cudaMallocAsync";
    let configuration = PoolConfiguration::parse(text).unwrap();
    assert_eq!(configuration.max_split_size, 256 << 20);
    assert!(configuration.expandable_segments);
    assert_eq!(configuration.backend, Backend::CudaMallocAsync);
    assert_eq!(
        PoolConfiguration::parse("").unwrap(),
        PoolConfiguration::default()
    );
}

#[test]
fn a_negative_size_means_no_limit_as_in_pytorch() {
    let configuration = PoolConfiguration::parse("max_split_size_mb:-5").unwrap();
    assert!(configuration.max_split_size > 1 << 63);
}

#[test]
fn lists_of_divisions_fill_the_intervals_as_pytorch_fills_them() {
    let cases: [(&str, [u64; 16]); 4] = [
        (
            "[256:1,512:2,1024:4,>:8]",
            [1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 8, 8, 8, 8, 8, 8],
        ),
        ("[64:2]", [2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (
            "[4:8,8:4,1:2]",
            [2, 8, 8, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        ("[65536:4]", [4; 16]),
    ];
    for (list, divisions) in cases {
        let configuration =
            PoolConfiguration::parse(&format!("roundup_power2_divisions:{list}")).unwrap();
        assert_eq!(configuration.roundup_power2_divisions, divisions, "{list}");
    }
}

#[test]
fn an_error_has_its_position_and_cause() {
    let error =
        PoolConfiguration::parse("expandable_segments:True,max_split_size_mb:many").unwrap_err();
    assert_eq!((error.offset, error.token.as_str()), (43, "many"));
    assert_eq!(
        error.to_string(),
        "stoi: `many` is not a valid number for max_split_size_mb"
    );
}

#[test]
fn the_products_own_variable_takes_precedence_over_pytorchs() {
    let all = |name: &str| match name {
        "SOTTOVOCE_ALLOC_CONF" => Some("max_split_size_mb:30".to_owned()),
        "PYTORCH_ALLOC_CONF" => Some("max_split_size_mb:40".to_owned()),
        "PYTORCH_CUDA_ALLOC_CONF" => Some("max_split_size_mb:50".to_owned()),
        _ => None,
    };
    let (configuration, variable) = PoolConfiguration::from_variables(all).unwrap();
    assert_eq!(
        (configuration.max_split_size, variable),
        (30 << 20, Some("SOTTOVOCE_ALLOC_CONF"))
    );
    let one = |name: &str| all(name).filter(|_| name == "PYTORCH_CUDA_ALLOC_CONF");
    let (configuration, variable) = PoolConfiguration::from_variables(one).unwrap();
    assert_eq!(
        (configuration.max_split_size, variable),
        (50 << 20, Some("PYTORCH_CUDA_ALLOC_CONF"))
    );
    let (configuration, variable) = PoolConfiguration::from_variables(|_| None).unwrap();
    assert_eq!(
        (configuration, variable),
        (PoolConfiguration::default(), None)
    );
}
