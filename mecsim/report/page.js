"use strict";
// What the page does: draw the figures, switch their lines, follow the theme, sort and filter tables.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const charts = new Map();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;

  // ---- figures
  const models = (chart) => [...chart.document._all_models.values()];
  async function draw(element) {
    const item = JSON.parse(document.getElementById(`${element.id}-data`).textContent);
    const before = new Set(Bokeh.documents);
    const views = await Bokeh.embed.embed_item(item, element.id);
    const drawn = Bokeh.documents.find((each) => !before.has(each));
    const [view] = views.roots ?? [];
    const chart = { view, document: drawn, plot: drawn.roots()[0], original: new Map() };
    charts.set(element.id, chart);
    show(element.id);
    paint(chart);
    if (element.clientWidth < 480) { // labels would overlap
      for (const axis of models(chart).filter((each) => each.type === "LinearAxis"))
        if (axis.ticker.type === "BasicTicker") axis.ticker.desired_num_ticks = 4;
    }
    if (matchMedia("(pointer: fine)").matches) { // a finger scrolls the page
      const pan = chart.plot.toolbar.tools.find((tool) => tool.type === "PanTool");
      if (pan) pan.active = true;
    }
    element.dataset.drawn = "";
  }
  const tagged = (model, kind) => [...model.tags, ...(model.glyph?.tags ?? [])]
    .filter((tag) => String(tag).startsWith(`${kind}:`)).map((tag) => tag.slice(kind.length + 1));
  function show(name) { // the renderers of the chosen view whose keys are checked
    const chart = charts.get(name);
    const select = document.querySelector(`select[data-choose="${name}"]`);
    const hidden = new Set(all(`input[data-key="${name}"]`)
      .filter((box) => !box.checked).map((box) => box.value));
    for (const model of models(chart).filter((each) => "visible" in each.properties)) {
      const choices = tagged(model, "choice");
      const lines = tagged(model, "line");
      if (choices.length || lines.length)
        model.visible = (!choices.length || choices.includes(select.value))
          && !lines.some((line) => hidden.has(line));
    }
  }

  // ---- theme: figures have no background; their text and rules are set here
  const INK = { light: ["#1c2126", "#5a646e", "#d5dbe1"], dark: ["#e6eaee", "#a5b0ba", "#3a444d"] };
  const TEXT = ["major_label_text_color", "axis_label_text_color", "group_text_color",
    "title_text_color", "text_color", "label_text_color"];
  const RULES = ["axis_line_color", "major_tick_line_color", "minor_tick_line_color",
    "outline_line_color"];
  function paint(chart) {
    const [ink, soft, line] = INK[dark.matches && !printing ? "dark" : "light"];
    const set = (model, name, colour) => {
      if (name in model.properties) model.setv({ [name]: colour });
    };
    for (const model of models(chart)) {
      const inky = model.tags.includes("ink");
      if (/Axis$|^Title$|^ColorBar$/.test(model.type)) {
        TEXT.forEach((name) => set(model, name, ink));
        RULES.forEach((name) => set(model, name, soft));
      } else if (model.type === "Grid") set(model, "grid_line_color", line);
      else if (model.type === "Figure") set(model, "outline_line_color", line);
      else if (inky) ["text_color", "line_color", "fill_color"].forEach((name) => set(model, name, ink));
      else ["line_color", "fill_color"].forEach((name) => adapt(chart, model, name));
      if (model.type === "Toolbar") model.visible = !printing;
    }
  }
  // A colour too close to the background of the dark page is mixed with white.
  function adapt(chart, model, name) {
    const value = model.properties[name]?.get_value?.() ?? model[name];
    const key = `${model.id}.${name}`;
    if (!chart.original.has(key)) {
      const given = value && typeof value === "object" ? value.value : value;
      if (typeof given !== "string" || !/^#[0-9a-f]{6}$/i.test(given)) return;
      chart.original.set(key, given);
    }
    const given = chart.original.get(key);
    const wanted = dark.matches && !printing ? lighter(given) : given;
    model.setv({ [name]: model.properties[name].syncable && value && typeof value === "object"
      ? { value: wanted } : wanted });
  }
  function lighter(colour) {
    if (colour === "#000000") return "#ffffff";
    let rgb = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    const light = (c) => 0.2126 * (c[0] / 255) ** 2.2 + 0.7152 * (c[1] / 255) ** 2.2
      + 0.0722 * (c[2] / 255) ** 2.2;
    while (light(rgb) < 0.18) rgb = rgb.map((each) => Math.ceil(each + (255 - each) * 0.15));
    return `#${rgb.map((each) => each.toString(16).padStart(2, "0")).join("")}`;
  }
  const repaint = () => {
    charts.forEach(paint);
    all(".swatch").forEach((each) => {
      each.dataset.colour ??= each.style.color;
      const rgb = each.dataset.colour.match(/\d+/g).map((x) => (+x).toString(16).padStart(2, "0"));
      each.style.color = dark.matches && !printing ? lighter(`#${rgb.join("")}`) : each.dataset.colour;
    });
  };
  dark.addEventListener("change", repaint);
  addEventListener("beforeprint", () => { printing = true; repaint(); });
  addEventListener("afterprint", () => { printing = false; repaint(); });

  // ---- tables
  function sort(button) {
    const head = button.closest("th");
    const table = head.closest("table");
    const column = [...head.parentNode.children].indexOf(head);
    const down = head.getAttribute("aria-sort") === "ascending";
    all("th[aria-sort]", table).forEach((each) => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.children[column].dataset.value ?? row.children[column].textContent.trim();
    const absent = (text) => text === "" || text === "–" || text === "nan";
    const rows = all("tr", table.tBodies[0]);
    rows.sort((one, other) => {
      const [a, b] = [key(one), key(other)];
      if (absent(a) || absent(b)) return absent(a) - absent(b);
      const order = isNaN(a) || isNaN(b) ? a.localeCompare(b, "en", { numeric: true }) : a - b;
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
  }
  function filter(box) {
    const wanted = box.querySelector("[data-filter]").value.toLowerCase().trim();
    const chosen = all("select[data-column]", box).filter((each) => each.value);
    let shown = 0;
    for (const row of all("tbody tr", box)) {
      row.hidden = !(row.textContent.toLowerCase().includes(wanted)
        && chosen.every((each) => row.children[each.dataset.column].textContent.trim() === each.value));
      shown += !row.hidden;
    }
    box.querySelector("[data-count]").textContent = `${shown} rows`;
  }
  addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-sort]");
    if (button) sort(button);
  });
  const changed = ({ target }) => {
    if (target.matches("[data-filter], [data-column]")) filter(target.closest(".table"));
    if (target.dataset.choose) show(target.dataset.choose);
    if (target.dataset.key) show(target.dataset.key);
  };
  addEventListener("input", changed);
  addEventListener("change", changed); // a list that a program sets

  // ---- the path of a task, from hop to hop
  const digits = (value) => Number.isFinite(value) ? String(+value.toPrecision(7)) : "–";
  const span = (value) => Number.isFinite(value) ? String(+value.toPrecision(4)) : "–";
  function follow(controls) {
    const name = controls.dataset.path;
    const chart = charts.get(name);
    const services = chart.document.get_model_by_name("services");
    const field = controls.querySelector("input");
    const get = (column) => services.data[column];
    function drawPath() {
      const task = field.value === "" ? -1 : Number(field.value);
      const rows = [...get("task").keys()].filter((row) => get("task")[row] === task)
        .sort((one, other) => get("enqueue")[one] - get("enqueue")[other]
          || get("start")[one] - get("start")[other]);
      const drawn = rows.filter((row) => Number.isFinite(get("y")[row]));
      chart.document.get_model_by_name("path").data = {
        x: drawn.flatMap((row) => [get("enqueue")[row], get("start")[row], get("finish")[row]]),
        y: drawn.flatMap((row) => [get("y")[row], get("y")[row], get("y")[row]]),
      };
      chart.document.get_model_by_name("path-starts").data = {
        x: drawn.map((row) => get("start")[row]), y: drawn.map((row) => get("y")[row]),
        text: drawn.map((row) => String(get("block")[row])),
      };
      const body = document.querySelector(`#${name}-hops tbody`);
      body.replaceChildren(...rows.map((row) => {
        const line = document.createElement("tr");
        const [asked, start, finish] = ["enqueue", "start", "finish"].map((each) => get(each)[row]);
        [get("resource")[row], get("block")[row], digits(asked), span(start - asked),
          digits(start), span(finish - start), digits(finish)].forEach((text, place) => {
          const cell = document.createElement(place ? "td" : "th");
          if (place) cell.className = "number";
          else Object.assign(cell, { scope: "row", className: "short" });
          cell.textContent = text;
          line.append(cell);
        });
        return line;
      }));
      services.selected.indices = rows;
      controls.querySelector("output").textContent = task < 0 ? ""
        : rows.length ? `task ${task}: ${rows.length} hops` : `task ${task} is not in the window`;
    }
    field.addEventListener("input", drawPath);
    controls.querySelector("[data-clear]").addEventListener("click", () => {
      field.value = "";
      drawPath();
    });
    services.selected.change.connect(() => {
      const [row] = services.selected.indices;
      if (row === undefined || String(get("task")[row]) === field.value) return;
      field.value = get("task")[row];
      drawPath();
    });
    drawPath();
  }

  async function start() {
    for (const element of all("[data-chart]")) await draw(element);
    repaint();
    all("[data-path]").forEach(follow);
    document.documentElement.dataset.ready = "";
  }
  window.mecsimReport = { charts }; // for tests and the console of the browser
  start();
})();
