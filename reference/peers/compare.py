"""Runs native engines for Chatterbox beside sottovoce, on the same random weights, voice and text, and prints one table.

    compare.py --sottovoce BINARY [--ggml CHECKOUT] [--model base|turbo] [--precision int8] [--seconds 2.5,5,10,32]
               [--threads 2] [--rounds 1] [--voice prepared|clip] [--peers sottovoce,vox,ggml] [--work FOLDER] [--json FILE]

The peers are `vox-tts` from PyPI, installed into an environment of its own, and a GGML port that whoever runs this has built
(`README.md` beside this file says how). Everything that takes long to make is kept in the work folder and made once: the model with
random weights by seed, a voice clip of ten seconds that pico speaks, each engine's own form of the weights and of the voice.

Each utterance is a process of its own; the engines take turns. Times begin with the process. Random weights never end an utterance,
so that each engine is held to a count of T3's steps, which is `--seconds` of speech. What an engine cannot do is said in place of
its figures.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
import wave
from pathlib import Path

HERE = Path(__file__).resolve().parent
TEXT = "The tide comes in over the flat sand, slowly at first and then all at once."
CLIP_TEXT = (
    "The harbour was quiet when the first boats came back, and the gulls were waiting on the wall. Nobody spoke for a while. "
    "Then somebody laughed, and the whole quay began to move again, with ropes and crates and morning news for everyone."
)
CLIP_SECONDS = 10
RATE = 24_000
TOKENS_A_SECOND = 25
# Base's T3 has scores for 8,194 tokens, of which 6,561 are sound; with random weights it draws from all of them, and the rest is
# left out of the sound after its step was computed. Turbo has a table of 6,563.
STEPS_A_TOKEN = {"base": 8194 / 6561, "turbo": 1.0}
MIB = 1024 * 1024


class Refused(Exception):
    """Why an engine cannot do what was asked."""


def run(command: list, environment: dict | None = None, limit: float = 3600) -> dict:
    """Runs a process to its end; its time, that of its first byte, its processor time and its peak of resident memory."""
    with tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=errors, env=os.environ | (environment or {})
        )
        watch = threading.Timer(limit, process.kill)
        watch.start()
        first, out = None, bytearray()
        while block := os.read(process.stdout.fileno(), 1 << 16):
            first = first or time.perf_counter() - begin
            out += block
        _, status, usage = os.wait4(process.pid, 0)
        total = time.perf_counter() - begin
        watch.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        told = errors.read().decode(errors="replace")
    if process.returncode != 0:
        last = (told.strip().splitlines() or ["it printed nothing"])[-1]
        why = f"took longer than {limit:.0f} s" if total >= limit else f"ended with {process.returncode}: {last}"
        raise Refused(f"{Path(command[0]).name} {why}")
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "out": bytes(out),
        "told": told,
        "first_sound_seconds": first,
        "total_seconds": total,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss * unit / MIB,
    }


def make(target: Path, command: list, environment: dict | None = None) -> Path:
    """What a command leaves at a path, unless an earlier run left it there."""
    if not target.exists():
        print(f"making {target.name}", file=sys.stderr)
        run(command, environment)
        if not target.exists():
            raise Refused(f"{Path(command[0]).name} left no {target.name}")
    return target


class Engine:
    """One of the engines compared; `speak` measures one utterance."""

    def __init__(self, arguments: argparse.Namespace, model: Path, clip: Path):
        self.arguments = arguments
        self.model = model
        self.clip = clip
        self.work = arguments.work
        self.prepare()

    def file(self, name: str) -> Path:
        return self.work / f"{self.model.name}-{self.arguments.precision}-{name}"

    @property
    def prepared(self) -> bool:
        return self.arguments.voice == "prepared"

    def speak(self, steps: int) -> dict:
        measured = run(self.command(steps), self.environment(), self.arguments.limit)
        sound = len(measured.pop("out")) / 2 / RATE
        if sound == 0:
            raise Refused(f"{self.name} made no sound")
        told = measured.pop("told")
        measured |= {"engine": self.name, "sound_seconds": sound} | self.told(told)
        measured["rtf"] = measured["speaking_seconds"] / sound
        return measured

    def environment(self) -> dict:
        return {}

    def step(self, utterances: list[dict]) -> dict | None:
        """T3's time for a step: the mean of those by which the longest of its utterances exceeds the shortest."""
        told = sorted((run_["t3_steps"], run_["t3_seconds"]) for run_ in utterances if "t3_seconds" in run_)
        if len(told) < 2 or told[-1][0] == told[0][0]:
            return None
        (few, short), (many, long) = told[0], told[-1]
        return {"mean_ms": (long - short) / (many - few) * 1e3}


class Sottovoce(Engine):
    name = "sottovoce"

    def prepare(self) -> None:
        # The folder is complete before it has its name.
        part = self.file("sottovoce.part")
        self.folder = self.file("sottovoce")
        if not self.folder.exists():
            run([self.arguments.sottovoce, "convert", self.model, part, "--precision", self.arguments.precision])
            part.rename(self.folder)
        self.stats = self.work / "stats.json"
        version = run([self.arguments.sottovoce, "--version"])["out"].decode().split()
        self.version = version[-1]
        if self.prepared:
            # Leaves the voice in the cache folder, as any first run does.
            run(self.command(1))

    def command(self, steps: int) -> list:
        kept = ["--cache-dir", self.work / "cache"] if self.prepared else ["--no-cache"]
        return [
            *[self.arguments.sottovoce, "speak", TEXT, "--model", self.folder, "--voice", self.clip, *kept],
            *["--precision", self.arguments.precision, "--threads", self.arguments.threads, "--seed", self.arguments.seed],
            *["--sentence-tokens-max", steps, "--delivery", self.arguments.delivery, "--stats", self.stats],
            *["--out", "-", "--format", "pcm"],
        ]

    def told(self, _: str) -> dict:
        return {"speaking_seconds": json.loads(self.stats.read_text())["total_generation_time"]}

    def step(self, _: list[dict]) -> dict:
        command = [self.arguments.sottovoce, "bench", "speed", "--json", "--synthetic", self.arguments.model, "--t3-only"]
        command += ["--precision", self.arguments.precision, "--threads", self.arguments.threads]
        report = json.loads(run(command)["out"])
        return {"best_ms": report["t3_token_ms"], "median_ms": report.get("t3_token_median_ms")}


class Vox(Engine):
    name = "vox-tts"
    QUANTISED = {"f32": ["--dtype", "f32"], "f16": ["--dtype", "bf16"], "int8": ["--dtype", "bf16", "--quant", "q8"]}

    def prepare(self) -> None:
        if self.arguments.model != "base":
            raise Refused("vox-tts 0.19.5 has base's T3 alone; its converter refuses turbo's")
        if self.arguments.precision not in self.QUANTISED:
            raise Refused("vox-tts 0.19.5 has Chatterbox in 32, 16 and 8 bits, not in 4")
        self.python = self.work / "vox/bin/python"
        if not self.python.exists():
            run([sys.executable, "-m", "venv", self.work / "vox"])
        run([self.python, "-m", "pip", "install", "--quiet", "--requirement", HERE / "requirements.txt"])
        package = run([self.python, "-c", "import os, vox; print(os.path.dirname(vox.__path__[0]), vox.__version__)"])
        folder, self.version = package["out"].decode().split()
        # Its converter needs PyTorch for the folder's own voice: this interpreter has it.
        part = self.file("vox.part")
        self.weights = self.file("vox.tmod")
        if not self.weights.exists():
            converter = [self.arguments.python, "-m", "vox.build_chatterbox", "--model", self.model, "-o", part]
            run([*converter, *self.QUANTISED[self.arguments.precision]], {"PYTHONPATH": folder + os.pathsep + os.environ.get("PYTHONPATH", "")})
            part.rename(self.weights)
        self.voice = self.clip
        if self.prepared:
            voice = self.file("vox.tvoice")
            driver = [self.python, HERE / "vox_driver.py", "voice", self.weights, self.clip, voice, self.arguments.threads]
            self.voice = make(voice, driver)

    def environment(self) -> dict:
        # Random weights may draw the end of speech; so that the count of steps is what was asked for.
        return {"VOX_DEBUG_NO_EOS": "1"}

    def command(self, steps: int) -> list:
        self.asked = steps
        words = [self.weights, self.voice, TEXT, self.arguments.threads, steps, self.arguments.seed]
        return [self.python, HERE / "vox_driver.py", "speak", *words]

    def told(self, text: str) -> dict:
        told = json.loads(text.strip().splitlines()[-1])
        return told | {"t3_steps": self.asked}


class Ggml(Engine):
    name = "GGML port"
    # At f16 its S3Gen stays in 32 bits, and what its own scripts leave alone does at 8 and 4 bits.
    TYPES = {"f16": "f16", "int8": "q8_0", "q4": "q4_0"}

    def prepare(self) -> None:
        checkout = self.arguments.ggml
        if checkout is None:
            raise Refused("no --ggml CHECKOUT was given")
        self.binary = next((path for path in (checkout / "build/tts-cli", checkout / "build/bin/tts-cli") if path.exists()), None)
        if self.binary is None:
            raise Refused(f"{checkout} has no build/tts-cli; README.md says how to build it")
        self.version = self.commit(checkout)
        if self.arguments.model != "turbo":
            raise Refused("of chatterbox.cpp's converters this one drives those of turbo")
        if self.arguments.precision not in self.TYPES:
            raise Refused("the port keeps T3 in 16 bits at most")
        kind = self.TYPES[self.arguments.precision]
        self.files = []
        for name, script in (("t3", "convert-t3-turbo-to-gguf.py"), ("s3gen", "convert-s3gen-to-gguf.py")):
            part, whole = self.file(f"{name}.part"), self.file(f"{name}.gguf")
            if not whole.exists():
                converter = checkout / "scripts" / script
                run([self.arguments.python, converter, "--ckpt-dir", self.model, "--quant", kind, "--out", part])
                part.rename(whole)
            self.files.append(whole)
        self.voice = ["--reference-audio", self.clip]
        if self.prepared:
            voice = self.file("ggml-voice")
            bake = [self.binary, "--model", self.files[0], "--s3gen-gguf", self.files[1], *self.voice, "--save-voice", voice]
            self.voice = ["--ref-dir", make(voice, [*bake, "--threads", self.arguments.threads])]

    @staticmethod
    def commit(checkout: Path) -> str:
        try:
            return run(["git", "-C", checkout, "rev-parse", "--short", "HEAD"])["out"].decode().strip()
        except (Refused, OSError):
            return "not a git checkout"

    def command(self, steps: int) -> list:
        return [
            *[self.binary, "--model", self.files[0], "--s3gen-gguf", self.files[1], "--text", TEXT, "--no-auto-split", *self.voice],
            # The port counts the steps after the first token.
            *["--n-predict", max(steps - 1, 1), "--threads", self.arguments.threads, "--seed", self.arguments.seed, "--out", "-"],
        ]

    def told(self, text: str) -> dict:
        figures = self.figures(text)
        told = {"speaking_seconds": (figures["T3_INFER_MS"] + figures["S3GEN_INFER_MS"]) / 1e3}
        if "retrying" in text:
            return told | {"note": "its T3 drew the end early and began again, which its times contain"}
        return told | {"t3_seconds": figures["T3_INFER_MS"] / 1e3, "t3_steps": figures["tokens"]}

    @staticmethod
    def figures(text: str) -> dict:
        """The numbers of its `BENCH:` lines."""
        lines = [line.removeprefix("BENCH: ") for line in text.splitlines() if line.startswith("BENCH: ")]
        return {name: float(value) for line in lines for name, _, value in (word.partition("=") for word in line.split())}


ENGINES = {"sottovoce": Sottovoce, "vox": Vox, "ggml": Ggml}


def make_clip(arguments: argparse.Namespace) -> Path:
    """Ten seconds of pico's voice, which is inside the program."""
    clip, spoken = arguments.work / "clip.wav", arguments.work / "spoken.wav"
    if not clip.exists():
        run([arguments.sottovoce, "speak", CLIP_TEXT, "--model", "pico", "--seed", arguments.seed, "--out", spoken])
        with wave.open(str(spoken)) as source:
            shape, samples = source.getparams(), source.readframes(CLIP_SECONDS * source.getframerate())
        if len(samples) < CLIP_SECONDS * shape.framerate * shape.sampwidth:
            raise SystemExit(f"{spoken} is shorter than {CLIP_SECONDS} s")
        part = clip.with_suffix(".part")
        with wave.open(str(part), "wb") as target:
            target.setparams(shape)
            target.writeframes(samples)
        part.rename(clip)
    return clip


def make_model(arguments: argparse.Namespace) -> Path:
    """The folder of random weights, laid out as the official ones."""
    model, part = (arguments.work / f"{arguments.model}-{arguments.seed}{end}" for end in ("", ".part"))
    if not model.exists():
        print(f"making {model.name}", file=sys.stderr)
        run([arguments.python, HERE.parent / "make_model.py", arguments.model, part, "--seed", arguments.seed])
        part.rename(model)
    return model


def processor() -> str:
    """What the system calls its processor."""
    if Path("/proc/cpuinfo").exists():
        names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def best(rounds: list[dict]) -> dict:
    """The quickest of an engine's rounds, as one: its figures belong together."""
    return min(rounds, key=lambda measured: measured["total_seconds"])


def table(report: dict) -> str:
    lines = [f"{report['model']}, {report['precision']}, {report['threads']} threads, voice: {report['voice']}; {report['machine']}"]
    head = ["engine", "asked s", "speech s", "first sound s", "total s", "speaking s", "RTF", "processor s", "peak MiB", "times", "memory"]
    rows = [head]
    for length in report["lengths"]:
        ours = length["engines"].get("sottovoce")
        for name, run_ in length["engines"].items():
            if "refused" in run_:
                continue
            # Speech of unequal length compares by the second.
            by_second = run_["total_seconds"] / run_["sound_seconds"]
            times = f"{by_second / (ours['total_seconds'] / ours['sound_seconds']):.2f}" if ours and "refused" not in ours else ""
            memory = f"{run_['peak_mib'] / ours['peak_mib']:.2f}" if times else ""
            figures = [run_[key] for key in ("sound_seconds", "first_sound_seconds", "total_seconds", "speaking_seconds", "rtf", "processor_seconds")]
            rows.append([name, f"{length['seconds']:g}", *[f"{figure:.2f}" for figure in figures], f"{run_['peak_mib']:.0f}", times, memory])
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines += ["  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(zip(row, widths))) for row in rows]
    lines.append("times, memory: an engine's seconds for a second of speech, and its peak, by sottovoce's")
    for name, steps in report["steps"].items():
        lines.append(f"T3 step, {name}: " + ", ".join(f"{kind.removesuffix('_ms')} {value:.2f} ms" for kind, value in steps.items() if value is not None))
    lines += [f"{name}: not measured: {why}" for name, why in report["refused"].items()]
    for length in report["lengths"]:
        for name, run_ in length["engines"].items():
            if "refused" in run_:
                lines.append(f"{name}, {length['seconds']:g} s: {run_['refused']}")
            elif "note" in run_:
                lines.append(f"{name}, {length['seconds']:g} s: {run_['note']}")
    return "\n".join(lines)


def arguments_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sottovoce", default="sottovoce", help="the program")
    parser.add_argument("--ggml", type=Path, help="a built checkout of chatterbox.cpp")
    parser.add_argument("--model", choices=["base", "turbo"], default="base")
    parser.add_argument("--precision", choices=["f32", "f16", "int8", "q4"], default="int8")
    parser.add_argument("--seconds", type=lambda text: [float(part) for part in text.split(",")], default=[2.5, 5.0, 10.0, 32.0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="rounds of each utterance; the quickest is shown")
    parser.add_argument("--voice", choices=["prepared", "clip"], default="prepared", help="prepared before, or from the recording in each process")
    parser.add_argument("--delivery", choices=["whole", "stream"], default="whole", help="sottovoce's")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peers", type=lambda text: text.split(","), default=list(ENGINES), help=", ".join(ENGINES))
    parser.add_argument("--no-steps", action="store_true", help="leave out T3's steps")
    parser.add_argument("--limit", type=float, default=3600, help="most seconds of an utterance")
    parser.add_argument("--work", type=Path, default=Path("peers-work"), help="folder for models and voices, several GB")
    parser.add_argument("--python", default=sys.executable, help="interpreter with reference/requirements.txt and gguf")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    unknown = set(arguments.peers) - set(ENGINES)
    if unknown:
        parser.error(f"--peers knows {', '.join(ENGINES)}, not {', '.join(sorted(unknown))}")
    arguments.work.mkdir(parents=True, exist_ok=True)
    arguments.work = arguments.work.resolve()
    return arguments


def main() -> None:
    arguments = arguments_of()
    try:
        clip, model = make_clip(arguments), make_model(arguments)
    except (Refused, OSError) as error:
        raise SystemExit(f"nothing to compare with: {error}") from error
    report = {key: getattr(arguments, key) for key in ("model", "precision", "threads", "voice", "delivery", "seed", "rounds")}
    report |= {"machine": f"{processor()}, {os.cpu_count()} processors", "text": TEXT}
    report |= {"versions": {}, "refused": {}, "steps": {}, "lengths": []}
    engines = {}
    for name in arguments.peers:
        try:
            engines[name] = ENGINES[name](arguments, model, clip)
            report["versions"][name] = engines[name].version
        except (Refused, OSError) as error:
            report["refused"][name] = str(error)
    for seconds in arguments.seconds:
        steps = round(seconds * TOKENS_A_SECOND * STEPS_A_TOKEN[arguments.model])
        rounds = {name: [] for name in engines}
        failures = {}
        for _ in range(arguments.rounds):
            for name, engine in engines.items():
                try:
                    rounds[name].append(engine.speak(steps))
                except (Refused, OSError, KeyError, ValueError) as error:
                    failures[name] = str(error)
        measured = {name: best(list_) if list_ else {"refused": failures[name]} for name, list_ in rounds.items()}
        report["lengths"].append({"seconds": seconds, "steps": steps, "engines": measured})
    for name, engine in engines.items() if not arguments.no_steps else ():
        try:
            if step := engine.step([length["engines"][name] for length in report["lengths"]]):
                report["steps"][name] = step
        except (Refused, OSError, KeyError, ValueError) as error:
            report["refused"][f"{name}, T3's steps"] = str(error)
    print(table(report))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
