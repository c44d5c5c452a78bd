// Settings: the network, the password, the tail light, the computer, and what this car is.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { about, ask, lock, sentence, type About } from "../link";
import { Addresses } from "../parts/Addresses";
import { Card } from "../parts/Card";
import { Computer, RemoteShell } from "../parts/Computer";
import { Dialog } from "../parts/Dialog";
import { NewPassword } from "../parts/Password";
import { bytes } from "../words";

type Colour = { red: number; green: number; blue: number };
type Light = Colour & { available: boolean; reason: string | null };

const COLOURS: [string, Colour][] = [
  ["Red", { red: 255, green: 0, blue: 0 }],
  ["Marigold", { red: 255, green: 130, blue: 0 }],
  ["Orchid Purple", { red: 128, green: 0, blue: 128 }],
  ["Sky Blue", { red: 30, green: 144, blue: 255 }],
  ["Green", { red: 124, green: 252, blue: 0 }],
  ["Violet", { red: 255, green: 0, blue: 255 }],
  ["Lime", { red: 255, green: 255, blue: 0 }],
  ["Default", { red: 0, green: 0, blue: 255 }],
];

const hex = ({ red, green, blue }: Colour) =>
  `#${[red, green, blue].map((part) => part.toString(16).padStart(2, "0")).join("")}`;
const unhex = (code: string): Colour => {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => parseInt(code.slice(at, at + 2), 16));
  return { red, green, blue };
};

export function Settings() {
  return (
    <div class="page">
      <div class="page-head"><h1 tabIndex={-1}>Settings</h1></div>
      <div class="stacks">
        <Card id="network" title="Network"><Addresses /></Card>
        <Password />
        <TailLight />
        <RemoteShell />
        <Computer />
        <Description />
        <CheckUp />
      </div>
    </div>
  );
}

function Password() {
  const open = useSignal(false);
  const done = useSignal(false);
  const asking = useSignal(false);
  const problem = useSignal("");

  const everywhere = () =>
    ask("POST", "/api/v1/logout_everywhere", {}).then(lock, (error) => (problem.value = sentence(error)));

  return (
    <Card id="passwords" title="Console password">
      <p class="hint" role="status">
        {done.value
          ? "The password is changed, and everybody else is logged out."
          : "Everybody who drives this car knows it. A change logs all others out."}
      </p>
      {open.value ? (
        <NewPassword
          onDone={() => {
            open.value = false;
            done.value = true;
          }}
        />
      ) : (
        <div class="row">
          <button type="button" onClick={() => (open.value = true)}>Change password</button>
          <button type="button" class="plain" onClick={() => (asking.value = true)}>Log out everywhere</button>
        </div>
      )}
      <p class="problem" role="alert">{problem}</p>
      {asking.value && (
        <Dialog title="Log out everywhere?" yes="Log out everywhere" onYes={() => void everywhere()}
          onClose={() => (asking.value = false)}>
          <p>Everybody, you too, must type the password again.</p>
        </Dialog>
      )}
    </Card>
  );
}

function TailLight() {
  const light = useSignal<Light | null>(null);
  const chosen = useSignal<string | null>(null);
  const said = useSignal("");
  const problem = useSignal("");

  useEffect(() => {
    ask<Light>("GET", "/api/v1/light").then(
      (answer) => (light.value = answer),
      (error) => (problem.value = sentence(error)),
    );
  }, []);

  async function save() {
    if (!chosen.value) return;
    try {
      light.value = await ask<Light>("PUT", "/api/v1/light", unhex(chosen.value));
      chosen.value = null;
      [said.value, problem.value] = ["The light has its new colour.", ""];
    } catch (error) {
      problem.value = sentence(error);
    }
  }

  const choose = (code: string) => {
    chosen.value = code;
    said.value = "";
  };
  const now = light.value;
  const code = chosen.value ?? (now ? hex(now) : "#000000");
  return (
    <Card id="light" title="Tail light">
      {now && !now.available && <p class="hint">{now.reason}</p>}
      {now?.available && (
        <>
          <fieldset class="colours">
            <legend>Colour</legend>
            {COLOURS.map(([name, colour]) => (
              <label key={name}>
                <input type="radio" name="colour" value={hex(colour)} checked={code === hex(colour)}
                  onChange={() => choose(hex(colour))} />
                <i style={{ background: hex(colour) }} aria-hidden="true" />
                <span>{name}</span>
              </label>
            ))}
          </fieldset>
          <div class="row">
            <label class="own">
              <input type="color" value={code} onInput={({ currentTarget }) => choose(currentTarget.value)} />
              <span>Another colour</span>
            </label>
            <button type="button" class="main" disabled={chosen.value === null} onClick={save}>Save</button>
            {chosen.value !== null && (
              <button type="button" class="plain" onClick={() => (chosen.value = null)}>Cancel</button>
            )}
          </div>
        </>
      )}
      <p class="hint" role="status">{said}</p>
      <p class="problem" role="alert">{problem}</p>
    </Card>
  );
}

function Description() {
  useEffect(() => {
    ask<About>("GET", "/api/v1/about").then((answer) => (about.value = answer), () => {});
  }, []);
  const now = about.value;
  const facts: [string, string][] = now
    ? [
        ["hotlap", now.hotlap || "unknown"],
        ["Software update", now.update.text],
        ["Hardware", now.hardware],
        ["Cameras", String(now.cameras)],
        ["LiDAR", now.lidar ? "fitted" : "none"],
        ["Battery gauge", now.battery ? "fitted" : "none"],
        ["Operating system", now.os],
        ["Processor", now.processor],
        ["Memory", now.memory ? bytes(now.memory) : "unknown"],
        ["Disk", `${bytes(now.disk.free)} free of ${bytes(now.disk.total)}`],
        ["OpenVINO", now.openvino],
        ["Python", now.python],
      ]
    : [];
  return (
    <Card id="about" title="About">
      <dl class="facts">
        {facts.map(([name, value]) => (
          <>
            <dt>{name}</dt><dd>{value}</dd>
          </>
        ))}
        {now && (
          <>
            <dt>Certificate</dt>
            <dd><code>{now.certificate.fingerprint || "none: this page came without encryption"}</code></dd>
          </>
        )}
      </dl>
      {now?.certificate.fingerprint && (
        <p class="hint">SHA-256. Your browser shows the same figures when this page really comes from the car.</p>
      )}
    </Card>
  );
}

type Finding = { what: string; state: "ok" | "warn" | "bad" | "absent"; sentence: string; advice: string };

const VERDICTS: Record<Finding["state"], string> = { ok: "Well", warn: "Doubtful", bad: "Wrong", absent: "Not there" };

function CheckUp() {
  const findings = useSignal<Finding[] | null>(null);
  const busy = useSignal(false);
  const problem = useSignal("");

  async function look() {
    busy.value = true;
    problem.value = "";
    try {
      findings.value = await ask<Finding[]>("GET", "/api/v1/doctor", undefined, 30);
    } catch (error) {
      problem.value = sentence(error);
    }
    busy.value = false;
  }

  return (
    <Card id="check-up" title="Check-up">
      <p class="hint" role="status">
        {busy.value ? "Looking at the car." : "What is wired, found, permitted and working. Nothing moves."}
      </p>
      {findings.value && (
        <ul class="findings">
          {findings.value.map(({ what, state, sentence, advice }) => (
            <li key={what} class={state}>
              <b>{what}</b> <span class="badge">{VERDICTS[state]}</span>
              <p>{sentence}</p>
              {advice && <p class="hint">{advice}</p>}
            </li>
          ))}
        </ul>
      )}
      <p class="problem" role="alert">{problem}</p>
      <div class="row"><button type="button" disabled={busy.value} onClick={() => void look()}>Look</button></div>
    </Card>
  );
}
