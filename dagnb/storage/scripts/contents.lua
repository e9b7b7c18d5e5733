-- Part of the library dagnb: content shared by runs, stored as long as one of them uses it.
--
-- A run first registers as a user of its content (`use`), then sends what is missing (`bring`).
-- Between the two, another run may be forgotten: content that this run uses stays. A piece of a run
-- that was forgotten itself is refused. So no content is lost, and none stays without a user.

-- The key of a content, and that of its users: runs by the moment until which each surely uses it.
local function content_keys(namespace, hash)
  return namespace .. ':p:' .. hash, namespace .. ':u:' .. hash
end

-- The key of the list of contents: hashes by the moment until which each surely stays.
local function list_key(namespace)
  return namespace .. ':contents'
end

-- The namespace and the run of a prefix.
local function names_of(p)
  return match(p, '^(.*):{([^{}]*)}:$')
end

-- A time to live is never shortened: another run may count on the longer one.
local function lengthen(key, ttl_ms)
  call('PEXPIRE', key, ttl_ms, 'NX')
  call('PEXPIRE', key, ttl_ms, 'GT')
end

local function renew_contents(c)
  local namespace, run = names_of(c.p)
  local until_at, list = text(c.now + tonumber(ttl_of(c)) / 1000), list_key(namespace)
  for _, hash in ipairs(call('SMEMBERS', c.p .. 'use')) do
    local key, users = content_keys(namespace, hash)
    call('ZADD', users, 'XX', 'GT', until_at, run)
    call('PEXPIRE', users, ttl_of(c), 'GT')
    call('PEXPIRE', key, ttl_of(c), 'GT')
    call('ZADD', list, 'XX', 'GT', until_at, hash)
  end
  call('PEXPIRE', list, ttl_of(c), 'GT')
end

-- Remove the run from the users of its contents. Returns the keys of contents that have no user
-- any more, to be deleted in the same step.
local function leave_contents(p, at)
  local namespace, run = names_of(p)
  local unused = {}
  for _, hash in ipairs(call('SMEMBERS', p .. 'use')) do
    local key, users = content_keys(namespace, hash)
    call('ZREM', users, run)
    call('ZREMRANGEBYSCORE', users, '-inf', at)
    if call('EXISTS', users) == 0 then
      call('ZREM', list_key(namespace), hash)
      unused[#unused + 1] = key
    end
  end
  return unused
end

---- functions on content --------------------------------------------------------------------------

-- ttl_ms, hashes...: make the run a user of these contents.
-- Returns the positions in the list, from 0, of contents that are missing or incomplete.
local function use(keys, args)
  local p, at, ttl_ms = keys[1], moment(args[1]), args[4]
  local namespace, run = names_of(p)
  local until_at, list, missing = text(tonumber(at) + tonumber(ttl_ms) / 1000), {}, {}
  call('ZREMRANGEBYSCORE', list_key(namespace), '-inf', at)
  for i = 5, #args do
    local key, users = content_keys(namespace, args[i])
    call('ZADD', users, 'GT', until_at, run)
    call('ZREMRANGEBYSCORE', users, '-inf', at)
    lengthen(users, ttl_ms)
    lengthen(key, ttl_ms)
    call('ZADD', list_key(namespace), 'GT', until_at, args[i])
    if call('HEXISTS', key, 'n') == 0 then
      missing[#missing + 1] = i - 5
    end
    list[#list + 1] = args[i]
  end
  in_portions('SADD', p .. 'use', list)
  lengthen(p .. 'use', ttl_ms)
  lengthen(list_key(namespace), ttl_ms)
  return missing
end

-- ttl_ms, then four per piece: hash; number of the piece, from 0; size of the whole if this is the
-- last piece, else ''; the bytes of the piece.
-- Returns 0 when the run does not use the content: it was forgotten meanwhile.
local function bring(keys, args)
  local namespace, run = names_of(keys[1])
  for i = 5, #args, 4 do
    local key, users = content_keys(namespace, args[i])
    if not call('ZSCORE', users, run) then
      return 0
    end
    call('HSET', key, args[i + 1], args[i + 3])
    -- A server that evicts may have dropped earlier pieces: then the content is not whole.
    if args[i + 2] ~= '' and call('HLEN', key) == tonumber(args[i + 1]) + 1 then
      call('HSET', key, 'n', args[i + 2])
    end
    lengthen(key, args[4])
  end
  return 1
end

-- KEYS[1]: beginning of the keys of content. ARGV: hashes...
-- Returns the bytes of each content up to a limit in all, then only sizes; false for missing ones.
local function contents(keys, args)
  local answers, n_bytes = {}, 0
  for i = 4, #args do
    local key = keys[1] .. args[i]
    local size = tonumber(call('HGET', key, 'n'))
    answers[i - 3] = size or false
    if size and n_bytes + size <= CONTENT_BYTES then
      n_bytes = n_bytes + size
      answers[i - 3] = call('HGET', key, '0')
    end
  end
  return answers
end
