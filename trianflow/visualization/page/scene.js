/** The drawing of the trajectory in space, and what fingers and keys do to it. */
const scene = (() => {
  const canvas = document.getElementById("scene");
  const { poses, truth, path, cloud, at, low, high, extent, view, seen, place, line, turn, pan, zoom } = eye;
  const colors = bytes(data.cloud.colors);
  const step = roundStep(extent, 6), floor = high[1] + 0.02 * extent;
  const ground = [0, 2].map((i) => [Math.floor(low[i] / step) * step - step, Math.ceil(high[i] / step) * step + step]);
  const moved = { by: 0 };
  let size = { width: 0, height: 0 }, axes, screen = new Float32Array(2 * count);
  let layer = null, pixels = null, depths = null, drawnFrom = "";

  function show(name) {
    const { width, height } = canvas.getBoundingClientRect();
    eye.show(name, width, height);
    redraw();
  }

  function drawGround(context) {
    context.strokeStyle = color("line");
    context.lineWidth = 1;
    const [[x0, x1], [z0, z1]] = ground;
    const corner = (x, z) => [x, floor, z];
    const stroke = (a, b) => {
      const ends = line(a, b);
      if (!ends) return;
      context.moveTo(...ends[0]);
      context.lineTo(...ends[1]);
    };
    context.beginPath();
    for (let x = x0; x <= x1 + step / 2; x += step) stroke(corner(x, z0), corner(x, z1));
    for (let z = z0; z <= z1 + step / 2; z += step) stroke(corner(x0, z), corner(x1, z));
    context.stroke();
  }

  /** The numbers of the ground's lines, and of the heights where it is seen from the side. */
  function drawLabels(context) {
    if (Math.abs(axes.forward[1]) < 0.05) return drawHeights(context);
    const [[x0, x1], [z0, z1]] = ground, taken = [];
    const corner = (x, z) => [x, floor, z];
    for (let x = x0; x <= x1 + step / 2; x += step) label(context, taken, `x ${told(x)}`, line(corner(x, z0), corner(x, z1)));
    for (let z = z0; z <= z1 + step / 2; z += step) label(context, taken, `z ${told(z)}`, line(corner(x0, z), corner(x1, z)));
  }

  const told = (value) => digits(+value.toFixed(9)) + (data.unit === "m" ? " m" : "");

  /** Write what a line of the ground stands for, at its lower or left end as far as that is in view. */
  function label(context, taken, text, ends) {
    const inside = ends && clipped(ends, [36, 12, size.width - 36, size.height - 12]);
    if (!inside) return;
    const [[ax, ay], [bx, by]] = inside, steep = Math.abs(by - ay) > Math.abs(bx - ax);
    const [x, y] = (steep ? ay > by : ax < bx) ? inside[0] : inside[1];
    const wide = context.measureText(text).width + 8;
    if (taken.some(([u, v, w]) => Math.abs(u - x) < (w + wide) / 2 && Math.abs(v - y) < 16)) return;
    taken.push([x, y, wide]);
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 4;
    context.strokeStyle = color("paper");
    context.strokeText(text, x, y);
    context.fillStyle = color("faint");
    context.fillText(text, x, y);
  }

  /** The part of a line within a rectangle; null where there is none. */
  function clipped([[ax, ay], [bx, by]], [left, top, right, bottom]) {
    let from = 0, to = 1;
    for (const [p, q] of [[ax - bx, ax - left], [bx - ax, right - ax], [ay - by, ay - top], [by - ay, bottom - ay]]) {
      if (p === 0 && q < 0) return null;
      if (p < 0) from = Math.max(from, q / p);
      if (p > 0) to = Math.min(to, q / p);
    }
    if (from > to) return null;
    return [from, to].map((t) => [ax + t * (bx - ax), ay + t * (by - ay)]);
  }

  /** From the side the ground is a line: a scale of heights in its place. */
  function drawHeights(context) {
    const unit = axes.focal / view.distance, gap = roundStep(size.height / unit, 6);
    context.fillStyle = color("faint");
    context.strokeStyle = color("grid");
    context.textAlign = "left";
    context.textBaseline = "bottom";
    context.beginPath();
    const top = view.target[1] - size.height / 2 / unit, bottom = view.target[1] + size.height / 2 / unit;
    for (let y = Math.ceil(top / gap) * gap; y < bottom; y += gap) {
      const row = size.height / 2 + (y - view.target[1]) * unit;
      context.moveTo(0, row);
      context.lineTo(size.width, row);
      context.fillText(digits(-+y.toFixed(9) + 0), 6, row - 1);
    }
    context.stroke();
    context.fillText(`height (${data.unit})`, 48, 18);
  }

  /** The cloud, nearest points in front. */
  function drawCloud(context, ratio) {
    if (!cloud.length) return;
    const width = Math.round(size.width * ratio), height = Math.round(size.height * ratio);
    const from = [width, height, view.yaw, view.pitch, view.distance, ...view.target].join();
    if (from === drawnFrom) return context.drawImage(layer, 0, 0, size.width, size.height);
    drawnFrom = from;
    if (!layer || layer.width !== width || layer.height !== height) {
      layer = element("canvas", { width, height });
      pixels = layer.getContext("2d").createImageData(width, height);
      depths = new Float32Array(width * height);
    }
    const out = new Uint32Array(pixels.data.buffer);
    out.fill(0);
    depths.fill(Infinity);
    const focal = axes.focal * ratio, [px, py, pz] = axes.position, { right, down, forward } = axes;
    const wide = 0.004 * view.distance * focal;
    for (let i = 0; i < cloud.length; i += 3) {
      const x = cloud[i] - px, y = cloud[i + 1] - py, z = cloud[i + 2] - pz;
      const far = forward[0] * x + forward[1] * y + forward[2] * z;
      if (far < axes.near) continue;
      const u = (width / 2 + (focal * (right[0] * x + right[1] * y + right[2] * z)) / far) | 0;
      const v = (height / 2 + (focal * (down[0] * x + down[1] * y + down[2] * z)) / far) | 0;
      if (u < 0 || v < 0 || u >= width || v >= height) continue;
      const side = Math.max(1, Math.min(3 * ratio, (wide / far) | 0));
      const shade = (255 << 24) | (colors[i + 2] << 16) | (colors[i + 1] << 8) | colors[i];
      for (let row = v; row < Math.min(v + side, height); row++) {
        for (let k = row * width + u; k < row * width + Math.min(u + side, width); k++) {
          if (far < depths[k]) {
            depths[k] = far;
            out[k] = shade;
          }
        }
      }
    }
    layer.getContext("2d").putImageData(pixels, 0, 0);
    context.drawImage(layer, 0, 0, size.width, size.height);
  }

  /** A line through points, in the colour of each of its parts. */
  function drawPath(context, points, width, paint) {
    context.lineWidth = width;
    context.lineJoin = context.lineCap = "round";
    let current = null;
    for (let i = 3; i < points.length; i += 3) {
      const ends = line([points[i - 3], points[i - 2], points[i - 1]], [points[i], points[i + 1], points[i + 2]]);
      const shade = paint(i / 3);
      if (shade !== current || !ends) {
        if (current !== null) context.stroke();
        current = ends ? shade : null;
        if (!ends) continue;
        context.beginPath();
        context.strokeStyle = shade;
        context.moveTo(...ends[0]);
      }
      context.lineTo(...ends[1]);
    }
    if (current !== null) context.stroke();
  }

  function drawEnds(context) {
    const mark = (row, square) => {
      const q = seen(at(row));
      if (q[2] < axes.near) return;
      const [x, y] = place(q);
      context.beginPath();
      if (square) context.rect(x - 5, y - 5, 10, 10);
      else context.arc(x, y, 6, 0, 7);
      context.fillStyle = color("ink");
      context.strokeStyle = color("paper");
      context.lineWidth = 1.5;
      context.fill();
      context.stroke();
    };
    if (count > 1) mark(count - 1, true);
    mark(0, false);
  }

  /** The camera of the frame that is looked at. */
  function drawCamera(context) {
    const T = poses.subarray(12 * state.row, 12 * state.row + 12), reach = 0.09 * view.distance;
    const [w, h] = data.viewAngle.map((value) => value * reach);
    const world = (x, y, z) => [0, 4, 8].map((r) => T[r] * x + T[r + 1] * y + T[r + 2] * z + T[r + 3]);
    const centre = world(0, 0, 0), rim = [[-w, -h], [w, -h], [w, h], [-w, h]].map(([x, y]) => world(x, y, reach));
    context.strokeStyle = color("mark");
    context.lineWidth = 2;
    context.beginPath();
    rim.forEach((corner, i) => {
      for (const ends of [line(centre, corner), line(corner, rim[(i + 1) % 4])]) {
        if (!ends) continue;
        context.moveTo(...ends[0]);
        context.lineTo(...ends[1]);
      }
    });
    context.stroke();
    const q = seen(centre);
    if (q[2] < axes.near) return;
    context.beginPath();
    context.arc(...place(q), 4.5, 0, 7);
    context.fillStyle = color("mark");
    context.fill();
  }

  function draw() {
    const { context, width, height, ratio } = sized(canvas);
    size = { width, height };
    axes = eye.open(width, height);
    drawGround(context);
    drawCloud(context, ratio);
    drawLabels(context);
    drawPath(context, truth, 6, () => color("truth"));
    for (const [a, b] of data.loops) {
      const ends = line(at(a), at(b));
      if (!ends) continue;
      context.beginPath();
      context.strokeStyle = color("loop");
      context.lineWidth = 1.5;
      context.moveTo(...ends[0]);
      context.lineTo(...ends[1]);
      context.stroke();
    }
    drawPath(context, path, 2.5, coloring.of);
    drawEnds(context);
    drawCamera(context);
    for (let i = 0; i < count; i++) {
      const q = seen(at(i));
      const [x, y] = q[2] < axes.near ? [NaN, NaN] : place(q);
      screen[2 * i] = x;
      screen[2 * i + 1] = y;
    }
  }

  /** The frame whose place is next to a point of the screen; null where none is near. */
  function nearest(x, y, reach) {
    let best = reach * reach, row = null;
    for (let i = 0; i < count; i++) {
      const dx = screen[2 * i] - x, dy = screen[2 * i + 1] - y, d = dx * dx + dy * dy;
      if (d < best) [best, row] = [d, i];
    }
    return row;
  }

  const fingers = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
    canvas.classList.add("held");
    moved.by = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const { offsetX: x, offsetY: y } = event, before = fingers.get(event.pointerId);
    if (!before) {
      const row = nearest(x, y, 24);
      if (row !== null) look(row);
      return;
    }
    const [dx, dy] = [x - before[0], y - before[1]];
    moved.by += Math.hypot(dx, dy);
    if (fingers.size > 1) {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const span = ([a, b]) => Math.max(10, Math.hypot(a - other[0], b - other[1]));
      zoom(span(before) / span([x, y]));
      pan(dx / 2, dy / 2);
    } else if (event.shiftKey || event.buttons & 6) pan(dx, dy);
    else turn(dx, dy);
    fingers.set(event.pointerId, [x, y]);
    redraw();
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => {
      fingers.delete(event.pointerId);
      if (!fingers.size) canvas.classList.remove("held");
      const row = moved.by < 6 ? nearest(event.offsetX, event.offsetY, 32) : null;
      if (row !== null) look(row);
    });
  }
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(0.0012 * event.deltaY));
    redraw();
  }, { passive: false });
  canvas.addEventListener("dblclick", () => show("space"));
  canvas.addEventListener("keydown", (event) => {
    const keys = { ArrowLeft: [-20, 0], ArrowRight: [20, 0], ArrowUp: [0, -20], ArrowDown: [0, 20] };
    if (event.key in keys) turn(...keys[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(0.85);
    else if (event.key === "-") zoom(1 / 0.85);
    else return;
    event.preventDefault();
    redraw();
  });
  drawings.push(draw);
  return { view, show, screen: () => screen, hasTruth: truth.length > 0 };
})();
