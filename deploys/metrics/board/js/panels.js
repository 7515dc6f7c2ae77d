// Every chart: what it asks, and how it reads. Names are those of docs/metrics.md.
//
// `query` is one question, whose series are named after the label `by`, or an object {line: question}.
// $w is the window of what comes each second, $h of what comes every 10 s; both grow with the step.

import { QUOTA_FULL } from "./health.js";

/** A query as it is sent. rate() of the store is 0 for a while after a counter's last sample; here it ends with it. */
export function written(query, step) {
  return query
    .replaceAll("$w", `${Math.max(step, 15)}s`)
    .replaceAll("$h", `${Math.max(step, 40)}s`)
    .replaceAll(/\brate\(((?!\w+_bucket)[^()]+)\)/g, "(rate($1) if count_over_time($1))");
}

const p99 = (name, by = "") => `histogram_quantile(0.99, sum by (le${by && `, ${by}`}) (rate(${name}_ms_bucket[$w])))`;
const asked = `(sum(rate(griddle_read_ms_count[$w])) + (sum(rate(griddle_read_shed[$w])) or 0)
  + (sum(rate(griddle_read_errors[$w])) or 0))`;
const perHost = (inner) => `sum by (host) (${inner})`;
const latest = (inner) => `last_over_time(${inner}[$h])`;
const tcp = (kind) => perHost(`rate(protocols_protocol_counter{kind="${kind}"}[$h])`);
const fdbRate = (what) => `sum(${latest(`griddle_fdb_per_second{what="${what}"}`)})`;

/** Counters that begin with their first event: where none has come and others count on, that is a zero. */
const orNone = (counter, label, others) =>
  `sum by (${label}) (rate(${counter}[$w])) or label_set(0 * sum(rate(${others}[$w])) ifnot sum(rate(${counter}[$w])), "${label}", "none")`;

/** From zero to above the limit, so that one sees how far away it is. */
const toLimit = (limit) => (values) => [0, Math.max(limit, ...values) * 1.12];

/** For a share that should be 1: low enough to show the promise, lower where it has been. */
const nearOne = (limit) => (values) => [Math.min(1 - 2 * (1 - limit), ...values), 1];

export function panels({ within_ms, share }) {
  const promised = { value: within_ms, name: `promise: ${within_ms} ms` };
  return {
    promise: [
      {
        id: "share", title: `Reads within ${within_ms} ms`, note: "of all that were asked", unit: "share",
        query: { [`within ${within_ms} ms`]: `sum(rate(griddle_read_ms_bucket{le="${within_ms}"}[$w])) / ${asked}` },
        limit: { value: share, name: `promise: ${share * 100} %` }, bounds: nearOne(share),
      },
      {
        id: "latency", title: "Latency of reads", note: "from summed buckets", unit: "ms",
        limit: promised, bounds: toLimit(within_ms),
        query: {
          p99: p99("griddle_read"),
          p50: "histogram_quantile(0.5, sum by (le) (rate(griddle_read_ms_bucket[$w])))",
        },
      },
      {
        id: "reads", title: "Reads", note: "per second, by lane and fate", unit: "/s", stacked: true,
        query: {
          direct: 'sum(rate(griddle_read_ms_count{lane="direct"}[$w]))',
          wsgi: 'sum(rate(griddle_read_ms_count{lane="wsgi"}[$w]))',
          shed: "sum(rate(griddle_read_shed[$w]))",
          failed: "sum(rate(griddle_read_errors[$w]))",
        },
      },
    ],
    proxies: [
      { id: "proxy-p99", title: "p99 of reads, by proxy", unit: "ms", by: "host", limit: promised, query: p99("griddle_read", "host") },
      { id: "lane-p99", title: "p99 of reads, by lane", unit: "ms", by: "lane", limit: promised, query: p99("griddle_read", "lane") },
      { id: "requests", title: "Requests", note: "per second, all of nginx's", unit: "/s", by: "host", query: perHost("rate(griddle_nginx_requests[$h])") },
      { id: "shed", title: "Shed reads, by reason", note: "per second", unit: "/s", by: "reason", query: orNone("griddle_read_shed", "reason", "griddle_read_ms_count") },
      { id: "connections", title: "Client connections", unit: "", by: "host", query: perHost(latest('griddle_nginx_connections{state="active"}')) },
      { id: "write-p99", title: "p99 of writes, by proxy", unit: "ms", by: "host", query: p99("griddle_write", "host") },
    ],
    apps: [
      { id: "store-reads", title: "Store: requests", note: "per second", unit: "/s", by: "host", query: perHost("rate(griddle_store_requests[$w])") },
      { id: "store-p99", title: "Store: p99 of the engine", note: "a batch of reads", unit: "ms", by: "host", query: p99("griddle_store_read", "host") },
      { id: "batch", title: "Store: requests per batch", unit: "", by: "host", query: `${perHost("rate(griddle_store_requests[$w])")} / ${perHost("rate(griddle_store_batches[$w])")}` },
      { id: "refused", title: "Store: not served, by reason", note: "per second", unit: "/s", by: "status", query: orNone("griddle_store_refused", "status", "griddle_store_requests") },
      { id: "front-p99", title: "Front: p99 in the handler", unit: "ms", by: "host", query: p99("griddle_front_answer", "host") },
      { id: "front-answers", title: "Front: answers, by status", note: "per second", unit: "/s", by: "status", query: "sum by (status) (rate(griddle_front_answers[$w]))" },
      { id: "transactions", title: "Store: p99 of transactions", unit: "ms", by: "host", query: p99("griddle_store_write", "host") },
      { id: "feed", title: "Feed: events", note: "taken from the log, per second", unit: "/s", by: "host", query: perHost("rate(griddle_feed_events[$w])") },
    ],
    fdb: [
      { id: "fdb-rates", title: "Transactions", note: "per second", unit: "/s", query: { "read versions": fdbRate("read_versions"), commits: fdbRate("commits"), conflicts: fdbRate("conflicts") } },
      { id: "fdb-lag", title: "Lag", note: "of the worst storage server", unit: "s", by: "kind", query: `max by (kind) (${latest("griddle_fdb_lag_seconds")})` },
      { id: "fdb-queue", title: "Queues", note: "of the worst server", unit: "B", by: "role", query: `max by (role) (${latest("griddle_fdb_queue_bytes")})` },
      { id: "fdb-probe", title: "Latency probe", note: "the cluster's own", unit: "s", by: "what", query: `max by (what) (${latest("griddle_fdb_probe_seconds")})` },
      { id: "fdb-cpu", title: "Busiest process", note: "share of a core", unit: "%", by: "host", query: `100 * max by (host) (${latest("griddle_fdb_process_cpu_cores")})` },
      { id: "fdb-disk", title: "Disk busy", note: "as its processes see it", unit: "%", by: "host", query: `100 * max by (host) (${latest("griddle_fdb_process_disk_busy")})` },
    ],
    etcd: [
      { id: "etcd-commits", title: "Proposals committed", note: "per second", unit: "/s", by: "host", query: perHost("rate(etcd_server_proposals_committed_total[$h])") },
      { id: "etcd-fsync", title: "p99 of a log fsync", unit: "s", by: "host", query: "histogram_quantile(0.99, sum by (le, host) (rate(etcd_disk_wal_fsync_duration_seconds_bucket[$h])))" },
      { id: "etcd-peers", title: "p99 between peers", note: "round trip", unit: "s", by: "host", query: "histogram_quantile(0.99, sum by (le, host) (rate(etcd_network_peer_round_trip_time_seconds_bucket[$h])))" },
      { id: "etcd-size", title: "Database", unit: "B", by: "host", query: perHost(latest("etcd_mvcc_db_total_size_in_bytes")) },
      { id: "etcd-quota", title: "Quota used", unit: "share", by: "host", query: `${perHost(latest("etcd_mvcc_db_total_size_in_bytes"))} / ${perHost(latest("etcd_server_quota_backend_bytes"))}`, limit: { value: QUOTA_FULL, name: "writes of the store stop" }, bounds: () => [0, 1] },
    ],
    releases: [
      { id: "release-reads", title: "Reads, by release", note: "per second", unit: "/s", by: "release", stacked: true, query: "sum by (release) (rate(griddle_read_ms_count[$w]))" },
      { id: "release-p99", title: "p99 of reads, by release", unit: "ms", by: "release", limit: promised, query: p99("griddle_read", "release") },
      { id: "variant-p99", title: "p99 of reads, by variant", note: "“-”: in no experiment", unit: "ms", by: "variant", limit: promised, query: p99("griddle_read", "variant") },
    ],
    hosts: [
      { id: "cpu", title: "CPU", note: "all cores, busy", unit: "%", by: "host", query: '100 - avg by (host) (avg_over_time(cpu_percent{kind="idle"}[$h]))' },
      { id: "run-queue", title: "Run queue", note: "threads that run or wait", unit: "", by: "host", query: `max by (host) (${latest("griddle_host_run_queue")})` },
      { id: "received", title: "Network: received", unit: "B/s", by: "host", query: perHost("rate(interface_if_octets_rx[$h])") },
      { id: "sent", title: "Network: sent", unit: "B/s", by: "host", query: perHost("rate(interface_if_octets_tx[$h])") },
      { id: "retransmits", title: "TCP retransmits", note: "segments per second", unit: "/s", by: "host", query: tcp("RetransSegs") },
      { id: "listen-drops", title: "TCP listen drops", note: "per second", unit: "/s", by: "host", query: tcp("ListenDrops") },
      { id: "softnet", title: "Packets dropped or squeezed", note: "kernel's backlog, per second", unit: "/s", by: "host", query: perHost('rate(griddle_host_softnet{kind=~"dropped|squeezed"}[$h])') },
      { id: "disk", title: "Disk busy", note: "the busiest", unit: "%", by: "host", query: "max by (host) (rate(disk_disk_io_time_io_time[$h])) / 10" },
    ],
  };
}
