/** Curves over the frames, one below the other, with one axis of frames. */
(() => {
  const holder = document.getElementById("plots");
  const LEFT = 46, RIGHT = 8, TOP = 6, AXIS = 34;
  const plots = [];

  const span = () => state.last - state.first;
  const toRow = (x, width) => state.first + ((x - LEFT) / Math.max(width - LEFT - RIGHT, 1)) * span();
  const toX = (row, width) => LEFT + ((row - state.first) / span()) * (width - LEFT - RIGHT);

  function zoomTo(first, last) {
    const least = Math.min(4, Math.max(count - 1, 1));
    if (last - first < least) [first, last] = [(first + last - least) / 2, (first + last + least) / 2];
    const wide = Math.min(last - first, Math.max(count - 1, 1));
    state.first = Math.max(0, Math.min(first, Math.max(count - 1, 1) - wide));
    state.last = state.first + wide;
    redraw();
  }

  function zoomBy(factor) {
    const middle = Math.max(state.first, Math.min(state.last, state.row));
    zoomTo(middle - (middle - state.first) * factor, middle + (state.last - middle) * factor);
  }

  function add(title, unit, detail, read, draw, kind = "") {
    const output = element("output"), canvas = element("canvas", { role: "img", "aria-label": `${title}, ${unit}, over the frames` });
    const words = element("span", {}, element("b", {}, title), unit ? ` ${unit}` : "", detail ? ` · ${detail}` : "");
    const figure = element("figure", { class: `plot ${kind}` }, element("figcaption", {}, words, output), canvas);
    holder.append(figure);
    const plot = { canvas, output, figure, read, draw };
    plots.push(plot);
    listen(plot);
    return plot;
  }

  let drag = null;
  function listen({ canvas }) {
    canvas.addEventListener("pointerdown", (event) => {
      look(toRow(event.offsetX, canvas.clientWidth));
      if (event.pointerType !== "mouse" || event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      drag = { from: event.offsetX, to: event.offsetX };
    });
    canvas.addEventListener("pointermove", (event) => {
      if (drag) drag.to = event.offsetX;
      else look(toRow(event.offsetX, canvas.clientWidth));
      if (drag) redraw();
    });
    canvas.addEventListener("pointerup", () => {
      if (drag && Math.abs(drag.to - drag.from) > 6) {
        const rows = [drag.from, drag.to].map((x) => toRow(x, canvas.clientWidth)).sort((a, b) => a - b);
        zoomTo(Math.max(rows[0], state.first), Math.min(rows[1], state.last));
      }
      drag = null;
      redraw();
    });
    canvas.addEventListener("pointercancel", () => (drag = null));
    canvas.addEventListener("dblclick", () => zoomTo(0, count - 1));
  }

  /** The frames below, the cursor, and what is being chosen. */
  function frame(context, width, height, bottom, last) {
    const gap = Math.max(1, roundStep(span(), (width - LEFT - RIGHT) / 80));
    context.textAlign = "center";
    context.textBaseline = "top";
    context.strokeStyle = color("grid");
    context.lineWidth = 1;
    context.beginPath();
    for (let row = Math.ceil(state.first / gap) * gap; row <= Math.min(state.last, count - 1); row += gap) {
      const x = Math.round(toX(row, width)) + 0.5;
      context.moveTo(x, TOP);
      context.lineTo(x, bottom);
      context.fillStyle = color("faint");
      if (last) context.fillText(String(frames.index[row]), x, bottom + 4);
    }
    context.stroke();
    if (last) context.fillText("frame", (LEFT + width - RIGHT) / 2, bottom + 18);
  }

  function cursor(context, width, bottom) {
    if (drag) {
      context.fillStyle = color("accent");
      context.globalAlpha = 0.15;
      context.fillRect(Math.min(drag.from, drag.to), TOP, Math.abs(drag.to - drag.from), bottom - TOP);
      context.globalAlpha = 1;
    }
    if (state.row < state.first || state.row > state.last) return;
    const x = toX(state.row, width);
    context.strokeStyle = color("mark");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, TOP - 4);
    context.lineTo(x, bottom);
    context.stroke();
  }

  /** The ends of the axis of values: 0, and what all but a few outliers stay below. */
  function ends(values) {
    const known = values.filter((v) => v !== null).sort((a, b) => a - b);
    if (!known.length) return [0, 1];
    const most = known[Math.floor(0.98 * (known.length - 1))], largest = known[known.length - 1];
    return [0, (largest > 4 * most && most > 0 ? 2 * most : largest) * 1.06 || 1];
  }

  /** One curve; where frames are closer than pixels, the least and the largest of each column. */
  function curve(values, unit, top) {
    return (context, width, height, bottom) => {
      const y = (v) => bottom - (Math.min(v, top) / top) * (bottom - TOP);
      const gap = roundStep(top, 3);
      context.textAlign = "right";
      context.textBaseline = "middle";
      context.strokeStyle = color("grid");
      context.fillStyle = color("faint");
      context.lineWidth = 1;
      context.beginPath();
      for (let v = 0; v <= top; v += gap) {
        const row = Math.round(y(v)) + 0.5;
        context.moveTo(LEFT, row);
        context.lineTo(width - RIGHT, row);
        context.fillText(digits(+v.toPrecision(6)), LEFT - 6, row);
      }
      context.stroke();
      context.save();
      context.beginPath();
      context.rect(LEFT - 3, 0, width - LEFT - RIGHT + 6, bottom + 2);
      context.clip();
      context.strokeStyle = context.fillStyle = color("accent");
      context.lineWidth = 1.4;
      context.lineJoin = "round";
      const from = Math.max(0, Math.floor(state.first) - 1), to = Math.min(count - 1, Math.ceil(state.last) + 1);
      const dense = span() > 2 * width;
      let open = false, column = null, least = 0, largest = 0;
      const beyond = new Set();
      const visit = (x, v) => {
        if (open) context.lineTo(x, y(v));
        else context.moveTo(x, y(v));
        open = true;
      };
      const flush = () => {
        if (column === null) return;
        visit(column, least);
        if (largest > least) context.lineTo(column, y(largest));
        column = null;
      };
      context.beginPath();
      for (let row = from; row <= to; row++) {
        const v = values[row];
        if (v === null) {
          flush();
          open = false;
          continue;
        }
        const x = toX(row, width);
        if (v > top) beyond.add(Math.round(x / 6) * 6);
        const alone = !dense && (row === 0 || values[row - 1] === null) && (row === count - 1 || values[row + 1] === null);
        if (alone) context.fillRect(x - 1.5, y(v) - 1.5, 3, 3);
        if (!dense) visit(x, v);
        else if (column === Math.round(x)) [least, largest] = [Math.min(least, v), Math.max(largest, v)];
        else {
          flush();
          [column, least, largest] = [Math.round(x), v, v];
        }
      }
      flush();
      context.stroke();
      context.restore();
      context.fillStyle = color("bad");
      for (const x of beyond) {
        context.beginPath();
        context.moveTo(x - 4, TOP + 4);
        context.lineTo(x + 4, TOP + 4);
        context.lineTo(x, TOP - 3);
        context.fill();
      }
      const v = values[state.row];
      if (v !== null && state.row >= state.first && state.row <= state.last) {
        context.fillStyle = color("mark");
        context.beginPath();
        context.arc(toX(state.row, width), y(v), 3.5, 0, 7);
        context.fill();
      }
    };
  }

  /** A lane for each status, in the order of the legend. */
  function lanes(context, width, height, bottom) {
    const tall = (bottom - TOP) / data.statuses.length;
    const from = Math.max(0, Math.floor(state.first)), to = Math.min(count - 1, Math.ceil(state.last));
    const wide = (width - LEFT - RIGHT) / span();
    context.save();
    context.beginPath();
    context.rect(LEFT - 2, TOP, width - LEFT - RIGHT + 4, bottom - TOP);
    context.clip();
    for (let row = from; row <= to; ) {
      const status = frames.status[row];
      let end = row + 1;
      while (end <= to && frames.status[end] === status) end++;
      const x = toX(row - 0.5, width), length = Math.max(toX(end - 0.5, width) - x, 2, wide > 6 ? 0 : 2);
      context.fillStyle = statusColor(row);
      context.fillRect(x, TOP + status * tall + 1, length, tall - 2);
      row = end;
    }
    context.restore();
  }

  const status = add("Status", "", "", (row) => data.statuses[frames.status[row]].label, lanes, "status");
  status.figure.style.setProperty("--tall", `${10 + TOP + 13 * data.statuses.length}px`);
  status.figure.querySelector("figcaption").after(
    element(
      "div",
      { class: "legend" },
      ...data.statuses.map(({ word, label, count: number }) =>
        element("span", {}, element("i", { class: "square", style: `--c: var(--status-${word}, var(--faint))` }), `${label} ${number}`)
      )
    )
  );
  for (const { title, unit, detail, values } of data.curves) {
    const [, top] = ends(values);
    add(title, unit, detail, (row) => (values[row] === null ? "–" : `${digits(values[row])} ${unit}`), curve(values, unit, top));
  }
  plots[plots.length - 1].figure.classList.add("last");

  drawings.push(() => {
    plots.forEach((plot, i) => {
      const last = i === plots.length - 1;
      const { context, width, height } = sized(plot.canvas), bottom = height - (last ? AXIS : 6);
      frame(context, width, height, bottom, last);
      plot.draw(context, width, height, bottom);
      cursor(context, width, bottom);
      plot.output.textContent = plot.read(state.row);
    });
  });
  document.getElementById("narrower").addEventListener("click", () => zoomBy(0.5));
  document.getElementById("wider").addEventListener("click", () => zoomBy(2));
  document.getElementById("all").addEventListener("click", () => zoomTo(0, count - 1));
})();
