//! Conversion of option values to and from JSON, the dynamic form that all interfaces share.

use super::table::{BYTES_MAX, Domain, shown};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// The largest integer up to which a 64-bit float represents every integer.
const EXACT_MAX: f64 = (1u64 << f64::MANTISSA_DIGITS) as f64;
/// Longest text of an option, in bytes.
const TEXT_BYTES_MAX: usize = 64;

/// A type of an option's value.
pub trait OptionValue: Sized {
    /// Whether the value may be unset.
    const OPTIONAL: bool = false;

    /// The value as JSON.
    fn to_value(&self) -> Value;

    /// Reads a value; numbers, booleans and words may be strings. `None` if the value has another
    /// type.
    fn from_value(value: &Value) -> Option<Self>;

    /// Whether the value is in a domain.
    fn is_in(&self, _domain: &Domain) -> bool {
        true
    }

    /// The value as text.
    fn shown(&self) -> String {
        shown(&self.to_value())
    }
}

/// A type whose values are words.
pub trait Choice: Copy + Sized + 'static {
    /// Every word.
    const WORDS: &'static [&'static str];

    /// The value's word.
    fn word(self) -> &'static str;

    /// The value of a word.
    fn from_word(word: &str) -> Option<Self>;
}

/// Gives a type the words of its variants; the match makes sure that each variant has one.
macro_rules! words {
    ($type:ty { $($variant:ident => $word:literal $(| $alias:literal)*),+ $(,)? }) => {
        impl $crate::options::Choice for $type {
            const WORDS: &'static [&'static str] = &[$($word),+];

            fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            fn from_word(word: &str) -> Option<$type> {
                match word {
                    $($word $(| $alias)* => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        impl $crate::options::OptionValue for $type {
            fn to_value(&self) -> serde_json::Value {
                serde_json::Value::from($crate::options::Choice::word(*self))
            }

            fn from_value(value: &serde_json::Value) -> Option<$type> {
                $crate::options::Choice::from_word(value.as_str()?.trim())
            }
        }
    };
}
pub(super) use words;

impl OptionValue for f32 {
    fn to_value(&self) -> Value {
        // Converts by the shortest decimal text, so that 0.8 stays 0.8.
        let shortest: Result<f64, _> = self.to_string().parse();
        shortest.map_or(Value::Null, Value::from)
    }

    fn from_value(value: &Value) -> Option<f32> {
        let number = match value {
            Value::String(text) => text.trim().parse().ok()?,
            other => other.as_f64()? as f32,
        };
        f32::is_finite(number).then_some(number)
    }

    fn is_in(&self, domain: &Domain) -> bool {
        match domain {
            Domain::Number { least, most } => (*least..=*most).contains(self),
            _ => true,
        }
    }

    fn shown(&self) -> String {
        self.to_string()
    }
}

/// A non-negative integer, also with a zero fraction or in a string: some clients have one number
/// type only.
fn whole(value: &Value) -> Option<u64> {
    let exact = |number: f64| {
        ((0.0..=EXACT_MAX).contains(&number) && number.fract() == 0.0).then_some(number as u64)
    };
    match value {
        Value::Number(number) => number.as_u64().or_else(|| exact(number.as_f64()?)),
        Value::String(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| exact(text.parse().ok()?))
        }
        _ => None,
    }
}

macro_rules! whole_numbers {
    ($($type:ty),*) => {$(
        impl OptionValue for $type {
            fn to_value(&self) -> Value {
                Value::from(*self)
            }

            fn from_value(value: &Value) -> Option<$type> {
                whole(value).and_then(|number| <$type>::try_from(number).ok())
            }

            fn is_in(&self, domain: &Domain) -> bool {
                match domain {
                    Domain::Count { least, most } => (*least..=*most).contains(&(*self as u64)),
                    Domain::Bytes => *self as u64 <= BYTES_MAX,
                    _ => true,
                }
            }
        }
    )*};
}
whole_numbers!(u32, u64, usize);

/// Seconds, with an optional fraction.
impl OptionValue for Duration {
    fn to_value(&self) -> Value {
        match self.subsec_nanos() {
            0 => Value::from(self.as_secs()),
            _ => Value::from(self.as_secs_f64()),
        }
    }

    fn from_value(value: &Value) -> Option<Duration> {
        let seconds = match value {
            Value::String(text) => text.trim().parse().ok()?,
            other => other.as_f64()?,
        };
        Duration::try_from_secs_f64(seconds).ok()
    }

    fn is_in(&self, domain: &Domain) -> bool {
        match domain {
            Domain::Number { least, most } => {
                (f64::from(*least)..=f64::from(*most)).contains(&self.as_secs_f64())
            }
            Domain::Count { least, most } => (*least..=*most).contains(&self.as_secs()),
            _ => true,
        }
    }
}

impl OptionValue for bool {
    fn to_value(&self) -> Value {
        Value::from(*self)
    }

    fn from_value(value: &Value) -> Option<bool> {
        match value {
            Value::Bool(value) => Some(*value),
            // Python writes `True`.
            Value::String(text) => text.trim().to_ascii_lowercase().parse().ok(),
            _ => None,
        }
    }
}

impl OptionValue for String {
    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }

    fn from_value(value: &Value) -> Option<String> {
        value.as_str().map(str::to_owned)
    }

    fn is_in(&self, domain: &Domain) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        match domain {
            Domain::Text { .. } => {
                (1..=TEXT_BYTES_MAX).contains(&self.len()) && self.bytes().all(plain)
            }
            _ => true,
        }
    }
}

impl OptionValue for PathBuf {
    fn to_value(&self) -> Value {
        Value::from(self.to_string_lossy())
    }

    fn from_value(value: &Value) -> Option<PathBuf> {
        value.as_str().map(PathBuf::from)
    }
}

impl<T: OptionValue> OptionValue for Option<T> {
    const OPTIONAL: bool = true;

    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::to_value)
    }

    fn from_value(value: &Value) -> Option<Option<T>> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }

    fn is_in(&self, domain: &Domain) -> bool {
        self.as_ref().is_none_or(|value| value.is_in(domain))
    }

    fn shown(&self) -> String {
        self.as_ref().map_or_else(|| "none".into(), T::shown)
    }
}
