"""What is typed in a terminal: the ``emotion`` command, and the Makefile's local Airflow.

Input: arguments and the environment. Output: text for a person, JSON for a program, an exit code.
"""
