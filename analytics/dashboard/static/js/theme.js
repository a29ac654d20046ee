// Before the first paint: the theme that was chosen here, else the system's. A plain script, so that it blocks.
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // storage is closed to us: the system decides
    }
  };
  const apply = () => {
    document.documentElement.dataset.theme = chosen() ?? (system.matches ? "dark" : "light");
    dispatchEvent(new Event("theme"));
  };
  system.addEventListener("change", apply);
  window.toggleTheme = () => {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("theme", next);
    } catch {
      // holds until the page is loaded again
    }
    document.documentElement.dataset.theme = next;
    dispatchEvent(new Event("theme"));
  };
  apply();
})();
