//! Scheduling of the worker: a pure choice over the live streams. Chunk sizes are decided in
//! `chunking`.

/// A live stream, as far as the choice depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamStatus {
    /// T3 has more tokens to generate.
    pub generating: bool,
    /// Enough tokens wait for the next chunk, or they are the last ones.
    pub chunk_ready: bool,
    /// The reader has room for a chunk.
    pub reader_ready: bool,
    /// The first chunk was delivered.
    pub heard: bool,
    /// While it generates: the next chunk may be ready within [`COMPANION_STEPS_MAX`] steps.
    pub ready_soon: bool,
    /// The turn in which it was last rendered.
    pub last_turn: u64,
}

/// Steps of T3 since the last chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StepsSinceChunk {
    /// All of them.
    pub all: u32,
    /// Those while a chunk was ready.
    pub while_ready: u32,
}

/// The next unit of work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Render a chunk of each of these streams.
    Synthesise(Vec<usize>),
    /// One T3 step of these streams as a batch.
    Step(Vec<usize>),
    /// Wait for a reader, a request or a cancellation.
    Wait,
}

/// Most successive steps for streams without a first chunk while others have a chunk ready.
pub(crate) const STEPS_BEFORE_CHUNK_MAX: u32 = 16;

/// Most steps that a chunk which is ready waits for others that are rendered with it in less time
/// than after it.
pub(crate) const COMPANION_STEPS_MAX: u32 = 16;

/// Whether the stream could have a chunk rendered now.
pub(crate) fn is_ready(stream: &StreamStatus) -> bool {
    stream.chunk_ready && stream.reader_ready
}

/// Chooses by priority: first chunks, then chunks of the streams that waited longest for one, then
/// one step for all. Up to `chunks_at_once` chunks are rendered together; where that is more than
/// one, a chunk waits for others that may soon be ready.
pub(crate) fn choose(
    streams: &[StreamStatus],
    steps: StepsSinceChunk,
    chunks_at_once: usize,
) -> Work {
    let needs_tokens = |stream: &StreamStatus| stream.generating && !stream.chunk_ready;
    let longest_waiting = |heard: bool| {
        let mut candidates: Vec<usize> = (0..streams.len())
            .filter(|&index| is_ready(&streams[index]) && streams[index].heard == heard)
            .collect();
        candidates.sort_by_key(|&index| streams[index].last_turn);
        let others_come = candidates.len() < chunks_at_once
            && steps.while_ready < COMPANION_STEPS_MAX
            && streams
                .iter()
                .any(|stream| stream.heard == heard && needs_tokens(stream) && stream.ready_soon);
        candidates.truncate(chunks_at_once.max(1));
        Some(candidates).filter(|candidates| !candidates.is_empty() && !others_come)
    };
    if let Some(first_chunks) = longest_waiting(false) {
        return Work::Synthesise(first_chunks);
    }
    let some_unheard = streams
        .iter()
        .any(|stream| needs_tokens(stream) && !stream.heard);
    let chunk_first = !some_unheard || steps.all >= STEPS_BEFORE_CHUNK_MAX;
    if let Some(chunks) = longest_waiting(true).filter(|_| chunk_first) {
        return Work::Synthesise(chunks);
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

    const FRESH: StreamStatus = StreamStatus {
        generating: true,
        chunk_ready: false,
        reader_ready: true,
        heard: false,
        ready_soon: false,
        last_turn: 0,
    };
    const READY: StreamStatus = StreamStatus {
        chunk_ready: true,
        heard: true,
        ..FRESH
    };

    /// So many steps since the last chunk, none of them while another was ready.
    fn after(all: u32) -> StepsSinceChunk {
        StepsSinceChunk {
            all,
            while_ready: 0,
        }
    }

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
                    StreamStatus {
                        heard: false,
                        ..READY
                    },
                ],
                0,
                Work::Synthesise(vec![1]),
            ),
            (
                "longest waiting first",
                vec![
                    StreamStatus {
                        last_turn: 9,
                        ..READY
                    },
                    StreamStatus {
                        last_turn: 3,
                        ..READY
                    },
                ],
                0,
                Work::Synthesise(vec![1]),
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
                Work::Synthesise(vec![0]),
            ),
            (
                "a slow reader's stream rests",
                vec![StreamStatus {
                    reader_ready: false,
                    ..READY
                }],
                0,
                Work::Wait,
            ),
            (
                "and does not hold up the others",
                vec![
                    StreamStatus {
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
                vec![StreamStatus {
                    generating: false,
                    ..FRESH
                }],
                0,
                Work::Wait,
            ),
        ];
        for (name, streams, steps, expected) in cases {
            assert_eq!(choose(&streams, after(steps), 1), expected, "{name}");
        }
    }

    #[test]
    fn no_stream_starves_among_many() {
        let mut streams = vec![READY; 8];
        let mut served = [0u32; 8];
        for turn in 1..=800u64 {
            let Work::Synthesise(chunks) = choose(&streams, after(0), 1) else {
                panic!("all are ready")
            };
            let index = chunks[0];
            served[index] += 1;
            streams[index].last_turn = turn;
        }
        assert_eq!(served, [100; 8], "ready streams take turns");
    }

    #[test]
    fn chunks_that_are_ready_are_rendered_together_by_how_long_they_waited() {
        let waited = |last_turn| StreamStatus { last_turn, ..READY };
        let first = StreamStatus {
            heard: false,
            ..READY
        };
        let streams = [waited(5), waited(2), FRESH, waited(9), waited(1)];
        let chosen = |at_once| choose(&streams, after(STEPS_BEFORE_CHUNK_MAX), at_once);
        assert_eq!(chosen(3), Work::Synthesise(vec![4, 1, 0]));
        assert_eq!(chosen(8), Work::Synthesise(vec![4, 1, 0, 3]));
        assert_eq!(
            choose(&[READY, first, READY, first], after(0), 8),
            Work::Synthesise(vec![1, 3]),
            "further sound does not hold up first sound"
        );
    }

    #[test]
    fn a_chunk_waits_for_others_only_where_they_are_rendered_together_and_come_soon() {
        let soon = StreamStatus {
            ready_soon: true,
            heard: true,
            ..FRESH
        };
        let waited = |while_ready| StepsSinceChunk {
            all: while_ready,
            while_ready,
        };
        let chunk = Work::Synthesise(vec![0]);
        let step = Work::Step(vec![1]);
        let cases = [
            ("one at a time", [READY, soon], 0, 1, &chunk),
            ("another comes", [READY, soon], 0, 4, &step),
            (
                "but not for ever",
                [READY, soon],
                COMPANION_STEPS_MAX,
                4,
                &chunk,
            ),
            (
                "another is far off",
                [
                    READY,
                    StreamStatus {
                        ready_soon: false,
                        ..soon
                    },
                ],
                0,
                4,
                &chunk,
            ),
            (
                "first sound does not wait for further sound",
                [
                    StreamStatus {
                        heard: false,
                        ..READY
                    },
                    soon,
                ],
                0,
                4,
                &chunk,
            ),
        ];
        for (name, streams, steps, at_once, expected) in cases {
            assert_eq!(
                &choose(&streams, waited(steps), at_once),
                expected,
                "{name}"
            );
        }
    }
}
