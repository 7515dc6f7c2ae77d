// Light, dark, or as the system says; the choice stays in this browser.

const KEY = "griddle-theme";
const CHOICES = ["auto", "light", "dark"];
const system = window.matchMedia("(prefers-color-scheme: dark)");

let colours = null;

export const theme = () => (CHOICES.includes(localStorage.getItem(KEY)) ? localStorage.getItem(KEY) : "auto");

/** Puts the choice in force and calls `changed` then, and whenever the system's changes. */
export function start(changed) {
  const apply = () => {
    const dark = theme() === "dark" || (theme() === "auto" && system.matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    colours = getComputedStyle(document.documentElement);
    changed(theme());
  };
  system.addEventListener("change", apply);
  apply();
  return {
    next() {
      localStorage.setItem(KEY, CHOICES[(CHOICES.indexOf(theme()) + 1) % CHOICES.length]);
      apply();
    },
  };
}

/** What a custom property of board.css is at present. */
export const colour = (property) => colours.getPropertyValue(property).trim();
