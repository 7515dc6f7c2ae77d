// One chart: a figure with its title, its lines (drawn by dygraphs), the marks on its time axis, and a legend that
// tells the newest values, or those under the cursor.
/* global Dygraph */

import { element } from "./dom.js";
import { clock, quantity, tick } from "./format.js";
import { kindOf, near } from "./marks.js";
import { colour } from "./theme.js";

// Its legend plugin writes inline styles, which the page's policy forbids; ours is below.
Dygraph.PLUGINS = Dygraph.PLUGINS.filter((plugin) => plugin !== Dygraph.Plugins.Legend);

const DASHES = [null, [6, 3], [2, 3]]; // colours come again with another dash
const COLOURS = 7;
const CLICK_PX = 4;
const STALE_STEPS = 3;
const STALE_S = 20; // what collectd sends every 10 s may be this late

export class Chart {
  /**
   * @param spec an entry of panels.js
   * @param actions main.js's: cursor(time), zoom(from, to), live()
   */
  constructor(spec, actions) {
    this.spec = spec;
    this.actions = actions;
    this.ofEvents = JSON.stringify(spec.query).includes("_bucket");
    this.names = [];
    this.rows = [];
    this.marks = [];
    this.at = null; // the time under the cursor
    this.legend = element("ul", { class: "legend" });
    this.state = element("p", { class: "chart-state", hidden: true });
    this.plot = element("div", { class: "plot", tabindex: 0, role: "img", "aria-label": `${spec.title}: no data yet` });
    this.cursor = element("div", { class: "cursor", hidden: true });
    this.selection = element("div", { class: "selection", hidden: true });
    this.canvas = element("div", { class: "canvas" });
    this.plot.append(this.canvas, this.cursor, this.selection, this.state);
    this.figure = element("figure", { class: "chart", id: spec.id }, [
      element("figcaption", {}, [element("h3", {}, [spec.title]), element("p", { class: "note" }, [spec.note ?? ""])]),
      this.plot,
      this.legend,
    ]);
    this.#listen();
    new ResizeObserver(() => this.graph?.resize()).observe(this.canvas);
  }

  /**
   * @param series [{name, style, points: Map(seconds → value)}]; a style is a number: what has the same number looks
   *   the same in every chart
   * @param stretch {from, to, step}
   * @param marks those within the stretch
   * @param chosen a host's name: other hosts' lines step back
   */
  show(series, stretch, marks, chosen, live) {
    Object.assign(this, { stretch, marks, chosen });
    this.names = series.map((each) => each.name);
    this.styles = series.map((each) => each.style);
    this.rows = [];
    for (let time = stretch.from; time <= stretch.to; time += stretch.step) {
      this.rows.push([new Date(time * 1000), ...series.map((each) => each.points.get(time) ?? null)]);
    }
    const known = this.rows.findLastIndex((row) => row.slice(1).some((value) => value !== null));
    this.fresh = Math.ceil(Math.max(STALE_S, STALE_STEPS * stretch.step) / stretch.step); // rows that are not stale
    const silent = live && known >= 0 && this.rows.length - 1 - known > this.fresh;
    const newest = known < 0 ? 0 : stretch.from + known * stretch.step;
    // Latencies end where nothing happens; numbers that are sent in any case end where something is wrong.
    const ended = this.ofEvents ? `nothing measured since ${clock(newest)}` : `stale: nothing since ${clock(newest)}`;
    this.say(known < 0 ? "no data in this time" : silent ? ended : "");
    this.figure.classList.toggle("is-ended", silent);
    this.figure.classList.toggle("is-stale", silent && !this.ofEvents);
    this.#draw();
    this.point(this.at);
    const values = this.#valuesAt(null) || "no data";
    this.plot.setAttribute("aria-label", [this.spec.title, this.spec.note, values].filter(Boolean).join(", "));
  }

  say(text) {
    this.state.textContent = text;
    this.state.hidden = !text;
  }

  /** Shows the values at a time; null: the newest again. */
  point(time) {
    this.at = time;
    if (!this.graph) return;
    const row = time === null ? null : this.#rowAt(time);
    this.cursor.hidden = row === null;
    if (row === null) this.graph.clearSelection();
    else {
      this.graph.setSelection(row);
      this.cursor.style.left = `${this.graph.toDomXCoord(this.rows[row][0].getTime())}px`;
    }
    this.#tell(row);
  }

  repaint() {
    if (this.stretch) this.#draw(true);
  }

  #rowAt(time) {
    const row = Math.round((time - this.stretch.from) / this.stretch.step);
    return row >= 0 && row < this.rows.length ? row : null;
  }

  #colour(index) {
    return colour(`--series-${this.styles[index] % COLOURS}`);
  }

  #stepsBack(name) {
    return this.chosen && this.spec.by === "host" && name !== this.chosen && this.names.includes(this.chosen);
  }

  #draw(anew = false) {
    const labels = ["time", ...(this.names.length ? this.names : ["nothing"])];
    const rows = this.names.length ? this.rows : this.rows.map(([time]) => [time, null]);
    const series = Object.fromEntries(
      this.names.map((name, index) => [
        name,
        {
          strokePattern: DASHES[Math.floor(this.styles[index] / COLOURS) % DASHES.length],
          strokeWidth: this.#stepsBack(name) ? 0.6 : name === this.chosen ? 2.6 : 1.6,
        },
      ]),
    );
    const values = this.rows.flatMap((row) => row.slice(1)).filter((value) => value !== null);
    const options = {
      file: rows,
      labels,
      series,
      colors: this.names.length ? this.names.map((_, index) => this.#colour(index)) : [colour("--muted")],
      dateWindow: [this.stretch.from * 1000, this.stretch.to * 1000],
      valueRange: (this.spec.bounds ?? fromZero)(values),
      gridLineColor: colour("--grid"),
      axisLineColor: colour("--line"),
    };
    if (this.graph && !anew && this.graph.getLabels().join() === labels.join()) {
      this.graph.updateOptions(options);
      return;
    }
    this.graph?.destroy();
    const { file, ...rest } = options;
    this.graph = new Dygraph(this.canvas, file, {
      ...rest,
      stackedGraph: Boolean(this.spec.stacked),
      fillGraph: Boolean(this.spec.stacked),
      fillAlpha: 0.35,
      legend: "never",
      interactionModel: {},
      highlightCircleSize: 3,
      drawPoints: false,
      pixelRatio: Math.min(window.devicePixelRatio || 1, 2),
      axes: {
        x: { pixelsPerLabel: 64, axisLabelFontSize: 11, axisLineWidth: 1 },
        y: {
          axisLabelFontSize: 11,
          axisLabelWidth: 62,
          labelsKMG2: this.spec.unit === "B",
          pixelsPerLabel: 34,
          axisLabelFormatter: (value) => tick(value, this.spec.unit),
        },
      },
      underlayCallback: (canvas, area, graph) => this.#underlay(canvas, area, graph),
      highlightCallback: (_, milliseconds) => this.actions.cursor(milliseconds / 1000),
      unhighlightCallback: () => this.actions.cursor(null),
    });
  }

  /** Behind the lines: where nothing is known, the limit, the marks. */
  #underlay(canvas, area, graph) {
    const x = (seconds) => graph.toDomXCoord(seconds * 1000);
    canvas.save();
    canvas.beginPath();
    canvas.rect(area.x, area.y, area.w, area.h);
    canvas.clip();
    canvas.fillStyle = colour("--gap");
    for (const [first, last] of gaps(this.rows)) {
      const left = x(this.stretch.from + (first - 0.5) * this.stretch.step);
      canvas.fillRect(left, area.y, x(this.stretch.from + (last + 0.5) * this.stretch.step) - left, area.h);
    }
    if (this.spec.limit) {
      const y = graph.toDomYCoord(this.spec.limit.value);
      canvas.strokeStyle = canvas.fillStyle = colour("--bad");
      canvas.setLineDash([5, 4]);
      line(canvas, area.x, y, area.x + area.w, y);
      canvas.setLineDash([]);
      canvas.font = "11px system-ui, sans-serif";
      canvas.fillText(this.spec.limit.name, area.x + 4, y > area.y + 30 ? y - 4 : y + 13); // clear of the marks' letters
    }
    canvas.font = "bold 10px system-ui, sans-serif";
    canvas.textAlign = "center";
    for (const mark of this.marks) {
      const paint = colour(mark.outcome === "failed" ? "--bad" : "--mark");
      const [from, to] = [Math.round(x(mark.from)) + 0.5, x(mark.to ?? this.stretch.to)];
      canvas.fillStyle = canvas.strokeStyle = paint;
      canvas.globalAlpha = 0.1;
      canvas.fillRect(from, area.y, to - from, area.h);
      canvas.globalAlpha = 1;
      canvas.setLineDash([2, 2]);
      line(canvas, from, area.y, from, area.y + area.h);
      canvas.setLineDash([]);
      const label = Math.min(Math.max(from, area.x + 7), area.x + area.w - 7);
      canvas.fillRect(label - 7, area.y, 14, 13);
      canvas.fillStyle = colour("--card");
      canvas.fillText(kindOf(mark).letter, label, area.y + 10);
    }
    canvas.restore();
  }

  /** A line's value in a row; row null: its newest, where that is not stale. */
  #value(index, row) {
    const rows = row === null ? this.rows.slice(-this.fresh - 1) : [this.rows[row]];
    return quantity(rows.findLast((each) => each[index + 1] !== null)?.[index + 1], this.spec.unit);
  }

  #valuesAt(row) {
    return this.names.map((name, index) => `${name} ${this.#value(index, row)}`).join(", ");
  }

  /** The legend, with the values of a row; null: the newest. */
  #tell(row) {
    const items = this.names.map((name, index) => {
      const swatch = element("span", { class: "swatch" });
      swatch.style.setProperty("--swatch", this.#colour(index));
      swatch.classList.toggle("dashed", this.styles[index] >= COLOURS);
      return element("li", { class: this.#stepsBack(name) ? "back" : "" }, [
        swatch,
        `${name} `,
        element("b", {}, [this.#value(index, row)]),
      ]);
    });
    if (row !== null) {
      const time = this.stretch.from + row * this.stretch.step;
      items.unshift(element("li", { class: "time" }, [clock(time)]));
      for (const mark of near(this.marks, time, this.stretch)) {
        items.push(element("li", { class: "mark" }, [`${kindOf(mark).name} ${clock(mark.from)}: ${mark.title}`]));
      }
    }
    this.legend.replaceChildren(...items);
  }

  #listen() {
    this.plot.addEventListener("keydown", (event) => this.#key(event));
    this.plot.addEventListener("blur", () => this.actions.cursor(null));
    this.plot.addEventListener("pointerdown", (event) => this.#drag(event));
    this.plot.addEventListener("dblclick", () => this.actions.live());
  }

  #key(event) {
    if (!this.rows.length) return;
    const last = this.rows.length - 1;
    const at = (this.at && this.#rowAt(this.at)) ?? last + 1;
    const stride = event.shiftKey ? 10 : 1;
    const to = { ArrowLeft: at - stride, ArrowRight: at + stride, Home: 0, End: last }[event.key];
    if (event.key === "Escape") this.actions.cursor(null);
    else if (to !== undefined && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const row = Math.max(0, Math.min(last, to));
      const time = this.stretch.from + row * this.stretch.step;
      this.actions.cursor(time, `${clock(time)}: ${this.#valuesAt(row)}`);
      event.preventDefault();
    }
  }

  /** A stretch of time is drawn with the mouse; a finger scrolls the page. */
  #drag(event) {
    if (event.pointerType !== "mouse" || event.button || !this.graph) return;
    const left = this.plot.getBoundingClientRect().left;
    const start = event.clientX - left;
    const move = ({ clientX }) => {
      const [from, to] = [start, clientX - left].sort((a, b) => a - b);
      this.selection.hidden = to - from < CLICK_PX;
      Object.assign(this.selection.style, { left: `${from}px`, width: `${to - from}px` });
    };
    const end = ({ clientX }) => {
      window.removeEventListener("pointermove", move);
      this.selection.hidden = true;
      const [from, to] = [start, clientX - left].sort((a, b) => a - b);
      if (to - from < CLICK_PX) return;
      const seconds = (pixel) => Math.round(this.graph.toDataXCoord(pixel) / 1000);
      this.actions.zoom(Math.max(seconds(from), this.stretch.from), Math.min(seconds(to), this.stretch.to));
    };
    window.addEventListener("pointermove", move);
    window.addEventListener("pointerup", end, { once: true });
  }
}

function line(canvas, x1, y1, x2, y2) {
  canvas.beginPath();
  canvas.moveTo(x1, y1);
  canvas.lineTo(x2, y2);
  canvas.stroke();
}

/** The usual bounds of a y axis: from zero, with some air, and never flat. */
function fromZero(values) {
  const highest = values.length ? Math.max(...values) : 0;
  return [0, highest > 0 ? highest * 1.12 : 1];
}

/** [first, last] rows of each stretch in which no line has a value. */
export function gaps(rows) {
  const found = [];
  rows.forEach((row, index) => {
    if (row.slice(1).some((value) => value !== null)) return;
    if (found.length && found.at(-1)[1] === index - 1) found.at(-1)[1] = index;
    else found.push([index, index]);
  });
  return found;
}
