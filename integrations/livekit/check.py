"""Runs the plug-in as LiveKit's agents do: replies in tokens one after the other, a whole text, an interruption, an error.

    python check.py ws://127.0.0.1:8000/v1/stream
"""

import asyncio
import sys
import time

from livekit.agents import APIError
from livekit.agents.types import USERDATA_TIMED_TRANSCRIPT
from sottovoce_tts import SAMPLE_RATE, TTS

TEXT = "Say how much memory it may use. It speaks within that, from the first word to the last."


async def spoken(speech, text):
    """Samples of a reply that comes in tokens, seconds until the first of them, and its words with their times."""
    stream = speech.stream()
    for word in text.split(" "):
        stream.push_text(word + " ")
    stream.end_input()
    asked, first, sound, words = time.monotonic(), None, b"", []
    async for event in stream:
        first = first or time.monotonic() - asked
        assert event.frame.sample_rate == SAMPLE_RATE
        sound += bytes(event.frame.data)
        words += event.frame.userdata.get(USERDATA_TIMED_TRANSCRIPT, [])
    return sound, first, words


async def main():
    speech = TTS(url=sys.argv[1], options={"seed": 7})
    in_tokens, first, words = await spoken(speech, TEXT)
    whole = len(in_tokens) / 2 / SAMPLE_RATE
    print(f"in tokens: {whole:.1f} s of speech, the first after {first:.3f} s")
    assert "".join(words).strip() == TEXT, words
    starts = [word.start_time for word in words]
    assert starts == sorted(starts) and all(word.start_time < word.end_time <= whole for word in words), words
    print(f"{len(words)} words with their times")
    second, _, _ = await spoken(speech, "The second reply.")
    assert 0 < len(second) < len(in_tokens)
    frame = await speech.synthesize(TEXT).collect()
    at_once = bytes(frame.data)
    # LiveKit marks ends by short frames of its own.
    assert abs(len(at_once) - len(in_tokens)) <= 2 * SAMPLE_RATE // 50, f"{len(at_once)} bytes at once, {len(in_tokens)} in tokens"
    stream = speech.stream()
    stream.push_text(" ".join([TEXT] * 20))
    stream.flush()
    await anext(aiter(stream))
    await asyncio.wait_for(stream.aclose(), 5)
    print("an interruption ended the stream")
    errors = []
    refused = TTS(url=sys.argv[1], voice="nobody")
    refused.on("error", errors.append)
    try:
        await refused.synthesize("Hello.").collect()
        raise AssertionError("an unknown voice must be refused")
    except APIError as error:
        print(f"error: {error}")
    await speech.aclose()


asyncio.run(main())
