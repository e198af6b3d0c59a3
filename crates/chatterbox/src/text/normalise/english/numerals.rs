//! English numerals.

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
const SCALES: [(u64, &str); 6] = [
    (1_000_000_000_000_000_000, "quintillion"),
    (1_000_000_000_000_000, "quadrillion"),
    (1_000_000_000_000, "trillion"),
    (1_000_000_000, "billion"),
    (1_000_000, "million"),
    (1_000, "thousand"),
];

pub(super) fn cardinal(value: u64) -> String {
    for (scale, name) in SCALES {
        if value >= scale {
            let head = format!("{} {name}", cardinal(value / scale));
            return followed_by(head, value % scale);
        }
    }
    match value {
        0..20 => ONES[value as usize].to_owned(),
        20..100 => followed_by(TENS[(value / 10) as usize].to_owned(), value % 10),
        _ => followed_by(
            format!("{} hundred", ONES[(value / 100) as usize]),
            value % 100,
        ),
    }
}

fn followed_by(head: String, rest: u64) -> String {
    match rest {
        0 => head,
        _ => format!("{head} {}", cardinal(rest)),
    }
}

pub(super) fn ordinal(value: u64) -> String {
    let words = cardinal(value);
    let (head, last) = words.rsplit_once(' ').unwrap_or(("", &words));
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
    match head {
        "" => last,
        _ => format!("{head} {last}"),
    }
}

pub(super) fn ordinal_ending(value: u64) -> &'static str {
    match (value % 100, value % 10) {
        (11..=13, _) => "th",
        (_, 1) => "st",
        (_, 2) => "nd",
        (_, 3) => "rd",
        _ => "th",
    }
}

pub(super) fn plural(words: &str) -> String {
    match words.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if words.ends_with('x') => format!("{words}es"),
        None => format!("{words}s"),
    }
}

/// A year as two pairs of digits, except round thousands and the years after them.
pub(super) fn year(year: u64) -> String {
    let (century, rest) = (year / 100, year % 100);
    match rest {
        _ if !(1000..10_000).contains(&year) || (century % 10 == 0 && rest < 10) => cardinal(year),
        0 => format!("{} hundred", cardinal(century)),
        1..10 => format!("{} oh {}", cardinal(century), cardinal(rest)),
        _ => format!("{} {}", cardinal(century), cardinal(rest)),
    }
}

/// A fraction: halves and quarters by name, all others by ordinals.
pub(super) fn fraction(numerator: u64, denominator: u64) -> String {
    let one = numerator == 1;
    let below = match (denominator, one) {
        (2, true) => "half".to_owned(),
        (2, false) => "halves".to_owned(),
        (4, true) => "quarter".to_owned(),
        (4, false) => "quarters".to_owned(),
        // Over one and over zero, there is no ordinal.
        (0 | 1, _) => return format!("{} over {}", cardinal(numerator), cardinal(denominator)),
        (_, true) => ordinal(denominator),
        (_, false) => format!("{}s", ordinal(denominator)),
    };
    format!("{} {below}", cardinal(numerator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerals_match_spoken_english() {
        assert_eq!(cardinal(0), "zero");
        assert_eq!(cardinal(115), "one hundred fifteen");
        assert_eq!(cardinal(1_000_012), "one million twelve");
        assert_eq!(
            cardinal(u64::MAX),
            "eighteen quintillion four hundred forty six quadrillion seven hundred forty four \
             trillion seventy three billion seven hundred nine million five hundred fifty one \
             thousand six hundred fifteen"
        );
        assert_eq!(ordinal(0), "zeroth");
        assert_eq!(ordinal(20), "twentieth");
        assert_eq!(ordinal(122), "one hundred twenty second");
        assert_eq!(year(1900), "nineteen hundred");
        assert_eq!(year(1905), "nineteen oh five");
        assert_eq!(year(2000), "two thousand");
        assert_eq!(year(2008), "two thousand eight");
        assert_eq!(year(2105), "twenty one oh five");
        assert_eq!(fraction(3, 4), "three quarters");
        assert_eq!(fraction(1, 2007), "one two thousand seventh");
        assert_eq!(fraction(5, 2), "five halves");
        assert_eq!(plural("nineteen eighty"), "nineteen eighties");
    }
}
