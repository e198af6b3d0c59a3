"""Trains T3: text tokens to speech codes, a GPT-2 whose tensors carry the reference's names."""

import argparse
import pickle
import random
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from . import networks, spelling
from .loop import HAS_BF16, optimisers, train
from .phones import Codes

HIDDEN, LAYERS, HEADS, FEED_FORWARD, POSITIONS = 256, 6, 4, 1024, 768
# Sentences of each kind that a report is made from, every two minutes: with more it takes as long as the training.
HELD_OUT = 60


class Projection(nn.Module):
    """GPT-2's linear layer, stored [in, out]."""

    def __init__(self, inner: int, outer: int, scale: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inner, outer) * 0.5 * scale * inner**-0.5)
        self.bias = nn.Parameter(torch.zeros(outer))

    def forward(self, x):
        return x @ self.weight + self.bias


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1 = nn.LayerNorm(HIDDEN)
        self.attn = nn.ModuleDict({"c_attn": Projection(HIDDEN, 3 * HIDDEN), "c_proj": Projection(HIDDEN, HIDDEN, 0.3)})
        self.ln_2 = nn.LayerNorm(HIDDEN)
        self.mlp = nn.ModuleDict({"c_fc": Projection(HIDDEN, FEED_FORWARD), "c_proj": Projection(FEED_FORWARD, HIDDEN, 0.3)})

    def forward(self, x, cache: list | None = None):
        batch, time, _ = x.shape
        q, k, v = (p.view(batch, time, HEADS, -1).transpose(1, 2) for p in self.attn["c_attn"](self.ln_1(x)).split(HIDDEN, dim=2))
        if cache is not None:
            if cache:
                k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
            cache[:] = [k, v]
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=time > 1)
        x = x + self.attn["c_proj"](mixed.transpose(1, 2).reshape(batch, time, HIDDEN))
        return x + self.mlp["c_proj"](F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh"))


class T3(nn.Module):
    """Speaker, text, start, codes. `text_table` is built from pronunciations while training (see `spelling`)."""

    def __init__(self, text_vocabulary: int, codes: Codes, word_phones: dict[int, list[int]], phone_count: int):
        super().__init__()
        self.codes = codes
        self.cond_enc = nn.ModuleDict({"spkr_enc": nn.Linear(256, HIDDEN)})
        self.tfmr = nn.ModuleDict({"wpe": nn.Embedding(POSITIONS, HIDDEN), "h": nn.ModuleList(Block() for _ in range(LAYERS)), "ln_f": nn.LayerNorm(HIDDEN)})
        self.own = nn.Embedding(text_vocabulary, HIDDEN)
        # One row for each (place, phone); row 0 is empty.
        self.place_phone = nn.Embedding(1 + spelling.PLACES * phone_count, HIDDEN, padding_idx=0)
        rows = torch.zeros(text_vocabulary, spelling.PLACES, dtype=torch.long)
        for token, phones in word_phones.items():
            for place, phone in enumerate(phones):
                rows[token, place] = 1 + place * phone_count + phone
            # A whole word has most of its meaning in its phones.
            self.own.weight.data[token] *= 0.05
        self.register_buffer("rows", rows)
        # Codes share a part by phone and a part by count, so that rare combinations are not strangers.
        self.code_own = nn.Embedding(len(codes.list) + 2, HIDDEN)
        self.code_phone = nn.Embedding(len(codes.phones) + 2, HIDDEN)
        self.code_left = nn.Embedding(12, HIDDEN)
        phone_of = [codes.phones.index(p) for p, _ in codes.list] + [len(codes.phones), len(codes.phones) + 1]
        self.register_buffer("phone_of", torch.tensor(phone_of))
        self.register_buffer("left_of", torch.tensor([left for _, left in codes.list] + [0, 11]))
        self.speech_head = nn.Linear(HIDDEN, len(codes.list) + 2)
        for table in (self.tfmr["wpe"], self.own, self.code_own, self.code_phone, self.code_left):
            table.weight.data *= 0.1
        self.own.weight.data *= 3
        self.place_phone.weight.data *= 0.15
        self.code_own.weight.data *= 0.3

    def text_table(self) -> torch.Tensor:
        return self.own.weight + self.place_phone(self.rows).sum(1)

    def text(self, ids):
        return self.own(ids) + self.place_phone(self.rows[ids]).sum(-2)

    def speech_table(self) -> torch.Tensor:
        return self.code_own.weight + self.code_phone(self.phone_of) + self.code_left(self.left_of)

    def trunk(self, x, first: int = 0, caches=None):
        x = x + self.tfmr["wpe"](torch.arange(first, first + x.shape[1]))
        for i, block in enumerate(self.tfmr["h"]):
            x = block(x, None if caches is None else caches[i])
        return self.tfmr["ln_f"](x)

    def forward(self, kind, text, codes):
        """Hidden states of whole sequences. `kind` [batch, time]: 0 speaker, 1 text, 2 code; `text` and `codes` hold ids where they apply."""
        is_text = (kind == 1).unsqueeze(-1)
        speaker = self.cond_enc["spkr_enc"](networks.speaker_embedding())
        x = torch.where(is_text, self.text(text), F.embedding(codes, self.speech_table()))
        x = torch.where((kind == 0).unsqueeze(-1), speaker, x)
        return self.trunk(x)

    @torch.no_grad()
    def generate(self, text: list[int], limit: int = 500) -> list[int]:
        """The likeliest codes, one by one."""
        table = self.speech_table()
        x = torch.cat([self.cond_enc["spkr_enc"](networks.speaker_embedding())[None], self.text(torch.tensor(text)), table[self.codes.start][None]])[None]
        caches: list[list] = [[] for _ in range(LAYERS)]
        out: list[int] = []
        first = 0
        while len(out) < limit and first + x.shape[1] <= POSITIONS:
            hidden = self.trunk(x, first, caches)
            first += x.shape[1]
            code = int(self.speech_head(hidden[0, -1]).argmax())
            if code == self.codes.stop:
                break
            out.append(code)
            x = table[code][None, None]
        return out


class Sentences:
    """Encoded sentences of all token shards, and batches of similar length."""

    def __init__(self, work: Path, data: Path, codes: Codes):
        self.codes, self.tokenizer = codes, spelling.build(work, data)
        self.vocabulary = self.tokenizer.get_vocab()
        # Sentences as corpora have them, and as the text front end makes them of written ones.
        self.items, self.written = self.encoded(work, "tokens"), self.encoded(work, "written")
        self.held_out, self.items = self.items[:HELD_OUT], self.items[HELD_OUT:]
        self.held_out_written, self.written = self.written[:HELD_OUT], self.written[HELD_OUT:]

    def encoded(self, work: Path, kind: str) -> list[tuple[list[list[int]], list[int], list[str]]]:
        """Text tokens by word, speech codes and words of the sentences in the shards of a kind."""
        items = []
        for file in sorted(work.glob(f"{kind}_*.pickle")):
            for item in pickle.loads(file.read_bytes()):
                speech = self.codes.encode(item["parts"])
                if speech is None or len(speech) > 300:
                    continue
                words = re.findall(r"[a-z]+(?:'[a-z]+)*|[.,?!;-]", item["text"])
                items.append(([self.segment(w, None) for w in words], speech, words))
        return items

    def segment(self, word: str, without: str | None) -> list[int]:
        """WordPiece of one word, as if `without` were not in the vocabulary."""
        ids, at = [], 0
        while at < len(word):
            end = len(word)
            while end > at:
                piece = word[at:end] if at == 0 else "##" + word[at:end]
                if piece in self.vocabulary and piece != without:
                    break
                end -= 1
            if end == at:
                return [0]
            ids.append(self.vocabulary[piece])
            at = end
        return ids

    def sequence(self, item, dropping: float) -> tuple[list[int], list[int]]:
        segments, speech, words = item
        text: list[int] = []
        for segment, word in zip(segments, words):
            text += self.segment(word, word) if len(word) > 3 and len(segment) == 1 and random.random() < dropping else segment
        return text, speech

    def collate(self, items, dropping: float):
        made = [self.sequence(item, dropping) for item in items]
        length = max(len(t) + len(s) for t, s in made) + 2
        kind = torch.full((len(made), length), 2)
        text = torch.zeros(len(made), length, dtype=torch.long)
        code = torch.full((len(made), length), self.codes.stop)
        target = torch.full((len(made), length), -100)
        for row, (t, s) in enumerate(made):
            kind[row, 0], kind[row, 1 : 1 + len(t)] = 0, 1
            text[row, 1 : 1 + len(t)] = torch.tensor(t)
            first = 1 + len(t)
            code[row, first : first + 1 + len(s)] = torch.tensor([self.codes.start] + s)
            target[row, first : first + 1 + len(s)] = torch.tensor(s + [self.codes.stop])
        return kind, text, code, target

    def batches(self, tokens: int, dropping: float = 0.12):
        """Batches of similar length; half of the sentences are written ones, if there are any."""
        while True:
            order = random.sample(self.items, min(len(self.items), 3000 if self.written else 6000))
            order += random.sample(self.written, min(len(self.written), 3000))
            order.sort(key=lambda item: len(item[1]) + len(item[2]))
            groups, group, longest = [], [], 0
            for item in order:
                longest = max(longest, len(item[1]) + len(item[2]) + 4)
                if longest * (len(group) + 1) > tokens:
                    groups.append(group)
                    group, longest = [], len(item[1]) + len(item[2]) + 4
                group.append(item)
            random.shuffle(groups)
            for group in groups:
                yield self.collate(group, dropping)


def loss_of(model, batch, progress):
    kind, text, code, target = batch
    # A wrong past now and then teaches the model to find its place again.
    wrong = (torch.rand(code.shape) < 0.02) & (code < model.codes.start)
    code = torch.where(wrong, torch.randint(0, model.codes.start, code.shape), code)
    with torch.autocast("cpu", torch.bfloat16, HAS_BF16):
        hidden = model(kind, text, code)
        wanted = target >= 0
        logits = model.speech_head(hidden[wanted]).float()
    loss = F.cross_entropy(logits, target[wanted], label_smoothing=0.0)
    right = (logits.argmax(1) == target[wanted]).float().mean()
    return loss, {"loss": loss, "right": right, "tokens": wanted.sum()}


def make(work: Path, data: Path) -> tuple[T3, Codes]:
    codes = Codes(work)
    vocabulary = spelling.build(work, data).get_vocab()
    known = {p: i for i, p in enumerate(codes.phones)}
    word_phones = {vocabulary[w]: [known[p] for p in phones if p in known] for w, phones in spelling.pronunciations(work).items() if w in vocabulary}
    return T3(len(vocabulary), codes, word_phones, len(codes.phones)), codes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=70)
    parser.add_argument("--tokens", type=int, default=3000)
    parser.add_argument("--pieces", type=float, default=0.12, help="the share of whole words that are cut into pieces while training")
    parser.add_argument("--rate", type=float, default=3e-3, help="the learning rate at first")
    parser.add_argument("--embedded", type=Path, help="start from the T3 of this converted file, where there is no checkpoint")
    args = parser.parse_args()
    torch.manual_seed(2)
    torch.set_num_threads(1)
    if args.embedded:
        from . import embedded

        embedded.begin(args.work, args.embedded)
    model, codes = make(args.work, args.data)
    if args.embedded:
        embedded.load(model, args.embedded)
    sentences = Sentences(args.work, args.data, codes)
    print(len(sentences.items), "sentences", sum(p.numel() for p in model.parameters()), "parameters", flush=True)

    def report(step: int) -> None:
        random.seed(4)
        model.eval()
        for name, items in (("held out", sentences.held_out), ("held out, written", sentences.held_out_written)):
            if items:
                with torch.no_grad():
                    loss, shown = loss_of(model, sentences.collate(items, 0.0), 1.0)
                print(f"{name}: loss {loss:.4f} right {shown['right']:.4f}", flush=True)
        model.train()
        random.seed(step)

    report(0)
    makers = optimisers(model, args.rate, lambda name: ".h." in name)
    train("t3", args.work, model, makers, sentences.batches(args.tokens, args.pieces), loss_of, args.minutes, report=report,
          warm_up=15 if args.embedded else 100)


if __name__ == "__main__":
    main()
