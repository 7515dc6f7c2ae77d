// The page: asks the store again and again, and hands what it says to charts and sections.

import { Chart } from "./chart.js";
import { controls } from "./controls.js";
import { byId } from "./dom.js";
import { clock } from "./format.js";
import { happenings, question } from "./marks.js";
import { panels, written } from "./panels.js";
import * as questions from "./questions.js";
import { Sections } from "./sections.js";
import { StoreDown, facts, now, samples, series } from "./store.js";
import { isLive, read, stretch, write } from "./view.js";

const REFRESH_MS = 5000;
const SLOW_MS = 60000;

let view = read(location.hash);
let marks = [];
let slow = null; // what is asked once a minute: {asked, hour, silence}
let shownAt = null;
let refreshing = null;

// What this page does not understand is said on it, too.
for (const kind of ["error", "unhandledrejection"]) {
  window.addEventListener(kind, (event) => say(`This page fails: ${(event.reason ?? event.error)?.message}`));
}

const cluster = await (await fetch("cluster.json")).json();
const hostNames = cluster.hosts.map((host) => host.name);

// --- the view

function look(changes) {
  view = { ...view, ...changes };
  history.pushState(null, "", write(view));
  changed();
}

function pause() {
  const { from, to } = stretch(view, now());
  look({ from, to });
}

function changed() {
  slow = null;
  buttons.show(view);
  refresh();
}

/** What charts, buttons and keys can do. */
const actions = {
  cursor(time, spoken = "") {
    for (const chart of charts) chart.point(time);
    if (spoken) byId("spoken").textContent = spoken;
  },
  zoom: (from, to) => look({ from, to }),
  live: () => look({ from: null, to: null }),
  range: (range) => look({ range, from: null, to: null }),
  /** Brings out a host's lines, or no host's any more. */
  host(name) {
    const host = name === view.host ? null : name;
    if (host !== view.host) look({ host });
  },
  /** Stands still at what is shown, or goes on. */
  toggle: () => (isLive(view) ? pause() : actions.live()),
  repaint: () => charts.forEach((chart) => chart.repaint()),
};

// --- the charts

const onScreen = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      charts.find((chart) => chart.figure === target).visible = isIntersecting;
    }
    if (entries.some((entry) => entry.isIntersecting)) refresh();
  },
  { rootMargin: "200px" },
);

function makeCharts() {
  const made = [];
  for (const [section, specs] of Object.entries(panels(cluster.promise))) {
    if (section === "fdb" && cluster.store !== "fdb") continue;
    for (const spec of specs) {
      const chart = new Chart(spec, actions);
      byId(section).querySelector(".charts").append(chart.figure);
      made.push(chart);
    }
  }
  return made;
}

/** Names that are known beforehand look the same in every chart; others take the next styles by the alphabet. */
function styled(found, known) {
  const sorted = found.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  let next = known.length;
  for (const each of sorted) each.style = known.includes(each.name) ? known.indexOf(each.name) : next++;
  return sorted.sort((a, b) => a.style - b.style);
}

async function load(chart, shown, wanted) {
  const { query, by } = chart.spec;
  const lines = typeof query === "string" ? null : Object.entries(query);
  const parts = lines?.map(([name, each]) => `label_set((${each}), "line", "${name}")`);
  const found = await series(written(parts ? `union(${parts.join(",")})` : query, shown.step), shown);
  const known = lines ? Object.keys(query) : by === "host" ? hostNames : [];
  const label = lines ? "line" : by;
  const drawn = styled(found.map(({ labels, points }) => ({ name: labels[label] ?? "unknown", points })), known);
  chart.show(drawn, shown, within(shown), view.host, isLive(view));
  chart.loaded = wanted;
}

/** Those on the screen that show something else than what is wanted. */
function loadCharts(shown) {
  const wanted = JSON.stringify([shown, view.host, marks]);
  const late = charts.filter((chart) => chart.visible && chart.loaded !== wanted);
  return Promise.all(late.map((chart) => load(chart, shown, wanted)));
}

const within = ({ from, to }) => marks.filter((mark) => mark.from <= to && (mark.to ?? to) >= from);

// --- the numbers

/** All numbers as of now, or as of the end of the stretch that is looked at. */
async function numbers() {
  const ms = cluster.promise.within_ms;
  const ask = { now: questions.promiseNow(ms), hosts: questions.hosts, etcd: questions.etcd };
  ask.releases = questions.releases(ms);
  if (cluster.store === "fdb") ask.fdb = questions.fdb;
  const again = !slow || performance.now() - slow.asked > SLOW_MS;
  if (again) Object.assign(ask, { hour: questions.promiseHour(ms), silence: questions.silence });
  const answers = await Promise.all(Object.values(ask).map((each) => facts(each, view.to)));
  const seen = Object.fromEntries(Object.keys(ask).map((name, index) => [name, answers[index]]));
  if (again) slow = { asked: performance.now(), hour: seen.hour, silence: seen.silence };
  return { ...slow, ...seen };
}

function say(failure) {
  if (byId("banner").textContent !== failure) byId("banner").textContent = failure;
  byId("banner").hidden = !failure;
}

/** One refresh at a time; whoever asks while one runs gets one more after it. */
function refresh() {
  if (refreshing) refreshing.again = true;
  else {
    refreshing = { again: false };
    refreshOnce().finally(() => {
      const { again } = refreshing;
      refreshing = null;
      if (again) refresh();
    });
  }
}

async function refreshOnce() {
  const shown = stretch(view, now());
  const at = view.to ?? now();
  let failure = "";
  try {
    const [seen, found] = await Promise.all([numbers(), samples(question(shown), shown.to)]);
    marks = happenings(found);
    sections.show(seen, within(shown), at, view);
    await loadCharts(shown);
    shownAt = now();
  } catch (error) {
    if (!(error instanceof StoreDown)) throw error;
    slow = null;
    sections.show(null, within(shown), at, view);
    failure = `The metrics store does not answer: ${error.message}. Lights and numbers are unknown, ` +
      (shownAt ? `charts are from ${clock(shownAt)}.` : "nothing has been seen yet.");
  }
  say(failure);
  document.body.classList.toggle("is-down", Boolean(failure));
  buttons.fresh(view, shownAt, Boolean(failure));
}

const charts = makeCharts();
const sections = new Sections(cluster, actions);
const buttons = controls(actions);
charts.forEach((chart) => onScreen.observe(chart.figure));
window.addEventListener("hashchange", () => {
  view = read(location.hash);
  changed();
});
document.addEventListener("visibilitychange", () => document.hidden || refresh());
setInterval(() => isLive(view) && !document.hidden && refresh(), REFRESH_MS);
changed();
