#!lua name=dagnb
-- The library of server functions: the steps of dagnb.protocol.machine.Machine on the keys of
-- dagnb.storage.keys. The machine is the reference: a differential test compares every step. Each
-- exported function is one step: atomic, and repeating it changes nothing.
--
-- It is written in parts, which redis_link.py joins in this order and loads as one library:
--
--     context    constants, helpers, the context of a step
--     values     records of tasks, results and the keys of their bytes
--     contents   content shared by runs
--     roster     queues, members, instances         twin of protocol/roster.py
--     tasks      moves of tasks, the end of a run   twin of protocol/tasks.py
--     machine    the steps, by their verbs          twin of protocol/machine.py
--     runs       submit, observe, forget: a run as a whole
--     export     the functions that clients may call
--
-- KEYS[1]: prefix of the run's keys (one hash tag, one cluster slot; other keys derive from it).
-- ARGV[1]: moment of the step, '' for the server's own clock (tests give it).
-- ARGV[2]: `fresh`, unique to the call. ARGV[3]: '1' for a repetition after a lost reply.
-- ARGV[4] and on: named above each function.
--
-- A step reads what it needs, works on a context `c`, and writes what changed when it closes. Tasks
-- are numbers, queues and members are text. The slow part is not Redis but Lua: printing a number,
-- making a table, naming a global. So loops over edges are written for speed.

local LIBRARY = 'dagnb'

local EVENTS_KEPT = '20000'
local INLINE_INPUTS = 64
local INLINE_BYTES = 65536
-- Bytes of a value that stands with its address, at most. A task reads the addresses of all its
-- inputs in one step, thousands of them, so only values as short as an address do.
local TINY = 128
-- Arguments of one command. Lua unpacks about 8,000 at most. A multiple of 4, so that pairs and
-- fours stay whole.
local ARGS = 1000
local WHOLE = 8 -- with more tasks to look at than this, their states are read at once
local FEW = 32 -- a list up to this long is searched, not queued
local MEMO = 8192 -- positions whose text is kept between calls

local NO_KINDS = {}

local WAITING, READY, RUNNING, RETRYING = 'W', 'R', 'X', 'B'
local DONE, FAILED, SKIPPED = 'D', 'F', 'S'
local OPEN = { W = true, R = true, X = true, B = true }
local HELD = '-1' -- of a death: every task that the instance was running is charged
local NEVER_STARTED = 'it never started: its client ended before workers were launched'
local LEASE_LOST = '{"type": "LeaseLost", "message": "the worker was not heard of in time"}'

local NAMES = {
  'm', 's', 'e', 'n', 'r', 'a', 'y', 'd', 'inv', 'w', 'l', 'h', 'x', 'err', 'ev', 'sp', 'log',
  'v', 'z', 'big', 'bigz', 'spawn', 'use',
}
-- These hashes have a field '', so that they are never empty: Redis would delete an empty one, and
-- its time to live with it.
local KEPT = { 'h', 'x', 'w', 'r', 'v', 'z' }

---- small things ----------------------------------------------------------------------------------

-- While the library loads, only redis.register_function exists; the first call binds the rest.
-- Locals, because naming a global costs a look-up each time.
local call, sub, find, match, format, concat, sort, insert, remove, pack, unpack_one, unpack_limit

local function bind()
  call, sub, find, match, format = redis.call, string.sub, string.find, string.match, string.format
  concat, sort, insert, remove = table.concat, table.sort, table.insert, table.remove
  pack, unpack_one, unpack_limit = struct.pack, cmsgpack.unpack_one, cmsgpack.unpack_limit
end

-- A float with all its digits. Lua itself prints 14, which would move a moment by 50 microseconds.
local function text(number)
  return format('%.17g', number)
end

local TEXTS = {}

-- The text of a position, cached because printing a number is slow.
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

-- Most lists are sorted already, and checking that is faster than sorting.
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

-- Write into a string, `width` bytes per task; neighbours in one command.
-- bytes: task -> its bytes, or `all` for every task.
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

---- the context of a step -------------------------------------------------------------------------

local function moment(given)
  if given ~= '' then
    return given
  end
  local t = call('TIME')
  return t[1] .. '.' .. sub('000000' .. t[2], -6)
end

-- The context of a step:
--   at, now      the moment, as text and as number
--   states       task -> state, as far as known; `all`: all of them in one string, once read
--   dirty        tasks whose state is to be written
--   readied      tasks made ready in this step, whose moment is to be written
--   unqueued     tasks that run without having been ready, whose moment is to be cleared
--   made_ready   those made ready by commits, flat: task, queue, priority
--   pushes       queue -> what is to be queued, flat: priority, task
--   touched      queues that `route` must look at
--   settled      change of the number of unsettled tasks
--   m            fields of the hash `m` to be written, flat
--   waits_for_all  the run goes on after failures, so its end waits for all tasks, not just sinks
--   kinds        those of queues, packed; false while neither a queue nor an instance has one, so
--                that runs without kinds pay nothing for them
--   asked        kinds of which members were asked for
-- Returns nil for an unknown run.
local function open(prefix, args)
  local m = call('HMGET', prefix .. 'm', 'state', 'deadline_at', 'kinds', 'on_error', 'start_by')
  if not m[1] then
    return nil
  end
  local at = moment(args[1])
  return {
    p = prefix, fresh = args[2], again = args[3] == '1', at = at, now = tonumber(at), state = m[1],
    deadline_at = m[2] and tonumber(m[2]), start_by = m[5] and tonumber(m[5]), kinds = m[3],
    asked = false, settled = 0, n_pushed = 0, all = false, ttl = false, serial = false,
    states = {}, dirty = {}, readied = {}, unqueued = {}, made_ready = {}, pushes = {}, touched = {}, queues = {},
    running = {}, rerun = {}, held = {}, events = {}, m = {}, waits_for_all = m[4] == 'continue',
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

-- Neighbours of one kind and worker are one line, `done 7-9 ~/1`: a batch takes and commits many.
local function event(c, kind, task, worker)
  local last = c.last_event
  if last and last.task + 1 == task and last.kind == kind and last.worker == worker then
    last.task = task
    c.events[#c.events] = kind .. ' ' .. last.first .. '-' .. id(task) .. ' ' .. worker
    return
  end
  c.last_event = { kind = kind, task = task, worker = worker, first = id(task) }
  c.events[#c.events + 1] = kind .. ' ' .. id(task) .. ' ' .. worker
end

local function read_all(c)
  c.all = c.all or call('GET', c.p .. 's')
end

local function state_of(c, task)
  local state = c.states[task]
  if not state then
    state = c.all and sub(c.all, task + 1, task + 1)
      or call('GETRANGE', c.p .. 's', id(task), id(task))
    c.states[task] = state
  end
  return state
end

local function set_state(c, task, state)
  c.states[task] = state
  c.dirty[#c.dirty + 1] = task
end

local function flush_readied(c)
  if #c.readied > 0 then
    write_runs(c.p .. 'y', 8, c.readied, { all = pack('>d', c.now) })
    c.readied = {}
  end
  if #c.unqueued > 0 then
    write_runs(c.p .. 'y', 8, c.unqueued, { all = pack('>d', 0) })
    c.unqueued = {}
  end
end

local function flush_states(c)
  if #c.dirty > 0 then
    write_runs(c.p .. 's', 1, c.dirty, c.states)
    c.dirty = {}
  end
  flush_readied(c)
end

-- The running tasks of an instance. The list is shared: `set_running` replaces it, never edits it.
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

local function flush_queues(c)
  for queue, state in pairs(c.queues) do
    for letter, number in pairs(state.changed) do
      change(c, letter .. queue, id(number))
    end
  end
end

-- Write the change. Returns the number of tasks that the run still waits for.
local function unsettled(c)
  local n = call('HINCRBY', c.p .. 'm', 'unsettled', id(c.settled))
  c.settled = 0
  return n
end

-- Add one task to the settled ones, or remove it. sink: 1 when the run returns its value, else 0.
local function count_settled(c, difference, sink)
  c.settled = c.settled + (c.waits_for_all and difference or difference * sink)
end

-- The name of a key that exists once for each kind.
local function of_kind(name, kind)
  return kind == '' and name or name .. ':' .. kind
end

local function kinds_of(c)
  return c.kinds and cmsgpack.unpack(c.kinds) or NO_KINDS
end

-- One element is enough: whoever reads it calls `demand`, which returns everything.
local function push_need(c)
  if call('EXISTS', c.p .. 'need') == 0 then
    call('RPUSH', c.p .. 'need', '')
    expire(c, 'need')
  end
end

-- Wake the launcher when members were asked for in this step and are not staffed by its end.
local function flush_need(c)
  for kind in pairs(c.asked or NO_KINDS) do
    if call('EXISTS', c.p .. of_kind('inv', kind)) == 1 then
      return push_need(c)
    end
  end
end

-- Write what the step changed.
local function close(c)
  flush_states(c)
  flush_running(c)
  flush_queues(c)
  if c.settled ~= 0 then
    unsettled(c)
  end
  if #c.m > 0 then
    in_portions('HSET', c.p .. 'm', c.m)
  end
  if #c.events > 0 then
    call('XADD', c.p .. 'ev', 'MAXLEN', '~', EVENTS_KEPT, '*',
      'at', c.at, 'e', concat(c.events, '\n'))
  end
  if c.asked then
    flush_need(c)
  end
end
