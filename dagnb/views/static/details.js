// The panel beside the picture: details of a task, of a box of tasks or of a bar, in words.

const PHASE_WORDS = {
  queue: "waited for a worker", fetch: "inputs fetched", load: "inputs unpickled", import: "modules imported",
  run: "ran", dump: "result pickled", store: "result stored", commit: "committed",
};
const MAX_LISTED = 12;
const MAX_MEMBERS = 40;

class Details {
  constructor(side, view) {
    this.side = side;
    this.view = view;
  }

  // chosen: {task} or {box} or {words}. Unchanged details are not replaced, so that focus and selection stay.
  paint(chosen) {
    const content = document.createElement("div");
    if (chosen.words) put(content, "p", "", chosen.words);
    else if (chosen.task !== undefined) this.task(content, chosen.task);
    else this.box(content, this.view.picture.boxes.get(chosen.box));
    if (this.shown === content.innerHTML) return;
    this.shown = content.innerHTML;
    const focused = this.inner?.contains(document.activeElement) ? document.activeElement : null;
    this.body().replaceChildren(...content.childNodes);
    if (focused) (this.side.querySelector(`[data-go="${focused.dataset.go}"]`) ?? this.side.querySelector(".close")).focus();
  }

  body() {
    if (!this.inner) {
      const close = put(this.side, "button", "close", "×");
      mark(close, { "aria-label": "close details", type: "button" });
      close.addEventListener("click", () => this.view.select(null));
      this.inner = put(this.side, "div", "inner");
      this.side.addEventListener("click", (event) => {
        const go = event.target.closest("[data-go]");
        if (go) this.view.select({ task: Number(go.dataset.go) });
      });
    }
    return this.inner;
  }

  title(content, name, state) {
    const title = put(content, "h3", "", name);
    if (state) put(title, "span", `text-${state}`, ` ${state}`);
  }

  task(content, task) {
    const { graph, runState, icons } = this.view;
    const row = runState.rows.get(task);
    this.title(content, graph.names[task], icons[runState.states[task] || "W"].word);
    const list = put(content, "dl");
    const add = (name, text) => {
      put(list, "dt", "", name);
      put(list, "dd", "", text);
    };
    add("resources", graph.resources[task] || "default");
    const now = runState.states[task] === "X" && runState.running[task];
    if (now) {
      this.where(add, now[0]);
      add("began", `${secondsText(now[1] / 1e3)} after submission`);
    } else if (row) this.measured(add, row);
    else if (runState.n_left_out) put(content, "p", "text-dim", "details are stored of failed and the slowest tasks only; run.trace has all");
    this.links(list, "needs", graph.upstream[task]);
    this.links(list, "needed by", graph.downstream(task));
    for (const error of this.view.errorsOf(task)) content.append(error.cloneNode(true));
    const log = runState.logs.get(task);
    if (!log) return;
    put(content, "h4", "", "output");
    mark(put(content, "pre", "output", log), { tabindex: 0, role: "region", "aria-label": `output of ${graph.names[task]}` });
  }

  where(add, worker) {
    const start = this.view.runState.starts[worker];
    add("worker", `${worker || "none"}${start ? `, ${start[0]} start ${secondsText(start[1] / 1e3)}` : ""}`);
  }

  measured(add, row) {
    this.where(add, row[ROW.worker]);
    add("attempt", String(row[ROW.attempt]));
    if (row[ROW.begin] !== null) add("began", `${secondsText(row[ROW.begin] / 1e3)} after submission`);
    PHASES.forEach((phase, i) => {
      const ms = row[ROW.phases + i];
      const size = { fetch: row[ROW.read], store: row[ROW.written] }[phase];
      if (ms !== null) add(PHASE_WORDS[phase], secondsText(ms / 1e3) + (size ? `, ${bytesText(size)}` : ""));
    });
    if (row[ROW.written]) add("result", bytesText(row[ROW.written]));
  }

  links(list, name, tasks) {
    if (!tasks.length) return;
    put(list, "dt", "", name);
    const value = put(list, "dd");
    for (const task of tasks.slice(0, MAX_LISTED)) this.link(value, task);
    if (tasks.length > MAX_LISTED) put(value, "span", "text-dim", `and ${grouped(tasks.length - MAX_LISTED)} more`);
  }

  link(parent, task) {
    const button = put(parent, "button", "link", this.view.graph.names[task]);
    mark(button, { "data-go": task, type: "button" });
    return button;
  }

  box(content, box) {
    if (!box) return;
    if (box.tasks.length === 1) {
      this.task(content, box.tasks[0]);
      return;
    }
    const { runState, icons } = this.view;
    const counts = tally(runState, box.tasks);
    this.title(content, `${box.label} × ${grouped(box.tasks.length)}`);
    const list = put(content, "dl");
    for (const state of PRESSING) {
      if (!counts[state]) continue;
      put(list, "dt", `text-${icons[state].word}`, icons[state].word);
      put(list, "dd", "", grouped(counts[state]));
    }
    const runs = box.tasks.map((task) => this.ran(task)).filter((ms) => ms !== null);
    if (runs.length) {
      const total = runs.reduce((sum, ms) => sum + ms, 0);
      put(list, "dt", "", runState.n_left_out ? `durations (${grouped(runs.length)} of ${grouped(box.tasks.length)} stored)` : "durations");
      put(list, "dd", "", `mean ${secondsText(total / runs.length / 1e3)}, max ${secondsText(Math.max(...runs) / 1e3)}`);
    }
    this.members(content, box.tasks);
  }

  ran(task) {
    const row = this.view.runState.rows.get(task);
    return row ? row[ROW.phases + PHASES.indexOf("run")] : null;
  }

  // The tasks of a box, the most pressing state first, then the slowest.
  members(content, tasks) {
    const { runState, icons } = this.view;
    const rank = (task) => PRESSING.indexOf(runState.states[task] || "W");
    const order = [...tasks].sort((a, b) => rank(a) - rank(b) || (this.ran(b) ?? 0) - (this.ran(a) ?? 0) || a - b);
    const list = put(content, "ul");
    for (const task of order.slice(0, MAX_MEMBERS)) {
      const item = put(list, "li");
      this.link(item, task);
      const [word, ms] = [icons[runState.states[task] || "W"].word, this.ran(task)];
      put(item, "span", `text-${word}`, ` ${word}`);
      if (ms !== null) put(item, "span", "text-dim", ` ${secondsText(ms / 1e3)}`);
    }
    if (order.length > MAX_MEMBERS) put(content, "p", "text-dim", `and ${grouped(order.length - MAX_MEMBERS)} more`);
  }
}
