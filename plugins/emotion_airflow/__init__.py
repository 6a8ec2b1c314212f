"""What this project adds to Airflow itself: an operator and an executor. Airflow imports them by their path."""
