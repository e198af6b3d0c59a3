//! A driver that panics once on request.

#![allow(dead_code, reason = "each test file uses its part")]

use sottovoce_memory::driver::{Call, DeviceMemory, DriverError, HostDriver, Layer, Layered};
use sottovoce_memory::{Memory, PoolConfiguration};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// The driver call that panics.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Trigger {
    /// The next allocation.
    Acquire = 1,
    /// The next allocation, and then the next release: the engine cannot recover from both.
    Kill = 2,
}

/// The second panic of [`Trigger::Kill`] is pending.
const WOUNDED: u8 = 3;
const SPRUNG: u8 = 4;

/// The trap. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Trap(Arc<AtomicU8>);

thread_local! {
    /// Trap of the driver that is created next: the layer is constructed by `Default`.
    static NEXT: RefCell<Trap> = RefCell::default();
}

/// The driver's side of a trap.
#[derive(Clone)]
struct Set(Trap);

impl Default for Set {
    fn default() -> Set {
        Set(NEXT.with_borrow(Trap::clone))
    }
}

impl Layer for Set {
    fn before(
        &self,
        call: Call,
        _bytes: u64,
        _memory: &dyn Fn() -> DeviceMemory,
    ) -> Result<(), DriverError> {
        let state = &self.0.0;
        let step = |from: u8, to: u8| {
            let stepped = state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
            assert!(stepped.is_err(), "the trap sprang at {}", call.name());
        };
        if call.acquires() {
            step(Trigger::Acquire as u8, SPRUNG);
            step(Trigger::Kill as u8, WOUNDED);
        } else if !std::thread::panicking() {
            // A panic during unwinding would abort the process.
            step(WOUNDED, SPRUNG);
        }
        Ok(())
    }
}

impl Trap {
    /// Host memory over a driver with this trap.
    pub fn memory(&self) -> Memory {
        NEXT.replace(self.clone());
        let driver: Layered<Set, HostDriver> = Layered::new(HostDriver::new(1 << 40));
        Memory::with_driver(Box::new(driver), PoolConfiguration::default())
    }

    /// Arms the trap for the next matching call.
    pub fn arm(&self, trigger: Trigger) {
        self.0.store(trigger as u8, Ordering::Release);
    }

    /// Whether the trap has sprung since it was armed.
    pub fn is_sprung(&self) -> bool {
        self.0.load(Ordering::Acquire) == SPRUNG
    }
}
