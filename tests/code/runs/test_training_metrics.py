"""The metrics of a training run on several datasets."""

from __future__ import annotations

import several_datasets
from emotion.metrics import Emitter
from emotion.runs import training_metrics
from emotion.vocabulary import DATASET_PROTOCOLS, MODES, PROTOCOLS


class Recorder:
    """A StatsD client that keeps what it is told."""

    def __init__(self):
        self.values = {}

    def gauge(self, name: str, value: float) -> None:
        self.values[name] = value


def gauges(emit, *arguments) -> dict[str, float]:
    recorder = Recorder()
    emit(Emitter(recorder), *arguments)
    return recorder.values


def test_a_model_of_several_datasets_sends_scores_of_every_protocol_and_dataset():
    figures = several_datasets.figures(0)
    sent = gauges(training_metrics.emit_model, "random_forest", figures)
    for protocol in (*PROTOCOLS, *DATASET_PROTOCOLS):
        name = f"emotion.training.score.random_forest.{protocol}.uar"
        assert sent[name] == figures[protocol]["uar"]
        for dataset in several_datasets.OF_DATASET:
            for score in ("accuracy", "uar", "f1_macro", "ece"):
                name = f"emotion.training.dataset_score.random_forest.{protocol}.{dataset}.{score}"
                assert sent[name] == figures[protocol]["datasets"][dataset][score]
    assert "emotion.training.emotion_f1.random_forest.unheard_dataset.bored" not in sent


def test_a_model_of_one_dataset_sends_nothing_on_datasets():
    figures = {
        key: {part: value for part, value in entry.items() if "dataset" not in part} if key in PROTOCOLS else entry
        for key, entry in several_datasets.figures(0).items()
        if key not in DATASET_PROTOCOLS
    }
    sent = gauges(training_metrics.emit_model, "random_forest", figures)
    assert sent and not [name for name in sent if "dataset" in name]


def test_external_figures_of_a_model_and_of_the_champion():
    external = several_datasets.external(0)
    sent = gauges(training_metrics.emit_external, "ensemble", external)
    assert len(sent) == 4 * len(MODES)
    name = "emotion.training.external.ensemble.calls.batch.confidence"
    assert sent[name] == external["calls"]["batch"]["confidence"]
    without_speakers = {"calls": {key: value for key, value in external["calls"].items() if key != "speaker"}}
    assert len(gauges(training_metrics.emit_external, "ensemble", without_speakers)) == 8
    challenge = several_datasets.challenge()
    sent = gauges(training_metrics.emit_challenge, challenge)
    champion = challenge["external"]["champion"]["calls"]
    assert sent["emotion.training.external.champion.calls.plain.uar"] == champion["plain"]["uar"]
    assert sent["emotion.training.challenge.probability"] == 0.91


def test_a_challenge_of_an_earlier_release_has_no_external_figures():
    challenge = {key: value for key, value in several_datasets.challenge().items() if key != "external"}
    assert not [name for name in gauges(training_metrics.emit_challenge, challenge) if "external" in name]
