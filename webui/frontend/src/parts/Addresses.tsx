// Where this car is found on the network, and how it changes to another one.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { ask, sentence, watching, type Network } from "../link";
import { PasswordField, Show } from "./Password";

const JOINING = 90; // seconds: a new network's 45, and the way back to the old one

export function Addresses() {
  const network = useSignal<Network | null>(null);
  const problem = useSignal("");
  const choosing = useSignal(false);

  const read = () =>
    ask<Network>("GET", "/api/v1/network").then(
      (answer) => (network.value = answer),
      (error) => (problem.value = sentence(error)),
    );
  useEffect(() => void read(), []);

  const list = (entries: string[]) =>
    entries.length ? entries.map((entry) => <span key={entry}>{entry}</span>) : <span>none</span>;
  const { addresses = [], names = [], reason = "", wifi = null } = network.value ?? {};
  return (
    <>
      {problem.value && <p class="problem" role="alert">{problem}</p>}
      <dl class="facts">
        {wifi && <><dt>Wi-Fi</dt><dd>{wifi.ssid ? `${wifi.ssid}, ${wifi.strength ?? 0} %` : "not connected"}</dd></>}
        <dt>Addresses</dt><dd>{list(addresses)}</dd>
        <dt>Names</dt><dd>{list(names)}</dd>
        {wifi?.hardware_address && <><dt>Hardware address</dt><dd>{wifi.hardware_address}</dd></>}
      </dl>
      {reason && <p class="hint">{reason}</p>}
      {wifi && !choosing.value && (
        <div class="row">
          <button type="button" disabled={watching.value} onClick={() => (choosing.value = true)}>Choose a network</button>
        </div>
      )}
      {wifi && choosing.value && (
        <Choice
          known={wifi.known}
          onDone={() => {
            choosing.value = false;
            void read();
          }}
        />
      )}
    </>
  );
}

type Seen = { ssid: string; strength: number; security: string };

function Choice({ known, onDone }: { known: string[]; onDone: () => void }) {
  const seen = useSignal<Seen[] | null>(null);
  const ssid = useSignal("");
  const named = useSignal(false);
  const password = useSignal("");
  const shown = useSignal(false);
  const busy = useSignal(false);
  const problem = useSignal("");

  const look = () =>
    ask<Seen[]>("GET", "/api/v1/network/seen").then(
      (answer) => (seen.value = answer),
      (error) => (problem.value = sentence(error)),
    );
  useEffect(() => void look(), []);

  async function send(path: string, wish: object) {
    busy.value = true;
    problem.value = "";
    try {
      await ask("POST", path, wish, JOINING);
      onDone();
    } catch (error) {
      problem.value = sentence(error);
      busy.value = false;
    }
  }

  function join(event: Event) {
    event.preventDefault();
    void send("/api/v1/network/join", { ssid: ssid.value, password: password.value, hidden: named.value });
  }

  return (
    <form class="form" onSubmit={join}>
      {named.value ? (
        <div class="field">
          <label for="ssid">Name of the network</label>
          <input id="ssid" value={ssid.value} maxLength={32} autocapitalize="off" spellcheck={false}
            onInput={({ currentTarget }) => (ssid.value = currentTarget.value)} />
        </div>
      ) : (
        <div class="field">
          <label for="seen">Network</label>
          <div class="choice">
            <select id="seen" value={ssid.value} onChange={({ currentTarget }) => (ssid.value = currentTarget.value)}>
              <option value="" disabled>{seen.value ? "Choose a network" : "Looking for networks"}</option>
              {seen.value?.map(({ ssid: name, strength, security }) => (
                <option key={name} value={name}>{`${name} (${strength} %, ${security})`}</option>
              ))}
            </select>
          </div>
        </div>
      )}
      <label class="switch">
        <input type="checkbox" checked={named.value}
          onChange={({ currentTarget }) => (named.value = currentTarget.checked)} />
        <span>The network hides its name</span>
      </label>
      <PasswordField id="wifi-password" label="Password of the network" value={password} shown={shown.value}
        complete="off" optional />
      <Show shown={shown} label="Show the network's password" />
      <p class="problem" role="alert">{problem}</p>
      <p class="hint" role="status">{busy.value ? "The car is changing the network; this can take a minute." : ""}</p>
      <div class="row">
        <button type="submit" class="main" disabled={!ssid.value || busy.value || watching.value}>Connect</button>
        <button type="button" class="plain" disabled={busy.value} onClick={() => void look()}>Look again</button>
        {known.includes(ssid.value) && (
          <button type="button" class="plain" disabled={busy.value}
            onClick={() => void send("/api/v1/network/forget", { ssid: ssid.value })}>
            Forget it
          </button>
        )}
        <button type="button" class="plain" disabled={busy.value} onClick={onDone}>Cancel</button>
      </div>
    </form>
  );
}
