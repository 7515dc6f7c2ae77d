// Elements are made, never parsed: what a host or an operator named cannot become markup.

export const byId = (id) => document.getElementById(id);

/** @param children elements and texts */
export function element(tag, attributes = {}, children = []) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const LIGHTS = { ok: "●", warn: "▲", bad: "✕", unknown: "○" };

/** A light: shape, colour and word say the same. `state`: ok, warn, bad, unknown. */
export function light(state, word) {
  return element("span", { class: `light ${state}` }, [
    element("span", { class: "shape", "aria-hidden": "true" }, [LIGHTS[state]]),
    ` ${word}`,
  ]);
}
