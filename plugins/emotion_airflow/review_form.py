"""The trigger form of ``emotion_review``: every parameter with its unit, its default and the reason for it."""

from __future__ import annotations

from airflow.sdk import Param

from emotion_airflow.training_form import PARAMS as TRAINING_PARAMS

_PROMOTION = TRAINING_PARAMS["promotion"].schema

PARAMS = {
    "least_new_labels": Param(
        50,
        type="integer",
        minimum=1,
        maximum=1_000_000,
        title="New labels that start a training",
        description_md="Number of labels that can be trained on and that no training has used. With fewer, the run "
        "trains nothing and says so. 50 labels are about a quarter of an hour of listening, and the first 50 make the "
        "largest difference.",
    ),
    "promotion": Param(
        "ask",
        enum=_PROMOTION["enum"],
        values_display=_PROMOTION["values_display"],
        title="Promotion policy of the training",
        description_md="Who decides whether the model that was trained on the labels becomes the champion. *ask* suits "
        "a training that starts by itself: the rules compare the two models, and a person has the last word.",
    ),
}
