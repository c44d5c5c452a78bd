// Models: what is installed, what is being uploaded, and what each may do.

import { signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { ask, judge, models, refuse, sentence, session, UNREACHED, UNSAID, watching, type Model } from "../link";
import { Dialog } from "../parts/Dialog";
import { ActionSpace } from "../parts/Polar";
import { bytes, day } from "../words";

const NAME = /^[A-Za-z0-9._ -]{1,100}$/;
const MISNAMED = "A model's name has 1 to 100 letters, digits, spaces, dots, dashes or underscores.";

type Upload = {
  file: File;
  name: string;
  part: number;
  state: "waiting" | "sending" | "checking" | "installed" | "failed";
  problem: string;
  replaceable: boolean;
};

const uploads = signal<Upload[]>([]);
let underWay: { upload: Upload; request: XMLHttpRequest } | null = null;

function change(upload: Upload, news: Partial<Upload>) {
  Object.assign(upload, news);
  uploads.value = [...uploads.value];
}

function forget(upload: Upload) {
  uploads.value = uploads.value.filter((each) => each !== upload);
  if (underWay?.upload === upload) underWay.request.abort();
}

async function list() {
  models.value = await ask<Model[]>("GET", "/api/v1/models");
}

function fail(upload: Upload, problem: string, replaceable = false) {
  change(upload, { state: "failed", problem, replaceable });
}

/** The answer's status and sentence. */
function send(upload: Upload, replace: boolean): Promise<[number, string]> {
  const request = new XMLHttpRequest();
  underWay = { upload, request };
  return new Promise((done) => {
    request.open("PUT", `/api/v1/models/${encodeURIComponent(upload.name)}${replace ? "?replace=true" : ""}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("X-CSRF-Token", session.value?.csrf ?? "");
    request.upload.onprogress = ({ loaded, total }) => {
      change(upload, { part: total ? loaded / total : 0, state: loaded === total ? "checking" : "sending" });
    };
    request.onloadend = () => {
      underWay = null;
      let said: { error?: string; must_change?: boolean } | null = null;
      try {
        said = JSON.parse(request.responseText);
      } catch {
        // What is no JSON says nothing.
      }
      judge(request.status, said);
      done([request.status, request.status ? (said?.error ?? UNSAID) : UNREACHED]);
    };
    request.send(upload.file);
  });
}

/** One archive at a time, for the car has other things to do. */
async function work() {
  if (underWay) return;
  for (let next; (next = uploads.value.find((each) => each.state === "waiting")); ) {
    const upload = next;
    change(upload, { state: "sending", part: 0, problem: "" });
    const [status, said] = await send(upload, upload.replaceable);
    if (status >= 200 && status < 300) change(upload, { state: "installed", part: 1 });
    else fail(upload, said, status === 409 && !upload.replaceable);
    await list().catch(() => {});
  }
}

function take(files: Iterable<File>) {
  for (const file of files) {
    const name = file.name.replace(/\.(tar\.gz|tgz|tar)$/i, "");
    const upload: Upload = { file, name, part: 0, state: "waiting", problem: "", replaceable: false };
    uploads.value = [...uploads.value.filter((each) => each.name !== name || each.state === "sending"), upload];
    if (!NAME.test(name)) fail(upload, MISNAMED);
    else if (models.value?.some((each) => each.name === name)) {
      fail(upload, "A model of this name is on the car already.", true);
    }
  }
  void work();
}

const WORDS: Record<Model["status"], string> = { ready: "Ready", unfit: "Does not fit this car", damaged: "Damaged" };

const SENSORS: Record<string, string> = {
  FRONT_FACING_CAMERA: "Camera",
  SINGLE_CAMERA: "Camera",
  STEREO_CAMERAS: "Stereo cameras",
  LEFT_CAMERA: "Left camera",
  LIDAR: "LiDAR",
  SECTOR_LIDAR: "Sector LiDAR",
  DISCRETIZED_SECTOR_LIDAR: "Sector LiDAR",
};

const plain = (word: string) => {
  const words = word.replaceAll("_", " ").toLowerCase();
  return words.charAt(0).toUpperCase() + words.slice(1);
};

function short({ actions }: Model): string {
  if (!actions) return "–";
  const speeds = actions.type === "discrete" ? actions.actions.map((each) => each.speed) : actions.speed;
  const top = `up to ${Math.max(...speeds)} m/s`;
  return actions.type === "discrete" ? `${actions.actions.length} actions, ${top}` : `Continuous, ${top}`;
}

export function Models() {
  const chosen = useSignal<string[]>([]);
  const asking = useSignal(false);
  const over = useSignal(false);
  const byName = useSignal(false);
  const picker = useRef<HTMLInputElement>(null);
  const installed = models.value ?? [];
  const marked = installed.filter(({ name }) => chosen.value.includes(name));
  const order = byName.value
    ? (a: Model, b: Model) => a.name.localeCompare(b.name)
    : (a: Model, b: Model) => b.installed - a.installed;

  useEffect(() => {
    list().catch((error) => refuse(sentence(error)));
    return () => (uploads.value = uploads.value.filter(({ state }) => state !== "installed"));
  }, []);

  async function remove(names: string[]) {
    const problems: string[] = [];
    for (const name of names) {
      const path = `/api/v1/models/${encodeURIComponent(name)}`;
      await ask("DELETE", path).catch((error) => problems.push(sentence(error)));
    }
    chosen.value = [];
    refuse(problems.join(" "));
    await list().catch(() => {});
  }

  const mark = (name: string, on: boolean) => {
    chosen.value = on ? [...chosen.value, name] : chosen.value.filter((each) => each !== name);
  };

  return (
    <div
      class={`page ${over.value ? "over" : ""}`}
      onDragOver={(event) => {
        event.preventDefault();
        over.value = true;
      }}
      onDragLeave={({ currentTarget, relatedTarget }) => {
        if (!currentTarget.contains(relatedTarget as Node | null)) over.value = false;
      }}
      onDrop={(event) => {
        event.preventDefault();
        over.value = false;
        take(event.dataTransfer?.files ?? []);
      }}
    >
      <div class="page-head">
        <h1 tabIndex={-1}>Models</h1>
        <div class="row">
          <input
            ref={picker}
            type="file"
            hidden
            multiple
            accept=".gz,.tgz,.tar,application/gzip,application/x-tar"
            aria-label="Model archives"
            onChange={({ currentTarget }) => {
              take([...(currentTarget.files ?? [])]);
              currentTarget.value = "";
            }}
          />
          <button
            type="button"
            class="plain"
            id="delete"
            disabled={!marked.length || watching.value}
            onClick={() => (asking.value = true)}
          >
            {marked.length > 1 ? `Delete ${marked.length}` : "Delete"}
          </button>
          <button
            type="button"
            class="main"
            id="upload"
            disabled={watching.value}
            onClick={() => picker.current?.click()}
          >
            Upload
          </button>
        </div>
      </div>

      {uploads.value.length > 0 && (
        <section class="card" aria-labelledby="uploads-title">
          <h2 id="uploads-title">Uploads</h2>
          <ul class="uploads">{uploads.value.map((upload) => <UploadRow key={upload.name} upload={upload} />)}</ul>
        </section>
      )}

      <section class="card" aria-labelledby="installed-title">
        <h2 id="installed-title">
          {models.value ? `${installed.length} on this car` : "Looking at what is installed"}
        </h2>
        {installed.length > 1 && (
          <label class="switch">
            <input
              type="checkbox"
              role="switch"
              checked={byName.value}
              onChange={({ currentTarget }) => (byName.value = currentTarget.checked)}
            />
            <span>By name, not by date</span>
          </label>
        )}
        {installed.length > 0 && (
          <ul class="models">
            {installed.toSorted(order).map((model) => (
              <ModelRow
                key={model.name}
                model={model}
                marked={chosen.value.includes(model.name)}
                onMark={(on) => mark(model.name, on)}
              />
            ))}
          </ul>
        )}
        <p class="drop">
          {installed.length ? "Drop" : "No model is installed. Drop"} model archives (.tar.gz) here, or choose Upload.
        </p>
      </section>

      {asking.value && (
        <Dialog
          title={marked.length > 1 ? `Delete ${marked.length} models?` : "Delete this model?"}
          yes="Delete"
          onYes={() => void remove(marked.map(({ name }) => name))}
          onClose={() => (asking.value = false)}
        >
          <ul>{marked.map(({ name }) => <li key={name}>{name}</li>)}</ul>
          <p class="hint">They go from the car for good; upload them again to have them back.</p>
        </Dialog>
      )}
    </div>
  );
}

function UploadRow({ upload }: { upload: Upload }) {
  const { name, file, part, state, problem, replaceable } = upload;
  const going = state === "waiting" || state === "sending" || state === "checking";
  return (
    <li class={state}>
      <div>
        <b>{name}</b>
        <p class={state === "failed" ? "problem" : "hint"} role="status">
          {state === "failed"
            ? problem
            : state === "installed"
              ? "Installed."
              : state === "waiting"
                ? `${bytes(file.size)}, waiting`
                : state === "checking"
                  ? "Sent; the car is checking it."
                  : `${Math.round(100 * part)} % of ${bytes(file.size)}`}
        </p>
        {going && <progress aria-label={`Upload of ${name}`} value={state === "checking" ? undefined : part} max={1} />}
      </div>
      <div class="row">
        {state === "failed" && replaceable && (
          <button
            type="button"
            onClick={() => {
              change(upload, { state: "waiting" });
              void work();
            }}
          >
            Replace
          </button>
        )}
        <button
          type="button"
          class="plain"
          aria-label={going ? `Cancel the upload of ${name}` : `Dismiss ${name}`}
          onClick={() => forget(upload)}
        >
          {going ? "Cancel" : "Dismiss"}
        </button>
      </div>
    </li>
  );
}

function ModelRow({ model, marked, onMark }: { model: Model; marked: boolean; onMark: (on: boolean) => void }) {
  const open = useSignal(false);
  const { name, size, installed, sensors, network, algorithm, actions, status, reason, active } = model;
  const id = `details-${encodeURIComponent(name)}`;
  return (
    <li class={status}>
      <label class="mark-box">
        <input
          type="checkbox"
          checked={marked}
          aria-label={`Mark ${name}`}
          onChange={({ currentTarget }) => onMark(currentTarget.checked)}
        />
      </label>
      <div class="what">
        <h3>{name}</h3>
        <p class="hint">{bytes(size)} · {day(installed)}</p>
        <p class="hint">{[...sensors.map((sensor) => SENSORS[sensor] ?? plain(sensor)), short(model)].join(" · ")}</p>
      </div>
      <p class="status">
        <span class="badge">{active ? "Loaded" : WORDS[status]}</span>
        {reason && <span class="reason">{reason}</span>}
      </p>
      <button
        type="button"
        class="plain"
        aria-expanded={open.value}
        aria-controls={id}
        aria-label={`Details of ${name}`}
        onClick={() => (open.value = !open.value)}
      >
        Details
      </button>
      {open.value && (
        <div class="details" id={id}>
          {actions && <ActionSpace name={name} actions={actions} />}
          {!actions && <p class="hint">Its action space cannot be read.</p>}
          <dl class="facts">
            <dt>Network</dt><dd>{network ? plain(network) : "unknown"}</dd>
            <dt>Trained by</dt><dd>{algorithm ? plain(algorithm) : "unknown"}</dd>
            <dt>Actions</dt><dd>{short(model)}</dd>
          </dl>
        </div>
      )}
    </li>
  );
}
