//! Profiles: how eagerly cached memory is released.

use serde::{Deserialize, Serialize};
use std::fmt;

const MEGABYTE: u64 = 1 << 20;
const GIBIBYTE: u64 = 1 << 30;

/// A named choice of [`ProfileSettings`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryProfile {
    /// Every 5 chunks.
    Aggressive,
    /// Every 10 chunks.
    Balanced,
    /// Every 20 chunks, without dropping what can be rebuilt.
    Performance,
    /// By the device's size: aggressive under 8 GiB, balanced under 16 GiB, otherwise performance;
    /// performance without a device.
    #[default]
    Automatic,
    /// Never.
    None,
}

/// The parameters of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ProfileSettings {
    /// Chunks between two releases; `None` for never.
    pub cache_interval: Option<u32>,
    /// Whether a release also drops what can be rebuilt.
    pub collect: bool,
    /// Fragmentation (0 to 1) above which a release does not wait for the interval.
    pub fragmentation_threshold: f64,
    /// Cached bytes below which a release is not worth its driver calls.
    pub worthwhile_bytes: u64,
}

impl MemoryProfile {
    /// The settings on a device with `device_bytes` bytes of memory.
    pub fn settings(self, device_bytes: Option<u64>) -> ProfileSettings {
        let settings = |interval, collect, threshold, megabytes| ProfileSettings {
            cache_interval: interval,
            collect,
            fragmentation_threshold: threshold,
            worthwhile_bytes: megabytes * MEGABYTE,
        };
        match self {
            MemoryProfile::Aggressive => settings(Some(5), true, 0.2, 50),
            MemoryProfile::Balanced => settings(Some(10), true, 0.3, 100),
            MemoryProfile::Performance => settings(Some(20), false, 0.5, 200),
            MemoryProfile::None => settings(None, false, 1.0, 0),
            MemoryProfile::Automatic => match device_bytes {
                Some(bytes) if bytes < 8 * GIBIBYTE => MemoryProfile::Aggressive.settings(None),
                Some(bytes) if bytes < 16 * GIBIBYTE => MemoryProfile::Balanced.settings(None),
                _ => MemoryProfile::Performance.settings(None),
            },
        }
    }
}

impl fmt::Display for MemoryProfile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            MemoryProfile::Aggressive => "aggressive",
            MemoryProfile::Balanced => "balanced",
            MemoryProfile::Performance => "performance",
            MemoryProfile::Automatic => "automatic",
            MemoryProfile::None => "none",
        })
    }
}

/// A name that is not a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a profile: use aggressive, balanced, performance, automatic or none")]
pub struct UnknownProfile(String);

impl std::str::FromStr for MemoryProfile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<MemoryProfile, UnknownProfile> {
        match text {
            "aggressive" => Ok(MemoryProfile::Aggressive),
            "balanced" => Ok(MemoryProfile::Balanced),
            "performance" => Ok(MemoryProfile::Performance),
            "auto" | "automatic" => Ok(MemoryProfile::Automatic),
            "none" => Ok(MemoryProfile::None),
            _ => Err(UnknownProfile(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profiles_name_parses_back_to_it() {
        for profile in [
            MemoryProfile::Aggressive,
            MemoryProfile::Balanced,
            MemoryProfile::Performance,
            MemoryProfile::Automatic,
            MemoryProfile::None,
        ] {
            let word = profile.to_string();
            assert_eq!(word.parse(), Ok(profile));
            assert_eq!(serde_json::to_value(profile).unwrap(), word);
        }
    }

    #[test]
    fn automatic_depends_on_the_devices_memory() {
        let cases = [
            (Some(6 * GIBIBYTE), MemoryProfile::Aggressive),
            (Some(8 * GIBIBYTE), MemoryProfile::Balanced),
            (Some(16 * GIBIBYTE), MemoryProfile::Performance),
            (None, MemoryProfile::Performance),
        ];
        for (bytes, profile) in cases {
            assert_eq!(
                MemoryProfile::Automatic.settings(bytes),
                profile.settings(None),
                "{bytes:?}"
            );
        }
    }
}
