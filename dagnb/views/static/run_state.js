// The state of a run, from messages: the first has everything, the others what changed. All views of a run share one object.
// The fields of a message are listed in dagnb/views/view_updates.py.

// States, the most urgent for a reader first: a box shows the first that any of its tasks is in.
const PRESSING = "FBXRCWSD";
const FILLED = "DFCSBX"; // states that have a part in a progress bar, from the left
const PHASES = ["queue", "fetch", "load", "import", "run", "dump", "store", "commit"];
const ROW = { task: 0, attempt: 1, worker: 2, begin: 3, phases: 4, read: 12, written: 13 };

function blankRunState() {
  return {
    serial: 0, state: "", reason: "", workers: 0, elapsed_s: 0, left: null, n_errors: 0, heard: 0,
    states: [], counts: {}, rows: new Map(), running: {}, starts: {}, errors: [], logs: new Map(), drawn: {}, n_left_out: 0, totals: null,
  };
}

// Takes in a message. Returns whether it was new: messages may come twice, late, or before the graph.
function take(runState, message, isWhole) {
  if (!message || !message.serial || (isWhole ? message.serial < runState.serial : message.serial <= runState.serial)) return false;
  for (const name of ["serial", "state", "reason", "workers", "elapsed_s", "left", "n_errors", "running", "starts", "n_left_out", "totals"]) {
    if (name in message) runState[name] = message[name];
  }
  runState.heard = performance.now();
  for (const [state, ranges] of Object.entries(message.states)) eachOf(ranges, (task) => { runState.states[task] = state; });
  for (const row of message.rows) runState.rows.set(row[ROW.task], row);
  if (isWhole) runState.errors = [];
  runState.errors.push(...message.errors);
  for (const [task, text] of Object.entries(message.logs)) runState.logs.set(Number(task), text);
  if (message.drawn && message.drawn.lanes !== undefined) runState.drawn = message.drawn;
  return true;
}

function tally(runState, tasks) {
  const counts = {};
  for (const task of tasks) {
    const state = runState.states[task] || "W";
    counts[state] = (counts[state] || 0) + 1;
  }
  return counts;
}

function pressing(counts) {
  for (const state of PRESSING) if (counts[state]) return state;
  return "W";
}

// The graph, with the lists that are needed often.
class Graph {
  constructor(data) {
    Object.assign(this, data);
    this.all = this.names.map((_, i) => i);
  }

  functionOf(task) {
    return this.functions[this.function_of[task]];
  }

  downstream(task) {
    if (!this.below) {
      this.below = this.names.map(() => []);
      this.upstream.forEach((above, i) => above.forEach((u) => this.below[u].push(i)));
    }
    return this.below[task];
  }
}
