//! Snapshots: any bytes are read or refused; what was read runs through a pool in the state in
//! which it begins.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sottovoce_memory::driver::SimulatedDriver;
use sottovoce_memory::pool::PoolConfiguration;
use sottovoce_memory::trace::Reader;
use sottovoce_memory::trace::replay::Replay;

fuzz_target!(|bytes: &[u8]| {
    let bytes = bytes.to_vec();
    let mut reader = Reader::snapshot_from(move || Ok(std::io::Cursor::new(bytes.clone())));
    let Ok(Some(summary)) = reader.snapshot() else {
        return;
    };
    let configuration = PoolConfiguration::parse(&summary.configuration).unwrap_or_default();
    let Ok(Some(beginning)) = reader.take_beginning(&configuration) else {
        return;
    };
    let mut replay = Replay::new(
        Box::new(SimulatedDriver::new(1 << 34).with_places(&beginning.places)),
        configuration,
        None,
    );
    replay.prime(beginning.events);
    if replay.run_events(reader).is_ok() {
        replay.pool().check().expect("the pool's books agree");
    }
});
