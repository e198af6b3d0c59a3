//! Unicode normalisation: invisible characters are removed, and lookalikes are unified.

use super::traced::Traced;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{canonical_combining_class, is_combining_mark};

/// Limit of a base letter and its combining marks that are normalised together; longer clusters are
/// cut.
const CLUSTER_MAX: usize = 32;

/// Whether a character is neither spoken nor affects speech: soft hyphens, zero-width characters,
/// joiners, directional marks, variation selectors, unassigned code points.
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

/// Removes invisible characters; controls become spaces.
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

/// As [`visible`], then Unicode's compatibility composition (NFKC), with one hyphen, one kind of
/// space and ASCII digits. Superscripts become `^2`, which NFKC alone would turn into `2`;
/// fractions are separated from a number before them.
pub(super) fn compatible(text: &Traced) -> Traced {
    let text = visible(text);
    let mut clean = Traced::default();
    let mut cluster = String::new();
    let mut characters = text.characters().peekable();
    let mut previous = ' ';
    // Whether the superscripts under way are the mark of a footnote.
    let mut is_note = false;
    while let Some((character, origin)) = characters.next() {
        if let Some(plain) = superscript(character) {
            if superscript(previous).is_none() && is_noted(clean.text())
                || (is_note && superscript(previous).is_some())
            {
                is_note = true;
                previous = character;
                continue;
            }
            is_note = false;
            let after_base = previous.is_alphanumeric() || previous == ')';
            if after_base && superscript(previous).is_none() {
                clean.push('^', origin);
            }
            clean.push(plain, origin);
            previous = character;
            continue;
        }
        // `25ºC`: the sign of an ordinal, which is taken for that of degrees.
        if character == 'º' && matches!(characters.peek(), Some(('C' | 'F', _))) {
            clean.push('°', origin);
            previous = character;
            continue;
        }
        if is_fraction(character) && (previous.is_ascii_digit() || is_fraction(previous)) {
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

/// Whether a superscript after `text` is the mark of a footnote and no power: after a word that is
/// no unit of length, or after an end mark.
fn is_noted(text: &str) -> bool {
    const LETTERS_MIN: usize = 4;
    const UNITS: [&str; 10] = [
        "inch", "inches", "foot", "feet", "yard", "yards", "mile", "miles", "metre", "meter",
    ];
    const FUNCTIONS: [&str; 3] = ["sinh", "cosh", "tanh"];
    if text.ends_with(['.', ',', ';', '!', '?', '"', '”']) {
        return true;
    }
    let start = text.trim_end_matches(char::is_lowercase).len();
    let word = &text[start..];
    let whole = !text[..start].ends_with(char::is_alphanumeric)
        || text[..start].ends_with(char::is_uppercase);
    whole
        && word.chars().count() >= LETTERS_MIN
        && !UNITS.contains(&word)
        && !word.ends_with("metres")
        && !word.ends_with("meters")
        && !FUNCTIONS.contains(&word)
}

/// Whether a character composes with the one before it.
fn joins(character: char) -> bool {
    canonical_combining_class(character) != 0
        || is_combining_mark(character)
        // Vowels and final consonants of Hangul, and voiced sound marks of kana.
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

/// Replacement of a character that NFKC would keep or make worse.
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

/// Unifies hyphens, strokes, spaces and digits.
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

/// Maps decimal digits of other scripts to ASCII.
fn digit(character: char) -> Option<char> {
    /// The zeros of scripts with ten consecutive digits.
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
    fn lookalikes_are_unified() {
        for (text, plain) in [
            ("Exam\u{ad}ple", "Example"),
            ("Exam\u{200b}p\u{200d}le\u{feff}", "Example"),
            ("16\u{a0}GB, 10\u{202f}000", "16 GB, 10 000"),
            ("co\u{2011}op", "co-op"),
            ("Ｈｅｌｌｏ", "Hello"),
            ("Ⅳ ① ﬁne", "IV 1 fine"),
            ("x² and 10⁻⁶", "x^2 and 10^-6"),
            ("See note¹ and others.¹² Then", "See note and others. Then"),
            ("5 km², 3 miles², sinh²", "5 km^2, 3 miles^2, sinh^2"),
            ("2½ cups, ⅓", "2 1/2 cups, 1/3"),
            ("½¼", "1/2 1/4"),
            ("e\u{301}te\u{301}", "été"),
            ("٣ and ५", "3 and 5"),
            ("№ 5, Brand™", "No. 5, Brand"),
            ("``quoted``, `code`", "\"quoted\", `code`"),
            ("20 ℃", "20 °C"),
            ("25ºC, 77 ºF, nº", "25°C, 77 °F, no"),
            ("1\u{fe0f}\u{20e3}", "1"),
        ] {
            assert_eq!(made(text), plain, "{text:?}");
        }
    }

    #[test]
    fn long_clusters_of_combining_marks_are_cut() {
        let heap = format!("a{}", "\u{301}".repeat(10_000));
        assert!(made(&heap).starts_with('á'));
    }
}
