"""From the clips that a person should hear to what persons say of them.

In: the predictions of a batch that is being closed, and its recordings. Out: a queue of clips, each with the
probability with which it was drawn and its audio; labels of one or two persons for each; a row per labelled clip.
"""
