"""The tab *Emotion report* in Airflow's UI: what it shows, who may see it, and that a report runs no script."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import requests

import emotion_plugin
from browser import chromium
from emotion.commands.local_airflow import LocalAirflow, free_port
from emotion.review import labels
from emotion.store import Store
from emotion_airflow import report_pages, runbook
from review_queues import simple_queue

RUN = "manual__2026-01-02T03:04:05+00:00"
REPORT = f'src="{{}}/emotion/dags/emotion_training/runs/{quote(RUN, safe="")}/report"'
EVIL = "<script>document.title='owned'</script><h1>A report</h1>"


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """A real Airflow with a run of each DAG in its database; one of them has a report."""
    folder = tmp_path_factory.mktemp("plugin")
    dags = folder / "dags"
    dags.mkdir()
    for name in ("emotion_training", "emotion_scoring", "other"):
        (dags / f"{name}.py").write_text(
            "from airflow.sdk import dag, task\n"
            f"@dag('{name}', is_paused_upon_creation=False)\n"
            "def graph():\n    @task\n    def nothing(): pass\n    nothing()\ngraph()\n"
        )
    extra = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "EMOTION_HOME": str(folder / "home"),
        "EMOTION_GRAFANA_URL": "http://localhost:3000/",
    }
    airflow = LocalAirflow(folder / "airflow", free_port(), extra)
    with airflow.running("dag-processor", "scheduler"):
        for dag_id, run_id in (("emotion_training", RUN), ("emotion_scoring", "empty"), ("other", "one")):
            body = {"dag_run_id": run_id, "logical_date": None}
            _when_there(lambda dag_id=dag_id, body=body: airflow.api("POST", f"/dags/{dag_id}/dagRuns", json=body))
        Store(str(folder / "home")).write_bytes(report_pages.report_key("emotion_training", RUN), EVIL.encode())
        Store(str(folder / "home")).write_bytes("secret/report.html", b"not for eyes")
        yield airflow


def _when_there(call, seconds=60):
    end = time.monotonic() + seconds
    while True:
        try:
            return call()
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


@pytest.fixture(scope="module")
def get(airflow):
    airflow.api("GET", "/version")
    token = airflow._session.headers["Authorization"]

    def get(path):
        request = requests.Request("GET", airflow.url, headers={"Authorization": token}).prepare()
        request.url = f"{airflow.url}/emotion{path}"  # as it is, dots and all
        with requests.Session() as session:
            session.trust_env = False
            return session.send(request, timeout=30)

    return get


@pytest.mark.airflow
def test_loaded_without_errors(airflow):
    assert airflow.api("GET", "/plugins/importErrors")["import_errors"] == []
    (plugin,) = [entry for entry in airflow.api("GET", "/plugins")["plugins"] if entry["name"] == "emotion"]
    views = sorted((view["name"], view["destination"]) for view in plugin["external_views"])
    tabs = [(name, destination) for name in ("Emotion report", "Emotion review") for destination in ("dag", "dag_run")]
    assert views == [*tabs, ("Emotion review", "nav")]


@pytest.mark.airflow
def test_a_report_is_served_with_a_policy_that_runs_no_script(get):
    reply = get(f"/dags/emotion_training/runs/{RUN.replace('+', '%2B')}/report")
    assert (reply.status_code, reply.text) == (200, EVIL)
    policy = [rule.strip() for rule in reply.headers["Content-Security-Policy"].split(";")]
    assert {"sandbox", "default-src 'none'", "frame-ancestors 'self'", "base-uri 'none'"} <= set(policy)
    assert not [rule for rule in policy if rule.startswith(("script-src", "connect-src"))]
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Cache-Control"] == "no-store"


@pytest.mark.airflow
def test_a_time_leads_to_the_run_that_was_at_work(airflow, get):
    def times() -> list[float]:
        run = airflow.api("GET", "/dags/emotion_scoring/dagRuns/empty")
        return [datetime.fromisoformat(run[key]).timestamp() for key in ("start_date", "end_date")]

    started, ended = _when_there(times, seconds=120)  # until the scheduler has ended the run
    minute = started // 60 * 60  # Graphite rounds down
    for when in (minute, started, ended, ended + 30, started - 1800):
        reply = get(f"/dags/emotion_scoring/at/{int(when * 1000)}")
        assert reply.status_code == 200 and urlsplit(reply.url).path == "/emotion/dags/emotion_scoring/runs/empty", when
    for when in (started - 2 * 3600, ended + 600):
        assert get(f"/dags/emotion_scoring/at/{int(when * 1000)}").status_code == 404
    for wrong in ("-1", "soon", "9" * 30):
        assert get(f"/dags/emotion_scoring/at/{wrong}").status_code in (404, 422)
    assert get("/dags/absent/at/1").status_code == 404


@pytest.mark.airflow
def test_the_runbook_has_a_place_for_each_alert(get):
    reply = get("/runbook")
    assert reply.status_code == 200 and "default-src 'none'" in reply.headers["Content-Security-Policy"]
    assert '<h3 id="scoring-has-stopped">Scoring has stopped</h3>' in reply.text and "<table>" in reply.text
    assert "Names, units, retention" not in reply.text


def test_a_runbook_contains_no_markup_of_its_own(tmp_path):
    file = tmp_path / "monitoring.md"
    file.write_text("# M\n\n## Alerts and what to do\n\n### A `<b>` & c\n<script>x</script>\n\n## Next\nno\n")
    html = runbook.runbook_html(file)
    assert "<script" not in html and "<b>" not in html and 'id="a-b--c"' in html and "no" not in html.split()
    file.write_text("# M\n")
    with pytest.raises(ValueError, match="substring not found"):
        runbook.runbook_html(file)


@pytest.mark.airflow
def test_pages_require_a_login(airflow):
    """In the other tests everyone is an admin; here Airflow asks for a login."""
    with_login = LocalAirflow(
        airflow.home, free_port(), airflow.env | {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False"}
    )
    with_login.start("api-server", "--host", "127.0.0.1", "--port", str(with_login.port), "--workers", "1")
    try:
        _when_there(lambda: requests.get(f"{with_login.url}/api/v2/monitor/health", timeout=5).raise_for_status())
        for path in ("", f"/runs/{RUN}", f"/runs/{RUN}/report", "/runs/none"):
            assert requests.get(f"{with_login.url}/emotion/dags/emotion_training{path}", timeout=30).status_code == 401
        for path in ("runbook", "dags/emotion_scoring/at/1"):
            assert requests.get(f"{with_login.url}/emotion/{path}", timeout=30).status_code == 401
    finally:
        with_login.stop()


@pytest.mark.airflow
@pytest.mark.parametrize(
    "path",
    [
        "/dags/emotion_training/runs/none/report",  # no such run
        "/dags/emotion_scoring/runs/empty/report",  # no report
        "/dags/other/runs/one/report",  # a DAG without reports
        "/dags/emotion_training/runs/../../secret/report",
        "/dags/emotion_training/runs/..%2F..%2Fsecret/report",
        "/dags/emotion_training/runs/%2e%2e%2fsecret/report",
        "/dags/emotion_training/runs/..%5c..%5csecret/report",
        "/dags/..%2Fsecret/runs/one/report",
        "/dags/emotion_training/runs/%00/report",
    ],
)
def test_only_reports_of_runs_are_served(get, path):
    reply = get(path)
    assert reply.status_code == 404
    assert "not for eyes" not in reply.text


@pytest.mark.airflow
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/dags/emotion_training/runs/{RUN.replace('+', '%2B')}", REPORT),
        ("/dags/emotion_training", REPORT),
        ("/dags/emotion_scoring/runs/empty", "has no report"),
        ("/dags/other", "other writes no reports"),
        ("/dags/other/runs/one", "other writes no reports"),
        ("/dags/%3Cscript%3Ealert(1)", "&lt;script&gt;alert(1) writes no reports"),
    ],
)
def test_page_shows_the_report_or_says_why_there_is_none(airflow, get, path, expected):
    reply = get(path)
    assert reply.status_code == 200
    assert expected.format(airflow.url) in reply.text
    assert "unsafe" not in reply.headers["Content-Security-Policy"]


@pytest.mark.airflow
@pytest.mark.browser
def test_tab_in_a_browser_shows_the_report_and_opens_it_in_a_window(airflow):
    with chromium() as browser:
        browser.resize(1400, 900)
        browser.open(f"{airflow.url}/dags/emotion_training/runs/{RUN.replace('+', '%2B')}/plugin/emotion_run_report")
        browser.find("iframe[title='Emotion report']", timeout=60)
        _when_there(lambda: browser.run("return frames[0].document.querySelector('iframe').src") or 1 / 0)
        links = browser.run("return [...frames[0].document.querySelectorAll('header a')].map(link => link.href)")
        assert links[0].endswith("/report")
        assert links[1].startswith("http://localhost:3000/d/emotion-training?from=")
        inner = "try { return frames[0][0].document.title } catch { return 'of another origin' }"
        assert browser.run(inner) == "of another origin"
        for _ in range(2):
            browser._call("POST", "/frame", id=0)
        _when_there(lambda: browser.run("return document.querySelector('h1').textContent"))
        assert browser.run("return document.querySelector('h1').textContent") == "A report"
        browser._call("POST", "/frame", id=None)
        before = browser._call("GET", "/window/handles")
        browser.run("frames[0].document.querySelector('header a').click()")
        _when_there(lambda: 1 / (len(browser._call("GET", "/window/handles")) - len(before)), 20)
        (opened,) = set(browser._call("GET", "/window/handles")) - set(before)
        browser._call("POST", "/window", handle=opened)
        _when_there(lambda: browser.run("return document.querySelector('h1').textContent"))
        assert browser.run("return document.title") != "owned"


@pytest.mark.airflow
@pytest.mark.browser
def test_tab_of_a_scoring_run_lets_a_person_review_its_batch(airflow):
    store = Store(airflow.env["EMOTION_HOME"])
    (item,) = simple_queue(store, "empty", 1)
    simple_queue(store, "another", 1, seed=5)
    with chromium() as browser:
        browser.resize(1280, 860)
        browser.open(f"{airflow.url}/dags/emotion_scoring/runs/empty/plugin/emotion_run_review")
        browser.find("iframe[title='Emotion review']", timeout=60)
        _when_there(lambda: browser.run("return frames[0].document.querySelector('#clip').checkVisibility()") or 1 / 0)
        browser.enter_frame()
        assert browser.run("return [clip.audio, document.querySelector('#batch').value]") == [item.audio, "empty"]
        browser.press("3")
        _when_there(lambda: browser.run("return stored()") or 1 / 0)
        browser.enter_frame(None)
        browser.open(f"{airflow.url}/dags/other/plugin/emotion_dag_review")
        text = "frames[0].document.body.innerText"
        _when_there(lambda: browser.run(f"return {text}.includes('other has no clips to review')") or 1 / 0)
    (label,) = labels.read(store)
    assert (label.batch, label.label, label.person) == ("empty", "sad", "Anonymous")


@pytest.mark.parametrize(
    ("ended", "expected"),
    [(None, "now"), (datetime(2026, 1, 2, 4, tzinfo=UTC), "1767327000000")],
)
def test_the_grafana_link_covers_the_time_of_the_run(ended, expected):
    start = datetime(2026, 1, 2, 3, tzinfo=UTC)
    run = SimpleNamespace(dag_id="emotion_scoring", start_date=start, run_after=start, end_date=ended)
    link = urlsplit(report_pages.grafana_link("https://grafana.example/g/", run, airflow="http://localhost:8080"))
    assert link.path == "/g/d/emotion-scoring"
    query = parse_qs(link.query)
    assert query["to"] == [expected]
    assert query["from"] == [str(int(start.timestamp() * 1000) - 600_000)]
    assert query["var-airflow"] == ["http://localhost:8080"]


def test_loading_the_plugin_imports_nothing_heavy():
    script = (
        "import sys, time; import airflow.plugins_manager; before = set(sys.modules); import emotion_plugin;"
        "emotion_plugin.EmotionPlugin(); print(*set(sys.modules) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(emotion_plugin.__file__).parent)},
    )
    pages = {"emotion_airflow.report_pages", "emotion_airflow.review_pages"}
    assert not {"fastapi", "pandas", "jinja2", "emotion.store", *pages} & set(done.stdout.splitlines()[-1].split())
