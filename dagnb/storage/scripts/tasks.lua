-- Part of the library dagnb: the moves of tasks. Twin of protocol/tasks.py: the same order.

---- ready tasks -----------------------------------------------------------------------------------

-- queue, priority: of the task, when its record was read already.
local function ready(c, task, queue, priority)
  if not queue then
    queue, priority = queue_of(c, task)
  end
  set_state(c, task, READY)
  c.readied[#c.readied + 1] = task
  push(c, task, queue, priority)
end

-- Make tasks ready whose back-off has ended.
local function promote(c)
  local due = call('ZRANGEBYSCORE', c.p .. 'd', '-inf', c.at)
  for i = 1, #due do
    call('ZREM', c.p .. 'd', due[i])
    ready(c, tonumber(due[i]))
  end
end

---- the end of a run ------------------------------------------------------------------------------

-- Renew the time to live of every key of the run. The content that it uses lies in other slots: the
-- caller of a heartbeat renews it.
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
  change(c, 'touched_at', c.at)
end

local function purge_intermediates(c)
  local keys = large_keys(c, 'big', {})
  keys[#keys + 1] = c.p .. 'v'
  keys[#keys + 1] = c.p .. 'big'
  count_keys('UNLINK', keys)
end

-- A hint for each instance, in the list where it waits: kind -> hints.
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

-- Note that workers were launched: `start_by` no longer ends the run.
local function take_part(c)
  if c.start_by then
    c.start_by = nil
    call('HDEL', c.p .. 'm', 'start_by')
  end
end

-- End a run whose `start_by` or deadline has passed. Every step begins with it: nothing else
-- watches the clock.
local function is_over(c)
  if c.state == 'running' and c.start_by and c.now >= c.start_by then
    finish(c, 'cancelled', NEVER_STARTED)
  end
  if c.state == 'running' and c.deadline_at and c.now >= c.deadline_at then
    finish(c, 'deadline', 'the deadline passed')
  end
  return c.state ~= 'running'
end

---- results come and go ---------------------------------------------------------------------------

-- The instance that runs a task. likely: the caller, looked at first; else all are searched.
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

-- Take a task from its owner. Returns the worker it ran on.
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

-- The edges of a task, and the place of the one to the next step in the order of a worker that holds
-- it, which comes last: its child does not read the task. Behind the last where there is none.
local function followed_edges(c, task)
  local packed, at, _, _, _, _, _, _, is_followed = record_of(c, task)
  local edges = edges_of(packed, at)
  return edges, is_followed and #edges - 5 or #edges + 1
end

-- Set or clear the bits of edges, those from `last` on left out. A child with one edge needs no bit:
-- that edge decides.
local function mark(c, edges, bit, last)
  local list = {}
  for i = 2, last or #edges, 6 do
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

-- Queue what commits made ready since the last call. Children of one queue mostly follow each
-- other, so the list of pushes is looked up only where the queue changes.
local function push_made_ready(c, n_made)
  local made, queue, pushes, n = c.made_ready, nil, nil, 0
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

-- Does what `ready` does for every child whose inputs are all there, but without function calls and
-- without the length of a list: there may be thousands of children.
local function ready_children(c, edges)
  local n = #edges
  if n > WHOLE * 6 then
    read_all(c)
  end
  local states, all, dirty, readied, made = c.states, c.all, c.dirty, c.readied, c.made_ready
  local n_dirty, n_readied, n_made = #dirty, #readied, #made
  for i = 1, n, 6 do
    local child, n_bits = edges[i], edges[i + 3]
    local state = states[child] or all and sub(all, child + 1, child + 1) or state_of(c, child)
    if state == WAITING and (n_bits <= 1 or is_full(c, edges[i + 2], n_bits)) then
      states[child] = READY
      n_dirty, n_readied, n_made = n_dirty + 1, n_readied + 1, n_made + 3
      dirty[n_dirty], readied[n_readied] = child, child
      made[n_made - 2], made[n_made - 1], made[n_made] = child, edges[i + 4], edges[i + 5]
    end
  end
  push_made_ready(c, n_made)
end

-- Write a result, and its bytes if they came along. hash: `z` for a sink, `v` for others.
local function write_result(c, result, hash)
  local position, blob = id(result.task), result.blob
  if hash == 'v' and blob and #blob <= TINY then
    call('HSET', c.p .. 'v', position, result.address .. '\n' .. blob)
    return
  end
  if blob then
    call('HSET', c.p .. hash, position .. ':' .. result.token, blob)
  elseif result.n_chunks ~= '0' then
    local name = hash == 'z' and 'bigz' or 'big'
    call('SADD', c.p .. name, position .. ':' .. result.token .. ':' .. result.n_chunks)
    expire(c, name)
  end
  if hash == 'v' then
    call('HSET', c.p .. 'v', position, result.address)
  else
    call('HSET', c.p .. 'r', position, hash .. result.address)
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

local function was_charged(c, task)
  return call('HEXISTS', c.p .. 'a', id(task)) == 1
end

-- Note that an instance runs a task, which is not in a queue any more.
local function start(c, task, worker)
  set_state(c, task, RUNNING)
  event(c, 'start', task, worker)
end

-- Note that an instance runs a task right behind its last input.
local function start_unqueued(c, task, worker)
  c.unqueued[#c.unqueued + 1] = task
  start(c, task, worker)
end

-- Whether no other instance will ask for a result that this one keeps: it has or had the reader, or
-- takes it now, if the reader waits for nothing else and comes next in the order of a pinned worker.
local function has_reader(c, instance, packed, at, together)
  if not together then
    return false
  end
  local edges = edges_of(packed, at)
  local reader, held = edges[1], held_of(c, instance)
  local state = state_of(c, reader)
  if state == DONE or contains(running_of(c, instance), reader) then
    return true
  end
  return edges[4] == 1 and state == WAITING and held and tonumber(held.queue) == edges[5]
    and not was_charged(c, reader) and not goes_before(c, held, edges[6])
end

-- Take the reader of a result that is kept, if the instance does not have it yet.
local function take_reader(c, instance, reader)
  if state_of(c, reader) == WAITING then
    start_unqueued(c, reader, worker_of(c, instance))
    local running = { unpack(running_of(c, instance)) }
    running[#running + 1] = reader
    set_running(c, instance, running)
  end
end

-- Store one result and make ready what only waited for it. result.blob: bytes in the same call, or
-- false. Returns false when the bytes are not in the store, and the instance does not keep them for a
-- reader that it runs, too.
local function commit(c, instance, result)
  local task = result.task
  local state = state_of(c, task)
  if not OPEN[state] then
    discard(c, task, result.address, result.token, result.n_chunks)
    return true
  end
  local packed, at, queue, _, sink, _, _, together = record_of(c, task)
  local hash = sink == 1 and 'z' or 'v'
  local is_kept = result.is_kept and has_reader(c, instance, packed, at, together)
  local is_here = is_kept or result.blob or has_blob(c, task, hash, result.token, result.n_chunks)
  if not is_here then
    return false
  end
  write_result(c, result, hash)
  local worker = leave_state(c, instance, task, state, queue)
  set_state(c, task, DONE)
  event(c, 'done', task, worker)
  local edges = edges_of(packed, at)
  if is_kept then
    take_reader(c, instance, edges[1])
  end
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

-- Let the next step in the order begin, though this one has no result yet, or never will.
local function let_pass(c, task)
  local edges, at = followed_edges(c, task)
  if at > #edges then
    return
  end
  local edge = { unpack(edges, at) }
  local child, _, start_bit, n_bits = unpack(edge)
  mark(c, edge, '1')
  if state_of(c, child) == WAITING and (n_bits <= 1 or is_full(c, start_bit, n_bits)) then
    ready(c, child)
  end
end

-- Skip every descendant of a failed task that still waits.
local function skip_below(c, task)
  local stack = { task }
  while #stack > 0 do
    task = remove(stack)
    let_pass(c, task)
    local edges, at = followed_edges(c, task)
    if #edges > WHOLE * 6 then
      read_all(c)
    end
    for i = 1, at - 1, 6 do
      local child = edges[i]
      if state_of(c, child) == WAITING then
        skip(c, child)
        stack[#stack + 1] = child
      end
    end
  end
end

-- Make a waiting task ready if all its inputs are done; skip it if one of them never will be.
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

-- Whether a task has no readable result: not done, or the bytes are gone. A server that evicts may
-- drop the address with them.
local function is_gone(c, task)
  local result = state_of(c, task) == DONE and result_of(c, task)
  if not result then
    return true
  end
  local hash, _, token, n_chunks, blob = parts_of(result)
  return not (blob or has_blob(c, task, hash, token, n_chunks))
end

-- Make done tasks wait again whose bytes are gone, and their inputs likewise.
local uncomplete
do
  -- Make one task wait again; those of its inputs that are gone, too, go on the stack.
  local function uncomplete_one(c, task, stack)
    local _, _, _, _, sink, _, upstream = record_of(c, task)
    set_state(c, task, WAITING)
    call('HDEL', c.p .. 'v', id(task))
    call('HDEL', c.p .. 'r', id(task))
    count_settled(c, 1, sink)
    local edges, at = followed_edges(c, task)
    mark(c, edges, '0', at)
    event(c, 'lost', task, '')
    for _, up in ipairs(upstream) do
      if state_of(c, up) == DONE and is_gone(c, up) then
        stack[#stack + 1] = up
      end
    end
  end

  function uncomplete(c, tasks)
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
end

local function sinks_of(c)
  return cmsgpack.unpack(call('HGET', c.p .. 'm', 'sinks'))
end

-- End a run that waits for nothing more, unless bytes of a sink have gone.
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

---- attempts that ended badly ---------------------------------------------------------------------

-- Make a task ready whose attempt ended without a result. It waits if it was to run right behind one
-- of its inputs, and is skipped if an input has failed since.
local function again(c, task)
  set_state(c, task, WAITING)
  ready_or_skip(c, task)
  finish_if_settled(c)
end

-- The upstream tasks that are not done.
local function absent_inputs(c, task)
  local _, _, _, _, _, _, upstream = record_of(c, task)
  if #upstream > WHOLE then
    read_all(c)
  end
  local absent = {}
  for _, up in ipairs(upstream) do
    if state_of(c, up) ~= DONE then
      absent[#absent + 1] = up
    end
  end
  return absent
end

-- Take from an instance the tasks that it was to run behind one that it runs no more.
local leave_without_inputs
do
  local function are_within(list, known)
    for _, task in ipairs(list) do
      if not known[task] then
        return false
      end
    end
    return true
  end

  function leave_without_inputs(c, instance)
    local before = {}
    for _, task in ipairs(running_of(c, instance)) do
      if are_within(absent_inputs(c, task), before) then
        before[task] = true
      else
        leave_running(c, task, instance)
        again(c, task)
      end
    end
  end
end

local function spent_of(c, task)
  local value = call('HGET', c.p .. 'a', id(task))
  local exceptions, crashes, losses = match(value or '0,0,0', '^(%d+),(%d+),(%d+)$')
  return { exception = tonumber(exceptions), crash = tonumber(crashes), loss = tonumber(losses) }
end

local function attempt_of(spent)
  return 1 + spent.exception + spent.crash + spent.loss
end

local function attempt_now(c, task)
  return call('HEXISTS', c.p .. 'a', id(task)) == 0 and 1 or attempt_of(spent_of(c, task))
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

-- Note the error of an attempt and charge it. Returns whether the budget lasts.
local function note_failure(c, task, kind, problem, retries)
  local spent = spent_of(c, task)
  call('HSET', c.p .. 'err', id(task) .. ':' .. id(attempt_of(spent)), problem)
  spent[kind] = spent[kind] + 1
  call('HSET', c.p .. 'a', id(task), spent.exception .. ',' .. spent.crash .. ',' .. spent.loss)
  expire(c, 'err')
  expire(c, 'a')
  local budget = retries
  if kind ~= 'exception' then
    budget = tonumber(call('HGET', c.p .. 'm', kind .. '_budget'))
  end
  return spent[kind] <= budget
end

-- End an attempt: note the error, then back off, go back to ready, or fail for good.
-- delay: seconds as text, '' for no more attempts.
local function charge(c, task, kind, problem, delay, worker)
  if c.state ~= 'running' then
    return
  end
  local _, _, _, _, sink, retries = record_of(c, task)
  if not note_failure(c, task, kind, problem, retries) or delay == '' then
    return fail_for_good(c, task, sink, worker)
  end
  event(c, 'retry', task, worker)
  if tonumber(delay) > 0 and #absent_inputs(c, task) == 0 then
    set_state(c, task, RETRYING)
    call('ZADD', c.p .. 'd', text(c.now + tonumber(delay)), id(task))
    expire(c, 'd')
    let_pass(c, task)
  else
    again(c, task)
  end
end
