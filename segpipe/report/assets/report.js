"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");

  // one case is marked wherever it is drawn
  const marks = new Map();
  for (const element of document.querySelectorAll("[data-c]")) {
    const list = marks.get(element.dataset.c);
    if (list) list.push(element); else marks.set(element.dataset.c, [element]);
  }
  const names = new Map();
  for (const row of document.querySelectorAll(".sortable tbody tr")) names.set(row.dataset.c, row);
  const tip = document.getElementById("tip");
  let marked = null;
  const mark = (number) => {
    if (number === marked) return;
    for (const element of marks.get(marked) || []) element.classList.remove("hit");
    for (const element of marks.get(number) || []) element.classList.add("hit");
    marked = number;
  };
  document.addEventListener("pointerover", (event) => {
    const element = event.target.closest("[data-c]");
    mark(element ? element.dataset.c : null);
    const row = element && element.matches("circle") ? names.get(element.dataset.c) : null;
    tip.hidden = !row;
    if (!row) return;
    tip.textContent = row.cells[0].textContent;
    const place = element.getBoundingClientRect();
    tip.style.left = Math.min(place.right + 8, innerWidth - tip.offsetWidth - 8) + "px";
    tip.style.top = place.top - 8 + "px";
  });

  // sorting: numbers as numbers, what is undefined last
  const valueOf = (cell) => {
    const text = cell.textContent.trim();
    const number = Number(text.replace(/\u2212/g, "-").replace(/[\u202f\s+]/g, ""));
    return text === "\u2013" || text === "" ? null : Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number"
    ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
  for (const table of document.querySelectorAll(".sortable")) {
    const headers = [...table.tHead.rows[0].cells];
    const sort = (header) => {
      const column = headers.indexOf(header);
      const down = header.getAttribute("aria-sort") === "ascending";
      const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row.cells[column]), row]);
      rows.sort(([a], [b]) => a === null || b === null
        ? (a === null) - (b === null) : (down ? -1 : 1) * compare(a, b));
      for (const other of headers) other.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", down ? "descending" : "ascending");
      table.tBodies[0].append(...rows.map(([, row]) => row));
    };
    for (const header of headers) {
      header.tabIndex = 0;
      header.addEventListener("click", () => sort(header));
      header.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(header); }
      });
    }
  }

  // pictures of 2D cases: fitted to the window, then four screen pixels for each of theirs
  const enlarged = document.getElementById("enlarged");
  if (enlarged) {
    const [words, image] = [enlarged.querySelector("p"), enlarged.querySelector("img")];
    const fitted = () => { image.classList.remove("full"); image.style.width = ""; };
    const open = (picture) => {
      fitted();
      image.src = picture.src; image.alt = picture.alt; words.textContent = picture.alt;
      enlarged.showModal();
    };
    for (const picture of document.querySelectorAll("img.zoom")) {
      picture.addEventListener("click", () => open(picture));
      picture.addEventListener("keydown", (event) => { if (event.key === "Enter") open(picture); });
    }
    image.addEventListener("click", (event) => {
      const box = image.getBoundingClientRect(), frame = image.parentElement;
      const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      if (image.classList.contains("full")) { fitted(); return; }
      image.classList.add("full");
      image.style.width = 4 * image.naturalWidth + "px";
      frame.scrollTo(x * image.width - frame.clientWidth / 2, y * image.height - frame.clientHeight / 2);
    });
    enlarged.addEventListener("click", (event) => { if (event.target !== image) enlarged.close(); });
  }

  // the slice viewer
  const source = document.getElementById("volumes-data");
  if (!source || typeof DecompressionStream === "undefined") return;
  const { structures, cases } = JSON.parse(source.textContent);
  const viewer = document.querySelector(".viewer");
  const select = viewer.querySelector("select");
  const sliders = [...viewer.querySelectorAll(".axis input")];
  const fill = viewer.querySelector(".fill"), lines = viewer.querySelector(".lines");
  const status = viewer.querySelector(".status");
  const style = getComputedStyle(root);
  const colours = structures.map((_, index) => style.getPropertyValue("--i" + index % 8).trim());
  // axis to the right, axis upwards, axis the plane is cut across
  const planes = [[1, 2, 0], [0, 2, 1], [0, 1, 2]];
  const canvases = [...viewer.querySelectorAll("canvas")];
  const letters = ["LR", "PA", "IS"];
  const member = structures.map(({ numbers }) => {
    const table = new Uint8Array(256);
    for (const number of numbers) table[number] = 1;
    return table;
  });
  let shown = null;

  const unpack = async (one) => {
    const bytes = Uint8Array.from(atob(one.data), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const all = new Uint8Array(await new Response(stream).arrayBuffer());
    const count = one.shape[0] * one.shape[1] * one.shape[2];
    return { ...one, image: all.subarray(0, count), truth: all.subarray(count, 2 * count), found: all.subarray(2 * count) };
  };

  const slice = (volume, [across, up, through], at) => {
    const stride = [shown.shape[1] * shown.shape[2], shown.shape[2], 1];
    const width = shown.shape[across], height = shown.shape[up];
    const out = new Uint8Array(width * height);
    for (let row = 0; row < height; row++) {
      const base = at * stride[through] + (height - 1 - row) * stride[up];
      for (let column = 0; column < width; column++) out[row * width + column] = volume[base + column * stride[across]];
    }
    return out;
  };

  // the rim of a mask as closed lines, so that dashes run on from voxel to voxel
  const outline = (labels, table, width, height, sx, sy) => {
    const wide = width + 1, next = new Map(), path = new Path2D();
    const inside = (row, column) => row >= 0 && column >= 0 && row < height && column < width
      && table[labels[row * width + column]] === 1;
    const edge = (row, column, toRow, toColumn) => {
      const from = row * wide + column, to = toRow * wide + toColumn, list = next.get(from);
      if (list) list.push(to); else next.set(from, [to]);
    };
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        if (!inside(row, column)) continue;
        if (!inside(row - 1, column)) edge(row, column, row, column + 1);
        if (!inside(row, column + 1)) edge(row, column + 1, row + 1, column + 1);
        if (!inside(row + 1, column)) edge(row + 1, column + 1, row + 1, column);
        if (!inside(row, column - 1)) edge(row + 1, column, row, column);
      }
    }
    for (const start of next.keys()) {
      let at = start;
      path.moveTo(at % wide * sx, Math.floor(at / wide) * sy);
      while (next.has(at)) {
        const list = next.get(at), to = list.pop();
        if (!list.length) next.delete(at);
        path.lineTo(to % wide * sx, Math.floor(to / wide) * sy);
        at = to;
      }
    }
    return path;
  };

  const paint = (canvas, plane, zoom) => {
    const [across, up, through] = plane;
    const width = shown.shape[across], height = shown.shape[up];
    const at = Number(sliders[through].value);
    const [grey, truth, found] = [shown.image, shown.truth, shown.found].map((volume) => slice(volume, plane, at));
    const ratio = window.devicePixelRatio || 1;
    const w = width * shown.spacing[across] * zoom, h = height * shown.spacing[up] * zoom;
    canvas.width = Math.max(1, Math.round(w * ratio)); canvas.height = Math.max(1, Math.round(h * ratio));
    canvas.style.width = w + "px"; canvas.style.height = h + "px";
    const small = document.createElement("canvas");
    small.width = width; small.height = height;
    const pixels = new ImageData(width, height);
    for (let i = 0; i < grey.length; i++) {
      pixels.data[4 * i] = pixels.data[4 * i + 1] = pixels.data[4 * i + 2] = grey[i] * 255 / 252;
      pixels.data[4 * i + 3] = 255;
    }
    small.getContext("2d").putImageData(pixels, 0, 0);
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
    const sx = canvas.width / width, sy = canvas.height / height;
    structures.forEach((_, index) => {
      if (fill.checked) {
        context.globalAlpha = 0.4; context.fillStyle = colours[index];
        for (let i = 0; i < found.length; i++) {
          if (member[index][found[i]]) context.fillRect((i % width) * sx, Math.floor(i / width) * sy, sx + .5, sy + .5);
        }
        context.globalAlpha = 1;
      }
      if (!lines.checked) return;
      context.lineWidth = 1.6 * ratio; context.setLineDash([]); context.strokeStyle = "#fff";
      context.stroke(outline(truth, member[index], width, height, sx, sy));
      context.lineWidth = 2 * ratio; context.setLineDash([4 * ratio, 3 * ratio]); context.strokeStyle = colours[index];
      context.stroke(outline(found, member[index], width, height, sx, sy));
    });
    if (!shown.oriented) return;
    context.setLineDash([]); context.font = `600 ${12 * ratio}px system-ui, sans-serif`; context.fillStyle = "#fff";
    context.textAlign = "left"; context.fillText(letters[across][0], 4 * ratio, canvas.height / 2);
    context.textAlign = "right"; context.fillText(letters[across][1], canvas.width - 4 * ratio, canvas.height / 2);
    context.textAlign = "center"; context.fillText(letters[up][1], canvas.width / 2, 14 * ratio);
    context.fillText(letters[up][0], canvas.width / 2, canvas.height - 5 * ratio);
  };

  const draw = () => {
    if (!shown) return;
    const mm = shown.shape.map((count, axis) => count * shown.spacing[axis]);
    const seen = planes.map(([across, up]) => Math.min(shown.shape[across], shown.shape[up]) > 1);
    const used = planes.filter((_, index) => seen[index]);
    const space = viewer.querySelector(".views").clientWidth - 12 * (used.length - 1) - 2;
    const wide = used.reduce((sum, [across]) => sum + mm[across], 0);
    const high = Math.max(...used.map(([, up]) => mm[up]));
    const zoom = Math.min(space / wide, (used.length > 1 ? 420 : 640) / high);
    planes.forEach((plane, index) => {
      canvases[index].hidden = !seen[index];
      if (seen[index]) paint(canvases[index], plane, zoom);
    });
    status.textContent = "Slices " + sliders.map((slider) => Number(slider.value) + 1).join(" / ");
  };

  const load = async () => {
    const wanted = select.value;
    const unpacked = await unpack(cases[Number(wanted)]);
    if (wanted !== select.value) return;  // another case was asked for meanwhile
    shown = unpacked;
    sliders.forEach((slider, axis) => {
      slider.max = shown.shape[axis] - 1;
      slider.value = shown.begin[axis];
      const [across, up] = planes[axis];
      slider.parentElement.hidden = Math.min(...[across, up, axis].map((one) => shown.shape[one])) < 2;
    });
    draw();
  };

  cases.forEach((one, index) => select.add(new Option(one.name, String(index))));
  select.addEventListener("change", load);

  // a click on a case anywhere opens it here
  const places = new Map(cases.map((one, index) => [String(one.c), index]));
  for (const [number] of places) for (const element of marks.get(number) || []) element.classList.add("leafed");
  document.addEventListener("click", (event) => {
    const element = event.target.closest("tr[data-c], circle[data-c], figure[data-c]");
    const index = element ? places.get(element.dataset.c) : undefined;
    if (index === undefined) return;
    event.preventDefault();
    select.value = String(index);
    load();
    viewer.parentElement.scrollIntoView({ block: "start", behavior: "instant" });
  });
  for (const control of [...sliders, fill, lines]) control.addEventListener("input", draw);
  canvases.forEach((canvas, index) => canvas.addEventListener("click", (event) => {
    const [across, up] = planes[index];
    const box = canvas.getBoundingClientRect();
    sliders[across].value = Math.floor((event.clientX - box.left) / box.width * shown.shape[across]);
    sliders[up].value = shown.shape[up] - 1 - Math.floor((event.clientY - box.top) / box.height * shown.shape[up]);
    draw();
  }));
  canvases.forEach((canvas, index) => canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const slider = sliders[planes[index][2]];
    slider.value = Number(slider.value) + Math.sign(event.deltaY);
    draw();
  }, { passive: false }));
  addEventListener("resize", draw);
  viewer.hidden = false;
  load();
})();
