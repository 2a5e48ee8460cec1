"""The rules that all lists of a site keep to: a file that workers follow.

Whoever manages the shop replaces the file; each worker reads it within a second, on every host that
sees it. What is temporary has an `until` and is over by itself.
"""

import logging
import threading
from pathlib import Path

from pydantic import ValidationError

from sasrec.errors import SettingsError, first_problem
from serving import metrics
from serving.schemas import RuleFields
from serving.settings import Settings

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25


class SiteRules:
    """Follows the file in a thread.

    Attributes:
        current: None while there is no file.

    Raises:
        SettingsError: the file is wrong from the start, or named by a setting and not there.
    """

    def __init__(self, settings: Settings) -> None:
        self._path = settings.rules_file
        self._seen = _stamp(self._path)
        self.current = rules_of_site(settings)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="site-rules", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following."""
        self._stop.set()
        self._thread.join()

    def look(self) -> None:
        """Take the file as it is now; one that is wrong changes nothing, and is complained of."""
        stamp = _stamp(self._path)
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self.current = _read(self._path)
        except (SettingsError, OSError) as error:
            logger.error("rules: the ones before hold on: %s", error)
            metrics.RULES_REFUSED.inc()

    def _follow(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self.look()


def rules_of_site(settings: Settings) -> RuleFields | None:
    """The rules as the file has them now; None where a site has none.

    Raises:
        SettingsError: the file holds something else (one line with the file and the field), or
            SASREC_RULES names one that is not there.
    """
    rules = _read(settings.rules_file)
    if rules is None and settings.rules is not None:
        raise SettingsError(f"SASREC_RULES: {settings.rules} is not there")
    return rules


def _read(path: Path) -> RuleFields | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return RuleFields.model_validate_json(content)
    except ValidationError as error:
        field, message = first_problem(error)
        where = f"{path}: {field}" if field else str(path)
        raise SettingsError(f"{where}: {message}") from None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Of a version of the file: another one differs."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
