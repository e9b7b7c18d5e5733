// The view of one run: header, tabs, panels, details. A live view gets messages; in a saved page it gets everything at once.

const RUN_LOOKS = { ok: "done", failed: "failed", deadline: "failed", cancelled: "cancelled", running: "running" };
const TABS = ["Graph", "Timeline", "Errors", "Functions"];
const SURE_MS = 4000; // the second press of cancel must come within this time
const PATIENCE_MS = 2500; // after that, a kernel that did not answer is busy
const SILENT_MS = 6000; // a kernel sends something every second; after that, it is gone or something blocks it
const OPENED = (window.dagnbOpened ??= new Map()); // run -> what its live view last showed; the saved view that replaces it opens there
let nViews = 0;

class View {
  // still: the section of a saved page, whose elements this view takes over. send: sends a message to the kernel.
  constructor(el, run, runState, icons, { still, send } = {}) {
    Object.assign(this, { run, runState, icons, send, chosen: null, errors: new Map(), key: `dagnb-${Date.now().toString(36)}-${nViews++}` });
    this.root = still || put(el, "section", "dagnb dagnb-view");
    mark(this.root, { "aria-label": "run", "data-lm-suppress-shortcuts": true, "data-live": Boolean(send) });
    const old = Object.fromEntries(["graph", "lanes", "errors"].map((name) => [name, still?.querySelector(`:scope > .${name}`)]));
    this.stillErrors = [...(old.errors?.children ?? [])];
    for (const part of still ? [...still.children] : []) part.remove();
    this.buildHead(Boolean(send));
    this.buildTabs();
    for (const [tab, name] of [["Graph", "graph"], ["Timeline", "lanes"]]) {
      this.panels[tab].classList.add(name, "scroll");
      for (const part of [...(old[name]?.childNodes ?? [])]) this.panels[tab].append(part.tagName === "SCRIPT" ? parsed(part.textContent, "image/svg+xml") : part);
    }
    this.picture = new Picture(this.panels.Graph, this);
    this.timeline = new Timeline(this.panels.Timeline, this);
    this.details = new Details(this.side, this);
    this.root.addEventListener("keydown", (event) => this.keydown(event));
    this.show(OPENED.get(run)?.tab ?? "Graph");
  }

  buildHead(canCancel) {
    const head = put(this.root, "div", "head");
    this.title = put(head, "b");
    this.state = put(head, "span", "state");
    this.count = put(head, "span", "count");
    this.workers = put(head, "span", "text-dim count");
    this.failed = put(head, "span", "text-failed count");
    this.left = put(head, "span", "text-dim count");
    this.elapsed = put(head, "span", "right count");
    if (canCancel) {
      this.cancel = put(head, "button", "cancel", "cancel");
      mark(this.cancel, { type: "button" });
      this.cancel.addEventListener("click", () => this.askCancel());
    }
    this.hint = put(this.root, "div", "hint text-dim");
    mark(this.hint, { role: "status" });
    this.bar = put(this.root, "div", "bar");
    mark(this.bar, { role: "progressbar", "aria-label": "tasks done", "aria-valuemin": 0 });
    this.segments = [...FILLED].map((state) => [state, put(this.bar, "i")]);
    for (const [state, segment] of this.segments) segment.style.background = `var(--dagnb-${this.icons[state].word})`;
  }

  buildTabs() {
    const list = put(this.root, "div", "tabs");
    mark(list, { role: "tablist", "aria-label": "what to see of the run" });
    const body = put(this.root, "div", "body");
    this.main = put(body, "div", "main");
    this.side = put(body, "div", "side");
    // A group rather than a landmark such as <aside>, which would mix with the landmarks of the page around.
    mark(this.side, { role: "group", "aria-label": "details", "aria-live": "polite" });
    this.side.hidden = true;
    [this.tabs, this.panels] = [{}, {}];
    for (const name of TABS) {
      const tab = (this.tabs[name] = put(list, "button", "tab", name));
      const panel = (this.panels[name] = put(this.main, "div", "panel"));
      mark(tab, { role: "tab", type: "button", id: `${this.key}-${name}`, "aria-controls": `${this.key}-${name}-panel` });
      mark(panel, { role: "tabpanel", id: `${this.key}-${name}-panel`, "aria-labelledby": tab.id });
      tab.addEventListener("click", () => this.show(name));
    }
    this.badge = put(this.tabs.Errors, "span", "badge");
    mark(this.panels.Errors, { role: "tabpanel", tabindex: 0 });
    list.addEventListener("keydown", (event) => this.tabKey(event));
  }

  // Takes the graph (names and edges), and the drawing unless the page has it already.
  setGraph(data, svg, missing) {
    this.graph = new Graph(data);
    if (svg) this.panels.Graph.replaceChildren(parsed(svg, "image/svg+xml"));
    else if (missing) put(this.panels.Graph, "p", "text-dim", missing);
    this.picture.adopt();
    this.timeline.adopt();
    this.select(OPENED.get(this.run)?.chosen ?? null);
  }

  show(name) {
    this.shown = name;
    OPENED.set(this.run, { ...OPENED.get(this.run), tab: name });
    for (const tab of TABS) {
      mark(this.tabs[tab], { "aria-selected": tab === name, tabindex: tab === name ? 0 : -1 });
      this.panels[tab].hidden = tab !== name;
    }
    this.ask();
  }

  tabKey(event) {
    const shown = TABS.indexOf(this.shown);
    const to = { ArrowRight: shown + 1, ArrowLeft: shown - 1 + TABS.length, Home: 0, End: TABS.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.show(TABS[to % TABS.length]);
    this.tabs[this.shown].focus();
  }

  keydown(event) {
    event.stopPropagation(); // the notebook around has shortcuts of its own
    if (event.key === "Escape" && this.chosen) this.select(null);
  }

  // chosen: {task}, {box}, {words}, or null to close.
  select(chosen) {
    const wasInside = this.side.contains(document.activeElement);
    this.chosen = chosen;
    OPENED.set(this.run, { ...OPENED.get(this.run), chosen });
    this.side.hidden = !chosen;
    const task = chosen?.box ? this.soleTask(chosen.box) : chosen?.task;
    this.picture.choose(chosen?.box ?? (task === undefined ? undefined : this.picture.boxOf(task)));
    this.timeline.choose(task);
    if (chosen) this.details.paint(chosen);
    else if (wasInside) (this.shown === "Timeline" ? this.timeline : this.picture).roving.stop?.focus();
  }

  soleTask(box) {
    const tasks = this.picture.boxes.get(box)?.tasks;
    return tasks?.length === 1 ? tasks[0] : undefined;
  }

  errorsOf(task) {
    return [...this.errors.values()].filter((error) => error.task === task).map((error) => error.element);
  }

  // The first press asks, the second cancels: a run of hours does not end by a slip.
  askCancel() {
    if (this.cancel.textContent === "cancel") {
      this.cancel.textContent = "really cancel?";
      setTimeout(() => this.cancel.textContent === "really cancel?" && (this.cancel.textContent = "cancel"), SURE_MS);
      return;
    }
    this.send({ kind: "cancel" });
    this.cancel.textContent = "cancelling";
    this.cancel.disabled = true;
    setTimeout(() => {
      if (this.runState.state !== "running") return;
      Object.assign(this.cancel, { textContent: "cancel", disabled: false });
      say(this.hint, "Not cancelled yet: the kernel is busy with a cell, or the store is away. Interrupt the cell to cancel now, or try again.");
    }, PATIENCE_MS);
  }

  // Paints at most once per frame; in a hidden browser tab only when it is visible again.
  ask() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.paint();
    });
  }

  paint() {
    const { runState, graph } = this;
    if (!graph) return;
    const counts = tally(runState, graph.all);
    this.paintHead(counts, graph.names.length);
    this.paintErrors();
    if (this.shown === "Graph") this.picture.paint(runState, this.icons);
    if (this.shown === "Timeline") this.paintLanes();
    if (this.shown === "Functions") this.paintFunctions();
    if (this.chosen) this.details.paint(this.chosen);
  }

  paintHead(counts, total) {
    const { runState } = this;
    const isRunning = runState.state === "running";
    say(this.title, this.name || "");
    say(this.state, (runState.state || "starting") + (runState.reason ? ` (${runState.reason})` : ""));
    this.state.className = `state text-${RUN_LOOKS[runState.state] || "dim"}`;
    say(this.count, `${grouped(counts.D || 0)} of ${counted(total, "task")}`);
    say(this.workers, runState.workers || !isRunning ? counted(runState.workers, "worker") : "no worker yet");
    say(this.failed, counts.F ? `${grouped(counts.F)} failed` : "");
    this.paintTime();
    for (const [state, segment] of this.segments) segment.style.width = `${(100 * (counts[state] || 0)) / (total || 1)}%`;
    mark(this.bar, { "aria-valuemax": total, "aria-valuenow": counts.D || 0 });
    if (this.cancel) this.cancel.hidden = !isRunning;
    say(this.badge, runState.n_errors ? ` ${grouped(runState.n_errors)}` : "");
    if (!isRunning && this.hint.textContent) say(this.hint, "");
  }

  // Between two messages the clock of this page goes on.
  paintTime() {
    const { runState } = this;
    const since = runState.state === "running" && this.send ? Math.min(2, (performance.now() - runState.heard) / 1e3) : 0;
    say(this.left, runState.state === "running" && this.send ? leftText(runState.left, since) : "");
    say(this.elapsed, runState.serial ? secondsText(runState.elapsed_s + since) : "");
    this.paintSilence();
  }

  // A kernel that ended cannot say so: the view says that there is no news, until a message comes.
  paintSilence() {
    const { runState } = this;
    const isSilent = Boolean(this.send) && runState.state === "running" && performance.now() - runState.heard > SILENT_MS;
    if (isSilent && !this.wasSilent) {
      const since = new Date(Date.now() - (performance.now() - runState.heard)).toLocaleTimeString();
      const { attach } = this.graph ?? {};
      const cure = attach ? `The run goes on without it. To see it again, in a new cell: ${attach}` : "If it ended, so did the run.";
      say(this.hint, `No news from the kernel since ${since}: it was restarted or shut down, or something keeps it busy. ${cure}`);
    }
    if (!isSilent && this.wasSilent) say(this.hint, "");
    this.wasSilent = isSilent;
  }

  paintLanes() {
    const { lanes } = this.runState.drawn;
    if (lanes && lanes !== this.lanes) {
      this.lanes = lanes;
      this.timeline.draw(lanes);
    }
  }

  paintErrors() {
    const { runState } = this;
    const panel = this.panels.Errors;
    for (const error of runState.errors) {
      const key = `${error.task}:${error.attempt}`;
      if (this.errors.has(key)) continue;
      const element = error.html ? parsed(error.html, "text/html") : this.stillErrors[this.errors.size];
      this.errors.set(key, { task: error.task, element: element.cloneNode(true) });
      const button = put(element, "button", "link", "show the task");
      mark(button, { type: "button" });
      button.addEventListener("click", () => this.select({ task: error.task }));
      panel.append(element);
    }
    if (!this.errorsTitle) this.errorsTitle = panel.insertBefore(document.createElement("p"), panel.firstChild);
    const more = runState.n_errors - runState.errors.length;
    say(this.errorsTitle, runState.n_errors ? `${counted(runState.n_errors, "failed attempt")}${more > 0 ? `, ${grouped(runState.errors.length)} of them here` : ""}` : "No errors.");
  }

  // A table with one row per function: the run in words, for readers who see no picture.
  paintFunctions() {
    const { runState, graph } = this;
    const rows = graph.functions.map((name) => ({ name, n: 0, runs: 0, total: 0, most: 0, counts: {} }));
    graph.all.forEach((task) => {
      const row = rows[graph.function_of[task]];
      const state = runState.states[task] || "W";
      const ms = this.details.ran(task);
      row.n += 1;
      row.counts[state] = (row.counts[state] || 0) + 1;
      if (ms !== null) Object.assign(row, { runs: row.runs + 1, total: row.total + ms, most: Math.max(row.most, ms) });
    });
    (runState.totals ?? []).forEach(([runs, total, most], i) => Object.assign(rows[i], { runs, total, most }));
    const content = document.createElement("table");
    const head = put(put(content, "thead"), "tr");
    for (const name of ["function", "tasks", "done", "failed", "total", "mean", "max"]) mark(put(head, "th", name === "function" ? "" : "right", name), { scope: "col" });
    const body = put(content, "tbody");
    for (const { name, n, runs, total, most, counts } of rows) {
      const row = put(body, "tr");
      mark(put(row, "th", "", name), { scope: "row" });
      const times = runs ? [total, total / runs, most].map((ms) => secondsText(ms / 1e3)) : ["", "", ""];
      for (const text of [grouped(n), grouped(counts.D || 0), grouped(counts.F || 0), ...times]) put(row, "td", "right", text);
    }
    if (content.outerHTML !== this.table) this.panels.Functions.replaceChildren(content);
    this.table = content.outerHTML;
  }
}

// Builds each view whose data the page holds.
function mountAll() {
  for (const root of document.querySelectorAll(".dagnb-view:not([data-lm-suppress-shortcuts])")) {
    const data = root.querySelector(":scope > script[type='application/json']");
    if (!data) continue;
    const message = JSON.parse(data.textContent);
    const runState = blankRunState();
    take(runState, message, true);
    const view = new View(null, message.run, runState, message.icons, { still: root });
    view.name = message.title;
    view.setGraph(message.graph);
    view.paint();
  }
}
