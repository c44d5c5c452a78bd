// The console: its frame, and which page is in it.

import { effect, signal } from "@preact/signals";
import { render, type ComponentType } from "preact";
import {
  about, alive, ask, lock, lost, order, sentence, refuse, session, start, state, stop, track, watching,
} from "./link";
import { Calibration, SpeedWizard, SteeringWizard } from "./pages/calibration";
import { Control } from "./pages/control";
import { Logs } from "./pages/logs";
import { Models } from "./pages/models";
import { Settings } from "./pages/settings";
import { SetUp, settling, Unlock } from "./pages/unlock";
import { Banners, WheelNote } from "./parts/Banners";
import { Mark } from "./parts/Mark";

const PAGES: Record<string, { title: string; icon?: string; page: ComponentType }> = {
  "/": {
    title: "Control",
    icon: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Zm0 9v9M12 12 3.6 9M12 12l8.4-3",
    page: Control,
  },
  "/models": {
    title: "Models",
    icon: "m12 3 8 4.5v9L12 21l-8-4.5v-9L12 3Zm0 9 8-4.5M12 12v9M12 12 4 7.5",
    page: Models,
  },
  "/calibration": { title: "Calibration", icon: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4v6M9 14v6", page: Calibration },
  "/calibration/steering": { title: "Calibrate steering", page: SteeringWizard },
  "/calibration/speed": { title: "Calibrate speed", page: SpeedWizard },
  "/settings": {
    title: "Settings",
    icon: "M5 21v-6M5 11V3M12 21v-9M12 8V3M19 21v-4M19 13V3M2 15h6M9 8h6M16 17h6",
    page: Settings,
  },
  "/logs": { title: "Logs", icon: "M4 6h16M4 12h16M4 18h10", page: Logs },
};

const here = () => (location.hash.slice(1) in PAGES ? location.hash.slice(1) : "/");
const route = signal(here());

function doing(): string {
  const now = state.value;
  if (!now) return "Connecting to the car";
  if (lost.value) return "Link lost";
  if (now.loading) return "Loading a model";
  if (!now.engaged) return now.stopped_because ? "Stopped itself" : "Stopped";
  return { autonomous: "Driving", manual: "Driving by hand", calibration: "Calibrating" }[now.mode];
}

const LOW = 3 / 11; // of the battery, as the car's own lamp has it
const FAIR = 7 / 11;

function Battery() {
  const charge = state.value?.battery;
  if (about.value?.battery === false) return <p id="battery">no battery gauge</p>;
  if (charge === null || charge === undefined) return about.value ? <p id="battery">no battery</p> : null;
  return (
    <p id="battery" class={charge < LOW ? "low" : charge < FAIR ? "fair" : "good"}>
      <span class="cell" aria-hidden="true"><i style={{ width: `${100 * charge}%` }} /></span>
      <span><span class="unseen">Battery </span><b>{Math.round(100 * charge)} %</b></span>
    </p>
  );
}

async function leave() {
  try {
    await ask("POST", "/api/v1/logout", {});
    lock();
  } catch (error) {
    refuse(sentence(error));
  }
}

function Frame() {
  const now = state.value;
  const { page: Page } = PAGES[route.value] ?? { page: Control };
  const idle = alive.value && now && !now.engaged && !now.loading && now.mode !== "calibration" && !watching.value;
  return (
    <>
      <header>
        <p class="brand"><Mark /><span>{session.value?.car ?? "hotlap"}</span></p>
        <p id="doing" role="status">{doing()}</p>
        <Battery />
        <div id="drive" role="group" aria-label="Drive">
          <button id="start" type="button" disabled={!idle} onClick={() => order("start")}>Start</button>
          <button id="stop" type="button" aria-keyshortcuts="Escape" onClick={() => void stop()}>
            Stop<kbd aria-hidden="true">Esc</kbd>
          </button>
        </div>
      </header>
      <div class="below">
        <nav aria-label="Pages">
          <ul>
            {Object.entries(PAGES).map(([path, { title, icon }]) => icon && (
              <li key={path}>
                <a href={`#${path}`} aria-current={isIn(path) ? "page" : undefined}>
                  <svg viewBox="0 0 24 24" aria-hidden="true"><path d={icon} /></svg>
                  {title}
                </a>
              </li>
            ))}
          </ul>
        </nav>
        <WheelNote />
        <button type="button" class="plain" id="logout" onClick={leave}>Log out</button>
      </div>
      <main>
        <Banners />
        <Page key={route.value} />
      </main>
      {route.value === "/" && <footer id="health">{health()}</footer>}
    </>
  );
}

const isIn = (path: string) => (path === "/" ? route.value === "/" : route.value.startsWith(path));

function health(): string {
  const now = state.value;
  if (!now) return "";
  return [
    `${now.rates.inference.toFixed(1)} decisions a second`,
    `${now.latencies.inference_ms.p50.toFixed(1)} ms each`,
    `99 % of the pulses less than ${now.latencies.tick_late_ms.p99.toFixed(1)} ms late`,
    now.realtime ? "real-time priority" : "no real-time priority",
    ...now.network,
  ].join(" · ");
}

function App() {
  const now = session.value;
  if (!now) return <main class="door"><p id="lost" class="banner grave" role="status">{lost}</p></main>;
  if (!now.unlocked) return <Unlock />;
  if (now.must_change || settling.value) return <SetUp />;
  return <Frame />;
}

effect(() => {
  const open = session.value?.unlocked && !session.value.must_change;
  const title = open ? PAGES[route.value]?.title : "Unlock";
  document.title = `${title} · ${session.value?.car ?? "hotlap"}`;
});

effect(() => {
  const { engaged = false, stopped_because: reason = null } = state.value ?? {};
  const marks = { trackside: track.value, engaged, halted: !engaged && reason, old: state.value && lost.value };
  for (const [mark, set] of Object.entries(marks)) document.body.classList.toggle(mark, Boolean(set));
});

addEventListener("hashchange", () => {
  route.value = here();
  scrollTo(0, 0);
  requestAnimationFrame(() => document.querySelector<HTMLElement>("main h1")?.focus());
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.repeat && session.value?.unlocked) void stop();
});

render(<App />, document.getElementById("app") as HTMLElement);
void start();
