// Control: what the car sees and does, and how it is driven.

import { effect, useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import {
  alive, events, models, news, order, seconds, standing, state, track, watching, type Mode,
} from "../link";
import { Camera } from "../parts/Camera";
import { Pad } from "../parts/Pad";
import { Slider } from "../parts/Slider";
import { Samples, Trace } from "../parts/Trace";
import { TrackMap } from "../parts/TrackMap";
import { brief, clock, lapTime } from "../words";

const speeds = new Samples();
const latencies = new Samples();

effect(() => {
  const { t, standing: place, latencies: fresh } = news.value;
  if (place) speeds.add(t, Math.abs(place.speed));
  fresh?.forEach((sample, at) => latencies.add(t - (0.1 * (fresh.length - 1 - at)) / fresh.length, sample));
});

export function Control() {
  return (
    <>
      <h1 class="unseen" tabIndex={-1}>Control</h1>
      <div class="board">
        <Camera />
        <Driver />
        {track.value && <TrackMap />}
        {track.value && <Speed />}
        {track.value && <Lap />}
        <Latency />
        <Wheels />
        {track.value && <Laps />}
        <Events />
      </div>
    </>
  );
}

function Driver() {
  const now = state.value;
  const barred = !alive.value || !now || watching.value;
  const modes = useRef<HTMLFieldSetElement>(null);

  async function choose(mode: Mode) {
    if (await order("mode", { mode })) return;
    const now = state.value?.mode;
    for (const input of modes.current?.querySelectorAll("input") ?? []) input.checked = input.value === now;
  }

  const mode = (name: Mode, label: string) => (
    <label>
      <input
        type="radio"
        name="mode"
        value={name}
        checked={now?.mode === name}
        disabled={barred}
        onChange={() => choose(name)}
      />
      <span>{label}</span>
    </label>
  );
  return (
    <section id="driver" class="card" aria-labelledby="driver-title">
      <h2 id="driver-title">Driver</h2>
      <fieldset id="mode" class="tabs" ref={modes}>
        <legend class="unseen">Mode</legend>
        {mode("autonomous", "Autonomous")}
        {mode("manual", "Manual")}
      </fieldset>
      {now?.mode === "calibration" && <p class="hint">The car is being calibrated; choose how it is driven next.</p>}
      {now?.mode === "manual" ? <Pad disabled={barred} /> : <Picker barred={barred} />}
      <Limit barred={barred} />
    </section>
  );
}

function Picker({ barred }: { barred: boolean }) {
  const chosen = useSignal<string | null>(null);
  const busy = useSignal(false);
  const list = models.value ?? [];
  const { model = null, loading = null } = state.value ?? {};
  const name = chosen.value ?? loading ?? model ?? "";
  const unsuited = list.find((each) => each.name === name && each.status !== "ready");

  async function load() {
    busy.value = true;
    if (await order("model", { name }, 120)) chosen.value = null;
    busy.value = false;
  }

  return (
    <div class="picker">
      <label for="model">Model</label>
      <div class="row">
        <div class="choice">
          <select
            id="model"
            value={name}
            disabled={barred || !list.length}
            aria-describedby="loading"
            onChange={({ currentTarget }) => (chosen.value = currentTarget.value)}
          >
            <option value="" disabled>{list.length ? "Choose a model" : "No model is installed"}</option>
            {list.map((each) => (
              <option key={each.name} value={each.name}>
                {each.name}{each.status === "ready" ? "" : " (cannot be loaded)"}
              </option>
            ))}
          </select>
        </div>
        <button type="button" id="load" class="main" disabled={barred || !name || busy.value} onClick={load}>
          Load
        </button>
      </div>
      {loading && <progress aria-label={`Loading ${loading}`} />}
      <p id="loading" class="hint" role="status">
        {loading
          ? `Loading ${loading}; the car stands until you start it.`
          : (unsuited?.reason ?? (model ? `${model} is loaded.` : list.length ? "No model is loaded." : ""))}
      </p>
      {models.value?.length === 0 && <p class="hint"><a href="#/models">Upload a model</a> first.</p>}
    </div>
  );
}

/** The newest place of the slider is never left out, and one order is under way at a time. */
function Limit({ barred }: { barred: boolean }) {
  const hand = useSignal<{ percent: number; until: number } | null>(null);
  const sending = useRef(false);
  const told = state.value ? Math.round(100 * state.value.max_speed) : null;
  const held = hand.value && seconds() < hand.value.until ? hand.value.percent : null;

  async function limit(percent: number) {
    hand.value = { percent, until: seconds() + 1 };
    if (sending.current) return;
    sending.current = true;
    let sent: number | null = null;
    while (hand.value && sent !== hand.value.percent) {
      sent = hand.value.percent;
      if (!(await order("max_speed", { percent: sent }))) hand.value = null;
    }
    sending.current = false;
  }

  return (
    <Slider id="max-speed" label="Maximum speed" value={held ?? told} min={0} max={100} unit=" %" steps={[1, 10]}
      disabled={barred} spoken={(percent) => `${percent} per cent`} onInput={limit} />
  );
}

function Speed() {
  return (
    <section id="speed" class="card figure" aria-labelledby="speed-title">
      <h2 id="speed-title">Speed</h2>
      <p class="value"><b>{standing.value ? Math.abs(standing.value.speed).toFixed(2) : "–"}</b> m/s</p>
      <Trace samples={speeds} least={1} unit="m/s" />
    </section>
  );
}

function Lap() {
  const now = standing.value;
  const laps = now?.laps ?? [];
  const last = laps.at(-1);
  return (
    <section id="lap" class="card figure" aria-labelledby="lap-title">
      <h2 id="lap-title">Lap</h2>
      <p class={`aside ${now?.off_track ? "some" : ""}`}>
        <span id="off-track">{now?.off_track ?? 0}</span> × off track
      </p>
      <p class="value"><b>{now ? lapTime(now.lap_time) : "–"}</b> s</p>
      <div class="way" aria-hidden="true">
        <i style={{ width: `${Math.min(100, Math.max(0, now?.progress ?? 0))}%` }} />
      </div>
      <p class="note">
        <span>best <b id="best">{laps.length ? lapTime(Math.min(...laps)) : "–"}</b></span>
        <span>last <b id="last">{last === undefined ? "–" : lapTime(last)}</b></span>
      </p>
    </section>
  );
}

function Latency() {
  const now = state.value;
  return (
    <section id="latency" class="card figure" aria-labelledby="latency-title">
      <h2 id="latency-title">Latency</h2>
      <p class="aside">p99 <b>{brief(now?.latencies.frame_to_pulse_ms.p99)}</b> ms</p>
      <p class="value"><b>{brief(now?.latencies.frame_to_pulse_ms.p50)}</b> ms <span>picture to pulse</span></p>
      <Trace samples={latencies} least={20} unit="ms" />
    </section>
  );
}

function Balance({ name, value, word = "" }: { name: string; value: number; word?: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        <span class="balance" aria-hidden="true">
          <i style={{ left: `${50 + 50 * Math.min(0, value)}%`, width: `${50 * Math.abs(value)}%` }} />
        </span>
        <b>{Math.round(100 * Math.abs(value))} %{word}</b>
      </dd>
    </div>
  );
}

function Wheels() {
  const { steering, throttle } = state.value?.applied ?? { steering: 0, throttle: 0 };
  const rate = state.value?.rates.inference ?? 0;
  return (
    <section id="wheels" class="card figure" aria-labelledby="wheels-title">
      <h2 id="wheels-title">Wheels</h2>
      <p class="aside">{rate ? `${rate.toFixed(0)} decisions a second` : ""}</p>
      <dl>
        <Balance name="Steering" value={-steering}
          word={steering > 0.005 ? " left" : steering < -0.005 ? " right" : ""} />
        <Balance name="Throttle" value={throttle} word={throttle < -0.005 ? " back" : ""} />
      </dl>
    </section>
  );
}

function Laps() {
  const { laps = [], lap_count: count = 0 } = standing.value ?? {};
  const first = count - laps.length + 1;
  const best = Math.min(...laps);
  const widest = Math.max(0.5, Math.max(...laps) - best);
  const winner = laps.indexOf(best);
  const rows = laps.map((time, place) => (
    <li key={first + place} class={place === winner ? "best" : ""}>
      <span class="number">{first + place}</span>
      <b>{lapTime(time)}</b>
      <span class="bar"><i style={{ width: `${(100 * (time - best)) / widest}%` }} /></span>
      <span class="remark">{place === winner ? "best" : `+${(time - best).toFixed(2)}`}</span>
    </li>
  ));
  return (
    <section id="laps" class="card" aria-labelledby="laps-title">
      <h2 id="laps-title">Laps</h2>
      <ol tabIndex={0} aria-labelledby="laps-title">{rows.toReversed()}</ol>
    </section>
  );
}

const shade = (level: number) => (level >= 40 ? "error" : level >= 30 ? "warning" : "");

function Events() {
  return (
    <section id="events" class="card" aria-labelledby="events-title">
      <h2 id="events-title">Events</h2>
      <ol tabIndex={0} aria-labelledby="events-title">
        {events.value.map(({ when, level, text }) => (
          <li key={`${when} ${text}`} class={shade(level)}>
            <time dateTime={new Date(1000 * when).toISOString()}>{clock(when)}</time>
            <span>{text}</span>
          </li>
        ))}
      </ol>
    </section>
  );
}
