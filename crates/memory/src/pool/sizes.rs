//! Sizes of blocks and segments: the constants of PyTorch's caching allocator and its rounding
//! rules.

use super::PoolConfiguration;

const MIB: u64 = 1 << 20;

/// Unit of all block sizes.
pub const BLOCK_UNIT: u64 = 512;
/// Largest rounded request that the small pool serves.
pub const SMALL_REQUEST_MAX: u64 = MIB;
/// Segment size of the small pool, and its unit of growth in an expandable range.
pub const SMALL_SEGMENT: u64 = 2 * MIB;
/// Segment size for large requests under [`OWN_SEGMENT_MIN`], and the large pool's unit of growth
/// in an expandable range, unless configured otherwise.
pub const LARGE_SEGMENT: u64 = 20 * MIB;
/// Rounded size from which on a request gets a segment of its own size.
pub const OWN_SEGMENT_MIN: u64 = 10 * MIB;
/// Rounding unit of such segments.
pub const OWN_SEGMENT_UNIT: u64 = 2 * MIB;
/// Largest request; sizes rounded up from it do not overflow 64 bits.
pub const REQUEST_MAX: u64 = 1 << 63;

/// The half of the pool that serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolHalf {
    /// Rounded requests up to 1 MiB.
    Small = 0,
    /// Larger requests.
    Large = 1,
}

impl PoolHalf {
    /// Both halves.
    pub const BOTH: [PoolHalf; 2] = [PoolHalf::Small, PoolHalf::Large];

    /// The half for a rounded size.
    pub fn of(rounded: u64) -> PoolHalf {
        if rounded <= SMALL_REQUEST_MAX {
            PoolHalf::Small
        } else {
            PoolHalf::Large
        }
    }

    /// Unit of mapping in an expandable range.
    pub fn range_unit(self, configuration: &PoolConfiguration) -> u64 {
        match self {
            PoolHalf::Small => SMALL_SEGMENT,
            PoolHalf::Large => (configuration.large_segment_size)
                .checked_next_multiple_of(OWN_SEGMENT_UNIT)
                .unwrap_or(REQUEST_MAX),
        }
    }
}

/// Size of the block that serves a request of `bytes` (at most [`REQUEST_MAX`]).
#[inline]
pub fn round_request(bytes: u64, configuration: &PoolConfiguration) -> u64 {
    if bytes < BLOCK_UNIT {
        return BLOCK_UNIT;
    }
    let divisions = configuration.roundup_divisions(bytes);
    if divisions > 1 && bytes > BLOCK_UNIT * divisions {
        round_to_division(bytes, divisions)
    } else {
        bytes.next_multiple_of(BLOCK_UNIT)
    }
}

/// The next of `divisions` equal steps between the powers of two around `bytes`; powers of two are
/// unchanged.
fn round_to_division(bytes: u64, divisions: u64) -> u64 {
    let floor = 1 << bytes.ilog2();
    bytes.next_multiple_of(floor >> divisions.ilog2())
}

/// Size of the driver's segment for a rounded request.
pub fn segment_size(rounded: u64, configuration: &PoolConfiguration) -> u64 {
    if rounded <= SMALL_REQUEST_MAX {
        SMALL_SEGMENT
    } else if rounded < OWN_SEGMENT_MIN {
        configuration.large_segment_size
    } else {
        rounded.next_multiple_of(OWN_SEGMENT_UNIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_round_to_512_by_default() {
        let configuration = PoolConfiguration::default();
        for (bytes, rounded) in [
            (1, 512),
            (511, 512),
            (512, 512),
            (513, 1024),
            (1 << 20, 1 << 20),
            ((1 << 20) + 1, (1 << 20) + 512),
        ] {
            assert_eq!(
                round_request(bytes, &configuration),
                rounded,
                "{bytes} bytes"
            );
        }
    }

    #[test]
    fn divisions_leave_powers_of_two_and_round_the_rest_to_steps() {
        let configuration = PoolConfiguration {
            roundup_power2_divisions: [4; 16],
            ..Default::default()
        };
        for (bytes, rounded) in [
            (2000, 2048),
            (2048, 2048),
            (2049, 2560),
            (1 << 40, 1 << 40),
            ((1 << 20) + 1, 5 << 18),
        ] {
            assert_eq!(
                round_request(bytes, &configuration),
                rounded,
                "{bytes} bytes"
            );
        }
    }

    #[test]
    fn segments_follow_the_three_size_classes() {
        let default = PoolConfiguration::default();
        let other = PoolConfiguration {
            large_segment_size: 12 * MIB,
            ..PoolConfiguration::default()
        };
        assert_eq!(segment_size(5 * MIB, &other), 12 * MIB);
        assert_eq!(segment_size(MIB, &other), 2 * MIB);
        assert_eq!(segment_size(11 * MIB, &other), 12 * MIB);
        for (rounded, segment) in [
            (512, 2 * MIB),
            (MIB, 2 * MIB),
            (MIB + 512, 20 * MIB),
            (10 * MIB - 512, 20 * MIB),
            (10 * MIB, 10 * MIB),
            (10 * MIB + 512, 12 * MIB),
        ] {
            assert_eq!(segment_size(rounded, &default), segment, "{rounded} bytes");
        }
    }
}
