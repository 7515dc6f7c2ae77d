// Asks the metrics store, by the two questions that nginx lets through.

const PATIENCE_MS = 8000;

/** The store did not answer; `message` says what came instead. */
export class StoreDown extends Error {}

// The store's clock is the one that counts; each answer tells it, to the second.
let ahead_s = 0;

export const now = () => Date.now() / 1000 + ahead_s;

async function ask(path, parameters) {
  let answer, body;
  try {
    answer = await fetch(`${path}?${new URLSearchParams(parameters)}`, { signal: AbortSignal.timeout(PATIENCE_MS) });
    body = await answer.text();
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new StoreDown(late ? `no answer within ${PATIENCE_MS / 1000} s` : "metrics1 cannot be reached");
  }
  if (!answer.ok) {
    const refused = answer.status >= 400 && answer.status < 500 && answer.status !== 429;
    throw refused ? new Error(`the store refuses a question: ${body}`) : new StoreDown(`it answers ${answer.status}`);
  }
  const told_s = Date.parse(answer.headers.get("Date")) / 1000;
  if (Math.abs(told_s - now()) > 1.5) ahead_s = told_s - Date.now() / 1000;
  return JSON.parse(body).data.result;
}

/**
 * Several instant questions in one request.
 * @param {Object<string, string>} questions name → MetricsQL
 * @returns {Promise<Object<string, {labels: Object, value: number}[]>>} name → series; none where nothing is known
 */
export async function facts(questions, time = null) {
  const parts = Object.entries(questions).map(([name, query]) => `label_set((${query}), "fact", "${name}")`);
  const found = Object.fromEntries(Object.keys(questions).map((name) => [name, []]));
  const parameters = { query: `union(${parts.join(",")})` };
  if (time) parameters.time = time;
  for (const { metric, value } of await ask("/api/v1/query", parameters)) {
    const { fact, ...labels } = metric;
    found[fact].push({ labels, value: Number(value[1]) });
  }
  return found;
}

/**
 * One question over a stretch of time.
 * @returns {Promise<{labels: Object, points: Map<number, number>}[]>} points by Unix seconds
 */
export async function series(query, { from, to, step }) {
  return lines(await ask("/api/v1/query_range", { query, start: from, end: to, step }));
}

/** Every sample that a question like `name[1h]` finds, looking back from a time. The same shape. */
export async function samples(query, time) {
  return lines(await ask("/api/v1/query", { query, time }));
}

function lines(found) {
  return found.map(({ metric, values }) => ({
    labels: metric,
    points: new Map(values.map(([time, value]) => [time, Number(value)])),
  }));
}
