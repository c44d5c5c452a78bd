// Shapes that are drawn by hand, many times a second.

import type { Point } from "../link";

export function draw<K extends keyof SVGElementTagNameMap>(
  parent: Element,
  tag: K,
  attributes: Record<string, string | number> = {},
): SVGElementTagNameMap[K] {
  const shape = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, String(value));
  return parent.appendChild(shape);
}

export const line = (points: Point[]) => `M${points.map(([x, y]) => `${x} ${-y}`).join("L")}`;
