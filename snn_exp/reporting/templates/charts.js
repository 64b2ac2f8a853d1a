"use strict";
// Draws the charts of a page with Bokeh, from the numbers that stand behind each figure's link to its CSV. What each
// chart shows is in its script of type application/json: see `Chart` in snn_exp/reporting/charts.py.
(() => {
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const GREY = "#8a8f98";
const STOPS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
const VIRIDIS = Array.from({length: 253}, (_, i) => {
  const [at, part] = [Math.min(Math.floor(i / 28), 8), i / 28 - Math.min(Math.floor(i / 28), 8)];
  const channel = (stop, k) => parseInt(STOPS[stop].slice(k, k + 2), 16);
  return "#" + [1, 3, 5].map(k => Math.round(channel(at, k) * (1 - part) + channel(at + 1, k) * part).toString(16).padStart(2, "0")).join("");
});

// The bundle is unpacked once, when the first chart comes near the screen.
let bokeh = null;
function library() {
  bokeh ??= (async () => {
    const packed = Uint8Array.from(atob(document.getElementById("bokeh").textContent.trim()), c => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    window.Bokeh.logger.set_level("off");  // it says how long each chart took
    return window.Bokeh;
  })();
  return bokeh;
}

// CSV as `escaping.csv` writes it: fields in quotation marks where they need them.
function parse(text) {
  const rows = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\n]*))(,|\n|$)/g)) {
    rows[rows.length - 1].push(quoted === undefined ? plain : quoted.replaceAll('""', '"'));
    if (end === "\n") rows.push([]);
    if (end === "") break;
  }
  const [names, ...of] = rows;
  return of.filter(row => row.length === names.length).map(row => Object.fromEntries(names.map((name, i) => [name, unmarked(row[i])])));
}

function numbersOf(figure) {
  const coded = figure.querySelector("a.download").getAttribute("href").split("base64,")[1];
  return parse(new TextDecoder().decode(Uint8Array.from(atob(coded), c => c.charCodeAt(0))));
}

function grouped(rows, column) {
  const groups = new Map();
  for (const row of rows) {
    if (!groups.has(row[column])) groups.set(row[column], []);
    groups.get(row[column]).push(row);
  }
  return groups;
}

// Bokeh reads formulas in labels, and a cell of a CSV file that a spreadsheet would is marked.
const plain = text => text.replace(/\$\$|\\[([]/g, found => found[0] + "\u200b" + found[1]);
const unmarked = text => text.replace(/^'(?=\s*[=+\-@\uff1d\uff0b\uff0d\uff20])/, "");

// A plot in the colours of the page.
function plotOf(B, axes, tips, more) {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink").trim(), line = style.getPropertyValue("--line").trim();
  const plot = B.Plotting.figure({
    height: 290, sizing_mode: "stretch_width", title: plain(axes.title), x_axis_label: plain(axes.x_label) || null,
    y_axis_label: plain(axes.y_label) || null, x_axis_type: axes.log_x ? "log" : "linear",
    y_axis_type: axes.log_y ? "log" : "linear", tools: "box_zoom,reset", toolbar_location: "right", ...more,
  });
  plot.toolbar.logo = null;
  plot.toolbar.autohide = true;
  plot.toolbar.active_drag = null;  // a finger scrolls the page
  plot.background_fill_color = plot.border_fill_color = null;
  plot.outline_line_color = line;
  plot.title.text_color = ink;
  plot.title.text_font_size = "13px";
  for (const axis of [plot.xaxis, plot.yaxis].flatMap(found => [...found])) {
    axis.axis_line_color = axis.major_tick_line_color = axis.minor_tick_line_color = ink;
    axis.major_label_text_color = axis.axis_label_text_color = ink;
    axis.axis_label_text_font_style = "normal";
  }
  for (const grid of [plot.xgrid, plot.ygrid].flatMap(found => [...found])) grid.grid_line_color = line;
  if (axes.x_ticks.length) for (const axis of [...plot.xaxis]) axis.ticker = new B.FixedTicker({ticks: axes.x_ticks});
  plot.add_tools(new B.HoverTool({tooltips: tips, renderers: [], point_policy: "snap_to_data", limit: 6}));
  return plot;
}

function hovered(plot, renderer) {
  const hover = plot.toolbar.tools.find(tool => tool.type === "HoverTool");
  hover.renderers = [...hover.renderers, renderer];
}

function shown(value) {
  const number = Number(value);
  if (value === "" || Number.isNaN(number)) return value;
  return number === 0 || (Math.abs(number) >= 0.001 && Math.abs(number) < 1e6) ? String(Number(number.toPrecision(5))) : number.toExponential(3);
}

// At most six numbers on a logarithmic axis, as even as 1, 2 and 5 are, and none between them.
function numberDecades(B, axes, values, most) {
  const [low, high] = values.filter(value => value > 0).reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, 0]);
  if (!(high > 0)) return;
  const decades = Array.from({length: 40}, (_, i) => 10 ** (i - 20));
  const within = steps => decades.flatMap(decade => steps.map(step => Number((step * decade).toPrecision(3)))).filter(tick => tick >= low * 0.98 && tick <= high * 1.02);
  let ticks = [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7], [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9]].map(within).findLast(ticks => ticks.length <= most) ?? [];
  if (ticks.length === 0) ticks = within([1]).filter((_, i, all) => i % Math.ceil(all.length / most) === 0);
  if (ticks.length < 2) return;
  for (const axis of axes) {
    axis.ticker = new B.FixedTicker({ticks});
    axis.major_label_overrides = new Map(ticks.map(tick => [tick, tick >= 0.001 && tick < 1e6 ? tick.toLocaleString("en") : tick.toExponential()]));
  }
}

// Curves and points: one source per line, which its button hides everywhere.
function drawLines(B, spec, axes, rows, parts) {
  const columns = Object.keys(rows[0] ?? {});
  const tips = [["", "@names"], [axes.x_label || spec.x, "@x_shown"], [axes.y_label || axes.title, "@y_shown"]];
  if (columns.includes("n")) tips.push(["seeds", "@n"]);
  const plot = plotOf(B, axes, tips, spec.kind === "points" ? {height: 380} : {});
  const lines = new Map([...grouped(rows, "line")].sort(([a], [b]) => (a in spec.looks) - (b in spec.looks)));  // the grey ones below
  const order = Object.keys(spec.looks);
  const all = {x: [], y: [], names: [], x_shown: [], y_shown: [], n: []}, hidden = new Set();
  for (const [name, of] of lines) {
    const look = spec.looks[name];
    const colour = look ? look[dark.matches ? 1 : 0] : GREY;
    const real = of.map(row => Number(row[spec.x]) * axes.x_factor);
    const x = real.map(value => value * spec.aside ** (order.indexOf(name) - (order.length - 1) / 2));
    const raw = of.map(row => Number(row[spec.y]) * axes.y_factor);
    const y = axes.log_y ? raw.map(value => Math.max(value, 1e-12)) : raw;
    const sd = of.map(row => spec.spread ? Number(row[spec.spread]) * axes.y_factor : 0);
    const x_sd = of.map(row => spec.x_spread ? Number(row[spec.x_spread]) * axes.x_factor : 0);
    const within = (values, spread) => values.map((value, i) => shown(value) + (spread[i] ? " ± " + shown(spread[i]) : ""));
    const source = new B.ColumnDataSource({data: {
      x, y, line: of.map(() => name),
      low: y.map((value, i) => value - sd[i]), high: y.map((value, i) => value + sd[i]),
      left: x.map((value, i) => Math.max(value - x_sd[i], axes.log_x ? value * 1e-3 : -Infinity)),
      right: x.map((value, i) => value + x_sd[i]),
    }});
    const pointed = {x, y, names: of.map(() => name), n: of.map(row => row.n ?? ""), x_shown: within(real, x_sd), y_shown: within(raw, sd)};
    for (const [column, found] of Object.entries(pointed)) all[column].push(...found);
    const of_line = [];
    const field = {source, color: colour, alpha: look ? 1 : 0.35};
    if (spec.band) of_line.push(plot.varea({x: {field: "x"}, y1: {field: "low"}, y2: {field: "high"}, source, fill_color: colour, fill_alpha: 0.18}));
    else if (spec.spread && look) of_line.push(plot.segment({x0: {field: "x"}, y0: {field: "low"}, x1: {field: "x"}, y1: {field: "high"}, ...field}));
    if (spec.x_spread && look) of_line.push(plot.segment({x0: {field: "left"}, y0: {field: "y"}, x1: {field: "right"}, y1: {field: "y"}, ...field}));
    if (spec.kind === "curves") of_line.push(plot.line({x: {field: "x"}, y: {field: "y"}, line_width: 1.8, line_dash: look?.[3] ?? "solid", ...field}));
    // of a long curve some six points bear the mark of the line
    const marker = {value: look?.[2] ?? "circle"}, size = !look ? 6 : spec.kind === "points" ? 10 : 8;
    const every = spec.kind === "points" ? 1 : Math.max(1, Math.floor(of.length / 6));
    const first = [...lines.keys()].indexOf(name) % every;
    const view = new B.CDSView({filter: new B.IndexFilter({indices: of.map((_, i) => i).filter(i => i % every === first)})});
    of_line.push(plot.scatter({x: {field: "x"}, y: {field: "y"}, size, marker, view, ...field}));
    if (!parts.has(name)) parts.set(name, []);
    parts.get(name).push(...of_line);
  }
  // Every point can be pointed at, and all that lie under the pointer stand in one box.
  const pointed = plot.scatter({x: {field: "x"}, y: {field: "y"}, size: 9, alpha: 0, source: new B.ColumnDataSource({data: all})});
  hovered(plot, pointed);
  for (const name of lines.keys()) parts.get(name).push({set visible(on) {
    if (on) hidden.delete(name); else hidden.add(name);
    const indices = all.names.flatMap((of, i) => hidden.has(of) ? [] : [i]);
    pointed.view = new B.CDSView({filter: new B.IndexFilter({indices})});
  }});
  if (spec.joined) {
    const front = rows.filter(row => row[spec.joined] === "True").sort((a, b) => a[spec.x] - b[spec.x]);
    plot.line({x: front.map(row => row[spec.x] * axes.x_factor), y: front.map(row => row[spec.y] * axes.y_factor), color: GREY});
  }
  if (all.y.every(value => value === 0)) plot.y_range = new B.Range1d({start: -0.05, end: 1});
  const few = window.innerWidth < 600 ? 4 : 7;
  if (axes.log_x && !axes.x_ticks.length) numberDecades(B, [...plot.xaxis], all.x, few);
  if (axes.log_y) numberDecades(B, [...plot.yaxis], axes.rule === null ? all.y : [...all.y, axes.rule], 7);
  if (axes.rule !== null) plot.add_layout(new B.Span({location: axes.rule, dimension: "width", line_color: GREY, line_dash: "dotted"}));
  return plot;
}

// A map: a cell per layer and epoch, the first layer at the top; or per class and what it was taken for.
function drawMap(B, spec, axes, rows, most) {
  const named = column => [...new Set(rows.map(row => row[column]))];
  const names = named(spec.y), places = new Map(names.map((name, i) => [name, i + 1]));
  const others = spec.but_equal ? places : null;
  const x = rows.map(row => others ? others.get(row[spec.x]) : Number(row[spec.x]));
  const tips = [[axes.y_label, others ? "@name" : "@number: @name"], [axes.x_label, others ? "@other" : "@x"], [spec.value.replace("_", " "), "@shown"]];
  if (rows[0].count !== undefined) tips.push(["samples", "@count"]);
  const plot = plotOf(B, axes, tips, {
    height: Math.min(620, Math.max(260, 90 + (others ? 20 : 4) * names.length)), y_range: new B.Range1d({start: names.length + 0.5, end: 0.5}),
    x_range: new B.Range1d({start: Math.min(...x) - 0.5, end: Math.max(...x) + 0.5}),
  });
  if (others) for (const axis of [plot.xaxis, plot.yaxis].flatMap(found => [...found])) {
    axis.ticker = new B.FixedTicker({ticks: names.map((_, i) => i + 1)});
    axis.major_label_overrides = new Map(names.map((name, i) => [i + 1, plain(name)]));
    if (axis === [...plot.xaxis][0] && Math.max(...names.map(name => name.length)) > 2) axis.major_label_orientation = "vertical";
  }
  for (const grid of [plot.xgrid, plot.ygrid].flatMap(found => [...found])) grid.visible = false;
  const values = rows.map(row => Number(row[spec.value])), right = row => spec.but_equal && row[spec.x] === row[spec.y];
  const source = new B.ColumnDataSource({data: {
    x, other: rows.map(row => row[spec.x]), count: rows.map(row => row.count ?? ""), number: rows.map(row => places.get(row[spec.y])), name: rows.map(row => row[spec.y]),
    value: rows.map((row, i) => right(row) ? NaN : values[i]), shown: values.map(shown),
  }});
  const colour = {field: "value", transform: new B.LinearColorMapper({palette: VIRIDIS, low: 0, high: most, nan_color: GREY})};
  hovered(plot, plot.rect({x: {field: "x"}, y: {field: "number"}, width: 1, height: 1, dilate: true, source, fill_color: colour, line_color: null}));
  return plot;
}

function keyOf(name, look) {
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-pressed", "true");
  const svg = [...document.querySelectorAll("[data-look]")].find(found => found.dataset.look === name)?.firstChild.cloneNode(true);
  if (svg) button.append(svg);
  button.append(name);
  return button;
}

// The buttons switch lines on and off; a double click leaves one alone, and another brings all back.
function legendOf(spec, parts) {
  const legend = document.createElement("div");
  legend.className = "legend";
  legend.setAttribute("role", "group");
  legend.setAttribute("aria-label", "Lines to show");
  const buttons = new Map();
  const set = (name, on) => {
    buttons.get(name).setAttribute("aria-pressed", String(on));
    for (const part of parts.get(name)) part.visible = on;
  };
  for (const name of Object.keys(spec.looks).filter(name => parts.has(name))) {
    const button = keyOf(name, spec.looks[name]);
    buttons.set(name, button);
    button.addEventListener("click", () => set(name, button.getAttribute("aria-pressed") !== "true"));
    button.addEventListener("dblclick", () => {
      const alone = [...buttons].every(([other, of]) => (of.getAttribute("aria-pressed") === "true") === (other === name));
      for (const other of buttons.keys()) set(other, alone || other === name);
    });
    legend.append(button);
  }
  return legend;
}

async function enliven(figure) {
  const spec = JSON.parse(figure.querySelector("script.chart").textContent);
  const B = await library();
  const rows = numbersOf(figure);
  const live = document.createElement("div");
  live.className = "live";
  const grid = document.createElement("div");
  grid.className = "charts";
  grid.setAttribute("role", "group");
  grid.setAttribute("aria-label", figure.querySelector("figcaption .says").textContent);
  const parts = new Map();
  const counted = rows.filter(row => !(spec.but_equal && row[spec.x] === row[spec.y]));
  const most = spec.value ? counted.reduce((most, row) => Math.max(most, Number(row[spec.value])), 0) || 1 : 1;
  const places = [];
  for (const axes of spec.axes) {
    const of = rows.filter(row => Object.entries(axes.where).every(([column, value]) => row[column] === value));
    if (!of.length) continue;
    const place = document.createElement("div");
    grid.append(place);
    places.push([place, spec.kind === "map" ? drawMap(B, spec, axes, of, most) : drawLines(B, spec, axes, of, parts)]);
  }
  live.append(grid);
  if (parts.size > 1) live.append(legendOf(spec, parts));
  if (spec.kind === "map") live.append(Object.assign(document.createElement("div"), {className: "scale", textContent: `${spec.value.replace("_", " ")} 0 to ${shown(most)}`}));
  figure.querySelector(".live")?.remove();
  figure.querySelector(".still").after(live);
  for (const [place, plot] of places) await B.Plotting.show(plot, place);
  figure.classList.add("enlivened");
}

if (typeof DecompressionStream === "undefined") return;
const figures = [...document.querySelectorAll("figure:has(script.chart)")];
const enlivened = new Set();
const near = new IntersectionObserver(entries => {
  for (const entry of entries.filter(entry => entry.isIntersecting)) {
    near.unobserve(entry.target);
    enlivened.add(entry.target);
    enliven(entry.target).catch(error => console.warn(`${entry.target.id} stays a picture: ${error}`));
  }
}, {rootMargin: "300px"});
for (const figure of figures) near.observe(figure);
if (figures.length) document.getElementById("how").hidden = false;
dark.addEventListener("change", () => enlivened.forEach(figure => enliven(figure)));
})();
