// One minute of a figure: a line over its shade, gaps where nothing was told for a second.

import { useSignalEffect } from "@preact/signals";
import { useRef } from "preact/hooks";
import { news } from "../link";

const MINUTE = 60;
const [WIDTH, HEIGHT] = [300, 60];

type Sample = { t: number; value: number };

/** The latest minute; it goes on while nobody looks. */
export class Samples {
  readonly kept: Sample[] = [];

  add(t: number, value: number) {
    if (t < (this.kept.at(-1)?.t ?? t) - 1) this.kept.length = 0; // another clock
    this.kept.push({ t, value });
    while (this.kept[0] && t - this.kept[0].t > MINUTE) this.kept.shift();
  }
}

/** The scale reaches up to `least` or to the highest sample, whichever is more, and says so. */
export function Trace({ samples, least, unit }: { samples: Samples; least: number; unit: string }) {
  const line = useRef<SVGPathElement>(null);
  const shade = useRef<SVGPathElement>(null);
  const label = useRef<HTMLSpanElement>(null);

  useSignalEffect(() => {
    const { t: now, state } = news.value;
    if (!state || !samples.kept.length || !line.current || !shade.current || !label.current) return;
    const top = samples.kept.reduce((most, { value }) => Math.max(most, value), least);
    const x = (t: number) => (WIDTH * (1 - (now - t) / MINUTE)).toFixed(2);
    const y = (value: number) => (HEIGHT - (HEIGHT - 2) * (value / top)).toFixed(2);
    const lines: string[] = [];
    const shades: string[] = [];
    let piece: Sample[] = [];
    const end = () => {
      const [first, last] = [piece[0], piece.at(-1)];
      if (!first || !last) return;
      const path = piece.map(({ t, value }) => `${x(t)} ${y(value)}`).join("L");
      lines.push(`M${path}`);
      shades.push(`M${x(first.t)} ${HEIGHT}L${path}L${x(last.t)} ${HEIGHT}Z`);
      piece = [];
    };
    for (const sample of samples.kept) {
      if (sample.t - (piece.at(-1)?.t ?? sample.t) > 1) end();
      piece.push(sample);
    }
    end();
    line.current.setAttribute("d", lines.join(""));
    shade.current.setAttribute("d", shades.join(""));
    label.current.textContent = `${MINUTE} s, up to ${top < 10 ? top.toFixed(1) : top.toFixed(0)} ${unit}`;
  });

  return (
    <div class="trace" aria-hidden="true">
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none">
        <path ref={shade} class="shade" />
        <path ref={line} class="line" />
      </svg>
      <span ref={label} />
    </div>
  );
}
