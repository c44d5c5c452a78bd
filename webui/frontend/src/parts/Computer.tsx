// The computer in the car: SSH, its name and time zone, restart and switching off.

import { useSignal, type Signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { ask, sentence, watching } from "../link";
import { Card } from "./Card";
import { Dialog } from "./Dialog";
import { PasswordField, Show } from "./Password";

type Ssh = { enabled: boolean; switchable: boolean; reason: string };
type SshPassword = { account: string; settable: boolean; was_set: boolean; reason: string };
type HostName = { name: string; changeable: boolean; reason: string };
type TimeZone = { zone: string; zones: string[]; changeable: boolean; reason: string };
type Power = { available: boolean; reason: string };

const SWITCHING = 60; // seconds: the unit that switches SSH, or sets its password, may take 40

/** What the car says there, as soon as it has said it. */
function useAnswer<T>(path: string, problem: Signal<string>): Signal<T | null> {
  const answer = useSignal<T | null>(null);
  useEffect(() => {
    ask<T>("GET", path).then(
      (said) => (answer.value = said),
      (error) => (problem.value = sentence(error)),
    );
  }, []);
  return answer;
}

export function RemoteShell() {
  const problem = useSignal("");
  const ssh = useAnswer<Ssh>("/api/v1/ssh", problem);
  const password = useAnswer<SshPassword>("/api/v1/ssh/password", problem);
  const busy = useSignal(false);

  async function turn(enabled: boolean) {
    busy.value = true;
    problem.value = "";
    try {
      ssh.value = await ask<Ssh>("PUT", "/api/v1/ssh", { enabled }, SWITCHING);
    } catch (error) {
      problem.value = sentence(error);
    }
    busy.value = false;
  }

  const now = ssh.value;
  return (
    <Card id="ssh" title="SSH">
      {now && !now.switchable && <p>{now.enabled ? "Enabled" : "Disabled"}</p>}
      {now?.switchable && (
        <label class="switch">
          <input type="checkbox" role="switch" checked={now.enabled} disabled={busy.value || watching.value}
            onChange={({ currentTarget }) => void turn(currentTarget.checked)} />
          <span>People may log in to this computer</span>
        </label>
      )}
      <p class="hint">{now?.reason || "They need a user's name and password of this computer, not the console's."}</p>
      <p class="hint" role="status">{busy.value ? "The car is switching SSH." : ""}</p>
      <p class="problem" role="alert">{problem}</p>
      {password.value?.settable && <ShellPassword account={password.value.account} />}
      {now && password.value && password.value.reason !== now.reason && <p class="hint">{password.value.reason}</p>}
    </Card>
  );
}

function ShellPassword({ account }: { account: string }) {
  const open = useSignal(false);
  const [own, fresh, again] = [useSignal(""), useSignal(""), useSignal("")];
  const shown = useSignal(false);
  const busy = useSignal(false);
  const said = useSignal("");
  const problem = useSignal("");
  const differ = again.value !== "" && again.value !== fresh.value;
  const ready = own.value && fresh.value.length >= 8 && again.value === fresh.value;

  function close(word: string) {
    own.value = fresh.value = again.value = problem.value = "";
    open.value = shown.value = false;
    said.value = word;
  }

  async function set(event: Event) {
    event.preventDefault();
    busy.value = true;
    problem.value = "";
    try {
      await ask("PUT", "/api/v1/ssh/password", { password: own.value, new: fresh.value }, SWITCHING);
      close(`The SSH password of ${account} is set.`);
    } catch (error) {
      problem.value = sentence(error);
    }
    busy.value = false;
  }

  return (
    <>
      <p class="hint" role="status">{said.value || `The name to log in with is ${account}.`}</p>
      {open.value ? (
        <form class="form" onSubmit={set}>
          <input hidden readOnly autocomplete="username" value={account} />
          <PasswordField id="shell-own" label="The console's password" value={own} shown={shown.value} complete="off" />
          <PasswordField id="shell-new" label="New SSH password" value={fresh} shown={shown.value}
            complete="new-password" hint="8 to 128 characters, not a common one, and not the console's." />
          <PasswordField id="shell-again" label="The new SSH password again" value={again} shown={shown.value}
            complete="new-password" />
          <Show shown={shown} label="Show passwords" />
          <p class="problem" role="alert">{problem.value || (differ ? "The two new passwords differ." : "")}</p>
          <div class="row">
            <button type="submit" class="main" disabled={!ready || busy.value}>Set the SSH password</button>
            <button type="button" class="plain" onClick={() => close("")}>Cancel</button>
          </div>
        </form>
      ) : (
        <div class="row">
          <button type="button" onClick={() => (open.value = true)}>Set the SSH password</button>
        </div>
      )}
    </>
  );
}

const ENDS = {
  reboot: {
    title: "Restart the car?",
    yes: "Restart",
    warning: "Its computer starts anew, which takes a minute or two. This page comes back with it.",
    done: "The car is restarting.",
  },
  power_off: {
    title: "Switch the car off?",
    yes: "Switch off",
    warning: "Only somebody beside the car can switch it on again.",
    done: "The car is switching itself off.",
  },
};

export function Computer() {
  const problem = useSignal("");
  const name = useAnswer<HostName>("/api/v1/host_name", problem);
  const zone = useAnswer<TimeZone>("/api/v1/time_zone", problem);
  const power = useAnswer<Power>("/api/v1/power", problem);
  const typed = useSignal("");
  const chosen = useSignal("");
  const end = useSignal<keyof typeof ENDS | null>(null);
  const busy = useSignal(false);
  const said = useSignal("");

  async function order(done: string, wish: () => Promise<unknown>) {
    busy.value = true;
    said.value = problem.value = "";
    try {
      await wish();
      said.value = done;
    } catch (error) {
      problem.value = sentence(error);
    }
    busy.value = false;
  }

  function rename(event: Event) {
    event.preventDefault();
    void order("The car goes by its new name from its next start.", async () => {
      name.value = await ask<HostName>("PUT", "/api/v1/host_name", { name: typed.value });
      typed.value = "";
    });
  }

  function move(event: Event) {
    event.preventDefault();
    void order("The time zone is set.", async () => {
      zone.value = await ask<TimeZone>("PUT", "/api/v1/time_zone", { zone: chosen.value });
      chosen.value = "";
    });
  }

  const closed = busy.value || watching.value;
  const reasons = [name.value?.reason, zone.value?.reason, power.value?.reason].filter(Boolean);
  const asked = end.value;
  return (
    <Card id="computer" title="Computer">
      <dl class="facts">
        <dt>Host name</dt><dd>{name.value?.name}</dd>
        <dt>Time zone</dt><dd>{zone.value && (zone.value.zone || "unknown")}</dd>
      </dl>
      {[...new Set(reasons)].map((reason) => <p key={reason} class="hint">{reason}</p>)}
      {name.value?.changeable && (
        <form class="form" onSubmit={rename}>
          <div class="field">
            <label for="host-name">New host name</label>
            <input id="host-name" value={typed.value} maxLength={63} autocapitalize="off" autocomplete="off"
              spellcheck={false} onInput={({ currentTarget }) => (typed.value = currentTarget.value)} />
          </div>
          <div class="row"><button type="submit" disabled={!typed.value || closed}>Rename</button></div>
        </form>
      )}
      {zone.value?.changeable && (
        <form class="form" onSubmit={move}>
          <div class="field">
            <label for="time-zone">New time zone</label>
            <div class="choice">
              <select id="time-zone" value={chosen.value}
                onChange={({ currentTarget }) => (chosen.value = currentTarget.value)}>
                <option value="" disabled>Choose a time zone</option>
                {zone.value.zones.map((each) => <option key={each} value={each}>{each}</option>)}
              </select>
            </div>
          </div>
          <div class="row"><button type="submit" disabled={!chosen.value || closed}>Set the time zone</button></div>
        </form>
      )}
      {power.value?.available && (
        <div class="row">
          <button type="button" disabled={closed} onClick={() => (end.value = "reboot")}>Restart</button>
          <button type="button" disabled={closed} onClick={() => (end.value = "power_off")}>Switch off</button>
        </div>
      )}
      <p class="hint" role="status">{said}</p>
      <p class="problem" role="alert">{problem}</p>
      {asked && (
        <Dialog title={ENDS[asked].title} yes={ENDS[asked].yes} onClose={() => (end.value = null)}
          onYes={() => void order(ENDS[asked].done, () => ask("POST", `/api/v1/${asked}`, {}))}>
          <p>{ENDS[asked].warning}</p>
        </Dialog>
      )}
    </Card>
  );
}
