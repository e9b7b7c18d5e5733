-- Part of the library dagnb: the steps. Twin of protocol/machine.py: same verbs, same order.

---- replies ---------------------------------------------------------------------------------------

-- Returns letter and address of a result, and its bytes if they are small.
local function small_input(c, task, result)
  local letter, address, token, n_chunks, blob = parts_of(result)
  if not blob and n_chunks == '0' then
    blob = call('HGET', c.p .. letter, id(task) .. ':' .. token)
  end
  return letter .. address, blob
end

-- Returns a flat list: task, letter and address, bytes or false. The bytes are those of small
-- inputs, up to INLINE_BYTES in all, unless there are many inputs.
local function inputs_of(c, upstream)
  local inputs, n_bytes, is_short = {}, 0, #upstream <= INLINE_INPUTS
  local results = results_of(c, upstream)
  for i = 1, #upstream do
    local place, blob = results[i], false
    if place then
      if is_short then
        place, blob = small_input(c, upstream[i], place)
        n_bytes = n_bytes + (blob and #blob or 0)
      else
        place = match(place, '^[^\n]*')
      end
      local n = #inputs
      inputs[n + 1], inputs[n + 2], inputs[n + 3] = upstream[i], place, n_bytes <= INLINE_BYTES and blob
    end
  end
  return inputs
end

-- The moment a task became ready, eight bytes. If this step made it ready, the moment is in the
-- context and not yet in `y`.
local function ready_moment(c, task)
  if #c.readied > FEW or #c.unqueued > 0 then
    flush_readied(c)
  elseif contains(c.readied, task) then
    return pack('>d', c.now)
  end
  return call('GETRANGE', c.p .. 'y', id(task * 8), id(task * 8 + 7))
end

local function offer(c, task, slim)
  local packed, _, _, _, _, _, upstream = record_of(c, task)
  local since, inputs = ready_moment(c, task), inputs_of(c, upstream)
  return { task, attempt_now(c, task), since, not slim and packed, inputs }
end

local function answer(c, status, worker, missing, offers)
  return { status, worker or '', c.at, missing or {}, offers or {} }
end

-- Take tasks of the queue. One that was charged before is taken alone: if its process dies again, no
-- other task is under suspicion.
local function taken(c, held, want)
  local tasks = take(c, held, want)
  if #tasks < 2 then
    return tasks
  end
  local charged, n_together = fetch_fields(c.p .. 'a', ids(tasks)), #tasks
  for i = 1, #tasks do
    if charged[i] then
      n_together = math.max(i - 1, 1)
      break
    end
  end
  for i = n_together + 1, #tasks do
    local queue, priority = queue_of(c, tasks[i])
    push(c, tasks[i], queue, priority)
    tasks[i] = nil
  end
  return tasks
end

-- Take new tasks. If the worker has none, leave it and adopt another one in the same step.
local function take_work(c, instance, want)
  local held, tasks
  repeat
    held = held_of(c, instance) or adopt(c, instance)
    if not held then
      return {}
    end
    tasks = taken(c, held, want)
    if #tasks == 0 then
      release(c, instance)
    end
  until #tasks > 0
  for _, task in ipairs(tasks) do
    start(c, task, held.name)
  end
  set_running(c, instance, tasks)
  return tasks
end

-- The reader of a task that is run together with it, and the number of bits that are missing before
-- the reader can run. nil for other tasks, and where the reader does not wait.
local function reader_of(c, task, n_missing)
  local packed, at, _, _, _, _, _, together = record_of(c, task)
  if not together then
    return nil
  end
  local edges = edges_of(packed, at)
  local reader, start_bit, n_bits = edges[1], edges[3], edges[4]
  if state_of(c, reader) ~= WAITING then
    return nil
  end
  local n_left = n_missing[reader]
  if not n_left then
    n_left = n_bits
    if n_bits > 1 then
      n_left = n_bits - call('BITCOUNT', c.p .. 'e', id(start_bit), id(start_bit + n_bits - 1), 'BIT')
    end
  end
  return reader, n_left - 1
end

-- Take the readers of tasks that are run together with them, up to `most` tasks in all. After a
-- charge a task is run alone. Returns the tasks of the instance.
local function take_readers(c, instance, most)
  local tasks, name = running_of(c, instance), worker_of(c, instance)
  local extended, n_missing, i = { unpack(tasks) }, {}, 1
  while i <= #extended and #extended < most do
    local reader, n_left = reader_of(c, extended[i], n_missing)
    if reader and not was_charged(c, extended[i]) and not was_charged(c, reader) then
      n_missing[reader] = n_left
      if n_left == 0 then
        start_unqueued(c, reader, name)
        insert(extended, i + 1, reader) -- right behind its last input
      end
    end
    i = i + 1
  end
  if #extended > #tasks then
    set_running(c, instance, extended)
  end
  return extended
end

-- End a step of an instance: its own running tasks again, or new ones of this worker or another.
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
    if #tasks == 0 and next(c.touched) then -- this step made tasks ready on other queues
      route(c)
      tasks = take_work(c, instance, tonumber(want))
    end
  end
  route(c)
  if #tasks == 0 then
    return answer(c, 'idle')
  end
  local offers = {}
  for i, task in ipairs(take_readers(c, instance, 2 * tonumber(want) - 1)) do
    offers[i] = offer(c, task, slim == '1')
  end
  return answer(c, 'tasks', worker_of(c, instance), {}, offers)
end

-- The spans of a repeated call may be stored already: among the last ones, as others write, too.
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

---- steps of instances ----------------------------------------------------------------------------

local function no_run()
  return redis.error_reply('NORUN no such run')
end

-- The steps of the machine, by name. A table, because a Lua function has 200 local names at most.
local steps = {}

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

-- Returns the member of this kind that was asked for by this name and nonce.
local function invoked_as(c, name, nonce, kind)
  local asked = call('ZRANGE', c.p .. of_kind('inv', kind), '0', '-1')
  local nonces = fetch_fields(c.p .. 'w', asked)
  for i, member in ipairs(asked) do
    if nonces[i] == nonce then
      local queue, number = split_member(member)
      if worker_name(queue_state(c, queue), number) == name then
        return member
      end
    end
  end
  return nil
end

-- Remember the kind of an instance, until its lease is gone.
local function note_kind(c, instance, kind)
  if not c.kinds then
    c.kinds = cmsgpack.pack({})
    change(c, 'kinds', c.kinds)
  end
  call('HSET', c.p .. 'k', instance, kind)
  expire(c, 'k')
end

-- instance, want, slim, lease_s, worker name or '', its nonce, kind
function steps.register(c, args, over)
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
    blob = args[i + 4] == '1' and args[i + 5], is_kept = args[i + 4] == '2',
  }
end

local function commit_all(c, args, over)
  local missing = {}
  for i = 8, #args, 7 do
    local result = commit_of(args, i)
    add_log(c, args[i], args[i + 6])
    if over then
      discard(c, result.task, result.address, result.token, result.n_chunks)
    elseif not commit(c, args[4], result) then
      missing[#missing + 1] = result.task
    end
  end
  return missing
end

-- instance, want, slim, spans, then seven per commit: task, address, its token, its number of
-- chunks, '1' if the bytes follow, '2' if the instance keeps them, bytes, log
function steps.complete(c, args, over)
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
function steps.fail(c, args, over)
  local instance, task = args[4], tonumber(args[8])
  add_spans(c, args[7])
  add_log(c, args[8], args[12])
  if over then
    return answer(c, 'stop')
  end
  if contains(running_of(c, instance), task) and tonumber(args[9]) == attempt_now(c, task) then
    leave_running(c, task, instance)
    leave_without_inputs(c, instance)
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
function steps.lost(c, args, over)
  local instance, task = args[4], tonumber(args[7])
  if over then
    return answer(c, 'stop')
  end
  if contains(running_of(c, instance), task) then
    local gone = gone_inputs(c, task, args, 8)
    if #gone > 0 then
      leave_running(c, task, instance)
      set_state(c, task, WAITING)
      leave_without_inputs(c, instance)
      event(c, 'lost', task, worker_of(c, instance))
      uncomplete(c, gone)
      ready_or_skip(c, task)
      finish_if_settled(c)
    end
  end
  return next_work(c, instance, args[5], args[6])
end

---- steps of supervisors, agents, clients ---------------------------------------------------------

-- Forget an instance; its worker is free. Returns the tasks it was running, the last one first: tasks
-- that ran behind their inputs wait for them again before one of these may fail.
local function drop(c, instance)
  local running, tasks = running_of(c, instance), {}
  for i = #running, 1, -1 do
    tasks[#tasks + 1] = running[i]
  end
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

-- Take work back from instances whose lease ran out. Returns their number.
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

function steps.reap(c, _, over)
  return over and 0 or reap(c)
end

-- Renewing costs a command per key, so it is done once in a quarter of the time to live.
local function touch_if_old(c)
  local touched_at = tonumber(call('HGET', c.p .. 'm', 'touched_at'))
  if (c.now - touched_at) * 4000 <= tonumber(ttl_of(c)) then
    return 0
  end
  touch(c)
  return 1
end

-- lease_s, instances... Returns whether the times to live were renewed, then one status each.
function steps.heartbeat(c, args, over)
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

-- The numbers of members that are asked for, flat: kind, number.
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

-- The instances that have a lease, flat: instance, its kind, the name of its worker or ''.
local function instances_of(c)
  local list = {}
  for _, instance in ipairs(call('ZRANGE', c.p .. 'l', '0', '-1')) do
    local n = #list
    list[n + 1], list[n + 2], list[n + 3] = instance, kind_of(c, instance), worker_of(c, instance)
  end
  return list
end

-- Returns state, moment, members wanted, instances; see Demand.
function steps.demand(c, _, over)
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
function steps.dead(c, args, over)
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
      again(c, task)
    end
  end
  route(c)
  return 1
end

-- instance, task, attempt. Returns the number of tasks that were given back.
function steps.give_back(c, args, over)
  local instance, task = args[4], tonumber(args[5])
  local running = over and {} or running_of(c, instance)
  local at = contains(running, task)
  if not at or tonumber(args[6]) ~= attempt_now(c, task) then
    return 0
  end
  local kept = {}
  for i = 1, at do
    kept[i] = running[i]
  end
  set_running(c, instance, kept)
  for i = at + 1, #running do
    again(c, running[i])
  end
  route(c)
  return #running - at
end

-- reason
function steps.cancel(c, args, over)
  if over then
    return 0
  end
  finish(c, 'cancelled', args[4])
  return 1
end
