//! Allocator options as pasted by people: lines of shells, batch files, YAML, `.env` files and
//! programs, with quotes; and corrections of options that PyTorch rejects.

use super::PoolConfiguration;
use super::configuration::VARIABLES;
use super::explain::{KnownOption, OPTIONS, similar_option};
use super::parse::{integer, split};
use super::written_number::{WrittenNumber, is_percent, is_rest_of_number, is_unit, mebibytes};

/// Variables for other devices, which also occur in pastes.
const OTHER_VARIABLES: [&str; 3] = [
    "PYTORCH_HIP_ALLOC_CONF",
    "PYTORCH_NPU_ALLOC_CONF",
    "PYTORCH_XPU_ALLOC_CONF",
];

/// The options in a pasted line: the value of a variable in it, or the text without quotes around
/// it. A comment sets none.
pub fn options_of_line(line: &str) -> String {
    let lines = line.trim_start_matches('\u{feff}').lines();
    let lines: Vec<&str> = lines.filter(|line| !is_comment(line)).collect();
    // A program within JSON, as a notebook's file has it.
    let unescaped = lines.join("\n").replace("\\\"", "\"");
    let line = unescaped.trim();
    let Some((place, length)) = variable(line) else {
        if let Some(options) = quoted_options(line) {
            return options.trim().to_owned();
        }
        // The second line of a pair in YAML.
        let text = line.strip_prefix("value:").unwrap_or(line);
        let text = other_variable(text).unwrap_or(text);
        return unquoted(text).trim().to_owned();
    };
    let (before, after) = (&line[..place], &line[place + length..]);
    let value = value_after(before, after);
    let is_empty = value.trim_matches(['}', ']', ')', ',', ' ']).is_empty();
    // `{"value": "VALUE", "name": "NAME"}`
    let earlier = is_empty.then(|| value_of_key(before)).flatten();
    unquoted(earlier.unwrap_or(value)).to_owned()
}

/// The assignment in a line that sets a variable of another name, without the shell's command
/// before it and the program after it.
fn other_variable(line: &str) -> Option<&str> {
    const COMMANDS: [&str; 8] = [
        "export",
        "declare -x",
        "typeset -x",
        "env",
        "set",
        "setx",
        "ENV",
        "$env:",
    ];
    let begins = |command: &&str| line.starts_with(command);
    let command = COMMANDS.into_iter().filter(begins).map(str::len).max();
    let text = line[command.unwrap_or(0)..].trim_start();
    let (name, value) = text.split_once('=')?;
    let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if name.trim_end().is_empty() || !name.trim_end().bytes().all(is_name) {
        return None;
    }
    let value = value.trim_start();
    let end = value.find(char::is_whitespace).unwrap_or(value.len());
    Some(&text[..text.len() - (value.len() - end)])
}

/// Comments of a job's script that a scheduler reads.
const DIRECTIVES: [&str; 6] = ["#SBATCH", "#PBS", "#BSUB", "#COBALT", "#PJM", "#$"];

/// Whether a line of a batch file, a shell, YAML or an `.env` file is a comment.
fn is_comment(line: &str) -> bool {
    let line = line.trim_start().trim_start_matches('@').trim_start();
    let word = line.split_whitespace().next().unwrap_or_default();
    word.eq_ignore_ascii_case("rem")
        || line.starts_with("::")
        || line.starts_with('#') && !DIRECTIVES.iter().any(|mark| line.starts_with(mark))
}

/// Place and length of the first variable whose name is in a line.
fn variable(line: &str) -> Option<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = (VARIABLES.into_iter().chain(OTHER_VARIABLES))
        .flat_map(|name| {
            let is_whole = move |place: &usize| {
                let next = line[place + name.len()..].chars().next();
                !next.is_some_and(|next| next.is_ascii_alphanumeric() || next == '_')
            };
            let places = line.match_indices(name).map(|(place, _)| place);
            places.filter(is_whole).map(|place| (place, name.len()))
        })
        .collect();
    // The longest first: one name is a suffix of another.
    found.sort_by_key(|&(place, length)| (place, std::cmp::Reverse(length)));
    found.first().copied()
}

/// The value behind a variable's name, which stands between `before` and `after`.
fn value_after<'l>(before: &str, after: &'l str) -> &'l str {
    // In `set "NAME=VALUE"`, the quotes enclose both.
    let quote = before.trim_end().chars().next_back();
    let quote = quote.filter(|character| matches!(character, '"' | '\''));
    let mut value = after;
    let named = quote.is_some_and(|quote| value.starts_with(quote));
    if named {
        // `os.environ["NAME"]`, `"NAME": "VALUE"`
        value = &value[1..];
    }
    let value = value.trim_start_matches(['"', '\'', ']', ')']).trim_start();
    let value = if before.ends_with("${") {
        // `${NAME:-VALUE}`
        let value = value.split('}').next().unwrap_or_default();
        value.strip_prefix(":-").unwrap_or(value)
    } else {
        value
    };
    let value = value
        .trim_start_matches(['=', ':', ',', '>', '?', '+'])
        .trim();
    // `Set-Item Env:NAME -Value VALUE`
    let value = value.strip_prefix("-Value").unwrap_or(value).trim_start();
    // `<env name="NAME" value="VALUE"/>`, `- name: NAME` with `value: VALUE` under it.
    let value = match value_of_key(value).filter(|_| is_key(value)) {
        Some(value) => value,
        None => value,
    };
    let value = match quote.filter(|_| !named) {
        Some(quote) => value.split(quote).next().unwrap_or_default(),
        None => value,
    };
    unquoted_value(without_expansion(value))
}

fn is_key(text: &str) -> bool {
    let quotes = |character| matches!(character, '"' | '\'');
    text.trim_start_matches(quotes).starts_with("value")
}

/// What stands behind the key `value` and its colon or sign of equality.
fn value_of_key(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("value")?;
    let rest = rest.trim_start_matches(['"', '\'']).trim_start();
    let rest = rest.strip_prefix([':', '='])?.trim_start();
    Some(unquoted_value(rest)).filter(|value| !value.is_empty())
}

/// A value without the variable's own old value in front of it: `$NAME,VALUE`.
fn without_expansion(value: &str) -> &str {
    let quote = value.len() - value.trim_start_matches(['"', '\'']).len();
    let inner = &value[quote..];
    match inner.split_once(',') {
        Some((first, rest)) if first.starts_with(['$', '%']) && first.contains("ALLOC_CONF") => {
            rest.trim_end_matches(['"', '\''])
        }
        _ => value,
    }
}

/// A value up to its closing quote, or to the next word on the line.
fn unquoted_value(value: &str) -> &str {
    // `f"VALUE"` of Python.
    let value = match value.as_bytes() {
        [b'f' | b'r' | b'b' | b'u', b'"' | b'\'', ..] => &value[1..],
        _ => value,
    };
    if let Some(quote @ ('"' | '\'')) = value.chars().next() {
        return value[1..].split(quote).next().unwrap_or_default();
    }
    let ends = [" #", "\t#", "&&", "\n", "\\", "|", "`", "**", "<", "”"].into_iter();
    let ends = ends.filter_map(|mark| value.find(mark));
    let end = ends
        .chain(end_of_command(value))
        .chain(next_variable(value))
        .min();
    let value =
        value[..end.unwrap_or(value.len())].trim_end_matches([';', ' ', '\r', '\t', '}', ')']);
    // In `NAME=VALUE program arguments`, a word without a continuation begins something else.
    let mut end = 0;
    let mut open = true;
    for word in value.split_inclusive(' ') {
        let goes_on =
            word.trim_start().starts_with([':', ',']) || word.contains(':') || is_unit(word.trim());
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

/// Place of a semicolon behind which no option follows.
fn end_of_command(value: &str) -> Option<usize> {
    let mut places = value.match_indices(';').map(|(place, _)| place);
    places.find(|place| {
        let next = value[place + 1..].trim_start();
        let end = next.find([':', '=', ' ']).unwrap_or(next.len());
        similar_option(&next[..end]).is_none()
    })
}

/// Place of a comma behind which another variable is set: `--export=NAME=VALUE,OTHER=1`.
fn next_variable(value: &str) -> Option<usize> {
    let mut places = value.match_indices(',').map(|(place, _)| place);
    places.find(|place| {
        let next = &value[place + 1..];
        let name = next.split('=').next().unwrap_or_default();
        let capital = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        next.len() > name.len() && !name.is_empty() && name.bytes().all(capital)
    })
}

/// Options in quotes within a line of a program: `settings = "expandable_segments:True"  # why`.
fn quoted_options(line: &str) -> Option<&str> {
    let open = line.find(['"', '\''])?;
    let quote = line[open..].chars().next()?;
    let before = line[..open].trim_end();
    let value = line[open + 1..].split(quote).next()?;
    let names = |option: &KnownOption| value.contains(option.name);
    // In `max_split_size_mb="128"` the name is before the quotes.
    (before.ends_with(['=', '(', ':', ',']) && OPTIONS.iter().any(names)).then_some(value)
}

fn unquoted(text: &str) -> &str {
    let is_quote = |character| matches!(character, '"' | '\'' | '`' | '“' | '”' | '‘' | '’');
    text.trim_matches(|character: char| {
        is_quote(character) || character.is_whitespace() || character == ';'
    })
}

/// The options of a text, between its commas, with their offsets. A comma within a number, as in
/// `garbage_collection_threshold:0,8`, separates nothing; PyTorch does split there, and fails.
pub(super) fn options(text: &str) -> Vec<(&str, usize)> {
    let mut options: Vec<(&str, usize)> = Vec::new();
    for (part, offset) in split(text) {
        let goes_on = options.last().filter(|(before, start)| {
            let digits = (before.split_once([':', '=']))
                .map(|(_, value)| value.trim_start_matches([' ', '"', '\'', '+', '-']));
            // Nothing but the comma lies between the two.
            let adjacent = text[start + before.trim_start().len()..offset].trim() == ",";
            adjacent
                && is_rest_of_number(part)
                && digits.is_some_and(|digits| {
                    let digits = digits.trim_end();
                    digits.chars().all(|digit| matches!(digit, '0'..='9' | ','))
                })
        });
        match goes_on {
            Some(&(_, start)) => {
                let end = offset + part.trim_start().len();
                let last = options.len() - 1;
                options[last] = (&text[start..end], start);
            }
            None => options.push((part, offset)),
        }
    }
    options
}

/// A correction of one option that PyTorch rejects or reads as another value, or of several with
/// other separators: text that PyTorch accepts, with the value that was meant.
pub(super) fn corrected(text: &str) -> Option<String> {
    let plain: String = text.chars().map(plain).collect();
    let parts: Option<Vec<String>> = options(&plain)
        .into_iter()
        .map(|(part, _)| mended_option(part))
        .collect();
    let mended = parts?.join(",");
    (!mended.is_empty() && PoolConfiguration::parse(&mended).is_ok()).then_some(mended)
}

/// A character of other keyboards and separators as PyTorch writes it.
fn plain(character: char) -> char {
    match character {
        ';' | '\n' | '|' | '，' | '、' | '；' => ',',
        '：' => ':',
        '＝' => '=',
        '％' => '%',
        '．' => '.',
        '＿' => '_',
        '−' | '–' => '-',
        '０'..='９' => char::from(b'0' + (character as u32 - '０' as u32) as u8),
        other => other,
    }
}

/// Suffixes of names that name a unit, each with the suffix that PyTorch has.
const NAMED_UNITS: [&str; 8] = ["gb", "gib", "mib", "kb", "kib", "bytes", "byte", "b"];

fn mended_option(text: &str) -> Option<String> {
    let kept = |character: &char| {
        !character.is_whitespace() && !matches!(character, '"' | '\'' | '`' | '“' | '”' | '‘' | '’')
    };
    let text: String = text.chars().filter(kept).collect();
    let accepted = PoolConfiguration::parse(&text).is_ok();
    if accepted && misread(&text).is_none() {
        return Some(text);
    }
    let (name, value) = text.split_once([':', '='])?;
    let lower = name.to_ascii_lowercase().replace('-', "_");
    let unit_of_name = (lower.rsplit_once('_')).filter(|(_, unit)| NAMED_UNITS.contains(unit));
    let (lower, unit) = match unit_of_name {
        Some((stem, unit)) => (format!("{stem}_mb"), unit),
        None => (lower, ""),
    };
    let known = |option: &&KnownOption| option.name == name || option.name == lower;
    let name = match OPTIONS.iter().find(known) {
        Some(option) => option.name,
        None => similar_option(&lower)?,
    };
    let value = value.trim_start_matches([':', '=']);
    corrected_value(name, value, unit)
        .into_iter()
        .map(|value| format!("{name}:{value}"))
        .find(|setting| PoolConfiguration::parse(setting).is_ok())
}

/// The value that an accepted option is meant to have, if PyTorch, which reads the digits before
/// anything else, reads another one: `max_split_size_mb:64GB` is 64 MiB.
pub(super) fn misread(text: &str) -> Option<String> {
    let (name, value) = text.split_once(':')?;
    let lower: String = value.to_ascii_lowercase().chars().map(plain).collect();
    let meant = meant_value(name, &lower, "")?;
    let setting = format!("{name}:{meant}");
    let read = PoolConfiguration::parse(text).ok()?;
    let right = PoolConfiguration::parse(&setting).ok()?;
    // The configuration does not hold these.
    let of_pinned = name.starts_with("pinned_") && integer(value) != integer(&meant);
    (read != right || of_pinned).then_some(setting)
}

/// Candidate values, most likely first. `unit` is the one that the name has, if any.
fn corrected_value(name: &str, value: &str, unit: &str) -> Vec<String> {
    let lower = value.to_ascii_lowercase();
    if let Some(meant) = meant_value(name, &lower, unit) {
        let limit = limit(name, &lower, unit);
        return [Some(meant), limit].into_iter().flatten().collect();
    }
    let word = match lower.as_str() {
        "true" | "t" | "1" | "yes" | "y" | "on" | "enable" | "enabled" => "True",
        "false" | "f" | "0" | "no" | "n" | "off" | "disable" | "disabled" => "False",
        "cudamallocasync" | "async" => "cudaMallocAsync",
        "native" => "native",
        _ => value,
    };
    vec![word.to_owned()]
}

/// What a number means to an option, as PyTorch writes it: a whole number of MiB, a share, or a
/// power of two. `None` if it is no number, or has a unit that the option has not.
fn meant_value(name: &str, lower: &str, unit: &str) -> Option<String> {
    if name.ends_with("_mb") {
        return Some(format!("{:.0}", size(lower, unit)?.round()));
    }
    if is_share(name) {
        return share(lower).map(|share| format!("{share}"));
    }
    if !matches!(
        name,
        "roundup_power2_divisions" | "pinned_num_register_threads"
    ) {
        return None;
    }
    // Divisions and threads are powers of two.
    let number = WrittenNumber::read(lower, true)?;
    let whole = number.value.clamp(1.0, 128.0) as u64;
    (number.unit.is_empty() && number.value > 0.0).then(|| whole.next_power_of_two().to_string())
}

fn is_share(name: &str) -> bool {
    name == "garbage_collection_threshold" || name == "per_process_memory_fraction"
}

/// A size in MiB.
fn size(lower: &str, unit: &str) -> Option<f64> {
    let number = WrittenNumber::read(lower, true)?;
    let unit = if number.unit.is_empty() {
        unit
    } else {
        number.unit
    };
    match unit {
        "" => Some(number.value),
        unit => Some(number.value * mebibytes(unit)?),
    }
}

/// Numbers from which on a share is a percentage: one slightly above one is a mistake.
const PERCENT_MIN: f64 = 5.0;

/// A share of one; a number far above one is a percentage.
fn share(lower: &str) -> Option<f64> {
    let number = WrittenNumber::read(lower, false)?;
    let is_hundredths =
        is_percent(number.unit) || number.unit.is_empty() && number.value >= PERCENT_MIN;
    match (is_hundredths, number.unit) {
        // Without the rounding errors of a product.
        (true, _) => Some(number.value / 100.0),
        (false, "") => Some(number.value),
        (false, _) => None,
    }
}

/// The accepted value nearest to one that is out of range. Zero and less have none: they are meant
/// to switch the option off.
fn limit(name: &str, lower: &str, unit: &str) -> Option<String> {
    // PyTorch reads sizes with C's `stoi`.
    let is_beyond = |size: f64| size > f64::from(i32::MAX);
    if name.ends_with("_mb") && size(lower, unit).is_some_and(is_beyond) {
        return Some(i32::MAX.to_string());
    }
    let limit = match name {
        "garbage_collection_threshold" if share(lower)? >= 1.0 => "0.99",
        "per_process_memory_fraction" if share(lower)? > 1.0 => "1",
        "large_segment_size_mb" if size(lower, unit)? > 0.0 => "11",
        "pinned_reserve_segment_size_mb" if size(lower, unit)? > 0.0 => "1",
        "max_split_size_mb" | "max_non_split_rounding_mb" if size(lower, unit)? > 0.0 => "21",
        _ => return None,
    };
    Some(limit.to_owned())
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
            "torch.cuda.memory._set_allocator_settings(\"expandable_segments:True,max_split_size_mb:128\")",
            "torch._C._accelerator_setAllocatorSettings('expandable_segments:True,max_split_size_mb:128')",
            "conf = \"expandable_segments:True,max_split_size_mb:128\"  # against fragmentation",
            "  value: \"expandable_segments:True,max_split_size_mb:128\"",
            "  value: expandable_segments:True,max_split_size_mb:128",
            "- name: PYTORCH_CUDA_ALLOC_CONF\n  value: \"expandable_segments:True,max_split_size_mb:128\"",
            "<env name=\"PYTORCH_CUDA_ALLOC_CONF\" value=\"expandable_segments:True,max_split_size_mb:128\"/>",
            "PYTORCH_CUDA_ALLOC_CONF => expandable_segments:True,max_split_size_mb:128",
            "Set-Item -Path Env:PYTORCH_CUDA_ALLOC_CONF -Value \"expandable_segments:True,max_split_size_mb:128\"",
            "- {\"name\": \"PYTORCH_CUDA_ALLOC_CONF\", \"value\": \"expandable_segments:True,max_split_size_mb:128\"}",
            "{\"value\":\"expandable_segments:True,max_split_size_mb:128\",\"name\":\"PYTORCH_CUDA_ALLOC_CONF\"},",
            "#SBATCH --export=PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True,max_split_size_mb:128,OMP_NUM_THREADS=4",
            "PYTORCH_CUDA_ALLOC_CONF ?= expandable_segments:True,max_split_size_mb:128",
            "    \"%env PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True,max_split_size_mb:128\\n\",",
            "  \"os.environ[\\\"PYTORCH_CUDA_ALLOC_CONF\\\"] = \\\"expandable_segments:True,max_split_size_mb:128\\\"\\n\",",
            "os.environ['PYTORCH_CUDA_ALLOC_CONF'] = f'expandable_segments:True,max_split_size_mb:128'",
            "export PYTORCH_CUDA_ALLOC_CONF=$PYTORCH_CUDA_ALLOC_CONF,expandable_segments:True,max_split_size_mb:128",
            "export PYTORCH_CUDA_ALLOC_CONF=\"${PYTORCH_CUDA_ALLOC_CONF},expandable_segments:True,max_split_size_mb:128\"",
            "export X=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True,max_split_size_mb:128}",
            ": \"${PYTORCH_CUDA_ALLOC_CONF:=expandable_segments:True,max_split_size_mb:128}\"",
            "export PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True,max_split_size_mb:128;export X=1",
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True,max_split_size_mb:128 \\",
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True,max_split_size_mb:128|tee x",
            "`PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True,max_split_size_mb:128`",
            "**PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True,max_split_size_mb:128**",
            "“PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True,max_split_size_mb:128”",
            "PYTORCH_CUDA_ALLOC_CONF=\"expandable_segments:True,max_split_size_mb:128'",
            "PYTORCH_NPU_ALLOC_CONF=expandable_segments:True,max_split_size_mb:128",
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
        for comment in ["rem", "@REM", "::", "#", "#export X=1;"] {
            let set = "set PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:128";
            assert_eq!(options_of_line(&format!("{comment} {set}")), "");
            let lines = format!("{comment} {set}\r\n{}\r\n", set.replace("128", "64"));
            assert_eq!(options_of_line(&lines), "max_split_size_mb:64", "{lines}");
        }
        for (line, set) in [
            ("export CUDA_VISIBLE_DEVICES=0", "CUDA_VISIBLE_DEVICES=0"),
            ("set OMP_NUM_THREADS=4\r", "OMP_NUM_THREADS=4"),
            (
                "CUDA_LAUNCH_BLOCKING=1 python train.py --lr=1",
                "CUDA_LAUNCH_BLOCKING=1",
            ),
            (
                "$env:PYTORCH_NO_CUDA_MEMORY_CACHING = 1",
                "PYTORCH_NO_CUDA_MEMORY_CACHING = 1",
            ),
        ] {
            assert_eq!(options_of_line(line), set, "{line}");
        }
        let other = "PYTORCH_CUDA_ALLOC_CONFIG=expandable_segments:True";
        assert_eq!(
            options_of_line(other),
            other,
            "PyTorch has no such variable"
        );
        let separated = "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True; max_split_size_mb:128";
        assert!(options_of_line(separated).contains("max_split_size_mb"));
    }

    #[test]
    fn a_correction_keeps_the_value() {
        for (text, meant) in [
            ("expandable_segments=true", "expandable_segments:True"),
            ("max_split_size_mb=\"128\"", "max_split_size_mb:128"),
            ("max_split_size_gb:1", "max_split_size_mb:1024"),
            ("max_split_size_mb:512MB", "max_split_size_mb:512MB"),
            ("max_split_size_mb:2GB", "max_split_size_mb:2048"),
            ("max_split_size_mb:64GB", "max_split_size_mb:65536"),
            ("max_split_size_mb:0.5GiB", "max_split_size_mb:512"),
            ("max_split_size_mb:0,5 GB", "max_split_size_mb:512"),
            ("max_split_size_mb:1,024", "max_split_size_mb:1024"),
            ("max_split_size:64GB", "max_split_size_mb:65536"),
            ("max_split_size_bytes:134217728", "max_split_size_mb:128"),
            ("max_split_size_mb:128,5", "max_split_size_mb:129"),
            ("max_split_size_mb:1e3", "max_split_size_mb:1000"),
            ("max_split_size_mb:10", "max_split_size_mb:21"),
            (
                "max_split_size_mb:99999999999",
                "max_split_size_mb:2147483647",
            ),
            ("large_segment_size_mb:4", "large_segment_size_mb:11"),
            (
                "pinned_reserve_segment_size_mb:2GB",
                "pinned_reserve_segment_size_mb:2048",
            ),
            (
                "garbage_collection_threshold:0,8",
                "garbage_collection_threshold:0.8",
            ),
            (
                "garbage_collection_threshold=0,8;",
                "garbage_collection_threshold:0.8",
            ),
            (
                "garbage_collection_threshold：0，8",
                "garbage_collection_threshold:0.8",
            ),
            (
                "garbage_collection_threshold:80 %",
                "garbage_collection_threshold:0.8",
            ),
            (
                "per_process_memory_fraction:50%,garbage_collection_threshold:0,75",
                "per_process_memory_fraction:0.5,garbage_collection_threshold:0.75",
            ),
            (
                "garbage_collection_threshold:80%",
                "garbage_collection_threshold:0.8",
            ),
            (
                "garbage_collection_threshold:1",
                "garbage_collection_threshold:0.99",
            ),
            (
                "garbage_collection_threshold:1.2",
                "garbage_collection_threshold:0.99",
            ),
            (
                "per_process_memory_fraction:1.5",
                "per_process_memory_fraction:1",
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
        // Zero switches off what is off by default: there is nothing to set.
        for text in [
            "frobnicate:1",
            "garbage_collection_threshold:0",
            "max_split_size_mb:0",
            "garbage_collection_threshold:80GB",
            "max_split_size_mb:much",
        ] {
            assert_eq!(corrected(text), None, "{text}");
        }
    }
}
