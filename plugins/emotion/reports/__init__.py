"""What a person reads: the report of a training run, of a scored batch, and the model card.

In: the dictionaries and tables that runs wrote. Out: one self-contained HTML page or Markdown text; the templates
lie in ``include/``.
"""
