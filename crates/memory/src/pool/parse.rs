//! Parser of PyTorch's configuration language: comma-separated `option:value` pairs, where spaces
//! are ignored and the last of a repeated option wins.
//!
//! Numbers are parsed as C's `strtol` and `strtod` parse them, prefixes and signs included, because
//! PyTorch does.

use super::configuration::{Backend, PoolConfiguration, ROUNDUP_INTERVALS};

const MIB: u64 = 1 << 20;
/// Minimum (exclusive) of `max_split_size_mb` and `max_non_split_rounding_mb`: the large segment.
const SIZE_MIN_MB: u64 = 20;
/// Minimum (exclusive) of `large_segment_size_mb`: a request with a segment of its own.
const LARGE_SEGMENT_MIN_MB: u64 = 10;
/// Larger than any device; sizes rounded up from it do not overflow 64 bits.
const LARGE_SEGMENT_MAX_MB: u64 = 1 << 32;
const REGISTER_THREADS_MAX: u64 = 128;

/// One option as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The option's name.
    pub name: String,
    /// Its value, without spaces.
    pub value: String,
    /// Byte offset of the name.
    pub offset: usize,
}

/// A configuration that PyTorch rejects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.explanation())]
pub struct ConfigurationError {
    /// The wording of PyTorch's error.
    pub text: String,
    /// The option that was being parsed, if any.
    pub option: Option<String>,
    /// Byte offset of the error.
    pub offset: usize,
    /// The offending token; empty at the end of the text.
    pub token: String,
}

impl ConfigurationError {
    /// PyTorch's wording, completed by the value that is not a number.
    fn explanation(&self) -> String {
        match (self.text.as_str(), &self.option) {
            ("stoi" | "stoul" | "stod", Some(option)) => {
                format!(
                    "{}: `{}` is not a valid number for {option}",
                    self.text, self.token
                )
            }
            _ => self.text.trim_end().to_owned(),
        }
    }

    /// Whether the option is unknown, so that a similar name may be meant.
    pub fn is_unknown_option(&self) -> bool {
        self.text.starts_with("Unrecognized")
    }
}

/// The non-empty parts between commas outside brackets, with their offsets.
pub(super) fn split(text: &str) -> Vec<(&str, usize)> {
    let mut parts = Vec::new();
    let (mut start, mut in_list) = (0, false);
    for (offset, character) in text.char_indices().chain([(text.len(), ',')]) {
        match character {
            '[' => in_list = true,
            ']' => in_list = false,
            ',' if !in_list || offset == text.len() => {
                let part = &text[start..offset];
                if !part.trim().is_empty() {
                    parts.push((part, start + part.len() - part.trim_start().len()));
                }
                start = offset + 1;
            }
            _ => {}
        }
    }
    parts
}

/// Tokens with their offsets.
struct Tokens<'a> {
    text: &'a str,
    tokens: Vec<(String, usize)>,
    next: usize,
    option: Option<String>,
}

/// Parses a configuration: the options, and each setting as written.
pub fn parse(text: &str) -> Result<(PoolConfiguration, Vec<Setting>), ConfigurationError> {
    let mut tokens = Tokens::new(text);
    let mut configuration = PoolConfiguration::default();
    let mut settings = Vec::new();
    while let Some((name, offset)) = tokens.take() {
        tokens.option = Some(name.clone());
        let value_from = tokens.next;
        read_option(&name, offset, &mut tokens, &mut configuration)?;
        let value = tokens.tokens[(value_from + 1).min(tokens.next)..tokens.next]
            .iter()
            .map(|(token, _)| token.as_str())
            .collect();
        settings.push(Setting {
            name,
            value,
            offset,
        });
        tokens.option = None;
        if tokens.next < tokens.tokens.len() {
            tokens.expect(',')?;
        }
    }
    Ok((configuration, settings))
}

fn read_option(
    name: &str,
    offset: usize,
    tokens: &mut Tokens<'_>,
    configuration: &mut PoolConfiguration,
) -> Result<(), ConfigurationError> {
    match name {
        "max_split_size_mb" => configuration.max_split_size = tokens.size_in_mib(name)?,
        "large_segment_size_mb" => {
            let size = tokens.integer("Error, expecting large_segment_size_mb value")?;
            if size <= LARGE_SEGMENT_MIN_MB {
                return Err(tokens.error_before(format!(
                    "CachingAllocator option large_segment_size_mb must be > {LARGE_SEGMENT_MIN_MB} MB"
                )));
            }
            configuration.large_segment_size = size.min(LARGE_SEGMENT_MAX_MB) * MIB;
        }
        "max_non_split_rounding_mb" => {
            configuration.max_non_split_rounding_size = tokens.size_in_mib(name)?
        }
        "garbage_collection_threshold" => {
            let threshold = tokens.float("Error, expecting garbage_collection_threshold value")?;
            if threshold.is_nan() || threshold <= 0.0 {
                return Err(
                    tokens.error_before("garbage_collect_threshold too small, set it 0.0~1.0")
                );
            }
            if threshold >= 1.0 {
                return Err(
                    tokens.error_before("garbage_collect_threshold too big, set it 0.0~1.0")
                );
            }
            configuration.garbage_collection_threshold = threshold;
        }
        "roundup_power2_divisions" => {
            configuration.roundup_power2_divisions = tokens.divisions()?
        }
        "expandable_segments" => {
            let text = "Expected a single True/False argument for expandable_segments";
            configuration.expandable_segments = tokens.boolean(text, text)?;
        }
        "backend" => configuration.backend = tokens.backend()?,
        "per_process_memory_fraction" => {
            let fraction = tokens.float("Error, expecting per_process_memory_fraction value")?;
            if !(0.0..=1.0).contains(&fraction) {
                return Err(tokens
                    .error_before("per_process_memory_fraction is invalid, set it in [0.0, 1.0]"));
            }
            configuration.per_process_memory_fraction = Some(fraction);
        }
        "release_lock_on_cudamalloc" | "release_lock_on_hipmalloc" => {
            let text = "Expected a single True/False argument for release_lock_on_cudamalloc";
            tokens.boolean(text, text)?;
        }
        "pinned_use_cuda_host_register" | "pinned_use_hip_host_register" => {
            tokens.named_boolean("pinned_use_cuda_host_register")?;
        }
        "pinned_use_background_threads"
        | "graph_capture_record_stream_reuse"
        | "throw_on_cudamalloc_oom" => {
            tokens.named_boolean(name)?;
        }
        "pinned_num_register_threads" => {
            let threads = tokens.integer("Error, expecting pinned_num_register_threads value")?;
            if !threads.is_power_of_two() {
                return Err(tokens.error_before("Number of register threads has to be power of 2 "));
            }
            if threads > REGISTER_THREADS_MAX {
                return Err(tokens.error_before(
                    "Number of register threads should be less than or equal to 128",
                ));
            }
        }
        "pinned_reserve_segment_size_mb" => {
            let size = tokens.integer("Error, expecting pinned_reserve_segment_size_mb value")?;
            if size == 0 {
                return Err(
                    tokens.error_before("Pinned reserve segment size has to be greater than 0 ")
                );
            }
        }
        _ => {
            return Err(ConfigurationError {
                text: format!("Unrecognized CachingAllocator option: {name}"),
                option: Some(name.to_owned()),
                offset,
                token: name.to_owned(),
            });
        }
    }
    Ok(())
}

impl<'a> Tokens<'a> {
    fn new(text: &'a str) -> Tokens<'a> {
        let mut tokens: Vec<(String, usize)> = Vec::new();
        let mut word: Option<(String, usize)> = None;
        for (offset, character) in text.char_indices() {
            match character {
                ',' | ':' | '[' | ']' => {
                    tokens.extend(word.take());
                    tokens.push((character.to_string(), offset));
                }
                ' ' => {}
                _ => word
                    .get_or_insert_with(|| (String::new(), offset))
                    .0
                    .push(character),
            }
        }
        tokens.extend(word);
        Tokens {
            text,
            tokens,
            next: 0,
            option: None,
        }
    }

    fn take(&mut self) -> Option<(String, usize)> {
        let token = self.tokens.get(self.next).cloned();
        self.next += usize::from(token.is_some());
        token
    }

    fn peek_is(&self, wanted: &str) -> bool {
        self.tokens
            .get(self.next)
            .is_some_and(|(token, _)| token == wanted)
    }

    /// An error at the next token.
    fn error(&self, text: impl Into<String>) -> ConfigurationError {
        self.error_at(self.next, text)
    }

    /// An error at the previous token.
    fn error_before(&self, text: impl Into<String>) -> ConfigurationError {
        self.error_at(self.next.saturating_sub(1), text)
    }

    fn error_at(&self, place: usize, text: impl Into<String>) -> ConfigurationError {
        let (token, offset) = self
            .tokens
            .get(place)
            .cloned()
            .unwrap_or((String::new(), self.text.len()));
        ConfigurationError {
            text: text.into(),
            option: self.option.clone(),
            offset,
            token,
        }
    }

    fn expect(&mut self, wanted: char) -> Result<(), ConfigurationError> {
        if self.peek_is(wanted.encode_utf8(&mut [0; 4])) {
            self.next += 1;
            Ok(())
        } else {
            Err(self.error(format!(
                "Error parsing CachingAllocator settings, expected {wanted}"
            )))
        }
    }

    /// A colon and the value after it; `missing` is PyTorch's error if the text ends here.
    fn value(&mut self, missing: &str) -> Result<String, ConfigurationError> {
        self.expect(':')?;
        self.take()
            .map(|(token, _)| token)
            .ok_or_else(|| self.error(missing))
    }

    fn integer(&mut self, missing: &str) -> Result<u64, ConfigurationError> {
        let token = self.value(missing)?;
        integer(&token).ok_or_else(|| self.error_before("stoi"))
    }

    fn float(&mut self, missing: &str) -> Result<f64, ConfigurationError> {
        let token = self.value(missing)?;
        float(&token).ok_or_else(|| self.error_before("stod"))
    }

    /// A size in MiB; very large sizes, which negative numbers parse to, mean no limit.
    fn size_in_mib(&mut self, name: &str) -> Result<u64, ConfigurationError> {
        let size = self.integer(&format!("Error, expecting {name} value"))?;
        if size <= SIZE_MIN_MB {
            return Err(self.error_before(format!(
                "CachingAllocator option {name} too small, must be > {SIZE_MIN_MB}"
            )));
        }
        Ok(size.min(u64::MAX / MIB) * MIB)
    }

    fn boolean(&mut self, missing: &str, wrong: &str) -> Result<bool, ConfigurationError> {
        match self.value(missing)?.as_str() {
            "True" => Ok(true),
            "False" => Ok(false),
            _ => Err(self.error_before(wrong)),
        }
    }

    fn named_boolean(&mut self, name: &str) -> Result<bool, ConfigurationError> {
        let missing = format!("Error, expecting {name} value");
        self.boolean(
            &missing,
            &format!("Expected a single True/False argument for {name}"),
        )
    }

    fn backend(&mut self) -> Result<Backend, ConfigurationError> {
        match self.value("Error parsing backend value")?.as_str() {
            "native" => Ok(Backend::Native),
            "cudaMallocAsync" => Ok(Backend::CudaMallocAsync),
            _ => Err(self
                .error_before("Unknown allocator backend, options are native and cudaMallocAsync")),
        }
    }

    /// One number for all sizes, or a list with one for each interval.
    fn divisions(&mut self) -> Result<[u64; ROUNDUP_INTERVALS], ConfigurationError> {
        let token = self.value("Error, expecting roundup_power2_divisions value")?;
        if token != "[" {
            let divisions = integer(&token).ok_or_else(|| self.error_before("stoi"))?;
            if !divisions.is_power_of_two() {
                return Err(self.error_before("For roundups, the divisons has to be power of 2 "));
            }
            return Ok([divisions; ROUNDUP_INTERVALS]);
        }
        let mut all = [0; ROUNDUP_INTERVALS];
        let (mut first, mut last_interval) = (true, 0);
        while let Some((key, _)) = self.take().filter(|(key, _)| key != "]") {
            let key_place = self.next - 1;
            let token = self.value("Error parsing roundup_power2_divisions value")?;
            let divisions = integer(&token).ok_or_else(|| self.error_before("stoi"))?;
            if divisions != 0 && !divisions.is_power_of_two() {
                return Err(self.error_before(
                    "For roundups, the divisons has to be power of 2 or 0 to disable roundup ",
                ));
            }
            if key == ">" {
                // As in PyTorch 2.6, the last named interval is overwritten too.
                all[last_interval..].fill(divisions);
            } else {
                let key = unsigned(&key).ok_or_else(|| self.error_at(key_place, "stoul"))?;
                if !key.is_power_of_two() {
                    return Err(self.error_at(
                        key_place,
                        "For roundups, the intervals have to be power of 2 ",
                    ));
                }
                let interval = (key.ilog2() as usize).min(ROUNDUP_INTERVALS - 1);
                if std::mem::take(&mut first) {
                    all[..interval].fill(divisions);
                }
                all[interval] = divisions;
                last_interval = interval;
            }
            if !self.peek_is("]") {
                self.expect(',')?;
            }
        }
        Ok(all)
    }
}

/// The result of C's `stoi`, widened as C widens it.
pub(super) fn integer(token: &str) -> Option<u64> {
    let (negative, digits) = sign_and_digits(token);
    let value: i64 = digits.parse().ok()?;
    let value = if negative { -value } else { value };
    i32::try_from(value)
        .ok()
        .map(|value| i64::from(value) as u64)
}

/// The result of C's `stoul`.
fn unsigned(token: &str) -> Option<u64> {
    let (negative, digits) = sign_and_digits(token);
    let value: u64 = digits.parse().ok()?;
    Some(if negative {
        value.wrapping_neg()
    } else {
        value
    })
}

fn sign_and_digits(token: &str) -> (bool, &str) {
    let unsigned = token.strip_prefix(['+', '-']).unwrap_or(token);
    let end = unsigned
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(unsigned.len());
    (token.starts_with('-'), &unsigned[..end])
}

/// The result of C's `stod`: the longest prefix that is a number.
fn float(token: &str) -> Option<f64> {
    let unsigned = token.strip_prefix(['+', '-']).unwrap_or(token);
    let sign = if token.starts_with('-') { -1.0 } else { 1.0 };
    let lower = unsigned.to_ascii_lowercase();
    if lower.starts_with("inf") {
        return Some(sign * f64::INFINITY);
    }
    if lower.starts_with("nan") {
        return Some(f64::NAN);
    }
    if let Some(value) = lower.strip_prefix("0x").and_then(hexadecimal) {
        return Some(sign * value);
    }
    // The longest prefix that parses as a number; tokens are short.
    let prefix = (1..=lower.len())
        .rev()
        .filter(|&end| lower.is_char_boundary(end))
        .find_map(|end| lower[..end].parse::<f64>().ok())?;
    prefix.is_finite().then_some(sign * prefix)
}

/// A hexadecimal float after its `0x`.
fn hexadecimal(text: &str) -> Option<f64> {
    let (digits, exponent) = text.split_once('p').unwrap_or((text, ""));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut value = 0.0;
    let mut scale = 1.0;
    let mut seen = false;
    for (part, is_fraction) in [(whole, false), (fraction, true)] {
        for digit in part.chars().map_while(|character| character.to_digit(16)) {
            seen = true;
            value = value * 16.0 + f64::from(digit);
            if is_fraction {
                scale /= 16.0;
            }
        }
    }
    let exponent = sign_and_digits(exponent);
    let power: i32 = exponent.1.parse().unwrap_or(0);
    seen.then(|| value * scale * 2_f64.powi(if exponent.0 { -power } else { power }))
}
