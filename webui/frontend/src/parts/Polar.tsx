// Drawings around a centre: what a model may do, and what the LiDAR sees.

import type { Actions } from "../link";
import { tidy } from "../words";

const RADIUS = 100;
const radians = (degrees: number) => (degrees * Math.PI) / 180;

/** Where an angle (0 ahead, + left) and a radius of 0..1 lie. */
function place(degrees: number, radius: number): [number, number] {
  const at = (figure: number) => Number((RADIUS * radius * figure).toFixed(2));
  return [-at(Math.sin(radians(degrees))), -at(Math.cos(radians(degrees)))];
}

const point = (degrees: number, radius: number) => place(degrees, radius).join(" ");

function arc(low: number, high: number, radius: number) {
  const size = RADIUS * radius;
  return `${point(low, radius)}A${size} ${size} 0 ${high - low > 180 ? 1 : 0} 0 ${point(high, radius)}`;
}

function sector(low: number, high: number, inner: number, outer: number) {
  const back = `A${RADIUS * inner} ${RADIUS * inner} 0 0 1 ${point(low, inner)}`;
  return `M${arc(low, high, outer)}L${point(high, inner)}${back}Z`;
}

const side = (degrees: number) =>
  degrees === 0 ? "straight" : `${tidy(Math.abs(degrees))}° ${degrees > 0 ? "left" : "right"}`;

/** The action space: steering as angle, speed as radius; the same as a table for whoever does not see it. */
export function ActionSpace({ name, actions }: { name: string; actions: Actions }) {
  const discrete = actions.type === "discrete" ? actions.actions : [];
  const angles = actions.type === "discrete" ? discrete.map((each) => each.steering_angle) : actions.steering_angle;
  const speeds = actions.type === "discrete" ? discrete.map((each) => each.speed) : actions.speed;
  const wide = Math.min(90, Math.max(30, Math.ceil(Math.max(...angles.map(Math.abs)) / 15) * 15));
  const fastest = Math.max(0.1, ...speeds);
  const ring = [0.1, 0.2, 0.5, 1, 2, 5, 10].find((step) => fastest / step <= 4.2) ?? fastest;
  const top = ring * Math.ceil(fastest / ring - 1e-9);
  const rings = Array.from({ length: Math.round(top / ring) }, (_, place) => (place + 1) * ring);
  const rays = Array.from({ length: (2 * wide) / 15 + 1 }, (_, place) => 15 * place - wide);
  const half = Math.max(62, RADIUS * Math.sin(radians(wide)) + 22);
  return (
    <figure class="polar">
      <svg viewBox={`${-half} ${-RADIUS - 20} ${2 * half} ${RADIUS + 34}`} role="img"
        aria-label={`The action space of ${name}: steering as angle, speed as distance from the car`}>
        {rings.map((speed) => (
          <>
            <path class="ring" d={`M${arc(-wide, wide, speed / top)}`} />
            <text class="ring-label" x={place(-wide, speed / top)[0] + 5} y={place(-wide, speed / top)[1] + 8}>
              {tidy(speed)}
            </text>
          </>
        ))}
        {rays.map((degrees) => (
          <>
            <path class="ring" d={`M0 0L${point(degrees, 1)}`} />
            <text class="ray-label" x={place(degrees, 1.09)[0]} y={place(degrees, 1.09)[1] + 3}>
              {`${Math.abs(degrees)}°`}
            </text>
          </>
        ))}
        {actions.type === "continuous" && (
          <path
            class="sector"
            d={sector(angles[0] ?? 0, angles[1] ?? 0, Math.max(0, speeds[0] ?? 0) / top, fastest / top)}
          />
        )}
        {discrete.map(({ steering_angle: degrees, speed }) => (
          <>
            <path class="spoke" d={`M0 0L${point(degrees, speed / top)}`} />
            <circle class="dot" cx={place(degrees, speed / top)[0]} cy={place(degrees, speed / top)[1]} r="3" />
          </>
        ))}
        <path class="car-mark" d="M0-5L4.5 6 0 3.5-4.5 6Z" />
      </svg>
      <figcaption class="hint">Angle: steering. Distance: speed, m/s.</figcaption>
      <details>
        <summary>As a table</summary>
        {actions.type === "discrete" ? (
          <table>
            <thead>
              <tr><th scope="col">Action</th><th scope="col">Steering</th><th scope="col">Speed</th></tr>
            </thead>
            <tbody>
              {discrete.map(({ steering_angle: degrees, speed }, number) => (
                <tr key={number}><td>{number}</td><td>{side(degrees)}</td><td>{speed.toFixed(2)} m/s</td></tr>
              ))}
            </tbody>
          </table>
        ) : (
          <table>
            <thead>
              <tr><th scope="col">Range</th><th scope="col">From</th><th scope="col">To</th></tr>
            </thead>
            <tbody>
              <tr><th scope="row">Steering</th><td>{side(angles[1] ?? 0)}</td><td>{side(angles[0] ?? 0)}</td></tr>
              <tr>
                <th scope="row">Speed</th><td>{speeds[0]?.toFixed(2)} m/s</td><td>{speeds[1]?.toFixed(2)} m/s</td>
              </tr>
            </tbody>
          </table>
        )}
      </details>
    </figure>
  );
}

/** The LiDAR's newest turn around the car, seen from above. */
export function Scan({ values }: { values: (number | null)[] }) {
  const seen = values.map((metres, place) => ({ metres, degrees: (360 * place) / values.length - 180 }));
  const furthest = seen.reduce((most, { metres }) => Math.max(most, metres ?? 0), 0);
  const reach = [1, 2, 4, 8].find((metres) => furthest <= metres) ?? 12;
  const dots = seen.flatMap(({ metres, degrees }) =>
    metres === null || metres > reach ? [] : [`M${point(degrees, metres / reach)}h0`],
  );
  return (
    <svg class="scan" viewBox="-108 -108 216 216" role="img" aria-label={`What the LiDAR sees within ${reach} metres`}>
      <circle class="scan-ground" r="106" />
      <circle class="ring" r={RADIUS} />
      <circle class="ring" r={RADIUS / 2} />
      <text class="ring-label" x="3" y={-RADIUS + 14}>{reach} m</text>
      <path class="scan-dots" d={dots.join("")} />
      <path class="car-mark" d="M0-8L6 8 0 4.5-6 8Z" />
    </svg>
  );
}
