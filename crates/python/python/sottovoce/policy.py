"""When memory goes back: the profiles, and Python's own garbage."""

from __future__ import annotations

import gc
import threading
import time
from enum import Enum

from . import _checks

__all__ = ["MemoryProfile", "StreamingMemoryManager"]

#: What a collection is taken to need before one was timed, in seconds.
_COLLECTION_SECONDS = 0.1
#: A collection waits until the listener has so many times its length in hand.
_MARGIN = 3.0


class MemoryProfile(str, Enum):
    """How eagerly kept memory goes back."""

    AGGRESSIVE = "aggressive"
    """Every 5 chunks."""
    BALANCED = "balanced"
    """Every 10 chunks."""
    PERFORMANCE = "performance"
    """Every 20 chunks, without dropping what can be made again."""
    AUTOMATIC = "automatic"
    """By the device's size."""
    NONE = "none"
    """Never."""

    def __str__(self) -> str:
        return self.value


class StreamingMemoryManager:
    """Looks at memory every ``chunk_interval`` chunks.

    Given to an engine (``Engine(..., memory_manager=...)``), the engine's own policy goes by this
    interval. With ``enable_gc`` Python's garbage is collected at the same points, but never while
    audio is due: a collection waits until the listener has enough audio in hand, or the stream
    ended.

    One manager may serve several engines and threads.
    """

    def __init__(self, chunk_interval: int = 10, enable_gc: bool = True) -> None:
        self.chunk_interval = _checks.count("chunk_interval", chunk_interval, 1)
        self.enable_gc = _checks.switch("enable_gc", enable_gc)
        self._lock = threading.Lock()
        self._chunks = 0
        self._due = False
        self._collections = 0
        self._collection_seconds = _COLLECTION_SECONDS

    @property
    def gc_collect_count(self) -> int:
        """Times that Python's garbage was collected."""
        return self._collections

    def chunk_done(self) -> None:
        """Counts a chunk that was handed out."""
        with self._lock:
            self._chunks += 1
            if self._chunks % self.chunk_interval == 0:
                self._due = self.enable_gc

    def idle(self, seconds_in_hand: float) -> bool:
        """Collects garbage if it is due and the listener has audio for long enough.

        ``seconds_in_hand`` is the audio that was handed out and not played yet; infinite where no
        stream is under way. Returns whether garbage was collected.
        """
        if not self._due or seconds_in_hand < self._collection_seconds * _MARGIN:
            return False
        with self._lock:
            if not self._due:
                return False
            self._due = False
        began = time.perf_counter()
        gc.collect()
        with self._lock:
            self._collections += 1
            self._collection_seconds = time.perf_counter() - began
        return True
