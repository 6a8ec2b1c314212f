"""What a person reads: the report of a training run, the report of a scored batch, and the model card.

Input: the dictionaries and tables that runs wrote. Output: one self-contained HTML page, or Markdown text. The
templates are in ``include/``.
"""
