// What was done to the cluster: docs/metrics.md, "Marks". Pure.

const MARK_KINDS = {
  deploy: { letter: "D", name: "deploy" },
  fdb: { letter: "F", name: "FoundationDB" },
  etcd: { letter: "M", name: "etcd" },
  release: { letter: "R", name: "release" },
  flag: { letter: "G", name: "flag" },
  experiment: { letter: "E", name: "experiment" },
  drill: { letter: "X", name: "drill" },
  tuning: { letter: "T", name: "tuning" },
  note: { letter: "N", name: "note" },
};

/** A mark's kind, for people. One that this page does not know is shown by its own name. */
export const kindOf = (mark) => MARK_KINDS[mark.kind] ?? { letter: "?", name: mark.kind };

const LONGEST_S = 3600; // what began before the stretch and still goes on is found when it began this long before

/** The question for the marks of a stretch, to be asked as of its end. */
export const question = ({ from, to }) => `griddle_mark[${Math.ceil(to - from) + LONGEST_S}s]`;

/**
 * Samples of griddle_mark → what happened, oldest first.
 * @returns {{kind, title, from, to, outcome, reason, by}[]} Unix seconds; `to` is null while it goes on, and
 *   `from` where it was a moment; `outcome`: done, failed, aborted, or null
 */
export function happenings(series) {
  const found = new Map();
  for (const { labels, points } of series) {
    for (const [time, value] of points) {
      const key = `${labels.kind} ${labels.id}`;
      const known = found.get(key) ?? { kind: labels.kind, title: labels.title ?? "", from: time, to: null };
      if (labels.phase === "point") known.to = time;
      if (labels.phase === "start") known.from = time;
      if (labels.phase === "end") Object.assign(known, { to: time, from: Math.min(known.from, time - value) });
      for (const detail of ["outcome", "reason", "by"]) known[detail] = labels[detail] ?? known[detail] ?? null;
      found.set(key, known);
    }
  }
  return [...found.values()].sort((a, b) => a.from - b.from);
}

/** Those that were going on at a time, give or take. */
export function near(marks, time, { from, to }) {
  const reach = (to - from) / 100;
  return marks.filter((mark) => mark.from - reach <= time && time <= (mark.to ?? to) + reach);
}
