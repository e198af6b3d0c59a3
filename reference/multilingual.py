"""Lines in many languages as the reference's multilingual tokenizer reads them.

    multilingual.py OUT.json                                     the fixture: a few lines a language, with a tokenizer made here
    multilingual.py OUT.json --tokenizer FILE --lines 250        as many lines as asked for, with the official tokenizer

The lines are composed from the names, dates, numbers and currencies that Babel has of each language (Unicode's CLDR), with marks,
case, spaces and rare characters in every mixture. `TEXT_EXPECTED=OUT.json` hands them to the ignored test of `tests/multilingual.rs`.
"""

import argparse
import datetime
import json
import logging
import random
from pathlib import Path

from babel import Locale, dates, lists, numbers
from chatterbox.models.tokenizers import MTLTokenizer
from chatterbox.models.tokenizers.tokenizer import ChineseCangjieConverter
from chatterbox.mtl_tts import SUPPORTED_LANGUAGES, punc_norm
from tokenizers import Tokenizer

import common

TOKENIZER = "grapheme_mtl_merged_expanded_v1.json"
TABLE = "Cangjie5_TC.json"
# Japanese and Chinese need dictionaries.
LANGUAGES = [code for code in SUPPORTED_LANGUAGES if code not in ("ja", "zh")]
# CLDR's Norwegian.
LOCALES = {"no": "nb"}
MARKS = [",", ".", "!", "?", "...", "…", ":", ";", " - ", " – ", "—", "(", ")", '"', "“", "”", "‘", "’", "«", "»", "/", "&", "%", "+", "=", "@", "#", "*", "'", "、", "。", "！", "？", "，", "،", "؟", "।", "¿", "¡"]
SPACES = [" ", " ", " ", " ", "  ", "\t", "\n", "\u00a0", "\u2003", "\u202f", "\x1c"]
RARE = "ßtraße ŉever ǆ ﬁre ʼn ª ⁿ İstanbul ısı ΟΔΟΣ ὈΔΥΣΣΕΎΣ ёлка Щука нѣтъ ﷽ ﻻ ۱۲۳ ٤٥٦ שָׁלוֹם הַ־בַּיִת क़ ड़ ज्ञ श्री ½ № ™ ℃ Å ② Ⅷ ㎏ ｱｲｳ ｶﾞ ﬂ ĳ Ǆ ẞ 한국어 각 ㄱㄴ ᄀ 힣 e\u0301te\u0301 o\u0302\u0323 🦀 👩‍👩‍👧 \u200d \u200f \ufeff ¨ ´ 日本 你好 こんにちは ราคา".split(" ")
# The reference takes these for tokens of their own.
TOKENS = ["[START]", "[STOP]", "[SPACE]", "[UNK]", "[laughter]", "[sigh]", "[fr]", "[de]", "[cj_a]", "[UH]", "[xx]"]


def words(locale: Locale) -> list[str]:
    names = [*locale.territories.values(), *locale.languages.values(), *locale.scripts.values(), *locale.currencies.values()]
    names += [name for width in locale.months["format"].values() for name in width.values()]
    names += [name for width in locale.days["format"].values() for name in width.values()]
    return [name for name in names if any(letter.isalpha() for letter in name)]


def figure(locale: Locale) -> str:
    value = random.choice([random.randrange(100), random.randrange(10**7), round(random.uniform(-10, 1e5), 2)])
    day = datetime.datetime(2000, 1, 1) + datetime.timedelta(seconds=random.randrange(10**9))
    return random.choice(
        [
            lambda: numbers.format_decimal(value, locale=locale),
            lambda: numbers.format_currency(value, random.choice(["EUR", "USD", "JPY", "INR", "ILS"]), locale=locale),
            lambda: numbers.format_percent(value / 100, locale=locale),
            lambda: dates.format_date(day, random.choice(["short", "medium", "long", "full"]), locale=locale),
            lambda: dates.format_time(day, "short", locale=locale),
            lambda: dates.format_timedelta(datetime.timedelta(seconds=random.randrange(10**6)), locale=locale),
        ]
    )()


def cased(word: str) -> str:
    return random.choice([word, word, word, word.upper(), word.lower(), word.title(), word.swapcase()])


def line(locale: Locale, known: list[str]) -> str:
    if random.random() < 0.3:
        plain = lists.format_list(random.sample(known, random.randint(2, 4)), locale=locale)
        return f"{plain} {figure(locale)}."
    made = ""
    for _ in range(random.randint(1, 10)):
        kind = random.random()
        if kind < 0.62:
            made += cased(random.choice(known))
        elif kind < 0.8:
            made += figure(locale)
        elif kind < 0.97:
            made += random.choice(RARE)
        else:
            made += random.choice(TOKENS)
        made += random.choice(MARKS) if random.random() < 0.35 else ""
        made += random.choice(SPACES)
    if random.random() < 0.2:
        made = random.choice(SPACES + MARKS) + made
    return made.rstrip() if random.random() < 0.7 else made


def lines_of(language: str, count: int) -> list[str]:
    random.seed(f"{language} {count}")
    locale = Locale.parse(LOCALES.get(language, language))
    known = words(locale)
    return [line(locale, known) for _ in range(count)]


def graphemes(lines: dict[str, list[str]]) -> str:
    """A tokenizer laid out as the official one: a token a language, the Latin pairs of its merges, single graphemes."""
    special = ["[STOP]", "[UNK]", "[SPACE]"]
    special += [f"[{code}]" for code in SUPPORTED_LANGUAGES] + ["[laughter]", "[sigh]", "[cj_a]", "[cj_b]", "[cj_.]"]
    reader = MTLTokenizer.__new__(MTLTokenizer)
    prepared = "".join(reader.preprocess_text(punc_norm(text)) for texts in lines.values() for text in texts)
    # Rare graphemes stay unknown.
    letters = sorted(letter for letter in set(prepared) if prepared.count(letter) > 2 and not letter.isspace())
    pairs = [("t", "h"), ("i", "n"), ("th", "e"), ("a", "n"), ("e", "r"), ("e", "n"), ("c", "h"), ("s", "ch"), ("d", "e"), ("i", "e"), ("o", "n")]
    letters = [letter for letter in letters if letter not in "[]"] + [letter for letter in "[]()" if letter not in letters]
    tokens = special + sorted(set(letters) | {letter for pair in pairs for letter in "".join(pair)}) + ["".join(pair) for pair in pairs]
    vocabulary = {token: index + (index >= 255) for index, token in enumerate(dict.fromkeys(tokens))}
    vocabulary["[START]"] = 255
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": vocabulary[token], "content": token, **flags} for token in [*special, "[START]"]]
    model = {"type": "BPE", "dropout": None, "unk_token": "[UNK]", "continuing_subword_prefix": None, "end_of_word_suffix": None}
    model |= {"fuse_unk": False, "vocab": vocabulary, "merges": [" ".join(pair) for pair in pairs]}
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": sorted(added, key=lambda token: token["id"])}
    whole |= {"normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None, "model": model}
    return json.dumps(whole, ensure_ascii=False)


# Codes of a few characters, in the form of `Cangjie5_TC.json`: 晶 shares its code with none, 昌 and 昍 are made up to share one.
CANGJIE = ["日\ta", "曰\ta", "月\tb", "明\tab", "朋\tbb", "，\tb", "昌\taa", "昍\taa"]
CHINESE = ["明日，朋月。", "曰：“明A明”", "昍昌 晶", "日 月！"]


def tokenizer_of(json_text: str) -> MTLTokenizer:
    """The reference's tokenizer, which would fetch its tables from the hub."""
    tokenizer = MTLTokenizer.__new__(MTLTokenizer)
    tokenizer.tokenizer = Tokenizer.from_str(json_text)
    converter = ChineseCangjieConverter.__new__(ChineseCangjieConverter)
    converter.word2cj, converter.cj2word, converter.segmenter = {}, {}, None
    for entry in CANGJIE:
        word, code = entry.split("\t")
        converter.word2cj[word] = code
        converter.cj2word.setdefault(code, []).append(word)
    tokenizer.cangjie_converter = converter
    tokenizer.check_vocabset_sot_eot()
    return tokenizer


def write_files(folder: Path) -> None:
    """The tokenizer and the table of a model folder."""
    lines = {language: lines_of(language, 6) for language in LANGUAGES}
    (folder / TOKENIZER).write_text(graphemes(lines))
    (folder / TABLE).write_text(json.dumps(CANGJIE, ensure_ascii=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=common.FIXTURES / "multilingual.json")
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--lines", type=int, default=6)
    arguments = parser.parse_args()
    # The optional packages for Hebrew and Russian are missing, as in most installations.
    logging.disable(logging.WARNING)
    lines = {language: lines_of(language, arguments.lines) for language in LANGUAGES}
    lines["zh"] = CHINESE
    json_text = arguments.tokenizer.read_text() if arguments.tokenizer else graphemes(lines)
    tokenizer = tokenizer_of(json_text)
    expected = {
        language: [[text, tokenizer.encode(punc_norm(text), language_id=language)] for text in texts] for language, texts in lines.items()
    }
    files = {TOKENIZER: json_text, TABLE: json.dumps(CANGJIE, ensure_ascii=False)}
    arguments.out.write_text(json.dumps({"files": files, "lines": expected}, ensure_ascii=False, separators=(",", ":")))


if __name__ == "__main__":
    main()
