//! The troubleshooting page lists every error message, and nothing else as one. The HTTP reference
//! lists every code.

use crate::page::{Page, root};
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/troubleshooting.md";
/// Least bytes of a message's fixed words; messages with fewer only pass on another error.
const WORDS_BYTES_MIN: usize = 9;
/// Crates that are not part of the product.
const OTHER_CRATES: [&str; 1] = ["cuda-stand-in"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The sources of the product's crates: (crate, file, text).
fn product() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let source = folder.join("src");
        if source.is_dir() && !OTHER_CRATES.contains(&&*name) {
            sources(&source, &mut found);
        }
    }
    (found.into_iter())
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path, text)
        })
        .collect()
}

/// The string literal at the start of `text`, its escapes resolved.
fn literal(text: &str) -> Option<String> {
    let mut letters = text.trim_start().strip_prefix('"')?.chars();
    let mut literal = String::new();
    loop {
        match letters.next()? {
            '"' => return Some(literal),
            '\\' => match letters.next()? {
                'n' => literal.push('\n'),
                // The indentation of the next line is not part of the literal.
                '\n' => {
                    let rest = letters.as_str().trim_start();
                    letters = rest.chars();
                }
                other => literal.push(other),
            },
            letter => literal.push(letter),
        }
    }
}

/// The fixed parts of a message between its placeholders.
fn fixed_parts(message: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = message.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '{' | '}' if letters.peek() == Some(&letter) => {
                letters.next();
                parts.last_mut().unwrap().push(letter);
            }
            '{' => {
                letters.by_ref().find(|letter| *letter == '}');
                parts.push(String::new());
            }
            letter => parts.last_mut().unwrap().push(letter),
        }
    }
    parts
}

/// The longest part, without punctuation next to placeholders.
fn longest(parts: Vec<String>) -> String {
    let marks = |letter: char| !letter.is_alphanumeric();
    let trimmed = (parts.into_iter()).map(|part| part.trim_matches(marks).to_owned());
    trimmed.max_by_key(String::len).unwrap_or_default()
}

/// Collapses white space, because lines may be broken anywhere.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_error_message_is_explained() {
    let page = one_line(&Page::named(PAGE).text.replace("\\|", "|"));
    let mut count = 0;
    let mut missing = Vec::new();
    for (path, text) in product() {
        for (start, _) in text.match_indices("#[error(") {
            let Some(message) = literal(&text[start + "#[error(".len()..]) else {
                continue;
            };
            count += 1;
            let words = one_line(&longest(fixed_parts(&message)));
            if words.len() >= WORDS_BYTES_MIN && !page.contains(&words) {
                missing.push(format!("{}: {message}", path.display()));
            }
        }
    }
    assert!(count > 100, "only {count} messages were found");
    assert!(
        missing.is_empty(),
        "{PAGE} does not explain:\n{}",
        missing.join("\n")
    );
}

#[test]
fn every_explained_message_is_one_of_the_program() {
    let mut code = String::new();
    for (_, text) in product() {
        // A literal may continue on the next line.
        let joined: Vec<&str> = text.split("\\\n").collect();
        for part in joined {
            code.push_str(part.trim_start());
        }
        code.push('\n');
    }
    let code = one_line(&code).replace("\\\"", "\"");
    let page = Page::named(PAGE);
    let mut stale = Vec::new();
    let mut count = 0;
    for row in page.rows() {
        let Some(message) = row[0]
            .strip_prefix('`')
            .and_then(|cell| cell.strip_suffix('`'))
        else {
            continue;
        };
        count += 1;
        let parts = message.split('…').map(str::to_owned).collect();
        let words = longest(parts);
        if !code.contains(&words) {
            stale.push(words);
        }
    }
    assert!(count > 100, "only {count} messages stand on the page");
    assert!(stale.is_empty(), "no longer said:\n{}", stale.join("\n"));
}

#[test]
fn every_code_of_an_error_stands_in_the_http_reference() {
    let source = std::fs::read_to_string(root().join("crates/server/src/error.rs")).unwrap();
    let page = Page::named("docs/http.md");
    let mut count = 0;
    for (start, _) in source.match_indices("Some(\"") {
        let code = literal(&source[start + "Some(".len()..]).unwrap();
        // Names of fields are made into owned strings, and codes are not.
        if source[start..].starts_with(&format!("Some(\"{code}\")")) {
            count += 1;
            assert!(page.text.contains(&format!("`{code}`")), "{code}");
        }
    }
    assert!(count > 10, "only {count} codes were found");
}

#[test]
fn fixed_parts_are_what_no_value_changes() {
    let parts = fixed_parts("{option}: {value:?} cannot be {{used}}: {reason}");
    assert_eq!(longest(parts), "cannot be {used");
    assert_eq!(
        literal("\n  \"one \\\n   two \\\"three\\\"\")]").unwrap(),
        "one two \"three\""
    );
}
