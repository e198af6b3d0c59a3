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

#[test]
fn titles_are_known_in_small_letters_where_a_phrase_begins() {
    spoken(&[
        ("st. john", "saint john"),
        ("the dr. said mr. evil", "the doctor said mister evil"),
        ("mt. hill, prof. x", "mount hill, professor x"),
        ("on main st. near", "on main st. near"),
        ("it is at main st. and so", "it is at main st. and so"),
        ("Sens. Lee and Kim", "senators Lee and Kim"),
        (
            "King Harold II and William Gates III",
            "King Harold the second and William Gates the third",
        ),
        ("Rocky III", "Rocky three"),
        ("section v. of", "section five. of"),
        ("Plan B. Later on", "Plan B. Later on"),
        ("see J. Smith", "see J Smith"),
    ]);
}

#[test]
fn months_in_small_letters_are_dates_unless_somebody_does_it() {
    spoken(&[
        ("may 5", "May fifth"),
        ("on may 5, we left", "on May fifth, we left"),
        ("march 3-5", "March third to fifth"),
        ("may 5 people come?", "may five people come?"),
        ("they march 5, then 6", "they march five, then six"),
        ("jan-feb 2020", "January to February twenty twenty"),
        ("2005 - 2008", "two thousand five to two thousand eight"),
        ("in '05, '05", "in oh five, oh five"),
        (
            "due 9/8, by 11/30",
            "due September eighth, by November thirtieth",
        ),
        (
            "by 1/3, by 3/16 of an inch",
            "by one third, by three sixteenths of an inch",
        ),
        ("Wed 3/6, wed 3/6", "Wednesday March sixth, wed March sixth"),
    ]);
}

#[test]
fn two_digits_with_an_s_are_seconds_where_something_lasts() {
    spoken(&[
        (
            "wait 30s, timeout=30s",
            "wait thirty seconds, timeout equals thirty seconds",
        ),
        ("in her 30s, the 80s", "in her thirties, the eighties"),
        ("after the 1930s", "after the nineteen thirties"),
    ]);
}

#[test]
fn amounts_keep_their_periods_and_stops() {
    spoken(&[
        ("$20-30/hr", "twenty to thirty dollars per hour"),
        (
            "$2,450/mo. on time",
            "two thousand four hundred fifty dollars per month on time",
        ),
        ("CHF 6.–.", "six Swiss francs."),
        ("12-oz. cans", "twelve ounce cans"),
        (
            "5 cm^2. sin(0) is 0",
            "five square centimeters. sin(zero) is zero",
        ),
        (
            "1.5M km away, 2 million km, a dozen in",
            "one point five million kilometers away, two million kilometers, a dozen in",
        ),
        ("2012 - 2005", "twenty twelve - two thousand five"),
        (
            "25 bps, 9600 bps, 5 Mbps",
            "twenty five basis points, nine thousand six hundred bits per second, five megabits per second",
        ),
        (
            "50 people/km2, 120 per km^2",
            "fifty people per square kilometer, one hundred twenty per square kilometer",
        ),
        (
            "10 μM, 48MP, 3-d",
            "ten micromolar, forty eight megapixels, three-d",
        ),
        ("5 l per min, per in", "five liters per minute, per in"),
        (
            "410 lb-ft, 32 pts",
            "four hundred ten pound feet, thirty two points",
        ),
        (
            "from 1/10\" to 1/4\".",
            "from one tenth inch to one quarter inch.",
        ),
        (
            "720p, 2796x1290",
            "seven twenty p, twenty seven ninety six by twelve ninety",
        ),
    ]);
}

#[test]
fn codes_streets_and_times_of_letters_are_read_to_their_end() {
    spoken(&[
        (
            "EIN 12-3456789, 12-30, 1-10000",
            "EIN one two, three four five six seven eight nine, twelve to thirty, one to ten thousand",
        ),
        (
            "order #A-104, Key #s",
            "order number A-one hundred four, Key numbers",
        ),
        ("25/11/x", "twenty five/eleven/x"),
        (
            "12 Jan 2024 08:45:12 +0000",
            "the twelfth of January twenty twenty four eight hours forty five minutes and twelve seconds UTC",
        ),
        (
            "1200 17th St. NW, Ste. 400",
            "twelve hundred seventeenth Street Northwest, Suite four hundred",
        ),
        ("42nd st, 3rd Ave", "forty second Street, third Avenue"),
        ("the 3rd Dr. Smith", "the third doctor Smith"),
        ("Jr. Blvd", "junior Boulevard"),
        ("9 to 5, M–F. Then", "nine to five, Monday to Friday. Then"),
        ("401k, a 4K TV", "four oh one k, a four K TV"),
        ("the 49ers", "the forty niners"),
        (
            "20/Jan/2020, at 0800, 0800 men",
            "the twentieth of January twenty twenty, at oh eight hundred, zero eight zero zero men",
        ),
        (
            "$10/100g, 1 c. flour, c. 1500",
            "ten dollars per one hundred grams, one cup flour, circa fifteen hundred",
        ),
        ("Louis the XIV, Ft Knox", "Louis the fourteenth, fort Knox"),
        ("F♯ and B♭", "F sharp and B flat"),
    ]);
}

#[test]
fn indices_and_powers_of_formulas_are_said_without_their_braces() {
    spoken(&[
        ("K_d and x_1", "K d and x one"),
        (
            "$$6CO_2 + C_6H_{12}O_6$$",
            "six CO two plus C six H twelve O six",
        ),
        ("e^{iπ}, x^{2} so", "e to the power of i pi, x squared so"),
        (
            "user_a_1, req_id",
            "user underscore a underscore one, req underscore id",
        ),
        ("e^- and", "e minus and"),
    ]);
}

#[test]
fn marks_with_a_decimal_point_and_times_of_races_are_read_to_their_end() {
    spoken(&[
        (
            "It scored 9.8/10.",
            "It scored nine point eight out of ten.",
        ),
        ("4.5/5 stars", "four point five out of five stars"),
        ("2.5/5 = 0.5", "two point five/five equals zero point five"),
        (
            "a 10K in 26:17.53",
            "a ten K in twenty six minutes and seventeen point five three seconds",
        ),
        (
            "She ran 1:01.5.",
            "She ran one minute and one point five seconds.",
        ),
        ("at 7:30.", "at seven thirty."),
        ("at 7:30.Then", "at seven thirty. Then"),
    ]);
}

#[test]
fn a_dash_directly_before_a_number_behind_a_word_is_a_minus_sign() {
    spoken(&[
        (
            "It was –3 °C, down from –10.",
            "It was minus three degrees Celsius, down from minus ten.",
        ),
        ("1; –3", "one; minus three"),
        ("He left – 3 came.", "He left – three came."),
        ("June 5 –7", "June fifth –seven"),
    ]);
}

#[test]
fn letters_directly_behind_a_number_are_no_acres_and_a_pair_of_currencies_has_no_amount() {
    spoken(&[
        ("802.11ac", "eight hundred two point one one ac"),
        ("5 ac of land", "five acres of land"),
        ("2 qts of milk", "two quarts of milk"),
        (
            "Room 12-A, item 00123-A is",
            "Room twelve-A, item zero zero one two three-A is",
        ),
        ("a 12-V battery", "a twelve volt battery"),
        ("6 ft/1.8 m", "six feet/one point eight meters"),
        (
            "350°F/180°C",
            "three hundred fifty degrees Fahrenheit/one hundred eighty degrees Celsius",
        ),
        ("8 L/100 km", "eight liters per one hundred kilometers"),
        (
            "250 mg/5 mL",
            "two hundred fifty milligrams per five milliliters",
        ),
        (
            "Sell EUR/USD 1.08 now.",
            "Sell EUR/USD one point zero eight now.",
        ),
        ("USD 5", "five US dollars"),
    ]);
}

#[test]
fn paths_from_a_variable_or_above_and_places_in_files_are_spelt() {
    spoken(&[
        ("$HOME/.bashrc", "dollar home slash dot bashrc"),
        ("~/.bashrc", "tilde slash dot bashrc"),
        ("../lib", "dot dot slash lib"),
        (
            "src/main.rs:42:7",
            "SRC slash main dot RS colon four two colon seven",
        ),
        ("$5/month", "five dollars per month"),
    ]);
}

#[test]
fn a_few_initialisms_are_no_shouting() {
    spoken(&[
        (
            "Final: SF 27, DAL 24 (OT)",
            "Final: SF twenty seven, DAL twenty four (OT)",
        ),
        ("STOP IT NOW", "stop it now"),
        ("ATTENTION PLEASE, all here", "attention please, all here"),
    ]);
}
