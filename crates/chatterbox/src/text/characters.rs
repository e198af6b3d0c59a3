//! Characters: what cannot be seen is removed, what looks the same becomes the same.

use super::traced::Traced;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{canonical_combining_class, is_combining_mark};

/// Base letters and their marks that are normalised together; a longer heap of marks is cut.
const CLUSTER_MAX: usize = 32;

/// Whether a character can neither be said nor shape what is said: soft hyphens, zero-width
/// characters, joiners, marks of direction, selectors of a glyph, unassigned noise.
pub(super) fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{20dd}'..='\u{20e4}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{fff0}'..='\u{fffd}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// A text without what cannot be seen; controls become spaces.
pub(super) fn visible(text: &Traced) -> Traced {
    let mut clean = Traced::default();
    for (character, origin) in text.characters() {
        if is_invisible(character) {
            continue;
        }
        let control = character.is_control() || character.is_whitespace();
        clean.push(if control { ' ' } else { character }, origin);
    }
    clean.extend_to(text.origin(text.text().len()) as u32);
    clean
}

/// As [`visible`], in Unicode's compatibility composition (NFKC), with one hyphen, one kind of
/// space and ASCII digits. Superscripts become `^2`, which the composition alone would make a plain
/// `2`; fractions stand apart from the number before them.
pub(super) fn compatible(text: &Traced) -> Traced {
    let text = visible(text);
    let mut clean = Traced::default();
    let mut cluster = String::new();
    let mut characters = text.characters().peekable();
    let mut previous = ' ';
    while let Some((character, origin)) = characters.next() {
        if let Some(plain) = superscript(character) {
            let after_base = previous.is_alphanumeric() || previous == ')';
            if after_base && superscript(previous).is_none() {
                clean.push('^', origin);
            }
            clean.push(plain, origin);
            previous = character;
            continue;
        }
        if is_fraction(character) && previous.is_ascii_digit() {
            clean.push(' ', origin);
        }
        cluster.clear();
        cluster.push(character);
        while let Some(&(mark, _)) = characters.peek()
            && joins(mark)
            && cluster.len() < CLUSTER_MAX
        {
            cluster.push(mark);
            characters.next();
        }
        // Two grave accents are a quotation mark in plain text.
        if character == '`' && characters.next_if(|(next, _)| *next == '`').is_some() {
            clean.push('"', origin);
            previous = character;
            continue;
        }
        if let Some(replaced) = replacement(character) {
            for plain in replaced.chars() {
                clean.push(plain, origin);
            }
        } else {
            for composed in cluster.nfkc() {
                if let Some(plain) = plain(composed) {
                    clean.push(plain, origin);
                }
            }
        }
        previous = character;
    }
    clean.extend_to(text.origin(text.text().len()) as u32);
    clean
}

/// Whether a character joins the one before it in a composition.
fn joins(character: char) -> bool {
    canonical_combining_class(character) != 0
        || is_combining_mark(character)
        // Vowels and last consonants of Hangul, and the marks of voiced kana.
        || matches!(character, '\u{1160}'..='\u{11ff}' | '\u{ff9e}' | '\u{ff9f}')
}

fn superscript(character: char) -> Option<char> {
    Some(match character {
        '⁰' => '0',
        '¹' => '1',
        '²' => '2',
        '³' => '3',
        '⁴'..='⁹' => char::from(b'4' + (character as u32 - '⁴' as u32) as u8),
        '⁻' => '-',
        'ⁿ' => 'n',
        _ => return None,
    })
}

fn is_fraction(character: char) -> bool {
    matches!(character, '¼'..='¾' | '⅐'..='⅟' | '↉')
}

/// What stands for a character that composition would leave or make worse.
fn replacement(character: char) -> Option<&'static str> {
    Some(match character {
        '№' => "No.",
        '™' | '®' | '℠' => "",
        '…' => "...",
        '‥' => "..",
        '′' => "'",
        '″' => "\"",
        _ => return None,
    })
}

/// One hyphen, one stroke, one kind of space, ASCII digits.
fn plain(character: char) -> Option<char> {
    if is_invisible(character) {
        return None;
    }
    Some(match character {
        '\u{2010}'..='\u{2012}' | '\u{2043}' | '\u{fe63}' | '\u{ff0d}' => '-',
        '\u{2015}' => '—',
        '⁄' | '∕' => '/',
        '⋅' | '∙' => '·',
        _ if character.is_whitespace() => ' ',
        _ => digit(character).unwrap_or(character),
    })
}

/// Decimal digits of other scripts as ASCII ones.
fn digit(character: char) -> Option<char> {
    /// The zeros of the scripts whose numbers are written with ten digits in a row.
    const ZEROS: [u32; 20] = [
        0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6,
        0xe50, 0xed0, 0xf20, 0x1040, 0x17e0, 0x1810, 0xff10,
    ];
    let code = character as u32;
    let zero = ZEROS
        .iter()
        .find(|zero| (**zero..**zero + 10).contains(&code))?;
    char::from_digit(code - zero, 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> String {
        let mut traced = Traced::default();
        for (at, character) in text.char_indices() {
            traced.push(character, at as u32);
        }
        compatible(&traced).text().to_owned()
    }

    #[test]
    fn what_looks_the_same_becomes_the_same() {
        for (text, plain) in [
            ("Exam\u{ad}ple", "Example"),
            ("Exam\u{200b}p\u{200d}le\u{feff}", "Example"),
            ("16\u{a0}GB, 10\u{202f}000", "16 GB, 10 000"),
            ("co\u{2011}op", "co-op"),
            ("Ｈｅｌｌｏ", "Hello"),
            ("Ⅳ ① ﬁne", "IV 1 fine"),
            ("x² and 10⁻⁶", "x^2 and 10^-6"),
            ("2½ cups, ⅓", "2 1/2 cups, 1/3"),
            ("e\u{301}te\u{301}", "été"),
            ("٣ and ५", "3 and 5"),
            ("№ 5, Brand™", "No. 5, Brand"),
            ("``quoted``, `code`", "\"quoted\", `code`"),
            ("20 ℃", "20 °C"),
            ("1\u{fe0f}\u{20e3}", "1"),
        ] {
            assert_eq!(made(text), plain, "{text:?}");
        }
    }

    #[test]
    fn a_heap_of_marks_is_no_trouble() {
        let heap = format!("a{}", "\u{301}".repeat(10_000));
        assert!(made(&heap).starts_with('á'));
    }
}
