//! One device's memory: a driver, a pool over it, and who owns what.

use crate::block::Block;
use crate::driver::{Address, Driver, DriverError, HostDriver};
use crate::out_of_memory::{OutOfMemory, OutOfMemoryKind, OutOfMemoryReport};
use crate::owner::{Owner, OwnerUsage};
use crate::pool::PoolConfiguration;
use crate::stats::{Bytes, GaugeByPool, MemoryStatistics, Usage};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Every block starts at a multiple of this.
const ALIGNMENT: u64 = 512;

/// One device's memory. Cheap to clone; all clones are the same memory.
#[derive(Clone)]
pub struct Memory(Arc<Inner>);

struct Inner {
    driver: Box<dyn Driver>,
    host_accessible: bool,
    state: Mutex<State>,
}

/// What a block gives back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Handle {
    /// No bytes were asked for.
    Empty,
    /// A block of the pool.
    Pooled { address: Address, rounded: u64 },
    /// A piece straight from the driver.
    Exact { address: Address },
}

#[derive(Default)]
struct State {
    sealed: bool,
    cached: HashMap<u64, Vec<Address>>,
    statistics: MemoryStatistics,
    owners: HashMap<Owner, Usage>,
}

impl Memory {
    /// Memory of this process, at most `capacity` bytes of it, with the default options.
    pub fn host(capacity: u64) -> Memory {
        Memory::with_driver(
            Box::new(HostDriver::new(capacity)),
            PoolConfiguration::default(),
        )
    }

    /// Memory of any driver, with any options.
    pub fn with_driver(driver: Box<dyn Driver>, _configuration: PoolConfiguration) -> Memory {
        let host_accessible = driver.capabilities().host_accessible;
        Memory(Arc::new(Inner {
            driver,
            host_accessible,
            state: Mutex::default(),
        }))
    }

    /// A block of `bytes` bytes through the caching pool, aligned to 512.
    ///
    /// # Errors
    /// If the driver has no more to give and the cache cannot serve it.
    pub fn allocate(&self, bytes: usize, owner: Owner) -> Result<Block, OutOfMemory> {
        if bytes == 0 {
            return Ok(Block::new(
                self.clone(),
                Handle::Empty,
                Address(ALIGNMENT),
                0,
                owner,
            ));
        }
        let mut state = self.state();
        let rounded = (bytes as u64).next_multiple_of(ALIGNMENT);
        let address = match state.cached.get_mut(&rounded).and_then(Vec::pop) {
            Some(address) => address,
            None => {
                let address = self.ask_driver(&mut state, rounded, bytes)?;
                state.statistics.reserved_bytes.all.increase(rounded);
                address
            }
        };
        count(&mut state.statistics.allocated_bytes, rounded);
        self.own(&mut state, bytes, owner);
        Ok(Block::new(
            self.clone(),
            Handle::Pooled { address, rounded },
            address,
            bytes,
            owner,
        ))
    }

    /// A piece of its own straight from the driver, in whole pages: for arenas, slabs and planned workspaces.
    ///
    /// # Errors
    /// If the driver has too little left.
    pub fn reserve_exact(&self, bytes: usize, owner: Owner) -> Result<Block, OutOfMemory> {
        if bytes == 0 {
            return Ok(Block::new(
                self.clone(),
                Handle::Empty,
                Address(ALIGNMENT),
                0,
                owner,
            ));
        }
        let mut state = self.state();
        let address = self.ask_driver(&mut state, bytes as u64, bytes)?;
        state.statistics.exact_bytes.increase(bytes as u64);
        self.own(&mut state, bytes, owner);
        Ok(Block::new(
            self.clone(),
            Handle::Exact { address },
            address,
            bytes,
            owner,
        ))
    }

    /// The figures now.
    pub fn statistics(&self) -> MemoryStatistics {
        let state = self.state();
        let mut statistics = state.statistics.clone();
        for (owner, usage) in &state.owners {
            let groups = [
                Some(statistics.regions.entry(owner.region).or_default()),
                Some(statistics.tags.entry(owner.tag).or_default()),
                owner
                    .stream
                    .map(|stream| statistics.streams.entry(stream).or_default()),
            ];
            for group in groups.into_iter().flatten() {
                group.live_bytes += usage.live_bytes;
                group.peak_bytes += usage.peak_bytes;
                group.live_blocks += usage.live_blocks;
            }
        }
        statistics.owners = largest_owners(&state, usize::MAX);
        statistics
    }

    /// Gives cached memory back to the driver; the bytes given back.
    pub fn trim(&self) -> u64 {
        let mut state = self.state();
        if state.sealed {
            return 0;
        }
        let mut returned = 0;
        for (bytes, addresses) in std::mem::take(&mut state.cached) {
            for address in addresses {
                if self.0.driver.free(address).is_ok() {
                    returned += bytes;
                    state.statistics.num_device_free += 1;
                    state.statistics.reserved_bytes.all.decrease(bytes);
                }
            }
        }
        returned
    }

    /// From now on the driver is not called: what would need it fails.
    pub fn seal(&self) {
        self.state().sealed = true;
    }

    /// Lets the driver be called again.
    pub fn unseal(&self) {
        self.state().sealed = false;
    }

    /// The driver's name.
    pub fn driver_name(&self) -> &str {
        self.0.driver.name()
    }

    /// Whether blocks can be read and written by this process.
    pub fn host_accessible(&self) -> bool {
        self.0.host_accessible
    }

    pub(crate) fn give_back(&self, handle: Handle, len: usize, owner: Owner) {
        let mut state = self.state();
        match handle {
            Handle::Empty => return,
            Handle::Pooled { address, rounded } => {
                state.cached.entry(rounded).or_default().push(address);
                state.statistics.allocated_bytes.all.decrease(rounded);
            }
            Handle::Exact { address } => {
                // A failure leaves the piece with the driver; there is nobody to tell in a drop.
                let _ = self.0.driver.free(address);
                state.statistics.num_device_free += 1;
                state.statistics.exact_bytes.decrease(len as u64);
            }
        }
        state.statistics.requested_bytes.all.decrease(len as u64);
        if let Some(usage) = state.owners.get_mut(&owner) {
            usage.remove(len as u64);
        }
    }

    fn ask_driver(
        &self,
        state: &mut State,
        bytes: u64,
        requested: usize,
    ) -> Result<Address, OutOfMemory> {
        let result = if state.sealed {
            Err(DriverError::Sealed { call: "allocate" })
        } else {
            self.0.driver.allocate(bytes)
        };
        match result {
            Ok(address) => {
                state.statistics.num_device_alloc += 1;
                Ok(address)
            }
            Err(error) => {
                state.statistics.num_ooms += 1;
                let memory = self.0.driver.memory();
                let kind = if bytes > memory.total {
                    OutOfMemoryKind::NeverFits
                } else {
                    OutOfMemoryKind::NotNow
                };
                let message = format!("Tried to allocate {}: {error}", Bytes(requested as u64));
                let report = OutOfMemoryReport {
                    message,
                    owners: largest_owners(state, 5),
                };
                Err(OutOfMemory {
                    kind,
                    requested: requested as u64,
                    available: memory.free,
                    report: Box::new(report),
                })
            }
        }
    }

    fn own(&self, state: &mut State, bytes: usize, owner: Owner) {
        count(&mut state.statistics.requested_bytes, bytes as u64);
        state.owners.entry(owner).or_default().add(bytes as u64);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(gauges: &mut GaugeByPool, bytes: u64) {
    gauges.all.increase(bytes);
}

fn largest_owners(state: &State, limit: usize) -> Vec<OwnerUsage> {
    let mut owners: Vec<_> = (state.owners.iter())
        .map(|(&owner, usage)| OwnerUsage {
            owner,
            live_bytes: usage.live_bytes,
            peak_bytes: usage.peak_bytes,
            live_blocks: usage.live_blocks,
        })
        .collect();
    owners.sort_by_key(|usage| (std::cmp::Reverse(usage.live_bytes), usage.owner));
    owners.truncate(limit);
    owners
}
