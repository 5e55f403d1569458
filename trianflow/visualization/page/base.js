const data = JSON.parse(document.getElementById("data").textContent);
const frames = data.frames;
const count = frames.index.length;

// What all drawings share: the frame that is looked at, the frames that the curves show, the layer of the pictures.
const state = { row: 0, first: 0, last: Math.max(count - 1, 1), layer: null };
const drawings = [];
let waiting = false;

/** Have everything drawn anew, once, before the next picture of the screen. */
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    for (const draw of drawings) draw();
  });
}

/** Look at a frame, everywhere. */
function look(row) {
  row = Math.max(0, Math.min(count - 1, Math.round(row)));
  if (row !== state.row) {
    state.row = row;
    redraw();
  }
}

function bytes(base64) {
  const text = atob(base64);
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

function floats(base64) {
  return new Float32Array(bytes(base64).buffer);
}

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

let styles = {};
/** A colour of the page by name, as it is in light or dark mode. */
function color(name) {
  if (!(name in styles)) styles[name] = getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  return styles[name];
}
const statusColor = (row) => color("status-" + data.statuses[frames.status[row]].word) || color("faint");

/** A canvas at the resolution of the screen: its context, in pixels of the page. */
function sized(canvas) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const width = canvas.clientWidth, height = canvas.clientHeight;
  const wide = Math.max(1, Math.round(width * ratio)), tall = Math.max(1, Math.round(height * ratio));
  if (canvas.width !== wide || canvas.height !== tall) {
    canvas.width = wide;
    canvas.height = tall;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = "12px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
  return { context, width, height, ratio };
}

/** A round step (1, 2 or 5 times a power of ten) that divides a span into about so many parts. */
function roundStep(span, parts) {
  const rough = Math.max(span, 1e-12) / Math.max(parts, 1);
  const decade = 10 ** Math.floor(Math.log10(rough));
  return (rough / decade <= 1 ? 1 : rough / decade <= 2 ? 2 : rough / decade <= 5 ? 5 : 10) * decade;
}

/** A number in so many digits, without an exponent where that can be. */
function digits(value, number = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= 1e7)) return value.toExponential(2).replace("-", "−");
  return String(+value.toPrecision(number)).replace("-", "−");
}

window.addEventListener("resize", redraw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  styles = {};
  redraw();
});
