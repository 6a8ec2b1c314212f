"""What reports show of a run on several datasets, and of clips whose labels may be wrong."""

from __future__ import annotations

import copy
import io
import re

import pandas as pd
import pytest

import several_datasets
from browser import chromium
from emotion.audio import decode
from emotion.reports import dataset_figures, model_card, players, training_report
from emotion.vocabulary import DATASET_MODES, DATASET_PROTOCOLS, EMOTIONS, MODES, PROTOCOLS, SCORES
from several_datasets import CONSEQUENCE, EXTERNAL, MODELS, OF_DATASET, OF_EXTERNAL, SELECTED, SHARED
from small_data import wav

HOSTILE = "<script>document.title='owned'</script>"


def suspicious_clips() -> list[dict]:
    clip = {"dataset": "nemo", "speaker": "nemo:1", "emotion": "sad", "p_label": 0.0123, "predicted": "bored"}
    mp3 = players.excerpt(decode.load(io.BytesIO(wav(0, seconds=2))))
    clips = [clip | {"path": f"{number}.wav", "p_predicted": 0.87, "audio": mp3} for number in range(3)]
    clips[1] |= {"path": HOSTILE, "speaker": HOSTILE, "audio": None, "message": HOSTILE}
    return clips


@pytest.fixture(scope="module")
def comparison() -> dict:
    return several_datasets.comparison()


@pytest.fixture(scope="module")
def page(comparison) -> str:
    return training_report.render(
        comparison=comparison,
        challenge=several_datasets.challenge(),
        decision=None,
        shap={},
        suspicious=suspicious_clips(),
    )


def of_one_dataset(comparison: dict) -> dict:
    """The same run on the first dataset alone, as an earlier release wrote it."""
    alone = copy.deepcopy(comparison)
    alone["dataset"] = alone["dataset"].pop("datasets")[0] | {"rejected": 0, "duplicates": 0}
    for key in ("external", "external_datasets"):
        del alone[key]
    for figures in alone["models"].values():
        del figures["external"]
        for protocol in DATASET_PROTOCOLS:
            del figures[protocol]
        for protocol in PROTOCOLS:
            del figures[protocol]["datasets"], figures[protocol]["mean_of_datasets"]
    return alone


def section(page: str, name: str) -> str:
    return page[page.index(f'<section id="{name}">') :].partition("</section>")[0]


def rows_of(html: str) -> list[list[str]]:
    """The text of every cell, row by row."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", html, flags=re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in rows]
    return [[re.sub(r"<[^>]+>", " ", cell).strip() for cell in row] for row in cells]


def table_of(html: str, caption: str) -> str:
    return html[html.index(caption) :].partition("</table>")[0]


def test_datasets_and_licences_are_listed_with_the_strictest_consequence_above(page):
    data = section(page, "data")
    assert data.index(CONSEQUENCE.replace("<b>", "&lt;b&gt;")) < data.index("<table")
    header, ravdess, nemo, external = rows_of(data.partition("</table>")[0])
    assert len(header) == 5
    assert ravdess[1:3] == ["96", "6"] and "calm&nbsp;12" in ravdess[3] and "Sentence on ravdess-speech." in ravdess[4]
    assert nemo[1:3] == ["56", "4"] and "bored&nbsp;8" in nemo[3] and "Polish" in nemo[0]
    assert "labels left out: W&nbsp;3, &lt;i&gt;dunno&nbsp;12" in nemo[3]
    assert "only tested on" in external[0] and external[1] == "80"
    assert 'href="https://example.com/nemo"' in data and "Authors of nemo." in data
    assert "RAVDESS, emotional speech + nEMO &lt;b&gt;" in section(page, "summary")


def test_every_model_has_its_figures_on_each_dataset(page, comparison):
    rows = rows_of(table_of(section(page, "datasets"), "Figures by dataset"))
    titles = [training_report.TITLES[protocol] for protocol in (*MODES.values(), *DATASET_MODES.values())]
    tests = [*titles, "Only tested on", "Only tested on, by batch", "Only tested on, by speaker"]
    assert [row[0] for row in rows if len(row) == 1] == tests
    for protocol in (*MODES.values(), *DATASET_MODES.values()):
        start = rows.index([training_report.TITLES[protocol]])
        for row, dataset in zip(rows[start + 1 : start + 4], (*OF_DATASET, None), strict=True):
            assert row[0] == (dataset or "Mean")
            expected = [
                f"{(figures['datasets'][dataset] if dataset else figures['mean_of_datasets'])[score]:.3f}"
                for figures in (comparison["models"][model][protocol] for model in MODELS)
                for score in ("accuracy", "uar", "f1_macro")
            ]
            assert row[1:] == expected
    last = rows[rows.index(["Only tested on, by batch"]) + 1]
    assert last[0] == EXTERNAL
    assert last[-2] == f"{comparison['models']['ensemble']['external'][EXTERNAL]['batch']['uar']:.3f}"


@pytest.mark.parametrize("mode", MODES)
def test_the_matrix_of_trained_and_tested(page, comparison, mode):
    title = {"plain": "Plain", "batch": "By batch", "speaker": "By speaker"}[mode]
    html = table_of(section(page, "datasets"), f"<caption>{title}</caption>")
    header, heard, unheard, champion = rows_of(html)
    assert header[1:] == [*OF_DATASET, EXTERNAL]
    assert [row[0] for row in (heard, unheard, champion)] == [
        "All, unheard speakers",
        "All but the tested one",
        "Champion",
    ]
    selected = comparison["models"][SELECTED]

    def shown(uar: float, emotions: int) -> list[str]:
        return f"{round(100 * uar)} chance {round(100 / emotions)}".split()

    for column, dataset in enumerate(OF_DATASET, start=1):
        own = selected[MODES[mode]]["datasets"][dataset]["uar"]
        assert heard[column].split() == shown(own, len(OF_DATASET[dataset]))
        held_out = selected[DATASET_MODES[mode]]["datasets"][dataset]["uar"]
        assert unheard[column].split() == shown(held_out, len(SHARED))
        assert champion[column] == "–"
    assert heard[3].split() == shown(selected["external"][EXTERNAL][mode]["uar"], len(OF_EXTERNAL))
    tested = several_datasets.challenge()["external"]["champion"][EXTERNAL][mode]["uar"]
    assert unheard[3] == "–" and champion[3].split() == shown(tested, 3)
    shares = [float(share) for share in re.findall(r"--p:([\d.]+)", html)]
    assert len(shares) == 6 and shares[0] == pytest.approx(
        selected[MODES[mode]]["datasets"]["ravdess-speech"]["uar"], abs=1e-3
    )


def test_the_emotions_that_count_are_named_with_chance(page):
    text = re.sub(r"<[^>]+>", "", section(page, "datasets"))
    shared = ", ".join(SHARED)
    assert f"ravdess-speech: {', '.join(EMOTIONS)} (chance 0.12); with fewer shared: {shared} (chance 0.17)" in text
    assert f"calls: {', '.join(OF_EXTERNAL)} (chance 0.25); with fewer shared: happy, sad, angry (chance 0.33)" in text


def test_a_dataset_that_cannot_be_held_out_has_a_dash_in_the_matrix(comparison):
    partial = copy.deepcopy(comparison)
    for protocol in DATASET_PROTOCOLS:
        for figures in partial["models"].values():
            del figures[protocol]["datasets"], figures[protocol]["mean_of_datasets"]
    page = training_report.render(comparison=partial, challenge=None, decision=None, shap={})
    rows = rows_of(table_of(section(page, "datasets"), "<caption>Plain</caption>"))
    assert [row[0] for row in rows[1:]] == ["All, unheard speakers"]
    assert model_card.render(partial, version="v")


def test_external_datasets_challenger_beside_champion(page, comparison):
    html = table_of(section(page, "datasets"), 'aria-label="External datasets"')
    band, plain, *_ = rows_of(html)[2:]
    assert band == ["calls: happy, sad, angry, bored; chance 0.25. The champion: happy, sad, angry; chance 0.33"]
    scores = ("accuracy", "uar", "f1_macro", "ece", "confidence")
    champion = several_datasets.challenge()["external"]["champion"]
    both = [figures[EXTERNAL]["plain"] for figures in (comparison["external"], champion)]
    assert plain == ["Plain", "80", *(f"{figures[score]:.3f}" for figures in both for score in scores)]
    assert "speakers of &lt;b&gt;films." in section(page, "datasets")


def test_without_a_champion_only_the_challenger_has_external_figures(comparison):
    rows = dataset_figures.external_rows(comparison, None)
    assert [row.challenger["n"] for row in rows] == [80] * 3 and not any(row.champion for row in rows)
    page = training_report.render(comparison=comparison, challenge=None, decision=None, shap={})
    assert "Champion" not in table_of(section(page, "datasets"), "<caption>Plain</caption>")


def test_one_dataset_that_is_trained_on_and_one_that_is_tested_on(comparison):
    alone = of_one_dataset(comparison)
    alone["dataset"]["datasets"] = [comparison["dataset"]["datasets"][0]]
    alone["external_datasets"] = comparison["external_datasets"]
    for model, figures in alone["models"].items():
        figures["external"] = comparison["models"][model]["external"]
    page = training_report.render(comparison=alone, challenge=None, decision=None, shap={})
    header, heard = rows_of(table_of(section(page, "datasets"), "<caption>Plain</caption>"))
    assert header[1:] == ["ravdess-speech", EXTERNAL]
    uar = alone["models"][SELECTED]["speaker_independent"]["uar"]
    assert (
        heard[1].split()[0] == f"{round(100 * uar)}" and "unheard datasets" not in page.lower().split('id="terms"')[0]
    )


def test_the_comparison_with_the_champion_has_rows_by_dataset(page):
    champion = section(page, "champion")
    rows = rows_of(champion)
    assert rows[2][:4] == ["On ravdess-speech (macro F1, 96 clips)", "0.501", "0.555", "+0.054"]
    assert rows[3][3] == "-0.111 too much" and rows[3][4] == "-0.200 to -0.050"
    assert rows[4][0] == "Mean of the datasets (macro F1)" and rows[4][3] == "+0.029"
    assert "the higher macro F1, as the mean over datasets," in champion
    assert "the F1 of no emotion and the macro F1 on no dataset may fall" in champion


def test_a_run_on_one_dataset_has_nothing_on_several(comparison):
    page = training_report.render(comparison=of_one_dataset(comparison), challenge=None, decision=None, shap={})
    before_terms = page[: page.index('id="terms"')]
    assert 'id="datasets"' not in page and 'id="labels"' not in page and "mean of the datasets" not in before_terms
    assert "nheard dataset" not in before_terms.partition("</style>")[2]
    data = section(page, "data")
    assert "<table" not in data and "Licence of RAVDESS" in data and "Trained on, in all" not in data


def test_the_summary_gives_what_a_new_user_gets(page, comparison):
    tiles = section(page, "summary")
    selected = comparison["models"][SELECTED]
    for protocol in ("speaker_independent", "unheard_dataset"):
        assert f"<b>{selected[protocol]['mean_of_datasets']['f1_macro']:.3f}</b>" in tiles
    assert "unheard datasets, mean of the datasets: what to expect of audio that is unlike all of training" in tiles


def test_an_emotion_that_a_protocol_does_not_test_has_no_tick(page):
    """``bored`` is in one dataset alone, so it is not tested where that one is held out."""
    emotions = section(page, "emotions")
    assert "happy, unheard datasets: " in emotions and "bored, unheard datasets: " not in emotions


def test_labels_to_check_have_players(page):
    labels = section(page, "labels")
    assert labels.count('<audio controls preload="metadata" src="data:audio/mpeg;base64,') == 2
    assert "media-src data:" in page and "suspicious_labels.csv" in labels
    first = labels[labels.index("0.wav") : labels.index("</article>")]
    text = " ".join(re.sub(r"<[^>]+>", " ", first).split())
    assert "label sad 1.2% · predicted bored 87% · dataset nemo · speaker nemo:1" in text
    assert HOSTILE not in page and labels.count("&lt;script&gt;") == 3
    assert "Most of these answers are errors of the model" in labels


def test_text_table_stays_within_a_terminal(comparison):
    lines = training_report.text_table(comparison).splitlines()
    assert max(map(len, lines)) <= 120
    header, *rows = lines[: 1 + len(PROTOCOLS) + len(DATASET_PROTOCOLS) + 2]
    assert header.split("   ")[-1].strip() == "* ensemble"
    for row, protocol in zip(rows, (*PROTOCOLS, *DATASET_PROTOCOLS), strict=False):
        scores = [comparison["models"][model][protocol] for model in MODELS]
        expected = [f"{each['accuracy']:.3f} / {each['f1_macro']:.3f}" for each in scores]
        assert re.split(r"  +", row) == [training_report.TITLES[protocol], *expected]
    assert any(line.startswith("Unheard datasets: each dataset is held out") for line in lines)
    alone = training_report.text_table(of_one_dataset(comparison))
    assert "nheard datasets" not in alone


def test_comparison_rows_have_further_rows_for_each_dataset(comparison):
    rows = training_report.comparison_rows(comparison)
    protocols = len(PROTOCOLS) + len(DATASET_PROTOCOLS)
    assert len(rows) == len(MODELS) * (3 * protocols + 1)  # and the single 80/20 split
    row = rows.set_index(["model", "protocol", "dataset"]).loc["random_forest", "unheard_dataset_batch", "nemo"]
    expected = comparison["models"]["random_forest"]["unheard_dataset_batch"]["datasets"]["nemo"]
    assert [row[score] for score in SCORES] == [expected[score] for score in SCORES]
    assert row["n"] == 48
    assert set(training_report.comparison_rows(of_one_dataset(comparison))["dataset"]) == {""}


def test_the_model_card_has_listeners_and_groups(comparison):
    heard = copy.deepcopy(comparison)
    listeners = {"low": 0.62, "high": 0.67, "measured": "by voice alone", "source": "Listener (2018)"}
    heard["dataset"]["datasets"][0]["listeners"] = listeners
    groups = pd.DataFrame(
        {"group": ["pitch", "pitch"], "subgroup": ["", "height"], "features": [110, 4], "share": [0.18, 0.02]}
    )
    card = model_card.render(heard, version="v", groups=groups)
    assert "in 62 to 67 % of the answers (by voice alone; Listener (2018))" in card
    assert "| pitch | 18 % | 110 |" in card and "height" not in card
    assert "What it listens to" not in model_card.render(comparison, version="v")


def test_the_model_card_names_every_dataset_licence_and_figure(comparison):
    card = model_card.render(comparison, version="several")
    licence = card[card.index("## Licence") : card.index("## Figures")]
    assert licence.index(f"**{CONSEQUENCE}**") < licence.index("Sentence on ravdess-speech.")
    assert "- nEMO <b>: Licence of nEMO <b> (`nemo-1.0`, <https://example.com/nemo>). Sentence on nemo." in licence
    assert "- Only tested on: Calls: Licence of Calls" in licence
    assert f"The label set: {', '.join(several_datasets.LABELS)}." in card
    assert "W 3, <i>dunno 12" in card and "(`calls`), only tested on | 80 | 5 |" in card
    unheard = comparison["models"][SELECTED]["unheard_dataset"]["datasets"]["nemo"]
    line = f"| Unheard datasets | nemo | {unheard['accuracy']:.3f} | {unheard['f1_macro']:.3f} | {unheard['uar']:.3f} |"
    assert line in card
    external = comparison["external"][EXTERNAL]["speaker"]
    assert f"| Only tested on, by speaker | calls | {external['accuracy']:.3f} |" in card
    assert "| ensemble | unheard_dataset_adapted |" in card
    alone = model_card.render(of_one_dataset(comparison) | {"external": {}}, version="one")
    assert "unheard_dataset" not in alone and "By dataset" not in alone and "Only tested" not in alone


WIDE = """
return [...document.querySelectorAll(".scroll")].filter(box => box.scrollWidth > box.clientWidth + 1)
    .map(box => box.getAttribute("aria-label"));
"""
PLAYABLE = """
return [...document.querySelectorAll("audio")].map(player => player.error ? player.error.message
    : player.readyState >= 1 && player.duration > 0.5 && player.duration < 9);
"""


@pytest.mark.browser
def test_in_a_real_browser_no_table_scrolls_on_a_wide_screen(page, tmp_path):
    target = tmp_path / "several.html"
    target.write_text(page)
    with chromium() as browser:
        for width in (1280, 390):
            for scheme in ("light", "dark"):
                browser.resize(width, 900)
                browser.colours(scheme)
                browser.open(target)
                browser.run("document.querySelectorAll('details').forEach(element => element.open = true)")
                assert browser.run("return document.documentElement.scrollWidth") <= width
                if width == 1280:
                    assert browser.run(WIDE) == []
        assert browser.run(PLAYABLE) == [True, True]
        assert "owned" not in browser.run("return document.title")
        assert set(browser.requested()) == {target.as_uri()}
        assert browser.console() == []
