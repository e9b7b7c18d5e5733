// The graph and the timeline: the kernel draws them; this file colours them and lets them answer clicks and keys.

const HEAVY = "FXB";
const DASHED = "WS";

class Picture {
  constructor(panel, view) {
    this.panel = panel;
    this.view = view;
    this.boxes = new Map();
    this.roving = new Roving(panel, "[data-box]", (group) => view.select({ box: group.dataset.box }));
  }

  // Uses the drawing that is in the panel.
  adopt() {
    this.boxes.clear();
    const svg = this.panel.querySelector("svg");
    if (!svg) return;
    mark(svg, { role: "group" });
    for (const group of svg.querySelectorAll("[data-box]")) this.boxes.set(group.dataset.box, new Box(group));
    this.roving.refresh();
  }

  paint(runState, icons) {
    for (const box of this.boxes.values()) box.paint(tally(runState, box.tasks), icons);
    this.paintCritical(runState.drawn.critical || []);
  }

  paintCritical(edges) {
    const key = edges.join();
    if (key === this.critical) return;
    this.critical = key;
    for (const path of this.panel.querySelectorAll("[data-edge]")) path.classList.toggle("hot", edges.includes(path.dataset.edge));
  }

  choose(id) {
    for (const [key, box] of this.boxes) mark(box.group, { "aria-pressed": key === id });
  }

  boxOf(task) {
    for (const [id, box] of this.boxes) if (box.tasks.includes(task)) return id;
    return undefined;
  }
}

class Box {
  constructor(group) {
    this.group = group;
    this.tasks = [];
    eachOf(group.dataset.tasks, (task) => this.tasks.push(task));
    const find = (selector) => group.querySelector(selector);
    [this.tip, this.frame, this.icon] = [find("title"), find("rect.frame"), find("path.icon")];
    [this.words, this.track] = [find("text.small"), find("rect.track")];
    this.label = find("text.strong").textContent;
    this.names = this.tip.textContent.split("\n")[0];
    mark(group, { role: "button", "aria-pressed": false });
  }

  paint(counts, icons) {
    const key = JSON.stringify(counts);
    if (key === this.key) return;
    this.key = key;
    const [state, total, done] = [pressing(counts), this.tasks.length, counts.D || 0];
    const words = [...PRESSING].filter((s) => counts[s]).map((s) => `${grouped(counts[s])} ${icons[s].word}`).join(", ");
    const word = icons[state].word;
    mark(this.frame, {
      class: `frame fill-bg stroke-${word}`,
      "stroke-width": HEAVY.includes(state) ? "2" : "1.2",
      "stroke-dasharray": DASHED.includes(state) ? "4 3" : "none",
    });
    say(this.words, total === 1 ? word : `${grouped(done)} / ${grouped(total)}`);
    say(this.tip, `${this.names}\n${words}`);
    mark(this.group, { "aria-label": total === 1 ? `${this.label}: ${word}` : `${this.label}, ${counted(total, "task")}: ${words}` });
    this.paintIcon(word, icons[state]);
    if (this.track) this.paintBar(counts, total, icons);
  }

  paintIcon(word, look) {
    mark(this.icon, { d: look.path, class: `icon ${look.hollow ? "stroke" : "fill"}-${word}` });
    if (look.hollow) mark(this.icon, { fill: "none", "stroke-width": "1.8", "stroke-linecap": "round" });
    else for (const name of ["fill", "stroke-width", "stroke-linecap"]) this.icon.removeAttribute(name);
  }

  paintBar(counts, total, icons) {
    for (const part of this.group.querySelectorAll("rect.part")) part.remove();
    const number = (name) => Number(this.track.getAttribute(name));
    let x = number("x");
    for (const state of FILLED) {
      if (!counts[state]) continue;
      const width = (number("width") * counts[state]) / total;
      const part = document.createElementNS(SVG, "rect");
      mark(part, { x, y: number("y"), height: number("height"), width, class: `part fill-${icons[state].word}` });
      this.group.append(part);
      x += width;
    }
  }
}

class Timeline {
  constructor(panel, view) {
    this.panel = panel;
    this.view = view;
    this.roving = new Roving(panel, "[data-task],[data-say]", (bar) => this.open(bar));
    panel.addEventListener("mouseover", (event) => this.addTooltip(event.target.closest("[data-task],[data-say]")));
    panel.addEventListener("focusin", (event) => this.addTooltip(event.target.closest("[data-task],[data-say]")));
  }

  // Shows a new drawing; the focus stays on the bar of the same task.
  draw(markup) {
    const focused = this.panel.contains(document.activeElement) ? document.activeElement : null;
    const bars = () => [...this.panel.querySelectorAll(this.roving.selector)];
    const position = bars().indexOf(focused);
    this.panel.replaceChildren(parsed(markup, "image/svg+xml"));
    this.adopt();
    if (!focused) return;
    const kind = focused.parentNode.dataset.kind;
    const same = focused.dataset.task && this.panel.querySelector(`[data-kind="${CSS.escape(kind)}"] [data-task="${focused.dataset.task}"]`);
    const next = same || bars().at(Math.min(position, bars().length - 1));
    if (next) this.roving.focus(next);
  }

  adopt() {
    const svg = this.panel.querySelector("svg");
    if (!svg) return;
    mark(svg, { role: "group" });
    for (const bar of svg.querySelectorAll("[data-task],[data-say]")) mark(bar, { role: "button", "aria-label": this.words(bar) });
    this.roving.refresh();
    this.choose(this.chosen);
  }

  words(bar) {
    if (bar.dataset.say) return bar.dataset.say;
    const { graph, runState } = this.view;
    const [task, { kind }] = [Number(bar.dataset.task), bar.parentNode.dataset];
    const row = runState.rows.get(task);
    const ms = row && row[ROW.attempt] === 1 ? row[ROW.phases + PHASES.indexOf(kind)] : null; // a row holds the last attempt only
    return `${graph ? graph.names[task] : ""} ${kind}${ms === null || ms === undefined ? "" : `: ${secondsText(ms / 1e3)}`}`;
  }

  // A tooltip is added when it is needed: thousands of bars would have thousands of tooltips.
  addTooltip(bar) {
    if (bar && !bar.querySelector("title")) bar.append(Object.assign(document.createElementNS(SVG, "title"), { textContent: this.words(bar) }));
  }

  open(bar) {
    if (bar.dataset.task) this.view.select({ task: Number(bar.dataset.task) });
    else this.view.select({ words: bar.dataset.say });
  }

  choose(task) {
    this.chosen = task;
    for (const bar of this.panel.querySelectorAll(".chosen")) bar.classList.remove("chosen");
    if (task === undefined) return;
    for (const bar of this.panel.querySelectorAll(`[data-task="${task}"]`)) bar.classList.add("chosen");
  }
}

// One tab stop for many elements: arrow keys go to the nearest one in their direction, Enter and Space open it.
class Roving {
  constructor(panel, selector, open) {
    Object.assign(this, { panel, selector, open });
    panel.addEventListener("click", (event) => {
      const hit = event.target.closest(selector);
      if (!hit) return;
      this.focus(hit);
      open(hit);
    });
    panel.addEventListener("keydown", (event) => this.key(event));
  }

  refresh() {
    const all = [...this.panel.querySelectorAll(this.selector)];
    all.forEach((element, i) => mark(element, { tabindex: i ? -1 : 0 }));
    [this.stop] = all;
  }

  focus(element) {
    if (this.stop) mark(this.stop, { tabindex: -1 });
    mark(element, { tabindex: 0 });
    this.stop = element;
    element.focus({ preventScroll: false });
  }

  key(event) {
    const current = event.target.closest(this.selector);
    if (!current) return;
    const ways = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
    if (event.key === "Enter" || event.key === " ") this.open(current);
    else if (ways[event.key]) this.move(current, ...ways[event.key]);
    else if (event.key === "Home" || event.key === "End") this.focus([...this.panel.querySelectorAll(this.selector)].at(event.key === "Home" ? 0 : -1));
    else return;
    event.preventDefault();
  }

  // Moves to the nearest element in a direction; distance at right angles to it counts double.
  move(current, dx, dy) {
    const middle = (element) => {
      const place = element.getBoundingClientRect();
      return [place.x + place.width / 2, place.y + place.height / 2];
    };
    const [x, y] = middle(current);
    let best = null;
    let least = Infinity;
    for (const element of this.panel.querySelectorAll(this.selector)) {
      const [ox, oy] = middle(element);
      const [along, across] = dx ? [(ox - x) * dx, Math.abs(oy - y)] : [(oy - y) * dy, Math.abs(ox - x)];
      const cost = along + 2 * across;
      if (element !== current && along > 0.5 && cost < least) [best, least] = [element, cost];
    }
    if (best) this.focus(best);
  }
}
