// What is known of a run, from messages: everything once, then what changed. One story a run, however many views.

// How much a state wants to be seen: a box shows the first that any of its tasks is in.
const PRESSING = "FBXRCWSD";
const FILLED = "DFCSBX"; // parts of a bar, from the left
const PHASES = ["queue", "fetch", "load", "run", "dump", "store", "commit"];
const ROW = { task: 0, attempt: 1, worker: 2, begin: 3, phases: 4, read: 11, written: 12 };

function blankStory() {
  return {
    serial: 0, state: "", reason: "", workers: 0, elapsed_s: 0, left: null, n_errors: 0, heard: 0,
    states: [], counts: {}, rows: new Map(), running: {}, starts: {}, errors: [], logs: new Map(), drawn: {}, n_left_out: 0, totals: null,
  };
}

// Takes in a message. Returns whether it was news: messages may come twice, late, or before the graph.
function take(story, message, isWhole) {
  if (!message || !message.serial || (isWhole ? message.serial < story.serial : message.serial <= story.serial)) return false;
  for (const name of ["serial", "state", "reason", "workers", "elapsed_s", "left", "n_errors", "running", "starts", "n_left_out", "totals"]) {
    if (name in message) story[name] = message[name];
  }
  story.heard = performance.now();
  for (const [state, ranges] of Object.entries(message.states)) eachOf(ranges, (task) => { story.states[task] = state; });
  for (const row of message.rows) story.rows.set(row[ROW.task], row);
  if (isWhole) story.errors = [];
  story.errors.push(...message.errors);
  for (const [task, text] of Object.entries(message.logs)) story.logs.set(Number(task), text);
  if (message.drawn && message.drawn.lanes !== undefined) story.drawn = message.drawn;
  return true;
}

function tally(story, tasks) {
  const counts = {};
  for (const task of tasks) {
    const state = story.states[task] || "W";
    counts[state] = (counts[state] || 0) + 1;
  }
  return counts;
}

function pressing(counts) {
  for (const state of PRESSING) if (counts[state]) return state;
  return "W";
}

// The graph, with what is asked of it often.
class Graph {
  constructor(told) {
    Object.assign(this, told);
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
