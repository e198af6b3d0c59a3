//! Mail and web addresses, file names, handles.

use super::{Reading, Setting};
use crate::text::normalise::language::Language;
use crate::text::normalise::scan::{Cursor, Scan};

/// Top-level domains that are read as words.
const SPOKEN_ENDS: [&str; 13] = [
    "com", "org", "net", "edu", "gov", "info", "app", "dev", "shop", "blog", "cloud", "online",
    "site",
];
/// Other top-level domains that identify a site without a scheme; read letter by letter.
const SPELT_ENDS: [&str; 41] = [
    "io", "ai", "co", "uk", "us", "de", "fr", "eu", "ca", "au", "jp", "cn", "ru", "ch", "nl", "se",
    "es", "it", "pl", "br", "tv", "sm", "nz", "za", "kr", "mx", "dk", "fi", "at", "be", "ie", "pt",
    "cz", "gg", "xyz", "biz", "mil", "int", "in", "no", "me",
];
/// File name extensions.
const FILE_ENDS: [&str; 74] = [
    "pdf", "txt", "html", "htm", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "csv", "json", "xml",
    "yaml", "yml", "toml", "jpg", "jpeg", "png", "gif", "svg", "mp3", "mp4", "wav", "flac", "zip",
    "gz", "tar", "exe", "dll", "py", "rs", "js", "ts", "css", "cpp", "java", "sh", "md", "log",
    "cfg", "ini", "iso", "bin", "srt", "vtt", "conf", "bak", "tmp", "sql", "rb", "php", "ipynb",
    "webm", "ogg", "opus", "m4a", "mov", "avi", "mkv", "webp", "bmp", "tiff", "heic", "apk", "deb",
    "rpm", "dmg", "tsx", "jsx", "scss", "ttf", "epub", "onnx",
];
/// URL schemes.
const SCHEMES: [&str; 20] = [
    "http",
    "https",
    "ftp",
    "sftp",
    "file",
    "ssh",
    "git",
    "mailto",
    "ws",
    "wss",
    "s3",
    "gs",
    "redis",
    "postgres",
    "postgresql",
    "mysql",
    "mongodb",
    "rtsp",
    "rtmp",
    "smb",
];

/// Whether a character may occur within an address.
fn is_part(character: char) -> bool {
    character.is_alphanumeric()
        || matches!(
            character,
            '.' | '/'
                | '\\'
                | '-'
                | '_'
                | ':'
                | ';'
                | '@'
                | '&'
                | '+'
                | '='
                | '?'
                | '!'
                | '#'
                | '%'
                | '~'
                | '*'
                | ','
                | '$'
                | '\''
        )
}

/// Whether a character ends a sentence rather than an address.
fn is_trailing(character: char) -> bool {
    matches!(
        character,
        '.' | ',' | ':' | ';' | '?' | '!' | '\'' | '*' | '&'
    )
}

pub(super) fn sign_name(language: &Language, sign: char) -> Option<&'static str> {
    let (_, name) = language
        .address_signs
        .iter()
        .find(|(known, _)| *known == sign)?;
    Some(name)
}

/// `a.bc@gmail.com`, `https://example.com/a`, `www.example.com`, `example.org/b`, `report.pdf`,
/// `/usr/bin`.
pub(super) fn address(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    if !cursor.starts_word() {
        return None;
    }
    let mut scan = cursor.scan();
    let text = scan.take_while(is_part).trim_end_matches(is_trailing);
    // `ann@example.com's`
    let text = text.strip_suffix("'s").unwrap_or(text);
    let is_address = has_scheme(text)
        || is_mail(text)
        || is_site(text)
        || is_local_port(text)
        || is_drive(text)
        || is_file(text)
        || is_ending(cursor, text);
    if !is_address {
        return None;
    }
    Reading::new(spell(setting.language, text), text.len())
}

fn has_scheme(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, rest)| {
        SCHEMES.contains(&scheme.to_ascii_lowercase().as_str()) && !rest.is_empty()
    })
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label
            .chars()
            .all(|c| c.is_alphanumeric() || c == '-' || c == '_')
        && !label.starts_with('-')
}

fn is_mail(text: &str) -> bool {
    let Some((name, site)) = text.split_once('@') else {
        return false;
    };
    let host = site.split(['/', '?']).next().unwrap_or("");
    let mut labels = host.split('.');
    name.starts_with(char::is_alphanumeric)
        && !name.contains(['/', ':'])
        && host.contains('.')
        && labels.all(is_label)
        && host
            .rsplit('.')
            .next()
            .is_some_and(|end| end.len() >= 2 && end.chars().all(char::is_alphabetic))
}

/// A name with a known domain, in lower case, so that a full stop without a space after it does not
/// match.
fn is_site(text: &str) -> bool {
    let host = text.split(['/', '?', '#', ':']).next().unwrap_or("");
    let labels: Vec<&str> = host.split('.').collect();
    let Some((end, names)) = labels.split_last() else {
        return false;
    };
    if names.is_empty() || !labels.iter().all(|label| is_label(label)) {
        return false;
    }
    if names[0].eq_ignore_ascii_case("www") && names.len() > 1 {
        return true;
    }
    let has_letters = names
        .iter()
        .any(|name| name.chars().any(char::is_alphabetic));
    // `bit.ly/3abc`: with a path, any country's domain will do.
    let path = text
        .strip_prefix(host)
        .and_then(|rest| rest.strip_prefix('/'));
    let linked = path.is_some_and(|path| path.starts_with(char::is_alphanumeric))
        && end.len() == 2
        && host.bytes().all(|c| c.is_ascii_lowercase() || c == b'.')
        && names.iter().all(|name| name.len() > 1);
    has_letters
        && (linked
            || SPOKEN_ENDS.contains(end)
            || (SPELT_ENDS.contains(end) && !is_word_end(end, text, host)))
}

/// Whether a short domain is also an English word, and only the full stop suggests an address.
fn is_word_end(end: &str, text: &str, host: &str) -> bool {
    matches!(
        end,
        "in" | "no" | "me" | "us" | "it" | "at" | "be" | "so" | "is" | "to"
    ) && text.len() == host.len()
        && host.matches('.').count() < 2
}

/// `a .pdf file`, `the .com bubble`: the end of a name alone.
fn is_ending(cursor: &Cursor<'_>, text: &str) -> bool {
    let apart =
        (cursor.previous()).is_none_or(|c| c.is_whitespace() || matches!(c, '(' | '"' | '`' | '*'));
    let end = text.strip_prefix('.').unwrap_or("");
    let dotted = ["env", "gitignore", "bashrc", "onnx", "safetensors"];
    let site = SPELT_ENDS.contains(&end) && !is_word_end(end, text, text);
    apart
        && (SPOKEN_ENDS.contains(&end) || FILE_ENDS.contains(&end) || dotted.contains(&end) || site)
}

/// `localhost:3000`.
fn is_local_port(text: &str) -> bool {
    text.strip_prefix("localhost:").is_some_and(|port| {
        let digits = port.split('/').next().unwrap_or("");
        !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit())
    })
}

/// `C:\Users`.
fn is_drive(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|c| c.is_ascii_alphabetic())
        && characters.as_str().starts_with(":\\")
}

/// What a path begins with: the root, the home folder, the folder above or a variable, `$HOME/`.
fn is_rooted(text: &str) -> bool {
    let variable = text.strip_prefix('$').and_then(|rest| rest.split_once('/'));
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    text.starts_with("~/")
        || text.starts_with("../")
        || variable.is_some_and(|(name, _)| is_name(name))
}

/// A path without the line and column behind it: `main.rs:42:7`.
fn without_place(text: &str) -> &str {
    let mut path = text;
    while let Some((before, digits)) = path.rsplit_once(':')
        && !digits.is_empty()
        && digits.bytes().all(|c| c.is_ascii_digit())
    {
        path = before;
    }
    path
}

fn is_file(text: &str) -> bool {
    let text = without_place(text);
    let name = text.rsplit(['/', '\\']).next().unwrap_or("");
    let Some((stem, end)) = name.rsplit_once('.') else {
        // A path of at least two parts from the root, or of one from elsewhere.
        let named = is_rooted(text);
        let rooted = text.starts_with('/') || named || text.starts_with("./");
        return rooted
            && (named || text.matches('/').count() >= 2)
            && text.split('/').skip(1).all(|part| !part.is_empty());
    };
    if stem.is_empty() && is_rooted(text) {
        // `~/.bashrc`
        return end.chars().any(char::is_alphanumeric);
    }
    // From the root or the home folder, any end will do.
    let rooted =
        (text.starts_with(['/', '~']) || is_rooted(text)) && text.matches('/').count() >= 2;
    let known = rooted || FILE_ENDS.contains(&end.to_ascii_lowercase().as_str());
    known && !stem.is_empty() && stem.chars().any(char::is_alphanumeric)
}

/// Words unchanged, digits one by one, signs by name.
fn spell(language: &Language, text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut scan = Scan::new(text);
    let mut after_dot = false;
    while let Some(next) = scan.peek() {
        let digits = scan.digits();
        if !digits.is_empty() {
            words.push(language.one_by_one(digits));
        } else if next.is_alphabetic() {
            let letters = scan.letters();
            words.push(word(letters, after_dot));
        } else {
            scan.skip(next.len_utf8());
            if let Some(name) = sign_name(language, next) {
                words.push(name.to_owned());
            }
        }
        after_dot = next == '.';
    }
    words.join(" ")
}

/// A run of letters, in capitals if it cannot be pronounced as a word.
fn word(letters: &str, after_dot: bool) -> String {
    let lower = letters.to_lowercase();
    let vowel = lower.contains(['a', 'e', 'i', 'o', 'u', 'y']);
    let spelt_end = after_dot
        && !SPOKEN_ENDS.contains(&lower.as_str())
        && (lower.len() <= 2
            || SPELT_ENDS.contains(&lower.as_str())
            || FILE_ENDS.contains(&lower.as_str()))
        && !matches!(
            lower.as_str(),
            "zip" | "java" | "log" | "bin" | "doc" | "tar" | "gif"
        );
    let spelt = SCHEMES[..2].contains(&lower.as_str()) || lower == "www" || !vowel || spelt_end;
    match spelt && lower.len() > 1 {
        true => letters.to_uppercase(),
        false => lower,
    }
}

/// `@name`, `#word`, `#1`.
pub(super) fn handle(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    let words = &setting.language.words;
    let mut scan = cursor.scan();
    if !cursor.starts_word() || !scan.take('#') {
        return None;
    }
    let next = scan.peek()?;
    let name = match next {
        _ if next.is_ascii_digit() => words.number,
        // `order #A1234`: a code, not a topic.
        _ if is_code(scan.rest) => words.number,
        _ if next.is_alphabetic() => words.hashtag,
        _ => return None,
    };
    Reading::new(format!("{name} "), 1)
}

/// Up to three capitals and digits after them.
fn is_code(text: &str) -> bool {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_uppercase());
    (1..=3).contains(&(text.len() - digits.len()))
        && (digits.strip_prefix('-').unwrap_or(digits)).starts_with(|c: char| c.is_ascii_digit())
}
