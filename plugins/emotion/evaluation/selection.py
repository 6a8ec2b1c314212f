"""Which figure models are chosen by, and the choice."""

from __future__ import annotations

PROTOCOL, SCORE = "speaker_independent", "f1_macro"
"""Models are chosen by their macro F1 on unheard speakers: the random split may rank first a model that is not the
best for new speakers."""


def select(models: dict[str, dict]) -> tuple[str, str]:
    """The model with the highest macro F1 on unheard speakers, and a sentence that says why.

    Parameters
    ----------
    models : dict
        Name → ``{protocol: scores}``, as :func:`emotion.evaluation.held_out.protocol_scores` gives them. Of models
        with equal scores, the first is selected.

    Examples
    --------
    >>> forest = {"speaker_independent": {"f1_macro": 0.58}, "random": {"f1_macro": 0.9}}
    >>> ridge = {"speaker_independent": {"f1_macro": 0.61}, "random": {"f1_macro": 0.7}}
    >>> name, reason = select({"forest": forest, "ridge": ridge})
    >>> name
    'ridge'
    >>> reason
    'Highest macro F1 on unheard speakers: ridge 0.610, forest 0.580. The random split would have selected forest.'
    """
    ranked = sorted(models, key=lambda name: -models[name][PROTOCOL][SCORE])
    best = ranked[0]
    figures = ", ".join(f"{name} {models[name][PROTOCOL][SCORE]:.3f}" for name in ranked)
    best_at_random = max(models, key=lambda name: models[name]["random"][SCORE])
    reason = f"Highest macro F1 on unheard speakers: {figures}."
    if best_at_random != best:
        reason += f" The random split would have selected {best_at_random}."
    return best, reason
