//! Writer of PyTorch snapshots, as the caching allocator would have recorded them under default
//! settings.
//!
//! A trace has no addresses, which a snapshot needs. The trace is therefore replayed through the
//! pool, over a driver that records its calls. The result is consistent: blocks lie in segments,
//! the end state follows from the events, and a replay of the snapshot reserves what a replay of
//! the trace does.

use super::WriteError;
use crate::driver::{ADDRESS_SPACE_BYTES, Note, Noted, Notes, SimulatedDriver};
use crate::pool::{Pool, PoolBlock, PoolConfiguration};
use crate::trace::{Event, Reader};
use sottovoce_formats::pickle::PickleWriter;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

/// Segments of this size belong to the small pool.
const SMALL_SEGMENT_BYTES: u64 = crate::pool::sizes::SMALL_SEGMENT;

/// Writes the events of `reader` as a snapshot and returns their number.
pub(super) fn write(reader: &mut Reader, sink: impl Write) -> Result<u64, WriteError> {
    let driver = Noted::new(SimulatedDriver::new(ADDRESS_SPACE_BYTES));
    let notes = driver.notes();
    let mut recorder = Recorder {
        pool: Pool::new(Box::new(driver), PoolConfiguration::default()),
        notes,
        writer: PickleWriter::new(sink)?,
        live: HashMap::new(),
        segments: BTreeMap::new(),
        metadata: String::new(),
        time: 0,
    };
    recorder.writer.begin_dictionary()?;
    recorder.writer.text("device_traces")?;
    recorder.writer.begin_list()?;
    recorder.writer.begin_list()?;
    let mut events = 0;
    while let Some(event) = reader.next() {
        events += 1;
        match event? {
            Event::Allocate { bytes: 0, .. } => {}
            Event::Allocate {
                id,
                bytes,
                tag,
                stream,
            } => recorder.allocate(id, bytes, reader.tags().name(tag), stream)?,
            Event::Free { id } => recorder.free(id)?,
            Event::Marker(text) if text.split_whitespace().next() == Some("clear") => {
                recorder.pool.empty_cache();
                recorder.write_notes(0)?;
            }
            Event::Marker(text) => recorder.metadata = text.into(),
        }
    }
    recorder.writer.end()?;
    recorder.writer.end()?;
    recorder.finish()?;
    Ok(events)
}

struct Recorder<W: Write> {
    pool: Pool,
    notes: Notes,
    writer: PickleWriter<W>,
    live: HashMap<u64, LiveBlock>,
    /// Address → (bytes, stream).
    segments: BTreeMap<u64, (u64, u64)>,
    metadata: String,
    time: u64,
}

struct LiveBlock {
    block: PoolBlock,
    requested_bytes: u64,
    stream: u64,
    tag: Box<str>,
}

impl<W: Write> Recorder<W> {
    fn allocate(&mut self, id: u64, bytes: u64, tag: &str, stream: u64) -> Result<(), WriteError> {
        let block = self
            .pool
            .allocate(bytes, stream)
            .map_err(|_| WriteError::NoAddress { bytes })?;
        self.write_notes(stream)?;
        self.write_entry("alloc", block.address.0, bytes, stream, Some(tag))?;
        self.live.insert(
            id,
            LiveBlock {
                block,
                requested_bytes: bytes,
                stream,
                tag: tag.into(),
            },
        );
        Ok(())
    }

    fn free(&mut self, id: u64) -> Result<(), WriteError> {
        let Some(live) = self.live.remove(&id) else {
            return Ok(());
        };
        let (address, bytes) = (live.block.address.0, live.requested_bytes);
        for action in ["free_requested", "free_completed"] {
            self.write_entry(action, address, bytes, live.stream, None)?;
        }
        self.pool.free(live.block);
        Ok(())
    }

    /// Writes the driver calls since the previous call, on behalf of `stream`.
    fn write_notes(&mut self, stream: u64) -> Result<(), WriteError> {
        for note in self.notes.take() {
            match note {
                Note::Taken { address, bytes } => {
                    let address = address.0;
                    self.segments.insert(address, (bytes, stream));
                    self.write_entry("segment_alloc", address, bytes, stream, None)?;
                }
                Note::GivenBack { address } => {
                    let address = address.0;
                    if let Some((bytes, stream)) = self.segments.remove(&address) {
                        self.write_entry("segment_free", address, bytes, stream, None)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn write_entry(
        &mut self,
        action: &str,
        address: u64,
        bytes: u64,
        stream: u64,
        tag: Option<&str>,
    ) -> io::Result<()> {
        let writer = &mut self.writer;
        writer.begin_dictionary()?;
        writer.text("action")?;
        writer.text(action)?;
        for (key, value) in [
            ("addr", address),
            ("size", bytes),
            ("stream", stream),
            ("time_us", self.time),
        ] {
            writer.text(key)?;
            writer.unsigned(value)?;
        }
        if !self.metadata.is_empty() {
            writer.text("user_metadata")?;
            writer.text(&self.metadata)?;
        }
        write_frames(writer, tag.unwrap_or(""))?;
        writer.end()?;
        self.time += 1;
        Ok(())
    }

    /// Writes the final segments and the settings.
    fn finish(mut self) -> Result<(), WriteError> {
        let mut blocks: BTreeMap<u64, LiveBlock> = self
            .live
            .into_values()
            .map(|live| (live.block.address.0, live))
            .collect();
        let writer = &mut self.writer;
        writer.text("segments")?;
        writer.begin_list()?;
        for (&address, &(bytes, stream)) in &self.segments {
            // Blocks of later segments are left for those.
            let later = blocks.split_off(&(address + bytes));
            let here = std::mem::replace(&mut blocks, later);
            let segment = Segment {
                address,
                bytes,
                stream,
            };
            segment.write(writer, &here)?;
        }
        writer.end()?;
        write_settings(writer)?;
        writer.end()?;
        self.writer.finish()?;
        Ok(())
    }
}

fn write_frames(writer: &mut PickleWriter<impl Write>, tag: &str) -> io::Result<()> {
    writer.text("frames")?;
    writer.begin_list()?;
    if !tag.is_empty() {
        writer.begin_dictionary()?;
        writer.text("name")?;
        writer.text(tag)?;
        writer.text("filename")?;
        writer.text("")?;
        writer.text("line")?;
        writer.unsigned(0)?;
        writer.end()?;
    }
    writer.end()
}

fn write_settings(writer: &mut PickleWriter<impl Write>) -> io::Result<()> {
    writer.text("allocator_settings")?;
    writer.begin_dictionary()?;
    writer.text("PYTORCH_CUDA_ALLOC_CONF")?;
    writer.text("")?;
    writer.text("max_split_size")?;
    writer.integer(-1)?;
    writer.text("garbage_collection_threshold")?;
    writer.float(0.0)?;
    writer.text("expandable_segments")?;
    writer.boolean(false)?;
    writer.end()
}

/// A segment at the end of the trace.
struct Segment {
    address: u64,
    bytes: u64,
    stream: u64,
}

impl Segment {
    fn write(
        &self,
        writer: &mut PickleWriter<impl Write>,
        blocks: &BTreeMap<u64, LiveBlock>,
    ) -> io::Result<()> {
        let allocated: u64 = blocks.values().map(|live| live.block.size).sum();
        let requested: u64 = blocks.values().map(|live| live.requested_bytes).sum();
        writer.begin_dictionary()?;
        for (key, value) in [
            ("device", 0),
            ("address", self.address),
            ("total_size", self.bytes),
            ("allocated_size", allocated),
            ("active_size", allocated),
            ("requested_size", requested),
            ("stream", self.stream),
        ] {
            writer.text(key)?;
            writer.unsigned(value)?;
        }
        writer.text("segment_type")?;
        writer.text(if self.bytes == SMALL_SEGMENT_BYTES {
            "small"
        } else {
            "large"
        })?;
        writer.text("segment_pool_id")?;
        writer.begin_list()?;
        writer.unsigned(0)?;
        writer.unsigned(0)?;
        writer.end()?;
        writer.text("is_expandable")?;
        writer.boolean(false)?;
        write_frames(writer, "")?;
        writer.text("blocks")?;
        writer.begin_list()?;
        let mut end = self.address;
        for (&address, live) in blocks {
            write_free_block(writer, end, address)?;
            write_block(
                writer,
                address,
                live.block.size,
                live.requested_bytes,
                "active_allocated",
                &live.tag,
            )?;
            end = address + live.block.size;
        }
        write_free_block(writer, end, self.address + self.bytes)?;
        writer.end()?;
        writer.end()
    }
}

fn write_free_block(writer: &mut PickleWriter<impl Write>, start: u64, end: u64) -> io::Result<()> {
    if start < end {
        write_block(writer, start, end - start, 0, "inactive", "")?;
    }
    Ok(())
}

fn write_block(
    writer: &mut PickleWriter<impl Write>,
    address: u64,
    bytes: u64,
    requested_bytes: u64,
    state: &str,
    tag: &str,
) -> io::Result<()> {
    writer.begin_dictionary()?;
    for (key, value) in [
        ("address", address),
        ("size", bytes),
        ("requested_size", requested_bytes),
    ] {
        writer.text(key)?;
        writer.unsigned(value)?;
    }
    writer.text("state")?;
    writer.text(state)?;
    write_frames(writer, tag)?;
    writer.end()
}
