// Puts everything to work, once the page is there and whenever it was renewed.

function start() {
  readData();
  if (!document.getElementById("variant")) {
    document.body.append(
      make("dialog", { id: "variant", "aria-label": "a variant", close: leaveVariant }),
      make("p", { id: "said", class: "said", role: "status", hidden: true }),
    );
  }
  readyTables();
  readyMarks();
  showFront();
  showParallel();
  showSides();
  document.documentElement.dataset.ready = "yes";
}

function leaveVariant() {
  history.replaceState(null, "", location.pathname + location.search);
}

let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return; // a phone's address bar comes and goes
  width = innerWidth;
  showFront();
  showParallel();
});

start();
if (location.hash.length > 1) openVariant(decodeURIComponent(location.hash.slice(1)));
document.addEventListener("click", (event) => {
  if (event.target.id === "variant") event.target.close(); // outside of the window's content
});
