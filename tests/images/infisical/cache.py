"""Redis as ioredis uses it: a command waits for a connection, and all that wait fail at every twentieth attempt.

Recorded: with Redis stopped, requests ended after 0.2 to 30 s; they hang for as long as Redis hangs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from failures import broken

Result = TypeVar("Result")
ATTEMPTS = 20
"""ioredis' maxRetriesPerRequest."""


class Cache:
    def __init__(self, url: str, log: Callable[[str], None]) -> None:
        # No timeout: a Redis that hangs lets its clients hang.
        self._redis: Any = redis.Redis.from_url(url, decode_responses=True)
        self._log = log
        self._change = threading.Condition()
        self._reconnecting = False
        self._given_up = 0

    def connect(self) -> None:
        """Wait for Redis as long as a first command waits; ConnectionError after that."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._redis.ping()
                return
            except redis.ConnectionError as error:
                last = error
            time.sleep(_pause(attempt))
        raise ConnectionError(str(last))

    def call(self, command: Callable[[Any], Result]) -> Result:
        """Run a command, again once there is a connection; a 500 when it was waited for in vain."""
        while True:
            try:
                return command(self._redis)
            except redis.ConnectionError as error:
                self._log(f"redis: {error}")
                if not self._wait():
                    raise broken() from None

    def close(self) -> None:
        self._redis.close()

    def _wait(self) -> bool:
        with self._change:
            if not self._reconnecting:
                self._reconnecting = True
                threading.Thread(target=self._reconnect, daemon=True).start()
            before = self._given_up
            self._change.wait_for(lambda: not self._reconnecting or self._given_up > before)
            return not self._reconnecting

    def _reconnect(self) -> None:
        attempt = 0
        while True:
            attempt += 1
            time.sleep(_pause(attempt))
            try:
                self._redis.ping()
            except redis.ConnectionError:
                back = False
            else:
                back = True
            with self._change:
                self._reconnecting = not back
                self._given_up += attempt % ATTEMPTS == 0
                self._change.notify_all()
            if back:
                return


def _pause(attempt: int) -> float:
    """ioredis' retryStrategy: 50 ms more each time, at most 2 s."""
    return min(attempt * 0.05, 2)
