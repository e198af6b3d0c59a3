//! Cases of texts as people paste them, one test per kind.

use super::tests::spoken;

#[test]
fn money_may_have_a_decimal_comma_no_cents_or_one_magnitude_for_two_amounts() {
    spoken(&[
        (
            "Lunch was €12,50.",
            "Lunch was twelve euros and fifty cents.",
        ),
        (
            "2,5 € or 12,50 €",
            "two euros and fifty cents or twelve euros and fifty cents",
        ),
        ("R$ 20,00", "twenty reais"),
        ("$5,10,15", "five dollars, ten, fifteen"),
        ("€20,- and $19.-", "twenty euros and nineteen dollars"),
        ("$1–$2 million", "one to two million dollars"),
        (
            "$100k–150k",
            "one hundred to one hundred fifty thousand dollars",
        ),
        (
            "$500-$1 million",
            "five hundred dollars to one million dollars",
        ),
        ("$300ish", "three hundred dollars ish"),
        (
            "a $1.5-million deal",
            "a one point five million dollar deal",
        ),
        ("a $3-a-day diet", "a three dollar-a-day diet"),
        ("$2.50/gallon", "two dollars and fifty cents per gallon"),
        ("5 cents/mile, 8/day", "five cents per mile, eight per day"),
        ("$100 x 12", "one hundred dollars times twelve"),
    ]);
}

#[test]
fn days_of_one_month_school_years_and_quarters_are_dates() {
    spoken(&[
        ("5-9 November", "the fifth to the ninth of November"),
        (
            "the 5–9 Nov. 2024",
            "the fifth to the ninth of November twenty twenty four",
        ),
        ("1-5 may be enough", "one to five may be enough"),
        (
            "the 2023/2024 year",
            "the twenty twenty three twenty twenty four year",
        ),
        (
            "2023/2030",
            "two thousand twenty three two thousand thirtieths",
        ),
        ("Q1 2024 results", "Q one twenty twenty four results"),
        ("Mon 3 Mar", "Monday the third of March"),
        ("Mon 3 men", "Mon three men"),
        ("the 18th c. and later", "the eighteenth century and later"),
    ]);
}

#[test]
fn times_have_other_forms_too() {
    spoken(&[
        ("8:30–9", "eight thirty to nine"),
        ("John 3:16-18", "John three sixteen to eighteen"),
        ("Psalm 23:1-4", "Psalm twenty three one to four"),
        ("0600 hrs", "oh six hundred hours"),
        ("at 1900 hours", "at nineteen hundred hours"),
        (
            "1900 hours of work",
            "one thousand nine hundred hours of work",
        ),
        ("at 10h15", "at ten fifteen"),
        ("17h30, 2h30", "seventeen thirty, two hours thirty minutes"),
        ("UTC-5", "UTC minus five"),
        ("T-10 minutes", "T minus ten minutes"),
        ("a T-34 tank", "a T-thirty four tank"),
        ("5'30\"", "five minutes thirty seconds"),
        ("10~20", "ten to twenty"),
        ("odds of 1:1,000", "odds of one to one thousand"),
    ]);
}

#[test]
fn numbers_of_services_accounts_rooms_and_models_are_read_as_such() {
    spoken(&[
        ("Call 911 or 112.", "Call nine one one or one one two."),
        (
            "call me or 112 others",
            "call me or one hundred twelve others",
        ),
        (
            "(02) 9374 4000",
            "zero two, nine three seven four, four zero zero zero",
        ),
        (
            "IBAN DE89 3704 0044 0532 0130 00",
            "iban D E eight nine, three seven zero four, zero zero four four, zero five three two, \
             zero one three zero, zero zero",
        ),
        ("order #A1234", "order number A twelve thirty four"),
        ("#A7, #tag7", "number A seven, hashtag tag seven"),
        ("Apt 4B, HWY 1", "Apartment four B, Highway one"),
        ("serial no. XJ-900", "serial number XJ-nine hundred"),
        ("He said no. XML is fine.", "He said no. XML is fine."),
        (
            "a Boeing 737-800",
            "a Boeing seven thirty seven eight hundred",
        ),
        ("an RTX 4090", "an RTX forty ninety"),
        ("dial *67", "dial star sixty seven"),
        ("0b1010", "zero B one zero one zero"),
        ("1E-3", "one times ten to the power of minus three"),
        ("HTTP 404", "HTTP four oh four"),
        ("24/7/365", "twenty four seven three sixty five"),
    ]);
}

#[test]
fn an_amount_before_what_it_measures_is_singular() {
    spoken(&[
        (
            "a 12V battery, 60W bulbs",
            "a twelve volt battery, sixty watts bulbs",
        ),
        (
            "50mm lens, 7 nm process",
            "fifty millimeter lens, seven nanometer process",
        ),
        ("a 6' fence", "a six foot fence"),
        (
            "5ug, 30us, 10 N·m",
            "five micrograms, thirty microseconds, ten newton meters",
        ),
        (
            "120/80 mmHg",
            "one hundred twenty over eighty millimeters of mercury",
        ),
        (
            "98.6F or 350F",
            "ninety eight point six degrees Fahrenheit or three hundred fifty degrees Fahrenheit",
        ),
        ("350 degrees F", "three hundred fifty degrees Fahrenheit"),
        ("seat 14F", "seat fourteen F"),
        (
            "40°42'46\"N",
            "forty degrees forty two minutes forty six seconds north",
        ),
        ("10 L/100 km", "ten liters per one hundred kilometers"),
        (
            "3e8 m/s",
            "three times ten to the power of eight meters per second",
        ),
        ("8.5\" x 11\"", "eight point five inches by eleven inches"),
        (
            "1920×1080, 3 × 4",
            "nineteen twenty by ten eighty, three times four",
        ),
        ("a 5k run, 5k people", "a five k run, five thousand people"),
        ("1.5M, 8B", "one point five million, eight B"),
        (
            "every 4-6 hrs., at most",
            "every four to six hours, at most",
        ),
        ("f/2.8, 12pt", "f two point eight, twelve points"),
        ("10...20", "ten... twenty"),
        ("9/10 dentists", "nine out of ten dentists"),
        ("3/10 miles", "three tenths miles"),
    ]);
}

#[test]
fn roman_numerals_of_pages_and_rulers_and_letters_of_elements_are_known() {
    spoken(&[
        ("page xii, Scene iii", "page twelve, Scene three"),
        ("xii, six", "xii, six"),
        (
            "in the time of Elizabeth I.",
            "in the time of Elizabeth the first.",
        ),
        ("Elizabeth I of England", "Elizabeth the first of England"),
        ("With Elizabeth I agree.", "With Elizabeth I agree."),
        ("H2SO4 so", "H two SO four so"),
        ("(D-N.Y.)", "(D-NY)"),
    ]);
}

#[test]
fn ends_of_file_names_are_read_and_faces_are_not() {
    spoken(&[
        (
            "a .pdf file, the .com bubble",
            "a dot PDF file, the dot com bubble",
        ),
        ("Yes .no", "Yes .no"),
        (
            "s3://bucket/key",
            "s three colon slash slash bucket slash key",
        ),
        ("Hi :) there", "Hi there"),
        ("lol :D", "lol"),
        ("I <3 you", "I love you"),
        ("<3 items", "less than three items"),
        ("thanks <3", "thanks"),
        ("a B- average, an A-", "a B minus average, an A minus"),
        ("A- and B-roads", "A- and B-roads"),
    ]);
}

#[test]
fn words_in_capitals_keep_their_endings_and_initialisms_are_spelt_among_them() {
    spoken(&[
        (
            "THE FOX LOST IT'S SHADOW AND DOESN'T CARE",
            "the fox lost it's shadow and doesn't care",
        ),
        ("I said DON'T do it", "I said don't do it"),
        ("WE'LL see, said NASA'S head", "we'll see, said nasa's head"),
        (
            "PRESIDENT SIGNS DEAL WITH EU AND UK",
            "president signs deal with EU and UK",
        ),
        (
            "LA LA LA, TELL US IT IS OVER",
            "la la la, tell us it is over",
        ),
        ("the FBI's own", "the FBI's own"),
    ]);
}

#[test]
fn paths_from_the_root_and_further_files_are_spelt() {
    spoken(&[
        (
            "Open /etc/nginx/nginx.conf now",
            "Open slash etc slash nginx slash nginx dot CONF now",
        ),
        ("see voice.opus", "see voice dot OPUS"),
    ]);
}

#[test]
fn a_bracketed_zero_of_a_telephone_number_is_not_dialled_from_abroad() {
    spoken(&[
        (
            "+49 (0)30 901820",
            "plus four nine, three zero, nine zero one eight two zero",
        ),
        (
            "+44 (0) 20 7946 0958",
            "plus four four, two zero, seven nine four six, zero nine five eight",
        ),
    ]);
}

#[test]
fn a_time_with_seconds_tells_its_distance_from_utc() {
    spoken(&[
        (
            "at 07:45:30+02:00",
            "at seven hours forty five minutes and thirty seconds UTC plus two",
        ),
        (
            "at 07:45:30-0530",
            "at seven hours forty five minutes and thirty seconds UTC minus five thirty",
        ),
    ]);
}

#[test]
fn charges_scales_and_fractions_of_latex_are_read_to_their_end() {
    spoken(&[
        ("Ca^2+ and SO4^2-.", "Ca two plus and SO four two minus."),
        ("Na^+ is here", "Na plus is here"),
        (
            "E^2 + 1 and x^2+1",
            "E squared plus one and x squared plus one",
        ),
        ("a scale of 1:50,000", "a scale of one to fifty thousand"),
        (r"\frac{1}{2} and more", "one over two and more"),
        ("a } b", "a } b"),
    ]);
}
