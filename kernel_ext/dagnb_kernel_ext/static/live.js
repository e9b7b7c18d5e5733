// The view as a widget: it gets changes from the kernel, and fills all placeholders of its run in the page.

const LIVE = (window.dagnbLive ??= new Map()); // run -> Live; the script of a placeholder that is shown later calls `fill` of this object
const CLOCK_MS = 200;

// One run in this page: its state, its views, and the widget's model, from which messages come.
class Live {
  constructor(run) {
    Object.assign(this, { run, source: "", model: null, runState: blankRunState(), views: new Set(), filled: new WeakSet() });
    setInterval(() => this.runState.state === "running" && this.views.forEach((view) => view.paintTime()), CLOCK_MS);
  }

  // Continues with another model: the kernel opens the widget again for pages that are opened later.
  adopt(model) {
    this.model = model;
    // Another kernel counts its messages from 1.
    if (this.source !== model.get("source")) Object.assign(this.runState, blankRunState(), { heard: this.runState.heard });
    this.source = model.get("source");
    this.receive(model, model.get("checkpoint"), true);
    this.learn(model);
  }

  // Takes the graph (names and edges) and the icons, and passes them to all views.
  learn(model) {
    if (model !== this.model) return;
    this.graph = model.get("graph");
    this.icons = model.get("icons");
    this.views.forEach((view) => this.introduce(view));
    this.fill();
  }

  receive(model, message, isWhole) {
    if (model !== this.model) {
      if (performance.now() - this.runState.heard > SILENT_MS) this.adopt(model);
      return;
    }
    if (take(this.runState, message, isWhole)) this.views.forEach((view) => view.ask());
    this.fill();
  }

  introduce(view) {
    view.name = this.graph.title;
    if (this.graph.names) view.setGraph(this.graph, this.graph.svg, this.graph.missing);
    view.paint(); // at once, because all boxes of a new drawing look as if their tasks were waiting
  }

  show(el) {
    const view = new View(el, this.run, this.runState, this.icons, { send: (message) => this.model.send(message) });
    this.views.add(view);
    this.introduce(view);
    return view;
  }

  // Puts views into placeholders that have none yet. Without a graph placeholders keep their own text.
  fill() {
    if (!this.graph?.names) return;
    for (const placeholder of document.querySelectorAll("[data-dagnb-run]")) {
      if (placeholder.dataset.dagnbRun !== this.run || this.filled.has(placeholder)) continue;
      this.filled.add(placeholder);
      placeholder.replaceChildren();
      this.show(placeholder);
    }
  }
}

function liveOf(model) {
  const { run } = model.get("graph");
  if (!LIVE.has(run)) LIVE.set(run, new Live(run));
  return LIVE.get(run);
}

export default {
  initialize({ model }) {
    const live = liveOf(model);
    live.adopt(model);
    model.on("msg:custom", (message) => live.receive(model, message, false));
    model.on("change:checkpoint", () => live.receive(model, model.get("checkpoint"), true));
    model.on("change:graph", () => live.learn(model));
  },
  // For front ends where the output is the widget itself.
  render({ model, el }) {
    const live = liveOf(model);
    const view = live.show(el);
    return () => {
      live.views.delete(view);
      cancelAnimationFrame(view.frame);
    };
  },
};
