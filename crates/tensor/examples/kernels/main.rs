//! Builds what GPUs run from the kernels' sources, or checks that it is still what they give.
//!
//! NVIDIA's run-time compiler and assembler come from their Python wheels; nobody who builds or
//! uses the program needs them.

mod assembler;
mod compiler;
mod manifest;
mod tools;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use manifest::{Entry, Manifest, Resources};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use tools::Tools;

const HELP: &str = "\
Builds the PTX and the cubins that the program embeds, or checks them.

Usage: cargo run --release -p sottovoce-tensor --example kernels -- COMMAND [--tools FOLDER]

Commands:
  build   compile kernels/*.cu, hold them to their budgets, and write kernels/built
  check   compile again and demand equal bytes; nothing is written

Options:
  --tools FOLDER   where the compilers are, or are installed into [default: target/cuda-tools]

Examples:
  cargo run --release -p sottovoce-tensor --example kernels -- build
  cargo run --release -p sottovoce-tensor --example kernels -- check --tools ~/cuda-tools

The first run makes a Python environment in FOLDER and installs two pinned wheels into it (python3, pip and a
network are needed then, and never again).
";

/// Virtual architectures: without matrix units, with those of sm_75, with those from sm_80 on, and
/// with kernels that begin early. Code of a real architecture is made from the latest that it has.
const VIRTUAL: [u32; 4] = [70, 75, 80, FIRST_TO_BEGIN_EARLY];
/// The first architecture whose kernels are launched before those before them have ended.
const FIRST_TO_BEGIN_EARLY: u32 = 90;
/// The PTX that is shipped: any later card's driver makes its own code of it.
const SHIPPED_PTX: [u32; 2] = [70, 80];
/// Real architectures whose code is shipped beside it; one serves all later cards of its
/// generation.
const SHIPPED: [u32; 4] = [75, 80, 90, 120];
/// Real architectures for which the kernels must assemble, within their budgets.
const ASSEMBLED: [u32; 10] = [70, 72, 75, 80, 86, 87, 89, 90, 100, 120];

const REGISTERS_MAX: u32 = 168;
/// Of kernels whose blocks are large and few, so that one on a multiprocessor is enough.
const REGISTERS_MAX_OF_ONE_BLOCK: (&str, u32) = ("rows_mma", 255);
const STATIC_SHARED_BYTES_MAX: u32 = 48 << 10;

fn main() -> ExitCode {
    let done = match has_fixed_addresses() {
        Ok(true) => run(),
        Ok(false) => run_at_fixed_addresses(),
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kernels: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the system places this process's memory as it does at each run. The compiler orders some
/// of its work by addresses, and its output with it.
fn has_fixed_addresses() -> Result<bool, Box<dyn Error>> {
    const ADDRESSES_NOT_RANDOM: u32 = 0x0004_0000;
    let personality = std::fs::read_to_string("/proc/self/personality")?;
    Ok(u32::from_str_radix(personality.trim(), 16)? & ADDRESSES_NOT_RANDOM != 0)
}

/// Runs this program again, in memory that lies where it lies each time.
fn run_at_fixed_addresses() -> Result<(), Box<dyn Error>> {
    let mut again = Command::new("setarch");
    again
        .arg("--addr-no-randomize")
        .arg(std::env::current_exe()?);
    let status = again.args(std::env::args().skip(1)).status();
    match status
        .map_err(|error| format!("setarch (util-linux): {error}"))?
        .code()
    {
        Some(0) => Ok(()),
        Some(code) => std::process::exit(code),
        None => Err("it was ended by a signal".into()),
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = None;
    let mut folder = root.join("../../target/cuda-tools");
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-h" | "--help" => {
                print!("{HELP}");
                return Ok(());
            }
            "--tools" => folder = arguments.next().ok_or("--tools needs a folder")?.into(),
            "build" | "check" if command.is_none() => command = Some(argument),
            other => return Err(format!("{other:?} is no command: see --help").into()),
        }
    }
    let command = command.ok_or("say build or check: see --help")?;
    let tools = Tools::find_or_install(&std::path::absolute(folder)?)?;
    let kernels = root.join("kernels");
    // The compiler is told no path of this machine, which would take more or less room in memory.
    std::env::set_current_dir(&kernels)?;
    let made = make(&tools, &kernels)?;
    let built = kernels.join("built");
    if command == "build" {
        write(&built, &made)?;
    } else {
        compare(&built, &made)?;
    }
    let bytes: usize = made.values().map(Vec::len).sum();
    println!("{} files, {bytes} bytes: {command} is done", made.len());
    Ok(())
}

/// Everything in `built`, uncompressed, by name without `.gz`.
fn make(tools: &Tools, kernels: &Path) -> Result<BTreeMap<String, Vec<u8>>, Box<dyn Error>> {
    let compiler = compiler::Compiler::open(&tools.nvrtc)?;
    let mut files = BTreeMap::new();
    let mut sources = BTreeMap::new();
    for architecture in VIRTUAL {
        sources.insert(architecture, compiler.ptx(architecture)?);
    }
    // Not every architecture has all of them.
    let mut entries = BTreeMap::<String, Entry>::new();
    for (architecture, source) in &sources {
        if *architecture >= FIRST_TO_BEGIN_EARLY {
            manifest::check_waits(source)?;
        }
        for (name, parameter_bytes) in manifest::entries(source)? {
            let entry = entries.entry(name).or_insert_with(|| Entry {
                parameter_bytes: parameter_bytes.clone(),
                resources: BTreeMap::new(),
            });
            if entry.parameter_bytes != parameter_bytes {
                return Err(
                    format!("a kernel of compute_{architecture} has other parameters").into(),
                );
            }
        }
    }
    let mut over_budget = Vec::new();
    let assemble = |target: u32| {
        let source = sources.range(..=target).next_back();
        let (_, ptx) = source.ok_or_else(|| format!("no PTX for sm_{target}"))?;
        assembler::assemble(&tools.ptxas, ptx, target).map_err(|error| error.to_string())
    };
    let assembled = std::thread::scope(|scope| {
        let all = ASSEMBLED.map(|target| (target, scope.spawn(move || assemble(target))));
        all.map(|(target, work)| (target, work.join()))
    });
    for (target, result) in assembled {
        let result = result.map_err(|_| format!("the assembler's thread for sm_{target} died"))?;
        let (cubin, resources) = result?;
        for (name, used) in resources {
            over_budget.extend(over_budget_of(&name, target, &used));
            let entry = entries
                .get_mut(&name)
                .ok_or_else(|| format!("{name} is in no PTX"))?;
            entry.resources.insert(format!("sm_{target}"), used);
        }
        if SHIPPED.contains(&target) {
            files.insert(format!("sm_{target}.cubin"), cubin);
        }
    }
    sources.retain(|architecture, _| SHIPPED_PTX.contains(architecture));
    for (architecture, ptx) in sources {
        files.insert(format!("compute_{architecture}.ptx"), ptx.into_bytes());
    }
    if !over_budget.is_empty() {
        return Err(over_budget.join("\n         ").into());
    }
    let manifest = Manifest {
        sources_sha256: manifest::sources_sha256(kernels)?,
        compiler: tools::COMPILER.join(" "),
        assembler: tools::ASSEMBLER.join(" "),
        entries,
    };
    files.insert("manifest.json".to_owned(), manifest.to_json()?.into_bytes());
    Ok(files)
}

/// What a kernel uses too much of.
fn over_budget_of(name: &str, target: u32, used: &Resources) -> Vec<String> {
    let (family, most) = REGISTERS_MAX_OF_ONE_BLOCK;
    let registers_max = match name.starts_with(family) {
        true => most,
        false => REGISTERS_MAX,
    };
    let budgets = [
        ("bytes of stack", used.stack_bytes, 0),
        ("bytes of spills", used.spill_bytes, 0),
        ("registers", used.registers, registers_max),
        (
            "bytes of static shared memory",
            used.shared_bytes,
            STATIC_SHARED_BYTES_MAX,
        ),
    ];
    (budgets.into_iter().filter(|(_, found, most)| found > most))
        .map(|(what, found, most)| {
            format!("{name} for sm_{target}: {found} {what}, at most {most}")
        })
        .collect()
}

fn path_of(built: &Path, name: &str) -> PathBuf {
    match name {
        "manifest.json" => built.join(name),
        _ => built.join(format!("{name}.gz")),
    }
}

fn write(built: &Path, made: &BTreeMap<String, Vec<u8>>) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(built)?;
    for file in std::fs::read_dir(built)? {
        std::fs::remove_file(file?.path())?;
    }
    for (name, bytes) in made {
        let path = path_of(built, name);
        if name == "manifest.json" {
            std::fs::write(path, bytes)?;
        } else {
            let mut encoder = GzEncoder::new(std::fs::File::create(path)?, Compression::best());
            encoder.write_all(bytes)?;
            encoder.finish()?;
        }
    }
    Ok(())
}

fn compare(built: &Path, made: &BTreeMap<String, Vec<u8>>) -> Result<(), Box<dyn Error>> {
    for (name, bytes) in made {
        let path = path_of(built, name);
        let found = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let found = if name == "manifest.json" {
            found
        } else {
            let mut plain = Vec::new();
            // What is compared has a known size: no more is unpacked.
            GzDecoder::new(found.as_slice())
                .take(bytes.len() as u64 + 1)
                .read_to_end(&mut plain)?;
            plain
        };
        if found != *bytes {
            return Err(
                format!("{} is not what the sources give: run build", path.display()).into(),
            );
        }
    }
    let files = std::fs::read_dir(built)?.count();
    if files != made.len() {
        return Err(format!("{} has {files} files, not {}", built.display(), made.len()).into());
    }
    Ok(())
}
