//! Faults at each driver call of a scene in turn.

use super::scene::{Ending, MemoryKind, Scene};
use serde::Serialize;
use sottovoce_memory::driver::FaultScript;

/// Outcomes of the runs with one kind of fault.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FaultOutcomes {
    /// Description of the fault.
    pub kind: String,
    /// Driver calls of a fault-free run that the fault can hit.
    pub calls: u64,
    /// Runs with a fault.
    pub runs: usize,
    /// Runs with unchanged audio.
    pub equal: usize,
    /// Runs in which a stream, or loading, ended with its own error.
    pub refused: usize,
    /// Runs with changed or missing audio.
    pub different: usize,
    /// Runs that leaked memory.
    pub leaked: usize,
    /// Whether every stream finished with the same audio or ended with its error, without a leak.
    pub held: bool,
}

#[derive(Clone, Copy)]
enum Fault {
    /// One allocation fails; later ones succeed.
    Once,
    /// All allocations fail from one call on.
    ForGood,
    /// Any one call fails, including releases.
    AnyCall,
}

impl Fault {
    const ALL: [Fault; 3] = [Fault::Once, Fault::ForGood, Fault::AnyCall];

    fn describe(self) -> &'static str {
        match self {
            Fault::Once => "out of memory once",
            Fault::ForGood => "out of memory from a call on",
            Fault::AnyCall => "any call fails once",
        }
    }

    fn strike(self, script: &FaultScript, call: u64) {
        match self {
            Fault::Once => script.fail_acquiring_call(call),
            Fault::ForGood => script.fail_acquiring_calls_from(Some(call)),
            Fault::AnyCall => script.fail_call(call),
        }
    }
}

/// Plays the scene once per call and kind of fault: at most `runs_max` runs per kind, spread evenly
/// if there are more calls.
pub(super) fn run(
    scene: &Scene,
    place: MemoryKind,
    runs_max: usize,
    progress: &mut dyn FnMut(&str),
) -> Vec<FaultOutcomes> {
    let quiet = scene.play(place, |_| {});
    let outcomes = Fault::ALL.map(|fault| {
        let calls = match fault {
            Fault::AnyCall => quiet.calls,
            Fault::Once | Fault::ForGood => quiet.acquiring_calls,
        };
        let mut outcomes = FaultOutcomes {
            kind: fault.describe().into(),
            calls,
            ..FaultOutcomes::default()
        };
        let step = (calls as usize).div_ceil(runs_max.max(1)).max(1);
        for call in (0..calls).step_by(step) {
            progress(&format!(
                "pressure, {}: {} ({} of {calls})",
                place.name(),
                fault.describe(),
                call + 1
            ));
            outcomes.runs += 1;
            let played = scene.play(place, |script| fault.strike(script, call));
            *match played.ending {
                Ending::Equal => &mut outcomes.equal,
                Ending::Refused => &mut outcomes.refused,
                Ending::Different => &mut outcomes.different,
                Ending::Leaked => &mut outcomes.leaked,
            } += 1;
        }
        outcomes.held = outcomes.runs > 0 && outcomes.different + outcomes.leaked == 0;
        outcomes
    });
    outcomes.into()
}
