"""The HTTP service: the answers of the command line, refusals, limits, another champion, hostile clients."""

from __future__ import annotations

import io
import json
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import requests
import soundfile
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from emotion.commands import main
from emotion.errors import AudioError
from emotion.inference import CustomEmotionModel
from emotion.models import decisions, registry
from emotion.serving.application import ADDRESSES
from emotion.serving.connections import LOOPBACK, OwnSiteOnly
from running_service import LIMITS, Service, service  # noqa: F401

pytest_plugins = ("small_models",)


@pytest.fixture(scope="module")
def clip(trained_store) -> Path:
    return sorted(Path(trained_store.root, "corpus").rglob("*.wav"))[0]


@pytest.fixture(scope="module")
def model(trained_store) -> CustomEmotionModel:
    return CustomEmotionModel.named(trained_store, "champion")


@pytest.fixture(scope="module")
def speech(trained_store) -> np.ndarray:
    """Some seconds of synthesized speech at 48 kHz, int16."""
    paths = sorted(Path(trained_store.root, "corpus").rglob("*.wav"))[:3]
    return np.concatenate([soundfile.read(path, dtype="int16")[0] for path in paths])


def wav(samples: np.ndarray, rate: int = 16_000, kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind)
    return file.getvalue()


def form(content: bytes, name: str = "a.wav", field: str = "file") -> dict:
    return {field: (name, content)}


# --- answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("explain", [False, True])
def test_an_answer_is_that_of_the_command_line(service, clip, monkeypatch, capsys, explain):  # noqa: F811
    monkeypatch.setenv("EMOTION_HOME", service.store.root)
    monkeypatch.chdir(clip.parent)
    assert main.main(["predict", "--json", clip.name, *(["--explain"] if explain else [])]) == 0
    expected = json.loads(capsys.readouterr().out)
    url = service.url(f"/predict?explain={json.dumps(explain)}")
    response = requests.post(url, files=form(clip.read_bytes(), clip.name), timeout=60)
    assert response.status_code == 200 and response.json() == expected
    del expected["path"]
    assert service.post(clip.read_bytes(), f"/predict?explain={explain}").json() == expected


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a text, and no recording",
        wav(np.zeros(16_000)),
        wav(np.random.default_rng(0).normal(0, 0.1, 1_000)),
        wav(np.random.default_rng(0).normal(0, 0.1, 16_000))[:9_000],
        wav(np.zeros(3 * 3600 * 8_000, dtype=np.int16), 8_000, "FLAC"),
        b"\x80\x05cposix\nsystem\n(S'touch /tmp/pwned'\ntR.",
    ],
    ids=["empty", "text", "silent", "short", "truncated", "three_hours", "pickle"],
)
def test_a_refusal_is_worded_by_the_library(service, model, tmp_path, content):  # noqa: F811
    path = tmp_path / "call.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError) as refused:
        model.predict_emotion_from_file(path)
    response = requests.post(service.url("/predict"), files=form(content, "../../call.wav"), timeout=60)
    assert response.status_code == 422
    assert response.json() == {"reason": refused.value.reason, "message": str(refused.value)}


def test_a_file_that_does_not_fit_into_little_memory_is_never_on_disk(service, speech, monkeypatch):  # noqa: F811
    def refuse(_):
        raise AssertionError("the upload was written to a temporary file")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", refuse)
    content = wav(np.resize(speech, 1_200_000), 48_000)
    assert len(content) > 2_000_000
    assert requests.post(service.url("/predict"), files=form(content), timeout=60).status_code == 200


def test_the_addresses_are_listed(service):  # noqa: F811
    assert requests.get(service.url("/"), timeout=60).text == ADDRESSES
    described = requests.get(service.url("/openapi.json"), timeout=60).json()["paths"]
    assert {"/predict", "/health"} <= described.keys() and all(path in ADDRESSES for path in described)
    for path in ("/docs", "/redoc", "/nowhere"):
        assert requests.get(service.url(path), timeout=60).status_code == 404
    assert requests.get(service.url("/predict"), timeout=60).status_code == 405


def test_what_is_answered_and_refused_is_sent_as_metrics(service, clip):  # noqa: F811
    service.metrics()
    service.post(clip.read_bytes())
    service.post(b"text")
    service.post(b"text", headers={"Content-Type": "text/plain"})
    sent = [line.partition("|")[0] for line in service.metrics()]
    for name in ("requests.answered:1", "refused.not_audio:1", "refused.unsupported_type:1"):
        assert f"airflow.emotion.serving.{name}" in sent
    assert sent.count("airflow.emotion.serving.requests.refused:1") == 2
    assert {line.partition(":")[0].rpartition(".")[2] for line in sent if "latency" in line} == {
        "queue",
        "answer",
        "total",
    }


# --- requests that are refused --------------------------------------------------------------------------------------


def test_an_upload_that_is_too_large_is_refused_while_it_comes(service):  # noqa: F811
    assert service.post(bytes(LIMITS.body_bytes + 1)).status_code == 413
    sent = 0

    def endless():
        nonlocal sent
        while True:
            sent += 100_000
            time.sleep(0.005)
            yield bytes(100_000)

    try:
        response = service.post(endless())  # without a length
        assert (response.status_code, response.json()["reason"]) == (413, "too_large")
    except requests.ConnectionError:  # the connection was closed while this client, which does not listen, sent
        pass
    assert sent < 100_000_000
    large = {"file": ("a.wav", bytes(LIMITS.body_bytes + 1))}
    assert requests.post(service.url("/predict"), files=large, timeout=60).status_code == 413


@pytest.mark.parametrize(
    ("options", "status", "reason"),
    [
        ({"files": form(b"x", field="other")}, 400, "no_file"),
        ({"files": form(b"x", name="n" * 300)}, 400, "bad_name"),
        ({"files": {"a": ("a", b"x"), "file": ("b", b"x")}}, 400, "bad_form"),
        ({"files": form(b"x"), "data": {f"field{number}": "x" for number in range(1_000)}}, 400, "bad_form"),
        ({"files": form(b"x"), "data": {"field": "x" * 100_000}}, 400, "bad_form"),
        ({"data": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "bad_form"),
        ({"data": b"x" * 999, "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400, "bad_form"),
        ({"data": b"x", "headers": {"Content-Type": "application/x-python-pickle"}}, 415, "unsupported_type"),
        ({"data": b"x"}, 415, "unsupported_type"),
        ({"files": form(b"x"), "params": {"explain": "perhaps"}}, 400, "bad_query"),
        ({"files": form(b"x"), "headers": {"Host": "rebound.example"}}, 421, "other_host"),
        ({"files": form(b"x"), "headers": {"Origin": "http://other.example"}}, 403, "other_site"),
        ({"files": form(b"x"), "headers": {"Origin": "null"}}, 403, "other_site"),
    ],
)
def test_a_request_that_is_none_is_refused(service, options, status, reason):  # noqa: F811
    response = requests.post(service.url("/predict"), timeout=60, **options)
    assert (response.status_code, response.json()["reason"]) == (status, reason)
    assert response.json()["message"] and "access-control-allow-origin" not in response.headers


def test_a_reverse_proxy_may_have_a_name_of_its_own():
    application = OwnSiteOnly(PlainTextResponse("answer"), hosts=(*LOOPBACK, "emotion.example"))
    client = TestClient(application, base_url="http://emotion.example:8443")
    assert client.get("/", headers={"Origin": "http://emotion.example:8443"}).text == "answer"
    assert client.get("/", headers={"Origin": "http://other.example"}).status_code == 403
    assert TestClient(application, base_url="http://emotion.example.net").get("/").status_code == 421


CHUNKED = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\nTransfer-Encoding: chunked\r\n\r\n"
LONG_NUMBER = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\nContent-Length: "
    + b"0" * 5_000
    + b"4\r\n\r\nRIFF"
)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b""),
        (
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\nContent-Length: 9\r\n\r\nRIFF",
            b" 408 ",
        ),
        (b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: many\r\n\r\n", b" 400 "),
        (b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", b" 400 "),
        (LONG_NUMBER, b" 413 "),
        (b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 400_000, b""),
        (b"POST /predict HTTP/1.1\r\n" + b"X-Many: x\r\n" * 40_000, b""),
        (CHUNKED + b"4\r\nRIFF\r\n0\r\nX-Trailer: " + b"x" * 400_000, b""),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b" 400 "),
    ],
    ids=[
        "nothing",
        "half_a_header",
        "half_a_body",
        "length_a_word",
        "negative_length",
        "length_of_5001_digits",
        "long_header",
        "many_headers",
        "long_trailer",
        "tls",
    ],
)
def test_a_slow_or_broken_client_is_cut_off(service, sent, answer):  # noqa: F811
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as client:
        received = b""
        try:
            client.sendall(sent)
            while data := client.recv(4096):
                received += data
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert (received == b"") if not answer else answer in received.partition(b"\r\n")[0]


def test_a_client_that_goes_away_disturbs_nothing(service, clip):  # noqa: F811
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\nContent-Length: 900000\r\n\r\n"
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", service.port)) as client:
            client.sendall(head + clip.read_bytes()[:50_000])
    assert service.post(clip.read_bytes()).status_code == 200


def test_many_uploads_at_once_are_answered_or_told_to_come_again(service, clip):  # noqa: F811
    content = clip.read_bytes()
    expected = service.post(content).json()
    with ThreadPoolExecutor(60) as pool:
        responses = list(pool.map(lambda _: service.post(content), range(120)))
    assert {response.status_code for response in responses} <= {200, 503}
    for response in responses:
        if response.status_code == 200:
            assert response.json() == expected
        else:
            assert response.json()["reason"] == "busy" and int(response.headers["Retry-After"]) > 0
    assert any(response.status_code == 200 for response in responses)


# --- streams ---------------------------------------------------------------------------------------------------------


@contextmanager
def open_stream(service: Service, **header) -> Iterator[ClientConnection]:  # noqa: F811
    with connect(f"ws://127.0.0.1:{service.port}/stream") as stream:
        if header:
            stream.send(json.dumps({"sample_rate": 16_000, "format": "f32le", "window": 1, "hop": 0.5} | header))
        yield stream


def ending(stream: ClientConnection) -> tuple[int, str]:
    """Code and reason with which the service closes a stream."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            stream.recv(timeout=10)
    return closed.value.rcvd.code, closed.value.rcvd.reason


@pytest.mark.parametrize(("kind", "step"), [("pcm_s16le", 7_001), ("f32le", 25_000), ("pcm_s16le", 99_999)])
def test_a_stream_gets_the_answers_of_its_file(service, model, speech, kind, step):  # noqa: F811
    samples = speech if kind == "pcm_s16le" else (speech / 32768).astype("<f4")
    with open_stream(service, sample_rate=48_000, format=kind, window=2, hop=1.5) as stream:
        for start in range(0, len(samples), step):
            stream.send(samples[start : start + step].tobytes())
        stream.send("end")
        answers = [json.loads(message) for message in stream]
    expected = list(model.predict_timeline(io.BytesIO(wav(speech, 48_000)), window=2, hop=1.5))
    assert answers == expected and len(answers) > 2
    assert all("emotion" in answer for answer in answers)


def test_windows_begin_half_a_window_apart_unless_the_header_says_otherwise(service, speech):  # noqa: F811
    with open_stream(service) as stream:
        stream.send(json.dumps({"sample_rate": 48_000, "format": "pcm_s16le", "window": 1}))
        stream.send(speech[:96_000].tobytes())
        assert [json.loads(stream.recv(timeout=10))["start"] for _ in range(3)] == [0.0, 0.5, 1.0]


def test_an_answer_comes_as_soon_as_its_window_is_complete(service, speech):  # noqa: F811
    with open_stream(service, sample_rate=48_000, format="pcm_s16le", window=1, hop=1) as stream:
        stream.send(speech[:48_000].tobytes())
        assert json.loads(stream.recv(timeout=10))["end"] == 1.0


def test_a_window_that_cannot_be_used_costs_no_other(service, speech):  # noqa: F811
    good = (speech[:48_000] / 32768).astype("<f4")
    with open_stream(service, sample_rate=48_000, hop=1) as stream:
        for part in (good, np.full(48_000, np.nan, "<f4"), np.zeros(48_000, "<f4"), np.full(48_000, 3e38, "<f4"), good):
            stream.send(part.tobytes())
        stream.send("end")
        answers = [json.loads(message) for message in stream]
    assert [answer.get("error") for answer in answers] == [None, "not_finite", "silent", "not_finite", None]
    assert answers[4]["probabilities"] == answers[0]["probabilities"]


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (["garbage"], 1007),
        ([b"\x00" * 100], 1007),
        (["[" * 10_000], 1007),
        (['{"sample_rate": 16000, "format": "pickle"}'], 1007),
        (['{"sample_rate": true, "format": "f32le"}'], 1007),
        (['{"sample_rate": 16000, "format": "f32le", "channels": 2}'], 1007),
        (['{"sample_rate": 16000, "format": "f32le", "hop": 0.001}'], 1007),
        (['{"sample_rate": 16000, "format": "f32le", "window": 1e300}'], 1007),
        (['{"sample_rate": 16000, "format": "f32le"}', b"\x00" * 5], 1007),
        (['{"sample_rate": 16000, "format": "f32le"}', "more"], 1007),
        (['{"sample_rate": 16000, "format": "f32le"}', b"\x00" * 200_004], 1009),
        (['{"sample_rate": 4000, "format": "pcm_s16le"}', b"\x00" * 170_000], 1008),
        (['{"sample_rate": 16000, "format": "f32le"}'], 1008),
    ],
)
def test_wrong_data_closes_a_stream_with_a_reason(service, messages, code):  # noqa: F811
    with open_stream(service) as stream:
        for message in messages:
            stream.send(message)
        closed_with, reason = ending(stream)
    assert closed_with == code and reason


def test_an_empty_stream_is_told_that_it_is_too_short(service):  # noqa: F811
    with open_stream(service, hop=1) as stream:
        stream.send("end")
        assert json.loads(stream.recv(timeout=10))["error"] == "too_short"


def test_only_so_many_streams_are_open(service):  # noqa: F811
    with (
        open_stream(service),
        open_stream(service),
        open_stream(service) as silent,
    ):  # without a header they do not count
        with open_stream(service, hop=1), open_stream(service, hop=1):
            service.until(lambda response: response.json()["streams"] == 2)
            with open_stream(service, hop=1) as third:
                assert ending(third)[0] == 1013
        assert ending(silent) == (1008, "nothing came for 1 s")
    service.until(lambda response: response.json()["streams"] == 0)


def test_a_web_page_of_another_site_gets_no_stream(service):  # noqa: F811
    address = f"ws://127.0.0.1:{service.port}/stream"
    with pytest.raises(InvalidStatus) as refused, connect(address, origin="http://other.example"):
        pass
    assert refused.value.response.status_code == 403


# --- processes and the champion --------------------------------------------------------------------------------------


def test_a_process_that_hangs_is_replaced(service, clip):  # noqa: F811
    content = clip.read_bytes()
    before = service.process()
    before.send_signal(signal.SIGSTOP)
    with ThreadPoolExecutor(12) as pool:
        responses = list(pool.map(lambda _: service.post(content), range(12)))
    assert {response.status_code for response in responses} == {503}
    assert {response.json()["reason"] for response in responses} == {"busy", "timeout"}
    service.until(lambda response: response.ok)
    assert service.post(content).status_code == 200
    assert service.processes() != [before] and not before.is_running()


def test_a_process_that_ended_before_it_took_a_recording_costs_no_answer(service, clip, monkeypatch):  # noqa: F811
    monkeypatch.setattr(service.answerers, "_limits", replace(LIMITS, answer_seconds=60.0))  # for the next process
    content = clip.read_bytes()
    expected = service.post(content).json()
    before = service.process()
    before.send_signal(signal.SIGSTOP)
    service.metrics()
    with ThreadPoolExecutor(4) as pool:
        responses = [pool.submit(service.post, content)]
        while not any("latency.queue" in line for line in service.metrics()):  # then it has been sent to the process
            time.sleep(0.01)
        before.kill()
        service.until(lambda response: response.json()["processes"] == 0)
        responses += [pool.submit(service.post, content) for _ in range(3)]  # they wait for the next process too
    assert [response.result().json() for response in responses] == [expected] * 4


def test_a_recording_that_ends_the_process_is_refused(service, speech):  # noqa: F811
    content = wav(np.resize(speech, 1_400_000), 48_000)
    with ThreadPoolExecutor(1) as pool:
        is_killed = False
        while not is_killed:  # until it is killed while it computes
            service.until(lambda response: response.ok)
            process = service.process()
            began = process.cpu_times().user
            response = pool.submit(service.post, content)
            while not response.done() and not is_killed:
                time.sleep(0.002)
                if process.cpu_times().user - began >= 0.03:  # it has read the recording
                    process.kill()
                    is_killed = not response.done()
        refused = response.result()
    assert (refused.status_code, refused.json()["reason"]) == (503, "crashed")
    service.until(lambda response: response.ok)


def test_another_champion_is_loaded_and_a_broken_one_is_not(service, clip):  # noqa: F811
    content, store = clip.read_bytes(), service.store
    before = service.process()
    service.metrics()
    decisions.promote_by_hand(store, version="second", family="random_forest", reason="for this test")
    state = service.until(lambda response: response.json()["version"] == "second")
    assert (state["family"], state["since"]) == ("random_forest", registry.champion(store)["since"])
    service.until(lambda _: not before.is_running())
    answer = service.post(content).json()
    assert (answer["model"], answer["family"]) == ("second", "random_forest")
    sent = service.metrics()
    assert sent.count("airflow.emotion.serving.models_loaded:1|c") == 1
    assert {line for line in sent if "load.problem" in line} == {"airflow.emotion.serving.load.problem:0.0|g"}

    store.write_bytes("models/first/logistic_regression_emotion_model.pkl", b"damaged")
    decisions.rollback(store, reason="for this test")
    state = service.until(lambda response: response.json()["problem"])
    assert "first/logistic_regression cannot be loaded" in state["problem"] and "sha256" in state["problem"]
    assert (state["status"], state["version"]) == ("ok", "second")
    service.until(lambda _: "airflow.emotion.serving.load.problem:1.0|g" in service.metrics())
    assert service.post(content).json() == answer
    for key in (registry.CHAMPION, registry.HISTORY):
        store.delete(key)
    service.until(lambda response: "no champion" in response.json()["problem"])
    assert service.post(content).json() == answer
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        assert len(service.processes()) == 1
        time.sleep(0.2)
