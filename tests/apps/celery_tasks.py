"""Tasks that note down that they have run: a line in the file NOTES each. BROKER says by whom they travel."""

from __future__ import annotations

import os

from celery import Celery

tasks = Celery("apps", broker=os.environ["BROKER"])
tasks.conf.update(
    task_ignore_result=True,
    broker_transport_options={"confirm_publish": True},  # of AMQP; Redis answers anyway
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=100,
)


@tasks.task(name="note")
def note(run: str, what: str) -> None:
    """Note that `what` of `run` has arrived."""
    with open(os.environ["NOTES"], "a") as file:
        file.write(f"{run} {what}\n")
