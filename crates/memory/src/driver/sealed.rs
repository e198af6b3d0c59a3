//! A driver that can be sealed. A sealed driver refuses every call, which enforces "no driver call
//! in steady state".

use super::{Call, DeviceMemory, Driver, DriverError, Layer, Layered};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A driver that can be sealed.
pub type Sealed<D> = Layered<Seal, D>;

/// The handle that seals and unseals a [`Sealed`] driver. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Seal(Arc<AtomicBool>);

impl Seal {
    /// Refuses every call from now on.
    pub fn close(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Admits calls again.
    pub fn open(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    /// Whether calls are refused.
    pub fn is_closed(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Layer for Seal {
    fn before(
        &self,
        call: Call,
        _bytes: u64,
        _memory: &dyn Fn() -> DeviceMemory,
    ) -> Result<(), DriverError> {
        match self.is_closed() {
            true => Err(DriverError::Sealed { call: call.name() }),
            false => Ok(()),
        }
    }
}

impl<D: Driver> Sealed<D> {
    /// The handle that seals and unseals the driver.
    pub fn seal(&self) -> Seal {
        self.layer.clone()
    }
}
