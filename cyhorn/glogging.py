"""Gunicorn's name for the module of the logger class, for files in which only the word was replaced.

`Logger` is `cyhorn.log.logger.Logger`; nothing is defined here, and nothing of cyhorn imports it.
"""

from cyhorn.log.access_format import SafeAtoms
from cyhorn.log.configuration import CONFIG_DEFAULTS
from cyhorn.log.logger import Logger

__all__ = ["CONFIG_DEFAULTS", "Logger", "SafeAtoms"]
