-- Part of the library dagnb: records of tasks, results, and the keys of their bytes.

---- records, results, blobs -----------------------------------------------------------------------

-- Records follow each other in blocks, the fields `b<i>` of the hash `n`: a field for each would need
-- half as much memory again. A block begins with the bounds of its records. A record longer than
-- ALONE has a field of its own, and no bytes in its block.
local record_of, queue_of, write_records, count_records
do
  local BLOCK = 16
  local ALONE = 1024
  local BOUNDS = '>HHHHHHHHHHHHHHHHH' -- BLOCK + 1
  local HEAD = 2 * (BLOCK + 1) -- bytes

  -- The records of a block, '' for those that are alone or not there.
  local function slots_of(p, number)
    local slots, block = {}, call('HGET', p .. 'n', 'b' .. number)
    local bounds = block and { struct.unpack(BOUNDS, block) }
    for slot = 1, BLOCK do
      slots[slot] = block and sub(block, HEAD + bounds[slot] + 1, HEAD + bounds[slot + 1]) or ''
    end
    return slots
  end

  local function pack_block(slots)
    local bounds, length = { 0 }, 0
    for slot = 1, BLOCK do
      length = length + #slots[slot]
      bounds[slot + 1] = length
    end
    return pack(BOUNDS, unpack(bounds)) .. concat(slots)
  end

  -- Write the records from args[i] on, which are those of the tasks from `first` on.
  function write_records(p, first, args, i)
    local list, task = {}, first
    while i <= #args do
      local number = math.floor(task / BLOCK)
      local slots = slots_of(p, number)
      repeat
        local is_alone = #args[i] > ALONE
        slots[task % BLOCK + 1] = is_alone and '' or args[i]
        if is_alone then
          call('HSET', p .. 'n', id(task), args[i])
        end
        i, task = i + 1, task + 1
      until i > #args or task % BLOCK == 0
      list[#list + 1], list[#list + 2] = 'b' .. number, pack_block(slots)
    end
    in_portions('HSET', p .. 'n', list)
  end

  -- The number of records that are there, of a run with so many tasks.
  function count_records(p, n_tasks)
    local n, n_blocks = 0, math.ceil(n_tasks / BLOCK)
    for number = 0, n_blocks - 1 do
      for _, record in ipairs(slots_of(p, number)) do
        n = n + (record ~= '' and 1 or 0)
      end
    end
    return n + call('HLEN', p .. 'n') - n_blocks
  end

  -- Blocks are kept for the rest of the step: the tasks of a batch are often neighbours.
  local function packed_of(c, task)
    local slot = task % BLOCK
    local number = (task - slot) / BLOCK
    c.blocks = c.blocks or {}
    local block = c.blocks[number]
    if not block then
      block = call('HGET', c.p .. 'n', 'b' .. number)
      c.blocks[number] = block
    end
    if block then
      local from, to = struct.unpack('>HH', block, 2 * slot + 1)
      if to > from then
        return sub(block, HEAD + from + 1, HEAD + to)
      end
    end
    -- Alone, or of a run of a version without blocks.
    return call('HGET', c.p .. 'n', id(task))
  end

  -- A record is an array of seven: byte 0 is its head, the elements follow one by one. The edges
  -- stay packed, because most steps do not need them.
  -- Returns packed, where its edges begin, queue, priority, sink, retries, upstream, together, and
  -- whether the last edge is one of order alone.
  function record_of(c, task)
    local packed = packed_of(c, task)
    local at, queue, priority, flags, retries, upstream = unpack_limit(packed, 5, 1)
    return packed, at, id(queue), priority, flags % 2, retries, upstream, flags % 4 >= 2, flags >= 4
  end

  function queue_of(c, task)
    local _, queue, priority = unpack_limit(packed_of(c, task), 2, 1)
    return id(queue), priority
  end
end

-- Flat, six numbers per edge: child, bit of the edge, first bit of the child, number of its bits,
-- its queue, its priority.
local function edges_of(packed, at)
  local _, edges = unpack_one(packed, at)
  return edges
end

local function chunk_keys(c, task, token, n_chunks, list)
  for i = 0, tonumber(n_chunks) - 1 do
    list[#list + 1] = c.p .. 'b:' .. task .. ':' .. token .. ':' .. id(i)
  end
  return list
end

-- A result is a letter, `z` for sinks and `v` for all others, and an address: token:n_bytes:n_chunks,
-- no colon in a token. The hash `r` holds it for sinks; it stays when the run is over. The hash `v`
-- has those of all others, without their letter; up to TINY bytes of a value follow behind a newline.
-- Other small values are in the hash of that letter by position and token. (A run of a version before
-- has all results in `r`, and no bytes behind them.)
local function result_of(c, task)
  local result = call('HGET', c.p .. 'v', id(task))
  return result and 'v' .. result or call('HGET', c.p .. 'r', id(task))
end

-- The results of several tasks, false for those without one. Of a batch, this step knows that most
-- inputs are not done yet: `r` need not be asked for them.
local function results_of(c, tasks)
  local names, others, places = ids(tasks), {}, {}
  local results = fetch_fields(c.p .. 'v', names)
  for i = 1, #names do
    if results[i] then
      results[i] = 'v' .. results[i]
    elseif (c.states[tasks[i]] or DONE) == DONE then
      others[#others + 1], places[#places + 1] = names[i], i
    end
  end
  for n, result in ipairs(fetch_fields(c.p .. 'r', others)) do
    results[places[n]] = result
  end
  return results
end

-- Returns letter, address, token, number of chunks, and the bytes, false where they do not follow.
local function parts_of(result)
  local letter, address, token, n_chunks, behind = match(result, '^(.)(([^:]*):%d+:(%d+))()')
  return letter, address, token, n_chunks, behind <= #result and sub(result, behind + 1)
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
  local result = result_of(c, task)
  if result and select(2, parts_of(result)) == address then
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
