//! Module images, and which of them a device can run.

use serde::Serialize;
use std::fmt;

/// A device's generation: its compute capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Generation {
    /// Major version: the architecture.
    pub major: u32,
    /// Minor version within the architecture.
    pub minor: u32,
}

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

/// What an image was compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Machine code: runs on devices of the same major version and the same or a later minor
    /// version.
    Cubin(Generation),
    /// PTX: compiled by the driver for a device of this generation or a later one.
    Ptx(Generation),
}

impl Target {
    /// The first generation that can run an image for this target.
    pub fn generation(self) -> Generation {
        match self {
            Target::Cubin(own) | Target::Ptx(own) => own,
        }
    }

    /// Whether a device of `generation` can run an image for this target.
    pub fn runs_on(self, generation: Generation) -> bool {
        match self {
            Target::Cubin(own) => own.major == generation.major && own.minor <= generation.minor,
            Target::Ptx(own) => own <= generation,
        }
    }

    /// Targets that a device of `generation` can run, best first: machine code before PTX, newest
    /// first within each.
    pub fn in_order(generation: Generation, targets: &[Target]) -> Vec<Target> {
        let mut fitting: Vec<Target> = (targets.iter().copied())
            .filter(|target| target.runs_on(generation))
            .collect();
        fitting.sort_by_key(|target| match target {
            Target::Cubin(own) => (0, std::cmp::Reverse(*own)),
            Target::Ptx(own) => (1, std::cmp::Reverse(*own)),
        });
        fitting
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, Generation { major, minor }) = match self {
            Target::Cubin(generation) => ("machine code", generation),
            Target::Ptx(generation) => ("PTX", generation),
        };
        write!(formatter, "{kind} for sm_{major}{minor}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_code_of_the_same_major_generation_comes_before_ptx() {
        let of = |number: u32| Generation {
            major: number / 10,
            minor: number % 10,
        };
        let [cubin_75, cubin_86, cubin_89, cubin_90] =
            [75, 86, 89, 90].map(|number| Target::Cubin(of(number)));
        let [ptx_70, ptx_80, ptx_90] = [70, 80, 90].map(|number| Target::Ptx(of(number)));
        let all = [
            ptx_80, cubin_90, cubin_75, ptx_70, cubin_89, ptx_90, cubin_86,
        ];
        let cases: [(u32, &[Target]); 6] = [
            (61, &[]),
            (75, &[cubin_75, ptx_70]),
            (80, &[ptx_80, ptx_70]),
            (86, &[cubin_86, ptx_80, ptx_70]),
            (89, &[cubin_89, cubin_86, ptx_80, ptx_70]),
            (120, &[ptx_90, ptx_80, ptx_70]),
        ];
        for (generation, expected) in cases {
            assert_eq!(
                Target::in_order(of(generation), &all),
                expected,
                "sm_{generation}"
            );
        }
    }
}
