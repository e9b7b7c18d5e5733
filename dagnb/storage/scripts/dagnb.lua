#!lua name=dagnb
-- The steps of dagnb.protocol.machine.Machine on the keys of dagnb.storage.keys. The machine is the reference: the
-- differential test compares every step. Each function here is one step: atomic, and repeating it changes nothing.
--
-- KEYS[1]: prefix of the run's keys (one hash tag, one cluster slot; the others are derived from it).
-- ARGV[1]: moment of the step, '' for the server's own clock (tests give it). ARGV[2]: `fresh`, unique to the call.
-- ARGV[3]: '1' when the call is a repetition after a lost reply. More: see each function.
--
-- A step reads what it needs, works on a context `c`, and writes what changed when it closes. Nothing but
-- `redis.register_function` exists while the library loads: no `string`, no `redis.call`.
-- Tasks and other positions are text, for a number costs as much to print as a command to run; `id` makes them.

local LIBRARY = 'dagnb'

local EVENTS_KEPT = '20000'
local INLINE_INPUTS = 64
local INLINE_BYTES = 65536
local ARGS = 1000 -- of one command: Lua unpacks about 8,000 at most. A multiple of 4: pairs and fours stay whole
local WHOLE = 8 -- with more tasks to look at than this, their states are read at once

local WAITING, READY, RUNNING, RETRYING = 'W', 'R', 'X', 'B'
local DONE, FAILED, SKIPPED = 'D', 'F', 'S'
local OPEN = { W = true, R = true, X = true, B = true }
local LEASE_LOST = '{"type": "LeaseLost", "message": "the worker was not heard of in time"}'

local NAMES = {
  'm', 's', 'e', 'n', 'r', 'a', 'y', 'd', 'inv', 'w', 'l', 'h', 'x', 'err', 'ev', 'sp', 'log', 'v', 'z',
  'big', 'bigz', 'spawn',
}
-- These have a field '', so that they are never empty: Redis would delete them, and their time to live with them.
local KEPT = { 'h', 'x', 'w', 'r', 'v', 'z' }

---- small things -----------------------------------------------------------------------------------------------------

local function text(number)
  return string.format('%.17g', number)
end

local function id(position)
  return string.format('%d', position)
end

local function ids(positions)
  local list = {}
  for i = 1, #positions do
    list[i] = id(positions[i])
  end
  return list
end

local function in_portions(command, key, list)
  for first = 1, #list, ARGS do
    redis.call(command, key, unpack(list, first, math.min(first + ARGS - 1, #list)))
  end
end

local function fetch_fields(key, fields)
  local values, at = {}, 0
  for first = 1, #fields, ARGS do
    local portion = redis.call('HMGET', key, unpack(fields, first, math.min(first + ARGS - 1, #fields)))
    for i = 1, #portion do
      values[at + i] = portion[i]
    end
    at = at + #portion
  end
  return values
end

local function sorted(set)
  local list = {}
  for position in pairs(set) do
    list[#list + 1] = tonumber(position)
  end
  if #list > 1 then
    table.sort(list)
  end
  return list
end

-- Write into a string, `width` bytes a task, neighbours together. bytes: of each task, or one for all.
local function write_runs(key, width, set, bytes)
  local tasks, i = sorted(set), 1
  while i <= #tasks do
    local first, run = tasks[i], {}
    repeat
      run[#run + 1] = bytes or set[id(tasks[i])]
      i = i + 1
    until tasks[i] ~= tasks[i - 1] + 1
    redis.call('SETRANGE', key, id(first * width), table.concat(run))
  end
end

---- the context of a step --------------------------------------------------------------------------------------------

local function moment(given)
  if given ~= '' then
    return given
  end
  local t = redis.call('TIME')
  return t[1] .. '.' .. string.sub('000000' .. t[2], -6)
end

-- at, now: the moment as text and as number. states: known ones; changed: those to write. born: tasks made ready in
-- this step. pushes: queue -> task -> priority, to be queued. touched: queues to route. m: fields to write.
local function open(prefix, args)
  local m = redis.call('HMGET', prefix .. 'm', 'state', 'deadline_at', 'unsettled', 'serial', 'ttl_ms')
  if not m[1] then
    return nil
  end
  local at = moment(args[1])
  local unsettled, serial = tonumber(m[3]), tonumber(m[4])
  return {
    p = prefix, fresh = args[2], again = args[3] == '1', at = at, now = tonumber(at), state = m[1],
    deadline_at = m[2] and tonumber(m[2]), unsettled = unsettled, serial = serial, ttl_ms = m[5],
    was_unsettled = unsettled, was_serial = serial, all = false,
    states = {}, changed = {}, born = {}, lines = {}, pushes = {}, touched = {}, running = {}, rerun = {}, held = {},
    events = {}, m = {},
  }
end

local function expire(c, name)
  redis.call('PEXPIRE', c.p .. name, c.ttl_ms)
end

local function event(c, kind, task, worker)
  c.events[#c.events + 1] = kind .. ' ' .. task .. ' ' .. worker
end

local function read_all(c)
  if not c.all then
    c.all = redis.call('GET', c.p .. 's')
  end
end

local function state_of(c, task)
  local state = c.states[task]
  if not state then
    state = c.all and string.sub(c.all, task + 1, task + 1) or redis.call('GETRANGE', c.p .. 's', task, task)
    c.states[task] = state
  end
  return state
end

local function set_state(c, task, state)
  c.states[task] = state
  c.changed[task] = state
end

local function flush_states(c)
  if next(c.changed) then
    write_runs(c.p .. 's', 1, c.changed)
    c.changed = {}
  end
  if next(c.born) then
    write_runs(c.p .. 'y', 8, c.born, struct.pack('>d', c.now))
    c.born = {}
  end
end

-- Running tasks of an instance, as a list that `set_running` replaces.
local function running_of(c, instance)
  local list = c.running[instance]
  if not list then
    list = {}
    local value = redis.call('HGET', c.p .. 'x', instance) or ''
    if string.find(value, ',', 1, true) then
      for task in string.gmatch(value, '%d+') do
        list[#list + 1] = task
      end
    elseif value ~= '' then
      list[1] = value
    end
    c.running[instance] = list
  end
  return list
end

local function set_running(c, instance, list)
  c.running[instance] = list
  c.rerun[instance] = true
end

local function runs(c, instance, task)
  for _, other in ipairs(running_of(c, instance)) do
    if other == task then
      return true
    end
  end
  return false
end

local function flush_running(c)
  for instance in pairs(c.rerun) do
    local list = c.running[instance]
    if #list > 0 then
      redis.call('HSET', c.p .. 'x', instance, table.concat(list, ','))
    else
      redis.call('HDEL', c.p .. 'x', instance)
    end
  end
  c.rerun = {}
end

local function flush_lines(c)
  for queue, line in pairs(c.lines) do
    for letter, number in pairs(line.changed) do
      c.m[#c.m + 1] = letter .. queue
      c.m[#c.m + 1] = id(number)
    end
  end
end

local function change(c, field, value)
  c.m[#c.m + 1] = field
  c.m[#c.m + 1] = value
end

local function close(c)
  flush_states(c)
  flush_running(c)
  flush_lines(c)
  if c.unsettled ~= c.was_unsettled then
    change(c, 'unsettled', id(c.unsettled))
  end
  if c.serial ~= c.was_serial then
    change(c, 'serial', id(c.serial))
  end
  in_portions('HSET', c.p .. 'm', c.m)
  if #c.events > 0 then
    local story = table.concat(c.events, '\n')
    redis.call('XADD', c.p .. 'ev', 'MAXLEN', '~', EVENTS_KEPT, '*', 'at', c.at, 'e', story)
  end
end

---- records, results, blobs ------------------------------------------------------------------------------------------

-- A record is an array of seven: byte 0 is its head, the elements follow one by one.
local function record_of(c, task)
  local packed = redis.call('HGET', c.p .. 'n', task)
  local at, queue, priority, sink, retries, upstream = cmsgpack.unpack_limit(packed, 5, 1)
  return {
    packed = packed, at = at, queue = id(queue), priority = priority, sink = sink, retries = retries,
    upstream = upstream,
  }
end

-- Six numbers an edge: child, its bit for this edge, its first bit, how many bits, its queue, its priority.
local function edges_of(record)
  local _, edges = cmsgpack.unpack_one(record.packed, record.at)
  return edges
end

local function queue_of(c, task)
  local _, queue, priority = cmsgpack.unpack_limit(redis.call('HGET', c.p .. 'n', task), 2, 1)
  return id(queue), priority
end

-- "token:n_bytes:n_chunks", as messages.Address; a token holds no colon
local function parse(address)
  local token, n_chunks = string.match(address, '^([^:]*):%d+:(%d+)$')
  return token, tonumber(n_chunks)
end

local function chunk_keys(c, task, token, n_chunks, list)
  list = list or {}
  for i = 0, n_chunks - 1 do
    list[#list + 1] = c.p .. 'b:' .. task .. ':' .. token .. ':' .. id(i)
  end
  return list
end

local function count_keys(command, keys)
  local n = 0
  for first = 1, #keys, ARGS do
    n = n + redis.call(command, unpack(keys, first, math.min(first + ARGS - 1, #keys)))
  end
  return n
end

local function has_blob(c, task, hash, address)
  local token, n_chunks = parse(address)
  if n_chunks == 0 then
    return redis.call('HEXISTS', c.p .. hash, task .. ':' .. token) == 1
  end
  return count_keys('EXISTS', chunk_keys(c, task, token, n_chunks)) == n_chunks
end

-- Delete the bytes of an attempt that lost or came late.
local function discard(c, task, address)
  local token, n_chunks = parse(address)
  if n_chunks == 0 then
    redis.call('HDEL', c.p .. 'v', task .. ':' .. token)
    redis.call('HDEL', c.p .. 'z', task .. ':' .. token)
  else
    count_keys('UNLINK', chunk_keys(c, task, token, n_chunks))
  end
end

-- The hash `r` holds addresses with a letter before: the hash where a small value lies, z for sinks.
local function result_of(c, task)
  return redis.call('HGET', c.p .. 'r', task)
end

local function is_gone(c, task)
  if state_of(c, task) ~= DONE then
    return true
  end
  local result = result_of(c, task)
  return not has_blob(c, task, string.sub(result, 1, 1), string.sub(result, 2))
end

local function discard_if_other(c, task, address)
  local result = result_of(c, task)
  if not result or string.sub(result, 2) ~= address then
    discard(c, task, address)
  end
end

-- Chunk keys of every large result in `big` (intermediates) or `bigz` (sinks).
local function large_keys(c, name, list)
  for _, entry in ipairs(redis.call('SMEMBERS', c.p .. name)) do
    local task, token, n_chunks = string.match(entry, '^(%d+):(.*):(%d+)$')
    chunk_keys(c, task, token, tonumber(n_chunks), list)
  end
  return list
end

---- who staffs which worker ------------------------------------------------------------------------------------------

local function line_of(c, queue)
  local line = c.lines[queue]
  if not line then
    local f = redis.call('HMGET', c.p .. 'm', 'q' .. queue, 'c' .. queue, 'i' .. queue, 'a' .. queue, 'h' .. queue)
    line = { name = f[1], cap = tonumber(f[2]), changed = {} }
    line.i, line.a, line.h = tonumber(f[3] or 0), tonumber(f[4] or 0), tonumber(f[5] or 0)
    c.lines[queue] = line
  end
  return line
end

-- Letters: i invoked members, a active members, h highest member.
local function count(line, letter, difference)
  line[letter] = line[letter] + difference
  line.changed[letter] = line[letter]
end

local function is_pool(name)
  return string.sub(name, 1, 1) == '~'
end

local function worker_name(line, number)
  return is_pool(line.name) and line.name .. '/' .. number or line.name
end

local function split_member(member)
  return string.match(member, '^(%d+)/(%d+)$')
end

local function held_of(c, instance)
  local held = c.held[instance]
  if held == nil then
    local value = redis.call('HGET', c.p .. 'h', instance)
    held = false
    if value then
      local queue, number, name = string.match(value, '^(%d+)/(%d+) (.*)$')
      held = { queue = queue, number = number, name = name }
    end
    c.held[instance] = held
  end
  return held
end

local function worker_of(c, instance)
  local held = held_of(c, instance)
  return held and held.name or ''
end

-- A hint for each member that is asked for and no more, or sleepers would be woken for nothing.
local function trim_hints(c)
  local n = redis.call('ZCARD', c.p .. 'inv')
  if n == 0 then
    redis.call('DEL', c.p .. 'spawn')
  else
    redis.call('LTRIM', c.p .. 'spawn', 0, n - 1)
  end
end

local function adopt(c, instance, member)
  member = member or redis.call('ZRANGE', c.p .. 'inv', '0', '0')[1]
  if not member then
    return false
  end
  local queue, number = split_member(member)
  local line = line_of(c, queue)
  redis.call('ZREM', c.p .. 'inv', member)
  trim_hints(c)
  count(line, 'i', -1)
  count(line, 'a', 1)
  local held = { queue = queue, number = number, name = worker_name(line, number) }
  redis.call('HSET', c.p .. 'h', instance, member .. ' ' .. held.name)
  c.held[instance] = held
  event(c, 'worker', '-1', held.name)
  return held
end

local function release(c, instance)
  local held = held_of(c, instance)
  if not held then
    return
  end
  redis.call('HDEL', c.p .. 'h', instance)
  redis.call('HDEL', c.p .. 'w', held.queue .. '/' .. held.number)
  count(line_of(c, held.queue), 'a', -1)
  redis.call('ZADD', c.p .. 'f:' .. held.queue, held.number, held.number)
  expire(c, 'f:' .. held.queue)
  c.held[instance] = false
end

---- ready tasks ------------------------------------------------------------------------------------------------------

local function ready(c, task, queue, priority)
  if not queue then
    queue, priority = queue_of(c, task)
  end
  set_state(c, task, READY)
  c.born[task] = true
  c.touched[queue] = true
  c.pushes[queue] = c.pushes[queue] or {}
  c.pushes[queue][task] = priority
end

local function flush_pushes(c, queue)
  local pushes = c.pushes[queue]
  if not pushes or not next(pushes) then
    return
  end
  local list = {}
  for task, priority in pairs(pushes) do
    list[#list + 1] = id(priority)
    list[#list + 1] = task
  end
  in_portions('ZADD', c.p .. 'q:' .. queue, list)
  expire(c, 'q:' .. queue)
  c.pushes[queue] = nil
end

local function withdraw(c, task, queue)
  flush_pushes(c, queue)
  redis.call('ZREM', c.p .. 'q:' .. queue, task)
end

local function by_priority(one, other)
  if one.priority ~= other.priority then
    return one.priority < other.priority
  end
  return one.task < other.task
end

-- prefer: {task, queue, priority} of those just made ready: in a pool they come first.
local function take_preferred(c, queue, want, prefer)
  local mine, taken = {}, {}
  for _, entry in ipairs(prefer) do
    if entry.queue == queue then
      mine[#mine + 1] = entry
    end
  end
  if #mine > 1 then
    table.sort(mine, by_priority)
  end
  local pushes = c.pushes[queue] or {}
  for _, entry in ipairs(mine) do
    if #taken == want then
      break
    end
    if pushes[entry.task] then
      pushes[entry.task] = nil
      taken[#taken + 1] = entry.task
    elseif redis.call('ZREM', c.p .. 'q:' .. queue, entry.task) == 1 then
      taken[#taken + 1] = entry.task
    end
  end
  return taken
end

local function take(c, held, want, prefer)
  local taken = is_pool(held.name) and take_preferred(c, held.queue, want, prefer) or {}
  if #taken < want then
    flush_pushes(c, held.queue)
    local popped = redis.call('ZPOPMIN', c.p .. 'q:' .. held.queue, want - #taken)
    for i = 1, #popped, 2 do
      taken[#taken + 1] = popped[i]
    end
  end
  return taken
end

local function free_member(c, queue, line)
  local popped = redis.call('ZPOPMIN', c.p .. 'f:' .. queue)
  if popped[1] then
    return popped[1]
  end
  count(line, 'h', 1)
  return id(line.h)
end

local function ask(c, queue, n_ready, hints)
  local line, urgency = line_of(c, queue), nil
  while n_ready > line.i and line.i + line.a < line.cap do
    urgency = urgency or redis.call('ZRANGE', c.p .. 'q:' .. queue, 0, 0, 'WITHSCORES')[2]
    c.serial = c.serial + 1
    local number = free_member(c, queue, line)
    local member = queue .. '/' .. number
    redis.call('ZADD', c.p .. 'inv', urgency, member)
    redis.call('HSET', c.p .. 'w', member, c.fresh .. ':' .. c.serial)
    count(line, 'i', 1)
    hints[#hints + 1] = worker_name(line, number)
  end
end

local function push_hints(c, hints)
  if #hints > 0 then
    in_portions('RPUSH', c.p .. 'spawn', hints)
    expire(c, 'spawn')
  end
end

-- Ask for a member for each ready task that no asked-for member will take, within the cap.
local function route(c)
  if not next(c.touched) then
    return
  end
  local hints = {}
  for _, number in ipairs(sorted(c.touched)) do
    local queue = id(number)
    flush_pushes(c, queue)
    local n_ready = redis.call('ZCARD', c.p .. 'q:' .. queue)
    if n_ready > 0 then
      ask(c, queue, n_ready, hints)
    end
  end
  c.touched = {}
  if #hints > 0 then
    expire(c, 'inv')
    push_hints(c, hints)
  end
end

local function promote(c)
  local due = redis.call('ZRANGEBYSCORE', c.p .. 'd', '-inf', c.at)
  for _, task in ipairs(due) do
    redis.call('ZREM', c.p .. 'd', task)
    ready(c, task)
  end
end

---- the end of a run -------------------------------------------------------------------------------------------------

local function touch(c)
  for _, name in ipairs(NAMES) do
    expire(c, name)
  end
  for queue = 0, tonumber(redis.call('HGET', c.p .. 'm', 'n_queues')) - 1 do
    expire(c, 'q:' .. queue)
    expire(c, 'f:' .. queue)
  end
  for _, key in ipairs(large_keys(c, 'bigz', large_keys(c, 'big', {}))) do
    redis.call('PEXPIRE', key, c.ttl_ms)
  end
  change(c, 'touched_at', c.at)
end

local function clear_roster(c)
  local asked = redis.call('ZRANGE', c.p .. 'inv', 0, -1)
  for _, member in ipairs(asked) do
    local line = line_of(c, (split_member(member)))
    count(line, 'i', -line.i)
  end
  in_portions('HDEL', c.p .. 'w', asked)
  local keys = { c.p .. 'inv', c.p .. 'd', c.p .. 'x', c.p .. 'spawn' }
  for queue = 0, tonumber(redis.call('HGET', c.p .. 'm', 'n_queues')) - 1 do
    keys[#keys + 1] = c.p .. 'q:' .. queue
  end
  count_keys('UNLINK', keys)
  c.pushes, c.touched, c.running, c.rerun = {}, {}, {}, {}
end

local function purge_intermediates(c)
  local keys = large_keys(c, 'big', {})
  keys[#keys + 1] = c.p .. 'v'
  keys[#keys + 1] = c.p .. 'big'
  count_keys('UNLINK', keys)
end

local function finish(c, state, reason)
  c.state = state
  flush_states(c)
  redis.call('SET', c.p .. 's', (string.gsub(redis.call('GET', c.p .. 's'), '[WRXB]', 'C')), 'KEEPTTL')
  c.states, c.all = {}, false
  redis.call('HSET', c.p .. 'm', 'state', state, 'reason', reason, 'finished_at', c.at)
  clear_roster(c)
  local hints = {}
  for i = 1, redis.call('ZCARD', c.p .. 'l') do
    hints[i] = 'stop'
  end
  push_hints(c, hints)
  event(c, 'end', '-1', state)
  purge_intermediates(c)
  touch(c)
  redis.call('PUBLISH', c.p .. 'end', state)
end

local function is_over(c)
  if c.state == 'running' and c.deadline_at and c.now >= c.deadline_at then
    finish(c, 'deadline', 'the deadline passed')
  end
  return c.state ~= 'running'
end

---- results come and go ----------------------------------------------------------------------------------------------

local function mark(c, edges, bit)
  if #edges == 6 then
    redis.call('SETBIT', c.p .. 'e', id(edges[2]), bit)
    return
  end
  local list = {}
  for i = 2, #edges, 6 do
    local n = #list
    list[n + 1], list[n + 2], list[n + 3], list[n + 4] = 'SET', 'u1', id(edges[i]), bit
  end
  in_portions('BITFIELD', c.p .. 'e', list)
end

local function is_full(c, start, n_bits)
  return n_bits <= 1 or redis.call('BITCOUNT', c.p .. 'e', id(start), id(start + n_bits - 1), 'BIT') == n_bits
end

local function ready_children(c, edges, prefer)
  if #edges > WHOLE * 6 then
    read_all(c)
  end
  for i = 1, #edges, 6 do
    local child = id(edges[i])
    if state_of(c, child) == WAITING and is_full(c, edges[i + 2], edges[i + 3]) then
      local entry = { task = child, queue = id(edges[i + 4]), priority = edges[i + 5] }
      ready(c, child, entry.queue, entry.priority)
      prefer[#prefer + 1] = entry
    end
  end
end

-- The instance that runs a task: likely this one.
local function owner_of(c, task, likely)
  if likely and runs(c, likely, task) then
    return likely
  end
  for _, instance in ipairs(redis.call('HKEYS', c.p .. 'x')) do
    if runs(c, instance, task) then
      return instance
    end
  end
  return nil
end

-- The task has no owner any more. Returns the worker it ran on.
local function leave_running(c, task, owner)
  local rest = {}
  for _, other in ipairs(running_of(c, owner)) do
    if other ~= task then
      rest[#rest + 1] = other
    end
  end
  set_running(c, owner, rest)
  return worker_of(c, owner)
end

local function keep_blob(c, task, hash, address, blob)
  local token, n_chunks = parse(address)
  if blob then
    redis.call('HSET', c.p .. hash, task .. ':' .. token, blob)
  elseif n_chunks > 0 then
    local name = hash == 'z' and 'bigz' or 'big'
    redis.call('SADD', c.p .. name, task .. ':' .. token .. ':' .. id(n_chunks))
    expire(c, name)
  end
end

-- False: the bytes of the result are not in the store. blob: those that came along, or nil.
local function commit(c, instance, task, address, blob, prefer)
  local state = state_of(c, task)
  if not OPEN[state] then
    discard_if_other(c, task, address)
    return true
  end
  local record = record_of(c, task)
  local hash = record.sink == 1 and 'z' or 'v'
  if not blob and not has_blob(c, task, hash, address) then
    return false
  end
  keep_blob(c, task, hash, address, blob)
  if state == READY then
    withdraw(c, task, record.queue)
  elseif state == RETRYING then
    redis.call('ZREM', c.p .. 'd', task)
  end
  local worker = state == RUNNING and leave_running(c, task, owner_of(c, task, instance)) or ''
  set_state(c, task, DONE)
  redis.call('HSET', c.p .. 'r', task, hash .. address)
  event(c, 'done', task, worker)
  local edges = edges_of(record)
  if #edges > 0 then
    mark(c, edges, '1')
    ready_children(c, edges, prefer)
  end
  c.unsettled = c.unsettled - record.sink
  return true
end

local function skip(c, task, sink)
  set_state(c, task, SKIPPED)
  c.unsettled = c.unsettled - sink
  event(c, 'skip', task, '')
end

-- Everything that would need a failed task is skipped.
local function skip_below(c, task)
  local stack = { task }
  while #stack > 0 do
    local edges = edges_of(record_of(c, table.remove(stack)))
    if #edges > WHOLE * 6 then
      read_all(c)
    end
    for i = 1, #edges, 6 do
      local child = id(edges[i])
      if state_of(c, child) == WAITING then
        skip(c, child, record_of(c, child).sink)
        stack[#stack + 1] = child
      end
    end
  end
end

-- A task that waits again: ready if all its inputs are there, skipped if one of them failed meanwhile.
local function ready_or_skip(c, task)
  if state_of(c, task) ~= WAITING then
    return
  end
  local record = record_of(c, task)
  if #record.upstream > WHOLE then
    read_all(c)
  end
  local n_done = 0
  for _, up in ipairs(ids(record.upstream)) do
    local state = state_of(c, up)
    if state == FAILED or state == SKIPPED then
      skip(c, task, record.sink)
      return skip_below(c, task)
    end
    n_done = n_done + (state == DONE and 1 or 0)
  end
  if n_done == #record.upstream then
    ready(c, task, record.queue, record.priority)
  end
end

-- Done tasks whose bytes are gone wait again, and their inputs too, as far as those are gone.
local function uncomplete(c, tasks)
  local undone, stack = {}, {}
  for _, task in ipairs(tasks) do
    if state_of(c, task) == DONE then
      stack[#stack + 1] = task
    end
  end
  while #stack > 0 do
    local task = table.remove(stack)
    if state_of(c, task) == DONE then
      local record = record_of(c, task)
      set_state(c, task, WAITING)
      redis.call('HDEL', c.p .. 'r', task)
      c.unsettled = c.unsettled + record.sink
      local edges = edges_of(record)
      if #edges > 0 then
        mark(c, edges, '0')
      end
      event(c, 'lost', task, '')
      undone[#undone + 1] = task
      for _, up in ipairs(ids(record.upstream)) do
        if state_of(c, up) == DONE and is_gone(c, up) then
          stack[#stack + 1] = up
        end
      end
    end
  end
  for _, task in ipairs(undone) do
    ready_or_skip(c, task)
  end
end

-- All sinks are settled: the run is over, unless the bytes of a sink have gone.
local function finish_if_sound(c)
  local sinks = ids(cmsgpack.unpack(redis.call('HGET', c.p .. 'm', 'sinks')))
  read_all(c)
  for _, sink in ipairs(sinks) do
    local state = state_of(c, sink)
    if state == FAILED or state == SKIPPED then
      return finish(c, 'failed', 'a task failed')
    end
  end
  local gone = {}
  for _, sink in ipairs(sinks) do
    if is_gone(c, sink) then
      gone[#gone + 1] = sink
    end
  end
  if #gone == 0 then
    return finish(c, 'ok', '')
  end
  uncomplete(c, gone)
  if c.unsettled == 0 then -- all of them were skipped
    finish(c, 'failed', 'a task failed')
  end
end

---- attempts that ended badly ----------------------------------------------------------------------------------------

local function spent_of(c, task)
  local value = redis.call('HGET', c.p .. 'a', task)
  if not value then
    return { exception = 0, crash = 0, loss = 0 }
  end
  local exceptions, crashes, losses = string.match(value, '^(%d+),(%d+),(%d+)$')
  return { exception = tonumber(exceptions), crash = tonumber(crashes), loss = tonumber(losses) }
end

local function attempt_of(spent)
  return 1 + spent.exception + spent.crash + spent.loss
end

local function fail_for_good(c, task, sink, worker)
  set_state(c, task, FAILED)
  c.unsettled = c.unsettled - sink
  event(c, 'fail', task, worker)
  if redis.call('HGET', c.p .. 'm', 'on_error') == 'fail' then
    return finish(c, 'failed', 'a task failed')
  end
  skip_below(c, task)
  if c.unsettled == 0 then
    finish_if_sound(c)
  end
end

-- delay: seconds as text, '' for no more tries.
local function charge(c, task, kind, problem, delay, worker)
  if c.state ~= 'running' then
    return
  end
  local record, spent = record_of(c, task), spent_of(c, task)
  redis.call('HSET', c.p .. 'err', task .. ':' .. id(attempt_of(spent)), problem)
  spent[kind] = spent[kind] + 1
  redis.call('HSET', c.p .. 'a', task, spent.exception .. ',' .. spent.crash .. ',' .. spent.loss)
  expire(c, 'err')
  expire(c, 'a')
  local budget = record.retries
  if kind ~= 'exception' then
    budget = tonumber(redis.call('HGET', c.p .. 'm', kind .. '_budget'))
  end
  if delay == '' or spent[kind] > budget then
    return fail_for_good(c, task, record.sink, worker)
  end
  event(c, 'retry', task, worker)
  if tonumber(delay) > 0 then
    set_state(c, task, RETRYING)
    redis.call('ZADD', c.p .. 'd', text(c.now + tonumber(delay)), task)
    expire(c, 'd')
  else
    ready(c, task, record.queue, record.priority)
  end
end

-- Forget an instance; its worker is free. Returns the tasks it was running.
local function drop(c, instance)
  local tasks = running_of(c, instance)
  if #tasks > 0 then
    set_running(c, instance, {})
  end
  local held = held_of(c, instance)
  release(c, instance)
  if held then
    c.touched[held.queue] = true
  end
  redis.call('ZREM', c.p .. 'l', instance)
  return tasks
end

local function reap(c)
  local expired = redis.call('ZRANGEBYSCORE', c.p .. 'l', '-inf', '(' .. c.at)
  for _, instance in ipairs(expired) do
    local worker = worker_of(c, instance)
    for _, task in ipairs(drop(c, instance)) do
      charge(c, task, 'loss', LEASE_LOST, '0', worker)
    end
  end
  promote(c)
  route(c)
  return #expired
end

---- replies ----------------------------------------------------------------------------------------------------------

-- Small inputs ride along when they are few; flat: task, address, bytes or false, ...
local function add_blobs(c, inputs)
  local n_bytes = 0
  for i = 1, #inputs, 3 do
    local hash, token, n_chunks = string.match(inputs[i + 1], '^(.)([^:]*):%d+:(%d+)$')
    local blob = n_chunks == '0' and redis.call('HGET', c.p .. hash, inputs[i] .. ':' .. token)
    n_bytes = n_bytes + (blob and #blob or 0)
    inputs[i + 2] = n_bytes <= INLINE_BYTES and blob
  end
end

local function inputs_of(c, upstream)
  local inputs, fields = {}, ids(upstream)
  local results = fetch_fields(c.p .. 'r', fields)
  for i, up in ipairs(fields) do
    if results[i] then
      local n = #inputs
      inputs[n + 1], inputs[n + 2], inputs[n + 3] = up, results[i], false
    end
  end
  if #fields <= INLINE_INPUTS then
    add_blobs(c, inputs)
  end
  return inputs
end

-- A task made ready in this very step has its moment in the context, not yet in `y`.
local function since(c, task)
  if c.born[task] then
    return struct.pack('>d', c.now)
  end
  return redis.call('GETRANGE', c.p .. 'y', id(task * 8), id(task * 8 + 7))
end

local function offer(c, task, slim)
  local record = record_of(c, task)
  local packed = not slim and record.packed
  return { task, attempt_of(spent_of(c, task)), since(c, task), packed, inputs_of(c, record.upstream) }
end

local function answer(c, status, worker, missing, offers)
  return { status, worker or '', c.at, missing or {}, offers or {} }
end

-- New tasks; a worker without any is left in the same step, and another one adopted.
local function take_work(c, instance, want, prefer)
  local held, tasks
  repeat
    held = held_of(c, instance) or adopt(c, instance)
    if not held then
      return {}
    end
    tasks = take(c, held, want, prefer)
    if #tasks == 0 then
      release(c, instance)
    end
  until #tasks > 0
  for _, task in ipairs(tasks) do
    set_state(c, task, RUNNING)
    event(c, 'start', task, held.name)
  end
  set_running(c, instance, tasks)
  return tasks
end

-- What the instance does next: its own running tasks again, or new ones, of this worker or of another.
local function next_work(c, instance, want, slim, prefer)
  if c.state ~= 'running' then
    return answer(c, 'stop')
  end
  if not redis.call('ZRANK', c.p .. 'l', instance) then
    route(c)
    return answer(c, 'fenced')
  end
  local tasks = running_of(c, instance)
  if #tasks == 0 then
    tasks = take_work(c, instance, want, prefer)
  end
  route(c)
  if #tasks == 0 then
    return answer(c, 'idle')
  end
  local offers = {}
  for i, task in ipairs(tasks) do
    offers[i] = offer(c, task, slim)
  end
  return answer(c, 'tasks', worker_of(c, instance), {}, offers)
end

local function add_spans(c, spans)
  if spans == '' then
    return
  end
  if c.again then
    for _, known in ipairs(redis.call('LRANGE', c.p .. 'sp', -256, -1)) do
      if known == spans then
        return
      end
    end
  end
  if redis.call('RPUSH', c.p .. 'sp', spans) == 1 then
    expire(c, 'sp')
  end
end

local function add_log(c, task, log)
  if log ~= '' then
    redis.call('HSET', c.p .. 'log', task, log)
    expire(c, 'log')
  end
end

---- functions: a run comes in ----------------------------------------------------------------------------------------

local function no_run()
  return redis.error_reply('NORUN no such run')
end

-- ttl_ms, first position, records...: they come before the run; without `submit` they expire.
local function put_records(keys, args)
  if redis.call('EXISTS', keys[1] .. 'm') == 1 then
    return 0
  end
  local list = {}
  for i = 6, #args do
    list[#list + 1] = tonumber(args[5]) + i - 6
    list[#list + 1] = args[i]
  end
  in_portions('HSET', keys[1] .. 'n', list)
  redis.call('PEXPIRE', keys[1] .. 'n', args[4])
  return #args - 5
end

local function write_run(p, at, s)
  local m = {
    'state', 'running', 'unsettled', #s.sinks, 'serial', 0, 'ttl_ms', s.ttl_ms,
    'submitted_at', at, 'touched_at', at, 'finished_at', '0', 'reason', '', 'n_tasks', s.n_tasks, 'n_queues', #s.queues,
    'sinks', cmsgpack.pack(s.sinks), 'on_error', s.on_error, 'meta', s.meta,
    'crash_budget', s.crash_budget, 'loss_budget', s.loss_budget,
  }
  if s.deadline_s then
    m[#m + 1] = 'deadline_at'
    m[#m + 1] = text(tonumber(at) + s.deadline_s)
  end
  for i, queue in ipairs(s.queues) do
    m[#m + 1], m[#m + 2] = 'q' .. (i - 1), queue[1]
    m[#m + 1], m[#m + 2] = 'c' .. (i - 1), queue[2]
  end
  in_portions('HSET', p .. 'm', m)
  redis.call('SET', p .. 's', string.rep(WAITING, s.n_tasks))
  redis.call('SETRANGE', p .. 'y', s.n_tasks * 8 - 1, '\0')
  redis.call('SETBIT', p .. 'e', math.max(s.n_bits - 1, 0), 0)
  for _, name in ipairs(KEPT) do
    redis.call('HSET', p .. name, '', '')
  end
  redis.call('XDEL', p .. 'ev', redis.call('XADD', p .. 'ev', '*', 'at', '0'))
end

-- packed: MessagePack map of the submission. Returns the moment it was submitted.
local function submit(keys, args)
  local p = keys[1]
  local known = redis.call('HGET', p .. 'm', 'submitted_at')
  if known then
    return known
  end
  local s = cmsgpack.unpack(args[4])
  if redis.call('HLEN', p .. 'n') ~= s.n_tasks then
    return redis.error_reply('NORECORDS the records of the run are incomplete')
  end
  write_run(p, moment(args[1]), s)
  local c = open(p, args)
  for _, source in ipairs(ids(s.sources)) do
    ready(c, source)
  end
  route(c)
  touch(c)
  close(c)
  return c.at
end

---- functions: steps of instances ------------------------------------------------------------------------------------

local function step(body)
  return function(keys, args)
    local c = open(keys[1], args)
    if not c then
      return no_run()
    end
    local reply = body(c, args, is_over(c))
    close(c)
    return reply
  end
end

-- The member that was asked for under this name and nonce.
local function invoked_as(c, name, nonce)
  local asked = redis.call('ZRANGE', c.p .. 'inv', 0, -1)
  local nonces = fetch_fields(c.p .. 'w', asked)
  for i, member in ipairs(asked) do
    if nonces[i] == nonce then
      local queue, number = split_member(member)
      if worker_name(line_of(c, queue), number) == name then
        return member
      end
    end
  end
  return nil
end

-- instance, want, slim, lease_s, worker name or '', its nonce
local function register(c, args, over)
  local instance = args[4]
  if over then
    return answer(c, 'stop')
  end
  redis.call('ZADD', c.p .. 'l', text(c.now + tonumber(args[7])), instance)
  expire(c, 'l')
  if args[8] ~= '' and not held_of(c, instance) then
    local member = invoked_as(c, args[8], args[9])
    if not member then
      return answer(c, 'refused')
    end
    adopt(c, instance, member)
  end
  promote(c)
  return next_work(c, instance, tonumber(args[5]), args[6] == '1', {})
end

local function commit_all(c, args, over, prefer)
  local missing = {}
  for i = 8, #args, 5 do
    local task, address, blob = args[i], args[i + 1], args[i + 2] == '1' and args[i + 3] or nil
    add_log(c, task, args[i + 4])
    if over then
      discard_if_other(c, task, address)
    elseif not commit(c, args[4], task, address, blob, prefer) then
      missing[#missing + 1] = task
    end
  end
  return missing
end

-- instance, want, slim, spans, then five a commit: task, address, '1' if its bytes follow, bytes, log
local function complete(c, args, over)
  local instance, prefer = args[4], {}
  add_spans(c, args[7])
  local missing = commit_all(c, args, over, prefer)
  if over then
    return answer(c, 'stop')
  end
  if c.unsettled == 0 then
    finish_if_sound(c)
  end
  if #missing > 0 then
    route(c)
    return answer(c, 'noblob', worker_of(c, instance), missing)
  end
  promote(c)
  return next_work(c, instance, tonumber(args[5]), args[6] == '1', prefer)
end

-- instance, want, slim, spans, task, attempt, error, delay or '', log
local function fail(c, args, over)
  local instance, task = args[4], args[8]
  add_spans(c, args[7])
  add_log(c, task, args[12])
  if over then
    return answer(c, 'stop')
  end
  if runs(c, instance, task) and tonumber(args[9]) == attempt_of(spent_of(c, task)) then
    leave_running(c, task, instance)
    charge(c, task, 'exception', args[10], args[11], worker_of(c, instance))
  end
  promote(c)
  return next_work(c, instance, tonumber(args[5]), args[6] == '1', {})
end

local function gone_inputs(c, task, args, first)
  local upstream, gone = {}, {}
  for _, up in ipairs(record_of(c, task).upstream) do
    upstream[id(up)] = true
  end
  for i = first, #args do
    local up = args[i]
    if upstream[up] and is_gone(c, up) then
      gone[#gone + 1] = up
    end
  end
  return gone
end

-- instance, want, slim, task, missing inputs...
local function lost(c, args, over)
  local instance, task = args[4], args[7]
  if over then
    return answer(c, 'stop')
  end
  if runs(c, instance, task) then
    local gone = gone_inputs(c, task, args, 8)
    if #gone > 0 then
      leave_running(c, task, instance)
      set_state(c, task, WAITING)
      event(c, 'lost', task, worker_of(c, instance))
      uncomplete(c, gone)
      ready_or_skip(c, task)
      if c.unsettled == 0 then
        finish_if_sound(c)
      end
    end
  end
  return next_work(c, instance, tonumber(args[5]), args[6] == '1', {})
end

-- task, '1' for a sink, token, bytes: a small result ahead of its commit
local function put(c, args, over)
  if over then
    return 0
  end
  redis.call('HSET', c.p .. (args[5] == '1' and 'z' or 'v'), args[4] .. ':' .. args[6], args[7])
  return 1
end

---- functions: steps of supervisors, agents, clients -----------------------------------------------------------------

-- lease_s, instances... Returns whether the times to live were renewed, then a status each.
local function heartbeat(c, args, over)
  local reply = { 0 }
  for i = 5, #args do
    local known = not over and redis.call('ZRANK', c.p .. 'l', args[i])
    if known then
      redis.call('ZADD', c.p .. 'l', text(c.now + tonumber(args[4])), args[i])
    end
    reply[#reply + 1] = over and 'stop' or known and 'tasks' or 'fenced'
  end
  if not over then
    reap(c)
    local touched_at = tonumber(redis.call('HGET', c.p .. 'm', 'touched_at'))
    if (c.now - touched_at) * 4000 > tonumber(c.ttl_ms) then
      touch(c)
      reply[1] = 1
    end
  end
  return reply
end

local function reap_step(c, _, over)
  return over and 0 or reap(c)
end

-- instance, task or '', charge, error, delay or ''
local function dead(c, args, over)
  local instance = args[4]
  if over or not redis.call('ZRANK', c.p .. 'l', instance) then
    return 0
  end
  local worker = worker_of(c, instance)
  for _, task in ipairs(drop(c, instance)) do
    if c.state ~= 'running' then
      break
    end
    if task == args[5] then
      charge(c, task, args[6], args[7], args[8], worker)
    else
      ready(c, task)
    end
  end
  route(c)
  return 1
end

-- reason
local function cancel(c, args, over)
  if over then
    return 0
  end
  finish(c, 'cancelled', args[4])
  return 1
end

-- spans
local function record(c, args)
  add_spans(c, args[4])
  return 1
end

-- Unlinks every key it knows of; chunks that were never committed expire. Returns how many keys there were.
local function forget(keys)
  local c = { p = keys[1] }
  local list = large_keys(c, 'bigz', large_keys(c, 'big', {}))
  for queue = 0, tonumber(redis.call('HGET', c.p .. 'm', 'n_queues') or 0) - 1 do
    list[#list + 1] = c.p .. 'q:' .. queue
    list[#list + 1] = c.p .. 'f:' .. queue
  end
  for _, name in ipairs(NAMES) do
    list[#list + 1] = c.p .. name
  end
  return count_keys('UNLINK', list)
end

---- functions: looking -----------------------------------------------------------------------------------------------

local function workers_of(c)
  local list = {}
  local held = redis.call('HGETALL', c.p .. 'h')
  for i = 1, #held, 2 do
    if held[i] ~= '' then
      list[#list + 1] = { string.match(held[i + 1], '^%d+/%d+ (.*)$'), 'active', held[i] }
    end
  end
  for _, member in ipairs(redis.call('ZRANGE', c.p .. 'inv', 0, -1)) do
    local queue, number = split_member(member)
    list[#list + 1] = { worker_name(line_of(c, queue), number), 'invoked', '' }
  end
  return list
end

local function sink_results(c, packed)
  local list, sinks = {}, ids(cmsgpack.unpack(packed))
  local results = fetch_fields(c.p .. 'r', sinks)
  for i, sink in ipairs(sinks) do
    if results[i] then
      list[#list + 1] = sink
      list[#list + 1] = string.sub(results[i], 2)
    end
  end
  return list
end

-- cursor: the last event seen, or ''
local function observe(keys, args)
  local c = open(keys[1], args)
  if not c then
    return no_run()
  end
  local m = redis.call('HMGET', c.p .. 'm', 'state', 'meta', 'submitted_at', 'finished_at', 'reason', 'sinks')
  local events = redis.call('XRANGE', c.p .. 'ev', args[4] == '' and '-' or '(' .. args[4], '+')
  return {
    m[1], redis.call('GET', c.p .. 's'), m[2], c.at, m[3], m[4], m[5],
    events, redis.call('HGETALL', c.p .. 'err'), workers_of(c), sink_results(c, m[6]), redis.call('ZCARD', c.p .. 'l'),
  }
end

---- registration -----------------------------------------------------------------------------------------------------

-- Control goes on when memory is short (allow-oom); what brings bytes is refused as a whole.
local function export(name, callback, flag)
  redis.register_function({ function_name = LIBRARY .. '_' .. name, callback = callback, flags = { flag } })
end

export('records', put_records)
export('submit', submit)
export('put', step(put))
export('carry', step(complete))
export('complete', step(complete), 'allow-oom')
export('register', step(register), 'allow-oom')
export('fail', step(fail), 'allow-oom')
export('lost', step(lost), 'allow-oom')
export('heartbeat', step(heartbeat), 'allow-oom')
export('reap', step(reap_step), 'allow-oom')
export('dead', step(dead), 'allow-oom')
export('cancel', step(cancel), 'allow-oom')
export('record', step(record), 'allow-oom')
export('forget', forget, 'allow-oom')
export('observe', observe, 'no-writes')
