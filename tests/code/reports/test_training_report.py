"""The report, from figures made by the functions that make them in a run, opened in a real browser."""

import copy
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from browser import chromium
from emotion import features
from emotion.audio.conditions import CONDITIONS, CONDITIONS_VERSION
from emotion.evaluation import bootstrap
from emotion.evaluation.scores import compute_scores, fold_summary, slice_scores
from emotion.evaluation.stress import stress_scores
from emotion.explanation import export, values
from emotion.explanation.plots import PLOTS
from emotion.models.classifier import Classifier
from emotion.reports import training_report
from emotion.reports.training_report import PLOT_TITLES, TITLES
from emotion.store import Store
from emotion.vocabulary import (
    DATASET_PROTOCOLS,
    EMOTIONS,
    FAMILIES,
    MODES,
    PROTOCOLS,
    SCORES,
    emotion_colours,
    probability_columns,
)

PROBABILITIES = probability_columns(EMOTIONS)

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\"'{{ 7 * 7 }}"
SKILL = {
    "random": 3.0,
    "random_adapted": 3.4,
    "speaker_independent": 1.6,
    "speaker_independent_batch": 1.8,
    "speaker_independent_adapted": 2.3,
}
CLIPS = 480


def protocol_scores(skill: float, seed: int) -> dict:
    """Scores of made-up predictions, better the higher ``skill``."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "emotion": np.resize(EMOTIONS, CLIPS),
            "gender": random.choice(["female", "male"], CLIPS),
            "intensity": random.choice(["normal", "strong"], CLIPS),
            "statement": random.choice(["kids", "dogs"], CLIPS),
        }
    )
    logits = random.normal(size=(CLIPS, len(EMOTIONS)))
    logits[np.arange(CLIPS), [EMOTIONS.index(emotion) for emotion in table["emotion"]]] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = table["emotion"].to_numpy()
    folds = [
        compute_scores(labels[part], probabilities[part], EMOTIONS)
        for part in np.array_split(random.permutation(CLIPS), 6)
    ]
    speakers = np.repeat([f"s{number}" for number in range(24)], CLIPS // 24)
    intervals = bootstrap.score_intervals(labels, speakers, probabilities, emotions=EMOTIONS, seed=0)
    return (
        compute_scores(labels, probabilities, EMOTIONS)
        | intervals
        | {
            "cv": fold_summary(folds),
            "slices": slice_scores(table, probabilities, EMOTIONS),
        }
    )


def stress_table(skill: float, seed: int) -> dict:
    """A stress table of made-up predictions: every condition is harder than clean, and noise is hardest."""
    random, frames = np.random.default_rng(seed), []
    labels = np.resize(EMOTIONS, 160)
    for mode, gain in (("plain", 0.0), ("batch", 0.3), ("speaker", 0.6)):
        for condition in ("clean", *CONDITIONS):
            lift = skill + gain - (condition != "clean") - condition.startswith("white")
            logits = random.normal(size=(160, len(EMOTIONS)))
            logits[np.arange(160), np.resize(range(8), 160)] += lift
            probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            frame = pd.DataFrame(probabilities, columns=PROBABILITIES)
            frames.append(frame.assign(mode=mode, condition=condition, row=range(160), emotion=labels))
    return stress_scores(pd.concat(frames))


@pytest.fixture(scope="module")
def comparison() -> dict:
    models = {}
    for number, model in enumerate((*FAMILIES, "ensemble")):
        models[model] = {name: protocol_scores(skill + number / 5, number) for name, skill in SKILL.items()}
        models[model] |= {
            "fit_seconds": 1.2,
            "predict_ms_single": 0.5,
            "predict_ms_batch": 0.02,
            "training_seconds": 31.0,
            "stress": stress_table(2.0 + number / 5, number),
        }
        if model != "ensemble":
            models[model]["random"]["split_80_20"] = compute_scores(
                np.array(EMOTIONS), np.eye(len(EMOTIONS)) * 0.92 + 0.01, EMOTIONS
            )
    return {
        "run_id": "scheduled__2026-11-22T09:00:00+00:00",
        "created": "2026-11-22T09:04:11+00:00",
        "seed": 42,
        "recipe": "4aa51fae213d",
        "features": 2035,
        "speaker_folds": "published",
        "packages": {"python": "3.12.1", "scikit-learn": "1.9.1"},
        "selected": "ensemble",
        "selection": {
            "protocol": "speaker_independent",
            "score": "f1_macro",
            "reason": "Highest macro F1 on speakers held out.",
            "runner_up": "gradient_boosting",
            "tie": True,
        },
        "notice": None,
        "stress": {
            "version": CONDITIONS_VERSION,
            "clips": 160,
            "speakers": 24,
            "conditions": {name: condition.title for name, condition in CONDITIONS.items()},
        },
        "dataset": {
            "name": "ravdess-speech",
            "title": "RAVDESS, emotional speech",
            "licence": {
                "id": "CC-BY-NC-SA-4.0",
                "name": "Creative Commons Attribution-NonCommercial-ShareAlike 4.0",
                "url": "https://creativecommons.org/licenses/by-nc-sa/4.0/",
                "model": "Not for commercial use.",
            },
            "fingerprint": "5d208e01" * 8,
            "clips": 1440,
            "used": 1438,
            "rejected": 1,
            "duplicates": 1,
            "speakers": 24,
            "emotions": dict.fromkeys(EMOTIONS, 180),
            "seconds": 5328.0,
            "complete": True,
            "warnings": [],
            "synthesized": False,
            "citation": "Livingstone SR, Russo FA (2018).",
        },
        "models": models,
    }


@pytest.fixture(scope="module")
def challenge(comparison) -> dict:
    new = comparison["models"]["ensemble"]["speaker_independent"]
    old = comparison["models"]["random_forest"]["speaker_independent"]
    rows = [
        {
            "emotion": emotion,
            "champion_f1": old["per_emotion"][emotion]["f1"],
            "challenger_f1": new["per_emotion"][emotion]["f1"],
            "change": new["per_emotion"][emotion]["f1"] - old["per_emotion"][emotion]["f1"],
            "interval": [-0.123, 0.234],
            "too_much": False,
        }
        for emotion in EMOTIONS
    ]
    rows[3] |= {"challenger_f1": 0.1, "change": -0.45, "interval": [-0.6, -0.3], "too_much": True}
    return {
        "challenger": {"version": "20261122T090411", "family": "ensemble", "scores": new},
        "champion": {
            "version": "20261115T090002",
            "family": "random_forest",
            "scores": old,
            "clips": 1438,
            "held_out_clips": 1430,
            "unheard_clips": 8,
        },
        "rules": {"margin": 0.005, "min_probability": 0.9, "max_emotion_drop": 0.05},
        "difference": {"difference": 0.0217, "interval": [-0.0113, 0.0547], "probability": 0.876, "speakers": 24},
        "per_emotion": rows,
        "verdict": "keep",
        "reasons": ["F1 of sad would fall from 0.550 to 0.100, by more than the 0.050 allowed."],
    }


DECISION = {
    "decision": "kept",
    "policy": "auto",
    "by": "the rules",
    "reasons": ["F1 of sad would fall from 0.550 to 0.100, by more than the 0.050 allowed."],
    "time": "2026-11-22T09:05:00+00:00",
}


@pytest.fixture(scope="module")
def shap() -> dict:
    random = np.random.default_rng(0)
    names = features.feature_names()[::170]
    labels = np.repeat(EMOTIONS, 8)
    rows = (random.normal(size=(64, len(names))) + np.arange(64)[:, None] / 16).astype(np.float32)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels)
    model = Classifier(family="logistic_regression", pipeline=pipeline, emotions=tuple(pipeline.classes_))
    explanation = values.explain_predictions(model, rows, background=rows)
    clips = pd.DataFrame({"sha256": [f"{i:064x}" for i in range(64)], "path": [f"{i}.wav" for i in range(64)]})
    store = Store("memory://report")
    facts = {"feature_names": names, "clips": clips, "colours": emotion_colours(EMOTIONS)}
    export.export(store, "shap", family=model.family, explanation=explanation, **facts)
    exported = export.read_export(store, "shap", [*FAMILIES, "ensemble"])
    return exported | {"ensemble": exported[model.family]}


@pytest.fixture(scope="module")
def full(comparison, challenge, shap) -> str:
    return training_report.render(comparison=comparison, challenge=challenge, decision=DECISION, shap=shap)


@pytest.fixture(scope="module")
def bare(comparison) -> str:
    """A report with as few figures as possible, hostile names, and a synthesized corpus."""
    poor = copy.deepcopy(comparison)
    del poor["models"]["ensemble"], poor["models"]["random_forest"]["speaker_independent_adapted"]
    for key in ("fit_seconds", "predict_ms_single"):
        del poor["models"]["gradient_boosting"][key]
    del poor["models"]["gradient_boosting"]["speaker_independent"]["slices"]
    del poor["stress"]
    for model in poor["models"].values():
        del model["stress"]
    poor["selected"] = "logistic_regression"
    poor["selection"]["reason"] = poor["run_id"] = HOSTILE
    poor["notice"] = "Synthesized voices: the figures say nothing about real speech."
    poor["dataset"] |= {"title": HOSTILE, "synthesized": True, "complete": False, "warnings": [HOSTILE]}
    poor["dataset"]["licence"] |= {"url": "javascript:alert(1)", "name": HOSTILE}
    fresh = {
        "challenger": {"version": HOSTILE, "family": "logistic_regression", "scores": {}},
        "champion": None,
        "rules": {"margin": 0.0, "min_probability": 0.9, "max_emotion_drop": 0.1},
        "difference": None,
        "per_emotion": [],
        "verdict": "promote",
        "reasons": ["There is no champion yet."],
    }
    return training_report.render(comparison=poor, challenge=fresh, decision=None, shap={})


class Outline(HTMLParser):
    """Tags that were opened and not closed, ids, and in-page links."""

    VOID = {"meta", "link", "br", "img"}

    def __init__(self, page: str):
        super().__init__()
        self.stack, self.ids, self.links, self.tags = [], [], [], []
        self.feed(re.sub(r"base64,[A-Za-z0-9+/=]+", "base64,", page))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.append((tag, values))
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values["href"]] if tag == "a" else []
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


@pytest.mark.parametrize("page", ["full", "bare"])
def test_the_page_is_valid_and_self_contained(page, request):
    text = request.getfixturevalue(page)
    outline = Outline(text)
    assert outline.stack == []
    assert len(outline.ids) == len(set(outline.ids))
    assert {link[1:] for link in outline.links if link.startswith("#")} <= set(outline.ids)
    assert not [tag for tag, _ in outline.tags if tag in ("script", "iframe", "object", "form")]
    assert all(attributes["src"].startswith("data:") for tag, attributes in outline.tags if tag == "img")
    assert all(attributes.get("alt") for tag, attributes in outline.tags if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in outline.tags if tag == "svg")
    assert not re.search(r"url\(|@import", text)
    assert len(text) < 3_000_000


def test_the_page_shows_scores_selection_and_promotion(full, comparison, challenge):
    scores = comparison["models"]["ensemble"]
    for protocol in PROTOCOLS:
        assert f"{scores[protocol]['f1_macro']:.3f}" in full
    assert "Ensemble was selected and not promoted" in full
    assert "optimistic" in full
    assert "2026-11-22 09:04:11 UTC" in full and "2026-11-22 09:05:00 UTC" in full
    assert challenge["reasons"][0] in full
    assert "-0.450 too much" in full and "-0.600 to -0.300" in full
    champion = full[full.index('id="champion"') : full.index('id="time"')]
    assert "+0.022" in champion and "-0.011 to +0.055" in champion and ">0.88<" in champion
    assert "probability of at least 0.90" in champion and "24 speakers" in champion and "keep the champion" in champion
    low, high = scores["speaker_independent"]["f1_macro_interval"]
    assert f"{low:.2f} to {high:.2f}" in full
    assert full.count('<span class="chip warn">tie</span>') == 2
    assert "20261115T090002" in full and "scikit-learn&nbsp;1.9.1" in full
    assert "Not for commercial use." in full
    assert 'class="banner"' not in full
    assert full.count('<img src="data:image/png;base64,') == 6


def test_the_stress_table_is_a_heat_map_of_every_mode_and_is_put_in_words(full, comparison):
    section = full[full.index('id="outside"') : full.index('id="explanation"')]
    assert "160 clips of 24 speakers" in section and section.count('<table class="matrix stress">') == len(MODES)
    cells = re.findall(r'<td class="[a-z ]*" style="--p:([\d.]+)" title="([^:]+)', section)
    conditions = comparison["stress"]["conditions"]
    models = comparison["models"]
    assert len(re.findall(r"--p:", section)) == len(MODES) * len(models) * (len(conditions) + 2)
    shown = [float(share) for share, _ in cells][: len(models)]
    assert shown == pytest.approx(
        [model["stress"]["plain"]["clean"]["accuracy"] for model in models.values()], abs=1e-3
    )
    for title in conditions.values():
        assert section.count(f'<th scope="row">{title}</th>') == len(MODES)
    stress = models["ensemble"]["stress"]
    call = re.search(
        r"A phone call: (\d+) of 100 .*? where (\d+) are .*?by batch\) (\d+).*?by speaker\) (\d+)\.", section
    )
    expected = [stress["plain"]["telephone"], stress["plain"]["clean"], stress["batch"]["telephone"]]
    accuracies = [figures["accuracy"] for figures in (*expected, stress["speaker"]["telephone"])]
    assert [int(number) for number in call.groups()] == [round(100 * accuracy) for accuracy in accuracies]


def test_a_run_without_a_stress_table_says_so(bare):
    section = bare[bare.index('id="outside"') : bare.index('id="champion"')]
    assert "No clip was tested under recording conditions" in section and "<table" not in section


def test_the_comparison_with_the_champion_shows_what_happens_outside(comparison, challenge):
    lead = {"difference": -0.05, "interval": [-0.08, -0.02], "probability": 0.0, "speakers": 24, "clips": 160}
    outside = {
        "overall": lead | {"difference": -0.0212},
        "outside": lead,
        "champion_accuracy": 0.512,
        "challenger_accuracy": 0.462,
        "conditions": list(CONDITIONS),
    }
    page = training_report.render(
        comparison=comparison, challenge=challenge | {"stress": outside}, decision=None, shap={}
    )
    section = page[page.index('id="champion"') : page.index('id="time"')]
    assert "0.512" in section and "0.462" in section and "-0.080 to -0.020" in section and "-0.021" in section
    assert f"under {len(CONDITIONS)} recording conditions with a probability" in section
    assert "nor the accuracy under the conditions may fall" in section
    clean_alone = training_report.render(comparison=comparison, challenge=challenge, decision=None, shap={})
    assert "under the conditions may fall" not in clean_alone


@pytest.mark.parametrize(
    ("facts", "notice", "sentences"),
    [
        (
            {"synthesized": True},
            "Nothing about real speech.",
            ["synthesized voices", "Nothing about real speech."],
        ),
        ({"complete": False}, None, ["The dataset is not complete."]),
        ({"complete": False, "warnings": ["18 of 24 actors."]}, "18 of 24 actors.", ["18 of 24 actors."]),
        ({"warnings": ["A mirror & its copy."]}, None, ["A mirror &amp; its copy."]),
    ],
)
def test_limits_of_the_data_are_at_the_top(comparison, facts, notice, sentences):
    changed = comparison | {"notice": notice, "dataset": comparison["dataset"] | facts}
    page = training_report.render(comparison=changed, challenge=None, decision=None, shap={})
    banner = page[page.index('<aside class="banner"') : page.index("</aside>")]
    assert page.index("</aside>") < page.index("<h1>")
    for sentence in sentences:
        assert banner.count(sentence) == 1


def test_a_champion_that_could_not_be_scored(comparison, challenge):
    champion = {"version": "20261115T090002", "family": "random_forest", "scores": None}
    reason = "The champion can neither be re-scored nor used any more."
    changed = challenge | {"champion": champion, "per_emotion": [], "verdict": "promote", "reasons": [reason]}
    page = training_report.render(comparison=comparison, challenge=changed, decision=None, shap={})
    section = page[page.index('id="champion"') : page.index('id="time"')]
    assert reason in section and "<table" not in section


def test_the_rules_may_leave_the_decision_to_a_person(comparison, challenge):
    asked = challenge | {"verdict": "ask", "reasons": ["Trained on different data."]}
    page = training_report.render(comparison=comparison, challenge=asked, decision=None, shap={})
    assert page.count("ask a person") == 2 and page.count("Trained on different data.") == 2


def test_missing_figures_show_as_a_dash(bare):
    rows = re.findall(r"<tr[^>]*>.*?</tr>", bare, flags=re.DOTALL)
    timing = next(row for row in rows if "Gradient boosting" in row and " ms" in row)
    assert timing.count("–") == 2
    assert "There is no champion yet." in bare
    assert "not decided yet" in bare
    assert "nan" not in re.sub(r"<style>.*?</style>", "", bare, flags=re.DOTALL).lower()


def test_names_from_outside_are_escaped(bare):
    assert HOSTILE not in bare
    assert "<script" not in bare and 'onerror="' not in bare
    assert "{{ 7 * 7 }}" in bare
    assert "javascript:" not in bare


def test_every_protocol_and_plot_has_a_title():
    assert TITLES.keys() == {*PROTOCOLS, *DATASET_PROTOCOLS}
    assert PLOT_TITLES.keys() == set(PLOTS)


def test_a_protocol_without_a_title_is_an_error(comparison, monkeypatch):
    monkeypatch.setattr(training_report, "PROTOCOLS", (*PROTOCOLS, "by_language"))
    with pytest.raises(KeyError, match="by_language"):
        training_report.render(comparison=comparison, challenge=None, decision=None, shap={})
    with pytest.raises(KeyError, match="by_language"):
        training_report.text_table(comparison)


def test_a_plot_without_a_title_is_an_error(comparison, shap):
    exported = {"ensemble": shap["ensemble"] | {"plots": {"waterfall": b""}}}
    with pytest.raises(KeyError, match="waterfall"):
        training_report.render(comparison=comparison, challenge=None, decision=None, shap=exported)


def test_titles_do_not_depend_on_the_order_of_protocols(comparison, monkeypatch):
    """With protocols in reverse, each title still stands beside the figures of its own protocol."""
    monkeypatch.setattr(training_report, "PROTOCOLS", PROTOCOLS[::-1])
    first = training_report.text_table(comparison).splitlines()[1]
    scores = comparison["models"]["logistic_regression"]["speaker_independent_adapted"]
    expected = ["Unheard speakers, by speaker", f"{scores['accuracy']:.3f} / {scores['f1_macro']:.3f}"]
    assert re.split(r"  +", first)[:2] == expected
    page = training_report.render(comparison=comparison, challenge=None, decision=None, shap={})
    rows = page[page.index("<caption>Comparison") :].partition("</tbody>")[0].split("<tr>")[-6:-1]
    for row, protocol in zip(rows, PROTOCOLS[::-1], strict=True):
        assert row.startswith(f'<th scope="row">{TITLES[protocol]}')
        accuracies = [f"{figures[protocol]['accuracy']:.3f}" for figures in comparison["models"].values()]
        assert re.findall(r'<td class="first[^"]*">([\d.]+)', row) == accuracies


def test_linked_terms_are_explained(full):
    links = set(re.findall(r'href="#term-(\w+)"', full))
    assert len(links) > 10
    assert links <= set(re.findall(r'<dt id="term-(\w+)">', full))


def test_comparison_rows(comparison):
    rows = training_report.comparison_rows(comparison).set_index(["model", "protocol"])
    assert len(rows) == 4 * len(PROTOCOLS) + 3
    row = rows.loc["random_forest", "speaker_independent"]
    expected = comparison["models"]["random_forest"]["speaker_independent"]
    for score in SCORES:
        assert row[score] == expected[score]
    assert row["cv_f1_macro_std"] == expected["cv"]["f1_macro"]["std"]
    assert row["predict_ms_single"] == 0.5
    assert [row["f1_macro_low"], row["f1_macro_high"]] == expected["f1_macro_interval"]
    assert rows["selected"].sum() == len(PROTOCOLS)
    assert rows.loc["random_forest", "random_80_20"]["accuracy"] == 1.0
    assert np.isnan(rows.loc["random_forest", "random_80_20"]["cv_f1_macro_mean"])


def test_comparison_rows_of_missing_figures():
    rows = training_report.comparison_rows({"selected": "a", "models": {"a": {"random": {"accuracy": 0.5}}}})
    assert rows["accuracy"].tolist() == [0.5]
    assert rows[["f1_macro", "cv_f1_macro_mean", "fit_seconds"]].isna().all(axis=None)


def test_text_table(comparison):
    lines = training_report.text_table(comparison).splitlines()
    assert re.split(r"  +", lines[0]) == ["accuracy / macro F1", *FAMILIES, "* ensemble"]
    cells = [re.split(r"  +", line) for line in lines[1:8]]
    figures = comparison["models"]["gradient_boosting"]
    scores = [f"{figures[protocol]['accuracy']:.3f} / {figures[protocol]['f1_macro']:.3f}" for protocol in PROTOCOLS]
    assert [row[3] for row in cells] == [*scores, "1.2", "0.50"]
    assert [row[0] for row in cells[-2:]] == ["fit, s", "ms per clip"]
    assert len({len(line) for line in lines[:8]}) == 1 and max(map(len, lines)) <= 110
    assert "optimistic" in lines[-3] and lines[-1].startswith("By speaker: ")
    assert "–" in training_report.text_table({"selected": "a", "models": {"a": {}}})


SIZES = """
document.querySelectorAll("details").forEach(element => element.open = true);
return [...document.querySelectorAll("svg, img")].map(element => {
  const box = element.getBoundingClientRect();
  return {width: box.width, height: box.height, natural: element.naturalWidth ?? 1,
          shapes: element.tagName === "IMG" ? 1 : element.querySelectorAll("rect, circle, polyline").length,
          what: element.outerHTML.slice(0, 90)};
});
"""
OUTSIDE = """
return [...document.querySelectorAll("svg text")].filter(text => {
  const inner = text.getBoundingClientRect(), outer = text.ownerSVGElement.getBoundingClientRect();
  return inner.left < outer.left - 1 || inner.right > outer.right + 1 || inner.bottom > outer.bottom + 1;
}).map(text => text.textContent);
"""


@pytest.mark.browser
def test_in_a_real_browser(full, bare, tmp_path):
    with chromium() as browser:
        for name, page, plots in (("full", full, 2 + 5 + 4 + 3 + 4 + 6), ("bare", bare, 2 + 5 + 3 + 3 + 3)):
            target = tmp_path / f"{name}.html"
            target.write_text(page)
            for scheme in ("light", "dark"):
                browser.colours(scheme)
                for width in (390, 1280):
                    browser.resize(width, 900)
                    browser.open(target)
                    drawn = browser.run(SIZES)
                    assert len(drawn) == plots
                    for plot in drawn:
                        assert min(plot["width"], plot["height"], plot["natural"], plot["shapes"]) > 0, plot
                    assert browser.run(OUTSIDE) == []
                    assert browser.run("return document.documentElement.scrollWidth") <= width
                    assert browser.run("return document.title").endswith("selected · emotion training report")
                background = browser.run("return getComputedStyle(document.body).backgroundColor")
                assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 200) == (scheme == "dark")
            assert set(browser.requested()) == {target.as_uri()}
            assert browser.console() == []


def test_listeners_stand_beside_the_accuracy(comparison, full):
    assert "What listeners get right" not in full, "the dataset says nothing of listeners"
    heard = copy.deepcopy(comparison)
    measured = {"low": 0.62, "high": 0.67, "measured": HOSTILE, "source": "Listener (2018)"}
    for facts in (heard["dataset"], *heard["dataset"].get("datasets", ())):
        facts["listeners"] = measured
    page = training_report.render(comparison=heard, challenge=None, decision=None, shap={})
    accuracy = heard["models"][heard["selected"]]["speaker_independent"]["accuracy"]
    tiles = page[page.index('<div class="tiles">') : page.index("<h3>Promotion")]
    assert f"<b>{accuracy:.0%}</b><span>accuracy on unheard speakers" in tiles and "62% to 67%" in tiles
    assert "Source: Listener (2018)" in page and "<script" not in page


def test_groups_come_before_features(full, shap):
    section = full[full.index('<section id="explanation">') : full.index('<section id="champion">')]
    family = section[section.index("<details open>") :]
    places = ["Group of features", '<table class="matrix groups">', "<summary>Single features", "<img "]
    assert [family.index(text) for text in places] == sorted(family.index(text) for text in places)
    shares = shap["ensemble"]["groups"].query("subgroup == ''").set_index("group")["share"]
    for group, share in shares.items():
        assert re.search(rf"{group.capitalize()}<br>.*?<td>{share:.0%}</td>", family), group


def test_a_run_of_an_earlier_release_shows_its_features(comparison, shap):
    earlier = {family: exported | {"groups": None} for family, exported in shap.items()}
    page = training_report.render(comparison=comparison, challenge=None, decision=None, shap=earlier)
    section = page[page.index('<section id="explanation">') :]
    assert "Share of all<br>SHAP values" in section and "Group of features</th>" not in section
    assert section.count("<img ") == len(PLOTS) * len(shap)


def test_the_name_of_a_group_is_text(comparison, shap):
    table = shap["ensemble"]["groups"]
    table = table.replace({"group": {table["group"][0]: HOSTILE}})
    hostile = {"ensemble": shap["ensemble"] | {"groups": table}}
    page = training_report.render(comparison=comparison, challenge=None, decision=None, shap=hostile)
    assert "<script" not in page and "&lt;script&gt;" in page
