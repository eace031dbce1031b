// Runs before the page is drawn, so that it isn't drawn in other colours first.
try {
  document.documentElement.dataset.theme = JSON.parse(localStorage.getItem("diplex-settings") || "{}").theme || "";
} catch {
  // Without storage, as the system has it.
}
