//! The CUDA driver over a library that lacks functions, as an older one does. A process loads the
//! library once, so each case has a process of its own.

#![cfg(target_os = "linux")]

use cuda_stand_in::client::{self, DEMO_PTX, StandIn};
use sottovoce_memory::driver::cuda::{
    CudaDriver, CudaError, Generation, Module, Queue, Staging, Target,
};
use sottovoce_memory::driver::{Address, Driver, DriverError};
use std::sync::Arc;

const UNIT: u64 = 2 << 20;

fn read(driver: &CudaDriver, from: Address, into: &mut [u8]) -> Result<(), DriverError> {
    // SAFETY: tests use their addresses exclusively, or test a refusal.
    unsafe { driver.read(from, into) }
}

fn write(driver: &CudaDriver, bytes: &[u8], to: Address) -> Result<(), DriverError> {
    // SAFETY: tests use their addresses exclusively, or test a refusal.
    unsafe { driver.write(bytes, to) }
}

#[test]
fn a_driver_without_a_group_of_functions_serves_all_others_and_names_the_missing_one() {
    for missing in [
        "cuMemAddressReserve",
        "cuStreamCreate",
        "cuLaunchKernel",
        "cuFuncGetParamInfo",
        "cuGraphInstantiateWithFlags",
        "cuMemAlloc_v2",
    ] {
        client::run_in_child("in_a_process_with_such_a_driver", missing, None);
    }
}

#[test]
fn in_a_process_with_such_a_driver() {
    let Some(missing) = client::child_argument() else {
        return;
    };
    let missing = missing.as_str();
    let folder = tempfile::tempdir().unwrap();
    client::load(&client::install(folder.path(), &[missing]).unwrap());
    let stand_in = StandIn::new(0, "memory=67108864");
    let driver = match CudaDriver::open(0, None) {
        Err(CudaError::MissingSymbol { symbol }) => {
            assert_eq!((symbol, missing), ("cuMemAlloc_v2", "cuMemAlloc_v2"));
            return;
        }
        result => result.unwrap(),
    };
    let piece = driver.allocate(4 * UNIT).unwrap();
    write(&driver, &[3; 100], piece).unwrap();
    let mut bytes = [0; 100];
    read(&driver, piece, &mut bytes).unwrap();
    assert_eq!(bytes, [3; 100], "memory works without all others");
    let shrinks = driver.shrink(piece, UNIT).is_ok();
    assert_eq!(shrinks, missing != "cuMemAddressReserve");
    let device = driver.device();
    assert_eq!(device.ranges_off.is_some(), !shrinks);
    let needed = [
        "cuStreamCreate",
        "cuLaunchKernel",
        "cuGraphInstantiateWithFlags",
    ];
    let off = device.compute_off.unwrap_or_default();
    assert_eq!(
        off.contains(missing),
        needed.contains(&missing),
        "the device says what it cannot compute without: {off:?}"
    );

    let queue = Queue::new(driver.context()).map(Arc::new);
    expect(missing, "cuStreamCreate", queue.as_ref().err());
    let ptx = Target::Ptx(Generation { major: 7, minor: 0 });
    let module = Module::load(driver.context(), "demo", ptx, DEMO_PTX.into()).map(Arc::new);
    expect(missing, "cuLaunchKernel", module.as_ref().err());
    if let Ok(module) = &module {
        module.kernel("demo_fill", &[8, 4, 4]).unwrap();
        let refused = module.kernel("demo_fill", &[8]).is_err();
        assert_eq!(refused, missing != "cuFuncGetParamInfo");
    }
    if let Ok(queue) = &queue {
        Staging::new(queue, 2, 64).unwrap();
        let graph = queue.capture_graph(|| queue.fill(piece, 0, 4));
        expect(missing, "cuGraphInstantiateWithFlags", graph.err().as_ref());
        queue.fill(piece, 1, 4).expect("the queue goes on");
    }
    drop((queue, module));
    driver.free(piece).unwrap();
    drop(driver);
    stand_in.expect_clean(missing);
}

/// Expects an error that names the missing function if the feature needs it, and none otherwise.
fn expect(missing: &str, needs: &str, error: Option<&CudaError>) {
    let text = error.map(CudaError::to_string).unwrap_or_default();
    assert_eq!(error.is_some(), missing == needs, "{missing}: {text}");
    assert!(
        text.is_empty() || text.contains(missing),
        "{missing}: {text}"
    );
}
