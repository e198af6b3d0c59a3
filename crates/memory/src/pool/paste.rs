//! Allocator options as pasted by people: lines of shells, batch files, YAML, `.env` files and
//! programs, with quotes; and corrections of options that PyTorch rejects.

use super::PoolConfiguration;
use super::configuration::VARIABLES;
use super::explain::{OPTIONS, similar_option};
use super::parse::split;

/// PyTorch's variable for AMD devices, which also occurs in pastes.
const HIP_VARIABLE: &str = "PYTORCH_HIP_ALLOC_CONF";

/// The options in a pasted line: the value of a variable in it, or the text without quotes around
/// it.
pub fn options_of_line(line: &str) -> String {
    let line = line.trim_start_matches('\u{feff}').trim();
    let variables = VARIABLES.into_iter().chain([HIP_VARIABLE]);
    // The longest first: one name is a suffix of another.
    let mut found: Vec<(usize, usize)> = variables
        .filter_map(|name| line.find(name).map(|place| (place, name.len())))
        .collect();
    found.sort_by_key(|&(place, length)| (place, std::cmp::Reverse(length)));
    let Some(&(place, length)) = found.first() else {
        return unquoted(line).trim().to_owned();
    };
    // In `set "NAME=VALUE"`, the quotes enclose both.
    let quote = line[..place].trim_end().chars().next_back();
    let quote = quote.filter(|character| matches!(character, '"' | '\''));
    let mut value = &line[place + length..];
    let named = quote.is_some_and(|quote| value.starts_with(quote));
    if named {
        // `os.environ["NAME"]`, `"NAME": "VALUE"`
        value = &value[1..];
    }
    let value = value.trim_start_matches(['"', '\'', ']', ')']).trim_start();
    let value = value.trim_start_matches(['=', ':', ',']).trim();
    let value = match quote.filter(|_| !named) {
        Some(quote) => value.split(quote).next().unwrap_or_default(),
        None => value,
    };
    unquoted_value(value).trim().to_owned()
}

/// A value up to its closing quote, or to the next word on the line.
fn unquoted_value(value: &str) -> &str {
    if let Some(quote @ ('"' | '\'')) = value.chars().next() {
        return value[1..].split(quote).next().unwrap_or_default();
    }
    let ends = [" #", "\t#", "&&", "\n"].into_iter();
    let end = ends.filter_map(|mark| value.find(mark)).min();
    let value =
        value[..end.unwrap_or(value.len())].trim_end_matches([';', ' ', '\r', '\t', '}', ')']);
    // In `NAME=VALUE program arguments`, a word without a continuation begins something else.
    let mut end = 0;
    let mut open = true;
    for word in value.split_inclusive(' ') {
        let goes_on = word.trim_start().starts_with([':', ',']) || word.contains(':');
        if !open && !goes_on {
            break;
        }
        if !word.trim().is_empty() {
            open = word.trim_end().ends_with([':', ',']);
        }
        end += word.len();
    }
    &value[..end]
}

fn unquoted(text: &str) -> &str {
    let is_quote = |character| matches!(character, '"' | '\'' | '`' | '“' | '”' | '‘' | '’');
    text.trim_matches(|character: char| {
        is_quote(character) || character.is_whitespace() || character == ';'
    })
}

/// A correction of one rejected option, or of several with other separators: text that PyTorch
/// accepts.
pub(super) fn corrected(text: &str) -> Option<String> {
    let commas = text.replace([';', '\n', '|'], ",");
    let parts: Option<Vec<String>> = split(&commas)
        .into_iter()
        .map(|(part, _)| mended_option(part))
        .collect();
    let mended = parts?.join(",");
    (!mended.is_empty() && PoolConfiguration::parse(&mended).is_ok()).then_some(mended)
}

fn mended_option(text: &str) -> Option<String> {
    let kept = |character: &char| {
        !character.is_whitespace() && !matches!(character, '"' | '\'' | '`' | '“' | '”' | '‘' | '’')
    };
    let text: String = text.chars().filter(kept).collect();
    if PoolConfiguration::parse(&text).is_ok() {
        return Some(text);
    }
    let (name, value) = text.split_once([':', '='])?;
    let (name, scale) = match name.to_ascii_lowercase().strip_suffix("_gb") {
        Some(stem) => (format!("{stem}_mb"), 1024.0),
        None => (name.to_owned(), 1.0),
    };
    let name = OPTIONS
        .iter()
        .map(|option| option.name)
        .find(|option| *option == name)
        .or_else(|| similar_option(&name))?;
    let value = value.trim_start_matches([':', '=']);
    corrected_value(name, value, scale)
        .into_iter()
        .map(|value| format!("{name}:{value}"))
        .find(|setting| PoolConfiguration::parse(setting).is_ok())
}

/// Candidate values, most likely first.
fn corrected_value(name: &str, value: &str, scale: f64) -> Vec<String> {
    let lower = value.to_ascii_lowercase();
    let mut values = Vec::new();
    if scale == 1.0 {
        values.push(value.to_owned());
    }
    match lower.as_str() {
        "true" | "1" | "yes" | "on" | "enable" | "enabled" => values.push("True".to_owned()),
        "false" | "0" | "no" | "off" | "disable" | "disabled" => values.push("False".to_owned()),
        "cudamallocasync" | "async" => values.push("cudaMallocAsync".to_owned()),
        "native" => values.push(lower.clone()),
        _ => {}
    }
    let digits = lower.find(|character: char| !(character.is_ascii_digit() || character == '.'));
    let (number, unit) = lower.split_at(digits.unwrap_or(lower.len()));
    let Ok(number) = number.parse::<f64>() else {
        return values;
    };
    if name.ends_with("_mb") {
        let factor = match unit {
            "g" | "gb" | "gib" => 1024.0,
            "k" | "kb" | "kib" => 1.0 / 1024.0,
            "b" => 1.0 / 1_048_576.0,
            _ => scale,
        };
        values.push(format!("{:.0}", number * factor));
        // The smallest accepted value.
        values.push("21".to_owned());
    } else if name == "garbage_collection_threshold" || name == "per_process_memory_fraction" {
        let share = if unit == "%" || number > 1.0 {
            number / 100.0
        } else {
            number
        };
        values.push(format!("{share}"));
        values.push(if share >= 1.0 { "0.99" } else { "0.01" }.to_owned());
    } else if number.is_finite() {
        // Divisions and threads are powers of two.
        let whole = number.clamp(1.0, 128.0) as u64;
        values.push(whole.next_power_of_two().to_string());
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_in_whole_lines() {
        for line in [
            "expandable_segments:True,max_split_size_mb:128",
            "\"expandable_segments:True,max_split_size_mb:128\"\r\n",
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True,max_split_size_mb:128",
            "export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True,max_split_size_mb:128",
            "export PYTORCH_ALLOC_CONF='expandable_segments:True,max_split_size_mb:128'; python train.py",
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True,max_split_size_mb:128 python train.py --x",
            "set PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True,max_split_size_mb:128\r",
            "set \"PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True,max_split_size_mb:128\"",
            "setx PYTORCH_CUDA_ALLOC_CONF \"expandable_segments:True,max_split_size_mb:128\"",
            "$env:PYTORCH_CUDA_ALLOC_CONF = \"expandable_segments:True,max_split_size_mb:128\"",
            "- PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True,max_split_size_mb:128",
            "  PYTORCH_CUDA_ALLOC_CONF: \"expandable_segments:True,max_split_size_mb:128\"  # as they say",
            "  PYTORCH_CUDA_ALLOC_CONF: expandable_segments:True,max_split_size_mb:128 # as they say",
            "ENV PYTORCH_CUDA_ALLOC_CONF expandable_segments:True,max_split_size_mb:128",
            "os.environ[\"PYTORCH_CUDA_ALLOC_CONF\"] = \"expandable_segments:True,max_split_size_mb:128\"",
            "os.environ['PYTORCH_HIP_ALLOC_CONF']='expandable_segments:True,max_split_size_mb:128'",
            "{\"PYTORCH_CUDA_ALLOC_CONF\": \"expandable_segments:True,max_split_size_mb:128\"}",
        ] {
            let options = options_of_line(line);
            assert_eq!(
                options, "expandable_segments:True,max_split_size_mb:128",
                "{line}"
            );
        }
        let spaced =
            options_of_line("PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb : 128 , backend : native");
        assert!(PoolConfiguration::parse(&spaced).is_ok(), "{spaced}");
        assert_eq!(options_of_line("PYTORCH_CUDA_ALLOC_CONF="), "");
    }

    #[test]
    fn a_correction_keeps_the_value() {
        for (text, meant) in [
            ("expandable_segments=true", "expandable_segments:True"),
            ("max_split_size_mb=\"128\"", "max_split_size_mb:128"),
            ("max_split_size_gb:1", "max_split_size_mb:1024"),
            ("max_split_size_mb:512MB", "max_split_size_mb:512MB"),
            ("max_split_size_mb:2GB", "max_split_size_mb:2048"),
            (
                "garbage_collection_threshold:80%",
                "garbage_collection_threshold:0.8",
            ),
            (
                "garbage_collection_threshold:1",
                "garbage_collection_threshold:0.99",
            ),
            ("roundup_power2_divisions:3", "roundup_power2_divisions:4"),
            ("backend:cudamallocasync", "backend:cudaMallocAsync"),
            (
                "expandable_segments:True;max_split_size_mb:128",
                "expandable_segments:True,max_split_size_mb:128",
            ),
        ] {
            assert_eq!(corrected(text).as_deref(), Some(meant), "{text}");
        }
        assert_eq!(corrected("frobnicate:1"), None);
    }
}
