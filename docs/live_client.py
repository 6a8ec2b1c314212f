"""Sends a WAV file to `emotion serve` as live audio, as fast as it was recorded, and prints each answer as it comes.

python docs/live_client.py call.wav [ws://127.0.0.1:8000/stream]
"""

import asyncio
import json
import sys
import wave

import websockets


async def main(path: str, address: str = "ws://127.0.0.1:8000/stream") -> None:
    with wave.open(path, "rb") as recording:
        if (recording.getnchannels(), recording.getsampwidth()) != (1, 2):
            raise SystemExit(f"{path}: expected one channel of 16 bits")
        async with websockets.connect(address) as stream:
            await stream.send(json.dumps({"sample_rate": recording.getframerate(), "format": "pcm_s16le"}))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(print_answers(stream))
                while samples := recording.readframes(recording.getframerate() // 10):
                    await stream.send(samples)
                    await asyncio.sleep(0.1)
                await stream.send("end")


async def print_answers(stream: websockets.ClientConnection) -> None:
    async for message in stream:
        answer = json.loads(message)
        if "error" in answer:
            print(answer["message"])
        else:
            print(f"{answer['start']:.1f} to {answer['end']:.1f} s: {answer['emotion']}, {answer['confidence']:.2f}")


asyncio.run(main(*sys.argv[1:]))
