//! OpenAPI schemas of option tables.

use sottovoce::options::{Domain, OptionDescription, OptionTable};
use utoipa::openapi::schema::{AdditionalProperties, SchemaType, Type};
use utoipa::openapi::{Object, ObjectBuilder};

/// Object schema of the options that `takes` selects; all are optional and nullable.
pub(crate) fn object<T: OptionTable>(takes: fn(&OptionDescription) -> bool) -> Object {
    let defaults = T::default();
    let options = T::DESCRIPTIONS.iter().filter(|option| takes(option));
    let object = options.fold(ObjectBuilder::new(), |object, option| {
        let default = defaults.get(option.name).filter(|value| !value.is_null());
        object.property(option.name, field(option).default(default).build())
    });
    object.build()
}

/// The same schema without additional properties.
pub(crate) fn closed(mut object: Object) -> Object {
    object.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
    object
}

fn field(option: &OptionDescription) -> ObjectBuilder {
    let kind = match option.domain.json_type() {
        "number" => Type::Number,
        "integer" => Type::Integer,
        "boolean" => Type::Boolean,
        _ => Type::String,
    };
    let mut notes = vec![option.help().to_owned()];
    if !option.unit.is_empty() {
        notes.push(format!("In {}.", option.unit));
    }
    if !option.unset.is_empty() {
        notes.push(format!("If left out: {}.", option.unset));
    }
    if let Some(needed) = option.needs {
        notes.push(format!("It has an effect with {}.", needed.owners()));
    }
    let field = ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([kind, Type::Null]))
        .description(Some(notes.join(" ")));
    match option.domain {
        Domain::Number { least, most } => field.minimum(Some(least)).maximum(Some(most)),
        Domain::Count { least, most } => {
            let field = field.minimum(Some(whole(least)));
            match most {
                u64::MAX => field,
                most => field.maximum(Some(whole(most))),
            }
        }
        Domain::Choice { words } => {
            // OpenAPI allows null for an enumeration only if it is listed.
            let words = words.iter().map(|word| Some(*word)).chain([None]);
            field.enum_values(Some(words))
        }
        _ => field,
    }
}

/// A bound as `usize`; bounds of options are far below its maximum.
fn whole(bound: u64) -> usize {
    usize::try_from(bound).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sottovoce::StreamOptions;
    use sottovoce::options::Scope;

    #[test]
    fn a_schema_has_each_option_with_its_range_words_and_default() {
        let object = object::<StreamOptions>(|option| option.scope == Scope::Stream);
        let schema = serde_json::to_value(object).unwrap();
        let fields = schema["properties"].as_object().unwrap();
        for option in StreamOptions::DESCRIPTIONS {
            let taken = option.scope == Scope::Stream;
            assert_eq!(fields.contains_key(option.name), taken, "{}", option.name);
        }
        assert_eq!(fields["speed"]["minimum"], 0.25);
        assert_eq!(fields["speed"]["maximum"], 4.0);
        assert_eq!(fields["speed"]["default"], 1.0);
        assert_eq!(fields["seed"]["minimum"], 0);
        assert!(fields["seed"]["maximum"].is_null());
        assert_eq!(fields["normalise"]["enum"][0], "auto");
        assert!(fields["temperature"]["default"].is_null());
        let exaggeration = fields["exaggeration"]["description"].as_str().unwrap();
        assert!(
            exaggeration.contains("base, flash, multilingual only"),
            "{exaggeration}"
        );
    }
}
