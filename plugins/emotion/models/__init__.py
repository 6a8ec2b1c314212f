"""Models as objects, as files and as versions.

In: training rows and, for promotion, held-out predictions. Out: fitted classifiers, ``.pkl`` bundles, versions in
``models/<version>/`` and the pointer ``models/champion.json``.
"""
