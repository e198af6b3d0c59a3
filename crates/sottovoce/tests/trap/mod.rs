//! A driver that panics once when it is told to.

#![allow(dead_code, reason = "each test file uses its part")]

use sottovoce_memory::driver::{Call, DeviceMemory, DriverError, HostDriver, Layer, Layered};
use sottovoce_memory::{Memory, PoolConfiguration};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// At which driver call the trap springs.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub enum Trigger {
    /// The next that asks for memory.
    Acquire = 1,
    /// The next that asks for memory, and then the next that gives some back: the engine cannot
    /// recover from the first.
    Kill = 2,
}

/// The second panic of [`Trigger::Kill`] is to come.
const WOUNDED: u8 = 3;
const SPRUNG: u8 = 4;

/// The trap; cheap to clone.
#[derive(Clone, Default)]
pub struct Trap(Arc<AtomicU8>);

thread_local! {
    /// The trap of the driver that is made next: a layer comes into being by itself.
    static NEXT: RefCell<Trap> = RefCell::default();
}

/// The driver's side.
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
            // A panic while another unwinds would end the process.
            step(WOUNDED, SPRUNG);
        }
        Ok(())
    }
}

impl Trap {
    /// Memory of the host over a driver with this trap.
    pub fn memory(&self) -> Memory {
        NEXT.replace(self.clone());
        let driver: Layered<Set, HostDriver> = Layered::new(HostDriver::new(1 << 40));
        Memory::with_driver(Box::new(driver), PoolConfiguration::default())
    }

    /// Springs once at the next such call.
    pub fn arm(&self, trigger: Trigger) {
        self.0.store(trigger as u8, Ordering::Release);
    }

    /// Whether it sprang since it was armed.
    pub fn is_sprung(&self) -> bool {
        self.0.load(Ordering::Acquire) == SPRUNG
    }
}
