//! On which device an engine is loaded, and with what budget of its memory.

use super::Engine;
use crate::device::{self, NO_BUDGET_BYTES, Opened};
use crate::error::Error;
use crate::options::{DeviceChoice, EngineOptions, OptionTable, Source};
use crate::system_memory::SystemMemory;
use sottovoce_memory::Memory;

impl Engine {
    /// Loads a model. Refuses a budget in which not even one stream fits, with the numbers; without
    /// a budget, what the system has for this process is one.
    ///
    /// On a CUDA device the budget is of the device's memory; without one it is what is free there.
    ///
    /// # Errors
    /// An option out of range, a model that cannot be used, a device that is not there or fails, a
    /// budget that is too small.
    pub fn load(source: Source, options: EngineOptions) -> Result<Engine, Error> {
        options.check()?;
        match options.device {
            DeviceChoice::Cpu => Engine::load_on_host(source, options),
            DeviceChoice::Cuda(_) => Engine::load_on_device(source, options),
            DeviceChoice::Auto => {
                let of = |device| EngineOptions {
                    device,
                    ..options.clone()
                };
                let first = of(DeviceChoice::Cuda(0));
                let refusal = match Engine::load_on_device(source.clone(), first) {
                    Ok(engine) => return Ok(engine),
                    Err(refusal) => refusal,
                };
                let engine = Engine::load_on_host(source, of(DeviceChoice::Cpu))?;
                let note = format!("the CPU speaks: {refusal}");
                // Nobody has set it before.
                let _ = engine.handle.shared.device_note.set(note);
                Ok(engine)
            }
        }
    }

    fn load_on_device(source: Source, options: EngineOptions) -> Result<Engine, Error> {
        let threads = options.threads.unwrap_or(0);
        let found = options.memory.is_none();
        let Opened {
            device,
            memory,
            budget_bytes,
        } = device::open(options.device, threads, options.memory)?;
        let options = EngineOptions {
            memory: budget_bytes,
            ..options
        };
        let place = options.device;
        Engine::load_on(device, memory, source, options).map_err(|error| match found {
            true => error.with_hint(&format!(
                "no budget was given: this is what {place} has free"
            )),
            false => error,
        })
    }

    fn load_on_host(source: Source, options: EngineOptions) -> Result<Engine, Error> {
        let found = match options.memory {
            Some(_) => None,
            None => SystemMemory::now().budget_max_bytes(),
        };
        let budget_bytes = options.memory.or(found);
        let memory = Memory::host(budget_bytes.unwrap_or(NO_BUDGET_BYTES));
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
