"""A rolling replacement of workers, as arithmetic.

A rollout replaces every worker that is older than its generation. `next_step` says, from the
counts alone, how many new ones to boot and how many old ones to ask to leave. Its promises:

* no old worker is asked to leave before a new one is ready;
* from then on, the old that stay and the new that are ready make up the target, so the capacity
  never falls below what it was or is to be, whichever is less;
* at most `concurrency` new workers boot at a time;
* a superseded rollout (there is newer code already) boots nobody any more.
"""

from __future__ import annotations

from typing import NamedTuple


class Step(NamedTuple):
    """What to do next: boot `spawn` new workers, let the `retire` oldest old ones go."""

    spawn: int = 0
    retire: int = 0
    done: bool = False


def next_step(*, target: int, ready: int, booting: int, old: int, concurrency: int, superseded: bool) -> Step:
    """The next step of a rollout.

    `target` is the wanted number of workers, `ready` and `booting` count new ones, `old` the old ones that
    were not asked to leave yet. A `concurrency` of 0 sets no limit.
    """
    retire = 0
    if ready or target == 0:
        retire = max(0, old - max(0, target - ready))
    if superseded:
        return Step(retire=retire, done=booting == 0)
    # With nobody left to serve meanwhile there is no reason to go slowly.
    limit = concurrency if concurrency > 0 and old > 0 else target
    spawn = max(0, min(limit - booting, target - ready - booting))
    done = ready >= target and old - retire == 0
    return Step(spawn=spawn, retire=retire, done=done)
