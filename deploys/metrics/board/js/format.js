// Numbers as people read them. Every function gives "–" for what is not known: no data is not zero.

export const UNKNOWN = "–";

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

function digits(value, most) {
  const size = Math.abs(value);
  const after = size >= 100 ? 0 : size >= 10 ? Math.min(1, most) : most;
  return value.toLocaleString("en", { maximumFractionDigits: after });
}

function scaled(value, base, names, from = base) {
  let step = 0;
  while (Math.abs(value) >= (step ? base : from) && step < names.length - 1) {
    value /= base;
    step += 1;
  }
  return digits(value, step ? 1 : 2) + names[step];
}

/** A share as per cent, never rounded up to a promise kept: 0.99999 is 99.99 %, not 100 %. */
export function share(value) {
  if (!known(value)) return UNKNOWN;
  const percent = Math.floor(value * 10000 + 1e-6) / 100;
  return `${percent.toFixed(percent === 100 || percent === 0 ? 0 : 2)} %`;
}

const FORMATS = {
  "": (value) => scaled(value, 1000, ["", " k", " M", " G"], 10000),
  "/s": (value) => `${scaled(value, 1000, ["", " k", " M", " G"], 10000)}/s`,
  "%": (value) => `${value && value < 99.95 ? value.toFixed(1) : digits(value, 0)} %`,
  ms: (value) => (Math.abs(value) >= 10000 ? `${digits(value / 1000, 1)} s` : `${digits(value, 2)} ms`),
  s: (value) => (value && Math.abs(value) < 1 ? `${digits(value * 1000, 1)} ms` : `${digits(value, 1)} s`),
  B: (value) => scaled(value, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]),
  "B/s": (value) => `${scaled(value, 1000, [" B", " kB", " MB", " GB"])}/s`,
  share,
};

/** `value` in `unit`, one of the keys of FORMATS. */
export function quantity(value, unit) {
  return known(value) ? FORMATS[unit](value) : UNKNOWN;
}

/** The same for an axis: without decimals that say nothing. */
export const tick = (value, unit) => quantity(value, unit).replace(/\.0+(?=\D)/, "");

/** A length of time: "8 s", "3 min", "2 h", "4 d". */
export function span(seconds) {
  if (!known(seconds)) return UNKNOWN;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 129600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

const two = (number) => String(number).padStart(2, "0");

/** Local time of day, with the date where it is not today's. */
export function clock(seconds, now = Date.now() / 1000) {
  const at = new Date(seconds * 1000);
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  if (at.toDateString() === new Date(now * 1000).toDateString()) return time;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}
