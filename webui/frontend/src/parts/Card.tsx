// A part of a page, under its heading.

import type { ComponentChildren } from "preact";

export function Card({ id, title, children }: { id: string; title: string; children: ComponentChildren }) {
  return (
    <section class="card" id={id} aria-labelledby={`${id}-title`}>
      <h2 class="large" id={`${id}-title`}>{title}</h2>
      {children}
    </section>
  );
}
