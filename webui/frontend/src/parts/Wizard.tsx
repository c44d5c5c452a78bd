// A way of a few steps, each with its own page.

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

type Wish = {
  title: string;
  steps: string[];
  step: number;
  /** Why this step cannot be left forward, in one sentence. */
  obstacle?: string;
  busy?: boolean;
  onStep: (step: number) => void;
  onCancel: () => void;
  onDone: () => void;
  children: ComponentChildren;
};

export function Wizard({ title, steps, step, obstacle = "", busy, onStep, onCancel, onDone, children }: Wish) {
  const heading = useRef<HTMLHeadingElement>(null);
  const opened = useRef(step);
  const last = step === steps.length - 1;

  useEffect(() => {
    if (opened.current !== step) heading.current?.focus();
    opened.current = step;
  }, [step]);

  return (
    <div class="wizard">
      <nav class="crumbs" aria-label="Where you are"><a href="#/calibration">Calibration</a></nav>
      <h1 tabIndex={-1}>{title}</h1>
      <ol class="steps-list" aria-label="Steps">
        {steps.map((name, place) => (
          <li key={name} aria-current={place === step ? "step" : undefined} class={place < step ? "past" : ""}>
            <b>{place + 1}</b><span>{name}</span>
          </li>
        ))}
      </ol>
      <section class="card" aria-labelledby="step-title">
        <h2 id="step-title" ref={heading} tabIndex={-1}>
          <span class="unseen">{`Step ${step + 1} of ${steps.length}: `}</span>{steps[step]}
        </h2>
        {children}
        <p class="problem" role="alert">{obstacle}</p>
        <div class="row end">
          <button type="button" class="plain" onClick={onCancel}>Cancel</button>
          {step > 0 && <button type="button" class="plain" onClick={() => onStep(step - 1)}>Previous</button>}
          <button
            type="button"
            class="main"
            disabled={Boolean(obstacle) || busy}
            onClick={() => (last ? onDone() : onStep(step + 1))}
          >
            {last ? "Done" : "Next"}
          </button>
        </div>
      </section>
    </div>
  );
}
