"""The dashboard *Scoring*: is scoring slow, are the answers uncertain, is the audio unlike the training set?"""

from __future__ import annotations

from functools import partial

from grafana_foundation_sdk.builders import bargauge
from panels import GREY, NEUTRAL, SHARE, STATES, Steps, bar_panel, stat_panel, time_panel
from queries import (
    aged,
    alias,
    between,
    last_sweep,
    latest_run,
    named,
    or_zero,
    path,
    per_minute,
    recent,
    rejected_share,
    since_last,
    summed,
    total,
    usual,
)

from boards.frame import SCORING_DAG, choose, dashboard, promotions, run_state, runs_link, with_rows
from boards.service import service_now, service_over_time
from emotion import metrics

TYPICAL: Steps = [(None, "red"), (0.3, "yellow"), (0.5, "green")]
"""For the mean and the median of confidence; p10 and p90 lie lower and higher in a good batch too."""
DRIFT_STEPS: Steps = [(None, "green"), (0.1, "yellow"), (0.25, "red")]
SCORED = path(metrics.SCORED, outcome="scored")
REJECTED = or_zero(path(metrics.SCORED, outcome="rejected"), "rejected", alive=SCORED)
TOTAL_P95 = path(metrics.LATENCY_QUANTILE, stage="total", quantile="p95")
MEAN_CONFIDENCE = path(metrics.BATCH_CONFIDENCE, statistic="mean")


def scoring() -> dict:
    """The JSON of the dashboard."""
    built = dashboard(
        "scoring",
        "Speech emotion: scoring",
        "Throughput, latency, confidence, predicted emotions, drift and accuracy of scored batches; the service over "
        "HTTP.",
        since="now-24h",
        refresh="1m",
        variables=[choose("emotion", "Emotion", "Predicted emotions to show", path(metrics.PREDICTED))],
    )
    built.link(runs_link(SCORING_DAG))
    built.annotation(promotions())
    return with_rows(
        built,
        {
            "Now": _now(),
            "Throughput and latency": _throughput_and_latency(),
            "Confidence": _confidence(),
            "Predictions and rejected files": _predictions(),
            "Drift": _drift(),
            "Accuracy in use": _accuracy(),
            "Service over HTTP": [*service_now(), *service_over_time()],
        },
        reports_of=SCORING_DAG,
    )


def _now() -> list:
    tile = partial(stat_panel, size=(6, 4))
    return [
        run_state(SCORING_DAG, within="2 h", size=(6, 4)),
        tile(
            "Time since last sweep",
            "Time since a scoring run last looked for new files or ended a shard. Red if that is over an hour more "
            "than lies between two scheduled runs: then the alert 'Scoring has stopped' fires. Grey if no scoring is "
            "scheduled.",
            last_sweep(),
            unit="s",
            since="30d",
            no_data="none for 30 d",
            colours={"/^no schedule$/": GREY, "/^late/": "red"},
        ),
        tile(
            "Clips scored",
            "Number of clips that were scored in the time range.",
            alias(SCORED, "scored", condense="sum"),
            calculation="sum",
            steps=NEUTRAL,
        ),
        tile(
            "Files rejected",
            "Share of the files in the time range that could not be scored.",
            alias(rejected_share(), "rejected"),
            unit="percentunit",
            decimals=1,
            steps=SHARE,
        ),
        tile(
            "Audio scored",
            "Length of the recordings that were scored in the time range.",
            alias(path(metrics.AUDIO_SECONDS), "audio", condense="sum"),
            unit="s",
            calculation="sum",
            steps=NEUTRAL,
        ),
        tile(
            "Latency p95",
            "95 % of the clips of the last batch took less time than this, from file to answer. Grey if no batch ended "
            "for 2 hours.",
            recent(path(metrics.LATENCY_QUANTILE, stage="total", quantile="p95"), "last batch", within="2 h"),
            unit="ms",
            steps=[(None, "green"), (1000, "yellow"), (5000, "red")],
        ),
        tile(
            "Unfamiliar clips",
            "Number of scored clips in the time range that are unlike all of training: probably not speech.",
            alias(or_zero(path(metrics.UNFAMILIAR), "unfamiliar", alive=SCORED), "unfamiliar", condense="sum"),
            calculation="sum",
            steps=[(None, "green"), (1, "yellow"), (50, "red")],
        ),
        tile(
            "Drift verdict",
            "Verdict on the last batch that could be judged (0: ok; 1: watch; 2: alarm). Grey if there was none for 2 "
            "hours.",
            recent(path(metrics.DRIFT_VERDICT), "last batch", within="2 h"),
            age=aged(since_last(path(metrics.DRIFT_VERDICT)), within="2 h"),
            words={0: "ok", 1: "watch", 2: "alarm"},
            steps=[(None, "green"), (1, "yellow"), (2, "red")],
        ),
    ]


def _throughput_and_latency() -> list:
    def rate(expression: str) -> str:
        return per_minute(f'summarize({expression}, "5min", "sum")')

    return [
        time_panel(
            "Clips per minute",
            "Clips scored and rejected per minute, averaged over five minutes. The clips of a shard count when the "
            "shard is done.",
            alias(rate(SCORED), "scored", condense="average"),
            alias(rate(REJECTED), "rejected", condense="average"),
            colours=STATES,
            style="bars",
            stacked=True,
        ),
        time_panel(
            "Latency p50 and p95 by stage",
            "Median and 95th percentile of the time per clip in each batch: decode, features, model, and total. Red: "
            "twice the 7-day median of the total p95, above which the alert fires.",
            named(
                metrics.LATENCY_QUANTILE,
                "stage",
                "quantile",
                of=path(metrics.LATENCY_QUANTILE, quantile="{p50,p95}"),
            ),
            limit=alias(f"scale({usual(TOTAL_P95)}, 2)", "alert: total.p95 above"),
            unit="ms",
        ),
        time_panel(
            "Median latency by stage, while a batch is scored",
            "Median time per clip of the shards that ended within ten seconds: decode, features, model, and total. Not "
            "the mean: the first clip of a shard also waits until the model is loaded, and lifts the mean above p95.",
            named(metrics.LATENCY, "stage", of=path(metrics.LATENCY, "median")),
            unit="ms",
            style="points",
        ),
        time_panel(
            "Work by stage",
            "Time that the tasks of each stage worked, added up per ten minutes.",
            named(metrics.SCORING_STAGE, "stage", of=summed(path(metrics.SCORING_STAGE, "sum"), every="10min")),
            unit="ms",
            style="bars",
            stacked=True,
            links=[runs_link(SCORING_DAG)],
        ),
    ]


def _confidence() -> list:
    def by_emotion(statistic: str, title: str, description: str, steps: Steps = NEUTRAL) -> bargauge.Panel:
        return bar_panel(
            title,
            description + " Last batch, by predicted emotion.",
            named(
                metrics.CONFIDENCE,
                "emotion",
                of=path(metrics.CONFIDENCE, emotion="$emotion", statistic=statistic),
            ),
            decimals=2,
            limits=(0, 1),
            steps=steps,
        )

    return [
        by_emotion("p10", "Confidence: p10", "10 % of the clips have a lower confidence."),
        by_emotion("p50", "Confidence: median", "Half of the clips have a lower confidence.", TYPICAL),
        by_emotion("mean", "Confidence: mean", "Mean over the clips.", TYPICAL),
        by_emotion("p90", "Confidence: p90", "10 % of the clips have a higher confidence."),
        time_panel(
            "Confidence over time",
            "Confidence over all clips of a batch: mean, p10, p50 and p90. Red: 0.1 below and above the 7-day median "
            "of the mean, beyond which the alert fires.",
            named(metrics.BATCH_CONFIDENCE, "statistic", of=path(metrics.BATCH_CONFIDENCE)),
            limit=between(
                alias(f"offset({usual(MEAN_CONFIDENCE)}, -0.1)", "alert: mean below"),
                alias(f"offset({usual(MEAN_CONFIDENCE)}, 0.1)", "alert: mean above"),
            ),
            decimals=2,
            limits=(0, 1),
        ),
        time_panel(
            "Mean confidence by emotion",
            "Mean confidence of each batch, by predicted emotion.",
            named(metrics.CONFIDENCE, "emotion", of=path(metrics.CONFIDENCE, emotion="$emotion", statistic="mean")),
            decimals=2,
            limits=(0, 1),
        ),
    ]


def _predictions() -> list:
    predicted = path(metrics.PREDICTED, emotion="$emotion")
    reasons = total(metrics.SCORING_REJECTED, "reason", of=path(metrics.SCORING_REJECTED))
    return [
        bar_panel(
            "Predicted emotions",
            "Number of clips in the time range, by predicted emotion.",
            total(metrics.PREDICTED, "emotion", of=predicted),
        ),
        time_panel(
            "Mix of predicted emotions",
            "Share of each predicted emotion, per ten minutes.",
            named(metrics.PREDICTED, "emotion", of=f"asPercent({summed(predicted, every='10min')})"),
            unit="percent",
            style="bars",
            stacked=True,
            limits=(0, 100),
            size=(12, 8),
        ),
        bar_panel(
            "Rejected files by reason",
            "Number of files in the time range that could not be scored. predictions.csv of the batch names them.",
            or_zero(reasons, "none", alive=SCORED),
            steps=[(None, "green"), (1, "yellow"), (50, "red")],
        ),
    ]


def _drift() -> list:
    return [
        time_panel(
            "Drift signals",
            "Differences from the training set: share of the features that drifted; population stability index (PSI) "
            "of the predicted emotions; Kolmogorov-Smirnov statistic of the confidence.",
            named(
                metrics.DRIFT_SHARE,
                "signal",
                of=path(metrics.DRIFT_SHARE, signal="{features,emotions,confidence}"),
            ),
            decimals=2,
            steps=DRIFT_STEPS,
            size=(8, 8),
        ),
        time_panel(
            "Shift of the features",
            "How far the feature means of the batch lie from those of the training set. At 1, the batch differs as "
            "much as one new speaker does. Above the level shift_watch of its size, the verdict on the batch is watch; "
            "above the red line it is alarm, and the alert fires.",
            alias(path(metrics.DRIFT_SHARE, signal="shift"), "shift"),
            alias(path(metrics.DRIFT_SHARE, signal="shift_watch"), "watch above"),
            limit=alias(path(metrics.DRIFT_SHARE, signal="shift_alarm"), "alert: shift above"),
            decimals=2,
            size=(8, 8),
        ),
        time_panel(
            "Signal-to-noise ratio",
            "Median of each batch, in dB. In a quiet room it is above 30; at 10, noise makes most answers wrong.",
            alias(path(metrics.QUALITY, figure="snr_db"), "SNR"),
            decimals=0,
            limits=(None, None),
            size=(8, 8),
        ),
        time_panel(
            "Level of the speech",
            "Median of each batch, in dB relative to full scale.",
            alias(path(metrics.QUALITY, figure="level_db"), "level"),
            decimals=0,
            limits=(None, None),
            size=(12, 8),
        ),
        time_panel(
            "Bandwidth of the speech",
            "Median of each batch, in Hz: the highest frequency at which speech is above the noise. A telephone gives "
            "about 4,000.",
            alias(path(metrics.QUALITY, figure="bandwidth_hz"), "bandwidth"),
            decimals=0,
            size=(12, 8),
        ),
        bar_panel(
            "Groups of features with the most drift",
            "Mean size of the shifts of a group's features in the last batch. 0.8 is usual for one new speaker. The "
            "report of the batch says in words what has changed.",
            f"sortByMaxima({named(metrics.DRIFT_GROUP, 'group', of=latest_run(metrics.DRIFT_GROUP))})",
            decimals=1,
            limits=(0, 3),
            size=(24, 8),
        ),
        bar_panel(
            "Features with the most drift",
            "Size of the shift of a feature's mean in the last batch, largest first. At 1, the feature lies as far "
            "from training as that of one new speaker.",
            named(metrics.DRIFT_SHIFT, "feature", of=f"highestCurrent({latest_run(metrics.DRIFT_SHIFT)}, 20)"),
            decimals=2,
            size=(12, 16),
        ),
        bar_panel(
            "PSI of the features with the most drift",
            "Population stability index of the last batch against the training set. Below 0.1: no drift. Above 0.25: "
            "strong drift. Features that lie outside of their range in training all have the same, largest value.",
            named(metrics.DRIFT_FEATURE, "feature", of=f"highestCurrent({latest_run(metrics.DRIFT_FEATURE)}, 20)"),
            decimals=2,
            steps=DRIFT_STEPS,
            size=(12, 16),
        ),
    ]


def _accuracy() -> list:
    of_champion = path(metrics.REALIZED, model="champion", figure="{value,low,high,promised}")
    given = path(metrics.ESTIMATES, outcome="given")
    withheld = or_zero(path(metrics.ESTIMATES, outcome="withheld"), "withheld", alive=given)
    return [
        stat_panel(
            "Below the promised accuracy",
            "How far the whole 95 % interval of the champion's accuracy in use lies below what training promised, less "
            "0.05. Above 0, the alert 'Accuracy in use fell' fires. Measured each hour from the labels of the last 90 "
            "days.",
            recent(path(metrics.ACCURACY_SHORT), "champion", within="2 h"),
            decimals=2,
            steps=[(None, "green"), (0.001, "red")],
            since="9d",  # by the minute: of more days Graphite has a value an hour
            size=(6, 4),
        ),
        stat_panel(
            "Labels of the champion",
            "Number of labels of the last 90 days by which the champion's accuracy in use is measured.",
            recent(path(metrics.REALIZED, model="champion", figure="labels"), "champion", within="2 h"),
            decimals=0,
            steps=NEUTRAL,
            since="9d",  # by the minute: of more days Graphite has a value an hour
            size=(6, 4),
        ),
        stat_panel(
            "Estimated accuracy",
            "Accuracy of the last batch that could be estimated, from its confidence and without labels. Grey if there "
            "was none for 2 hours.",
            recent(path(metrics.ESTIMATED, figure="value"), "last batch", within="2 h"),
            decimals=2,
            steps=NEUTRAL,
            size=(6, 4),
        ),
        stat_panel(
            "Accuracy withheld",
            "Number of batches in the time range whose accuracy was not estimated: their audio is unlike that of "
            "training, or they are too small. Their reports say why.",
            alias(withheld, "withheld", condense="sum"),
            calculation="sum",
            steps=NEUTRAL,
            size=(6, 4),
        ),
        time_panel(
            "Accuracy in use of the champion",
            "By the labels of listeners, over the last 90 days: value, and low and high of the 95 % interval; and what "
            "training promised on unheard speakers.",
            named(metrics.REALIZED, "figure", of=of_champion),
            decimals=2,
            limits=(0, 1),
        ),
        time_panel(
            "Estimated accuracy of batches",
            "From the confidence of each batch, without labels: value, and low and high of the 95 % interval; and what "
            "training promised on unheard speakers.",
            named(metrics.ESTIMATED, "figure", of=path(metrics.ESTIMATED, figure="{value,low,high,promised,f1_macro}")),
            decimals=2,
            limits=(0, 1),
        ),
        bar_panel(
            "Accuracy in use by model",
            "By the labels of listeners, of the models with the newest labels.",
            named(metrics.REALIZED, "model", of=path(metrics.REALIZED, figure="value")),
            decimals=2,
            limits=(0, 1),
            size=(12, 8),
        ),
        bar_panel(
            "Mix of emotions, corrected",
            "Share of each emotion in the last batch for which it could be corrected for the model's confusions.",
            named(metrics.EMOTION_MIX, "emotion", of=path(metrics.EMOTION_MIX, emotion="$emotion")),
            decimals=2,
            limits=(0, 1),
            size=(12, 8),
        ),
    ]
