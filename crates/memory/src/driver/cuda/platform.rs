//! Platforms on which address ranges are unreliable, decided by a pure function.

/// Facts about a device and its platform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlatformFacts {
    /// The program runs on Windows.
    pub windows: bool,
    /// The program runs on Linux under WSL.
    pub wsl: bool,
    /// The device shares the CPU's memory, as on a Jetson board.
    pub integrated: bool,
    /// The device is a virtual GPU of a hypervisor.
    pub virtual_gpu: bool,
    /// The driver's library has the functions for virtual memory management.
    pub functions_present: bool,
    /// The device reports support for virtual memory management.
    pub address_management: bool,
    /// One unit was reserved, mapped and released without an error.
    pub probe_succeeded: bool,
}

impl PlatformFacts {
    /// Whether expandable segments are on.
    ///
    /// # Errors
    /// Names the first reason against them.
    pub fn ranges(&self) -> Result<(), &'static str> {
        let reasons = [
            (
                self.windows,
                "on Windows the driver keeps mapped memory in the system's own paging; plain allocations are used",
            ),
            (
                self.wsl,
                "under WSL the driver maps memory through Windows, which refuses it; plain allocations are used",
            ),
            (
                self.integrated,
                "on Jetson and other integrated devices memory is the processor's; plain allocations are used",
            ),
            (
                self.virtual_gpu && !(self.address_management && self.probe_succeeded),
                "this virtual GPU's profile has no virtual memory management; plain allocations are used",
            ),
            (
                !self.functions_present,
                "the driver is older than CUDA 10.2 and has no virtual memory management; plain allocations are used",
            ),
            (
                !self.address_management,
                "the device has no virtual memory management; plain allocations are used",
            ),
            (
                !self.probe_succeeded,
                "mapping one unit as a trial failed; plain allocations are used",
            ),
        ];
        match reasons.iter().find(|(applies, _)| *applies) {
            Some((_, reason)) => Err(reason),
            None => Ok(()),
        }
    }
}

/// Whether a device's name is a virtual GPU profile: `GRID T4-16Q`, `NVIDIA A100-40C`.
pub(super) fn is_virtual_gpu(name: &str) -> bool {
    let Some((_, profile)) = name.rsplit_once('-') else {
        return false;
    };
    let digits = profile.trim_end_matches(['A', 'B', 'C', 'Q']);
    digits.len() + 1 == profile.len()
        && !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether this is WSL, by the kernel's version.
pub(super) fn is_wsl() -> bool {
    std::fs::read_to_string("/proc/version")
        .is_ok_and(|version| version.to_ascii_lowercase().contains("microsoft"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: PlatformFacts = PlatformFacts {
        windows: false,
        wsl: false,
        integrated: false,
        virtual_gpu: false,
        functions_present: true,
        address_management: true,
        probe_succeeded: true,
    };

    #[test]
    fn ranges_are_off_where_the_platform_refuses_them_and_a_word_says_why() {
        let cases = [
            (GOOD, None),
            (
                PlatformFacts {
                    windows: true,
                    ..GOOD
                },
                Some("Windows"),
            ),
            (PlatformFacts { wsl: true, ..GOOD }, Some("WSL")),
            (
                PlatformFacts {
                    integrated: true,
                    ..GOOD
                },
                Some("Jetson"),
            ),
            (
                PlatformFacts {
                    virtual_gpu: true,
                    ..GOOD
                },
                None,
            ),
            (
                PlatformFacts {
                    virtual_gpu: true,
                    address_management: false,
                    ..GOOD
                },
                Some("virtual GPU"),
            ),
            (
                PlatformFacts {
                    virtual_gpu: true,
                    probe_succeeded: false,
                    ..GOOD
                },
                Some("virtual GPU"),
            ),
            (
                PlatformFacts {
                    functions_present: false,
                    ..GOOD
                },
                Some("10.2"),
            ),
            (
                PlatformFacts {
                    address_management: false,
                    ..GOOD
                },
                Some("the device has no"),
            ),
            (
                PlatformFacts {
                    probe_succeeded: false,
                    ..GOOD
                },
                Some("trial"),
            ),
        ];
        for (facts, expected) in cases {
            match (facts.ranges(), expected) {
                (Ok(()), None) => {}
                (Err(reason), Some(word)) => {
                    assert!(
                        reason.contains(word),
                        "{facts:?}: {reason:?} must name {word:?}"
                    );
                }
                (found, _) => panic!("{facts:?}: {found:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn virtual_gpus_are_known_by_their_profile() {
        let cases = [
            ("GRID T4-16Q", true),
            ("NVIDIA A100-40C", true),
            ("GRID P40-1B", true),
            ("NVIDIA A10-24A", true),
            ("NVIDIA A100-SXM4-40GB", false),
            ("NVIDIA GeForce RTX 4090", false),
            ("NVIDIA H100 PCIe", false),
            ("Quadro T1000-", false),
            ("", false),
        ];
        for (name, expected) in cases {
            assert_eq!(is_virtual_gpu(name), expected, "{name:?}");
        }
    }
}
