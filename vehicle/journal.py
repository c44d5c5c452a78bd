"""Where a program's log goes: into the system's journal, with its fields, or onto stderr as lines."""

from __future__ import annotations

import logging
import os
from typing import Final

try:
    from systemd.journal import JournalHandler, send
except ImportError:  # it is not there, or Debian built it for another Python
    JournalHandler = None

STDERR: Final = 2


def set_up(identifier: str) -> None:
    """Log from INFO on: into the journal where stderr is the journal and systemd-python is there, else onto stderr.

    An entry of the journal has its level as PRIORITY, `identifier` as SYSLOG_IDENTIFIER, where it was said as LOGGER
    and CODE_*, and every attribute in capitals that logging's `extra` gave its record: HOTLAP_DEVICE is the device
    that a fault or a recovery is about.
    """
    if JournalHandler is not None and _stderr_is_the_journal():
        handler = JournalHandler(sender_function=_send, SYSLOG_IDENTIFIER=identifier)
        logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[handler])
    else:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")


def _stderr_is_the_journal() -> bool:
    """As systemd.exec(5) tells it: somebody may have led stderr elsewhere since the variable was set."""
    stream = os.environ.get("JOURNAL_STREAM")
    if not stream:
        return False
    stderr = os.fstat(STDERR)
    return stream == f"{stderr.st_dev}:{stderr.st_ino}"


def _send(message: str, /, **fields: object) -> None:
    # The handler offers the whole record, and so what the message was made of, of which it may show only a part.
    shown = {name: value for name, value in fields.items() if name.isupper() and name != "CODE_ARGS"}
    send(message, **shown)
