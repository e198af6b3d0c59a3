"""Speaks text that arrives in pieces, as from a language model: ``python conversation.py``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import sottovoce


async def words() -> AsyncIterator[str]:
    """Stands in for a language model."""
    for word in "Every byte has an owner. Nothing is forgotten. ".split(" "):
        await asyncio.sleep(0.01)
        yield word + " "


async def main() -> float:
    """Speaks the words as they come; the seconds of speech."""
    with sottovoce.Engine("pico", memory="256MiB", device="cpu") as engine:
        async with engine.open_stream() as stream:

            async def write() -> None:
                async for word in words():
                    stream.push_text(word)
                stream.finish()

            writer = asyncio.create_task(write())
            seconds = 0.0
            async for chunk in stream:
                seconds += chunk.duration
            await writer
    print(f"{seconds:.2f} s of speech")
    return seconds


if __name__ == "__main__":
    asyncio.run(main())
