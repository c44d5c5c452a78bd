// The link to the car: what it tells, as signals, and what is asked of it.

import { batch, computed, signal } from "@preact/signals";

const SILENCE = 1.5; // seconds after which what is shown counts as old
const DEAD = 5; // seconds of silence after which another link is tried
const LONGEST_WAIT = 5;
const REFUSAL_SHOWN = 10;
const EVENTS_SHOWN = 100;

export type Mode = "manual" | "autonomous" | "calibration";
export type Point = [number, number];
type Spread = { p50: number; p99: number };

export type Session = {
  unlocked: boolean;
  must_change: boolean;
  csrf: string | null;
  name: string | null;
  car: string;
};

export type CarState = {
  t: number;
  mode: Mode;
  engaged: boolean;
  applied: { steering: number; throttle: number };
  max_speed: number;
  frames: number;
  model: string | null;
  loading: string | null;
  rates: { camera: number; inference: number };
  latencies: { inference_ms: Spread; frame_to_pulse_ms: Spread; tick_late_ms: Spread };
  realtime: boolean;
  battery: number | null;
  network: string[];
  faults: string[];
  stopped_because: string | null;
};

export type Standing = {
  position: Point;
  heading: number;
  speed: number;
  progress: number;
  lap_time: number;
  lap_count: number;
  laps: number[];
  off_track: number;
};

export type Actions =
  | { type: "discrete"; actions: { steering_angle: number; speed: number }[] }
  | { type: "continuous"; steering_angle: [number, number]; speed: [number, number] };

export type Model = {
  name: string;
  size: number;
  installed: number;
  sensors: string[];
  network: string;
  algorithm: string;
  actions: Actions | null;
  status: "ready" | "unfit" | "damaged";
  reason: string | null;
  active: boolean;
};

export type Entry = { when: number; level: number; text: string; source?: string };
export type Wheel = { holder: string | null; yours: boolean; asked_by: string | null; asking: boolean };
export type Track = { name: string; title: string; centre: Point[]; inner: Point[]; outer: Point[] };

export type About = {
  hotlap: string;
  hardware: string;
  os: string;
  openvino: string;
  python: string;
  processor: string;
  memory: number;
  disk: { free: number; total: number };
  cameras: number;
  lidar: boolean;
  battery: boolean;
  update: { state: string; text: string };
  certificate: { fingerprint: string };
};

export type Wifi = { ssid: string | null; strength: number | null; hardware_address: string | null; known: string[] };
export type Network = { addresses: string[]; names: string[]; wifi: Wifi | null; reason: string };

export type News = {
  t: number;
  state?: CarState;
  standing?: Standing;
  latencies?: number[];
  events?: Entry[];
  models?: Model[];
  scan?: (number | null)[];
  wheel?: Wheel;
  refused?: string;
};

export const session = signal<Session | null>(null);
export const state = signal<CarState | null>(null);
export const standing = signal<Standing | null>(null);
export const models = signal<Model[] | null>(null);
export const events = signal<Entry[]>([]);
export const scan = signal<(number | null)[] | null>(null);
export const wheel = signal<Wheel | null>(null);
export const track = signal<Track | null>(null);
export const about = signal<About | null>(null);
/** The newest message, for whoever must see each one. */
export const news = signal<News>({ t: 0 });
export const alive = signal(false);
/** Why what is shown may be old, in one sentence; nothing while it is fresh. */
export const lost = signal("");
export const refusal = signal("");
export const hidden = signal(document.hidden);

/** Whether somebody else drives. */
export const watching = computed(() => Boolean(wheel.value?.holder && !wheel.value.yours));
/** Whether a hand's wishes reach the wheels. */
export const driving = computed(
  () => alive.value && !watching.value && state.value?.engaged === true && state.value.mode === "manual",
);

export const seconds = () => performance.now() / 1000;
export const pause = (length: number) => new Promise((done) => setTimeout(done, 1000 * length));

// What is asked of the car ---------------------------------------------------------------------------------------

/** The car has said no, in one sentence; status 0 when it was not reached. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    sentence: string,
  ) {
    super(sentence);
  }
}

/** The sentence of whatever was thrown. */
export const sentence = (error: unknown) => (error instanceof Error ? error.message : String(error));

export const UNREACHED = "That did not reach the car.";
export const UNSAID = "The car could not do that; its log says why.";
const SILENT = "There is no answer from the car; trying again.";
const LOST =
  "The link to the car is lost; trying again. What you see is old; a car that drives itself drives on.";

/** Take notice that nobody, or somebody who must choose a password, is logged in here. */
export function judge(status: number, answer: { must_change?: boolean } | null) {
  const now = session.value;
  if (!now) return;
  if (status === 401 && now.unlocked) lock();
  if (status === 403 && answer?.must_change) session.value = { ...now, must_change: true };
}

type Answer = { error?: string; must_change?: boolean };

async function send<T>(method: string, path: string, body: unknown, patience: number): Promise<T> {
  const csrf = session.value?.csrf;
  let answer: Response;
  try {
    answer = await fetch(path, {
      method,
      headers: {
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(csrf && method !== "GET" ? { "X-CSRF-Token": csrf } : {}),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(1000 * patience),
    });
  } catch {
    throw new Refused(0, UNREACHED);
  }
  const said = (await answer.json().catch(() => null)) as (T & Answer) | null;
  if (answer.ok) return said as T;
  if (path !== "/api/v1/login") judge(answer.status, said);
  throw new Refused(answer.status, said?.error ?? UNSAID);
}

/** Ask, and be told the answer. Throws Refused. */
export async function ask<T = unknown>(method: string, path: string, body?: unknown, patience = 8): Promise<T> {
  try {
    return await send<T>(method, path, body, patience);
  } catch (error) {
    // Another tab may have logged in anew since: then its token is the one that counts.
    const stale = error instanceof Refused && error.status === 403 && !session.value?.must_change;
    const token = session.value?.csrf;
    if (!stale || method === "GET") throw error;
    await enquire();
    if (session.value?.csrf === token || !session.value?.unlocked) throw error;
    return await send<T>(method, path, body, patience);
  }
}

let refusalTimer = 0;

export function refuse(sentence: string) {
  refusal.value = sentence;
  clearTimeout(refusalTimer);
  refusalTimer = setTimeout(() => (refusal.value = ""), 1000 * REFUSAL_SHOWN);
}

/** Ask for a change; true when the car obeys. When it does not, the page says why. */
export async function order(verb: string, wish: object = {}, patience = 8): Promise<boolean> {
  refuse("");
  try {
    await ask("POST", `/api/v1/${verb}`, wish, patience);
    return true;
  } catch (error) {
    refuse(sentence(error));
    return false;
  }
}

/** A stop is worth more than one try. */
export async function stop() {
  tell({ type: "stop" });
  const end = seconds() + 5;
  for (;;) {
    try {
      await ask("POST", "/api/v1/stop", {}, 1);
      return refuse("");
    } catch (error) {
      if (error instanceof Refused && error.status) return refuse(error.message);
    }
    if (seconds() > end) return refuse("The stop did not reach the car: take it off the ground.");
    refuse("The stop has not reached the car yet; trying again.");
    await pause(0.2);
  }
}

/** Ask who is logged in here; false when there is no answer. */
export async function enquire(): Promise<boolean> {
  try {
    admit(await send<Session>("GET", "/api/v1/session", undefined, 5));
    return true;
  } catch {
    return false;
  }
}

/** Somebody is logged in, or nobody any more. */
export function admit(now: Session) {
  session.value = now;
  if (now.unlocked && !now.must_change) open();
  else close();
}

export function lock() {
  const now = session.value;
  if (now) admit({ ...now, unlocked: false, must_change: false, csrf: null });
}

// What the car tells ---------------------------------------------------------------------------------------------

let socket: WebSocket | null = null;
let heard = 0;
let tries = 0;
let retry = 0;

function open() {
  if (socket) return;
  clearTimeout(retry);
  const mine = new WebSocket(`${location.origin.replace(/^http/, "ws")}/ws`);
  socket = mine;
  heard = seconds();
  mine.onmessage = ({ data }) => {
    if (mine === socket) hear(JSON.parse(data as string) as News);
  };
  mine.onclose = () => {
    if (mine === socket) lose();
  };
}

function hear(message: News) {
  heard = seconds();
  if (!alive.value) begin();
  batch(() => {
    if (message.state) state.value = message.state;
    if (message.standing) standing.value = message.standing;
    if (message.models) models.value = message.models;
    if (message.scan) scan.value = message.scan;
    if (message.wheel) wheel.value = message.wheel;
    if (message.refused) refuse(message.refused);
    if (message.events?.length) {
      events.value = [...message.events.toReversed(), ...events.value].slice(0, EVENTS_SHOWN);
    }
    news.value = message;
  });
}

function begin() {
  tries = 0;
  batch(() => {
    alive.value = true;
    lost.value = "";
    events.value = [];
    scan.value = null;
  });
  ask<Track | null>("GET", "/api/v1/track").then((answer) => (track.value = answer), () => {});
  ask<About>("GET", "/api/v1/about").then((answer) => (about.value = answer), () => {});
}

function lose() {
  socket = null;
  alive.value = false;
  const wait = Math.min(LONGEST_WAIT, 0.25 * 2 ** tries++) * (0.75 + Math.random() / 2);
  clearTimeout(retry);
  // The session may have ended, or gone on under another token: that is asked first.
  retry = setTimeout(() => void enquire().then((answered) => answered || lose()), 1000 * wait);
}

function close() {
  clearTimeout(retry);
  const old = socket;
  socket = null;
  old?.close();
  batch(() => {
    alive.value = false;
    lost.value = "";
    state.value = standing.value = scan.value = wheel.value = track.value = null;
    models.value = null;
    events.value = [];
  });
}

/** Say something over the link; what cannot leave at once is dropped, for it would be old when it arrives. */
export function tell(message: object): boolean {
  if (socket?.readyState !== WebSocket.OPEN || socket.bufferedAmount > 1024) return false;
  socket.send(JSON.stringify(message));
  return true;
}

function watch() {
  if (!session.value?.unlocked || session.value.must_change) return;
  const silent = seconds() - heard;
  const old = !alive.value || silent > SILENCE;
  if (!old) lost.value = "";
  else if (state.value) lost.value = LOST;
  else if (silent > SILENCE) lost.value = SILENT;
  if (socket && silent > DEAD) {
    socket.close();
    lose();
  }
}

/** Begin; call it once. */
export async function start() {
  addEventListener("online", () => session.value?.unlocked && !socket && enquire());
  document.addEventListener("visibilitychange", () => (hidden.value = document.hidden));
  setInterval(watch, 250);
  for (let wait = 0.25; !(await enquire()); wait = Math.min(LONGEST_WAIT, 2 * wait)) {
    lost.value = SILENT;
    await pause(wait);
  }
  lost.value = "";
}
