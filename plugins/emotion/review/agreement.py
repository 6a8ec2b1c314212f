"""How far persons agree: Krippendorff's alpha for nominal data.

Klaus Krippendorff, Content Analysis: An Introduction to Its Methodology, 2nd edition 2004, chapter 11.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def krippendorff_alpha(units: Sequence[Sequence[str]]) -> float | None:
    """Agreement beyond chance: 1 if all agree, 0 if they agree as often as by chance, below 0 if more rarely.

    Parameters
    ----------
    units : sequence of sequence of str
        The labels of each clip, one for each person who labelled it. A clip with fewer than two labels tells nothing
        of agreement, and does not count.

    Returns
    -------
    float or None
        None where no clip has two labels, or where all labels are the same word: then chance would agree as well.

    Examples
    --------
    >>> krippendorff_alpha([["sad", "sad"], ["calm", "calm"], ["sad", "calm"], ["sad"]])
    0.4444444444444444
    """
    paired = [Counter(labels) for labels in units if len(labels) > 1]
    totals = sum(paired, Counter())
    n = totals.total()
    expected = n * n - sum(count * count for count in totals.values())
    if not expected:
        return None
    observed = 0.0
    for counts in paired:
        labels = counts.total()
        observed += (labels * labels - sum(count * count for count in counts.values())) / (labels - 1)
    return 1 - (n - 1) * observed / expected
