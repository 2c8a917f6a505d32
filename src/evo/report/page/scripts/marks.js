// Marks of pictures: whatever has data-id opens its variant, by mouse, touch or keyboard.

/** Let the marks of all pictures be clicked, and be walked through by arrow keys: each picture is one stop of Tab. */
function readyMarks() {
  for (const picture of document.querySelectorAll("svg")) readyPicture(picture);
  for (const link of document.querySelectorAll("a.id")) {
    link.addEventListener("click", (event) => {
      if (!byId.has(link.textContent) || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      openVariant(link.textContent);
    });
  }
}

function readyPicture(picture) {
  const marks = [...picture.querySelectorAll("[data-id]")].filter((mark) => byId.has(mark.dataset.id));
  if (!marks.length) return;
  picture.setAttribute("role", "group");
  for (const mark of marks) {
    mark.classList.add("mark");
    mark.setAttribute("tabindex", "-1");
    mark.setAttribute("role", "button");
    mark.setAttribute("aria-label", mark.querySelector("title")?.textContent ?? mark.dataset.id);
  }
  marks[marks.length - 1].setAttribute("tabindex", "0"); // what lies on top
  const listeners = {
    click: (event) => act(event.target.closest("[data-id]")),
    keydown: (event) => walk(event, marks),
    focusin: (event) => say(event.target.getAttribute("aria-label")),
    focusout: () => say(""),
    pointerover: (event) => point(event.target.closest("[data-id]")),
    pointerout: () => point(null),
  };
  for (const [name, listener] of Object.entries(listeners)) picture.addEventListener(name, listener);
}

function act(mark) {
  if (mark) openVariant(mark.dataset.id);
}

function walk(event, marks) {
  const at = marks.indexOf(event.target);
  const moves = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Enter" || event.key === " ") act(marks[at]);
  else if (event.key in moves) moveFocus(marks, marks[(at + moves[event.key] + marks.length) % marks.length]);
  else if (event.key === "Home") moveFocus(marks, marks[0]);
  else if (event.key === "End") moveFocus(marks, marks[marks.length - 1]);
  else return;
  event.preventDefault();
}

function moveFocus(marks, next) {
  for (const mark of marks) mark.setAttribute("tabindex", mark === next ? "0" : "-1");
  next.focus();
}

/** Say what has the focus, at the foot of the window. */
function say(text) {
  const line = document.getElementById("said");
  line.textContent = text ?? "";
  line.hidden = !text;
}

/** Set a variant off in every picture, and its line of descent in the genealogy; null takes that back. */
function point(mark) {
  for (const shown of document.querySelectorAll(".pointed")) shown.classList.remove("pointed");
  if (!mark || !byId.has(mark.dataset.id)) return;
  const id = mark.dataset.id, line = ancestors(id);
  for (const other of document.querySelectorAll("[data-id]")) {
    other.classList.toggle("pointed", other.dataset.id === id);
  }
  for (const kin of document.querySelectorAll(".kin")) {
    kin.classList.toggle("pointed", line.has(kin.dataset.child));
  }
}

/** A variant and all that it descends from. */
function ancestors(id) {
  const found = new Set(), open = [id];
  while (open.length) {
    const next = open.pop();
    if (!found.has(next) && byId.has(next)) {
      found.add(next);
      open.push(...byId.get(next).parents);
    }
  }
  return found;
}
