"""Says why it does not work, and goes on not working until it is stopped."""

from __future__ import annotations

import json
import signal

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print(json.dumps({"level": "error", "message": "cannot start: broken on purpose"}), flush=True)
signal.sigwait({signal.SIGTERM})
