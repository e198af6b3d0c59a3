//! Options whose values are words.

use super::value::{Choice, OptionValue, words};
use super::{CachePrecision, Profile};
use crate::error::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sottovoce_chatterbox::config::LetterCase;
use sottovoce_chatterbox::text::{Normalise, Unreadable};
use std::fmt;
use std::str::FromStr;

/// Precision of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    /// The finest precision that fits the budget.
    Auto,
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 8 bits, one scale per row.
    Int8,
    /// 4 bits in groups of 32 for T3's matrices, 8 bits elsewhere.
    Q4,
}

/// What a stream does if all places are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Waits in the queue; refused only if the queue is full.
    #[default]
    Wait,
    /// Is refused at once, with the time after which to retry.
    Refuse,
}

/// Delivery mode of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryMode {
    /// In growing chunks, for a listener.
    #[default]
    Stream,
    /// In passes of as many sentences as fit the flow's window, for a file or a whole response:
    /// less work, but a later first sound.
    Whole,
}

/// When a stream's first sound comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FirstSound {
    /// Once playback need not wait afterwards, where the model is fast enough for that.
    #[default]
    Steady,
    /// As early as the rest of the utterance does not suffer from it; playback may wait once.
    Early,
}

words!(FirstSound {
    Steady => "steady",
    Early => "early",
});
words!(DeliveryMode {
    Stream => "stream",
    Whole => "whole",
});
words!(PrecisionChoice {
    Auto => "auto",
    F32 => "f32",
    F16 => "f16",
    Int8 => "int8",
    Q4 => "q4",
});
words!(WhenFull {
    Wait => "wait",
    Refuse => "refuse",
});
words!(CachePrecision {
    F32 => "f32",
    F16 => "f16",
    Int8 => "int8",
});
words!(Profile {
    Automatic => "automatic" | "auto",
    Aggressive => "aggressive",
    Balanced => "balanced",
    Performance => "performance",
    None => "none",
});
words!(Normalise {
    Auto => "auto",
    On => "on",
    Off => "off",
});
words!(LetterCase {
    Lower => "lower",
    Kept => "kept",
});
words!(Unreadable {
    Skip => "skip",
    Refuse => "refuse",
});

impl fmt::Display for DeliveryMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.word())
    }
}

impl fmt::Display for PrecisionChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.word())
    }
}

impl FromStr for PrecisionChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<PrecisionChoice, Error> {
        let reason = "use auto, f32, f16, int8 or q4";
        PrecisionChoice::from_word(text).ok_or_else(|| Error::option("precision", text, reason))
    }
}

/// Device that computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// This machine's CPU.
    #[default]
    Cpu,
    /// The CUDA device of this ordinal.
    Cuda(u32),
    /// The first CUDA device if the model fits there, otherwise the CPU.
    Auto,
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Cpu => formatter.pad("cpu"),
            DeviceChoice::Cuda(ordinal) => formatter.pad(&format!("cuda:{ordinal}")),
            DeviceChoice::Auto => formatter.pad("auto"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<DeviceChoice, Error> {
        let cuda = |number: &str| {
            let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| number.parse().ok()).flatten()
        };
        let choice = match text {
            "cpu" => Some(DeviceChoice::Cpu),
            "cuda" => Some(DeviceChoice::Cuda(0)),
            "auto" => Some(DeviceChoice::Auto),
            _ => (text.strip_prefix("cuda:").and_then(cuda)).map(DeviceChoice::Cuda),
        };
        choice.ok_or_else(|| {
            let reason = "use cpu, cuda, cuda:N (counted from 0) or auto";
            Error::option("device", text, reason)
        })
    }
}

impl OptionValue for DeviceChoice {
    fn to_value(&self) -> Value {
        Value::from(self.to_string())
    }

    fn from_value(value: &Value) -> Option<DeviceChoice> {
        value.as_str()?.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_named_as_it_is_read() {
        for (text, choice) in [
            ("cpu", DeviceChoice::Cpu),
            ("auto", DeviceChoice::Auto),
            ("cuda:0", DeviceChoice::Cuda(0)),
            ("cuda:17", DeviceChoice::Cuda(17)),
        ] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap(), choice);
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!(
            "cuda".parse::<DeviceChoice>().unwrap(),
            DeviceChoice::Cuda(0)
        );
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:+1", "cuda:99999999999"] {
            let refusal = text.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(refusal.contains("cuda:N"), "{refusal}");
        }
    }

    #[test]
    fn the_words_of_options_are_those_that_their_types_write() {
        for word in CachePrecision::WORDS {
            let value = CachePrecision::from_word(word).unwrap();
            assert_eq!(value.to_string(), *word);
        }
        for word in Profile::WORDS {
            assert_eq!(Profile::from_word(word).unwrap().to_string(), *word);
            assert_eq!(word.parse(), Ok(Profile::from_word(word).unwrap()));
        }
        assert_eq!(Profile::from_word("auto"), Some(Profile::Automatic));
    }
}
