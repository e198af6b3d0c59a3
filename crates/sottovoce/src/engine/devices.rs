//! Choice of the device on which an engine is loaded, and of its budget.

use super::Engine;
use crate::device::{self, Opened};
use crate::error::Error;
use crate::options::{DeviceChoice, EngineOptions, OptionTable, Source};
use crate::system_memory::SystemMemory;
use sottovoce_memory::Memory;
use sottovoce_memory::driver::ADDRESS_SPACE_BYTES;
use sottovoce_memory::driver::cuda;
use sottovoce_memory::stats::Bytes;

impl Engine {
    /// Loads a model. A budget in which not even one stream fits is refused, with the numbers.
    /// Without a budget, the memory that the system grants this process is the budget.
    ///
    /// On a CUDA device the budget applies to device memory; the default is all free memory.
    ///
    /// # Errors
    /// An option out of range, an unusable model, a missing or failing device, or a budget that is
    /// too small.
    pub fn load(source: Source, options: EngineOptions) -> Result<Engine, Error> {
        options.check()?;
        match options.device {
            DeviceChoice::Cpu => Engine::load_on_host(source, options),
            DeviceChoice::Cuda(_) => Engine::load_on_device(source, options),
            DeviceChoice::Auto => Engine::load_on_any(source, options),
        }
    }

    /// Loads a model on the first CUDA device where it fits, or else on the host. The engine's note
    /// gives the reasons against the devices tried before.
    fn load_on_any(source: Source, options: EngineOptions) -> Result<Engine, Error> {
        let of = |device| EngineOptions {
            device,
            ..options.clone()
        };
        let (cards, mut refusals) = match cuda::device_count() {
            Ok(0) => (0, vec!["no CUDA: the driver knows no device".to_owned()]),
            Ok(count) => (count, Vec::new()),
            Err(refusal) => (0, vec![refusal.to_string()]),
        };
        let choices = (0..cards).map(DeviceChoice::Cuda);
        let mut found = None;
        for choice in choices {
            match Engine::load_on_device(source.clone(), of(choice)) {
                Ok(engine) => {
                    found = Some((engine, choice.to_string()));
                    break;
                }
                Err(refusal) => refusals.push(format!("not {choice}: {refusal}")),
            }
        }
        let (engine, speaks) = match found {
            Some(found) => found,
            None => (
                Engine::load_on_host(source, of(DeviceChoice::Cpu))?,
                "the CPU".to_owned(),
            ),
        };
        if !refusals.is_empty() {
            let note = format!("{speaks} speaks: {}", refusals.join("; "));
            // Cannot fail: nothing has set the note before.
            let _ = engine.handle.shared.device_note.set(note);
        }
        Ok(engine)
    }

    fn load_on_device(source: Source, options: EngineOptions) -> Result<Engine, Error> {
        let threads = options.threads.unwrap_or(0);
        let given = options.memory;
        let Opened {
            device,
            memory,
            budget_bytes,
            ..
        } = device::open(options.device, threads, given)?;
        let options = EngineOptions {
            memory: budget_bytes,
            ..options
        };
        let place = options.device;
        let hint = match given {
            None => Some(format!(
                "no budget was given: this is what {place} has free"
            )),
            Some(bytes) if budget_bytes < Some(bytes) => Some(format!(
                "{} were given, but this is all that {place} has free: end other programs that use it",
                Bytes(bytes)
            )),
            Some(_) => None,
        };
        Engine::load_on(device, memory, source, options).map_err(|error| match hint {
            Some(hint) => error.with_hint(&hint),
            None => error,
        })
    }

    fn load_on_host(source: Source, options: EngineOptions) -> Result<Engine, Error> {
        let found = match options.memory {
            Some(_) => None,
            None => SystemMemory::now().budget_max_bytes(),
        };
        let budget_bytes = options.memory.or(found);
        let memory = Memory::host(budget_bytes.unwrap_or(ADDRESS_SPACE_BYTES));
        let options = EngineOptions {
            memory: budget_bytes,
            ..options
        };
        Engine::load_in(memory, source, options).map_err(|error| match found {
            Some(_) => {
                error.with_hint("no budget was given: this is what the system has for this process")
            }
            None => error,
        })
    }
}
