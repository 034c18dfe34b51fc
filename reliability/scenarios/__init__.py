"""The scenarios, a module for each part of docs/reliability.md. Importing this makes them known, in order."""

from reliability.scenarios import reload, upgrade, stop, death, clients, scarcity  # noqa: F401, I001  (rows)
