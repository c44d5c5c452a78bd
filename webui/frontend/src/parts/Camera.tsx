// The camera's stream, with the LiDAR over it; pictures are asked for only while somebody looks.

import { signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { about, alive, hidden, scan, state } from "../link";
import { Scan } from "./Polar";

const streaming = signal(true);
const scanning = signal(true);

export function Camera() {
  const frame = useRef<HTMLDivElement>(null);
  const image = useRef<HTMLImageElement>(null);
  const which = useSignal(0);
  const rate = state.value?.rates.camera ?? 0;
  const looking = streaming.value && alive.value && !hidden.value;
  const cameras = about.value?.cameras ?? 1;

  useEffect(() => {
    const picture = image.current;
    if (!looking || !picture) return;
    picture.src = `/camera.mjpeg?camera=${which.value}&at=${Date.now()}`;
    // A browser ends the stream of an image only when it has lost its address.
    return () => picture.removeAttribute("src");
  }, [looking, which.value]);

  const enlarge = () =>
    void (document.fullscreenElement ? document.exitFullscreen() : frame.current?.requestFullscreen());
  return (
    <section id="camera" class={`card ${rate && looking ? "" : "blind"}`} aria-labelledby="camera-title">
      <h2 id="camera-title">Camera</h2>
      <p class="aside" id="camera-rate">{rate ? `${rate.toFixed(0)} pictures a second` : ""}</p>
      <div class="picture" ref={frame}>
        <img ref={image} alt="What the car sees" />
        <p>{streaming.value ? "No picture" : "The video stream is off"}</p>
        {scan.value && scanning.value && <Scan values={scan.value} />}
        {document.fullscreenEnabled && (
          <button type="button" class="corner" aria-label="Full screen" title="Full screen" onClick={enlarge}>
            <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5" /></svg>
          </button>
        )}
      </div>
      <div class="tools">
        <label class="switch">
          <input
            type="checkbox"
            role="switch"
            checked={streaming.value}
            onChange={({ currentTarget }) => (streaming.value = currentTarget.checked)}
          />
          <span>Video stream</span>
        </label>
        {scan.value && (
          <label class="switch">
            <input
              type="checkbox"
              role="switch"
              checked={scanning.value}
              onChange={({ currentTarget }) => (scanning.value = currentTarget.checked)}
            />
            <span>LiDAR</span>
          </label>
        )}
        {cameras > 1 && (
          <button type="button" class="plain" onClick={() => (which.value = (which.value + 1) % cameras)}>
            Camera {which.value + 1} of {cameras}
          </button>
        )}
      </div>
    </section>
  );
}
