//! Pages of the documentation and their contents.

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use std::path::{Path, PathBuf};

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

/// A page of the documentation.
pub struct Page {
    /// Path from the repository's root, with slashes.
    pub name: String,
    pub path: PathBuf,
    pub text: String,
}

/// A fenced block of code.
pub struct CodeBlock {
    /// Language: the first word of its info string.
    pub language: String,
    /// The other words of the info string.
    pub marks: Vec<String>,
    /// Its first line in the page, from 1.
    pub line: usize,
    pub text: String,
}

impl Page {
    fn read(path: PathBuf) -> Page {
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
        Page {
            name: name.replace('\\', "/"),
            text: std::fs::read_to_string(&path).unwrap(),
            path,
        }
    }

    /// The page of this name, from the repository's root.
    pub fn named(name: &str) -> Page {
        Page::read(root().join(name))
    }

    /// Fenced blocks, in order.
    pub fn blocks(&self) -> Vec<CodeBlock> {
        let mut blocks = Vec::new();
        let mut open: Option<CodeBlock> = None;
        for (event, range) in parse(&self.text).into_offset_iter() {
            match event {
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                    let mut words = info.split([',', ' ']).map(str::to_owned);
                    open = Some(CodeBlock {
                        language: words.next().unwrap_or_default(),
                        marks: words.filter(|word| !word.is_empty()).collect(),
                        line: self.text[..range.start].lines().count() + 1,
                        text: String::new(),
                    });
                }
                Event::Text(text) => {
                    if let Some(block) = &mut open {
                        block.text += &text;
                    }
                }
                Event::End(TagEnd::CodeBlock) => blocks.extend(open.take()),
                _ => {}
            }
        }
        blocks
    }

    /// Targets of links and images.
    pub fn links(&self) -> Vec<String> {
        parse(&self.text)
            .filter_map(|event| match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    Some(dest_url.into_string())
                }
                _ => None,
            })
            .collect()
    }

    /// Anchors of the headings, as mdBook and code hosts generate them.
    pub fn anchors(&self) -> Vec<String> {
        let mut anchors = Vec::new();
        let mut heading: Option<String> = None;
        for event in parse(&self.text) {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::Text(text) | Event::Code(text) => {
                    if let Some(heading) = &mut heading {
                        *heading += &text;
                    }
                }
                Event::End(TagEnd::Heading(_)) => {
                    anchors.extend(heading.take().map(|text| anchor(&text)));
                }
                _ => {}
            }
        }
        anchors
    }

    /// Lines, from 1, of rows that no table's head stands above: they are shown as plain text.
    pub fn stray_rows(&self) -> Vec<usize> {
        parse(&self.text)
            .into_offset_iter()
            .filter(|(event, _)| matches!(event, Event::Start(Tag::Paragraph)))
            .filter(|(_, range)| self.text[range.start..].starts_with('|'))
            .map(|(_, range)| self.text[..range.start].lines().count() + 1)
            .collect()
    }

    /// Cells of all tables, row by row.
    pub fn rows(&self) -> impl Iterator<Item = Vec<String>> + '_ {
        let rows = (self.text.lines()).filter(|line| line.starts_with('|') && line.ends_with('|'));
        rows.filter(|line| !line.starts_with("|---")).map(|line| {
            let inner = &line[1..line.len() - 1];
            let escaped = inner.replace("\\|", "\u{0}");
            let cells = escaped.split('|');
            cells
                .map(|cell| cell.replace('\u{0}', "|").trim().to_owned())
                .collect()
        })
    }
}

fn parse(text: &str) -> Parser<'_> {
    Parser::new_ext(text, Options::ENABLE_TABLES)
}

fn anchor(heading: &str) -> String {
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            _ => letter.is_alphanumeric().then_some(letter),
        })
        .collect()
}

/// Markdown files below a folder.
fn below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// The book's pages and those at the repository's root.
pub fn pages() -> Vec<Page> {
    let mut found = Vec::new();
    below(&root().join("docs"), &mut found);
    for entry in std::fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    assert!(found.len() > 15, "the pages must be found");
    found.into_iter().map(Page::read).collect()
}
