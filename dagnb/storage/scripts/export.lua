-- Part of the library dagnb: the functions that clients may call.

-- Steps without new bytes are allowed when memory is full (allow-oom); calls that add bytes are
-- refused as a whole. So `complete` has a second name, `carry`, for commits with bytes.
local function export(name, body, flag)
  local function callback(keys, args)
    if not call then
      bind()
    end
    return body(keys, args)
  end
  local function_name = LIBRARY .. '_' .. name
  redis.register_function({ function_name = function_name, callback = callback, flags = { flag } })
end

export('use', use, 'allow-oom')
export('bring', bring)
export('note', note, 'allow-oom')
export('renew', renew, 'allow-oom')
export('leave', leave, 'allow-oom')
export('content', content, 'no-writes')
export('records', put_records)
export('submit', submit)
export('put', step(put))
export('drop', drop_value, 'allow-oom')
export('carry', step(steps.complete))
export('complete', step(steps.complete), 'allow-oom')
export('register', step(steps.register), 'allow-oom')
export('fail', step(steps.fail), 'allow-oom')
export('lost', step(steps.lost), 'allow-oom')
export('heartbeat', step(steps.heartbeat), 'allow-oom')
export('reap', step(steps.reap), 'allow-oom')
export('dead', step(steps.dead), 'allow-oom')
export('give_back', step(steps.give_back), 'allow-oom')
export('demand', step(steps.demand), 'allow-oom')
export('cancel', step(steps.cancel), 'allow-oom')
export('record', step(record), 'allow-oom')
export('forget', forget, 'allow-oom')
export('evict', evict, 'allow-oom')
export('observe', observe, 'no-writes')
export('usage', usage, 'no-writes')
