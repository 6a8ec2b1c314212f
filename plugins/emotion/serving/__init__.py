"""The HTTP service: answers for recordings that other programs send, and for live audio.

In: uploads and streams from a network. Out: the JSON of ``emotion predict --json``; refusals with a reason; metrics.
"""
