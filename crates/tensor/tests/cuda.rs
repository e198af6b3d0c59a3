//! A CUDA device conforms to the device suite, on the stand-in for the driver's library: the
//! stand-in runs the same kernels on the CPU, one thread of a block after the other, in any order.

#![cfg(target_os = "linux")]

mod common;
mod conformance;

use common::Fixture;
use common::fixture::Tolerances;
use common::tight::{Edge, Tight};
use cuda_stand_in::client::StandIn;
use sottovoce_memory::driver::Driver;
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
    on_driver(settings, cases, None)
}

/// A kernel that goes past this end of a tensor or a weight faults.
fn on_driver(settings: &str, cases: u32, edge: Option<Edge>) -> OnStandIn {
    let ordinal = FREE.lock().expect("a list").pop().unwrap_or_else(|| {
        let mut next = NEXT.lock().expect("a number");
        *next += 1;
        *next - 1
    });
    let device = StandIn::new(ordinal, &format!("memory=2147483648 {settings}"));
    let driver = CudaDriver::open(ordinal, None).expect("a driver");
    let context = Arc::clone(driver.context());
    let driver: Box<dyn Driver> = match edge {
        Some(edge) => Box::new(Tight::new(driver, edge)),
        None => Box::new(driver),
    };
    let memory = Memory::with_driver(driver, PoolConfiguration::default());
    let cuda = Cuda::open(&context, &memory).expect("a device that computes");
    OnStandIn {
        fixture: ManuallyDrop::new(Fixture {
            devices: vec![Box::new(cuda)],
            memory,
            tolerances: Tolerances {
                exact: false,
                // Rows are not rounded where weights are in integers.
                linear: |_| 1e-6,
                coarse: 4e-4,
                convolution: |_| 1e-6,
                ..Tolerances::default()
            },
            cases,
            apart: edge.is_some(),
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

mod with_nothing_before_a_tensor {
    use crate::common::tight::Edge;
    use crate::{conformance, on_driver};
    use sottovoce_memory::{Owner, Region};

    conformance::suite!(*on_driver("generation=86 fill=on", 3, Some(Edge::Front)));

    #[test]
    fn a_block_begins_where_its_piece_begins() {
        let card = on_driver("", 1, Some(Edge::Front));
        let blocks = [100, 5000].map(|bytes| {
            let owner = Owner::new(Region::Workspace, "test");
            card.memory.reserve_exact(bytes, owner).unwrap()
        });
        for block in &blocks {
            assert!(block.address().0.is_multiple_of(2 << 20));
        }
    }
}

mod with_nothing_behind_a_tensor {
    use crate::common::tight::Edge;
    use crate::{conformance, on_driver};
    use sottovoce_tensor::Precision;

    conformance::suite!(*on_driver("generation=86 fill=on", 3, Some(Edge::Back)));

    #[test]
    fn a_kernel_that_reads_past_a_table_faults() {
        let card = on_driver("", 1, Some(Edge::Back));
        let table = card.matrix(16, 64, &[0.5; 16 * 64], Precision::F32);
        let workspace = sottovoce_tensor::Workspace::apart(&card.memory, "test");
        let device = &*card.devices[0];
        let ctx = sottovoce_tensor::Context::new(&workspace, device);
        let mut out = ctx.zeros(&[1, 64]);
        for (id, works) in [(15, true), (16, false)] {
            device.embedding(&table, &[id], out.view_mut());
            assert_eq!(ctx.download(&out).is_ok(), works, "row {id} of 16");
        }
    }
}
