"""Error log, access log, StatsD and `wsgi.errors`: leaf services that know no request cycle.

`logger.Logger` is the contract of Gunicorn's logger classes, `access` the compiled
access-log format and its fast path, `handlers` what writes records to descriptors.
A log that cannot be written never stops a process.
"""

#: The names of the two loggers.
ERROR = "cyhorn.error"
ACCESS = "cyhorn.access"
