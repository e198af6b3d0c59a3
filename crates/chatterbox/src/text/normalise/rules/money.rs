//! Amounts of money.

use super::measures::{period, unit, unit_after};
use super::{Reading, Setting, modifies_noun};
use crate::text::normalise::language::{Currency, Language};
use crate::text::normalise::number::Number;
use crate::text::normalise::scan::{Cursor, Scan, first_word};

/// `$20.50`, `$ 10`, `10€`, `£5m`, `-$5`, `$10-20`, `$20/mo`, `100 USD`.
pub(super) fn money(setting: &Setting, cursor: &Cursor<'_>) -> Option<Reading> {
    // The second currency of a pair, `EUR/USD 1.08`, has no amount.
    let pair = cursor.continues_chain() && cursor.rest().starts_with(char::is_alphabetic);
    if !cursor.starts_word() || pair {
        return None;
    }
    let language = setting.language;
    let mut scan = cursor.scan();
    let words = amount(language, &mut scan)?;
    let mut spread = scan;
    if spread.take_any(&['-', '–']).is_some()
        && let Some(number) = Number::read(&mut spread)
        && let large = magnitude(language, &mut spread)
        && spread.ends_word()
        && let each = per(language, &mut spread)
        && !spread.goes_on_as_chain()
        && let Some((low, unit)) = split_unit(language, cursor, scan.used)
        && low.approximately() < number.approximately()
        && (low.part.is_none() || large.is_some())
    {
        let mut words = format!(
            "{} {} {}",
            low.words(language),
            language.words.to,
            number.words(language)
        );
        for part in large.into_iter().chain([unit]).chain(each.as_deref()) {
            words.push(' ');
            words.push_str(part);
        }
        return Reading::new(words, spread.used);
    }
    if modifies_noun(setting, cursor, &scan) || is_adjective(language, cursor, &scan) {
        let names = language.currencies.iter().map(|currency| currency.names);
        let singular = names
            .filter_map(|[one, several]| Some(format!("{}{one}", words.strip_suffix(several)?)))
            .min_by_key(String::len);
        return Reading::new(singular.unwrap_or(words), scan.used);
    }
    Reading::new(words, scan.used)
}

/// `a $1.5-million deal`, `$3-a-day`: an amount joined by a hyphen to what it tells the price of.
fn is_adjective(language: &Language, cursor: &Cursor<'_>, scan: &Scan<'_>) -> bool {
    let written = &cursor.rest()[..scan.used];
    let joined = written.rsplit_once('-');
    let large = joined.is_some_and(|(number, word)| {
        number.ends_with(|c: char| c.is_ascii_digit()) && word.starts_with(char::is_alphabetic)
    });
    let noun = scan.rest.starts_with(' ') && first_word(scan.rest).starts_with(char::is_lowercase);
    let joint = (scan.rest.strip_prefix('-')).and_then(|rest| rest.split_once('-'));
    let each = joint.is_some_and(|(word, _)| {
        word == language.words.per || language.indefinite_articles.contains(&word)
    });
    (large && noun) || each
}

/// A plain amount before a range: its number and its currency.
fn split_unit<'a>(
    language: &Language,
    cursor: &Cursor<'a>,
    length: usize,
) -> Option<(Number<'a>, &'static str)> {
    let mut scan = cursor.scan();
    let currency = sign(language, &mut scan)?;
    scan.space();
    let number = Number::read(&mut scan)?;
    (scan.used == length).then_some((number, currency.names[1]))
}

/// An amount with its sign before or after it.
pub(super) fn amount(language: &Language, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    let mut negative = ahead.take_any(&['-', '−']).is_some();
    let (number, currency, large) = match sign(language, &mut ahead) {
        Some(currency) => {
            ahead.space();
            negative |= ahead.take_any(&['-', '−']).is_some();
            let mut number = Number::read(&mut ahead)?;
            decimal_comma(&mut number, &mut ahead, 2);
            let large = magnitude(language, &mut ahead);
            // `$5 CAD`: the code says which dollar.
            let mut coded = ahead;
            coded.space();
            let mut currencies = language.currencies.iter();
            let coded_currency = currencies.find(|known| {
                let mut codes = known.codes.iter();
                codes.any(|code| first_word(coded.rest) == *code && coded.rest.starts_with(code))
            });
            if coded_currency.is_some() {
                coded.letters();
                ahead = coded;
            }
            (number, coded_currency.unwrap_or(currency), large)
        }
        None => {
            let mut number = Number::read(&mut ahead)?;
            decimal_comma(&mut number, &mut ahead, 1);
            let mut behind = ahead;
            let mut large = magnitude(language, &mut behind);
            if large.is_none() || sign_behind(language, &mut behind.clone()).is_none() {
                behind = ahead;
                large = None;
            }
            let currency = sign_behind(language, &mut behind)?;
            ahead = behind;
            (number, currency, large)
        }
    };
    // `€20,-` and `$19.-`: no cents.
    let mut round = ahead;
    if number.part.is_none()
        && round.take_any(&[',', '.']).is_some()
        && round.take_any(&['-', '–', '—']).is_some()
        && round
            .peek()
            .is_none_or(|c| c.is_whitespace() || matches!(c, '.' | ',' | ')'))
    {
        ahead = round;
    }
    let mut about = ahead;
    let roughly = about.take_ignoring_case(language.words.roughly) && about.ends_word();
    if roughly {
        ahead = about;
    }
    if !ahead.ends_word() {
        return None;
    }
    let mut words = words(language, &number, currency, large);
    if roughly {
        words = format!("{words} {}", language.words.roughly);
    }
    if negative {
        words = format!("{} {words}", language.words.minus);
    }
    // `$5 million dollars` names the currency twice.
    let mut again = ahead;
    if again.space()
        && let Some(name) = currency.names.iter().find(|name| words.ends_with(*name))
        && again.take_ignoring_case(name)
        && again.ends_word()
    {
        ahead = again;
    }
    if let Some(each) = per(language, &mut ahead) {
        words = format!("{words} {each}");
    }
    *scan = ahead;
    Some(words)
}

/// `/mo`, `/kg` after an amount: what it is the price of.
fn per(language: &Language, scan: &mut Scan<'_>) -> Option<String> {
    let mut ahead = *scan;
    ahead.take('/').then_some(())?;
    let short = ahead;
    // `$10/100g`
    let mut counted = ahead;
    if let Some(number) = Number::read(&mut counted)
        && let Some(unit) = unit_after(language, &mut counted)
    {
        *scan = counted;
        let per = language.words.per;
        return Some(format!("{per} {} {}", number.words(language), unit.several));
    }
    let name = period(language, &mut ahead)
        .map(str::to_owned)
        .or_else(|| Some(unit(language, &mut ahead)?.one))?;
    ahead.ends_word().then_some(())?;
    // `$2/mo. on`: the full stop of an abbreviation.
    let written = &short.rest[..ahead.used - short.used];
    let mut stop = ahead;
    let abbreviated = !written.eq_ignore_ascii_case(&name) && stop.take('.');
    if abbreviated && stop.space() && stop.peek().is_some_and(char::is_lowercase) {
        ahead.take('.');
    }
    *scan = ahead;
    Some(format!("{} {name}", language.words.per))
}

/// `€12,50`, `2,5 €`: the cents after a comma, of at least `digits_min` digits.
fn decimal_comma<'a>(number: &mut Number<'a>, scan: &mut Scan<'a>, digits_min: usize) {
    let mut ahead = *scan;
    if number.part.is_some() || number.grouped || !ahead.take(',') {
        return;
    }
    let part = ahead.digits();
    let goes_on = (ahead.rest.strip_prefix(['.', ',']))
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if (digits_min..=2).contains(&part.len()) && !goes_on {
        number.part = Some(part);
        *scan = ahead;
    }
}

/// `$1–$2 million`, `$100k–150k`: two amounts whose magnitude is said once.
pub(super) fn spread(language: &Language, cursor: &Cursor<'_>) -> Option<Reading> {
    let mut scan = cursor.scan();
    let currency = sign(language, &mut scan)?;
    let low = Number::read(&mut scan)?;
    let first = magnitude(language, &mut scan);
    scan.take_any(&['-', '–', '—'])?;
    if let Some(again) = sign(language, &mut scan)
        && again.names != currency.names
    {
        return None;
    }
    let high = Number::read(&mut scan)?;
    let large = magnitude(language, &mut scan)?;
    let ascending = low.approximately() < high.approximately();
    let one_magnitude = first.is_none_or(|first| first == large);
    if !ascending || !one_magnitude || !scan.ends_word() || scan.goes_on_as_chain() {
        return None;
    }
    let words = format!(
        "{} {} {} {large} {}",
        low.words(language),
        language.words.to,
        high.words(language),
        currency.names[1]
    );
    Reading::new(words, scan.used)
}

/// A currency's sign or code before an amount.
fn sign(language: &Language, scan: &mut Scan<'_>) -> Option<&'static Currency> {
    let currencies = language.currencies;
    for currency in currencies {
        if let Some(sign) = (currency.signs.iter()).find(|sign| scan.rest.starts_with(**sign)) {
            scan.skip(sign.len());
            return Some(currency);
        }
    }
    for currency in currencies {
        for code in currency.codes {
            let mut ahead = *scan;
            if ahead.rest.starts_with(code) {
                ahead.skip(code.len());
                ahead.space();
                if ahead.peek().is_some_and(|c| c.is_ascii_digit()) {
                    *scan = ahead;
                    return Some(currency);
                }
            }
        }
    }
    None
}

/// A currency's sign or code after an amount, possibly after a space.
fn sign_behind(language: &Language, scan: &mut Scan<'_>) -> Option<&'static Currency> {
    let currencies = language.currencies;
    let mut ahead = *scan;
    let apart = ahead.space();
    for currency in currencies {
        let code = currency
            .codes
            .iter()
            .find(|code| ahead.rest.starts_with(**code));
        // `20 $` and `20 Rs.` are money; in `5 $5 notes` the sign belongs to the next number.
        let sign = (currency.signs.iter()).find(|sign| ahead.rest.starts_with(**sign));
        let Some(found) = code.or(sign) else {
            continue;
        };
        let mut after = ahead;
        after.skip(found.len());
        let followed = after
            .rest
            .trim_start_matches(' ')
            .starts_with(|c: char| c.is_ascii_digit());
        // `6$$` ends a formula.
        let doubled = after.rest.starts_with(*found);
        if after.ends_word() && !doubled && !(apart && sign.is_some() && followed) {
            *scan = after;
            return Some(currency);
        }
    }
    None
}

/// `million`, ` b`, `k`, `-million`.
fn magnitude<'l>(language: &'l Language, scan: &mut Scan<'_>) -> Option<&'l str> {
    let mut ahead = *scan;
    let apart = ahead.take_any(&[' ', '-']).is_some();
    let word = ahead.letters();
    if word.is_empty() || !ahead.ends_word() {
        return None;
    }
    let (short, name) =
        (language.magnitudes.iter()).find(|(short, _)| short.eq_ignore_ascii_case(word))?;
    // `$5 m` is ambiguous, `$30 b` is not.
    if apart && short.len() == 1 && !matches!(*short, "b" | "m") {
        return None;
    }
    *scan = ahead;
    Some(name)
}

fn words(
    language: &Language,
    number: &Number<'_>,
    currency: &Currency,
    large: Option<&str>,
) -> String {
    let [one, several] = currency.names;
    if let Some(large) = large {
        return format!("{} {large} {several}", number.words(language));
    }
    let name = |is_one: bool| if is_one { one } else { several };
    let Some(part) = number.part else {
        return format!("{} {}", number.words(language), name(number.is_one()));
    };
    let Some(value) = number.value().filter(|_| !currency.parts[0].is_empty()) else {
        return format!("{} {several}", number.words(language));
    };
    // Trailing zeros are dropped; hundredths must be left.
    let trimmed = part.trim_end_matches('0');
    let cents: u64 = match trimmed.len() {
        0 => 0,
        1 => 10 * trimmed.parse().unwrap_or(0),
        2 => trimmed.parse().unwrap_or(0),
        _ => return format!("{} {several}", number.words(language)),
    };
    let whole = format!("{} {}", (language.cardinal)(value), name(value == 1));
    let rest = format!(
        "{} {}",
        (language.cardinal)(cents),
        currency.parts[usize::from(cents != 1)]
    );
    match (value, cents) {
        (_, 0) => whole,
        (0, _) => rest,
        _ => format!("{whole} {} {rest}", language.words.and),
    }
}
