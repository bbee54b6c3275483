// Picture or video, sound, and help with the prompt.

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
  for (const each of ["file", "record", "live", "text"]) $(`from-${each}`).hidden = each !== mode;
  const preview = $("audio-preview");
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.removeAttribute("src");
  preview.hidden = !sounds[mode];
  if (sounds[mode]) preview.src = URL.createObjectURL(sounds[mode]);
  $("make").textContent = mode === "live" ? "Begin" : "Make video";
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
