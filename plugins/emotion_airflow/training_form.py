"""The trigger form of ``emotion_training``: every parameter with its unit, its default and the reason for it."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import Param

# Emphasis, not code, marks names: the UI draws code over the lines above and below it.
PARAMS = {
    "datasets": Param(
        os.environ.get("EMOTION_DATASET", "").replace(",", " ").split() or ["ravdess-speech"],
        type="array",
        items={"type": "string", "minLength": 1},
        minItems=1,
        title="Datasets",
        description_md="One name per line: entries of the dataset catalogue (*include/datasets.yaml*, or the file that "
        "*EMOTION_DATASETS* names), such as *ravdess-speech*, *nemo*, *emodb*, *crema-d*. Several are trained on "
        "together. *synthesized* needs no download. *labelled-folder* is for your own recordings. *EMOTION_DATASET* "
        "changes the default.",
    ),
    "sources": Param(
        {},
        type=["object", "null"],  # with null, the form does not ask for a value
        additionalProperties={"type": "string", "minLength": 1},
        title="Folders, zips or CSVs on disk",
        description_md='Which dataset is taken from where, as JSON. Example: *{"nemo": "corpora/nEMO.zip"}*. A path '
        "is absolute, or relative to one of the folders of *EMOTION_RECORDINGS*, and must be below one of them. It may "
        "be a URL of a bucket, such as *s3://bucket/recordings/calls.zip*. A dataset that is not listed here is taken "
        "from the artifact store, or downloaded. If neither is possible, the run fails and says what it needs.",
    ),
    "also_test_on": Param(
        [],
        type=["array", "null"],
        items={"type": "string", "minLength": 1},
        title="Also test on",
        description_md="One name per line: datasets that no model is trained on. The models of this run, and the "
        "champion, are tested on them. This shows how accurate a model is on audio that is unlike all of training.",
    ),
    "promotion": Param(
        "auto",
        enum=["auto", "ask", "never"],
        values_display={
            "auto": "auto: promote the challenger if it passes the rules",
            "ask": "ask: if it passes the rules, a person decides within a day; no answer means no",
            "never": "never: register the models and keep the champion",
        },
        title="Promotion policy",
        description_md="Who decides whether the challenger becomes the champion. The rules are the values in the "
        "section *Promotion*. *auto* suits scheduled runs. With *auto* too, a person is asked where the rules cannot "
        "decide: the two cannot be compared, or not on the data that the champion was trained on.",
    ),
    "min_seconds": Param(
        0.2,
        type="number",
        minimum=0.2,
        title="Shortest clip (s)",
        description_md="In seconds, from 0.2. A shorter clip is rejected as *too_short*. Below 0.2 s there are too few "
        "frames for statistics such as the standard deviation of f0.",
        section="Limits",
    ),
    "max_seconds": Param(
        60,
        type="number",
        minimum=1,
        maximum=3600,
        title="Longest clip (s)",
        description_md="In seconds. A longer clip is rejected as *too_long*: one emotion label says little about "
        "minutes of speech. 60 s is also the longest recording that a model answers without cutting it into windows.",
        section="Limits",
    ),
    "max_rejected_share": Param(
        0.05,
        type="number",
        minimum=0,
        maximum=1,
        title="Largest share of rejected clips",
        description_md="A share from 0 to 1 of all clips of the dataset. If more clips are rejected, the run fails: "
        "0.05 allows a few broken files, and stops at a damaged dataset. *rejected.csv* lists each rejected clip "
        "with its reason.",
        section="Limits",
    ),
    "clips_per_shard": Param(
        360,
        type="integer",
        minimum=1,
        maximum=10000,
        title="Clips per featurization task",
        description_md="Number of clips that one mapped task featurizes. A task that is killed loses at most this "
        "work, and each task takes about two seconds to start. 360 divides the 1,440 clips of RAVDESS into four "
        "shards.",
        section="Limits",
    ),
    "speaker_folds": Param(
        "published",
        enum=["published", "grouped"],
        values_display={
            "published": "published: the folds of the catalogue (EmoBox for RAVDESS); grouped if it has none",
            "grouped": "grouped: drawn with the seed; all clips of a speaker are in the same fold",
        },
        title="Folds of unheard speakers",
        description_md="How speakers are divided into folds for the protocol *unheard speakers*, by which the models "
        "are compared. With published folds the figures can be compared with those of other papers.",
        section="Evaluation",
    ),
    "hyperparameters": Param(
        "shipped",
        enum=["shipped", "search"],
        values_display={
            "shipped": "shipped: the settings in include/hyperparameters.yaml",
            "search": "search: a grid search on the training side of every fold; takes several times as long",
        },
        title="Hyper-parameters",
        description_md="Settings of the three classifiers, such as the depth of trees. On RAVDESS the search is no "
        "better than the shipped settings; search on data that is very different.",
        section="Evaluation",
    ),
    "explained_clips": Param(
        200,
        type="integer",
        minimum=8,
        maximum=5000,
        title="Clips explained by SHAP",
        description_md="Number of clips whose SHAP values are computed: the same share of the clips of every "
        "emotion. More clips give a more exact importance and take more time: 200 clips take about 20 s.",
        section="Evaluation",
    ),
    "stress_clips": Param(
        240,
        type="integer",
        minimum=0,
        maximum=10000,
        title="Clips of the stress table",
        description_md="Number of clips that the models are tested on under recording conditions: noise, a room, a "
        "telephone, MP3 and others. The sample is balanced over speakers and emotions; 240 clips are ten of each "
        "actor of RAVDESS. More clips give more exact figures: 240 clips take about a minute on two cores, and "
        "their features are stored for later runs. Half of what a model is selected and promoted by comes from this "
        "table. 0: no such test, and the clean clips alone decide.",
        section="Evaluation",
    ),
    "seed": Param(
        0,
        type="integer",
        minimum=0,
        maximum=2**31 - 1,
        title="Seed",
        description_md="Seed of every random choice: folds, trees, the clips that are explained. The same data and "
        "the same seed give the same figures. Another seed shows how much of a difference is chance.",
        section="Evaluation",
    ),
    "min_probability": Param(
        0.9,
        type="number",
        minimum=0.5,
        maximum=1,
        title="Least probability of being better",
        description_md="The challenger must have a higher macro F1 than the champion with at least this probability. "
        "Both are scored on speakers that they were not trained on. The probability comes from a paired bootstrap: "
        "speakers are drawn at random 4,000 times, and the share of draws in which the challenger is better counts. "
        "0.5 also accepts an equal model.",
        section="Promotion",
    ),
    "margin": Param(
        0.0,
        type="number",
        minimum=0,
        maximum=1,
        title="Margin in macro F1",
        description_md="The macro F1 of the challenger must also exceed that of the champion by at least this value. "
        "Example: with 0.01 a champion of 0.660 is replaced from 0.670 on. 0 asks for no more than the probability "
        "above. Raise it if a small gain is not worth a change.",
        section="Promotion",
    ),
    "max_emotion_drop": Param(
        0.0,
        type="number",
        minimum=0,
        maximum=1,
        title="Tolerated drop in F1 of one emotion",
        description_md="The F1 of no emotion may drop beyond chance (its 95% interval lies below 0) and by more than "
        "this value. It stops a challenger that is better on average and has lost one emotion, for example *fearful*. "
        "0 tolerates no drop that is beyond chance.",
        section="Promotion",
    ),
}


def chosen_datasets(params: dict[str, Any]) -> dict[str, Any]:
    """The datasets of a run, their sources, and the datasets that it also tests on.

    A run that is triggered with the parameters ``dataset`` and ``source``, each a single text, is understood too.

    >>> form = {"datasets": ["nemo"], "sources": {}, "also_test_on": []}
    >>> chosen_datasets(form | {"dataset": "labelled-folder", "source": "calls"})
    {'datasets': ['labelled-folder'], 'sources': {'labelled-folder': 'calls'}, 'also_test_on': []}
    """
    datasets, sources = params["datasets"], params["sources"] or {}
    if dataset := params.get("dataset"):
        datasets = [dataset]
    if source := params.get("source"):
        sources = {datasets[0]: source}
    return {"datasets": datasets, "sources": sources, "also_test_on": params["also_test_on"] or []}
