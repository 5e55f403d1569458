/** The colours of the path: by status, by error where there is a truth, or by time. */
const coloring = (() => {
  const select = document.getElementById("color"), legend = document.getElementById("scene-legend");
  const known = (data.errors || []).filter((v) => v !== null);
  const largest = known.reduce((a, b) => Math.max(a, b), 0);
  const ramp = (share) => data.ramp[Math.max(0, Math.min(data.ramp.length - 1, Math.floor(share * data.ramp.length)))];
  const ways = {
    status: { label: "status", of: statusColor },
    time: { label: "frame", of: (row) => ramp(row / count), ends: [String(frames.index[0]), String(frames.index[count - 1])] },
  };
  if (known.length) {
    ways.error = {
      label: "error",
      of: (row) => (data.errors[row] === null ? color("faint") : ramp(data.errors[row] / (largest || 1))),
      ends: ["0", `${digits(largest, 3)} m`],
    };
  }
  for (const [key, { label }] of Object.entries(ways)) select.append(element("option", { value: key }, label));
  let way = "status";

  const mark = (kind, shade, text) => element("span", {}, element("i", { class: kind, style: `--c: ${shade}` }), text);
  function describe() {
    legend.replaceChildren();
    if (way === "status") {
      legend.append("estimate:");
      for (const { word, label } of data.statuses) {
        if (word !== "first" || data.statuses.length === 1) legend.append(mark("", `var(--status-${word}, var(--faint))`, label));
      }
    } else {
      const [low, high] = ways[way].ends;
      const bar = element("i", { style: `width: 72px; height: 6px; background: linear-gradient(90deg, ${data.ramp.join(",")})` });
      legend.append(element("span", {}, `${ways[way].label} ${low}`, bar, high));
    }
    if (scene.hasTruth) legend.append(mark("", "var(--truth)", `truth; alignment ${data.alignment}`));
    if (data.loops.length) legend.append(mark("", "var(--loop)", "loops"));
    legend.append(mark("dot", "var(--ink)", "start"), mark("square", "var(--ink)", "end"), mark("dot", "var(--mark)", "this frame"));
  }
  select.addEventListener("change", () => {
    way = select.value;
    describe();
    redraw();
  });
  return { of: (row) => ways[way].of(row), describe };
})();

/** The frame that is looked at, and the pictures. */
(() => {
  const slider = document.getElementById("frame"), number = document.getElementById("number");
  const facts = document.getElementById("facts"), picture = document.getElementById("picture");
  const thumbs = document.getElementById("thumbs"), tabs = document.getElementById("layers");
  const { rows, layers } = data.pictures;
  const source = (layer, i) => "data:image/jpeg;base64," + (layer.jpeg[i] || layers[0].jpeg[i]);

  /** The picture next to a frame. */
  function pictureOf(row) {
    let low = 0, high = rows.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rows[middle + 1] - row <= row - rows[middle]) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  function fact(name, value) {
    facts.append(element("dt", {}, name), element("dd", {}, value));
  }

  const places = Math.max(0, Math.min(6, 4 - Math.ceil(Math.log10(eye.extent)))); // a ten-thousandth of what is seen
  const told = (value) => (Math.abs(value) < 0.5 * 10 ** -places ? 0 : value).toFixed(places).replace("-", "−");

  function tell() {
    const row = state.row, [x, y, z] = [3, 7, 11].map((i) => eye.poses[12 * row + i]);
    facts.replaceChildren();
    const name = frames.name[row].endsWith(`#${frames.index[row]}`) ? "" : frames.name[row]; // a video's own number
    fact("frame", `${frames.index[row]}${name ? ` (${name})` : ""}`);
    fact("time", frames.time[row] === null ? "–" : `${frames.time[row].toFixed(3)} s`);
    fact("status", data.statuses[frames.status[row]].label);
    for (const { title, unit, values } of data.curves) {
      if (values[row] === null) continue;
      const by = title === "Scale" ? data.sources[frames.source[row]] : "";
      const of = title === "Inliers" ? ` of ${frames.matches[row]}` : "";
      fact(title.toLowerCase(), `${digits(values[row])} ${unit}${of}${by ? ` by ${by}` : ""}`);
    }
    fact("position", `${[x, -y, z].map(told).join(", ")} ${data.unit} (right, up, forward)`);
    if (frames.note[row]) fact("note", frames.note[row]);
  }

  let shown = { layer: null, at: null, row: null };
  const buttons = rows.map((row, i) => {
    const image = element("img", { alt: "", loading: "lazy" });
    const caption = element("small");
    const button = element(
      "button",
      { type: "button", class: "thumb" },
      image,
      element("span", {}, element("b", {}, `frame ${frames.index[row]}`), caption)
    );
    button.addEventListener("click", () => look(row));
    button.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && look(row));
    thumbs.append(button);
    return { button, image, caption };
  });

  const tabOf = layers.map((layer) => {
    const tab = element("button", { type: "button" }, layer.label);
    tab.addEventListener("click", () => {
      state.layer = layer;
      redraw();
    });
    tabs.append(tab);
    return tab;
  });

  function describe(layer) {
    const legend = document.getElementById("layer-legend");
    legend.replaceChildren(
      ...layer.legend.map(({ color: shade, text }) => element("span", {}, element("i", { class: "square", style: `--c: ${shade}` }), text))
    );
    if (layer.key === "flow") {
      const wheel = element("img", { src: data.flowKey, alt: "wheel of colours" });
      legend.append(element("span", {}, wheel, "where things have moved to since the key frame; full colour at the length below each picture, white stands still"));
    }
    if (layer.key === "depth") {
      legend.append(element("span", {}, "near", element("img", { src: data.depthKey, alt: "scale of colours", class: "scale" }), "far; by the inverse of the depth"));
    }
  }

  drawings.push(() => {
    slider.value = state.row;
    number.textContent = frames.index[state.row];
    if (shown.row !== state.row) tell();
    const changed = shown.layer !== state.layer, at = rows.length ? pictureOf(state.row) : null;
    if (changed && state.layer) {
      describe(state.layer);
      layers.forEach((layer, i) => tabOf[i].setAttribute("aria-pressed", layer === state.layer));
      buttons.forEach(({ image, caption }, i) => {
        image.src = source(state.layer, i);
        image.alt = `${state.layer.label}, frame ${frames.index[rows[i]]}`;
        caption.textContent = state.layer.jpeg[i] ? state.layer.caption[i] : `no ${state.layer.label.toLowerCase()}`;
      });
    }
    if (at !== null && (changed || shown.at !== at)) {
      const [image, caption] = [picture.querySelector("img"), picture.querySelector("figcaption")];
      image.src = source(state.layer, at);
      image.alt = `${state.layer.label}, frame ${frames.index[rows[at]]}`;
      caption.textContent = [`${state.layer.label} of frame ${frames.index[rows[at]]}`, state.layer.caption[at]].filter(Boolean).join(" · ");
      buttons.forEach(({ button }, i) => button.setAttribute("aria-pressed", i === at));
    }
    shown = { layer: state.layer, at, row: state.row };
  });

  slider.max = count - 1;
  slider.addEventListener("input", () => look(+slider.value));
  for (const button of document.querySelectorAll("[data-view]")) {
    button.addEventListener("click", () => scene.show(button.dataset.view));
    drawings.push(() => button.setAttribute("aria-pressed", scene.view.name === button.dataset.view));
  }
  if (!rows.length) {
    document.getElementById("frames").hidden = picture.hidden = true;
  } else {
    state.layer = layers.find(({ key }) => key === "inliers") || layers[0];
    state.row = rows[rows.length >> 1];
  }
  document.getElementById("scene-hint").textContent =
    `x right and z forward from the first frame, in ${data.unit}. Drag to turn, wheel or pinch to zoom, shift-drag to move.`;
  coloring.describe();
  scene.show("space");
  requestAnimationFrame(() => requestAnimationFrame(() => (document.documentElement.dataset.ready = "yes")));
})();
