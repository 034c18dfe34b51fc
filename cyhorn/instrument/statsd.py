"""Gunicorn's name for the module of the StatsD logger, which is `cyhorn.log.statsd.Statsd`."""

from cyhorn.log.statsd import Statsd

__all__ = ["Statsd"]
