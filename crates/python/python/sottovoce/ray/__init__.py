"""Many machines, by Ray: speech as a Ray Serve application, and batches of texts by Ray Data.

``pip install 'sottovoce[ray]'``. Nothing here schedules: Ray starts, scales and replaces replicas,
and keeps the batch's checkpoints.

>>> from ray import serve
>>> import sottovoce.ray
>>> serve.run(sottovoce.ray.app({"memory": "512MiB", "replicas": 2}))
>>> # OpenAI's calls, at http://127.0.0.1:8000/v1

>>> sottovoce.ray.speak_table("book.csv", "book", memory="512MiB")
>>> # book/audio/*.wav, one a row, and book/rows/*.parquet
"""

from __future__ import annotations

from ..errors import MissingPackageError

try:
    import ray.data
    import ray.serve
except ImportError as error:
    raise MissingPackageError(
        "sottovoce.ray needs Ray: pip install 'sottovoce[ray]'"
    ) from error

from .batches import BatchReport, read_rows, speak_table
from .serving import Gateway, Replica, ServingOptions, app, replicas_wanted

__all__ = [
    "BatchReport",
    "Gateway",
    "Replica",
    "ServingOptions",
    "app",
    "read_rows",
    "replicas_wanted",
    "speak_table",
]
