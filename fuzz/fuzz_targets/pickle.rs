//! Pickles: any bytes are read or refused within the memory limit, and every document can be
//! walked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sottovoce_formats::pickle::{
    self, Disposition, Globals, PickleLimits, PickleListener, MemoUse, Parser, PickleStep, ValueRef,
};
use std::sync::Arc;

fuzz_target!(|bytes: &[u8]| {
    for globals in [Globals::Refuse, Globals::Numbers, Globals::Inert] {
        let limits = PickleLimits {
            memory_bytes: 1 << 20,
            globals,
        };
        match pickle::read(bytes, &limits) {
            Ok(document) => {
                assert!(document.encoded_bytes() <= bytes.len() as u64);
                walk(document.root());
                // A dropped item must not be missed later.
                for keep in [Disposition::Keep, Disposition::HandOver] {
                    let uses = MemoUse::scan(bytes).map(Arc::new);
                    let parser = Parser::new(bytes, &limits, Each(keep), uses);
                    walk(parser.finish().expect("what can be read whole").root());
                }
            }
            Err(error) => assert!(error.offset <= bytes.len() as u64, "{error}"),
        }
    }
});

/// Gives the same answer for each item.
struct Each(Disposition);

impl PickleListener for Each {
    fn item(&mut self, _: &[PickleStep<'_>], item: ValueRef<'_>) -> Result<Disposition, String> {
        walk(item);
        Ok(self.0)
    }
}

/// Visits some thousand values, which may form cycles.
fn walk(root: ValueRef<'_>) {
    let mut pending = vec![root];
    for _ in 0..4096 {
        let Some(view) = pending.pop() else {
            return;
        };
        let _ = (view.integer(), view.unsigned(), view.float(), view.text());
        let _ = (view.kind(), view.global(), view.entry("segments").is_some());
        pending.extend(view.items().into_iter().flatten().take(16));
        pending.extend(view.persistent_id());
        for (key, value) in view.entries().into_iter().flatten().take(16) {
            pending.extend([key, value]);
        }
        if let Some(call) = view.call() {
            pending.extend([view.at(call.callable), view.at(call.arguments)]);
        }
    }
}
