#!lua name=dagnb
-- The steps of dagnb.protocol.machine.Machine on the keys of dagnb.storage.keys. The machine is the reference: the
-- differential test compares every step. Each function here is one step: atomic, and repeating it changes nothing.
--
-- KEYS[1]: prefix of the run's keys (one hash tag, one cluster slot; the others are derived from it).
-- ARGV[1]: moment of the step, '' for the server's own clock (tests give it). ARGV[2]: `fresh`, unique to the call.
-- ARGV[3]: '1' when the call is a repetition after a lost reply. More: see each function.
--
-- A step reads what it needs, works on a context `c`, and writes what changed when it closes. Tasks are numbers, queues
-- and members are text. What costs here is not Redis but Lua: printing a number, making a table, naming a global.

local LIBRARY = 'dagnb'

local EVENTS_KEPT = '20000'
local INLINE_INPUTS = 64
local INLINE_BYTES = 65536
local ARGS = 1000 -- of one command: Lua unpacks about 8,000 at most. A multiple of 4: pairs and fours stay whole
local WHOLE = 8 -- with more tasks to look at than this, their states are read at once
local FEW = 32 -- a list up to this long is searched, not queued
local MEMO = 8192 -- positions whose text is kept between calls
local CONTENT_BYTES = 1000000 -- content of so much in all comes with the first answer; less than a piece, so that it is one

local NO_KINDS = {}

local WAITING, READY, RUNNING, RETRYING = 'W', 'R', 'X', 'B'
local DONE, FAILED, SKIPPED = 'D', 'F', 'S'
local OPEN = { W = true, R = true, X = true, B = true }
local HELD = '-1' -- of a death: whatever the instance was running is charged
local NEVER_STARTED = 'it never started: whoever submitted it ended before workers were launched'
local LEASE_LOST = '{"type": "LeaseLost", "message": "the worker was not heard of in time"}'

local NAMES = {
  'm', 's', 'e', 'n', 'r', 'a', 'y', 'd', 'inv', 'w', 'l', 'h', 'x', 'err', 'ev', 'sp', 'log', 'v', 'z',
  'big', 'bigz', 'spawn', 'use',
}
-- These have a field '', so that they are never empty: Redis would delete them, and their time to live with them.
local KEPT = { 'h', 'x', 'w', 'r', 'v', 'z' }

---- small things -----------------------------------------------------------------------------------------------------

-- While the library loads, only redis.register_function exists; the first call binds the rest.
local call, sub, find, match, format, concat, sort, insert, remove, pack, unpack_one, unpack_limit

local function bind()
  call, sub, find, match, format = redis.call, string.sub, string.find, string.match, string.format
  concat, sort, insert, remove = table.concat, table.sort, table.insert, table.remove
  pack, unpack_one, unpack_limit = struct.pack, cmsgpack.unpack_one, cmsgpack.unpack_limit
end

local function text(number)
  return format('%.17g', number)
end

local TEXTS = {}

local function id(position)
  local known = TEXTS[position]
  if not known then
    known = format('%d', position)
    if position < MEMO then
      TEXTS[position] = known
    end
  end
  return known
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
    call(command, key, unpack(list, first, math.min(first + ARGS - 1, #list)))
  end
end

local function fetch_fields(key, fields)
  if #fields <= ARGS then
    return #fields > 0 and call('HMGET', key, unpack(fields)) or {}
  end
  local values = {}
  for first = 1, #fields, ARGS do
    local portion = call('HMGET', key, unpack(fields, first, math.min(first + ARGS - 1, #fields)))
    for i = 1, #portion do
      values[first + i - 1] = portion[i]
    end
  end
  return values
end

local function count_keys(command, keys)
  local n = 0
  for first = 1, #keys, ARGS do
    n = n + call(command, unpack(keys, first, math.min(first + ARGS - 1, #keys)))
  end
  return n
end

local function sort_if_needed(list)
  for i = 2, #list do
    if list[i] < list[i - 1] then
      sort(list)
      return
    end
  end
end

local function contains(list, wanted)
  for i = 1, #list do
    if list[i] == wanted then
      return i
    end
  end
  return nil
end

-- Write into a string, `width` bytes a task, neighbours together. bytes: of each task, or one for all.
local function write_runs(key, width, tasks, bytes)
  sort_if_needed(tasks)
  local i, n = 1, #tasks
  while i <= n do
    local first, last = tasks[i], tasks[i]
    local run = { bytes[first] or bytes.all }
    i = i + 1
    while i <= n and tasks[i] <= last + 1 do
      if tasks[i] > last then
        last = tasks[i]
        run[#run + 1] = bytes[last] or bytes.all
      end
      i = i + 1
    end
    call('SETRANGE', key, id(first * width), concat(run))
  end
end

---- the context of a step --------------------------------------------------------------------------------------------

local function moment(given)
  if given ~= '' then
    return given
  end
  local t = call('TIME')
  return t[1] .. '.' .. sub('000000' .. t[2], -6)
end

-- at, now: the moment as text and as number. states: known ones; dirty: tasks whose state is to be written. born: tasks
-- made ready in this step. made: the same by commits, flat: task, queue, priority. pushes: queue -> what is to be
-- queued, flat: priority, task. touched: queues to route. settled: difference of the unsettled tasks. m: fields to
-- write. waits_for_all: whether the end of the run waits for all tasks, as it does after failures that do not end it, or only
-- for sinks.
-- kinds: those of queues, packed; false while neither a queue nor an instance has one, so that others pay nothing for
-- them. asked: kinds of which members were asked for.
local function open(prefix, args)
  local m = call('HMGET', prefix .. 'm', 'state', 'deadline_at', 'kinds', 'on_error', 'start_by')
  if not m[1] then
    return nil
  end
  local at = moment(args[1])
  return {
    p = prefix, fresh = args[2], again = args[3] == '1', at = at, now = tonumber(at), state = m[1],
    deadline_at = m[2] and tonumber(m[2]), start_by = m[5] and tonumber(m[5]), kinds = m[3], asked = false, settled = 0, n_pushed = 0, all = false, ttl = false, serial = false,
    states = {}, dirty = {}, born = {}, made = {}, pushes = {}, touched = {}, lines = {}, running = {}, rerun = {},
    held = {}, events = {}, m = {}, waits_for_all = m[4] == 'continue',
  }
end

local function ttl_of(c)
  c.ttl = c.ttl or call('HGET', c.p .. 'm', 'ttl_ms')
  return c.ttl
end

local function expire(c, name)
  call('PEXPIRE', c.p .. name, ttl_of(c))
end

local function change(c, field, value)
  local n = #c.m
  c.m[n + 1], c.m[n + 2] = field, value
end

local function event(c, kind, task, worker)
  c.events[#c.events + 1] = kind .. ' ' .. id(task) .. ' ' .. worker
end

local function read_all(c)
  c.all = c.all or call('GET', c.p .. 's')
end

local function state_of(c, task)
  local state = c.states[task]
  if not state then
    state = c.all and sub(c.all, task + 1, task + 1) or call('GETRANGE', c.p .. 's', id(task), id(task))
    c.states[task] = state
  end
  return state
end

local function set_state(c, task, state)
  c.states[task] = state
  c.dirty[#c.dirty + 1] = task
end

local function flush_born(c)
  if #c.born > 0 then
    write_runs(c.p .. 'y', 8, c.born, { all = pack('>d', c.now) })
    c.born = {}
  end
end

local function flush_states(c)
  if #c.dirty > 0 then
    write_runs(c.p .. 's', 1, c.dirty, c.states)
    c.dirty = {}
  end
  flush_born(c)
end

-- Running tasks of an instance, as a list that `set_running` replaces.
local function running_of(c, instance)
  local list = c.running[instance]
  if not list then
    list = {}
    local value = call('HGET', c.p .. 'x', instance) or ''
    if find(value, ',', 1, true) then
      for task in string.gmatch(value, '%d+') do
        list[#list + 1] = tonumber(task)
      end
    else
      list[1] = tonumber(value)
    end
    c.running[instance] = list
  end
  return list
end

local function set_running(c, instance, list)
  c.running[instance] = list
  c.rerun[instance] = true
end

local function flush_running(c)
  for instance in pairs(c.rerun) do
    local list = c.running[instance]
    if #list > 0 then
      call('HSET', c.p .. 'x', instance, concat(ids(list), ','))
    else
      call('HDEL', c.p .. 'x', instance)
    end
  end
  c.rerun = {}
end

local function flush_lines(c)
  for queue, line in pairs(c.lines) do
    for letter, number in pairs(line.changed) do
      change(c, letter .. queue, id(number))
    end
  end
end

-- How many of the tasks that the run waits for are neither done nor failed nor skipped.
local function unsettled(c)
  local n = call('HINCRBY', c.p .. 'm', 'unsettled', id(c.settled))
  c.settled = 0
  return n
end

-- One task more, or one less, is settled. sink: 1 when its value was asked for, else 0.
local function count_settled(c, difference, sink)
  c.settled = c.settled + (c.waits_for_all and difference or difference * sink)
end

-- The name of a key of which each kind has its own.
local function of_kind(name, kind)
  return kind == '' and name or name .. ':' .. kind
end

local function kinds_of(c)
  return c.kinds and cmsgpack.unpack(c.kinds) or NO_KINDS
end

local function push_need(c)
  if call('EXISTS', c.p .. 'need') == 0 then
    call('RPUSH', c.p .. 'need', '')
    expire(c, 'need')
  end
end

-- Whoever starts instances is told of members that were asked for and are not staffed yet.
local function flush_need(c)
  for kind in pairs(c.asked or NO_KINDS) do
    if call('EXISTS', c.p .. of_kind('inv', kind)) == 1 then
      return push_need(c)
    end
  end
end

local function close(c)
  flush_states(c)
  flush_running(c)
  flush_lines(c)
  if c.settled ~= 0 then
    unsettled(c)
  end
  if #c.m > 0 then
    in_portions('HSET', c.p .. 'm', c.m)
  end
  if #c.events > 0 then
    call('XADD', c.p .. 'ev', 'MAXLEN', '~', EVENTS_KEPT, '*', 'at', c.at, 'e', concat(c.events, '\n'))
  end
  if c.asked then
    flush_need(c)
  end
end

---- records, results, blobs ------------------------------------------------------------------------------------------

-- A record is an array of seven: byte 0 is its head, the elements follow one by one.
-- Returns: packed, where its edges begin, queue, priority, sink, retries, upstream.
local function record_of(c, task)
  local packed = call('HGET', c.p .. 'n', id(task))
  local at, queue, priority, sink, retries, upstream = unpack_limit(packed, 5, 1)
  return packed, at, id(queue), priority, sink, retries, upstream
end

-- Six numbers an edge: child, its bit for this edge, its first bit, how many bits, its queue, its priority.
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

-- The hash `r` holds addresses (token:n_bytes:n_chunks, no colon in a token) with a letter before: the hash where a
-- small value lies, z for sinks.
local function is_gone(c, task)
  if state_of(c, task) ~= DONE then
    return true
  end
  local hash, token, n_chunks = match(call('HGET', c.p .. 'r', id(task)), '^(.)([^:]*):%d+:(%d+)$')
  return not has_blob(c, task, hash, token, n_chunks)
end

-- Delete the bytes of an attempt that lost or came late.
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

---- content: shared by runs, there as long as one of them uses it ----------------------------------------------------

-- Where content lies, and who uses it: a sorted set of runs, by the moment until which each surely does.
local function content_keys(namespace, hash)
  return namespace .. ':p:' .. hash, namespace .. ':u:' .. hash
end

-- Namespace and run that the prefix of a run's keys names.
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
  local until_at = text(c.now + tonumber(ttl_of(c)) / 1000)
  for _, hash in ipairs(call('SMEMBERS', c.p .. 'use')) do
    local key, users = content_keys(namespace, hash)
    call('ZADD', users, 'XX', 'GT', until_at, run)
    call('PEXPIRE', users, ttl_of(c), 'GT')
    call('PEXPIRE', key, ttl_of(c), 'GT')
  end
end

-- The run uses no content any more; what no other run uses either is unlinked. Returns how many contents that were.
local function leave_contents(p, at)
  local namespace, run = names_of(p)
  local unused = {}
  for _, hash in ipairs(call('SMEMBERS', p .. 'use')) do
    local key, users = content_keys(namespace, hash)
    call('ZREM', users, run)
    call('ZREMRANGEBYSCORE', users, '-inf', at)
    if call('EXISTS', users) == 0 then
      unused[#unused + 1] = key
    end
  end
  return count_keys('UNLINK', unused)
end

---- who staffs which worker ------------------------------------------------------------------------------------------

-- Letters: i invoked members, a active members, h highest member.
local function line_of(c, queue)
  local line = c.lines[queue]
  if not line then
    local f = call('HMGET', c.p .. 'm', 'q' .. queue, 'c' .. queue, 'i' .. queue, 'a' .. queue, 'h' .. queue)
    line = { name = f[1], cap = tonumber(f[2]), kind = '', changed = {} }
    line.i, line.a, line.h = tonumber(f[3] or 0), tonumber(f[4] or 0), tonumber(f[5] or 0)
    if c.kinds then
      line.kind = call('HGET', c.p .. 'm', 'k' .. queue) or ''
    end
    c.lines[queue] = line
  end
  return line
end

local function count(line, letter, difference)
  line[letter] = line[letter] + difference
  line.changed[letter] = line[letter]
end

local function is_pool(name)
  return sub(name, 1, 1) == '~'
end

local function worker_name(line, number)
  return is_pool(line.name) and line.name .. '/' .. number or line.name
end

local function split_member(member)
  return match(member, '^(%d+)/(%d+)$')
end

local function held_of(c, instance)
  local held = c.held[instance]
  if held == nil then
    local value = call('HGET', c.p .. 'h', instance)
    held = false
    if value then
      local queue, number, name = match(value, '^(%d+)/(%d+) (.*)$')
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
local function trim_hints(c, invoked, hints)
  local n = call('ZCARD', invoked)
  if n == 0 then
    call('DEL', hints)
  else
    call('LTRIM', hints, '0', id(n - 1))
  end
end

local function kind_of(c, instance)
  return c.kinds and call('HGET', c.p .. 'k', instance) or ''
end

-- member: one of the instance's kind, or nil for the most urgent of them.
local function adopt(c, instance, member)
  local kind = kind_of(c, instance)
  local invoked = c.p .. of_kind('inv', kind)
  member = member or call('ZRANGE', invoked, '0', '0')[1]
  if not member then
    return false
  end
  local queue, number = split_member(member)
  local line = line_of(c, queue)
  call('ZREM', invoked, member)
  trim_hints(c, invoked, c.p .. of_kind('spawn', kind))
  count(line, 'i', -1)
  count(line, 'a', 1)
  local held = { queue = queue, number = number, name = worker_name(line, number) }
  call('HSET', c.p .. 'h', instance, member .. ' ' .. held.name)
  c.held[instance] = held
  event(c, 'worker', -1, held.name)
  return held
end

local function release(c, instance)
  local held = held_of(c, instance)
  if not held then
    return
  end
  call('HDEL', c.p .. 'h', instance)
  call('HDEL', c.p .. 'w', held.queue .. '/' .. held.number)
  count(line_of(c, held.queue), 'a', -1)
  call('ZADD', c.p .. 'f:' .. held.queue, held.number, held.number)
  expire(c, 'f:' .. held.queue)
  c.held[instance] = false
end

---- ready tasks ------------------------------------------------------------------------------------------------------

local function pushes_of(c, queue)
  local pushes = c.pushes[queue]
  if not pushes then
    pushes = {}
    c.pushes[queue] = pushes
  end
  c.touched[queue] = true
  return pushes
end

local function ready(c, task, queue, priority)
  if not queue then
    queue, priority = queue_of(c, task)
  end
  set_state(c, task, READY)
  c.born[#c.born + 1] = task
  local pushes = pushes_of(c, queue)
  local n = #pushes
  pushes[n + 1], pushes[n + 2] = id(priority), id(task)
end

local function flush_pushes(c, queue)
  local pushes = c.pushes[queue]
  if pushes and #pushes > 0 then
    in_portions('ZADD', c.p .. 'q:' .. queue, pushes)
    expire(c, 'q:' .. queue)
    c.pushes[queue] = nil
  end
end

local function withdraw(c, task, queue)
  flush_pushes(c, queue)
  call('ZREM', c.p .. 'q:' .. queue, id(task))
  for i = 1, #c.made, 3 do
    if c.made[i] == task then
      c.made[i + 1] = -1
    end
  end
end

-- Take a task out of its queue, or out of what is still to be queued.
local function unqueue(c, queue, task)
  local pushes = c.pushes[queue]
  if pushes and #pushes > FEW then
    flush_pushes(c, queue)
    pushes = nil
  end
  for i = 2, pushes and #pushes or 0, 2 do
    if pushes[i] == id(task) then
      remove(pushes, i)
      remove(pushes, i - 1)
      return
    end
  end
  call('ZREM', c.p .. 'q:' .. queue, id(task))
end

-- As a sorted set has it: priority, then text.
local function is_before(made, i, j)
  if made[i + 2] ~= made[j + 2] then
    return made[i + 2] < made[j + 2]
  end
  return id(made[i]) < id(made[j])
end

-- Tasks that commits of this step made ready, the most urgent first: in a pool they are taken first.
local function take_made(c, queue, want)
  local made, best, taken, number, worst = c.made, {}, {}, tonumber(queue), math.huge
  for i = 1, #made, 3 do
    if made[i + 2] <= worst and made[i + 1] == number and (#best < want or is_before(made, i, best[want])) then
      local at = #best + 1
      while at > 1 and is_before(made, i, best[at - 1]) do
        at = at - 1
      end
      insert(best, at, i)
      best[want + 1] = nil
      worst = best[want] and made[best[want] + 2] or worst
    end
  end
  for n, i in ipairs(best) do
    unqueue(c, queue, made[i])
    taken[n] = made[i]
  end
  return taken
end

local function take(c, held, want)
  local taken = #c.made > 0 and is_pool(held.name) and take_made(c, held.queue, want) or {}
  if #taken < want then
    flush_pushes(c, held.queue)
    local popped = call('ZPOPMIN', c.p .. 'q:' .. held.queue, id(want - #taken))
    for i = 1, #popped, 2 do
      taken[#taken + 1] = tonumber(popped[i])
    end
  end
  return taken
end

local function free_member(c, queue, line)
  local popped = call('ZPOPMIN', c.p .. 'f:' .. queue)
  if popped[1] then
    return popped[1]
  end
  count(line, 'h', 1)
  return id(line.h)
end

local function next_nonce(c)
  c.serial = (c.serial or tonumber(call('HGET', c.p .. 'm', 'serial'))) + 1
  return c.fresh .. ':' .. id(c.serial)
end

-- hints: kind -> names of those who were asked for
local function ask(c, queue, n_ready, hints)
  local line, urgency = line_of(c, queue), nil
  while n_ready > line.i and line.i + line.a < line.cap do
    urgency = urgency or call('ZRANGE', c.p .. 'q:' .. queue, '0', '0', 'WITHSCORES')[2]
    local number = free_member(c, queue, line)
    local member = queue .. '/' .. number
    call('ZADD', c.p .. of_kind('inv', line.kind), urgency, member)
    call('HSET', c.p .. 'w', member, next_nonce(c))
    count(line, 'i', 1)
    local list = hints[line.kind] or {}
    list[#list + 1] = worker_name(line, number)
    hints[line.kind] = list
  end
end

local function push_hints(c, hints)
  for kind, list in pairs(hints) do
    local name = of_kind('spawn', kind)
    in_portions('RPUSH', c.p .. name, list)
    expire(c, name)
  end
end

local function note_asked(c, hints)
  for kind in pairs(hints) do
    expire(c, of_kind('inv', kind))
    if kind ~= '' then
      c.asked = c.asked or {}
      c.asked[kind] = true
    end
  end
end

local function by_number(queue, other)
  return tonumber(queue) < tonumber(other)
end

local function touched_queues(c)
  local queues = {}
  for queue in pairs(c.touched) do
    queues[#queues + 1] = queue
  end
  if #queues > 1 then
    sort(queues, by_number)
  end
  return queues
end

-- Ask for a member for each ready task that no asked-for member will take, within the cap.
local function route(c)
  if not next(c.touched) then
    return
  end
  local hints = {}
  for _, queue in ipairs(touched_queues(c)) do
    flush_pushes(c, queue)
    local n_ready = call('ZCARD', c.p .. 'q:' .. queue)
    if n_ready > 0 then
      ask(c, queue, n_ready, hints)
    end
  end
  c.touched = {}
  if next(hints) then
    change(c, 'serial', id(c.serial))
    note_asked(c, hints)
    push_hints(c, hints)
  end
end

local function promote(c)
  local due = call('ZRANGEBYSCORE', c.p .. 'd', '-inf', c.at)
  for i = 1, #due do
    call('ZREM', c.p .. 'd', due[i])
    ready(c, tonumber(due[i]))
  end
end

---- the end of a run -------------------------------------------------------------------------------------------------

local function last_queue(c)
  return tonumber(call('HGET', c.p .. 'm', 'n_queues') or 0) - 1
end

-- Names of the keys that are there only when there are kinds.
local function kind_names(c)
  local names = c.kinds and { 'k', 'need' } or {}
  for _, kind in ipairs(kinds_of(c)) do
    names[#names + 1] = of_kind('inv', kind)
    names[#names + 1] = of_kind('spawn', kind)
  end
  return names
end

local function touch(c)
  for _, name in ipairs(NAMES) do
    expire(c, name)
  end
  for _, name in ipairs(kind_names(c)) do
    expire(c, name)
  end
  for queue = 0, last_queue(c) do
    expire(c, 'q:' .. queue)
    expire(c, 'f:' .. queue)
  end
  for _, key in ipairs(large_keys(c, 'bigz', large_keys(c, 'big', {}))) do
    call('PEXPIRE', key, ttl_of(c))
  end
  renew_contents(c)
  change(c, 'touched_at', c.at)
end

-- Members that are asked for, of all kinds.
local function invoked_of(c)
  local list = call('ZRANGE', c.p .. 'inv', '0', '-1')
  for _, kind in ipairs(kinds_of(c)) do
    for _, member in ipairs(call('ZRANGE', c.p .. of_kind('inv', kind), '0', '-1')) do
      list[#list + 1] = member
    end
  end
  return list
end

local function clear_roster(c)
  local asked = invoked_of(c)
  for _, member in ipairs(asked) do
    local line = line_of(c, (split_member(member)))
    count(line, 'i', -line.i)
  end
  in_portions('HDEL', c.p .. 'w', asked)
  local keys = { c.p .. 'inv', c.p .. 'd', c.p .. 'x', c.p .. 'spawn' }
  for _, name in ipairs(kind_names(c)) do
    keys[#keys + 1] = c.p .. name
  end
  for queue = 0, last_queue(c) do
    keys[#keys + 1] = c.p .. 'q:' .. queue
  end
  count_keys('UNLINK', keys)
  c.pushes, c.touched, c.running, c.rerun, c.asked = {}, {}, {}, {}, false
end

local function purge_intermediates(c)
  local keys = large_keys(c, 'big', {})
  keys[#keys + 1] = c.p .. 'v'
  keys[#keys + 1] = c.p .. 'big'
  count_keys('UNLINK', keys)
end

-- A hint to leave for each instance, where it looks: kind -> hints.
local function stops_of(c)
  local hints = {}
  for _, instance in ipairs(call('ZRANGE', c.p .. 'l', '0', '-1')) do
    local kind = kind_of(c, instance)
    hints[kind] = hints[kind] or {}
    insert(hints[kind], 'stop')
  end
  return hints
end

local function finish(c, state, reason)
  c.state = state
  flush_states(c)
  call('SET', c.p .. 's', (string.gsub(call('GET', c.p .. 's'), '[WRXB]', 'C')), 'KEEPTTL')
  c.states, c.all = {}, false
  call('HSET', c.p .. 'm', 'state', state, 'reason', reason, 'finished_at', c.at)
  local stops = stops_of(c)
  clear_roster(c)
  push_hints(c, stops)
  if #kinds_of(c) > 0 then
    push_need(c)
  end
  event(c, 'end', -1, state)
  purge_intermediates(c)
  touch(c)
  call('PUBLISH', c.p .. 'end', state)
end

-- Somebody works for the run, or says that workers were launched.
local function take_part(c)
  if c.start_by then
    c.start_by = nil
    call('HDEL', c.p .. 'm', 'start_by')
  end
end

local function is_over(c)
  if c.state == 'running' and c.start_by and c.now >= c.start_by then
    finish(c, 'cancelled', NEVER_STARTED)
  end
  if c.state == 'running' and c.deadline_at and c.now >= c.deadline_at then
    finish(c, 'deadline', 'the deadline passed')
  end
  return c.state ~= 'running'
end

---- results come and go ----------------------------------------------------------------------------------------------

-- Set or clear the bits of edges. A child with one input needs no bit: the edge is all.
local function mark(c, edges, bit)
  local list = {}
  for i = 2, #edges, 6 do
    if edges[i + 2] > 1 then
      local n = #list
      list[n + 1], list[n + 2], list[n + 3], list[n + 4] = 'SET', 'u1', id(edges[i]), bit
    end
  end
  if #list == 4 then
    call('SETBIT', c.p .. 'e', list[3], bit)
  elseif #list > 0 then
    in_portions('BITFIELD', c.p .. 'e', list)
  end
end

local function is_full(c, start, n_bits)
  return call('BITCOUNT', c.p .. 'e', id(start), id(start + n_bits - 1), 'BIT') == n_bits
end

-- Put what commits made ready since the last time among what is to be queued.
local function push_made(c, n_made)
  local made, queue, pushes, n = c.made, nil, nil, 0
  for i = c.n_pushed + 1, n_made, 3 do
    if made[i + 1] ~= queue then
      queue = made[i + 1]
      pushes = pushes_of(c, id(queue))
      n = #pushes
    end
    pushes[n + 1], pushes[n + 2] = id(made[i + 2]), id(made[i])
    n = n + 2
  end
  c.n_pushed = n_made
end

-- As `ready` for every child whose inputs are all there, without its calls and lengths: there may be thousands.
local function ready_children(c, edges)
  local n = #edges
  if n > WHOLE * 6 then
    read_all(c)
  end
  local states, all, dirty, born, made = c.states, c.all, c.dirty, c.born, c.made
  local n_dirty, n_born, n_made = #dirty, #born, #made
  for i = 1, n, 6 do
    local child, n_bits = edges[i], edges[i + 3]
    local state = states[child] or all and sub(all, child + 1, child + 1) or state_of(c, child)
    if state == WAITING and (n_bits <= 1 or is_full(c, edges[i + 2], n_bits)) then
      states[child] = READY
      n_dirty, n_born, n_made = n_dirty + 1, n_born + 1, n_made + 3
      dirty[n_dirty], born[n_born] = child, child
      made[n_made - 2], made[n_made - 1], made[n_made] = child, edges[i + 4], edges[i + 5]
    end
  end
  push_made(c, n_made)
end

-- The instance that runs a task: likely this one.
local function owner_of(c, task, likely)
  if contains(running_of(c, likely), task) then
    return likely
  end
  for _, instance in ipairs(call('HKEYS', c.p .. 'x')) do
    if contains(running_of(c, instance), task) then
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

local function keep_blob(c, commit, hash)
  if commit.blob then
    call('HSET', c.p .. hash, id(commit.task) .. ':' .. commit.token, commit.blob)
  elseif commit.n_chunks ~= '0' then
    local name = hash == 'z' and 'bigz' or 'big'
    call('SADD', c.p .. name, id(commit.task) .. ':' .. commit.token .. ':' .. commit.n_chunks)
    expire(c, name)
  end
end

local function leave_state(c, instance, task, state, queue)
  if state == RUNNING then
    return leave_running(c, task, owner_of(c, task, instance))
  elseif state == READY then
    withdraw(c, task, queue)
  elseif state == RETRYING then
    call('ZREM', c.p .. 'd', id(task))
  end
  return ''
end

-- False: the bytes of the result are not in the store. commit.blob: those that came along, or false.
local function commit_one(c, instance, commit)
  local task = commit.task
  local state = state_of(c, task)
  if not OPEN[state] then
    discard(c, task, commit.address, commit.token, commit.n_chunks)
    return true
  end
  local packed, at, queue, _, sink = record_of(c, task)
  local hash = sink == 1 and 'z' or 'v'
  if not commit.blob and not has_blob(c, task, hash, commit.token, commit.n_chunks) then
    return false
  end
  keep_blob(c, commit, hash)
  local worker = leave_state(c, instance, task, state, queue)
  set_state(c, task, DONE)
  call('HSET', c.p .. 'r', id(task), hash .. commit.address)
  event(c, 'done', task, worker)
  local edges = edges_of(packed, at)
  mark(c, edges, '1')
  ready_children(c, edges)
  count_settled(c, -1, sink)
  return true
end

-- Only a run that goes on after failures skips tasks, and it counts all of them.
local function skip(c, task)
  set_state(c, task, SKIPPED)
  c.settled = c.settled - 1
  event(c, 'skip', task, '')
end

-- Everything that would need a failed task is skipped.
local function skip_below(c, task)
  local stack = { task }
  while #stack > 0 do
    local edges = edges_of(record_of(c, remove(stack)))
    if #edges > WHOLE * 6 then
      read_all(c)
    end
    for i = 1, #edges, 6 do
      local child = edges[i]
      if state_of(c, child) == WAITING then
        skip(c, child)
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
  local _, _, queue, priority, _, _, upstream = record_of(c, task)
  if #upstream > WHOLE then
    read_all(c)
  end
  local n_done = 0
  for _, up in ipairs(upstream) do
    local state = state_of(c, up)
    if state == FAILED or state == SKIPPED then
      skip(c, task)
      return skip_below(c, task)
    end
    n_done = n_done + (state == DONE and 1 or 0)
  end
  if n_done == #upstream then
    ready(c, task, queue, priority)
  end
end

-- One task whose bytes are gone waits again; inputs of it that are gone too go on the stack.
local function uncomplete_one(c, task, stack)
  local packed, at, _, _, sink, _, upstream = record_of(c, task)
  set_state(c, task, WAITING)
  call('HDEL', c.p .. 'r', id(task))
  count_settled(c, 1, sink)
  mark(c, edges_of(packed, at), '0')
  event(c, 'lost', task, '')
  for _, up in ipairs(upstream) do
    if state_of(c, up) == DONE and is_gone(c, up) then
      stack[#stack + 1] = up
    end
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
    local task = remove(stack)
    if state_of(c, task) == DONE then
      uncomplete_one(c, task, stack)
      undone[#undone + 1] = task
    end
  end
  for _, task in ipairs(undone) do
    ready_or_skip(c, task)
  end
end

local function sinks_of(c)
  return cmsgpack.unpack(call('HGET', c.p .. 'm', 'sinks'))
end

-- All that the run waits for is settled: it is over, unless the bytes of a sink have gone.
local function finish_if_sound(c)
  local sinks, gone = sinks_of(c), {}
  read_all(c)
  for _, sink in ipairs(sinks) do
    local state = state_of(c, sink)
    if state == FAILED or state == SKIPPED then
      return finish(c, 'failed', 'a task failed')
    end
  end
  for _, sink in ipairs(sinks) do
    if is_gone(c, sink) then
      gone[#gone + 1] = sink
    end
  end
  if #gone == 0 then
    return finish(c, 'ok', '')
  end
  uncomplete(c, gone)
  if unsettled(c) == 0 then -- all of them were skipped
    finish(c, 'failed', 'a task failed')
  end
end

local function finish_if_settled(c)
  if c.settled ~= 0 and unsettled(c) == 0 then
    finish_if_sound(c)
  end
end

---- attempts that ended badly ----------------------------------------------------------------------------------------

local function spent_of(c, task)
  local value = call('HGET', c.p .. 'a', id(task))
  local exceptions, crashes, losses = match(value or '0,0,0', '^(%d+),(%d+),(%d+)$')
  return { exception = tonumber(exceptions), crash = tonumber(crashes), loss = tonumber(losses) }
end

local function attempt_of(spent)
  return 1 + spent.exception + spent.crash + spent.loss
end

local function fail_for_good(c, task, sink, worker)
  set_state(c, task, FAILED)
  count_settled(c, -1, sink)
  event(c, 'fail', task, worker)
  if not c.waits_for_all then
    return finish(c, 'failed', 'a task failed')
  end
  skip_below(c, task)
  finish_if_settled(c)
end

-- Returns whether the budget lasts.
local function note_failure(c, task, kind, problem, retries)
  local spent = spent_of(c, task)
  call('HSET', c.p .. 'err', id(task) .. ':' .. id(attempt_of(spent)), problem)
  spent[kind] = spent[kind] + 1
  call('HSET', c.p .. 'a', id(task), spent.exception .. ',' .. spent.crash .. ',' .. spent.loss)
  expire(c, 'err')
  expire(c, 'a')
  local budget = kind == 'exception' and retries or tonumber(call('HGET', c.p .. 'm', kind .. '_budget'))
  return spent[kind] <= budget
end

-- delay: seconds as text, '' for no more tries.
local function charge(c, task, kind, problem, delay, worker)
  if c.state ~= 'running' then
    return
  end
  local _, _, queue, priority, sink, retries = record_of(c, task)
  if not note_failure(c, task, kind, problem, retries) or delay == '' then
    return fail_for_good(c, task, sink, worker)
  end
  event(c, 'retry', task, worker)
  if tonumber(delay) > 0 then
    set_state(c, task, RETRYING)
    call('ZADD', c.p .. 'd', text(c.now + tonumber(delay)), id(task))
    expire(c, 'd')
  else
    ready(c, task, queue, priority)
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
  call('ZREM', c.p .. 'l', instance)
  if c.kinds then
    call('HDEL', c.p .. 'k', instance)
  end
  return tasks
end

local function reap(c)
  local expired = call('ZRANGEBYSCORE', c.p .. 'l', '-inf', '(' .. c.at)
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
    local hash, token, n_chunks = match(inputs[i + 1], '^(.)([^:]*):%d+:(%d+)$')
    local blob = n_chunks == '0' and call('HGET', c.p .. hash, id(inputs[i]) .. ':' .. token)
    n_bytes = n_bytes + (blob and #blob or 0)
    inputs[i + 2] = n_bytes <= INLINE_BYTES and blob
  end
end

local function inputs_of(c, upstream)
  local inputs, results = {}, fetch_fields(c.p .. 'r', ids(upstream))
  for i = 1, #upstream do
    if results[i] then
      local n = #inputs
      inputs[n + 1], inputs[n + 2], inputs[n + 3] = upstream[i], results[i], false
    end
  end
  if #upstream <= INLINE_INPUTS then
    add_blobs(c, inputs)
  end
  return inputs
end

-- Eight bytes: the moment a task became ready. One made ready in this very step has it in the context, not yet in `y`.
local function since(c, task)
  if #c.born > FEW then
    flush_born(c)
  elseif contains(c.born, task) then
    return pack('>d', c.now)
  end
  return call('GETRANGE', c.p .. 'y', id(task * 8), id(task * 8 + 7))
end

local function attempt_now(c, task)
  return call('HEXISTS', c.p .. 'a', id(task)) == 0 and 1 or attempt_of(spent_of(c, task))
end

local function offer(c, task, slim)
  local packed, _, _, _, _, _, upstream = record_of(c, task)
  return { task, attempt_now(c, task), since(c, task), not slim and packed, inputs_of(c, upstream) }
end

local function answer(c, status, worker, missing, offers)
  return { status, worker or '', c.at, missing or {}, offers or {} }
end

-- New tasks; a worker without any is left in the same step, and another one adopted.
local function take_work(c, instance, want)
  local held, tasks
  repeat
    held = held_of(c, instance) or adopt(c, instance)
    if not held then
      return {}
    end
    tasks = take(c, held, want)
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
local function next_work(c, instance, want, slim)
  if c.state ~= 'running' then
    return answer(c, 'stop')
  end
  if not call('ZRANK', c.p .. 'l', instance) then
    route(c)
    return answer(c, 'fenced')
  end
  local tasks = running_of(c, instance)
  if #tasks == 0 then
    tasks = take_work(c, instance, tonumber(want))
    if #tasks == 0 and next(c.touched) then -- what this step made ready on other queues
      route(c)
      tasks = take_work(c, instance, tonumber(want))
    end
  end
  route(c)
  if #tasks == 0 then
    return answer(c, 'idle')
  end
  local offers = {}
  for i, task in ipairs(tasks) do
    offers[i] = offer(c, task, slim == '1')
  end
  return answer(c, 'tasks', worker_of(c, instance), {}, offers)
end

local function add_spans(c, spans)
  if spans == '' then
    return
  end
  if c.again and contains(call('LRANGE', c.p .. 'sp', '-256', '-1'), spans) then
    return
  end
  if call('RPUSH', c.p .. 'sp', spans) == 1 then
    expire(c, 'sp')
  end
end

local function add_log(c, task, log)
  if log ~= '' then
    call('HSET', c.p .. 'log', task, log)
    expire(c, 'log')
  end
end

---- functions: content -----------------------------------------------------------------------------------------------

-- ttl_ms, hashes...: from now on the run uses these contents. Returns the places in the list, from 0 on, of those that
-- are not there as a whole.
local function use(keys, args)
  local p, at, ttl_ms = keys[1], moment(args[1]), args[4]
  local namespace, run = names_of(p)
  local until_at, list, missing = text(tonumber(at) + tonumber(ttl_ms) / 1000), {}, {}
  for i = 5, #args do
    local key, users = content_keys(namespace, args[i])
    call('ZADD', users, 'GT', until_at, run)
    call('ZREMRANGEBYSCORE', users, '-inf', at)
    lengthen(users, ttl_ms)
    lengthen(key, ttl_ms)
    if call('HEXISTS', key, 'n') == 0 then
      missing[#missing + 1] = i - 5
    end
    list[#list + 1] = args[i]
  end
  in_portions('SADD', p .. 'use', list)
  lengthen(p .. 'use', ttl_ms)
  return missing
end

-- ttl_ms, then four a piece: hash, number of the piece from 0 on, bytes of the whole if it is the last one, else '',
-- and its bytes. Returns 0 when the run does not use the content: it was forgotten meanwhile.
local function bring(keys, args)
  local namespace, run = names_of(keys[1])
  for i = 5, #args, 4 do
    local key, users = content_keys(namespace, args[i])
    if not call('ZSCORE', users, run) then
      return 0
    end
    call('HSET', key, args[i + 1], args[i + 3])
    -- A server that may evict could have dropped pieces before: then it is not whole.
    if args[i + 2] ~= '' and call('HLEN', key) == tonumber(args[i + 1]) + 1 then
      call('HSET', key, 'n', args[i + 2])
    end
    lengthen(key, args[4])
  end
  return 1
end

-- KEYS[1]: what the keys of content begin with. hashes...: the bytes of each as long as they are few, of the others how
-- many they are, and false for what is not there.
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

---- functions: a run comes in ----------------------------------------------------------------------------------------

local function no_run()
  return redis.error_reply('NORUN no such run')
end

-- ttl_ms, first position, records...: they come before the run; without `submit` they expire.
local function put_records(keys, args)
  if call('EXISTS', keys[1] .. 'm') == 1 then
    return 0
  end
  local list, first = {}, tonumber(args[5])
  for i = 6, #args do
    list[#list + 1] = id(first + i - 6)
    list[#list + 1] = args[i]
  end
  in_portions('HSET', keys[1] .. 'n', list)
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
    'state', 'running', 'unsettled', n_awaited, 'serial', 0, 'ttl_ms', s.ttl_ms, 'n_queues', #s.queues,
    'submitted_at', at, 'touched_at', at, 'finished_at', '0', 'reason', '', 'n_tasks', s.n_tasks,
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

-- packed: MessagePack map of the submission. Returns the moment it was submitted.
local function submit(keys, args)
  local p = keys[1]
  local known = call('HGET', p .. 'm', 'submitted_at')
  if known then
    return known
  end
  local s = cmsgpack.unpack(args[4])
  if call('HLEN', p .. 'n') ~= s.n_tasks then
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

-- The member of this kind that was asked for under this name and nonce.
local function invoked_as(c, name, nonce, kind)
  local asked = call('ZRANGE', c.p .. of_kind('inv', kind), '0', '-1')
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

-- The instance is of this kind until its lease is gone.
local function note_kind(c, instance, kind)
  if not c.kinds then
    c.kinds = cmsgpack.pack({})
    change(c, 'kinds', c.kinds)
  end
  call('HSET', c.p .. 'k', instance, kind)
  expire(c, 'k')
end

-- instance, want, slim, lease_s, worker name or '', its nonce, kind
local function register(c, args, over)
  local instance, kind = args[4], args[10]
  if over then
    return answer(c, 'stop')
  end
  take_part(c)
  if (c.kinds or kind ~= '') and call('ZRANK', c.p .. 'l', instance) then
    kind = kind_of(c, instance)
  end
  local member
  if args[8] ~= '' and not held_of(c, instance) then
    member = invoked_as(c, args[8], args[9], kind)
    if not member then
      return answer(c, 'refused')
    end
  end
  if kind ~= '' then
    note_kind(c, instance, kind)
  end
  if member then
    adopt(c, instance, member)
  end
  call('ZADD', c.p .. 'l', text(c.now + tonumber(args[7])), instance)
  expire(c, 'l')
  promote(c)
  return next_work(c, instance, args[5], args[6])
end

local function commit_of(args, i)
  return {
    task = tonumber(args[i]), address = args[i + 1], token = args[i + 2], n_chunks = args[i + 3],
    blob = args[i + 4] == '1' and args[i + 5],
  }
end

local function commit_all(c, args, over)
  local missing = {}
  for i = 8, #args, 7 do
    local commit = commit_of(args, i)
    add_log(c, args[i], args[i + 6])
    if over then
      discard(c, commit.task, commit.address, commit.token, commit.n_chunks)
    elseif not commit_one(c, args[4], commit) then
      missing[#missing + 1] = commit.task
    end
  end
  return missing
end

-- instance, want, slim, spans, then seven a commit: task, address, its token and number of chunks, '1' if the bytes
-- follow, bytes, log
local function complete(c, args, over)
  local instance = args[4]
  add_spans(c, args[7])
  local missing = commit_all(c, args, over)
  if over then
    return answer(c, 'stop')
  end
  finish_if_settled(c)
  if #missing > 0 then
    route(c)
    return answer(c, 'noblob', worker_of(c, instance), missing)
  end
  promote(c)
  return next_work(c, instance, args[5], args[6])
end

-- instance, want, slim, spans, task, attempt, error, delay or '', log
local function fail(c, args, over)
  local instance, task = args[4], tonumber(args[8])
  add_spans(c, args[7])
  add_log(c, args[8], args[12])
  if over then
    return answer(c, 'stop')
  end
  if contains(running_of(c, instance), task) and tonumber(args[9]) == attempt_now(c, task) then
    leave_running(c, task, instance)
    charge(c, task, 'exception', args[10], args[11], worker_of(c, instance))
  end
  promote(c)
  return next_work(c, instance, args[5], args[6])
end

local function gone_inputs(c, task, args, first)
  local _, _, _, _, _, _, upstream = record_of(c, task)
  local gone = {}
  for i = first, #args do
    local up = tonumber(args[i])
    if contains(upstream, up) and is_gone(c, up) then
      gone[#gone + 1] = up
    end
  end
  return gone
end

-- instance, want, slim, task, missing inputs...
local function lost(c, args, over)
  local instance, task = args[4], tonumber(args[7])
  if over then
    return answer(c, 'stop')
  end
  if contains(running_of(c, instance), task) then
    local gone = gone_inputs(c, task, args, 8)
    if #gone > 0 then
      leave_running(c, task, instance)
      set_state(c, task, WAITING)
      event(c, 'lost', task, worker_of(c, instance))
      uncomplete(c, gone)
      ready_or_skip(c, task)
      finish_if_settled(c)
    end
  end
  return next_work(c, instance, args[5], args[6])
end

-- task, '1' for a sink, token, bytes: a small result ahead of its commit
local function put(c, args, over)
  if over then
    return 0
  end
  call('HSET', c.p .. (args[5] == '1' and 'z' or 'v'), args[4] .. ':' .. args[6], args[7])
  return 1
end

---- functions: steps of supervisors, agents, clients -----------------------------------------------------------------

local function touch_if_old(c)
  local touched_at = tonumber(call('HGET', c.p .. 'm', 'touched_at'))
  if (c.now - touched_at) * 4000 <= tonumber(ttl_of(c)) then
    return 0
  end
  touch(c)
  return 1
end

-- lease_s, instances... Returns whether the times to live were renewed, then a status each.
local function heartbeat(c, args, over)
  local reply = { 0 }
  for i = 5, #args do
    local known = not over and call('ZRANK', c.p .. 'l', args[i])
    if known then
      call('ZADD', c.p .. 'l', text(c.now + tonumber(args[4])), args[i])
    end
    reply[#reply + 1] = over and 'stop' or known and 'tasks' or 'fenced'
  end
  if not over then
    take_part(c)
    reap(c)
    reply[1] = touch_if_old(c)
  end
  return reply
end

local function reap_step(c, _, over)
  return over and 0 or reap(c)
end

-- How many members are asked for: kind, number, ...
local function wanted_of(c)
  local list = {}
  for _, kind in ipairs({ '', unpack(kinds_of(c)) }) do
    local n = call('ZCARD', c.p .. of_kind('inv', kind))
    if n > 0 then
      list[#list + 1], list[#list + 2] = kind, n
    end
  end
  return list
end

-- Whoever has a lease: instance, its kind, its worker's name or '', ...
local function instances_of(c)
  local list = {}
  for _, instance in ipairs(call('ZRANGE', c.p .. 'l', '0', '-1')) do
    local n = #list
    list[n + 1], list[n + 2], list[n + 3] = instance, kind_of(c, instance), worker_of(c, instance)
  end
  return list
end

local function demand(c, _, over)
  if not over then
    take_part(c)
    reap(c)
  end
  if c.state ~= 'running' then
    return { c.state, c.at, {}, {} }
  end
  return { c.state, c.at, wanted_of(c), instances_of(c) }
end

-- instance, task, HELD for all that it was running, or '', charge, error, delay or ''
local function dead(c, args, over)
  local instance = args[4]
  if over or not call('ZRANK', c.p .. 'l', instance) then
    return 0
  end
  local worker = worker_of(c, instance)
  for _, task in ipairs(drop(c, instance)) do
    if c.state ~= 'running' then
      break
    end
    if args[5] == HELD or task == tonumber(args[5]) then
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
local function record(c, args, over)
  if not over then
    take_part(c)
  end
  add_spans(c, args[4])
  return 1
end

-- Unlinks every key it knows of, and the content that no other run uses; chunks that were never committed expire.
-- Returns how many keys there were.
local function forget(keys, args)
  local n_contents = leave_contents(keys[1], moment(args[1]))
  local c = { p = keys[1], kinds = call('HGET', keys[1] .. 'm', 'kinds') }
  local list = large_keys(c, 'bigz', large_keys(c, 'big', {}))
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
  return n_contents + count_keys('UNLINK', list)
end

---- functions: looking -----------------------------------------------------------------------------------------------

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
    list[#list + 1] = { worker_name(line_of(c, queue), number), 'invoked', '' }
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

-- The tasks of which an attempt failed in these entries of the story.
local function failing(events)
  local tasks, found = {}, false
  for _, entry in ipairs(events) do
    for kind, task in string.gmatch('\n' .. entry[2][4], '\n(%a+) (%d+)') do
      if kind == 'fail' or kind == 'retry' then
        tasks[task], found = true, true
      end
    end
  end
  return found and tasks
end

-- field, text, field, text of the errors of these tasks
local function errors_of(c, tasks)
  local all, list = tasks and call('HGETALL', c.p .. 'err') or {}, {}
  for i = 1, #all, 2 do
    if tasks[match(all[i], '^%d+')] then
      list[#list + 1], list[#list + 2] = all[i], all[i + 1]
    end
  end
  return list
end

-- cursor: the last event seen, or ''. With one, only newer events and errors, and no description, which never changes.
local function observe(keys, args)
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

---- registration -----------------------------------------------------------------------------------------------------

-- Control goes on when memory is short (allow-oom); what brings bytes is refused as a whole.
local function export(name, body, flag)
  local function callback(keys, args)
    if not call then
      bind()
    end
    return body(keys, args)
  end
  redis.register_function({ function_name = LIBRARY .. '_' .. name, callback = callback, flags = { flag } })
end

export('use', use, 'allow-oom')
export('bring', bring)
export('contents', contents, 'no-writes')
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
export('demand', step(demand), 'allow-oom')
export('cancel', step(cancel), 'allow-oom')
export('record', step(record), 'allow-oom')
export('forget', forget, 'allow-oom')
export('observe', observe, 'no-writes')
