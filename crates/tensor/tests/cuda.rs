//! A CUDA device conforms to the device suite, on the stand-in for the driver's library: the
//! stand-in runs the same kernels on the CPU, one thread of a block after the other, in any order.

#![cfg(target_os = "linux")]

mod common;
mod conformance;

use common::Fixture;
use common::fixture::Tolerances;
use cuda_stand_in::client::StandIn;
use sottovoce_memory::driver::cuda::CudaDriver;
use sottovoce_memory::{Memory, PoolConfiguration};
use sottovoce_tensor::cuda::Cuda;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

/// Device ordinals of the stand-in that no test uses.
static FREE: Mutex<Vec<u32>> = Mutex::new(Vec::new());
static NEXT: Mutex<u32> = Mutex::new(0);

/// A fixture on a device of the stand-in that belongs to one test.
struct OnStandIn {
    fixture: ManuallyDrop<Fixture>,
    device: StandIn,
}

fn on_stand_in(settings: &str, cases: u32) -> OnStandIn {
    let ordinal = FREE.lock().expect("a list").pop().unwrap_or_else(|| {
        let mut next = NEXT.lock().expect("a number");
        *next += 1;
        *next - 1
    });
    let device = StandIn::new(ordinal, &format!("memory=2147483648 {settings}"));
    let driver = CudaDriver::open(ordinal, None).expect("a driver");
    let context = Arc::clone(driver.context());
    let memory = Memory::with_driver(Box::new(driver), PoolConfiguration::default());
    let cuda = Cuda::open(&context, &memory).expect("a device that computes");
    OnStandIn {
        fixture: ManuallyDrop::new(Fixture {
            devices: vec![Box::new(cuda)],
            memory,
            tolerances: Tolerances {
                exact: false,
                // Rows are not rounded where weights are in integers.
                linear: |_| 1e-6,
                convolution: |_| 1e-6,
                ..Tolerances::default()
            },
            cases,
        }),
        device,
    }
}

impl Deref for OnStandIn {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.fixture
    }
}

impl Drop for OnStandIn {
    fn drop(&mut self) {
        // SAFETY: it is dropped only here.
        unsafe { ManuallyDrop::drop(&mut self.fixture) };
        if !std::thread::panicking() {
            self.device.expect_clean("after the test");
            FREE.lock().expect("a list").push(self.device.ordinal());
        }
    }
}

mod in_natural_order {
    use crate::{conformance, on_stand_in};

    conformance::suite!(*on_stand_in("generation=75 order=natural", 8));
}

mod in_reverse_order {
    use crate::{conformance, on_stand_in};

    conformance::suite!(*on_stand_in("generation=86 order=reverse", 3));
}

mod in_shuffled_order {
    use crate::{conformance, on_stand_in};

    conformance::suite!(*on_stand_in("generation=120 order=shuffled:5", 3));
}
