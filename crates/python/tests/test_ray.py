"""Replicas and batches on Ray. All tests but the first need the extra ``sottovoce[ray]``.

Those that are marked slow start a cluster on this machine: three minutes on two quiet cores, and
less than 4 GB.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import types
import wave
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import sottovoce
from conftest import wait_until

HAS_RAY = importlib.util.find_spec("ray") is not None
#: Seconds that a busy machine may take for each of the things that Ray waits for.
PATIENCE_SECONDS = 300
if HAS_RAY:
    # Before Ray is imported: workers at once, and patience where the machine is busy.
    os.environ |= {
        "RAY_AUTH_MODE": "disabled",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": f"{PATIENCE_SECONDS}",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": f"{PATIENCE_SECONDS}",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_agent_register_timeout_ms": f"{PATIENCE_SECONDS * 1000}",
        "RAY_gcs_server_port_wait_time_s": f"{PATIENCE_SECONDS}",
        "RAY_health_check_timeout_ms": f"{PATIENCE_SECONDS * 1000}",
        "RAY_worker_niceness": "0",
        "RAY_worker_register_timeout_seconds": f"{PATIENCE_SECONDS}",
    }
    import pyarrow as pa
    import ray
    from pydantic import ValidationError
    from ray import serve
    from ray._private import services

    import sottovoce.ray
    from sottovoce.ray import batches, serving

needs_ray = pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed")

STREAMS = 4
CLIENTS = 64
TEXTS = [f"This is text number {number} of eight. It is not long." for number in range(8)]


def test_without_ray_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "sottovoce.ray", raising=False)
    with pytest.raises(sottovoce.MissingPackageError, match=r"sottovoce\[ray\]"):
        importlib.import_module("sottovoce.ray")


@needs_ray
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"memory": "much"}, "memory"),
        ({"memory": 0}, "memory"),
        ({"streams": 0}, "streams"),
        ({"replicas": 0}, "replicas"),
        ({"replicas_min": 3, "replicas_max": 2}, "replicas_min"),
        ({"budget": "1GiB"}, "budget"),
        ({"server": {"port": 80}}, "port"),
    ],
)
def test_arguments_of_an_application_are_refused_by_name(
    arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValidationError, match=named):
        sottovoce.ray.app(arguments)


@needs_ray
def test_a_replica_is_a_budget_or_a_gpu() -> None:
    def resources(**arguments: Any) -> dict[str, Any]:
        options = serving.ServingOptions.model_validate(arguments)
        return serving.replica_resources(options)

    budget = resources(memory="1GiB", cpus=2)
    assert budget == {
        "num_cpus": 2, "num_gpus": 0, "memory": serving.PROCESS_BYTES + (1 << 30)
    }  # fmt: skip
    gpu = resources(memory="4GiB", gpus=1)
    assert gpu == {"num_cpus": 1, "num_gpus": 1, "memory": serving.PROCESS_BYTES}


@needs_ray
def test_a_replicas_server_gets_every_option() -> None:
    options = serving.ServingOptions.model_validate(
        {
            "memory": "1GiB",
            "gpus": 1,
            "cpus": 2.5,
            "server": {"allow_host": ["a", "b"], "open_metrics": True, "open_lists": False},
        }
    )
    command = serving.server_command(options, options.server)
    for part in ("--memory=1073741824", "--device=cuda", "--threads=2", "--streams-max=8"):
        assert part in command
    hosts = [part for part in command if "allow-host" in part]
    assert hosts == ["--allow-host=a", "--allow-host=b"]
    assert "--open-metrics" in command and "--open-lists" not in command


@needs_ray
@pytest.mark.parametrize(
    ("requests", "shares", "wanted"),
    [(0, [0.0], 1), (8, [0.5], 2), (9, [0.5, 0.5], 3), (1, [1.0, 1.0], 3), (999, [1.0], 5)],
)
def test_replicas_follow_the_queue_and_the_budgets(
    requests: int, shares: list[float], wanted: int
) -> None:
    context = types.SimpleNamespace(
        total_num_requests=requests,
        aggregated_metrics={"budget_share": dict(enumerate(shares))},
        config=types.SimpleNamespace(target_ongoing_requests=STREAMS),
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=5,
    )
    assert sottovoce.ray.replicas_wanted(context)[0] == wanted


@needs_ray
def test_the_manifests_application_and_pods_fit_each_other() -> None:
    import yaml
    from ray.serve.schema import ServeDeploySchema

    path = Path(__file__).parents[3] / "deploy" / "kuberay" / "service.yaml"
    spec = yaml.safe_load(path.read_text())["spec"]
    config = ServeDeploySchema.model_validate(yaml.safe_load(spec["serveConfigV2"]))
    (application,) = config.applications
    module, name = application.import_path.split(":")
    assert getattr(importlib.import_module(module), name) is sottovoce.ray.app
    options = serving.ServingOptions.model_validate(application.args)
    cluster = spec["rayClusterConfig"]
    assert cluster["rayVersion"] == ray.__version__
    (group,) = cluster["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    limits = container["resources"]["limits"]
    gibibytes = int(limits["memory"].removesuffix("Gi"))
    resources = serving.replica_resources(options)
    store = int(group["rayStartParams"]["object-store-memory"])
    # Two replicas and the gateways on a pod, and half a gibibyte for Ray's own processes.
    free = (gibibytes << 30) - store - (512 << 20)
    assert 2 * resources["memory"] <= free
    assert 2 * resources["num_cpus"] + 0.05 * options.gateways <= float(limits["cpu"])
    assert options.replicas_max <= 2 * group["maxReplicas"]


@needs_ray
def test_only_what_may_be_repeated_goes_to_another_replica() -> None:
    def call(method: str, kind: str) -> serving.Call:
        return serving.Call(method, "/", (("content-type", kind),), b"")

    assert call("GET", "text/plain").repeatable
    assert call("POST", "application/json; charset=utf-8").repeatable
    assert not call("POST", "multipart/form-data; boundary=x").repeatable
    assert not call("DELETE", "application/json").repeatable


class Replicas:
    """Stands in for the handle of replicas that answer as scripted, one after the other."""

    def __init__(self, *answers: Callable[[], AsyncIterator[Any]]) -> None:
        self.answers = iter(answers)
        self.calls: list[Any] = []

    def options(self, **options: Any) -> Replicas:
        assert options == {"stream": True, "method_name": "forward"}
        return self

    def remote(self, call: Any) -> AsyncIterator[Any]:
        self.calls.append(call)
        return next(self.answers)()


async def dies() -> AsyncIterator[Any]:
    raise ray.exceptions.ActorDiedError
    yield


async def speaks() -> AsyncIterator[Any]:
    yield serving.Head(200, (("content-type", "audio/pcm"),))
    yield b"one"
    yield b"two"


async def breaks() -> AsyncIterator[Any]:
    yield serving.Head(200, ())
    yield b"one"
    raise ray.exceptions.ActorDiedError


def passed_on(
    replicas: Replicas, kind: str = "application/json", size: int = 2
) -> tuple[int, list[bytes], BaseException | None]:
    """A request through a gateway: status, pieces, and how the answer broke off."""
    from starlette.requests import Request

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/audio/speech",
        "raw_path": b"/v1/audio/speech",
        "query_string": b"a=%20",
        "headers": [(b"content-type", kind.encode()), (b"connection", b"close")],
        "client": ("192.0.2.7", 1),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * size, "more_body": False}

    async def call() -> tuple[int, list[bytes], BaseException | None]:
        response: Any = await serving.Gateway(replicas)(Request(scope, receive))
        pieces: list[bytes] = []
        if not hasattr(response, "body_iterator"):
            return response.status_code, [response.body], None
        try:
            async for piece in response.body_iterator:
                pieces.append(piece)
        except ray.exceptions.ActorDiedError as error:
            return response.status_code, pieces, error
        return response.status_code, pieces, None

    return asyncio.run(call())


@needs_ray
def test_a_request_goes_to_the_next_replica_until_one_begins_to_answer() -> None:
    replicas = Replicas(dies, dies, speaks)
    assert passed_on(replicas) == (200, [b"one", b"two"], None)
    assert len(replicas.calls) == 3
    (call, *again) = replicas.calls
    assert again == [call, call]
    assert (call.target, call.body) == ("/v1/audio/speech?a=%20", b"xx")
    assert dict(call.headers) == {
        "content-type": "application/json", "x-forwarded-for": "192.0.2.7"
    }  # fmt: skip


@needs_ray
def test_an_answer_that_had_begun_breaks_off_and_is_not_begun_again() -> None:
    replicas = Replicas(breaks, speaks)
    status, pieces, error = passed_on(replicas)
    assert (status, pieces) == (200, [b"one"]) and error is not None
    assert len(replicas.calls) == 1


@needs_ray
def test_what_cannot_be_passed_on_is_refused_in_openais_format() -> None:
    def refusal(replicas: Replicas, **request: Any) -> tuple[int, str | None]:
        status, (body,), _ = passed_on(replicas, **request)
        return status, json.loads(body)["error"]["code"]

    assert refusal(Replicas(*[dies] * serving.ATTEMPTS_MAX)) == (503, "stopping")
    assert refusal(Replicas(dies), kind="multipart/form-data") == (503, "stopping")
    assert refusal(Replicas(), size=serving.BODY_BYTES_MAX + 1) == (413, None)


@needs_ray
def test_a_table_is_numbered_in_even_pieces() -> None:
    table = pa.table({"text": [str(number) for number in range(23)]})
    settings: dict[str, Any] = {"text": "text", "voice": None, "name": None}
    for chunk in (1, 3, 5, 23):
        kept = list(batches._numbered(table.to_batches(max_chunksize=chunk), settings, 5))
        assert [piece.num_rows for piece in kept] == [5, 5, 5, 5, 3]
        whole = pa.concat_tables(kept)
        assert whole["row"].to_pylist() == list(range(23))
        assert whole["text"].to_pylist() == table["text"].to_pylist()
        assert whole["name"].to_pylist()[22] == "00000022"


@needs_ray
@pytest.mark.parametrize(
    ("rows", "arguments", "named"),
    [
        ([{"texts": "a"}], {}, "text"),
        ([{"text": "a"}], {"voice": "speaker"}, "voice"),
        ([{"text": "a", "row": 1}], {}, "table"),
        ([], {}, "table"),
        (7, {}, "table"),
        ([{"text": "a", "id": "x"}, {"text": "b", "id": "x"}], {"name": "id"}, "name"),
        ([{"text": "a", "id": ".."}], {"name": "id"}, "name"),
        ([{"text": "a"}], {"into": "tape"}, "into"),
        ([{"text": "a"}], {"memory": "much"}, "memory"),
        ([{"text": "a"}], {"options": {"colour": 1}}, "options"),
        ([{"text": "a"}], {"rows_at_once": 0}, "rows_at_once"),
    ],
)
def test_a_table_that_cannot_be_spoken_is_refused_by_name(
    rows: Any, arguments: dict[str, Any], named: str, tmp_path: Path
) -> None:
    with pytest.raises(sottovoce.ArgumentError) as refused:
        sottovoce.ray.speak_table(rows, tmp_path / "job", **arguments)
    assert refused.value.argument == named


@needs_ray
def test_names_of_outputs_stay_in_their_folder() -> None:
    assert batches._file_name("a/../b") == "a%2F..%2Fb"
    assert batches._file_name("chapter 1") == "chapter 1"
    assert batches._file_name(7) == "7"


@needs_ray
def test_a_job_with_other_settings_is_not_mixed_in(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"text": "text", "voice": None, "name": None, "options": {"seed": 1}}
    assert batches._Job(tmp_path).begin([{"text": "a"}], settings, 4) == 1
    assert batches._Job(tmp_path).begin(None, settings, 4) == 1
    with pytest.raises(sottovoce.ArgumentError, match="another folder") as refused:
        batches._Job(tmp_path).begin(None, {**settings, "options": {"seed": 2}}, 4)
    assert refused.value.argument == "options"


@needs_ray
def test_a_batch_is_spoken_in_its_order_and_not_twice(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "into": "files", "text": "text", "voice": None, "name": None, "model": "pico",
        "engine": {}, "options": {},
    }  # fmt: skip
    speaker = batches._Speaker(str(tmp_path), settings, 256 << 20, 1, 0)
    batch = pa.table(
        {"text": ["One.", "", "Three, and a little more."], "row": [0, 1, 2], "name": list("abc")}
    )
    spoken = speaker(batch)
    assert spoken["path"].to_pylist() == ["audio/a.wav", None, "audio/c.wav"]
    assert [error is None for error in spoken["error"].to_pylist()] == [True, False, True]
    with wave.open(str(tmp_path / "audio" / "c.wav")) as file:
        assert file.getnframes() / 24_000 == spoken["seconds"].to_pylist()[2]
    written = (tmp_path / "audio" / "a.wav").stat().st_mtime_ns
    assert speaker(batch) == spoken
    assert (tmp_path / "audio" / "a.wav").stat().st_mtime_ns == written
    assert sorted(path.name for path in (tmp_path / "audio").iterdir()) == ["a.wav", "c.wav"]


def waiting_for(name: str, condition: Callable[[], bool]) -> None:
    """Waits as long as a busy machine may need, and says for what."""
    print(f"waiting for {name}")
    if not wait_until(condition, PATIENCE_SECONDS):
        raise TimeoutError(
            f"{name}: not there after {PATIENCE_SECONDS} s; try again with less other work on this"
            " machine, or let RAY_ADDRESS name a cluster"
        )


def patient(get_node: Callable[[str, str], dict[str, Any]]) -> Callable[[str, str], dict[str, Any]]:
    """Ray's question for its node, which waits for the answer.

    By a constant Ray asks for 30 s and then gives up, which is too soon where other work has the
    processors.
    """

    def get(gcs_address: str, node_id: str) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def known() -> bool:
            with contextlib.suppress(RuntimeError):
                found.update(get_node(gcs_address, node_id))
            return bool(found)

        waiting_for("the node of Ray's own cluster", known)
        return found

    return get


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray on this machine: one that ``RAY_ADDRESS`` names, or one of its own."""
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False)
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(services, "get_node", patient(services.get_node))
            ray.init(
                # Two served replicas, a job's two speakers, and the tasks that read and write its
                # rows.
                num_cpus=6,
                num_gpus=0,
                object_store_memory=150 << 20,
                include_dashboard=False,
                log_to_driver=False,
            )
    yield
    serve.shutdown()
    ray.shutdown()


@pytest.fixture(scope="module")
def port(cluster: None) -> int:
    """Where two replicas of pico are served."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        number: int = free.getsockname()[1]
    # After 60 s Ray says that its proxy is late, and goes on to start it.
    with contextlib.suppress(TimeoutError):
        serve.start(http_options={"host": "127.0.0.1", "port": number})
    serve.run(sottovoce.ray.app({"memory": "128MiB", "replicas": 2, "streams": STREAMS}))

    def answers() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", number, timeout=PATIENCE_SECONDS)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == 200
        return False

    waiting_for("an answer of Ray's proxy and a replica behind it", answers)
    return number


@dataclass
class Answer:
    """What a client got."""

    status: int
    sound: bytes
    whole: bool


def ask(port: int, text: str) -> Answer:
    """Has a text spoken; a broken connection shows in the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    body = json.dumps({"input": text, "response_format": "pcm"})
    connection.request("POST", "/v1/audio/speech", body, {"content-type": "application/json"})
    answer = connection.getresponse()
    sound = bytearray()
    try:
        while piece := answer.read1():
            sound += piece
    except (http.client.HTTPException, ConnectionError):
        return Answer(answer.status, bytes(sound), whole=False)
    return Answer(answer.status, bytes(sound), whole=True)


@needs_ray
@pytest.mark.slow
def test_openais_routes_are_the_servers_own(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("GET", "/v1/models")
    answer = connection.getresponse()
    models = json.loads(answer.read())
    assert [model["id"] for model in models["data"]] == ["pico"]
    assert len(answer.headers.get_all("x-request-id") or []) == 1
    body = json.dumps({"input": ""})
    connection.request("POST", "/v1/audio/speech", body, {"content-type": "application/json"})
    refused = connection.getresponse()
    assert refused.status == 400
    assert json.loads(refused.read())["error"]["param"] == "input"


@needs_ray
@pytest.mark.slow
def test_no_request_is_lost_with_a_replica_that_had_not_begun_to_answer(port: int) -> None:
    expected = {text: ask(port, text).sound for text in TEXTS}
    assert all(len(sound) > 24_000 for sound in expected.values())
    names = ray.util.list_named_actors(all_namespaces=True)
    replica = next(one for one in names if "#Replica#" in one["name"])
    done = threading.Semaphore(0)

    def client(number: int) -> Answer:
        answer = ask(port, TEXTS[number % len(TEXTS)])
        done.release()
        return answer

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = [pool.submit(client, number) for number in range(CLIENTS)]
        for _ in range(CLIENTS // 8):
            done.acquire()
        ray.kill(ray.get_actor(replica["name"], namespace=replica["namespace"]))
        results = [answer.result() for answer in answers]
    assert [answer.status for answer in results] == [200] * CLIENTS
    broken = 0
    for number, answer in enumerate(results):
        sound = expected[TEXTS[number % len(TEXTS)]]
        if answer.whole:
            assert answer.sound == sound
        else:
            broken += 1
            assert 0 < len(answer.sound) < len(sound) and sound.startswith(answer.sound)
    # One replica's streams at most had begun.
    assert broken <= STREAMS * serving.REQUESTS_PER_STREAM


#: A job, in a process that can be killed.
JOB = """
import json, sys
import ray, sottovoce.ray
ray.init(address=sys.argv[1], log_to_driver=False)
sottovoce.ray.speak_table(json.loads(sys.argv[2]), sys.argv[3], **json.loads(sys.argv[4]))
"""


def speakers() -> list[int]:
    """The processes that speak a job's rows."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if command.startswith(b"ray::") and b"_Speaker" in command:
            found.append(int(process.name))
    return found


@needs_ray
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_a_job_that_is_broken_off_and_loses_a_replica_has_each_row_once(
    cluster: None, tmp_path: Path
) -> None:
    count = 24
    rows: list[dict[str, Any]] = [{"text": f"Row {number}. " * 4} for number in range(count)]
    rows[9]["text"] = ""
    out = tmp_path / "job"
    arguments: dict[str, Any] = {"memory": "128MiB", "replicas": 2, "cpus": 0.5, "rows_at_once": 2}

    def files() -> int:
        return len(list((out / "rows").glob("*.parquet")))

    address = ray.get_runtime_context().gcs_address
    job = subprocess.Popen(
        [sys.executable, "-c", JOB, address, json.dumps(rows), str(out), json.dumps(arguments)]
    )
    assert wait_until(lambda: files() >= 2 or job.poll() is not None, 600)
    job.send_signal(signal.SIGKILL)
    job.wait()
    assert wait_until(lambda: not speakers(), 120)
    begun = files()
    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(sottovoce.ray.speak_table, rows, out, **arguments)
        killed = kill_one_once(lambda: files() > begun, report.done)
        result = report.result()
    assert killed, "the job was done before a replica could be killed"
    assert result.rows == count and result.failed == 1
    assert 0 < result.done_before < count
    assert result.spoken == count - result.done_before
    table = sottovoce.ray.read_rows(out).to_pandas()
    assert list(table["row"]) == list(range(count))
    assert [bool(text) for text in table["error"].isna()] == [n != 9 for n in range(count)]
    sounds = sorted(path.name for path in (out / "audio").glob("*.wav"))
    assert sounds == [f"{number:08}.wav" for number in range(count) if number != 9]


def kill_one_once(begun: Callable[[], bool], done: Callable[[], bool]) -> bool:
    """Kills a speaker once rows come; whether there was one."""
    assert wait_until(lambda: begun() or done(), 600)
    found = speakers()
    if done() or not found:
        return False
    os.kill(found[0], signal.SIGKILL)
    return True
