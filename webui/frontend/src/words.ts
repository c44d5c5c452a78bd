// How figures are said.

export const lapTime = (time: number) =>
  time < 60 ? time.toFixed(2) : `${Math.floor(time / 60)}:${(time % 60).toFixed(2).padStart(5, "0")}`;

export const brief = (figure: number | undefined) => (figure ? figure.toFixed(figure < 10 ? 1 : 0) : "–");

export const tidy = (figure: number) => String(Math.round(10 * figure) / 10).replace("-", "−");

export function bytes(count: number): string {
  if (count < 1e6) return `${Math.max(1, Math.round(count / 1e3))} KB`;
  return count < 1e9 ? `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} MB` : `${(count / 1e9).toFixed(1)} GB`;
}

export const clock = (when: number) => new Date(1000 * when).toTimeString().slice(0, 8);

export const day = (when: number) =>
  new Date(1000 * when).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });

export const clamp = (value: number, low: number, high: number) => Math.min(high, Math.max(low, value));
