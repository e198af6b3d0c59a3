"""Text to train on: WordNet's example sentences, everyday sentences from templates, and word lists that cover the vocabulary.

All of it is lower case with numbers spelt out, which is what the text front end hands to the tokenizer.
"""

import random
import re
from pathlib import Path

ALLOWED = re.compile(r"[a-z' ,.?!;-]+")
WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")

ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS = ". . twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINAL = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth", "twelve": "twelfth"}

SLOTS = {
    "name": """anna ben clara david emma frank grace henry isabel jack karen leo maria nina oliver peter rachel sam tom victor wendy john mary james robert michael
        sarah susan alice paul mark linda barbara elizabeth jennifer thomas charles daniel matthew george kevin brian edward steven andrew laura helen julia kate lucy
        jane martin simon philip alex chris jessica amanda megan hannah sophie olivia emily charlotte william joseph ryan eric adam tony joe bob bill jim mike dave""",
    "who": """my mother|my father|my sister|my brother|the teacher|the doctor|our neighbour|the manager|her husband|his wife|the driver|the children|my friend|everyone|nobody|
        somebody|the old man|the young woman|the little girl|that boy|my uncle|my aunt|the captain|the nurse|the engineer|the students|the whole team|the police officer|my boss|
        the lawyer|the waiter|the farmer|the singer|our guests|the tourists|my cousin|the baby|the shopkeeper|the scientist|the president|the audience|a stranger|the plumber|
        the customers|the workers|the professor|the writer|my grandmother|your grandfather|the mayor|the pilot|the artist|the cook|the gardener|the secretary|the soldiers""",
    "pron": "i|you|we|they|he|she",
    "place": """the kitchen|the garden|the office|the library|the station|the airport|the hospital|the supermarket|the park|the beach|the mountains|the city|the village|
        the museum|the school|the restaurant|the hotel|the bank|the post office|the market|the forest|the river|the lake|the church|the theatre|the cinema|the bus stop|the bridge|
        the harbour|the living room|the bathroom|the bedroom|the street|the shop|the university|london|paris|new york|berlin|the country|the farm|the factory|the square|
        the island|the corner|the basement|the garage|the bakery|the pharmacy|the gym|the playground|the conference room|the stadium|the castle|america|england|france|germany|
        italy|spain|china|japan|india|canada|australia|africa|europe|california|chicago|washington|the desert|the valley|the coast""",
    "thing": """the book|the keys|a letter|the newspaper|my phone|the computer|the bicycle|the car|a ticket|the umbrella|the suitcase|an apple|the bread|some water|the window|
        the door|the lamp|the chair|the table|the picture|the camera|your jacket|the shoes|the hat|a present|the report|the contract|the email|the message|the answer|the question|
        the money|the map|the medicine|the cup|the bottle|the knife|the plate|the clock|the radio|the television|the piano|the guitar|the ball|the box|the bag|the basket|
        the blanket|the pillow|the mirror|the candle|the ladder|the hammer|a pencil|the paper|the package|the dictionary|the calendar|my glasses|the battery|the charger|
        the screen|the keyboard|the printer|the ring|the necklace|the coat|a sandwich|the cake|the recipe|the project|the plan|the list|the photograph|the address|the password|
        a chocolate|the engine|the wheel|the machine|the rope|the stone|the flowers|the dog|the cat|the horse|the bird|the fish|the rabbit|the chicken|the tree|the grass""",
    "food": """coffee|tea|bread|cheese|soup|rice|pasta|pizza|salad|fruit|chicken|fish|vegetables|potatoes|tomatoes|onions|carrots|oranges|apples|bananas|strawberries|ice cream|
        chocolate|honey|butter|milk|orange juice|cold water|red wine|a sandwich|an omelette|fresh bread|eggs|sugar|salt|pepper|cake|biscuits|breakfast|lunch|dinner|mushrooms|
        lemonade|garlic|noodles|pancakes|beans|beef|yoghurt|nuts""",
    "adj": """good bad happy sad tired hungry angry ready late early busy quiet loud strange beautiful ugly expensive cheap difficult easy important dangerous safe warm cold hot
        cool wet dry clean dirty heavy light empty full open closed broken new old young strong weak famous funny boring interesting wonderful terrible perfect careful lazy
        brave nervous comfortable uncomfortable possible impossible necessary useful useless delicious fresh sweet bitter sour soft hard smooth rough thick thin wide narrow deep
        shallow high low fast slow bright dark clear cloudy sunny windy foggy healthy sick lonely friendly polite rude honest clever stupid serious simple complicated normal
        unusual excellent amazing awful ordinary modern ancient private public local foreign free jealous grateful proud ashamed surprised excited disappointed worried confused
        certain sure wrong right true false alone asleep awake alive afraid""",
    "colour": "red blue green yellow white black brown grey purple orange pink silver golden",
    "verb": """find|bring|take|see|buy|sell|forget|remember|open|close|carry|move|clean|repair|break|lose|keep|choose|check|change|use|hide|show|send|need|want|like|finish|start|
        touch|throw|catch|paint|draw|wash|cut|build|lift|push|pull|hold|watch|examine|borrow|return|share|describe|understand|explain|collect|deliver|order|replace|steal|drop""",
    "past": """found|brought|took|saw|bought|sold|forgot|remembered|opened|closed|carried|moved|cleaned|repaired|broke|lost|kept|chose|checked|changed|used|hid|showed us|sent|
        needed|wanted|liked|finished|started|touched|threw away|caught|painted|drew|washed|cut|built|lifted|pushed|pulled|held|watched|examined|borrowed|returned|shared|described|
        understood|explained|collected|delivered|ordered|replaced|stole|dropped|left behind|put down|picked up|looked at|talked about|asked about|paid for|thought about""",
    "intr": """sleep|wait|work|walk|run|swim|dance|sing|laugh|cry|talk|listen|leave|stay|eat|drink|read|write|think|study|travel|drive|sit down|stand up|come back|go home|wake up|
        get up|go out|come in|relax|rest|practise|try again|help|start|stop|continue|cook|play|jump|fly|climb|shout|whisper|smile|fall asleep|hurry up|slow down|call back|
        go to bed|move on|give up|look around|turn left|turn right|go straight ahead|be quiet|be careful|have a break|take a shower|catch the bus|make a mistake|have a look""",
    "ing": """sleeping waiting working walking running swimming dancing singing laughing crying talking listening leaving eating drinking reading writing thinking studying travelling
        driving sitting standing cooking playing jumping flying climbing shouting whispering smiling looking watching building painting cleaning shopping fishing learning teaching
        raining snowing getting going coming growing moving losing winning trying helping asking answering calling""",
    "time": """today|tomorrow|yesterday|tonight|this morning|this afternoon|this evening|next week|last week|next month|last month|next year|last year|on monday|on tuesday|on wednesday|
        on thursday|on friday|on saturday|on sunday|in the morning|in the afternoon|in the evening|at night|at noon|at midnight|every day|every week|twice a week|once a month|right now|
        later|soon|again|in an hour|in a few minutes|after lunch|before dinner|after school|before work|all day|for a long time|since january|in february|in march|in april|in may|
        in june|in july|in august|in september|in october|in november|in december|in the summer|in the winter|in spring|in autumn|on the weekend|as soon as possible|immediately|
        as usual|at once|the day after tomorrow|two days ago|a long time ago|from time to time""",
    "adv": "quickly slowly carefully quietly loudly always never often sometimes usually really finally suddenly certainly probably perhaps already almost together easily hardly simply politely exactly",
    "how": "very|quite|rather|too|so|really|a little|extremely|not|almost|much too|not very|pretty|surprisingly|absolutely",
    "month": "january february march april may june july august september october november december",
    "day": "monday tuesday wednesday thursday friday saturday sunday",
    "unit": "minutes|hours|days|weeks|months|years|kilometres|miles|metres|dollars|euros|pounds|people|pages|degrees|percent|litres|seconds|cents|feet|inches|kilograms|times|steps",
    "plural": """dogs|cats|books|houses|cars|trees|birds|children|men|women|friends|letters|questions|answers|problems|students|flowers|chairs|windows|tickets|rooms|cups|glasses|
        horses|boxes|cities|countries|languages|songs|stories|photographs|computers|messages|bridges|buses|trains|planes|boats|eggs|apples|shoes|stars|mountains|rivers|islands""",
    "weather": "raining|snowing|sunny|cloudy|windy|very cold|quite warm|foggy|too hot|freezing|stormy|getting dark|humid|lovely",
    "abstract": """the weather|the news|the truth|the problem|the solution|the idea|music|history|science|mathematics|art|politics|love|friendship|happiness|freedom|education|technology|
        football|tennis|the future|the past|your opinion|my decision|the situation|the difference|life|nature|the environment|health|the economy|the government|the law|the result|
        the meeting|the game|the party|the wedding|the exam|the holiday|the journey|the concert|the film|the story|the song|english|french|german|spanish|the internet|the language|
        the price|the quality|the noise|the traffic|the accident|the experience|the silence|the beginning|the end""",
    "greet": """hello|hi|good morning|good afternoon|good evening|hey|dear friends|excuse me|thank you|thanks|welcome|sorry|okay|well|yes|no|of course|please|oh|listen|look|actually|
        by the way|unfortunately|fortunately|in fact|for example|however|anyway|first of all|to be honest|in my opinion|as you know|of course not|not at all|never mind|all right""",
}

# Words in 's that are no possessives.
SHORTENED = "it's he's she's that's there's what's who's where's here's how's when's why's let's everyone's somebody's nobody's something's nothing's".split()

# Words of today that old lists lack.
MODERN = """
american british canadian mexican italian french spanish german dutch swiss swedish norwegian polish turkish greek russian ukrainian chinese japanese korean indian brazilian
african european asian australian irish scottish welsh english texas florida boston seattle dallas denver houston philadelphia phoenix detroit miami atlanta toronto vancouver
montreal sydney melbourne dublin edinburgh manchester oxford cambridge amsterdam brussels vienna rome venice florence milan madrid barcelona lisbon athens moscow warsaw prague
budapest stockholm oslo copenhagen helsinki zurich geneva munich hamburg frankfurt istanbul cairo nairobi delhi mumbai tokyo kyoto beijing shanghai seoul singapore bangkok mexico
brazil argentina chile peru colombia egypt kenya nigeria morocco israel iran iraq turkey greece russia ukraine poland austria switzerland sweden norway denmark finland belgium
netherlands holland portugal ireland scotland wales korea vietnam thailand indonesia pakistan iceland alaska hawaii internet website online email emails laptop smartphone
tablet software hardware app apps download downloads upload video videos selfie blog podcast wifi router google amazon apple microsoft facebook twitter youtube netflix computer
computers keyboard robot robots drone battery charger headphones microphone speaker speakers camera printer scanner password username login database server streaming pizza pasta
spaghetti lasagna hamburger burger fries sushi taco tacos burrito salad sandwich pancake pancakes waffle waffles muffin cookie cookies brownie donut yogurt smoothie espresso
cappuccino latte chocolate vanilla cinnamon broccoli spinach avocado zucchini cucumber tomato tomatoes potato potatoes mango pineapple watermelon raspberry blueberry strawberry
elephant giraffe penguin dolphin kangaroo hippopotamus rhinoceros crocodile squirrel hamster puppy kitten butterfly mosquito dinosaur football basketball baseball volleyball
tennis hockey soccer yoga gym marathon bicycle motorcycle scooter helicopter airplane airport subway taxi suitcase passport luggage hotel receptionist apartment elevator
escalator sofa couch fridge refrigerator microwave dishwasher vacuum toothbrush toothpaste shampoo towel umbrella sunglasses sneakers jeans hoodie sweater pajamas neighbor
neighbors neighborhood favorite color colors flavor theater center gray mom dad grandma grandpa kid kids guy guys okay yeah wow oops hello hi bye goodbye thanks smith johnson
williams brown jones miller davis wilson anderson taylor thompson white harris clark lewis walker hall allen young king wright scott green baker adams nelson carter mitchell
roberts turner phillips campbell parker evans edwards collins stewart morris rogers cook morgan cooper peterson bailey reed kelly howard cox ward richardson watson brooks
jacob ethan noah liam mason lucas logan aiden elijah jackson benjamin samuel nathan isaac luke jason justin brandon tyler zachary nicholas jonathan christopher anthony patrick
timothy richard donald kenneth ronald gary larry jeffrey scott frank gregory raymond dennis jerry walter peter harold douglas carl arthur roger keith jeremy sean ava mia isabella
madison abigail elizabeth victoria grace chloe zoe lily natalie samantha ashley brittany amber stephanie nicole melissa michelle kimberly lisa angela heather amy rebecca sharon
cynthia kathleen shirley dorothy debra patricia deborah margaret marie diana alexandra caroline katherine catherine valerie monica veronica christine christina andrea erica
allison vanessa gabriel sebastian diego carlos miguel jose antonio fernando pedro pablo luis jorge maria sofia lucia shakespeare einstein newton darwin mozart beethoven picasso
napoleon lincoln kennedy obama photosynthesis algorithm electricity vaccine virus pandemic climate solar carbon dioxide oxygen hydrogen satellite astronaut telescope galaxy
smartwatch sustainable renewable recycling mindfulness entrepreneur startup investor salary mortgage invoice spreadsheet deadline feedback teamwork colleague colleagues
""".split()

TEMPLATES = """
{who} {past} {thing} {time}.
{name} {past} {thing} in {place}.
{who} is {ing} in {place}.
{pron} will {verb} {thing} {time}.
{pron} can't {verb} {thing} {time}.
{pron} didn't {verb} {thing}.
{pron} should {adv} {verb} {thing}.
{pron} would like to {verb} {thing}, please.
could you {verb} {thing} for me, please?
can you {verb} {thing}?
would you like some {food}?
do you want to {intr} with {name}?
did {name} {verb} {thing} {time}?
have you ever been to {place}?
where is {thing}?
where did you put {thing}?
who {past} {thing}?
why is {who} so {adj}?
why are you {ing}?
when will {who} {intr}?
what do you think about {abstract}?
what time does {who} {intr}?
how much does {thing} cost?
how many {plural} are there in {place}?
how old is {name}?
how far is it to {place}?
how do i get to {place}?
is {thing} {adj}?
is there any {food} left?
are you {adj}?
are they {ing} in {place}?
isn't it {adj}?
please {verb} {thing}.
please don't {verb} {thing}.
please {intr}.
don't {intr} {time}.
let's {intr} {time}.
let me {verb} {thing}.
let us {intr} in {place}.
{verb} {thing} and {intr}.
turn on the lights in {place}.
put {thing} on the table.
go to {place} and {verb} {thing}.
meet me at {place} at {clock}.
it is {weather} {time}.
the weather in {place} is {adj}.
it was {how} {adj} in {place}.
{greet}, {name}.
{greet}, my name is {name}.
{greet}, how are you {time}?
{greet}, {pron} can {intr}.
{greet}, {thing} is {how} {adj}.
{greet}, {who} is {ing}.
nice to meet you, {name}.
see you {time}.
see you at {clock}.
i'm {adj}.
i'm {ing} {time}.
you're {how} {adj}.
he's {ing} with {name}.
she's {adj} and {adj}.
we're {ing} in {place} {time}.
they're not {adj}.
it's {how} {adj} to {intr}.
that's {how} {adj}.
there's {thing} in {place}.
there are {number} {plural} in {place}.
there are {number} {plural}.
{name} has {number} {plural}.
we have {number} {plural} and {number} {plural}.
the room is {number} metres long.
it takes {number} {unit} to get to {place}.
the train leaves at {clock}.
the meeting starts at {clock} {time}.
it's {clock}.
the shop opens at {clock} and closes at {clock}.
my birthday is on {month} the {ordinal}.
today is {day}, the {ordinal} of {month}.
it happened on {month} {ordinal}, {year}.
{name} was born in {year}.
in {year}, {who} {past} {thing}.
the {ordinal} world war ended in {year}.
it costs {number} dollars and {number} cents.
the temperature is {number} degrees.
about {number} percent of the {plural} are {adj}.
{number} plus {number} is {number}.
{number} minus {number} equals {number}.
the answer is {number}.
my phone number is {digits}.
the code is {digits}.
call {digits} {time}.
flight {digits} to {place} is late.
room {number} is on the {ordinal} floor.
chapter {number} is about {abstract}.
page {number} is missing.
turn left after {number} {unit}.
{number} {unit} is {how} {adj}.
the population is about {number} million.
the version is {small} point {small}.
i need {number} {unit} more.
{who} paid {number} dollars for {thing}.
she is {number} years old.
{name} and {name} {past} {thing}.
{who} said that {abstract} is {adj}.
i think {abstract} is {how} {adj}.
i don't know where {name} is.
i hope you like {abstract}.
i've {adv} liked {abstract}.
i'd rather have {food} than {food}.
i'll have {food} and {food}, please.
we had {food} for {food}.
my favourite colour is {colour}.
the {colour} {plural} are {adj}.
the {colour} one is {how} {adj}.
a {adj} {colour} bird is {ing} in the tree.
the {adj} {plural} were {ing} in {place}.
{plural} and {plural} are {adj}.
all the {plural} {time} were {adj}.
{who} never wanted to {intr}.
{who} has to {intr} {time}.
{who} was {ing} when {name} came in.
if {pron} {intr}, {who} will {intr}.
if it is {weather}, we will {intr}.
when i was young, i {past} {thing}.
before you {intr}, {verb} {thing}.
after that, {who} {past} {thing}.
because it was {weather}, {who} {past} {thing}.
although it was {adj}, {name} {past} {thing}.
{thing} belongs to {who}.
{thing} is in {place}.
{thing} was {how} {adj}, so {pron} {past} {thing}.
this is {who}, and that is {name}.
this {food} tastes {adj}.
these {plural} are {how} {adj}.
those {plural} aren't {adj}.
which {plural} do you like best?
whose {plural} are these?
what a {adj} day!
what {adj} {plural}!
how {adj}!
watch out!
be {adj}!
{verb} it {adv}!
i can't believe it!
i love {food}!
i love {abstract}.
thank you very much for {thing}.
thanks for {ing}.
sorry, i'm late.
sorry, i didn't {verb} {thing}.
no, {pron} can't {intr}.
yes, {pron} will {intr} {time}.
everything is {adj} {time}.
nothing is {adj}.
{who} lives in {place}.
{name} works at {place} {time}.
{name} comes from {place}.
we went to {place} to {intr}.
they travelled from {place} to {place}.
{who} looks {adj}.
{who} felt {how} {adj} {time}.
{who} {adv} {past} {thing}.
{thing} and {thing} are in {place}.
could i have {food} with {food}?
may i {intr}?
shall we {intr} {time}?
must you {intr}?
won't you {intr}?
doesn't {name} like {food}?
weren't you at {place}?
{name}'s {plural} are {adj}.
{name}'s brother {past} {thing}.
the {adj} man gave {name} {thing}.
tell {name} to {intr}.
ask {who} about {abstract}.
remember to {verb} {thing}.
don't forget {thing}.
have a {adj} day.
good night, {name}.
happy birthday, {name}!
merry christmas and a happy new year!
""".strip().splitlines()

# Several numbers in one sentence, which a small model confuses with each other.
NUMBERS = """
{who} walked from number {number} to number {number}.
it rose from {number} {unit} to {number} {unit} {time}.
the rent fell from {number} dollars to {number} dollars.
between {number} and {number} {plural} were {adj}.
{number} or {number} {unit} is {how} {adj}.
either {number} or {number}, but not {number}.
{number}, {number}, {number}, {number}.
not {number} dollars, {number} dollars.
{who} sold {number} {plural} for {number} dollars.
{thing} costs {number} euros, {thing} costs {number}.
from {clock} to {clock}, {who} is {ing}.
bus {number} to {place} leaves at {clock}.
open from {day} to {day}, from {clock} to {clock}.
on {month} {ordinal}, {year}, {name} {past} {thing}.
from {year} to {year}, {who} lived in {place}.
{name} is {number}, and {name} is {number}.
chapters {number} to {number} are {how} {adj}.
the score was {number} to {number}.
mix {number} eggs with {number} cups of {food}.
{number} times {number} is {number}.
that is {number} percent of {number} {unit}.
every {number} {unit}, {who} will {intr}.
you get {number} {plural} for every {number} {plural}.
gate {number}, row {number}, seat {number}.
""".strip().splitlines()


def cardinal(n: int) -> str:
    """Spells out a whole number below a billion."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + ("" if n % 10 == 0 else ("-" if random.random() < 0.5 else " ") + ONES[n % 10])
    if n < 1000:
        joint = " and " if random.random() < 0.5 else " "
        return ONES[n // 100] + " hundred" + ("" if n % 100 == 0 else joint + cardinal(n % 100))
    for size, name in ((1_000_000, "million"), (1000, "thousand")):
        if n >= size:
            return cardinal(n // size) + " " + name + ("" if n % size == 0 else " " + cardinal(n % size))
    raise ValueError(n)


def ordinal(n: int) -> str:
    """Spells out an ordinal below a hundred."""
    words = re.split(r"([ -])", cardinal(n))
    last = words[-1]
    words[-1] = ORDINAL.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return "".join(words)


def year() -> str:
    n = random.randint(1400, 2035)
    if 2000 <= n < 2010:
        return "two thousand" + ("" if n == 2000 else random.choice([" ", " and "]) + ONES[n - 2000])
    head, tail = cardinal(n // 100), n % 100
    if tail == 0:
        return head + " hundred"
    return head + " " + (("oh " + ONES[tail]) if tail < 10 else cardinal(tail))


def clock() -> str:
    hour = random.choice(ONES[1:13])
    return random.choice([
        hour + " o'clock", hour, "half past " + hour, "a quarter to " + hour, "a quarter past " + hour, hour + " " + cardinal(random.randint(10, 59)),
        cardinal(random.choice([5, 10, 20])) + " past " + hour, cardinal(random.choice([5, 10, 20])) + " to " + hour, hour + " a m", hour + " p m", hour + " thirty p m",
    ])


def number() -> str:
    kind = random.random()
    top = 20 if kind < 0.35 else 100 if kind < 0.7 else 1000 if kind < 0.88 else 1_000_000 if kind < 0.98 else 900_000_000
    return cardinal(random.randint(1, top))


CHOICES = {slot: [re.sub(r"\s+", " ", w).strip() for w in (v.split("|") if "|" in v else v.split())] for slot, v in SLOTS.items()}
MAKERS = {
    "number": number, "year": year, "clock": clock, "ordinal": lambda: ordinal(random.randint(1, 31)), "small": lambda: random.choice(ONES),
    "digits": lambda: " ".join(random.choice(ONES[:10] + ["oh"]) for _ in range(random.randint(3, 7))),
}


def fill(template: str) -> str:
    """Fills each slot of a template with a random choice."""
    return re.sub(r"\{(\w+)\}", lambda m: MAKERS[m[1]]() if m[1] in MAKERS else random.choice(CHOICES[m[1]]), template)


def everyday(count: int, seed: int, templates: list[str] = TEMPLATES) -> list[str]:
    """Distinct sentences from templates."""
    random.seed(seed)
    made: dict[str, None] = {}
    while len(made) < count:
        made[fill(random.choice(templates))] = None
    return list(made)


def wordnet(folder: Path) -> list[str]:
    """WordNet's example sentences of 3 to 18 words, without figures or foreign letters."""
    found: dict[str, None] = {}
    for file in sorted(folder.glob("data.*")):
        for line in file.read_text(encoding="latin-1").splitlines():
            for example in re.findall(r'"([^"]+)"', line.partition(" | ")[2]):
                text = clean(example)
                if text and 3 <= len(text.split()) <= 18:
                    found[text] = None
    return list(found)


def clean(text: str) -> str | None:
    """Lower-case text in the alphabet of the tokenizer, ending in a punctuation mark; None if something else is in it."""
    text = text.lower().replace("`", "'").replace("--", ", ").replace(":", ",")
    text = re.sub(r"\s+", " ", text).strip(" ;,-")
    if not ALLOWED.fullmatch(text):
        return None
    return text if text[-1] in ".?!" else text + "."


def scowl(folder: Path, kinds: list[str]) -> list[str]:
    """Words of the named SCOWL lists, such as `english-words.10`."""
    found: dict[str, None] = {}
    for kind in kinds:
        for line in (folder / kind).read_text(encoding="latin-1").splitlines():
            word = line.strip().lower()
            if WORD.fullmatch(word):
                found[word] = None
    return list(found)


def word_lists(words: list[str], rounds: int, seed: int) -> list[str]:
    """Sentences that are nothing but words, so that every word of the vocabulary is heard in several places."""
    rng = random.Random(seed)
    sentences = []
    for _ in range(rounds):
        order = words[:]
        rng.shuffle(order)
        at = 0
        while at < len(order):
            take = rng.randint(2, 9)
            part = order[at : at + take]
            at += take
            style = rng.random()
            if style < 0.3:
                joined = ", ".join(part[:4]) + " " + " ".join(part[4:])
            elif style < 0.6:
                joined = " ".join(rng.choice(["the ", "a ", "to ", "and ", "of ", "in ", "is ", "", "", ""]) + w for w in part)
            else:
                joined = " ".join(part)
            sentences.append(joined.strip() + rng.choice("....?!"))
    return sentences


def spell(text: str) -> str:
    """Spells out the numbers of the evaluation sentences. Rough: the product has its own front end."""
    def year(m):
        n = int(m[0])
        return cardinal(n // 100) + " " + cardinal(n % 100)

    text = re.sub(r"\$(\d+)", lambda m: cardinal(int(m[1])) + " dollars", text)
    text = re.sub(r"(\d+)(?:st|nd|rd|th)\b", lambda m: ordinal(int(m[1])), text)
    text = re.sub(r"\b1[0-9]{3}\b", year, text)
    text = re.sub(r"\d+", lambda m: cardinal(int(m[0])), text)
    return text.lower()
