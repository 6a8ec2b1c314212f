"""From recordings to a labelled dataset in the artifact store.

In: an entry of the catalogue, and a download, a folder, a zip or the synthesizer. Out: ``datasets/<name>/`` with the
clips byte for byte, ``manifest.csv`` and ``dataset.json``.
"""
