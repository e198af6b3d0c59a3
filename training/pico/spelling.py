"""The text tokenizer: whole words, and pieces for all others, as a WordPiece `tokenizer.json`.

The embedding of a whole word starts as a sum over its phones (one table for each place in the word), learnt from the teacher's
pronunciation of the word alone, plus a part of its own. The export writes the sum as an ordinary table.
"""

import json
import pickle
from collections import Counter
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from . import corpus
from .phones import canonical

PLACES = 14
PUNCTUATION = [".", ",", "?", "!", ";", "-"]


def pieces(words: list[str], rare: list[str]) -> list[str]:
    """Continuations of two to five letters that end or fill many rare words."""
    known = set(words)
    seen: Counter = Counter()
    for word in rare:
        if word in known:
            continue
        for at in range(1, len(word)):
            for size in range(2, 6):
                if at + size <= len(word):
                    # A long piece saves more; a final one is met whole more often.
                    seen[word[at : at + size]] += (size - 1) * (2 if at + size == len(word) else 1)
    return ["##" + p for p, _ in seen.most_common(700)]


def build(work: Path, data: Path) -> Tokenizer:
    """The tokenizer, made once and kept in `work`."""
    file = work / "tokenizer.json"
    if not file.exists():
        words = json.loads((work / "words.json").read_text())
        rare = corpus.scowl(data / "usr/share/dict/scowl", ["english-words.35"])
        letters = "abcdefghijklmnopqrstuvwxyz'"
        order = ["[UNK]", *PUNCTUATION, *words, *("##" + c for c in letters), "##'s", *pieces(words, rare), "'"]
        vocabulary = {token: i for i, token in enumerate(dict.fromkeys(order))}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", continuing_subword_prefix="##", max_input_chars_per_word=40))
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"[a-z]+(?:'[a-z]+)*|[.,?!;-]"), "removed", invert=True)])
        tokenizer.save(str(file), pretty=False)
    return Tokenizer.from_file(str(file))


def pronunciations(work: Path) -> dict[str, list[str]]:
    """The teacher's phones for each whole word, alone."""
    file = work / "pronunciations.pickle"
    if not file.exists():
        from .teacher import Teacher

        teacher = Teacher(work)
        made = {}
        for word in json.loads((work / "words.json").read_text()):
            parts = teacher.voice.phonemize(word)
            phones = [canonical(n) for symbols in parts for n, _, _ in teacher.groups(symbols)]
            made[word] = [p for p in phones if p not in "^ " and p not in ".,?!;:"][:PLACES]
        file.write_bytes(pickle.dumps(made))
    return pickle.loads(file.read_bytes())
