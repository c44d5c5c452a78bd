// The page of one car: it shows what the car tells over one WebSocket, and asks for changes by POST.

import { Trace, TrackMap } from "./drawing.js";

const SILENCE = 1.5; // seconds after which what is shown counts as old
const DEAD = 5; // seconds of silence after which another link is tried
const LONGEST_WAIT = 5;
const REFUSAL_SHOWN = 10;
const EVENTS_SHOWN = 100;

const find = (selector) => document.querySelector(selector);
const seconds = () => performance.now() / 1000;

/** Write only what differs: screen readers and the layout then rest. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function make(tag, name, ...content) {
  const element = document.createElement(tag);
  element.className = name;
  element.append(...content);
  return element;
}

const minutes = (time) =>
  time < 60 ? time.toFixed(2) : `${Math.floor(time / 60)}:${(time % 60).toFixed(2).padStart(5, "0")}`;

const brief = (figure) => (figure ? figure.toFixed(figure < 10 ? 1 : 0) : "–");

// What the car tells ---------------------------------------------------------------------------------------------

const map = new TrackMap(find("#map svg"));
const speed = new Trace(find("#speed .trace"), 1, "m/s");
const latency = new Trace(find("#latency .trace"), 20, "ms");
let state = null;

const show = {
  state(news) {
    state = news;
    const { engaged, loading, stopped_because: reason, rates, latencies, applied } = news;
    const doing = loading
      ? "Loading a model"
      : engaged
        ? "Driving"
        : reason
          ? "Stopped itself"
          : "Stopped";
    write(find("#doing"), doing);
    document.body.classList.toggle("engaged", engaged);
    document.body.classList.toggle("halted", Boolean(!engaged && reason));
    find("#start").disabled = engaged || Boolean(loading);
    alarm(reason, news.faults);
    const charge = news.battery;
    find("#battery").hidden = charge === null;
    if (charge !== null) {
      write(find("#battery b"), `${Math.round(100 * charge)} %`);
      find("#battery i").style.width = `${100 * charge}%`;
      find("#battery").classList.toggle("low", charge < 0.2);
    }
    write(find("#camera-rate"), rates.camera ? `${rates.camera.toFixed(0)} pictures a second` : "");
    find("#camera").classList.toggle("blind", !rates.camera);
    const [steering, throttle] = document.querySelectorAll("#wheels dd");
    balance(steering, -applied.steering, applied.steering > 0.005 ? "left" : applied.steering < -0.005 ? "right" : "");
    balance(throttle, applied.throttle, "");
    write(find("#latency .value b"), brief(latencies.frame_to_pulse_ms.p50));
    write(find("#latency .aside b"), brief(latencies.frame_to_pulse_ms.p99));
    write(
      find("#health"),
      [
        `${rates.inference.toFixed(1)} decisions a second`,
        `${latencies.inference_ms.p50.toFixed(1)} ms each`,
        `99 % of the pulses less than ${latencies.tick_late_ms.p99.toFixed(1)} ms late`,
        news.realtime ? "real-time priority" : "no real-time priority",
        ...news.network,
      ].join(" · "),
    );
    controls.state(news);
  },

  standing(news, t) {
    map.tell(t, news);
    speed.add(t, Math.abs(news.speed));
    write(find("#speed .value b"), Math.abs(news.speed).toFixed(2));
    write(find("#lap .value b"), minutes(news.lap_time));
    find("#lap .way i").style.width = `${Math.min(100, Math.max(0, news.progress))}%`;
    const fallen = find("#off-track");
    fallen.parentElement.classList.toggle("some", news.off_track > 0);
    write(fallen, String(news.off_track));
    laps(news.laps, news.lap_count - news.laps.length + 1);
  },

  latencies(news, t) {
    news.forEach((sample, place) => latency.add(t - (0.1 * (news.length - 1 - place)) / news.length, sample));
    latency.draw(t);
    speed.draw(t);
  },

  models(news) {
    controls.models(news);
  },

  events(news) {
    const list = find("#events ol");
    for (const { when, level, text } of news) {
      const time = new Date(1000 * when);
      const stamp = make("time", "", time.toTimeString().slice(0, 8));
      stamp.dateTime = time.toISOString();
      list.prepend(make("li", level >= 40 ? "error" : level >= 30 ? "warning" : "", stamp, make("span", "", text)));
    }
    while (list.children.length > EVENTS_SHOWN) list.lastChild.remove();
  },
};

function alarm(reason, faults) {
  const banner = find("#alarm");
  const sentences = [...new Set([...(reason ? [reason] : []), ...faults])];
  const told = JSON.stringify([reason, sentences]);
  if (banner.dataset.told === told) return;
  banner.dataset.told = told;
  banner.classList.toggle("grave", Boolean(reason));
  const head = make("strong", "", reason ? "The car has stopped itself." : "Something is wrong.");
  banner.replaceChildren(...(sentences.length ? [head, ...sentences.map((text) => make("span", "", text))] : []));
}

function balance(row, value, word) {
  const bar = row.querySelector("i");
  bar.style.left = `${50 + 50 * Math.min(0, value)}%`;
  bar.style.width = `${50 * Math.abs(value)}%`;
  write(row.querySelector("b"), `${Math.round(100 * Math.abs(value))} %${word ? ` ${word}` : ""}`);
}

let lapsShown = "";

function laps(times, first) {
  const told = [first, ...times].join();
  if (told === lapsShown) return;
  lapsShown = told;
  const best = Math.min(...times);
  const widest = Math.max(0.5, Math.max(...times) - best);
  write(find("#best"), times.length ? minutes(best) : "–");
  write(find("#last"), times.length ? minutes(times.at(-1)) : "–");
  const winner = times.indexOf(best);
  const rows = times.map((time, place) => {
    const bar = make("i", "");
    bar.style.width = `${(100 * (time - best)) / widest}%`;
    const remark = place === winner ? "best" : `+${(time - best).toFixed(2)}`;
    return make(
      "li",
      place === winner ? "best" : "",
      make("span", "number", String(first + place)),
      make("b", "", minutes(time)),
      make("span", "bar", bar),
      make("span", "remark", remark),
    );
  });
  find("#laps ol").replaceChildren(...rows.reverse());
}

// What is asked of the car ---------------------------------------------------------------------------------------

let refusalTimer;

function refuse(sentence) {
  write(find("#refusal"), sentence);
  clearTimeout(refusalTimer);
  refusalTimer = setTimeout(() => write(find("#refusal"), ""), 1000 * REFUSAL_SHOWN);
}

/** Ask for a change; true when the car obeys, false when it does not, which is then shown, null when it is not reached. */
async function ask(verb, wish = {}, patience = 5) {
  try {
    const answer = await fetch(`/api/${verb}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(wish),
      signal: AbortSignal.timeout(1000 * patience),
    });
    if (answer.ok) return true;
    const { error } = await answer.json().catch(() => ({}));
    refuse(error ?? "The car could not do that; its log says why.");
    return false;
  } catch {
    return null;
  }
}

async function order(verb, wish, patience) {
  write(find("#refusal"), "");
  const obeyed = await ask(verb, wish, patience);
  if (obeyed === null) refuse("That did not reach the car.");
  return obeyed;
}

/** A stop is worth more than one try. */
async function stop() {
  const end = seconds() + 5;
  while ((await ask("stop", {}, 1)) === null) {
    if (seconds() > end) return refuse("The stop did not reach the car: take it off the ground.");
    refuse("The stop has not reached the car yet; trying again.");
    await new Promise((again) => setTimeout(again, 200));
  }
  write(find("#refusal"), "");
}

const controls = {
  told: {},
  held: 0, // until then the slider is in somebody's hand
  sending: false,

  /** The car's word moves a control only when it changes: a choice that is being made stays. */
  differs(name, value) {
    const differs = this.told[name] !== value;
    this.told[name] = value;
    return differs;
  },

  state({ mode, model, loading, max_speed: limit }) {
    if (this.differs("mode", mode)) {
      for (const choice of document.querySelectorAll("#mode input")) choice.checked = choice.value === mode;
      find("#mode-note").hidden = mode !== "manual";
    }
    const select = find("#model");
    if (this.differs("model", loading ?? model)) select.value = loading ?? model ?? "";
    write(find("#loading"), loading ? `Loading ${loading}; the car stands until you start it.` : "");
    find("#settings").classList.toggle("loading", Boolean(loading));
    const slider = find("#max-speed");
    slider.disabled = false;
    if (seconds() > this.held) {
      const percent = String(Math.round(100 * limit));
      if (slider.value !== percent || this.differs("limit", percent)) this.slide(percent);
    }
  },

  models(models) {
    const select = find("#model");
    const options = models.map(({ name }) => new Option(name, name));
    const nobody = new Option(models.length ? "Choose a model" : "No model is installed", "");
    nobody.disabled = true;
    select.replaceChildren(nobody, ...options);
    select.value = this.told.model ?? "";
    select.disabled = !models.length;
  },

  slide(percent) {
    const slider = find("#max-speed");
    slider.value = percent;
    slider.style.setProperty("--part", `${percent}%`);
    slider.setAttribute("aria-valuetext", `${percent} per cent`);
    write(find("#max-speed-value"), `${percent} %`);
  },

  /** One order at a time; the newest place of the slider is never left out. */
  async limit() {
    const slider = find("#max-speed");
    this.slide(slider.value);
    this.held = seconds() + 1;
    if (this.sending) return;
    this.sending = true;
    let sent = null;
    while (sent !== slider.value) {
      sent = slider.value;
      await order("max_speed", { percent: Number(sent) });
    }
    this.sending = false;
  },
};

find("#start").addEventListener("click", () => order("start"));
find("#stop").addEventListener("click", stop);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.repeat) stop();
});
find("#max-speed").addEventListener("input", () => controls.limit());
find("#mode").addEventListener("change", async (event) => {
  if (!(await order("mode", { mode: event.target.value }))) controls.told.mode = null;
});
find("#model").addEventListener("change", async (event) => {
  if (!(await order("model", { name: event.target.value }, 120))) controls.told.model = null;
});

// The link -------------------------------------------------------------------------------------------------------

const camera = find("#camera img");

/** A page that nobody looks at asks for no pictures: they cost the car time, and a browser has few connections. */
function look() {
  if (document.hidden || !link.alive) camera.removeAttribute("src");
  else camera.src = `/camera.mjpeg?${Date.now()}`;
}

const link = {
  socket: null,
  alive: false,
  heard: seconds(),
  tries: 0,

  open() {
    const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/ws`);
    this.socket = socket;
    this.heard = seconds();
    socket.onmessage = ({ data }) => socket === this.socket && this.hear(JSON.parse(data));
    socket.onclose = () => socket === this.socket && this.lose();
  },

  hear(message) {
    this.heard = seconds();
    if (!this.alive) this.begin();
    for (const [what, news] of Object.entries(message)) show[what]?.(news, message.t);
  },

  async begin() {
    [this.alive, this.tries] = [true, 0];
    document.body.classList.remove("waiting");
    find("#events ol").replaceChildren();
    look();
    const track = await fetch("/api/track")
      .then((answer) => answer.json())
      .catch(() => null);
    for (const part of ["map", "speed", "lap", "laps"]) find(`#${part}`).hidden = !track;
    document.body.classList.toggle("trackside", Boolean(track));
    if (track) {
      write(find("#map-name"), track.title);
      map.show(track);
    }
  },

  lose() {
    this.socket = null;
    this.alive = false;
    const wait = Math.min(LONGEST_WAIT, 0.25 * 2 ** this.tries++) * (0.75 + Math.random() / 2);
    setTimeout(() => this.socket ?? this.open(), 1000 * wait);
  },

  watch() {
    const silent = seconds() - this.heard;
    const old = silent > SILENCE || !this.alive;
    const never = document.body.classList.contains("waiting");
    document.body.classList.toggle("old", old && !never);
    const sentence = never
      ? "There is no answer from the car; trying again."
      : "The link to the car is lost; trying again. What you see is old, and the car drives on without this page.";
    write(find("#lost"), old && (silent > SILENCE || !never) ? sentence : "");
    if (old && !never) write(find("#doing"), "Link lost");
    if (this.socket && silent > DEAD) {
      this.socket.close();
      this.lose();
    }
  },
};

document.addEventListener("visibilitychange", look);
addEventListener("online", () => link.socket ?? link.open());
setInterval(() => link.watch(), 250);
(function picture() {
  map.move();
  requestAnimationFrame(picture);
})();
link.open();
