"""The terms that the reports explain at the end of the page, in the words of ``docs/glossary.md``."""

from __future__ import annotations

from typing import NamedTuple

from markupsafe import Markup


class Term(NamedTuple):
    """A term as a heading, and its explanation."""

    title: str
    text: str


TERMS = {
    "accuracy": Term("Accuracy", "The share of clips whose predicted emotion is the true one."),
    "by_batch": Term(
        "By batch",
        "Every feature is z-scored with the mean and standard deviation of all clips of the same batch before the "
        "model sees it: clips that were recorded in the same way, whoever speaks. This removes what room, microphone "
        "and noise do to all clips alike. It needs no labels, but clips that show several emotions.",
    ),
    "by_speaker": Term(
        "By speaker",
        "Every feature is z-scored with the mean and standard deviation of the same speaker's clips before the model "
        "sees it. This needs several clips of that speaker that show several emotions, but no labels.",
    ),
    "calibration_error": Term(
        "Calibration error",
        "The expected calibration error (ECE). The clips are divided into ten bins by confidence. In each bin, "
        "confidence and accuracy are compared; the figure is the mean difference, weighted by the clips in the bin. "
        "0 is best: then confidence equals accuracy in each bin.",
    ),
    "challenger": Term(
        "Challenger",
        "In a training run: the newly trained model that is compared with the champion. In a scoring run: a second "
        "model that scores the same files.",
    ),
    "champion": Term("Champion", "The model that scores new audio. There is one at a time."),
    "confidence": Term(
        "Confidence",
        "The calibrated probability of the predicted emotion. Of the answers with confidence 0.8, about 80% are right "
        "for speakers like those of the training set.",
    ),
    "coverage": Term(
        "Coverage",
        "The share of the clips that keep their answer when the least certain are left to a listener. The fewer are "
        "kept, the more of them are right.",
    ),
    "drift": Term(
        "Drift",
        "A batch differs from the training set in its features, its predicted emotions or its confidence. The verdict "
        "is ok, watch (listen to some files) or alarm (do not rely on the answers). Only the features can raise an "
        "alarm; predicted emotions and confidence, which also change with what people say, raise a watch at most.",
    ),
    "emotion_mix": Term(
        "Corrected mix of emotions",
        "The share of each emotion in the batch. To count answers is not enough: a model that takes some neutral clips "
        "for sad counts too many sad ones. The correction finds the mix under which the probabilities of all clips "
        "agree with each other.",
    ),
    "estimated_accuracy": Term(
        "Estimated accuracy",
        "The accuracy that the confidence of the answers promises, without labels: the mean confidence of the batch. "
        "It is withheld where the batch is unlike the audio of training, as confidence means little there.",
    ),
    "external_dataset": Term(
        "External dataset",
        "A dataset that the models are tested on and never trained on. It is one batch for a prediction by batch. Its "
        "figures count only the emotions that the dataset and the model share. They do not decide which model is "
        "chosen.",
    ),
    "feature_group": Term(
        "Group of features",
        "The features that measure one aspect of the voice: vocal effort and dynamics, pitch, tempo, voice quality, "
        "timbre, articulation. SHAP values add up, so what a group contributes is the exact sum of what its features "
        "contribute. The words (higher, breathier …) come from the clip's own values, compared with what is usual; "
        "the number says whether they speak for an emotion or against it. In its details: what has a word is as usual, "
        "and other features of the group speak. Clips are brought to one level, so no word says how loud they are.",
    ),
    "fold": Term(
        "Fold",
        "One division of the clips into a training side and a test side. Each clip is on the test side of one fold of "
        "a protocol.",
    ),
    "interval": Term(
        "95% interval",
        "How much a figure varies with the speakers who happen to be in the data. Speakers are drawn at random with "
        "replacement many times (a bootstrap over speakers), and 95% of the draws give a figure in this range. Clips "
        "of one speaker stay together, as they are not independent of each other.",
    ),
    "ks": Term(
        "KS statistic",
        "Kolmogorov–Smirnov: the largest distance between two cumulative distributions, from 0 (equal) to 1. "
        "One-sided: only confidence that is lower than in training counts. The p values of the features are adjusted "
        "for testing many features at once (Benjamini & Hochberg 1995).",
    ),
    "log_loss": Term(
        "Log loss",
        "The mean of −ln(probability of the true emotion), in nats. Lower is better. Answers that are confident and "
        "wrong cost most.",
    ),
    "macro_f1": Term(
        "Macro F1",
        "F1 of an emotion is the harmonic mean of its precision and its recall. Macro F1 is the mean of the F1 scores "
        "of all emotions, each with the same weight.",
    ),
    "mcnemar": Term(
        "McNemar's test",
        "Looks at the files that exactly one of two models gets right. If the models were equally good, each would "
        "have about half of them. A p value below 0.05 says that they are not.",
    ),
    "paired_bootstrap": Term(
        "Paired bootstrap",
        "Two models are compared on the same clips. Speakers are drawn at random with replacement thousands of times, "
        "the same ones for both models, and the difference in macro F1 is computed. The share of draws in which one "
        "model is better is the probability that it is better for speakers like these.",
    ),
    "plain": Term(
        "Plain", "A prediction from features as they are, with nothing known of the speaker or of other clips."
    ),
    "precision": Term(
        "Precision and recall",
        "Precision: of the clips that were predicted as an emotion, the share that is right. Recall: of the clips of "
        "an emotion, the share that was predicted as it.",
    ),
    "psi": Term(
        "PSI",
        "Population stability index: how much two distributions differ. 0 means that they are equal.",
    ),
    "quality": Term(
        "Quality of the recordings",
        "Measured from the samples. The signal-to-noise ratio compares speech with the noise in its pauses; it is not "
        "known where there are no pauses. The bandwidth is the highest frequency at which speech is above the noise: "
        "about 4,000 Hz from a telephone. The level is that of the speech, below full scale.",
    ),
    "realized_accuracy": Term(
        "Realized accuracy",
        "The accuracy by the labels of listeners. Doubtful clips are drawn for them more often than others, so each "
        "label counts by one divided by the probability with which its clip was drawn. The interval respects that "
        "clips of one speaker, one file or one batch are alike.",
    ),
    "random_split": Term(
        "Random split",
        "Clips are drawn at random, so the same speakers are on the training side and on the test side. The figures "
        "are optimistic: higher than what a new speaker gets.",
    ),
    "recipe": Term("Recipe", "The definition of all features. Its version is part of every model."),
    "recording_condition": Term(
        "Recording condition",
        "What a room, a microphone, a line or a file format does to a recording: noise at a given ratio, "
        "reverberation, a telephone line, MP3. The same change is made to each sampled clip, with noise of its own.",
    ),
    "shap": Term(
        "SHAP value",
        "What one feature adds to the model's output for one clip and one emotion, compared with the output for "
        "training clips (Lundberg & Lee 2017). Positive: the feature speaks for the emotion. Negative: against it.",
    ),
    "shift": Term(
        "Shift",
        "How far the mean of a feature in a batch lies from its mean in training, in units of the usual distance "
        "between speakers. At 1, the batch differs as much as one new speaker does.",
    ),
    "uar": Term(
        "UAR", "Unweighted average recall: the mean of the recalls of all emotions, each with the same weight."
    ),
    "uar_by_dataset": Term(
        "UAR by dataset",
        "The UAR of the clips of one dataset, over the emotions that it was tested on. Guessing gives one divided by "
        "their number: 0.25 with four emotions. The mean over datasets gives a small dataset the same weight as a "
        "large one.",
    ),
    "unfamiliar": Term(
        "Unfamiliar",
        "The clip lies far from all that the model was trained on. It is probably not speech, such as a tone or "
        "music, and the predicted emotion means nothing.",
    ),
    "unheard_datasets": Term(
        "Unheard datasets",
        "Each dataset is held out in turn, with all its speakers: the model is trained on the others. It is tested on "
        "the emotions that the others have too. This is what audio gets that is unlike all of training: another room, "
        "other microphones, often another language.",
    ),
    "unheard_speakers": Term(
        "Unheard speakers",
        "Whole speakers are held out: the model is tested on speakers that it was not trained on. Models are chosen "
        "by this figure, on clean clips and under recording conditions.",
    ),
    "wilson": Term(
        "95% interval",
        "A range that contains the true accuracy in 95 of 100 such samples. It is narrower the more files have a "
        "label. Where the speakers are known, it comes from drawing speakers (a bootstrap). Otherwise it is Wilson's "
        "interval, which takes clips for independent and is too narrow if one person speaks in many of them.",
    ),
}
"""Key, as in the page's address (``#term-macro_f1``) → the term."""


def select_terms(*keys: str) -> dict[str, Term]:
    """The terms that a report explains, by title.

    >>> [term.title for term in select_terms("shift", "fold").values()]
    ['Fold', 'Shift']
    """
    return dict(sorted(((key, TERMS[key]) for key in keys), key=lambda item: item[1].title.lower()))


def link_to_term(key: str, text: str = "") -> Markup:
    """A link to a term's explanation on the same page.

    >>> print(link_to_term("macro_f1"))
    <a class="term" href="#term-macro_f1">Macro F1</a>
    >>> print(link_to_term("macro_f1", "macro F1"))
    <a class="term" href="#term-macro_f1">macro F1</a>
    """
    return Markup('<a class="term" href="#term-{}">{}</a>').format(key, text or TERMS[key].title)
