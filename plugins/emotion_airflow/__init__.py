"""What belongs to Airflow and is not a DAG: the defaults and the trigger forms of the DAGs, the question to
a person, an executor, and the report pages.

It is here and not in ``dags/`` because ``plugins/`` can be imported wherever a DAG file is parsed: the DAG processor
adds the folder of the DAGs to the path, but a ``DagBag`` in a test or a script does not.
"""
