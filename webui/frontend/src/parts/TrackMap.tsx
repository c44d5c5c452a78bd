// The track from above, with the car on it and the way it came.

import { useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { news, seconds, track, type Point, type Standing, type Track } from "../link";
import { draw, line } from "./svg";

const DELAY = 0.12; // seconds behind the car's clock: between two standings there is then always a way to go
const TRAIL = 2.5; // seconds
const STROKES = 24;

type Told = Standing & { t: number };
type Place = { t: number; x: number; y: number; fall: number };

class Drawing {
  #car: SVGGElement;
  #strokes: SVGLineElement[];
  #standings: Told[] = []; // of the car's near future, as seen from DELAY ago
  #trail: Place[] = [];
  #offset: number | null = null; // from the car's clock to ours
  #size: number; // of the car, metres: what one can see, not what it is
  #shown = "";

  constructor(svg: SVGSVGElement, { centre, inner, outer }: Track) {
    const xs = [...inner, ...outer].map(([x]) => x);
    const ys = [...inner, ...outer].map(([, y]) => -y);
    const [left, top] = [Math.min(...xs), Math.min(...ys)];
    const [width, height] = [Math.max(...xs) - left, Math.max(...ys) - top];
    const margin = 0.04 * Math.max(width, height);
    const box = [left - margin, top - margin, width + 2 * margin, height + 2 * margin];
    svg.replaceChildren();
    svg.setAttribute("viewBox", box.map((part) => part.toFixed(3)).join(" "));
    const [first, last] = [centre[0], centre.at(-1)] as [Point, Point];
    const closed = Math.hypot(first[0] - last[0], first[1] - last[1]) < 1e-3;
    const road = closed ? `${line(outer)}Z${line(inner)}Z` : `${line([...outer, ...inner.toReversed()])}Z`;
    draw(svg, "path", { class: "road", "fill-rule": "evenodd", d: road });
    for (const border of [inner, outer]) draw(svg, "path", { class: "border", d: line(border) });
    draw(svg, "path", { class: "dashes", d: line(centre) });
    const trail = draw(svg, "g", { class: "trail" });
    this.#strokes = Array.from({ length: STROKES }, () => draw(trail, "line"));
    this.#strokes.forEach((stroke, place) => stroke.style.setProperty("--heat", `${(90 * (place + 1)) / STROKES}%`));
    this.#size = Math.max(0.5, 0.05 * Math.max(width, height));
    this.#car = draw(svg, "g", { class: "car", visibility: "hidden" });
    draw(this.#car, "path", { d: "M0 0L-1 .44-.78 0-1-.44Z", transform: `scale(${this.#size})` });
  }

  /** The car has told where it was at `t` of its clock. */
  tell(t: number, standing: Standing) {
    const offset = seconds() - t;
    // The quickest message knows best; a slow rise lets two clocks drift apart.
    this.#offset = this.#offset === null ? offset : Math.min(this.#offset + 1e-4, offset);
    this.#standings.push({ ...standing, t });
    if (this.#standings.length > 100) this.#standings.shift();
  }

  /** Move the car to where it was DELAY ago; call this for each picture that the screen shows. */
  move() {
    const coming = this.#standings;
    if (!coming.length || this.#offset === null) return;
    const t = seconds() - this.#offset - DELAY;
    while (coming[1] && coming[1].t <= t) coming.shift();
    const from = coming[0] as Told;
    const to = coming[1] ?? from;
    const jumped = to.off_track !== from.off_track;
    const part = to === from || jumped ? 0 : Math.min(1, Math.max(0, (t - from.t) / (to.t - from.t)));
    const between = (a: number, b: number) => a + (b - a) * part;
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

  #leave(here: Place) {
    const trail = this.#trail;
    if (trail.at(-1) && trail.at(-1)?.fall !== here.fall) trail.length = 0;
    if (here.t - (trail.at(-1)?.t ?? -Infinity) >= TRAIL / STROKES) trail.push(here);
    while (trail[0] && here.t - trail[0].t > TRAIL) trail.shift();
    const points = [...trail, here].slice(-STROKES - 1);
    this.#strokes.forEach((stroke, place) => {
      const at = points.length - 1 - STROKES + place;
      const [a, b] = [points[at] ?? here, (at < 0 ? here : points[at + 1]) ?? here];
      for (const [name, value] of [["x1", a.x], ["y1", a.y], ["x2", b.x], ["y2", b.y]] as const) {
        const figure = value.toFixed(3);
        if (stroke.getAttribute(name) !== figure) stroke.setAttribute(name, figure);
      }
    });
  }
}

export function TrackMap() {
  const svg = useRef<SVGSVGElement>(null);
  const drawing = useRef<Drawing | null>(null);
  const road = track.value;

  useEffect(() => {
    if (!svg.current || !road) return;
    const mine = (drawing.current = new Drawing(svg.current, road));
    let picture = 0;
    (function next() {
      mine.move();
      picture = requestAnimationFrame(next);
    })();
    return () => cancelAnimationFrame(picture);
  }, [road]);

  useSignalEffect(() => {
    const { t, standing } = news.value;
    if (standing) drawing.current?.tell(t, standing);
  });

  return (
    <section id="map" class="card" aria-labelledby="map-title">
      <h2 id="map-title">Track</h2>
      <p class="aside" id="map-name">{road?.title}</p>
      <svg ref={svg} role="img" aria-label="The car on the track, from above" />
    </section>
  );
}
