//! Opus in ogg, which is what voice messages and `speak --out a.opus` are.

use super::{AudioError, Taken};
use opus_pure::{Error as OpusError, MAX_PACKET_SAMPLES, OggOpusReader, Trim};
use std::cell::Cell;
use std::io::{self, BufReader, Read};

/// Opus has no rate of its own; this is the one that loses nothing.
const SAMPLE_RATE: u32 = 48_000;
const PAGE_MARK: &[u8] = b"OggS";
const HEAD_MARK: &[u8] = b"OpusHead";
/// The first packet begins within a page's header of 27 bytes and at most 255 of lengths; in practice after one.
const PREFIX_BYTES: u64 = 27 + 255 + 8;

/// Whether the first packet of an ogg stream is that of Opus. Reads a little of the source.
pub(super) fn is_ogg_opus(source: &mut impl Read) -> io::Result<bool> {
    let mut prefix = Vec::new();
    source.take(PREFIX_BYTES).read_to_end(&mut prefix)?;
    let lengths = prefix.get(26).copied().unwrap_or(0);
    let first = prefix.get(27 + usize::from(lengths)..).unwrap_or(&[]);
    Ok(prefix.starts_with(PAGE_MARK) && first.starts_with(HEAD_MARK))
}

/// A source that remembers whether its end was met: the reader has one kind of error for a stream cut short and for a damaged one.
struct Ending<'e, S> {
    source: S,
    ended: &'e Cell<bool>,
}

impl<S: Read> Read for Ending<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.ended.set(count == 0 && !buffer.is_empty());
        Ok(count)
    }
}

pub(super) fn decode(source: impl Read, taken: &mut Taken<'_>) -> Result<(), AudioError> {
    let unknown = |error: OpusError| AudioError::Unknown {
        reason: error.to_string(),
    };
    let ended = Cell::new(false);
    let source = Ending {
        source,
        ended: &ended,
    };
    let mut reader = OggOpusReader::new(BufReader::new(source)).map_err(unknown)?;
    let channels = usize::from(reader.head().channel_count);
    let mut decoder = (reader.head().decoder(SAMPLE_RATE as i32)).map_err(unknown)?;
    let mut trim = Trim::new(reader.head(), SAMPLE_RATE as i32, channels).map_err(unknown)?;
    let mut block = vec![0.0; MAX_PACKET_SAMPLES * channels];
    loop {
        let packet = match reader.read_packet() {
            Ok(Some(packet)) => packet,
            // At the end, or cut short within a page: what is whole of it stays.
            Ok(None) => return Ok(()),
            Err(_) if ended.get() => return Ok(()),
            Err(error) => {
                return Err(AudioError::Damaged {
                    reason: error.to_string(),
                });
            }
        };
        match decoder.decode(&packet.data, MAX_PACKET_SAMPLES, &mut block) {
            Ok(frames) => {
                let kept = trim.keep(&packet, &block[..frames * channels]);
                taken.add(kept, channels, SAMPLE_RATE)?;
            }
            Err(error) => taken.pass_over(error)?,
        }
    }
}
