"""The fixture of text: 600 lines as the reference normalises and tokenises them, with the small tokenizers that gave the ids.

    text.py OUT.json
"""

import json
import pydoc_data.topics
import random
import re
import sys
import tempfile
from pathlib import Path

from chatterbox import tts, tts_turbo
from chatterbox.models.tokenizers import EnTokenizer
from make_model import TAGS, base_tokenizer, byte_pair_tokenizer
from transformers import AutoTokenizer

COUNT = 600
VOCABULARY = 512
MARKS = ["...", "…", ":", " - ", ";", "—", "–", " ,", "“", "”", "‘", "’", "!", "?", ".", ",", "-", "(", ")", "[", "]", "{", "\\", "/", "&", "%", "'", '"']
SPACES = [" ", "  ", "\t", "\n", "\u00a0", "\u2003", "\u3000", "\x1c", "\r\n", " \n "]
WORDS = "ßtraße ŉever ǆ ﬁre ʼn ª ⁿ ά ёлка Привет мир 今天天气很好 こんにちは 안녕하세요 مرحبا בוקר नमस्ते สวัสดี e\u0301te\u0301 🦀 👩‍👩‍👧 ﷽ İstanbul".split(" ")
WORDS += "3.14 1,000 10:30 5'6\" $20 50% C++ a_b x@y.z http://a.b/c?d=e#f A.M. Dr. O'Neil's don't [START] [STOP] [SPACE] [UNK] <|endoftext|>".split(" ")
FILES = ["vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json"]


def lines() -> list[str]:
    random.seed(5)
    prose = " ".join(pydoc_data.topics.topics.values())
    sentences = [sentence for sentence in re.split(r"(?<=[.!?])\s+", prose) if 8 < len(sentence) < 120]
    made = random.sample(sentences, COUNT // 3)
    words = WORDS + TAGS[:4] + prose.split()[:400]
    while len(made) < COUNT:
        line = ""
        for _ in range(random.randint(1, 12)):
            line += random.choice(words if random.random() < 0.8 else WORDS)
            line += random.choice(MARKS) if random.random() < 0.4 else ""
            line += random.choice(SPACES) if random.random() < 0.3 else " "
        if random.random() < 0.3:
            line = random.choice(SPACES + MARKS) + line
        made.append(line.rstrip() if random.random() < 0.6 else line)
    return made


def main() -> None:
    made = lines()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base_tokenizer(folder)
        files = {"tokenizer.json": (folder / "tokenizer.json").read_text()}
        tokenizer = EnTokenizer(str(folder / "tokenizer.json"))
        base = [[text, tts.punc_norm(text), tokenizer.encode(tts.punc_norm(text))] for text in made]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        byte_pair_tokenizer(folder, VOCABULARY, tags=4)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        turbo = [[tts_turbo.punc_norm(text), tokenizer(tts_turbo.punc_norm(text)).input_ids] for text in made]
        pair_files = {file: (folder / file).read_text() for file in FILES}
    fixture = {
        "base": {"files": files, "lines": [[text, normal, ids] for text, normal, ids in base]},
        "turbo": {"files": pair_files, "lines": [[text, normal, ids] for text, (normal, ids) in zip(made, turbo)]},
    }
    Path(sys.argv[1]).write_text(json.dumps(fixture, ensure_ascii=False, separators=(",", ":")))


if __name__ == "__main__":
    main()
