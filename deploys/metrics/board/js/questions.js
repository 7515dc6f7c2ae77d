// What is asked for numbers of the present, by name: MetricsQL over the names of docs/metrics.md.

const READS = "griddle_read_ms_count";

/** Reads, shed and failed, per second: what the promise is measured against. */
const asked = (w) => `(sum(rate(${READS}[${w}])) + (sum(rate(griddle_read_shed[${w}])) or 0)
  + (sum(rate(griddle_read_errors[${w}])) or 0))`;

/** A counter that nobody has counted into is zero where reads are counted, and unknown where they are not. */
const orNone = (counter, w) => `(sum(rate(${counter}[${w}])) or 0 * sum(rate(${READS}[${w}])))`;

const promise = (w, ms) => ({
  share: `sum(rate(griddle_read_ms_bucket{le="${ms}"}[${w}])) / ${asked(w)}`,
  p50: `histogram_quantile(0.5, sum by (le) (rate(griddle_read_ms_bucket[${w}])))`,
  p99: `histogram_quantile(0.99, sum by (le) (rate(griddle_read_ms_bucket[${w}])))`,
  reads: `sum(rate(${READS}[${w}]))`,
  shed: `${orNone("griddle_read_shed", w)} / ${asked(w)}`,
  errors: `${orNone("griddle_read_errors", w)} / ${asked(w)}`,
});

/** Asked at every refresh. */
export const promiseNow = (ms) => promise("1m", ms);

/** Asked once a minute. `known_s`: how much of the hour the store knows. */
export const promiseHour = (ms) => ({
  ...promise("1h", ms),
  known_s: "max(time() - tfirst_over_time(griddle_collectd_starts[1h]))",
});

/** By host; `heard` in Unix seconds. */
export const hosts = {
  heard: "max by (host) (tlast_over_time(griddle_collectd_starts[5m]))",
  cpu: '100 - avg by (host) (avg_over_time(cpu_percent{kind="idle"}[40s]))',
  run_queue: "max by (host) (last_over_time(griddle_host_run_queue[40s]))",
  memory_free: 'sum by (host) (last_over_time(memory_memory{kind=~"free|cached|buffered|slab_recl"}[40s]))',
  received: "sum by (host) (rate(interface_if_octets_rx[40s]))",
  sent: "sum by (host) (rate(interface_if_octets_tx[40s]))",
  retransmits: 'sum by (host) (rate(protocols_protocol_counter{kind="RetransSegs"}[1m]))',
  listen_drops: 'sum by (host) (rate(protocols_protocol_counter{kind="ListenDrops"}[1m]))',
  disk_busy: "max by (host) (rate(disk_disk_io_time_io_time[40s])) / 10",
  disk_used: 'max by (host) (last_over_time(df_percent_bytes{kind="used"}[40s]))',
  nginx: "count by (host) (last_over_time(griddle_proxy_worker[20s]) > 0)",
  workers: "count by (host, unit) (last_over_time(griddle_worker[20s]) > 0)",
};

/** Asked once a minute, for hosts that have been silent for long. */
export const silence = { heard: "max by (host) (tlast_over_time(griddle_collectd_starts[1d]))" };

export const etcd = {
  up: 'last_over_time(up{job="etcd"}[40s])',
  leads: "last_over_time(etcd_server_is_leader[40s])",
  version: "last_over_time(etcd_server_version[40s])",
  size: "last_over_time(etcd_mvcc_db_total_size_in_bytes[40s])",
  quota: "last_over_time(etcd_server_quota_backend_bytes[40s])",
  alarm: "last_over_time(griddle_etcd_alarm[40s]) > 0",
};

export const fdb = {
  up: "last_over_time(griddle_fdb_up[40s])",
  gate: "last_over_time(griddle_fdb_gate[40s])",
  lag: "last_over_time(griddle_fdb_lag_seconds[40s])",
  queue: "last_over_time(griddle_fdb_queue_bytes[40s])",
  rate: 'last_over_time(griddle_fdb_per_second{what=~"read_versions|commits|conflicts"}[40s])',
  recovered: "last_over_time(griddle_fdb_recovered_seconds[40s])",
  clients: "last_over_time(griddle_fdb_clients[40s])",
  process: "count by (host, version) (last_over_time(griddle_fdb_process[40s]))",
};

const perVariant = "sum by (release, variant";
export const releases = (ms) => ({
  workers: "count by (release, slot, unit) (last_over_time(griddle_worker[20s]) > 0)",
  reads: `${perVariant}) (rate(${READS}[5m]))`,
  within: `${perVariant}) (rate(griddle_read_ms_bucket{le="${ms}"}[5m]))`,
  p99: `histogram_quantile(0.99, ${perVariant}, le) (rate(griddle_read_ms_bucket[5m])))`,
  errors: `${perVariant}) (rate(griddle_read_errors[5m]))`,
  shed: `${perVariant}) (rate(griddle_read_shed[5m]))`,
});
