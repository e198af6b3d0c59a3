//! PyTorch 2.6's own results, byte for byte: `allocator_cases/cases.tsv` holds the statistics of
//! its caching allocator for each trace under each configuration.

use sottovoce_memory::driver::SimulatedDriver;
use sottovoce_memory::pool::{Pool, PoolBlock, PoolConfiguration, PoolStatistics};
use sottovoce_memory::trace::Reader;
use sottovoce_memory::trace::replay::Replay;
use sottovoce_memory::{Memory, OutOfMemoryKind, Owner, Region};
use std::collections::HashMap;
use std::path::PathBuf;

/// One row of the table.
struct Case {
    file: String,
    configuration_text: String,
    configuration: PoolConfiguration,
    device_bytes: u64,
    clear_every_chunk: Option<u32>,
    /// Figures in the order of [`figures`]; absent if not recorded.
    figures: Vec<Option<u64>>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/allocator_cases")
}

fn cases() -> Vec<Case> {
    let table = std::fs::read_to_string(folder().join("cases.tsv")).unwrap();
    let rows = table.lines().skip(1).map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        let number = |cell: &str| (cell != "-").then(|| cell.parse::<u64>().unwrap());
        let text = if cells[1] == "default" { "" } else { cells[1] };
        let mut configuration = PoolConfiguration::parse(text).unwrap();
        configuration.per_process_memory_fraction =
            (cells[3] != "-").then(|| cells[3].parse().unwrap());
        Case {
            file: cells[0].to_owned(),
            configuration_text: cells[1].to_owned(),
            configuration,
            device_bytes: number(cells[2]).unwrap(),
            clear_every_chunk: number(cells[4]).map(|every| every as u32),
            figures: cells[5..].iter().map(|cell| number(cell)).collect(),
        }
    });
    rows.collect()
}

/// The figures of the table's columns.
fn figures(statistics: &PoolStatistics) -> [u64; 13] {
    [
        statistics.requested_bytes.all.peak,
        statistics.allocated_bytes.all.peak,
        statistics.reserved_bytes.all.peak,
        statistics.allocated_bytes.all.current,
        statistics.reserved_bytes.all.current,
        statistics.num_alloc_retries,
        statistics.num_ooms,
        statistics.num_device_alloc,
        statistics.num_device_free,
        statistics.active_bytes.all.peak,
        statistics.inactive_split_bytes.all.peak,
        statistics.segment.all.peak,
        statistics.oversize_allocations.peak,
    ]
}

/// Runs a trace; `u ID QUEUE` records a use on another queue, which the text format does not have.
fn run(pool: &Pool, trace: &str, clear_every_chunk: Option<u32>) {
    let mut live: HashMap<&str, PoolBlock> = HashMap::new();
    let mut chunks = 0;
    for line in trace.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["a", _, "0", ..] => {}
            ["a", id, bytes, _, ref rest @ ..] => {
                let queue = rest.first().map_or(0, |word| {
                    word.strip_prefix("stream=").unwrap().parse().unwrap()
                });
                if let Ok(block) = pool.allocate(bytes.parse().unwrap(), queue) {
                    live.insert(id, block);
                }
            }
            ["f", id] => {
                if let Some(block) = live.remove(id) {
                    pool.free(block);
                }
            }
            ["u", id, queue] => {
                if let Some(block) = live.get(id) {
                    pool.record_use(block, queue.parse().unwrap());
                }
            }
            ["m", "clear", ..] => {
                pool.empty_cache();
            }
            ["m", "chunk", ..] => {
                chunks += 1;
                if clear_every_chunk.is_some_and(|every| chunks % every == 0) {
                    pool.empty_cache();
                }
            }
            _ => panic!("unknown line {line}"),
        }
    }
}

fn compare(case: &Case, got: &[u64], how: &str, failures: &mut Vec<String>) {
    let expected = case.figures.iter().zip(got);
    if expected
        .clone()
        .any(|(expected, got)| expected.is_some_and(|expected| expected != *got))
    {
        failures.push(format!(
            "{} {} ({how}): {:?}",
            case.file,
            case.configuration_text,
            expected.collect::<Vec<_>>()
        ));
    }
}

#[test]
fn every_case_gives_pytorchs_figures_with_one_shard_and_with_many() {
    let mut failures = Vec::new();
    for case in cases() {
        let trace = std::fs::read_to_string(folder().join(&case.file)).unwrap();
        for shards in [1, 16] {
            let driver = Box::new(SimulatedDriver::new(case.device_bytes));
            let pool = Pool::with_shards(driver, case.configuration.clone(), shards);
            run(&pool, &trace, case.clear_every_chunk);
            pool.check().unwrap();
            compare(
                &case,
                &figures(&pool.statistics()),
                &format!("{shards} shards"),
                &mut failures,
            );
        }
    }
    assert!(
        failures.is_empty(),
        "(expected, got) by column:\n{}",
        failures.join("\n")
    );
}

#[test]
fn replaying_a_file_reports_pytorchs_figures() {
    let mut failures = Vec::new();
    for case in cases() {
        let path = folder().join(&case.file);
        if std::fs::read_to_string(&path).unwrap().contains("\nu ") {
            continue;
        }
        let driver = Box::new(SimulatedDriver::new(case.device_bytes));
        let mut replay = Replay::new(driver, case.configuration.clone(), case.clear_every_chunk);
        replay.run_events(Reader::open(&path).unwrap()).unwrap();
        let report = replay.report();
        let got = [
            report.peak_requested,
            report.peak_allocated,
            report.peak_reserved,
            report.end_allocated,
            report.end_reserved,
            report.retries,
            report.ooms,
            report.driver_allocs,
            report.driver_frees,
        ];
        compare(&case, &got, "replay", &mut failures);
    }
    assert!(
        failures.is_empty(),
        "(expected, got) by column:\n{}",
        failures.join("\n")
    );
}

#[test]
fn an_out_of_memory_error_says_what_pytorch_says() {
    let memory = Memory::with_driver(
        Box::new(SimulatedDriver::new(1 << 30)),
        PoolConfiguration::default(),
    );
    let held = memory
        .allocate(960 << 20, Owner::new(Region::Weights, "weights"))
        .unwrap();
    let error = memory
        .allocate(960 << 20, Owner::new(Region::Workspace, "scratch"))
        .unwrap_err();
    let (message, owners) = error
        .to_string()
        .split_once('\n')
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .unwrap();
    assert_eq!(
        message,
        "CUDA out of memory. Tried to allocate 960.00 MiB. GPU 0 has a total capacity of 1024.00 MiB of which 64.00 MiB is \
         free. Including non-PyTorch memory, this process has 960.00 MiB memory in use. Of the allocated memory 960.00 MiB is \
         allocated by PyTorch, and 0 bytes is reserved by PyTorch but unallocated. If reserved but unallocated memory is large \
         try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation.  See documentation for Memory \
         Management  (https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)"
    );
    assert_eq!(owners, "Largest owners: weights/weights 960.00 MiB");
    assert_eq!(
        (error.kind, error.requested, error.available),
        (OutOfMemoryKind::NotNow, 960 << 20, 64 << 20)
    );
    drop(held);
}

#[test]
fn a_memory_fraction_is_named_in_the_error() {
    let configuration = PoolConfiguration {
        per_process_memory_fraction: Some(0.5),
        ..Default::default()
    };
    let memory = Memory::with_driver(Box::new(SimulatedDriver::new(1 << 30)), configuration);
    let owner = Owner::new(Region::Workspace, "test");
    let _held = memory.allocate(300 << 20, owner).unwrap();
    let error = memory.allocate(300 << 20, owner).unwrap_err();
    assert_eq!(
        error.kind,
        OutOfMemoryKind::OverAccount,
        "the pool has used up its own share"
    );
    assert!(
        error
            .to_string()
            .contains(" 512.00 MiB allowed; Of the allocated memory 300.00 MiB"),
        "{error}"
    );
    let error = memory.allocate(600 << 20, owner).unwrap_err();
    assert_eq!(
        error.kind,
        OutOfMemoryKind::NeverFits,
        "more than the whole share"
    );
}
