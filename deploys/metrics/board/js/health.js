// What the numbers mean: judgements without effects. States are ok, warn, bad and unknown.

import { quantity, share, span } from "./format.js";

const SILENT_S = 15; // every host's heartbeat comes each second
const DISK_FULL_PERCENT = 85;
const QUOTA_NEAR = 0.8;
export const QUOTA_FULL = 0.95; // from here on the store takes no more writes: services/engines/etcd_space.py

/** @param {{share: ?number, reads: ?number}} seen over some time; null where not known */
export function promise(seen, promised) {
  if (seen.share === null) return { state: "unknown", word: seen.reads === 0 ? "no reads" : "no data" };
  return seen.share >= promised.share ? { state: "ok", word: "kept" } : { state: "bad", word: "broken" };
}

// What a host of a group has to run, by the counts of its processes in `host.runs`.
const DUTIES = {
  proxies: { nginx: "no nginx worker" },
  apps: { store: "no store worker", front: "no front", feed: "no feed" },
  etcd: { etcd: "etcd is down" },
  fdb: { fdb: "no fdbserver in the cluster" },
};

/**
 * @param host {name, groups, reports} of cluster.json
 * @param seen {heard: Unix seconds or undefined, runs: {what: count}, disk_used: per cent}
 */
export function host({ groups, reports }, seen, now) {
  if (!reports) return { state: "unknown", word: "sends nothing" };
  if (seen.heard === undefined) return { state: "bad", word: "never heard" };
  const silent = now - seen.heard;
  if (silent > SILENT_S) return { state: "bad", word: `silent ${span(silent)}` };
  const lacks = groups
    .flatMap((group) => Object.entries(DUTIES[group] ?? {}))
    .filter(([what]) => seen.runs[what] === 0)
    .map(([, word]) => word);
  if (lacks.length) return { state: "bad", word: lacks.join(", ") };
  if (seen.disk_used > DISK_FULL_PERCENT) return { state: "warn", word: "disk fills" };
  return { state: "ok", word: "up" };
}

/** @param {{gate: string, green: boolean}[]} gates */
export function database(up, gates) {
  if (up === undefined) return { state: "unknown", word: "no data" };
  if (!up) return { state: "bad", word: "down" };
  const red = gates.filter((gate) => !gate.green).length;
  return red ? { state: "bad", word: `${red} of ${gates.length} gates red` } : { state: "ok", word: "healthy" };
}

/**
 * Members that answer, of those that there are; whether they have a leader, and room.
 * @param {{up: ?boolean, leads: boolean, used: ?number}[]} members `used`: share of the quota
 * @param {string[]} alarms that are raised, such as "NOSPACE on app1"
 */
export function quorum(members, alarms = []) {
  const up = members.filter((member) => member.up).length;
  if (!members.length || members.every((member) => member.up === undefined)) {
    return { state: "unknown", word: "no data" };
  }
  if (up <= members.length / 2) return { state: "bad", word: `majority lost: ${up} of ${members.length} up` };
  if (!members.some((member) => member.leads)) return { state: "bad", word: "no leader" };
  if (alarms.length) return { state: "bad", word: `alarm ${alarms.join(", ")}: no key can be put` };
  const used = Math.max(0, ...members.map((member) => member.used ?? 0));
  const quota = `${share(used)} of the quota used`;
  if (used >= QUOTA_FULL) return { state: "bad", word: `${quota}: the store takes no more writes` };
  if (up < members.length) return { state: "warn", word: `${up} of ${members.length} up` };
  if (used >= QUOTA_NEAR) return { state: "warn", word: quota };
  return { state: "ok", word: "healthy" };
}

/** All that is wrong, worst first: {state, text, at: the section that says more}. */
export function problems({ promise: kept, now, hosts, database: fdb, quorum: etcd }, promised) {
  const found = [];
  const add = (state, text, at) => found.push({ state, text, at });
  if (kept.state === "bad") {
    add("bad", `only ${share(now.share)} of reads were answered within ${promised.within_ms} ms`, "promise");
  }
  if (now.errors > 0) add("bad", `${share(now.errors)} of reads fail`, "proxies");
  if (now.shed > 0) add("warn", `${share(now.shed)} of reads are shed`, "proxies");
  for (const { name, verdict } of hosts) {
    if (verdict.state === "bad" || verdict.state === "warn") add(verdict.state, `${name}: ${verdict.word}`, "hosts");
  }
  if (fdb && fdb.state === "bad") add("bad", `FoundationDB: ${fdb.word}`, "fdb");
  if (etcd.state === "bad" || etcd.state === "warn") add(etcd.state, `etcd: ${etcd.word}`, "etcd");
  return found.sort((a, b) => (a.state === b.state ? 0 : a.state === "bad" ? -1 : 1));
}

/** One sentence for the top of the page. */
export function headline(kept, promised, found) {
  const what = `reads within ${quantity(promised.within_ms, "ms")}`;
  const but = found.some((problem) => problem.state === "bad") ? ", but something is wrong" : "";
  return {
    ok: `The promise holds: ${what}${but}`,
    bad: `The promise is broken: ${what}`,
    unknown: kept.word === "no reads" ? `Nobody reads: the promise (${what}) is not tested` : "No data about reads",
  }[kept.state];
}
