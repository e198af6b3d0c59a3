//! Text traces: any bytes are read or refused; what was read is consistent, can be planned, and
//! runs through a pool.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sottovoce_memory::driver::SimulatedDriver;
use sottovoce_memory::plan::{self, SolveOptions};
use sottovoce_memory::pool::PoolConfiguration;
use sottovoce_memory::trace::replay::Replay;
use sottovoce_memory::trace::{Event, Lifetimes, Reader, TraceError};

fuzz_target!(|bytes: &[u8]| {
    let bytes = bytes.to_vec();
    let events: Result<Vec<Event>, TraceError> =
        Reader::text(std::io::Cursor::new(bytes)).collect();
    let Ok(events) = events else {
        return;
    };
    let lifetimes = Lifetimes::collect(events.iter().cloned().map(Ok)).expect("checked before");
    let options = SolveOptions {
        effort: 1 << 16,
        ..SolveOptions::default()
    };
    let plan = plan::solve(&lifetimes.lifetimes, &options);
    plan::validate(&lifetimes.lifetimes, &plan).expect("every plan is valid");
    let driver = Box::new(SimulatedDriver::new(1 << 34));
    let mut replay = Replay::new(driver, PoolConfiguration::default(), Some(2));
    replay
        .run_events(events.into_iter().map(Ok))
        .expect("checked before");
    replay.pool().check().expect("the pool's books agree");
});
