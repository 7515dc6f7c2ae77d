// What the operator looks at, kept in the address after the #, so that a link keeps it.

export const RANGES = { "15m": 900, "1h": 3600, "6h": 21600, "24h": 86400, "7d": 604800 };
const DEFAULT = { range: "15m", from: null, to: null, host: null };

/** "#range=1h&host=app1", or "#from=…&to=…" for a fixed stretch of time (Unix seconds). */
export function read(hash) {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const view = { ...DEFAULT };
  if (given.get("range") in RANGES) view.range = given.get("range");
  const [from, to] = [Number(given.get("from")), Number(given.get("to"))];
  if (from > 0 && to > from) Object.assign(view, { from, to });
  if (/^[\w.-]+$/.test(given.get("host") ?? "")) view.host = given.get("host");
  return view;
}

export function write(view) {
  const said = new URLSearchParams({ range: view.range });
  if (view.from) {
    said.set("from", view.from);
    said.set("to", view.to);
  }
  if (view.host) said.set("host", view.host);
  return `#${said}`;
}

/** It ends now, and goes on. */
export const isLive = (view) => !view.from;

// Points are at multiples of these, so that a refresh asks for the same instants again and the store's cache helps.
const STEPS = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
const POINTS = 240;

/** {from, to, step} in Unix seconds: what is asked of the store for a view at a time. */
export function stretch(view, now) {
  const [from, to] = view.from ? [view.from, view.to] : [now - RANGES[view.range], now];
  const step = STEPS.find((each) => (to - from) / each <= POINTS) ?? STEPS.at(-1);
  return { from: Math.ceil(from / step) * step, to: Math.floor(to / step) * step, step };
}
