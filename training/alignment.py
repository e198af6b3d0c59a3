#!/usr/bin/env python3
"""Which heads of pico's T3 follow the text, measured against pico's own phones.

`cargo run --release -p sottovoce-chatterbox --example alignment_heads -- MODEL VOICE SENTENCES > attention.jsonl` prints the
attention of every head; `alignment.py attention.jsonl` ranks them by the error of the word times that the engine's aligner would make
of them. With --fixture FILE it also writes the speech tokens and the true words of the first sentences, for the engine's tests.

The truth needs no other model: a speech token of pico says which phone sounds. The codes are sorted by phone, and spaces, pauses and
the start of a sentence sort before all letters. Runs of other codes are words. Sentences in which the teacher speaks two words as one
(`of the`) have fewer runs than words and are left out.
"""

import argparse
import json
from itertools import combinations
from pathlib import Path

import numpy as np

SECONDS = 0.04
DELAY, FLOOR, ADVANCE_MAX, PASS_COST = 6, 1e-2, 4, 1.0


def true_words(speech: list[int], last_pause: int) -> list[tuple[int, int]]:
    """Start and end of each run of phones."""
    words, start = [], None
    for at, code in enumerate(speech + [0]):
        if code > last_pause and start is None:
            start = at
        elif code <= last_pause and start is not None:
            words.append((start, at))
            start = None
    return words


def path(rows: np.ndarray, delay: int = DELAY, floor: float = FLOOR, cost: float = PASS_COST) -> list[int]:
    """The place in the text of each speech token, as `WordAligner` decides it."""
    tokens, text = rows.shape
    score = np.full(text, -np.inf)
    score[0] = 0.0
    steps, places, decided = [], [], 0
    for row in rows:
        candidates = np.full((ADVANCE_MAX + 1, text), -np.inf)
        for step in range(min(ADVANCE_MAX, text - 1) + 1):
            candidates[step, step:] = score[: text - step] - cost * max(0, step - 1)
        steps.append(candidates.argmax(0))
        score = candidates.max(0) + np.log(row + floor)
        if len(steps) > delay:
            place = int(score.argmax())
            for back in range(len(steps) - 1, len(steps) - 1 - delay, -1):
                place -= steps[back][place]
            decided = max(decided, place)
            places.append(decided)
    place = int(score.argmax())
    rest = []
    for back in range(len(steps) - 1, len(places) - 1, -1):
        rest.append(place)
        place -= steps[back][place]
    for place in reversed(rest):
        decided = max(decided, place)
        places.append(decided)
    return places


def word_times(places: list[int], words: list[list[int]]) -> list[tuple[int, int]]:
    found, at = [], 0
    for first, end in words:
        start = next((t for t in range(at, len(places)) if places[t] >= first), len(places))
        at = next((t for t in range(start, len(places)) if places[t] >= end), len(places))
        found.append((start, at))
    return found


def errors(sentences: list[dict], heads: list[int], **choices) -> np.ndarray:
    """Seconds between the true and the found starts and ends of all words."""
    out = []
    for sentence in sentences:
        rows = np.mean([sentence["rows"][head] for head in heads], axis=0)
        found = word_times(path(rows, **choices), [word["tokens"] for word in sentence["words"]])
        out += [abs(a - b) for pair in zip(found, sentence["truth"]) for a, b in zip(*pair)]
    return SECONDS * np.array(out)


def told(error: np.ndarray) -> str:
    return f"median {1000 * np.median(error):.0f} ms, mean {1000 * error.mean():.0f} ms, 90 % {1000 * np.quantile(error, 0.9):.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attention", type=Path)
    parser.add_argument("--fixture", type=Path)
    parser.add_argument("--sentences", type=int, default=24, help="of the fixture")
    args = parser.parse_args()
    sentences = [json.loads(line) for line in args.attention.read_text().splitlines()]
    last_pause = max(sentence["speech"][0] for sentence in sentences)
    for sentence in sentences:
        sentence["truth"] = true_words(sentence["speech"], last_pause)
        sentence["rows"] = [np.array(head["attention"]) for head in sentence["heads"]]
    names = [(head["layer"], head["head"]) for head in sentences[0]["heads"]]
    usable = [s for s in sentences if len(s["truth"]) == len(s["words"])]
    print(f"{len(usable)} of {len(sentences)} sentences, {sum(len(s['words']) for s in usable)} words")
    each = sorted((errors(usable, [head]).mean(), head) for head in range(len(names)))
    for _, head in each[:8]:
        print("head", names[head], told(errors(usable, [head])))
    best = [head for _, head in each[:5]]
    for heads in list(combinations(best, 2)) + list(combinations(best, 3)):
        print("heads", [names[head] for head in heads], told(errors(usable, list(heads))))
    if args.fixture:
        kept = [{"text": s["spoken"], "speech": s["speech"], "words": [list(word) for word in s["truth"]]} for s in usable[: args.sentences]]
        lines = ",\n".join(json.dumps(sentence) for sentence in kept)
        args.fixture.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
