"""Speaks through LiteLLM, unchanged, as its proxy does for an OpenAI-compatible server.

    python litellm_speech.py http://127.0.0.1:8000/v1
"""

import sys

import litellm
import openai

answer = litellm.speech(
    model="openai/tts-1", voice="alloy", input="Good day.", api_base=sys.argv[1], api_key="none", response_format="wav", speed=1.1
)
assert answer.content.startswith(b"RIFF"), answer.content[:8]
print(f"speech: {len(answer.content)} bytes")
try:
    litellm.speech(model="openai/tts-1", voice="nobody", input="x", api_base=sys.argv[1], api_key="none")
    raise AssertionError("an unknown voice must be refused")
except openai.BadRequestError as error:
    print(f"error: {error}")
