"use strict";
// State comes from state.json, columns by row; only tiles in view are in the document. A decision shows at once, dotted until the
// server has said that it is saved; what could not be sent stays in `queue` and is sent again when the server answers.

const $ = (id) => document.getElementById(id);
const SHOWS = { all: "all images", kept: "kept", hand: "rejected by hand", filtered: "rejected by filters" };
const SCORES = {  // name, words for the order that begins with what deserves a look, its direction, digits
  realism: ["Realism", "least real first", 1, 2],
  class_probability: ["Class probability", "least sure class first", 1, 3],
  strangeness: ["Strangeness", "strangest first", -1, 2],
  relative_distance: ["Relative distance", "nearest to a real one first", 1, 3],
  distance: ["Distance", "least plain distance first", 1, 3],
};
const CAPTION = 18, FRAME = 10, GAP = 4, OVERSCAN = 3, PULSE = 4000;

let data = null;       // state.json
let view = [];         // indices into its columns, filtered and sorted
let at = 0;            // the selected one's place in view
let chosen = -1;       // class, -1 for all
let columns = 1, side = 104;
const tiles = new Map();  // place in view -> li
let queue = [];        // decisions that wait to be sent, [index, kept]
let sent = [];         // of the request under way
const past = [];       // [index, kept before] for undo

const stateOf = (i) => data.kept[i] ? "kept" : data.reasons[i].split(" ").includes("by-hand") ? "hand" : "filtered";
const isUnsaved = (i) => [...queue, ...sent].some(([other]) => other === i);
const count = (number) => number.toLocaleString("en");
const nameOf = (i) => `${data.class_names[data.classes[i]]}, ${data.files[i].split("/").pop()}`;

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// What is shown

function choose() {  // anew, after another filter or order
  const show = $("show").value, sort = $("sort").value;
  view = data.rows.map((_, i) => i).filter((i) =>
    (chosen < 0 || data.classes[i] === chosen) && (show === "all" || stateOf(i) === show));
  if (sort in data.scores) {
    const values = data.scores[sort], sign = SCORES[sort][2] * ($("reverse").checked ? -1 : 1);
    view.sort((a, b) => (values[a] === null) - (values[b] === null) || sign * (values[a] - values[b]) || a - b);
  } else if ($("reverse").checked) {
    view.reverse();
  }
  at = 0;
  $("nothing").hidden = view.length > 0;
  clear();
  $("sheet").scrollTop = 0;
  draw();
  describe();
}

function clear() {
  tiles.forEach((tile) => tile.remove());
  tiles.clear();
}

function draw() {  // the tiles in view, and the selected one, which has the focus
  const sheet = $("sheet"), style = getComputedStyle(sheet);
  const room = sheet.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  const least = side + FRAME;
  const fitting = Math.max(1, Math.floor((room + GAP) / (least + GAP)));
  const width = Math.floor((room - GAP * (fitting - 1)) / fitting);
  const height = width + CAPTION + GAP;
  if (fitting !== columns || $("grid").dataset.width !== String(width)) {
    columns = fitting;
    $("grid").dataset.width = width;
    clear();
  }
  $("grid").style.height = `${Math.ceil(view.length / columns) * height}px`;
  const first = Math.max(0, (Math.floor(sheet.scrollTop / height) - OVERSCAN) * columns);
  const last = Math.min(view.length, (Math.ceil((sheet.scrollTop + sheet.clientHeight) / height) + OVERSCAN) * columns);
  for (const [place, tile] of tiles) {
    if ((place < first || place >= last) && place !== at) { tile.remove(); tiles.delete(place); }
  }
  const needed = at < view.length ? [at] : [];
  for (let place = first; place < last; place++) needed.push(place);
  for (const place of needed) {
    if (tiles.has(place)) continue;
    const tile = makeTile(place);
    tile.style.width = `${width}px`;
    tile.style.transform = `translate(${(place % columns) * (width + GAP)}px, ${Math.floor(place / columns) * height}px)`;
    const after = [...tiles.keys()].filter((other) => other > place);  // in the order that a reader hears them
    $("grid").insertBefore(tile, after.length ? tiles.get(Math.min(...after)) : null);
    tiles.set(place, tile);
  }
}

function makeTile(place) {
  const i = view[place];
  const image = make("img", { src: `image/${data.rows[i]}`, decoding: "async", draggable: false });
  image.addEventListener("load", () => markEnlarged(image));
  const pick = make("button", { type: "button", className: "pick" },
    make("span", { className: "image" }, image), make("span", { className: "score", textContent: captionOf(i) }));
  pick.addEventListener("click", () => select(place));
  const toggle = make("button", { type: "button", className: "toggle", tabIndex: -1 });
  toggle.addEventListener("click", () => { decide(i, !data.kept[i]); select(place); });
  const tile = make("li", {}, pick, toggle);
  tile.setAttribute("aria-setsize", view.length);
  tile.setAttribute("aria-posinset", place + 1);
  dress(tile, place);
  return tile;
}

function dress(tile, place) {  // what changes
  const i = view[place], state = stateOf(i), [pick, toggle] = tile.children;
  tile.className = `${state === "kept" ? "" : "no"} ${state} ${isUnsaved(i) ? "unsaved" : ""}`;
  pick.querySelector("img").alt = `${nameOf(i)}, ${SHOWS[state]}`;
  pick.tabIndex = place === at ? 0 : -1;
  if (place === at) pick.setAttribute("aria-current", "true"); else pick.removeAttribute("aria-current");
  toggle.textContent = state === "kept" ? "✕" : "✓";
  toggle.setAttribute("aria-label", `${state === "kept" ? "Reject" : "Keep"} ${nameOf(i)}`);
}

function markEnlarged(image) {  // shrunk photographs stay smooth
  image.classList.toggle("enlarged", image.naturalWidth <= image.clientWidth * devicePixelRatio);
}

const format = (name, value) => value === null ? "–" : value.toFixed(SCORES[name][3]);

function captionOf(i) {
  const sort = $("sort").value;
  return sort in data.scores ? format(sort, data.scores[sort][i]) : data.files[i].split("/").pop().replace(/^synthetic-|\.\w+$/g, "");
}

// The selected one

function select(place, focus = true) {
  if (!view.length) return;
  const before = at;
  at = Math.max(0, Math.min(view.length - 1, place));
  reveal();
  draw();
  for (const each of [before, at]) if (tiles.has(each)) dress(tiles.get(each), each);
  if (focus) tiles.get(at).firstChild.focus({ preventScroll: true });
  describe();
}

function reveal() {
  const sheet = $("sheet"), height = Number($("grid").dataset.width) + CAPTION + GAP;
  const top = Math.floor(at / columns) * height, bottom = top + height + 12;
  if (top < sheet.scrollTop) sheet.scrollTop = top;
  else if (bottom > sheet.scrollTop + sheet.clientHeight) sheet.scrollTop = bottom - sheet.clientHeight + 12;
}

function describe() {
  const i = view[at], none = i === undefined;
  for (const id of ["keep", "reject", "previous", "next"]) $(id).disabled = none;
  $("undo").disabled = !past.length;
  document.querySelector(".said").hidden = document.querySelector(".pair").hidden = none;
  if (none) return;
  const state = stateOf(i), reasons = data.reasons[i].split(" ").filter((reason) => reason && reason !== "by-hand");
  show($("big"), `image/${data.rows[i]}`, nameOf(i));
  $("frame").classList.toggle("no", state !== "kept");
  $("real-figure").hidden = !data.has_real[i];
  if (data.has_real[i]) show($("real"), `real/${data.rows[i]}`, `The real image ${data.nearest[i]}`);
  $("real-file").textContent = data.nearest[i] && `Nearest real one: ${data.nearest[i]}${data.has_real[i] ? "" : " (give --real DATA to see it)"}`;
  $("file").textContent = data.files[i];
  $("verdict").textContent = SHOWS[state];
  $("verdict").className = `tag ${{ kept: "helps", hand: "hurts", filtered: "inconclusive" }[state]}`;
  $("scores").replaceChildren(...Object.keys(SCORES).filter((name) => name in data.scores).flatMap((name) => [
    make("dt", { textContent: SCORES[name][0], className: name === $("sort").value ? "sorted" : "" }),
    make("dd", { textContent: format(name, data.scores[name][i]) })]));
  if (reasons.length) $("scores").append(make("dt", { textContent: "Filters against it" }), make("dd", { textContent: reasons.join(", ") }));
}

function show(image, source, alt) {
  if (image.getAttribute("src") !== source) image.src = source;
  image.alt = alt;
}

function tally() {
  const per = data.class_names.map(() => ({ kept: 0, hand: 0, filtered: 0 }));
  data.rows.forEach((_, i) => per[data.classes[i]][stateOf(i)]++);
  const sum = (state) => per.reduce((total, each) => total + each[state], 0);
  $("totals").textContent = `${count(sum("kept"))} kept, ${count(sum("hand"))} rejected by hand`;
  [...$("classes").children].forEach((item, row) => {
    const each = row ? per[row - 1] : { kept: sum("kept"), hand: sum("hand"), filtered: sum("filtered") };
    const cell = item.querySelector(".num");
    cell.replaceChildren(count(each.kept));
    if (each.hand) cell.append(make("span", { className: "out", textContent: ` −${count(each.hand)}` }));
    item.firstChild.setAttribute("aria-label", `${item.dataset.name}: ${each.kept} kept, ${each.hand} rejected by hand`);
    item.firstChild.setAttribute("aria-pressed", String(row - 1 === chosen));
  });
  for (const option of $("show").options) {
    const number = (state) => chosen < 0 ? sum(state) : per[chosen][state];
    const all = option.value === "all" ? number("kept") + number("hand") + number("filtered") : number(option.value);
    option.textContent = `${SHOWS[option.value]} (${count(all)})`;
  }
}

// Decisions

function decide(i, kept, isUndo = false) {
  if (stateOf(i) === (kept ? "kept" : "hand")) return;
  if (!isUndo) past.push([i, data.kept[i]]);
  put(i, kept);
  queue.push([i, kept]);
  refresh();
  $("status").textContent = `${kept ? "Kept" : "Rejected"} ${nameOf(i)}. ${$("totals").textContent}`;
  send();
}

function put(i, kept) {
  const others = data.reasons[i].split(" ").filter((reason) => reason && reason !== "by-hand");
  data.kept[i] = kept;
  data.reasons[i] = (kept ? others : [...others, "by-hand"]).join(" ");
}

function refresh() {
  tally();
  tiles.forEach(dress);
  describe();
}

function decideHere(kept) {
  if (view[at] === undefined) return;
  decide(view[at], kept);
  select(at + 1);
}

function undo() {
  const last = past.pop();
  if (!last) return;
  decide(last[0], last[1], true);
  const place = view.indexOf(last[0]);
  if (place >= 0) select(place); else refresh();
}

async function send() {
  if (sent.length || !queue.length) return;
  [sent, queue] = [queue.slice(0, 500), queue.slice(500)];
  const batch = sent;
  let answer = null;
  try {
    answer = await fetch("decide", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ decisions: batch.map(([i, kept]) => [data.rows[i], kept]) }),
    });
  } catch { /* told below */ }
  sent = [];
  if (!answer) {
    queue = [...batch, ...queue];
    complain();
  } else if (answer.ok) {
    const found = await answer.json();
    if (found.version === data.version + batch.length) data.version = found.version;  // else another tab decides, too
    holding = false;
    complain(found.trouble);
    send();
  } else {
    const told = await answer.text();
    let message = told;
    try { message = JSON.parse(told).error; } catch { /* plain text */ }
    try {
      await load();  // what the server has: all but what it could not do
    } catch {
      queue = [...batch, ...queue];  // nothing is done twice by asking again
    }
    complain(`Not saved: ${message}`, true);
    send();
  }
  refresh();
}

let holding = false;  // a message that stays until a decision is saved
function complain(message, hold = false) {
  const away = message === undefined;
  const files = [...new Set([...sent, ...queue].map(([i]) => data.files[i]))];
  const named = files.slice(0, 3).join(", ") + (files.length > 3 ? ` and ${files.length - 3} more` : "");
  const said = away
    ? `The server does not answer. ${files.length ? `Not saved yet: ${named}; this page tries again.` : "All decisions are saved."} If ganaug browse has ended, start it again${files.length ? " and repeat these" : ""}.`
    : message;
  if (!hold && holding && said === "") return;
  holding = hold;
  $("trouble").hidden = !said;
  if ($("trouble").textContent !== said) $("trouble").textContent = said;
}

async function beat() {
  try {
    const answer = await fetch("pulse");
    if (!answer.ok) throw new Error();
    const found = await answer.json();
    complain(found.trouble);
    if (queue.length) send();
    else if (found.version !== data.version && !sent.length) await load();
  } catch {
    complain();
  }
}

async function load() {
  const answer = await fetch("state.json");
  if (!answer.ok) throw new Error(await answer.text());
  const found = await answer.json();
  if (data) {  // the images are the same ones
    Object.assign(data, { version: found.version, kept: found.kept, reasons: found.reasons });
    for (const [i, kept] of queue) put(i, kept);
    refresh();
  } else {
    data = found;
  }
}

// The start

function lead() {
  const filtered = data.rows.some((_, i) => stateOf(i) === "filtered");
  $("show").append(...Object.keys(SHOWS).filter((name) => name !== "filtered" || filtered).map((value) => make("option", { value })));
  $("sort").append(make("option", { value: "", textContent: "as made" }),
    ...Object.keys(SCORES).filter((name) => name in data.scores).map((value) => make("option", { value, textContent: SCORES[value][1] })));
  ["All classes", ...data.class_names].forEach((name, row) => {
    const button = make("button", { type: "button" }, make("span", { className: "of", textContent: name }), make("span", { className: "num" }));
    button.addEventListener("click", () => { chosen = row - 1; tally(); choose(); });
    const item = make("li", {}, button);
    item.dataset.name = name;
    $("classes").append(item);
  });
  for (const id of ["show", "sort", "reverse"]) $(id).addEventListener("change", choose);
  if (innerWidth <= 860) $("size").value = 72;
  side = Number($("size").value);
  $("size").addEventListener("input", () => { side = Number($("size").value); draw(); reveal(); draw(); });
  $("keep").addEventListener("click", () => decideHere(true));
  $("reject").addEventListener("click", () => decideHere(false));
  $("undo").addEventListener("click", undo);
  $("previous").addEventListener("click", () => select(at - 1, false));
  $("next").addEventListener("click", () => select(at + 1, false));
  $("help").addEventListener("click", () => $("keys").showModal());
  $("sheet").addEventListener("scroll", draw, { passive: true });
  new ResizeObserver(draw).observe($("sheet"));
  for (const image of [$("big"), $("real")]) image.addEventListener("load", () => markEnlarged(image));
  addEventListener("keydown", press);
  addEventListener("beforeunload", (event) => { if (queue.length + sent.length) event.preventDefault(); });
  setInterval(beat, PULSE);
  tally();
  choose();
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open || event.target.matches?.("input, select")) return;
  const page = columns * Math.max(1, Math.floor($("sheet").clientHeight / (Number($("grid").dataset.width) + CAPTION + GAP)));
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity };
  const acts = { x: () => decideHere(false), k: () => decideHere(true), u: undo, "?": () => $("keys").showModal() };
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key in moves) {
    const place = at + moves[key];
    if (Math.abs(moves[key]) !== columns || (place >= 0 && place < view.length)) select(place);
  } else if (key in acts) {
    acts[key]();
  } else {
    return;
  }
  event.preventDefault();
}

load().then(lead).catch((error) => complain(`The page cannot be shown: ${error.message}`, true));
