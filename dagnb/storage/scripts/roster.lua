-- Part of the library dagnb: queues, members, instances. Twin of protocol/roster.py: same verbs.
--
-- A member "queue/number" is free (in f:<queue>), invoked (in inv) or active (in h).

---- queues and members ----------------------------------------------------------------------------

-- The QueueState of the machine. Letters, as in `m`: i invoked members, a active ones, h highest
-- number of a member.
local function queue_state(c, queue)
  local state = c.queues[queue]
  if not state then
    local f = call('HMGET', c.p .. 'm',
      'q' .. queue, 'c' .. queue, 'i' .. queue, 'a' .. queue, 'h' .. queue)
    state = { name = f[1], cap = tonumber(f[2]), kind = '', changed = {} }
    state.i, state.a, state.h = tonumber(f[3] or 0), tonumber(f[4] or 0), tonumber(f[5] or 0)
    if c.kinds then
      state.kind = call('HGET', c.p .. 'm', 'k' .. queue) or ''
    end
    c.queues[queue] = state
  end
  return state
end

local function count(state, letter, difference)
  state[letter] = state[letter] + difference
  state.changed[letter] = state[letter]
end

local function is_pool(name)
  return sub(name, 1, 1) == '~'
end

local function worker_name(state, number)
  return is_pool(state.name) and state.name .. '/' .. number or state.name
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

-- Keep no more hints than members that are asked for: others would wake sleepers for nothing.
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

---- adopt, release --------------------------------------------------------------------------------

-- Make an instance staff an invoked member of its kind. member: nil for the most urgent one.
-- Returns what it holds, false when there is none.
local function adopt(c, instance, member)
  local kind = kind_of(c, instance)
  local invoked = c.p .. of_kind('inv', kind)
  member = member or call('ZRANGE', invoked, '0', '0')[1]
  if not member then
    return false
  end
  local queue, number = split_member(member)
  local state = queue_state(c, queue)
  call('ZREM', invoked, member)
  trim_hints(c, invoked, c.p .. of_kind('spawn', kind))
  count(state, 'i', -1)
  count(state, 'a', 1)
  local held = { queue = queue, number = number, name = worker_name(state, number) }
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
  count(queue_state(c, held.queue), 'a', -1)
  call('ZADD', c.p .. 'f:' .. held.queue, held.number, held.number)
  expire(c, 'f:' .. held.queue)
  c.held[instance] = false
end

---- push, withdraw, take --------------------------------------------------------------------------

local function pushes_of(c, queue)
  local pushes = c.pushes[queue]
  if not pushes then
    pushes = {}
    c.pushes[queue] = pushes
  end
  c.touched[queue] = true
  return pushes
end

-- Put a ready task in its queue. It is written, with others, when the queue is next read.
local function push(c, task, queue, priority)
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

-- Remove from its queue a task that another instance has committed already.
local function withdraw(c, task, queue)
  flush_pushes(c, queue)
  call('ZREM', c.p .. 'q:' .. queue, id(task))
  for i = 1, #c.made_ready, 3 do
    if c.made_ready[i] == task then
      c.made_ready[i + 1] = -1
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

-- The order of a sorted set: by priority, then by text.
local function is_before(made, i, j)
  if made[i + 2] ~= made[j + 2] then
    return made[i + 2] < made[j + 2]
  end
  return id(made[i]) < id(made[j])
end

-- Take tasks that commits of this step made ready, the most urgent first. In a pool they come
-- before others: the instance that takes them holds one of their inputs. There may be thousands,
-- and few are wanted: so the best are kept sorted while the list is read once.
local function take_preferred(c, queue, want)
  local made, best, taken, number, worst = c.made_ready, {}, {}, tonumber(queue), math.huge
  for i = 1, #made, 3 do
    local is_ours = made[i + 2] <= worst and made[i + 1] == number
    if is_ours and (#best < want or is_before(made, i, best[want])) then
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

-- One member's share of what is ready, at least one task.
local function fair_share(c, queue)
  local state, pushes = queue_state(c, queue), c.pushes[queue]
  local n_ready = call('ZCARD', c.p .. 'q:' .. queue) + (pushes and #pushes / 2 or 0)
  return math.max(1, math.floor(n_ready / (state.i + state.a)))
end

-- Whether a pinned worker has a ready task that is more urgent than this priority. False in a pool,
-- where another member takes such a task.
local function goes_before(c, held, priority)
  if is_pool(held.name) then
    return false
  end
  flush_pushes(c, held.queue)
  local first = call('ZRANGE', c.p .. 'q:' .. held.queue, '0', '0', 'WITHSCORES')
  return first[2] and tonumber(first[2]) < priority
end

local function take(c, held, want)
  if want > 1 then
    want = math.min(want, fair_share(c, held.queue))
  end
  local has_preferred = #c.made_ready > 0 and is_pool(held.name)
  local taken = has_preferred and take_preferred(c, held.queue, want) or {}
  if #taken < want then
    flush_pushes(c, held.queue)
    local popped = call('ZPOPMIN', c.p .. 'q:' .. held.queue, id(want - #taken))
    for i = 1, #popped, 2 do
      taken[#taken + 1] = tonumber(popped[i])
    end
  end
  return taken
end

---- route -----------------------------------------------------------------------------------------

local function free_member(c, queue, state)
  local popped = call('ZPOPMIN', c.p .. 'f:' .. queue)
  if popped[1] then
    return popped[1]
  end
  count(state, 'h', 1)
  return id(state.h)
end

local function next_nonce(c)
  c.serial = (c.serial or tonumber(call('HGET', c.p .. 'm', 'serial'))) + 1
  return c.fresh .. ':' .. id(c.serial)
end

-- Ask for members of one queue. hints: kind -> names of the members that were asked for.
local function ask(c, queue, n_ready, hints)
  local state, urgency = queue_state(c, queue), nil
  while n_ready > state.i and state.i + state.a < state.cap do
    urgency = urgency or call('ZRANGE', c.p .. 'q:' .. queue, '0', '0', 'WITHSCORES')[2]
    local number = free_member(c, queue, state)
    local member = queue .. '/' .. number
    call('ZADD', c.p .. of_kind('inv', state.kind), urgency, member)
    call('HSET', c.p .. 'w', member, next_nonce(c))
    count(state, 'i', 1)
    local list = hints[state.kind] or {}
    list[#list + 1] = worker_name(state, number)
    hints[state.kind] = list
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

-- Ask for a member for each ready task that no invoked member will take, within the cap.
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

---- clear -----------------------------------------------------------------------------------------

local function last_queue(c)
  return tonumber(call('HGET', c.p .. 'm', 'n_queues') or 0) - 1
end

-- The names of keys that exist only for runs with kinds.
local function kind_names(c)
  local names = c.kinds and { 'k', 'need' } or {}
  for _, kind in ipairs(kinds_of(c)) do
    names[#names + 1] = of_kind('inv', kind)
    names[#names + 1] = of_kind('spawn', kind)
  end
  return names
end

-- The members that are asked for, of all kinds.
local function invoked_of(c)
  local list = call('ZRANGE', c.p .. 'inv', '0', '-1')
  for _, kind in ipairs(kinds_of(c)) do
    for _, member in ipairs(call('ZRANGE', c.p .. of_kind('inv', kind), '0', '-1')) do
      list[#list + 1] = member
    end
  end
  return list
end

-- Active members stay: their instances have yet to learn that the run is over.
local function clear_roster(c)
  local asked = invoked_of(c)
  for _, member in ipairs(asked) do
    local state = queue_state(c, (split_member(member)))
    count(state, 'i', -state.i)
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
