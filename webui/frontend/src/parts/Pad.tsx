// The driving pad: a finger, a mouse, keys or a gamepad wish for steering and throttle while they are held.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { driving, seconds, stop, tell } from "../link";
import { clamp } from "../words";

const BEAT = 40; // milliseconds between two wishes
const SLACK = 0.06; // of the pad's half width, around its middle, that counts as the middle
const STICK_SLACK = 0.1;
const TURN = 6; // of a key, full wishes a second
const PUSH = 3;

type Wish = { steering: number; throttle: number };
type Axis = keyof Wish;

const KEYS: Record<string, [Axis, number]> = {
  ArrowLeft: ["steering", 1],
  KeyA: ["steering", 1],
  ArrowRight: ["steering", -1],
  KeyD: ["steering", -1],
  ArrowUp: ["throttle", 1],
  KeyW: ["throttle", 1],
  ArrowDown: ["throttle", -1],
  KeyS: ["throttle", -1],
};
const REST: Wish = { steering: 0, throttle: 0 };

const beyond = (value: number, slack: number) =>
  Math.sign(value) * clamp((Math.abs(value) - slack) / (1 - slack), 0, 1);

/** What the first gamepad with two sticks wishes; nothing while it is at rest. */
function gamepad(): Wish | null {
  for (const pad of navigator.getGamepads?.() ?? []) {
    if (pad?.mapping !== "standard") continue;
    const triggers = (pad.buttons[7]?.value ?? 0) - (pad.buttons[6]?.value ?? 0);
    const steering = beyond(-(pad.axes[0] ?? 0), STICK_SLACK);
    const throttle = Math.abs(triggers) > STICK_SLACK ? triggers : beyond(-(pad.axes[3] ?? 0), STICK_SLACK);
    if (steering || throttle) return { steering, throttle };
  }
  return null;
}

/** Whoever types, or has a control in hand, does not drive. */
const occupied = (target: EventTarget | null) =>
  target instanceof Element && target.closest("input, select, textarea, dialog") !== null;

export function Pad({ disabled }: { disabled: boolean }) {
  const pad = useRef<HTMLDivElement>(null);
  const wish = useSignal<Wish>(REST);
  const held = useSignal(false);
  const early = useSignal(false);

  useEffect(() => {
    const surface = pad.current as HTMLDivElement;
    const keys = new Set<string>();
    let pointer: number | null = null;
    let touched: Wish = REST;
    let pressed: Wish = REST;
    let beaten = seconds();
    let flowing = false;
    // What was held before the car was started, or when it stopped, must be let go first.
    let barred = false;

    function typed(passed: number): Wish | null {
      const target = { ...REST };
      for (const key of keys) {
        const [axis, value] = KEYS[key] as [Axis, number];
        target[axis] += value;
      }
      const near = (axis: Axis, rate: number) => {
        const [from, to] = [pressed[axis], clamp(target[axis], -1, 1)];
        return to === 0 ? 0 : from + clamp(to - from, -rate * passed, rate * passed);
      };
      pressed = { steering: near("steering", TURN), throttle: near("throttle", PUSH) };
      return keys.size ? pressed : null;
    }

    function beat() {
      const now = seconds();
      const hand = typed(Math.min(0.1, now - beaten));
      beaten = now;
      const wished = document.hidden ? null : pointer !== null ? touched : (hand ?? gamepad());
      barred = wished !== null && (barred || !driving.value);
      early.value = barred;
      held.value = wished !== null && !barred;
      wish.value = wished && !barred ? wished : REST;
      if (held.value) {
        flowing = tell({
          type: "drive",
          t: now,
          steering: Number(wish.value.steering.toFixed(3)),
          throttle: Number(wish.value.throttle.toFixed(3)),
        });
      } else if (flowing) {
        flowing = false;
        tell({ type: "drive", t: now, ...REST });
      }
    }

    function point({ clientX, clientY }: PointerEvent) {
      const { left, top, width, height } = surface.getBoundingClientRect();
      const across = clamp((2 * (clientX - left)) / width - 1, -1, 1);
      const up = clamp(1 - (2 * (clientY - top)) / height, -1, 1);
      touched = { steering: -beyond(across, SLACK), throttle: beyond(up, SLACK) };
    }

    function release() {
      pointer = null;
      keys.clear();
      beat();
    }

    const listen = new AbortController();
    const { signal } = listen;
    surface.addEventListener(
      "pointerdown",
      (event) => {
        if (pointer !== null || event.button !== 0) return;
        surface.setPointerCapture(event.pointerId);
        pointer = event.pointerId;
        point(event);
        beat();
      },
      { signal },
    );
    surface.addEventListener("pointermove", (event) => event.pointerId === pointer && point(event), { signal });
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"] as const) {
      surface.addEventListener(end, (event) => event.pointerId === pointer && release(), { signal });
    }
    surface.addEventListener("contextmenu", (event) => event.preventDefault(), { signal });
    addEventListener(
      "keydown",
      (event) => {
        if (event.ctrlKey || event.altKey || event.metaKey || occupied(event.target)) return;
        const mine = driving.value || event.target === surface;
        if (!mine || !(event.code in KEYS || event.code === "Space")) return;
        event.preventDefault();
        if (event.repeat) return;
        if (event.code === "Space") {
          release();
          void stop();
        } else {
          keys.add(event.code);
          beat();
        }
      },
      { signal },
    );
    addEventListener(
      "keyup",
      (event) => {
        if (keys.delete(event.code)) beat();
      },
      { signal },
    );
    addEventListener("blur", release, { signal });
    document.addEventListener("visibilitychange", release, { signal });
    addEventListener("pagehide", release, { signal });
    const timer = setInterval(beat, BEAT);
    return () => {
      listen.abort();
      clearInterval(timer);
      release();
    };
  }, []);

  const { steering, throttle } = wish.value;
  return (
    <div class="pad-frame">
      <div
        ref={pad}
        id="pad"
        class={held.value ? "held" : ""}
        tabIndex={disabled ? -1 : 0}
        role="application"
        aria-roledescription="driving pad"
        aria-label="Driving pad"
        aria-describedby="pad-help"
        aria-disabled={disabled}
      >
        <span class="pad-axis" aria-hidden="true" />
        <i aria-hidden="true" style={{ left: `${50 - 44 * steering}%`, top: `${50 - 42 * throttle}%` }} />
      </div>
      <p id="pad-help" class="hint" role="status">
        {early.value
          ? driving.value
            ? "Let go of the pad once, then drive."
            : "The car is not started: press Start first, then the pad."
          : "Hold the pad, the arrow keys, WASD or a gamepad; the car stands when you let go. Space stops it."}
      </p>
    </div>
  );
}
