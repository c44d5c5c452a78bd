// The car from above; its front wheels turn by the given degrees, + left.

export function Sketch({ degrees = 0, moving = 0 }: { degrees?: number; moving?: number }) {
  const wheel = (x: number, y: number, turn = 0) => (
    <rect class="tyre" x={x - 6} y={y - 14} width="12" height="28" rx="4" transform={`rotate(${-turn} ${x} ${y})`} />
  );
  return (
    <svg class="sketch" viewBox="-62 -92 124 190" aria-hidden="true">
      <path class="axle" d="M-32-46H32M-32 50H32" />
      {wheel(-34, -46, degrees)}
      {wheel(34, -46, degrees)}
      {wheel(-34, 50)}
      {wheel(34, 50)}
      <path class="body" d="M-13-74Q0-82 13-74L18-40 22 0V58Q22 70 12 72H-12Q-22 70-22 58V0L-18-40Z" />
      <path class="glass" d="M-12-20Q0-26 12-20L15 8H-15Z" />
      <circle class="lens" cy="-60" r="4.5" />
      {moving !== 0 && <path class="arrow" d="M0-92l-9 12h18z" transform={moving < 0 ? "rotate(180 0 2)" : ""} />}
      <text x="0" y="94">Back</text>
    </svg>
  );
}
