//! IMA ADPCM in Apple's packets: 64 samples of each channel, in four bits each.
//!
//! A packet begins with the sample before it, in whose low seven bits the index of the step stands.
//! Where the rest agrees with what the packet before it ended with, the sound goes on from there
//! with all its bits; taking the packet's word would add a step of up to 127 at each packet.

/// Frames of a packet.
pub(super) const FRAMES: usize = 64;
/// Bytes of a packet for each channel.
pub(super) const BYTES: usize = 34;
/// Bits of a packet's head that hold the index.
const INDEX_BITS: i32 = 0x7f;

/// Steps by index.
const STEPS: [i32; 89] = [
    7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66,
    73, 80, 88, 97, 107, 118, 130, 143, 157, 173, 190, 209, 230, 253, 279, 307, 337, 371, 408, 449,
    494, 544, 598, 658, 724, 796, 876, 963, 1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272,
    2499, 2749, 3024, 3327, 3660, 4026, 4428, 4871, 5358, 5894, 6484, 7132, 7845, 8630, 9493,
    10442, 11487, 12635, 13899, 15289, 16818, 18500, 20350, 22385, 24623, 27086, 29794, 32767,
];
/// How a code's size moves the index.
const MOVES: [i32; 8] = [-1, -1, -1, -1, 2, 4, 6, 8];

/// What a channel's next sample is predicted from.
#[derive(Debug, Clone, Copy, Default)]
struct Predictor {
    sample: i32,
    index: i32,
}

impl Predictor {
    fn begin_packet(&mut self, head: i16) {
        let head = i32::from(head);
        let (sample, index) = (head & !INDEX_BITS, head & INDEX_BITS);
        if index != self.index || (sample - self.sample).abs() > INDEX_BITS {
            self.sample = sample;
            self.index = index.min(STEPS.len() as i32 - 1);
        }
    }

    fn next(&mut self, code: u8) -> i32 {
        let step = STEPS[self.index as usize];
        let mut change = step >> 3;
        for (bit, part) in [(4, step), (2, step >> 1), (1, step >> 2)] {
            if code & bit != 0 {
                change += part;
            }
        }
        if code & 8 != 0 {
            change = -change;
        }
        self.sample = (self.sample + change).clamp(i16::MIN.into(), i16::MAX.into());
        self.index = (self.index + MOVES[usize::from(code & 7)]).clamp(0, STEPS.len() as i32 - 1);
        self.sample
    }
}

/// A decoder of the packets of all channels.
#[derive(Debug)]
pub(super) struct Decoder {
    predictors: Vec<Predictor>,
}

impl Decoder {
    pub(super) fn new(channels: usize) -> Decoder {
        Decoder {
            predictors: vec![Predictor::default(); channels],
        }
    }

    /// Decodes a packet of each channel into `[frames × channels]` samples.
    pub(super) fn decode(&mut self, packets: &[u8], samples: &mut Vec<f32>) {
        let channels = self.predictors.len();
        samples.clear();
        samples.resize(FRAMES * channels, 0.0);
        let of_channels = packets.as_chunks::<BYTES>().0.iter();
        for (channel, (packet, predictor)) in of_channels.zip(&mut self.predictors).enumerate() {
            predictor.begin_packet(i16::from_be_bytes([packet[0], packet[1]]));
            let codes = packet[2..].iter().flat_map(|byte| [byte & 15, byte >> 4]);
            let places = samples[channel..].iter_mut().step_by(channels);
            for (place, code) in places.zip(codes) {
                *place = predictor.next(code) as f32 / 32_768.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_goes_on_across_packets_with_all_its_bits() {
        let mut coder = Predictor::default();
        let mut decoder = Decoder::new(2);
        let mut decoded = Vec::new();
        for packet in 0..40 {
            let head = (coder.sample & !INDEX_BITS | coder.index) as i16;
            let mut bytes = head.to_be_bytes().to_vec();
            let mut coded = Vec::new();
            for pair in 0..FRAMES / 2 {
                let mut byte = 0;
                for half in 0..2 {
                    let time = (packet * FRAMES + 2 * pair + half) as f64;
                    let wanted = (9_000.0 * (time / 9.0).sin()) as i32;
                    let off = |code: &u8| {
                        let mut trial = coder;
                        (trial.next(*code) - wanted).abs()
                    };
                    let code = (0..16).min_by_key(off).unwrap();
                    coded.push(coder.next(code) as f32 / 32_768.0);
                    byte |= code << (4 * half);
                }
                bytes.push(byte);
            }
            decoder.decode(&[&bytes[..], &[0; BYTES]].concat(), &mut decoded);
            let left: Vec<f32> = decoded.iter().copied().step_by(2).collect();
            assert_eq!(left, coded, "packet {packet}");
        }
    }

    #[test]
    fn a_packet_after_a_gap_begins_anew() {
        let mut predictor = Predictor {
            sample: 5_000,
            index: 20,
        };
        predictor.begin_packet(-1_280 | 20);
        assert_eq!((predictor.sample, predictor.index), (-1_280, 20));
        predictor.begin_packet(-1_280 | 0x7f);
        assert_eq!(predictor.index, 88);
    }
}
