"""Speech codes: which phone sounds in a token, and how many tokens of it are left (itself included).

The codes are pico's speech tokens. They are read off the teacher's own alignment, so each is exact, and the count makes the
length of a phone one decision instead of many.
"""

import json
import pickle
from collections import Counter
from pathlib import Path

from .teacher import PAUSES, codes

MERGED = {";": ",", ":": ",", "x": "k", "r": "ɹ", "ɚ̃": "ɚ", "ɑ̃": "ɑː", "ɔ̃": "ɔː"}


def canonical(phone: str) -> str:
    """Drops what is hardly heard: secondary stress and palatal marks."""
    stress = "ˈ" if phone.startswith("ˈ") else ""
    base = phone.lstrip("ˈˌ").replace("ʲ", "")
    return stress + MERGED.get(base, base)


def inventory(work: Path) -> list[tuple[str, int]]:
    """All codes heard at least five times in the first token shards; the list is made once and kept beside them."""
    file = work / "codes.json"
    if not file.exists():
        seen: Counter = Counter()
        for shard in sorted(work.glob("tokens_*.pickle"))[:16]:
            for item in pickle.loads(shard.read_bytes()):
                for part in item["parts"]:
                    seen.update(codes([canonical(p) for p in part["phones"]], part["counts"]))
        kept = sorted(code for code, count in seen.items() if count >= 5)
        file.write_text(json.dumps(kept, ensure_ascii=False))
    return [(phone, left) for phone, left in json.loads(file.read_text())]


class Codes:
    """Phone and count to code number. The codes come first, then start and stop."""

    def __init__(self, work: Path):
        self.list = inventory(work)
        self.number = {code: i for i, code in enumerate(self.list)}
        self.phones = sorted({phone for phone, _ in self.list})
        self.start, self.stop = len(self.list), len(self.list) + 1
        self.silence = self.number[(".", 1)]

    def encode(self, parts: list[dict]) -> list[int] | None:
        """Code numbers of a sentence, None if a phone in it is unknown."""
        out = []
        for part in parts:
            for phone, left in codes([canonical(p) for p in part["phones"]], part["counts"]):
                while (phone, left) not in self.number and left > 1:
                    left -= 1
                if (phone, left) not in self.number:
                    return None
                out.append(self.number[(phone, left)])
        return out

    def is_pause(self, number: int) -> bool:
        return number >= len(self.list) or self.list[number][0] in PAUSES
