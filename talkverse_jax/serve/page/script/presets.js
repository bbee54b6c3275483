// Fast, good and best, and what they cost.

let presets = [];

// Steps of the presets `fast`, `good` and `best`, which the command line has too.
const STEPS = [12, 25, 50];

/** Fast, good and best; what the server has as its defaults is one of them. */
function makePresets() {
  const { settings, size_buckets: buckets } = page.model.capabilities;
  const usual = settings.num_inference_steps?.default ?? 1;
  const bucket = settings.size_bucket?.default ?? ""; // a model without tables of sizes has its own
  const byPixels = (bucket ? Object.keys(buckets) : [bucket]).sort((one, other) => pixels(sizeOf(one)) - pixels(sizeOf(other)));
  // Models that were distilled for a few steps need about those.
  const few = usual < STEPS[0];
  const ladder = few ? [Math.max(Math.min(usual, 4), Math.round(usual / 2)), usual, 2 * usual] : [...STEPS];
  const far = (steps) => Math.abs(Math.log(steps / usual));
  const own = few ? 1 : ladder.reduce((best, steps, index) => (far(steps) < far(ladder[best]) ? index : best), 0);
  ladder[own] = usual;
  const all = ["Fast", "Good", "Best"].map((name, index) => {
    const fitting = index === 2 ? byPixels.at(-1) : byPixels[0];
    return { name, steps: ladder[index], bucket: index === own ? bucket : fitting };
  });
  presets = all.filter((preset, index) => index === own || preset.steps !== usual || preset.bucket !== bucket);
  const choices = presets.map((preset) => {
    const radio = make("input", { type: "radio", name: "preset", id: `preset-${preset.name.toLowerCase()}` });
    radio.addEventListener("change", () => usePreset(preset));
    preset.radio = radio;
    preset.size = make("small");
    preset.cost = make("small", { className: "cost" });
    const label = make("label");
    label.append(radio, make("span", {}, make("b", { textContent: preset.name }), preset.size, preset.cost));
    return label;
  });
  $("presets")
    .querySelector(".choices")
    .replaceChildren(...choices);
  matchPreset();
}

function usePreset({ steps, bucket }) {
  $("steps").value = steps;
  $("size-bucket").value = bucket;
  matchPreset();
}

function matchPreset() {
  for (const preset of presets) {
    preset.radio.checked = Number($("steps").value) === preset.steps && $("size-bucket").value === preset.bucket;
  }
  showCosts();
}

const pixels = ([width, height]) => width * height;

/** Width and height that a bucket gives the picture: its size closest in shape. Without a bucket: none. */
function sizeOf(bucket) {
  if (!bucket) return [0, 0];
  const [width, height] = pictureSize();
  const shape = Math.log(width / height);
  const far = ([w, h]) => Math.abs(Math.log(w / h) - shape);
  return page.model.capabilities.size_buckets[bucket]
    .map((size) => size.split("x").map(Number))
    .reduce((best, size) => (far(size) < far(best) ? size : best));
}

/** Of the picture that was chosen; a square before. */
function pictureSize() {
  const picture = $("image-preview");
  return [picture.naturalWidth || picture.videoWidth || 1, picture.naturalHeight || picture.videoHeight || 1];
}

const framesOf = (settings) => settings?.infer_frames ?? settings?.frame_num ?? Number($("infer-frames").value || 80);
const guidanceOf = (settings) => settings.sample_guide_scale ?? settings.sample_text_guide_scale;
const branches = (scale) => (scale > 1 ? 2 : 1);

/**
 * Seconds of a step, and of all else, for a pixel of a clip, as this server took them for a video of about so many
 * clips (a first clip is cheaper than those that go on from it); null before its first video.
 */
function measured(count) {
  const found = page.videos.filter(({ status, timings }) => status === "completed" && timings?.denoising);
  if (!found.length) return null;
  const far = ({ clips }) => Math.abs(Math.log(clips / count));
  const nearest = found.reduce((best, video) => (far(video) < far(best) ? video : best));
  const { timings, clips, steps, settings, size } = nearest;
  const amount = clips * framesOf(settings) * pixels(size.split("x").map(Number));
  const passes = steps * branches(guidanceOf(settings));
  const rest = (timings.encoding ?? 0) + (timings.decoding ?? 0) + (timings.writing ?? 0);
  return { step: timings.denoising / amount / passes, rest: rest / amount };
}

/** Seconds of the sound that is chosen; null where it is not known. */
function soundSeconds() {
  const { duration } = $("audio-preview");
  if (!$("audio-preview").hidden && Number.isFinite(duration)) return duration;
  const source = $("image-preview");
  if (soundMode() === "file" && !$("audio").files.length && Number.isFinite(source.duration)) return source.duration;
  return soundMode() === "text" && $("tts-text").value ? $("tts-text").value.length / 14 : null;
}

function showCosts() {
  const seconds = soundSeconds();
  const frames = framesOf(null);
  let clips = Math.ceil(((seconds ?? frames / FPS) * FPS) / frames);
  if ($("num-clip").value) clips = Math.min(clips, Number($("num-clip").value));
  const speed = measured(clips);
  for (const { steps, bucket, size, cost } of presets) {
    const [width, height] = sizeOf(bucket);
    size.textContent = width ? `${steps} steps · ${width}×${height}` : `${steps} steps`;
    const passes = steps * branches(Number($("guidance").value));
    const amount = clips * frames * width * height;
    cost.textContent = speed && width ? `about ${duration(amount * (speed.step * passes + speed.rest))}` : "";
  }
  const what = seconds === null ? `${decimals(frames / FPS)} s of video` : "this sound";
  const told = presets.some(({ cost }) => cost.textContent);
  write("cost-help", told ? `The times are for ${what}, as this machine made earlier videos.` : "");
}
