"""The online history in production: Redis, each append one atomic script."""

import secrets
import zlib
from collections.abc import Iterable
from pathlib import Path

import orjson
import redis

from feature_repo.history.feed import FEED_LIMIT, FedEvent, Feed
from feature_repo.history.protocol import LIMIT, StoredEvent

SHARDS = 64
"""All keys of a shard share a hash tag, so that a script's keys meet on one node of a cluster."""

GENERATION = "{history:0}:generation"
"""A random name: whoever emptied the server took it along."""

LATEST = """
local newest = redis.call('ZRANGE', KEYS[1], 0, tonumber(ARGV[1]) - 1, 'REV')
if #newest == 0 then return {} end
return redis.call('HMGET', KEYS[2], unpack(newest))
"""

SETTLE = """
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
"""

FORGET = """
local events = redis.call('ZCARD', KEYS[1])
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HDEL', KEYS[3], ARGV[1])
return events
"""


class RedisHistory:
    """`HistoryStore` in Redis. It is as durable as that server's append-only file.

    Args:
        url: "redis://host:port/db".
        limit: events kept per user.
        feed_limit: events kept of the feed, about.
        timeout: seconds that one command may take before `redis.TimeoutError`.
    """

    def __init__(
        self,
        url: str,
        *,
        limit: int = LIMIT,
        feed_limit: int = FEED_LIMIT,
        timeout: float = 1.0,
    ) -> None:
        self._redis = redis.Redis.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout
        )
        self._limit = limit
        self._feed_limit = max(1, feed_limit // SHARDS)
        script = Path(__file__).with_name("append.lua").read_text()
        self._append = self._redis.register_script(script)
        self._latest = self._redis.register_script(LATEST)
        self._settle = self._redis.register_script(SETTLE)
        self._forget = self._redis.register_script(FORGET)

    def append(self, user_id: str, event: StoredEvent) -> bool:  # noqa: D102
        return bool(self._append(*self._append_call(user_id, event)))

    def append_many(self, events: Iterable[tuple[str, StoredEvent]]) -> int:  # noqa: D102
        with self._redis.pipeline(transaction=False) as pipeline:
            for user_id, event in events:
                self._append(*self._append_call(user_id, event), client=pipeline)
            return sum(pipeline.execute())

    def _append_call(
        self, user_id: str, event: StoredEvent
    ) -> tuple[list[str], list[str | bytes | int]]:
        payload = orjson.dumps(tuple(event))
        return _keys(user_id), [
            *(event.event_id, event.timestamp, payload, self._limit, user_id),
            *(self._feed_limit, event.item_id, event.event_type),
        ]

    def latest(self, user_id: str, n: int) -> list[StoredEvent]:  # noqa: D102
        payloads = self._latest(_keys(user_id)[:2], [n])
        return [StoredEvent(*orjson.loads(payload)) for payload in reversed(payloads)]

    def feed(self, after: str, limit: int) -> Feed:  # noqa: D102
        positions, of_shard = after.split() or ["0-0"] * SHARDS, -(-limit // SHARDS)
        with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.set(GENERATION, secrets.token_hex(8), nx=True)
            pipeline.get(GENERATION)
            for shard, position in enumerate(positions):
                pipeline.xrange(_feed(shard), min=f"({position}", count=of_shard)
            _, generation, *streams = pipeline.execute()
        events = []
        for shard, entries in enumerate(streams):
            for position, fields in entries:
                item, kind, at = (fields[name].decode() for name in (b"i", b"t", b"at"))
                events.append(FedEvent(item, kind, int(at)))
                positions[shard] = position.decode()
        more = any(len(entries) == of_shard for entries in streams)
        return Feed(generation.decode(), events, " ".join(positions), more)

    def forget(self, user_id: str) -> int:  # noqa: D102
        return self._forget(_keys(user_id)[:3], [user_id])

    def changed(self, limit: int) -> list[tuple[str, int]]:  # noqa: D102
        users: list[tuple[str, int]] = []
        for shard in range(SHARDS):
            for user_id, revision in self._redis.hscan_iter(_changed(shard)):
                if len(users) == limit:
                    return users
                users.append((user_id.decode(), int(revision)))
        return users

    def settle(self, user_id: str, revision: int) -> None:  # noqa: D102
        self._settle(_keys(user_id)[2:3], [user_id, revision])

    def mark_all(self) -> None:  # noqa: D102
        for key in self._redis.scan_iter("{history:*}:order:*"):
            user_id = key.decode().split(":order:", 1)[1]
            self._redis.hincrby(_keys(user_id)[2], user_id, 1)

    def clear(self) -> None:  # noqa: D102
        for key in self._redis.scan_iter("{history:*"):
            self._redis.delete(key)

    def close(self) -> None:  # noqa: D102
        self._redis.close()


def _keys(user_id: str) -> list[str]:
    """The user's order and events, and the changed users and the feed of its shard."""
    shard = zlib.crc32(user_id.encode()) % SHARDS
    return [
        f"{{history:{shard}}}:order:{user_id}",
        f"{{history:{shard}}}:events:{user_id}",
        _changed(shard),
        _feed(shard),
    ]


def _changed(shard: int) -> str:
    return f"{{history:{shard}}}:changed"


def _feed(shard: int) -> str:
    return f"{{history:{shard}}}:feed"
