//! The CUDA driver beside other users of the same device in the same process, over the stand-in:
//! a thread's current context stays theirs, and neither disturbs the other's captures.

#![cfg(target_os = "linux")]

use cuda_stand_in::client::{
    DEMO_PTX, StandIn, child_argument, library, load, run_in_child_with, within_patience,
};
use sottovoce_memory::driver::cuda::{
    CudaDriver, CudaError, Generation, Kernel, LaunchShape, Module, Queue, Staging, Target,
};
use sottovoce_memory::driver::{Address, Driver};
use sottovoce_memory::{Memory, Owner, PoolConfiguration, Region};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

const UNIT: u64 = 2 << 20;
const PTX: Target = Target::Ptx(Generation { major: 7, minor: 0 });

/// `demo_fill` of [`DEMO_PTX`].
fn fill_kernel(driver: &CudaDriver) -> Kernel {
    let module = Module::load(driver.context(), "demo", PTX, DEMO_PTX.into()).unwrap();
    Arc::new(module).kernel("demo_fill", &[8, 4, 4]).unwrap()
}

/// Scales or fills `count` numbers at `at`.
fn launch(
    queue: &Queue,
    kernel: &Kernel,
    at: Address,
    x: f32,
    count: u32,
) -> Result<(), CudaError> {
    let parameters: [&[u8]; 3] = [&at.0.to_ne_bytes(), &x.to_ne_bytes(), &count.to_ne_bytes()];
    // SAFETY: tests pass addresses of their own.
    unsafe {
        queue.launch(
            kernel,
            &LaunchShape::row(count.div_ceil(64), 64),
            &parameters,
        )
    }
}

#[test]
fn a_threads_device_is_the_same_after_every_call_as_before() {
    let others = StandIn::new(0, "");
    let stand_in = StandIn::new(1, "");
    let after = others.while_current(|| {
        let driver = CudaDriver::open(1, None).unwrap();
        let context = driver.context().clone();
        let queue = Arc::new(Queue::new(&context).unwrap());
        let kernel = fill_kernel(&driver);
        let memory = Memory::with_driver(Box::new(driver), PoolConfiguration::default());
        let block = memory
            .reserve_exact(4096, Owner::new(Region::Workspace, "test"))
            .unwrap();
        let mut staging = Staging::new(&queue, 2, 64).unwrap();
        let graph = queue.capture_graph(|| launch(&queue, &kernel, block.address(), 2.5, 1));
        queue.launch_graph(&graph.unwrap()).unwrap();
        let mut read = [0; 4];
        staging.read(block.address(), &mut read).unwrap();
        assert_eq!(f32::from_ne_bytes(read), 2.5);
        drop(block);
        memory.trim();
    });
    assert_eq!(after, Some(0), "the other library's device is current");
    stand_in.expect_clean("after the test");
    others.expect_clean("after the test");
}

#[test]
fn memory_is_given_back_while_another_user_of_the_device_captures() {
    within_patience("a capture beside another user", || {
        let stand_in = StandIn::new(2, "");
        let [one, other] = [0, 1].map(|_| CudaDriver::open(2, None).unwrap());
        let queue = Arc::new(Queue::new(one.context()).unwrap());
        let kernel = fill_kernel(&one);
        let place = one.allocate(UNIT).unwrap();
        let graph = queue.capture_graph(|| {
            launch(&queue, &kernel, place, 1.0, 1)?;
            let beside = std::thread::scope(|scope| {
                let work = || {
                    let others = other.allocate(UNIT)?;
                    // SAFETY: the place is this thread's own.
                    unsafe { other.write(&[7; 16], others) }?;
                    other.free(others)
                };
                scope.spawn(work).join().unwrap()
            });
            beside.expect("it is no concern of the capture");
            launch(&queue, &kernel, place, 2.0, 1)
        });
        assert_eq!(graph.map(|graph| graph.node_count()), Ok(2));
        one.free(place).unwrap();
        drop((kernel, queue, one, other));
        stand_in.expect_clean("after the test");
    });
}

#[test]
fn memory_that_another_thread_gives_back_waits_for_the_end_of_a_capture() {
    within_patience("a capture beside another thread", || {
        let stand_in = StandIn::new(3, "");
        let driver = CudaDriver::open(3, None).unwrap();
        let queue = Arc::new(Queue::new(driver.context()).unwrap());
        let kernel = fill_kernel(&driver);
        let [place, others] = [0, 1].map(|_| driver.allocate(UNIT).unwrap());
        let (begun, capturing) = sync_channel(1);
        let (freed, done) = sync_channel(1);
        std::thread::scope(|scope| {
            let driver = &driver;
            scope.spawn(move || {
                capturing.recv().unwrap();
                let event = driver.record_event(0);
                freed.send((event, driver.free(others))).unwrap();
            });
            let graph = queue.capture_graph(|| {
                launch(&queue, &kernel, place, 1.0, 1)?;
                begun.send(()).unwrap();
                let early = done.recv_timeout(Duration::from_millis(50));
                assert!(early.is_err(), "what a capture forbids comes after it");
                launch(&queue, &kernel, place, 2.0, 1)
            });
            assert_eq!(graph.map(|graph| graph.node_count()), Ok(2));
            let (event, freed) = done.recv().unwrap();
            assert_eq!(freed, Ok(()));
            driver.wait_event(event);
            assert!(driver.event_done(event));
        });
        driver.free(place).unwrap();
        drop((kernel, queue, driver));
        stand_in.expect_clean("after the test");
    });
}

#[test]
fn memory_is_given_back_within_a_capture_only_to_be_refused() {
    within_patience("memory within a capture", || {
        let stand_in = StandIn::new(4, "");
        let driver = CudaDriver::open(4, None).unwrap();
        let queue = Arc::new(Queue::new(driver.context()).unwrap());
        let place = driver.allocate(UNIT).unwrap();
        let graph = queue.capture_graph(|| {
            driver.free(place).expect_err("a capture cannot wait");
            Ok::<(), CudaError>(())
        });
        graph.expect_err("it was spoilt");
        driver.free(place).unwrap();
        drop((queue, driver));
        stand_in.expect_clean("after the test");
    });
}

#[test]
fn written_bytes_are_there_for_every_queue() {
    let stand_in = StandIn::new(5, "");
    let driver = CudaDriver::open(5, None).unwrap();
    let queue = Arc::new(Queue::new(driver.context()).unwrap());
    let place = driver.allocate(UNIT).unwrap();
    let mut staging = Staging::new(&queue, 2, 64).unwrap();
    // SAFETY: the place is the test's own.
    unsafe { driver.write(&[7; 16], place) }.unwrap();
    let mut read = [0; 16];
    staging.read(place, &mut read).unwrap();
    assert_eq!(read, [7; 16]);
    driver.free(place).unwrap();
    drop((staging, queue, driver));
    stand_in.expect_clean("after the test");
}

/// Opening device 1 says what the argument has.
#[test]
fn visible_devices() {
    let Some(expected) = child_argument() else {
        return;
    };
    load(&library());
    let said = match CudaDriver::open(1, None) {
        Ok(driver) => driver.device().ordinal.to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(said, expected);
}

#[test]
fn a_list_of_visible_devices_that_hides_all_is_named() {
    let none = "no CUDA: the NVIDIA driver shows this program no card; see CUDA_VISIBLE_DEVICES and what nvidia-smi lists";
    let one = "no CUDA device 1: the driver knows 1, counted from 0";
    for (visible, expected) in [
        ("", none),
        ("-1", none),
        ("1,1", none),
        ("MIG-5f", none),
        ("0", one),
        ("1,-1,0", one),
        ("1,0", "1"),
    ] {
        let variables = [("CUDA_VISIBLE_DEVICES", visible)];
        run_in_child_with(&variables, "visible_devices", expected, None);
    }
}

#[test]
fn a_card_without_room_for_a_context_is_refused_with_its_numbers() {
    let _stand_in = StandIn::new(6, "memory=1073741824 taken=1000000000 context=314572800");
    let refused = CudaDriver::open(6, None)
        .err()
        .map(|error| error.to_string());
    assert_eq!(
        refused.as_deref(),
        Some(
            "the CUDA device has no room for the driver itself, which takes some hundred megabytes: too few of 1073741824 bytes are free; end other programs that use it"
        )
    );
}

#[test]
fn a_failed_question_for_parameters_is_not_taken_for_wrong_ones() {
    let stand_in = StandIn::new(7, "fail=cuFuncGetParamInfo:0:999");
    let driver = CudaDriver::open(7, None).unwrap();
    let module = Module::load(driver.context(), "demo", PTX, DEMO_PTX.into()).unwrap();
    let refused = Arc::new(module).kernel("demo_fill", &[8, 4, 4]).err();
    let expected = CudaError::Failed {
        call: "cuFuncGetParamInfo",
        message: "CUDA_ERROR_UNKNOWN (999)".to_owned(),
    };
    assert_eq!(refused, Some(expected));
    drop(driver);
    stand_in.expect_clean("after the refusal");
}
