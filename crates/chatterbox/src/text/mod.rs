//! The text front end: characters to text tokens. Markup is removed, characters are normalised, and
//! numbers and signs become words where a model needs that. The text is split into sentences, and
//! these into parts that fit one T3 run, which are tokenised.
//!
//! Nothing that can be spoken is dropped. Anything else becomes a pause, or is skipped with a
//! [`Warning`].

mod characters;
mod cut;
mod error;
mod graphemes;
mod letters;
mod markup;
mod normalise;
mod punctuation;
mod sentences;
mod tokenizer;
mod traced;
mod warning;
mod words;

pub use error::TextError;
pub(crate) use graphemes::CANGJIE_FILE;
pub use graphemes::LANGUAGES;
pub use markup::{PARALINGUISTIC_TAGS, ParalinguisticTag};
pub use normalise::{Normaliser, Span};
pub use punctuation::normalise;
pub use sentences::{SentenceBuffer, ends_sentence, sentence_end, sentences};
pub(crate) use tokenizer::MULTILINGUAL_FILE;
pub use tokenizer::{Tokenizer, TokenizerFiles};
pub use warning::Warning;
pub use words::Word;

use crate::config::{LetterCase, ModelConfig};
use characters::{compatible, visible};
use graphemes::{Graphemes, is_kanji, lacks, language_code};
use markup::{Element, JOINT, PAUSE_SECONDS, elements};
use punctuation::tidy;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::str::FromStr;
use tokenizer::EncodedText;
use tokenizer::language_tag;
use traced::Traced;
use warning::Warnings;

/// Whether a text is normalised to words before it is tokenised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalise {
    /// As the model was trained: on for models that know words alone, off for the others.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never: only the reference's rules are applied before the tokenizer.
    Off,
}

impl FromStr for Normalise {
    type Err = String;

    fn from_str(text: &str) -> Result<Normalise, String> {
        match text {
            "auto" => Ok(Normalise::Auto),
            "on" => Ok(Normalise::On),
            "off" => Ok(Normalise::Off),
            _ => Err(format!("{text:?} is neither auto, on nor off")),
        }
    }
}

/// Treatment of characters that a model cannot speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unreadable {
    /// They are skipped with a warning.
    #[default]
    Skip,
    /// The text is refused.
    Refuse,
}

/// Options of reading a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextOptions {
    /// Whether the text is normalised to words.
    pub normalise: Normalise,
    /// Language code; the model's default if absent.
    pub language: Option<String>,
    /// Treatment of letters by models with language tags; the model's own if absent.
    pub letter_case: Option<LetterCase>,
    /// Treatment of characters that the model cannot speak.
    pub unreadable: Unreadable,
}

impl Default for TextOptions {
    fn default() -> TextOptions {
        TextOptions {
            normalise: Normalise::Auto,
            language: None,
            letter_case: None,
            unreadable: Unreadable::Skip,
        }
    }
}

/// One sentence, or a part of a long one, ready for T3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// The source text.
    pub written: String,
    /// The spoken text.
    pub text: String,
    /// Its tokens, with the start and stop tokens that the model's T3 expects.
    pub tokens: Vec<u32>,
    /// Its words, in order.
    pub words: Vec<Word>,
}

/// A part of a text, in speaking order.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Words for T3.
    Words(Sentence),
    /// Silence.
    Pause {
        /// The source text; empty between paragraphs.
        written: String,
        /// Length in seconds.
        seconds: f64,
    },
}

/// A text prepared for speech.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Script {
    /// Words and pauses.
    pub pieces: Vec<Piece>,
    /// Warnings about what was skipped or changed.
    pub warnings: Vec<Warning>,
}

impl Script {
    /// The pieces with words.
    pub fn into_sentences(self) -> Vec<Sentence> {
        let words = self.pieces.into_iter().filter_map(|piece| match piece {
            Piece::Words(sentence) => Some(sentence),
            Piece::Pause { .. } => None,
        });
        words.collect()
    }
}

/// A model's text front end.
pub struct TextFrontEnd {
    config: ModelConfig,
    tokenizer: Tokenizer,
    /// Rules of the languages, for models with language tags and a tokenizer.
    graphemes: Option<Graphemes>,
    /// Tags known to the tokenizer, without brackets.
    tags: Vec<String>,
}

/// How a spoken text becomes the tokenizer's input.
#[derive(Clone, Copy)]
struct Manner<'t> {
    /// Whether it was normalised to words.
    on: bool,
    /// One of the model's languages, or any code for a model of English.
    language: &'t str,
    letter_case: LetterCase,
}

impl TextFrontEnd {
    /// A front end with a model's tokenizer.
    ///
    /// # Errors
    /// [`TextError`] names the missing or invalid tokenizer file.
    pub fn new(
        config: &ModelConfig,
        files: &dyn TokenizerFiles,
    ) -> Result<TextFrontEnd, TextError> {
        let tokenizer = Tokenizer::load(&config.text, files)?;
        let mut front_end = TextFrontEnd::over(config, tokenizer);
        if !config.text.languages.is_empty() {
            front_end.graphemes = Some(Graphemes::load(&config.text, files)?);
        }
        Ok(front_end)
    }

    /// A front end with one token per character, for models with random weights and no tokenizer.
    pub fn characters(config: &ModelConfig) -> TextFrontEnd {
        let tokenizer = Tokenizer::characters(config.t3.text_vocabulary);
        TextFrontEnd::over(config, tokenizer)
    }

    fn over(config: &ModelConfig, tokenizer: Tokenizer) -> TextFrontEnd {
        TextFrontEnd {
            config: config.clone(),
            tags: tokenizer.tags(),
            tokenizer,
            graphemes: None,
        }
    }

    /// Tags known to the model, such as `laugh`, without brackets.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// Token ids of one text, normalised but neither split nor framed by start and stop tokens: the
    /// result of the reference's tokenizer. Without a `language`, the model's default.
    ///
    /// # Errors
    /// If the model does not speak the language, or the tokenizer cannot encode the text.
    pub fn ids(&self, text: &str, language: Option<&str>) -> Result<Vec<u32>, TextError> {
        let manner = Manner {
            on: false,
            language: self.language(language)?,
            letter_case: self.config.text.letter_case,
        };
        self.encode(text, manner)
    }

    /// The code of a language that the model speaks, or its default. A model of English alone takes
    /// any code.
    ///
    /// # Errors
    /// [`TextError::Language`] if the model does not speak it.
    pub fn language<'t>(&'t self, asked: Option<&'t str>) -> Result<&'t str, TextError> {
        let text = &self.config.text;
        match asked {
            None => Ok(text.default_language()),
            Some(asked) if text.languages.is_empty() => Ok(asked),
            Some(asked) => {
                language_code(&text.languages, asked).ok_or_else(|| TextError::Language {
                    language: asked.chars().take(LANGUAGE_CHARACTERS_MAX).collect(),
                    has: text.languages.join(", "),
                })
            }
        }
    }

    /// Prepares a text as words and pauses, each piece within the model's token limit. A text
    /// without a word is one short pause.
    ///
    /// # Errors
    /// [`TextError::Empty`] for an empty text, [`TextError::Unreadable`] if `options` refuse
    /// unspeakable characters, and otherwise if the tokenizer fails or returns an id without an
    /// embedding.
    pub fn script(&self, text: &str, options: &TextOptions) -> Result<Script, TextError> {
        if is_blank(text) {
            return Err(TextError::Empty);
        }
        self.further_script(text, false, options)
    }

    /// As [`TextFrontEnd::script`], for text that continues another one, `after_words` or after a
    /// pause. If a text is split between sentences, its pieces are spoken like the whole. A blank
    /// text has no pieces.
    ///
    /// # Errors
    /// As [`TextFrontEnd::script`], except [`TextError::Empty`].
    pub fn further_script(
        &self,
        text: &str,
        after_words: bool,
        options: &TextOptions,
    ) -> Result<Script, TextError> {
        let mut warnings = Warnings::new(text);
        let on = match options.normalise {
            Normalise::Auto => self.config.text.spell_out,
            Normalise::On => true,
            Normalise::Off => false,
        };
        let capitals = self.config.text.spell_out;
        let language = self.language(options.language.as_deref())?;
        let rules = Normaliser::of(language, capitals);
        let speaks_it = !self.config.text.languages.is_empty();
        if rules.is_none() && (on || !speaks_it) {
            let message = match speaks_it {
                true => {
                    "there are no normalisation rules for this language: its numbers and signs are left to the model"
                }
                false => "this model speaks English alone: the text is read as English",
            };
            warnings.add(0, language, message.into());
        }
        if let Some(message) = lacks(language, text).filter(|_| self.graphemes.is_some()) {
            warnings.add(0, language, message.into());
        }
        let mut reading = Reading {
            front_end: self,
            source: text,
            manner: Manner {
                on: on && rules.is_some(),
                language,
                letter_case: (options.letter_case).unwrap_or(self.config.text.letter_case),
            },
            // The units of English apply to most languages: digits, units, abbreviations.
            rules: rules.or_else(|| Normaliser::of("en", capitals)),
            refuse: options.unreadable == Unreadable::Refuse,
            known: HashMap::new(),
            pieces: Vec::new(),
            counted: (0, 0),
        };
        for element in elements(text, &self.tags, after_words, &mut warnings) {
            match element {
                Element::Paragraph(joint) if after_words && joint.text().chars().eq([JOINT]) => {
                    reading.pause("", PAUSE_SECONDS, Length::Usual);
                }
                Element::Paragraph(paragraph) => reading.paragraph(&paragraph, &mut warnings)?,
                Element::Pause { seconds, written } => {
                    reading.pause(&text[written], seconds, Length::Asked);
                }
            }
        }
        Ok(Script {
            pieces: reading.finish(after_words),
            warnings: warnings.finish(),
        })
    }

    /// The pieces with words of a text, read as the model was trained.
    ///
    /// # Errors
    /// As [`TextFrontEnd::script`].
    pub fn sentences(&self, text: &str) -> Result<Vec<Sentence>, TextError> {
        Ok(self.script(text, &TextOptions::default())?.into_sentences())
    }

    /// The tokenizer's input for a spoken text, without a language's tag.
    fn given(&self, spoken: &str, manner: Manner<'_>) -> Result<String, TextError> {
        let rules = self.config.text.normalisation;
        if manner.on && self.config.text.spell_out {
            return Ok(normalise(&letters::for_words_alone(spoken), rules));
        }
        let Some(graphemes) = &self.graphemes else {
            return Ok(normalise(spoken, rules));
        };
        let tidied = match manner.letter_case {
            LetterCase::Lower => normalise(spoken, rules),
            LetterCase::Kept => tidy(spoken, rules),
        };
        graphemes.of(&tidied, manner.language, manner.letter_case)
    }

    /// Token ids of a spoken text.
    fn encode(&self, spoken: &str, manner: Manner<'_>) -> Result<Vec<u32>, TextError> {
        let given = self.given(spoken, manner)?;
        match self.graphemes {
            Some(_) => (self.tokenizer).encode(&(language_tag(manner.language) + &given)),
            None => self.tokenizer.encode(&given),
        }
    }

    /// The tokenizer's input for a spoken text without the language's tag, its token ids, and the
    /// byte range of each token in that input; the tag's is empty.
    fn encode_with_offsets(
        &self,
        spoken: &str,
        manner: Manner<'_>,
    ) -> Result<(String, EncodedText), TextError> {
        let given = self.given(spoken, manner)?;
        let tag = match self.graphemes {
            Some(_) => language_tag(manner.language),
            None => String::new(),
        };
        let tagged = tag.clone() + &given;
        let (ids, mut offsets) = self.tokenizer.encode_with_offsets(&tagged)?;
        for (start, end) in &mut offsets {
            *start = start.saturating_sub(tag.len());
            *end = end.saturating_sub(tag.len());
        }
        Ok((given, (ids, offsets)))
    }

    fn frame(&self, mut ids: Vec<u32>) -> Result<Vec<u32>, TextError> {
        let vocabulary = self.config.t3.text_vocabulary;
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(TextError::IdOutOfRange { id, vocabulary });
        }
        if let Some((start, stop)) = self.config.t3.text_start_stop {
            ids.insert(0, start);
            ids.push(stop);
        }
        Ok(ids)
    }
}

/// Characters of an unknown language's code that a message repeats.
const LANGUAGE_CHARACTERS_MAX: usize = 32;

/// Origin of a pause's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    /// The text.
    Asked,
    /// The default, for paragraphs and text without words. Such pauses do not add up.
    Usual,
}

/// The state of reading one text.
struct Reading<'t> {
    front_end: &'t TextFrontEnd,
    source: &'t str,
    manner: Manner<'t>,
    rules: Option<Normaliser>,
    refuse: bool,
    /// Whether the tokenizer can encode a character.
    known: HashMap<char, bool>,
    pieces: Vec<(Piece, Length)>,
    /// A byte offset of the source, and the number of characters before it.
    counted: (usize, usize),
}

impl Reading<'_> {
    /// Adds a pause. Two default pauses merge into one, and a default pause beside a requested one
    /// is dropped.
    fn pause(&mut self, written: &str, seconds: f64, length: Length) {
        let written = written.trim();
        if let Some((
            Piece::Pause {
                written: before,
                seconds: known,
            },
            last,
        )) = self.pieces.last_mut()
            && (*last == Length::Usual || length == Length::Usual)
        {
            if *last == Length::Usual {
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

    fn paragraph(
        &mut self,
        paragraph: &Traced,
        warnings: &mut Warnings<'_>,
    ) -> Result<(), TextError> {
        let text = if self.manner.on {
            compatible(paragraph)
        } else {
            visible(paragraph)
        };
        let whole = || text.written(self.source, 0..text.text().len());
        if matches!(self.pieces.last(), Some((Piece::Words(_), _))) {
            self.pause("", PAUSE_SECONDS, Length::Usual);
        }
        if !text.text().chars().any(char::is_alphanumeric) {
            if !text.text().trim().is_empty() {
                self.pause(whole(), PAUSE_SECONDS, Length::Usual);
            }
            return Ok(());
        }
        for sentence in sentences(text.text()) {
            self.sentence(&text, sentence, warnings)?;
        }
        Ok(())
    }

    fn sentence(
        &mut self,
        text: &Traced,
        sentence: std::ops::Range<usize>,
        warnings: &mut Warnings<'_>,
    ) -> Result<(), TextError> {
        let mut spans = self.spans(&text.text()[sentence.clone()]);
        for span in &mut spans {
            span.written.start += sentence.start;
            span.written.end += sentence.start;
            self.pass_over(span, text, warnings)?;
        }
        let (front_end, manner) = (self.front_end, self.manner);
        // A part that the tokenizer refuses counts 0 here; the error is reported below.
        let count = |spoken: &str| front_end.encode(spoken, manner).map_or(0, |ids| ids.len());
        let parts = cut::cut(&spans, front_end.config.text.token_count_max, &count);
        // Parts of the same spans are those of one word that is too long for a run.
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
                self.pause(written, PAUSE_SECONDS, Length::Usual);
                continue;
            }
            let (given, (ids, offsets)) = front_end.encode_with_offsets(&part.spoken, manner)?;
            let found = match shared {
                Some(word) => vec![word],
                None => words::words(own, text.text()),
            };
            let letters: Vec<usize> = (found.iter())
                .map(|word| Ok(words::letter_count(&front_end.given(&word.spoken, manner)?)))
                .collect::<Result<_, TextError>>()?;
            let tokens = words::tokens(&given, &offsets, &letters);
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
            self.pieces.push((Piece::Words(sentence), Length::Asked));
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
                if !self.manner.on {
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

    /// Removes characters that the tokenizer cannot encode from the spoken text. With the
    /// reference's rules alone they stay, and are named in a warning.
    fn pass_over(
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
            // Some have a reading within a word alone.
            let given = self.front_end.given(&span.spoken, self.manner)?;
            lost.retain(|character| !is_kanji(character) || given.contains(character));
        }
        if lost.is_empty() {
            return Ok(());
        }
        if self.refuse {
            return Err(TextError::Unreadable { found: lost });
        }
        let message = match self.manner.on {
            true => "this model cannot speak it; it is skipped",
            false => "this model does not know it",
        };
        warnings.add(text.origin(span.written.start), &lost, message.into());
        if self.manner.on {
            span.spoken.retain(|character| !lost.contains(character));
        }
        Ok(())
    }

    /// Whether a character can be spoken, or is a mark or a space that need not be.
    fn is_known(&mut self, character: char) -> Result<bool, TextError> {
        if character.is_ascii() || is_mark(character) {
            return Ok(true);
        }
        if let Some(&known) = self.known.get(&character) {
            return Ok(known);
        }
        let given = (self.front_end).given(&character.to_string(), self.manner)?;
        let ids = self
            .front_end
            .tokenizer
            .encode(given.trim_end_matches(['.', ' ']))?;
        let known = !ids.is_empty() && !self.front_end.tokenizer.are_unknown(&ids);
        self.known.insert(character, known);
        Ok(known)
    }

    /// The pieces; a pause after the last words is kept only if the text requests it. A text
    /// without pieces is a pause, or nothing `after_words`.
    fn finish(mut self, after_words: bool) -> Vec<Piece> {
        if let Some((Piece::Pause { written, .. }, Length::Usual)) = self.pieces.last()
            && written.is_empty()
        {
            self.pieces.pop();
        }
        if self.pieces.is_empty() && !after_words && !is_blank(self.source) {
            self.pause(self.source, PAUSE_SECONDS, Length::Usual);
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

/// Whether a text has only white space and invisible characters.
pub fn is_blank(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_whitespace() || characters::is_invisible(c))
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
