// A slider with its figure, and buttons for small and large steps.

import type { ComponentChildren } from "preact";
import { clamp, tidy } from "../words";

type Wish = {
  id: string;
  label: string;
  value: number | null;
  min: number;
  max: number;
  unit?: string;
  steps: number[];
  disabled?: boolean;
  spoken?: (value: number) => string;
  onInput: (value: number) => void;
  children?: ComponentChildren;
};

export function Slider({ id, label, value, min, max, unit = "", steps, disabled, spoken, onInput, children }: Wish) {
  const shown = clamp(Math.round(value ?? 0), min, max);
  const part = (place: number) => (clamp(place, min, max) - min) / (max - min);
  const figure = value === null ? "–" : `${tidy(value)}${unit}`;
  const step = (by: number) => (
    <button
      type="button"
      class="step"
      disabled={disabled || value === null || (by < 0 ? shown <= min : shown >= max)}
      aria-label={`${label}: ${by < 0 ? "less" : "more"} by ${Math.abs(by)}`}
      onClick={() => onInput(clamp(shown + by, min, max))}
    >
      {by < 0 ? "−" : "+"}
      {Math.abs(by)}
    </button>
  );
  return (
    <div class="slider">
      <div class="slider-head">
        <label for={id}>{label}</label>
        <output for={id} id={`${id}-value`}>{figure}</output>
      </div>
      <input
        id={id}
        type="range"
        min={min}
        max={max}
        step={1}
        value={shown}
        disabled={disabled || value === null}
        aria-valuetext={value === null ? undefined : (spoken?.(value) ?? figure)}
        style={{ "--from": Math.min(part(0), part(shown)), "--to": Math.max(part(0), part(shown)) }}
        onInput={({ currentTarget }) => onInput(Number(currentTarget.value))}
      />
      {children}
      <div class="steps">
        {steps.toReversed().map((by) => step(-by))}
        {steps.map((by) => step(by))}
      </div>
    </div>
  );
}
