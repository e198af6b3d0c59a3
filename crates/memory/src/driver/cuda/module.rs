//! Modules of kernels, and the shapes and parameters of launches.

use super::context::CudaContext;
use super::error::CudaError;
use super::image::{Generation, Target};
use super::queue::PARAMETERS_MAX;
use super::symbols::{self, CallFailure, Extent, Function, NOT_FOUND};
use super::twice;
use std::ffi::CString;
use std::fmt;
use std::sync::Arc;

/// A loaded module.
pub struct Module {
    context: Arc<CudaContext>,
    module: symbols::Module,
    name: &'static str,
    target: Target,
    bytes: u64,
}

impl Module {
    /// Loads the best of `targets` that suits the device and that the driver accepts. `image`
    /// produces the bytes of a target.
    ///
    /// # Errors
    /// If no target suits the device or an image cannot be produced. If the driver rejects every
    /// image, returns its last error.
    pub fn load_best<E: From<CudaError>>(
        context: &Arc<CudaContext>,
        name: &'static str,
        targets: &[Target],
        mut image: impl FnMut(Target) -> Result<Vec<u8>, E>,
    ) -> Result<Module, E> {
        let generation = context.generation();
        let mut refusal = CudaError::NoImage {
            module: name,
            generation,
        };
        for target in Target::in_order(generation, targets) {
            match Module::load(context, name, target, image(target)?) {
                Err(error @ CudaError::Image { .. }) => refusal = error,
                result => return Ok(result?),
            }
        }
        Err(refusal.into())
    }

    /// Loads an image: PTX or machine code. Device memory that the driver takes for it is booked.
    ///
    /// # Errors
    /// If the image is not of kind `target`, or the driver rejects it.
    pub fn load(
        context: &Arc<CudaContext>,
        name: &'static str,
        target: Target,
        mut image: Vec<u8>,
    ) -> Result<Module, CudaError> {
        let refused = |message: String| CudaError::Image {
            module: name,
            target,
            message,
        };
        match target {
            Target::Ptx(_) => {
                if image.contains(&0) {
                    return Err(refused("a text with a zero in it".to_owned()));
                }
                image.push(0);
            }
            Target::Cubin(_) => check_elf(&image).map_err(|problem| refused(problem.to_owned()))?,
        }
        // SAFETY: the checks above showed that PTX ends with a zero byte and that the headers of
        // machine code stay within the image.
        let loaded = context.measured(
            |bytes| &mut bytes.modules,
            |library| unsafe { library.load_module(&image) },
        );
        let (module, bytes) = loaded.map_err(|failure| match failure {
            CallFailure {
                call: "cuModuleLoadDataEx",
                status: status @ 200..=299,
                message,
            } if !symbols::is_fault(status) => refused(message),
            failure => context.error(failure),
        })?;
        Ok(Module {
            context: Arc::clone(context),
            module,
            name,
            target,
            bytes,
        })
    }

    /// Target of the loaded image.
    pub fn target(&self) -> Target {
        self.target
    }

    /// Device memory taken by the module, in bytes.
    pub fn device_bytes(&self) -> u64 {
        self.bytes
    }

    /// The kernel of this name; `parameter_bytes` are the sizes of its parameters.
    ///
    /// # Errors
    /// If there is no such kernel, or the driver reports other parameter sizes.
    pub fn kernel(
        self: &Arc<Self>,
        name: &str,
        parameter_bytes: &[usize],
    ) -> Result<Kernel, CudaError> {
        let missing = || CudaError::NoKernel {
            module: self.name,
            kernel: name.to_owned(),
        };
        let text = CString::new(name).map_err(|_| missing())?;
        let library = self.context.enter()?;
        let function =
            (library.function(self.module, &text)).map_err(|failure| match failure.status {
                NOT_FOUND => missing(),
                _ => self.context.error(failure),
            })?;
        let expected = (library.all_parameter_bytes(function, PARAMETERS_MAX))
            .map_err(|failure| self.context.error(failure))?;
        let differs = (expected.as_ref()).is_some_and(|expected| expected != parameter_bytes);
        if differs || parameter_bytes.len() > PARAMETERS_MAX {
            return Err(CudaError::Parameters {
                kernel: name.to_owned(),
                expected: expected.unwrap_or_default(),
                found: parameter_bytes.to_vec(),
            });
        }
        Ok(Kernel {
            module: Arc::clone(self),
            function,
            name: name.into(),
            parameter_bytes: parameter_bytes.into(),
            begins_early: false,
        })
    }
}

/// Checks that the headers of an ELF file stay within it: the driver is not told the image's
/// length.
fn check_elf(image: &[u8]) -> Result<(), &'static str> {
    let number = |at: usize, bytes: usize| {
        let field = image.get(at..at + bytes).unwrap_or_default();
        (field.iter().rev()).fold(0_u64, |number, &byte| number << 8 | u64::from(byte))
    };
    if !image.starts_with(b"\x7fELF\x02\x01") || image.len() < 64 {
        return Err("no machine code of CUDA");
    }
    // Program headers and section headers: offsets of position, entry size and entry count.
    for (place, size, count) in [(0x20, 0x36, 0x38), (0x28, 0x3a, 0x3c)] {
        let end = number(place, 8).saturating_add(number(size, 2) * number(count, 2));
        if end > image.len() as u64 {
            return Err("machine code that is cut short");
        }
    }
    let (table, size, count) = (number(0x28, 8), number(0x3a, 2), number(0x3c, 2));
    for section in 0..count {
        let header = (table + section * size) as usize;
        let (kind, start, length) = (
            number(header + 4, 4),
            number(header + 0x18, 8),
            number(header + 0x20, 8),
        );
        // `SHT_NOBITS`: a section without bytes in the file.
        const NO_BYTES: u64 = 8;
        if kind != NO_BYTES && start.saturating_add(length) > image.len() as u64 {
            return Err("machine code that is cut short");
        }
    }
    Ok(())
}

impl fmt::Debug for Module {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Module({}, {})", self.name, self.target)
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if let Ok(library) = self.context.enter_to_give_back() {
            // Kernels of the module may still be running.
            let _ = twice(|| self.context.finish(&library, &self.context.turn()));
            let _ = twice(|| library.unload_module(self.module));
        }
        self.context.forget(|bytes| &mut bytes.modules, self.bytes);
    }
}

/// Grid, block and dynamic shared memory of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchShape {
    /// Blocks of the grid in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y and z.
    pub block: [u32; 3],
    /// Dynamic shared memory of each block, in bytes.
    pub shared_bytes: u32,
}

impl LaunchShape {
    /// A one-dimensional grid of one-dimensional blocks.
    pub fn row(blocks: u32, threads: u32) -> LaunchShape {
        LaunchShape {
            grid: [blocks, 1, 1],
            block: [threads, 1, 1],
            shared_bytes: 0,
        }
    }
}

impl fmt::Display for LaunchShape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LaunchShape {
            grid: [x, y, z],
            block: [i, j, k],
            shared_bytes,
        } = self;
        write!(
            formatter,
            "{x}×{y}×{z} blocks of {i}×{j}×{k} threads and {shared_bytes} bytes of shared memory"
        )
    }
}

impl From<&LaunchShape> for Extent {
    fn from(shape: &LaunchShape) -> Extent {
        Extent {
            grid: shape.grid,
            block: shape.block,
            shared_bytes: shape.shared_bytes,
        }
    }
}

/// A kernel. It keeps its module loaded.
#[derive(Clone)]
pub struct Kernel {
    module: Arc<Module>,
    function: Function,
    name: Box<str>,
    parameter_bytes: Box<[usize]>,
    begins_early: bool,
}

impl Kernel {
    /// The first generation whose kernels can begin early ([`Kernel::beginning_early`]).
    pub const FIRST_TO_BEGIN_EARLY: Generation = Generation { major: 9, minor: 0 };

    /// The same kernel, which waits itself for the one before it on its queue
    /// (`griddepcontrol.wait`), and may therefore begin while that one is at work. That takes a
    /// device and machine code of [`Kernel::FIRST_TO_BEGIN_EARLY`] or later and CUDA 12.4;
    /// otherwise it begins when its turn comes.
    #[must_use]
    pub fn beginning_early(self) -> Kernel {
        let has_waits = match self.module.target {
            Target::Cubin(own) => own >= Kernel::FIRST_TO_BEGIN_EARLY,
            Target::Ptx(_) => false,
        };
        let library = self.module.context.library();
        Kernel {
            begins_early: has_waits && library.has_early_launches(),
            ..self
        }
    }

    /// Whether it begins before the kernel before it on its queue has ended.
    pub fn begins_early(&self) -> bool {
        self.begins_early
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Allows the kernel `bytes` bytes of dynamic shared memory. Above 48 KiB this is required.
    ///
    /// # Errors
    /// If the device has less.
    pub fn allow_shared(&self, bytes: u32) -> Result<(), CudaError> {
        let library = self.module.context.enter_to_give_back()?;
        let shape = LaunchShape {
            shared_bytes: bytes,
            ..LaunchShape::row(1, 1)
        };
        (library.allow_shared(self.function, bytes))
            .map_err(|failure| self.explain(&shape, CudaError::of(&library, failure)))
    }

    pub(super) fn module(&self) -> &Arc<Module> {
        &self.module
    }

    pub(super) fn function(&self) -> Function {
        self.function
    }

    /// Checks parameters against the kernel's, and that no extent of the shape is 0.
    pub(super) fn check(&self, shape: &LaunchShape, parameters: &[&[u8]]) -> Result<(), CudaError> {
        let sizes = self.parameter_bytes.iter().copied();
        if !sizes.eq(parameters.iter().map(|parameter| parameter.len())) {
            return Err(CudaError::Parameters {
                kernel: self.name.to_string(),
                expected: self.parameter_bytes.to_vec(),
                found: parameters.iter().map(|parameter| parameter.len()).collect(),
            });
        }
        if shape.grid.contains(&0) || shape.block.contains(&0) {
            return Err(CudaError::Launch {
                kernel: self.name.to_string(),
                shape: shape.to_string(),
                reason: "there is nothing to do".to_owned(),
            });
        }
        Ok(())
    }

    /// Adds the launch's shape to an error of the driver.
    pub(super) fn explain(&self, shape: &LaunchShape, error: CudaError) -> CudaError {
        match error {
            CudaError::Failed { message, .. } => CudaError::Launch {
                kernel: self.name.to_string(),
                shape: shape.to_string(),
                reason: message,
            },
            error => error,
        }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Kernel({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::check_elf;

    #[test]
    fn machine_code_whose_headers_reach_past_its_end_is_refused() {
        let mut file = vec![0_u8; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        assert_eq!(check_elf(&file), Ok(()));
        assert!(check_elf(b"\x7fELF").is_err());
        assert!(check_elf(b"PTX").is_err());
        // One section header, outside the file.
        file[0x28] = 64;
        file[0x3a] = 64;
        file[0x3c] = 1;
        assert!(check_elf(&file).is_err());
        file.extend([0; 64]);
        assert_eq!(check_elf(&file), Ok(()));
        // The section's bytes reach past the end of the file.
        file[64 + 0x18] = 127;
        file[64 + 0x20] = 2;
        assert!(check_elf(&file).is_err());
    }
}
