"""Speaks through PyPI's own Wyoming client, as Home Assistant does: description, voices, a text at once and in pieces, errors.

    python wyoming_speech.py tcp://127.0.0.1:10200
    python wyoming_speech.py --announced kitchen     # the service that the local network announces under that name
"""

import asyncio
import sys
import time

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.error import Error
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeStopped, SynthesizeVoice

TEXT = "Say how much memory it may use. It speaks within that, from the first word to the last."


async def sound(client, last):
    """Samples up to the event `last`, and seconds until the first of them."""
    asked, first, samples, started = time.monotonic(), None, b"", False
    while True:
        event = await asyncio.wait_for(client.read_event(), 60)
        assert event is not None, "the connection ended"
        if AudioStart.is_type(event.type):
            start = AudioStart.from_event(event)
            assert (start.rate, start.width, start.channels) == (24000, 2, 1)
            started = True
        elif AudioChunk.is_type(event.type):
            assert started
            first = first or time.monotonic() - asked
            samples += AudioChunk.from_event(event).audio
        elif Error.is_type(event.type):
            raise AssertionError(Error.from_event(event).text)
        else:
            assert AudioStop.is_type(event.type) or SynthesizeStopped.is_type(event.type), event.type
        if last.is_type(event.type):
            return samples, first


async def describe(uri):
    async with AsyncClient.from_uri(uri) as client:
        await client.write_event(Describe().event())
        info = Info.from_event(await client.read_event())
        await client.write_event(Ping(text="x").event())
        assert Pong.from_event(await client.read_event()).text == "x"
    program = info.tts[0]
    assert program.supports_synthesize_streaming
    print(f"{program.name} {program.version}: {[voice.name for voice in program.voices]}")
    return program.voices[0]


async def speak(uri, voice):
    async with AsyncClient.from_uri(uri) as client:
        wanted = SynthesizeVoice(name=voice.name)
        await client.write_event(Synthesize(text=TEXT, voice=wanted).event())
        whole, first = await sound(client, AudioStop)
        print(f"at once: {len(whole) / 48000:.1f} s of speech, the first after {first:.3f} s")
    async with AsyncClient.from_uri(uri) as client:
        await client.write_event(SynthesizeStart(voice=wanted).event())
        for word in TEXT.split(" "):
            await client.write_event(SynthesizeChunk(text=word + " ").event())
        # Home Assistant repeats the text for services that take no pieces.
        await client.write_event(Synthesize(text=TEXT, voice=wanted).event())
        await client.write_event(SynthesizeStop().event())
        pieces, first = await sound(client, SynthesizeStopped)
        print(f"in pieces: {len(pieces) / 48000:.1f} s of speech, the first after {first:.3f} s")
    assert whole and len(pieces) == len(whole), "the same speech"


async def errors(uri):
    for event in [Synthesize(text="x", voice=SynthesizeVoice(name="nobody")), Synthesize(text=""), SynthesizeChunk(text="x")]:
        async with AsyncClient.from_uri(uri) as client:
            await client.write_event(event.event())
            refusal = Error.from_event(await client.read_event())
            assert await client.read_event() is None, "the connection ends after an error"
            print(f"error: {refusal.text}")


def announced(name):
    """The address that the local network announces, looked up as Home Assistant does."""
    from zeroconf import Zeroconf

    network = Zeroconf()
    service = network.get_service_info("_wyoming._tcp.local.", f"{name}._wyoming._tcp.local.", 5000)
    assert service, f"nothing is announced as {name}"
    network.close()
    return f"tcp://{service.parsed_addresses()[0]}:{service.port}"


async def main(uri):
    print(uri)
    voice = await describe(uri)
    await speak(uri, voice)
    await errors(uri)


asyncio.run(main(announced(sys.argv[2]) if sys.argv[1] == "--announced" else sys.argv[1]))
