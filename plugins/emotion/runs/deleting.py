"""Deletes what is stored of a recording, and writes the reports of its batches again."""

from __future__ import annotations

from emotion.reports import batch_report
from emotion.review.deletion import Deleted, delete
from emotion.runs.scoring_report import report_rows
from emotion.store import Store


def delete_recording(store: Store, sha256: str) -> Deleted:
    """As :func:`emotion.review.deletion.delete`; the reports of its batches are written again, without excerpts."""
    deleted = delete(store, sha256)
    for batch in deleted.batches:
        key = f"scores/{batch}/summary.json"
        if not store.exists(key):
            continue
        page = batch_report.render(store.read_json(key), **report_rows(store, batch)._asdict(), listen=[])
        store.write_bytes(f"scores/{batch}/report.html", page.encode())
    if deleted.batches:
        deleted.remains.append(
            f"counts and figures of the batches {', '.join(deleted.batches)}. Their reports were written again, "
            "without excerpts to hear"
        )
    return deleted
