"""A Ray Serve application: the server's own routes over replicas that Ray starts and scales.

Ray's HTTP proxy hands a request to a :class:`Gateway`, which picks a :class:`Replica` by Ray's
router. Each replica has a budget of memory, or a GPU, and the server (``sottovoce serve``) as its
child on a loopback port, so that every route, option and error is the server's own. A request whose
replica dies before the answer began goes to another replica.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
from pydantic import BaseModel, ByteSize, ConfigDict, Field, model_validator
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.config import (
    AutoscalingConfig,
    AutoscalingContext,
    AutoscalingPolicy,
    BackpressureConfig,
)
from ray.serve.exceptions import BackPressureError, ReplicaUnavailableError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from yarl import URL

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

__all__ = ["Gateway", "Replica", "ServingOptions", "app", "replicas_wanted"]

#: What a replica takes beyond its budget: the server's program, and the worker of Ray's, in Python.
PROCESS_BYTES = 384 << 20
#: The share of the replicas' budgets in use at which another replica is asked for.
BUDGET_SHARE = 0.8
#: Replicas that a request is given to, one after the other, until one begins to answer.
ATTEMPTS_MAX = 5
#: Requests that one replica has at once, for each stream: one speaks, the next is at hand.
REQUESTS_PER_STREAM = 2
#: Requests that a gateway holds at once. It does nothing but pass them on.
GATEWAY_REQUESTS_MAX = 1024
#: The largest body, a recording: the server has its own, smaller limits.
BODY_BYTES_MAX = 32 << 20
#: Seconds after which a request that found the line full may come again.
RETRY_SECONDS = 2
#: Seconds that a replica waits for its server's figures.
_FIGURES_SECONDS = 2.0
#: Seconds that a server without streams needs to end.
_END_SECONDS = 5.0
#: Options of the server that the application sets.
_OF_THE_APPLICATION = frozenset(
    {"address", "device", "json", "lazy", "memory", "model", "port", "streams", "streams_max"}
    | {"threads"}
)
#: Headers that belong to one connection.
_OF_THE_CONNECTION = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


#: Headers that Ray's proxy sets itself; its request id is the one that the server was given.
_OF_THE_PROXY = frozenset({"date", "server", "x-request-id"})


class ServingOptions(BaseModel):
    """How speech is served; the arguments of :func:`app`."""

    model_config = ConfigDict(extra="forbid")

    model: str = "pico"
    """``"pico"``, ``"base"``, ``"turbo"``, ``"nano"`` or a folder that every node has."""
    memory: ByteSize = Field(default=ByteSize(512 << 20), validate_default=True, gt=0)
    """A replica's budget, as bytes or a size such as ``"512MiB"``. With ``gpus`` the device's."""
    streams: int = Field(default=8, ge=1)
    """Streams that a replica has under way together; fewer where the budget holds fewer."""
    cpus: float = Field(default=1.0, gt=0)
    """Cores that a replica takes; the server computes with as many threads."""
    gpus: float = Field(default=0.0, ge=0)
    """GPUs that a replica takes: 1 gives each replica one of its own, below 1 they share."""
    replicas: int | None = Field(default=None, ge=1)
    """Replicas, where their number is fixed."""
    replicas_min: int = Field(default=1, ge=0)
    """Fewest replicas."""
    replicas_max: int = Field(default=8, ge=1)
    """Most replicas."""
    queue: int = Field(default=128, ge=0)
    """Requests that may wait at a gateway; further ones are answered with 429."""
    gateways: int = Field(default=1, ge=1)
    """Gateways, each of which takes a twentieth of a core."""
    server: dict[str, str | int | float | bool | list[str]] = Field(default_factory=dict)
    """Further options of ``sottovoce serve`` by name, such as ``{"api_key_file": "/keys"}``."""

    @model_validator(mode="after")
    def _whole(self) -> ServingOptions:
        if self.replicas_min > self.replicas_max:
            raise ValueError("replicas_min is more than replicas_max")
        for name in self.server:
            if name in _OF_THE_APPLICATION:
                raise ValueError(f"server: {name} is set by the application itself")
        return self


def app(arguments: dict[str, Any] | ServingOptions) -> serve.Application:
    """Builds the application, for ``serve.run``, ``serve run`` and a Serve config's import path.

    ``serve run sottovoce.ray:app memory=512MiB replicas=2`` serves OpenAI's calls at
    ``http://127.0.0.1:8000/v1``.

    ``arguments`` are those of :class:`ServingOptions`.

    Raises ``pydantic.ValidationError``, which names the argument, for one that cannot be used.
    """
    options = ServingOptions.model_validate(arguments)
    ongoing = options.streams * REQUESTS_PER_STREAM
    scale: dict[str, Any] = {"num_replicas": options.replicas}
    if options.replicas is None:
        scale = {
            "autoscaling_config": AutoscalingConfig(
                min_replicas=options.replicas_min,
                max_replicas=options.replicas_max,
                target_ongoing_requests=options.streams,
                policy=AutoscalingPolicy(policy_function=replicas_wanted),
            )
        }
    replica = serve.deployment(Replica).options(
        name="Replica",
        ray_actor_options=replica_resources(options),
        max_ongoing_requests=ongoing,
        max_queued_requests=options.queue,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=RETRY_SECONDS),
        health_check_period_s=5,
        health_check_timeout_s=15,
        graceful_shutdown_timeout_s=30,
        **scale,
    )
    gateway = serve.deployment(Gateway).options(
        name="Gateway",
        num_replicas=options.gateways,
        ray_actor_options={"num_cpus": 0.05},
        max_ongoing_requests=GATEWAY_REQUESTS_MAX,
    )
    return gateway.bind(replica.bind(options.model_dump()))


def replica_resources(options: ServingOptions) -> dict[str, float]:
    """What Ray sets aside for a replica."""
    # A GPU's budget lies on the GPU: Ray counts that by GPUs, and by bytes the host's memory.
    memory = PROCESS_BYTES + (0 if options.gpus else int(options.memory))
    return {"num_cpus": options.cpus, "num_gpus": options.gpus, "memory": memory}


def replicas_wanted(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """Replicas for the requests that there are, and for the budgets that are taken.

    Ray applies the bounds and delays of its autoscaling configuration to what this asks for.
    """
    by_queue = context.total_num_requests / context.config.target_ongoing_requests
    shares = (context.aggregated_metrics or {}).get("budget_share", {})
    by_budget = sum(shares.values()) / BUDGET_SHARE
    wanted = max(by_queue, by_budget)
    bounded = min(math.ceil(wanted), context.capacity_adjusted_max_replicas)
    return max(bounded, context.capacity_adjusted_min_replicas), {}


@dataclass(frozen=True)
class Call:
    """A request on its way to a replica."""

    method: str
    target: str
    """Path and query."""
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def repeatable(self) -> bool:
        """Whether another replica may be asked: a question or a speech, but no upload."""
        if self.method in ("GET", "HEAD", "OPTIONS"):
            return True
        kinds = [value for name, value in self.headers if name == "content-type"]
        return self.method == "POST" and all(kind.startswith("application/json") for kind in kinds)


@dataclass(frozen=True)
class Head:
    """How an answer begins; its body follows in pieces."""

    status: int
    headers: tuple[tuple[str, str], ...]


class ServerGoneError(RuntimeError):
    """A replica's server ended before it answered."""


class Replica:
    """A server with a budget or a GPU of its own, in a process below Ray's worker."""

    def __init__(self, options: dict[str, Any]) -> None:
        settings = ServingOptions.model_validate(options)
        self._keys = _Keys(settings.server)
        self._idle_bytes: int | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sottovoce._tied", *server_command(settings, self._keys.server)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        # The port opens when the model is loaded.
        assert self._process.stdout is not None
        announced = self._process.stdout.readline()
        if not announced:
            status = self._process.wait()
            raise RuntimeError(f"the server ended with status {status}: its log says why")
        self._address = f"http://{json.loads(announced)['address']}"
        self._session: aiohttp.ClientSession | None = None

    async def forward(self, call: Call) -> AsyncIterator[Head | bytes]:
        """The server's answer: a :class:`Head`, then its body in pieces."""
        try:
            answer = await self._http().request(
                call.method,
                URL(self._address + call.target, encoded=True),
                headers=list(call.headers),
                data=call.body or None,
                allow_redirects=False,
            )
        except aiohttp.ClientConnectionError as error:
            raise ServerGoneError(str(error)) from error
        async with answer:
            headers = _passed_on(answer.headers.items())
            yield Head(
                answer.status, tuple(pair for pair in headers if pair[0] not in _OF_THE_PROXY)
            )
            async for piece in answer.content.iter_any():
                yield piece

    async def check_health(self) -> None:
        """Raises if the server has to be started again: Ray replaces the replica."""
        status = self._process.poll()
        if status is not None:
            raise ServerGoneError(f"the server ended with status {status}")
        async with self._http().get(f"{self._address}/health/live") as answer:
            answer.raise_for_status()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """The share of the budget beyond the model itself that streams have taken, 0 to 1."""
        timeout = aiohttp.ClientTimeout(total=_FIGURES_SECONDS)
        url = f"{self._address}/memory"
        async with self._http().get(url, headers=self._keys.headers, timeout=timeout) as answer:
            answer.raise_for_status()
            figures = await answer.json()
        return {"budget_share": self._share(figures)}

    def _share(self, figures: dict[str, Any]) -> float:
        """Of room and of places, what is scarcer."""
        places = figures["streams_live"] / max(1, figures["streams_max"])
        engine = figures.get("engine") or {}
        budget, promised = engine.get("budget_bytes"), engine.get("promised_bytes", 0)
        if self._idle_bytes is None or promised < self._idle_bytes:
            self._idle_bytes = promised
        if not budget or budget <= self._idle_bytes:
            return float(places)
        room = (promised - self._idle_bytes) / (budget - self._idle_bytes)
        return float(max(places, room))

    def _http(self) -> aiohttp.ClientSession:
        # Made within the event loop. Streams last as long as they are listened to.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None),
                connector=aiohttp.TCPConnector(limit=0),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        return self._session

    def __del__(self) -> None:
        # Ray calls this once the requests under way are done. A constructor may have failed.
        process: subprocess.Popen[bytes] | None = getattr(self, "_process", None)
        if process is not None and process.stdin is not None:
            process.stdin.close()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        self._keys.close()


class Gateway:
    """Takes requests from Ray's proxy and gives each to a replica that begins to answer it."""

    def __init__(self, replica: DeploymentHandle[Any]) -> None:
        self._replica = replica.options(stream=True, method_name="forward")

    async def __call__(self, request: Request) -> Response:
        """The replica's answer, passed on as it comes."""
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > BODY_BYTES_MAX:
                return _refusal(
                    413,
                    "invalid_request_error",
                    None,
                    f"the body has more than {BODY_BYTES_MAX} bytes: send a shorter recording",
                )
        call = Call(request.method, _target(request), _headers(request), bytes(body))
        for _ in range(ATTEMPTS_MAX if call.repeatable else 1):
            pieces = self._replica.remote(call)
            try:
                head = await anext(pieces)
            except (RayActorError, ReplicaUnavailableError, ServerGoneError):
                continue
            except BackPressureError:
                refusal = _refusal(
                    429,
                    "rate_limit_error",
                    "streams_full",
                    f"all places are taken and the line is full: try again in {RETRY_SECONDS} s",
                )
                refusal.headers["retry-after"] = str(RETRY_SECONDS)
                return refusal
            assert isinstance(head, Head)
            response = StreamingResponse(pieces, status_code=head.status)
            response.raw_headers = [
                (name.encode("latin-1"), value.encode("latin-1")) for name, value in head.headers
            ]
            return response
        return _refusal(
            503, "server_error", "stopping", "the replica ended before it answered: try again"
        )


class _Keys:
    """The callers' keys with one more, with which a replica asks its own server."""

    def __init__(self, server: dict[str, Any]) -> None:
        self.server = dict(server)
        self.headers: dict[str, str] = {}
        self._path: str | None = None
        callers = server.get("api_key_file")
        if callers is None:
            return
        key = secrets.token_hex(24)
        # mkstemp's files are readable by their owner only.
        handle, self._path = tempfile.mkstemp(prefix="sottovoce-keys-")
        with open(callers, encoding="utf-8") as given, os.fdopen(handle, "w") as file:
            file.write(f"{given.read()}\n{key}\n")
        self.server["api_key_file"] = self._path
        self.headers["authorization"] = f"Bearer {key}"

    def close(self) -> None:
        """Removes the file."""
        if self._path is not None:
            os.unlink(self._path)
            self._path = None


def server_command(options: ServingOptions, server: dict[str, Any]) -> list[str]:
    """The server's command line."""
    command = [
        "serve",
        "--address=127.0.0.1",
        "--port=0",
        "--json",
        f"--model={options.model}",
        f"--memory={int(options.memory)}",
        f"--streams-max={options.streams}",
        f"--device={'cuda' if options.gpus else 'cpu'}",
        f"--threads={max(1, math.floor(options.cpus))}",
        # A call reaches one replica of many.
        "--no-remote-settings",
        # The gateway says who called.
        "--trusted-proxy=127.0.0.1",
    ]
    for name, value in ({"log_level": "warn"} | server).items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            command += [flag] if value else []
        else:
            values = value if isinstance(value, list) else [value]
            command += [f"{flag}={one}" for one in values]
    return command


def _target(request: Request) -> str:
    """Path and query, as they were sent."""
    path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    query: bytes = request.scope["query_string"]
    return (path + b"?" + query if query else path).decode("latin-1")


def _headers(request: Request) -> tuple[tuple[str, str], ...]:
    """Headers for the replica's server, with the caller's address among them."""
    headers = _passed_on(request.headers.items())
    if request.client is None:
        return headers
    forwarded = [value for name, value in headers if name == "x-forwarded-for"]
    kept = [pair for pair in headers if pair[0] != "x-forwarded-for"]
    return (*kept, ("x-forwarded-for", ", ".join([*forwarded, request.client.host])))


def _passed_on(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Those that belong to the message and not to a connection, with names in lower case."""
    lower = ((name.lower(), value) for name, value in headers)
    return tuple(pair for pair in lower if pair[0] not in _OF_THE_CONNECTION)


def _refusal(status: int, kind: str, code: str | None, message: str) -> Response:
    """An error in OpenAI's format, as the server has it."""
    error = {"message": message, "type": kind, "param": None, "code": code}
    return JSONResponse({"error": error}, status_code=status)
