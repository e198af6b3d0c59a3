//! Numbers and abbreviations as English words, for models that were trained on words alone.
//!
//! Spelt out are: cardinals (`1,234`), decimals, negative numbers, ordinals (`22nd`), years (`1984`), decades (`1990s`), clock times
//! (`7:30`), money (`$4.50`), percentages, degrees, common units after a number, titles (`Dr.`), and `& + = % @`. Digits too many to
//! be read as one number are read one by one. Letters and signs that stand in English text but in no English word (`æ`, `ß`, `½`) become
//! what is said for them, and a word too long to be one is cut. Everything else stays as it is.

const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] = [
    "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];
const SCALES: [(u64, &str); 4] = [
    (1_000_000_000_000, "trillion"),
    (1_000_000_000, "billion"),
    (1_000_000, "million"),
    (1_000, "thousand"),
];
/// Digits of the largest number read as one.
const DIGITS_MAX: usize = 15;

/// With the full stop, which belongs to the abbreviation.
const TITLES: [(&str, &str); 12] = [
    ("mr.", "mister"),
    ("mrs.", "missus"),
    ("ms.", "miz"),
    ("dr.", "doctor"),
    ("prof.", "professor"),
    ("st.", "saint"),
    ("jr.", "junior"),
    ("sr.", "senior"),
    ("vs.", "versus"),
    ("etc.", "et cetera"),
    ("e.g.", "for example"),
    ("i.e.", "that is"),
];
/// After a number: singular and plural.
const UNITS: [(&str, &str, &str); 18] = [
    ("km", "kilometer", "kilometers"),
    ("m", "meter", "meters"),
    ("cm", "centimeter", "centimeters"),
    ("mm", "millimeter", "millimeters"),
    ("kg", "kilogram", "kilograms"),
    ("g", "gram", "grams"),
    ("mg", "milligram", "milligrams"),
    ("lb", "pound", "pounds"),
    ("lbs", "pound", "pounds"),
    ("oz", "ounce", "ounces"),
    ("ft", "foot", "feet"),
    ("mph", "mile an hour", "miles an hour"),
    ("ml", "milliliter", "milliliters"),
    ("l", "liter", "liters"),
    ("hz", "hertz", "hertz"),
    ("gb", "gigabyte", "gigabytes"),
    ("mb", "megabyte", "megabytes"),
    ("min", "minute", "minutes"),
];
/// Sign, whole singular and plural, part singular and plural.
const MONEY: [(char, [&str; 4]); 3] = [
    ('$', ["dollar", "dollars", "cent", "cents"]),
    ('£', ["pound", "pounds", "penny", "pence"]),
    ('€', ["euro", "euros", "cent", "cents"]),
];

/// Letters and signs that do not decompose into English ones, in both cases where there are two.
const REPLACED: [(&str, &str); 20] = [
    ("ßẞ", "ss"),
    ("æÆ", "ae"),
    ("œŒ", "oe"),
    ("øØº", "o"),
    ("ª", "a"),
    ("łŁ", "l"),
    ("đĐ", "d"),
    ("ðÐþÞ", "th"),
    ("ħĦ", "h"),
    ("ı", "i"),
    ("ŋŊ", "ng"),
    ("ﬀ", "ff"),
    ("ﬁ", "fi"),
    ("ﬂ", "fl"),
    ("µμ", "micro "),
    ("½", " one half"),
    ("¼", " one quarter"),
    ("¾", " three quarters"),
    ("²", " squared"),
    ("³", " cubed"),
];
/// Letters of a word; the longest English ones in use have fewer than 30.
const WORD_LETTERS_MAX: usize = 40;

/// The text with its numbers and abbreviations as words.
pub fn spell_out(text: &str) -> String {
    let mut output = String::with_capacity(text.len() * 2);
    let characters: Vec<char> = text.chars().collect();
    let mut at = 0;
    while at < characters.len() {
        let (words, used) = item(&characters, at);
        at += used;
        output.push_str(&words);
    }
    cut_words(&output)
}

/// Words longer than [`WORD_LETTERS_MAX`] in pieces of that length.
fn cut_words(text: &str) -> String {
    let mut output = String::with_capacity(text.len());
    let mut letters = 0;
    for character in text.chars() {
        letters = match character.is_alphabetic() || character == '\'' {
            true => letters + 1,
            false => 0,
        };
        if letters > WORD_LETTERS_MAX {
            output.push(' ');
            letters = 1;
        }
        output.push(character);
    }
    output
}

/// The words for what begins at `at`, and how many characters they stand for.
fn item(characters: &[char], at: usize) -> (String, usize) {
    let rest = &characters[at..];
    let first = rest[0];
    let before = at.checked_sub(1).map(|before| characters[before]);
    let starts_word = before.is_none_or(|before| !before.is_alphanumeric());
    if starts_word && let Some((words, used)) = title(rest) {
        return (words.to_owned(), used);
    }
    if let Some((_, names)) = MONEY.iter().find(|(sign, _)| *sign == first)
        && let Some(number) = Number::read(&rest[1..])
    {
        let (words, used) = money(&number, names, &rest[1 + number.length..]);
        return (words, 1 + number.length + used);
    }
    if (first == '-' || first == '−')
        && before.is_none_or(char::is_whitespace)
        && rest.get(1).is_some_and(char::is_ascii_digit)
    {
        return ("minus ".into(), 1);
    }
    if first.is_ascii_digit()
        && let Some(number) = Number::read(rest)
    {
        let (mut words, used) = quantity(&number, &rest[number.length..]);
        if before.is_some_and(char::is_alphabetic) {
            words.insert(0, ' ');
        }
        let length = number.length + used;
        if rest.get(length).is_some_and(|next| next.is_alphabetic()) {
            words.push(' ');
        }
        return (words, length);
    }
    if let Some((_, letters)) = REPLACED.iter().find(|(from, _)| from.contains(first)) {
        return ((*letters).into(), 1);
    }
    let word = match first {
        '&' => "and",
        '+' => "plus",
        '=' => "equals",
        '@' => "at",
        '%' => "percent",
        _ => return (first.into(), 1),
    };
    let spaced = |neighbour: Option<&char>| neighbour.is_none_or(|c| !c.is_alphanumeric());
    let left = if spaced(before.as_ref()) { "" } else { " " };
    let right = if spaced(rest.get(1)) { "" } else { " " };
    (format!("{left}{word}{right}"), 1)
}

fn title(rest: &[char]) -> Option<(&'static str, usize)> {
    TITLES.iter().find_map(|(short, long)| {
        let length = short.len();
        let same = rest.len() >= length
            && rest
                .iter()
                .zip(short.chars())
                .all(|(a, b)| a.to_ascii_lowercase() == b);
        same.then_some((*long, length))
    })
}

/// Digits as they stand in a text.
struct Number {
    /// Without the commas between thousands.
    whole: String,
    /// After the decimal point.
    part: Option<String>,
    commas: bool,
    /// Characters in all.
    length: usize,
}

impl Number {
    fn read(rest: &[char]) -> Option<Number> {
        let digits = |from: usize| {
            rest[from..]
                .iter()
                .take_while(|c| c.is_ascii_digit())
                .count()
        };
        let mut length = digits(0);
        if length == 0 {
            return None;
        }
        let mut whole: String = rest[..length].iter().collect();
        let mut commas = false;
        while whole.len() <= DIGITS_MAX && rest.get(length) == Some(&',') && digits(length + 1) == 3
        {
            whole.extend(&rest[length + 1..length + 4]);
            length += 4;
            commas = true;
        }
        let mut part = None;
        if rest.get(length) == Some(&'.') && rest.get(length + 1).is_some_and(char::is_ascii_digit)
        {
            let count = digits(length + 1);
            part = Some(rest[length + 1..=length + count].iter().collect());
            length += 1 + count;
        }
        Some(Number {
            whole,
            part,
            commas,
            length,
        })
    }

    /// The whole part, where it is short enough to be one number.
    fn value(&self) -> Option<u64> {
        let leading_zero = self.whole.len() > 1 && self.whole.starts_with('0');
        if self.whole.len() > DIGITS_MAX || leading_zero {
            return None;
        }
        self.whole.parse().ok()
    }

    fn words(&self) -> String {
        let whole = self
            .value()
            .map_or_else(|| one_by_one(&self.whole), cardinal);
        match &self.part {
            Some(part) => format!("{whole} point {}", one_by_one(part)),
            None => whole,
        }
    }

    fn is_one(&self) -> bool {
        self.part.is_none() && self.value() == Some(1)
    }
}

/// A number with what follows and belongs to it; how many following characters were used.
fn quantity(number: &Number, after: &[char]) -> (String, usize) {
    let follows: String = after
        .iter()
        .take(4)
        .collect::<String>()
        .to_ascii_lowercase();
    let ends = |length: usize| after.get(length).is_none_or(|c| !c.is_alphanumeric());
    if number.part.is_none()
        && let Some(value) = number.value()
    {
        if ["st", "nd", "rd", "th"]
            .iter()
            .any(|ending| follows.starts_with(ending))
            && ends(2)
        {
            return (ordinal(value), 2);
        }
        if let Some((words, used)) = clock(value, after) {
            return (words, used);
        }
        let year = !number.commas && number.whole.len() == 4 && (1100..2100).contains(&value);
        if follows.starts_with('s') && ends(1) && value.is_multiple_of(10) && value >= 20 {
            return (
                plural(&if year {
                    year_words(value)
                } else {
                    cardinal(value)
                }),
                1,
            );
        }
        if year && ends(0) && !follows.starts_with('%') && unit(after).is_none() {
            return (year_words(value), 0);
        }
    }
    let words = number.words();
    if follows.starts_with('%') {
        return (format!("{words} percent"), 1);
    }
    if follows.starts_with('°') {
        let name = if number.is_one() { "degree" } else { "degrees" };
        return match after.get(1) {
            Some('C' | 'c') if ends(2) => (format!("{words} {name} celsius"), 2),
            Some('F' | 'f') if ends(2) => (format!("{words} {name} fahrenheit"), 2),
            _ => (format!("{words} {name}"), 1),
        };
    }
    match unit(after) {
        Some((one, many, used)) => (
            format!("{words} {}", if number.is_one() { one } else { many }),
            used,
        ),
        None => (words, 0),
    }
}

/// A unit right after a number, or after one space where it has at least two letters ("5 m" may be anything).
fn unit(after: &[char]) -> Option<(&'static str, &'static str, usize)> {
    let space = usize::from(after.first() == Some(&' '));
    let letters: String = after[space..]
        .iter()
        .take_while(|c| c.is_alphanumeric())
        .take(5)
        .collect();
    if space == 1 && (letters.len() < 2 || letters == "min") {
        return None;
    }
    let lower = letters.to_ascii_lowercase();
    let (_, one, many) = UNITS.iter().find(|(short, _, _)| *short == lower)?;
    Some((one, many, space + letters.chars().count()))
}

fn clock(hour: u64, after: &[char]) -> Option<(String, usize)> {
    let minutes: String = after.get(1..3)?.iter().collect();
    let is_time = after[0] == ':' && hour < 25 && minutes.chars().all(|c| c.is_ascii_digit());
    if !is_time
        || after
            .get(3)
            .is_some_and(|c| c.is_ascii_digit() || *c == ':')
    {
        return None;
    }
    let minute: u64 = minutes.parse().ok().filter(|minute| *minute < 60)?;
    let words = match minute {
        0 if hour == 0 || hour > 12 => format!("{} hundred", cardinal(hour)),
        0 => format!("{} o'clock", cardinal(hour)),
        1..10 => format!("{} oh {}", cardinal(hour), cardinal(minute)),
        _ => format!("{} {}", cardinal(hour), cardinal(minute)),
    };
    let half_of_day = after[3..]
        .iter()
        .skip_while(|c| **c == ' ')
        .take(2)
        .collect::<String>()
        .to_ascii_lowercase();
    let words = match half_of_day.as_str() {
        "am" | "pm" | "a." | "p." if minute == 0 => cardinal(hour),
        _ => words,
    };
    Some((words, 3))
}

fn money(number: &Number, names: &[&str; 4], after: &[char]) -> (String, usize) {
    for (_, scale) in SCALES {
        let following: String = after.iter().take(1 + scale.len()).collect();
        if following.to_ascii_lowercase() == format!(" {scale}") {
            return (
                format!("{} {scale} {}", number.words(), names[1]),
                following.len(),
            );
        }
    }
    let whole = if number.value() == Some(1) {
        names[0]
    } else {
        names[1]
    };
    let dollars = number
        .value()
        .map_or_else(|| one_by_one(&number.whole), cardinal);
    match number.part.as_deref() {
        Some(part) if part.len() == 2 => match (part.parse::<u64>().unwrap_or(0), number.value()) {
            (0, _) => (format!("{dollars} {whole}"), 0),
            (cents, Some(0)) => (
                format!(
                    "{} {}",
                    cardinal(cents),
                    names[if cents == 1 { 2 } else { 3 }]
                ),
                0,
            ),
            (cents, _) => (
                format!(
                    "{dollars} {whole} and {} {}",
                    cardinal(cents),
                    names[if cents == 1 { 2 } else { 3 }]
                ),
                0,
            ),
        },
        Some(_) => (format!("{} {}", number.words(), names[1]), 0),
        None => (format!("{dollars} {whole}"), 0),
    }
}

fn cardinal(value: u64) -> String {
    for (scale, name) in SCALES {
        if value >= scale {
            let rest = value % scale;
            let head = format!("{} {name}", cardinal(value / scale));
            return if rest == 0 {
                head
            } else {
                format!("{head} {}", cardinal(rest))
            };
        }
    }
    match value {
        0..20 => ONES[value as usize].to_owned(),
        20..100 => {
            let tens = TENS[(value / 10) as usize];
            if value.is_multiple_of(10) {
                tens.to_owned()
            } else {
                format!("{tens} {}", ONES[(value % 10) as usize])
            }
        }
        _ => {
            let head = format!("{} hundred", ONES[(value / 100) as usize]);
            if value.is_multiple_of(100) {
                head
            } else {
                format!("{head} {}", cardinal(value % 100))
            }
        }
    }
}

fn one_by_one(digits: &str) -> String {
    let words: Vec<&str> = digits
        .bytes()
        .map(|digit| ONES[usize::from(digit - b'0')])
        .collect();
    words.join(" ")
}

fn ordinal(value: u64) -> String {
    let words = cardinal(value);
    let (head, last) = words
        .rsplit_once(' ')
        .map_or(("", words.as_str()), |(head, last)| (head, last));
    let last = match last {
        "one" => "first".into(),
        "two" => "second".into(),
        "three" => "third".into(),
        "five" => "fifth".into(),
        "eight" => "eighth".into(),
        "nine" => "ninth".into(),
        "twelve" => "twelfth".into(),
        _ => match last.strip_suffix('y') {
            Some(stem) => format!("{stem}ieth"),
            None => format!("{last}th"),
        },
    };
    if head.is_empty() {
        last
    } else {
        format!("{head} {last}")
    }
}

fn plural(words: &str) -> String {
    match words.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{words}s"),
    }
}

fn year_words(year: u64) -> String {
    let (century, rest) = (year / 100, year % 100);
    match rest {
        _ if (2000..2010).contains(&year) => cardinal(year),
        0 => format!("{} hundred", cardinal(century)),
        1..10 => format!("{} oh {}", cardinal(century), cardinal(rest)),
        _ => format!("{} {}", cardinal(century), cardinal(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_abbreviations_become_words() {
        for (text, words) in [
            ("I have 23 apples.", "I have twenty three apples."),
            ("250 guests", "two hundred fifty guests"),
            (
                "1,234,567 people",
                "one million two hundred thirty four thousand five hundred sixty seven people",
            ),
            (
                "It costs $4.50 or £1.",
                "It costs four dollars and fifty cents or one pound.",
            ),
            ("$3 million", "three million dollars"),
            ("at 7:30 in the morning", "at seven thirty in the morning"),
            ("at 9:05", "at nine oh five"),
            ("at 8:00 am", "at eight am"),
            (
                "the 22nd of May, 1984",
                "the twenty second of May, nineteen eighty four",
            ),
            (
                "in 2007 and 2024",
                "in two thousand seven and twenty twenty four",
            ),
            ("the 1990s", "the nineteen nineties"),
            ("Dr. Smith met Mrs. Jones", "doctor Smith met missus Jones"),
            ("3.14 is pi", "three point one four is pi"),
            ("-5 degrees", "minus five degrees"),
            ("20°C", "twenty degrees celsius"),
            ("50% off", "fifty percent off"),
            ("5km or 12 kg", "five kilometers or twelve kilograms"),
            ("A4 paper", "A four paper"),
            ("salt & pepper", "salt and pepper"),
            (
                "the 12th, 30th and 101st",
                "the twelfth, thirtieth and one hundred first",
            ),
            ("007", "zero zero seven"),
            ("nothing here.", "nothing here."),
            ("Łódź, Bjørn, a ﬁne Straße", "lódź, Bjorn, a fine Strasse"),
            ("2½ cups, 5 µm", "two one half cups, five micro m"),
        ] {
            assert_eq!(spell_out(text), words, "{text}");
        }
    }

    #[test]
    fn a_word_that_is_too_long_is_cut_and_keeps_its_letters() {
        let spelt = spell_out(&"abcde".repeat(20));
        assert_eq!(spelt.replace(' ', ""), "abcde".repeat(20));
        assert!(spelt.split(' ').all(|word| word.len() <= WORD_LETTERS_MAX));
    }

    #[test]
    fn no_digit_is_left_and_no_text_is_too_strange() {
        for text in [
            "1".repeat(400),
            "9:99:99 $ £ 1,2,3 1.2.3.4 0.0.0".into(),
            "ünï 5°Q −7 12thx 3rdly".into(),
            "$12345678901234567890.99".into(),
        ] {
            let spelt = spell_out(&text);
            assert!(
                !spelt.contains(|c: char| c.is_ascii_digit()),
                "{text} became {spelt}"
            );
        }
    }
}
