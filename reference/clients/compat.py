"""Sends the requests of other Chatterbox servers' clients, body by body as they were recorded, to `sottovoce serve --compat chatterbox`.

    python compat.py http://127.0.0.1:8004
"""

import json
import sys
import urllib.error
import urllib.request

SERVER = sys.argv[1].rstrip("/")
# SillyTavern's Chatterbox provider.
SILLY_TAVERN = {
    "text": "Good day.", "voice_mode": "predefined", "temperature": 0.8, "exaggeration": 0.5, "cfg_weight": 0.5,
    "seed": 1873462, "speed_factor": 1, "language": "en", "split_text": True, "chunk_size": 120, "output_format": "wav",
    "predefined_voice_id": "default.wav",
}
SILLY_TAVERN_STREAM = (
    "/tts-stream?text=Good+day.&voice_mode=predefined&temperature=0.8&exaggeration=0.5&cfg_weight=0.5&seed=-1"
    "&speed_factor=1&language=en&output_format=opus&predefined_voice_id=default.wav"
)
# The page of chatterbox-tts-api.
TTS_API = {
    "input": "Good day.", "voice": "alloy", "response_format": "wav", "speed": 1, "exaggeration": 0.5, "cfg_weight": 0.5,
    "temperature": 0.8, "streaming_chunk_size": 200, "streaming_strategy": "sentence", "streaming_quality": "balanced",
}
# Kokoro-FastAPI's examples of captioned speech.
KOKORO = {
    "model": "kokoro", "input": "Good day.", "voice": "alloy", "speed": 1.0, "response_format": "wav", "stream": False,
}
FORM = "".join(f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in TTS_API.items()) + "--b--\r\n"

REQUESTS = [
    # method, path, content type, body, what the answer begins with or has in it
    ("GET", "/", None, None, b"<!doctype html"),
    ("GET", "/get_predefined_voices", None, None, ["display_name", "filename"]),
    ("GET", "/get_reference_files", None, None, b"["),
    ("GET", "/api/model-info", None, None, ["type", "class_name", "supports_paralinguistic_tags"]),
    ("GET", "/api/ui/initial-data", None, None, ["reference_files", "predefined_voices", "model_info"]),
    ("POST", "/tts", "application/json", json.dumps(SILLY_TAVERN), b"RIFF"),
    ("GET", SILLY_TAVERN_STREAM, None, None, b"OggS"),
    ("POST", "/tts-stream", "application/json", json.dumps(SILLY_TAVERN), b"RIFF"),
    ("GET", "/voices", None, None, ["voices", "count"]),
    ("GET", "/v1/voices", None, None, ["voices", "count"]),
    ("GET", "/languages", None, None, ["languages", "count", "model_type"]),
    ("GET", "/v1/health", None, None, ["status", "model_loaded"]),
    ("GET", "/ping", None, None, ["status"]),
    ("POST", "/v1/audio/speech", "application/json", json.dumps(TTS_API), b"RIFF"),
    ("POST", "/audio/speech", "application/json", json.dumps(TTS_API), b"RIFF"),
    ("POST", "/v1/audio/speech/stream", "application/json", json.dumps(TTS_API), b"RIFF"),
    ("POST", "/audio/speech/stream", "application/json", json.dumps(TTS_API | {"stream_format": "sse"}), b'data: {"bits_per_sample":16'),
    ("POST", "/dev/captioned_speech", "application/json", json.dumps(KOKORO), ["audio", "audio_format", "timestamps", "start_time"]),
    ("POST", "/dev/captioned_speech", "application/json", json.dumps(KOKORO | {"stream": True}), b'{"audio":"UklGR'),
    ("POST", "/v1/audio/speech/upload", "multipart/form-data; boundary=b", FORM, b"RIFF"),
]


def main():
    for method, path, kind, body, expected in REQUESTS:
        headers = {"Content-Type": kind} if kind else {}
        request = urllib.request.Request(SERVER + path, method=method, headers=headers, data=body.encode() if body else None)
        with urllib.request.urlopen(request, timeout=60) as answer:
            read = answer.read()
        if isinstance(expected, bytes):
            right = read.lower().startswith(expected.lower())
        else:
            right = all(f'"{name}"'.encode() in read for name in expected)
        assert right, (method, path, read[:200])
        print(f"{method} {path.split('?')[0]}: {len(read)} bytes")
    try:
        urllib.request.urlopen(SERVER + "/get_predefined_voice", timeout=60)
    except urllib.error.HTTPError as error:
        message = json.load(error)["error"]["message"]
        assert error.code == 404 and "/get_predefined_voices" in message, message
        print(message)


main()
