// What is drawn: the track with the car on it, and the latest minute of a figure.

const DELAY = 0.12; // seconds behind the car's clock: between two standings there is then always a way to go
const TRAIL = 2.5; // seconds
const STROKES = 24;

function draw(parent, tag, attributes = {}) {
  const shape = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
  return parent.appendChild(shape);
}

const line = (points) => "M" + points.map(([x, y]) => `${x} ${-y}`).join("L");

export class TrackMap {
  #svg;
  #car;
  #strokes = [];
  #standings = []; // of the car's near future, as seen from DELAY ago
  #trail = [];
  #offset = null; // from the car's clock to ours
  #size = 1; // of the car, metres: what one can see, not what it is
  #shown = "";

  constructor(svg) {
    this.#svg = svg;
  }

  /** Draw the road; what drove on another one is forgotten. */
  show({ centre, inner, outer }) {
    const xs = [...inner, ...outer].map(([x]) => x);
    const ys = [...inner, ...outer].map(([, y]) => -y);
    const [left, top] = [Math.min(...xs), Math.min(...ys)];
    const [width, height] = [Math.max(...xs) - left, Math.max(...ys) - top];
    const margin = 0.04 * Math.max(width, height);
    const box = [left - margin, top - margin, width + 2 * margin, height + 2 * margin];
    this.#svg.replaceChildren();
    this.#svg.setAttribute("viewBox", box.map((part) => part.toFixed(3)).join(" "));
    const [first, last] = [centre[0], centre.at(-1)];
    const closed = Math.hypot(first[0] - last[0], first[1] - last[1]) < 1e-3;
    const road = closed ? `${line(outer)}Z${line(inner)}Z` : `${line([...outer, ...inner.toReversed()])}Z`;
    draw(this.#svg, "path", { class: "road", "fill-rule": "evenodd", d: road });
    for (const border of [inner, outer]) draw(this.#svg, "path", { class: "border", d: line(border) });
    draw(this.#svg, "path", { class: "dashes", d: line(centre) });
    const trail = draw(this.#svg, "g", { class: "trail" });
    this.#strokes = Array.from({ length: STROKES }, () => draw(trail, "line"));
    this.#strokes.forEach((stroke, place) => stroke.style.setProperty("--heat", `${(90 * (place + 1)) / STROKES}%`));
    this.#size = Math.max(0.5, 0.05 * Math.max(width, height));
    this.#car = draw(this.#svg, "g", { class: "car", visibility: "hidden" });
    draw(this.#car, "path", { d: "M0 0L-1 .44-.78 0-1-.44Z", transform: `scale(${this.#size})` });
    this.forget();
  }

  /** Take no notice of what was told so far: the car's clock may be another one now. */
  forget() {
    [this.#standings, this.#trail, this.#offset] = [[], [], null];
  }

  /** The car has told where it was at `t` of its clock. */
  tell(t, standing) {
    const offset = performance.now() / 1000 - t;
    // The quickest message knows best; a slow rise lets two clocks drift apart.
    this.#offset = this.#offset === null ? offset : Math.min(this.#offset + 1e-4, offset);
    this.#standings.push({ t, ...standing });
    if (this.#standings.length > 100) this.#standings.shift();
  }

  /** Move the car to where it was DELAY ago; call this for each picture that the screen shows. */
  move() {
    const coming = this.#standings;
    if (!coming.length || !this.#car) return;
    const t = performance.now() / 1000 - this.#offset - DELAY;
    while (coming.length > 1 && coming[1].t <= t) coming.shift();
    const [from, to] = [coming[0], coming[1] ?? coming[0]];
    const jumped = to.off_track !== from.off_track;
    const part = to === from || jumped ? 0 : Math.min(1, Math.max(0, (t - from.t) / (to.t - from.t)));
    const between = (a, b) => a + (b - a) * part;
    const x = between(from.position[0], to.position[0]);
    const y = -between(from.position[1], to.position[1]);
    const turn = Math.atan2(Math.sin(to.heading - from.heading), Math.cos(to.heading - from.heading));
    const heading = from.heading + turn * part;
    const degrees = (-heading * 180) / Math.PI;
    const place = `translate(${x.toFixed(3)} ${y.toFixed(3)}) rotate(${degrees.toFixed(1)})`;
    if (place !== this.#shown) {
      this.#shown = place;
      this.#car.setAttribute("transform", place);
      this.#car.setAttribute("visibility", "visible");
    }
    const tail = 0.6 * this.#size;
    this.#leave({ t, x: x - tail * Math.cos(heading), y: y + tail * Math.sin(heading), fall: from.off_track });
  }

  #leave(here) {
    const trail = this.#trail;
    if (trail.length && trail.at(-1).fall !== here.fall) trail.length = 0;
    if (!trail.length || here.t - trail.at(-1).t >= TRAIL / STROKES) trail.push(here);
    while (trail.length && here.t - trail[0].t > TRAIL) trail.shift();
    const points = [...trail, here].slice(-STROKES - 1);
    this.#strokes.forEach((stroke, place) => {
      const at = points.length - 1 - STROKES + place;
      const [a, b] = at < 0 ? [here, here] : [points[at], points[at + 1]];
      for (const [name, value] of [["x1", a.x], ["y1", a.y], ["x2", b.x], ["y2", b.y]]) {
        const figure = value.toFixed(3);
        if (stroke.getAttribute(name) !== figure) stroke.setAttribute(name, figure);
      }
    });
  }
}

const MINUTE = 60;
const [WIDTH, HEIGHT] = [300, 60];

/** One minute of a figure: a line over its shade, gaps where nothing was told for a second. */
export class Trace {
  #samples = [];
  #line;
  #shade;
  #label;
  #least;
  #unit;

  /** The scale reaches up to `least` or to the highest sample, whichever is more, and says so. */
  constructor(frame, least, unit) {
    [this.#least, this.#unit] = [least, unit];
    const svg = draw(frame, "svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" });
    this.#shade = draw(svg, "path", { class: "shade" });
    this.#line = draw(svg, "path", { class: "line" });
    this.#label = frame.appendChild(document.createElement("span"));
  }

  add(t, value) {
    if (t < this.#samples.at(-1)?.t - 1) this.#samples.length = 0; // another clock
    this.#samples.push({ t, value });
  }

  draw(now) {
    while (this.#samples.length && now - this.#samples[0].t > MINUTE) this.#samples.shift();
    if (!this.#samples.length) return;
    const top = this.#samples.reduce((most, { value }) => Math.max(most, value), this.#least);
    const x = (t) => (WIDTH * (1 - (now - t) / MINUTE)).toFixed(2);
    const y = (value) => (HEIGHT - (HEIGHT - 2) * (value / top)).toFixed(2);
    const pieces = [];
    let latest = -Infinity;
    for (const sample of this.#samples) {
      if (sample.t - latest > 1) pieces.push([]);
      pieces.at(-1).push(sample);
      latest = sample.t;
    }
    const path = (piece) => piece.map(({ t, value }) => `${x(t)} ${y(value)}`).join("L");
    this.#line.setAttribute("d", pieces.map((piece) => `M${path(piece)}`).join(""));
    const ground = (piece) => `M${x(piece[0].t)} ${HEIGHT}L${path(piece)}L${x(piece.at(-1).t)} ${HEIGHT}Z`;
    this.#shade.setAttribute("d", pieces.map(ground).join(""));
    this.#label.textContent = `${MINUTE} s, up to ${top < 10 ? top.toFixed(1) : top.toFixed(0)} ${this.#unit}`;
  }
}
