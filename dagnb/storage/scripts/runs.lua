-- Part of the library dagnb: the submission, observation and deletion of a run as a whole.
--
-- Helpers are local to blocks: a chunk of Lua has 200 local variables at most, and the library is
-- one chunk.

---- a run comes in --------------------------------------------------------------------------------

local put_records, submit
do
  -- ttl_ms, first position, records... They are stored before the run; without `submit` they
  -- expire. Returns their number, 0 for a run that is there already.
  function put_records(keys, args)
    if call('EXISTS', keys[1] .. 'm') == 1 then
      return 0
    end
    write_records(keys[1], tonumber(args[5]), args, 6)
    call('PEXPIRE', keys[1] .. 'n', args[4])
    return #args - 5
  end

  local function kinds_among(queues)
    local kinds = {}
    for _, queue in ipairs(queues) do
      if queue[3] ~= '' and not contains(kinds, queue[3]) then
        kinds[#kinds + 1] = queue[3]
      end
    end
    return kinds
  end

  local function write_control(p, at, s)
    local n_awaited = s.on_error == 'continue' and s.n_tasks or #s.sinks
    local m = {
      'state', 'running', 'unsettled', n_awaited, 'serial', 0, 'ttl_ms', s.ttl_ms,
      'n_queues', #s.queues, 'submitted_at', at, 'touched_at', at, 'finished_at', '0',
      'reason', '', 'n_tasks', s.n_tasks,
      'sinks', cmsgpack.pack(s.sinks), 'on_error', s.on_error, 'meta', s.meta,
      'crash_budget', s.crash_budget, 'loss_budget', s.loss_budget,
    }
    if s.deadline_s then
      m[#m + 1] = 'deadline_at'
      m[#m + 1] = text(tonumber(at) + s.deadline_s)
    end
    if s.start_s then
      m[#m + 1] = 'start_by'
      m[#m + 1] = text(tonumber(at) + s.start_s)
    end
    for i, queue in ipairs(s.queues) do
      m[#m + 1], m[#m + 2] = 'q' .. (i - 1), queue[1]
      m[#m + 1], m[#m + 2] = 'c' .. (i - 1), queue[2]
      if queue[3] ~= '' then
        m[#m + 1], m[#m + 2] = 'k' .. (i - 1), queue[3]
      end
    end
    local kinds = kinds_among(s.queues)
    if #kinds > 0 then
      m[#m + 1], m[#m + 2] = 'kinds', cmsgpack.pack(kinds)
    end
    in_portions('HSET', p .. 'm', m)
  end

  local function write_run(p, at, s)
    write_control(p, at, s)
    call('SET', p .. 's', string.rep(WAITING, s.n_tasks))
    call('SETRANGE', p .. 'y', s.n_tasks * 8 - 1, '\0')
    call('SETBIT', p .. 'e', math.max(s.n_bits - 1, 0), 0)
    for _, name in ipairs(KEPT) do
      call('HSET', p .. name, '', '')
    end
    call('XDEL', p .. 'ev', call('XADD', p .. 'ev', '*', 'at', '0'))
  end

  -- MessagePack map of the submission. Returns the moment of the submission, the first one's.
  function submit(keys, args)
    local p = keys[1]
    local known = call('HGET', p .. 'm', 'submitted_at')
    if known then
      return known
    end
    local s = cmsgpack.unpack(args[4])
    if count_records(p, s.n_tasks) ~= s.n_tasks then
      return redis.error_reply('NORECORDS the records of the run are incomplete')
    end
    local at = moment(args[1])
    write_run(p, at, s)
    local c = open(p, { at, args[2], args[3] })
    for _, source in ipairs(s.sources) do
      ready(c, source)
    end
    route(c)
    touch(c)
    close(c)
    return at
  end
end

---- bytes and spans outside of a step -------------------------------------------------------------

-- task, '1' for a sink, token, bytes: store a small result ahead of its commit.
local function put(c, args, over)
  if over then
    return 0
  end
  call('HSET', c.p .. (args[5] == '1' and 'z' or 'v'), args[4] .. ':' .. args[6], args[7])
  return 1
end

-- task, token: delete a small value; the address of a result stays.
local function drop_value(keys, args)
  local p, task, token = keys[1], args[4], args[5]
  call('HDEL', p .. 'v', task .. ':' .. token)
  call('HDEL', p .. 'z', task .. ':' .. token)
  local known, behind = match(call('HGET', p .. 'v', task) or '', '^([^\n]*)\n()')
  if behind and match(known, '^[^:]*') == token then
    call('HSET', p .. 'v', task, known)
  end
  return 1
end

-- spans: those that belong to no commit.
local function record(c, args, over)
  if not over then
    take_part(c)
  end
  add_spans(c, args[4])
  return 1
end

---- looking at a run ------------------------------------------------------------------------------

local observe
do
  local function workers_of(c)
    local list = {}
    local held = call('HGETALL', c.p .. 'h')
    for i = 1, #held, 2 do
      if held[i] ~= '' then
        list[#list + 1] = { match(held[i + 1], '^%d+/%d+ (.*)$'), 'active', held[i] }
      end
    end
    for _, member in ipairs(invoked_of(c)) do
      local queue, number = split_member(member)
      list[#list + 1] = { worker_name(queue_state(c, queue), number), 'invoked', '' }
    end
    return list
  end

  local function sink_results(c)
    local list, sinks = {}, sinks_of(c)
    local results = fetch_fields(c.p .. 'r', ids(sinks))
    for i, sink in ipairs(sinks) do
      if results[i] then
        list[#list + 1] = sink
        list[#list + 1] = sub(results[i], 2)
      end
    end
    return list
  end

  -- The tasks of which an attempt failed, by these events. Returns false when there is none.
  local function failing(events)
    local tasks, has_any = {}, false
    for _, entry in ipairs(events) do
      for kind, first, last in string.gmatch('\n' .. entry[2][4], '\n(%a+) (%d+)%-?(%d*)') do
        if kind == 'fail' or kind == 'retry' then
          has_any = true
          for task = tonumber(first), tonumber(last == '' and first or last) do
            tasks[id(task)] = true
          end
        end
      end
    end
    return has_any and tasks
  end

  -- The errors of these tasks, flat: field, text.
  local function errors_of(c, tasks)
    local all, list = tasks and call('HGETALL', c.p .. 'err') or {}, {}
    for i = 1, #all, 2 do
      if tasks[match(all[i], '^%d+')] then
        list[#list + 1], list[#list + 2] = all[i], all[i + 1]
      end
    end
    return list
  end

  -- cursor: id of the last event seen, or ''. With one, only newer events and errors are returned,
  -- and no description, which never changes.
  function observe(keys, args)
    local c = open(keys[1], args)
    if not c then
      return no_run()
    end
    local m = call('HMGET', c.p .. 'm', 'state', 'meta', 'submitted_at', 'finished_at', 'reason')
    local is_first = args[4] == ''
    local events = call('XRANGE', c.p .. 'ev', is_first and '-' or '(' .. args[4], '+')
    local errors = is_first and call('HGETALL', c.p .. 'err') or errors_of(c, failing(events))
    return {
      m[1], call('GET', c.p .. 's'), is_first and m[2] or '', c.at, m[3], m[4], m[5],
      events, errors, workers_of(c), sink_results(c), call('ZCARD', c.p .. 'l'),
    }
  end
end

---- the room that a run takes, and how it goes ----------------------------------------------------

local usage, forget, evict
do
  -- Elements of a collection that are looked at to tell its size.
  local SAMPLES = '50'
  -- Keys that only a run that goes on reads.
  local NEEDED_TO_RUN = { 'n', 'e', 'y', 'use' }

  -- The keys of its large results.
  local function chunks_of(c)
    return large_keys(c, 'bigz', large_keys(c, 'big', {}))
  end

  -- Every key of the run but those of its large results, also names of keys that are not there.
  local function small_keys(c)
    local list = {}
    for queue = 0, last_queue(c) do
      list[#list + 1] = c.p .. 'q:' .. queue
      list[#list + 1] = c.p .. 'f:' .. queue
    end
    for _, name in ipairs(NAMES) do
      list[#list + 1] = c.p .. name
    end
    for _, name in ipairs(kind_names(c)) do
      list[#list + 1] = c.p .. name
    end
    return list
  end

  -- The memory that the keys take up. Of a collection the server looks at SAMPLES elements.
  local function bytes_of(keys)
    local n_bytes = 0
    for _, key in ipairs(keys) do
      n_bytes = n_bytes + (call('MEMORY', 'USAGE', key, 'SAMPLES', SAMPLES) or 0)
    end
    return n_bytes
  end

  -- Returns the bytes of results, those of all else but content, and the hashes of the content that
  -- the run uses; false for an unknown run.
  function usage(keys, args)
    local c = open(keys[1], args)
    if not c then
      return false
    end
    local n_small = bytes_of({ c.p .. 'v', c.p .. 'z' })
    local n_records = bytes_of(small_keys(c)) - n_small
    return { n_small + bytes_of(chunks_of(c)), n_records, call('SMEMBERS', c.p .. 'use') }
  end

  -- Unlink every known key of the run. Chunks that were never committed are listed in no key; they
  -- expire. Returns the number of keys.
  function forget(keys)
    local c = { p = keys[1], kinds = call('HGET', keys[1] .. 'm', 'kinds') }
    return count_keys('UNLINK', chunks_of(c)) + count_keys('UNLINK', small_keys(c))
  end

  -- Delete what a run that is over needs no more: the records of its tasks. Results, errors, output
  -- and spans stay. Returns the bytes that this frees, and the hashes of content that it used.
  function evict(keys, args)
    local c = open(keys[1], args)
    if not c or c.state == 'running' then
      return { 0, {} }
    end
    local list, hashes = {}, call('SMEMBERS', c.p .. 'use')
    for _, name in ipairs(NEEDED_TO_RUN) do
      list[#list + 1] = c.p .. name
    end
    local n_bytes = bytes_of(list)
    -- Not UNLINK, which frees large keys later: the caller waits for this room.
    count_keys('DEL', list)
    return { n_bytes, hashes }
  end
end
