// What the numbers say, in words, lights and tables. Each part changes only what has changed, so that focus and
// screen readers stay where they are.

import { byId, element, light } from "./dom.js";
import { UNKNOWN, clock, quantity, share, span } from "./format.js";
import * as health from "./health.js";
import { kindOf } from "./marks.js";

const TIERS = { proxies: "Proxies", apps: "Apps", fdb: "FoundationDB", metrics: "Metrics", spare: "Spare", load: "Load" };
const COLUMNS = [
  ["cpu", "CPU", "%"],
  ["run_queue", "Run queue", ""],
  ["memory_free", "Free memory", "B"],
  ["received", "Received", "B/s"],
  ["sent", "Sent", "B/s"],
  ["retransmits", "Retransmits", "/s"],
  ["listen_drops", "Listen drops", "/s"],
  ["disk_busy", "Disk busy", "%"],
  ["disk_used", "Disk used", "%"],
];
const LONGEST_MS = 1000; // the highest bucket with an end

/** The one value of a fact; null where it is not known. */
const one = (series) => (series?.length && Number.isFinite(series[0].value) ? series[0].value : null);

/** label → value */
const by = (series, label) => new Map((series ?? []).map(({ labels, value }) => [labels[label], value]));

function replace(parent, children) {
  const made = element("div", {}, children);
  if (parent.innerHTML !== made.innerHTML) parent.replaceChildren(...made.childNodes);
}

export class Sections {
  constructor(cluster, actions) {
    this.cluster = cluster;
    this.actions = actions;
    byId("cluster").textContent = cluster.name;
    byId("hosts-note").textContent = cluster.note;
    this.cells = this.#hostTable();
    if (cluster.store !== "fdb") {
      const note = `This cluster's store is ${cluster.store}: it has no FoundationDB.`;
      byId("fdb").append(element("p", { class: "empty" }, [note]));
    }
  }

  /**
   * @param seen {now, hour, hosts, silence, etcd, fdb, releases} as questions.js has them; null: nothing is known
   * @param at the time that this is about, Unix seconds
   */
  show(seen, marks, at, view) {
    const known = seen ?? {};
    const promised = this.cluster.promise;
    const now = values(known.now);
    const kept = health.promise(now, promised);
    const hosts = this.#hosts(known, at, view, !seen);
    const gates = this.#database(known.fdb);
    const members = this.#members(known.etcd);
    const wrong = seen ? health.problems({ promise: kept, now, hosts, database: gates, quorum: members }, promised) : [];
    this.#promise(kept, now, known.hour && values(known.hour), wrong, at, view);
    this.#releases(known.releases);
    this.#marks(marks, at);
    this.#dots({ promise: kept.state, fdb: gates?.state, etcd: members.state, hosts: worst(hosts, seen), ...tiers(hosts, seen) });
  }

  #promise(kept, now, hour, wrong, at, view) {
    const { within_ms, share: promised } = this.cluster.promise;
    const words = health.headline(kept, this.cluster.promise, wrong);
    replace(byId("headline"), [light(kept.state, ""), view.to ? `${clock(at)}: ${words}` : words]);
    document.title = `${{ ok: "", bad: "✕ ", unknown: "○ " }[kept.state]}${this.cluster.name} · Griddle`;
    replace(byId("problems"), wrong.map(({ state, text, at: where }) =>
      element("li", {}, [element("a", { href: `#${where}`, "data-jump": true }, [light(state, text)])])));
    const limit = (over, state = "bad") => (value) => (value === null ? "unknown" : over(value) ? state : "ok");
    const latency = (value) => (value >= LONGEST_MS ? "> 1 s" : quantity(value, "ms"));
    const judged = [
      [`Within ${within_ms} ms`, "share", share, limit((value) => value < promised), `promise: ${promised * 100} %`],
      ["p99", "p99", latency, limit((value) => value > within_ms), `p50 ${latency(now.p50)}`],
      ["Reads", "reads", (value) => quantity(value, "/s"), () => "plain", "answered"],
      ["Shed", "shed", share, limit((value) => value > 0, "warn"), "answered 503 in time"],
      ["Errors", "errors", share, limit((value) => value > 0), "other 5xx"],
    ];
    replace(byId("tiles"), judged.map(([title, name, say, judge, small]) =>
      element("div", { class: `tile ${judge(now[name])}` }, [
        element("dt", {}, [title]),
        element("dd", { class: "big" }, [say(now[name])]),
        element("dd", { class: "small" }, [small]),
        element("dd", { class: "hour" }, ["last hour ", element("b", {}, [hour ? say(hour[name]) : UNKNOWN])]),
      ])));
    const short = hour?.known_s && hour.known_s < 3500;
    byId("hour").textContent = "Big numbers are of the last minute." +
      (short ? ` Of the last hour only ${span(hour.known_s)} are known.` : "");
  }

  #hostTable() {
    const cells = {};
    const head = ["Host", "State", ...COLUMNS.map(([, title]) => title)];
    const table = byId("host-table");
    table.append(element("thead", {}, [element("tr", {}, head.map((title) => element("th", { scope: "col" }, [title])))]));
    for (const [group, title] of Object.entries(TIERS)) {
      const hosts = this.cluster.hosts.filter((host) => host.groups.includes(group));
      if (!hosts.length) continue;
      const body = element("tbody", {}, [
        element("tr", { class: "tier" }, [element("th", { scope: "rowgroup", colspan: head.length }, [title])]),
      ]);
      for (const { name } of hosts) {
        const button = element("button", { type: "button", "aria-pressed": "false" }, [name]);
        button.addEventListener("click", () => this.actions.host(name));
        const state = element("td", { class: "state" });
        const numbers = COLUMNS.map(([, column]) => element("td", { class: "number", "data-title": column }));
        const row = element("tr", { id: `host-${name}` }, [element("th", { scope: "row" }, [button]), state, ...numbers]);
        body.append(row);
        cells[name] = { row, button, state, numbers };
      }
      table.append(body);
    }
    return cells;
  }

  #hosts({ hosts: seen, silence, etcd, fdb }, at, view, blind) {
    const column = Object.fromEntries(Object.entries(seen ?? {}).map(([name, series]) => [name, by(series, "host")]));
    const longAgo = by(silence?.heard, "host");
    const [members, processes] = [by(etcd?.up, "host"), by(fdb?.process, "host")];
    return this.cluster.hosts.map((host) => {
      const { name } = host;
      const heard = column.heard?.get(name) ?? longAgo.get(name);
      const runs = { nginx: column.nginx?.get(name) ?? 0, store: 0, front: 0, feed: 0 };
      for (const { labels, value } of seen?.workers ?? []) if (labels.host === name) runs[labels.unit] = value;
      // Others tell of these: where they tell nothing at all, it is not this host that is to blame.
      if (members.size) runs.etcd = members.get(name) ?? 0;
      if (processes.size) runs.fdb = processes.get(name) ?? 0;
      const verdict = blind
        ? { state: "unknown", word: "no data" }
        : health.host(host, { heard, runs, disk_used: column.disk_used?.get(name) }, at);
      const { row, button, state, numbers } = this.cells[name];
      row.className = `${verdict.state} ${view.host === name ? "chosen" : ""}`;
      button.setAttribute("aria-pressed", view.host === name);
      replace(state, [light(verdict.state, verdict.word)]);
      COLUMNS.forEach(([what, , unit], index) => (numbers[index].textContent = quantity(column[what]?.get(name), unit)));
      return { name, groups: host.groups, verdict };
    });
  }

  #database(seen) {
    if (this.cluster.store !== "fdb") return null;
    const gates = (seen?.gate ?? []).map(({ labels, value }) => ({ gate: labels.gate, green: value > 0 }));
    const verdict = health.database(one(seen?.up) ?? undefined, gates);
    const lights = gates
      .sort((a, b) => a.green - b.green || a.gate.localeCompare(b.gate))
      .map(({ gate, green }) => element("li", {}, [light(green ? "ok" : "bad", gate.replaceAll("_", " "))]));
    replace(byId("gates"), [element("li", { class: "sum" }, [light(verdict.state, verdict.word)]), ...lights]);
    const [lag, queue, rate] = [by(seen?.lag, "kind"), by(seen?.queue, "role"), by(seen?.rate, "what")];
    const versions = [...new Set((seen?.process ?? []).map(({ labels }) => labels.version))].sort().join(", ");
    const facts = [
      ["Version", versions || UNKNOWN],
      ["Data lag", quantity(lag.get("data"), "s")],
      ["Durability lag", quantity(lag.get("durability"), "s")],
      ["Log queue", quantity(queue.get("log"), "B")],
      ["Storage queue", quantity(queue.get("storage"), "B")],
      ["Read versions", quantity(rate.get("read_versions"), "/s")],
      ["Commits", quantity(rate.get("commits"), "/s")],
      ["Conflicts", quantity(rate.get("conflicts"), "/s")],
      ["Last recovery", one(seen?.recovered) === null ? UNKNOWN : `${span(one(seen.recovered))} ago`],
      ["Clients", quantity(one(seen?.clients), "")],
    ];
    replace(byId("fdb-facts"), facts.map(([name, value]) =>
      element("div", {}, [element("dt", {}, [name]), element("dd", {}, [value])])));
    return verdict;
  }

  #members(seen) {
    const names = this.cluster.hosts.filter((host) => host.groups.includes("etcd")).map((host) => host.name);
    const [up, leads, size, quota] = ["up", "leads", "size", "quota"].map((what) => by(seen?.[what], "host"));
    const version = new Map((seen?.version ?? []).map(({ labels }) => [labels.host, labels.server_version]));
    const members = names.map((name) => ({
      name,
      up: up.has(name) ? up.get(name) > 0 : undefined,
      leads: leads.get(name) > 0,
      used: quota.get(name) > 0 ? size.get(name) / quota.get(name) : undefined,
    }));
    const alarms = (seen?.alarm ?? []).map(({ labels }) => `${labels.alarm} on ${labels.host}`).sort();
    const verdict = health.quorum(members, alarms);
    const lights = members.map(({ name, up: lives, leads: leader, used }) => {
      const state = lives === undefined ? "unknown" : lives ? "ok" : "bad";
      const said = lives ? [leader ? "leader" : "follower", version.get(name), used === undefined ? quantity(size.get(name), "B") : `${quantity(size.get(name), "B")}, ${share(used)} of the quota`] : [lives === undefined ? "no data" : "down"];
      return element("li", {}, [light(state, name), element("small", {}, [` ${said.filter(Boolean).join(", ")}`])]);
    });
    replace(byId("members"), [element("li", { class: "sum" }, [light(verdict.state, verdict.word)]), ...lights]);
    return verdict;
  }

  #releases(seen) {
    const found = perVariant(seen ?? {});
    const within = (each) => (each.asked > 0 ? share((each.within ?? 0) / each.asked) : UNKNOWN);
    const numbers = (each) => [quantity(each.reads, "/s"), within(each), quantity(each.p99, "ms"), quantity(each.failed, "/s")];
    const titles = ["Reads", `Within ${this.cluster.promise.within_ms} ms`, "p99", "Shed or failed"];
    const workers = new Map();
    for (const { labels, value } of seen?.workers ?? []) {
      const of = workers.get(labels.release) ?? workers.set(labels.release, { slots: new Set(), units: [] }).get(labels.release);
      of.slots.add(labels.slot);
      of.units.push(`${value} ${labels.unit}`);
    }
    const names = [...new Set([...workers.keys(), ...found.map((each) => each.release)])].sort();
    const plain = (name) => found.find((each) => each.release === name && each.variant === "-") ?? {};
    rows(byId("release-table"), ["Release", "Slot", "Runs", ...titles], names.map((name) => {
      const of = workers.get(name);
      return [name, of ? [...of.slots].sort().join(", ") : UNKNOWN, of ? of.units.sort().join(", ") : "no worker", ...numbers(plain(name))];
    }));
    byId("release-note").textContent = names.length
      ? `Reads of the last 5 minutes. ${names.length > 1 ? "More than one release is in use." : "One release serves everybody; none is being ramped up."}`
      : "Nothing is known of releases: no worker reports.";
    const variants = found.filter((each) => each.variant !== "-");
    rows(byId("variant-table"), ["Variant", "Release", ...titles], variants.map((each) => [each.variant, each.release, ...numbers(each)]));
    byId("variant-note").textContent = variants.length ? "" : "No experiment: no read has had a variant in the last 5 minutes.";
  }

  #marks(marks, at) {
    byId("marks-note").textContent = marks.length ? "" : "Nothing was done to the cluster in this time.";
    replace(byId("mark-list"), marks.toReversed().slice(0, 100).map((mark) => {
      const took = mark.to === null ? `goes on, ${span(at - mark.from)}` : mark.to > mark.from ? `took ${span(mark.to - mark.from)}` : "";
      const state = mark.outcome === "failed" ? "bad" : mark.outcome === "aborted" ? "warn" : null;
      return element("li", {}, [
        element("time", {}, [clock(mark.from)]),
        element("span", { class: "letter" }, [kindOf(mark).letter]),
        element("span", { class: "what" }, [
          element("b", {}, [kindOf(mark).name]), ` ${mark.title} `,
          element("small", {}, [[took, mark.by && `by ${mark.by}`].filter(Boolean).join(", ")]),
          ...(state ? [" ", light(state, mark.outcome)] : []),
          ...(mark.reason ? [element("small", { class: "reason" }, [mark.reason])] : []),
        ]),
      ]);
    }));
  }

  #dots(states) {
    for (const [section, state] of Object.entries(states)) byId(`dot-${section}`).className = `dot ${state ?? ""}`;
  }
}

const values = (seen) => Object.fromEntries(
  ["share", "p50", "p99", "reads", "shed", "errors", "known_s"].map((name) => [name, one(seen?.[name])]));

const RANK = ["unknown", "ok", "warn", "bad"];
function worst(hosts, seen) {
  return seen ? RANK[Math.max(...hosts.map(({ verdict }) => RANK.indexOf(verdict.state)))] : "unknown";
}

function tiers(hosts, seen) {
  const of = (group) => worst(hosts.filter(({ groups }) => groups.includes(group)), seen);
  return { proxies: of("proxies"), apps: of("apps") };
}

/** [{release, variant, reads, within, p99, failed, asked}] */
function perVariant(seen) {
  const found = new Map();
  for (const what of ["reads", "within", "p99", "errors", "shed"]) {
    for (const { labels, value } of seen[what] ?? []) {
      const key = `${labels.release} ${labels.variant}`;
      if (!found.has(key)) found.set(key, { release: labels.release, variant: labels.variant ?? "-" });
      found.get(key)[what] = value;
    }
  }
  return [...found.values()].map((each) => {
    const failed = (each.errors ?? 0) + (each.shed ?? 0);
    return { ...each, failed, asked: (each.reads ?? 0) + failed };
  });
}

function rows(table, titles, lines) {
  table.hidden = !lines.length;
  replace(table, [
    element("thead", {}, [element("tr", {}, titles.map((title) => element("th", { scope: "col" }, [title])))]),
    element("tbody", {}, lines.map(([name, ...rest]) =>
      element("tr", {}, [element("th", { scope: "row" }, [name]), ...rest.map((text) => element("td", {}, [text]))]))),
  ]);
}
