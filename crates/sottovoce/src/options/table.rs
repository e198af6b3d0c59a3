//! Option tables: each option is declared once, and every interface is generated from its
//! declaration.

use super::capability::{Capabilities, Capability};
use super::value::OptionValue;
use crate::error::Error;
use serde::Serialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;
use sottovoce_memory::stats::parse_bytes;
use std::fmt;
use std::marker::PhantomData;

/// One option, as every interface presents it: command line, HTTP, page, Python and reference page.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct OptionDescription {
    /// The field's name. The command line writes `-` for `_`.
    pub name: &'static str,
    /// What it does, as text.
    #[serde(serialize_with = "trimmed")]
    pub help: &'static str,
    /// Its allowed values.
    pub domain: Domain,
    /// Unit of a number; empty if it has none.
    pub unit: &'static str,
    /// Who chooses it.
    pub scope: Scope,
    /// Capability without which it has no effect.
    pub needs: Option<Capability>,
    /// Whether it may be unset.
    pub optional: bool,
    /// What applies while it is unset; empty if it is never unset.
    pub unset: &'static str,
}

fn trimmed<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text.trim())
}

impl OptionDescription {
    /// What it does, as text.
    pub fn help(&self) -> &'static str {
        self.help.trim()
    }

    /// Whether the option has an effect for a model on a device.
    pub fn has_effect(&self, capabilities: &Capabilities) -> bool {
        self.needs.is_none_or(|needed| capabilities.has(needed))
    }
}

/// More bytes than a CPU can address.
pub(super) const BYTES_MAX: u64 = 1 << 48;

/// Allowed values of an option.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Domain {
    /// A number within bounds.
    Number {
        /// Smallest value.
        least: f32,
        /// Largest value.
        most: f32,
    },
    /// An integer within bounds.
    Count {
        /// Smallest value.
        least: u64,
        /// Largest value.
        most: u64,
    },
    /// One of these words.
    Choice {
        /// The words.
        words: &'static [&'static str],
    },
    /// A short text in a syntax of the option's own, such as `cuda:1`.
    Text {
        /// The syntax, as text.
        form: &'static str,
    },
    /// On or off.
    Switch,
    /// A number of bytes, or a text such as `512MiB`.
    Bytes,
    /// A file.
    File,
    /// A folder.
    Folder,
}

impl Domain {
    /// Numbers from `least` to `most`.
    pub const fn number(least: f32, most: f32) -> Domain {
        Domain::Number { least, most }
    }

    /// Integers from `least` to `most`.
    pub const fn count(least: u64, most: u64) -> Domain {
        Domain::Count { least, most }
    }

    /// The words of a type.
    pub const fn choice<T: super::Choice>() -> Domain {
        Domain::Choice { words: T::WORDS }
    }

    /// The allowed values as text, such as `0.25 to 4`.
    pub fn description(&self) -> String {
        match self {
            Domain::Number { least, most } => format!("{least} to {most}"),
            Domain::Count {
                most: u64::MAX,
                least,
            } => format!("a whole number from {least} on"),
            Domain::Count { least, most } => format!("{least} to {most}"),
            Domain::Choice { words } => match words.split_last() {
                Some((last, rest)) if !rest.is_empty() => {
                    format!("{} or {last}", rest.join(", "))
                }
                _ => words.concat(),
            },
            Domain::Text { form } => (*form).to_owned(),
            Domain::Switch => "true or false".into(),
            Domain::Bytes => "bytes, or a size such as 512MiB".into(),
            Domain::File => "a file".into(),
            Domain::Folder => "a folder".into(),
        }
    }

    /// The JSON type of a value: `number`, `integer`, `boolean` or `string`.
    pub fn json_type(&self) -> &'static str {
        match self {
            Domain::Number { .. } => "number",
            Domain::Count { .. } | Domain::Bytes => "integer",
            Domain::Switch => "boolean",
            Domain::Choice { .. } | Domain::Text { .. } | Domain::File | Domain::Folder => "string",
        }
    }
}

/// Who chooses an option, and so where it is available.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The caller that loads a model: commands, Python, Rust.
    Engine,
    /// The operator who loads a model for several callers: the server, Python, Rust.
    Server,
    /// The caller that requests speech: commands, requests, Python, Rust.
    Stream,
    /// The program that embeds the engine, but not its users: Python, Rust.
    Program,
}

/// A struct whose fields are all options.
pub trait OptionTable: Clone + Default {
    /// All options, in display order.
    const DESCRIPTIONS: &'static [OptionDescription];

    /// Sets an option by name. Numbers and booleans may be strings, sizes may have a unit, and null
    /// sets the default.
    ///
    /// # Errors
    /// [`Error::UnknownOption`], or [`Error::Option`] for a value outside the option's domain;
    /// nothing is changed then.
    fn set(&mut self, name: &str, value: &Value) -> Result<(), Error>;

    /// An option's value by name, null if it is unset; `None` for an unknown name.
    fn get(&self, name: &str) -> Option<Value>;

    /// Refuses values outside their domain.
    ///
    /// # Errors
    /// [`Error::Option`] names the first of them.
    fn check(&self) -> Result<(), Error>;

    /// An option's description by name.
    fn description(name: &str) -> Option<&'static OptionDescription> {
        Self::DESCRIPTIONS
            .iter()
            .find(|description| description.name == name)
    }

    /// Names of options that differ from the default but have no effect for this model and device.
    fn without_effect(&self, capabilities: &Capabilities) -> Vec<&'static str> {
        let default = Self::default();
        Self::DESCRIPTIONS
            .iter()
            .filter(|description| !description.has_effect(capabilities))
            .map(|description| description.name)
            .filter(|name| self.get(name) != default.get(name))
            .collect()
    }
}

/// Reads a value for an option.
#[doc(hidden)]
pub fn read<T: OptionValue>(
    name: &'static str,
    domain: &Domain,
    value: &Value,
) -> Result<T, Error> {
    let refused = |reason: String| Error::option(name, shown(value), reason);
    let size;
    let value = match (domain, value) {
        (Domain::Bytes, Value::String(text)) => {
            size = Value::from(parse_bytes(text).map_err(refused)?);
            &size
        }
        _ => value,
    };
    let read = T::from_value(value);
    let read = read.ok_or_else(|| refused(format!("use {}", domain.description())))?;
    check(name, domain, &read)?;
    Ok(read)
}

/// Refuses a value outside its option's domain.
#[doc(hidden)]
pub fn check(name: &'static str, domain: &Domain, value: &impl OptionValue) -> Result<(), Error> {
    match value.is_in(domain) {
        true => Ok(()),
        false => {
            let reason = format!("use {}", domain.description());
            Err(Error::option(name, value.shown(), reason))
        }
    }
}

/// Most characters of a value that an error message repeats.
const SHOWN_CHARACTERS_MAX: usize = 64;

/// A value as text: strings without quotes, long ones truncated.
pub(super) fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(SHOWN_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Writes options as an object with every name.
#[doc(hidden)]
pub fn serialize<T: OptionTable, S: Serializer>(
    options: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(T::DESCRIPTIONS.len()))?;
    for description in T::DESCRIPTIONS {
        map.serialize_entry(description.name, &options.get(description.name))?;
    }
    map.end()
}

/// Reads options from an object; missing ones keep their defaults, unknown ones are refused.
#[doc(hidden)]
pub fn deserialize<'de, T: OptionTable, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    struct Object<T>(PhantomData<T>);

    impl<'de, T: OptionTable> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object of options")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
            let mut options = T::default();
            while let Some((name, value)) = map.next_entry::<String, Value>()? {
                options.set(&name, &value).map_err(de::Error::custom)?;
            }
            Ok(options)
        }
    }

    deserializer.deserialize_map(Object(PhantomData))
}

/// Declares a struct of options together with its table.
///
/// One option is one line: documentation (which is its help), name, type and default; what applies
/// while it has no value; its domain, scope and unit; and the capability that it needs.
///
/// ```
/// use sottovoce::options::{Domain, OptionTable};
///
/// sottovoce::options! {
///     /// How a lamp shines.
///     pub struct LampOptions {
///         /// Brightness.
///         brightness: f32 = 0.5, domain Domain::number(0.0, 1.0), scope Program, unit "candela";
///         /// Seconds after which it goes out.
///         timer: Option<u64> = None, unset "never", domain Domain::count(1, 3600), scope Program;
///     }
/// }
/// assert!(LampOptions { brightness: 2.0, ..Default::default() }.check().is_err());
/// ```
#[macro_export]
macro_rules! options {
    (
        $(#[$meta:meta])*
        $visibility:vis struct $name:ident {
            $(
                $(#[doc = $help:literal])+
                $field:ident: $type:ty = $default:expr
                $(, unset $unset:literal)?
                , domain $domain:expr
                , scope $scope:ident
                $(, unit $unit:literal)?
                $(, needs $needs:ident)?
                ;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $visibility struct $name {
            $($(#[doc = $help])+ pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> $name {
                $name { $($field: $default,)* }
            }
        }

        impl $crate::options::OptionTable for $name {
            const DESCRIPTIONS: &'static [$crate::options::OptionDescription] = &[$(
                $crate::options::OptionDescription {
                    name: stringify!($field),
                    help: concat!($($help),+),
                    domain: $domain,
                    unit: concat!($($unit)?),
                    scope: $crate::options::Scope::$scope,
                    needs: $crate::options!(@needs $($needs)?),
                    optional: <$type as $crate::options::OptionValue>::OPTIONAL,
                    unset: concat!($($unset)?),
                },
            )*];

            fn set(
                &mut self,
                name: &str,
                value: &$crate::options::Value,
            ) -> Result<(), $crate::Error> {
                match name {
                    $(stringify!($field) => {
                        self.$field = match value {
                            $crate::options::Value::Null => $default,
                            value => $crate::options::table::read(
                                stringify!($field), &$domain, value,
                            )?,
                        };
                        Ok(())
                    })*
                    _ => Err($crate::Error::UnknownOption { name: name.to_owned() }),
                }
            }

            fn get(&self, name: &str) -> Option<$crate::options::Value> {
                match name {
                    $(stringify!($field) => {
                        Some($crate::options::OptionValue::to_value(&self.$field))
                    })*
                    _ => None,
                }
            }

            fn check(&self) -> Result<(), $crate::Error> {
                $($crate::options::table::check(stringify!($field), &$domain, &self.$field)?;)*
                Ok(())
            }
        }

        impl $crate::options::serde::Serialize for $name {
            fn serialize<S: $crate::options::serde::Serializer>(
                &self,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                $crate::options::table::serialize(self, serializer)
            }
        }

        impl<'de> $crate::options::serde::Deserialize<'de> for $name {
            fn deserialize<D: $crate::options::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<$name, D::Error> {
                $crate::options::table::deserialize(deserializer)
            }
        }
    };
    (@needs) => { None };
    (@needs $needs:ident) => { Some($crate::options::Capability::$needs) };
}
