// The view as a widget: the kernel sends what changed; one story a model, which grows while no view is open.

export default () => {
  const story = blankStory();
  const views = new Set();
  const tell = (isNews) => isNews && views.forEach((view) => view.ask());
  return {
    initialize({ model }) {
      take(story, model.get("told"), true);
      model.send({ kind: "open" });
      model.on("msg:custom", (message) => tell(take(story, message, false)));
      model.on("change:told", () => tell(take(story, model.get("told"), true)));
    },
    render({ model, el }) {
      const view = new View(el, model.get("graph").run, story, model.get("icons"), { send: (message) => model.send(message) });
      const redraw = () => {
        const told = model.get("graph");
        view.name = told.title;
        if (told.names) view.setGraph(told, told.svg, told.missing);
        view.ask();
      };
      redraw();
      model.on("change:graph", redraw);
      const clock = setInterval(() => story.state === "running" && view.paintTime(), 200);
      views.add(view);
      return () => {
        clearInterval(clock);
        model.off("change:graph", redraw);
        views.delete(view);
        if (!views.size && story.state && story.state !== "running") model.send({ kind: "gone" });
        cancelAnimationFrame(view.frame);
      };
    },
  };
};
