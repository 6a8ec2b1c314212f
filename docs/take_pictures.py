"""Take the pictures of the documentation in headless Chromium, after a training run and a scoring run.

A queue of clips to review must be there; one of them is labelled.

make airflow                                                                # in another terminal
.venv/bin/python docs/take_pictures.py http://127.0.0.1:8080 emotion-home/runs/RUN
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from browser import Browser, chromium

PICTURES = Path(__file__).parent / "pictures"
DAG = "/dags/emotion_training"
PRESS = """
const named = text => [...document.querySelectorAll('button')].find(
    button => (button.getAttribute('aria-label') || button.innerText).trim().startsWith(text));
named(arguments[0])?.click(); return Boolean(named(arguments[0]));"""


def wait_for(browser: Browser, condition: str, seconds: float = 60) -> None:
    """Wait until a JavaScript expression is true on the page."""
    deadline = time.monotonic() + seconds
    while not browser.run(f"return {condition}"):
        if time.monotonic() > deadline:
            raise SystemExit(f"after {seconds:g} s this is still false on the page: {condition}")
        time.sleep(0.5)


def take_graph(browser: Browser, airflow: str, run: Path) -> None:
    """The graph of the run, with all task groups open."""
    browser.resize(1600, 700)
    browser.open(f"{airflow}{DAG}/runs/{run.name}")
    wait_for(browser, "document.body.innerText.includes('register_challenger')")
    browser.run(PRESS, "Show Graph")
    wait_for(browser, "document.querySelectorAll('.react-flow__node').length > 8")
    browser.run(PRESS, "Collapse Details Panel")
    time.sleep(2)
    browser.run(PRESS, "Expand all task groups")
    time.sleep(4)
    browser.run(PRESS, "Fit View")
    time.sleep(3)
    browser.screenshot(PICTURES / "graph.png")


def take_trigger_form(browser: Browser, airflow: str) -> None:
    """The upper part of the trigger form."""
    browser.resize(1280, 1100)
    browser.open(f"{airflow}{DAG}")
    wait_for(browser, "document.body.innerText.includes('Trigger')")
    browser.run(PRESS, "Trigger")
    wait_for(browser, "document.body.innerText.includes('Promotion policy')")
    time.sleep(3)
    browser.screenshot(PICTURES / "trigger_form.png")


def take_report(browser: Browser, run: Path) -> None:
    """The upper part of the report."""
    browser.resize(1280, 1150)
    browser.open(run.resolve() / "report.html")
    time.sleep(1)
    browser.screenshot(PICTURES / "report.png")


def take_review(browser: Browser, airflow: str) -> None:
    """The review of a clip, in Airflow's frame; stores a label for it."""
    browser.resize(1280, 860)
    browser.colours("light")
    browser.open(f"{airflow}/plugin/emotion_review")
    wait_for(browser, "Boolean(frames[0]?.document.querySelector('#clip:not([hidden])'))")
    browser.enter_frame()
    wait_for(browser, "drawn !== null")
    browser.press("1")
    wait_for(browser, "stored()")
    time.sleep(6)  # until the message at the bottom has gone
    browser.screenshot(PICTURES / "review.png")
    browser.enter_frame(None)


def main(airflow: str, run: Path) -> None:
    with chromium() as browser:
        take_graph(browser, airflow, run)
        take_trigger_form(browser, airflow)
        take_report(browser, run)
        take_review(browser, airflow)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
