"""Tables of texts, spoken by Ray Data into files or into Parquet.

A job is a folder: ``texts`` has the table with its rows numbered, ``rows`` the result, ``audio``
the sound where it goes into files, and ``checkpoint`` what Ray Data notes of rows that are done.
Ray reads ``texts``, leaves out what is done, speaks the rest on replicas and commits each file of
``rows`` in two phases. So a job that was broken off goes on where it was, and has each row once.
"""

from __future__ import annotations

import inspect
import io
import itertools
import json
import os
import wave
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet
import ray.data
from pydantic import ByteSize, TypeAdapter, ValidationError
from ray.data.checkpoint import CheckpointConfig

from .. import _checks
from ..engine import SAMPLE_RATE, Engine, Voice
from ..errors import ArgumentError, ClosedError, DeviceError, FaultError, SottovoceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BatchReport", "read_rows", "speak_table"]

#: What a replica takes beyond its budget: Python, Arrow and the worker of Ray's.
PROCESS_BYTES = 384 << 20
#: Columns that a job adds.
ROW, NAME, PATH, AUDIO, SECONDS, ERROR = "row", "name", "path", "audio", "seconds", "error"
#: Digits of a file's number.
_DIGITS = 8
#: Formats of tables, by the end of their names.
_FORMATS = {".csv": "csv", ".parquet": "parquet", ".json": "json", ".jsonl": "json"}
#: Memory that Ray sets aside for the numbers of rows that are done: it takes more where it must.
_CHECKPOINT_BYTES = 64 << 20


@dataclass(frozen=True)
class BatchReport:
    """How a job ended."""

    rows: int
    """Rows of the table."""
    spoken: int
    """Of them, those that were spoken now."""
    done_before: int
    """Of them, those that were done before this call."""
    failed: int
    """Of all rows, those that have an error in place of sound."""
    audio_seconds: float
    """Seconds of speech, of all rows."""


def speak_table(
    table: str | os.PathLike[str] | pa.Table | ray.data.Dataset | Iterable[Mapping[str, Any]],
    out: str | os.PathLike[str],
    *,
    into: str = "files",
    text: str = "text",
    voice: str | None = None,
    name: str | None = None,
    model: str | os.PathLike[str] = "pico",
    memory: int | str = "1GiB",
    engine: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    replicas: int | tuple[int, int] = 1,
    cpus: float = 1.0,
    gpus: float = 0.0,
    rows_at_once: int = 32,
) -> BatchReport:
    """Speaks each row of a table, on as many replicas as Ray has room for.

    Call it again with the same arguments to go on with a job that was broken off. Ray shows the
    progress. The result is read with :func:`read_rows`, in the order of the table.

    Parameters
    ----------
    table
        A ``.csv``, ``.parquet``, ``.json`` or ``.jsonl`` file, a folder of such, an Arrow table, a
        Ray data set, or dictionaries, one a row. A job that goes on does not look at it again.
    out
        The job's folder, which all nodes see: a path, or a URI that Arrow knows, such as ``s3://``.
    into
        ``"files"``: sound is 16-bit WAV in ``out/audio``, and the column ``path`` names its file.
        ``"parquet"``: the column ``audio`` has ``{"bytes": WAV, "path": name}``.
    text, voice
        Columns with the text and, if it is given, with the voice: a name or a path.
    name
        A column that names the output; by default it is the row's number. Names are unique.
    model, memory, engine
        The model, the budget of a replica, and further options of :class:`sottovoce.Engine`.
    options
        Options of :meth:`sottovoce.Engine.stream`, the same for all rows.
    replicas
        Engines, or the least and the most of them.
    cpus, gpus
        Cores and GPUs of a replica. Reading and writing need one core beside them: without it the
        job waits.
    rows_at_once
        Rows that are begun, committed and, if a replica is lost, spoken again together.

    A row that cannot be spoken, for its text or its voice, has the reason in the column ``error``;
    others have ``None`` there. The columns of the table are kept.

    Raises
    ------
    ArgumentError
        An argument cannot be used, a column is missing, or ``out`` has a job with others.
    """
    if into not in ("files", "parquet"):
        raise ArgumentError("argument into: use files or parquet", argument="into")
    rows_at_once = _checks.count("rows_at_once", rows_at_once, 1)
    settings = {
        "into": into,
        "text": _checks.text("text", text),
        "voice": None if voice is None else _checks.text("voice", voice),
        "name": None if name is None else _checks.text("name", name),
        "model": _checks.path("model", model),
        "engine": dict(engine or {}),
        "options": _known(options or {}),
    }
    job = _Job(out)
    rows = job.begin(table, settings, rows_at_once)
    done_before = job.done()
    least, most = replicas if isinstance(replicas, tuple) else (replicas, replicas)
    budget = _bytes(memory)
    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.checkpoint_config = job.checkpoint()
    with ray.data.DataContext.current(context):
        # A block is what Ray speaks, commits and, if a replica is lost, does again together.
        texts = ray.data.read_parquet(job.uri("texts"))
        texts.repartition(target_num_rows_per_block=rows_at_once).map_batches(
            _Speaker,
            fn_constructor_args=(job.out, settings, budget, cpus, gpus),
            batch_size=rows_at_once,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
            num_cpus=cpus,
            num_gpus=gpus or None,
            memory=PROCESS_BYTES + (0 if gpus else budget),
        ).write_parquet(job.uri("rows"))
    return job.report(rows, done_before)


def read_rows(out: str | os.PathLike[str]) -> ray.data.Dataset:
    """The rows of a job that are done, in the order of the table."""
    paths, in_order = _Job(out).files()
    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    with ray.data.DataContext.current(context):
        rows = ray.data.read_parquet(paths)
        return rows if in_order else rows.sort(ROW)


class _Job:
    """A job's folder."""

    def __init__(self, out: str | os.PathLike[str]) -> None:
        name = _checks.path("out", out)
        self.out = name if "://" in name else os.path.abspath(name)
        self._files, self._root = pyarrow.fs.FileSystem.from_uri(self.out)

    def uri(self, part: str) -> str:
        """Where a part of it is, for Ray."""
        return f"{self.out}/{part}"

    def begin(self, table: Any, settings: dict[str, Any], rows_at_once: int) -> int:
        """Numbers and keeps the table, or finds that this was done; the number of rows."""
        note = f"{self._root}/job.json"
        if self._files.get_file_info(note).type == pyarrow.fs.FileType.File:
            with self._files.open_input_stream(note) as file:
                kept = json.loads(file.read())
            rows: int = kept.pop("rows")
            given = json.loads(json.dumps(settings))
            different = [key for key in given if given[key] != kept.get(key)]
            if different:
                raise ArgumentError(
                    f"argument {different[0]}: {self.out} has a job with another one: use another "
                    "folder",
                    argument=different[0],
                )
            return rows
        rows = 0
        folder = f"{self._root}/texts"
        self._files.create_dir(folder, recursive=True)
        self._files.delete_dir_contents(folder, missing_dir_ok=True)
        for part, piece in enumerate(_numbered(_batches(table), settings, rows_at_once)):
            rows += piece.num_rows
            path = f"{folder}/{part:0{_DIGITS}}.parquet"
            pyarrow.parquet.write_table(piece, path, filesystem=self._files)
        if not rows:
            raise ArgumentError("argument table: it has no rows", argument="table")
        _write(self._files, note, json.dumps({**settings, "rows": rows}).encode())
        return rows

    def checkpoint(self) -> CheckpointConfig:
        """How Ray Data notes which rows are done."""
        config = CheckpointConfig(
            ROW, self.uri("checkpoint"), delete_checkpoint_on_success=False
        )
        config.checkpoint_actor_memory_bytes = _CHECKPOINT_BYTES
        return config

    def done(self) -> int:
        """Rows that are done."""
        return sum(len(piece) for piece in self._done([ROW]))

    def report(self, rows: int, done_before: int) -> BatchReport:
        """What the job has come to."""
        done, failed, seconds = 0, 0, 0.0
        for piece in self._done([SECONDS, ERROR]):
            done += len(piece)
            failed += len(piece) - piece.column(ERROR).null_count
            seconds += pc.sum(piece.column(SECONDS)).as_py() or 0.0
        return BatchReport(rows, done - done_before, done_before, failed, seconds)

    def files(self) -> tuple[list[str], bool]:
        """Files of rows by their first row, for Ray, and whether that is the table's order."""
        folder = self._files.get_file_info(pyarrow.fs.FileSelector(f"{self._root}/rows"))
        paths = [file.path for file in folder if file.extension == "parquet"]
        if not paths:
            raise ArgumentError(f"argument out: no row of {self.out} is done", argument="out")
        with ThreadPoolExecutor() as pool:
            ranges = sorted(zip(pool.map(self._range, paths), paths, strict=True))
        in_order = all(
            before[1] < after[0] for (before, _), (after, _) in itertools.pairwise(ranges)
        )
        prefix = self.out[: len(self.out) - len(self._root)]
        return [prefix + path for _, path in ranges], in_order

    def _range(self, path: str) -> tuple[int, int]:
        """First and last row of a file."""
        with pyarrow.parquet.ParquetFile(path, filesystem=self._files) as file:
            groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
            place = file.schema_arrow.get_field_index(ROW)
            columns = [group.column(place).statistics for group in groups]
        return min(one.min for one in columns), max(one.max for one in columns)

    def _done(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        folder = f"{self._root}/rows"
        if self._files.get_file_info(folder).type != pyarrow.fs.FileType.Directory:
            return
        kept = pyarrow.dataset.dataset(folder, filesystem=self._files, format="parquet")
        if kept.files:
            yield from kept.to_batches(columns=columns)


class _Speaker:
    """A replica: an engine with a budget or a GPU of its own."""

    def __init__(
        self, out: str, settings: dict[str, Any], budget: int, cpus: float, gpus: float
    ) -> None:
        self._settings = settings
        self._load: dict[str, Any] = {
            "model": settings["model"],
            "memory": budget,
            "device": "cuda" if gpus else "cpu",
            "threads": max(1, int(cpus)),
            **settings["engine"],
        }
        self._engine = Engine(**self._load)
        self._voices: dict[str, Voice] = {}
        self._files, self._root = pyarrow.fs.FileSystem.from_uri(out)
        self._files.create_dir(f"{self._root}/audio", recursive=True)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The batch with its sound, or where that is, and with errors."""
        if self._engine.closed:
            self._engine, self._voices = Engine(**self._load), {}
        rows = batch.to_pylist()
        # As many as fit the budget speak together; their order is the table's.
        with ThreadPoolExecutor(max(1, self._engine.streams_max)) as pool:
            spoken = list(pool.map(self._row, rows))
        columns: dict[str, pa.DataType] = {SECONDS: pa.float64(), ERROR: pa.string()}
        if self._settings["into"] == "files":
            columns[PATH] = pa.string()
        else:
            columns[AUDIO] = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        for column, kind in columns.items():
            values = pa.array([one.get(column) for one in spoken], kind)
            batch = batch.append_column(column, values)
        return batch

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        path = f"audio/{row[NAME]}.wav"
        kept = self._settings["into"] == "files"
        target = f"{self._root}/{path}"
        if kept and self._files.get_file_info(target).type == pyarrow.fs.FileType.File:
            # Of a batch that was broken off.
            with self._files.open_input_file(target) as file, wave.open(file, "rb") as sound:
                return {PATH: path, SECONDS: sound.getnframes() / SAMPLE_RATE}
        try:
            samples = self._engine.speak(
                row[self._settings["text"]],
                self._voice(row),
                **{"delivery": "whole", **self._settings["options"]},
            )
        except (ClosedError, DeviceError, FaultError):
            # The engine's fault and not the row's: Ray ends the job, which may go on later.
            raise
        except SottovoceError as error:
            return {ERROR: str(error)}
        answer: dict[str, Any] = {SECONDS: len(samples) / SAMPLE_RATE}
        if kept:
            _write(self._files, target, _wav(samples))
            return {**answer, PATH: path}
        return {**answer, AUDIO: {"bytes": _wav(samples), "path": f"{row[NAME]}.wav"}}

    def _voice(self, row: dict[str, Any]) -> Voice | None:
        column = self._settings["voice"]
        wanted = None if column is None else row[column]
        if wanted is None:
            return None
        if wanted not in self._voices:
            self._voices[wanted] = self._engine.voice(wanted)
        return self._voices[wanted]


def _batches(table: Any) -> Iterator[pa.RecordBatch]:
    """The table in pieces, in its order."""
    if isinstance(table, pa.Table):
        yield from table.to_batches()
    elif isinstance(table, ray.data.Dataset):
        for piece in table.iter_batches(batch_format="pyarrow", batch_size=None):
            yield from piece.to_batches()
    elif isinstance(table, (str, os.PathLike)):
        path = _checks.path("table", table)
        kind = _FORMATS.get(os.path.splitext(path)[1].lower(), "parquet")
        try:
            yield from pyarrow.dataset.dataset(path, format=kind).to_batches()
        except (OSError, pa.ArrowException) as error:
            raise ArgumentError(f"argument table: {error}", argument="table") from error
    elif isinstance(table, Iterable):
        rows = iter(table)
        while piece := list(itertools.islice(rows, 1024)):
            yield from pa.Table.from_pylist(piece).to_batches()
    else:
        raise _checks.wrong_type("table", table, "a path, an Arrow table, a data set or rows")


def _numbered(
    batches: Iterable[pa.RecordBatch], settings: dict[str, Any], rows_at_once: int
) -> Iterator[pa.Table]:
    """The table in pieces of at most ``rows_at_once`` rows, with numbers and names of outputs."""
    names: set[str] = set()
    first = 0
    for piece in _pieces(batches, rows_at_once):
        _columns(piece, settings)
        numbers = range(first, first + piece.num_rows)
        first += piece.num_rows
        column = settings["name"]
        if column is None:
            given = [f"{number:0{_DIGITS}}" for number in numbers]
        else:
            given = [_file_name(value) for value in piece.column(column).to_pylist()]
            for name in given:
                if name in names:
                    raise ArgumentError(
                        f"argument name: {name!r} names two rows of column {column}",
                        argument="name",
                    )
                names.add(name)
            if column == NAME:
                piece = piece.drop_columns([NAME])
        piece = piece.append_column(ROW, pa.array(numbers, pa.int64()))
        yield piece.append_column(NAME, pa.array(given, pa.string()))


def _pieces(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of so many, but for the last."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        while count + batch.num_rows >= rows:
            needed = rows - count
            yield pa.Table.from_batches([*waiting, batch.slice(0, needed)])
            batch, waiting, count = batch.slice(needed), [], 0
        if batch.num_rows:
            waiting.append(batch)
            count += batch.num_rows
    if waiting:
        yield pa.Table.from_batches(waiting)


def _columns(piece: pa.Table, settings: dict[str, Any]) -> None:
    """Refuses a table without the columns that are named, or with those that a job adds."""
    for argument in ("text", "voice", "name"):
        column = settings[argument]
        if column is not None and column not in piece.column_names:
            raise ArgumentError(
                f"argument {argument}: the table has no column {column}, only "
                f"{', '.join(piece.column_names)}",
                argument=argument,
            )
    added = {ROW, PATH, AUDIO, SECONDS, ERROR, NAME} - {settings["name"]}
    for column in piece.column_names:
        if column in added:
            raise ArgumentError(
                f"argument table: the job itself adds a column {column}: rename it",
                argument="table",
            )


def _file_name(value: object) -> str:
    """A name that stays within its folder on every system."""
    name = quote(str(value), safe=" ")
    if value is None or not name.strip(". "):
        raise ArgumentError(f"argument name: {value!r} names no file", argument="name")
    return name


def _known(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, if they are those of a stream and can be kept as JSON."""
    known = set(inspect.signature(Engine.stream).parameters) - {"self", "text", "voice"}
    for option, value in options.items():
        if option not in known:
            raise ArgumentError(
                f"argument options: there is no option {option} of a stream", argument="options"
            )
        if not isinstance(value, (str, int, float, bool)):
            raise _checks.wrong_type(f"options[{option!r}]", value, "a number, a word or a switch")
    return dict(options)


def _bytes(memory: int | str) -> int:
    """A budget, which is also what Ray sets aside."""
    try:
        return int(TypeAdapter(ByteSize).validate_python(memory))
    except ValidationError as error:
        raise ArgumentError(
            "argument memory: use bytes, or a size such as 512MiB", argument="memory"
        ) from error


def _wav(samples: NDArray[np.float32]) -> bytes:
    """A WAV file of 16-bit samples."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((np.clip(samples, -1.0, 1.0) * 32767).astype("<i2").tobytes())
    return data.getvalue()


def _write(files: pyarrow.fs.FileSystem, path: str, data: bytes) -> None:
    """Writes a file that is there whole or not at all."""
    unfinished = f"{path}.{uuid4().hex}.part"
    with files.open_output_stream(unfinished) as file:
        file.write(data)
    files.move(unfinished, path)
