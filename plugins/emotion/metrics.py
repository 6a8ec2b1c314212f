"""The table of every StatsD metric of the project, and the emitter that sends them.

Names have the form ``emotion.<area>.<what>[.<label>…]``. On the wire, Airflow's StatsD prefix (``airflow`` unless
configured otherwise) comes before them. Dashboards and alerts are generated from this table.
To send a metric never fails and never waits: StatsD is UDP, and a server that is not there does no harm.

Units: timers are in milliseconds (StatsD's own unit), gauges and counters in the unit of the table.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from string import Formatter

log = logging.getLogger(__name__)

PREFIX = "airflow"
"""Comes before every name that is sent from outside Airflow; it is Airflow's default prefix."""


@dataclass(frozen=True)
class Metric:
    """One row of the table.

    Attributes
    ----------
    name : str
        With a ``{label}`` for each part that is filled in when it is sent.
    kind : str
        ``counter``, ``gauge`` or ``timer``.
    unit : str
    help : str
        What it means, for a person.
    """

    name: str
    kind: str
    unit: str
    help: str

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels, in their order in the name.

        >>> SCORE.labels
        ('model', 'protocol', 'score')
        """
        return tuple(field for _, field, _, _ in Formatter().parse(self.name) if field)

    def path(self, **labels: str) -> str:
        """The name with its labels filled in. A character that StatsD does not allow in a label becomes ``_``.

        >>> SCORE.path(model="random_forest", protocol="random", score="f1_macro")
        'emotion.training.score.random_forest.random.f1_macro'
        """
        return self.name.format(**{key: re.sub(r"[^A-Za-z0-9_-]", "_", value) for key, value in labels.items()})


TABLE: list[Metric] = []
"""Every metric, in the order of this module."""


def _metric(name: str, kind: str, unit: str, help: str) -> Metric:
    metric = Metric("emotion." + name, kind, unit, help)
    TABLE.append(metric)
    return metric


STAGE_DURATION = _metric("training.stage.{stage}.duration", "timer", "ms", "Work of one stage of a training run")
RUN_FINISHED = _metric("training.finished", "gauge", "s", "Unix time at which a training run last succeeded")
TRAINING_EVERY = _metric(
    "training.every_days",
    "gauge",
    "days",
    "The longest time between two scheduled training runs; 0: by hand only. Each scoring run sends it",
)
CLIPS = _metric(
    "training.clips.{kind}",
    "gauge",
    "clips",
    "Clips of the last run: total, stored, missing, rejected, duplicate, used",
)
FEATURIZED = _metric(
    "featurize.clips.{outcome}", "counter", "clips", "Clips that went through featurization: featurized or rejected"
)
CLIP_DURATION = _metric("featurize.clip.duration", "timer", "ms", "Featurization of one clip, mean over its shard")
SCORE = _metric(
    "training.score.{model}.{protocol}.{score}",
    "gauge",
    "ratio",
    "accuracy, precision_macro, recall_macro, f1_macro, uar, log_loss or ece",
)
DATASET_SCORE = _metric(
    "training.dataset_score.{model}.{protocol}.{dataset}.{score}",
    "gauge",
    "ratio",
    "Scores on the clips of one dataset, where a run has several: accuracy, uar, f1_macro or ece",
)
EXTERNAL = _metric(
    "training.external.{model}.{dataset}.{mode}.{score}",
    "gauge",
    "ratio",
    "On a dataset that is only tested on: accuracy, uar, ece or confidence (mean), over the emotions that it shares "
    "with the model. The model 'champion' is the champion at that time",
)
CV_SCORE = _metric(
    "training.cv.{model}.{protocol}.{statistic}", "gauge", "ratio", "Macro F1 over the folds: mean, std, min, max"
)
EMOTION_F1 = _metric("training.emotion_f1.{model}.{protocol}.{emotion}", "gauge", "ratio", "F1 of one emotion")
FIT_SECONDS = _metric("training.fit_seconds.{model}", "gauge", "s", "Fit of the final model")
PREDICT_MS = _metric("training.predict_ms.{model}.{batch}", "gauge", "ms", "Prediction per clip: single or batch")
TRAIN_CONFIDENCE = _metric(
    "training.confidence.{model}.{statistic}", "gauge", "ratio", "Confidence on held-out speakers: mean, p10, p50, p90"
)
STRESS_ACCURACY = _metric(
    "training.stress_accuracy.{model}.{mode}.{condition}",
    "gauge",
    "ratio",
    "Accuracy on a sample of clips of unheard speakers under a recording condition",
)
STRESS_ECE = _metric(
    "training.stress_ece.{model}.{mode}.{condition}", "gauge", "ratio", "Expected calibration error on these clips"
)
STRESS_CHANGED = _metric(
    "training.stress_changed.{model}.{mode}.{condition}",
    "gauge",
    "ratio",
    "Share of the answers that differ from the answer for the clean clip",
)
STRESS_SUMMARY = _metric(
    "training.stress_summary.{model}.{mode}.{summary}",
    "gauge",
    "ratio",
    "Over all recording conditions: mean_accuracy, mean_f1_macro (without clean), worst_ece",
)
SHAP = _metric(
    "training.shap.{model}.{feature}",
    "gauge",
    "importance",
    "Share of mean |SHAP| of one of the top features, all emotions",
)
SHAP_EMOTION = _metric(
    "training.shap_emotion.{model}.{emotion}.{feature}",
    "gauge",
    "importance",
    "Mean |SHAP| of one of the top features for one emotion",
)
SHAP_GROUP = _metric(
    "training.shap_group.{model}.{group}",
    "gauge",
    "ratio",
    "Share of a group of features in the contributions to the output, all emotions; the groups add up to 1",
)
SHAP_GROUP_EMOTION = _metric(
    "training.shap_group_emotion.{model}.{emotion}.{group}",
    "gauge",
    "ratio",
    "Share of a group of features in the contributions to one emotion; the groups add up to 1",
)
CHALLENGE = _metric(
    "training.challenge.{statistic}",
    "gauge",
    "ratio",
    "Macro F1 of challenger minus champion on clean clips: difference, low and high of its 95% interval, and the "
    "probability that the challenger is better. With recording conditions: overall_difference and overall_probability "
    "of the figure that decides, and outside_difference in accuracy",
)
PROMOTION = _metric("training.promotion.{decision}", "counter", "decisions", "Promotion decisions: promoted or kept")
CHAMPION_SCORE = _metric(
    "champion.score.{protocol}.{score}", "gauge", "ratio", "The champion's scores, as it was promoted or last re-scored"
)
CHAMPION_SINCE = _metric("champion.since", "gauge", "s", "Unix time of the champion's promotion")
CHAMPION = _metric(
    "champion.is.{version}.{family}",
    "gauge",
    "s",
    "Unix time since which this model is the champion; the latest time is that of today's champion. Each promotion, "
    "each decision of a training run and each scoring run sends it",
)

SCORING_EVERY = _metric(
    "scoring.every_hours",
    "gauge",
    "hours",
    "The longest time between two scheduled scoring runs; 0: by hand only. Each scoring and training run sends it",
)
SCORING_SEEN = _metric(
    "scoring.last_seen",
    "gauge",
    "s",
    "Unix time at which a scoring run last looked for new files, or ended a shard",
)
SCORED = _metric("scoring.clips.{outcome}", "counter", "clips", "Clips that went through scoring: scored or rejected")
SCORING_REJECTED = _metric("scoring.rejected.{reason}", "counter", "clips", "Files that could not be scored, by reason")
AUDIO_SECONDS = _metric("scoring.audio_seconds", "counter", "s", "Seconds of audio scored")
SCORING_STAGE = _metric("scoring.stage.{stage}.duration", "timer", "ms", "Work of one stage of a scoring run")
LATENCY = _metric("scoring.latency.{stage}", "timer", "ms", "Per clip: decode, features, model or total")
LATENCY_QUANTILE = _metric(
    "scoring.latency_quantile.{stage}.{quantile}", "gauge", "ms", "p50 and p95 per clip over the last batch"
)
PREDICTED = _metric("scoring.predicted.{emotion}", "counter", "clips", "Predicted emotions")
CONFIDENCE = _metric(
    "scoring.confidence.{emotion}.{statistic}",
    "gauge",
    "ratio",
    "Confidence of the last batch by predicted emotion: mean, p10, p50, p90",
)
BATCH_CONFIDENCE = _metric(
    "scoring.batch_confidence.{statistic}",
    "gauge",
    "ratio",
    "Confidence over the whole last batch: mean, p10, p50, p90",
)
UNFAMILIAR = _metric(
    "scoring.unfamiliar", "counter", "clips", "Scored clips that are unlike all of training: probably not speech"
)
QUALITY = _metric(
    "scoring.quality.{figure}",
    "gauge",
    "value",
    "Quality of the recordings of the last batch, medians: snr_db (signal-to-noise ratio, dB), level_db (level of the "
    "speech, dB re full scale), bandwidth_hz",
)
DRIFT_VERDICT = _metric(
    "scoring.drift.verdict", "gauge", "level", "Verdict on the last judged batch: 0 ok, 1 watch, 2 alarm"
)
DRIFT_SHARE = _metric(
    "scoring.drift.{signal}",
    "gauge",
    "value",
    "features (share drifted), shift (99th percentile over features; 1 is a new speaker's), shift_watch and "
    "shift_alarm (the levels of shift from which on the verdict on this batch is watch or alarm), emotions (PSI), "
    "confidence (KS statistic)",
)
DRIFT_FEATURE = _metric("scoring.drift_feature.{feature}", "gauge", "PSI", "PSI of the features that moved most")
DRIFT_SHIFT = _metric(
    "scoring.drift_shift.{feature}",
    "gauge",
    "ratio",
    "Size of the shift of the mean of the features that moved most; 1 is as much as one new speaker's",
)
ESTIMATED = _metric(
    "scoring.estimated_accuracy.{figure}",
    "gauge",
    "ratio",
    "Accuracy of the last batch that could be estimated, without labels: value, low and high of its 95% interval, "
    "f1_macro, and promised (by training, for the modes of the batch)",
)
ESTIMATES = _metric(
    "scoring.estimates.{outcome}", "counter", "batches", "Batches whose accuracy was estimated: given or withheld"
)
EMOTION_MIX = _metric(
    "scoring.emotion_mix.{emotion}",
    "gauge",
    "ratio",
    "Share of an emotion in the last batch, corrected for the model's confusions",
)
REALIZED = _metric(
    "accuracy.realized.{model}.{figure}",
    "gauge",
    "value",
    "Accuracy in use by the labels of listeners: value, low and high of its 95% interval, f1_macro, promised (by "
    "training) and labels. The model 'champion' is the champion, over the last 90 days",
)
ACCURACY_SHORT = _metric(
    "accuracy.short_by",
    "gauge",
    "ratio",
    "How far the whole interval of the champion's realized accuracy lies below the promised accuracy less 0.05; 0 if "
    "it does not, or if there are too few labels",
)
DRIFT_GROUP = _metric(
    "scoring.drift_group.{group}",
    "gauge",
    "ratio",
    "Mean size of the shifts of a group of features; 0.8 is a new speaker's",
)
SERVING_REQUESTS = _metric(
    "serving.requests.{outcome}",
    "counter",
    "requests",
    "Recordings sent to `emotion serve`: answered, refused (as unusable or too large) or failed (as it was busy)",
)
SERVING_REFUSED = _metric(
    "serving.refused.{reason}", "counter", "requests", "Recordings that got no answer, refused or failed, by reason"
)
SERVING_LATENCY = _metric(
    "serving.latency.{stage}",
    "timer",
    "ms",
    "Per request: queue (waits for a process), answer (one process), total (from its headers to its answer, upload "
    "included). Windows of streams have queue and answer",
)
SERVING_WINDOWS = _metric(
    "serving.windows.{outcome}", "counter", "windows", "Windows of live audio: answered, refused or failed"
)
SERVING_STREAMS = _metric(
    "serving.streams.{outcome}",
    "counter",
    "streams",
    "Streams of live audio: ended, refused (wrong data, a limit) or left (the client went away)",
)
SERVING_LOAD = _metric(
    "serving.load.{figure}",
    "gauge",
    "count",
    "State of `emotion serve`, sent every few seconds: processes that are ready; expected processes, 0 once it is "
    "stopped in good order; waiting clips; problem, 1 if /health names one; open streams",
)
SERVING_LOADED = _metric(
    "serving.models_loaded", "counter", "models", "Models that `emotion serve` loaded: as it began, or a new champion"
)
DOCTOR = _metric("doctor.probe", "gauge", "s", "Unix time at which `emotion doctor` last looked whether metrics arrive")
RESOURCE = _metric(
    "process.{stage}.{resource}",
    "gauge",
    "bytes or s",
    "Resources of the last task of a stage: peak_memory_bytes, cpu_seconds",
)


class Emitter:
    """Sends the metrics of the table.

    Parameters
    ----------
    client : object or None
        Anything with the methods ``incr(name, count)``, ``gauge(name, value)`` and ``timing(name, ms)`` of statsd's
        client. None sends nothing.

    Examples
    --------
    >>> class Client:
    ...     def gauge(self, name, value):
    ...         print(name, value)
    >>> Emitter(Client()).gauge(CLIPS, 1080, kind="used")
    emotion.training.clips.used 1080.0
    """

    def __init__(self, client: object | None):
        self._client = client

    def _send(self, method: str, kind: str, metric: Metric, value: float, labels: dict[str, str]) -> None:
        if metric.kind != kind:
            raise ValueError(f"{metric.name} is a {metric.kind}, not a {kind}")
        name = metric.path(**labels)
        if self._client is None:
            return
        try:
            getattr(self._client, method)(name, value)
        except OSError as error:
            log.warning("metric %s not sent: %s", name, error)

    def count(self, metric: Metric, value: int = 1, **labels: str) -> None:
        """Add to a counter. Nothing is sent for 0."""
        if value:
            self._send("incr", "counter", metric, value, labels)

    def gauge(self, metric: Metric, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._send("gauge", "gauge", metric, float(value), labels)

    def timing(self, metric: Metric, seconds: float, **labels: str) -> None:
        """Send a duration, given in seconds."""
        self._send("timing", "timer", metric, 1000.0 * seconds, labels)


def statsd_emitter(address: tuple[str, int] | None) -> Emitter:
    """An emitter for use outside Airflow: to the StatsD server at ``(host, port)``, or to nowhere.

    >>> statsd_emitter(None).gauge(CLIPS, 1080, kind="used")  # sends nothing
    """
    if address is None:
        return Emitter(None)
    from statsd import StatsClient

    try:
        host, port = address
        return Emitter(StatsClient(host, port, prefix=PREFIX, ipv6=":" in host))
    except (OSError, UnicodeError) as error:  # the host's name does not resolve, or is none
        log.warning("no metrics: StatsD server %s:%d: %s", *address, error)
        return Emitter(None)
