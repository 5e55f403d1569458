/** What is seen of path and truth, and from where. The world is that of the first camera: x right, y down, z forward. */
const eye = (() => {
  const poses = floats(data.poses), truth = floats(data.truth);
  const at = (row) => [poses[12 * row + 3], poses[12 * row + 7], poses[12 * row + 11]];
  const path = new Float32Array(3 * count);
  for (let i = 0; i < count; i++) path.set(at(i), 3 * i);

  const cloud = floats(data.cloud.points);

  /** The ends of a box around points along each axis, and its longest side. */
  function box(sets) {
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    for (const points of sets) {
      for (let i = 0; i < points.length; i++) {
        low[i % 3] = Math.min(low[i % 3], points[i]);
        high[i % 3] = Math.max(high[i % 3], points[i]);
      }
    }
    return { low, high, extent: Math.max(high[0] - low[0], high[1] - low[1], high[2] - low[2], 0) || 1 };
  }

  /** Points of a cloud that surrounds a short path from afar: the nearer half of some, to be in view too. */
  function surroundings() {
    const { low, high, extent: around } = box([path, truth]), stride = 3 * Math.ceil(cloud.length / 3000), found = [];
    for (let i = 0; i < cloud.length; i += stride) {
      const p = cloud.subarray(i, i + 3);
      found.push({ p, away: Math.hypot(...[0, 1, 2].map((k) => p[k] - (low[k] + high[k]) / 2)) });
    }
    const half = found.sort((a, b) => a.away - b.away).slice(0, found.length >> 1);
    if (!half.length || half[half.length - 1].away < around) return new Float32Array(0);
    return Float32Array.from(half.flatMap(({ p }) => [...p]));
  }

  const shown = [path, truth, surroundings()];
  const { low, high, extent } = box(shown);
  const half = Math.tan((25 * Math.PI) / 180); // half the angle of view, along the shorter side
  const view = { yaw: 0, pitch: 0, distance: 1, target: [0, 0, 0], name: "space" };
  let size = { width: 1, height: 1 }, axes;

  /** Right, down and forward of the eye, where it is, and its focal length in pixels. */
  function axesNow() {
    const [cy, sy, cp, sp] = [Math.cos(view.yaw), Math.sin(view.yaw), Math.cos(view.pitch), Math.sin(view.pitch)];
    const right = [cy, 0, -sy], forward = [sy * cp, sp, cy * cp];
    const down = [
      forward[1] * right[2] - forward[2] * right[1],
      forward[2] * right[0] - forward[0] * right[2],
      forward[0] * right[1] - forward[1] * right[0],
    ];
    const position = view.target.map((value, i) => value - view.distance * forward[i]);
    const focal = Math.min(size.width, size.height) / 2 / half;
    return { right, down, forward, position, focal, near: view.distance * 1e-3 };
  }

  /** Look onto a screen of a size. */
  function open(width, height) {
    size = { width, height };
    axes = axesNow();
    return axes;
  }

  const dot = (a, x, y, z) => a[0] * x + a[1] * y + a[2] * z;

  /** A point in the eye's frame. */
  function seen(p) {
    const [x, y, z] = [p[0] - axes.position[0], p[1] - axes.position[1], p[2] - axes.position[2]];
    return [dot(axes.right, x, y, z), dot(axes.down, x, y, z), dot(axes.forward, x, y, z)];
  }

  const place = (q) => [size.width / 2 + (axes.focal * q[0]) / q[2], size.height / 2 + (axes.focal * q[1]) / q[2]];

  /** Both ends of a line on the screen, cut where it passes the eye; null behind it. */
  function line(a, b) {
    let p = seen(a), q = seen(b);
    if (p[2] < axes.near && q[2] < axes.near) return null;
    if (p[2] < axes.near || q[2] < axes.near) {
      const t = (axes.near - p[2]) / (q[2] - p[2]);
      const cut = p.map((value, i) => value + t * (q[i] - value));
      if (p[2] < axes.near) p = cut;
      else q = cut;
    }
    return [place(p), place(q)];
  }

  /** How far away the eye must be so that all that is to be shown is in view. */
  function fitting() {
    axes = axesNow();
    const wide = half * Math.max(1, size.width / size.height) * 0.9, tall = half * Math.max(1, size.height / size.width) * 0.84;
    let distance = 1e-3 * extent;
    for (const points of shown) {
      for (let i = 0; i < points.length; i += 3) {
        const [x, y, z] = [points[i] - view.target[0], points[i + 1] - view.target[1], points[i + 2] - view.target[2]];
        const ahead = dot(axes.forward, x, y, z);
        distance = Math.max(
          distance,
          Math.abs(dot(axes.right, x, y, z)) / wide - ahead,
          Math.abs(dot(axes.down, x, y, z)) / tall - ahead
        );
      }
    }
    return Math.max(distance, 0.4 * extent);
  }

  /** Move what is in view to the middle. */
  function centre() {
    view.distance = fitting();
    axes = axesNow();
    let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
    for (const points of shown) {
      for (let i = 0; i < points.length; i += 3) {
        const [x, y] = place(seen(points.subarray(i, i + 3)));
        [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)];
      }
    }
    pan((size.width - left - right) / 2, (size.height - top - bottom) / 2);
  }

  /** Show everything: from above, from the side, or at a slant from where it looks largest. */
  function show(name, width, height) {
    size = { width: width || 1, height: height || 1 };
    view.name = name;
    view.target = low.map((value, i) => (value + high[i]) / 2);
    const pitch = { above: Math.PI / 2, side: 0, space: 0.7 }[name];
    const yaws = name === "above" ? [0] : Array.from({ length: 16 }, (_, i) => ((i - 8) * Math.PI) / 8);
    let best = null;
    for (const yaw of yaws) {
      Object.assign(view, { yaw, pitch });
      const distance = fitting() * (1 + 0.12 * Math.abs(yaw)); // where hardly larger, from behind the start
      if (best === null || distance < best.distance) best = { yaw, distance };
    }
    view.yaw = best.yaw;
    for (let i = 0; i < 4; i++) centre();
    view.distance = fitting();
  }

  function turn(dx, dy) {
    view.yaw += 0.006 * dx;
    view.pitch = Math.max(-Math.PI / 2, Math.min(Math.PI / 2, view.pitch + 0.006 * dy));
    view.name = "";
  }

  function pan(dx, dy) {
    const unit = view.distance / axes.focal;
    view.target = view.target.map((value, i) => value - unit * (dx * axes.right[i] + dy * axes.down[i]));
  }

  function zoom(factor) {
    view.distance = Math.max(1e-3 * extent, Math.min(50 * extent, view.distance * factor));
  }

  return { poses, truth, path, cloud, at, low, high, extent, view, open, seen, place, line, show, turn, pan, zoom };
})();
