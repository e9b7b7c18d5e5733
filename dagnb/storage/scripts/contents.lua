-- Part of the library dagnb: content shared by runs, stored as long as one of them uses it.
--
-- Every function has the key of one content, whose other key has the same hash tag: so none needs a
-- second cluster slot. What concerns a run and its contents is done by several calls, in an order
-- that loses no content (redis_blobs.py).
--
-- A run first registers as a user of its content (`use`), then sends what is missing (`bring`).
-- Between the two, another run may be forgotten: content that this run uses stays. A piece of a run
-- that was forgotten itself is refused. So no content is lost, and none stays without a user.

-- A time to live is never shortened: another run may count on the longer one.
local function lengthen(key, ttl_ms)
  call('PEXPIRE', key, ttl_ms, 'NX')
  call('PEXPIRE', key, ttl_ms, 'GT')
end

-- ttl_ms, members...: add to a set: the content that a run uses, or all content.
local function note(keys, args)
  local list = {}
  for i = 5, #args do
    list[#list + 1] = args[i]
  end
  in_portions('SADD', keys[1], list)
  lengthen(keys[1], args[4])
  return 1
end

---- functions on one content ----------------------------------------------------------------------

local use, renew, bring, leave, content
do
  -- The key of the users of a content: runs by the moment until which each surely uses it.
  local function users_of(key)
    return key .. ':u'
  end

  local function until_text(at, ttl_ms)
    return text(tonumber(at) + tonumber(ttl_ms) / 1000)
  end

  -- ttl_ms, run: make the run a user. Returns 1 if the content is there as a whole, else 0.
  function use(keys, args)
    local key, at, ttl_ms = keys[1], moment(args[1]), args[4]
    local users = users_of(key)
    call('ZADD', users, 'GT', until_text(at, ttl_ms), args[5])
    call('ZREMRANGEBYSCORE', users, '-inf', at)
    lengthen(users, ttl_ms)
    lengthen(key, ttl_ms)
    return call('HEXISTS', key, 'n')
  end

  -- ttl_ms, run: prolong the use of a run that is a user.
  function renew(keys, args)
    local key, ttl_ms = keys[1], args[4]
    call('ZADD', users_of(key), 'XX', 'GT', until_text(moment(args[1]), ttl_ms), args[5])
    call('PEXPIRE', users_of(key), ttl_ms, 'GT')
    call('PEXPIRE', key, ttl_ms, 'GT')
    return 1
  end

  -- ttl_ms, run, then three per piece: number of the piece, from 0; size of the whole if this is
  -- the last piece, else ''; the bytes of the piece.
  -- Returns 0 when the run does not use the content: it was forgotten meanwhile.
  function bring(keys, args)
    local key = keys[1]
    if not call('ZSCORE', users_of(key), args[5]) then
      return 0
    end
    for i = 6, #args, 3 do
      call('HSET', key, args[i], args[i + 2])
      -- A server that evicts may have dropped earlier pieces: then the content is not whole.
      if args[i + 1] ~= '' and call('HLEN', key) == tonumber(args[i]) + 1 then
        call('HSET', key, 'n', args[i + 1])
      end
    end
    lengthen(key, args[4])
    return 1
  end

  -- run, DEL or UNLINK: remove the run from the users, and delete content without users. UNLINK
  -- frees a large one later, DEL at once. Returns the bytes of what was deleted, 0 where nothing was
  -- brought; false while there are other users.
  function leave(keys, args)
    local key = keys[1]
    call('ZREM', users_of(key), args[4])
    call('ZREMRANGEBYSCORE', users_of(key), '-inf', moment(args[1]))
    if call('EXISTS', users_of(key)) == 1 then
      return false
    end
    local n_bytes = call('MEMORY', 'USAGE', key) or 0
    call(args[5], key)
    return n_bytes
  end

  -- limit: returns the bytes, of a content of more than `limit` bytes its size; false if missing.
  function content(keys, args)
    local size = tonumber(call('HGET', keys[1], 'n'))
    if not size or size > tonumber(args[4]) then
      return size or false
    end
    return call('HGET', keys[1], '0')
  end
end
