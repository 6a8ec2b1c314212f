"""Recordings to a labelled dataset in the artifact store.

In: the catalogue's entry, and a download, a folder, a zip or the synthesizer. Out: ``datasets/<name>/`` with the
clips byte for byte, ``manifest.csv`` and ``dataset.json``.
"""
