"""Sentences as people write them: initialisms, single letters, addresses, versions, figures, units, names. The program's own text
front end (`sottovoce text`) turns them into what pico is given, so that T3 learns what it will be asked.
"""

import json
import random
import re
import subprocess
import tempfile
import unicodedata
from pathlib import Path

from . import corpus

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Initialisms in daily use; most of the others are made of random letters, so that none is learnt by heart.
KNOWN = """API ABC ACL ADHD AI ATM BA BMW BSc CBS CD CEO CFO CIA CNN CPU CSS CSV CTO CV DHL DIY DJ DNA DNS DVD EEG EKG ESPN EU FAQ FBI FM FTP GDP GMT GPS GPU HBO
HD HDMI HIV HR HTML HTTP IBM ID IP IQ ISP IT KFC KGB LA LCD LED LLC LLM MBA MIT MP MRI MTV NBA NBC NFL NGO NHS NPR NYPD OCR PBS PC PDF PE PhD PIN PM PR PS PVC QA QR RGB
RNA RSVP RV SDK SMS SOS SQL SSD SUV TNT TV UFO UK UN UPS URL US USA USB USSR VAT VIP VPN VR WWF XML YMCA""".split()
GIVEN = "ann bob carol dave info support hello sales office news help jobs contact team mail admin jane peter lee maria kim tom alice".split()
DOMAINS = """green hill north river stone garden bank radio museum college market travel sunrise village school music winter summer coffee bread paper blue
silver harbor mountain bright simple open happy little seven orange window bridge example sample""".split()
ENDINGS = "com com com org org net edu gov io co.uk de info".split()
FILES = "report letter photo song notes plan map list budget lesson chapter result image test data".split()
# Between clauses of a long sentence, which the front end cuts again.
JOINTS = """, and|, but|, so|, while| because|, because| and then| although|;| when|, when| if| until| before| after| and| that|, which means that|, or|, as if| where
|, who said that| so that| with the idea that| whereas| since|, and finally""".replace("\n", "").split("|")
KINDS_OF_FILE = "pdf txt mp3 jpg png doc csv zip html exe".split()
UNITS = "kg g mg km m cm mm mi ft in. lb lbs oz L ml mph km/h °C °F GB MB KB TB Hz kHz MHz GHz W kW V kWh A min. sec. hrs ms".split()
# What takes the place of a word in a dictionary's sentence.
REPLACED = "abbr abbr abbr abbr dotted Letter mail web version ip spaced phone decimal money Surname Rare".split()
CURRENCIES = "$ $ $ £ € ¥".split()
MONTHS = "January February March April May June July August September October November December Jan. Feb. Mar. Apr. Aug. Sept. Oct. Nov. Dec.".split()
STREETS = "St. Ave. Rd. Blvd. Dr. Ln.".split()
TITLES = "Dr. Mr. Mrs. Ms. Prof. Capt. Gen. Sgt. Rev. Lt. Sen. Gov. St.".split()
RULERS = "Henry Charles Edward George Louis James William Philip Richard Frederick Peter Elizabeth Mary Catherine Napoleon John Paul Gregory Pius".split()
ROMAN = "I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI".split()
GREEK = "α β γ δ ε θ λ μ π σ τ φ ω Δ Ω Σ".split()
HEADS = "chapter part volume act book section appendix phase world war stage".split()

TEMPLATES = """
6 the {abbr} {past} {thing} {time}.
5 {Name} works for the {abbr}.
5 {Name} joined the {abbr} {time}.
4 {who} has an {abbr} in {abstract}.
4 {who} bought a new {abbr} {time}.
5 is {abbr} {adj}?
4 is the {abbr} in {place}?
5 what does {abbr} mean?
5 {abbr} is {how} {adj}.
4 {abbr} and {abbr} are {adj}.
4 {abbr}, {abbr} and {abbr} are in {place}.
5 {n} {abbr}s were {adj}.
4 the {abbr}s in {place} are {adj}.
4 these {abbr}s are {how} {adj}.
5 please send me the {abbr} {time}.
4 save {thing} as {abbr}, please.
4 put {thing} on the {abbr} card.
4 plug the {abbr} cable into {thing}.
4 they watched it on {abbr} {time}.
4 {Name} studied at {abbr} and moved to {place}.
3 we use {abbr}.
3 he showed us the {abbr}.
3 {greet}, the {abbr} is {adj}.
3 according to the {abbr}, {abstract} is {adj}.
3 the {abbr} report about {abstract} is {adj}.
3 the {abbr}'s {plural} are {adj}.
3 {who} paid by {abbr}.
4 {who} flew to the {dotted} {time}.
3 the {dotted} {plural} were {adj}.
3 {Name} lives in the {dotted}.
4 {Letter} and {Letter} are letters.
4 the letter {Letter} comes before {Letter}.
4 take exit {Letter} to {place}.
3 we sat in row {Letter}.
3 vitamin {Letter} is {adj}.
3 plan {Letter} was {how} {adj}.
3 {Name} got a {Letter} in {abstract}.
3 go to gate {Letter}{n}.
3 room {n}{Letter} is {adj}.
3 {Letter}. {Letter}. {Surname} wrote {thing}.
3 {Name} {Letter}. {Surname} {past} {thing}.
3 it is spelled {Letter} {Letter} {Letter} {Letter}.
3 the code is {Letter}{Letter}{digit}{digit}.
3 flight {Letter}{Letter} {n} is late.
6 write to {mail} {time}.
4 {Name}'s address is {mail}.
4 my e-mail address is {mail}.
3 send {thing} to {mail}, please.
5 look at {web} for {thing}.
4 visit {web} {time}.
3 {who} found it on {web}.
3 go to {web} and look for {thing}.
4 open {file} {time}.
3 {who} sent {file} to {who}.
5 we use version {version} now.
4 version {version} is {adj}.
3 {who} installed v{version} {time}.
3 the update to {version} was {adj}.
5 the server is at {ip}.
3 ping {ip} and wait.
3 {ip} is {adj}.
5 the code is {spaced}.
4 the pin is {spaced}.
4 my number is {phone}.
4 call {phone} {time}.
3 {Name}'s phone number is {phone}.
3 the account number is {spaced}.
5 it is {n} {unit} to {place}.
5 it weighs {n} {unit}.
4 {thing} is {n}{unit} long.
4 {who} needs {decimal} {unit} of {food}.
4 {thing} has {n} {unit}.
3 the speed is {n} {unit}.
4 {thing} costs {money}.
4 it costs {money} in {place}.
4 {who} paid {money} for {thing}.
3 {who} owes {who} {money}.
3 {who} needs {money} for {thing}.
3 the company made {money} in {year}.
3 it was sold for {money} {time}.
3 the {thing2} is {money}.
4 the train leaves at {clock}.
3 it opens at {clock} on {Day}.
3 from {clock} to {clock} {who} is {ing}.
3 meet me at {clock}.
4 {who} came on {date}.
3 {Name} was born on {date}.
3 on {date} {who} {past} {thing}.
3 it began in the {decade}s.
4 {thing} was built in {year}.
3 in {year} {who} moved to {place}.
3 from {year} to {year} {who} lived in {place}.
3 read pages {n}-{n}.
3 there were {n}-{n} {plural}.
3 only {decimal}% of the {plural} are {adj}.
3 about {n}% said no.
3 the answer is {decimal}.
3 the number is {decimal}.
2 add {fraction} cup of {food}.
2 {who} drank {n} {fraction} cups of {food}.
2 it is {fraction} {adj}.
4 {long} people saw it.
3 there are {long} {plural} in {place}.
3 {who} sold {long} {plural}.
2 {n} + {n} = {n}.
2 {n} - {n} = {n}.
2 is {n} > {n}?
2 is {n} < {n}?
2 the angle is {Greek}.
2 {n}{Greek} is {adj}.
3 {Ruler} {Roman} was {adj}.
2 king {Ruler} {Roman} {past} {thing}.
3 {head} {Roman} is about {abstract}.
3 it was -{n} degrees {time}.
2 the temperature fell to -{n}°C.
3 {Title} {Surname} is {how} {adj}.
3 {Title} {Surname} will see you {time}.
2 {Title} {Surname} and {Title} {Surname} {past} {thing}.
3 {who} lives at {n} {Surname} {street}
2 take the No. {n} bus to {place}.
3 {who} finished {nth} in the race.
3 the office is on the {nth} floor.
2 {who} came in {nth} {time}.
2 {food} & {food} are {adj}.
2 {thing}, e.g. the {colour} one, is {adj}.
2 {food}, {food}, etc. are in {place}.
2 it was {Place} vs. {Place}.
2 the score was {n}-{n}.
2 flight {n} is {adj}.
2 bus {n} is late.
3 {Name} {Surname} {past} {thing}.
3 {Surname} and {Surname} live in {Place}.
3 {who} talked to {Name} {Surname} {time}.
3 {Name} {Surname} comes from {Rare}.
3 {Rare} is {how} {adj}.
3 have you been to {Rare}?
2 {Rare} and {Rare} are {adj}.
3 {who} costs {who} {money}.
3 it {verbs} {adj} and {verbs} {thing}.
3 she {verbs} {thing} and he {verbs} {thing}.
""".strip().splitlines()

# The third person, whose last consonant is easily lost.
VERBS = """costs asks gets sits eats puts cuts hits lets meets beats writes waits wants starts tests rests acts helps keeps stops drops jumps looks takes makes asks thinks
walks works breaks speaks laughs reads needs holds sends spends finds builds needs runs turns opens means seems comes gives lives moves loves goes does says sees""".split()


def initialism() -> str:
    if random.random() < 0.35:
        return random.choice(KNOWN)
    return "".join(random.choices(LETTERS, k=random.choice([2, 2, 3, 3, 3, 3, 4, 4, 5])))


def figure() -> str:
    kind = random.random()
    return str(random.randint(0, 12) if kind < 0.3 else random.randint(13, 99) if kind < 0.7 else random.randint(100, 999))


def decimal() -> str:
    whole = random.choice(["0", "", "1", "2", "3", str(random.randint(4, 99))])
    return whole + "." + "".join(random.choices("0123456789", k=random.choice([1, 1, 2, 2, 3])))


def money() -> str:
    sign = random.choice(CURRENCIES)
    amount = random.choice([figure(), figure(), str(random.randint(1, 99)) + f".{random.randint(1, 99):02}", f"{random.randint(1, 999)},{random.choice(['000', '500', '250'])}",
                            str(random.randint(1, 9)) + random.choice(["M", "m", " million", " billion", "k", ".5M"])])
    return amount + "¢" if random.random() < 0.06 and amount.isdigit() else sign + amount if sign != "€" or random.random() < 0.5 else amount + "€"


def date() -> str:
    month, day, year = random.choice(MONTHS), random.randint(1, 28), random.randint(1700, 2035)
    return random.choice([f"{month} {day}, {year}", f"{month} {day}", f"{day} {month} {year}", f"{random.randint(1, 12)}/{day}/{year}", f"the {nth(day)} of {month.rstrip('.')}"])


def nth(n: int) -> str:
    end = "th" if 10 < n % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{end}"


def clock() -> str:
    hour = random.randint(1, 12)
    return random.choice([f"{hour}:{random.randint(0, 59):02}", f"{hour}:00", f"{hour}:{random.choice([15, 30, 45])} {random.choice(['a.m.', 'p.m.', 'AM', 'PM'])}", f"{hour} {random.choice(['a.m.', 'p.m.'])}"])


def phone() -> str:
    one, two, three = random.randint(200, 999), random.randint(100, 999), random.randint(0, 9999)
    return random.choice([f"{two}-{three:04}", f"({one}) {two}-{three:04}", f"{one}-{two}-{three:04}"])


def mail() -> str:
    user = random.choice(GIVEN) if random.random() < 0.6 else random.choice(GIVEN) + random.choice(".-_") + random.choice(DOMAINS)
    return f"{user}@{random.choice(DOMAINS)}.{random.choice(ENDINGS)}"


def web() -> str:
    start = random.choice(["www.", "www.", "", "https://", "http://www."])
    end = random.choice(["", "", "", "/" + random.choice(FILES), "/" + random.choice(DOMAINS)])
    return f"{start}{random.choice(DOMAINS)}.{random.choice(ENDINGS)}{end}"


def capital(words: list[str]):
    return lambda: re.sub(r"^\w", lambda m: m[0].upper(), random.choice(words))


def makers(data: Path) -> dict:
    """What fills the slots that the everyday sentences lack."""
    lists = data / "usr/share/dict/scowl"
    names = [w for w in corpus.scowl(lists, ["english-upper.35", "english-upper.40", "english-upper.50", "english-proper-names.50"]) if "'" not in w and 3 < len(w) < 13]
    names += [w for w in corpus.scowl(lists, ["english-proper-names.80"]) if "'" not in w and 3 < len(w) < 10][:4000]
    plain = corpus.CHOICES
    return {
        "abbr": initialism, "dotted": lambda: "".join(c + "." for c in random.choice(["US", "US", "UK", "UN", "DC", "EU", "USA", "LA"] + ["".join(random.choices(LETTERS, k=3))] * 8)),
        "Letter": lambda: random.choice(LETTERS), "mail": mail, "web": web, "file": lambda: f"{random.choice(FILES)}.{random.choice(KINDS_OF_FILE)}",
        "version": lambda: ".".join(str(random.randint(0, 12)) for _ in range(random.choice([2, 2, 3]))), "ip": lambda: ".".join(str(random.randint(0, 255)) if random.random() < 0.6
                                                                                                                         else random.choice(["0", "1", "10", "127", "192", "168"]) for _ in range(4)),
        "spaced": lambda: " ".join(random.choices("0123456789", k=random.randint(3, 6))), "phone": phone, "unit": lambda: random.choice(UNITS), "decimal": decimal, "n": figure,
        "digit": lambda: random.choice("0123456789"), "money": money, "year": lambda: str(random.randint(1500, 2035)), "decade": lambda: str(random.randint(170, 203) * 10), "clock": clock,
        "date": date, "fraction": lambda: random.choice(["1/2", "1/3", "2/3", "1/4", "3/4", "1/5", "1/8", "3/8"]), "nth": lambda: nth(random.randint(1, 130)),
        "long": lambda: random.choice([f"{random.randint(1, 99)},{random.randint(0, 999):03}", f"{random.randint(1, 9)},000,000", f"{random.randint(1, 999)},000", f"{random.randint(1, 9)},{random.randint(0, 9)}00"]),
        "Greek": lambda: random.choice(GREEK), "Ruler": lambda: random.choice(RULERS), "Roman": lambda: random.choice(ROMAN), "head": lambda: random.choice(HEADS),
        "Title": lambda: random.choice(TITLES), "Surname": capital(names), "Rare": capital(names), "Name": capital(plain["name"]), "street": lambda: random.choice(STREETS),
        "Place": capital("london paris spain italy france japan china india brazil canada germany texas boston chicago".split()), "Day": capital(plain["day"]),
        "thing2": lambda: random.choice(plain["thing"]).split(" ", 1)[-1], "verbs": lambda: random.choice(VERBS),
    }


def sentences(data: Path, count: int, seed: int) -> list[str]:
    """Distinct written sentences: from templates; a dictionary's, one word of which has become what templates have in their slots; and long
    ones of two to four clauses.
    """
    random.seed(seed)
    made_by = makers(data)
    weights, templates = zip(*((int(line.split(" ", 1)[0]), line.split(" ", 1)[1]) for line in TEMPLATES))
    plain = [text.rstrip(".?!") for text in corpus.wordnet(data / "usr/share/wordnet") if len(text.split()) > 3]

    def slot(match: re.Match) -> str:
        return made_by[match[1]]() if match[1] in made_by else random.choice(corpus.CHOICES[match[1]])

    def short() -> str:
        return re.sub(r"\{(\w+)\}", slot, random.choices(templates, weights)[0])

    def replaced() -> str:
        words = random.choice(plain).split()
        words[random.randrange(1, len(words))] = made_by[random.choice(REPLACED)]()
        return " ".join(words) + "."

    def clause() -> str:
        kind = random.random()
        return (random.choice(plain) if kind < 0.6 else corpus.fill(random.choice(corpus.TEMPLATES)) if kind < 0.8 else short()).rstrip(".?!")

    def long() -> str:
        text = clause()
        for _ in range(random.choice([1, 2, 2, 3])):
            text += random.choice(JOINTS) + " " + clause()
        return text + "."

    made: dict[str, None] = {}
    while len(made) < count:
        text = random.choices([short, replaced, long], [0.65, 0.2, 0.15])[0]()
        made[text[0].upper() + text[1:]] = None
    return list(made)


def read(program: Path, texts: list[str]) -> list[str]:
    """What pico's T3 is given for each piece of the texts, but for the case of letters: a capital alone is a letter by name."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n\n".join(texts))
        file.flush()
        answer = subprocess.run([program, "text", "--file", file.name, "--json"], check=True, capture_output=True, text=True).stdout
    return [spoken for piece in json.loads(answer)["pieces"] if (spoken := reduced(piece["spoken"]))]


def reduced(spoken: str) -> str | None:
    """The letters of initialisms apart, plain letters and the marks of the tokenizer; None without a letter."""
    text = unicodedata.normalize("NFKD", spoken)
    text = "".join(c for c in text if not unicodedata.combining(c)).replace("’", "'")
    text = re.sub(r"\b[A-Z]{2,}s?\b", lambda m: " ".join(m[0].rstrip("s")) + ("'s" if m[0].endswith("s") else ""), text)
    text = re.sub(r"[^a-z' ,.?!;-]", " ", re.sub(r"[:—–()]", ",", text), flags=re.IGNORECASE)
    text = re.sub(r"\s+", " ", re.sub(r"[,;\s]*,[,;]*\s*", ", ", text)).strip(" ,;-")
    text = re.sub(r"[.!?]+(?=.)", ",", text)
    # The front end puts a comma between equal words.
    text = re.sub(r"\b([a-z]{3,}) (?=\1\b)", r"\1, ", text, flags=re.IGNORECASE)
    text = text if text[-1:] in (".", "?", "!") else text + "."
    return text if re.search("[A-Za-z]", text) else None
