"""Sentences in Japanese and Chinese as the reference's multilingual tokenizer reads them with its dictionaries.

    dictionaries.py OUT.json --segmenter FOLDER                                  the fixture, with a tokenizer made here
    dictionaries.py OUT.json --segmenter FOLDER --tokenizer FILE [--ja FILE]     as many sentences as a file has, with the official tokenizer

Readings are pykakasi's, words are spacy-pkuseg's with the model in FOLDER; the reference fetches `spacy_ontonotes`, and where that is out of reach
the mixed model that the package `pkuseg` carries will do. Each Chinese character gets a code made up here, as long as Cangjie's are.
"""

import argparse
import json
from pathlib import Path

from chatterbox.models.tokenizers import MTLTokenizer
from chatterbox.models.tokenizers.tokenizer import ChineseCangjieConverter, hiragana_normalize
from chatterbox.mtl_tts import punc_norm
from spacy_pkuseg import pkuseg
from tokenizers import Tokenizer

import common
from multilingual import TABLE, TOKENIZER

FOLDER = Path(__file__).parent
LETTERS = "abcdefghijklmnopqrstuvwxy"


def codes(lines: list[str]) -> list[str]:
    """A code of one to five letters for each character."""
    made = []
    for letter in sorted({letter for line in lines for letter in line if "\u4e00" <= letter <= "\u9fff"}):
        rest, code = ord(letter) * 7919 % 9_765_625, ""
        for _ in range(1 + ord(letter) % 5):
            rest, place = divmod(rest, 25)
            code += LETTERS[place]
        made.append(f"{letter}\t{code}")
    return made


def converter_of(table: list[str], segmenter: Path) -> ChineseCangjieConverter:
    converter = ChineseCangjieConverter.__new__(ChineseCangjieConverter)
    converter.word2cj, converter.cj2word = {}, {}
    for entry in table:
        word, code = entry.split("\t")
        converter.word2cj[word] = code
        converter.cj2word.setdefault(code, []).append(word)
    converter.segmenter = pkuseg(model_name=str(segmenter))
    return converter


def graphemes(prepared: list[str]) -> str:
    """A tokenizer of single letters, laid out as the official one."""
    special = ["[STOP]", "[UNK]", "[SPACE]", "[ja]", "[zh]", "[cj_.]", *[f"[cj_{sign}]" for sign in LETTERS + "0123456789"]]
    letters = sorted({letter for text in prepared for letter in text if not letter.isspace()} | set("[]"))
    vocabulary = {token: index + (index >= 255) for index, token in enumerate(dict.fromkeys(special + letters))}
    vocabulary["[START]"] = 255
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": vocabulary[token], "content": token, **flags} for token in [*special, "[START]"]]
    model = {"type": "BPE", "dropout": None, "unk_token": "[UNK]", "continuing_subword_prefix": None, "end_of_word_suffix": None}
    model |= {"fuse_unk": False, "vocab": vocabulary, "merges": []}
    whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": sorted(added, key=lambda token: token["id"])}
    whole |= {"normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None, "model": model}
    return json.dumps(whole, ensure_ascii=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=common.FIXTURES / "dictionaries.json")
    parser.add_argument("--segmenter", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--ja", type=Path, default=FOLDER / "sentences-ja.txt")
    parser.add_argument("--zh", type=Path, default=FOLDER / "sentences-zh.txt")
    arguments = parser.parse_args()
    lines = {language: path.read_text().splitlines() for language, path in (("ja", arguments.ja), ("zh", arguments.zh))}
    table = codes(lines["zh"])
    tokenizer = MTLTokenizer.__new__(MTLTokenizer)
    tokenizer.cangjie_converter = converter_of(table, arguments.segmenter)
    if arguments.tokenizer:
        json_text = arguments.tokenizer.read_text()
    else:
        prepared = [tokenizer.preprocess_text(punc_norm(line)) for line in lines["ja"] + lines["zh"]]
        json_text = graphemes([hiragana_normalize(text) for text in prepared] + ["".join(prepared)])
    tokenizer.tokenizer = Tokenizer.from_str(json_text)
    expected = {language: [[text, tokenizer.encode(punc_norm(text), language_id=language)] for text in texts] for language, texts in lines.items()}
    files = {TOKENIZER: json_text, TABLE: json.dumps(table, ensure_ascii=False)}
    arguments.out.write_text(json.dumps({"files": files, "lines": expected}, ensure_ascii=False, separators=(",", ":")))


if __name__ == "__main__":
    main()
