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
  const fitted = (spec, factor) => {
    if (Array.isArray(spec)) return spec.map((each) => fitted(each, factor));
    if (spec === null || typeof spec !== "object") return spec;
    return Object.fromEntries(Object.entries(spec).map(([name, value]) => {
      if (name === "width" && typeof value === "number") return [name, Math.max(120, Math.round(value * factor))];
      return ["data", "datasets", "values", "mark", "encoding"].includes(name) ? [name, value] : [name, fitted(value, factor)];
    }));
  };
  window.charts = {};
  const draw = async (figure) => {
    const data = figure.querySelector("script[type='application/json']");
    const live = figure.querySelector(".live");
    const still = figure.querySelector(".still");
    const spec = JSON.parse(data.textContent);
    const room = figure.clientWidth, full = Number(still.getAttribute("width")) || room;
    const factor = full > room ? Math.max(0.3, (room - 110) / (full - 110)) : 1;
    const options = { ast: true, actions: false, defaultStyle: false, renderer: "canvas", tooltip: showTip };
    try {
      const result = await window.vegaEmbed(live, fitted(spec, factor), options);
      window.charts[figure.id] = result.view;
      figure.classList.add("drawn");
    } catch (error) { console.error(figure.id, error); }
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
