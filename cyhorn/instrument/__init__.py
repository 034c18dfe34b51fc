"""Gunicorn's name for the package of the StatsD logger, for files in which only the word was replaced."""
