"""The trigger form of ``emotion_scoring``: every parameter with its unit, its default and the reason for it."""

from __future__ import annotations

from airflow.sdk import Param

# Emphasis, not code, marks names: the UI draws code over the lines above and below it.
PARAMS = {
    "folder": Param(
        None,
        type=["null", "string"],
        title="Folder",
        description_md="Score only this folder. It must be in one of the inboxes (*EMOTION_INBOXES*). The path is "
        "absolute, or relative to an inbox; a folder of a bucket may be a URL. Empty: score all files of every inbox.",
        examples=["2026-05-calls", "s3://bucket/inbox/2026-05-calls"],
        section="Recordings",
    ),
    "labels": Param(
        "labels.csv",
        type=["null", "string"],
        title="Labels file",
        description_md="Name of a CSV in the folder with the columns *path*, *emotion* and *speaker*; *path* and one "
        "of the others are enough. If the emotions of the files are known, the summary gives the accuracy. The "
        "emotion is also known if a file is named as in RAVDESS. A folder without this file is scored without "
        "labels.",
        section="Recordings",
    ),
    "speakers": Param(
        "labels",
        enum=["labels", "subfolder", "none"],
        values_display={
            "labels": "labels: the column speaker of the labels file, if it has one",
            "subfolder": "subfolder: the first subfolder in the path of a file",
            "none": "none: the speakers are not known",
        },
        title="Where speakers are named",
        description_md="What names the speaker of each file. *Adaptation* by speaker needs this; the other choices of "
        "*Adaptation* do not.",
        section="Recordings",
    ),
    "adaptation": Param(
        "auto",
        enum=["auto", "batch", "speaker", "none"],
        values_display={
            "auto": "auto: by speaker where possible, else by folder where possible",
            "batch": "batch: by the clips of the same folder",
            "speaker": "speaker: by the clips of the same speaker",
            "none": "none: every clip for itself",
        },
        title="Adaptation",
        description_md="What the features of a clip are normalized by, so that the voice (*speaker*) or room, "
        "microphone and noise (*batch*) matter less. It needs no labels. A speaker needs ten clips, a folder eight, "
        "and the clips must show several emotions, which is judged from the answers. *batch* normalizes every folder "
        "all the same, which is wrong for a folder of one emotion. The report says what was done.",
        section="Recordings",
    ),
    "channels": Param(
        "mix",
        enum=["mix", "separate"],
        values_display={
            "mix": "mix: the mean of all channels is one recording",
            "separate": "separate: each channel is a recording and a speaker of its own",
        },
        title="Channels of a file",
        description_md="Choose *separate* for calls with one person on each channel. The column *channel* of "
        "*predictions.csv* and *timeline.csv* names the channel, counted from 1. The speaker of a channel is "
        "*name#1*, where the name is that of the speaker if it is known, and that of the file otherwise. A long "
        "recording is adapted to this speaker. A silent channel is refused, and the others are scored. Channels "
        "that are identical are scored once. A file that was scored with *mix* counts as scored: use *Score again*.",
        section="Recordings",
    ),
    "settle_seconds": Param(
        30,
        type="number",
        minimum=0,
        maximum=86400,
        title="Skip files changed in the last (s)",
        description_md="In seconds. A file that was changed less than this time ago may still be being copied. The "
        "next sweep scores it. A copy in progress changes its file more often than every 30 s. 0 skips no file: use it "
        "if all files are complete.",
        section="Recordings",
    ),
    "rescore": Param(
        False,
        type="boolean",
        title="Score again",
        description_md="Also score the files that the model has scored before. Off: each file is scored once by a "
        "model.",
        section="Recordings",
    ),
    "model": Param(
        "champion",
        type="string",
        minLength=1,
        title="Model",
        description_md="The model that scores: *champion*, a version (its selected model), or *version/family*. The "
        "command *emotion models* lists the versions.",
        examples=["champion"],
        section="Model",
    ),
    "challenger": Param(
        None,
        type=["null", "string"],
        title="Challenger",
        description_md="A second model that scores the same files; the report shows both answers. A version, "
        "*version/family*, or *latest*: the newest version that is not the version of the model above. Empty: no "
        "second model.",
        examples=["latest"],
        section="Model",
    ),
    "segments": Param(
        "windows",
        enum=["windows", "utterances"],
        values_display={
            "windows": "windows: parts of one length",
            "utterances": "utterances: parts of 1 to 15 s, cut at the pauses",
        },
        title="How long recordings are cut",
        description_md="A recording that is longer than 15 s, or than five windows, is cut. *timeline.csv* has the "
        "answer for each part, and *predictions.csv* has their mean. Utterances follow what is said: a part begins and "
        "ends at a pause of 0.4 s or more, however noisy the recording is. An utterance shorter than 1 s is listed "
        "without an answer. Windows have one length, and may hold silence or two speakers.",
        section="Output",
    ),
    "window_seconds": Param(
        3,
        type="number",
        minimum=1,
        maximum=60,
        title="Window of long recordings (s)",
        description_md="In seconds; not for utterances. A recording that is longer than five windows (15 s) is cut. "
        "*timeline.csv* has the answer for each window, and *predictions.csv* has their mean. 3 s is about the length "
        "of a sentence, which is what the models are trained on.",
        section="Output",
    ),
    "min_confidence": Param(
        0.5,
        type="number",
        minimum=0,
        maximum=1,
        title="Confidence below which a person should listen",
        description_md="From 0 to 1. An answer with a lower confidence is marked *needs_listener* in "
        "*predictions.csv*. At 0.5 the answers that are not marked are more often right than wrong.",
        section="Output",
    ),
    "least_accuracy": Param(
        None,
        type=["null", "number"],
        minimum=0,
        maximum=1,
        title="Accuracy that the other answers should have",
        description_md="From 0 to 1, in place of the confidence above. Example: 0.8. The least certain answers are "
        "marked *needs_listener*, so many that at least 80 % of the others are right. The number comes from the clips "
        "of speakers that the model was not trained on; other recordings may differ. "
        "Empty: the confidence above holds.",
        examples=[0.8],
        section="Output",
    ),
    "review_clips": Param(
        20,
        type="integer",
        minimum=0,
        maximum=1000,
        title="Clips that people should hear and label",
        description_md="How many clips of the batch are put into the queue of *Emotion review*. About half are drawn "
        "by chance and half by doubt. Their labels say how accurate the model really is, and a model can be trained "
        "on them. The audio of these clips is kept in the artifact store, for *EMOTION_REVIEW_DAYS* days. 0: none.",
        section="Output",
    ),
    "files_per_shard": Param(
        200,
        type="integer",
        minimum=1,
        maximum=10000,
        title="Files per scoring task",
        description_md="Number of files that one mapped task scores. A task that is killed loses at most this work, "
        "and each task takes about two seconds to start. The work on 200 files takes a few seconds.",
        section="Limits",
    ),
}
