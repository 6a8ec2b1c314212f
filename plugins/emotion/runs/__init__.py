"""The stages that the DAGs call, one method per task.

In: run ids, parameters, keys of the artifact store. Out: artifacts below ``runs/<run id>/`` and ``scores/<batch>/``,
and small dictionaries for the next task.
"""
