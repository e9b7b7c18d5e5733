// The view as a widget: the kernel sends what changed. It stands in the places of its run, wherever in the page they are.

const LIVE = (window.dagnbLive ??= new Map()); // run -> Live; a place looks here when it is shown after the widget
const CLOCK_MS = 200;

// All that a page knows of one run: one story, its views, and the model that it comes from.
class Live {
  constructor(run) {
    Object.assign(this, { run, source: "", model: null, story: blankStory(), views: new Set(), filled: new WeakSet() });
    setInterval(() => this.story.state === "running" && this.views.forEach((view) => view.paintTime()), CLOCK_MS);
  }

  // Takes another model for the source of news: a kernel opens one anew for pages that came later.
  adopt(model) {
    this.model = model;
    // Another kernel counts its messages from 1.
    if (this.source !== model.get("source")) Object.assign(this.story, blankStory(), { heard: this.story.heard });
    this.source = model.get("source");
    this.hear(model, model.get("told"), true);
    this.learn(model);
  }

  // The graph: names and edges, and where the views stand.
  learn(model) {
    if (model !== this.model) return;
    this.graph = model.get("graph");
    this.icons = model.get("icons");
    this.views.forEach((view) => this.introduce(view));
    this.fill();
  }

  hear(model, message, isWhole) {
    if (model !== this.model) {
      if (performance.now() - this.story.heard > SILENT_MS) this.adopt(model);
      return;
    }
    if (take(this.story, message, isWhole)) this.views.forEach((view) => view.ask());
    this.fill();
  }

  introduce(view) {
    view.name = this.graph.title;
    if (this.graph.names) view.setGraph(this.graph, this.graph.svg, this.graph.missing);
    view.paint(); // at once: until then the boxes of a new drawing all look as if they were waiting
  }

  show(el) {
    const view = new View(el, this.run, this.story, this.icons, { send: (message) => this.model.send(message) });
    this.views.add(view);
    this.introduce(view);
    return view;
  }

  // Puts views into places that have none yet; until there is a graph they keep their own words.
  fill() {
    if (!this.graph?.names) return;
    for (const place of document.querySelectorAll("[data-dagnb-run]")) {
      if (place.dataset.dagnbRun !== this.run || this.filled.has(place)) continue;
      this.filled.add(place);
      place.replaceChildren();
      this.show(place);
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
    model.on("msg:custom", (message) => live.hear(model, message, false));
    model.on("change:told", () => live.hear(model, model.get("told"), true));
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
