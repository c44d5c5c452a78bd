// Calibration: what the two wires mean on this car, and the ways to find it out.

import { useSignal, useSignalEffect } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { ask, hidden, order, refuse, seconds, sentence, state, tell, watching, type Mode } from "../link";
import { Dialog } from "../parts/Dialog";
import { Sketch } from "../parts/Sketch";
import { Slider } from "../parts/Slider";
import { Wizard } from "../parts/Wizard";
import { clamp, tidy } from "../words";

const BEAT = 1000 / 15; // milliseconds between two trims
const PACES = ["Slow", "Normal", "Fast", "Turbo", "Dangerous"];

type Wire = "steering" | "throttle";
type Channel = { min: number; mid: number; max: number; polarity: 1 | -1 };
type Stored = { steering: Channel; throttle: Channel };
type Answer = Stored & { default: Stored };

/** A channel as people see it: high is left or forward, whichever way the pulse goes. */
type Trim = { low: number; mid: number; high: number; polarity: 1 | -1 };

const seen = ({ min, mid, max, polarity }: Channel): Trim =>
  polarity === 1 ? { low: min, mid, high: max, polarity } : { low: -max, mid: -mid, high: -min, polarity };
const stored = ({ low, mid, high, polarity }: Trim): Channel =>
  polarity === 1 ? { min: low, mid, max: high, polarity } : { min: -high, mid: -mid, max: -low, polarity };

const degrees = (value: number, centre: number) => (30 * (value - centre)) / 25;

function angle(value: number, centre: number): string {
  const about = Math.abs(degrees(value, centre));
  return `Estimated angle: ${Math.round(0.9 * about)} to ${Math.round(1.1 * about)}°`;
}

function speed(value: number, stopped: number): string {
  const about = (1.85 * Math.abs(value - stopped)) / 39;
  return `Estimated speed: ${(0.86 * about).toFixed(1)} to ${(1.14 * about).toFixed(1)} m/s`;
}

const read = () => ask<Answer>("GET", "/api/v1/calibration");
const write = (wire: Wire, channel: Channel) => ask<Answer>("PUT", `/api/v1/calibration/${wire}`, channel);

export function Calibration() {
  const now = useSignal<Answer | null>(null);
  const asking = useSignal<Wire | null>(null);

  useEffect(() => {
    read().then((answer) => (now.value = answer), (error) => refuse(sentence(error)));
  }, []);

  async function restore(wire: Wire) {
    if (!now.value) return;
    try {
      now.value = await write(wire, now.value.default[wire]);
      refuse("");
    } catch (error) {
      refuse(sentence(error));
    }
  }

  const card = (wire: Wire, title: string, path: string, names: [string, string, string]) => {
    const trim = now.value && seen(now.value[wire]);
    const figures = trim ? [trim.mid, trim.high, trim.low] : [];
    return (
      <section class="card" id={wire} aria-labelledby={`${wire}-title`}>
        <h2 class="large" id={`${wire}-title`}>{title}</h2>
        <dl class="figures">
          {names.map((name, place) => (
            <div key={name}>
              <dt>{name}</dt><dd>{figures[place] === undefined ? "–" : tidy(figures[place])}</dd>
            </div>
          ))}
        </dl>
        <div class="row">
          <a class="button main" href={`#/calibration/${path}`} aria-label={`Calibrate ${path}`}>Calibrate</a>
          <button type="button" class="plain" disabled={!trim || watching.value} onClick={() => (asking.value = wire)}>
            Default values
          </button>
        </div>
      </section>
    );
  };
  return (
    <div class="page">
      <div class="page-head"><h1 tabIndex={-1}>Calibration</h1></div>
      <div class="pair">
        {card("steering", "Steering", "steering", ["Centre", "Maximum left", "Maximum right"])}
        {card("throttle", "Speed", "speed", ["Stopped", "Maximum forward", "Maximum backward"])}
      </div>
      <p class="hint">The figures are those of the stock console: a slider's place, not degrees or metres a second.</p>
      {asking.value && (
        <Dialog
          title={`Default values for ${asking.value === "steering" ? "steering" : "speed"}?`}
          yes="Use them"
          onYes={() => asking.value && void restore(asking.value)}
          onClose={() => (asking.value = null)}
        >
          <p>What was calibrated on this car is lost; the car then goes by the values that it came with.</p>
        </Dialog>
      )}
    </div>
  );
}

/** The car in the hands of a wizard, from the first step to Done or Cancel, or until the page is left. */
function useHands(wire: Wire) {
  const before = useRef<Mode | null>(null);
  const held = useRef(false);
  const interrupted = useSignal(false);

  async function begin(): Promise<boolean> {
    const mode = state.value?.mode ?? "autonomous";
    before.current ??= mode === "calibration" ? "autonomous" : mode;
    held.current = interrupted.value = false;
    return (await order("mode", { mode: "calibration" })) && (await order("start"));
  }

  /** Let go: the car stands, and is driven as before. */
  async function end(keep?: Channel) {
    if (!before.current) return;
    const mode = before.current;
    if (!(await order("stop"))) throw new Error("The car was not stopped; try again.");
    held.current = false;
    if (keep) await write(wire, keep);
    before.current = null;
    await order("mode", { mode });
  }

  useSignalEffect(() => {
    const engaged = state.value?.engaged === true && state.value.mode === "calibration";
    if (!before.current) return;
    interrupted.value = held.current && !engaged;
    held.current ||= engaged;
  });

  useEffect(() => {
    const leave = () => void (before.current && tell({ type: "stop" }));
    addEventListener("pagehide", leave);
    return () => {
      removeEventListener("pagehide", leave);
      void end().catch((error) => refuse(sentence(error)));
    };
  }, []);

  return { begin, end, interrupted };
}

/** Hold the wire at this place of its slider while somebody looks; at its stored rest while it is null. */
function useHold(wire: Wire, value: number | null) {
  const newest = useRef(value);
  newest.current = value;
  const holding = value !== null && !hidden.value;

  useEffect(() => {
    if (!holding) return;
    const hold = () => tell({ type: "trim", t: seconds(), wire, value: newest.current });
    hold();
    const timer = setInterval(hold, BEAT);
    return () => clearInterval(timer);
  }, [holding]);
}

type Way = {
  wire: Wire;
  title: string;
  steps: string[];
  /** Where the slider stands in a step, as people see it; null where nothing is held. */
  place: (step: number, trim: Trim, touched: number | null) => number | null;
  obstacle: (step: number, trim: Trim) => string;
  children: (now: Now) => ComponentChildren;
};

type Now = {
  step: number;
  trim: Trim;
  touched: number | null;
  change: (trim: Partial<Trim>, touched: number | null) => void;
};

function TrimWizard({ wire, title, steps, place, obstacle, children }: Way) {
  const trim = useSignal<Trim | null>(null);
  const step = useSignal(0);
  const touched = useSignal<number | null>(null);
  const busy = useSignal(false);
  const { begin, end, interrupted } = useHands(wire);
  const now = trim.value;
  const free = step.value > 0 && !interrupted.value && !busy.value;
  const held = now && free ? place(step.value, now, touched.value) : null;
  useHold(wire, held === null || !now ? null : now.polarity * held);

  useEffect(() => {
    read().then((answer) => (trim.value = seen(answer[wire])), (error) => refuse(sentence(error)));
  }, []);

  useSignalEffect(() => {
    // Wheels that fell to rest unseen do not turn again by themselves.
    if (hidden.value || interrupted.value) touched.value = null;
  });

  async function go(next: number) {
    busy.value = true;
    if (step.value > 0 || (await begin())) {
      touched.value = null;
      step.value = next;
    }
    busy.value = false;
  }

  async function leave(keep?: Channel) {
    busy.value = true;
    try {
      await end(keep);
      location.hash = "#/calibration";
    } catch (error) {
      refuse(sentence(error));
    }
    busy.value = false;
  }

  const change = (news: Partial<Trim>, at: number | null) => {
    if (now) trim.value = { ...now, ...news };
    touched.value = at;
  };
  return (
    <Wizard
      title={title}
      steps={steps}
      step={step.value}
      obstacle={now ? obstacle(step.value, now) : ""}
      busy={!now || busy.value || watching.value}
      onStep={(next) => void go(next)}
      onCancel={() => void leave()}
      onDone={() => now && void leave(stored(now))}
    >
      {interrupted.value && (
        <div class="banner row">
          <p>The car has been stopped, and its wheels are at rest.</p>
          <button type="button" onClick={() => void begin()}>Go on</button>
        </div>
      )}
      {now && <div class="step-body">{children({ step: step.value, trim: now, touched: touched.value, change })}</div>}
    </Wizard>
  );
}

const units = (value: number) => `${tidy(value)} units`;

export function SteeringWizard() {
  return (
    <TrimWizard
      wire="steering"
      title="Calibrate steering"
      steps={["Set the car on the ground", "Centre", "Maximum left", "Maximum right"]}
      place={(step, { low, mid, high }) => [null, mid, high, low][step] ?? null}
      obstacle={(step, { low, mid, high }) => {
        if (step === 2 && high <= mid) return `Maximum left must be more than the centre, ${tidy(mid)}.`;
        return step === 3 && low >= mid ? `Maximum right must be less than the centre, ${tidy(mid)}.` : "";
      }}
    >
      {({ step, trim: { low, mid, high }, change }) => (
        <>
          <div class="words">
            {step === 0 && (
              <p>
                Put the car on the ground or the track, where you can see its front wheels. On the ground the wheels
                turn less far than in the air. They move when you choose Next.
              </p>
            )}
            {step === 1 && (
              <>
                <p>
                  Move the slider until one front wheel points straight ahead, in line with the rear wheel on its side.
                  The other need not: in a turn the inner wheel turns further.
                </p>
                <Slider id="centre" label="Centre value" value={mid} min={-30} max={30} steps={[1]} spoken={units}
                  onInput={(value) => change({ mid: value }, value)} />
                <p class="hint">Push the car by hand: it should roll straight on.</p>
              </>
            )}
            {step === 2 && (
              <>
                <p>
                  Raise the value until the wheels turn no further to the left. A faint hum is right; go back where it
                  gets loud.
                </p>
                <Slider id="left" label="Maximum left value" value={high} min={-10} max={50} steps={[1]} spoken={units}
                  onInput={(value) => change({ high: value }, value)} />
                <p role="status">{angle(high, mid)}</p>
              </>
            )}
            {step === 3 && (
              <>
                <p>
                  Lower the value until the wheels turn no further to the right. A faint hum is right; go back where it
                  gets loud.
                </p>
                <Slider id="right" label="Maximum right value" value={low} min={-50} max={10} steps={[1]} spoken={units}
                  onInput={(value) => change({ low: value }, value)} />
                <p role="status">{angle(low, mid)}</p>
              </>
            )}
          </div>
          <Sketch degrees={clamp(degrees([mid, mid, high, low][step] ?? mid, mid), -45, 45)} />
        </>
      )}
    </TrimWizard>
  );
}

export function SpeedWizard() {
  return (
    <TrimWizard
      wire="throttle"
      title="Calibrate speed"
      steps={["Raise the car", "Stopped", "Forward direction", "Maximum forward", "Maximum backward"]}
      // At these speeds the wheels turn only for a slider that somebody has moved.
      place={(step, { mid }, touched) => (step === 1 ? mid : step > 1 ? touched : null)}
      obstacle={(step, { low, mid, high }) => {
        if (step === 3 && high <= mid) return `Maximum forward must be more than the stopped value, ${tidy(mid)}.`;
        return step === 4 && low >= mid ? `Maximum backward must be less than the stopped value, ${tidy(mid)}.` : "";
      }}
    >
      {({ step, trim, touched, change }) => (
        <>
          <div class="words">
            {step === 0 && (
              <>
                <p>
                  Raise the car on something firm, so that all four wheels turn freely. Do not hold it in your hands.
                </p>
                <p class="banner">The wheels will spin fast. Keep fingers, hair and cables away from them.</p>
              </>
            )}
            {step === 1 && (
              <>
                <p>
                  Move the slider until the wheels stand still. Where a hum begins on either side, they are about to
                  move: the right value is half-way between.
                </p>
                <Slider id="stopped" label="Stopped value" value={trim.mid} min={-30} max={30} steps={[1]}
                  spoken={units} onInput={(value) => change({ mid: value }, value)} />
                <p class="hint">The best values lie between −20 and 20.</p>
              </>
            )}
            {step === 2 && (
              <>
                <p>Move the slider up until the wheels turn. If they turn backward, reverse the direction.</p>
                <Slider id="direction" label="Trial value" value={touched ?? clamp(Math.round(trim.mid), 0, 50)}
                  min={0} max={50} steps={[1]} spoken={units} onInput={(value) => change({}, value)} />
                <label class="switch">
                  <input
                    type="checkbox"
                    role="switch"
                    checked={trim.polarity === 1}
                    onChange={() => {
                      const polarity = trim.polarity === 1 ? -1 : 1;
                      change(seen({ ...stored(trim), polarity }), null);
                    }}
                  />
                  <span>Reverse direction</span>
                </label>
              </>
            )}
            {step === 3 && (
              <>
                <p>
                  Raise the value until the estimated speed is about the fastest that your model was trained for. More
                  than 2 m/s is of no use to a model.
                </p>
                <Slider id="forward" label="Maximum forward value" value={trim.high} min={0} max={50} steps={[1]}
                  spoken={units} onInput={(value) => change({ high: value }, value)}>
                  <ol class="paces" aria-hidden="true">
                    {PACES.map((pace, at) => (
                      <li key={pace} class={at === Math.round(trim.high / 12.5) ? "now" : ""}>{pace}</li>
                    ))}
                  </ol>
                </Slider>
                <p role="status">{speed(trim.high, trim.mid)}</p>
                <p class="hint">The battery and the ground decide, too: up to a third more leaves room for both.</p>
              </>
            )}
            {step === 4 && (
              <>
                <p>Lower the value to the speed at which you like to drive backward. No model drives backward.</p>
                <Slider id="backward" label="Maximum backward value" value={trim.low} min={-50} max={0} steps={[1]}
                  spoken={units} onInput={(value) => change({ low: value }, value)} />
                <p role="status">{speed(trim.low, trim.mid)}</p>
              </>
            )}
            {step > 1 && touched === null && <p class="hint">The wheels stand until you move the slider.</p>}
          </div>
          <Sketch moving={touched === null || step < 2 ? 0 : Math.sign(touched - trim.mid)} />
        </>
      )}
    </TrimWizard>
  );
}
