//! Scheduling of the worker: a pure choice over the live streams. Chunk sizes are decided in
//! `chunking`.

/// A live stream, as far as the choice depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// T3 has more tokens to generate.
    pub generating: bool,
    /// Enough tokens wait for the next chunk, or they are the last ones.
    pub chunk_ready: bool,
    /// The reader has room for a chunk.
    pub reader_ready: bool,
    /// The first chunk was delivered.
    pub heard: bool,
    /// The turn in which it was last rendered.
    pub last_turn: u64,
}

/// The next unit of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Render this stream's tokens to a chunk.
    Synthesise(usize),
    /// One T3 step of these streams as a batch.
    Step(Vec<usize>),
    /// Wait for a reader, a request or a cancellation.
    Wait,
}

/// Most successive steps for streams without a first chunk while others have a chunk ready.
pub(crate) const STEPS_BEFORE_CHUNK_MAX: u32 = 16;

/// Chooses by priority: first chunks, then the stream that waited longest for a chunk, then one
/// step for all. `steps_since_chunk` counts the steps since the last chunk.
pub(crate) fn choose(streams: &[View], steps_since_chunk: u32) -> Work {
    let ready = |stream: &View| stream.chunk_ready && stream.reader_ready;
    let needs_tokens = |stream: &View| stream.generating && !stream.chunk_ready;
    let longest_waiting = |heard: bool| {
        let candidates = streams
            .iter()
            .enumerate()
            .filter(|(_, stream)| ready(stream) && stream.heard == heard);
        candidates
            .min_by_key(|(_, stream)| stream.last_turn)
            .map(|(index, _)| index)
    };
    if let Some(index) = longest_waiting(false) {
        return Work::Synthesise(index);
    }
    let some_unheard = streams
        .iter()
        .any(|stream| needs_tokens(stream) && !stream.heard);
    let chunk_first = !some_unheard || steps_since_chunk >= STEPS_BEFORE_CHUNK_MAX;
    if let Some(index) = longest_waiting(true).filter(|_| chunk_first) {
        return Work::Synthesise(index);
    }
    let batch: Vec<usize> = streams
        .iter()
        .enumerate()
        .filter(|(_, stream)| needs_tokens(stream))
        .map(|(index, _)| index)
        .collect();
    if batch.is_empty() {
        Work::Wait
    } else {
        Work::Step(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: View = View {
        generating: true,
        chunk_ready: false,
        reader_ready: true,
        heard: false,
        last_turn: 0,
    };
    const READY: View = View {
        chunk_ready: true,
        heard: true,
        ..FRESH
    };

    #[test]
    fn choices() {
        let cases = [
            ("nobody there", vec![], 0, Work::Wait),
            (
                "all that need tokens step together",
                vec![FRESH, FRESH],
                0,
                Work::Step(vec![0, 1]),
            ),
            (
                "first sound goes before further sound",
                vec![
                    READY,
                    View {
                        heard: false,
                        ..READY
                    },
                ],
                0,
                Work::Synthesise(1),
            ),
            (
                "longest waiting first",
                vec![
                    View {
                        last_turn: 9,
                        ..READY
                    },
                    View {
                        last_turn: 3,
                        ..READY
                    },
                ],
                0,
                Work::Synthesise(1),
            ),
            (
                "a newcomer's tokens go before further sound",
                vec![READY, FRESH],
                0,
                Work::Step(vec![1]),
            ),
            (
                "but not for ever",
                vec![READY, FRESH],
                STEPS_BEFORE_CHUNK_MAX,
                Work::Synthesise(0),
            ),
            (
                "a slow reader's stream rests",
                vec![View {
                    reader_ready: false,
                    ..READY
                }],
                0,
                Work::Wait,
            ),
            (
                "and does not hold up the others",
                vec![
                    View {
                        reader_ready: false,
                        ..READY
                    },
                    FRESH,
                ],
                0,
                Work::Step(vec![1]),
            ),
            (
                "a stream that is done generating does not step",
                vec![View {
                    generating: false,
                    ..FRESH
                }],
                0,
                Work::Wait,
            ),
        ];
        for (name, streams, steps, expected) in cases {
            assert_eq!(choose(&streams, steps), expected, "{name}");
        }
    }

    #[test]
    fn no_stream_starves_among_many() {
        let mut streams = vec![READY; 8];
        let mut served = [0u32; 8];
        for turn in 1..=800u64 {
            let Work::Synthesise(index) = choose(&streams, 0) else {
                panic!("all are ready")
            };
            served[index] += 1;
            streams[index].last_turn = turn;
        }
        assert_eq!(served, [100; 8], "ready streams take turns");
    }
}
