//! Builds the script of one text: paragraphs become sentences, sentences become parts that fit one
//! T3 run, and parts become tokens with their words.

use super::characters::{compatible, visible};
use super::front_end::EncodingOptions;
use super::graphemes::is_kanji;
use super::markup::PAUSE_SECONDS;
use super::traced::Traced;
use super::warning::Warnings;
use super::{Normaliser, Piece, Sentence, Span, TextError, TextFrontEnd, Unreadable, Word};
use super::{cut, is_blank, sentences, words};
use std::collections::HashMap;
use std::ops::Range;

/// Origin of a pause's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PauseLength {
    /// The text.
    Requested,
    /// The default, for paragraphs and text without words. Such pauses do not add up.
    Default,
}

/// The state of turning one text into a script.
pub(super) struct ScriptBuilder<'t> {
    front_end: &'t TextFrontEnd,
    source: &'t str,
    encoding: EncodingOptions<'t>,
    rules: Option<Normaliser>,
    refuse: bool,
    /// Whether the tokenizer can encode a character.
    known: HashMap<char, bool>,
    pieces: Vec<(Piece, PauseLength)>,
    /// A byte offset of the source, and the number of characters before it.
    counted: (usize, usize),
}

impl<'t> ScriptBuilder<'t> {
    /// A builder that has read nothing of `source` yet.
    pub fn new(
        front_end: &'t TextFrontEnd,
        source: &'t str,
        encoding: EncodingOptions<'t>,
        rules: Option<Normaliser>,
        unreadable: Unreadable,
    ) -> ScriptBuilder<'t> {
        ScriptBuilder {
            front_end,
            source,
            encoding,
            rules,
            refuse: unreadable == Unreadable::Refuse,
            known: HashMap::new(),
            pieces: Vec::new(),
            counted: (0, 0),
        }
    }

    /// Adds a pause. Two default pauses merge into one, and a default pause beside a requested one
    /// is dropped.
    pub fn pause(&mut self, written: &str, seconds: f64, length: PauseLength) {
        let written = written.trim();
        if let Some((
            Piece::Pause {
                written: before,
                seconds: known,
            },
            last,
        )) = self.pieces.last_mut()
            && (*last == PauseLength::Default || length == PauseLength::Default)
        {
            if *last == PauseLength::Default {
                *known = seconds;
                *last = length;
            }
            if before.is_empty() {
                *before = written.to_owned();
            } else if !written.is_empty() {
                before.push(' ');
                before.push_str(written);
            }
            return;
        }
        let written = written.to_owned();
        self.pieces
            .push((Piece::Pause { written, seconds }, length));
    }

    /// Adds a paragraph's sentences, after a pause if there are words before it.
    ///
    /// # Errors
    /// As [`TextFrontEnd::script`].
    pub fn paragraph(
        &mut self,
        paragraph: &Traced,
        warnings: &mut Warnings<'_>,
    ) -> Result<(), TextError> {
        let text = if self.encoding.normalised {
            compatible(paragraph)
        } else {
            visible(paragraph)
        };
        let whole = || text.written(self.source, 0..text.text().len());
        if matches!(self.pieces.last(), Some((Piece::Words(_), _))) {
            self.pause("", PAUSE_SECONDS, PauseLength::Default);
        }
        if !text.text().chars().any(char::is_alphanumeric) {
            if !text.text().trim().is_empty() {
                self.pause(whole(), PAUSE_SECONDS, PauseLength::Default);
            }
            return Ok(());
        }
        for sentence in sentences(text.text()) {
            self.sentence(&text, sentence, warnings)?;
        }
        Ok(())
    }

    /// Adds a sentence, in as many parts as T3's token limit needs.
    fn sentence(
        &mut self,
        text: &Traced,
        sentence: Range<usize>,
        warnings: &mut Warnings<'_>,
    ) -> Result<(), TextError> {
        let mut spans = self.spans(&text.text()[sentence.clone()]);
        for span in &mut spans {
            span.written.start += sentence.start;
            span.written.end += sentence.start;
            self.skip_unknown(span, text, warnings)?;
        }
        let (front_end, encoding) = (self.front_end, self.encoding);
        // A part that the tokenizer refuses counts 0 here; the error is reported below.
        let count = |spoken: &str| {
            front_end
                .encode(spoken, encoding)
                .map_or(0, |ids| ids.len())
        };
        let parts = cut::cut(&spans, front_end.config.text.token_count_max, &count);
        // Parts with the same spans belong to one word that is too long for one run.
        let runs = parts.chunk_by(|one, next| one.spans == next.spans);
        let placed = runs.flat_map(|run| run.iter().enumerate().map(|at| (at, run.len())));
        for ((place, part), count) in placed {
            let own = &spans[part.spans.clone()];
            let shared = (count > 1).then(|| part_of(own, text.text(), place, count, &part.spoken));
            let range = match &shared {
                Some(word) => word.range.clone(),
                None => {
                    let start_of = |at: usize| spans.get(at).map(|span| span.written.start);
                    let start = start_of(part.spans.start).unwrap_or(sentence.start);
                    start..start_of(part.spans.end).unwrap_or(sentence.end)
                }
            };
            let written = text.written(self.source, range);
            if !part.spoken.chars().any(char::is_alphanumeric) {
                self.pause(written, PAUSE_SECONDS, PauseLength::Default);
                continue;
            }
            let (input, (ids, offsets)) = front_end.encode_with_offsets(&part.spoken, encoding)?;
            let found = match shared {
                Some(word) => vec![word],
                None => words::words(own, text.text()),
            };
            let letters: Vec<usize> = (found.iter())
                .map(|word| {
                    Ok(words::letter_count(
                        &front_end.tokenizer_input(&word.spoken, encoding)?,
                    ))
                })
                .collect::<Result<_, TextError>>()?;
            let tokens = words::tokens(&input, &offsets, &letters);
            let first = usize::from(front_end.config.t3.text_start_stop.is_some());
            let words = found.iter().zip(tokens).map(|(word, tokens)| {
                let range = text.source_range(self.source, word.range.clone());
                Word {
                    written: self.source[range.clone()].to_owned(),
                    characters: self.characters(range.start)..self.characters(range.end),
                    tokens: tokens.start + first..tokens.end + first,
                }
            });
            let words = words.collect();
            let sentence = Sentence {
                written: written.to_owned(),
                text: part.spoken.clone(),
                tokens: front_end.frame(ids)?,
                words,
            };
            self.pieces
                .push((Piece::Words(sentence), PauseLength::Requested));
        }
        Ok(())
    }

    /// Number of characters of the source before a byte offset.
    fn characters(&mut self, at: usize) -> usize {
        if at < self.counted.0 {
            self.counted = (0, 0);
        }
        let (from, before) = self.counted;
        self.counted = (at, before + self.source[from..at].chars().count());
        self.counted.1
    }

    /// The spans of a sentence; each tag of the model is one.
    fn spans(&self, sentence: &str) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let mut at = 0;
        let mut add = |from: usize, to: usize, tag: bool| {
            let text = &sentence[from..to];
            let after_space = from > 0 && sentence[..from].ends_with(char::is_whitespace);
            let mut found = match &self.rules {
                Some(rules) if !tag => rules.spans(text),
                _ => vec![Span {
                    written: 0..text.len(),
                    spoken: text.to_owned(),
                    after_space: false,
                }],
            };
            if let Some(first) = found.first_mut() {
                first.after_space |= after_space;
            }
            for mut span in found {
                if !self.encoding.normalised {
                    span.spoken = text[span.written.clone()].to_owned();
                }
                span.written = span.written.start + from..span.written.end + from;
                spans.push(span);
            }
        };
        while let Some((from, to)) = self.next_tag(sentence, at) {
            add(at, from, false);
            add(from, to, true);
            at = to;
        }
        add(at, sentence.len(), false);
        spans
    }

    /// The next tag of the model from an offset on.
    fn next_tag(&self, sentence: &str, at: usize) -> Option<(usize, usize)> {
        if self.front_end.tags.is_empty() {
            return None;
        }
        let mut from = at;
        while let Some(open) = sentence[from..].find('[') {
            let start = from + open;
            let inner = &sentence[start + 1..];
            let known = (self.front_end.tags.iter())
                .find(|tag| inner.starts_with(tag.as_str()) && inner[tag.len()..].starts_with(']'));
            if let Some(tag) = known {
                return Some((start, start + tag.len() + 2));
            }
            from = start + 1;
        }
        None
    }

    /// Removes characters that the tokenizer cannot encode from the spoken text. Without
    /// normalisation they stay, and a warning names them.
    fn skip_unknown(
        &mut self,
        span: &mut Span,
        text: &Traced,
        warnings: &mut Warnings<'_>,
    ) -> Result<(), TextError> {
        let mut lost = String::new();
        for character in span.spoken.chars() {
            if !self.is_known(character)? {
                lost.push(character);
            }
        }
        if lost.contains(is_kanji) {
            // Some kanji have a reading only within a word.
            let input = self
                .front_end
                .tokenizer_input(&span.spoken, self.encoding)?;
            lost.retain(|character| !is_kanji(character) || input.contains(character));
        }
        if lost.is_empty() {
            return Ok(());
        }
        if self.refuse {
            return Err(TextError::Unreadable { found: lost });
        }
        let message = match self.encoding.normalised {
            true => "this model cannot speak it; it is skipped",
            false => "this model does not know it",
        };
        warnings.add(text.origin(span.written.start), &lost, message.into());
        if self.encoding.normalised {
            span.spoken.retain(|character| !lost.contains(character));
        }
        Ok(())
    }

    /// Whether a character can be spoken, or is a mark or a space, which need not be.
    fn is_known(&mut self, character: char) -> Result<bool, TextError> {
        if character.is_ascii() || is_mark(character) {
            return Ok(true);
        }
        if let Some(&known) = self.known.get(&character) {
            return Ok(known);
        }
        let input = (self.front_end).tokenizer_input(&character.to_string(), self.encoding)?;
        let ids = self
            .front_end
            .tokenizer
            .encode(input.trim_end_matches(['.', ' ']))?;
        let known = !ids.is_empty() && !self.front_end.tokenizer.are_unknown(&ids);
        self.known.insert(character, known);
        Ok(known)
    }

    /// The pieces; a pause after the last words is kept only if the text requests it. A text
    /// without pieces is a pause, or nothing `after_words`.
    pub fn finish(mut self, after_words: bool) -> Vec<Piece> {
        if let Some((Piece::Pause { written, .. }, PauseLength::Default)) = self.pieces.last()
            && written.is_empty()
        {
            self.pieces.pop();
        }
        if self.pieces.is_empty() && !after_words && !is_blank(self.source) {
            self.pause(self.source, PAUSE_SECONDS, PauseLength::Default);
        }
        self.pieces.into_iter().map(|(piece, _)| piece).collect()
    }
}

/// The word of part `place` of `count` of spans that are too long for one run.
fn part_of(
    spans: &[Span],
    text: &str,
    place: usize,
    count: usize,
    spoken: &str,
) -> words::SpanWord {
    let start = spans.first().map_or(0, |span| span.written.start);
    let end = spans.last().map_or(start, |span| span.written.end);
    let border = |place: usize| text.floor_char_boundary(start + (end - start) * place / count);
    words::SpanWord {
        range: border(place)..border(place + 1),
        spoken: spoken.to_owned(),
    }
}

/// Punctuation, which is not missed where it is not spoken.
fn is_mark(character: char) -> bool {
    character.is_whitespace()
        || matches!(
            character,
            '\u{a1}' | '\u{a7}' | '\u{ab}' | '\u{b4}' | '\u{b6}'..='\u{b8}' | '\u{bb}' | '\u{bf}'
        )
        || matches!(character, '\u{2010}'..='\u{2027}' | '\u{2030}'..='\u{205e}' | '\u{3000}'..='\u{301f}' | '\u{30fb}')
        || matches!(character, '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}' | '\u{ff3b}'..='\u{ff40}' | '\u{ff5b}'..='\u{ff65}')
        || matches!(
            character,
            '\u{60c}' | '\u{61b}' | '\u{61f}' | '\u{6d4}' | '\u{964}' | '\u{965}' | '\u{589}'
        )
        || unicode_normalization::char::is_combining_mark(character)
}
