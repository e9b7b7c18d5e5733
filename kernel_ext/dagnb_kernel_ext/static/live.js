// The live view of one run. The kernel sends what changed; everything from it becomes text, never markup, but the one
// picture, which dagnb drew and escaped. One `Story` a model; each view of the model paints it.

const SVG = "http://www.w3.org/2000/svg";
const FILLED = ["done", "failed", "cancelled", "skipped", "retrying", "running"]; // parts of a bar, from the left
const HEAVY = ["failed", "running", "retrying"];
const DASHED = ["waiting", "skipped"];
const RUN_LOOKS = { ok: "done", failed: "failed", deadline: "failed", cancelled: "cancelled", running: "running" };

export function blankStory() {
  return { serial: 0, state: "", counts: {}, workers: 0, failed: 0, elapsed_s: 0, boxes: {}, errors: [], n_errors: 0 };
}

// Takes in a message: only what changed, or all there is. Returns whether it was news: messages may come twice or late.
export function take(story, message, isWhole) {
  if (!message || !message.serial || message.serial <= story.serial) return false;
  const errors = isWhole ? message.errors : [...story.errors, ...message.errors];
  Object.assign(story, message, { boxes: { ...story.boxes, ...message.boxes }, errors });
  return true;
}

export function secondsText(seconds) {
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${whole % 60} s`;
}

function counted(n, thing) {
  return `${n.toLocaleString("en")} ${thing}${n === 1 ? "" : "s"}`;
}

function put(parent, tag, look, text) {
  const made = document.createElement(tag);
  if (look) made.className = look;
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text; // an unchanged node keeps selection and focus
}

class View {
  constructor(el, model, story) {
    this.model = model;
    this.story = story;
    this.nErrors = 0;
    this.painted = {};
    this.build(el);
    this.draw();
    this.paint();
  }

  build(el) {
    const root = put(el, "section", "dagnb dagnb-live");
    root.setAttribute("aria-label", "run, live");
    const head = put(root, "div", "head");
    this.title = put(head, "b");
    this.state = put(head, "span", "state");
    this.count = put(head, "span", "count");
    this.workers = put(head, "span", "dim count");
    this.failed = put(head, "span", "bad count");
    this.elapsed = put(head, "span", "right");
    this.bar = put(root, "div", "bar");
    this.bar.setAttribute("role", "progressbar");
    this.bar.setAttribute("aria-label", "tasks done");
    this.bar.setAttribute("aria-valuemin", "0");
    this.segments = Object.fromEntries(FILLED.map((state) => [state, put(this.bar, "i")]));
    for (const [state, segment] of Object.entries(this.segments)) segment.style.background = `var(--dagnb-${state})`;
    this.graph = put(root, "div", "graph");
    this.missing = put(root, "div", "missing");
    this.errors = put(root, "div", "errors");
    this.errorsTitle = put(this.errors, "h3", "bad");
    this.errors.setAttribute("role", "log");
    this.errors.hidden = true;
  }

  // The picture, when it comes: the kernel draws it after the view is open.
  draw() {
    const svg = this.model.get("svg");
    this.graph.replaceChildren();
    this.graph.hidden = !svg;
    this.boxes = {};
    this.painted = {};
    say(this.missing, this.model.get("missing"));
    this.missing.hidden = !this.model.get("missing");
    if (!svg) return;
    const picture = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
    this.graph.append(document.importNode(picture, true));
    for (const group of this.graph.querySelectorAll("[data-box]")) this.boxes[group.dataset.box] = boxOf(group);
  }

  // At most once a frame; in a hidden tab not at all, until it is seen again.
  ask() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.paint();
    });
  }

  paint() {
    const { story } = this;
    const total = Object.values(story.counts).reduce((sum, n) => sum + n, 0);
    const done = story.counts.done || 0;
    say(this.title, this.model.get("title"));
    say(this.state, story.state || "starting");
    this.state.className = `state text-${RUN_LOOKS[story.state] || "dim"}`;
    say(this.count, total ? `${done.toLocaleString("en")} of ${counted(total, "task")}` : "");
    say(this.workers, story.serial ? (story.workers ? counted(story.workers, "worker") : "no worker yet") : "");
    say(this.failed, story.failed ? `${story.failed.toLocaleString("en")} failed` : "");
    say(this.elapsed, story.serial ? secondsText(story.elapsed_s) : "");
    for (const state of FILLED) {
      this.segments[state].style.width = total ? `${(100 * (story.counts[state] || 0)) / total}%` : "0";
    }
    this.bar.setAttribute("aria-valuemax", String(total));
    this.bar.setAttribute("aria-valuenow", String(done));
    for (const [id, now] of Object.entries(story.boxes)) this.paintBox(id, now);
    this.paintErrors();
  }

  paintBox(id, now) {
    const box = this.boxes[id];
    if (!box || this.painted[id] === now) return;
    this.painted[id] = now;
    const total = Object.values(now.counts).reduce((sum, n) => sum + n, 0);
    const counts = Object.entries(now.counts).map(([state, n]) => `${n.toLocaleString("en")} ${state}`);
    box.frame.setAttribute("class", `frame fill-bg stroke-${now.state}`);
    box.frame.setAttribute("stroke-width", HEAVY.includes(now.state) ? "2" : "1.2");
    box.frame.setAttribute("stroke-dasharray", DASHED.includes(now.state) ? "4 3" : "none");
    say(box.words, total === 1 ? now.state : `${(now.counts.done || 0).toLocaleString("en")} / ${total.toLocaleString("en")}`);
    say(box.tip, `${box.names}\n${counts.join(", ")}`);
    paintIcon(box.icon, now.state, this.model.get("icons")[now.state]);
    if (box.track && total > 1) paintBar(box, now.counts, total);
  }

  paintErrors() {
    const { story } = this;
    this.errors.hidden = story.n_errors === 0;
    if (story.n_errors === 0) return;
    const more = story.n_errors - story.errors.length;
    say(this.errorsTitle, `Errors: ${counted(story.n_errors, "failed attempt")}${more > 0 ? `, the first ${story.errors.length} shown` : ""}`);
    for (const error of story.errors.slice(this.nErrors)) this.errors.append(errorElement(error));
    this.nErrors = story.errors.length;
  }

  leave() {
    cancelAnimationFrame(this.frame);
  }
}

function boxOf(group) {
  const tip = group.querySelector("title");
  return {
    group,
    tip,
    names: tip.textContent,
    frame: group.querySelector("rect.frame"),
    icon: group.querySelector("path.icon"),
    words: group.querySelector("text.small"),
    track: group.querySelector("rect.track"),
  };
}

function paintIcon(path, state, look) {
  if (!look) return;
  path.setAttribute("d", look.path);
  path.setAttribute("class", `icon ${look.hollow ? "stroke" : "fill"}-${state}`);
  if (look.hollow) {
    path.setAttribute("fill", "none");
    path.setAttribute("stroke-width", "1.8");
    path.setAttribute("stroke-linecap", "round");
  } else {
    for (const name of ["fill", "stroke-width", "stroke-linecap"]) path.removeAttribute(name);
  }
}

function paintBar(box, counts, total) {
  for (const part of box.group.querySelectorAll("rect.part")) part.remove();
  const [y, height] = ["y", "height"].map((name) => box.track.getAttribute(name));
  const width = Number(box.track.getAttribute("width"));
  let x = Number(box.track.getAttribute("x"));
  for (const state of FILLED) {
    if (!counts[state]) continue;
    const part = document.createElementNS(SVG, "rect");
    const wide = (width * counts[state]) / total;
    for (const [name, value] of Object.entries({ x, y, height, width: wide, class: `part fill-${state}` })) part.setAttribute(name, value);
    box.group.append(part);
    x += wide;
  }
}

export function errorElement(error) {
  const article = document.createElement("article");
  const head = put(article, "p");
  put(head, "b", "", error.task);
  put(head, "span", "bad", ` ${error.type}${error.message ? `: ${error.message}` : ""}`);
  put(article, "p", "dim", `attempt ${error.attempt} on ${error.worker || "no worker"}${error.final ? ", not tried again" : ""}`);
  if (error.code) put(article, "pre", "", error.code);
  if (error.output) put(article, "pre", "dim", error.output);
  return article;
}

// A function, so that each model has a story of its own, which grows while no view is open.
export default () => {
  const story = blankStory();
  const views = new Set();
  const tell = (isNews) => isNews && views.forEach((view) => view.ask());
  return {
    initialize({ model }) {
      take(story, model.get("told"), true);
      model.on("msg:custom", (message) => tell(take(story, message, false)));
      model.on("change:told", () => tell(take(story, model.get("told"), true)));
    },
    render({ model, el }) {
      const view = new View(el, model, story);
      const redraw = () => {
        view.draw();
        view.paint();
      };
      views.add(view);
      for (const name of ["svg", "title", "missing"]) model.on(`change:${name}`, redraw);
      return () => {
        for (const name of ["svg", "title", "missing"]) model.off(`change:${name}`, redraw);
        views.delete(view);
        view.leave();
      };
    },
  };
};
