-- Append one event to a user's history, exactly once, in time order, within a bound.
-- KEYS: order (sorted set: event id by timestamp), events (hash: event id -> payload),
--       changed (hash: user id -> revision), feed (stream: what was appended, without the user)
-- ARGV: event id, timestamp in microseconds, payload, limit, user id, limit of the feed, item id,
--       event type
-- Returns 1 if the history changed, else 0.
local order, events, changed = KEYS[1], KEYS[2], KEYS[3]
local id, timestamp, payload, limit, user = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]

if redis.call('HSETNX', events, id, payload) == 0 then
    return 0
end
redis.call('ZADD', order, timestamp, id)
local kept = 1
local excess = redis.call('ZCARD', order) - limit
if excess > 0 then
    for _, oldest in ipairs(redis.call('ZRANGE', order, 0, excess - 1)) do
        redis.call('ZREM', order, oldest)
        redis.call('HDEL', events, oldest)
        if oldest == id then kept = 0 end
    end
end
if kept == 1 then
    redis.call('HINCRBY', changed, user, 1)
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[6], '*',
        'i', ARGV[7], 't', ARGV[8], 'at', timestamp)
end
return kept
