// The page of the server: one module over the routes that every client has, and nothing from elsewhere.
//
// `page` is what is known. `render` writes it into the document and may be called at any time; what a person types
// stays in the controls. Everything that lasts is the server's: videos, queue and progress. This browser keeps the
// inputs of the latest videos, so that one can be made again with another seed.

const $ = (id) => document.getElementById(id);
const FPS = 25;
const KEPT_INPUTS = 20; // videos whose inputs this browser keeps

const page = {
  locked: false,
  offline: false,
  server: null, // the body of /health
  model: null, // the model's entry in /v1/models
  video: null, // the one that is shown
  inputs: null, // of the video that is shown: its form's entries, where this browser has them
  playable: false, // clips of it can be played
  sending: null, // {entries, key, tries, share, xhr}: a video on its way to the server
  videos: [], // mine, the newest first
  older: false, // there are more
  people: [{ box: null, drawn: false }], // box: top, left, bottom, right as shares of the picture
  problem: "",
};

// Fields of a request by the controls that set them. Help, defaults and ranges are the server's.
const SETTINGS = {
  size_bucket: "size-bucket",
  num_inference_steps: "steps",
  guidance_scale: "guidance",
  audio_guidance_scale: "audio-guidance",
  flow_shift: "shift",
  sample_solver: "solver",
  seed: "seed",
  num_clip: "num-clip",
  infer_frames: "infer-frames",
  dubbing_noise_strength: "dubbing-noise",
  video_end: "video-end",
  init_first_frame: "init-first-frame",
  negative_prompt: "negative-prompt",
};
const DUBBING = ["dubbing_noise_strength", "video_end"]; // only with a video
const CONTROLS = {
  ...SETTINGS,
  input_reference: "image",
  prompt: "prompt",
  audio_reference: "audio",
  audio_reference_2: "audio-2",
  tts_text: "tts-text",
  tts_voice: "tts-voice",
  tts_voice_2: "tts-voice-2",
};

// -------------------------------------------------------------------------------------------------------- the server

/** What the server refused. */
class Refusal extends Error {
  constructor(status, body) {
    super(body?.error?.message ?? `The server answered ${status}.`);
    this.status = status;
    this.code = body?.error?.code ?? "";
    this.param = body?.error?.param ?? null;
  }
}

/** An answer of the server; throws a Refusal, or what fetch throws where nothing answers. */
async function call(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (fault) {
    if (fault.name !== "AbortError") lookNow();
    throw fault;
  }
  if (answer.ok) return answer;
  throw noticeRefusal(new Refusal(answer.status, await answer.json().catch(() => null)));
}

function noticeRefusal(refusal) {
  if (refusal.status === 401) {
    page.locked = true;
    page.model = null;
    render();
  }
  return refusal;
}

const json = async (path, options) => (await call(path, options)).json();
const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

let nextLook = 0;

/** Ask how the server is, now and from now on; when it is back, go on where things stood. */
async function look() {
  clearTimeout(nextLook);
  const was = page.offline || !page.server;
  try {
    const answer = await fetch("/health", { cache: "no-store", signal: AbortSignal.timeout(8000) });
    page.server = await answer.json();
    page.offline = false;
  } catch {
    page.offline = true;
  }
  render();
  if (!page.offline && (was || !page.model) && !page.locked) await arrive();
  clearTimeout(nextLook);
  nextLook = setTimeout(look, page.offline || page.server?.state !== "ready" ? 1500 : page.video ? 5000 : 10000);
}

function lookNow() {
  clearTimeout(nextLook);
  nextLook = setTimeout(look, 50);
}

/** At the beginning, after signing in, and when the server is back. */
async function arrive() {
  try {
    const models = await json("/v1/models");
    if (!page.model) useModel(models.data[0]);
    if (page.model.capabilities.speech && !$("tts-voice").length) await fillVoices();
    await list();
    if (page.sending) send(page.sending);
    else if (page.video) await refresh(page.video.id);
    else if (page.videos.some((video) => !ended(video))) show(page.videos.find((video) => !ended(video)));
  } catch (fault) {
    if (fault instanceof Refusal && !page.locked) tell(fault.message);
  }
  render();
}

// --------------------------------------------------------------------------------------------------------- the model

function useModel(model) {
  page.model = model;
  const { settings, size_buckets: buckets, speakers, speech, prompt_enhancement: enhancing } = model.capabilities;
  for (const [field, id] of Object.entries(SETTINGS)) {
    const control = $(id);
    const about = settings[field];
    control.closest(".setting").hidden = !about;
    if (!about) continue;
    if (control.type === "select-one") {
      const values = field === "size_bucket" ? Object.keys(buckets) : about.enum;
      control.replaceChildren(...values.map((value) => new Option(value, value)));
    }
    if (control.type === "number") {
      control.min = about.minimum ?? "";
      control.max = about.maximum ?? "";
      if (field === "infer_frames") control.step = 4;
    }
    if (control.type === "checkbox") control.checked = about.default === true;
    else if (field !== "seed") control.value = about.default ?? "";
    if (about.description) helpFor(control, sentence(about.description));
  }
  $("people").hidden = !(speakers > 1);
  $("sound-text-choice").hidden = !speech;
  $("enhance").hidden = !enhancing;
  if (!model.capabilities.dubbing) $("image").accept = "image/png,image/jpeg,image/webp";
  makePresets();
  showDubbing();
  renderPeople();
}

function helpFor(control, words) {
  const id = `${control.id}-help`;
  const help = $(id) ?? make("p", { id, className: "help" });
  help.textContent = words;
  control.closest(".setting").append(help);
  describe(control, id, true);
}

async function fillVoices() {
  const { voices } = await json("/v1/audio/voices");
  for (const id of ["tts-voice", "tts-voice-2"])
    $(id).replaceChildren(...voices.map((name) => new Option(name, name)));
}

// ---------------------------------------------------------------------------------------- presets and what they cost

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

// -------------------------------------------------------------------------------------------------------- the inputs

const soundMode = () => document.querySelector("input[name=sound]:checked").value;
const sounds = { file: null, record: null, text: null }; // what can be listened to: blobs
const isVideo = () => $("image").files[0]?.type.startsWith("video/") ?? false;

function choosePicture() {
  const [file] = $("image").files;
  const before = $("image-preview");
  if (before.src) URL.revokeObjectURL(before.src);
  const preview = make(isVideo() ? "video" : "img", { id: "image-preview" });
  if (isVideo())
    Object.assign(preview, { controls: true, muted: true, playsInline: true, ariaLabel: "The video that you chose" });
  else preview.alt = "The picture that you chose";
  const known = () => {
    $("picture").hidden = false;
    renderBoxes();
    showCosts();
  };
  preview.addEventListener(isVideo() ? "loadedmetadata" : "load", known);
  preview.addEventListener("error", () => ($("picture").hidden = true)); // a kind that this browser does not know
  if (file) preview.src = URL.createObjectURL(file);
  else $("picture").hidden = true;
  before.replaceWith(preview);
  $("drop").classList.toggle("chosen", Boolean(file));
  showDubbing();
  if (!page.video) render();
}

/** A file that is dropped is taken by the input nearest to it; elsewhere it must not replace the page. */
function drop(event) {
  event.preventDefault();
  const { types, files } = event.dataTransfer;
  if (!types.includes("Files")) return;
  const target = event.target.closest("#sound, #form");
  const input = target?.id === "sound" ? $("audio") : $("image");
  $("drop").classList.toggle("over", event.type === "dragover" && input === $("image") && Boolean(target));
  if (event.type !== "drop" || !target || !files.length) return;
  if (input === $("audio")) $("sound-file").click();
  input.files = files;
  for (const kind of ["input", "change"]) input.dispatchEvent(new Event(kind, { bubbles: true }));
}

function showDubbing() {
  for (const field of DUBBING) {
    $(SETTINGS[field]).closest(".setting").hidden = !isVideo() || !page.model?.capabilities.settings[field];
  }
  $("audio-help").textContent = isVideo()
    ? "What the person says, or sings. Without a file: the video's own sound."
    : "What the person says, or sings.";
}

function showSound() {
  const mode = soundMode();
  for (const each of ["file", "record", "text"]) $(`from-${each}`).hidden = each !== mode;
  const preview = $("audio-preview");
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.removeAttribute("src");
  preview.hidden = !sounds[mode];
  if (sounds[mode]) preview.src = URL.createObjectURL(sounds[mode]);
  $("tts-two").hidden = $("second-voice").hidden = page.people.length !== 2;
  renderPeople();
  showCosts();
}

let recorder = null;

async function record() {
  if (recorder) return recorder.stop();
  let microphone;
  try {
    microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch {
    return wrong($("record"), "The microphone is not to be had. Allow it in the browser, or give a sound file.");
  }
  wrong($("record"), "");
  const pieces = [];
  const begun = Date.now();
  recorder = new MediaRecorder(microphone);
  const clock = setInterval(
    () => ($("record-time").textContent = `${Math.floor((Date.now() - begun) / 1000)} s`),
    250,
  );
  recorder.ondataavailable = ({ data }) => pieces.push(data);
  recorder.onstop = async () => {
    clearInterval(clock);
    for (const track of microphone.getTracks()) track.stop();
    $("record").setAttribute("aria-pressed", "false");
    $("record").textContent = "Record";
    recorder = null;
    try {
      sounds.record = await wav(new Blob(pieces));
    } catch {
      wrong($("record"), "Nothing was recorded. Try again.");
    }
    showSound();
  };
  recorder.start();
  $("record").setAttribute("aria-pressed", "true");
}

/** A recording as WAV, one channel of 16 bits: what recorders write has no length in its head. */
async function wav(recording) {
  const context = new AudioContext();
  const sound = await context.decodeAudioData(await recording.arrayBuffer());
  await context.close();
  const channels = Array.from({ length: sound.numberOfChannels }, (_, index) => sound.getChannelData(index));
  const view = new DataView(new ArrayBuffer(44 + 2 * sound.length));
  const text = (at, letters) =>
    [...letters].forEach((letter, index) => view.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * sound.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, sound.sampleRate, true);
  view.setUint32(28, 2 * sound.sampleRate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * sound.length, true);
  for (let index = 0; index < sound.length; index++) {
    const value = channels.reduce((sum, channel) => sum + channel[index], 0) / channels.length;
    view.setInt16(44 + 2 * index, Math.max(-1, Math.min(1, value)) * 32767, true);
  }
  return new File([view], "recording.wav", { type: "audio/wav" });
}

async function listen() {
  const text = $("tts-text").value.trim();
  if (!text) return wrong($("tts-text"), "Write what is to be spoken.");
  await busy($("tts-try"), async () => {
    const voice = $("tts-voice").value;
    const body = JSON.stringify({ input: text, response_format: "wav", ...(voice && { voice }) });
    const headers = { "Content-Type": "application/json" };
    sounds.text = await (await call("/v1/audio/speech", { method: "POST", headers, body })).blob();
    showSound();
    $("audio-preview")
      .play()
      .catch(() => {});
  });
}

async function enhance() {
  const before = $("prompt").value;
  await busy($("enhance"), async () => {
    const body = new FormData();
    body.append("prompt", before);
    if ($("image").files[0]) body.append("input_reference", $("image").files[0]);
    const { prompt } = await json("/v1/prompts/enhance", { method: "POST", body });
    $("prompt").value = prompt;
    wrong($("prompt"), "");
    $("enhance-undo").hidden = false;
    $("enhance-undo").onclick = () => {
      $("prompt").value = before;
      $("enhance-undo").hidden = true;
      $("prompt").focus();
    };
  });
}

/** Do what a button stands for; it waits meanwhile, and what is refused is told. */
async function busy(button, work) {
  if (button.ariaBusy === "true") return;
  button.ariaBusy = "true";
  tell("");
  try {
    await work();
  } catch (fault) {
    refused(fault);
  } finally {
    button.ariaBusy = "false";
  }
}

// --------------------------------------------------------------------------------------- several people in a picture

const BOXES =
  "Each person has a box on the picture. Draw it with the pointer, or go to it with Tab: arrow keys move it, Shift " +
  "and arrow keys change its size.";

function renderPeople() {
  const several = page.people.length > 1;
  const texts = soundMode() === "text" && page.people.length === 2;
  const others = $("others");
  while (others.children.length > page.people.length - 1) others.lastChild.remove();
  for (let person = others.children.length + 2; person <= page.people.length; person++) {
    const id = `audio-${person}`;
    const file = make("input", { type: "file", id, accept: "audio/*,video/*" });
    const label = make("label", { htmlFor: id, textContent: `Sound of person ${person}` });
    const help = make("p", { className: "help", textContent: "Without a file this person listens." });
    others.append(
      make(
        "div",
        { className: "person" },
        label,
        file,
        help,
        make("p", { className: "wrong", id: `${id}-wrong`, hidden: true }),
      ),
    );
  }
  if (several) {
    const remove = $("remove-person") ?? make("button", { type: "button", id: "remove-person", className: "plain" });
    remove.textContent = `Remove person ${page.people.length}`;
    remove.onclick = () => {
      page.people.pop();
      showSound();
      $("add-person").focus();
    };
    others.lastChild.append(remove);
  }
  for (const row of others.children) row.hidden = texts;
  const most = page.model?.capabilities.speakers ?? 1;
  write("people-help", several ? BOXES : `Up to ${most} people of a picture can speak.`);
  $("turns").hidden = page.people.length !== 2;
  $("add-person").hidden = page.people.length >= most;
  renderBoxes();
}

/** The box of each person: until it is drawn, an equal part of the picture's width. */
function boxOf(index) {
  const { box } = page.people[index];
  return box ?? [0.02, (index + 0.04) / page.people.length, 0.98, (index + 0.96) / page.people.length];
}

function setBox(index, [top, left, bottom, right]) {
  const share = (value) => Math.max(0, Math.min(1, value));
  page.people[index] = { box: [share(top), share(left), share(bottom), share(right)], drawn: true };
  renderBoxes();
}

function renderBoxes() {
  const frame = $("boxes");
  frame.hidden = page.people.length < 2 || $("picture").hidden;
  while (frame.children.length > page.people.length) frame.lastChild.remove();
  page.people.forEach((_, index) => {
    const [top, left, bottom, right] = boxOf(index);
    const box = frame.children[index] ?? newBox(index);
    const percent = (share) => `${Math.round(share * 1000) / 10}%`;
    Object.assign(box.style, {
      top: percent(top),
      left: percent(left),
      width: percent(right - left),
      height: percent(bottom - top),
    });
    const across = `from ${percent(left)} to ${percent(right)} across`;
    box.ariaLabel = `Box of person ${index + 1}: ${across}, ${percent(top)} to ${percent(bottom)} down`;
  });
}

function newBox(index) {
  const box = make(
    "button",
    { type: "button", className: "box" },
    make("b", { textContent: String(index + 1) }),
    make("i"),
  );
  box.dataset.person = index;
  box.setAttribute("aria-describedby", "people-help");
  box.addEventListener("keydown", (event) => {
    const step = 0.02;
    const [down, across] = {
      ArrowUp: [-step, 0],
      ArrowDown: [step, 0],
      ArrowLeft: [0, -step],
      ArrowRight: [0, step],
    }[event.key] ?? [0, 0];
    if (!down && !across) return;
    event.preventDefault();
    const [top, left, bottom, right] = boxOf(index);
    if (event.shiftKey)
      setBox(index, [top, left, Math.max(top + step, bottom + down), Math.max(left + step, right + across)]);
    else moveBox(index, [top, left, bottom, right], down, across);
  });
  $("boxes").append(box);
  return box;
}

function moveBox(index, [top, left, bottom, right], down, across) {
  down = Math.max(-top, Math.min(1 - bottom, down));
  across = Math.max(-left, Math.min(1 - right, across));
  setBox(index, [top + down, left + across, bottom + down, right + across]);
}

let lastPerson = 0; // whose box a new one replaces

/** A box is moved, its corner pulled, or a new one drawn, with mouse, pen or finger. */
function drag(event) {
  const frame = $("boxes");
  const area = frame.getBoundingClientRect();
  const at = ({ clientX, clientY }) => [(clientY - area.top) / area.height, (clientX - area.left) / area.width];
  const box = event.target.closest(".box");
  const index = box ? Number(box.dataset.person) : lastPerson;
  const begun = boxOf(index);
  const [y, x] = at(event);
  lastPerson = index;
  frame.setPointerCapture(event.pointerId);
  const move = (now) => {
    const [down, across] = at(now);
    if (box && event.target.localName !== "i") return moveBox(index, begun, down - y, across - x);
    const [top, left] = box ? begun : [y, x];
    if (Math.abs(down - top) < 0.02 || Math.abs(across - left) < 0.02) return;
    setBox(index, [Math.min(top, down), Math.min(left, across), Math.max(top, down), Math.max(left, across)]);
  };
  frame.addEventListener("pointermove", move);
  const end = () => frame.removeEventListener("pointermove", move);
  for (const last of ["pointerup", "pointercancel"]) frame.addEventListener(last, end, { once: true });
}

/** A box in pixels of the picture: top, left, bottom, right. */
function inPixels(index) {
  const [width, height] = pictureSize();
  const [top, left, bottom, right] = boxOf(index);
  return [top * height, left * width, bottom * height, right * width].map(Math.round);
}

/** The entries of a form that say who speaks what, and where. */
function peopleEntries() {
  const first = sounds[soundMode()];
  const others = page.people.slice(1).map((_, index) => $(`audio-${index + 2}`).files[0]);
  const two = page.people.length === 2 && (soundMode() === "text" || (first && others[0]));
  const entries = [];
  if (page.people.length > 1 && !two) {
    [first, ...others].forEach((sound, index) => {
      if (sound) entries.push([`speakers[${index + 1}][audio]`, sound]);
      for (const number of inPixels(index)) entries.push([`speakers[${index + 1}][bbox][]`, String(number)]);
    });
    return entries;
  }
  if (soundMode() === "text") {
    entries.push(["tts_text", $("tts-text").value.trim()]);
    if ($("tts-voice").value) entries.push(["tts_voice", $("tts-voice").value]);
    if (two && $("tts-voice-2").value) entries.push(["tts_voice_2", $("tts-voice-2").value]);
  } else if (first) entries.push(["audio_reference", first]);
  if (two) {
    if (others[0] && soundMode() !== "text") entries.push(["audio_reference_2", others[0]]);
    entries.push(["audio_type", $("audio-type").value]);
    if (page.people.some(({ drawn }) => drawn)) {
      for (const index of [0, 1]) {
        for (const number of inPixels(index)) entries.push([`bbox[person${index + 1}][]`, String(number)]);
      }
    }
  }
  return entries;
}

// ---------------------------------------------------------------------------------------------- checking and sending

/** Say what is wrong with a control, or with "" that nothing is. */
function wrong(control, words) {
  const id = `${control.id}-wrong`;
  let line = $(id);
  if (!line && words) {
    line = make("p", { id, className: "wrong" });
    control.closest(".setting, .field, div").append(line);
  }
  if (!line) return;
  line.textContent = words;
  line.hidden = !words;
  if (words) control.ariaInvalid = "true";
  else control.removeAttribute("aria-invalid");
  describe(control, id, Boolean(words));
}

function describe(control, id, is) {
  const ids = new Set((control.getAttribute("aria-describedby") ?? "").split(" ").filter(Boolean));
  if (is) ids.add(id);
  else ids.delete(id);
  if (ids.size) control.setAttribute("aria-describedby", [...ids].join(" "));
  else control.removeAttribute("aria-describedby");
}

function focusOn(control) {
  if ($("settings").contains(control)) $("settings").open = true;
  control.focus();
}

/** Mark what is wrong; whether nothing is. */
function check() {
  const found = [];
  const say = (id, words) => {
    wrong($(id), words);
    if (words) found.push($(id));
  };
  const [picture] = $("image").files;
  say("image", picture ? "" : "Choose a picture of the person.");
  const mode = soundMode();
  const control = { file: "audio", record: "record", text: "tts-text" }[mode];
  const ask = {
    file: "Choose a sound file.",
    record: "Record what is to be said.",
    text: "Write what is to be spoken.",
  }[mode];
  const has = mode === "text" ? $("tts-text").value.trim() : sounds[mode] || (mode === "file" && isVideo());
  const listens = page.people.length > 1 && mode !== "text" && $("audio-2").files.length;
  say(control, has || listens ? "" : ask);
  say("prompt", $("prompt").value.trim() ? "" : "Say what is seen, in a sentence.");
  for (const id of Object.values(SETTINGS)) {
    const { type, min, max, step, validity } = $(id);
    if (type !== "number" || $(id).closest(".setting").hidden) continue;
    const kind = step > 1 ? `a multiple of ${step}` : step === "any" ? "a number" : "a whole number";
    const range = min && max ? ` from ${min} to ${max}` : min ? `, ${min} or more` : "";
    say(id, validity.valid ? "" : `Give ${kind}${range}.`);
  }
  const most = page.model?.capabilities.limits?.max_upload_bytes;
  const files = entries().filter(([, value]) => value instanceof Blob);
  const bytes = files.reduce((sum, [, file]) => sum + file.size, 0);
  if (picture && most && bytes > most)
    say("image", `The files have ${megabytes(bytes)}; this server takes ${megabytes(most)}.`);
  if (found.length) focusOn(found[0]);
  return !found.length;
}

/** What the form asks for, as entries of a multipart body. Settings as the server has them are left to it. */
function entries() {
  const found = [["input_reference", $("image").files[0]], ...peopleEntries(), ["prompt", $("prompt").value.trim()]];
  for (const [field, id] of Object.entries(SETTINGS)) {
    const about = page.model?.capabilities.settings[field];
    if (!about || $(id).closest(".setting").hidden) continue;
    const value = $(id).type === "checkbox" ? String($(id).checked) : $(id).value;
    const blank = value === "" && field !== "negative_prompt";
    if (!blank && (field === "seed" || value !== String(about.default ?? ""))) found.push([field, value]);
  }
  return found.filter(([, value]) => value !== undefined);
}

/** Whether a video can be asked for now. */
const canBegin = () => page.model && !page.sending && !["offline", "draining"].includes(state());

/** Put into an empty form what a video was made of, so that it can be changed a little. */
function fillForm(formEntries) {
  const values = new Map(formEntries);
  for (const [field, id] of Object.entries(CONTROLS)) {
    const [control, value] = [$(id), values.get(field)];
    if (!control || value === undefined || field === "seed") continue;
    if (value instanceof File) {
      const files = new DataTransfer();
      files.items.add(value);
      control.files = files.files;
    } else if (control.type === "checkbox") control.checked = value === "true";
    else control.value = value;
  }
  sounds.file = $("audio").files[0] ?? null;
  if (values.has("tts_text")) $("sound-text").checked = true;
  choosePicture();
  showSound();
  matchPreset();
}

function submit() {
  if (canBegin() && check()) begin(entries());
}

function begin(formEntries) {
  tell("");
  const key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
  leave();
  page.video = null;
  resetPlayer();
  paintWaiting(formEntries);
  send({ entries: formEntries, key, tries: 0, share: 0, xhr: null });
  const { top } = $("stage").getBoundingClientRect();
  if (top < 0 || top > innerHeight * 0.7) $("stage").scrollIntoView({ block: "start" });
}

/** Send a video's inputs. A lost connection sends them again under the same key, so that no video is made twice. */
function send(sending) {
  const body = new FormData();
  for (const [name, value] of sending.entries) body.append(name, value);
  const xhr = new XMLHttpRequest();
  Object.assign(sending, { xhr, share: 0, tries: sending.tries + 1 });
  page.sending = sending;
  xhr.open("POST", "/v1/videos");
  xhr.setRequestHeader("Idempotency-Key", sending.key);
  xhr.responseType = "json";
  xhr.upload.onprogress = ({ loaded, total }) => {
    sending.share = loaded / total;
    render();
  };
  xhr.onload = () => {
    const refusal = xhr.status === 200 ? null : noticeRefusal(new Refusal(xhr.status, xhr.response));
    if (page.locked) return; // it goes on after signing in
    if (refusal?.code === "idempotency_in_progress") return void setTimeout(send, 1000, sending);
    page.sending = null;
    if (refusal) return refused(refusal);
    keepInputs(xhr.response.id, sending.entries);
    show(xhr.response);
    list();
  };
  xhr.onerror = () => {
    if (sending.tries >= 4) {
      page.sending = null;
      tell("The server broke the connection off while the files were sent. Try smaller ones.");
    }
    page.offline = true;
    render();
    lookNow();
  };
  xhr.send(body);
  render();
}

/** Tell what was refused: at its control where there is one. */
function refused(fault) {
  let words = fault instanceof Refusal ? fault.message : "The server does not answer. Try again in a moment.";
  const speaker = /^speakers\.(\d+)\.audio/.exec(fault.param ?? "");
  const id = speaker
    ? speaker[1] === "1"
      ? "audio"
      : `audio-${speaker[1]}`
    : CONTROLS[(fault.param ?? "").split(/[.[]/)[0]];
  const control = id === "audio" && soundMode() === "record" ? $("record") : id && $(id);
  if (control && ($("settings").contains(control) || control.checkVisibility())) {
    // The field's name, with which the message begins, is the request's; here it stands at the control.
    if (words.startsWith(`${fault.param}: `)) words = sentence(words.slice(fault.param.length + 2));
    wrong(control, words);
    focusOn(control);
  } else if (!page.locked) tell(words);
  render();
}

function tell(words) {
  page.problem = words;
  render();
  if (words) $("error").scrollIntoView({ block: "nearest" });
}

// --------------------------------------------------------------------------------------- a video: following, playing

const ended = ({ status }) => status === "completed" || status === "failed";
const path = (id, route) => `/v1/videos/${id}/${route}`;

let events = null; // the EventSource of the video that is shown
let streaming = null; // the AbortController of its stream

/** Show a video of mine, and follow it where it goes on. */
async function show(video) {
  leave();
  resetPlayer();
  page.video = video;
  page.inputs = null;
  page.problem = "";
  if (!page.videos.some(({ id }) => id === video.id)) page.videos.unshift(video);
  renderVideos();
  settle();
  render();
  page.inputs = await inputsOf(video.id);
  if (page.video?.id !== video.id) return;
  if (page.inputs) {
    paintWaiting(page.inputs);
    if (!$("image").files.length && !$("prompt").value) fillForm(page.inputs);
  }
  render();
}

function leave() {
  events?.close();
  streaming?.abort();
  events = streaming = null;
}

/** Do what the video that is shown asks for as it is now. */
function settle() {
  const { video } = page;
  if (!ended(video) && !events) follow(video.id);
  if (video.status === "completed") playContent(video);
  else if (video.clips_done > 0 && !streaming) playStream(video);
}

/** Ask for the video that is shown anew: events were lost, or the server was away. */
async function refresh(id) {
  try {
    const video = await json(`/v1/videos/${id}`);
    if (page.video?.id !== id) return;
    page.video = video;
    settle();
  } catch (fault) {
    if (fault.code === "video_not_found") forget(id);
  }
  render();
}

function follow(id) {
  const source = new EventSource(path(id, "events"));
  events = source;
  const on = (kind, act) =>
    source.addEventListener(kind, ({ data }) => {
      if (events !== source || page.video?.id !== id) return;
      act(JSON.parse(data));
      render();
    });
  on("progress", (now) => Object.assign(page.video, now));
  on("queued", (now) => Object.assign(page.video, now));
  on("clip", ({ clip, seconds }) => {
    page.video.clips_done = Math.max(clip, page.video.clips_done);
    page.video.ready_seconds = seconds;
    settle();
  });
  on("notice", ({ message }) => {
    if (!page.video.notices.includes(message)) page.video.notices.push(message);
  });
  on("server", ({ state }) => (page.server.state = state));
  on("deleted", () => forget(id));
  for (const last of ["completed", "failed"]) {
    on(last, (video) => {
      page.video = video;
      source.close();
      settle();
      list();
    });
  }
  source.onerror = async () => {
    lookNow();
    if (source.readyState !== EventSource.CLOSED || events !== source) return; // else it connects again by itself
    await sleep(1500);
    if (events !== source) return;
    events = null;
    refresh(id);
  };
}

function resetPlayer() {
  page.playable = false;
  const player = $("player");
  player.pause();
  player.removeAttribute("src");
  player.load();
}

function play() {
  $("player")
    .play()
    .catch(() => {}); // a browser may want a click first; the controls are there
}

/** Play a video from its first clip on, while the others are made. */
async function playStream(video) {
  const Source = window.ManagedMediaSource ?? window.MediaSource;
  const going = new AbortController();
  const { signal } = going;
  streaming = going;
  if (!Source) return; // the finished video comes in the end
  let source = null;
  let taken = 0; // bytes
  for (let first = true; !signal.aborted; first = false) {
    try {
      if (!first) {
        // It broke off, or ended: the server stops, or the job came to its end.
        await sleep(500);
        const { status } = await json(`/v1/videos/${video.id}`, { signal });
        if (status === "completed") return;
        if (status === "failed" && source) return void (source.readyState === "open" && source.endOfStream());
      }
      const answer = await fetch(path(video.id, "stream"), { signal });
      if (!answer.ok) continue;
      const type = answer.headers.get("Content-Type");
      if (!source) {
        if (!Source.isTypeSupported(type)) return;
        source = await openSource(new Source());
        source.addSourceBuffer(type);
        source.duration = video.num_frames / FPS;
      }
      let skip = taken; // a stream begins at the beginning again
      const reader = answer.body.getReader();
      for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
        const bytes = piece.value.subarray(Math.min(skip, piece.value.length));
        skip -= piece.value.length - bytes.length;
        if (!bytes.length) continue;
        await append(source.sourceBuffers[0], bytes);
        taken += bytes.length;
        if (source.sourceBuffers[0].buffered.length) beginToPlay();
      }
    } catch (fault) {
      if (signal.aborted || fault.name === "InvalidStateError") return;
      lookNow();
    }
  }
}

function beginToPlay() {
  if (page.playable) return;
  page.playable = true;
  render();
  if (!ended(page.video)) play();
}

async function openSource(source) {
  const player = $("player");
  player.disableRemotePlayback = true; // Safari gives a source of its own only so
  player.src = URL.createObjectURL(source);
  await new Promise((done) => source.addEventListener("sourceopen", done, { once: true }));
  URL.revokeObjectURL(player.src);
  return source;
}

async function append(buffer, bytes) {
  const settled = () => new Promise((done) => buffer.addEventListener("updateend", done, { once: true }));
  try {
    buffer.appendBuffer(bytes);
  } catch (fault) {
    if (fault.name !== "QuotaExceededError") throw fault;
    // A long video does not fit: what was seen goes.
    await sleep(1000);
    const seen = $("player").currentTime - 20;
    if (seen > 0) {
      buffer.remove(0, seen);
      await settled();
    }
    return append(buffer, bytes);
  }
  await settled();
}

/** Go over to the finished video at the same second; the last picture stays in front until it is there. */
function playContent(video) {
  const player = $("player");
  const url = new URL(path(video.id, "content"), location);
  if (player.src === url.href) return;
  const at = page.playable ? player.currentTime : 0;
  const goes = page.playable && !player.paused && !player.ended;
  if (page.playable && player.videoWidth) {
    const veil = $("veil");
    Object.assign(veil, { width: player.videoWidth, height: player.videoHeight, hidden: false });
    veil.getContext("2d").drawImage(player, 0, 0);
  }
  streaming?.abort();
  player.src = url.href;
  if (at) player.currentTime = at; // it begins there
  const unveil = () => ($("veil").hidden = true);
  for (const kind of [at ? "seeked" : "loadeddata", "error"]) player.addEventListener(kind, unveil, { once: true });
  if (goes) play();
  page.playable = true;
}

/** While nothing can be played yet: the picture that was chosen. */
function paintWaiting(formEntries) {
  const picture = formEntries.find(([name]) => name === "input_reference")?.[1];
  const waiting = $("waiting");
  if (waiting.firstChild?.src) URL.revokeObjectURL(waiting.firstChild.src);
  waiting.replaceChildren();
  if (picture?.type.startsWith("image/")) waiting.append(make("img", { src: URL.createObjectURL(picture), alt: "" }));
}

async function stop() {
  const { sending, video } = page;
  if (sending) {
    page.sending = null;
    sending.xhr.abort();
    setTimeout(list, 1000); // the server may have had it already
    return render();
  }
  await busy($("cancel"), async () => {
    try {
      page.video = await json(path(video.id, "cancel"), { method: "POST" });
    } catch (fault) {
      if (fault.code !== "video_ended") throw fault; // it was quicker
      return refresh(video.id);
    }
    settle();
    list();
  });
}

// --------------------------------------------------------------------------------------------------------- my videos

const rows = new Map(); // list items by id
let nextList = 0;

async function list(after = null) {
  clearTimeout(nextList);
  try {
    const found = await json(`/v1/videos?limit=20${after ? `&after=${after}` : ""}`);
    const ids = new Set(found.data.map(({ id }) => id));
    const first = found.data.at(-1)?.created_at ?? Infinity;
    const others = page.videos.filter(
      (video) => !ids.has(video.id) && (after || (found.has_more && video.created_at <= first)),
    );
    page.videos = after ? [...others, ...found.data] : [...found.data, ...others];
    if (after || page.videos.length === found.data.length) page.older = found.has_more;
  } catch {
    return;
  }
  renderVideos();
  showCosts();
  if (page.videos.some((video) => !ended(video))) nextList = setTimeout(list, 4000);
}

const WHEN = { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const WORDS = { queued: "waiting", in_progress: "being made", completed: "", failed: "failed" };

function renderVideos() {
  const kept = new Set(page.videos.map(({ id }) => id));
  for (const [id, row] of rows) {
    if (kept.has(id)) continue;
    row.remove();
    rows.delete(id);
  }
  page.videos.forEach((video, index) => {
    const row = rows.get(video.id) ?? newRow(video);
    if (row.dataset.status !== video.status) {
      row.dataset.status = video.status;
      if (video.status === "completed") row.querySelector("img").src = path(video.id, "content?variant=thumbnail");
    }
    const stopped = video.error?.code === "cancelled" ? "stopped" : WORDS[video.status];
    const made = new Date(video.created_at * 1000).toLocaleString("en", WHEN);
    const share = video.status === "in_progress" ? `, ${video.progress} %` : "";
    row.querySelector(".facts").textContent = [stopped + share, `${video.seconds} s`, made]
      .filter(Boolean)
      .join(" · ");
    row.classList.toggle("shown", video.id === page.video?.id);
    if ($("jobs").children[index] !== row) $("jobs").insertBefore(row, $("jobs").children[index] ?? null);
  });
  $("none-yet").hidden = page.videos.length > 0;
  $("more").hidden = !page.older;
}

function newRow(video) {
  const about = `about-${video.id}`;
  const open = make("button", { type: "button", textContent: "Open" });
  const remove = make("button", { type: "button", className: "plain", textContent: "Delete" });
  for (const button of [open, remove]) button.setAttribute("aria-describedby", about);
  open.addEventListener("click", async () => {
    show(page.videos.find(({ id }) => id === video.id));
    $("stage").scrollIntoView({ block: "nearest" });
  });
  remove.addEventListener("click", () => askToDelete(video));
  const row = make(
    "li",
    {},
    make("div", { className: "thumbnail" }, make("img", { alt: "" })),
    make("p", { className: "prompt", id: about, textContent: video.prompt }),
    make("p", { className: "facts" }),
    make("div", { className: "row" }, open, remove),
  );
  row.dataset.videoId = video.id;
  rows.set(video.id, row);
  return row;
}

function askToDelete(video) {
  const dialog = $("confirm");
  dialog.returnValue = "";
  $("confirm-text").textContent = `“${brief(video.prompt)}” and its files go for good.`;
  dialog.onclose = async () => {
    if (dialog.returnValue !== "delete") return;
    const row = rows.get(video.id);
    const next = row?.nextElementSibling ?? row?.previousElementSibling;
    try {
      await call(`/v1/videos/${video.id}`, { method: "DELETE" });
    } catch (fault) {
      if (fault.code !== "video_not_found") return refused(fault);
    }
    forget(video.id);
    (next?.querySelector("button") ?? $("image")).focus();
    list();
  };
  dialog.showModal();
}

/** A video is gone. */
function forget(id) {
  page.videos = page.videos.filter((video) => video.id !== id);
  dropInputs(id);
  if (page.video?.id === id) {
    leave();
    page.video = page.inputs = null;
    resetPlayer();
    $("waiting").replaceChildren();
  }
  renderVideos();
  render();
}

// ------------------------------------------------------------------------------------ inputs that this browser keeps

/** Do something with the store of inputs; null where the browser has none, or no room. */
async function withInputs(mode, act) {
  const result = (request) =>
    new Promise((done, fail) => {
      request.onsuccess = () => done(request.result);
      request.onerror = () => fail(request.error);
    });
  try {
    const opening = indexedDB.open("talking-videos", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("inputs", { keyPath: "id" });
    const database = await result(opening);
    try {
      return await act(database.transaction("inputs", mode).objectStore("inputs"), result);
    } finally {
      database.close();
    }
  } catch {
    return null;
  }
}

const inputsOf = async (id) =>
  (await withInputs("readonly", (store, result) => result(store.get(id))))?.entries ?? null;
const dropInputs = (id) => withInputs("readwrite", (store, result) => result(store.delete(id)));
const dropAllInputs = () => withInputs("readwrite", (store, result) => result(store.clear()));

function keepInputs(id, formEntries) {
  return withInputs("readwrite", async (store, result) => {
    await result(store.put({ id, at: Date.now(), entries: formEntries }));
    const all = await result(store.getAll());
    for (const old of all.sort((one, other) => other.at - one.at).slice(KEPT_INPUTS))
      await result(store.delete(old.id));
  });
}

// --------------------------------------------------------------------------------------------------------- rendering

function state() {
  const { video } = page;
  if (page.locked) return "locked";
  if (page.offline) return "offline";
  if (page.server?.state === "draining") return "draining";
  if (page.sending) return "uploading";
  if (video?.status === "in_progress") return page.playable ? "playing" : "running";
  if (video) return video.status;
  return page.server?.state === "ready" && page.model ? "idle" : "loading";
}

function phase({ phase: name, clip, clips }) {
  const which = clips > 1 && clip ? `clip ${clip} of ${clips}` : "the video";
  return (
    {
      loading: "The models are loading",
      encoding: clip > 1 ? "Preparing the next clip" : "Picture, sound and prompt are read",
      denoising: `Making ${which}`,
      decoding: `Finishing ${which}`,
      writing: `Writing ${which}`,
    }[name] ?? "It begins"
  );
}

function statusText(now) {
  const { video, server } = page;
  switch (now) {
    case "locked":
      return "";
    case "offline":
      return "The server does not answer. What it accepted is kept; this page goes on when it is back.";
    case "draining":
      return "The server is about to stop. Your videos are kept, and go on when it is back.";
    case "loading":
      return "The models are loading. You can begin already.";
    case "idle":
      return "";
    case "uploading":
      return "Sending your files";
    case "queued":
      if (server?.state === "loading") return "The models are loading; then your video is made";
      return video.queue_position > 1 ? "Your video waits for its turn" : "Your video is next";
    case "running":
      return phase(video);
    case "playing":
      return `${phase(video)}; what is done can be watched`;
    case "completed":
      return "Your video is ready";
    default:
      return video.error?.code === "cancelled" ? "Stopped" : "This video could not be made";
  }
}

function render() {
  const now = state();
  const { video, sending, server } = page;
  document.body.dataset.state = now;
  $("login").hidden = !page.locked;
  $("studio").hidden = page.locked || !page.model;
  $("sign-out").hidden = page.locked || !localStorage.getItem("signed-in");
  write("server", server?.state === "ready" ? server.model : "");

  const going = Boolean(sending || (video && !ended(video)));
  write("status", statusText(now));
  write(
    "error",
    page.problem || (video?.status === "failed" && video.error?.code !== "cancelled" ? video.error.message : ""),
  );
  // Not `disabled`: the focus would be lost.
  for (const id of ["make", "again"]) $(id).ariaDisabled = String(!canBegin());

  const share = sending ? 100 * sending.share : (video?.progress ?? 0);
  $("work").hidden = !going;
  $("progress").value = share;
  const waits = !sending && video?.status === "queued" && video.queue_position > 1 ? video.queue_position - 1 : 0;
  write("queue-place", waits ? `${waits} ${waits > 1 ? "videos" : "video"} before yours` : "");
  const runs = !sending && video?.status === "in_progress";
  write(
    "clip-count",
    runs && video.clip ? `Clip ${video.clip} of ${video.clips}, step ${video.step} of ${video.steps}` : "",
  );
  write("eta", !sending && going && video.eta_seconds !== null ? `About ${duration(video.eta_seconds)} left` : "");
  document.title = going ? `${Math.round(share)} % · Make a picture talk` : "Make a picture talk";

  const leftAlone = $("cancel") === document.activeElement && !going;
  $("cancel").hidden = !going;
  $("player").hidden = !page.playable;
  $("waiting").hidden = page.playable;
  $("screen").style.aspectRatio = video ? video.size.replace("x", " / ") : "";
  const done = video?.status === "completed";
  $("download").hidden = !done;
  if (done) Object.assign($("download"), { href: path(video.id, "content"), download: `${video.id}.mp4` });
  else $("download").removeAttribute("href");
  $("again").hidden = !video || !ended(video) || !page.inputs;
  if (leftAlone) [$("player"), $("again"), $("make")].find((control) => !control.hidden).focus();
  write("about", video ? aboutVideo(video) : "");
  const notices = video?.notices ?? [];
  if ($("notices").children.length !== notices.length) {
    $("notices").replaceChildren(...notices.map((text) => make("li", { textContent: text })));
  }
}

function aboutVideo({ seconds, size, seed, status, started_at: from, completed_at: to }) {
  const took = status === "completed" && from ? [`made in ${duration(Math.max(1, to - from))}`] : [];
  return [`${seconds} s`, size.replace("x", " × "), `seed ${seed}`, ...took].join(" · ");
}

/** Set a text where it changed, so that it is read out once. */
function write(id, words) {
  if ($(id).textContent !== words) $(id).textContent = words;
}

function make(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const sentence = (words) => words[0].toUpperCase() + words.slice(1) + (/[.)]$/.test(words) ? "" : ".");
const brief = (words) => (words.length > 80 ? `${words.slice(0, 79)}…` : words);
const decimals = (value) => String(Math.round(value * 10) / 10);
const megabytes = (bytes) => `${Math.ceil(bytes / 1e6)} MB`;

function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// --------------------------------------------------------------------------------------------------------- beginning

async function signIn(event) {
  event.preventDefault();
  const key = $("api-key");
  if (!key.value) return (wrong(key, "Give the key."), key.focus());
  const body = JSON.stringify({ api_key: key.value });
  try {
    const answer = await fetch("/login", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    if (!answer.ok) throw new Refusal(answer.status, await answer.json().catch(() => null));
  } catch (fault) {
    wrong(key, fault instanceof Refusal ? fault.message : "The server does not answer. Try again in a moment.");
    return key.focus();
  }
  key.value = "";
  wrong(key, "");
  localStorage.setItem("signed-in", "yes");
  page.locked = false;
  await arrive();
  $("image").focus();
}

async function signOut() {
  await call("/login", { method: "DELETE" });
  localStorage.removeItem("signed-in");
  await dropAllInputs();
  location.reload();
}

function listenToControls() {
  $("login").addEventListener("submit", signIn);
  $("sign-out").addEventListener("click", signOut);
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  $("form").addEventListener("input", ({ target }) => target.id && wrong(target, ""));
  $("prompt").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    submit();
  });
  $("image").addEventListener("change", choosePicture);
  $("audio").addEventListener("change", () => {
    sounds.file = $("audio").files[0] ?? null;
    showSound();
  });
  for (const radio of document.querySelectorAll("input[name=sound]")) radio.addEventListener("change", showSound);
  $("audio-preview").addEventListener("loadedmetadata", showCosts);
  $("record").addEventListener("click", record);
  $("tts-text").addEventListener("input", () => {
    sounds.text = null;
    showSound();
  });
  $("tts-try").addEventListener("click", listen);
  $("enhance").addEventListener("click", enhance);
  for (const id of ["steps", "size-bucket", "guidance", "infer-frames", "num-clip"])
    $(id).addEventListener("input", matchPreset);
  $("add-person").addEventListener("click", () => {
    page.people.push({ box: null, drawn: false });
    showSound();
    $(`audio-${page.people.length}`).focus();
  });
  $("boxes").addEventListener("pointerdown", drag);
  for (const kind of ["dragover", "dragleave", "drop"]) addEventListener(kind, drop);
  $("cancel").addEventListener("click", stop);
  $("again").addEventListener("click", () => canBegin() && begin(page.inputs.filter(([name]) => name !== "seed")));
  $("more").addEventListener("click", () => list(page.videos.at(-1).id));
  if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder)
    $("sound-record").closest("label").hidden = true;
}

listenToControls();
look();
