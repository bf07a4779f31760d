// Runs before the first paint, so that a chosen theme never flashes. A file of its own because the page's
// Content-Security-Policy allows no inline script.
(function () {
  try {
    var theme = localStorage.getItem("runcast.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch (error) {
    // Storage is switched off: the system's theme it is.
  }
})();
