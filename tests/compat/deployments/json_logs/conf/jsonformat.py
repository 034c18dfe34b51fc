"""One JSON object per line, for the log collector."""

import json
import logging


class JsonFormatter(logging.Formatter):
    def format(self, record):
        told = {
            "logger": record.name,
            "level": record.levelname,
            "pid": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["exception"] = repr(record.exc_info[1])
        return json.dumps(told)


class AccessFormatter(logging.Formatter):
    def format(self, record):
        names = ("h", "m", "U", "q", "H", "s", "B", "f", "a", "{x-request-id}i", "{content-type}o")
        return json.dumps({"logger": record.name, **{name: str(record.args[name]) for name in names}})
