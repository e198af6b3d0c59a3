//! Queues, kernels and graphs of the CUDA driver over the stand-in, whose queues execute nothing
//! before a wait.

#![cfg(target_os = "linux")]

use cuda_stand_in::client::{self, DEMO_PTX, StandIn};
use sottovoce_memory::driver::cuda::{
    CudaContext, CudaDriver, CudaError, Generation, Graph, Kernel, LaunchShape, Module, Queue,
    Staging, Target,
};
use sottovoce_memory::driver::{Address, Driver, DriverError};
use sottovoce_memory::pool::Pool;
use sottovoce_memory::{Memory, Owner, PoolConfiguration, Region};
use std::path::Path;
use std::sync::Arc;

const CAPACITY: u64 = 256 << 20;
const UNIT: u64 = 2 << 20;
const PTX: Target = Target::Ptx(Generation { major: 7, minor: 0 });

/// A device with a queue and the kernels of [`DEMO_PTX`].
struct Device {
    queue: Arc<Queue>,
    fill: Kernel,
    scale: Kernel,
    add: Kernel,
    driver: CudaDriver,
}

impl Device {
    fn open(ordinal: u32) -> Result<Device, CudaError> {
        Device::over(CudaDriver::open(ordinal, None)?)
    }

    fn over(driver: CudaDriver) -> Result<Device, CudaError> {
        let queue = Arc::new(Queue::new(driver.context())?);
        let module = Arc::new(Module::load(
            driver.context(),
            "demo",
            PTX,
            DEMO_PTX.into(),
        )?);
        Ok(Device {
            queue,
            fill: module.kernel("demo_fill", &[8, 4, 4])?,
            scale: module.kernel("demo_scale", &[8, 4, 4])?,
            add: module.kernel("demo_add", &[8, 8, 8, 4])?,
            driver,
        })
    }

    fn context(&self) -> &Arc<CudaContext> {
        self.driver.context()
    }

    fn fill(&self, at: Address, value: f32, count: u32) -> Result<(), CudaError> {
        self.launch(&self.fill, at, value, count)
    }

    fn scale(&self, at: Address, factor: f32, count: u32) -> Result<(), CudaError> {
        self.launch(&self.scale, at, factor, count)
    }

    fn launch(&self, kernel: &Kernel, at: Address, x: f32, count: u32) -> Result<(), CudaError> {
        let shape = LaunchShape::row(count.div_ceil(64), 64);
        let parameters: [&[u8]; 3] = [&at.0.to_ne_bytes(), &x.to_ne_bytes(), &count.to_ne_bytes()];
        // SAFETY: tests pass addresses of their own, or test the refusal of a device that only
        // stands in.
        unsafe { self.queue.launch(kernel, &shape, &parameters) }
    }

    fn add(&self, to: Address, left: Address, right: Address, count: u32) -> Result<(), CudaError> {
        let shape = LaunchShape::row(count.div_ceil(64), 64);
        let parameters: [&[u8]; 4] = [
            &to.0.to_ne_bytes(),
            &left.0.to_ne_bytes(),
            &right.0.to_ne_bytes(),
            &count.to_ne_bytes(),
        ];
        // SAFETY: tests pass addresses of their own, or test the refusal of a device that only
        // stands in.
        unsafe { self.queue.launch(&self.add, &shape, &parameters) }
    }

    fn read(&self, from: Address, count: usize) -> Result<Vec<f32>, DriverError> {
        let mut bytes = vec![0; count * 4];
        read(&self.driver, from, &mut bytes)?;
        Ok(floats(&bytes))
    }
}

fn read(driver: &CudaDriver, from: Address, into: &mut [u8]) -> Result<(), DriverError> {
    // SAFETY: tests use their addresses exclusively, or test a refusal.
    unsafe { driver.read(from, into) }
}

fn write(driver: &CudaDriver, bytes: &[u8], to: Address) -> Result<(), DriverError> {
    // SAFETY: tests use their addresses exclusively, or test a refusal.
    unsafe { driver.write(bytes, to) }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let numbers = bytes.chunks_exact(4);
    (numbers.map(|bytes| f32::from_ne_bytes(bytes.try_into().unwrap()))).collect()
}

fn bytes(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|x| x.to_ne_bytes()).collect()
}

/// (x + y) · 3 of 1,000 numbers x = 2 and y = their index, eagerly.
fn compute(device: &Device) -> Result<Vec<f32>, CudaError> {
    let place = (device.driver.allocate(3 * UNIT)).map_err(|error| CudaError::Failed {
        call: "allocate",
        message: error.to_string(),
    })?;
    let (left, right) = (place.offset(UNIT), place.offset(2 * UNIT));
    let mut staging = Staging::new(&device.queue, 2, 1024)?;
    let index: Vec<f32> = (0..1000_u16).map(f32::from).collect();
    staging.write(&bytes(&index), right)?;
    device.fill(left, 2.0, 1000)?;
    device.add(place, left, right, 1000)?;
    device.scale(place, 3.0, 1000)?;
    let mut result = vec![0; 4000];
    staging.read(place, &mut result)?;
    drop(staging);
    let freed = device
        .driver
        .free(place)
        .or_else(|_| device.driver.free(place));
    freed.map_err(|error| CudaError::Failed {
        call: "free",
        message: error.to_string(),
    })?;
    Ok(floats(&result))
}

fn expected() -> Vec<f32> {
    (0..1000_u16).map(|x| (2.0 + f32::from(x)) * 3.0).collect()
}

#[test]
fn kernels_compute_in_every_order_of_threads_on_every_generation() {
    for order in ["natural", "reverse", "shuffled:1", "shuffled:2"] {
        for generation in [75, 86] {
            let settings = format!("memory={CAPACITY} order={order} generation={generation}");
            let stand_in = StandIn::new(0, &settings);
            let device = Device::open(0).unwrap();
            assert_eq!(compute(&device).unwrap(), expected(), "{settings}");
            let counts = device.context().counts();
            assert_eq!((counts.launches, counts.graph_launches), (3, 0));
            assert_eq!((counts.bytes_written, counts.bytes_read), (4000, 4000));
            drop(device);
            stand_in.expect_clean(&settings);
            assert_eq!(stand_in.count("launches"), 3);
        }
    }
}

#[test]
fn without_a_wait_the_old_bytes_are_read() {
    let stand_in = StandIn::new(1, &format!("memory={CAPACITY}"));
    let device = Device::open(1).unwrap();
    let other = Arc::new(Queue::new(device.context()).unwrap());
    let place = device.driver.allocate(UNIT).unwrap();
    write(&device.driver, &bytes(&[1.0; 4]), place).unwrap();
    device.fill(place, 5.0, 4).unwrap();
    assert!(!device.queue.is_done().unwrap(), "nobody has waited yet");
    assert!(
        device.queue.is_done().unwrap(),
        "a question gets the work going"
    );
    device.scale(place, 2.0, 4).unwrap();
    // Another queue does not wait for this one unless told to.
    let mut staging = Staging::new(&other, 2, 64).unwrap();
    let mut result = [0; 16];
    staging.read(place, &mut result).unwrap();
    assert_eq!(floats(&result), [5.0; 4], "the old bytes");
    other.wait_for(&device.queue).unwrap();
    staging.read(place, &mut result).unwrap();
    assert_eq!(floats(&result), [10.0; 4]);
    drop((staging, other));
    device.driver.free(place).unwrap();
    drop(device);
    stand_in.expect_clean("after the test");
}

/// Captures x ← x + y; y ← y · 2.
fn capture(device: &Device, x: Address, y: Address) -> Result<Graph, CudaError> {
    (device.queue).capture_graph(|| {
        device.add(x, x, y, 1000)?;
        device.scale(y, 2.0, 1000)
    })
}

#[test]
fn a_graph_replays_what_was_done_eagerly_and_allocates_nothing() {
    let stand_in = StandIn::new(2, &format!("memory={CAPACITY}"));
    let device = Device::open(2).unwrap();
    let place = device.driver.allocate(2 * UNIT).unwrap();
    let (x, y) = (place, place.offset(UNIT));
    let start: Vec<f32> = (0..1000_u16).map(|x| 0.37 * f32::from(x)).collect();
    let begin = || {
        write(&device.driver, &bytes(&start), x).unwrap();
        write(&device.driver, &bytes(&start), y).unwrap();
    };
    begin();
    for _ in 0..5 {
        device.add(x, x, y, 1000).unwrap();
        device.scale(y, 2.0, 1000).unwrap();
    }
    let eager = device.read(x, 1000).unwrap();
    begin();
    let graph = capture(&device, x, y).unwrap();
    assert_eq!(graph.node_count(), 2);
    assert_eq!(
        device.read(x, 1000).unwrap(),
        start,
        "a capture does nothing"
    );
    device.context().keep_current().unwrap();
    let before = device.context().counts();
    for _ in 0..5 {
        device.queue.launch_graph(&graph).unwrap();
    }
    let after = device.context().counts();
    assert_eq!(after.graph_launches - before.graph_launches, 5);
    assert_eq!(after.launches, before.launches);
    assert_eq!(
        after.calls - before.calls,
        10,
        "the current context is asked for, and the graph launched: no more for each"
    );
    assert_eq!(device.read(x, 1000).unwrap(), eager);
    // Kernels stay loaded while a graph uses them.
    let Device {
        queue,
        fill,
        scale,
        add,
        driver,
    } = device;
    drop((fill, scale, add));
    queue.launch_graph(&graph).unwrap();
    queue.synchronize().unwrap();
    driver.free(place).unwrap();
    drop((graph, queue, driver));
    stand_in.expect_clean("after the test");
}

#[test]
fn what_cannot_be_captured_is_refused_and_the_queue_keeps_working() {
    let stand_in = StandIn::new(3, &format!("memory={CAPACITY}"));
    let device = Device::open(3).unwrap();
    let place = device.driver.allocate(UNIT).unwrap();
    let mut staging = Staging::new(&device.queue, 2, 64).unwrap();
    let waits = device.queue.capture_graph(|| device.queue.synchronize());
    assert!(
        matches!(waits, Err(CudaError::Capturing { .. })),
        "{waits:?}"
    );
    let copies = device.queue.capture_graph(|| staging.write(&[1], place));
    assert!(
        matches!(copies, Err(CudaError::Capturing { .. })),
        "{copies:?}"
    );
    let nested = (device.queue).capture_graph(|| {
        (device.queue)
            .capture_graph(|| Ok::<(), CudaError>(()))
            .map(|_| ())
    });
    assert!(
        matches!(nested, Err(CudaError::Capturing { .. })),
        "{nested:?}"
    );
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = (device.queue).capture_graph::<CudaError>(|| panic!("the test's own"));
    }));
    assert!(panics.is_err());
    drop(staging);
    assert_eq!(compute(&device).unwrap(), expected());
    device.driver.free(place).unwrap();
    drop(device);
    stand_in.expect_clean("after the test");
}

#[test]
fn a_module_that_is_not_of_these_sources_is_refused_and_says_why() {
    let stand_in = StandIn::new(4, &format!("memory={CAPACITY} generation=75"));
    let driver = CudaDriver::open(4, None).unwrap();
    let context = driver.context();
    let load = |text: String| Module::load(context, "demo", PTX, text.into_bytes()).err();
    let stale = DEMO_PTX.replacen(
        ".param .f32 demo_fill_param_1",
        ".param .f64 demo_fill_param_1",
        1,
    );
    let cases = [
        (stale, "[8, 8, 4] bytes, its source [8, 4, 4]"),
        (
            DEMO_PTX.replace("demo_add", "demo_sum"),
            "demo_sum is in no source",
        ),
        (
            DEMO_PTX.replace(".version 7.0", ".version 9.9"),
            "newer than the driver",
        ),
        (
            DEMO_PTX.replace("sm_70", "sm_80"),
            "sm_75 runs no PTX for sm_80",
        ),
        (String::from("no text of PTX"), "no .version"),
        (DEMO_PTX.replacen(' ', "\0", 1), "a zero in it"),
    ];
    for (text, word) in cases {
        let error = load(text);
        let found = error.as_ref().map(CudaError::to_string).unwrap_or_default();
        assert!(
            matches!(error, Some(CudaError::Image { .. })) && found.contains(word),
            "{found:?} must say {word:?}"
        );
        assert!(!found.contains('\n'), "{found:?} is one line");
    }
    let machine_code = Module::load(context, "demo", PTX, DEMO_PTX.into());
    let module = Arc::new(machine_code.unwrap());
    let missing = module.kernel("demo_sum", &[8]).err();
    assert!(
        matches!(missing, Some(CudaError::NoKernel { .. })),
        "{missing:?}"
    );
    for sizes in [&[8, 4][..], &[8, 4, 4, 4], &[8, 8, 4], &[]] {
        let refused = module.kernel("demo_fill", sizes).err();
        assert!(
            matches!(&refused, Some(CudaError::Parameters { expected, .. }) if expected == &[8, 4, 4]),
            "{refused:?}"
        );
    }
    drop((module, driver));
    stand_in.expect_clean("after the test");
}

#[test]
fn a_card_that_faults_while_a_module_is_loaded_is_not_taken_for_an_old_driver() {
    let stand_in = StandIn::new(30, &format!("memory={CAPACITY}"));
    let driver = CudaDriver::open(30, None).unwrap();
    stand_in.set("fail=cuModuleLoadDataEx:0:214");
    let refused = Module::load(driver.context(), "demo", PTX, DEMO_PTX.into()).err();
    assert!(
        matches!(refused, Some(CudaError::Faulted { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_module_falls_back_from_machine_code_that_is_refused_to_ptx() {
    let stand_in = StandIn::new(5, &format!("memory={CAPACITY} generation=86"));
    let driver = CudaDriver::open(5, None).unwrap();
    let generation = driver.context().generation();
    let cubin = Target::Cubin(generation);
    let mut asked = Vec::new();
    let module = Module::load_best(driver.context(), "demo", &[PTX, cubin], |target| {
        asked.push(target);
        Ok::<_, CudaError>(match target {
            Target::Ptx(_) => DEMO_PTX.into(),
            Target::Cubin(_) => b"\x7fELF cut short".to_vec(),
        })
    })
    .unwrap();
    assert_eq!((module.target(), asked), (PTX, vec![cubin, PTX]));
    let none = Module::load_best(
        driver.context(),
        "demo",
        &[Target::Ptx(Generation { major: 9, minor: 0 })],
        |_| Err(CudaError::NoLibrary),
    );
    let error = none
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    assert!(error.contains("demo") && error.contains("8.6"), "{error}");
    drop((module, driver));
    stand_in.expect_clean("after the test");
}

#[test]
fn a_launch_that_does_not_fit_the_kernel_or_the_device_is_refused() {
    let stand_in = StandIn::new(6, &format!("memory={CAPACITY}"));
    let device = Device::open(6).unwrap();
    let place = device.driver.allocate(UNIT).unwrap().0.to_ne_bytes();
    let launch = |shape: &LaunchShape, parameters: &[&[u8]]| {
        // SAFETY: none of these launches reaches the device.
        unsafe { device.queue.launch(&device.fill, shape, parameters) }
    };
    let shape = LaunchShape::row(1, 64);
    for parameters in [
        &[&place[..], &[0; 4]][..],
        &[&place, &[0; 4], &[0; 4], &[0; 4]],
        &[&place, &[0; 8], &[0; 4]],
    ] {
        let refused = launch(&shape, parameters);
        assert!(
            matches!(refused, Err(CudaError::Parameters { .. })),
            "{refused:?}"
        );
    }
    let parameters: [&[u8]; 3] = [&place, &[0; 4], &[0; 4]];
    let too_much = LaunchShape {
        shared_bytes: 60 << 10,
        ..shape
    };
    for shape in [
        LaunchShape::row(0, 64),
        LaunchShape::row(1, 0),
        LaunchShape::row(1, 1025),
        too_much,
    ] {
        let refused = launch(&shape, &parameters);
        let error = refused.err().map(|error| error.to_string());
        assert!(
            error.is_some_and(|error| error.contains("demo_fill") && error.contains("threads")),
            "{shape:?}"
        );
    }
    device.fill.allow_shared(60 << 10).unwrap();
    launch(&too_much, &parameters).expect("what was asked for is there");
    assert!(device.fill.allow_shared(1 << 20).is_err());
    drop(device);
    // Shapes and shared memory sizes that only the library refuses are counted there.
    assert_eq!(stand_in.count("misuses"), 3);
}

#[test]
fn bytes_outside_of_allocations_are_not_copied() {
    let stand_in = StandIn::new(7, &format!("memory={CAPACITY}"));
    let device = Device::open(7).unwrap();
    let place = device.driver.allocate(UNIT).unwrap();
    let end = place.offset(UNIT - 2);
    let mut staging = Staging::new(&device.queue, 2, 64).unwrap();
    let mut host = [0; 4];
    let outcomes = [
        staging.write(&host, end).err(),
        staging.read(end, &mut host).err(),
        device.queue.copy(place, end, 4).err(),
        device.queue.copy(end, place, 4).err(),
        device.queue.fill(end, 0, 4).err(),
        device.queue.fill(Address(u64::MAX), 0, 4).err(),
    ];
    for outcome in outcomes {
        assert!(
            matches!(outcome, Some(CudaError::NotHeld { .. })),
            "{outcome:?}"
        );
    }
    for outcome in [
        write(&device.driver, &host, end),
        read(&device.driver, Address(&raw const host as u64), &mut [0; 4]),
    ] {
        assert!(
            matches!(outcome, Err(DriverError::Misuse { .. })),
            "{outcome:?}"
        );
    }
    let most = staging.part_bytes();
    let refused = staging.write_with(place, most + 1, |_| {});
    assert!(
        matches!(refused, Err(CudaError::TooMuchAtOnce { .. })),
        "{refused:?}"
    );
    device.queue.fill(place, 1, UNIT).unwrap();
    device.queue.copy(place, end, 2).unwrap();
    read(&device.driver, end, &mut host[..2]).unwrap();
    assert_eq!(host, [1, 1, 0, 0]);
    drop(staging);
    device.driver.free(place).unwrap();
    drop(device);
    stand_in.expect_clean("after the test");
}

/// Copies bytes through the driver's own ring.
fn stage(driver: &CudaDriver, bytes: &[u8], to: Address) -> Result<(), DriverError> {
    // SAFETY: tests use their places alone.
    unsafe { driver.stage(bytes, to) }
}

#[test]
fn what_is_staged_is_there_for_all_that_comes_after_it_and_the_ring_goes_back() {
    const RING: u64 = 8 << 20;
    let stand_in = StandIn::new(16, &format!("memory={CAPACITY}"));
    let device = Device::open(16).unwrap();
    let [place, other] = [(); 2].map(|()| device.driver.allocate(12 << 20).unwrap());
    // More than the ring holds.
    let values: Vec<f32> = (0..3 << 20).map(|index| index as f32).collect();
    let doubled: Vec<f32> = values.iter().map(|value| 2.0 * value).collect();
    let waits = stand_in.count("waits");
    stage(&device.driver, &bytes(&values), place).unwrap();
    assert!(stand_in.count("waits") - waits < 4, "a wait a part at most");
    assert_eq!(device.context().pinned_bytes(), RING);
    assert_eq!(stand_in.count("pinned"), RING);
    device.scale(place, 2.0, values.len() as u32).unwrap();
    assert!(
        device.read(place, values.len()).unwrap() == doubled,
        "a launch"
    );
    stage(&device.driver, &bytes(&values), place).unwrap();
    device.queue.copy(place, other, 12 << 20).unwrap();
    assert!(
        device.read(other, values.len()).unwrap() == values,
        "a copy"
    );
    stage(&device.driver, &bytes(&values[..9]), place).unwrap();
    let graph = capture(&device, place, other).unwrap();
    device.queue.launch_graph(&graph).unwrap();
    device.queue.synchronize().unwrap();
    drop(graph);
    device.driver.finish_staging().unwrap();
    assert_eq!(device.context().pinned_bytes(), 0);
    assert_eq!(stand_in.count("pinned"), 0);
    stand_in.set("fail=cuMemHostAlloc:0");
    let refused = stage(&device.driver, &[1; 9], place).unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("8388608 bytes of memory to pin"), "{said}");
    stage(&device.driver, &[1; 9], place).unwrap();
    // Whoever goes in the middle leaves nothing.
    let _ = [place, other].map(|place| device.driver.free(place));
    drop(device);
    stand_in.expect_clean("after the test");
}

#[test]
fn a_shrunk_piece_frees_its_tail_and_keeps_its_first_bytes() {
    let stand_in = StandIn::new(9, &format!("memory={CAPACITY}"));
    let driver = CudaDriver::open(9, None).unwrap();
    let piece = driver.allocate(20 * UNIT).unwrap();
    write(&driver, &[7; 100], piece.offset(5 * UNIT - 100)).unwrap();
    assert_eq!(stand_in.count("used"), 20 * UNIT);
    driver.shrink(piece, 5 * UNIT - 1).unwrap();
    assert_eq!(stand_in.count("used"), 5 * UNIT);
    assert_eq!(driver.memory().free, CAPACITY - 5 * UNIT);
    let mut kept = [0; 100];
    read(&driver, piece.offset(5 * UNIT - 100), &mut kept).unwrap();
    assert_eq!(kept, [7; 100]);
    for (address, bytes) in [(piece, 6 * UNIT), (piece, 0), (piece.offset(UNIT), UNIT)] {
        let refused = driver.shrink(address, bytes);
        assert!(
            matches!(refused, Err(DriverError::Misuse { .. })),
            "{refused:?}"
        );
    }
    stand_in.set("fail=cuMemUnmap:2");
    assert!(
        driver.shrink(piece, UNIT).is_err(),
        "the third unit is kept"
    );
    assert_eq!(
        (stand_in.count("used"), driver.memory().free),
        (5 * UNIT, CAPACITY - 5 * UNIT)
    );
    driver.free(piece).unwrap();
    assert_eq!(driver.memory().free, CAPACITY);
    drop(driver);
    stand_in.expect_clean("after the test");
}

/// Runs in a process of its own, which also finds the management library: the size of a context
/// comes from there.
#[test]
fn the_drivers_own_bytes_are_measured_booked_and_given_back() {
    if client::child_argument().is_none() {
        let folder = tempfile::tempdir().unwrap();
        client::install(folder.path(), &[]).unwrap();
        let test = "the_drivers_own_bytes_are_measured_booked_and_given_back";
        return client::run_in_child(test, "", Some(folder.path()));
    }
    client::load(Path::new("libcuda.so"));
    let own = "taken=1048576 context=314572800 module=5242880 graph=65536 node=4096 threads=100000";
    let stand_in = StandIn::new(10, &format!("memory={} {own}", 1_u64 << 30));
    let driver = CudaDriver::open(10, Some(600 << 20)).unwrap();
    let limits = driver.context().limits();
    assert_eq!(
        limits.stack_bytes,
        Some(16),
        "the least that the device allows"
    );
    let device = Device::over(driver).unwrap();
    let place = device.driver.allocate(4 * UNIT).unwrap();
    let graph = capture(&device, place, place.offset(UNIT)).unwrap();
    let bytes = device.context().driver_bytes();
    assert_eq!(bytes.context, Some(300 << 20));
    assert_eq!((bytes.modules, bytes.graphs), (5 << 20, 65536 + 2 * 4096));
    assert_eq!(stand_in.count("used"), 4 * UNIT + bytes.total());
    assert_eq!(graph.device_bytes(), bytes.graphs);
    let free = device.driver.memory().free;
    assert_eq!(free, (600 << 20) - 4 * UNIT - bytes.total());
    assert_eq!(bytes.stacks, 0, "nothing was launched yet");
    device.queue.launch_graph(&graph).unwrap();
    device.queue.synchronize().unwrap();
    let bytes = device.context().driver_bytes();
    assert_eq!(bytes.stacks, 16 * 100_000, "from the first launch on");
    assert_eq!(stand_in.count("used"), 4 * UNIT + bytes.total());
    drop(graph);
    assert_eq!(device.context().driver_bytes().graphs, 0);
    device.driver.free(place).unwrap();
    let Device {
        driver,
        queue,
        fill,
        scale,
        add,
    } = device;
    let memory = Memory::with_driver(Box::new(driver), PoolConfiguration::default());
    let block = memory.allocate(3 << 20, Owner::new(Region::Weights, "test"));
    let statistics = memory.statistics();
    let own = (305 << 20) + 16 * 100_000;
    assert_eq!(statistics.driver_bytes, own);
    assert_eq!(
        statistics.held_bytes() + statistics.driver_bytes,
        stand_in.count("used"),
        "the ledger is what the device itself counts"
    );
    assert_eq!(statistics.regions[&Region::Driver].live_bytes, own);
    assert_eq!(statistics.owners[0].owner.to_string(), "driver/driver");
    drop((block, queue, fill, scale, add, memory));
    stand_in.expect_clean("after the test");
}

#[test]
fn an_out_of_bounds_kernel_loses_the_device_and_nothing_hangs() {
    let stand_in = StandIn::new(11, &format!("memory={CAPACITY}"));
    let device = Device::open(11).unwrap();
    let place = device.driver.allocate(UNIT).unwrap();
    let beyond = (UNIT / 4) as u32 + 1;
    device
        .fill(place, 1.0, beyond)
        .expect("nobody has waited yet");
    let error = device.queue.synchronize().err();
    let text = error.as_ref().map(CudaError::to_string).unwrap_or_default();
    assert!(
        matches!(error, Some(CudaError::Faulted { .. })) && text.contains("ILLEGAL_ADDRESS"),
        "{text}"
    );
    assert_eq!(device.context().fault(), error);
    let calls = stand_in.count("calls");
    assert!(compute(&device).is_err());
    let refused = device
        .driver
        .allocate(1)
        .err()
        .map(|error| error.to_string());
    assert!(refused.is_some_and(|text| text.contains("ILLEGAL_ADDRESS")));
    assert_eq!(device.fill(place, 1.0, 1).err(), error);
    assert!(device.driver.free(place).is_err());
    assert_eq!(
        stand_in.count("calls"),
        calls,
        "the library is not asked again"
    );
    drop(device);
    // A new context starts afresh.
    let device = Device::open(11).unwrap();
    assert_eq!(compute(&device).unwrap(), expected());
    drop(device);
    stand_in.expect_clean("after the new start");
}

#[test]
fn freed_memory_cannot_be_accessed() {
    let stand_in = StandIn::new(12, &format!("memory={CAPACITY}"));
    let device = Device::open(12).unwrap();
    let piece = device.driver.allocate(4 * UNIT).unwrap();
    device.driver.shrink(piece, UNIT).unwrap();
    device.fill(piece.offset(UNIT), 1.0, 1).unwrap();
    assert!(matches!(
        device.queue.synchronize(),
        Err(CudaError::Faulted { .. })
    ));
    drop(device);
    assert_eq!(
        stand_in.count("held"),
        0,
        "the context's end gives all of it back"
    );
}

#[test]
fn a_device_lost_at_any_call_is_reported_and_nothing_hangs() {
    for status in [719, 999] {
        let mut calls = 0;
        loop {
            let stand_in = StandIn::new(13, &format!("memory={CAPACITY} lost={calls}:{status}"));
            let outcome = Device::open(13).and_then(|device| compute(&device));
            let was_lost = stand_in.count("calls") > calls;
            if let Ok(result) = outcome {
                assert_eq!(result, expected());
                break;
            }
            assert!(was_lost, "call {calls}: {outcome:?}");
            calls += 1;
        }
        assert!(calls > 30, "the run has many calls: {calls}");
    }
}

#[test]
fn a_fault_at_any_call_leaks_nothing_and_the_next_attempt_works() {
    for settings in ["ranges=on", "ranges=off"] {
        let mut calls = 0;
        loop {
            let stand_in = StandIn::new(
                14,
                &format!("memory={CAPACITY} {settings} module=2097152 graph=4096 fail=any:{calls}"),
            );
            let when = format!("{settings}, call {calls} fails");
            let run = || -> Result<Vec<f32>, CudaError> {
                let device = Device::open(14)?;
                let result = compute(&device)?;
                if let Ok(place) = device.driver.allocate(2 * UNIT) {
                    let graph = capture(&device, place, place.offset(UNIT))?;
                    device.queue.launch_graph(&graph)?;
                    device.queue.synchronize()?;
                }
                Ok(result)
            };
            let outcome = run();
            let all_came = stand_in.fail_none();
            if let Ok(result) = outcome {
                assert_eq!(result, expected(), "{when}");
            }
            assert_eq!(run().unwrap(), expected(), "{when}: the next try");
            stand_in.expect_clean(&when);
            if all_came {
                break;
            }
            calls += 1;
        }
        assert!(calls > 60, "the run has many calls: {calls}");
    }
}

#[test]
fn a_block_that_another_queue_used_waits_for_that_queues_work() {
    let stand_in = StandIn::new(15, &format!("memory={CAPACITY}"));
    let driver = CudaDriver::open(15, None).unwrap();
    let context = Arc::clone(driver.context());
    let queues = [(); 2].map(|()| Arc::new(Queue::new(&context).unwrap()));
    assert_eq!(queues.each_ref().map(|queue| queue.number()), [0, 1]);
    let pool = Pool::new(Box::new(driver), PoolConfiguration::default());
    let block = pool.allocate(4096, 0).unwrap();
    let address = block.address;
    queues[1].fill(address, 1, 4096).unwrap();
    pool.record_use(&block, 1);
    pool.free(block);
    let second = pool.allocate(4096, 0).unwrap();
    assert_ne!(
        second.address, address,
        "the other queue may still write there"
    );
    queues[1].synchronize().unwrap();
    let third = pool.allocate(4096, 0).unwrap();
    assert_eq!(third.address, address, "its work is done");
    pool.free(second);
    pool.free(third);
    drop((pool, queues, context));
    stand_in.expect_clean("after the test");
}
