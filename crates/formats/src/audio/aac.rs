//! What AAC's own configuration says of a track.

use symphonia::core::audio::Channels;
use symphonia::core::codecs::audio::AudioCodecParameters;

const LOW_COMPLEXITY: u8 = 2;
const SPECTRAL_BAND_REPLICATION: u8 = 5;
const PARAMETRIC_STEREO: u8 = 29;

/// Reduces the parameters of high-efficiency AAC to those of its core: plain AAC at half the rate,
/// which any decoder reads. The extension of the upper band is ignored.
///
/// ISO/IEC 14496-3, section 1.6.2.1.
pub(super) fn reduce_to_core(parameters: &mut AudioCodecParameters) {
    const RATES: [u32; 13] = [
        96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025,
        8_000, 7_350,
    ];
    let Some(&[first, second, ..]) = parameters.extra_data.as_deref() else {
        return;
    };
    let object = first >> 3;
    let rate_index = (first & 7) << 1 | second >> 7;
    let channels = second >> 3 & 15;
    let core_rate = RATES.get(usize::from(rate_index));
    if let (SPECTRAL_BAND_REPLICATION | PARAMETRIC_STEREO, Some(&core_rate)) = (object, core_rate) {
        let core = [
            LOW_COMPLEXITY << 3 | rate_index >> 1,
            (rate_index & 1) << 7 | channels << 3,
        ];
        parameters.extra_data = Some(Box::new(core));
        parameters.sample_rate = Some(core_rate);
        parameters.channels = Some(Channels::Discrete(channels.into()));
    }
}

/// Name of what the decoder lacks for this track: it decodes one or two channels of plain AAC.
/// `None` if the configuration shows nothing of the kind.
///
/// ISO/IEC 14496-3, tables 1.17 and 1.19.
pub(super) fn undecoded(parameters: &AudioCodecParameters) -> Option<String> {
    let Some(&[first, second, ..]) = parameters.extra_data.as_deref() else {
        // ADTS has its configuration in each frame.
        let count = parameters.channels.as_ref().map(Channels::count);
        return match count {
            None | Some(0) => Some(of_channels("a channel layout of its own")),
            Some(1 | 2) => None,
            Some(count) => Some(of_channels(&format!("{count} channels"))),
        };
    };
    let profile = match first >> 3 {
        LOW_COMPLEXITY | SPECTRAL_BAND_REPLICATION | PARAMETRIC_STEREO => None,
        1 => Some("AAC Main"),
        3 => Some("AAC SSR"),
        4 => Some("AAC LTP"),
        23 => Some("AAC-LD"),
        31 => match 32 + ((first & 7) << 3 | second >> 5) {
            39 => Some("AAC-ELD"),
            42 => Some("xHE-AAC"),
            _ => Some("AAC of another profile"),
        },
        _ => Some("AAC of another profile"),
    };
    if let Some(profile) = profile {
        return Some(profile.into());
    }
    let layout = match second >> 3 & 15 {
        1 | 2 => {
            // Frames of 960 samples instead of 1024.
            let is_short = second >> 2 & 1 == 1;
            return is_short.then(|| "AAC (frames of 960 samples)".into());
        }
        0 => "a channel layout of its own",
        3 => "3 channels",
        4 => "4 channels",
        5 => "5 channels",
        6 => "6 channels, 5.1",
        7 | 12 | 14 => "8 channels, 7.1",
        11 => "7 channels, 6.1",
        13 => "24 channels, 22.2",
        _ => "an unknown channel layout",
    };
    Some(of_channels(layout))
}

fn of_channels(layout: &str) -> String {
    format!("AAC ({layout})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_decoder_lacks_is_named_and_what_it_has_is_not() {
        let named = |config: &[u8]| {
            let mut parameters = AudioCodecParameters::new();
            parameters.with_extra_data(config.into());
            undecoded(&parameters)
        };
        // Profile, rate and channels in the first 13 bits.
        let config = |profile: u8, channels: u8| [profile << 3 | 2, channels << 3];
        for channels in [1, 2] {
            assert_eq!(named(&config(LOW_COMPLEXITY, channels)), None);
        }
        for channels in [0].into_iter().chain(3..16) {
            let name = named(&config(LOW_COMPLEXITY, channels)).unwrap();
            assert!(
                name.starts_with("AAC (") && name.contains("channel"),
                "{name}"
            );
        }
        assert_eq!(named(&config(1, 2)).unwrap(), "AAC Main");
        assert_eq!(named(&config(23, 2)).unwrap(), "AAC-LD");
        assert_eq!(named(&[0xf8 | 0b001, 0b010_00000]).unwrap(), "xHE-AAC");
        assert_eq!(
            named(&[0x12, 2 << 3 | 4]).unwrap(),
            "AAC (frames of 960 samples)"
        );
        let mut in_frames = AudioCodecParameters::new();
        assert!(undecoded(&in_frames).is_some());
        in_frames.with_channels(Channels::Discrete(2));
        assert_eq!(undecoded(&in_frames), None);
        in_frames.with_channels(Channels::Discrete(5));
        assert_eq!(undecoded(&in_frames).unwrap(), "AAC (5 channels)");
    }
}
