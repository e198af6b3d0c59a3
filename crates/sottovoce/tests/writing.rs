//! Text written while it is spoken: one utterance, in any number of pieces.

use sottovoce::{Chunk, Engine, EngineOptions, Error, Source, Stream, StreamOptions, VoiceSource};

const TEXT: &str = "It was half past three. Nobody had come so far! Should we wait for Dr. Smith?";

fn engine() -> Engine {
    let options = EngineOptions {
        threads: Some(1),
        streams_max: 2,
        ..EngineOptions::default()
    };
    Engine::load(Source::Embedded, options).unwrap()
}

fn open(engine: &Engine) -> Stream {
    let voice = engine.voice(VoiceSource::Default).unwrap();
    engine
        .open_stream(&voice, StreamOptions::default())
        .unwrap()
}

/// Number of samples until the stream ends or rests.
fn samples(stream: &mut Stream) -> usize {
    let mut count = 0;
    for chunk in stream {
        let Chunk { samples, .. } = chunk.unwrap();
        if samples.is_empty() {
            break;
        }
        count += samples.len();
    }
    count
}

#[test]
fn a_text_in_pieces_has_as_many_samples_as_the_same_text_at_once() {
    let engine = engine();
    let voice = engine.voice(VoiceSource::Default).unwrap();
    let mut whole = engine
        .stream(TEXT, &voice, StreamOptions::default())
        .unwrap();
    let whole = samples(&mut whole);
    let mut stream = open(&engine);
    let text = stream.text();
    for letter in TEXT.chars() {
        text.push(letter.encode_utf8(&mut [0; 4])).unwrap();
    }
    text.finish();
    let mut pieces = 0;
    for chunk in &mut stream {
        pieces += chunk.unwrap().samples.len();
    }
    assert_eq!(pieces, whole);
}

#[test]
fn a_stream_rests_when_its_text_was_spoken_and_goes_on_with_more() {
    let engine = engine();
    let mut stream = open(&engine);
    let text = stream.text();
    for piece in ["It was half past three.", " Nobody had come."] {
        text.push(piece).unwrap();
        text.flush();
        assert!(samples(&mut stream) > 10_000, "{piece}");
        assert_eq!(engine.streams_live(), 1, "it keeps its place");
    }
    text.finish();
    assert!(text.push("more").is_err());
    assert!(
        stream.by_ref().all(|chunk| chunk.is_ok()),
        "what was held back comes"
    );
    assert!(stream.next().is_none());
}

#[test]
fn a_stream_without_text_ends() {
    let engine = engine();
    let mut stream = open(&engine);
    stream.text().finish();
    assert_eq!(samples(&mut stream), 0);
    assert!(stream.next().is_none());
}

#[test]
fn a_stream_that_is_dropped_takes_no_more_text_of_anybody() {
    let engine = engine();
    let mut stream = open(&engine);
    let text = stream.text();
    text.push(TEXT).unwrap();
    assert!(stream.next().unwrap().is_ok());
    drop(stream);
    let voice = engine.voice(VoiceSource::Default).unwrap();
    // Its place is freed for the next stream.
    for _ in 0..3 {
        let next = engine.stream("Good day.", &voice, StreamOptions::default());
        let ends: Option<Error> = next.unwrap().filter_map(Result::err).last();
        assert!(ends.is_none(), "{ends:?}");
    }
}
