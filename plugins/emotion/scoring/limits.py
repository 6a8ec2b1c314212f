"""Which answers are left to a listener: those whose confidence is below a limit."""

from __future__ import annotations

from emotion.errors import ConfigurationError
from emotion.evaluation.coverage import limit_for
from emotion.scoring.options import Options
from emotion.vocabulary import MODES


def listener_limits(options: Options, model: dict) -> dict[str, float]:
    """The confidence below which an answer is left to a listener, by mode.

    ``min_confidence`` itself, or the limit that keeps the other answers at ``least_accuracy``, by the model's answers
    for speakers that it was not trained on.

    Parameters
    ----------
    options : Options
    model : dict
        An entry of :func:`emotion.scoring.plan.pinned_models`.

    Raises
    ------
    ConfigurationError
        If the version of the model does not say how accurate its answers are by confidence.

    Examples
    --------
    >>> listener_limits(Options(), {"name": "one"})["plain"]
    0.5
    >>> curve = [{"coverage": 0.4, "confidence": 0.7, "accuracy": 0.9}]
    >>> model = {"name": "one", "coverage": dict.fromkeys(MODES.values(), curve)}
    >>> listener_limits(Options(least_accuracy=0.85), model)["plain"]
    0.7
    """
    if options.least_accuracy is None:
        return dict.fromkeys(MODES, options.min_confidence)
    curves = model.get("coverage") or {}
    absent = [protocol for protocol in MODES.values() if not curves.get(protocol)]
    if absent:
        raise ConfigurationError(
            f"{model['name']} does not say how accurate its answers are by confidence ({', '.join(absent)}): train "
            "again, or give a confidence instead of the least accuracy"
        )
    return {mode: limit_for(curves[protocol], options.least_accuracy) for mode, protocol in MODES.items()}
