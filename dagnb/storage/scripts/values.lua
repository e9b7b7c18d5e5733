-- Part of the library dagnb: records of tasks, results, and the keys of their bytes.

---- records, results, blobs -----------------------------------------------------------------------

-- A record is an array of seven: byte 0 is its head, the elements follow one by one. The edges stay
-- packed, because most steps do not need them.
-- Returns packed, where its edges begin, queue, priority, sink, retries, upstream, together.
local function record_of(c, task)
  local packed = call('HGET', c.p .. 'n', id(task))
  local at, queue, priority, flags, retries, upstream = unpack_limit(packed, 5, 1)
  return packed, at, id(queue), priority, flags % 2, retries, upstream, flags >= 2
end

-- Flat, six numbers per edge: child, bit of the edge, first bit of the child, number of its bits,
-- its queue, its priority.
local function edges_of(packed, at)
  local _, edges = unpack_one(packed, at)
  return edges
end

local function queue_of(c, task)
  local _, queue, priority = unpack_limit(call('HGET', c.p .. 'n', id(task)), 2, 1)
  return id(queue), priority
end

local function chunk_keys(c, task, token, n_chunks, list)
  for i = 0, tonumber(n_chunks) - 1 do
    list[#list + 1] = c.p .. 'b:' .. task .. ':' .. token .. ':' .. id(i)
  end
  return list
end

local function has_blob(c, task, hash, token, n_chunks)
  if n_chunks == '0' then
    return call('HEXISTS', c.p .. hash, id(task) .. ':' .. token) == 1
  end
  return count_keys('EXISTS', chunk_keys(c, id(task), token, n_chunks, {})) == tonumber(n_chunks)
end

-- Delete the bytes of an attempt whose commit came second or too late. A repeated commit is not
-- another attempt: its address is that of the result.
local function discard(c, task, address, token, n_chunks)
  local result = call('HGET', c.p .. 'r', id(task))
  if result and sub(result, 2) == address then
    return
  end
  if n_chunks == '0' then
    call('HDEL', c.p .. 'v', id(task) .. ':' .. token)
    call('HDEL', c.p .. 'z', id(task) .. ':' .. token)
  else
    count_keys('UNLINK', chunk_keys(c, id(task), token, n_chunks, {}))
  end
end

-- Chunk keys of every large result in `big` (intermediates) or `bigz` (sinks).
local function large_keys(c, name, list)
  for _, entry in ipairs(call('SMEMBERS', c.p .. name)) do
    local task, token, n_chunks = match(entry, '^(%d+):([^:]*):(%d+)$')
    chunk_keys(c, task, token, n_chunks, list)
  end
  return list
end
