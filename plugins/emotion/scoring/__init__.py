"""From a folder of new audio to a table of emotions; each file is scored once.

In: inboxes (folders that anybody may put files into) and one or two models. Out: the rows of
``predictions.csv``, timelines of long recordings, and the figures of ``summary.json``.
"""
