// A page that is served renews itself when the run went on, and says when nobody answers any more.

const EVERY_MS = 2000;
let isDeaf = false;

async function renew() {
  const { state: seen } = document.querySelector("main").dataset;
  try {
    const answer = await fetch(location.pathname, { cache: "no-store", headers: { "If-None-Match": seen } });
    if (answer.status === 200) replaceMain(await answer.text());
    if (isDeaf) say("");
    isDeaf = false;
  } catch {
    isDeaf = true;
    say("the server has stopped; this is the last state that it told");
  }
  setTimeout(renew, EVERY_MS);
}

function replaceMain(text) {
  const renewed = new DOMParser().parseFromString(text, "text/html").querySelector("main");
  const open = document.querySelectorAll("main details");
  const opened = [...open].map((details) => details.open);
  document.querySelector("main").replaceWith(renewed);
  renewed.querySelectorAll("details").forEach((details, index) => {
    if (opened.length === renewed.querySelectorAll("details").length) details.open = opened[index];
  });
  start();
}

setTimeout(renew, EVERY_MS);
