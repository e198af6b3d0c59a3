//! A CUDA device conforms to the device suite, on the stand-in for the driver's library: the
//! stand-in runs the same kernels on the CPU, one thread of a block after the other, in any order.

#![cfg(target_os = "linux")]

mod common;
mod conformance;

use common::Fixture;
use common::fixture::Tolerances;
use common::tight::{Edge, Tight};
use cuda_stand_in::client::{DEMO_PTX, StandIn};
use sottovoce_memory::driver::Driver;
use sottovoce_memory::driver::cuda::{
    CudaContext, CudaDriver, CudaError, Generation, LaunchShape, Module, Queue, Target,
};
use sottovoce_memory::{Memory, Owner, PoolConfiguration, Region};
use sottovoce_tensor::cuda::Cuda;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

/// Device ordinals of the stand-in that no test uses.
static FREE: Mutex<Vec<u32>> = Mutex::new(Vec::new());
static NEXT: Mutex<u32> = Mutex::new(0);

/// A fixture on a device of the stand-in that belongs to one test.
struct OnStandIn {
    fixture: Fixture,
    context: Arc<CudaContext>,
    /// Dropped last: by then the device is expected to be empty.
    lent: Lent,
}

/// A device of the stand-in, which goes back to [`FREE`].
struct Lent(StandIn);

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
        fixture: Fixture {
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
        },
        context,
        lent: Lent(device),
    }
}

impl Deref for OnStandIn {
    type Target = Fixture;

    fn deref(&self) -> &Fixture {
        &self.fixture
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.expect_clean("after the test");
            FREE.lock().expect("a list").push(self.0.ordinal());
        }
    }
}

/// Reads one number `offset` bytes from the start of a tensor of 25 numbers that has a piece of its
/// own, with a kernel made for it; returns what the device says then.
fn read_at(card: &OnStandIn, offset: i64) -> Result<(), CudaError> {
    let owner = Owner::new(Region::Workspace, "test");
    let [from, to] = [100, 100].map(|bytes| card.memory.reserve_exact(bytes, owner).unwrap());
    let queue = Arc::new(Queue::new(&card.context)?);
    let ptx = Target::Ptx(Generation { major: 7, minor: 0 });
    let module = Module::load(&card.context, "demo", ptx, DEMO_PTX.into())?;
    let add = Arc::new(module).kernel("demo_add", &[8, 8, 8, 4])?;
    let (to, from) = (to.address().0, from.address().0);
    let read = from.checked_add_signed(offset).unwrap();
    let parameters = [to, read, from].map(u64::to_ne_bytes);
    let [to, read, from] = parameters.each_ref().map(|bytes| &bytes[..]);
    let shape = LaunchShape::row(1, 32);
    // SAFETY: the addresses are those of live blocks, or the device's refusal is what is tested.
    unsafe { queue.launch(&add, &shape, &[to, read, from, &1_u32.to_ne_bytes()])? };
    queue.synchronize()
}

/// Whether a fault is told for exactly these offsets from the start of a tensor.
fn expect_faults(edge: Edge, offsets: [(i64, bool); 3]) {
    for (offset, faults) in offsets {
        let card = on_driver("", 1, Some(edge));
        let read = read_at(&card, offset);
        match faults {
            true => assert!(
                matches!(read, Err(CudaError::Faulted { .. })),
                "{offset}: {read:?}"
            ),
            false => assert!(read.is_ok(), "{offset}: {read:?}"),
        }
    }
}

#[test]
fn kernels_begin_early_on_cards_that_can_and_in_turn_on_others() {
    for (settings, early) in [
        ("generation=75", false),
        ("generation=86", false),
        // There is no machine code for it, and PTX is that of a generation without waits.
        ("generation=100", false),
        ("generation=90", true),
        ("generation=120", true),
    ] {
        let card = on_driver(settings, 1, None);
        let count = |call| card.lent.0.count(call);
        let (in_turn, ahead) = (count("cuLaunchKernel"), count("cuLaunchKernelEx"));
        assert_eq!((ahead > 0, in_turn > 0), (early, !early), "{settings}");
    }
}

mod in_natural_order {
    use crate::{conformance, on_stand_in};

    conformance::suite!(*on_stand_in("generation=75 order=natural", 4));
}

mod in_reverse_order {
    use crate::{conformance, on_stand_in};

    conformance::suite!(*on_stand_in("generation=86 order=reverse", 2));
}

mod in_shuffled_order {
    use crate::{conformance, on_stand_in};

    conformance::suite!(*on_stand_in("generation=120 order=shuffled:5", 2));
}

mod with_nothing_before_a_tensor {
    use crate::common::tight::Edge;
    use crate::{conformance, expect_faults, on_driver};
    use sottovoce_memory::{Owner, Region};

    conformance::suite!(*on_driver("generation=80 fill=on", 2, Some(Edge::Front)));

    #[test]
    fn a_kernel_that_reads_before_a_tensor_faults() {
        expect_faults(Edge::Front, [(-4, true), (0, false), (96, false)]);
    }

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
    use crate::{conformance, expect_faults, on_driver};
    use sottovoce_tensor::Precision;

    conformance::suite!(*on_driver("generation=80 fill=on", 2, Some(Edge::Back)));

    #[test]
    fn a_kernel_that_reads_past_a_tensor_faults() {
        // A piece of 100 bytes ends at a multiple of 16 bytes.
        expect_faults(Edge::Back, [(112, true), (0, false), (96, false)]);
    }

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
