//! Tags of SSML, of HTML, and of language models that show their reasoning.

/// Effect of a tag on the surrounding text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// None: its text is read.
    Inline,
    /// A new paragraph.
    Block,
    /// A word border.
    Space,
    /// A clause border.
    Cell,
    /// A pause.
    Pause,
    /// Its contents are not read.
    Hidden,
    /// Its `alias` is read in place of its contents.
    Substitute,
    /// Its contents are read character by character, if an attribute asks for that.
    SayAs,
}

const BLOCKS: &[&str] = &[
    "p",
    "div",
    "li",
    "ul",
    "ol",
    "dl",
    "dt",
    "dd",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "tr",
    "table",
    "thead",
    "tbody",
    "section",
    "article",
    "header",
    "footer",
    "aside",
    "nav",
    "main",
    "blockquote",
    "pre",
    "title",
    "figure",
    "figcaption",
    "hr",
    "form",
    "summary",
    "details",
    "caption",
    "tfoot",
    "legend",
    "fieldset",
    "address",
    "option",
    "select",
    "dialog",
    "body",
    "html",
    "paragraph",
    "sentence",
];
/// Elements whose content is not spoken.
pub(super) const HIDDEN: &[&str] = &[
    "think",
    "thinking",
    "thought",
    "reasoning",
    "reflection",
    "scratchpad",
    "script",
    "style",
    "desc",
    "metadata",
    "svg",
];
const INLINE: &[&str] = &[
    // HTML.
    "a", "abbr", "b", "big", "button", "center", "cite", "code", "del", "dfn", "em", "font", "i",
    "img", "input", "ins", "kbd", "label", "link", "mark", "meta", "head", "q", "samp", "small",
    "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr", // SSML.
    "speak", "voice", "prosody", "emphasis", "phoneme", "lang", "audio", "w", "token", "lexicon",
    "lookup", "prompt", "answer", "response", "final", "output",
];

/// A tag as written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tag<'a> {
    /// Lower-case name without a namespace.
    pub name: String,
    pub closing: bool,
    pub self_closing: bool,
    attributes: &'a str,
    /// Length in bytes.
    pub length: usize,
}

/// Limit of a tag's length.
const TAG_BYTES_MAX: usize = 2000;

impl<'a> Tag<'a> {
    /// Parses a tag at the beginning of a text. Text like `a <b and c> d` is not a tag.
    pub fn read(text: &'a str) -> Option<Tag<'a>> {
        let body = text.strip_prefix('<')?;
        let closing = body.starts_with('/');
        let body = body.strip_prefix('/').unwrap_or(body);
        let name_end = body
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_')))
            .filter(|end| (1..=32).contains(end))?;
        let name = &body[..name_end];
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return None;
        }
        let mut quoted = None;
        let end = body
            .bytes()
            .take(TAG_BYTES_MAX)
            .enumerate()
            .skip(name_end)
            .find_map(|(at, byte)| {
                match (quoted, byte) {
                    (None, b'>') => return Some(Some(at)),
                    (None, b'<') => return Some(None),
                    (None, b'"' | b'\'') => quoted = Some(byte),
                    (Some(open), _) if open == byte => quoted = None,
                    _ => {}
                }
                None
            })??;
        let inner = &body[name_end..end];
        let self_closing = inner.ends_with('/');
        let attributes = inner.trim_end_matches('/').trim();
        if !attributes.is_empty()
            && (!inner.starts_with(char::is_whitespace) || !attributes.contains('='))
        {
            return None;
        }
        let start = text.len() - body.len();
        Some(Tag {
            name: name.rsplit(':').next().unwrap_or(name).to_ascii_lowercase(),
            closing,
            self_closing,
            attributes,
            length: start + end + 1,
        })
    }

    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.attributes;
        while let Some(at) = rest.find(name) {
            let before = rest[..at].chars().next_back();
            let after = rest[at + name.len()..].trim_start();
            if before.is_none_or(char::is_whitespace)
                && let Some(value) = after.strip_prefix('=')
            {
                let value = value.trim_start();
                return match value.chars().next() {
                    Some(quote @ ('"' | '\'')) => value[1..].split(quote).next(),
                    _ => value.split_whitespace().next(),
                };
            }
            rest = &rest[at + name.len()..];
        }
        None
    }

    /// The tag's effect; `None` for an unknown tag.
    pub fn effect(&self) -> Option<Effect> {
        let name = self.name.as_str();
        Some(match name {
            "break" | "pause" | "silence" => Effect::Pause,
            // `s` is a sentence in SSML.
            "br" | "s" => Effect::Space,
            "td" | "th" => Effect::Cell,
            "sub" if self.attribute("alias").is_some() => Effect::Substitute,
            "say-as" => Effect::SayAs,
            _ if HIDDEN.contains(&name) => Effect::Hidden,
            _ if BLOCKS.contains(&name) => Effect::Block,
            _ if INLINE.contains(&name) => Effect::Inline,
            _ => return None,
        })
    }

    /// Length of the pause that the tag requests, in seconds.
    pub fn pause_seconds(&self) -> f64 {
        let time = ["time", "duration", "dur", "seconds"]
            .iter()
            .find_map(|name| self.attribute(name));
        if let Some(seconds) = time.and_then(super::seconds) {
            return seconds;
        }
        if let Some(milliseconds) = self
            .attribute("msec")
            .and_then(|text| text.trim().parse::<f64>().ok())
        {
            return milliseconds / 1000.0;
        }
        match self.attribute("strength") {
            Some("none") => 0.0,
            Some("x-weak") => 0.1,
            Some("weak") => 0.2,
            Some("strong") => 0.8,
            Some("x-strong") => 1.2,
            _ => super::PAUSE_SECONDS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_told_from_a_comparison() {
        for text in ["< 5", "<b and c> d", "<", "<5>", "<b", "<a <b>", "<é>"] {
            assert_eq!(Tag::read(text), None, "{text}");
        }
        let tag = Tag::read("<break time='1.5s' />x").unwrap();
        assert_eq!(
            (tag.name.as_str(), tag.self_closing, tag.length),
            ("break", true, 21)
        );
        assert_eq!(tag.pause_seconds(), 1.5);
        let tag = Tag::read("</Speak>").unwrap();
        assert!(tag.closing && tag.effect() == Some(Effect::Inline));
        let tag = Tag::read("<a href=\"x>y\" title='t'>").unwrap();
        assert_eq!(tag.attribute("title"), Some("t"));
        assert_eq!(tag.attribute("itle"), None);
    }
}
