"""What listens for secrets in the logs hears them."""

from __future__ import annotations

import logging

import pytest

from tests.conftest import SECRETS, Eavesdropper, tells_a_secret


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_in_a_log_is_caught_and_not_repeated(secret: str) -> None:
    ear = Eavesdropper()
    log = logging.Logger("somebody")
    log.addHandler(ear)
    log.info("the key is %s", secret)
    log.info("nothing to see")
    try:
        raise OSError(f"refused: {secret}")
    except OSError:
        log.exception("it failed")
    try:
        raise ValueError("it failed") from OSError(f"refused: {secret}")
    except ValueError:
        log.exception("it failed again")
    log.info("%d", secret)
    assert len(ear.caught) == 4
    assert all(said.startswith("somebody, test_secrets.py:") and secret not in said for said in ear.caught)


@pytest.mark.parametrize("section", ["Captured stderr call", "Captured stderr setup", "Captured log call"])
def test_a_secret_that_a_program_says_is_caught(section: str) -> None:
    assert tells_a_secret([("Captured stderr setup", "all is well"), (section, f"joining with {SECRETS[0]}")])
    assert not tells_a_secret([(section, "joining"), ("Captured stdout call", f"yours is {SECRETS[0]}")])
