//! Modules, functions and launches.

use super::{Device, Function, new_handle};
use crate::executor::Step;
use crate::image::Image;
use crate::kernels::{Kernel, Shape};
use crate::settings::Order;
use crate::status::{
    INVALID_IMAGE, INVALID_PTX, INVALID_VALUE, NO_BINARY_FOR_GPU, NOT_FOUND, Outcome, Status,
    UNSUPPORTED_PTX_VERSION,
};
use std::ffi::c_void;
use std::sync::Arc;

/// Default limit of a function's dynamic shared memory.
const SHARED_USUAL: u64 = 48 << 10;

impl Device {
    /// Loads a module. All of its functions must be compiled into this library, with the same
    /// parameters.
    ///
    /// # Errors
    /// With a status and a message.
    pub fn load_module(&mut self, image: &Image) -> Result<u64, (Status, String)> {
        self.refuse_in_capture()
            .map_err(|status| (status, "a queue captures".to_owned()))?;
        self.accept(image)?;
        let bytes = self.settings.module;
        self.take(bytes)
            .map_err(|status| (status, "the module does not fit".to_owned()))?;
        let module = new_handle();
        self.modules.insert(module, bytes);
        for entry in &image.entries {
            if let Some(kernel) = Kernel::find(&entry.name) {
                let function = new_handle();
                let dynamic_shared_max = SHARED_USUAL.saturating_sub(kernel.static_shared_bytes());
                self.names.insert((module, entry.name.clone()), function);
                self.functions.insert(
                    function,
                    Function {
                        kernel,
                        module,
                        dynamic_shared_max,
                    },
                );
            }
        }
        Ok(module)
    }

    fn accept(&self, image: &Image) -> Result<(), (Status, String)> {
        let generation = self.settings.generation;
        let stale = match image.version {
            Some(version) if version > newest_version(self.settings.driver) => {
                let problem = format!("PTX {}.{} is newer than the driver", version.0, version.1);
                return Err((UNSUPPORTED_PTX_VERSION, problem));
            }
            Some(_) if image.target > generation => {
                let problem = format!("sm_{generation} runs no PTX for sm_{}", image.target);
                return Err((INVALID_PTX, problem));
            }
            Some(_) => INVALID_PTX,
            // Machine code runs on the same major version and the same or a later minor version.
            None if image.target / 10 != generation / 10 || image.target > generation => {
                let problem = format!("sm_{generation} runs no code for sm_{}", image.target);
                return Err((NO_BINARY_FOR_GPU, problem));
            }
            None => INVALID_IMAGE,
        };
        for entry in &image.entries {
            let name = &entry.name;
            let Some(kernel) = Kernel::find(name) else {
                return Err((stale, format!("{name} is in no source that was compiled")));
            };
            let (found, expected) = (&entry.parameter_bytes[..], kernel.parameter_bytes());
            if found != expected {
                let problem =
                    format!("{name} has parameters of {found:?} bytes, its source {expected:?}");
                return Err((stale, problem));
            }
        }
        Ok(())
    }

    /// Unloads a module with its functions.
    pub fn unload_module(&mut self, module: u64) -> Outcome {
        if !self.modules.contains_key(&module) {
            return Err(self.unknown_handle());
        }
        self.finish_all()?;
        if let Some(bytes) = self.modules.remove(&module) {
            self.give(bytes);
        }
        self.names.retain(|(owner, _), _| *owner != module);
        self.functions
            .retain(|_, function| function.module != module);
        Ok(())
    }

    /// A module's function.
    pub fn function(&mut self, module: u64, name: &str) -> Result<u64, Status> {
        if !self.modules.contains_key(&module) {
            return Err(self.unknown_handle());
        }
        (self.names.get(&(module, name.to_owned())).copied()).ok_or(NOT_FOUND)
    }

    /// Offset and size of a function's parameter, in bytes.
    pub fn parameter(&mut self, function: u64, index: usize) -> Result<(u64, u64), Status> {
        let Some(function) = self.functions.get(&function) else {
            return Err(self.unknown_handle());
        };
        let sizes = function.kernel.parameter_bytes();
        let mut offset = 0;
        for (number, &bytes) in sizes.iter().enumerate() {
            let bytes = u64::from(bytes);
            offset = u64::next_multiple_of(offset, bytes.clamp(1, 8).next_power_of_two());
            if number == index {
                return Ok((offset, bytes));
            }
            offset += bytes;
        }
        Err(INVALID_VALUE)
    }

    /// Raises a function's limit of dynamic shared memory.
    pub fn allow_shared(&mut self, function: u64, bytes: u64) -> Outcome {
        let most = shared_most(self.settings.generation);
        let Some(known) = self.functions.get_mut(&function) else {
            return Err(self.unknown_handle());
        };
        if bytes + known.kernel.static_shared_bytes() > most {
            return Err(self.misuse());
        }
        known.dynamic_shared_max = bytes;
        Ok(())
    }

    /// Enqueues a kernel with copies of its parameters.
    ///
    /// # Safety
    /// The number and sizes of the parameters must match the kernel's.
    pub unsafe fn launch(
        &mut self,
        function: u64,
        shape: Shape,
        queue: u64,
        parameters: *const *const c_void,
    ) -> Outcome {
        let Some(known) = self.functions.get(&function) else {
            return Err(self.unknown_handle());
        };
        let (kernel, shared_max) = (known.kernel, known.dynamic_shared_max);
        let sizes = kernel.parameter_bytes();
        if !is_possible(&shape) || shape.shared_bytes > shared_max {
            return Err(self.misuse());
        }
        if parameters.is_null() && !sizes.is_empty() {
            return Err(self.misuse());
        }
        let mut copies = Vec::with_capacity(sizes.len());
        for (index, &bytes) in sizes.iter().enumerate() {
            // SAFETY: the caller gives that many pointers.
            let parameter = unsafe { *parameters.add(index) };
            if parameter.is_null() {
                return Err(self.misuse());
            }
            let mut words = vec![0_u64; (bytes as usize).div_ceil(8)];
            // SAFETY: the caller's parameter is that large, and the words are at least.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    parameter.cast::<u8>(),
                    words.as_mut_ptr().cast::<u8>(),
                    bytes as usize,
                );
            }
            copies.push(words.into_boxed_slice());
        }
        if !self.is_capturing(queue)? {
            self.take_stacks()?;
        }
        let order = match self.settings.order {
            // Every launch has its own order.
            Order::Shuffled(seed) => Order::Shuffled(seed.wrapping_add(self.counts.launches)),
            order => order,
        };
        let step = self.fault_by_script().unwrap_or(Step::Launch {
            kernel,
            shape,
            parameters: Arc::from(copies),
            order,
        });
        self.submit(queue, step)?;
        self.counts.launches += 1;
        Ok(())
    }

    fn fault_by_script(&mut self) -> Option<Step> {
        match &mut self.settings.fault {
            Some((0, status)) => {
                let fault = Step::Fault(*status);
                self.settings.fault = None;
                Some(fault)
            }
            Some((ahead, _)) => {
                *ahead -= 1;
                None
            }
            None => None,
        }
    }

    /// Takes the memory of all threads' stacks, once.
    pub(super) fn take_stacks(&mut self) -> Outcome {
        let bytes = self.settings.threads * self.limits[0];
        let more = bytes.saturating_sub(self.stacks.unwrap_or(0));
        self.take(more)?;
        self.stacks = Some(self.stacks.unwrap_or(0) + more);
        Ok(())
    }
}

fn is_possible(shape: &Shape) -> bool {
    let [x, y, z] = shape.grid;
    let grid =
        x > 0 && x <= i32::MAX as u32 && (1..=65535).contains(&y) && (1..=65535).contains(&z);
    let [x, y, z] = shape.block.map(u64::from);
    let block = (1..=1024).contains(&x) && (1..=1024).contains(&y) && (1..=64).contains(&z);
    grid && block && x * y * z <= 1024
}

/// Most shared memory of a block.
fn shared_most(generation: u32) -> u64 {
    let kib = match generation {
        70 | 72 => 96,
        75 => 64,
        80 | 87 => 163,
        86 | 89 | 120 => 99,
        _ => 227,
    };
    kib << 10
}

/// The newest PTX version that a driver supports.
fn newest_version(driver: i32) -> (u32, u32) {
    let (major, minor) = (driver as u32 / 1000, driver as u32 % 1000 / 10);
    match major {
        ..=11 => (7, minor),
        // CUDA 12.6 has no PTX version of its own.
        12 if minor > 5 => (8, minor - 1),
        12 => (8, minor),
        _ => (major - 4, minor),
    }
}
