//! Reads the fields of a JSON object one by one, so that each error names its field.

use crate::error::ServerError;
use serde_json::{Map, Value};
use sottovoce::options::{OptionDescription, OptionTable};

/// The largest integer up to which JSON numbers are exact in every client.
pub(crate) const EXACT_MAX: u64 = 1 << f64::MANTISSA_DIGITS;
/// Most ignored fields that are reported, and their longest name.
const IGNORED_MAX: usize = 32;
const IGNORED_NAME_BYTES_MAX: usize = 64;

/// Options with a second name, the reference's.
const ALIASES: [(&str, &str); 1] = [("language", "language_id")];

/// Fields of a JSON object, a form or a query that have not been read yet. `null` counts as absent.
#[derive(Default)]
pub(crate) struct Fields(Map<String, Value>);

/// An option and the value sent for it.
pub(crate) type ChosenOption = (&'static str, Value);

/// Sets options whose values were validated.
pub(crate) fn set_all<T: OptionTable>(options: &mut T, chosen: &[ChosenOption]) {
    for (name, value) in chosen {
        let set = options.set(name, value);
        debug_assert!(set.is_ok(), "{name} was checked as it was read");
    }
}

/// JSON with each half of a surrogate pair replaced by U+FFFD; `None` if there is none.
fn whole_characters(json: &[u8]) -> Option<Vec<u8>> {
    let unit = |at: usize| {
        let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut mended = None;
    let mut at = 0;
    while at < json.len() {
        at += match (unit(at), unit(at + 6)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => 12,
            (Some(0xd800..0xe000), _) => {
                let mended = mended.get_or_insert_with(|| json.to_vec());
                mended[at..at + 6].copy_from_slice(b"\\ufffd");
                6
            }
            (Some(_), _) => 6,
            // An escaped backslash begins no such escape.
            (None, _) if json[at] == b'\\' => 2,
            (None, _) => 1,
        };
    }
    mended
}

/// A value parsed from an object's fields.
pub(crate) trait FromFields: Sized {
    /// Reads the fields that the call supports.
    fn from_fields(fields: &mut Fields) -> Result<Self, ServerError>;
}

impl Fields {
    /// Parses an object. An empty body and `null` count as `{}`, for calls without required fields.
    /// A byte order mark is skipped. Half of a surrogate pair, as programs leave that cut a text
    /// within an emoji, becomes U+FFFD.
    ///
    /// # Errors
    /// If the text is not JSON, or not an object.
    pub(crate) fn parse(json: &[u8]) -> Result<Fields, String> {
        let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
        if json.is_empty() {
            return Ok(Fields(Map::new()));
        }
        if std::str::from_utf8(json).is_err() {
            return Err("the body is not UTF-8; send JSON in UTF-8".into());
        }
        let parsed = serde_json::from_slice(json).or_else(|error| {
            let mended = whole_characters(json).ok_or(error)?;
            serde_json::from_slice(&mended)
        });
        match parsed {
            Ok(Value::Null) => Ok(Fields(Map::new())),
            Ok(Value::Object(fields)) => Ok(Fields(fields)),
            Ok(_) => Err("the body is no JSON object; send {\"name\": value, ...}".into()),
            Err(error) => Err(format!(
                "the body is not JSON: look at line {}, column {}",
                error.line(),
                error.column()
            )),
        }
    }

    /// The fields of an object.
    pub(crate) fn of(object: Map<String, Value>) -> Fields {
        Fields(object)
    }

    /// The fields of a nested object; none if it is absent.
    pub(crate) fn object(&mut self, name: &'static str) -> Result<Fields, ServerError> {
        match self.take(name) {
            None => Ok(Fields::default()),
            Some(Value::Object(object)) => Ok(Fields(object)),
            Some(_) => refuse(name, "send an object"),
        }
    }

    /// Adds a field of a form or a query. An empty text counts as absent, as forms send all fields.
    pub(crate) fn insert(&mut self, name: String, text: String) {
        let value = if text.is_empty() {
            Value::Null
        } else {
            Value::String(text)
        };
        self.0.insert(name, value);
    }

    /// Moves a field to the name under which the engine knows it, unless that is sent too.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        if let Some(value) = self.take(from) {
            self.0.entry(to).or_insert(value);
        }
    }

    /// Changes a field's value, if it is there.
    pub(crate) fn change(&mut self, name: &str, change: fn(Value) -> Value) {
        if let Some(value) = self.take(name) {
            self.0.insert(name.to_owned(), change(value));
        }
    }

    /// Removes fields that have no effect here; returns the names of those that were sent.
    pub(crate) fn drop_all(&mut self, names: &[&'static str]) -> Vec<String> {
        let sent = names.iter().filter(|name| self.take(name).is_some());
        sent.map(|name| (*name).to_owned()).collect()
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// A string.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<String>, ServerError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => refuse(name, "send a text, in quotes"),
        }
    }

    /// A string that must be there; without it, the request is refused with `reason`.
    pub(crate) fn required_text(
        &mut self,
        name: &'static str,
        reason: &str,
    ) -> Result<String, ServerError> {
        match self.text(name)? {
            Some(text) => Ok(text),
            None => refuse(name, reason),
        }
    }

    /// A voice: its name, or an object with its `id`, as newer clients send it.
    pub(crate) fn voice(&mut self, name: &'static str) -> Result<Option<String>, ServerError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(voice)) => Ok(Some(voice)),
            Some(Value::Object(mut object)) => match object.remove("id") {
                Some(Value::String(voice)) => Ok(Some(voice)),
                _ => refuse(name, "an object names the voice in its field id"),
            },
            Some(_) => refuse(name, "send a voice's name, in quotes"),
        }
    }

    /// A non-negative integer, also in quotes or with a zero fraction.
    pub(crate) fn count(&mut self, name: &'static str) -> Result<Option<u64>, ServerError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match whole(&value) {
            Some(count) => Ok(Some(count)),
            None => refuse(name, "send a whole number that is not below 0"),
        }
    }

    /// A seed; −1 asks for a random one.
    pub(crate) fn seed(&mut self, name: &'static str) -> Result<Option<Seed>, ServerError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        if number(&value) == Some(-1.0) {
            return Ok(Some(Seed::Drawn));
        }
        match whole(&value) {
            Some(seed) => Ok(Some(Seed::Given(seed))),
            None => refuse(
                name,
                "send a whole number that is not below 0, or -1 to have one drawn",
            ),
        }
    }

    /// A boolean.
    pub(crate) fn flag(&mut self, name: &'static str) -> Result<Option<bool>, ServerError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            // Python writes `True`.
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(_) => refuse(name, "send true or false"),
        }
    }

    /// The options sent, of those that `takes` selects, for [`OptionTable::set`].
    ///
    /// # Errors
    /// A value outside its option's domain.
    pub(crate) fn chosen<T: OptionTable>(
        &mut self,
        takes: fn(&OptionDescription) -> bool,
    ) -> Result<Vec<ChosenOption>, ServerError> {
        let mut chosen = Vec::new();
        for option in T::DESCRIPTIONS.iter().filter(|option| takes(option)) {
            let alias = ALIASES.iter().find(|(name, _)| *name == option.name);
            let other = alias.and_then(|(_, alias)| self.take(alias));
            if let Some(value) = self.take(option.name).or(other) {
                T::default().set(option.name, &value)?;
                chosen.push((option.name, value));
            }
        }
        Ok(chosen)
    }

    /// Sets the options sent, of those that `takes` selects.
    ///
    /// # Errors
    /// A value outside its option's domain.
    pub(crate) fn options<T: OptionTable>(
        &mut self,
        options: &mut T,
        takes: fn(&OptionDescription) -> bool,
    ) -> Result<(), ServerError> {
        let chosen = self.chosen::<T>(takes)?;
        set_all(options, &chosen);
        Ok(())
    }

    /// Names of unread fields, restricted to characters that a header can carry.
    pub(crate) fn unread(&self) -> Vec<String> {
        let plain = |name: &&String| {
            let sign =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
            (1..=IGNORED_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(sign)
        };
        self.0
            .keys()
            .filter(plain)
            .take(IGNORED_MAX)
            .cloned()
            .collect()
    }

    /// Refuses unread fields: a misspelt setting must not seem to be in force.
    pub(crate) fn refuse_unread(&self) -> Result<(), ServerError> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(ServerError::Field {
                field: name.chars().take(IGNORED_NAME_BYTES_MAX).collect(),
                reason: "this call has no such field".into(),
            }),
        }
    }
}

/// The language of a tag, without its region: `zh-CN` is `zh`.
pub(crate) fn base_language(tag: &str) -> String {
    let language = tag.split(['-', '_']).next().unwrap_or_default();
    language.trim().to_ascii_lowercase()
}

/// Seed of a stream's random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seed {
    /// The caller's seed.
    Given(u64),
    /// A random seed, which is reported.
    Drawn,
}

impl Seed {
    /// The seed. A random one is exact in every client's number type.
    pub(crate) fn value(self) -> u64 {
        match self {
            Seed::Given(seed) => seed,
            Seed::Drawn => fastrand::u64(..EXACT_MAX),
        }
    }
}

fn refuse<T>(parameter: &'static str, reason: &str) -> Result<T, ServerError> {
    Err(ServerError::Parameter {
        parameter,
        reason: reason.into(),
    })
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn whole(value: &Value) -> Option<u64> {
    let exact = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    exact.or_else(|| {
        let number = number(value)?;
        let fits = number.fract() == 0.0 && (0.0..=EXACT_MAX as f64).contains(&number);
        fits.then_some(number as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sottovoce::StreamOptions;

    fn fields(json: &str) -> Fields {
        Fields::parse(json.as_bytes()).unwrap()
    }

    fn told<T: std::fmt::Debug>(outcome: Result<T, ServerError>) -> String {
        outcome.unwrap_err().to_string()
    }

    #[test]
    fn whole_numbers_in_quotes_and_with_a_point_are_understood() {
        let mut fields = fields(r#"{"c":" 3 ","d":"4.0","e":5.0,"f":"1e2"}"#);
        for (name, count) in [("c", 3), ("d", 4), ("e", 5), ("f", 100)] {
            assert_eq!(fields.count(name).unwrap(), Some(count), "{name}");
        }
        assert_eq!(fields.count("g").unwrap(), None);
    }

    #[test]
    fn switches_in_quotes_are_understood_as_every_language_writes_them() {
        for (text, on) in [("true", true), ("True", true), ("FALSE", false)] {
            let json = format!("{{\"force\":\"{text}\",\"word_times\":\"{text}\"}}");
            assert_eq!(fields(&json).flag("force").unwrap(), Some(on), "{text}");
            let mut options = StreamOptions::default();
            let set = fields(&json).options(&mut options, |option| option.name == "word_times");
            set.unwrap();
            assert_eq!(options.word_times, on, "{text}");
        }
        assert!(fields(r#"{"force":"yes"}"#).flag("force").is_err());
    }

    #[test]
    fn what_is_no_whole_number_is_refused_by_its_field_in_plain_words() {
        for value in ["-1", "1.5", "\"x\"", "1e300", "[1]"] {
            let words = told(fields(&format!("{{\"size\":{value}}}")).count("size"));
            assert!(words.starts_with("size: "), "{value}: {words}");
        }
    }

    #[test]
    fn options_are_set_from_fields_and_refused_by_name_with_their_range() {
        let speed = |json: &str| {
            let mut options = StreamOptions::default();
            let mut fields = fields(json);
            fields.options(&mut options, |option| option.name == "speed")?;
            assert!(fields.unread().is_empty() || json.contains("seed"));
            Ok::<f32, ServerError>(options.speed)
        };
        for (json, value) in [
            (r#"{"speed":2}"#, 2.0),
            (r#"{"speed":" 1.5 "}"#, 1.5),
            (r#"{"speed":null}"#, 1.0),
            (r#"{"seed":3}"#, 1.0),
        ] {
            assert_eq!(speed(json).unwrap(), value, "{json}");
        }
        for value in [
            "\"fast\"", "\"1,5\"", "true", "[]", "{}", "\"\"", "\"inf\"", "\"nan\"", "1e300", "9",
            "-1",
        ] {
            let words = told(speed(&format!("{{\"speed\":{value}}}")));
            assert!(
                words.contains("speed") && words.contains("0.25 to 4"),
                "{words}"
            );
        }
        let long = format!("{{\"speed\":\"{}\"}}", "x".repeat(10_000));
        assert!(
            told(speed(&long)).len() < 300,
            "a refusal repeats little of it"
        );
    }

    #[test]
    fn an_option_is_also_read_by_the_references_name() {
        for (json, language) in [
            (r#"{"language_id":"de"}"#, Some("de")),
            (r#"{"language":"fr","language_id":"de"}"#, Some("fr")),
            (r#"{"language_id":null}"#, None),
        ] {
            let mut options = StreamOptions::default();
            let mut fields = fields(json);
            let set = fields.options(&mut options, |option| option.name == "language");
            set.unwrap();
            assert_eq!(options.language.as_deref(), language, "{json}");
            assert!(fields.unread().is_empty(), "{json}");
        }
    }

    #[test]
    fn a_seed_of_minus_one_is_drawn_and_large_ones_are_exact() {
        for (value, seed) in [
            ("-1", Some(Seed::Drawn)),
            ("\"-1\"", Some(Seed::Drawn)),
            ("-1.0", Some(Seed::Drawn)),
            ("18446744073709551615", Some(Seed::Given(u64::MAX))),
            ("\"18446744073709551615\"", Some(Seed::Given(u64::MAX))),
            ("null", None),
        ] {
            let mut fields = fields(&format!("{{\"seed\":{value}}}"));
            assert_eq!(fields.seed("seed").unwrap(), seed, "{value}");
        }
        for value in ["-2", "1.5", "\"random\""] {
            assert!(
                fields(&format!("{{\"seed\":{value}}}"))
                    .seed("seed")
                    .is_err()
            );
        }
        assert_eq!(Seed::Given(7).value(), 7);
        assert!(Seed::Drawn.value() < EXACT_MAX);
        assert_ne!(Seed::Drawn.value(), Seed::Drawn.value());
    }

    #[test]
    fn a_voice_is_a_name_or_an_object_with_its_id() {
        for (value, voice) in [
            ("\"ann\"", Some("ann")),
            ("{\"id\":\"ann\"}", Some("ann")),
            ("null", None),
        ] {
            let mut fields = fields(&format!("{{\"voice\":{value}}}"));
            assert_eq!(fields.voice("voice").unwrap().as_deref(), voice, "{value}");
        }
        for value in ["5", "{}", "{\"id\":5}", "[]"] {
            assert!(
                fields(&format!("{{\"voice\":{value}}}"))
                    .voice("voice")
                    .is_err()
            );
        }
    }

    #[test]
    fn what_nobody_read_is_told_as_far_as_a_header_may_carry_it() {
        let mut fields = fields(r#"{"input":"x","lang":"en","a b":1,"é":2,"n":null}"#);
        fields.text("input").unwrap();
        assert_eq!(fields.unread(), ["lang", "n"]);
        assert!(told(fields.refuse_unread()).contains("no such field"));
        let many: String = (0..1000).map(|n| format!("\"f{n}\":0,")).collect();
        let many = format!("{{{many}\"last\":0}}");
        assert_eq!(super::tests::fields(&many).unread().len(), IGNORED_MAX);
    }

    #[test]
    fn half_of_a_surrogate_pair_loses_no_other_character() {
        for (body, text) in [
            (r#"{"a":"x \ud83d y"}"#, "x \u{fffd} y"),
            (
                r#"{"a":"\ude00\ud83d\ude00\ud83d"}"#,
                "\u{fffd}\u{1f600}\u{fffd}",
            ),
            (r#"{"a":"\\ud83d \ud83d"}"#, "\\ud83d \u{fffd}"),
            (r#"{"a":"\ud83d\u0041"}"#, "\u{fffd}A"),
        ] {
            let fields = Fields::parse(body.as_bytes()).unwrap();
            assert_eq!(fields.0["a"], text, "{body}");
        }
        assert!(Fields::parse(br#"{"a":"\ud83d"#).is_err());
    }

    #[test]
    fn a_mark_before_the_object_is_passed_over_and_no_object_is_told_plainly() {
        assert_eq!(Fields::parse(b"").map(|fields| fields.0.len()), Ok(0));
        assert_eq!(
            Fields::parse(b"\xef\xbb\xbf{\"a\":1}").map(|fields| fields.0.len()),
            Ok(1)
        );
        for (body, words) in [
            (&b"[]"[..], "no JSON object"),
            (b"3", "no JSON object"),
            (b"{", "line 1"),
            (b" ", "not JSON"),
            (b"\xff\xfe{\0}\0", "UTF-8"),
        ] {
            let refusal = Fields::parse(body).err().unwrap_or_default();
            assert!(refusal.contains(words), "{body:?}: {refusal}");
        }
    }
}
