"""A Pushgateway that remembers what was put where."""

from dataclasses import dataclass, field
from email.message import Message


@dataclass
class Pushgateway:
    """The text of each path that was put.

    Attributes:
        received: the newest text per path.
    """

    received: dict[str, str] = field(default_factory=dict)

    def answer(self, method: str, url: str, _headers: Message, body: bytes) -> tuple[int, None]:
        """Take what is put."""
        if method != "PUT":
            return 405, None
        self.received[url] = body.decode()
        return 200, None
