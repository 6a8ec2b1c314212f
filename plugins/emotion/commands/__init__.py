"""What is typed in a terminal: the ``emotion`` command and the Makefile's local Airflow.

In: arguments and the environment. Out: text for a person, JSON for a program, an exit code.
"""
