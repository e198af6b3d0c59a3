//! The tables of a language that the rules use.

/// A language's words and tables. Another language is another value of this type.
pub(super) struct Language {
    /// The words of a cardinal.
    pub cardinal: fn(u64) -> String,
    /// The words of an ordinal.
    pub ordinal: fn(u64) -> String,
    /// The words of a year.
    pub year: fn(u64) -> String,
    /// The words of a fraction, from its numerator and denominator.
    pub fraction: fn(u64, u64) -> String,
    /// The plural of a number's words, as in `nineteen eighties`.
    pub plural: fn(&str) -> String,
    /// Zero to nine.
    pub digits: [&'static str; 10],
    /// Function words between numbers and signs.
    pub words: Words,
    /// January to December.
    pub months: [Month; 12],
    /// Weekdays and their abbreviations.
    pub weekdays: &'static [(&'static str, &'static str)],
    /// Endings of ordinals: `st`, `nd`, `rd`, `th`.
    pub ordinal_endings: &'static [&'static str],
    /// The correct ending for a number.
    pub ordinal_ending: fn(u64) -> &'static str,
    /// Abbreviations and names of thousands and more, longest first.
    pub magnitudes: &'static [(&'static str, &'static str)],
    /// Currencies.
    pub currencies: &'static [Currency],
    /// Abbreviations after a slash, as in `$20/mo`, and their words.
    pub periods: &'static [(&'static str, &'static str)],
    /// Units.
    pub units: &'static [Unit],
    /// Abbreviations.
    pub abbreviations: &'static [Abbreviation],
    /// Phrases with a reading of their own, in lower case, longest first.
    pub phrases: &'static [(&'static str, &'static str)],
    /// Names of signs and Greek letters.
    pub signs: &'static [(char, &'static str)],
    /// Names of operators of more than one character, longest first.
    pub operators: &'static [(&'static str, &'static str)],
    /// Names of LaTeX's commands.
    pub commands: &'static [(&'static str, &'static str)],
    /// Names of signs in web addresses.
    pub address_signs: &'static [(char, &'static str)],
    /// Abbreviations and words of street types.
    pub streets: &'static [(&'static str, &'static str)],
    /// Short and long names of numbered roads and rooms.
    pub roads: &'static [(&'static str, &'static str)],
    /// Compass directions before a street name.
    pub directions: &'static [(&'static str, &'static str)],
    /// States: postal code, name.
    pub states: &'static [(&'static str, &'static str)],
    /// Words after which a Roman numeral is a number: `chapter`, `part`.
    pub numbered: &'static [&'static str],
    /// Words before which a Roman numeral is an ordinal: `century`.
    pub counted_in_order: &'static [&'static str],
    /// Given names after which a Roman numeral is an ordinal.
    pub given_names: &'static [&'static str],
    /// Titles before the given name of a ruler.
    pub royal_titles: &'static [&'static str],
    /// Words before a score out of a hundred or less: `rated 8/10`.
    pub score_words: &'static [&'static str],
    /// Plural nouns and their company: words before which a number may itself be a plural, as in
    /// `two 911s`.
    pub several_words: &'static [&'static str],
    /// Articles of one thing of several.
    pub indefinite_articles: &'static [&'static str],
    /// Articles.
    pub articles: &'static [&'static str],
    /// Words after the apostrophe of feet: `5' tall`.
    pub length_words: &'static [&'static str],
    /// Words before a number with a letter: `gate 12A`.
    pub lettered: &'static [&'static str],
    /// Makers and series before the numbers of their models, which are read in pairs of digits.
    pub paired: &'static [&'static str],
    /// Endings of units that measure the same, a row for each quantity.
    pub quantities: &'static [&'static [&'static str]],
    /// Nouns before which an amount with its unit is singular: `a 12 V battery`.
    pub measured: &'static [&'static str],
    /// Units of which tenths are fractions: `3/10 miles`.
    pub divided: &'static [&'static str],
    /// Words that follow a mark out of ten: `2/10 would not come again`.
    pub verdicts: &'static [&'static str],
    /// Words before codes, whose digits are read one by one.
    pub code_words: &'static [&'static str],
    /// Words before a month and a day in digits: `due 9/8`.
    pub dated: &'static [&'static str],
    /// Words before a month and a day in digits, or a fraction: `by 11/30`, `by 1/3`.
    pub deadlines: &'static [&'static str],
    /// Words before a number of seconds: `wait 30s`.
    pub timed: &'static [&'static str],
    /// Words before years of four digits.
    pub year_words: &'static [&'static str],
    /// Capitalised words that are not names: articles, pronouns.
    pub function_words: &'static [&'static str],
    /// Words in capitals that are read as words.
    pub capital_words: &'static [&'static str],
    /// Words in capitals that are read letter by letter although they look like words.
    pub initialisms: &'static [&'static str],
    /// Time zones, in capitals.
    pub time_zones: &'static [&'static str],
}

/// Function words.
pub(super) struct Words {
    pub point: &'static str,
    pub minus: &'static str,
    pub plus: &'static str,
    pub from: &'static str,
    pub to: &'static str,
    pub by: &'static str,
    pub times: &'static str,
    pub per: &'static str,
    pub and: &'static str,
    pub the: &'static str,
    pub of: &'static str,
    pub number: &'static str,
    pub hashtag: &'static str,
    pub version: &'static str,
    pub o_clock: &'static str,
    pub oh: &'static str,
    pub hundred: &'static str,
    pub hours: [&'static str; 2],
    pub minutes: [&'static str; 2],
    pub seconds: [&'static str; 2],
    pub to_the_power_of: &'static str,
    pub factorial: &'static str,
    pub divided_by: &'static str,
    pub squared: &'static str,
    pub cubed: &'static str,
    pub slash: &'static str,
    pub colon: &'static str,
    pub extension: &'static str,
    pub over: &'static str,
    pub out_of: &'static str,
    pub on: &'static str,
    pub ten: &'static str,
    pub star: &'static str,
    /// What joined to an amount makes it a rough one: `$20ish`.
    pub roughly: &'static str,
    pub bc: &'static [&'static str],
}

/// A month.
pub(super) struct Month {
    pub name: &'static str,
    /// Abbreviations without the full stop.
    pub short: &'static [&'static str],
    /// Whether the name or an abbreviation in lower case is also another word.
    pub ambiguous: bool,
}

/// A currency.
pub(super) struct Currency {
    /// Signs before or after an amount, longest first.
    pub signs: &'static [&'static str],
    /// Codes after or before an amount.
    pub codes: &'static [&'static str],
    /// Singular and plural.
    pub names: [&'static str; 2],
    /// Singular and plural of a hundredth; empty where it is not used.
    pub parts: [&'static str; 2],
}

/// A unit.
pub(super) struct Unit {
    /// Abbreviations; case-sensitive up to two letters.
    pub short: &'static [&'static str],
    /// Singular and plural.
    pub names: [&'static str; 2],
    pub distance: Distance,
}

/// Where an abbreviation of a unit may stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Distance {
    /// Directly behind its number or after a space: `5 kg` is always a mass.
    Any,
    /// Directly behind its number: `5 A` may be anything.
    Touching,
    /// After a space: `802.11ac` and `costs 5c.` are no acres and cups.
    Apart,
}

impl Distance {
    /// Whether the unit may stand after a space, or else directly behind its number.
    pub fn allows(self, apart: bool) -> bool {
        match self {
            Distance::Any => true,
            Distance::Touching => !apart,
            Distance::Apart => apart,
        }
    }
}

/// When an abbreviation stands for its word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// With its full stop.
    Always,
    /// With or without its full stop.
    Plain,
    /// Before a capitalised word, with its full stop.
    BeforeName,
    /// Before a capitalised word, with or without a full stop.
    Title,
    /// Before a digit, with its full stop.
    BeforeNumber,
}

/// An abbreviation.
pub(super) struct Abbreviation {
    /// In lower case, without the last full stop.
    pub short: &'static str,
    pub word: &'static str,
    pub when: When,
}

impl Language {
    /// The weekday of a name or abbreviation, ignoring case.
    pub fn weekday(&self, word: &str) -> Option<&'static str> {
        let is_meant = |known: &str| known.eq_ignore_ascii_case(word);
        let mut days = self.weekdays.iter();
        let (day, _) = days.find(|(day, short)| is_meant(day) || is_meant(short))?;
        Some(day)
    }

    /// Whether two units measure the same, so that neither divides the other.
    pub fn same_quantity(&self, one: &str, other: &str) -> bool {
        let quantity = |unit: &str| {
            let mut rows = self.quantities.iter();
            rows.position(|endings| endings.iter().any(|ending| unit.ends_with(ending)))
        };
        quantity(one).is_some() && quantity(one) == quantity(other)
    }

    /// Reads digits one by one; other characters are skipped.
    pub fn one_by_one(&self, digits: &str) -> String {
        let words: Vec<&str> = digits
            .bytes()
            .filter(u8::is_ascii_digit)
            .map(|digit| self.digits[usize::from(digit - b'0')])
            .collect();
        words.join(" ")
    }

    /// A number of one or two digits after an hour or a century: `oh five`, `thirty`.
    pub fn pair(&self, value: u64) -> String {
        match value {
            0..10 => format!("{} {}", self.words.oh, (self.cardinal)(value)),
            _ => (self.cardinal)(value),
        }
    }
}

/// Whether a table of lower-case words contains `word`, ignoring case.
pub(super) fn holds(table: &[&str], word: &str) -> bool {
    table.iter().any(|known| known.eq_ignore_ascii_case(word))
}
