"""Put the models beside each other and choose one."""

from __future__ import annotations

PROTOCOL, SCORE = "speaker_independent", "f1_macro"
"""Models are chosen by how well they do on speakers they have not heard: the random split picks the wrong one."""


def select(models: dict[str, dict]) -> tuple[str, str]:
    """The model of the highest speaker-independent macro F1, and why in one sentence.

    ``models``: name → ``{protocol: scores}``. Of equal ones the first is taken.
    """
    ranked = sorted(models, key=lambda name: -models[name][PROTOCOL][SCORE])
    best = ranked[0]
    figures = ", ".join(f"{name} {models[name][PROTOCOL][SCORE]:.3f}" for name in ranked)
    tops = max(models, key=lambda name: models[name]["random"][SCORE])
    reason = f"Highest macro F1 on speakers held out: {figures}."
    if tops != best:
        reason += f" By the random split it would have been {tops}."
    return best, reason
