"""Draw the dashboards with data from a Graphite, without a Grafana.

    python grafana/pictures.py http://localhost:8081 docs/pictures

Writes one picture per dashboard. graphite-web draws the time series; this script draws numbers, bars and tables from
graphite-web's answers. Variables have the values with which the dashboard opens. The pictures show the panels, queries,
units and thresholds of the dashboards. They are no screenshots of Grafana, and Grafana draws them differently. Needs
Pillow.
"""

from __future__ import annotations

import io
import json
import re
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent
COLUMN, ROW, GAP = 56, 26, 6
COLOURS = {
    "blue": "#3a6fc4",
    "green": "#2f8f4e",
    "yellow": "#c9a400",
    "orange": "#d9731a",
    "purple": "#8f4fc4",
    "red": "#c4283a",
}
BACKGROUND, PANEL, TEXT = "#0e1014", "#181b1f", "#d8d9da"
FONTS = {size: ImageFont.load_default(size) for size in (11, 13, 26)}


def main(graphite: str, folder: str) -> None:
    for file in sorted((HERE / "dashboards").glob("*.json")):
        target = Path(folder) / f"dashboard_{file.stem}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        picture = draw(graphite, json.loads(file.read_text()))
        picture.quantize(64).save(target, optimize=True)
        print(target)


def draw(graphite: str, dashboard: dict) -> Image.Image:
    """The whole dashboard, with each panel at its place in Grafana."""
    dashboard = with_copies(dashboard, lambda query: _find(graphite, query))
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    picture = Image.new("RGB", (24 * COLUMN, max(at["y"] + at["h"] for at in places) * ROW), BACKGROUND)
    paint = ImageDraw.Draw(picture)
    dashboard_since = dashboard["time"]["from"].removeprefix("now")
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        left, top = at["x"] * COLUMN, at["y"] * ROW
        width, height = at["w"] * COLUMN - GAP, at["h"] * ROW - GAP
        if panel["type"] == "row":
            paint.text((left + 8, top + 4), panel["title"], fill=TEXT, font=FONTS[13])
            continue
        paint.rectangle((left, top, left + width, top + height), fill=PANEL)
        paint.text((left + 8, top + 5), filled(dashboard, panel["title"]), fill=TEXT, font=FONTS[13])
        if panel["type"] == "alertlist":
            paint.text((left + 8, top + 40), "Grafana lists alerts here.", fill=TEXT, font=FONTS[11])
            continue
        targets = [filled(dashboard, query["target"]) for query in panel["targets"]]
        since = f"-{_seconds(panel['timeFrom'])}s" if "timeFrom" in panel else dashboard_since
        inner = (left + 8, top + 26, width - 16, height - 32)
        if panel["type"] == "timeseries":
            picture.paste(_over_time(graphite, panel, targets, since, inner[2:]), inner[:2])
        else:
            answers = [series for target in targets for series in _ask(graphite, target, since)]
            values = [(series["target"], _reduced(series, panel)) for series in answers]
            rows = [(name, figures) for name, figures in values if figures]
            {"stat": _stat, "bargauge": _bars, "table": _table}[panel["type"]](paint, inner, panel, rows)
    return picture


def with_copies(dashboard: dict, find: Callable[[str], list[str]]) -> dict:
    """The dashboard with a copy of each repeated panel for every value of its variable, laid out as Grafana does.

    ``find`` gives the values that the query of a variable finds.
    """
    queries = {variable["name"]: variable.get("query") for variable in dashboard["templating"]["list"]}
    panels, moved = [], 0
    for panel in dashboard["panels"]:
        at = panel["gridPos"] = panel["gridPos"] | {"y": panel["gridPos"]["y"] + moved}
        if "repeat" not in panel:
            panels.append(panel)
            continue
        values = sorted(find(queries[panel["repeat"]]))
        in_a_row = min(len(values), panel["maxPerRow"])
        for number, value in enumerate(values):
            place = {"w": 24 // in_a_row, "x": number % in_a_row * (24 // in_a_row)}
            copy = json.loads(re.sub(r"\$\{?" + panel["repeat"] + r"\b\}?", value, json.dumps(panel)))
            panels.append(copy | {"gridPos": at | place | {"y": at["y"] + number // in_a_row * at["h"]}})
        moved += (-(-len(values) // in_a_row) - 1) * at["h"]
    return dashboard | {"panels": panels}


def _seconds(time: str) -> int:
    """A time as Grafana writes it, such as ``9d`` or ``15m``."""
    return int(time[:-1]) * {"m": 60, "h": 3600, "d": 86_400}[time[-1]]


def _find(graphite: str, query: str) -> list[str]:
    address = f"{graphite}/metrics/find?query={urllib.parse.quote(query)}"
    with urllib.request.urlopen(address, timeout=60) as answer:
        return [node["text"] for node in json.loads(answer.read())]


def filled(dashboard: dict, text: str) -> str:
    """The text with the values of the variables with which the dashboard opens."""
    for variable in dashboard["templating"]["list"]:
        value = variable.get("allValue") or variable["current"]["value"]
        text = re.sub(r"\$\{?" + variable["name"] + r"\b\}?", value, text)
    return text


def _post(graphite: str, form: dict) -> bytes:
    data = urllib.parse.urlencode(form, doseq=True).encode()
    with urllib.request.urlopen(f"{graphite}/render", data, timeout=120) as answer:
        return answer.read()


def _ask(graphite: str, target: str, since: str) -> list[dict]:
    return json.loads(_post(graphite, {"target": target, "from": since, "format": "json", "maxDataPoints": 300}))


def _over_time(graphite: str, panel: dict, targets: list[str], since: str, size: tuple[int, int]) -> Image.Image:
    defaults = panel["fieldConfig"]["defaults"]
    style = defaults["custom"]["drawStyle"]
    form = {
        "target": [part for target in targets for part in _in_colour(target, panel["fieldConfig"]["overrides"])],
        "from": since,
        "format": "png",
        "width": size[0],
        "height": size[1],
        "bgcolor": PANEL.removeprefix("#"),
        "fgcolor": TEXT.removeprefix("#"),
        "fontSize": 9,
        "hideLegend": "false",
        "lineMode": {"line": "connected", "bars": "staircase", "points": "slope"}[style],
        "areaMode": "stacked" if defaults["custom"].get("stacking", {}).get("mode") == "normal" else "none",
        "lineWidth": 7 if style == "points" else 2,
    }
    if "min" in defaults:
        form["yMin"] = defaults["min"]
    return Image.open(io.BytesIO(_post(graphite, form))).convert("RGB")


def _in_colour(target: str, overrides: list[dict]) -> list[str]:
    """The query as one with the fixed colour of each override, and one of all other series."""
    patterns = [override["matcher"]["options"].strip("/") for override in overrides]
    colours = [override["properties"][0]["value"]["fixedColor"] for override in overrides]
    parts = [
        f"color(grep({target}, '{pattern}'), '{COLOURS.get(colour, colour).removeprefix('#')}')"
        for pattern, colour in zip(patterns, colours, strict=True)
    ]
    return [*parts, f"exclude({target}, '{'|'.join(patterns)}')"] if parts else [target]


CALCULATIONS = {
    "sum": sum,
    "mean": lambda values: sum(values) / len(values),
    "lastNotNull": lambda values: values[-1],
    "firstNotNull": lambda values: values[0],
    "min": min,
    "max": max,
    "diff": lambda values: values[-1] - values[0],
}


def _reduced(series: dict, panel: dict) -> list[float]:
    """The values that the panel shows of a series: one, or one per column of a table."""
    values = [value for value, _ in series["datapoints"] if value is not None]
    calculations = panel["options"].get("reduceOptions", {}).get("calcs")
    calculations = calculations or panel["transformations"][0]["options"]["reducers"]
    return [CALCULATIONS[name](values) for name in calculations] if values else []


Rows = list[tuple[str, list[float]]]
"""Name and values of each series."""


def _stat(paint: ImageDraw.ImageDraw, box: tuple, panel: dict, rows: Rows) -> None:
    """Each number on a background of its colour, one below the other."""
    left, top, width, height = box
    step = height / max(len(rows), 1)
    for number, (name, values) in enumerate(rows or [("", [])]):
        defaults, y = panel["fieldConfig"]["defaults"], top + number * step
        colour = ""
        for override in panel["fieldConfig"]["overrides"]:
            if name and re.search(override["matcher"]["options"].strip("/"), name):
                settings = {each["id"]: each["value"] for each in override["properties"]}
                colour = settings.pop("color")["fixedColor"]
                defaults = defaults | settings
                break
        value = values[0] if values else None
        text = defaults["noValue"] if value is None else _words(value, defaults)
        paint.rectangle(
            (left, y, left + width, y + step - 2), fill=COLOURS.get(colour, colour) or _colour(value, defaults)
        )
        paint.text((left + 12, y + 2), name, fill="white", font=FONTS[11])
        is_large = step > 40 and len(text) < 14
        x = left + (12 if len(rows) < 3 else width / 2)
        paint.text((x, y + max(step / 2 - 8, 14)), text, fill="white", font=FONTS[26 if is_large else 13])


def _lines(box: tuple, rows: Rows) -> Iterator[tuple[float, float, str, list[float]]]:
    """(top, height, name, values) of the rows that fit into the box."""
    _, top, _, height = box
    rows = rows[: int(height // 15)]
    step = min(height / max(len(rows), 1), 30)
    for number, (name, values) in enumerate(rows):
        yield top + number * step, step, name, values


def _largest(panel: dict, rows: Rows) -> float:
    return max([values[0] for _, values in rows] + [panel["fieldConfig"]["defaults"].get("max") or 0, 1e-12])


def _bars(paint: ImageDraw.ImageDraw, box: tuple, panel: dict, rows: Rows) -> None:
    """A name, a bar and a value per series."""
    left, _, width, _ = box
    defaults = panel["fieldConfig"]["defaults"]
    largest, label = _largest(panel, rows), min(0.45 * width, 170)
    shaded = defaults["color"]["mode"].startswith("continuous")
    for y, step, name, (value, *_) in _lines(box, rows):
        middle = y + step / 2 - 7
        end = left + label + max((width - label - 60) * value / largest, 1)
        colour = _shade(value / largest) if shaded else _colour(value, defaults)
        paint.text((left, middle), name[: int(label / 6)], fill=TEXT, font=FONTS[11])
        paint.rectangle((left + label, y + 2, end, y + step - 2), fill=colour)
        paint.text((left + width - 54, middle), _words(value, defaults), fill=TEXT, font=FONTS[11])


def _table(paint: ImageDraw.ImageDraw, box: tuple, panel: dict, rows: Rows) -> None:
    """A name and the values of each series."""
    left, _, width, _ = box
    defaults, label = panel["fieldConfig"]["defaults"], 0.45 * width
    for y, step, name, values in _lines(box, rows):
        middle = y + step / 2 - 7
        paint.text((left, middle), name[: int(label / 6)], fill=TEXT, font=FONTS[11])
        for column, value in enumerate(values):
            x = left + label + column * (width - label) / len(values)
            paint.text((x, middle), _words(value, defaults), fill=TEXT, font=FONTS[11])


def _words(value: float, defaults: dict) -> str:
    """A value with its unit, or the word that the panel shows in its place."""
    for mapping in defaults.get("mappings", ()):
        if f"{value:g}" in mapping["options"]:
            return mapping["options"][f"{value:g}"]["text"]
    unit = defaults["unit"]
    scale, suffix = {"percentunit": (0.01, " %"), "bytes": (2**20, " MiB"), "ms": (1, " ms")}.get(unit, (1, ""))
    if unit == "s":
        spans = ((86400, " days"), (3600, " h"), (60, " min"), (0, " s"))
        scale, suffix = next((size or 1, name) for size, name in spans if abs(value) >= size)
    return f"{value / scale:.3g}{suffix}" if abs(value / scale) < 1000 else f"{value / scale:.0f}{suffix}"


def _colour(value: float | None, defaults: dict) -> str:
    lowest, *higher = defaults["thresholds"]["steps"]
    step = [lowest, *(step for step in higher if value is not None and value >= step["value"])][-1]
    return COLOURS.get(step["color"], step["color"])


def _shade(share: float) -> tuple[int, int, int]:
    """The colour of a value from 0 (blue) over 0.5 (yellow) to 1 (red)."""
    share = min(max(share, 0.0), 1.0)
    stops = ((31, 96, 196), (201, 164, 0), (196, 40, 58))
    low, high, part = (stops[0], stops[1], 2 * share) if share < 0.5 else (stops[1], stops[2], 2 * share - 1)
    return tuple(round(a + (b - a) * part) for a, b in zip(low, high, strict=True))


if __name__ == "__main__":
    main(*sys.argv[1:3])
