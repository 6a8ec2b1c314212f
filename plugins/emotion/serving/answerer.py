"""A process of the service: it holds one model and answers one clip after the other.

The service starts it as ``python -m emotion.serving.answerer DESCRIPTOR HOME MODEL``, and talks to it over the socket
with this file descriptor. A message is the length of its header and of its content (4 bytes each), the header as JSON,
and the content as it is. Nothing is pickled. The process ends when the other end of the socket is closed, for whatever
reason. If a recording makes the decoder crash or hang, only this process is lost, and not the service.
"""

from __future__ import annotations

import io
import json
import logging
import signal
import socket
import struct
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emotion.inference import CustomEmotionModel

log = logging.getLogger(__name__)
LENGTHS = struct.Struct(">II")
"""Of a message's header and content."""
NAMELESS = "the recording"
"""What messages call a recording that came without a name."""


def encode(header: dict, content: bytes = b"") -> list[bytes]:
    """A message, as parts to write.

    >>> b"".join(encode({"kind": "clip"}, b"RIFF"))
    b'\\x00\\x00\\x00\\x10\\x00\\x00\\x00\\x04{"kind": "clip"}RIFF'
    """
    text = json.dumps(header).encode()
    return [LENGTHS.pack(len(text), len(content)) + text, content]


def main(descriptor: str, home: str, name: str) -> None:
    """Load a model and answer until the other end closes the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches this process too; the service ends it in good order
    with socket.socket(fileno=int(descriptor)) as connection, connection.makefile("rwb") as stream:
        from emotion.errors import describe_failure

        try:
            model = _load(home, name)
        except Exception as error:  # also one of an object store's client: the service says what it was
            _write(stream, {"status": "failed"}, describe_failure(error).encode())
            return
        _write(stream, {"status": "ready", "version": model.version, "family": model.family})
        while lengths := stream.read(LENGTHS.size):
            size, content_size = LENGTHS.unpack(lengths)
            header, content = json.loads(stream.read(size)), stream.read(content_size)
            _write(stream, *_reply(model, header, content))


def _write(stream: io.BufferedRWPair, header: dict, content: bytes = b"") -> None:
    stream.writelines(encode(header, content))
    stream.flush()


def _load(home: str, name: str) -> CustomEmotionModel:
    """The model, once it has answered for some noise: the first answer compiles and imports."""
    import numpy as np

    from emotion.audio.decode import SAMPLE_RATE
    from emotion.inference import CustomEmotionModel
    from emotion.store import Store

    model = CustomEmotionModel.named(Store(home), name)
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * SAMPLE_RATE)
    model.predict_emotion_from_array(noise, SAMPLE_RATE)
    return model


def _reply(model: CustomEmotionModel, header: dict, content: bytes) -> tuple[dict, bytes]:
    """Header and content of the reply to a message: the answer as JSON, or why there is none."""
    from emotion.errors import AudioError, describe_failure

    try:
        answer = (
            _answer_window(model, header, content)
            if header["kind"] == "window"
            else _answer_clip(model, header, content)
        )
    except AudioError as error:
        return _refusal("refused", error.reason, str(error))
    except Exception as error:  # an error in this code must not end the process, and must be in the log
        log.exception("a recording could not be answered")
        return _refusal("failed", "failed", f"the recording could not be answered ({describe_failure(error)})")
    return {"status": "answered", "reason": answer.get("error")}, json.dumps(answer, allow_nan=False).encode()


def _refusal(status: str, reason: str, message: str) -> tuple[dict, bytes]:
    return {"status": status, "reason": reason}, json.dumps({"reason": reason, "message": message}).encode()


class _Upload(io.BytesIO):
    """A recording in memory, with the name that messages call it."""

    def __init__(self, content: bytes, name: str):
        super().__init__(content)
        self.name = name


def _answer_clip(model: CustomEmotionModel, header: dict, content: bytes) -> dict:
    name = header["name"]
    answer = model.predict_emotion_from_file(_Upload(content, name or NAMELESS), explain=header["explain"])
    return ({"path": name} if name else {}) | answer


def _answer_window(model: CustomEmotionModel, header: dict, content: bytes) -> dict:
    """The answer for a window that was cut out of a stream: mono float32 samples."""
    import numpy as np

    samples, rate = np.frombuffer(content, dtype=np.float32), header["rate"]
    seconds = len(samples) / rate
    [answer] = model.predict_stream([samples], rate, window=seconds, hop=seconds)
    return answer | {"start": header["start"], "end": header["end"]}


if __name__ == "__main__":
    main(*sys.argv[1:])
