"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  for (const part of document.querySelectorAll(".scripted")) part.hidden = false;
  for (const part of document.querySelectorAll(".unscripted")) part.hidden = true;

  // One slider moves the sheets of all walks.
  const slider = find("walk-step");
  if (slider) {
    const show = () => {
      const words = `step ${Number(slider.value) + 1} of ${Number(slider.max) + 1}`;
      find("walks").style.setProperty("--step", slider.value);
      find("walk-words").textContent = words;
      slider.setAttribute("aria-valuetext", words);
    };
    slider.addEventListener("input", show);
    show();
  }

  const plot = find("map-plot");
  if (!plot) return;
  const data = JSON.parse(find("map-data").textContent);
  const svg = plot.querySelector("svg");
  const points = [];
  for (const group of data.groups) {
    for (let i = 0; i < group.count; i += 1) {
      const n = points.length;
      points.push({ group, i, x: data.places[2 * n], y: data.places[2 * n + 1], nearest: data.nearest[n] });
    }
  }
  let picked = points[0];
  let zoom = 1; // units of the map for one of the whole map's


  const name = (point) => `${point.group.kind} image of ${data.names[point.group.class]}`;

  function thumbnail(place, point) {
    const { group, i } = point;
    const columns = Math.min(data.columns, group.count);
    const rows = Math.ceil(group.count / columns);
    let image = place.firstElementChild;
    if (!image) {
      image = document.createElement("img");
      place.append(image);
    }
    if (image.getAttribute("src") !== group.sheet) image.src = group.sheet;
    image.alt = name(point);
    image.style.width = `${100 * columns}%`;
    image.style.transform = `translate(${(-100 * (i % columns)) / columns}%, ${(-100 * Math.floor(i / columns)) / rows}%)`;
  }

  function pick(point) {
    picked = point;
    const ring = find("map-ring");
    ring.setAttribute("r", 11 * zoom);
    ring.setAttribute("cx", point.x);
    ring.setAttribute("cy", point.y);
    thumbnail(find("map-image"), point);
    find("map-words").textContent = name(point);
    const other = points[point.nearest];
    find("map-nearest").hidden = !other;
    if (other) {
      thumbnail(find("map-nearest-image"), other);
      find("map-nearest-words").textContent = `nearest ${name(other)}`;
    }
  }

  const chosen = find("map-class");
  const kinds = { real: find("map-real"), synthetic: find("map-synthetic") };
  const isShown = ({ group }) => (chosen.value === "" || Number(chosen.value) === group.class) && kinds[group.kind].checked;

  // A single class fills the map; crosses stay as large as they were.
  function zoomTo(shown) {
    const isPart = chosen.value !== "" && shown.length > 0;
    const ends = (values) => [Math.min(...values), Math.max(...values)];
    const [left, right] = isPart ? ends(shown.map((point) => point.x)) : [0, data.width];
    const [top, bottom] = isPart ? ends(shown.map((point) => point.y)) : [0, data.height];
    zoom = isPart ? Math.min(1, 1.15 * Math.max((right - left) / data.width, (bottom - top) / data.height, 1 / 12)) : 1;
    const [width, height] = [zoom * data.width, zoom * data.height];
    svg.setAttribute("viewBox", `${(left + right - width) / 2} ${(top + bottom - height) / 2} ${width} ${height}`);
    svg.classList.toggle("zoomed", isPart);
    const half = data.cross * zoom;
    for (const path of svg.querySelectorAll("path.synthetic")) {
      const mine = points.filter(({ group }) => group.kind === "synthetic" && group.class === Number(path.dataset.class));
      path.setAttribute("d", mine.map(({ x, y }) => `M${x - half} ${y - half}l${2 * half} ${2 * half}m0-${2 * half}l-${2 * half} ${2 * half}`).join(""));
    }
  }

  function filter() {
    for (const mark of svg.querySelectorAll("path")) {
      mark.classList.toggle("faded", !isShown({ group: { class: Number(mark.dataset.class), kind: mark.dataset.kind } }));
    }
    const shown = points.filter(isShown);
    find("map-count").textContent = `${shown.length} of ${points.length} images`;
    zoomTo(shown);
    if (shown.length) pick(isShown(picked) ? picked : shown[0]);
  }

  const squared = (a, b) => (a.x - b.x) ** 2 + (a.y - b.y) ** 2;

  function pointAt(event) {
    const box = svg.getBoundingClientRect();
    const view = svg.viewBox.baseVal;
    const scale = view.width / box.width;
    const here = { x: view.x + (event.clientX - box.left) * scale, y: view.y + (event.clientY - box.top) * scale };
    const reach = (event.pointerType === "touch" ? 40 : 18) * scale;
    let best = null;
    for (const point of points) {
      if (isShown(point) && squared(point, here) < Math.min(reach ** 2, best ? squared(best, here) : Infinity)) best = point;
    }
    return best;
  }

  const onPointer = (event) => {
    const point = pointAt(event);
    if (point && point !== picked) pick(point);
  };
  plot.addEventListener("pointermove", onPointer);
  plot.addEventListener("pointerdown", onPointer);

  // An arrow goes to the nearest point in its direction; what lies aside counts as farther away.
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  function neighbour([dx, dy]) {
    let best = null;
    let least = Infinity;
    for (const point of points) {
      const ahead = (point.x - picked.x) * dx + (point.y - picked.y) * dy;
      const aside = Math.abs((point.x - picked.x) * dy) + Math.abs((point.y - picked.y) * dx);
      if (ahead > 0 && aside <= 2 * ahead && ahead + 2 * aside < least && isShown(point)) {
        best = point;
        least = ahead + 2 * aside;
      }
    }
    return best;
  }
  plot.addEventListener("keydown", (event) => {
    const shown = points.filter(isShown);
    let next = null;
    if (event.key in ARROWS) next = neighbour(ARROWS[event.key]);
    else if (event.key === "Home") next = shown[0];
    else if (event.key === "End") next = shown[shown.length - 1];
    else return;
    event.preventDefault();
    if (next) pick(next);
  });

  for (const control of [chosen, kinds.real, kinds.synthetic]) control.addEventListener("change", filter);
  plot.tabIndex = 0;
  plot.setAttribute("role", "application");
  plot.setAttribute("aria-label", "Map of images. Arrow keys go from image to image, Home and End to the first and last.");
  filter();
})();
