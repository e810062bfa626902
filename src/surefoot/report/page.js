"use strict";
// Draws the charts of the page live, and lets tables be sorted. Without it, the page shows pictures and tables.
(() => {
  const tip = document.getElementById("tip");
  const written = (value) => typeof value === "number" ? String(Number(value.toPrecision(5)))
    : value === null || value === undefined ? "-" : String(value);
  const showTip = (_, event, item, value) => {
    if (value === null || value === undefined || value === "") { tip.style.display = "none"; return; }
    tip.textContent = typeof value === "object"
      ? Object.entries(value).map(([name, each]) => `${name}: ${written(each)}`).join("\n") : written(value);
    tip.style.display = "block";
    tip.style.left = `${Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${Math.min(event.clientY + 14, window.innerHeight - tip.offsetHeight - 8)}px`;
  };
  const narrow = (room) => room < 520;
  const wrapped = (text, room) => {
    const lines = [""];
    for (const word of [text].flat().join(" ").split(" ")) {
      const longer = `${lines.at(-1)} ${word}`.trim();
      if (longer.length * 7.5 > room) lines.push(word); else lines[lines.length - 1] = longer;
    }
    return lines;
  };
  // A phone has room for one panel beside none, legends under them, and titles in several lines.
  const stackedChannel = (channel) => {
    if (channel && channel.legend) return { ...channel, legend: { ...channel.legend, orient: "bottom", columns: 2, labelLimit: 145 } };
    // Beside another panel an axis may do without numbers; under it, it may not.
    return channel && channel.axis && channel.axis.labels === false ? { ...channel, axis: { ...channel.axis, labels: true } } : channel;
  };
  const legends = (encoding) => Object.fromEntries(Object.entries(encoding).map(([name, each]) => [name, stackedChannel(each)]));
  const fitted = (spec, factor, room) => {
    if (Array.isArray(spec)) return spec.map((each) => fitted(each, factor, room));
    if (spec === null || typeof spec !== "object") return spec;
    return Object.fromEntries(Object.entries(spec).map(([name, value]) => {
      if (name === "width" && typeof value === "number") return [name, Math.max(90, Math.round(value * factor))];
      if (narrow(room) && name === "hconcat") return ["vconcat", fitted(value, factor, room)];
      if (narrow(room) && name === "encoding") return [name, legends(value)];
      if (narrow(room) && name === "title" && value && value.text) {
        const under = value.subtitle ? { subtitle: wrapped(value.subtitle, room) } : {};
        return [name, { ...value, text: wrapped(value.text, room), ...under }];
      }
      return ["data", "datasets", "values", "mark", "encoding", "params"].includes(name) ? [name, value]
        : [name, fitted(value, factor, room)];
    }));
  };
  const shaped = (spec, factor, room) => {
    const shape = fitted(spec, factor, room), config = shape.config || {};
    const legend = { ...config.legend, orient: "bottom", columns: 2, labelLimit: 145, gradientLength: 140 };
    return narrow(room) ? { ...shape, config: { ...config, legend } } : shape;
  };
  window.charts = {};
  const draw = async (figure) => {
    const data = figure.querySelector("script[type='application/json']");
    const live = figure.querySelector(".live");
    const still = figure.querySelector(".still");
    const spec = JSON.parse(data.textContent);
    const room = figure.clientWidth, full = Number(still.getAttribute("width")) || room;
    const stacked = narrow(room) && "hconcat" in spec;
    let factor = full > room && !stacked ? Math.max(0.2, (room - 110) / (full - 110)) : 1;
    const options = { ast: true, actions: false, defaultStyle: false, renderer: "canvas", tooltip: showTip };
    try {
      figure.classList.add("drawn");
      // Axes and legends do not shrink with the panels: what is still too wide is drawn again, narrower.
      for (let tries = 0; tries < 4; tries += 1) {
        const result = await window.vegaEmbed(live, shaped(spec, factor, room), options);
        window.charts[figure.id] = result.view;
        const over = live.scrollWidth - live.clientWidth;
        if (over <= 0) break;
        factor = Math.max(0.15, factor * (1 - (over + 4) / Math.max(120, live.scrollWidth - 110)));
        if (tries < 3) result.finalize();
      }
    } catch (error) { figure.classList.remove("drawn"); console.error(figure.id, error); }
  };
  const all = [...document.querySelectorAll("figure.chart")];
  // One after the other from the top, so that the first can be used while the last are drawn.
  if (window.vegaEmbed) (async () => { for (const figure of all) await draw(figure); })();
  const key = (row, at) => row.cells[at].dataset.value ?? row.cells[at].textContent;
  const compared = (a, b) => {
    const x = parseFloat(a), y = parseFloat(b);
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  for (const head of document.querySelectorAll("table.sorts thead th")) {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = head.closest("table").tBodies[0];
      const rows = [...body.rows].sort((a, b) => compared(key(a, head.cellIndex), key(b, head.cellIndex)));
      body.append(...(down ? rows.reverse() : rows));
    });
  }
})();
