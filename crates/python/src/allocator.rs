//! The caching pool under PyTorch: the two functions of its `CUDAPluggableAllocator`, and those
//! beside them.
//!
//! PyTorch calls from any thread, with or without Python's lock, and knows of no failure: an
//! allocation that cannot be had is thrown as PyTorch's own exception ([`crate::torch_error`]).

use crate::errors::{Failed, other, unlocked};
use crate::torch_error;
use pyo3::prelude::*;
use sottovoce::Error;
use sottovoce_memory::driver::cuda::{CudaContext, CudaDriver};
use sottovoce_memory::stats::parse_bytes;
use sottovoce_memory::{Block, Memory, Owner, PoolConfiguration, Region};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Owners that are told apart; what comes later is summed up.
const OWNERS_MAX: usize = 4096;
/// Who has what no owner was asked for.
const NOBODY: &str = "torch";

/// What was installed, for the rest of the process: PyTorch takes no other afterwards.
static INSTALLED: OnceLock<Installed> = OnceLock::new();

struct Installed {
    configuration: PoolConfiguration,
    /// Bytes of each device.
    budget_bytes: Option<u64>,
    /// Tells who allocates.
    owner: Option<Py<PyAny>>,
    tags: Mutex<HashSet<&'static str>>,
    devices: Mutex<BTreeMap<u32, Arc<Device>>>,
}

struct Device {
    context: Arc<CudaContext>,
    memory: Memory,
    /// What PyTorch holds, by address.
    blocks: Mutex<HashMap<u64, Block>>,
}

impl Device {
    fn blocks(&self) -> MutexGuard<'_, HashMap<u64, Block>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pool's number of one of PyTorch's streams.
    fn queue(&self, stream: *mut c_void) -> u64 {
        // SAFETY: PyTorch passes its own streams of this device's primary context, and keeps them
        // to the end of the process.
        unsafe { self.context.adopt_queue(stream) }
    }
}

impl Installed {
    /// The device, opened when it is first asked for.
    fn device(&self, ordinal: u32) -> Result<Arc<Device>, Error> {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = devices.get(&ordinal) {
            return Ok(device.clone());
        }
        let driver = CudaDriver::open(ordinal, self.budget_bytes)?;
        let device = Arc::new(Device {
            context: driver.context().clone(),
            memory: Memory::with_driver(Box::new(driver), self.configuration.clone()),
            blocks: Mutex::default(),
        });
        devices.insert(ordinal, device.clone());
        Ok(device)
    }

    /// Who allocates, as far as it was wished for.
    fn owner(&self) -> Owner {
        let asked = self.owner.as_ref().and_then(|owner| {
            Python::try_attach(|py| owner.call0(py).ok()?.extract::<String>(py).ok()).flatten()
        });
        Owner::new(Region::Workspace, asked.map_or(NOBODY, |tag| self.tag(tag)))
    }

    /// The tag for as long as the process lives.
    fn tag(&self, tag: String) -> &'static str {
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = tags.get(tag.as_str()) {
            return known;
        }
        if tags.len() >= OWNERS_MAX {
            return NOBODY;
        }
        let tag: &'static str = Box::leak(tag.into_boxed_str());
        tags.insert(tag);
        tag
    }

    fn allocate(&self, bytes: isize, ordinal: c_int, stream: *mut c_void) -> Result<u64, Error> {
        let ordinal = u32::try_from(ordinal).unwrap_or(u32::MAX);
        let device = self.device(ordinal)?;
        let bytes = usize::try_from(bytes).unwrap_or(0);
        if bytes == 0 {
            return Ok(0);
        }
        let queue = device.queue(stream);
        let block = (device.memory).allocate_on(bytes, self.owner(), queue)?;
        let address = block.address().0;
        device.blocks().insert(address, block);
        Ok(address)
    }

    fn each(&self, act: impl Fn(&Device)) {
        let devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.values().for_each(|device| act(device));
    }
}

/// Does `work`; a panic in it goes no further, as PyTorch could do nothing with it.
fn contained<T>(work: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).ok()
}

/// `CUDAPluggableAllocator`'s function for allocations.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn sottovoce_cuda_malloc(
    bytes: isize,
    device: c_int,
    stream: *mut c_void,
) -> *mut c_void {
    let outcome = contained(|| match INSTALLED.get() {
        Some(installed) => installed
            .allocate(bytes, device, stream)
            .map_err(|error| error.to_string()),
        None => Err("the pool was not installed: call sottovoce.torch.use_allocator".to_owned()),
    });
    match outcome {
        Some(Ok(address)) => address as *mut c_void,
        Some(Err(message)) => torch_error::throw_out_of_memory(&message),
        None => torch_error::throw_out_of_memory("a fault of the pool: please report it"),
    }
}

/// `CUDAPluggableAllocator`'s function for what is given back.
#[unsafe(no_mangle)]
pub extern "C" fn sottovoce_cuda_free(
    address: *mut c_void,
    _bytes: isize,
    device: c_int,
    _stream: *mut c_void,
) {
    contained(|| {
        let device = with_device(device)?;
        let block = device.blocks().remove(&(address as u64));
        drop(block);
        Some(())
    });
}

/// Notes that a stream uses a block, which is used again only after that work.
#[unsafe(no_mangle)]
pub extern "C" fn sottovoce_cuda_record_stream(address: *mut c_void, stream: *mut c_void) {
    contained(|| {
        INSTALLED.get()?.each(|device| {
            if let Some(block) = device.blocks().get(&(address as u64)) {
                // The stream is of the block's device; no other may wait for it.
                block.record_use(device.queue(stream));
            }
        });
        Some(())
    });
}

/// Gives what is kept back to the devices: `torch.cuda.empty_cache`.
#[unsafe(no_mangle)]
pub extern "C" fn sottovoce_cuda_empty_cache() {
    contained(|| {
        INSTALLED.get()?.each(|device| {
            device.memory.trim();
        });
        Some(())
    });
}

fn with_device(ordinal: c_int) -> Option<Arc<Device>> {
    INSTALLED.get()?.device(u32::try_from(ordinal).ok()?).ok()
}

/// Makes the pool ready under the functions above, and opens device `ordinal`.
#[pyfunction]
pub fn install_allocator(
    py: Python<'_>,
    conf: &str,
    memory: Option<&str>,
    ordinal: u32,
    owner: Option<Py<PyAny>>,
) -> Result<(), Failed> {
    let refused = |argument: &str, value: &str, reason: String| Failed::Argument {
        argument: argument.to_owned(),
        value: format!("{value:?}"),
        reason,
    };
    let configuration =
        PoolConfiguration::parse(conf).map_err(|error| refused("conf", conf, error.to_string()))?;
    let budget_bytes = (memory.map(parse_bytes).transpose())
        .map_err(|reason| refused("memory", memory.unwrap_or_default(), reason))?;
    let installed = Installed {
        configuration,
        budget_bytes,
        owner,
        tags: Mutex::default(),
        devices: Mutex::default(),
    };
    unlocked(py, || installed.device(ordinal).map(drop))?;
    INSTALLED.set(installed).map_err(|_| {
        Failed::Tool("the pool is installed already, for the rest of the process".into())
    })
}

/// The pool's books on a device, with PyTorch's names.
#[pyfunction]
pub fn allocator_report(py: Python<'_>, ordinal: u32) -> Result<Bound<'_, PyAny>, Failed> {
    let installed = INSTALLED
        .get()
        .ok_or_else(|| Failed::Tool("the pool is not installed: call use_allocator".into()))?;
    let statistics = unlocked(py, || {
        installed
            .device(ordinal)
            .map(|device| device.memory.statistics())
    })?;
    pythonize::pythonize(py, &statistics).map_err(other)
}
