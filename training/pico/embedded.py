"""T3 inside a converted file, such as the program's own: read, to be trained further, and written back. The other networks in the
file, its config and its tokenizer stay as they are.

A converted file has its matrices in the kernels' layout. At 8 bits: one scale an output, then panels of 16 outputs with four inputs
of an output side by side, as levels with an offset of 128. At 16 bits: panels of 32 outputs, inputs first. Vectors are plain.
"""

import argparse
import json
import zlib
from pathlib import Path

import numpy as np
import torch

from . import t3
from .export import averaged, rounded, t3_tensors

NARROW, WIDE = 16, 32
# The phones of the program's pico in the order of their codes, and the longest count of each.
CODES = Path(__file__).with_name("codes.json")


class Converted:
    """A converted file in memory."""

    def __init__(self, path: Path):
        self.file = bytearray(path.read_bytes())
        self.start = 8 + int.from_bytes(self.file[:8], "little")
        self.header = json.loads(self.file[8 : self.start])
        self.metadata = self.header.pop("__metadata__")
        self.packed = json.loads(self.metadata["packed"])

    def place(self, name: str) -> slice:
        begin, end = self.header[name]["data_offsets"]
        return slice(self.start + begin, self.start + end)

    def shape(self, name: str) -> tuple[str, int, int]:
        """Precision, outputs and inputs; a vector is one output."""
        entry = self.packed[name]
        return "vector" if entry["kind"] == "vector" else entry["kind"]["matrix"], entry["rows"], entry["columns"]

    def read(self, name: str) -> torch.Tensor:
        """A matrix [outputs, inputs] or a vector [inputs]."""
        precision, rows, columns = self.shape(name)
        data = bytes(self.file[self.place(name)])
        if precision == "vector":
            values = np.frombuffer(data, dtype=np.float32)[:columns]
        elif precision == "f16":
            values = np.frombuffer(data, dtype=np.float16).reshape(rows // WIDE, columns, WIDE).transpose(0, 2, 1).reshape(rows, columns)
        else:
            outputs = -(-rows // NARROW) * NARROW
            scales = np.frombuffer(data[: 4 * outputs], dtype=np.float32)
            panels = np.frombuffer(data[4 * outputs :], dtype=np.uint8).reshape(outputs // NARROW, columns // 4, NARROW, 4)
            levels = panels.transpose(0, 2, 1, 3).reshape(outputs, columns).astype(np.float32) - 128
            values = (levels * scales[:, None])[:rows]
        return torch.from_numpy(values.astype(np.float32))

    def write(self, name: str, values: torch.Tensor) -> None:
        """Replaces a tensor; its shape and its precision stay."""
        precision, rows, columns = self.shape(name)
        values = values.numpy().astype(np.float32)
        if precision == "vector":
            data = values.tobytes()
        elif precision == "f16":
            data = values.astype(np.float16).reshape(rows // WIDE, WIDE, columns).transpose(0, 2, 1).tobytes()
        else:
            outputs = -(-rows // NARROW) * NARROW
            padded = np.zeros((outputs, columns), dtype=np.float32)
            padded[:rows] = values
            scales = np.abs(padded).max(1) / np.float32(127)
            levels = np.rint(padded / np.where(scales > 0, scales, 1)[:, None]) + 128
            # The padding below the last output is bytes of zero.
            levels[rows:] = 0
            panels = levels.astype(np.uint8).reshape(outputs // NARROW, NARROW, columns // 4, 4).transpose(0, 2, 1, 3)
            data = scales.astype(np.float32).tobytes() + panels.tobytes()
        place = self.place(name)
        if len(data) > place.stop - place.start:
            raise ValueError(f"{name}: {values.shape} is not the shape in the file")
        self.file[place] = data.ljust(place.stop - place.start, b"\0")

    def save(self, path: Path) -> None:
        """Writes the file with fresh checksums, which take the place of the old ones in the header."""
        old = self.metadata["crc32"]
        places = sorted(self.place(name).start for name in self.header)
        ends = {self.place(name).start: self.place(name).stop for name in self.header}
        new = "".join(f"{zlib.crc32(self.file[begin : ends[begin]]):08x}" for begin in places)
        at = self.file.index(f'"crc32":"{old}"'.encode(), 8, self.start) + len('"crc32":"')
        self.file[at : at + len(new)] = new.encode()
        path.write_bytes(self.file)


def begin(work: Path, embedded: Path) -> None:
    """Takes the tokenizer of a converted file, and the codes of the program's pico, for the training in `work`."""
    (work / "tokenizer.json").write_text(Converted(embedded).metadata["tokenizer.json"])
    longest = json.loads(CODES.read_text())
    (work / "codes.json").write_text(json.dumps([(phone, left) for phone, count in longest.items() for left in range(1, count + 1)], ensure_ascii=False))


def load(model: t3.T3, embedded: Path) -> None:
    """Fills a T3 from a converted file. What was folded at the export stays folded: words and codes have their sums as their own part."""
    file = Converted(embedded)
    state = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    state |= {name: model.state_dict()[name] for name in ("rows", "phone_of", "left_of")}
    for name in file.packed:
        if name.startswith("tfmr.wpe"):
            value = file.read(name)
            state[name][: len(value)] = value
        elif name.startswith(("tfmr.", "speech_head.", "cond_enc.spkr_enc.bias")):
            value = file.read(name)
            # GPT-2's linear layers are [inputs, outputs] in training.
            state[name] = value.T if ".h." in name and value.ndim == 2 else value
    state["own.weight"], state["code_own.weight"] = file.read("text_emb.weight"), file.read("speech_emb.weight")
    model.load_state_dict(state)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--embedded", type=Path, required=True, help="the converted file whose T3 is replaced")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bits", type=int, default=8, help="round large tensors to so many bits")
    parser.add_argument("--share", type=float, default=1.0, help="the share of the trained weights in a mean with those in the file")
    args = parser.parse_args()
    model, _ = t3.make(args.work, args.data)
    model.load_state_dict(averaged(args.work, "t3"))
    file = Converted(args.embedded)
    with torch.no_grad():
        tensors = t3_tensors(model, list(range(len(model.own.weight))))
    for name, value in tensors.items():
        value = value.detach().float()
        value = value.T if ".h." in name and value.ndim == 2 else value
        value = args.share * value + (1 - args.share) * file.read(name)
        # Outputs come first by now, also in GPT-2's layers, which `rounded` knows by their names.
        file.write(name, rounded("", value, args.bits) if file.shape(name)[0] == "int8" else value)
    file.save(args.out)


if __name__ == "__main__":
    main()
