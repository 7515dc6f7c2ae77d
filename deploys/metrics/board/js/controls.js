// The header's buttons, and the keys.

import { byId, element } from "./dom.js";
import { clock } from "./format.js";
import * as themes from "./theme.js";
import { RANGES, isLive } from "./view.js";

const THEMES = { auto: "◐", light: "☼", dark: "☾" };

/** @param actions main.js's: range(name), toggle(), host(name), repaint() */
export function controls(actions) {
  const radios = Object.keys(RANGES).map((range) => {
    const radio = element("input", { type: "radio", name: "range", id: `range-${range}`, value: range });
    radio.addEventListener("change", () => actions.range(range));
    byId("ranges").append(radio, element("label", { for: radio.id }, [range]));
    return radio;
  });
  for (const section of document.querySelectorAll("main > section")) {
    const link = element("a", { href: `#${section.id}`, "data-jump": true }, [
      element("span", { class: "dot", id: `dot-${section.id}` }),
      section.dataset.name,
    ]);
    byId("nav").append(element("li", {}, [link]));
  }
  const theme = themes.start((choice) => {
    byId("theme").replaceChildren(THEMES[choice], element("span", { class: "word" }, [` ${choice}`]));
    byId("theme").setAttribute("aria-label", `Theme: ${choice}`);
    actions.repaint();
  });
  byId("live").addEventListener("click", actions.toggle);
  byId("theme").addEventListener("click", theme.next);
  byId("help").addEventListener("click", () => byId("help-text").showModal());
  // The address belongs to the view, so a jump within the page is not a change of it.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-jump]");
    if (!link) return;
    event.preventDefault();
    jump(document.querySelector(link.getAttribute("href")));
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("help-text").open) return;
    const range = Object.keys(RANGES)[Number(event.key) - 1];
    if (range) actions.range(range);
    else ({ p: actions.toggle, t: theme.next, "?": () => byId("help").click(), j: () => step(1), k: () => step(-1),
      Escape: () => actions.host(null) })[event.key]?.();
  });

  return {
    show(view) {
      for (const radio of radios) radio.checked = isLive(view) && radio.value === view.range;
      byId("live").setAttribute("aria-pressed", isLive(view));
      byId("live").textContent = isLive(view) ? "● Live" : "Back to now";
      if (!isLive(view)) byId("fresh").textContent = `${clock(view.from)} – ${clock(view.to)}`;
    },
    /** When the store last answered. */
    fresh(view, shownAt, down) {
      if (isLive(view) && shownAt) byId("fresh").textContent = `${down ? "last " : ""}${clock(shownAt)}`;
    },
  };
}

function jump(section) {
  const heading = section.querySelector("h1, h2");
  heading.setAttribute("tabindex", "-1");
  heading.focus({ preventScroll: true });
  section.scrollIntoView();
}

function step(by) {
  const all = [...document.querySelectorAll("main > section:not([hidden])")];
  const top = document.querySelector("nav").getBoundingClientRect().bottom + 40;
  const at = all.findLastIndex((section) => section.getBoundingClientRect().top <= top);
  jump(all[Math.max(0, Math.min(all.length - 1, at + by))]);
}
