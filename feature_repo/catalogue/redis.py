"""The live catalogue in production: Redis, each change one atomic script."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import redis

from feature_repo.catalogue.protocol import Changes
from feature_repo.event_codec import Record

SEQUENCE, STAMPS = "{catalogue}:sequence", "{catalogue}:stamps"
RECORDS, CHANGED = "{catalogue}:records", "{catalogue}:changed"
SHOWN, COUNTED = "{catalogue}:shown", "{catalogue}:counted"

# Of an item: when it was written and by which update, as text that sorts alike.
APPLY = """
local known = redis.call('HGET', KEYS[2], ARGV[1])
if known and known >= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[3], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[4], redis.call('INCR', KEYS[1]), ARGV[1])
return 1
"""

COUNT = """
redis.call('HINCRBY', KEYS[2], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[3], redis.call('INCR', KEYS[1]), ARGV[1])
"""


class RedisCatalogue:
    """`CatalogueStore` in Redis. It is as durable as that server's append-only file.

    Args:
        url: "redis://host:port/db".
        timeout: seconds that one command may take before `redis.TimeoutError`.
    """

    def __init__(self, url: str, *, timeout: float = 1.0) -> None:
        # Its types are of both clients, this one and the asynchronous one.
        self._redis: Any = redis.Redis.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout
        )
        self._apply = self._redis.register_script(APPLY)
        self._count = self._redis.register_script(COUNT)

    def apply(self, records: Iterable[Record]) -> int:  # noqa: D102
        keys = [SEQUENCE, STAMPS, RECORDS, CHANGED]
        with self._redis.pipeline(transaction=False) as pipeline:
            for record in records:
                stamp = f"{record['timestamp']:020d} {record['update_id']}"
                arguments = [record["item_id"], stamp, orjson.dumps(record)]
                self._apply(keys, arguments, client=pipeline)
            return sum(pipeline.execute())

    def count_impressions(self, shown: Mapping[str, int]) -> None:  # noqa: D102
        with self._redis.pipeline(transaction=False) as pipeline:
            for item_id, count in shown.items():
                self._count([SEQUENCE, SHOWN, COUNTED], [item_id, count], client=pipeline)
            pipeline.execute()

    def since(self, sequence: int) -> Changes:  # noqa: D102
        newest = int(self._redis.get(SEQUENCE) or 0)
        if newest == sequence:
            return Changes(newest, [], {})
        # What changes while this reads is read again next time.
        after = f"({sequence if newest > sequence else 0}"
        changed = self._redis.zrangebyscore(CHANGED, after, "+inf")
        counted = self._redis.zrangebyscore(COUNTED, after, "+inf")
        records = self._redis.hmget(RECORDS, changed) if changed else []
        shown = self._redis.hmget(SHOWN, counted) if counted else []
        return Changes(
            newest,
            [orjson.loads(record) for record in records],
            {key.decode(): int(count) for key, count in zip(counted, shown, strict=True)},
        )

    def close(self) -> None:  # noqa: D102
        self._redis.close()
