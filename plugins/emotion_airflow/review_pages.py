"""The page *Emotion review*: people listen to the clips of a queue and say what they hear.

Who may read the runs of ``emotion_scoring`` sees the page and hears its clips; who may edit them labels. Airflow's auth
manager decides both, for each request. Airflow's user name is recorded with each label.

The names of files, of speakers and of people, and notes, are hostile text: the template escapes them, and the script
of the page only ever sets them as text. The page's policy runs no other script than its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, BinaryIO
from urllib.parse import urlsplit

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.configuration import conf
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict

from emotion.errors import DataError
from emotion.review import clips, queue
from emotion.runs.run import run_folder
from emotion.settings import INCLUDE
from emotion.store import Store
from emotion_airflow.review_audio import byte_range, picture, playable
from emotion_airflow.review_state import OnScreen, Reviewer
from emotion_airflow.store_access import say_what_fails, settings

DAG = "emotion_scoring"
POLICY = (
    "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; media-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
FILE_POLICY = {"Content-Security-Policy": "sandbox; default-src 'none'; media-src 'self'; frame-ancestors 'none'"}
"""Of audio: should a browser show it as a page of its own, nothing in it runs."""
TEMPLATES = Environment(loader=FileSystemLoader(INCLUDE), autoescape=True, undefined=StrictUndefined)
may_see = requires_access_dag("GET", DagAccessEntity.RUN, param_dag_id=DAG)
may_label = requires_access_dag("PUT", DagAccessEntity.RUN, param_dag_id=DAG)
may_see_dag = requires_access_dag("GET", DagAccessEntity.RUN)
"""May see the runs of the DAG whose tab is shown, which may be any."""


class NewLabel(BaseModel):
    """What the page sends when a person has chosen; :func:`emotion.review.labels.add` checks the words."""

    model_config = ConfigDict(extra="forbid", strict=True)

    batch: str
    audio: str
    label: str
    note: str = ""
    speaker: str = ""
    blind: bool


class Undo(BaseModel):
    """Which label to take back."""

    model_config = ConfigDict(extra="forbid", strict=True)

    batch: str
    audio: str
    id: str


def refuse_other_sites(request: Request) -> None:
    """Refuse a request that another site's page makes the browser send.

    Airflow's cookie is ``SameSite=Lax``, so a browser does not send it with another site's POST. That is not enough
    alone: another port or subdomain is the same site, and ``make airflow`` has no login. So a request must have the
    content type JSON, which no form can have, and which a script of another origin can send only after a preflight
    that nobody here answers; and the browser must not name another origin. No page can set ``Sec-Fetch-Site`` and
    ``Origin``. A program that sends neither has no cookie that somebody else could use.

    Raises
    ------
    HTTPException
        403 or 415.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "Expected the content type application/json")
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    # Browsers leave out Sec-Fetch-Site where the page was loaded over http from another machine; Origin they do send.
    hosts = {request.headers.get("host"), urlsplit(conf.get("api", "base_url", fallback="")).netloc} - {""}
    if site not in (None, "same-origin") or (site is None and origin and urlsplit(origin).netloc not in hosts):
        raise HTTPException(403, "This request comes from a page of another site, and was refused")


@contextmanager
def answer_with(status: int) -> Iterator[None]:
    """What the library refuses, such as a clip that is not there, as an HTTP status with the library's message."""
    try:
        yield
    except DataError as error:
        raise HTTPException(status, str(error)) from None


def send_file(file: BinaryIO, content_type: str, range_header: str | None) -> Response:
    """The bytes of a file, or the part that the browser asks for (RFC 9110, section 14)."""
    size = file.seek(0, 2)
    headers = HEADERS | FILE_POLICY | {"Accept-Ranges": "bytes"}
    try:
        part = byte_range(range_header, size)
    except ValueError:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{size}"})
    start, end = part or (0, size - 1)
    file.seek(start)
    if part:
        headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    return Response(file.read(end - start + 1), 206 if part else 200, headers, content_type)


def user_may_label(request: Request, user: GetUserDep) -> bool:
    """Whether the auth manager lets the user edit runs of ``emotion_scoring``."""
    try:
        may_label(request, user)
    except HTTPException:
        return False
    return True


def add_security_headers(response: Response) -> None:
    """The headers of every answer that is JSON."""
    response.headers.update(HEADERS)


def reviewer(request: Request, user: GetUserDep, batch: str = "") -> Reviewer:
    """The user at the review of a batch; without one, of all batches."""
    return Reviewer(request.app.state.store, user.get_name(), batch or None, request.app.state.on_screen)


ReviewerDep = Annotated[Reviewer, Depends(reviewer)]
CanLabelDep = Annotated[bool, Depends(user_may_label)]
SEE = [Depends(may_see), Depends(add_security_headers)]
LABEL = [Depends(refuse_other_sites), Depends(may_label), Depends(add_security_headers)]
router = APIRouter()


def show(request: Request, template: str, **values: Any) -> HTMLResponse:
    """A page with a policy that runs its own script alone."""
    nonce = secrets.token_urlsafe(16)
    base = urlsplit(str(request.base_url)).path.rstrip("/") + request.app.state.prefix
    html = TEMPLATES.get_template(template).render(nonce=nonce, base=base, **values)
    return HTMLResponse(html, headers=HEADERS | {"Content-Security-Policy": POLICY.format(nonce=nonce)})


def show_review(request: Request, person: Reviewer, can_label: bool) -> HTMLResponse:
    """The page for the batch of the reviewer, or for all."""
    return show(request, "review.html.j2", batch=person.batch or "", may_label=can_label, person=person.person)


@router.get("/", dependencies=[Depends(may_see)])
def all_batches(request: Request, person: ReviewerDep, can_label: CanLabelDep) -> HTMLResponse:
    """The page that the menu opens."""
    return show_review(request, person, can_label)


@router.get("/batches/{batch}", dependencies=[Depends(may_see)])
def one_batch(request: Request, person: ReviewerDep, can_label: CanLabelDep, batch: str) -> HTMLResponse:
    """The page for one batch, such as a link in a message opens."""
    with answer_with(404):
        queue.read(person.store, batch)
    return show_review(request, person, can_label)


@router.get("/dags/{dag_id}", dependencies=[Depends(may_see_dag)])
@router.get("/dags/{dag_id}/runs/{run_id}", dependencies=[Depends(may_see_dag)])
def tab(request: Request, user: GetUserDep, can_label: CanLabelDep, dag_id: str, run_id: str = "") -> HTMLResponse:
    """The tab of a DAG or of a run. Airflow shows it on every DAG; only one of them has clips to review."""
    if dag_id != DAG:
        return show(request, "review_elsewhere.html.j2", dag_id=dag_id, review_dag=DAG)
    return show_review(request, reviewer(request, user, run_folder(run_id) if run_id else ""), can_label)


@router.get("/api/next", dependencies=SEE)
def next_clip(person: ReviewerDep, blind: bool = True) -> dict[str, Any]:
    """The next clip, and the overview."""
    with answer_with(404):
        return person.next_clip(blind=blind)


@router.get("/api/clips/{batch}", dependencies=SEE)
def clips_of_batch(person: ReviewerDep) -> list[dict[str, Any]]:
    """The clips of a batch, with the person's own labels."""
    with answer_with(404):
        return person.list_clips()


@router.get("/api/clips/{batch}/{audio}", dependencies=SEE)
def one_clip(person: ReviewerDep, batch: str, audio: str, blind: bool = True) -> dict[str, Any]:
    """A clip that the person goes back to."""
    with answer_with(404):
        return person.clip(batch, audio, blind=blind)


@router.get("/api/audio/{batch}/{audio}", dependencies=SEE)
def audio_of_clip(
    request: Request, batch: str, audio: str, range_header: Annotated[str | None, Header(alias="range")] = None
) -> Response:
    """The sound of a clip of a queue: nothing else in the artifact store can be heard here."""
    store = request.app.state.store
    with answer_with(404), clips.open_audio(store, queue.read(store, batch).item(audio)) as file:
        sound, content_type = playable(file)
        return send_file(sound, content_type, range_header)


@router.get("/api/picture/{batch}/{audio}", dependencies=SEE)
def picture_of_clip(request: Request, batch: str, audio: str) -> dict[str, Any]:
    """Waveform and spectrogram of a clip of a queue."""
    store = request.app.state.store
    with answer_with(404), clips.open_audio(store, queue.read(store, batch).item(audio)) as file:
        return picture(file)


@router.post("/api/labels", dependencies=LABEL)
def store_label(person: ReviewerDep, new: NewLabel) -> dict[str, Any]:
    """Store what the person heard; the answer of the model comes back."""
    with answer_with(404):
        queue.read(person.store, new.batch).item(new.audio)
    with answer_with(422):
        return person.store_label(**new.model_dump())


@router.post("/api/undo", dependencies=LABEL)
def take_back(person: ReviewerDep, undo: Undo) -> dict[str, Any]:
    """Take back a label of the person."""
    with answer_with(404):
        return person.take_back(undo.batch, undo.audio, undo.id)


def application(prefix: str) -> FastAPI:
    """The page, for all batches, for one, and as a tab of a DAG or a run; and what its script asks for.

    Parameters
    ----------
    prefix : str
        Where Airflow's API server mounts the application, such as ``/emotion-review``.
    """
    app = FastAPI(title="Speech emotion: review", docs_url=None, redoc_url=None, openapi_url=None)
    say_what_fails(app)
    app.state.store = Store(settings().home)
    app.state.on_screen = OnScreen()
    app.state.prefix = prefix
    app.include_router(router)
    return app
