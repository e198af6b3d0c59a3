"""Speaks through OpenAI's own Python client, unchanged: every format, the streaming response, events, the models and the errors.

    python speech.py http://127.0.0.1:8000/v1
"""

import base64
import json
import sys
import time

import openai

TEXT = "Say how much memory it may use. It speaks within that, from the first word to the last. Every byte has an owner. " * 3
STARTS = {"wav": b"RIFF", "flac": b"fLaC", "opus": b"OggS", "mp3": b"\xff", "aac": b"\xff", "pcm": b""}


def formats(client):
    for name, start in STARTS.items():
        answer = client.audio.speech.create(model="tts-1", voice="alloy", input="Good day.", response_format=name)
        sound = answer.read()
        assert sound.startswith(start) or (name == "mp3" and sound.startswith(b"ID3")), (name, sound[:8])
        print(f"{name}: {len(sound)} bytes")


def streaming(client):
    asked = time.monotonic()
    first, count = None, 0
    speech = client.audio.speech.with_streaming_response
    with speech.create(model="gpt-4o-mini-tts", voice="coral", input=TEXT, response_format="pcm", instructions="gently") as answer:
        assert answer.headers["x-sottovoce-ignored"] == "instructions"
        assert answer.headers["x-request-id"].startswith("req_")
        for piece in answer.iter_bytes(4096):
            first = first or time.monotonic() - asked
            count += len(piece)
    total = time.monotonic() - asked
    print(f"streaming: first bytes after {first:.3f} s, all {count} after {total:.3f} s")
    assert first < total / 2, "the first bytes must leave long before the last"


def events(client):
    sound, usage = b"", None
    speech = client.audio.speech.with_streaming_response
    with speech.create(model="tts-1", voice="alloy", input="Good day.", response_format="pcm", extra_body={"stream_format": "sse"}) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                if event["type"] == "speech.audio.delta":
                    sound += base64.b64decode(event["audio"])
                elif event["type"] == "speech.audio.done":
                    usage = event["usage"]
    assert sound and usage["input_tokens"] > 0 and usage["output_tokens"] > 0, usage
    print(f"events: {len(sound)} bytes, {usage}")


def models(client):
    names = [model.id for model in client.models.list()]
    assert client.models.retrieve(names[0]).id == names[0]
    print(f"models: {names}")


def errors(client):
    for arguments, kind in [
        ({"voice": "nobody", "input": "x"}, openai.BadRequestError),
        ({"voice": "alloy", "input": ""}, openai.BadRequestError),
        ({"voice": "alloy", "input": "x", "speed": 9}, openai.BadRequestError),
    ]:
        try:
            client.audio.speech.create(model="tts-1", **arguments)
            raise AssertionError(f"{arguments} must be refused")
        except kind as error:
            print(f"error: {error.status_code} {error.param}: {error.body['message']}")
    try:
        client.models.retrieve("nothing")
        raise AssertionError("an unknown model must be refused")
    except openai.NotFoundError as error:
        print(f"error: {error.status_code} {error.code}")


def main():
    client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.argv[2] if len(sys.argv) > 2 else "none")
    for part in (formats, streaming, events, models, errors):
        part(client)


main()
